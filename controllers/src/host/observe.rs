//! Reads everything that a decision about one host may rest on. Writes nothing.

use super::credentials::inherited;
use super::view::{Consumer, HardwareSeen, HostView, MediaSeen, Observed, Place, Problem, Twin};
use crate::context::Context;
use crate::kubeio::{Error, cached};
use kube::{Api, ResourceExt};
use rackwright_api::host::{Claim, Operation, OperationKind};
use rackwright_api::{
    Datacenter, HOST_FINALIZER, Host, INSPECT_ANNOTATION, REPAIRED_ANNOTATION, Rack, RackwrightMachine, contract,
};
use rackwright_bmc::{Access, Bmc};
use rackwright_protocol::media;
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
        });
    let consumer = find_consumer(host, ctx).await?;
    let (place, bmc) = match place {
        Ok((place, rack, datacenter)) => {
            let bmc = look(host, &namespace, &place, &rack, &datacenter, ctx).await?;
            (Ok(place), bmc)
        }
        Err(problem) => (Err(problem.clone()), Observed::Silent(problem)),
    };
    Ok(HostView {
        name: host.name_any(),
        uid: host.uid().unwrap_or_default(),
        generation: host.metadata.generation,
        spec: host.spec.clone(),
        status: host.status.clone().unwrap_or_default(),
        deleting: host.metadata.deletion_timestamp.is_some(),
        held: host.finalizers().iter().any(|finalizer| finalizer == HOST_FINALIZER),
        paused: contract::is_paused(&host.metadata, None),
        repaired: host.annotations().get(REPAIRED_ANNOTATION).cloned(),
        inspect: host.annotations().contains_key(INSPECT_ANNOTATION),
        place,
        twin: find_twin(host, ctx),
        bmc,
        hardware,
        consumer,
        fresh_id: ctx.clock.fresh_id(),
    })
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
    };
    Ok((place, rack, datacenter))
}

/// The older of two hosts that say they are the same machine keeps working; the newer one says why it does not.
fn find_twin(host: &Host, ctx: &Context) -> Option<Twin> {
    let age = |host: &Host| (host.creation_timestamp().map(|time| time.0), host.uid());
    let shared = |other: &Host| {
        if other.spec.bmc.address == host.spec.bmc.address {
            Some("bmc.address")
        } else if other.spec.boot_mac_address == host.spec.boot_mac_address {
            Some("bootMACAddress")
        } else {
            None
        }
    };
    let older = ctx
        .caches
        .hosts
        .store
        .find(|other| other.uid() != host.uid() && shared(other).is_some() && age(other) < age(host))?;
    Some(Twin { name: older.name_any(), field: shared(&older)? })
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
    ctx: &Context,
) -> Result<Observed, Error> {
    let bmc = match connect(host, namespace, rack, datacenter, ctx).await? {
        Ok(bmc) => bmc,
        Err(problem) => return Ok(Observed::Silent(problem)),
    };
    let operation = host.status.as_ref().and_then(|status| status.operation.as_ref());
    let seen = async {
        let system = bmc.system().await?;
        let media = match operation {
            Some(operation) if operation.kind != OperationKind::PowerOn => {
                let inserted = bmc.media().await?.url;
                let ours = media_url(host, place, operation, ctx);
                match inserted {
                    None => MediaSeen::Empty,
                    Some(url) if is_same_media(&url, &ours) => MediaSeen::Ours,
                    Some(_) => MediaSeen::Other,
                }
            }
            _ => MediaSeen::Unread,
        };
        Ok((system, media))
    }
    .await;
    Ok(match seen {
        Ok((system, media)) => Observed::Seen { system, media },
        Err(error) => {
            if error == rackwright_bmc::Error::Unauthorized {
                ctx.credentials.forget(namespace, credentials_ref(host, rack, datacenter));
            }
            Observed::Silent(problem(&error))
        }
    })
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
    let uid = host.uid().unwrap_or_default();
    let secret = ctx.boot_key.secret(Purpose::Media, &uid, &operation.id);
    let path = media::path(&host.namespace().unwrap_or_default(), &host.name_any(), &operation.id, &secret);
    format!("{}{path}", place.boot_url)
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
