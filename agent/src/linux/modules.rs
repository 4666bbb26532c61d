//! Kernel modules: for each device that shows itself, the module that says it drives it, with what that one needs.
//!
//! Goes by depmod's tables in the ramdisk. A module that does not load is said and passed over: what needs it will be
//! missed by name soon enough.

use super::{Roots, names, text};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::CString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Parameters that modules get. SCSI looks for disks while its drivers load, and not later: so nobody has to guess
/// whether all have been found.
const PARAMETERS: [(&str, &str); 1] = [("scsi_mod", "scan=sync")];
/// Module that no device asks for: tags on the boot interface.
const ALWAYS: &str = "8021q";
/// Variables of UEFI.
const ON_UEFI: &str = "efivarfs";
/// The kernel's messages about devices: family of netlink, and its only group.
const UEVENTS: (isize, u32) = (15, 1);
/// No message for so long: what was found has been dealt with.
const QUIET: Duration = Duration::from_millis(200);

/// What depmod wrote.
#[derive(Debug, Default)]
struct Tables {
    /// Module: its file and those it needs, the innermost last, below the folder.
    files: BTreeMap<String, Vec<String>>,
    /// Bus: pattern and module.
    aliases: BTreeMap<String, Vec<(String, String)>>,
    /// Module: what it would like to have before it.
    before: BTreeMap<String, Vec<String>>,
}

impl Tables {
    fn read(folder: &Path) -> Tables {
        let table = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
        Tables::parse(&table("modules.dep"), &table("modules.alias"), &table("modules.softdep"))
    }

    fn parse(dep: &str, alias: &str, softdep: &str) -> Tables {
        let mut tables = Tables::default();
        for (file, needs) in dep.lines().filter_map(|line| line.split_once(':')) {
            let files = std::iter::once(file).chain(needs.split_whitespace()).map(str::to_owned).collect();
            tables.files.insert(name_of(file), files);
        }
        for line in alias.lines() {
            if let ["alias", pattern, module] = line.split_whitespace().collect::<Vec<_>>()[..] {
                let entry = (pattern.to_owned(), name_of(module));
                tables.aliases.entry(bus(pattern).to_owned()).or_default().push(entry);
            }
        }
        for line in softdep.lines() {
            let Some((module, wishes)) = line.strip_prefix("softdep ").and_then(|rest| rest.split_once(' ')) else {
                continue;
            };
            let pre = wishes.split("post:").next().unwrap_or_default().trim().trim_start_matches("pre:");
            tables.before.insert(name_of(module), pre.split_whitespace().map(name_of).collect());
        }
        tables
    }

    /// Modules that say they drive the device with that alias.
    fn drivers(&self, modalias: &str) -> Vec<&str> {
        let patterns = self.aliases.get(bus(modalias)).map(Vec::as_slice).unwrap_or_default();
        let fit = patterns.iter().filter(|(pattern, _)| fits(pattern.as_bytes(), modalias.as_bytes()));
        fit.map(|(_, module)| module.as_str()).collect()
    }
}

/// What stands before the first colon: patterns differ behind it only.
fn bus(alias: &str) -> &str {
    alias.split(':').next().unwrap_or(alias)
}

/// The name that the kernel uses, of a module or its file.
fn name_of(file: &str) -> String {
    let name = file.rsplit('/').next().unwrap_or(file);
    name.split(".ko").next().unwrap_or(name).replace('-', "_")
}

/// fnmatch(3) with `*`, `?` and `[a-z]`, which is what modules use.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    match (pattern.split_first(), text.split_first()) {
        (None, None) => true,
        (Some((b'*', [])), _) => true,
        (Some((b'*', rest)), _) => (0..=text.len()).any(|at| fits(rest, &text[at..])),
        (Some((b'?', rest)), Some((_, text))) => fits(rest, text),
        (Some((b'[', rest)), Some((byte, text))) => match rest.iter().position(|byte| *byte == b']') {
            Some(end) => in_set(&rest[..end], *byte) && fits(&rest[end + 1..], text),
            None => false,
        },
        (Some((wanted, rest)), Some((byte, text))) => wanted == byte && fits(rest, text),
        _ => false,
    }
}

fn in_set(set: &[u8], byte: u8) -> bool {
    let mut at = 0;
    while at < set.len() {
        let range = set.get(at + 1) == Some(&b'-') && at + 2 < set.len();
        let last = if range { set[at + 2] } else { set[at] };
        if (set[at]..=last).contains(&byte) {
            return true;
        }
        at += if range { 3 } else { 1 };
    }
    false
}

