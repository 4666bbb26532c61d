//! The shared libraries that a few programs of Debian need, found in Debian's own packages and never on this machine.

use crate::architecture::Architecture;
use crate::elf;
use crate::packages::Packages;
use anyhow::{Context, Result};
use std::collections::BTreeMap;

/// Path in the ramdisk and content of every library that `programs` need, and those need in turn.
pub fn closure(
    programs: &[&[u8]],
    packages: &Packages,
    architecture: &Architecture,
) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut waiting = Vec::new();
    for program in programs {
        waiting.extend(elf::needed(program).context("a program of Debian is no ELF file")?);
    }
    while let Some(name) = waiting.pop() {
        if architecture.loader.ends_with(&format!("/{name}")) {
            found.insert(architecture.loader.to_string(), packages.read(architecture.loader)?);
            continue;
        }
        let path = format!("lib/{}/{name}", architecture.libraries);
        if found.contains_key(&path) {
            continue;
        }
        let data = packages.read(&path).or_else(|_| packages.read(&format!("usr/{path}")));
        let data = data.with_context(|| format!("no package on the list has the library {name}"))?;
        waiting.extend(elf::needed(&data).with_context(|| format!("{name} is no ELF file"))?);
        found.insert(path, data);
    }
    if !found.is_empty() {
        found.insert(architecture.loader.to_string(), packages.read(architecture.loader)?);
    }
    Ok(found)
}
