//! What holds after every step, whatever happened.

use crate::world::World;
use rackwright_api::host::Phase;
use rackwright_simulator::machine::Content;
use std::collections::BTreeMap;

/// `Err` says which invariant broke, and where.
pub fn check(world: &World) -> Result<(), String> {
    if let Some(outrage) = world.outrages.first() {
        return Err(outrage.clone());
    }
    one_host_per_machine(world)?;
    no_data_without_an_owner(world)?;
    available_hosts_are_clean(world)?;
    hosts_stay_small(world)?;
    provisioned_machines_run_their_own_image(world)?;
    crate::pools::check(world)
}

/// Two claims of one machine would be two nodes of one name.
fn one_host_per_machine(world: &World) -> Result<(), String> {
    let mut holders = BTreeMap::<String, String>::new();
    for host in world.hosts() {
        let name = host.metadata.name.clone().unwrap_or_default();
        if let Some(claim) = host.spec.claim
            && let Some(other) = holders.insert(claim.consumer.uid.clone(), name.clone())
        {
            return Err(format!("machine {} holds {other} and {name}", claim.consumer.name));
        }
    }
    Ok(())
}

/// A disk that holds anything of a machine belongs to a host that knows of it: claimed, or ordered to be wiped. Part of an
/// image that was written ahead is nothing of a machine.
fn no_data_without_an_owner(world: &World) -> Result<(), String> {
    for host in world.hosts() {
        let name = host.metadata.name.clone().unwrap_or_default();
        let disks = world.fleet.snapshot(&name).map(|seen| seen.disks).unwrap_or_default();
        let ahead = world.ahead.contains(&name) && disks.iter().all(|disk| disk.drive.is_none());
        let dirty = disks.iter().any(|disk| match disk.content {
            Content::Image(_) => true,
            Content::Partial => !ahead,
            _ => false,
        });
        if dirty && host.spec.claim.is_none() && !host.spec.needs_wipe() {
            return Err(format!("{name} holds data of nobody: {:?} {:?}", host.spec.wipe, host.spec.wiped));
        }
    }
    Ok(())
}

fn available_hosts_are_clean(world: &World) -> Result<(), String> {
    for host in world.hosts() {
        let phase = host.status.as_ref().and_then(|status| status.phase);
        if phase == Some(Phase::Available) && host.spec.needs_wipe() && host.spec.claim.is_some() {
            return Err(format!("{:?} is Available and not wiped", host.metadata.name));
        }
    }
    Ok(())
}

/// What a machine was told is on its disk is on its disk, for as long as it holds the host.
fn provisioned_machines_run_their_own_image(world: &World) -> Result<(), String> {
    for host in world.hosts().into_iter().filter(|host| host.spec.is_deployed()) {
        let name = host.metadata.name.clone().unwrap_or_default();
        let wanted = host.spec.claim.map(|claim| claim.provider_id).unwrap_or_default();
        let disks = world.fleet.snapshot(&name).map(|seen| seen.disks).unwrap_or_default();
        let drive = disks.iter().find_map(|disk| disk.drive.as_ref()).map(|drive| drive.meta_data.clone());
        if drive.as_deref() != Some(wanted.as_str()) {
            return Err(format!("{name} should hold the image of {wanted}, its config drive says {drive:?}"));
        }
    }
    Ok(())
}

/// Ten thousand of them are held in memory and in etcd.
fn hosts_stay_small(world: &World) -> Result<(), String> {
    for host in world.hosts() {
        let size = serde_json::to_string(&host).map_or(usize::MAX, |json| json.len());
        if size > 10_000 {
            return Err(format!("{:?} is {size} bytes large", host.metadata.name));
        }
    }
    Ok(())
}
