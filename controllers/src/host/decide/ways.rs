//! Which way a host's ramdisk is booted: of the ways that its spec wants, those that its BMC can do, one after the other.
//!
//! A way that failed gives way to the next, and the last to the first. Never decides when a try has failed.

use crate::host::view::{HostView, MediaSeen, Observed, Problem};
use rackwright_api::host::{BootWay, Operation};
use rackwright_bmc::BootDevice;

/// What is tried where the spec names no ways.
const STOCK: [BootWay; 2] = [BootWay::VirtualMedia, BootWay::HTTPBoot];
const ALL: [BootWay; 3] = [BootWay::VirtualMedia, BootWay::HTTPBoot, BootWay::PXE];

/// The way of an operation. One that an earlier version recorded names none: it went by virtual media.
pub(super) fn of(operation: &Operation) -> BootWay {
    operation.way.unwrap_or(BootWay::VirtualMedia)
}

/// What the BMC is told to boot.
pub(super) fn device(way: BootWay) -> BootDevice {
    match way {
        BootWay::VirtualMedia => BootDevice::Cd,
        BootWay::HTTPBoot => BootDevice::Http,
        BootWay::PXE => BootDevice::Pxe,
    }
}

/// The way of the first try.
pub(super) fn first(view: &HostView) -> Result<BootWay, Problem> {
    possible(view).first().copied().ok_or_else(|| none(view))
}

/// The way after `last`, which failed.
pub(super) fn after(view: &HostView, last: BootWay) -> Result<BootWay, Problem> {
    let ways = wanted(view);
    // A way that is not wanted any more gives way to the first.
    let next = ways.iter().position(|way| *way == last).map_or(0, |at| at + 1);
    let order = ways.iter().cycle().skip(next).take(ways.len());
    order.copied().find(|way| can(view, *way)).ok_or_else(|| none(view))
}

/// `way` while it can be done, else the one after it.
pub(super) fn still(view: &HostView, way: BootWay) -> Result<BootWay, Problem> {
    if possible(view).contains(&way) { Ok(way) } else { after(view, way) }
}

/// True when another way than `way` is worth a try.
pub(super) fn has_other(view: &HostView, way: BootWay) -> bool {
    possible(view).iter().any(|other| *other != way)
}

fn wanted(view: &HostView) -> Vec<BootWay> {
    let ways = if view.spec.boot_ways.is_empty() { &STOCK[..] } else { &view.spec.boot_ways };
    let mut once = Vec::new();
    for way in ways {
        if !once.contains(way) {
            once.push(*way);
        }
    }
    once
}

fn possible(view: &HostView) -> Vec<BootWay> {
    wanted(view).into_iter().filter(|way| can(view, *way)).collect()
}

/// What cannot be told now may be tried. Firmware in BIOS mode fetches no URL.
fn can(view: &HostView, way: BootWay) -> bool {
    offers(view, way) && (way != BootWay::HTTPBoot || !boots_bios(view))
}

fn offers(view: &HostView, way: BootWay) -> bool {
    let Observed::Seen { system, media } = &view.bmc else { return true };
    match way {
        BootWay::VirtualMedia => system.bootable.cd && *media != MediaSeen::NoDrive,
        BootWay::HTTPBoot => system.bootable.http,
        BootWay::PXE => system.bootable.pxe,
    }
}

fn boots_bios(view: &HostView) -> bool {
    view.hardware.as_ref().is_some_and(|hardware| hardware.boot_mode.as_deref() == Some("BIOS"))
}

fn none(view: &HostView) -> Problem {
    let names = |ways: &[BootWay]| ways.iter().map(|way| format!("{way:?}")).collect::<Vec<_>>().join(", ");
    let offered: Vec<_> = ALL.into_iter().filter(|way| offers(view, *way)).collect();
    let offered = if offered.is_empty() { "none".into() } else { names(&offered) };
    let whose = if view.spec.boot_ways.is_empty() { " (the stock)" } else { "" };
    let bios = if boots_bios(view) { "; HTTPBoot needs UEFI and the host boots in BIOS mode" } else { "" };
    let message = format!(
        "spec.bootWays wants one of {}{whose}, the BMC offers {offered}{bios}; correct spec.bootWays or the BMC",
        names(&wanted(view))
    );
    Problem { reason: "NoBootWay", message }
}
