//! Which host a machine takes: first who will do at all, then who does best, and for each of the others the reason why not.
//!
//! Pure. An empty selector selects no host; a host of which nothing is known fulfils no hardware need.

use rackwright_api::common::selects;
use rackwright_api::conditions::is_true;
use rackwright_api::hardware::{Accelerator, Disk, Facts, Nic};
use rackwright_api::host::{Host, HostStatus, Operation, OperationKind, Phase};
use rackwright_api::image::Architecture;
use rackwright_api::machine::{
    AcceleratorNeed, DiskNeed, FirmwareNeed, HardwareNeeds, NicNeed, RackwrightMachineSpec, SpreadOver,
};
use std::collections::BTreeMap;

/// A host of the machine's namespace, as placement sees it.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Name.
    pub name: String,
    /// UID.
    pub uid: String,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Its rack.
    pub rack: String,
    /// Its datacenter.
    pub datacenter: String,
    /// Why it cannot be claimed at all, if so.
    pub taken: Option<Refusal>,
    /// What was found in it.
    pub facts: Option<Facts>,
    /// Machines of the same owner that are in the same rack and in the same datacenter.
    pub neighbours: Neighbours,
    /// A node pool keeps it warm for itself.
    pub kept_warm: bool,
}

/// Machines of the same owner nearby.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Neighbours {
    /// In the same rack.
    pub rack: i32,
    /// In the same datacenter.
    pub datacenter: i32,
}

/// Why a host is not taken. The order is the order in which a person would mend it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Refusal {
    /// A machine has it.
    Claimed,
    /// A node pool holds it.
    Reserved,
    /// A person keeps it out.
    Maintenance,
    /// It leaves or has left service.
    Retired,
    /// It waits for a person.
    Broken,
    /// It is being inspected, wiped or registered.
    NotAvailable,
    /// Its BMC does not answer.
    Unreachable,
    /// Something else is wrong with it: see its `Ready` condition.
    NotReady,
    /// Nothing is known of its hardware.
    NotInspected,
    /// Its labels do not fit the selector.
    Labels,
    /// Another failure domain was asked for.
    FailureDomain,
    /// Another processor architecture than the image's.
    Architecture,
    /// Too few cores.
    Cores,
    /// Too little memory.
    Memory,
    /// Too few disks, or too few of the kind that is asked for.
    Disks,
    /// Too few network interfaces, or too few that are fast enough.
    Nics,
    /// Other firmware than was asked for.
    Firmware,
    /// Too few accelerators.
    Accelerators,
    /// Its place already holds more than its share.
    Spread,
}

impl Refusal {
    /// True when a person has to act before the host can be claimed by anybody.
    pub fn is_lasting(self) -> bool {
        matches!(self, Refusal::Maintenance | Refusal::Retired | Refusal::Broken)
    }

    /// For people, after a count: "7 claimed".
    pub fn as_text(self) -> &'static str {
        match self {
            Refusal::Claimed => "claimed",
            Refusal::Reserved => "held by a node pool",
            Refusal::Maintenance => "in maintenance",
            Refusal::Retired => "retired",
            Refusal::Broken => "broken",
            Refusal::NotAvailable => "not available yet",
            Refusal::Unreachable => "with a silent BMC",
            Refusal::NotReady => "not ready",
            Refusal::NotInspected => "not inspected",
            Refusal::Labels => "with other labels",
            Refusal::FailureDomain => "in another failure domain",
            Refusal::Architecture => "of another architecture",
            Refusal::Cores => "with too few cores",
            Refusal::Memory => "with too little memory",
            Refusal::Disks => "with too few such disks",
            Refusal::Nics => "with too few such NICs",
            Refusal::Firmware => "with other firmware",
            Refusal::Accelerators => "with too few accelerators",
            Refusal::Spread => "in places that hold their share already",
        }
    }
}

/// Why a host cannot be claimed now, if so. `life`: the identifier of the reservation that the claimant comes by, if it
/// does. What a person has just written of the host must have been looked at: one with another machine's BMC looks free
/// until then.
pub fn unclaimable(host: &Host, life: Option<&str>) -> Option<Refusal> {
    let (spec, unknown) = (&host.spec, HostStatus::default());
    let status = host.status.as_ref().unwrap_or(&unknown);
    let holds = |condition| is_true(&status.conditions, condition);
    let deleting = host.metadata.deletion_timestamp.is_some();
    let looked_at = status.observed_generation == host.metadata.generation;
    if spec.claim.is_some() {
        Some(Refusal::Claimed)
    } else if spec.reservation.as_ref().is_some_and(|reservation| Some(reservation.id.as_str()) != life) {
        Some(Refusal::Reserved)
    } else if spec.maintenance.is_some() {
        Some(Refusal::Maintenance)
    } else if spec.retire.is_some() || deleting {
        Some(Refusal::Retired)
    } else if spec.broken.is_some() {
        Some(Refusal::Broken)
    } else if spec.needs_wipe()
        || status.phase != Some(Phase::Available)
        || status.operation.as_ref().is_some_and(keeps)
    {
        Some(Refusal::NotAvailable)
    } else if !holds("Reachable") {
        Some(Refusal::Unreachable)
    } else if !holds("Ready") || !looked_at {
        Some(Refusal::NotReady)
    } else {
        None
    }
}

