//! `cargo xtask bench image`: the agent's way of an image to a disk, against `curl | zstd -d | dd` and against each part
//! alone, on the same bytes in the same run. The disk is a file, the network is loopback, of its own speed or of a real one's.

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
pub fn run_behind_link(mbit: u32) -> Result<()> {
    build()?; // there is no other network in there
    let shape = format!("tc qdisc add dev lo root tbf rate {mbit}mbit burst 512kb latency 200ms");
    let line = format!(r#"ip link set lo up && {shape} && exec "$@""#);
    let mut inside = Command::new("unshare");
    inside.args(["--net", "--fork", "--kill-child", "sh", "-c", &line, "sh"]).arg(std::env::current_exe()?);
    inside.args(std::env::args_os().skip(1)).env(BEHIND, "1");
    let ended = inside.status().context("unshare (util-linux) cannot be started")?;
    ensure!(ended.success(), "see above; a link needs root and tc (iproute2), --link 0 needs neither");
    Ok(())
}

/// Runs everything `rounds` times in turn on an image of `mib` MiB in `folder`; the best time of each counts.
pub fn run(mib: usize, rounds: usize, folder: &Path) -> Result<()> {
    let agent = build()?;
    let folder = folder.join(format!("rackwright-bench-image-{}", std::process::id()));
    fs::create_dir_all(&folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let folder = Folder(folder);
    let measured = measure(&agent, &folder.0, mib, rounds)?;
    println!("\n{:<44} {:>8} {:>12}", "", "best, s", "MiB/s of raw");
    for (what, seconds) in &measured.lines {
        println!("{what:<44} {seconds:>8.2} {:>12.0}", mib as f64 / seconds);
    }
    let missed: Vec<_> = measured.ratios.iter().filter(|(_, ratio)| *ratio < TARGET).collect();
    for (what, ratio) in &measured.ratios {
        println!("{what}: {:.0} % (target at least {:.0} %)", ratio * 100.0, TARGET * 100.0);
    }
    if !missed.is_empty() {
        bail!("{} of {} targets missed", missed.len(), measured.ratios.len());
    }
    Ok(())
}

struct Measured {
    lines: Vec<(String, f64)>,
    ratios: Vec<(String, f64)>,
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

fn measure(agent: &Path, folder: &Path, mib: usize, rounds: usize) -> Result<Measured> {
    write_image(&folder.join("disk.raw"), mib)?;
    shell(folder, "zstd -q -3 -k disk.raw -o disk.raw.zst")?;
    let server = Server::start(folder)?;
    let url = format!("http://127.0.0.1:{}", server.port);
    let digest = |file: &str| -> Result<String> {
        let sum = command::output(Command::new("sha256sum").current_dir(folder).arg(file))?;
        Ok(format!("sha256:{}", sum.split(' ').next().unwrap_or_default()))
    };
    let by_agent = |file: &str, format: &str| -> Result<String> {
        Ok(format!("{} {url}/{file} {} {format} disk", agent.display(), digest(file)?))
    };
    let dd = "dd of=disk bs=4M iflag=fullblock conv=fsync,notrunc status=none";
    let ways = [
        ("network alone: curl, packed", format!("curl -sf {url}/disk.raw.zst -o /dev/null")),
        ("network alone: curl, raw", format!("curl -sf {url}/disk.raw -o /dev/null")),
        ("unpacking alone: zstd -d", "zstd -q -d -c disk.raw.zst > /dev/null".into()),
        ("digest alone: openssl, packed", "openssl dgst -sha256 disk.raw.zst > /dev/null".into()),
        ("digest alone: openssl, raw", "openssl dgst -sha256 disk.raw > /dev/null".into()),
        ("disk alone: dd", format!("{dd} if=disk.raw")),
        ("curl | zstd -d | dd (no digest)", format!("curl -sf {url}/disk.raw.zst | zstd -q -d -c | {dd}")),
        ("curl | dd (no digest)", format!("curl -sf {url}/disk.raw | {dd}")),
        ("agent, raw.zst, with digest", by_agent("disk.raw.zst", "raw.zst")?),
        ("agent, raw, with digest", by_agent("disk.raw", "raw")?),
    ];
    let mut best = vec![f64::MAX; ways.len()];
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        for ((what, line), best) in ways.iter().zip(&mut best) {
            // The same start for everyone: a disk full of other bytes, and nothing left to write for the kernel.
            shell(folder, "cp --sparse=never disk.raw disk && sync disk disk.raw disk.raw.zst")?;
            let begun = Instant::now();
            let said = shell(folder, line)?;
            // The agent reads back as well and says how long that took; the others do not.
            let seconds = match said.split_whitespace().next() {
                Some(written) if what.starts_with("agent") => written.parse()?,
                _ => begun.elapsed().as_secs_f64(),
            };
            *best = best.min(seconds);
            if what.starts_with("agent") {
                shell(folder, "cmp disk disk.raw").with_context(|| format!("{what} wrote other bytes"))?;
            }
        }
    }
    drop(server);
    let of = |what: &str| ways.iter().position(|(name, _)| *name == what).map_or(f64::MAX, |index| best[index]);
    let disk = of("disk alone: dd");
    let slowest = |packing: &str| {
        let parts = [format!("network alone: curl, {packing}"), format!("digest alone: openssl, {packing}")];
        parts.iter().map(|part| of(part)).fold(disk, f64::max)
    };
    let (packed, raw) = (of("agent, raw.zst, with digest"), of("agent, raw, with digest"));
    let ratios = vec![
        ("packed: agent to the slowest of network, digest and disk".into(), slowest("packed") / packed),
        ("raw: agent to the slowest of network, digest and disk".into(), slowest("raw") / raw),
        (
            "packed: agent to curl | zstd -d | dd, which checks nothing".into(),
            of("curl | zstd -d | dd (no digest)") / packed,
        ),
    ];
    Ok(Measured { lines: ways.iter().map(|(what, _)| what.to_string()).zip(best).collect(), ratios })
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
