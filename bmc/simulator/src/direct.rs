//! A fleet in one process, without network and without a clock: for simulations of what controls it.
//!
//! The caller moves time ([`DirectFleet::tick`]), plays the agent ([`DirectFleet::calls`] says which machines run a
//! ramdisk now; [`DirectFleet::deployed`] and its sisters end such a call) and breaks things
//! ([`DirectFleet::fault`]). Nothing happens by itself and nothing is random: the same calls give the same fleet.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use rackwright_bmc::{BootDevice, Connect, PowerTarget};
//! use rackwright_simulator::direct::DirectFleet;
//!
//! let start = jiff::Timestamp::UNIX_EPOCH;
//! let fleet = DirectFleet::racks(3, 4, start);
//! let bmc = fleet.bmc(&fleet.access("rack-a-u01").expect("it is there")).await?;
//! bmc.insert_media("https://boot/media.img").await?;
//! bmc.set_boot(BootDevice::Cd).await?;
//! bmc.set_power(PowerTarget::On).await?;
//! fleet.tick(start + std::time::Duration::from_secs(60));
//! for call in fleet.calls() {
//!     fleet.inspected(&call)?; // the agent has reported what it found, and switches the machine off
//! }
//! # Ok(()) }
//! ```

use crate::faults::{Fault, Silence};
use crate::hardware::{Hardware, Spec};
use crate::machine::{
    Effect, Enabled, Event, Guest, Image, Machine, Order, Override, Refusal, Reset, Run, Shown, Snapshot, Target,
    Timing,
};
use async_trait::async_trait;
use jiff::Timestamp;
use rackwright_bmc::{
    Access, Bmc, BootDevice, Bootable, Connect, Error, Media, Power, PowerTarget, Result as BmcResult, System, Trust,
};
use rackwright_protocol::plan::ConfigDrive;
use secrecy::ExposeSecret;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use url::Url;

/// User name of every BMC of a [`DirectFleet`].
pub const USERNAME: &str = "admin";
/// Its password.
pub const PASSWORD: &str = "simulated";
/// A BMC slower than this ([`Fault::Slow`]) does what it was told, but its answer comes too late to be heard.
pub const DEADLINE: Duration = Duration::from_secs(30);

const SET_BOOT: &str = "set the boot device";

/// Machines in one process. Clones are the same fleet.
#[derive(Clone)]
pub struct DirectFleet(Arc<Mutex<Inner>>);

/// A machine that runs the ramdisk of some media and waits for its agent to be played.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentCall {
    /// Which machine.
    pub machine: String,
    /// Which power-on of it. The call is over when the power goes.
    pub run: Run,
    /// The media that it booted: host and operation are in its URL.
    pub media_url: String,
}

struct Inner {
    now: Timestamp,
    machines: BTreeMap<String, Slot>,
}

struct Slot {
    spec: Spec,
    machine: Machine,
    /// The media that this power-on has loaded.
    loaded: Option<String>,
    /// True when the ramdisk runs.
    in_ramdisk: bool,
}

impl DirectFleet {
    /// Machines as `specs` say, all off and empty. It is `now`.
    pub fn new(specs: Vec<Spec>, timing: Timing, now: Timestamp) -> DirectFleet {
        let slot = |spec: Spec| {
            let machine = Machine::new(&spec, timing);
            (spec.name.clone(), Slot { spec, machine, loaded: None, in_ramdisk: false })
        };
        DirectFleet(Arc::new(Mutex::new(Inner { now, machines: specs.into_iter().map(slot).collect() })))
    }

    /// `racks` racks (`rack-a`, `rack-b`, …, at most 26) of `per_rack` machines, stock hardware and timing.
    pub fn racks(racks: u8, per_rack: u8, now: Timestamp) -> DirectFleet {
        let hardware = Hardware::default();
        let specs = (1..=racks.min(26)).flat_map(|rack| {
            let name = format!("rack-{}", char::from(b'a' + rack - 1));
            let hardware = &hardware;
            (1..=per_rack).map(move |unit| Spec::new(1, &name, rack, unit, hardware))
        });
        DirectFleet::new(specs.collect(), Timing::default(), now)
    }

    /// What the machines are, in the order of their names.
    pub fn specs(&self) -> Vec<Spec> {
        self.lock().machines.values().map(|slot| slot.spec.clone()).collect()
    }

    /// How to reach the BMC of that machine.
    pub fn access(&self, machine: &str) -> Option<Access> {
        let address = self.lock().machines.get(machine)?.spec.address;
        Some(Access {
            address: Url::parse(&format!("https://{address}")).expect("an IPv4 address makes a URL"),
            username: USERNAME.into(),
            password: PASSWORD.to_string().into(),
            trust: Trust::System,
        })
    }

