//! Reads everything that a decision about one host may rest on. Writes nothing.

use super::credentials::inherited;
use super::decide::is_drive_wrong;
use super::view::{Consumer, HardwareSeen, HostView, MediaSeen, Observed, Place, Problem, Twin};
use crate::context::Context;
use crate::kubeio::{Error, cached};
use jiff::Timestamp;
use kube::{Api, ResourceExt};
use rackwright_api::host::{BootWay, Claim, Operation, OperationKind, Stage};
use rackwright_api::{
    Datacenter, HOST_FINALIZER, Host, INSPECT_ANNOTATION, REPAIRED_ANNOTATION, Rack, RackwrightMachine, contract,
};
use rackwright_bmc::{Access, Bmc, BootDevice, Media, System};
use rackwright_protocol::media::{self, MediaKind};
use rackwright_protocol::token::Purpose;
use std::sync::Arc;

/// What this pass knows of `host`.
pub async fn observe(host: &Host, ctx: &Context) -> Result<HostView, Error> {
    let namespace = host.namespace().unwrap_or_default();
    let place = find_place(host, &namespace, ctx);
    let hardware = cached(&ctx.caches.hardware.store, &namespace, &host.name_any())
        .filter(|hardware| hardware.owner_references().iter().any(|owner| Some(&owner.uid) == host.uid().as_ref()))
        .map(|hardware| HardwareSeen {
            operation_id: hardware.spec.operation_id.clone(),
            at: hardware.spec.inspected_at,
            system_uuid: hardware.spec.facts.system_uuid.clone(),
            boot_mode: hardware.spec.facts.boot_mode.clone(),
            largest_disk: hardware.spec.facts.disks.iter().map(|disk| disk.size_bytes).max().unwrap_or(0),
        });
    let consumer = find_consumer(host, ctx).await?;
    let (place, bmc) = match place {
        Ok((place, rack, datacenter)) => {
            let drive = drive_wanted(host, hardware.is_some());
            let bmc = look(host, &namespace, &place, &rack, &datacenter, drive, ctx).await?;
            (Ok(place), bmc)
        }
        Err(problem) => (Err(problem.clone()), Observed::Silent(problem)),
    };
    let mut view = HostView {
        name: host.name_any(),
        uid: host.uid().unwrap_or_default(),
        generation: host.metadata.generation,
        spec: host.spec.clone(),
        status: host.status.clone().unwrap_or_default(),
        deleting: host.metadata.deletion_timestamp.is_some(),
        held: host.finalizers().iter().any(|finalizer| finalizer == HOST_FINALIZER),
        paused: contract::is_paused(&host.metadata, find_cluster(host, ctx).as_deref()),
        repaired: host.annotations().get(REPAIRED_ANNOTATION).cloned(),
        inspect: host.annotations().contains_key(INSPECT_ANNOTATION),
        place,
        twin: find_twin(host, ctx),
        bmc,
        drive_wrong_since: None,
        hardware,
        consumer,
        warm_wanted: is_warm_wanted(host, ctx),
        fresh_id: ctx.clock.fresh_id(),
    };
    view.drive_wrong_since = drive_wrong_since(&view, ctx);
    Ok(view)
}

/// Since when the drive does not hold what it should, as far as this process has seen.
fn drive_wrong_since(view: &HostView, ctx: &Context) -> Option<Timestamp> {
    match (&view.status.operation, is_drive_wrong(view)) {
        (Some(operation), true) => Some(ctx.wrong_drives.noticed(&view.uid, &operation.id, ctx.clock.now())),
        _ => {
            ctx.wrong_drives.forget(&view.uid);
            None
        }
    }
}

/// Whether and how the drive is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Drive {
    /// Nothing is done that needs it.
    Left,
    /// A host is switched on again: media that it would not let go of while it was on is looked for. If that cannot be
    /// told, it is no matter.
    Forgotten,
    /// The ramdisk is booted, or soon will be.
    Needed,
}

fn drive_wanted(host: &Host, inspected: bool) -> Drive {
    let spec = &host.spec;
    match host.status.as_ref().and_then(|status| status.operation.as_ref()) {
        Some(operation) if operation.kind == OperationKind::PowerOn => Drive::Forgotten,
        Some(operation) if operation.stage == Stage::Warm => Drive::Left,
        Some(_) => Drive::Needed,
        None if spec.broken.is_some() || spec.is_deployed() => Drive::Left,
        None if spec.claim.is_some() || spec.needs_wipe() || !inspected => Drive::Needed,
        None if spec.warm.is_some() || host.annotations().contains_key(INSPECT_ANNOTATION) => Drive::Needed,
        None => Drive::Left,
    }
}

