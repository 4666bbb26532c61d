//! The model of one machine and its BMC: `(state, event, now) -> (state, effects)`, without a clock, a socket or chance.
//!
//! It decides what every other part of the simulator obeys: when a machine is on, what it boots, what stands on its
//! disks. What the BMC holds (media, boot override, locator) is changed by orders to the BMC only, never by what runs on
//! the machine, and outlives a power cut. What runs on the machine belongs to one power-on, its [`Run`]: after a power
//! cut nothing of that run can touch a disk any more, however late it comes.

mod disk;
mod event;
mod snapshot;
mod state;

pub use disk::{Content, Disk, Image};
pub use event::{Effect, Event, Guest, Order, Refusal, Reset};
pub use snapshot::Snapshot;
pub use state::{Enabled, History, Override, Phase, Shown, Stuck, Target, Timing, WrittenImage};

use crate::faults::{Fault, Faults};
use crate::hardware::Spec;
use jiff::Timestamp;

/// Number of a power-on of one machine, from 1.
pub type Run = u64;

/// One machine and its BMC.
#[derive(Clone, Debug, PartialEq)]
pub struct Machine {
    timing: Timing,
    phase: Phase,
    run: Run,
    boot: Override,
    boot_uri: Option<String>,
    media: Option<String>,
    locator: bool,
    disks: Vec<Disk>,
    faults: Faults,
    /// What a lying BMC goes on showing.
    stale: Option<Shown>,
    history: History,
}

impl Machine {
    /// A machine fresh from the factory: off, its disks empty.
    pub fn new(spec: &Spec, timing: Timing) -> Machine {
        Machine {
            timing,
            phase: Phase::Off,
            run: 0,
            boot: Override::default(),
            boot_uri: None,
            media: None,
            locator: false,
            disks: spec.facts.disks.iter().map(|disk| Disk::empty(&disk.device)).collect(),
            faults: Faults::default(),
            stale: None,
            history: History::default(),
        }
    }

    /// Everything that can happen to it goes through here.
    pub fn handle(&mut self, event: Event, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        match event {
            Event::Order(order) => self.order(order, now),
            Event::Guest(run, guest) => self.guest(run, guest, now),
            Event::Tick => Ok(self.tick(now)),
            Event::Break(fault) => Ok(self.break_down(fault)),
            Event::Heal(fault) => Ok(self.heal(fault)),
        }
    }

    /// When it wants [`Event::Tick`] next. A tick at another time does no harm.
    pub fn wakes_at(&self) -> Option<Timestamp> {
        match self.phase {
            Phase::PoweringOff { until } | Phase::BootingRamdisk { until } | Phase::BootingDisk { until, .. } => {
                Some(until)
            }
            Phase::Post { until } => until,
            _ => None,
        }
    }

    /// What it is doing.
    pub fn phase(&self) -> Phase {
        self.phase
    }

    /// The current power-on, or the last one.
    pub fn run(&self) -> Run {
        self.run
    }

    /// True while anything can run on it.
    pub fn is_powered(&self) -> bool {
        !matches!(self.phase, Phase::Off | Phase::PoweringOff { .. })
    }

    /// Power as the BMC shows it, truly or not; `None`: it shows none.
    pub fn shown_power(&self) -> Option<Shown> {
        if self.faults.has(Fault::UnknownPower) {
            return None;
        }
        Some(self.stale.unwrap_or_else(|| self.true_power()))
    }

    /// What it will boot.
    pub fn boot(&self) -> Override {
        self.boot
    }

    /// URL that the firmware fetches when it is told to.
    pub fn boot_uri(&self) -> Option<&str> {
        self.boot_uri.as_deref()
    }

    /// URL in the virtual CD drive.
    pub fn media(&self) -> Option<&str> {
        self.media.as_deref()
    }

    /// The locator light.
    pub fn locator(&self) -> bool {
        self.locator
    }

    /// Its disks.
    pub fn disks(&self) -> &[Disk] {
        &self.disks
    }

    /// What is wrong with it.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// True when this request to the BMC is to be answered 503; counts it.
    pub fn take_unavailable(&mut self) -> bool {
        self.faults.take_unavailable()
    }

    /// What has happened so far.
    pub fn history(&self) -> &History {
        &self.history
    }

