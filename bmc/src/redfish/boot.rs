//! Where the machine boots from at its next start: the boot source override of a ComputerSystem (DSP0268).
//!
//! What a BMC takes is chosen from what it allows; what it took is read back. A BMC that keeps `Continuous` for `Once` is accepted, since
//! the device is right and the disk is set again before the last start.

use super::fault::Fault;
use super::machine::Call;
use super::value::{Resource, link, strings, text};
use crate::BootDevice;
use crate::error::Error;
use serde_json::{Value, json};
use tokio::time::Instant;

/// The names of a CD drive, best first. `UsbCd` is what Supermicro calls the virtual one.
const CDS: [&str; 2] = ["Cd", "UsbCd"];

impl Call<'_> {
    pub(super) async fn set_boot(&mut self, wanted: BootDevice) -> std::result::Result<(), Fault> {
        let what = match wanted {
            BootDevice::Cd => "boot from the CD next",
            BootDevice::Disk => "boot from the disk next",
            BootDevice::Other => {
                let why = "only the disk and the CD can be set".to_owned();
                return Err(Error::Rejected { what: "boot from another device".into(), why }.into());
            }
        };
        let system = self.system().await?;
        let places = self.boot_places(system).await?;
        let Some(current) = places.first() else { return Err(Error::Unsupported { what: what.into() }.into()) };
        if device(&current.body) == wanted {
            return Ok(());
        }
        let mut last = Fault::from(Error::Unsupported { what: what.into() });
        for place in &places {
            for order in orders(&place.body, wanted) {
                match self.order_boot(what, place, &order, wanted).await {
                    Ok(()) => return Ok(()),
                    Err(fault) if is_about_the_order(&fault) => last = fault,
                    Err(fault) => return Err(fault),
                }
            }
        }
        Err(last)
    }

    /// Resources with the override, the one to try first first. The `@Redfish.Settings` object comes after the system itself: Lenovo
    /// and OpenBMC have one that is for the boot order only. Where the system is known to refuse, it is the only one.
    async fn boot_places(&mut self, system: Resource) -> std::result::Result<Vec<Resource>, Fault> {
        let known = self.machine.known().boot_settings.clone();
        if let Some(settings) = known {
            return Ok(vec![self.line.get(&settings).await?]);
        }
        let settings = link(&system.body, "/@Redfish.Settings/SettingsObject").map(str::to_owned);
        let mut places: Vec<Resource> = has_boot(&system.body).then_some(system).into_iter().collect();
        if let Some(settings) = settings {
            match self.line.get(&settings).await {
                Ok(settings) if has_override(&settings.body) => places.push(settings),
                Err(fault) if !is_about_the_order(&fault) && !fault.is_gone() => return Err(fault),
                _ => {}
            }
        }
        Ok(places)
    }

    async fn order_boot(
        &mut self,
        what: &str,
        place: &Resource,
        order: &Value,
        wanted: BootDevice,
    ) -> std::result::Result<(), Fault> {
        let answer = self.line.patch(what, place, &json!({"Boot": order})).await?;
        self.line.settle(what, answer).await?;
        let found = self.boot_shows(&place.uri, wanted).await?;
        if let Some(found) = found {
            return Err(Error::NotDone { what: what.into(), found }.into());
        }
        let system = self.machine.known().system.clone();
        if system.as_deref() != Some(&place.uri) {
            self.machine.known().boot_settings = Some(place.uri.clone());
        }
        Ok(())
    }

    /// Reads until the device is the wanted one: `None`. Else what is shown in the end.
    async fn boot_shows(&mut self, uri: &str, wanted: BootDevice) -> std::result::Result<Option<String>, Fault> {
        let config = self.machine.client.config.clone();
        let give_up = Instant::now() + config.read_back;
        loop {
            let body = self.line.get(uri).await?.body;
            if device(&body) == wanted {
                return Ok(None);
            }
            if Instant::now() >= give_up || !self.line.pause(config.read_back_interval).await {
                return Ok(Some(shown(&body)));
            }
        }
    }
}

/// Where the machine boots from at its next start, as the resource says.
pub(crate) fn device(body: &Value) -> BootDevice {
    if text(body, "/Boot/BootSourceOverrideEnabled") == Some("Disabled") {
        return BootDevice::Disk;
    }
    match text(body, "/Boot/BootSourceOverrideTarget") {
        None | Some("None" | "Hdd") => BootDevice::Disk,
        Some(target) if CDS.contains(&target) => BootDevice::Cd,
        Some(_) => BootDevice::Other,
    }
}

