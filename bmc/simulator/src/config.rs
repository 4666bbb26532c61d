//! What a simulated fleet looks like: the file that `rackwright sim --config` reads.
//!
//! ```yaml
//! datacenter: 10                # BMC and host in unit 7 of the second rack: 127.10.2.7
//! racks:
//! - {name: rack-a, hosts: 4}
//! - {name: rack-b, hosts: 4, hardware: {cores: 8, memoryMiB: 32768, disks: [{device: /dev/sda, sizeGiB: 200}]}}
//! credentials: {username: admin, password: simulated}
//! timing: {post: 2s, ramdiskBoot: 1s, diskBoot: 2s, powerOff: 300ms}
//! mediaCA: /var/run/rackwright/boot-ca.crt
//! stateDir: /var/tmp/rackwright-sim
//! ```

use crate::hardware::{Hardware, OCTET_MAX, Spec};
use crate::machine::Timing;
use crate::os::OsTiming;
use serde::{Deserialize, Serialize};
use std::collections::HashSet;
use std::path::PathBuf;

/// Everything about a fleet.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct FleetConfig {
    /// Port of every BMC; 0: a free one.
    #[serde(default)]
    pub listen_port: u16,
    /// Second octet of all addresses, 1 to 254: fleets with different ones run side by side.
    pub datacenter: u8,
    /// The racks, in order; a rack's place in the list is the third octet of its addresses.
    pub racks: Vec<RackConfig>,
    /// What machines are made of, unless their rack says otherwise.
    #[serde(default)]
    pub hardware: Hardware,
    /// The account of every BMC.
    #[serde(default)]
    pub credentials: Credentials,
    /// How long firmware and loaders take.
    #[serde(default)]
    pub timing: Timing,
    /// Firmware is so many times faster than `timing` says.
    #[serde(default = "one")]
    pub speed: f64,
    /// Authorities that firmware trusts for boot media behind https: PEM, or the path of a PEM file, which is read at each
    /// boot.
    #[serde(default, rename = "mediaCA", skip_serializing_if = "Option::is_none")]
    pub media_ca: Option<String>,
    /// Pace of the operating systems.
    #[serde(default)]
    pub os: OsTiming,
    /// Folder with the programs that control-plane hosts run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub programs: Option<PathBuf>,
    /// Folder for what stands on disks; `hosts` in it is emptied at start.
    pub state_dir: PathBuf,
}

/// One rack.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RackConfig {
    /// For example `rack-a`.
    pub name: String,
    /// Number of machines, in units 1, 2, …
    pub hosts: u8,
    /// What they are made of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hardware: Option<Hardware>,
}

/// The account of a BMC.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// Password.
    pub password: String,
}

impl Default for Credentials {
    fn default() -> Self {
        Self { username: "admin".into(), password: "simulated".into() }
    }
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("username", &self.username).finish_non_exhaustive()
    }
}

/// What is wrong with a configuration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// An address needs the number.
    #[error("datacenter must be 1 to {OCTET_MAX}, not {0}")]
    Datacenter(u8),
    /// There are more than an address can tell apart.
    #[error("at most {OCTET_MAX} racks")]
    Racks,
    /// There are more than an address can tell apart.
    #[error("rack {0}: at most {OCTET_MAX} hosts")]
    Hosts(String),
    /// Two racks have one name.
    #[error("two racks are called {0}")]
    Twice(String),
    /// Not a pace.
    #[error("speed must be more than 0")]
    Speed,
}

impl FleetConfig {
    /// A fleet without racks and with stock everything.
    pub fn new(datacenter: u8, state_dir: PathBuf) -> FleetConfig {
        FleetConfig {
            listen_port: 0,
            datacenter,
            racks: Vec::new(),
            hardware: Hardware::default(),
            credentials: Credentials::default(),
            timing: Timing::default(),
            speed: 1.0,
            media_ca: None,
            os: OsTiming::default(),
            programs: None,
            state_dir,
        }
    }

