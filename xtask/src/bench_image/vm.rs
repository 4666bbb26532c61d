//! The same ways in a machine: Debian's cloud kernel as the ramdisk has it, an initial ramdisk with our agent and with curl,
//! zstd, openssl and dd beside it, a disk and a network card of virtio.
//!
//! Its processors are emulated, here as in `cargo xtask e2e-metal`, so that figures of two computers can be compared. All but
//! the disk is then processor time; what the ways are to each other still says whether the agent does its work at once or one
//! after the other.

use super::{Best, Image, Server, WAYS, is_agents};
use crate::debian::{Debian, INIT};
use crate::{packages, ramdisk};
use anyhow::{Context, Result, bail, ensure};
use rackwright_ramdisk::initrd;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// What is measured beside curl and the agent, and the packages of that.
const PROGRAMS: [&str; 3] = ["usr/bin/zstd", "usr/bin/openssl", "bin/dd"];
const PACKAGES: [&str; 5] = ["coreutils", "liblz4-1", "libstdc++6", "openssl", "zstd"];
/// With the instructions for AES and SHA that servers have.
const CPU: &str = "max";
/// MiB beside what the image takes, which lies in memory both ways.
const MEMORY: usize = 768;
/// Stands before a way's number and its seconds.
const RESULT: &str = "RESULT";
const DONE: &str = "ALL-DONE";

/// The agent and everything of Debian's, fetched and built when it is not there.
pub fn parts() -> Result<(Vec<u8>, Debian)> {
    packages::need(&[("/usr/bin/qemu-system-x86_64", "qemu-system-x86")])?;
    let agent = fs::read(ramdisk::build_write_image()?)?;
    Ok((agent, Debian::fetch(&PACKAGES, &|line| println!("{line}"))?))
}

/// Runs every way `rounds` times in a machine.
pub fn run(image: &Image<'_>, rounds: usize) -> Result<Best> {
    let (agent, debian) = parts()?;
    let server = Server::start(image.folder)?;
    let init = init(image, &format!("http://10.0.2.2:{}", server.port), rounds);
    let mut tree = debian.tree(init, "", &PROGRAMS)?;
    tree.file("usr/bin/agent", 0o755, agent);
    fs::write(image.folder.join("initrd"), initrd::compress(&tree.archive(4))?)?;
    fs::write(image.folder.join("kernel"), debian.kernel()?)?;
    let disk = image.folder.join("vm-disk");
    File::create(&disk)?.set_len((image.mib as u64) << 20)?;
    follow(start(image, &disk)?, rounds)
}

/// `/init` of the machine. Debian's programs are used in the place of busybox' where both are there.
fn init(image: &Image<'_>, url: &str, rounds: usize) -> String {
    let mut text = format!(
        "{INIT}\
         export PATH=/usr/bin:/bin\n\
         ip address add 10.0.2.15/24 dev eth0\n\
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
