//! The kubelet as a systemd service: started, restarted when it ends, stopped.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::host::Host;
use super::kubelet;

/// Present when the kubelet starts with the machine.
const ENABLED: &str = "/etc/systemd/system/multi-user.target.wants/kubelet.service";

/// `RestartSec=` of the kubelet's unit.
const RESTART_AFTER: Duration = Duration::from_secs(10);

/// State of the service.
#[derive(Default)]
pub struct Kubelet {
    running: Mutex<Option<Running>>,
}

struct Running {
    stop: CancellationToken,
    task: JoinHandle<()>,
}

/// `systemctl enable kubelet`.
pub fn enable(host: &Host) -> anyhow::Result<()> {
    host.disk.write(ENABLED, b"", 0o644)
}

/// `systemctl disable kubelet`.
pub fn disable(host: &Host) {
    host.disk.remove(ENABLED);
}

/// Whether it starts with the machine.
pub fn is_enabled(host: &Host) -> bool {
    host.disk.exists(ENABLED)
}

/// `systemctl is-active kubelet`.
pub async fn is_active(host: &Host) -> bool {
    host.kubelet.running.lock().await.is_some()
}

/// `systemctl start kubelet`: nothing when it runs.
pub async fn start(host: &Arc<Host>) {
    let mut running = host.kubelet.running.lock().await;
    if running.is_none() {
        *running = Some(spawn(host));
    }
}

/// `systemctl restart kubelet`.
pub async fn restart(host: &Arc<Host>) {
    stop(host).await;
    start(host).await;
}

/// `systemctl stop kubelet`. Containers, and so static pods, go on without it.
pub async fn stop(host: &Host) {
    if let Some(Running { stop, task }) = host.kubelet.running.lock().await.take() {
        stop.cancel();
        // The task ends by itself at the next await; it panics only if the kubelet did, which the log has already.
        let _ = task.await;
    }
}

fn spawn(host: &Arc<Host>) -> Running {
    let stop = host.power.child_token();
    let task = host.tasks.spawn({
        let (host, stop) = (host.clone(), stop.clone());
        async move {
            stop.run_until_cancelled(keep_running(&host)).await;
        }
    });
    Running { stop, task }
}

async fn keep_running(host: &Arc<Host>) {
    let mut said = String::new();
    loop {
        if let Err(error) = kubelet::run(host).await {
            let error = format!("kubelet.service: main process exited: {error:#}");
            if error != said {
                host.complain(&error);
                said = error;
            }
        }
        tokio::time::sleep(RESTART_AFTER.min(host.timing.retry_max)).await;
    }
}
