//! One machine behind one BMC: finds its ComputerSystem and says of it what [`Bmc`] asks.
//!
//! A call is one [`Call`]: it holds the line from its first request to its last. What was found (the system, the CD slots) is
//! remembered as links, and forgotten as soon as a link leads nowhere.

use super::client::{Client, Line};
use super::fault::Fault;
use super::value::{Resource, text};
use crate::error::{Error, Result};
use crate::{Bmc, BootDevice, Media, Power, PowerTarget, System};
use async_trait::async_trait;
use serde_json::Value;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use url::Url;

/// One machine behind one BMC.
pub(crate) struct Machine {
    pub(crate) client: Arc<Client>,
    /// The system that the address names.
    wanted: Option<String>,
    known: Mutex<Known>,
}

/// What was found, as links.
#[derive(Clone, Debug, Default)]
pub(super) struct Known {
    pub(super) system: Option<String>,
    /// All slots that take a CD.
    pub(super) slots: Option<Vec<String>>,
    /// Where the boot override is, when the system refuses it: its `@Redfish.Settings` object (AMI, iDRAC 10).
    pub(super) boot_settings: Option<String>,
}

/// One call: the line is ours until it ends.
pub(crate) struct Call<'a> {
    pub(crate) line: Line<'a>,
    pub(super) machine: &'a Machine,
}

impl Machine {
    /// No request is made.
    pub(crate) fn new(client: Arc<Client>, address: &Url) -> Self {
        Self { client, wanted: system_path(address), known: Mutex::default() }
    }

    /// Waits for its turn.
    pub(crate) async fn call(&self) -> Result<Call<'_>> {
        Ok(Call { line: self.client.line().await?, machine: self })
    }

    pub(super) fn known(&self) -> MutexGuard<'_, Known> {
        // Links are as good after a panic elsewhere as before.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Bmc for Machine {
    async fn system(&self) -> Result<System> {
        Ok(self.call().await?.view().await?)
    }

    async fn media(&self) -> Result<Media> {
        Ok(self.call().await?.media().await?)
    }

    async fn set_power(&self, target: PowerTarget) -> Result<()> {
        Ok(self.call().await?.set_power(target).await?)
    }

    async fn insert_media(&self, url: &str) -> Result<()> {
        Ok(self.call().await?.insert(url).await?)
    }

    async fn eject_media(&self) -> Result<()> {
        Ok(self.call().await?.eject().await?)
    }

    async fn set_boot(&self, device: BootDevice) -> Result<()> {
        Ok(self.call().await?.set_boot(device).await?)
    }

    async fn set_http_boot(&self, url: &str) -> Result<()> {
        Ok(self.call().await?.set_http_boot(url).await?)
    }

    async fn set_locator(&self, on: bool) -> Result<()> {
        Ok(self.call().await?.set_locator(on).await?)
    }
}

impl Call<'_> {
    /// The system's resource: one request when it is known.
    pub(crate) async fn system(&mut self) -> std::result::Result<Resource, Fault> {
        let known = self.machine.known().system.clone();
        if let Some(uri) = known {
            match self.line.get(&uri).await {
                Err(fault) if fault.is_gone() => *self.machine.known() = Known::default(),
                other => return other,
            }
        }
        let system = match self.machine.wanted.clone() {
            Some(wanted) => self.wanted_system(&wanted).await?,
            None => self.only_system().await?,
        };
        self.machine.known().system = Some(system.uri.clone());
        Ok(system)
    }

    /// The links of all systems of this BMC.
    pub(crate) async fn system_links(&mut self) -> std::result::Result<Vec<String>, Fault> {
        let root = self.line.root().await?;
        let Some(systems) = root.systems else {
            return Err(Error::Garbled { why: "its service root shows no Systems".into() }.into());
        };
        self.line.members(&systems).await
    }

    async fn wanted_system(&mut self, wanted: &str) -> std::result::Result<Resource, Fault> {
        match self.line.get(wanted).await {
            Err(fault) if fault.is_gone() => {
                let systems = self.system_links().await?;
                Err(no_choice(format!("there is no {wanted}, it has {}", systems.join(", "))))
            }
            other => other,
        }
    }

    async fn only_system(&mut self) -> std::result::Result<Resource, Fault> {
        let systems = self.system_links().await?;
        match systems.as_slice() {
            [] => Err(Error::Garbled { why: "it shows no system".into() }.into()),
            [only] => self.line.get(only).await,
            several => Err(no_choice(format!(
                "it has {} systems, put the path of one into the BMC's address: {}",
                several.len(),
                several.join(", ")
            ))),
        }
    }

    async fn view(&mut self) -> std::result::Result<System, Fault> {
        let mut view = system_view(&self.system().await?.body);
        let settings = self.machine.known().boot_settings.clone();
        if let Some(settings) = settings {
            let settings = self.line.get(&settings).await?;
            view.boot = super::boot::device(&settings.body);
            view.boot_uri = super::boot::uri(&settings.body).map(str::to_owned);
        }
        Ok(view)
    }
}