    /// It is `now`: everything that was due by then happens, in the order in which it was due. Time never goes back.
    pub fn tick(&self, now: Timestamp) {
        let mut inner = self.lock();
        while let Some((at, name)) = inner.next_due().filter(|(at, _)| *at <= now) {
            inner.now = inner.now.max(at);
            inner.handle(&name, Event::Tick).expect("time is never refused");
        }
        inner.now = inner.now.max(now);
    }

    /// When something will happen by itself; `None`: never.
    pub fn next_wake(&self) -> Option<Timestamp> {
        self.lock().next_due().map(|(at, _)| at)
    }

    /// Machines whose agent is to be played now, in the order of their names.
    pub fn calls(&self) -> Vec<AgentCall> {
        let inner = self.lock();
        let running = inner.machines.iter().filter(|(_, slot)| slot.in_ramdisk);
        let call = |(name, slot): (&String, &Slot)| {
            let media_url = slot.loaded.clone()?;
            Some(AgentCall { machine: name.clone(), run: slot.machine.run(), media_url })
        };
        running.filter_map(call).collect()
    }

    /// The agent is done with an inspection and switches the machine off.
    ///
    /// Here and below: [`Refusal::Gone`] when the power went in the meantime; then nothing happens.
    pub fn inspected(&self, call: &AgentCall) -> Result<(), Refusal> {
        self.power_off(call)
    }

    /// The agent has written image and config drive to the first disk and switches the machine off.
    pub fn deployed(&self, call: &AgentCall, operation: &str, digest: &str, drive: ConfigDrive) -> Result<(), Refusal> {
        self.write(call, operation, digest, drive)?;
        self.power_off(call)
    }

    /// The agent has wiped all disks and switches the machine off.
    pub fn wiped(&self, call: &AgentCall, operation: &str) -> Result<(), Refusal> {
        self.wipe(call, operation)?;
        self.power_off(call)
    }

    /// The agent gives up (it may have reported why) and switches the machine off.
    pub fn failed(&self, call: &AgentCall) -> Result<(), Refusal> {
        self.power_off(call)
    }

    /// The agent has written image and config drive to the first disk, and nothing more yet: for a power cut before its
    /// report, or a report before the power goes.
    pub fn write(&self, call: &AgentCall, operation: &str, digest: &str, drive: ConfigDrive) -> Result<(), Refusal> {
        let mut inner = self.lock();
        let device = inner.first_disk(&call.machine)?;
        let image = Image { digest: digest.into(), size: 1 << 20 };
        let operation = operation.to_string();
        inner.guest(call, Guest::DiskWriting { device: device.clone() })?;
        inner.guest(call, Guest::ImageWritten { operation, device: device.clone(), image })?;
        inner.guest(call, Guest::DriveWritten { device, drive })
    }

    /// The agent has written the first bytes of an image, and nothing more.
    pub fn write_part(&self, call: &AgentCall) -> Result<(), Refusal> {
        let mut inner = self.lock();
        let device = inner.first_disk(&call.machine)?;
        inner.guest(call, Guest::DiskWriting { device })
    }

    /// The agent has wiped all disks, and nothing more yet.
    pub fn wipe(&self, call: &AgentCall, operation: &str) -> Result<(), Refusal> {
        self.lock().guest(call, Guest::Wiped { operation: operation.into() })
    }

    /// The agent starts the written system itself; the machine stays on. [`Refusal::NoSuchDisk`]: there is none, so the
    /// agent is to switch the machine off.
    pub fn kexec(&self, call: &AgentCall) -> Result<(), Refusal> {
        self.lock().guest(call, Guest::Kexec)
    }

    /// The agent switches the machine off.
    pub fn power_off(&self, call: &AgentCall) -> Result<(), Refusal> {
        self.lock().guest(call, Guest::PowerOff)
    }

    /// The ramdisk's kernel panics: the machine stays on and nothing more comes from it.
    pub fn panic(&self, call: &AgentCall) -> Result<(), Refusal> {
        self.lock().guest(call, Guest::Panic)
    }

    /// Something breaks on that machine. False: there is no such machine.
    pub fn fault(&self, machine: &str, fault: Fault) -> bool {
        self.lock().handle(machine, Event::Break(fault)).is_ok()
    }

    /// Every fault of that kind is mended on that machine. False: there is no such machine.
    pub fn heal(&self, machine: &str, fault: Fault) -> bool {
        self.lock().handle(machine, Event::Heal(fault)).is_ok()
    }

