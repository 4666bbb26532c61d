//! Accelerators: graphics and processing devices of the vendors that make them.

use crate::linux::{Roots, names, text};
use rackwright_protocol::facts::Accelerator;

/// PCI classes (PCI Code and ID Assignment, base class and sub-class): VGA, 3D controller, processing accelerator.
const CLASSES: [&str; 3] = ["0x0300", "0x0302", "0x1200"];
const VENDORS: [(&str, &str); 3] = [("10de", "nvidia"), ("1002", "amd"), ("8086", "intel")];

/// Vendor and device of what servers are bought for. Others are told by their numbers.
const MODELS: [(&str, &str); 31] = [
    ("10de:1db1", "V100 SXM2 16GB"),
    ("10de:1db4", "V100 PCIe 16GB"),
    ("10de:1db5", "V100 SXM2 32GB"),
    ("10de:1db6", "V100 PCIe 32GB"),
    ("10de:1eb8", "T4"),
    ("10de:20b0", "A100 SXM4 40GB"),
    ("10de:20b2", "A100 SXM4 80GB"),
    ("10de:20b5", "A100 PCIe 80GB"),
    ("10de:20b7", "A30"),
    ("10de:20f1", "A100 PCIe 40GB"),
    ("10de:2230", "RTX A6000"),
    ("10de:2235", "A40"),
    ("10de:2236", "A10"),
    ("10de:2321", "H100 NVL"),
    ("10de:2330", "H100 SXM5 80GB"),
    ("10de:2331", "H100 PCIe 80GB"),
    ("10de:2335", "H200 SXM 141GB"),
    ("10de:233b", "H200 NVL"),
    ("10de:25b6", "A2"),
    ("10de:26b1", "RTX 6000 Ada"),
    ("10de:26b5", "L40"),
    ("10de:26b9", "L40S"),
    ("10de:27b8", "L4"),
    ("10de:2901", "B200"),
    ("1002:738c", "MI100"),
    ("1002:7408", "MI250X"),
    ("1002:740c", "MI250"),
    ("1002:740f", "MI210"),
    ("1002:74a0", "MI300A"),
    ("1002:74a1", "MI300X"),
    ("8086:0bd5", "Data Center GPU Max 1550"),
];

/// Accelerators in the order of their addresses.
pub fn accelerators(roots: &Roots) -> Vec<Accelerator> {
    let folder = roots.sys.join("bus/pci/devices");
    let found = names(&folder).into_iter().filter_map(|name| {
        let device = folder.join(name);
        let class = text(device.join("class"))?;
        let id = |file: &str| Some(text(device.join(file))?.trim_start_matches("0x").to_ascii_lowercase());
        let (vendor, id) = (id("vendor")?, id("device")?);
        let (_, known) = VENDORS.iter().find(|(number, _)| *number == vendor)?;
        CLASSES.iter().any(|wanted| class.starts_with(wanted)).then(|| {
            let numbers = format!("{vendor}:{id}");
            let model = MODELS.iter().find(|(of, _)| *of == numbers).map_or(numbers.as_str(), |(_, model)| model);
            Accelerator { vendor: (*known).into(), model: model.into() }
        })
    });
    found.collect()
}