fn no_choice(why: String) -> Fault {
    Error::Rejected { what: "choose a system".into(), why }.into()
}

/// What a ComputerSystem says, in our words.
pub(crate) fn system_view(body: &Value) -> System {
    let said = |pointer: &str| text(body, pointer).map(str::to_owned);
    System {
        power: power(body),
        boot: super::boot::device(body),
        boot_uri: super::boot::uri(body).map(str::to_owned),
        bootable: super::boot::bootable(body),
        uuid: text(body, "/UUID").map(str::to_ascii_lowercase),
        vendor: said("/Manufacturer"),
        model: said("/Model"),
        serial: said("/SerialNumber"),
        health: said("/Status/HealthRollup").or_else(|| said("/Status/Health")),
    }
}

/// Power as Redfish names it (DSP0268 `Resource.PowerState`). Only `Off` is off.
pub(crate) fn power(body: &Value) -> Option<Power> {
    match text(body, "/PowerState")? {
        "Off" => Some(Power::Off),
        "On" | "PoweringOn" | "PoweringOff" | "Paused" => Some(Power::On),
        _ => None,
    }
}

/// The system that an address names; `None` when it ends at the service root or before.
fn system_path(address: &Url) -> Option<String> {
    let path = address.path().trim_end_matches('/');
    (!matches!(path, "" | "/redfish" | "/redfish/v1")).then(|| path.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_off_is_off() {
        let power = |state: Value| power(&json!({"PowerState": state}));
        assert_eq!(power(json!("Off")), Some(Power::Off));
        for on in ["On", "PoweringOn", "PoweringOff", "Paused"] {
            assert_eq!(power(json!(on)), Some(Power::On), "{on}");
        }
        assert_eq!(power(json!(null)), None);
        assert_eq!(power(json!("Reticulating")), None);
    }

    #[test]
    fn a_system_is_told_in_our_words() {
        let body = json!({"UUID": "4C4C4544-0046", "Manufacturer": "Dell Inc.", "Model": null, "SerialNumber": "",
            "PowerState": "On", "Status": {"Health": "OK", "HealthRollup": "Warning"}});
        let expected = System {
            power: Some(Power::On),
            boot: BootDevice::Disk,
            uuid: Some("4c4c4544-0046".into()),
            vendor: Some("Dell Inc.".into()),
            health: Some("Warning".into()),
            ..System::default()
        };
        assert_eq!(system_view(&body), expected);
    }

    #[test]
    fn an_address_names_a_system_by_its_path() {
        let path = |address: &str| system_path(&address.parse().expect("a URL"));
        assert_eq!(path("https://10.1.1.7"), None);
        assert_eq!(path("https://10.1.1.7/redfish/v1/"), None);
        assert_eq!(path("https://10.1.1.7/redfish/v1/Systems/2/").as_deref(), Some("/redfish/v1/Systems/2"));
    }
}
