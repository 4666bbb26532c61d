//! The machine: system, interfaces, manager, virtual media, chassis.

use super::{Typed, link, typed};
use crate::hardware::Spec;
use crate::machine::{Enabled, Machine, Reset, Shown, Target};
use crate::redfish::resource::Resource;
use rackwright_protocol::facts::Nic;
use serde_json::{Value, json};

pub fn system(spec: &Spec, machine: &Machine) -> Typed {
    let facts = &spec.facts;
    let all = [Target::None, Target::Cd, Target::Hdd, Target::Pxe, Target::UefiHttp];
    let targets: Vec<Target> = all.into_iter().filter(|target| spec.boots(*target)).collect();
    let body = json!({
        "Id": "1",
        "Name": spec.name,
        "SystemType": "Physical",
        "Manufacturer": facts.vendor,
        "Model": facts.model,
        "SerialNumber": facts.serial,
        "UUID": spec.shown_uuid(machine.faults()),
        "PowerState": power(machine),
        "LocationIndicatorActive": machine.locator(),
        "Status": status(machine),
        "Boot": {
            "BootSourceOverrideEnabled": machine.boot().enabled,
            "BootSourceOverrideEnabled@Redfish.AllowableValues": [Enabled::Disabled, Enabled::Once, Enabled::Continuous],
            "BootSourceOverrideTarget": machine.boot().target,
            "BootSourceOverrideTarget@Redfish.AllowableValues": targets,
            "HttpBootUri": machine.boot_uri(),
            "BootSourceOverrideMode": "UEFI",
            "BootSourceOverrideMode@Redfish.AllowableValues": ["UEFI"],
        },
        "ProcessorSummary": {
            "Count": 1,
            "CoreCount": facts.cpu.cores,
            "LogicalProcessorCount": facts.cpu.threads,
            "Model": facts.cpu.model,
        },
        "MemorySummary": {"TotalSystemMemoryGiB": facts.memory_mib / 1024},
        "EthernetInterfaces": link(Resource::Nics),
        "Links": {"Chassis": [link(Resource::Chassis)], "ManagedBy": [link(Resource::Manager)]},
        "Actions": {"#ComputerSystem.Reset": {
            "target": Resource::Reset.uri(),
            "ResetType@Redfish.AllowableValues": Reset::ALL,
        }},
    });
    typed("ComputerSystem", "v1_20_0", body)
}

pub fn nic(number: usize, nic: &Nic) -> Typed {
    let link_status = if nic.speed_mbps.is_some() { "LinkUp" } else { "NoLink" };
    let body = json!({
        "Id": number.to_string(),
        "Name": nic.name,
        "MACAddress": nic.mac,
        "PermanentMACAddress": nic.mac,
        "SpeedMbps": nic.speed_mbps,
        "LinkStatus": link_status,
        "Status": {"State": "Enabled", "Health": "OK"},
    });
    typed("EthernetInterface", "v1_9_0", body)
}

pub fn manager(spec: &Spec) -> Typed {
    let body = json!({
        "Id": "1",
        "Name": "Manager",
        "ManagerType": "BMC",
        "Model": "Simulated BMC",
        "FirmwareVersion": env!("CARGO_PKG_VERSION"),
        "PowerState": "On",
        "UUID": spec.facts.system_uuid,
        "Status": {"State": "Enabled", "Health": "OK"},
        // Under the manager and not under the system, as on most machines in the field.
        "VirtualMedia": link(Resource::Slots),
        "Links": {"ManagerForServers": [link(Resource::System)], "ManagerForChassis": [link(Resource::Chassis)]},
    });
    typed("Manager", "v1_17_0", body)
}

pub fn slot(machine: &Machine) -> Typed {
    let image = machine.media();
    let scheme = image.map(|url| if url.starts_with("https:") { "HTTPS" } else { "HTTP" });
    let body = json!({
        "Id": "Cd",
        "Name": "Virtual CD",
        "MediaTypes": ["CD", "DVD"],
        "Image": image,
        "ImageName": image.and_then(|url| url.rsplit('/').next()),
        "Inserted": image.is_some(),
        "WriteProtected": true,
        "ConnectedVia": if image.is_some() { "URI" } else { "NotConnected" },
        "TransferMethod": image.map(|_| "Stream"),
        "TransferProtocolType": scheme,
        "Actions": {
            "#VirtualMedia.InsertMedia": {"target": Resource::InsertMedia.uri()},
            "#VirtualMedia.EjectMedia": {"target": Resource::EjectMedia.uri()},
        },
    });
    typed("VirtualMedia", "v1_6_0", body)
}

pub fn chassis(spec: &Spec, machine: &Machine) -> Typed {
    let facts = &spec.facts;
    let body = json!({
        "Id": "1",
        "Name": "Chassis",
        "ChassisType": "RackMount",
        "Manufacturer": facts.vendor,
        "Model": facts.model,
        "SerialNumber": facts.serial,
        "PowerState": power(machine),
        "LocationIndicatorActive": machine.locator(),
        "Location": {"Placement": {"Rack": spec.rack, "RackOffset": spec.unit, "RackOffsetUnits": "EIA_310"}},
        "Status": status(machine),
        "Links": {"ComputerSystems": [link(Resource::System)], "ManagedBy": [link(Resource::Manager)]},
    });
    typed("Chassis", "v1_22_0", body)
}

fn power(machine: &Machine) -> Option<Shown> {
    machine.shown_power()
}

fn status(machine: &Machine) -> Value {
    json!({"State": "Enabled", "Health": machine.health(), "HealthRollup": machine.health()})
}
