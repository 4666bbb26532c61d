//! Real programs that a simulated machine runs. When the power goes they are killed, and awaited.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::{Context, bail};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::host::Host;

/// Ties a program's life to ours even when we are killed; without it only power does. The signal comes when the thread
/// ends that started the program: a worker of the runtime, which lives as long as that.
const SETPRIV: &str = "/usr/bin/setpriv";

/// A program of the bed, not yet started: its own little environment, no input.
pub fn command(host: &Host, program: &str) -> anyhow::Result<Command> {
    let path = host.program(program)?;
    let mut command = match Path::new(SETPRIV).is_file() {
        true => Command::new(SETPRIV),
        false => Command::new(&path),
    };
    if Path::new(SETPRIV).is_file() {
        command.args(["--pdeathsig", "KILL", "--"]).arg(&path);
    }
    command.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").env("HOME", host.disk.root());
    command.current_dir(host.disk.root()).stdin(Stdio::null()).kill_on_drop(true);
    Ok(command)
}

/// Runs a program to its end. Fails when it fails, with the end of what it said.
pub async fn output(host: &Arc<Host>, mut command: Command) -> anyhow::Result<String> {
    let mut child =
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().context("cannot start the program")?;
    // A task of its own, so that the child is awaited even when the caller is gone.
    let task = host.tasks.spawn({
        let host = host.clone();
        async move {
            let (out, err) = (text(child.stdout.take()), text(child.stderr.take()));
            tokio::join!(attend(&host, &mut child), out, err)
        }
    });
    let (status, out, err) = task.await?;
    let Some(status) = status else { bail!("the power went") };
    let (status, text) = (status?, out + &err);
    if !status.success() {
        let lines: Vec<&str> = text.lines().collect();
        bail!("{status}: {}", lines[lines.len().saturating_sub(8)..].join(" | "));
    }
    Ok(text)
}

async fn text(pipe: Option<impl AsyncRead + Unpin>) -> String {
    let mut bytes = Vec::new();
    if let Some(mut pipe) = pipe {
        // What was read before a broken pipe is still worth showing.
        let _ = pipe.read_to_end(&mut bytes).await;
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Waits for the end of a child or of the power; in the second case kills it and waits until it is gone.
pub async fn attend(host: &Host, child: &mut Child) -> Option<std::io::Result<ExitStatus>> {
    let ended = host.power.run_until_cancelled(child.wait()).await;
    if ended.is_none()
        && let Err(error) = child.kill().await
    {
        host.complain(format!("cannot end a process: {error}"));
    }
    ended
}