/// What to write for a device, best first; empty when the BMC allows nothing that would do.
pub(crate) fn orders(body: &Value, wanted: BootDevice) -> Vec<Value> {
    let may_target = |target: &str| allows(body, "/Boot/BootSourceOverrideTarget@Redfish.AllowableValues", target);
    let may_enable = |enabled: &str| allows(body, "/Boot/BootSourceOverrideEnabled@Redfish.AllowableValues", enabled);
    let order = |target: Option<&str>, enabled: &str| {
        let mut order = json!({"BootSourceOverrideEnabled": enabled});
        if let Some(target) = target {
            order["BootSourceOverrideTarget"] = json!(target);
        }
        order
    };
    let mut orders = Vec::new();
    match wanted {
        BootDevice::Cd => {
            let Some(cd) = CDS.into_iter().find(|cd| may_target(cd)) else { return orders };
            for enabled in ["Once", "Continuous"].into_iter().filter(|enabled| may_enable(enabled)) {
                let plain = order(Some(cd), enabled);
                // Supermicro falls back to BIOS mode when it is not said each time; others refuse it when they do not show it.
                if text(body, "/Boot/BootSourceOverrideMode").is_some() {
                    let mut uefi = plain.clone();
                    uefi["BootSourceOverrideMode"] = json!("UEFI");
                    orders.push(uefi);
                }
                orders.push(plain);
            }
        }
        BootDevice::Disk => {
            if may_enable("Disabled") {
                if may_target("None") {
                    orders.push(order(Some("None"), "Disabled"));
                }
                orders.push(order(None, "Disabled"));
            }
            if may_target("Hdd") {
                let kept = ["Continuous", "Once"].into_iter().find(|enabled| may_enable(enabled));
                orders.extend(kept.map(|enabled| order(Some("Hdd"), enabled)));
            }
        }
        BootDevice::Other => {}
    }
    orders
}

/// True when a value is allowed, or when nothing is said about what is.
fn allows(body: &Value, pointer: &str, value: &str) -> bool {
    strings(body, pointer).is_none_or(|allowed| allowed.is_empty() || allowed.iter().any(|allowed| allowed == value))
}

fn has_boot(body: &Value) -> bool {
    body.get("Boot").is_some_and(Value::is_object)
}

/// True when the resource knows of the override, set or not.
fn has_override(body: &Value) -> bool {
    let boot = body.get("Boot").and_then(Value::as_object);
    boot.is_some_and(|boot| boot.keys().any(|key| key.starts_with("BootSourceOverride")))
}

/// The override in words, for errors.
fn shown(body: &Value) -> String {
    let target = text(body, "/Boot/BootSourceOverrideTarget").unwrap_or("nothing");
    let enabled = text(body, "/Boot/BootSourceOverrideEnabled").unwrap_or("unknown");
    format!("{target} ({enabled})")
}

/// True when another order, or the same in another place, may still do it.
fn is_about_the_order(fault: &Fault) -> bool {
    match fault {
        Fault::Refused(refusal) => refusal.is_about_the_way(),
        Fault::Named(Error::NotDone { .. }) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TARGETS: &str = "BootSourceOverrideTarget@Redfish.AllowableValues";
    const ENABLED: &str = "BootSourceOverrideEnabled@Redfish.AllowableValues";

    fn first(boot: Value, wanted: BootDevice) -> Value {
        orders(&json!({"Boot": boot}), wanted).into_iter().next().unwrap_or_default()
    }

    #[test]
    fn a_disabled_override_means_the_disk_whatever_its_target() {
        let supermicro = json!({"Boot": {"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "Pxe"}});
        assert_eq!(device(&supermicro), BootDevice::Disk);
    }

    #[test]
    fn targets_are_read() {
        let target = |target: Value| {
            device(&json!({"Boot": {"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": target}}))
        };
        assert_eq!(target(json!("Cd")), BootDevice::Cd);
        assert_eq!(target(json!("UsbCd")), BootDevice::Cd);
        assert_eq!(target(json!("Hdd")), BootDevice::Disk);
        assert_eq!(target(json!(null)), BootDevice::Disk);
        assert_eq!(target(json!("Pxe")), BootDevice::Other);
    }

    #[test]
    fn the_cd_is_set_once_and_with_the_mode_only_where_one_is_shown() {
        let plain = json!({"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"});
        assert_eq!(first(json!({}), BootDevice::Cd), plain);
        let with_mode = first(json!({"BootSourceOverrideMode": "UEFI"}), BootDevice::Cd);
        assert_eq!(with_mode["BootSourceOverrideMode"], "UEFI");
    }

    #[test]
    fn the_cd_has_another_name_where_only_that_is_allowed() {
        assert_eq!(first(json!({TARGETS: ["Pxe", "UsbCd"]}), BootDevice::Cd)["BootSourceOverrideTarget"], "UsbCd");
        assert_eq!(orders(&json!({"Boot": {TARGETS: ["Pxe", "Hdd"]}}), BootDevice::Cd), Vec::<Value>::new());
    }

    #[test]
    fn once_gives_way_to_continuous_where_only_that_is_allowed() {
        assert_eq!(first(json!({ENABLED: ["Continuous"]}), BootDevice::Cd)["BootSourceOverrideEnabled"], "Continuous");
    }

    #[test]
    fn the_disk_is_no_override_where_that_is_allowed() {
        let none = json!({"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled"});
        assert_eq!(first(json!({TARGETS: ["None", "Cd"]}), BootDevice::Disk), none);
        assert_eq!(first(json!({TARGETS: ["Cd"]}), BootDevice::Disk), json!({"BootSourceOverrideEnabled": "Disabled"}));
    }

    #[test]
    fn the_disk_is_the_hdd_in_the_end() {
        let all = orders(&json!({"Boot": {TARGETS: ["Pxe", "Cd", "Hdd"]}}), BootDevice::Disk);
        let hdd = json!({"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Continuous"});
        assert_eq!(all.last(), Some(&hdd));
    }
}