type Standing = (Place, Arc<Rack>, Arc<Datacenter>);

fn find_place(host: &Host, namespace: &str, ctx: &Context) -> Result<Standing, Problem> {
    let missing = |message| Problem { reason: "PlaceMissing", message };
    let rack = cached(&ctx.caches.racks.store, namespace, &host.spec.rack)
        .ok_or_else(|| missing(format!("Rack {} (spec.rack) does not exist", host.spec.rack)))?;
    let datacenter = cached(&ctx.caches.datacenters.store, namespace, &rack.spec.datacenter).ok_or_else(|| {
        missing(format!(
            "Datacenter {} of rack {} (spec.datacenter) does not exist",
            rack.spec.datacenter, host.spec.rack
        ))
    })?;
    let place = Place {
        datacenter: datacenter.name_any(),
        region: datacenter.spec.region.clone(),
        boot_url: datacenter.spec.boot.url.trim_end_matches('/').to_string(),
        firmware_url: datacenter.spec.boot.firmware_url.as_ref().map(|url| url.trim_end_matches('/').to_string()),
    };
    Ok((place, rack, datacenter))
}

/// A pool that went without taking its order back wants nothing any more.
fn is_warm_wanted(host: &Host, ctx: &Context) -> bool {
    let pool = host.spec.warm.as_ref().map(|order| &order.pool);
    pool.is_some_and(|pool| cached(&ctx.caches.pools.store, &pool.namespace, &pool.name).is_some())
}

/// The Cluster of the machine that claims it: when that is paused, nobody touches its hosts.
fn find_cluster(host: &Host, ctx: &Context) -> Option<Arc<contract::Cluster>> {
    let claim = host.spec.claim.as_ref()?;
    cached(&ctx.caches.clusters.store, &claim.consumer.namespace, &claim.cluster_name)
}

fn find_twin(host: &Host, ctx: &Context) -> Option<Twin> {
    first_twin(host, &ctx.caches.hosts.store.state_filter(|other| twin(host, other).is_some()))
}

/// Of several that go before `host` the first of all, so that the same situation always names the same one.
fn first_twin(host: &Host, others: &[Arc<Host>]) -> Option<Twin> {
    let before = others.iter().filter(|other| twin(host, other).is_some());
    twin(host, before.min_by_key(|other| (!is_in_use(other), age(other)))?)
}

/// `other`, when both say that they are the same machine and `other` goes first: the one that is in use, else the older.
/// When both are in use neither is touched, because one of them speaks of a machine that is not its own.
fn twin(host: &Host, other: &Host) -> Option<Twin> {
    let field = if is_same_bmc(&other.spec.bmc.address, &host.spec.bmc.address) {
        "bmc.address"
    } else if other.spec.boot_mac_address == host.spec.boot_mac_address {
        "bootMACAddress"
    } else {
        return None;
    };
    let rank = match (is_in_use(other), is_in_use(host)) {
        _ if other.metadata.uid == host.metadata.uid => return None,
        (true, _) => "in use",
        (false, false) if age(other) < age(host) => "older",
        (false, _) => return None,
    };
    Some(Twin { name: other.name_any(), field, rank })
}

fn is_in_use(host: &Host) -> bool {
    host.spec.claim.is_some() || host.spec.needs_wipe()
}

fn age(host: &Host) -> (Option<Timestamp>, Option<String>) {
    (host.creation_timestamp().map(|time| time.0), host.uid())
}

/// Without making a URL of each: every look at a host compares it with all others.
fn is_same_bmc(one: &str, other: &str) -> bool {
    fn plain(address: &str) -> &str {
        let address = address.trim_end_matches('/');
        address.strip_suffix(":443").unwrap_or(address)
    }
    plain(one).eq_ignore_ascii_case(plain(other))
}