    /// The same with one rack more.
    pub fn with_rack(mut self, name: &str, hosts: u8) -> FleetConfig {
        self.racks.push(RackConfig { name: name.into(), hosts, hardware: None });
        self
    }

    /// All machines, in the order of racks and units.
    pub fn specs(&self) -> Result<Vec<Spec>, ConfigError> {
        if self.datacenter == 0 || self.datacenter > OCTET_MAX {
            return Err(ConfigError::Datacenter(self.datacenter));
        }
        let mut names = HashSet::new();
        let mut specs = Vec::new();
        for (at, rack) in self.racks.iter().enumerate() {
            let number = u8::try_from(at + 1).ok().filter(|number| *number <= OCTET_MAX).ok_or(ConfigError::Racks)?;
            if rack.hosts > OCTET_MAX {
                return Err(ConfigError::Hosts(rack.name.clone()));
            }
            if !names.insert(&rack.name) {
                return Err(ConfigError::Twice(rack.name.clone()));
            }
            let hardware = rack.hardware.as_ref().unwrap_or(&self.hardware);
            specs.extend((1..=rack.hosts).map(|unit| Spec::new(self.datacenter, &rack.name, number, unit, hardware)));
        }
        Ok(specs)
    }

    /// How long firmware and loaders take at this speed.
    pub fn paced(&self) -> Result<Timing, ConfigError> {
        if !self.speed.is_finite() || self.speed <= 0.0 {
            return Err(ConfigError::Speed);
        }
        let pace = |duration: std::time::Duration| duration.div_f64(self.speed);
        let Timing { post, ramdisk_boot, disk_boot, power_off } = self.timing;
        Ok(Timing {
            post: pace(post),
            ramdisk_boot: pace(ramdisk_boot),
            disk_boot: pace(disk_boot),
            power_off: pace(power_off),
        })
    }
}

fn one() -> f64 {
    1.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_file_of_a_few_lines_is_enough() {
        let yaml = "datacenter: 10\nracks: [{name: rack-a, hosts: 2}, {name: rack-b, hosts: 1}]\nstateDir: state\n\
                    timing: {post: 500ms}\nspeed: 5\n";
        let config: FleetConfig = serde_saphyr::from_str(yaml).expect("reads");
        let names: Vec<String> = config.specs().expect("valid").into_iter().map(|spec| spec.name).collect();
        assert_eq!(names, ["rack-a-u01", "rack-a-u02", "rack-b-u01"]);
        let paced = config.paced().expect("valid");
        assert_eq!((paced.post, paced.ramdisk_boot), (Duration::from_millis(100), Duration::from_millis(400)));
    }

    #[test]
    fn what_no_address_can_tell_apart_is_refused() {
        let config = |datacenter| FleetConfig::new(datacenter, "state".into());
        assert_eq!(config(0).specs(), Err(ConfigError::Datacenter(0)));
        assert_eq!(config(1).with_rack("a", 255).specs(), Err(ConfigError::Hosts("a".into())));
        assert_eq!(config(1).with_rack("a", 1).with_rack("a", 1).specs(), Err(ConfigError::Twice("a".into())));
        let many = (0..255).fold(config(1), |config, rack| config.with_rack(&format!("r{rack}"), 1));
        assert_eq!(many.specs(), Err(ConfigError::Racks));
    }

    #[test]
    fn a_speed_that_is_none_is_refused() {
        for speed in [0.0, -1.0, f64::NAN, f64::INFINITY] {
            let config = FleetConfig { speed, ..FleetConfig::new(1, "state".into()) };
            assert_eq!(config.paced(), Err(ConfigError::Speed));
        }
    }

    #[test]
    fn the_password_is_not_in_the_debug_text() {
        let credentials = Credentials { username: "admin".into(), password: "hunter2".into() };
        assert!(!format!("{credentials:?}").contains("hunter2"));
    }
}
