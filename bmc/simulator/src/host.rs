//! One machine with its BMC at run time: the model behind a lock, and whatever follows from each event.
//!
//! Every change of the machine goes through [`Host::handle`] or [`Host::answer`]; what follows is started before the lock
//! is let go, so effects happen in the order of events. A power cut cancels the run's token, and nothing that belongs to
//! a run outlives it. An idle machine has no task.

use crate::certificates::{Authority, Identity};
use crate::config::FleetConfig;
use crate::faults::{Fault, Faults, Silence};
use crate::firmware;
use crate::hardware::Spec;
use crate::machine::{Effect, Event, Guest, Machine, Refusal, Run, Snapshot, Timing};
use crate::redfish::{Account, Reply, Service, Sessions};
use axum::http::Request;
use bytes::Bytes;
use jiff::Timestamp;
use rackwright_protocol::media::MediaConfig;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use tokio::sync::Notify;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// What all machines of a fleet share.
pub struct Site {
    pub config: FleetConfig,
    pub authority: Authority,
    /// Everything that runs, for the end.
    pub tasks: TaskTracker,
    /// The end.
    pub stop: CancellationToken,
    clock: (Timestamp, Instant),
}

impl Site {
    pub fn new(config: FleetConfig, authority: Authority) -> Site {
        let clock = (Timestamp::now(), Instant::now());
        Site { config, authority, tasks: TaskTracker::new(), stop: CancellationToken::new(), clock }
    }

    /// The time; it never goes back, whatever happens to the system's clock.
    pub fn now(&self) -> Timestamp {
        self.clock.0 + self.clock.1.elapsed()
    }

    fn until(&self, at: Timestamp) -> Instant {
        self.clock.1 + std::time::Duration::try_from(at.duration_since(self.clock.0)).unwrap_or_default()
    }
}

/// One machine.
pub struct Host {
    pub spec: Spec,
    pub site: Arc<Site>,
    state: Mutex<State>,
    /// Whatever runs on the machine holds it: the next run begins when the last one is gone.
    pub guest: tokio::sync::Mutex<()>,
    /// Told when something breaks or is mended.
    changed: Notify,
    identity: OnceLock<Identity>,
}

struct State {
    machine: Machine,
    sessions: Sessions,
    /// Power of the current run; cancelled when it is cut.
    power: CancellationToken,
    /// What the firmware found on the media of the current run.
    media: Option<MediaConfig>,
    /// Folder with what the operating system keeps on its disk.
    root: PathBuf,
    /// For when the next tick is on its way.
    alarm: Option<Timestamp>,
}

impl Host {
    pub fn new(spec: Spec, site: Arc<Site>, timing: Timing) -> Host {
        let state = State {
            machine: Machine::new(&spec, timing),
            sessions: Sessions::default(),
            power: site.stop.child_token(),
            media: None,
            root: folder(&site.config.state_dir, &spec.name).join("0"),
            alarm: None,
        };
        let (state, guest) = (Mutex::new(state), tokio::sync::Mutex::default());
        Host { spec, site, state, guest, changed: Notify::new(), identity: OnceLock::new() }
    }

    /// One event, and what follows from it.
    pub fn handle(self: &Arc<Self>, event: Event) -> Result<(), Refusal> {
        let mut state = self.state();
        let effects = state.machine.handle(event, self.site.now())?;
        self.perform(&mut state, effects);
        Ok(())
    }

    /// What runs on the machine since power-on number `run` did something. False: the power is gone.
    pub fn guest(self: &Arc<Self>, run: Run, guest: Guest) -> bool {
        self.handle(Event::Guest(run, guest)).is_ok()
    }

    /// The BMC's answer to a request.
    pub fn answer(self: &Arc<Self>, request: &Request<Bytes>) -> Reply {
        let mut guard = self.state();
        let state = &mut *guard;
        let credentials = &self.site.config.credentials;
        let mut service = Service {
            spec: &self.spec,
            machine: &mut state.machine,
            sessions: &mut state.sessions,
            account: Account { username: &credentials.username, password: &credentials.password },
            now: self.site.now(),
            effects: Vec::new(),
        };
        let reply = service.answer(request);
        let effects = service.effects;
        self.perform(state, effects);
        reply
    }

