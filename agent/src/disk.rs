//! Which disk an image goes to: the one that all hints fit, and never a guess between two. And which disks are gone.

use crate::Failure;
use rackwright_protocol::facts::{Disk, RootDevice};

const GIB: i64 = 1 << 30;

/// The one disk that fits all hints; without hints the only disk. The failure lists every disk and why it is not taken.
pub fn choose<'a>(disks: &'a [Disk], hints: Option<&RootDevice>) -> Result<&'a Disk, Failure> {
    let fits: Vec<&Disk> = disks.iter().filter(|disk| disk.misfit(hints).is_none()).collect();
    match fits.as_slice() {
        [disk] => Ok(disk),
        [] if disks.is_empty() => Err(Failure::new("NoDisk", "this machine shows no disk")),
        [] => Err(Failure::new("NoDiskMatches", format!("no disk fits rootDevice: {}", list(disks, hints)))),
        _ => {
            let ask = match hints {
                Some(_) => "more than one disk fits rootDevice; narrow it down",
                None => "there are several disks and no rootDevice; say which one",
            };
            Err(Failure::new("SeveralDisksMatch", format!("{ask}: {}", list(disks, hints))))
        }
    }
}

/// Those of `known` that are not among `found`. Each disk that was found stands for one: a controller may give the same
/// serial number to several.
pub(crate) fn gone<'a>(known: &'a [Disk], found: &[Disk]) -> Vec<&'a Disk> {
    let mut left: Vec<&Disk> = found.iter().collect();
    let is_gone = |disk: &&'a Disk| match left.iter().position(|other| disk.is(other)) {
        Some(at) => {
            left.swap_remove(at);
            false
        }
        None => true,
    };
    known.iter().filter(is_gone).collect()
}

/// A disk as a person finds it.
pub(crate) fn name(disk: &Disk) -> String {
    let serial = disk.serial.as_deref().unwrap_or("none");
    format!("{} ({} GiB, serial {serial})", disk.device, disk.size_bytes / GIB)
}