/// The claim is believed only as far as its machine agrees. A machine that the cache does not show is asked for.
async fn find_consumer(host: &Host, ctx: &Context) -> Result<Consumer, Error> {
    let Some(claim) = &host.spec.claim else { return Ok(Consumer::None) };
    let known = cached(&ctx.caches.rackwright_machines.store, &claim.consumer.namespace, &claim.consumer.name);
    if let Some(machine) = known
        && agrees(claim, &machine) == Consumer::Present
    {
        return Ok(Consumer::Present);
    }
    let api = Api::<RackwrightMachine>::namespaced(ctx.client.clone(), &claim.consumer.namespace);
    let found = api.get_opt(&claim.consumer.name).await?;
    Ok(found.map_or(Consumer::Gone, |machine| agrees(claim, &machine)))
}

fn agrees(claim: &Claim, machine: &RackwrightMachine) -> Consumer {
    if machine.spec.provider_id.as_ref() == Some(&claim.provider_id) {
        Consumer::Present // also when `clusterctl move` gave it a new UID
    } else if machine.uid().as_ref() == Some(&claim.consumer.uid) {
        Consumer::Elsewhere
    } else {
        Consumer::Gone // another machine of the same name
    }
}

async fn look(
    host: &Host,
    namespace: &str,
    place: &Place,
    rack: &Rack,
    datacenter: &Datacenter,
    drive: Drive,
    ctx: &Context,
) -> Result<Observed, Error> {
    let bmc = match connect(host, namespace, rack, datacenter, ctx).await? {
        Ok(bmc) => bmc,
        Err(problem) => return Ok(Observed::Silent(problem)),
    };
    let ours = our_media(host, place, ctx);
    let seen = async {
        let system = bmc.system().await?;
        let media = match drive {
            Drive::Left => MediaSeen::Unread,
            Drive::Forgotten => look_into_drive(&*bmc, ours.as_deref()).await.unwrap_or(MediaSeen::Unread),
            Drive::Needed => look_into_drive(&*bmc, ours.as_deref()).await?,
        };
        Ok((system, media))
    }
    .await;
    Ok(match seen {
        Ok((system, media)) => Observed::Seen { system: without_uri(system, ours.as_deref()), media },
        Err(error) => {
            if error == rackwright_bmc::Error::Unauthorized {
                ctx.credentials.forget(namespace, credentials_ref(host, rack, datacenter));
            }
            Observed::Silent(problem(&error))
        }
    })
}

/// URL of the media of the operation that runs, or for a host that is switched on again of the one that deployed it.
fn our_media(host: &Host, place: &Place, ctx: &Context) -> Option<String> {
    let operation = host.status.as_ref()?.operation.as_ref()?;
    if operation.kind != OperationKind::PowerOn {
        return Some(media_url(host, place, operation, ctx));
    }
    let deployed = host.spec.deployed.as_ref()?;
    Some(media_of(host, place, &deployed.operation_id, MediaKind::Iso, ctx))
}

async fn look_into_drive(bmc: &dyn Bmc, ours: Option<&str>) -> Result<MediaSeen, rackwright_bmc::Error> {
    match bmc.media().await {
        Ok(Media { url: None }) => Ok(MediaSeen::Empty),
        Ok(Media { url: Some(url) }) if ours.is_some_and(|ours| is_same_media(&url, ours)) => Ok(MediaSeen::Ours),
        Ok(Media { url: Some(_) }) => Ok(MediaSeen::Other),
        Err(rackwright_bmc::Error::Unsupported { .. }) => Ok(MediaSeen::NoDrive),
        Err(error) => Err(error),
    }
}

/// What is to be fetched is a secret, so it goes no further; only whether it is ours. Of another one's URL nothing is known,
/// so it counts as somebody else's device. sushy-tools shows the CD while it boots our URL.
fn without_uri(system: System, ours: Option<&str>) -> System {
    let is_ours = system.boot_uri.as_deref().map(|uri| ours.is_some_and(|ours| is_same_media(uri, ours)));
    let boot = match (system.boot, is_ours) {
        (BootDevice::Http | BootDevice::Cd, Some(true)) => BootDevice::Http,
        (BootDevice::Http, Some(false)) => BootDevice::Other,
        (boot, _) => boot,
    };
    System { boot, boot_uri: None, ..system }
}