    /// `OK` or `Critical`.
    pub fn health(&self) -> &'static str {
        if self.faults.dead_supply_refuses().is_some() { "Critical" } else { "OK" }
    }

    fn true_power(&self) -> Shown {
        match self.phase {
            Phase::Off => Shown::Off,
            Phase::PoweringOff { .. } => Shown::PoweringOff,
            _ => Shown::On,
        }
    }

    fn order(&mut self, order: Order, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        match order {
            Order::Reset(reset) => return self.reset(reset, now),
            Order::Insert(url) => self.media = Some(url),
            Order::Eject if self.is_powered() && self.faults.has(Fault::HoldsMediaWhileOn) => {
                return if self.media.is_some() { Err(Refusal::DriveInUse) } else { Ok(Vec::new()) };
            }
            Order::Eject => self.media = None,
            Order::SetHttpUri(uri) => self.boot_uri = uri,
            Order::SetBoot(_) if self.faults.has(Fault::DropsBootOverride) => {}
            Order::SetBoot(boot) => self.boot = boot,
            Order::SetLocator(on) => self.locator = on,
        }
        Ok(Vec::new())
    }

    fn reset(&mut self, reset: Reset, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        match reset {
            Reset::On => self.switch_on(now),
            Reset::ForceOff => Ok(self.switch_off(now)),
            // Only an operating system listens to the power button.
            Reset::GracefulShutdown if matches!(self.phase, Phase::Running { .. }) => Ok(self.switch_off(now)),
            Reset::ForceRestart if self.is_powered() => Ok(self.restart(now)),
            // The DMTF use-case checkers expect a machine that is on, whatever it was.
            Reset::ForceRestart => self.switch_on(now),
            Reset::GracefulShutdown => Ok(Vec::new()),
        }
    }

    fn switch_on(&mut self, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        match (self.phase, self.faults.dead_supply_refuses()) {
            (Phase::PoweringOff { .. }, _) => Err(Refusal::Busy),
            (Phase::Off, Some(true)) => Err(Refusal::NoPower),
            (Phase::Off, None) => {
                self.start(now);
                Ok(Vec::new())
            }
            _ => Ok(Vec::new()),
        }
    }

    fn switch_off(&mut self, now: Timestamp) -> Vec<Effect> {
        if !self.is_powered() {
            return Vec::new();
        }
        self.phase = Phase::PoweringOff { until: now + self.timing.power_off };
        vec![Effect::PowerCut { run: self.run }]
    }

    fn restart(&mut self, now: Timestamp) -> Vec<Effect> {
        let cut = Effect::PowerCut { run: self.run };
        self.start(now);
        vec![cut]
    }

    fn start(&mut self, now: Timestamp) {
        self.run += 1;
        self.history.power_ons += 1;
        if self.faults.has(Fault::EjectsEarly { once_read: false }) {
            self.media = None;
        }
        let hangs = self.faults.has(Fault::HangsInPost);
        self.phase = Phase::Post { until: (!hangs).then(|| now + self.timing.post) };
    }

    fn tick(&mut self, now: Timestamp) -> Vec<Effect> {
        if self.wakes_at().is_none_or(|at| now < at) {
            return Vec::new();
        }
        match self.phase {
            Phase::PoweringOff { .. } => self.phase = Phase::Off,
            Phase::Post { .. } => return self.choose_boot_device(now),
            Phase::BootingRamdisk { .. } => {
                self.phase = Phase::Ramdisk;
                self.history.media_boots += 1;
                return vec![Effect::RunRamdisk { run: self.run }];
            }
            Phase::BootingDisk { disk, .. } => {
                self.phase = Phase::Running { disk };
                self.history.disk_boots += 1;
                let Disk { device, drive, .. } = self.disks[disk].clone();
                return vec![Effect::RunSystem { run: self.run, device, drive }];
            }
            Phase::Off | Phase::LoadingMedia | Phase::Ramdisk | Phase::Running { .. } | Phase::Stuck { .. } => {}
        }
        Vec::new()
    }

    /// The end of POST: the firmware reads the override, and here `Once` is used up.
    fn choose_boot_device(&mut self, now: Timestamp) -> Vec<Effect> {
        let target = match self.boot.enabled {
            Enabled::Disabled => Target::None,
            _ if self.faults.has(Fault::IgnoresBootOverride) => Target::None,
            Enabled::Once | Enabled::Continuous => self.boot.target,
        };
        if self.boot.enabled == Enabled::Once {
            self.boot = Override::default();
        }
        let media = match target {
            Target::Cd if self.faults.has(Fault::MediaUnreadable) => None,
            Target::Cd => self.media.clone(),
            Target::UefiHttp => self.boot_uri.clone(),
            Target::None | Target::Hdd | Target::Pxe => None,
        };
        let Some(url) = media else {
            // A device that cannot be booted is skipped: the firmware's own order comes next, and that is the disks.
            self.boot_disk(now);
            return Vec::new();
        };
        if target == Target::UefiHttp {
            self.history.http_boots += 1;
        }
        self.phase = Phase::LoadingMedia;
        vec![Effect::LoadMedia { run: self.run, url }]
    }

    fn boot_disk(&mut self, now: Timestamp) {
        self.phase = match self.disks.iter().position(Disk::is_bootable) {
            Some(disk) => Phase::BootingDisk { until: now + self.timing.disk_boot, disk },
            None => Phase::Stuck { why: Stuck::NoBootDevice },
        };
    }

    /// What runs on the machine does something. Late words of an earlier run, or of something that does not run now, are
    /// refused.
    fn guest(&mut self, run: Run, guest: Guest, now: Timestamp) -> Result<Vec<Effect>, Refusal> {
        if run != self.run || !self.is_powered() {
            return Err(Refusal::Gone);
        }
        match (self.phase, guest) {
            (Phase::LoadingMedia, Guest::MediaLoaded) => {
                if self.faults.has(Fault::EjectsEarly { once_read: true }) {
                    self.media = None;
                }
                self.phase = Phase::BootingRamdisk { until: now + self.timing.ramdisk_boot };
            }
            (Phase::LoadingMedia, Guest::MediaFailed) => self.boot_disk(now),
            (Phase::Ramdisk, Guest::Kexec) if self.faults.has(Fault::KexecFails) => return Err(Refusal::DoesNotStart),
            (Phase::Ramdisk, Guest::Kexec) => {
                if !self.disks.iter().any(Disk::is_bootable) {
                    return Err(Refusal::NoSuchDisk);
                }
                self.history.kexecs += 1;
                self.boot_disk(now);
            }
            (Phase::Ramdisk | Phase::Running { .. }, Guest::PowerOff) => return Ok(self.switch_off(now)),
            (Phase::Ramdisk | Phase::Running { .. }, Guest::Panic) => {
                self.phase = Phase::Stuck { why: Stuck::KernelPanic };
            }
            (Phase::Ramdisk, Guest::DiskWriting { device }) => self.disk(&device)?.begin(),
            (Phase::Ramdisk, Guest::DiskBroken { device }) => self.disk(&device)?.break_up(),
            (Phase::Ramdisk, Guest::DriveWritten { device, drive }) => self.disk(&device)?.drive = Some(drive),
            (Phase::Ramdisk, Guest::ImageWritten { operation, device, image }) => {
                let digest = image.digest.clone();
                self.disk(&device)?.content = Content::Image(image);
                self.history.images.push(WrittenImage { operation, device, digest });
            }
            (Phase::Ramdisk, Guest::Wiped { operation }) => {
                self.disks.iter_mut().for_each(Disk::wipe);
                self.history.wipes.push(operation);
            }
            _ => return Err(Refusal::Gone),
        }
        Ok(Vec::new())
    }

    fn disk(&mut self, device: &str) -> Result<&mut Disk, Refusal> {
        self.disks.iter_mut().find(|disk| disk.device == device).ok_or(Refusal::NoSuchDisk)
    }

    fn break_down(&mut self, fault: Fault) -> Vec<Effect> {
        if fault == Fault::LiesAboutPower && self.stale.is_none() {
            self.stale = Some(self.true_power());
        }
        if fault == Fault::HangsInPost && matches!(self.phase, Phase::Post { .. }) {
            self.phase = Phase::Post { until: None };
        }
        self.faults.add(fault);
        if matches!(fault, Fault::PowerSupplyDead { .. }) && self.phase != Phase::Off {
            let was_powered = self.is_powered();
            self.phase = Phase::Off;
            return if was_powered { vec![Effect::PowerCut { run: self.run }] } else { Vec::new() };
        }
        Vec::new()
    }

    fn heal(&mut self, fault: Fault) -> Vec<Effect> {
        if fault == Fault::LiesAboutPower {
            self.stale = None;
        }
        self.faults.remove(fault);
        Vec::new()
    }
}

#[cfg(test)]
mod tests;
