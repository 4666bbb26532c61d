//! `cargo xtask bench serve`: the boot service sends one image to a crowd of hosts, against nginx with the same file, in
//! the same run, over http and https. Everything is on this computer, so what is compared is processor time.

use crate::bed;
use crate::command;
use crate::paths;
use anyhow::{Context, Result, bail};
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// How much slower than nginx it may be.
const TARGET: f64 = 0.90;
/// How much memory it may take, MiB.
const MEMORY: u64 = 100;

/// Sends an image of `mib` MiB to `clients` at once, `rounds` times; the best of each counts.
pub fn run(mib: usize, clients: usize, rounds: usize) -> Result<()> {
    let example = build()?;
    let folder = tempfile::tempdir()?;
    let name = prepare(&example, folder.path(), mib)?;
    let ours = Boot::start(&example, folder.path())?;
    let nginx = Nginx::start(folder.path())?;
    let ways = [
        ("nginx, http", nginx.http.clone(), "/image".to_string(), false),
        ("boot service, http", ours.http.clone(), format!("/images/{name}/{name}.raw"), false),
        ("nginx, https", nginx.https.clone(), "/image".to_string(), true),
        ("boot service, https", ours.https.clone(), format!("/images/{name}/{name}.raw"), true),
    ];
    let mut best = [0.0_f64; 4];
    for round in 1..=rounds {
        println!("round {round} of {rounds}");
        for ((_, address, path, tls), best) in ways.iter().zip(&mut best) {
            let mut load = Command::new(&example);
            load.arg("load").arg(folder.path()).arg(address).arg(path).args(["--clients", &clients.to_string()]);
            let rate: f64 = command::output(load.args(tls.then_some("--tls")))?.trim().parse()?;
            *best = best.max(rate);
        }
    }
    println!("\n{clients} clients, {mib} MiB each");
    for ((what, ..), rate) in ways.iter().zip(&best) {
        println!("{what:<24} {rate:>8.0} MiB/s");
    }
    let memory = ours.memory()?;
    println!("memory of the boot service, at its most: {memory} MiB (target at most {MEMORY})");
    let mut missed = memory > MEMORY;
    for (what, ours, theirs) in [("http", best[1], best[0]), ("https", best[3], best[2])] {
        println!("{what}: {:.0} % of nginx (target at least {:.0} %)", ours / theirs * 100.0, TARGET * 100.0);
        missed |= ours / theirs < TARGET;
    }
    if missed {
        bail!("a target is missed");
    }
    Ok(())
}

fn build() -> Result<PathBuf> {
    let mut cargo = Command::new(bed::cargo());
    cargo.current_dir(paths::root()).args(["build", "--quiet", "--release"]);
    command::run(cargo.args(["--package", "rackwright-boot", "--example", "serve_image"]))?;
    Ok(paths::target().join("release/examples/serve_image"))
}

/// Certificate, and the image under its digest for us and under a name for nginx. Gives the digest.
fn prepare(example: &Path, folder: &Path, mib: usize) -> Result<String> {
    command::run(Command::new(example).arg("certificate").arg(folder))?;
    let (cache, file) = (folder.join("cache"), folder.join("image"));
    fs::create_dir(&cache)?;
    let mut noise = vec![0; mib << 20];
    fs::File::open("/dev/urandom")?.read_exact(&mut noise)?;
    fs::write(&file, noise)?;
    let sum = command::output(Command::new("sha256sum").arg(&file))?;
    let name = format!("sha256:{}", sum.split(' ').next().unwrap_or_default());
    fs::hard_link(&file, cache.join(&name))?;
    Ok(name)
}

struct Boot {
    process: Child,
    http: String,
    https: String,
}

impl Boot {
    fn start(example: &Path, folder: &Path) -> Result<Boot> {
        let mut process = Command::new(example).arg("serve").arg(folder).stdout(Stdio::piped()).spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("no output")?).read_line(&mut line)?;
        let (http, https) = line.trim().split_once(' ').context("it did not start")?;
        Ok(Boot { http: http.into(), https: https.into(), process })
    }

    /// The most that was ever resident, MiB.
    fn memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).context("no VmHWM")?;
        let kib: u64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib.div_ceil(1024))
    }
}

impl Drop for Boot {
    fn drop(&mut self) {
        let _gone = self.process.kill();
        let _gone = self.process.wait();
    }
}

struct Nginx {
    process: Child,
    http: String,
    https: String,
}

impl Nginx {
    fn start(folder: &Path) -> Result<Nginx> {
        let port = || -> Result<u16> { Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port()) };
        let (http, https) = (format!("127.0.0.1:{}", port()?), format!("127.0.0.1:{}", port()?));
        let root = folder.display();
        let config = format!(
            "user root; worker_processes auto; daemon off; pid {root}/nginx.pid; error_log {root}/nginx.log;\n\
             events {{ worker_connections 1024; }}\n\
             http {{\n\
               access_log off; sendfile on; tcp_nopush on; keepalive_timeout 65;\n\
               client_body_temp_path {root}/tmp; proxy_temp_path {root}/tmp; fastcgi_temp_path {root}/tmp;\n\
               uwsgi_temp_path {root}/tmp; scgi_temp_path {root}/tmp;\n\
               server {{ listen {http}; root {root}; }}\n\
               server {{ listen {https} ssl; root {root}; ssl_certificate {root}/tls.crt;\n\
                 ssl_certificate_key {root}/tls.key; ssl_protocols TLSv1.3; }}\n\
             }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        let nginx = Command::new("nginx").arg("-p").arg(folder).arg("-c").arg(&file).spawn();
        let process = nginx.context("nginx cannot be started; it is in Debian's package nginx-light")?;
        let nginx = Nginx { process, http, https };
        for _ in 0..100 {
            if std::net::TcpStream::connect(&nginx.https).is_ok() {
                return Ok(nginx);
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        bail!("nginx does not listen: {}", fs::read_to_string(folder.join("nginx.log")).unwrap_or_default())
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Its master stops the workers when it is asked to, and leaves them behind when it is killed.
        let _gone = Command::new("kill").arg(self.process.id().to_string()).status();
        let _gone = self.process.wait();
    }
}