/// The BMC of `host`, or what a person must put right first. The access itself never leaves this function.
pub async fn connect(
    host: &Host,
    namespace: &str,
    rack: &Rack,
    datacenter: &Datacenter,
    ctx: &Context,
) -> Result<Result<Arc<dyn Bmc>, Problem>, Error> {
    let now = ctx.clock.now();
    let login = ctx.credentials.login(&ctx.client, namespace, credentials_ref(host, rack, datacenter), now).await?;
    let layers = defaults(rack, datacenter);
    let trust = inherited(host.spec.bmc.trust.as_ref(), layers, |layer| layer.trust.as_ref());
    let trust = ctx.credentials.trust(&ctx.client, namespace, trust, now).await?;
    let (login, trust) = match (login, trust) {
        (Ok(login), Ok(trust)) => (login, trust),
        (Err(problem), _) | (_, Err(problem)) => return Ok(Err(problem)),
    };
    let address = match host.spec.bmc.address.parse() {
        Ok(address) => address,
        Err(why) => {
            let message = format!("spec.bmc.address {} is not a URL: {why}", host.spec.bmc.address);
            return Ok(Err(Problem { reason: "BMCAddressInvalid", message }));
        }
    };
    let access = Access { address, username: login.username, password: login.password, trust };
    Ok(ctx.bmcs.bmc(&access).await.map_err(|error| problem(&error)))
}

fn defaults<'a>(rack: &'a Rack, datacenter: &'a Datacenter) -> [Option<&'a rackwright_api::host::BmcDefaults>; 2] {
    [
        rack.spec.host_defaults.as_ref().and_then(|defaults| defaults.bmc.as_ref()),
        datacenter.spec.host_defaults.as_ref().and_then(|defaults| defaults.bmc.as_ref()),
    ]
}

fn credentials_ref<'a>(
    host: &'a Host,
    rack: &'a Rack,
    datacenter: &'a Datacenter,
) -> Option<&'a rackwright_api::common::LocalReference> {
    inherited(host.spec.bmc.credentials_ref.as_ref(), defaults(rack, datacenter), |layer| {
        layer.credentials_ref.as_ref()
    })
}

/// URL of the media of one operation; whoever knows it may fetch the media, so it goes to the BMC and nowhere else.
pub fn media_url(host: &Host, place: &Place, operation: &Operation, ctx: &Context) -> String {
    let kind = match operation.way {
        Some(BootWay::HTTPBoot) => MediaKind::Efi,
        Some(BootWay::VirtualMedia | BootWay::PXE) | None => MediaKind::Iso,
    };
    // An agent that takes an operation over was booted from the media of another.
    let booted = operation.takes_over.as_ref().unwrap_or(&operation.id);
    media_of(host, place, booted, kind, ctx)
}

fn media_of(host: &Host, place: &Place, operation_id: &str, kind: MediaKind, ctx: &Context) -> String {
    let uid = host.uid().unwrap_or_default();
    let secret = ctx.boot_key.secret(Purpose::Media, &uid, operation_id);
    let namespace = host.namespace().unwrap_or_default();
    let path = media::path(&namespace, &host.name_any(), operation_id, &secret, kind);
    // Firmware that fetches it by HTTP may need a way of its own; a BMC never does.
    let base = place.firmware_url.as_ref().filter(|_| kind == MediaKind::Efi).unwrap_or(&place.boot_url);
    format!("{base}{path}")
}

/// Some BMCs show another form of the URL than they were given; the last segment is this operation's secret, so it is enough.
fn is_same_media(shown: &str, ours: &str) -> bool {
    shown == ours || shown.rsplit('/').next() == ours.rsplit('/').next()
}

