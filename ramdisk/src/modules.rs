//! Which kernel modules the ramdisk carries, and the tables by which they are found and loaded.
//!
//! The tables are `depmod`'s (`modules.dep`, `modules.alias`, `modules.softdep`), made from what the modules say of
//! themselves, so that nothing on the build machine decides. Modules stay as they were signed.

use crate::elf;
use anyhow::{Context, Result, bail};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// What no ramdisk works without, in any kernel; as modules or built in.
const NEEDED: &str = "virtio_pci virtio_net virtio_blk virtio_scsi nvme sd_mod sr_mod isofs ext4 vfat xfs btrfs \
    nls_cp437 nls_ascii nls_utf8 efivarfs 8021q af_packet ipv6";

/// What is taken when the kernel has it: network adapters, disk controllers, USB (BMCs show virtual media and keyboards
/// there), the rest. Adapters that do nothing without firmware files (bnx2x, qede, …) are not here.
const WANTED: &str = "atlantic be2net bnxt_en cxgb4 e1000 e1000e ena enic fm10k gve hv_netvsc i40e iavf ice igb igc \
    ionic ixgbe ixgbevf mlx4_en mlx5_core r8169 sfc tg3 vmxnet3 \
    aacraid ahci ata_piix hpsa hv_storvsc isci megaraid_sas mpi3mr mpt3sas mptsas mptspi smartpqi vmd vmw_pvscsi \
    ehci_pci hid_generic uas uhci_hcd usb_storage usbhid xhci_pci \
    bonding cdrom nls_iso8859_1 tpm_crb tpm_tis virtio_rng";

/// A module.
#[derive(Clone, Debug)]
struct Module {
    /// Below the folder of its kernel.
    path: String,
    depends: Vec<String>,
    /// Names or aliases that it would like to have before it.
    before: Vec<String>,
    aliases: Vec<String>,
}

/// What was chosen from a kernel.
#[derive(Debug, Default)]
pub struct Chosen {
    /// Path below `lib/modules/VERSION` and content.
    pub files: BTreeMap<String, Vec<u8>>,
    /// Paths of the modules so that each stands behind what it depends on.
    pub order: Vec<String>,
    /// What was wanted and is not in this kernel.
    pub absent: Vec<&'static str>,
}

/// Chooses from the kernel whose modules are in `folder` (`lib/modules/VERSION`).
pub fn choose(folder: &Path) -> Result<Chosen> {
    choose_from(folder, NEEDED, WANTED)
}

/// Chooses `needed`, and `wanted` where there is such a thing, with what they depend on. Both are names with spaces
/// between them.
pub fn choose_from(folder: &Path, needed: &'static str, wanted: &'static str) -> Result<Chosen> {
    let all = read_all(folder)?;
    let builtin_list = fs::read(folder.join("modules.builtin")).context("the kernel's list of what is built in")?;
    let builtin: BTreeSet<String> = String::from_utf8_lossy(&builtin_list).lines().map(name_of).collect();

    let mut chosen = Chosen::default();
    let mut order = Order::default();
    for (names, must) in [(needed, true), (wanted, false)] {
        for name in names.split_whitespace() {
            if all.contains_key(name) {
                order.add(&all, name)?;
            } else if !builtin.contains(name) && must {
                bail!("this kernel has no {name}, as a module or built in");
            } else if !builtin.contains(name) {
                chosen.absent.push(name);
            }
        }
    }
    let order = order.names;
    for name in &order {
        let path = &all[name].path;
        chosen.files.insert(path.clone(), fs::read(folder.join(path)).with_context(|| path.clone())?);
        chosen.order.push(path.clone());
    }
    chosen.files.insert("modules.builtin".into(), builtin_list);
    chosen.files.insert("modules.dep".into(), dep_table(&all, &order)?.into_bytes());
    let table = |lines: fn(&str, &Module) -> Vec<String>| -> Vec<u8> {
        order.iter().flat_map(|name| lines(name, &all[name])).collect::<String>().into_bytes()
    };
    chosen.files.insert("modules.alias".into(), table(alias_lines));
    chosen.files.insert("modules.softdep".into(), table(softdep_lines));
    Ok(chosen)
}

/// Names so that each stands behind what it needs.
#[derive(Debug, Default)]
struct Order {
    names: Vec<String>,
    seen: BTreeSet<String>,
}

impl Order {
    /// Appends `name` after all that it needs, once. What it would like to have before it comes along when there is
    /// such a thing.
    fn add(&mut self, all: &BTreeMap<String, Module>, name: &str) -> Result<()> {
        let Some(module) = all.get(name) else { bail!("a module depends on {name}, which this kernel does not have") };
        if !self.seen.insert(name.to_string()) {
            return Ok(()); // also where wishes go in a circle
        }
        for other in &module.depends {
            self.add(all, other)?;
        }
        for wish in &module.before {
            let meets = |(name, other): &(&String, &Module)| *name == wish || other.aliases.contains(wish);
            for (other, _) in all.iter().filter(meets) {
                self.add(all, other)?;
            }
        }
        self.names.push(name.to_string());
        Ok(())
    }
}

fn dep_table(all: &BTreeMap<String, Module>, order: &[String]) -> Result<String> {
    let mut lines = String::new();
    for name in order {
        let mut before = Vec::new();
        depends(all, name, &mut before)?;
        let paths: Vec<_> = before.iter().rev().map(|name| format!(" {}", all[name].path)).collect();
        lines.push_str(&format!("{}:{}\n", all[name].path, paths.concat()));
    }
    Ok(lines)
}

