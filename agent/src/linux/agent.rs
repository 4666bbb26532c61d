//! The agent's process on a real machine: from its media to the end of its work. What it returns, pid 1 does.

use super::machine::LinuxMachine;
use super::media::{self, NotOurs};
use super::modules::Devices;
use super::net::{self, Links, NetworkError};
use super::{Roots, clock, console, init, lldp, sockets, text};
use crate::{Logs, Outcome};
use std::panic::AssertUnwindSafe;
use std::path::Path;
use std::time::Duration;

/// How long devices with the media may take to show themselves.
const MEDIA: Duration = Duration::from_secs(20);
/// How long the network may take: a switch port may block for half a minute (IEEE 802.1D), and more than one may be tried.
const NETWORK: Duration = Duration::from_secs(300);
/// How long a message for a person stays on the console before the machine is switched off.
const READING: Duration = Duration::from_secs(60);

/// How the machine goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// It is switched off.
    PowerOff,
    /// The kernel that was loaded is started.
    LoadedKernel,
}

/// Why the agent did not come to its work.
#[derive(Debug, thiserror::Error)]
enum Early {
    #[error(transparent)]
    Media(#[from] NotOurs),
    #[error(transparent)]
    Network(#[from] NetworkError),
}

/// Runs the agent.
pub fn run() -> Ending {
    let logs = Logs::default();
    console::start(&logs);
    console::follow_kernel(&logs);
    prefer_quick_ciphers(&Roots::default());
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(why) => {
            tracing::error!("no threads: {why}");
            return Ending::PowerOff;
        }
    };
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| runtime.block_on(work(logs))));
    let ending = match ended {
        Ok(Ok(ending)) => ending,
        Ok(Err(why)) => {
            tracing::error!("{why}. The machine is switched off in {} seconds.", READING.as_secs());
            std::thread::sleep(READING);
            Ending::PowerOff
        }
        Err(_) => Ending::PowerOff,
    };
    // Threads that wait for the kernel never end.
    runtime.shutdown_background();
    ending
}

/// Without instructions for AES, ChaCha20 is several times as fast: processors of small machines, and emulated ones.
fn prefer_quick_ciphers(roots: &Roots) {
    let info = text(roots.proc.join("cpuinfo")).unwrap_or_default();
    if !has_aes(&info) {
        let mut provider = rustls::crypto::aws_lc_rs::default_provider();
        provider.cipher_suites.sort_by_key(|suite| !format!("{:?}", suite.suite()).contains("CHACHA20"));
        // An error means that one is set already, which nobody does before this.
        let _ = provider.install_default();
    }
}

/// True when the flags (x86) or features (Arm) in /proc/cpuinfo name AES.
fn has_aes(cpuinfo: &str) -> bool {
    let mut lines = cpuinfo.lines().filter_map(|line| line.split_once(':'));
    lines.any(|(key, words)| {
        matches!(key.trim(), "flags" | "Features") && words.split_whitespace().any(|word| word == "aes")
    })
}

async fn work(logs: Logs) -> Result<Ending, Early> {
    let roots = Roots::default();
    let devices = Devices::watch(&roots);
    net::accept_advertisements(&roots);
    let media = media::find(&roots, Path::new("/"), MEDIA).await?;
    tracing::info!(
        "this is {}/{}, operation {}",
        media.subject.namespace,
        media.subject.host,
        media.subject.operation_id
    );
    clock::mend(media.began_at);
    if media.rescue_shell {
        console::rescue_shell();
    }
    let neighbours = lldp::listen();
    let links = Links::open()?;
    let nic = net::bring_up(&roots, &links, &media, NETWORK).await?;
    init::attach_efi_variables();
    match sockets::listening(&roots.proc).as_slice() {
        [] => tracing::info!("the network is up on {nic}; nothing listens on it"),
        open => tracing::error!("something listens on the network: {}", open.join(", ")),
    }
    let mut machine = LinuxMachine::new(roots, devices, links, neighbours, logs);
    match crate::run(&media, &mut machine).await {
        Outcome::Done if machine.has_loaded_kernel() => Ok(Ending::LoadedKernel),
        _ => Ok(Ending::PowerOff),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_processor_with_aes_says_so() {
        assert!(has_aes("processor\t: 0\nflags\t\t: fpu aes avx\n"));
        assert!(has_aes("Features\t: fp asimd aes pmull\n"));
        assert!(!has_aes("flags\t\t: fpu sse2\nmodel name\t: aes\n"));
        assert!(!has_aes(""));
    }
}
