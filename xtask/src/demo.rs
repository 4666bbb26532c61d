//! `cargo xtask demo`: the main job, shown. The telling is in `rackwright_e2e::demo`.

use crate::bed;
use crate::metal::{self, Metal};
use anyhow::{Context, Result, bail};
use rackwright_e2e::demo::{self, Stage};
use rackwright_e2e::metal::sandbox;
use rackwright_e2e::{Narrator, Programs};
use tokio::signal::unix::{SignalKind, signal};

/// Runs the demo; Ctrl-C, a closed terminal or a request to end take it all down. `with_metal`: with a real machine.
pub fn run(keep: bool, with_metal: bool) -> Result<()> {
    let narrator = Narrator::stdout();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    if with_metal && !sandbox::is_inside() {
        return runtime.block_on(go_inside(&metal::prepare(&narrator)?, keep));
    }
    let (programs, stage) = match with_metal {
        true => (Programs::from_env()?, Stage::WithMetal),
        false => (bed::prepare(&narrator)?, Stage::Simulated),
    };
    runtime.block_on(async {
        let interrupted = interruption()?;
        if with_metal {
            sandbox::prepare()?;
        }
        demo::run(programs, narrator, stage, keep, interrupted).await
    })
}

/// Runs the same inside namespaces of its own, and leaves it to that one to end in order when a signal comes.
async fn go_inside(metal: &Metal, keep: bool) -> Result<()> {
    let _heard = interruption()?;
    let args: Vec<_> = std::env::args_os().skip(1).collect();
    let mut inside = sandbox::enter(&args, &metal.environment())?;
    if keep {
        println!("it runs in a network of its own; to look around: nsenter --target {} --net --mount", inside.id());
    }
    let ended = tokio::task::spawn_blocking(move || inside.wait()).await??;
    if !ended.success() {
        bail!("the demo ended with {ended}");
    }
    Ok(())
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
