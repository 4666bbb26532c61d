//! `cargo xtask bench image`: the agent's way of an image to a disk, against `curl | zstd -d | dd` and against each part
//! alone, on the same bytes in the same run. The disk is a file, the network is loopback, of its own speed or of a real one's;
//! or all of it is done in a machine (`vm`).

mod vm;

use crate::bed;
use crate::command;
use crate::paths;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The slowest of network, digest and disk may be missed by this much. The digest counts because nothing is booted without
/// it; memory that stands for a disk and a network is faster than it.
const TARGET: f64 = 0.95;

/// Set for the program behind a link.
const BEHIND: &str = "RACKWRIGHT_BENCH_BEHIND_LINK";

/// Whether this program runs where loopback is as slow as a link.
pub fn is_behind_link() -> bool {
    std::env::var_os(BEHIND).is_some()
}

/// Starts this program once more, in a network of its own whose loopback carries `mbit` Mbit/s.
pub fn run_behind_link(on: On, mbit: u32) -> Result<()> {
    // There is no other network in there.
    match on {
        On::File => drop(build()?),
        On::Machine => drop(vm::parts()?),
    }
    let shape = format!("tc qdisc add dev lo root tbf rate {mbit}mbit burst 512kb latency 200ms");
    let line = format!(r#"ip link set lo up && {shape} && exec "$@""#);
    let mut inside = Command::new("unshare");
    inside.args(["--net", "--fork", "--kill-child", "sh", "-c", &line, "sh"]).arg(std::env::current_exe()?);
    inside.args(std::env::args_os().skip(1)).env(BEHIND, "1");
    let ended = inside.status().context("unshare (util-linux) cannot be started")?;
    ensure!(ended.success(), "see above; a link needs root and tc (iproute2), --link 0 needs neither");
    Ok(())
}

/// Where the ways are measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum On {
    /// On this computer; the disk is a file.
    File,
    /// In a machine of QEMU's.
    Machine,
}

/// Runs everything `rounds` times in turn on an image of `mib` MiB in `folder`; the best time of each counts.
pub fn run(on: On, mib: usize, rounds: usize, folder: &Path) -> Result<()> {
    let folder = folder.join(format!("rackwright-bench-image-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let folder = Folder(folder);
    let image = Image::make(&folder.0, mib)?;
    let best = match on {
        On::File => on_file(&build()?, &image, rounds)?,
        On::Machine => vm::run(&image, rounds)?,
    };
    println!("\n{:<44} {:>8} {:>12}", "", "best, s", "MiB/s of raw");
    for (what, seconds) in best.iter() {
        println!("{what:<44} {seconds:>8.2} {:>12.0}", mib as f64 / seconds);
    }
    let ratios = ratios(&best);
    let missed = ratios.iter().filter(|(_, ratio)| *ratio < TARGET).count();
    for (what, ratio) in &ratios {
        println!("{what}: {:.0} % (target at least {:.0} %)", ratio * 100.0, TARGET * 100.0);
    }
    if missed > 0 {
        bail!("{missed} of {} targets missed", ratios.len());
    }
    Ok(())
}

/// The best time of each way, seconds, in the order of [`WAYS`].
struct Best(Vec<f64>);

impl Best {
    fn new() -> Best {
        Best(vec![f64::MAX; WAYS.len()])
    }

    fn note(&mut self, way: usize, seconds: f64) {
        self.0[way] = self.0[way].min(seconds);
    }

    fn iter(&self) -> impl Iterator<Item = (&'static str, f64)> {
        WAYS.iter().map(|(name, _)| *name).zip(self.0.iter().copied())
    }

    fn of(&self, what: &str) -> f64 {
        self.iter().find(|(name, _)| *name == what).map_or(f64::MAX, |(_, seconds)| seconds)
    }
}

/// The image to bring to a disk.
struct Image<'a> {
    /// It is here, as `disk.raw` and `disk.raw.zst`.
    folder: &'a Path,
    mib: usize,
    /// Of what is served raw, and packed: `sha256:…`.
    digests: [String; 2],
}

impl Image<'_> {
    fn make(folder: &Path, mib: usize) -> Result<Image<'_>> {
        write_image(&folder.join("disk.raw"), mib)?;
        shell(folder, "zstd -q -3 -k disk.raw -o disk.raw.zst")?;
        let digest = |file: &str| -> Result<String> {
            let sum = command::output(Command::new("sha256sum").current_dir(folder).arg(file))?;
            Ok(format!("sha256:{}", sum.split(' ').next().unwrap_or_default()))
        };
        Ok(Image { folder, mib, digests: [digest("disk.raw")?, digest("disk.raw.zst")?] })
    }

    /// The same start for every way, for a shell: `disk` is full of other bytes, the image's own a MiB further on, and nothing
    /// is left to write for the kernel.
    fn other_bytes(&self, disk: &str) -> String {
        let dd = format!("dd if=disk.raw of={disk} bs=1M conv=fsync,notrunc status=none");
        format!("{dd} skip=1 && {dd} count=1 seek={}", self.mib - 1)
    }

    /// What a shell is given for a way: the folder in which it stands has the image, and the image is served at `url`.
    fn line(&self, way: &str, agent: &str, url: &str, disk: &str) -> String {
        let [raw, packed] = &self.digests;
        let dd = format!("dd of={disk} bs=4M iflag=fullblock conv=fsync,notrunc status=none");
        way.replace("AGENT", agent)
            .replace("URL", url)
            .replace("DD", &dd)
            .replace("DISK", disk)
            .replace("DIGEST-RAW", raw)
            .replace("DIGEST-PACKED", packed)
    }
}

