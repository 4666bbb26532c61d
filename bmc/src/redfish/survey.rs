//! Fills a [`ProbeReport`] by the same choices that the verbs make, so what it promises is what would be done.

use super::actions::reset_value;
use super::boot::{Next, bootable, orders};
use super::connector::RedfishConnector;
use super::fault::Fault;
use super::machine::{Call, system_view};
use super::tls::shown_certificate;
use super::value::{Resource, strings, target, text};
use super::{RedfishConfig, slot::image};
use crate::PowerTarget;
use crate::access::Access;
use crate::error::Error;
use crate::probe::{MediaSlot, ProbeReport, ProbedSystem, Service, SystemName};
use serde_json::Value;

/// Asks everything that a deployment rests on.
pub(crate) async fn survey(access: &Access, config: RedfishConfig) -> ProbeReport {
    let address = format!("{}{}", access.address.origin().ascii_serialization(), access.address.path());
    let mut report = ProbeReport { address, ..ProbeReport::default() };
    if access.address.scheme() == "https" {
        match shown_certificate(&access.address, &config).await {
            Ok(digest) => report.certificate_sha256 = Some(digest),
            Err(error) => {
                report.problems.push(error.to_string());
                return report;
            }
        }
    }
    if let Err(error) = ask(access, config, &mut report).await {
        report.problems.push(error.to_string());
        if let (Error::Untrusted { .. }, Some(shown)) = (&error, &report.certificate_sha256) {
            report.problems.push(format!("if this is the right machine, pin its certificate: {shown}"));
        }
    }
    report
}

async fn ask(access: &Access, config: RedfishConfig, report: &mut ProbeReport) -> Result<(), Error> {
    let connector = RedfishConnector::new(config);
    let machine = connector.machine(access)?;
    let asked = {
        let mut call = machine.call().await?;
        let asked = ask_all(&mut call, report).await;
        report.auth = Some(call.line.auth_mode().to_owned()).filter(|mode| mode != "none");
        asked
    };
    connector.close().await;
    Ok(asked?)
}

async fn ask_all(call: &mut Call<'_>, report: &mut ProbeReport) -> Result<(), Fault> {
    let root = call.line.whole_root().await?.body;
    let said = |pointer: &str| text(&root, pointer).map(str::to_owned);
    report.service =
        Some(Service { vendor: said("/Vendor"), product: said("/Product"), redfish_version: said("/RedfishVersion") });
    for path in call.system_links().await? {
        let name = call.line.get(&path).await.ok().and_then(|system| text(&system.body, "/Name").map(str::to_owned));
        report.systems.push(SystemName { path, name });
    }
    let system = call.system().await?;
    let resets = call.reset_values(&system).await?;
    let has_locator = call.locator_place().await?.is_some();
    report.system = Some(probed(&system, resets.clone().unwrap_or_default(), has_locator));
    plan_power(report, &system, resets.as_deref());
    plan_boot(report, &system.body);
    match call.slots().await {
        Ok(slots) => plan_media(report, &slots),
        // Without a drive the ramdisk comes from a URL, where the firmware can fetch one.
        Err(fault) => match Error::from(fault) {
            Error::Unsupported { .. } if bootable(&system.body).http => {}
            error => report.problems.push(error.to_string()),
        },
    }
    Ok(())
}

fn probed(system: &Resource, reset_values: Vec<String>, has_locator: bool) -> ProbedSystem {
    let view = system_view(&system.body);
    let said = |pointer: &str| text(&system.body, pointer).map(str::to_owned);
    ProbedSystem {
        path: system.uri.clone(),
        vendor: view.vendor,
        model: view.model,
        serial: view.serial,
        uuid: view.uuid,
        power: said("/PowerState"),
        health: view.health,
        boot_target: said("/Boot/BootSourceOverrideTarget"),
        boot_enabled: said("/Boot/BootSourceOverrideEnabled"),
        boot_mode: said("/Boot/BootSourceOverrideMode"),
        boot_targets: strings(&system.body, "/Boot/BootSourceOverrideTarget@Redfish.AllowableValues")
            .unwrap_or_default(),
        reset_values,
        has_locator,
    }
}

fn plan_power(report: &mut ProbeReport, system: &Resource, allowed: Option<&[String]>) {
    if target(&system.body, "#ComputerSystem.Reset").is_none() {
        report.problems.push(format!("{} has no reset action, so it cannot be switched", system.uri));
        return;
    }
    for (wanted, words) in [(PowerTarget::Off, "switch off"), (PowerTarget::On, "switch on")] {
        match reset_value(allowed, wanted) {
            Some(value) => report.plan.push(format!("{words}: reset with {value}")),
            None => report.problems.push(format!("no reset value would {words} the machine")),
        }
    }
    if text(&system.body, "/PowerState").is_none() {
        report.problems.push("it does not say whether the machine is on".into());
    }
}

fn plan_boot(report: &mut ProbeReport, system: &Value) {
    let ways = bootable(system);
    let devices = [
        (true, Next::Disk, "boot from the disk"),
        (ways.cd || !ways.http, Next::Cd, "boot from the CD"),
        (ways.http, Next::Http("(media URL)"), "boot from a URL"),
    ];
    for (_, next, words) in devices.into_iter().filter(|(applies, ..)| *applies) {
        match orders(system, next).first() {
            Some(order) if system.get("Boot").is_some() => report.plan.push(format!("{words}: {order}")),
            _ => report.problems.push(format!("it cannot be told to {words}")),
        }
    }
}

fn plan_media(report: &mut ProbeReport, slots: &[Resource]) {
    report.media = slots.iter().map(slot).collect();
    if let Some(first) = report.media.first() {
        let by = if first.has_insert_action { "InsertMedia" } else { "PATCH" };
        report.plan.push(format!("insert media: {by} at {}", first.path));
    }
}

fn slot(slot: &Resource) -> MediaSlot {
    MediaSlot {
        path: slot.uri.clone(),
        media_types: strings(&slot.body, "/MediaTypes").unwrap_or_default(),
        has_insert_action: target(&slot.body, "#VirtualMedia.InsertMedia").is_some(),
        inserted: image(&slot.body).is_some(),
    }
}