    /// The truth about that machine.
    pub fn snapshot(&self, machine: &str) -> Option<Snapshot> {
        let inner = self.lock();
        let slot = inner.machines.get(machine)?;
        Some(Snapshot::of(machine, &slot.machine))
    }

    /// The truth about all machines, in the order of their names.
    pub fn snapshots(&self) -> Vec<Snapshot> {
        self.lock().machines.iter().map(|(name, slot)| Snapshot::of(name, &slot.machine)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // A panic in a test must not turn every later look at the fleet into another one.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn next_due(&self) -> Option<(Timestamp, String)> {
        let due = self.machines.iter().filter_map(|(name, slot)| Some((slot.machine.wakes_at()?, name)));
        due.min().map(|(at, name)| (at, name.clone()))
    }

    fn first_disk(&self, machine: &str) -> Result<String, Refusal> {
        let disks = self.machines.get(machine).map(|slot| slot.machine.disks());
        disks.and_then(|disks| disks.first()).map(|disk| disk.device.clone()).ok_or(Refusal::NoSuchDisk)
    }

    fn guest(&mut self, call: &AgentCall, guest: Guest) -> Result<(), Refusal> {
        self.handle(&call.machine, Event::Guest(call.run, guest))
    }

    /// One event, and what follows from it. A machine that does not exist is gone.
    fn handle(&mut self, machine: &str, event: Event) -> Result<(), Refusal> {
        let now = self.now;
        let slot = self.machines.get_mut(machine).ok_or(Refusal::Gone)?;
        for effect in slot.machine.handle(event, now)? {
            match effect {
                Effect::LoadMedia { run, url } => {
                    slot.loaded = Some(url);
                    slot.machine.handle(Event::Guest(run, Guest::MediaLoaded), now)?;
                }
                Effect::RunRamdisk { .. } => slot.in_ramdisk = true,
                Effect::RunSystem { .. } => {}
                Effect::PowerCut { .. } => (slot.loaded, slot.in_ramdisk) = (None, false),
            }
        }
        // A kernel that panicked cuts no power, but its agent is gone as well.
        slot.in_ramdisk &= slot.machine.phase() == crate::machine::Phase::Ramdisk;
        Ok(())
    }
}

#[async_trait]
impl Connect for DirectFleet {
    async fn bmc(&self, access: &Access) -> BmcResult<Arc<dyn Bmc>> {
        let host = access.address.host_str().unwrap_or_default();
        let machine = self.specs().into_iter().find(|spec| spec.address.to_string() == host).map(|spec| spec.name);
        let known = access.username == USERNAME && access.password.expose_secret() == PASSWORD;
        Ok(Arc::new(DirectBmc { fleet: self.clone(), machine, known }))
    }
}

/// One BMC of the fleet. `machine` is `None` when nothing has that address.
struct DirectBmc {
    fleet: DirectFleet,
    machine: Option<String>,
    known: bool,
}

impl DirectBmc {
    /// One call: what is wrong with the BMC comes before and after what it does.
    fn call<T>(&self, act: impl FnOnce(&mut Inner, &str) -> BmcResult<T>) -> BmcResult<T> {
        let unreachable = |why: &str| Error::Unreachable { why: why.into() };
        let mut inner = self.fleet.lock();
        let name = self.machine.as_deref().ok_or_else(|| unreachable("no route to host"))?;
        let slot = inner.machines.get_mut(name).ok_or_else(|| unreachable("no route to host"))?;
        match slot.machine.faults().silence() {
            Some(Silence::Silent) => return Err(unreachable("timed out")),
            Some(Silence::Resets) => return Err(unreachable("connection reset")),
            None => {}
        }
        if slot.machine.take_unavailable() {
            return Err(Error::Busy { why: "503 Service Unavailable".into() });
        }
        if !self.known || slot.machine.faults().has(Fault::WrongPassword) {
            return Err(Error::Unauthorized);
        }
        let too_late = slot.machine.faults().delay() >= DEADLINE;
        let answer = act(&mut inner, name);
        if too_late { Err(unreachable("timed out")) } else { answer }
    }

    fn order(inner: &mut Inner, name: &str, what: &str, order: Order) -> BmcResult<()> {
        inner.handle(name, Event::Order(order)).map_err(|refusal| match refusal {
            Refusal::Busy | Refusal::DriveInUse => Error::Busy { why: refusal.to_string() },
            _ => Error::Rejected { what: what.into(), why: refusal.to_string() },
        })
    }

    fn has_drive(inner: &Inner, name: &str) -> BmcResult<()> {
        let has = Self::machine(inner, name).spec.boots(Target::Cd);
        if has { Ok(()) } else { Err(Error::Unsupported { what: "insert a virtual CD: no slot takes one".into() }) }
    }

