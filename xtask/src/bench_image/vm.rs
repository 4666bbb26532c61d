//! The same ways in a machine: Debian's cloud kernel as the ramdisk has it, an initial ramdisk with our agent and with curl,
//! zstd, openssl and dd beside it, a disk and a network card of virtio.
//!
//! Its processors are emulated, here as in `cargo xtask e2e-metal`, so that figures of two computers can be compared. All but
//! the disk is then processor time; what the ways are to each other still says whether the agent does its work at once or one
//! after the other.

use super::{Best, Image, Server, WAYS, is_agents};
use crate::{packages, paths, ramdisk};
use anyhow::{Context, Result, bail, ensure};
use rackwright_ramdisk::architecture::AMD64;
use rackwright_ramdisk::cpio::Tree;
use rackwright_ramdisk::packages::Packages;
use rackwright_ramdisk::{initrd, libraries, modules};
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Programs that are measured, by the package that has them.
const PROGRAMS: [(&str, &str); 4] =
    [("curl", "usr/bin/curl"), ("zstd", "usr/bin/zstd"), ("openssl", "usr/bin/openssl"), ("coreutils", "bin/dd")];
/// What those need.
const LIBRARIES: [&str; 36] = [
    "ca-certificates",
    "libbrotli1",
    "libc6",
    "libcom-err2",
    "libcurl4",
    "libffi8",
    "libgcc-s1",
    "libgmp10",
    "libgnutls30",
    "libgssapi-krb5-2",
    "libhogweed6",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap-2.5-0",
    "liblz4-1",
    "liblzma5",
    "libnettle8",
    "libnghttp2-14",
    "libp11-kit0",
    "libpsl5",
    "librtmp1",
    "libsasl2-2",
    "libssh2-1",
    "libssl3",
    "libstdc++6",
    "libtasn1-6",
    "libunistring2",
    "libzstd1",
    "zlib1g",
    "libselinux1",
    "libpcre2-8-0",
    "busybox-static",
    "linux-image-cloud-amd64",
];
const MODULES: &str = "virtio_pci virtio_net virtio_blk";
/// With the instructions for AES and SHA that servers have.
const CPU: &str = "max";
/// MiB beside what the image takes, which lies in memory both ways.
const MEMORY: usize = 768;
/// Stands before a way's number and its seconds.
const RESULT: &str = "RESULT";
const DONE: &str = "ALL-DONE";

/// Runs every way `rounds` times in a machine.
pub fn run(image: &Image<'_>, rounds: usize) -> Result<Best> {
    packages::need(&[("/usr/bin/qemu-system-x86_64", "qemu-system-x86")])?;
    let agent = ramdisk::build_write_image()?;
    let cache = paths::cache()?.join("debian");
    let names: Vec<&str> = PROGRAMS.iter().map(|(package, _)| *package).chain(LIBRARIES).collect();
    let mut debian = Packages::fetch(&cache, &names, &|line| println!("{line}"))?;
    if let Some(kernel) = debian.named("linux-image-cloud-amd64")?.stands_for("linux-image-").map(str::to_owned) {
        debian = debian.and(Packages::fetch(&cache, &[&kernel], &|line| println!("{line}"))?);
    }
    let server = Server::start(image.folder)?;
    let version = only_folder(&debian.path("lib/modules")?)?;
    let script = script(image, &format!("http://10.0.2.2:{}", server.port), rounds);
    let tree = tree(&debian, &version, &fs::read(agent)?, script)?;
    fs::write(image.folder.join("initrd"), initrd::compress(&tree.archive(4))?)?;
    fs::write(image.folder.join("kernel"), debian.read(&format!("boot/vmlinuz-{version}"))?)?;
    let disk = image.folder.join("vm-disk");
    File::create(&disk)?.set_len((image.mib as u64) << 20)?;
    follow(start(image, &disk)?, rounds)
}

fn only_folder(folder: &Path) -> Result<String> {
    let mut names = fs::read_dir(folder)?;
    let name = names.next().context("the kernel package has no modules")??.file_name();
    Ok(name.to_string_lossy().into_owned())
}

fn tree(debian: &Packages, version: &str, agent: &[u8], script: String) -> Result<Tree> {
    let mut tree = Tree::new();
    ["dev", "proc", "sys", "tmp"].iter().for_each(|folder| tree.folder(folder));
    tree.file("bin/busybox", 0o755, debian.read("bin/busybox")?);
    tree.link("bin/sh", "busybox");
    tree.file("init", 0o755, script.into_bytes());
    tree.file("bin/agent", 0o755, agent.to_vec());
    // A client of HTTP wants to trust somebody, also where nobody is asked for a certificate.
    let authority = debian.read("usr/share/ca-certificates/mozilla/ISRG_Root_X1.crt")?;
    tree.file("etc/ssl/certs/ca-certificates.crt", 0o644, authority);
    let programs = PROGRAMS.map(|(_, path)| debian.read(path));
    let programs = programs.into_iter().collect::<Result<Vec<_>>>()?;
    for ((_, path), program) in PROGRAMS.iter().zip(&programs) {
        let name = path.rsplit('/').next().unwrap_or(path);
        tree.file(&format!("bin/{name}"), 0o755, program.clone());
    }
    let programs: Vec<&[u8]> = programs.iter().map(Vec::as_slice).collect();
    for (path, data) in libraries::closure(&programs, debian, &AMD64)? {
        tree.file(&path, 0o755, data);
    }
    let mut chosen = modules::choose_from(&debian.path("lib/modules")?.join(version), MODULES, "")?;
    for (at, path) in chosen.order.iter().enumerate() {
        tree.file(&format!("modules/{at:02}.ko"), 0o644, chosen.files.remove(path).unwrap_or_default());
    }
    Ok(tree)
}