/// A host that is kept warm may be taken at any time.
fn keeps(operation: &Operation) -> bool {
    operation.kind != OperationKind::Prepare
}

/// The host to take, or why there is none.
pub fn choose<'a>(
    wish: &RackwrightMachineSpec,
    architecture: Option<Architecture>,
    failure_domain: Option<&str>,
    candidates: &'a [Candidate],
) -> Result<&'a Candidate, Reasons> {
    let mut reasons = Reasons::default();
    let mut fitting = Vec::new();
    for candidate in candidates {
        match refuse(wish, architecture, failure_domain, candidate) {
            Some(refusal) => reasons.add(refusal, &candidate.name),
            None => fitting.push(candidate),
        }
    }
    let over = wish.spread.as_ref().map_or(SpreadOver::Rack, |spread| spread.over);
    if let Some(max_skew) = wish.spread.as_ref().and_then(|spread| spread.max_skew) {
        let fewest = places(wish, architecture, failure_domain, candidates, over).into_values().min().unwrap_or(0);
        fitting.retain(|candidate| {
            let fits = held(candidate, over) - fewest < max_skew;
            if !fits {
                reasons.add(Refusal::Spread, &candidate.name);
            }
            fits
        });
    }
    let best = fitting.into_iter().min_by_key(|candidate| {
        (
            held(candidate, over),
            candidate.neighbours.rack,
            candidate.kept_warm,
            surplus(wish, candidate),
            &candidate.name,
        )
    });
    best.ok_or(reasons)
}

/// How many machines each place holds that could hold one of this kind, whether its hosts are free or not.
fn places<'a>(
    wish: &RackwrightMachineSpec,
    architecture: Option<Architecture>,
    failure_domain: Option<&str>,
    candidates: &'a [Candidate],
    over: SpreadOver,
) -> BTreeMap<&'a str, i32> {
    let usable = |candidate: &&Candidate| {
        unfit(wish, architecture, failure_domain, candidate).is_none()
            && matches!(candidate.taken, None | Some(Refusal::Claimed | Refusal::Reserved | Refusal::NotAvailable))
    };
    candidates.iter().filter(usable).map(|candidate| (place_of(candidate, over), held(candidate, over))).collect()
}

fn place_of(candidate: &Candidate, over: SpreadOver) -> &str {
    match over {
        SpreadOver::Rack => &candidate.rack,
        SpreadOver::Datacenter => &candidate.datacenter,
    }
}

fn held(candidate: &Candidate, over: SpreadOver) -> i32 {
    match over {
        SpreadOver::Rack => candidate.neighbours.rack,
        SpreadOver::Datacenter => candidate.neighbours.datacenter,
    }
}

/// What the machine does not need: large hosts are kept for those who need them. GiB of memory and cores, added up.
fn surplus(wish: &RackwrightMachineSpec, candidate: &Candidate) -> i64 {
    let Some(facts) = &candidate.facts else { return i64::MAX };
    let needs = wish.host.as_ref().and_then(|host| host.hardware.clone()).unwrap_or_default();
    plenty(facts) - needs.min_memory_gib.unwrap_or(0) - 4 * i64::from(needs.min_cpu_cores.unwrap_or(0))
}

/// How much there is in a host, to tell the small from the large: GiB of memory, cores and accelerators, added up.
pub fn plenty(facts: &Facts) -> i64 {
    let accelerators = i64::try_from(facts.accelerators.len()).unwrap_or(i64::MAX / 2000);
    facts.memory_mib / 1024 + 4 * i64::from(facts.cpu.cores) + 1000 * accelerators
}

fn refuse(
    wish: &RackwrightMachineSpec,
    architecture: Option<Architecture>,
    failure_domain: Option<&str>,
    candidate: &Candidate,
) -> Option<Refusal> {
    candidate.taken.or_else(|| unfit(wish, architecture, failure_domain, candidate))
}