fn list(disks: &[Disk], hints: Option<&RootDevice>) -> String {
    let verdict = |disk: &Disk| disk.misfit(hints).unwrap_or_else(|| "fits".into());
    let line = |disk: &Disk| format!("{}: {}", name(disk), verdict(disk));
    disks.iter().map(line).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn disks() -> Vec<Disk> {
        let disk = |device: &str, gib: i64, rotational, model: &str, serial: Option<&str>| Disk {
            device: device.into(),
            size_bytes: gib * GIB,
            rotational,
            model: Some(model.into()),
            serial: serial.map(Into::into),
            wwn: serial.map(|serial| format!("wwn-{serial}")),
            by_path: serial.map(|serial| format!("pci-{serial}")),
            read_only: false,
        };
        vec![
            disk("/dev/sda", 4000, true, "Slow 4T", Some("S1")),
            disk("/dev/nvme0n1", 480, false, "Fast 480", Some("S2")),
            disk("/dev/nvme1n1", 960, false, "Fast 960", None),
        ]
    }

    fn hints(edit: impl FnOnce(&mut RootDevice)) -> RootDevice {
        let mut hints = RootDevice::default();
        edit(&mut hints);
        hints
    }

    #[test]
    fn the_one_disk_that_fits_all_hints_is_taken() {
        for (hints, device) in [
            (hints(|h| h.rotational = Some(true)), "/dev/sda"),
            (hints(|h| h.serial = Some("S2".into())), "/dev/nvme0n1"),
            (hints(|h| h.wwn = Some("wwn-S1".into())), "/dev/sda"),
            (hints(|h| h.by_path = Some("pci-S2".into())), "/dev/nvme0n1"),
            (hints(|h| h.model = Some("960".into())), "/dev/nvme1n1"),
            (hints(|h| h.device_name = Some("/dev/nvme0n1".into())), "/dev/nvme0n1"),
            (hints(|h| (h.min_size_gib, h.rotational) = (Some(500), Some(false))), "/dev/nvme1n1"),
            (hints(|h| h.min_size_gib = Some(4000)), "/dev/sda"),
        ] {
            assert_eq!(choose(&disks(), Some(&hints)).map(|disk| disk.device.clone()), Ok(device.into()), "{hints:?}");
        }
    }

    #[test]
    fn without_hints_only_a_single_disk_is_taken() {
        assert_eq!(choose(&disks()[..1], None).map(|disk| disk.device.as_str()), Ok("/dev/sda"));
        assert_eq!(choose(&[], None).map_err(|failure| failure.reason), Err("NoDisk".into()));
        let failure = choose(&disks(), None).expect_err("three disks");
        assert_eq!(failure.reason, "SeveralDisksMatch");
        assert!(disks().iter().all(|disk| failure.message.contains(&disk.device)), "{}", failure.message);
    }

    #[test]
    fn a_disk_that_cannot_be_written_is_never_chosen() {
        let mut disks = disks();
        disks[2].read_only = true;
        let fast = hints(|h| h.rotational = Some(false));
        assert_eq!(choose(&disks, Some(&fast)).map(|disk| disk.device.as_str()), Ok("/dev/nvme0n1"));
        let failure = choose(&disks[2..], None).expect_err("it is read-only");
        assert!(failure.message.ends_with("it is read-only"), "{}", failure.message);
    }

    #[test]
    fn two_that_fit_are_listed_with_the_one_that_does_not() {
        let failure = choose(&disks(), Some(&hints(|h| h.rotational = Some(false)))).expect_err("two fit");
        assert_eq!(
            failure.message,
            "more than one disk fits rootDevice; narrow it down: /dev/sda (4000 GiB, serial S1): it turns; \
             /dev/nvme0n1 (480 GiB, serial S2): fits; /dev/nvme1n1 (960 GiB, serial none): fits"
        );
    }

    #[test]
    fn none_that_fits_is_listed_with_the_reasons() {
        for (hints, why) in [
            (hints(|h| h.min_size_gib = Some(5000)), "smaller than 5000 GiB"),
            (hints(|h| h.serial = Some("S9".into())), "serial is unknown, not S9"),
            (hints(|h| h.wwn = Some("w".into())), "wwn is wwn-S1, not w"),
            (hints(|h| h.model = Some("fast".into())), "model Fast 480 does not contain \"fast\""),
            (hints(|h| h.device_name = Some("/dev/sdz".into())), "device is /dev/sda, not /dev/sdz"),
            (hints(|h| (h.rotational, h.serial) = (Some(true), Some("S2".into()))), "it does not turn"),
        ] {
            let failure = choose(&disks(), Some(&hints)).expect_err("none fits");
            assert_eq!(failure.reason, "NoDiskMatches");
            assert!(failure.message.contains(why), "{}", failure.message);
        }
    }

    #[test]
    fn a_place_that_none_or_two_disks_have_chooses_none() {
        let at = |path: &str| hints(|h| h.by_path = Some(path.into()));
        let failure = choose(&disks(), Some(&at("pci-0000:00:09.0"))).expect_err("nothing is plugged in there");
        assert_eq!(failure.reason, "NoDiskMatches");
        assert!(failure.message.contains("path is pci-S1, not pci-0000:00:09.0"), "{}", failure.message);
        // Two namespaces of one controller.
        let mut disks = disks();
        disks[2].by_path = Some("pci-S2".into());
        let failure = choose(&disks, Some(&at("pci-S2"))).expect_err("two are plugged in there");
        assert_eq!(failure.reason, "SeveralDisksMatch");
    }

    #[test]
    fn a_disk_that_is_known_is_gone_when_nothing_that_was_found_is_it() {
        let known = disks();
        let mut found = disks();
        found.reverse();
        for (index, disk) in found.iter_mut().enumerate() {
            disk.device = format!("/dev/disk{index}"); // kernels name them anew
        }
        let names = |disks: Vec<&Disk>| disks.iter().map(|disk| disk.device.clone()).collect::<Vec<_>>();
        assert_eq!(names(gone(&known[..2], &found)), [""; 0]);
        // Without serial number, WWN or place there is only its name to know it by.
        assert_eq!(names(gone(&known, &found)), ["/dev/nvme1n1"]);
        found.remove(1);
        assert_eq!(names(gone(&known, &found)), ["/dev/nvme0n1", "/dev/nvme1n1"]);
        assert_eq!(gone(&[], &found).len(), 0);
    }

    #[test]
    fn one_disk_does_not_stand_for_two_that_a_controller_gave_the_same_serial_number() {
        let volume = |device: &str| Disk { device: device.into(), serial: Some("PERC".into()), ..Disk::default() };
        let known = [volume("/dev/sda"), volume("/dev/sdb")];
        assert_eq!(gone(&known, &known).len(), 0);
        assert_eq!(gone(&known, &known[1..]).len(), 1);
    }

    #[test]
    fn a_disk_of_another_size_in_the_same_slot_is_another() {
        let slot = |gib: i64| Disk { by_path: Some("slot".into()), size_bytes: gib * GIB, ..Disk::default() };
        assert_eq!(gone(&[slot(480)], &[slot(480)]).len(), 0);
        assert_eq!(gone(&[slot(480)], &[slot(960)]).len(), 1);
    }
}