fn problem(error: &rackwright_bmc::Error) -> Problem {
    use rackwright_bmc::Error;
    let reason = match error {
        Error::Unreachable { .. } => "BMCUnreachable",
        Error::Unauthorized => "BMCPasswordRefused",
        Error::Untrusted { .. } => "BMCCertificateRefused",
        Error::Busy { .. } => "BMCBusy",
        Error::Unsupported { .. } => "BMCUnsupported",
        Error::Rejected { .. } => "BMCRefused",
        Error::NotDone { .. } => "BMCDidNotDoIt",
        Error::Garbled { .. } => "BMCAnswerGarbled",
    };
    Problem { reason, message: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn host(name: &str, born: u8, mac: &str, claim: Value) -> Host {
        let host = json!({
            "apiVersion": "rackwright.dev/v1alpha1", "kind": "Host",
            "metadata": { "name": name, "uid": name, "creationTimestamp": format!("2026-01-01T00:00:{born:02}Z") },
            "spec": {
                "rack": "a", "bootMACAddress": mac, "claim": claim,
                "bmc": { "address": "https://10.1.1.7" },
            },
        });
        serde_json::from_value(host).expect("a Host")
    }

    fn claim() -> Value {
        json!({
            "consumer": { "namespace": "metal", "name": "web-1", "uid": "machine" }, "clusterName": "prod",
            "image": { "name": "debian", "url": "http://images/debian", "digest": "sha256:00", "format": "raw" },
            "userData": { "name": "web-1" }, "hostname": "web-1", "providerID": "rackwright://metal/a/machine",
            "claimedAt": "2026-01-01T00:01:00Z",
        })
    }

    fn rank(host: &Host, other: &Host) -> Option<&'static str> {
        twin(host, other).map(|twin| twin.rank)
    }

    #[test]
    fn a_url_to_boot_is_ours_or_somebody_elses_and_goes_no_further() {
        let ours = "https://boot/media/ns/host/op/secret.efi";
        let seen = |boot, uri: Option<&str>, ours| {
            let system = System { boot, boot_uri: uri.map(str::to_owned), ..System::default() };
            let seen = without_uri(system, ours);
            assert_eq!(seen.boot_uri, None);
            seen.boot
        };
        assert_eq!(seen(BootDevice::Http, Some(ours), Some(ours)), BootDevice::Http);
        assert_eq!(seen(BootDevice::Http, None, Some(ours)), BootDevice::Http, "it is not shown");
        assert_eq!(seen(BootDevice::Http, Some("https://boot/other.efi"), Some(ours)), BootDevice::Other);
        assert_eq!(seen(BootDevice::Http, Some(ours), None), BootDevice::Other, "of an earlier try");
        assert_eq!(seen(BootDevice::Cd, Some(ours), Some(ours)), BootDevice::Http, "sushy-tools");
        assert_eq!(seen(BootDevice::Cd, Some("https://boot/other.efi"), Some(ours)), BootDevice::Cd);
        assert_eq!(seen(BootDevice::Disk, Some(ours), Some(ours)), BootDevice::Disk, "it was used");
    }

    #[test]
    fn of_two_free_hosts_with_one_bmc_the_older_goes_first() {
        let (old, new) = (host("old", 1, "m1", Value::Null), host("new", 2, "m2", Value::Null));
        assert_eq!((rank(&new, &old), rank(&old, &new), rank(&old, &old)), (Some("older"), None, None));
    }

    #[test]
    fn a_host_in_use_goes_before_an_older_one_that_a_person_gave_its_address() {
        let (old, used) = (host("old", 1, "m1", Value::Null), host("used", 2, "m2", claim()));
        assert_eq!((rank(&old, &used), rank(&used, &old)), (Some("in use"), None));
    }

    #[test]
    fn of_two_hosts_in_use_with_one_bmc_neither_is_touched() {
        let (one, other) = (host("one", 1, "m1", claim()), host("other", 2, "m2", claim()));
        assert_eq!((rank(&one, &other), rank(&other, &one)), (Some("in use"), Some("in use")));
    }

    #[test]
    fn of_several_the_one_in_use_is_named_and_then_the_oldest() {
        let new = host("new", 9, "m9", Value::Null);
        let [old, older] = [("old", 2), ("older", 1)].map(|(name, born)| Arc::new(host(name, born, "m", Value::Null)));
        let used = Arc::new(host("used", 5, "m5", claim()));
        let named = |others: &[Arc<Host>]| first_twin(&new, others).map(|twin| twin.name);
        assert_eq!(named(&[old.clone(), older.clone(), used.clone()]).as_deref(), Some("used"));
        assert_eq!(named(&[old, older]).as_deref(), Some("older"));
    }

    #[test]
    fn a_shared_boot_mac_is_named() {
        let (old, mut new) = (host("old", 1, "m1", Value::Null), host("new", 2, "m1", Value::Null));
        new.spec.bmc.address = "https://10.1.1.8".into();
        assert_eq!(twin(&new, &old).map(|twin| twin.field), Some("bootMACAddress"));
    }

    #[test]
    fn one_bmc_is_written_in_several_ways() {
        for same in ["https://bmc-7", "https://bmc-7/", "https://BMC-7", "https://bmc-7:443", "https://bmc-7:443/"] {
            assert!(is_same_bmc("https://bmc-7", same), "{same}");
        }
        for other in ["https://bmc-70", "https://bmc-7:8443", "https://bmc-7/redfish/v1/Systems/2"] {
            assert!(!is_same_bmc("https://bmc-7", other), "{other}");
        }
    }
}