/// The modules of the running kernel.
pub struct Modules {
    roots: Roots,
    folder: PathBuf,
    tables: Tables,
    tried: BTreeSet<String>,
}

impl Modules {
    /// Of the running kernel, below `/lib/modules`. Without tables nothing is ever loaded.
    pub fn open(roots: &Roots) -> Modules {
        let release = text(roots.proc.join("sys/kernel/osrelease")).unwrap_or_default();
        let folder = Path::new("/lib/modules").join(release);
        Modules { roots: roots.clone(), tables: Tables::read(&folder), folder, tried: BTreeSet::new() }
    }

    /// Loads a module and what it needs. Those that are loaded or built in, and unknown ones, are passed over.
    pub fn load(&mut self, name: &str) {
        let name = name_of(name);
        if !self.tried.insert(name.clone()) {
            return;
        }
        for wish in self.tables.before.get(&name).cloned().unwrap_or_default() {
            self.load(&wish);
        }
        let files = self.tables.files.get(&name).cloned().unwrap_or_default();
        for file in files.iter().rev() {
            let module = name_of(file);
            if self.roots.sys.join("module").join(&module).exists() {
                continue;
            }
            self.tried.insert(module.clone());
            if let Err(why) = self.insert(file, &module) {
                tracing::warn!("module {module} does not load: {why}");
                return;
            }
            tracing::debug!("module {module}");
        }
    }

    fn insert(&self, file: &str, module: &str) -> std::io::Result<()> {
        let parameters = PARAMETERS.iter().find(|(of, _)| *of == module).map_or("", |(_, parameters)| parameters);
        let parameters = CString::new(parameters)?;
        let file = File::open(self.folder.join(file))?;
        match rustix::system::finit_module(&file, &parameters, 0) {
            Ok(()) | Err(rustix::io::Errno::EXIST) => Ok(()),
            Err(why) => Err(why.into()),
        }
    }

    /// Loads what the devices that are there ask for, and so on for those that appear by it.
    pub fn cold_plug(&mut self) {
        self.load(ALWAYS);
        if self.roots.sys.join("firmware/efi").exists() {
            self.load(ON_UEFI);
        }
        let listed = std::fs::read_to_string("/rackwright/modules").unwrap_or_default();
        listed.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|name| self.load(name));
        loop {
            let before = self.tried.len();
            let mut aliases = BTreeSet::new();
            collect(&self.roots.sys.join("devices"), &mut aliases);
            aliases.iter().for_each(|alias| self.drive(alias));
            if self.tried.len() == before {
                return;
            }
        }
    }

    fn drive(&mut self, modalias: &str) {
        let drivers: Vec<String> = self.tables.drivers(modalias).into_iter().map(str::to_owned).collect();
        drivers.iter().for_each(|name| self.load(name));
    }
}

/// The aliases of all devices below `folder`.
fn collect(folder: &Path, aliases: &mut BTreeSet<String>) {
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        match entry.file_type() {
            Ok(kind) if kind.is_dir() => collect(&entry.path(), aliases),
            Ok(_) if entry.file_name() == "modalias" => aliases.extend(text(entry.path())),
            _ => {}
        }
    }
}

/// Devices as they come: drivers are loaded for them for as long as the ramdisk runs.
#[derive(Clone, Debug)]
pub struct Devices {
    roots: Roots,
    /// When the kernel last said something of devices; `None` until those that were there have their drivers.
    last: Arc<Mutex<Option<Instant>>>,
}

impl Devices {
    /// Starts a thread that loads drivers.
    pub fn watch(roots: &Roots) -> Devices {
        let devices = Devices { roots: roots.clone(), last: Arc::default() };
        let (watching, roots) = (devices.clone(), roots.clone());
        std::thread::spawn(move || {
            // The socket comes first, so that nothing falls between.
            let events = events();
            let mut modules = Modules::open(&roots);
            modules.cold_plug();
            watching.heard();
            match events {
                Ok(events) => watching.follow(&events, &mut modules),
                Err(why) => tracing::warn!("devices that appear later get no driver: {why}"),
            }
        });
        devices
    }

    fn follow(&self, events: &rtnetlink::sys::Socket, modules: &mut Modules) {
        loop {
            // An overrun loses messages, which looking at all devices makes good.
            let Ok((message, _)) = events.recv_from_full() else {
                modules.cold_plug();
                continue;
            };
            self.heard();
            if let Some(modalias) = added(&message) {
                modules.drive(modalias);
                self.heard();
            }
        }
    }

