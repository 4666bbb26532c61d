//! Where the machine boots from at its next start: the boot source override of a ComputerSystem (DSP0268).
//!
//! What a BMC takes is chosen from what it allows; what it took is read back. A BMC that keeps `Continuous` for `Once` is accepted, since
//! the device is right and the disk is set again before the last start. The URL of an HTTP boot is a secret and never gets into an error.

use super::fault::Fault;
use super::machine::Call;
use super::slot::{is_same_image, without_url};
use super::value::{Resource, link, strings, text};
use crate::error::Error;
use crate::{BootDevice, Bootable};
use serde_json::{Value, json};
use tokio::time::Instant;

/// The names of a CD drive, best first. `UsbCd` is what Supermicro calls the virtual one.
const CDS: [&str; 2] = ["Cd", "UsbCd"];

const HTTP: &str = "UefiHttp";
const PXE: &str = "Pxe";

const TARGETS: &str = "/Boot/BootSourceOverrideTarget@Redfish.AllowableValues";
const ENABLED: &str = "/Boot/BootSourceOverrideEnabled@Redfish.AllowableValues";

/// What is to be booted next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next<'a> {
    Disk,
    Cd,
    Http(&'a str),
    Pxe,
}

impl Next<'_> {
    fn what(self) -> &'static str {
        match self {
            Next::Disk => "boot from the disk next",
            Next::Cd => "boot from the CD next",
            Next::Http(_) => "boot from a URL next",
            Next::Pxe => "boot from the network next",
        }
    }

    /// True when the resource shows it.
    fn is_set(self, body: &Value) -> bool {
        match (self, device(body)) {
            // sushy-tools puts what is at the URL into the drive and says so: `Cd`, with our URL.
            (Next::Http(url), BootDevice::Http | BootDevice::Cd) if uri(body).is_some() => {
                uri(body).is_some_and(|shown| is_same_image(shown, url))
            }
            (Next::Http(_), shown) => shown == BootDevice::Http,
            (Next::Disk, shown) => shown == BootDevice::Disk,
            (Next::Cd, shown) => shown == BootDevice::Cd,
            (Next::Pxe, shown) => shown == BootDevice::Pxe,
        }
    }

    /// True when nothing need be ordered. A URL that is not shown may be another one.
    fn is_certain(self, body: &Value) -> bool {
        self.is_set(body) && (!matches!(self, Next::Http(_)) || uri(body).is_some())
    }
}