/// The ways, and how a shell goes each of them.
const WAYS: [(&str, &str); 10] = [
    ("network alone: curl, packed", "curl -sf URL/disk.raw.zst -o /dev/null"),
    ("network alone: curl, raw", "curl -sf URL/disk.raw -o /dev/null"),
    ("unpacking alone: zstd -d", "zstd -q -d -c disk.raw.zst > /dev/null"),
    ("digest alone: openssl, packed", "openssl dgst -sha256 disk.raw.zst > /dev/null"),
    ("digest alone: openssl, raw", "openssl dgst -sha256 disk.raw > /dev/null"),
    ("disk alone: dd", "DD if=disk.raw"),
    ("curl | zstd -d | dd (no digest)", "curl -sf URL/disk.raw.zst | zstd -q -d -c | DD"),
    ("curl | dd (no digest)", "curl -sf URL/disk.raw | DD"),
    ("agent, raw.zst, with digest", "AGENT URL/disk.raw.zst DIGEST-PACKED raw.zst DISK"),
    ("agent, raw, with digest", "AGENT URL/disk.raw DIGEST-RAW raw DISK"),
];

/// Whether the agent goes this way. It says itself how long writing took, for it reads back as well.
fn is_agents(way: &str) -> bool {
    way.starts_with("agent")
}

/// Removed with all that is in it.
struct Folder(std::path::PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        let _left_behind = fs::remove_dir_all(&self.0);
    }
}

fn build() -> Result<std::path::PathBuf> {
    let mut cargo = Command::new(bed::cargo());
    cargo.current_dir(paths::root()).args(["build", "--quiet", "--profile", "agent"]);
    command::run(cargo.args(["--package", "rackwright-agent", "--example", "write_image"]))?;
    Ok(paths::target().join("agent/examples/write_image"))
}

fn on_file(agent: &Path, image: &Image<'_>, rounds: usize) -> Result<Best> {
    let folder = image.folder;
    let server = Server::start(folder)?;
    let url = format!("http://127.0.0.1:{}", server.port);
    let mut best = Best::new();
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        for (way, (what, line)) in WAYS.iter().enumerate() {
            shell(folder, &format!("{} && sync disk.raw disk.raw.zst", image.other_bytes("disk")))?;
            let line = image.line(line, &agent.display().to_string(), &url, "disk");
            let begun = Instant::now();
            let said = shell(folder, &line)?;
            let seconds = match said.split_whitespace().next() {
                Some(written) if is_agents(what) => written.parse()?,
                _ => begun.elapsed().as_secs_f64(),
            };
            best.note(way, seconds);
            if is_agents(what) {
                shell(folder, "cmp disk disk.raw").with_context(|| format!("{what} wrote other bytes"))?;
            }
        }
    }
    Ok(best)
}

/// What the targets are about.
fn ratios(best: &Best) -> Vec<(&'static str, f64)> {
    let slowest = |packing: &str| {
        let parts = ["network alone: curl", "digest alone: openssl"].map(|part| best.of(&format!("{part}, {packing}")));
        parts.into_iter().fold(best.of("disk alone: dd"), f64::max)
    };
    let (packed, raw) = (best.of("agent, raw.zst, with digest"), best.of("agent, raw, with digest"));
    let pipe = best.of("curl | zstd -d | dd (no digest)");
    vec![
        ("packed: agent to the slowest of network, digest and disk", slowest("packed") / packed),
        ("raw: agent to the slowest of network, digest and disk", slowest("raw") / raw),
        ("packed: agent to curl | zstd -d | dd, which checks nothing", pipe / packed),
    ]
}

fn shell(folder: &Path, line: &str) -> Result<String> {
    command::output(Command::new("sh").current_dir(folder).args(["-c", line]))
}

/// A disk image as they are: a third empty, a third packs well, a third does not. The same bytes every time.
fn write_image(path: &Path, mib: usize) -> Result<()> {
    let mut state = 0x5261_636b_7772_6967_u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut image = Vec::with_capacity(mib << 20);
    for megabyte in 0..mib {
        let end = (megabyte + 1) << 20;
        match megabyte % 3 {
            1 => image.resize(end, 0),
            2 => {
                while image.len() < end {
                    let word = next() % 4096 * 0x9e37_79b9;
                    image.extend(format!("{word:x} ").bytes());
                }
            }
            _ => {
                while image.len() < end {
                    image.extend(next().to_le_bytes());
                }
            }
        }
        image.truncate(end);
    }
    image[510..512].copy_from_slice(&[0x55, 0xaa]);
    Ok(fs::write(path, image)?)
}

/// Python's own web server; ends when dropped.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(folder: &Path) -> Result<Server> {
        let port = TcpListener::bind("127.0.0.1:0")?.local_addr()?.port();
        let mut python = Command::new("python3");
        python.args(["-m", "http.server", "--bind", "127.0.0.1", &port.to_string()]).current_dir(folder);
        let process =
            python.stdout(Stdio::null()).stderr(Stdio::null()).spawn().context("python3 cannot be started")?;
        let server = Server { process, port };
        for _ in 0..100 {
            if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        bail!("the web server did not begin to listen")
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _gone_already = self.process.kill();
        let _reaped = self.process.wait();
    }
}
