//! How far the work is. Reports of it may be lost; the work never waits for them.

use crate::Failure;
use crate::Patience;
use crate::home::{CallError, Session};
use rackwright_protocol::report::Event;
use tokio::sync::watch;

type Mark = Option<(&'static str, u8)>;

/// Where the work says how far it is.
pub(crate) struct Progress(watch::Sender<Mark>);

/// Where that is read.
pub(crate) type Marks = watch::Receiver<Mark>;

impl Progress {
    pub fn new() -> (Progress, Marks) {
        let (sender, marks) = watch::channel(None);
        (Progress(sender), marks)
    }

    /// The work is at `percent` of `step`.
    pub fn at(&self, step: &'static str, percent: u8) {
        self.0.send_if_modified(|mark| mark.replace((step, percent)) != Some((step, percent)));
    }
}

/// Reports progress whenever it changed and enough time has passed. Returns only when the boot service says that nobody
/// waits for the work any more.
pub(crate) async fn tell(session: &Session<'_>, mut marks: Marks, patience: &Patience) -> Failure {
    while marks.changed().await.is_ok() {
        let mark = *marks.borrow_and_update();
        let Some((step, percent)) = mark else { continue };
        match session.report(Event::Progress { step: step.into(), percent, bytes_per_second: None }).await {
            Ok(()) => {}
            Err(CallError::Again(failure)) => tracing::debug!(%failure, "progress was not taken"),
            Err(CallError::Refused(failure) | CallError::Over(failure)) => return failure,
        }
        tokio::time::sleep(patience.progress).await;
    }
    // The work has ended; how it ended is told by others.
    std::future::pending().await
}
