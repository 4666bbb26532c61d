//! `rackwright boot`: what hosts reach while the ramdisk runs on them.

mod args;

pub use args::BootArgs;
use tokio_util::sync::CancellationToken;

/// Serves until `shutdown` is cancelled, then lets open calls finish.
pub async fn run(_args: BootArgs, _shutdown: CancellationToken) -> anyhow::Result<()> {
    anyhow::bail!("the boot service cannot serve yet")
}