    /// Something breaks.
    pub fn break_down(self: &Arc<Self>, fault: Fault) {
        self.handle(Event::Break(fault)).expect("faults are never refused");
        self.changed.notify_waiters();
    }

    /// Somebody mends it.
    pub fn heal(self: &Arc<Self>, fault: Fault) {
        self.handle(Event::Heal(fault)).expect("mending is never refused");
        self.changed.notify_waiters();
    }

    /// The truth about the machine.
    pub fn snapshot(&self) -> Snapshot {
        Snapshot::of(&self.spec.name, &self.state().machine)
    }

    /// What is wrong with it.
    pub fn faults(&self) -> Faults {
        self.state().machine.faults().clone()
    }

    /// Returns when the BMC can be reached.
    pub async fn reachable(&self) {
        loop {
            let changed = self.changed.notified();
            if self.silence().is_none() {
                return;
            }
            changed.await;
        }
    }

    /// How the BMC is unreachable, if it is.
    pub fn silence(&self) -> Option<Silence> {
        self.state().machine.faults().silence()
    }

    /// Certificate and TLS of the BMC.
    pub fn identity(&self) -> anyhow::Result<&Identity> {
        if let Some(identity) = self.identity.get() {
            return Ok(identity);
        }
        let made = self.site.authority.issue(self.spec.address)?;
        // Two may come here at once; the first one's certificate is the one that both show.
        Ok(self.identity.get_or_init(|| made))
    }

    /// Keeps what the firmware found on the media. Without effect when the power is gone.
    pub fn keep_media(&self, run: Run, media: MediaConfig) {
        let mut state = self.state();
        if state.machine.run() == run {
            state.media = Some(media);
        }
    }

    /// Folder of the operating system on the disk.
    pub fn root(&self) -> PathBuf {
        self.state().root.clone()
    }

    /// What the operating system kept on the disk is gone from now on: the next one finds another folder. A folder per
    /// writing run, so that removing the old one cannot meet what a new one writes.
    pub fn forget_root(&self, run: Run) {
        let next = folder(&self.site.config.state_dir, &self.spec.name).join(run.to_string());
        let old = std::mem::replace(&mut self.state().root, next.clone());
        if old != next {
            self.site.tasks.spawn(async move {
                // There is none when no operating system ran.
                if let Err(why) = tokio::fs::remove_dir_all(&old).await
                    && why.kind() != std::io::ErrorKind::NotFound
                {
                    tracing::warn!(folder = %old.display(), %why, "a wiped disk's folder stays behind");
                }
            });
        }
    }

    fn perform(self: &Arc<Self>, state: &mut State, effects: Vec<Effect>) {
        for effect in effects {
            let power = state.power.clone();
            match effect {
                Effect::PowerCut { .. } => {
                    state.power.cancel();
                    state.power = self.site.stop.child_token();
                    state.media = None;
                }
                Effect::LoadMedia { run, url } => self.run(firmware::load_media(self.clone(), run, url, power)),
                Effect::RunRamdisk { run } => {
                    self.run(firmware::run_ramdisk(self.clone(), run, state.media.take(), power));
                }
                Effect::RunSystem { run, drive, .. } => {
                    self.run(firmware::run_system(self.clone(), run, drive, power));
                }
            }
        }
        self.set_alarm(state);
    }

    fn run(&self, work: impl Future<Output = ()> + Send + 'static) {
        self.site.tasks.spawn(work);
    }

    /// Sees to it that the machine is ticked when it wants to be.
    fn set_alarm(self: &Arc<Self>, state: &mut State) {
        let wanted = state.machine.wakes_at();
        if wanted == state.alarm {
            return;
        }
        state.alarm = wanted;
        let Some(at) = wanted else { return };
        let host = self.clone();
        self.run(async move {
            let sleep = tokio::time::sleep_until(host.site.until(at));
            if host.site.stop.run_until_cancelled(sleep).await.is_none() {
                return;
            }
            let mut state = host.state();
            if state.alarm == Some(at) {
                state.alarm = None;
            }
            let effects = state.machine.handle(Event::Tick, host.site.now()).unwrap_or_default();
            host.perform(&mut state, effects);
        });
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // The model is whole between any two events, whatever happened to the task that held it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Folder of one host below the state folder.
pub fn folder(state_dir: &Path, name: &str) -> PathBuf {
    state_dir.join("hosts").join(name)
}