/// What must be loaded before `name`, first things first.
fn depends(all: &BTreeMap<String, Module>, name: &str, before: &mut Vec<String>) -> Result<()> {
    let module = all.get(name).with_context(|| format!("there is no module {name}"))?;
    for other in &module.depends {
        depends(all, other, before)?;
        if !before.contains(other) {
            before.push(other.clone());
        }
    }
    Ok(())
}

fn alias_lines(name: &str, module: &Module) -> Vec<String> {
    module.aliases.iter().map(|alias| format!("alias {alias} {name}\n")).collect()
}

fn softdep_lines(name: &str, module: &Module) -> Vec<String> {
    match module.before.is_empty() {
        true => Vec::new(),
        false => vec![format!("softdep {name} pre: {}\n", module.before.join(" "))],
    }
}

fn read_all(folder: &Path) -> Result<BTreeMap<String, Module>> {
    let mut all = BTreeMap::new();
    let mut waiting = vec![folder.join("kernel")];
    while let Some(here) = waiting.pop() {
        for entry in fs::read_dir(&here).with_context(|| format!("{}", here.display()))? {
            let entry = entry?;
            let path = entry.path();
            if entry.file_type()?.is_dir() {
                waiting.push(path);
            } else if path.extension().is_some_and(|extension| extension == "ko") {
                let relative = path.strip_prefix(folder)?.to_string_lossy().into_owned();
                all.insert(name_of(&relative), read_module(&path, relative)?);
            } else if path.to_string_lossy().contains(".ko.") {
                bail!("{} is compressed: this kernel packs its modules in a way that we do not know", path.display());
            }
        }
    }
    Ok(all)
}

fn read_module(file: &Path, path: String) -> Result<Module> {
    let info = elf::module_info(&fs::read(file)?).with_context(|| format!("{path} is no kernel module"))?;
    let values = |key: &str| info.get(key).cloned().unwrap_or_default();
    let names =
        |list: &str| list.split([',', ' ']).filter(|name| !name.is_empty()).map(underscores).collect::<Vec<_>>();
    let wishes = values("softdep");
    let before = wishes.iter().filter_map(|wish| wish.strip_prefix("pre:")).flat_map(|wish| {
        let pre = wish.split("post:").next().unwrap_or_default();
        pre.split_whitespace().map(str::to_string).collect::<Vec<_>>()
    });
    Ok(Module {
        path,
        depends: values("depends").iter().flat_map(|list| names(list)).collect(),
        before: before.collect(),
        aliases: values("alias"),
    })
}

/// The name that the kernel uses, of a module's file.
fn name_of(path: &str) -> String {
    let file = path.rsplit('/').next().unwrap_or(path);
    underscores(file.split('.').next().unwrap_or(file))
}

fn underscores(name: &str) -> String {
    name.replace('-', "_")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn module(path: &str, depends: &[&str], before: &[&str], aliases: &[&str]) -> (String, Module) {
        let texts = |list: &[&str]| list.iter().map(|text| text.to_string()).collect();
        let module =
            Module { path: path.into(), depends: texts(depends), before: texts(before), aliases: texts(aliases) };
        (name_of(path), module)
    }

    fn kernel() -> BTreeMap<String, Module> {
        BTreeMap::from([
            module("kernel/net/virtio_net.ko", &["net_failover"], &[], &["virtio:d00000001v*"]),
            module("kernel/net/net_failover.ko", &["failover"], &[], &[]),
            module("kernel/net/failover.ko", &[], &[], &[]),
            module("kernel/fs/xfs.ko", &[], &["crc32c", "nobody"], &[]),
            module("kernel/crypto/crc32c-intel.ko", &[], &[], &["crc32c"]),
        ])
    }

    fn ordered(all: &BTreeMap<String, Module>, name: &str) -> Result<Vec<String>> {
        let mut order = Order::default();
        order.add(all, name).map(|()| order.names)
    }

    #[test]
    fn wishes_may_go_in_a_circle() {
        let all = BTreeMap::from([module("a.ko", &[], &["b"], &[]), module("b.ko", &[], &["a"], &[])]);
        assert_eq!(ordered(&all, "a").expect("ends"), ["b", "a"]);
    }

    #[test]
    fn what_a_module_depends_on_stands_behind_it_the_first_to_load_last() {
        let all = kernel();
        let order = ordered(&all, "virtio_net").expect("is there");
        assert_eq!(order, ["failover", "net_failover", "virtio_net"]);
        let last = dep_table(&all, &order).expect("complete").lines().last().map(str::to_string);
        let wanted = "kernel/net/virtio_net.ko: kernel/net/net_failover.ko kernel/net/failover.ko";
        assert_eq!(last.as_deref(), Some(wanted));
    }

    #[test]
    fn a_wish_is_met_by_alias_and_forgotten_when_nobody_meets_it() {
        let all = kernel();
        let order = ordered(&all, "xfs").expect("is there");
        assert_eq!(order, ["crc32c_intel", "xfs"]);
        assert_eq!(softdep_lines("xfs", &all["xfs"]), ["softdep xfs pre: crc32c nobody\n"]);
    }

    #[test]
    fn a_dependency_that_the_kernel_lacks_is_an_error() {
        let mut all = kernel();
        all.remove("failover");
        let why = ordered(&all, "virtio_net").expect_err("incomplete").to_string();
        assert!(why.contains("failover"), "{why}");
    }

    #[test]
    fn names_are_the_kernels_own() {
        assert_eq!(name_of("kernel/char/virtio-rng.ko"), "virtio_rng");
    }
}