    fn heard(&self) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// Waits until what is plugged in has shown itself, up to `limit`.
    pub async fn settle(&self, limit: Duration) {
        let until = Instant::now() + limit;
        while Instant::now() < until && !self.is_settled() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn is_settled(&self) -> bool {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.is_some_and(|last| last.elapsed() >= QUIET) && pending(&self.roots).is_none()
    }
}

/// A disk that is known to be there and not yet to be seen.
fn pending(roots: &Roots) -> Option<String> {
    let controllers = roots.sys.join("class/nvme");
    let starting = names(&controllers).into_iter().find(|name| {
        let state = text(controllers.join(name).join("state"));
        state.is_some_and(|state| matches!(state.as_str(), "new" | "connecting" | "resetting"))
    });
    let units = roots.sys.join("class/scsi_device");
    starting.or_else(|| {
        names(&units).into_iter().find(|name| {
            let device = units.join(name).join("device");
            text(device.join("type")).as_deref() == Some("0") && !device.join("block").exists()
        })
    })
}

fn events() -> std::io::Result<rtnetlink::sys::Socket> {
    let mut socket = rtnetlink::sys::Socket::new(UEVENTS.0)?;
    socket.bind(&rtnetlink::sys::SocketAddr::new(0, UEVENTS.1))?;
    Ok(socket)
}

/// The alias of a device that was added.
fn added(message: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(message).ok()?;
    let mut words = text.split('\0');
    words.next()?.starts_with("add@").then(|| words.find_map(|word| word.strip_prefix("MODALIAS="))).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn tables() -> Tables {
        Tables::parse(
            "kernel/drivers/net/virtio_net.ko: kernel/net/core/failover.ko kernel/drivers/virtio/virtio.ko\n\
             kernel/drivers/virtio/virtio.ko:\nkernel/drivers/char/hw_random/virtio-rng.ko:\n",
            "# Aliases\nalias virtio:d00000001v* virtio_net\nalias pci:v00001AF4d*sv*sd*bc*sc*i* virtio_pci\n\
             alias pci:v00001B36d0000000[1-3]sv*sd*bc*sc*i* odd\nalias fs-ext4 ext4\n",
            "softdep libcrc32c pre: crc32c post: other\n",
        )
    }

    #[test]
    fn a_device_finds_its_module_by_pattern() {
        let tables = tables();
        assert_eq!(tables.drivers("virtio:d00000001v00001AF4"), ["virtio_net"]);
        assert_eq!(tables.drivers("pci:v00001AF4d00001041sv00001AF4sd00001100bc02sc00i00"), ["virtio_pci"]);
        assert_eq!(tables.drivers("pci:v00001B36d00000002sv0sd0bc0sc0i0"), ["odd"]);
        assert!(tables.drivers("pci:v00001B36d00000004sv0sd0bc0sc0i0").is_empty());
        assert!(tables.drivers("usb:v1D6Bp0002").is_empty());
    }

    #[test]
    fn files_are_known_by_the_kernels_names_with_what_they_need() {
        let tables = tables();
        assert_eq!(tables.files["virtio_net"].len(), 3);
        assert_eq!(tables.files["virtio_rng"], ["kernel/drivers/char/hw_random/virtio-rng.ko"]);
        assert_eq!(tables.before["libcrc32c"], ["crc32c"]);
    }

    #[test]
    fn only_devices_that_are_added_get_a_driver() {
        let message = |action: &str| format!("{action}@/devices/x\0ACTION={action}\0MODALIAS=scsi:t-0x00\0SEQNUM=1\0");
        assert_eq!(added(message("add").as_bytes()), Some("scsi:t-0x00"));
        assert_eq!(added(message("remove").as_bytes()), None);
        assert_eq!(added(b"add@/devices/x\0ACTION=add\0"), None);
        assert_eq!(added(&[0xff, 0xfe]), None);
    }

    #[test]
    fn a_disk_that_has_not_shown_itself_is_waited_for() {
        let tree = super::super::inventory::fixture::Tree::new();
        assert_eq!(pending(&tree.roots()), None);
        tree.file("sys/class/scsi_device/0:0:0:0/device/type", "0\n");
        assert_eq!(pending(&tree.roots()).as_deref(), Some("0:0:0:0"));
        tree.file("sys/class/scsi_device/0:0:0:0/device/block/sda/size", "1\n");
        assert_eq!(pending(&tree.roots()), None);
        tree.file("sys/class/nvme/nvme0/state", "connecting\n");
        assert_eq!(pending(&tree.roots()).as_deref(), Some("nvme0"));
    }

    proptest! {
        #[test]
        fn matching_ends_and_never_panics(pattern in "[a*?\\[\\]-]{0,8}", text in "[a-c]{0,8}") {
            let _ = fits(pattern.as_bytes(), text.as_bytes());
        }
    }
}
