//! Starting another kernel from this one: of the system that was just written, or of an installer.
//!
//! The written system says itself how it boots: Boot Loader Specification entries, unified kernel images, or GRUB's
//! configuration, in this order. Its file systems are mounted read-only and without replaying a journal. Debian's
//! `kexec` loads the kernel; what cannot be loaded is an error and never a guess.

mod bls;
mod grub;
mod mounts;
mod uki;

use crate::MachineError;
use crate::linux::Roots;
use crate::linux::programs::Programs;
use mounts::Mounts;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Folder for what is unpacked before it is loaded.
const SCRATCH: &str = "/tmp";
/// How long one program may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a system's own configuration says is booted. Paths are of the system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Entry {
    kernel: String,
    initrds: Vec<String>,
    options: String,
}

/// What is loaded.
#[derive(Debug, PartialEq, Eq)]
struct Kernel {
    image: PathBuf,
    initrd: Option<PathBuf>,
    command_line: String,
}

fn failed(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> MachineError {
    move |why| MachineError(format!("{what}: {why}"))
}

/// Loads the kernel of the system on `device`, for example `/dev/vda`.
pub async fn load_written(roots: &Roots, programs: &Programs, device: &str) -> Result<(), MachineError> {
    // The partition table is new: whoever reads it is the kernel.
    if let Err(why) = programs.run("busybox", &["blockdev", "--rereadpt", device], PATIENCE).await {
        tracing::debug!("{device}: {why}");
    }
    let mounts = Mounts::attach(roots, device, Path::new("/mnt")).await?;
    let kernel = find(mounts.folders(), Path::new(SCRATCH))?;
    tracing::info!("starting {} next: {}", kernel.image.display(), kernel.command_line);
    load(programs, &kernel.image, kernel.initrd.as_deref(), &kernel.command_line).await
}

/// Loads a kernel: by the system call that checks signatures, or else by the one that every kernel has.
pub async fn load(
    programs: &Programs,
    image: &Path,
    initrd: Option<&Path>,
    command_line: &str,
) -> Result<(), MachineError> {
    let mut arguments = vec![format!("--command-line={command_line}")];
    arguments.extend(initrd.map(|initrd| format!("--initrd={}", initrd.display())));
    arguments.push(image.display().to_string());
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let checked = programs.run("kexec", &[&["-s", "-l"], arguments.as_slice()].concat(), PATIENCE).await;
    let Err(first) = checked else { return Ok(()) };
    let classic = programs.run("kexec", &[&["-c", "-l"], arguments.as_slice()].concat(), PATIENCE).await;
    classic.map(drop).map_err(|second| MachineError(format!("{first}; {second}")))
}

/// What the system in these folders boots. What has to be unpacked goes to `scratch`.
fn find(folders: &[PathBuf], scratch: &Path) -> Result<Kernel, MachineError> {
    for folder in folders {
        if let Some(entry) = bls::default(folder) {
            return resolve(entry, folder, folders, scratch);
        }
    }
    for folder in folders {
        if let Some(image) = uki::newest(folder) {
            return uki::unpack(&image, scratch);
        }
    }
    for folder in folders {
        if let Some(entry) = grub::default(folder) {
            return resolve(entry, folder, folders, scratch);
        }
    }
    Err(MachineError("no boot loader entry, unified kernel image or GRUB configuration is on it".into()))
}

/// Finds the entry's files: on the file system of the entry, or on another of the system.
fn resolve(entry: Entry, own: &Path, folders: &[PathBuf], scratch: &Path) -> Result<Kernel, MachineError> {
    let locate = |path: &str| {
        let path = path.trim_start_matches('/');
        let places = std::iter::once(own).chain(folders.iter().map(PathBuf::as_path));
        let mut candidates = places.flat_map(|folder| [folder.join(path), folder.join("boot").join(path)]);
        let climbs = path.split('/').any(|part| part == "..");
        let found = if climbs { None } else { candidates.find(|file| file.is_file()) };
        found.ok_or_else(|| MachineError(format!("/{path}, which its configuration names, is not there")))
    };
    if !entry.options.split_whitespace().any(|word| word.starts_with("root=") || word.starts_with("ostree=")) {
        return Err(MachineError(format!("its command line names no root file system: {:?}", entry.options)));
    }
    let image = locate(&entry.kernel)?;
    let initrds = entry.initrds.iter().map(|path| locate(path)).collect::<Result<Vec<_>, _>>()?;
    let initrd = match initrds.as_slice() {
        [] => None,
        [one] => Some(one.clone()),
        several => Some(joined(several, &scratch.join("kexec-initrd")).map_err(failed("initial ramdisks"))?),
    };
    Ok(Kernel { image, initrd, command_line: entry.options })
}

/// Initial ramdisks one behind the other, each on a multiple of 4, as boot loaders hand them over.
fn joined(files: &[PathBuf], to: &Path) -> std::io::Result<PathBuf> {
    let mut whole = std::fs::File::create(to)?;
    for file in files {
        let length = std::io::copy(&mut std::fs::File::open(file)?, &mut whole)?;
        let padding = length.next_multiple_of(4) - length;
        std::io::Write::write_all(&mut whole, &vec![0; usize::try_from(padding).unwrap_or(0)])?;
    }
    Ok(to.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use tempfile::TempDir;

    /// A boot partition and a root partition.
    struct System(TempDir);

    impl System {
        fn new(files: &[(&str, &str)]) -> System {
            let system = System(tempfile::tempdir().expect("a folder"));
            for (path, content) in files {
                let path = system.0.path().join(path);
                std::fs::create_dir_all(path.parent().expect("a folder")).expect("a folder");
                std::fs::write(path, content).expect("a file");
            }
            system
        }

        fn find(&self) -> Result<Kernel, MachineError> {
            let folders = [self.0.path().join("p1"), self.0.path().join("p2")];
            find(&folders, self.0.path())
        }

        fn path(&self, path: &str) -> PathBuf {
            self.0.path().join(path)
        }
    }

    #[test]
    fn grub_on_the_root_file_system_is_followed() {
        let system = System::new(&[
            ("p1/EFI/debian/grub.cfg", "configfile $prefix/grub.cfg\n"),
            ("p2/boot/vmlinuz-6.1", "kernel"),
            ("p2/boot/initrd.img-6.1", "initrd"),
            (
                "p2/boot/grub/grub.cfg",
                "menuentry 'Debian' {\n linux /boot/vmlinuz-6.1 root=UUID=1 ro\n initrd /boot/initrd.img-6.1\n}\n",
            ),
        ]);
        let kernel = system.find().expect("found");
        assert_eq!(kernel.image, system.path("p2/boot/vmlinuz-6.1"));
        assert_eq!(kernel.initrd, Some(system.path("p2/boot/initrd.img-6.1")));
        assert_eq!(kernel.command_line, "root=UUID=1 ro");
    }

    #[test]
    fn an_entry_on_a_boot_partition_finds_its_files_there() {
        let system = System::new(&[
            (
                "p1/loader/entries/fedora.conf",
                "linux /vmlinuz\ninitrd /one.img\ninitrd /two.img\noptions root=LABEL=r\n",
            ),
            ("p1/vmlinuz", "kernel"),
            ("p1/one.img", "12345"),
            ("p1/two.img", "678"),
        ]);
        let kernel = system.find().expect("found");
        assert_eq!(kernel.image, system.path("p1/vmlinuz"));
        let initrd = std::fs::read(kernel.initrd.expect("joined")).expect("readable");
        assert_eq!(initrd, b"12345\0\0\x00678\0");
    }

    #[test]
    fn what_cannot_be_right_is_refused() {
        let refused = |files: &[(&str, &str)]| System::new(files).find().expect_err("refused").0;
        assert!(refused(&[]).starts_with("no boot loader entry"));
        let entry = |text: &'static str| [("p1/loader/entries/a.conf", text), ("p1/vmlinuz", "kernel")];
        assert!(refused(&entry("linux /vmlinuz\noptions quiet\n")).contains("names no root file system"));
        assert!(refused(&entry("linux /other\noptions root=x\n")).starts_with("/other, which its configuration names"));
        assert!(refused(&entry("linux /../p1/vmlinuz\noptions root=x\n")).contains("is not there"));
    }
}