/// `/init` of the machine.
fn script(image: &Image<'_>, url: &str, rounds: usize) -> String {
    let mut text = format!(
        "#!/bin/busybox sh\n\
         for applet in mount insmod ip sync cmp cat poweroff sleep; do /bin/busybox ln -s busybox /bin/$applet; done\n\
         export PATH=/bin\n\
         mount -t devtmpfs dev /dev; mount -t proc proc /proc; mount -t sysfs sys /sys\n\
         mount -t tmpfs -o size=90% tmpfs /tmp\n\
         for module in /modules/*; do insmod $module; done\n\
         ip link set lo up; ip link set eth0 up; ip address add 10.0.2.15/24 dev eth0\n\
         cd /tmp\n\
         now() {{ read up rest < /proc/uptime; echo $up; }}\n\
         result() {{ echo {RESULT} $*; }}\n\
         curl -sSf --retry 5 --retry-all-errors {url}/disk.raw.zst -o disk.raw.zst || poweroff -f\n\
         zstd -q -d disk.raw.zst -o disk.raw || poweroff -f\n"
    );
    for _ in 0..rounds {
        for (way, (what, line)) in WAYS.iter().enumerate() {
            text += &format!("{} && echo 3 > /proc/sys/vm/drop_caches\n", image.other_bytes("/dev/vda"));
            let line = image.line(line, "agent", url, "/dev/vda");
            text += &match is_agents(what) {
                true => format!("said=$({line}) && cmp disk.raw /dev/vda && set -- $said && result {way} $1\n"),
                false => format!("from=$(now); {line} && result {way} $from $(now)\n"),
            };
        }
    }
    text + &format!("echo {DONE}\npoweroff -f\n")
}

fn start(image: &Image<'_>, disk: &Path) -> Result<Child> {
    println!("a machine with 2 emulated processors");
    let mut qemu = Command::new("qemu-system-x86_64");
    qemu.args(["-machine", "q35", "-smp", "2", "-nographic", "-no-reboot", "-nodefaults", "-serial", "stdio"]);
    qemu.args(["-accel", "tcg,thread=multi", "-cpu", CPU]);
    qemu.arg("-m").arg((MEMORY + image.mib * 2).to_string());
    qemu.arg("-kernel").arg(image.folder.join("kernel")).arg("-initrd").arg(image.folder.join("initrd"));
    qemu.args(["-append", "console=ttyS0 quiet panic=-1"]);
    qemu.arg("-drive").arg(format!("file={},format=raw,if=virtio,cache=unsafe", disk.display()));
    qemu.args(["-netdev", "user,id=net", "-device", "virtio-net-pci,netdev=net,romfile="]);
    qemu.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("qemu-system-x86_64 cannot be started")
}

/// Reads what the machine says until it is off.
fn follow(mut qemu: Child, rounds: usize) -> Result<Best> {
    let mut best = Best::new();
    let (mut results, mut done, mut tail) = (0, false, Vec::new());
    let output = qemu.stdout.take().context("the machine's console")?;
    for line in BufReader::new(output).lines() {
        let line = line?.trim_end().to_owned();
        // The kernel may have begun the line.
        match line.split_once(RESULT) {
            Some((_, result)) => {
                let (way, seconds) = parse(result).with_context(|| format!("the machine says {line:?}"))?;
                println!("{:<44} {seconds:>8.2}", WAYS[way].0);
                best.note(way, seconds);
                results += 1;
            }
            None => tail.push(line.clone()),
        }
        done |= line == DONE;
    }
    let status = qemu.wait()?;
    if !done || results != rounds * WAYS.len() {
        let tail = tail[tail.len().saturating_sub(20)..].join("\n");
        bail!("the machine ended with {status} after {results} of {} measurements:\n{tail}", rounds * WAYS.len());
    }
    Ok(best)
}

/// Number of a way and its seconds: told, or as two readings of a clock.
fn parse(result: &str) -> Result<(usize, f64)> {
    let mut words = result.split_whitespace();
    let way = words.next().context("no way")?.parse()?;
    let times = words.map(str::parse).collect::<Result<Vec<f64>, _>>()?;
    let seconds = match times[..] {
        [seconds] => seconds,
        [from, to] => to - from,
        _ => bail!("no time"),
    };
    ensure!(way < WAYS.len(), "no such way");
    Ok((way, seconds))
}