/// Why a host will not do, even if it were free.
fn unfit(
    wish: &RackwrightMachineSpec,
    architecture: Option<Architecture>,
    failure_domain: Option<&str>,
    candidate: &Candidate,
) -> Option<Refusal> {
    let selector = wish.host.as_ref().and_then(|host| host.selector.as_ref());
    if selector.is_some() && !selects(selector, &candidate.labels) {
        return Some(Refusal::Labels);
    }
    if failure_domain.is_some_and(|domain| domain != candidate.rack && domain != candidate.datacenter) {
        return Some(Refusal::FailureDomain);
    }
    let needs = wish.host.as_ref().and_then(|host| host.hardware.as_ref());
    unequipped(needs, architecture, candidate.facts.as_ref())
}

/// Why a host in which `facts` were found does not fulfil `needs`, or cannot run an image for `architecture`.
pub fn unequipped(
    needs: Option<&HardwareNeeds>,
    architecture: Option<Architecture>,
    facts: Option<&Facts>,
) -> Option<Refusal> {
    let Some(facts) = facts else { return Some(Refusal::NotInspected) };
    if architecture.is_some_and(|architecture| architecture.as_str() != facts.cpu.architecture) {
        return Some(Refusal::Architecture);
    }
    lacks(needs?, facts)
}

fn lacks(needs: &HardwareNeeds, facts: &Facts) -> Option<Refusal> {
    let some_disks = needs.min_disks.is_none_or(|wanted| has(wanted, facts.disks.iter()));
    if needs.min_cpu_cores.is_some_and(|cores| facts.cpu.cores < cores) {
        Some(Refusal::Cores)
    } else if needs.min_memory_gib.is_some_and(|memory| facts.memory_mib < memory * 1024) {
        Some(Refusal::Memory)
    } else if !some_disks || !needs.disks.iter().all(|need| has_disks(need, facts)) {
        Some(Refusal::Disks)
    } else if !needs.nics.iter().all(|need| has_nics(need, facts)) {
        Some(Refusal::Nics)
    } else if !needs.firmware.as_ref().is_none_or(|need| has_firmware(need, facts)) {
        Some(Refusal::Firmware)
    } else if !needs.accelerators.iter().all(|need| has_accelerators(need, facts)) {
        Some(Refusal::Accelerators)
    } else {
        None
    }
}

/// True when there are at least `wanted` of them.
fn has<T>(wanted: i32, found: impl Iterator<Item = T>) -> bool {
    i64::try_from(found.count()).unwrap_or(i64::MAX) >= i64::from(wanted)
}

fn has_disks(need: &DiskNeed, facts: &Facts) -> bool {
    let fits = |disk: &&Disk| {
        !disk.read_only
            && need.min_size_gib.is_none_or(|gib| disk.size_bytes / (1 << 30) >= gib)
            && need.rotational.is_none_or(|rotational| disk.rotational == rotational)
    };
    has(need.min, facts.disks.iter().filter(fits))
}

/// A speed that is not known is no speed.
fn has_nics(need: &NicNeed, facts: &Facts) -> bool {
    let fits =
        |nic: &&Nic| need.min_speed_gbps.is_none_or(|gbps| nic.speed_mbps.is_some_and(|mbps| mbps / 1000 >= gbps));
    has(need.min, facts.nics.iter().filter(fits))
}

fn has_firmware(need: &FirmwareNeed, facts: &Facts) -> bool {
    let found = facts.firmware.clone().unwrap_or_default();
    let version = found.version.unwrap_or_default();
    (need.vendor.is_none() || need.vendor == found.vendor)
        && (need.versions.is_empty() || need.versions.contains(&version))
        && (need.secure_boot.is_none() || need.secure_boot == facts.secure_boot)
}

fn has_accelerators(need: &AcceleratorNeed, facts: &Facts) -> bool {
    let fits = |found: &&Accelerator| {
        found.vendor == need.vendor && need.model.as_ref().is_none_or(|model| *model == found.model)
    };
    has(need.min, facts.accelerators.iter().filter(fits))
}

/// Why no host was taken: per reason, which hosts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reasons(BTreeMap<Refusal, Vec<String>>);

impl Reasons {
    fn add(&mut self, refusal: Refusal, host: &str) {
        self.0.entry(refusal).or_default().push(host.to_string());
    }

    /// Hosts per reason.
    pub fn iter(&self) -> impl Iterator<Item = (&Refusal, &[String])> {
        self.0.iter().map(|(refusal, hosts)| (refusal, hosts.as_slice()))
    }
}

impl std::fmt::Display for Reasons {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let all: usize = self.0.values().map(Vec::len).sum();
        if all == 0 {
            return f.write_str("there are no hosts in this namespace");
        }
        write!(f, "{all} hosts: ")?;
        for (place, (refusal, hosts)) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{} {}", hosts.len(), refusal.as_text())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