    fn set_next(inner: &mut Inner, name: &str, target: Target) -> BmcResult<()> {
        if !Self::machine(inner, name).spec.boots(target) {
            return Err(Error::Unsupported { what: format!("boot {target:?}") });
        }
        let boot = match target {
            Target::None => Override::default(),
            target => Override { enabled: Enabled::Once, target },
        };
        Self::order(inner, name, SET_BOOT, Order::SetBoot(boot))?;
        let found = Self::machine(inner, name).machine.boot();
        if found == boot {
            return Ok(());
        }
        Err(Error::NotDone { what: SET_BOOT.into(), found: format!("{:?}", boot_device(found)) })
    }

    fn machine<'a>(inner: &'a Inner, name: &str) -> &'a Slot {
        inner.machines.get(name).expect("call() looked it up, and machines are never removed")
    }
}

#[async_trait]
impl Bmc for DirectBmc {
    async fn system(&self) -> BmcResult<System> {
        self.call(|inner, name| {
            let Slot { spec, machine, .. } = Self::machine(inner, name);
            Ok(System {
                power: machine.shown_power().map(power),
                boot: boot_device(machine.boot()),
                boot_uri: machine.boot_uri().map(str::to_string),
                bootable: Bootable {
                    cd: spec.boots(Target::Cd),
                    http: spec.boots(Target::UefiHttp),
                    pxe: spec.boots(Target::Pxe),
                },
                uuid: spec.shown_uuid(machine.faults()),
                vendor: spec.facts.vendor.clone(),
                model: spec.facts.model.clone(),
                serial: spec.facts.serial.clone(),
                health: Some(machine.health().into()),
            })
        })
    }

    async fn media(&self) -> BmcResult<Media> {
        self.call(|inner, name| {
            Self::has_drive(inner, name)?;
            let url = Self::machine(inner, name).machine.media().map(str::to_string);
            Ok(Media { url })
        })
    }

    async fn set_power(&self, target: PowerTarget) -> BmcResult<()> {
        let (reset, there, what) = match target {
            PowerTarget::On => (Reset::On, Shown::On, "switch the machine on"),
            PowerTarget::Off => (Reset::ForceOff, Shown::Off, "switch the machine off"),
        };
        self.call(|inner, name| {
            // As the Redfish client does: it looks first, so a BMC that lies is believed.
            if Self::machine(inner, name).machine.shown_power() == Some(there) {
                return Ok(());
            }
            Self::order(inner, name, what, Order::Reset(reset))
        })
    }

    async fn insert_media(&self, url: &str) -> BmcResult<()> {
        self.call(|inner, name| {
            Self::has_drive(inner, name)?;
            Self::order(inner, name, "insert media", Order::Insert(url.into()))
        })
    }

    async fn eject_media(&self) -> BmcResult<()> {
        self.call(|inner, name| {
            Self::has_drive(inner, name)?;
            Self::order(inner, name, "eject media", Order::Eject)
        })
    }

    async fn set_boot(&self, device: BootDevice) -> BmcResult<()> {
        let target = match device {
            BootDevice::Disk => Target::None,
            BootDevice::Cd => Target::Cd,
            BootDevice::Pxe => Target::Pxe,
            BootDevice::Http | BootDevice::Other => {
                return Err(Error::Rejected { what: SET_BOOT.into(), why: format!("{device:?} is no device") });
            }
        };
        self.call(|inner, name| Self::set_next(inner, name, target))
    }

    async fn set_http_boot(&self, url: &str) -> BmcResult<()> {
        self.call(|inner, name| {
            Self::order(inner, name, SET_BOOT, Order::SetHttpUri(Some(url.into())))?;
            Self::set_next(inner, name, Target::UefiHttp)
        })
    }

    async fn set_locator(&self, on: bool) -> BmcResult<()> {
        self.call(|inner, name| Self::order(inner, name, "switch the locator light", Order::SetLocator(on)))
    }
}

fn power(shown: Shown) -> Power {
    match shown {
        Shown::On | Shown::PoweringOff => Power::On,
        Shown::Off => Power::Off,
    }
}

fn boot_device(boot: Override) -> BootDevice {
    match (boot.enabled, boot.target) {
        (Enabled::Disabled, _) | (_, Target::None | Target::Hdd) => BootDevice::Disk,
        (_, Target::Cd) => BootDevice::Cd,
        (_, Target::Pxe) => BootDevice::Pxe,
        (_, Target::UefiHttp) => BootDevice::Http,
    }
}

#[cfg(test)]
mod tests;
