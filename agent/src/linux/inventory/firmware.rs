//! Firmware, identity, boot mode, Secure Boot and TPM.

use crate::linux::{Roots, text};
use rackwright_protocol::facts::{Facts, Firmware};

/// What vendors leave in SMBIOS fields that nobody filled in, lower case.
const PLACEHOLDERS: [&str; 10] = [
    "to be filled by o.e.m.",
    "default string",
    "not specified",
    "not available",
    "none",
    "unknown",
    "system serial number",
    "system product name",
    "0123456789",
    "o.e.m.",
];

/// The efivar that says whether Secure Boot is on (UEFI 2.10 section 3.3): four bytes of attributes and one of value.
const SECURE_BOOT: &str = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";

/// The fields of [`Facts`] that are about firmware; the others are empty.
pub fn read(roots: &Roots) -> Facts {
    let dmi = |file: &str| {
        let value = text(roots.sys.join("class/dmi/id").join(file))?;
        (!PLACEHOLDERS.contains(&value.to_ascii_lowercase().as_str())).then_some(value)
    };
    let firmware = Firmware { vendor: dmi("bios_vendor"), version: dmi("bios_version"), date: dmi("bios_date") };
    let uefi = roots.sys.join("firmware/efi").exists();
    Facts {
        vendor: dmi("sys_vendor"),
        model: dmi("product_name"),
        serial: dmi("product_serial"),
        system_uuid: dmi("product_uuid").map(|uuid| uuid.to_ascii_lowercase()).filter(|uuid| tells_apart(uuid)),
        firmware: (firmware != Firmware::default()).then_some(firmware),
        secure_boot: std::fs::read(roots.sys.join(SECURE_BOOT)).ok().and_then(|bytes| Some(*bytes.get(4)? == 1)),
        tpm_version: tpm(roots),
        boot_mode: Some(if uefi { "UEFI" } else { "BIOS" }.into()),
        ..Facts::default()
    }
}

/// All zeros or all ones stand for "not set" (DSP0134 section 7.2.1).
fn tells_apart(uuid: &str) -> bool {
    !uuid.chars().all(|c| matches!(c, '0' | '-')) && !uuid.chars().all(|c| matches!(c, 'f' | '-'))
}

/// The kernel's driver knows; without one the ACPI tables of the firmware do.
fn tpm(roots: &Roots) -> Option<String> {
    let driver = text(roots.sys.join("class/tpm/tpm0/tpm_version_major"));
    let table = |name: &str| roots.sys.join("firmware/acpi/tables").join(name).exists();
    let version = match driver.as_deref() {
        Some("2") => "2.0",
        Some("1") => "1.2",
        _ if table("TPM2") => "2.0",
        _ if table("TCPA") => "1.2",
        _ => return None,
    };
    Some(version.into())
}

#[cfg(test)]
mod tests {
    use super::super::fixture::Tree;
    use super::*;

    #[test]
    fn an_identity_that_tells_nothing_apart_is_left_out() {
        for uuid in ["00000000-0000-0000-0000-000000000000", "FFFFFFFF-FFFF-FFFF-FFFF-FFFFFFFFFFFF", "Not Specified"] {
            let tree = Tree::new();
            tree.file("sys/class/dmi/id/product_uuid", uuid);
            tree.file("sys/class/dmi/id/product_serial", "Default string");
            let facts = read(&tree.roots());
            assert_eq!((facts.system_uuid, facts.serial), (None, None), "{uuid}");
        }
    }

    #[test]
    fn the_tpm_is_known_by_its_driver_or_by_the_firmwares_table() {
        let version = |path: &str, content: &str| {
            let tree = Tree::new();
            tree.file(path, content);
            read(&tree.roots()).tpm_version
        };
        assert_eq!(version("sys/class/tpm/tpm0/tpm_version_major", "1\n").as_deref(), Some("1.2"));
        assert_eq!(version("sys/firmware/acpi/tables/TPM2", "").as_deref(), Some("2.0"));
        assert_eq!(version("sys/firmware/acpi/tables/TCPA", "").as_deref(), Some("1.2"));
        assert_eq!(version("sys/firmware/acpi/tables/APIC", ""), None);
    }
}
