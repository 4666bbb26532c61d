//! `cargo xtask demo`: the main job, shown. The telling is in `rackwright_e2e::demo`.

use crate::bed;
use anyhow::{Context, Result};
use rackwright_e2e::{Narrator, demo};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the demo; Ctrl-C, a closed terminal or a request to end take it all down.
pub fn run(keep: bool) -> Result<()> {
    let narrator = Narrator::stdout();
    let programs = bed::prepare(&narrator)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let interrupted = interruption()?;
        demo::run(programs, narrator, keep, interrupted).await
    })
}

/// Ends with the first signal that asks this process to end.
pub fn interruption() -> Result<impl Future<Output = ()>> {
    let listen = |kind| signal(kind).context("signals cannot be listened to");
    let (mut interrupt, mut terminate) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    let mut hangup = listen(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}
