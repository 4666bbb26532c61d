//! What tests and people may see of a machine at one moment.

use super::{Disk, History, Machine, Override, Phase, Run, Shown};
use crate::faults::Faults;
use serde::{Serialize, Serializer};

/// A machine at one moment: the truth, not what its BMC says.
///
/// As JSON it holds no secret: no user-data, and of the media only whether there is one (its URL is the key to it).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Snapshot {
    /// For example `rack-a-u01`.
    pub name: String,
    /// True while anything can run on it.
    pub powered: bool,
    /// What the BMC says about that; `None`: nothing.
    pub shown_power: Option<Shown>,
    /// What it is doing.
    #[serde(flatten)]
    pub phase: Phase,
    /// The current power-on, or the last one.
    pub run: Run,
    /// What it will boot.
    pub boot: Override,
    /// URL that the firmware fetches when it is told to.
    #[serde(rename = "httpBootUriSet", serialize_with = "as_bool")]
    pub boot_uri: Option<String>,
    /// URL in the virtual CD drive.
    #[serde(rename = "mediaInserted", serialize_with = "as_bool")]
    pub media: Option<String>,
    /// The locator light.
    pub locator: bool,
    /// Its disks.
    #[serde(serialize_with = "without_drives")]
    pub disks: Vec<Disk>,
    /// What is wrong with it.
    pub faults: Faults,
    /// What has happened so far.
    pub history: History,
}

impl Snapshot {
    /// `machine`, which is called `name`, as it is now.
    pub fn of(name: &str, machine: &Machine) -> Snapshot {
        Snapshot {
            name: name.into(),
            powered: machine.is_powered(),
            shown_power: machine.shown_power(),
            phase: machine.phase(),
            run: machine.run(),
            boot: machine.boot(),
            boot_uri: machine.boot_uri().map(str::to_string),
            media: machine.media().map(str::to_string),
            locator: machine.locator(),
            disks: machine.disks().to_vec(),
            faults: machine.faults().clone(),
            history: machine.history().clone(),
        }
    }

    /// The disk that runs, or would boot if the machine were switched on now without an override.
    pub fn system_disk(&self) -> Option<&Disk> {
        match self.phase {
            Phase::BootingDisk { disk, .. } | Phase::Running { disk } => self.disks.get(disk),
            _ => self.disks.iter().find(|disk| disk.is_bootable()),
        }
    }

    /// Digest of the image on that disk.
    pub fn image_digest(&self) -> Option<&str> {
        self.system_disk()?.image().map(|image| image.digest.as_str())
    }

    /// True when the operating system runs.
    pub fn is_running(&self) -> bool {
        matches!(self.phase, Phase::Running { .. })
    }

    /// True when no disk holds anything of an image, whole or in part.
    pub fn is_clean(&self) -> bool {
        self.disks.iter().all(Disk::is_clean)
    }
}

fn as_bool<S: Serializer>(media: &Option<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bool(media.is_some())
}

fn without_drives<S: Serializer>(disks: &[Disk], serializer: S) -> Result<S::Ok, S::Error> {
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Seen<'a> {
        device: &'a str,
        #[serde(flatten)]
        content: &'a super::Content,
        config_drive: bool,
    }
    serializer.collect_seq(disks.iter().map(|Disk { device, content, drive }| {
        let config_drive = drive.is_some();
        Seen { device, content, config_drive }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::{Hardware, Spec};
    use crate::machine::{Event, Order, Timing};

    #[test]
    fn the_url_of_the_media_is_not_in_the_json() {
        let mut machine = Machine::new(&Spec::new(9, "rack-a", 1, 1, &Hardware::default()), Timing::default());
        let order = Order::Insert("https://boot/secret.img".into());
        machine.handle(Event::Order(order), jiff::Timestamp::UNIX_EPOCH).expect("inserts");
        let order = Order::SetHttpUri(Some("https://boot/secret.efi".into()));
        machine.handle(Event::Order(order), jiff::Timestamp::UNIX_EPOCH).expect("sets");
        let json = serde_json::to_string(&Snapshot::of("rack-a-u01", &machine)).expect("serializes");
        assert!(json.contains(r#""mediaInserted":true"#), "{json}");
        assert!(!json.contains("secret"), "{json}");
    }
}