impl Call<'_> {
    pub(super) async fn set_boot(&mut self, wanted: BootDevice) -> std::result::Result<(), Fault> {
        let rejected = |why: &str| Error::Rejected { what: "boot from another device".into(), why: why.into() };
        match wanted {
            BootDevice::Disk => self.order_next(Next::Disk).await,
            BootDevice::Cd => self.order_next(Next::Cd).await,
            BootDevice::Pxe => self.order_next(Next::Pxe).await,
            BootDevice::Http => Err(rejected("an HTTP boot needs a URL").into()),
            BootDevice::Other => Err(rejected("only disk, CD, URL and network can be set").into()),
        }
    }

    pub(super) async fn set_http_boot(&mut self, url: &str) -> std::result::Result<(), Fault> {
        self.order_next(Next::Http(url)).await.map_err(|fault| without_url(fault, url))
    }

    async fn order_next(&mut self, next: Next<'_>) -> std::result::Result<(), Fault> {
        let unsupported = || Fault::from(Error::Unsupported { what: next.what().into() });
        let system = self.system().await?;
        let places = self.boot_places(system).await?;
        let Some(current) = places.first() else { return Err(unsupported()) };
        if next.is_certain(&current.body) {
            return Ok(());
        }
        let mut last = unsupported();
        for place in &places {
            for order in orders(&place.body, next) {
                match self.order_boot(place, &order, next).await {
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

    async fn order_boot(&mut self, place: &Resource, order: &Value, next: Next<'_>) -> std::result::Result<(), Fault> {
        let what = next.what();
        let answer = self.line.patch(what, place, &json!({"Boot": order})).await?;
        self.line.settle(what, answer).await?;
        let found = self.boot_shows(&place.uri, next).await?;
        if let Some(found) = found {
            return Err(Error::NotDone { what: what.into(), found }.into());
        }
        let system = self.machine.known().system.clone();
        if system.as_deref() != Some(&place.uri) {
            self.machine.known().boot_settings = Some(place.uri.clone());
        }
        Ok(())
    }

    /// Reads until it shows what is wanted: `None`. Else what is shown in the end.
    async fn boot_shows(&mut self, uri: &str, next: Next<'_>) -> std::result::Result<Option<String>, Fault> {
        let config = self.machine.client.config.clone();
        let give_up = Instant::now() + config.read_back;
        loop {
            let body = self.line.get(uri).await?.body;
            if next.is_set(&body) {
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
        Some(HTTP) => BootDevice::Http,
        Some(PXE) => BootDevice::Pxe,
        Some(target) if CDS.contains(&target) => BootDevice::Cd,
        Some(_) => BootDevice::Other,
    }
}

/// The URL of an HTTP boot, as far as it is shown: sushy-tools writes "None" for none.
pub(crate) fn uri(body: &Value) -> Option<&str> {
    text(body, "/Boot/HttpBootUri").filter(|uri| *uri != "None")
}

/// What the machine can be told to boot. Firmware in BIOS mode fetches no URL.
pub(crate) fn bootable(body: &Value) -> Bootable {
    let is_told = has_boot(body) || link(body, "/@Redfish.Settings/SettingsObject").is_some();
    let is_listed = strings(body, TARGETS).is_some_and(|listed| !listed.is_empty());
    let knows_http = if is_listed { allows(body, TARGETS, HTTP) } else { body.pointer("/Boot/HttpBootUri").is_some() };
    Bootable {
        cd: is_told && CDS.iter().any(|cd| allows(body, TARGETS, cd)),
        http: is_told && knows_http && text(body, "/Boot/BootSourceOverrideMode") != Some("Legacy"),
        pxe: is_told && allows(body, TARGETS, PXE),
    }
}

/// What to write, best first; empty when the BMC allows nothing that would do.
pub(crate) fn orders(body: &Value, next: Next<'_>) -> Vec<Value> {
    let allowed = |target: &'static str| allows(body, TARGETS, target).then_some(target);
    match next {
        Next::Disk => disk_orders(body),
        Next::Cd => device_orders(body, CDS.into_iter().find_map(allowed), None),
        Next::Pxe => device_orders(body, allowed(PXE), None),
        Next::Http(url) => device_orders(body, allowed(HTTP), Some(url)),
    }
}

/// Once where that is allowed, and always where it is not taken: the disk is set before the last start anyway.
fn device_orders(body: &Value, target: Option<&str>, url: Option<&str>) -> Vec<Value> {
    let Some(target) = target else { return Vec::new() };
    let mut orders = Vec::new();
    for enabled in ["Once", "Continuous"].into_iter().filter(|enabled| allows(body, ENABLED, enabled)) {
        let mut plain = json!({"BootSourceOverrideEnabled": enabled, "BootSourceOverrideTarget": target});
        if let Some(url) = url {
            plain["HttpBootUri"] = json!(url);
        }
        // Supermicro falls back to BIOS mode when UEFI is not said each time; others refuse it when they do not show it.
        // A machine in BIOS mode stays in it.
        if text(body, "/Boot/BootSourceOverrideMode") == Some("UEFI") {
            let mut uefi = plain.clone();
            uefi["BootSourceOverrideMode"] = json!("UEFI");
            orders.push(uefi);
        }
        orders.push(plain);
    }
    orders
}

/// No override where that is allowed, and the disk by its name where it is not.
fn disk_orders(body: &Value) -> Vec<Value> {
    let mut orders = Vec::new();
    if allows(body, ENABLED, "Disabled") {
        if allows(body, TARGETS, "None") {
            orders.push(json!({"BootSourceOverrideEnabled": "Disabled", "BootSourceOverrideTarget": "None"}));
        }
        orders.push(json!({"BootSourceOverrideEnabled": "Disabled"}));
    }
    if allows(body, TARGETS, "Hdd") {
        let kept = ["Continuous", "Once"].into_iter().find(|enabled| allows(body, ENABLED, enabled));
        orders.extend(kept.map(|kept| json!({"BootSourceOverrideEnabled": kept, "BootSourceOverrideTarget": "Hdd"})));
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
    const URL: &str = "https://10.0.0.1/media/ns/host/op/secret.efi";

    fn first(boot: Value, next: Next<'_>) -> Value {
        orders(&json!({"Boot": boot}), next).into_iter().next().unwrap_or_default()
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
        assert_eq!(target(json!("Pxe")), BootDevice::Pxe);
        assert_eq!(target(json!("UefiHttp")), BootDevice::Http);
        assert_eq!(target(json!("Usb")), BootDevice::Other);
    }

    #[test]
    fn the_cd_is_set_once_and_with_the_mode_only_where_one_is_shown() {
        let plain = json!({"BootSourceOverrideTarget": "Cd", "BootSourceOverrideEnabled": "Once"});
        assert_eq!(first(json!({}), Next::Cd), plain);
        let with_mode = first(json!({"BootSourceOverrideMode": "UEFI"}), Next::Cd);
        assert_eq!(with_mode["BootSourceOverrideMode"], "UEFI");
    }

    #[test]
    fn a_machine_in_bios_mode_stays_in_it() {
        let body = json!({"Boot": {"BootSourceOverrideMode": "Legacy"}});
        assert!(orders(&body, Next::Cd).iter().all(|order| order.get("BootSourceOverrideMode").is_none()));
    }

    #[test]
    fn a_url_is_set_once_with_its_target() {
        let order =
            json!({"BootSourceOverrideTarget": "UefiHttp", "BootSourceOverrideEnabled": "Once", "HttpBootUri": URL});
        assert_eq!(first(json!({TARGETS: ["Cd", "UefiHttp"]}), Next::Http(URL)), order);
        assert_eq!(orders(&json!({"Boot": {TARGETS: ["Pxe", "Cd"]}}), Next::Http(URL)), Vec::<Value>::new());
    }

    #[test]
    fn a_url_counts_as_set_when_it_is_shown_or_when_none_is() {
        let shows = |target: &str, uri: Value| {
            let boot =
                json!({"BootSourceOverrideEnabled": "Once", "BootSourceOverrideTarget": target, "HttpBootUri": uri});
            let body = json!({"Boot": boot});
            (Next::Http(URL).is_set(&body), Next::Http(URL).is_certain(&body))
        };
        assert_eq!(shows("UefiHttp", json!(URL)), (true, true));
        assert_eq!(shows("UefiHttp", json!("None")), (true, false));
        assert_eq!(shows("UefiHttp", json!(null)), (true, false));
        assert_eq!(shows("UefiHttp", json!("https://10.0.0.1/media/ns/host/op/other.efi")), (false, false));
        assert_eq!(shows("Cd", json!(URL)), (true, true), "as sushy-tools does it");
        assert_eq!(shows("Cd", json!("None")), (false, false));
        assert_eq!(shows("Pxe", json!(URL)), (false, false));
    }

    #[test]
    fn what_a_machine_can_boot_is_what_its_bmc_lists() {
        let can = |boot: Value| {
            let Bootable { cd, http, pxe } = bootable(&json!({"Boot": boot}));
            (cd, http, pxe)
        };
        assert_eq!(can(json!({TARGETS: ["None", "Cd", "Pxe", "UefiHttp"]})), (true, true, true));
        assert_eq!(can(json!({TARGETS: ["None", "UsbCd"]})), (true, false, false));
        assert_eq!(can(json!({TARGETS: ["UefiHttp"], "BootSourceOverrideMode": "Legacy"})), (false, false, false));
        assert_eq!(can(json!({})), (true, false, true), "nothing is said");
        assert_eq!(can(json!({"HttpBootUri": null})), (true, true, true));
        assert_eq!(bootable(&json!({})), Bootable::default());
    }

    #[test]
    fn the_cd_has_another_name_where_only_that_is_allowed() {
        assert_eq!(first(json!({TARGETS: ["Pxe", "UsbCd"]}), Next::Cd)["BootSourceOverrideTarget"], "UsbCd");
        assert_eq!(orders(&json!({"Boot": {TARGETS: ["Pxe", "Hdd"]}}), Next::Cd), Vec::<Value>::new());
    }

    #[test]
    fn once_gives_way_to_continuous_where_only_that_is_allowed() {
        assert_eq!(first(json!({ENABLED: ["Continuous"]}), Next::Cd)["BootSourceOverrideEnabled"], "Continuous");
    }

    #[test]
    fn the_disk_is_no_override_where_that_is_allowed() {
        let none = json!({"BootSourceOverrideTarget": "None", "BootSourceOverrideEnabled": "Disabled"});
        assert_eq!(first(json!({TARGETS: ["None", "Cd"]}), Next::Disk), none);
        assert_eq!(first(json!({TARGETS: ["Cd"]}), Next::Disk), json!({"BootSourceOverrideEnabled": "Disabled"}));
    }

    #[test]
    fn the_disk_is_the_hdd_in_the_end() {
        let all = orders(&json!({"Boot": {TARGETS: ["Pxe", "Cd", "Hdd"]}}), Next::Disk);
        let hdd = json!({"BootSourceOverrideTarget": "Hdd", "BootSourceOverrideEnabled": "Continuous"});
        assert_eq!(all.last(), Some(&hdd));
    }
}
