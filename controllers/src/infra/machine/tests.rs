use super::act::Outcome;
use super::decide::{Step, Wait, decide};
use super::record::status;
use super::view::*;
use crate::context::Limits;
use jiff::Timestamp;
use rackwright_api::common::{LocalReference, UidReference};
use rackwright_api::conditions::find;
use rackwright_api::host::*;
use rackwright_api::image::{DiskImage, FinalBoot, OSImage, OSImageSpec};
use rackwright_api::installer::{ANSWERS_MAX, Installer};
use rackwright_api::machine::*;
use rackwright_placement::{Candidate, Neighbours};
use rackwright_protocol::facts::{Cpu, Facts, ImageFormat};
use std::sync::Arc;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a valid time")
}

fn id() -> ProviderId {
    ProviderId { namespace: "ns".into(), host: "a01-u07".into(), machine_uid: "machine".into() }
}

/// A machine that is ready to choose a host, with one that will do.
fn machine() -> MachineView {
    let disk = DiskImage { url: "http://images/debian".into(), digest: "sha256:00".into(), format: ImageFormat::Raw };
    let image = OSImageSpec {
        architecture: Default::default(),
        kubernetes_version: None,
        disk: Some(disk),
        installer: None,
        config_drive: Default::default(),
        final_boot: Default::default(),
    };
    MachineView {
        name: "web-1".into(),
        namespace: "ns".into(),
        uid: "machine".into(),
        generation: Some(1),
        spec: RackwrightMachineSpec {
            provider_id: None,
            image: LocalReference { name: "debian".into() },
            host: None,
            spread: None,
            wipe: None,
        },
        status: RackwrightMachineStatus::default(),
        created: Some(at(0)),
        deleting: false,
        held: false,
        paused: false,
        pooled: false,
        owner: Some(OwnerSeen { data_secret: Some("web-1".into()), ..OwnerSeen::default() }),
        cluster: Some(ClusterSeen { name: "prod".into(), infrastructure_provisioned: true }),
        image: Some(Arc::new(OSImage::new("debian", image))),
        answers: AnswersSeen::None,
        host: HostSeen::NotChosen,
        candidates: vec![Candidate {
            name: "a01-u07".into(),
            uid: "host".into(),
            labels: Default::default(),
            rack: "a01".into(),
            datacenter: "osl1".into(),
            taken: None,
            facts: Some(Facts { cpu: Cpu { architecture: "amd64".into(), ..Cpu::default() }, ..Facts::default() }),
            neighbours: Neighbours::default(),
            kept_warm: false,
        }],
    }
}

fn chosen() -> Chosen {
    Chosen {
        id: id(),
        claim: None,
        wipe: None,
        wiped: true,
        deployed: false,
        claimable: Ok(()),
        broken: None,
        phase: Some(Phase::Available),
        troubles: None,
        waiting_for: None,
        failure_domain: "a01".into(),
        addresses: vec![],
    }
}

fn claim_of(uid: &str) -> Claim {
    Claim {
        consumer: UidReference { namespace: "ns".into(), name: "web-1".into(), uid: uid.into() },
        cluster_name: "prod".into(),
        image: ClaimedImage {
            name: "debian".into(),
            url: "http://images/debian".into(),
            digest: "sha256:00".into(),
            format: ImageFormat::Raw,
            config_drive: Default::default(),
            final_boot: Default::default(),
            installer: None,
        },
        user_data: LocalReference { name: "web-1".into() },
        hostname: "web-1".into(),
        provider_id: ProviderId { machine_uid: uid.into(), ..id() }.to_string(),
        claimed_at: at(0),
    }
}

fn on(host: Chosen) -> MachineView {
    let spec = RackwrightMachineSpec { provider_id: Some(id().to_string()), ..machine().spec };
    MachineView { host: HostSeen::There(Box::new(host)), held: true, spec, ..machine() }
}

fn claimed() -> Chosen {
    Chosen {
        claim: Some(claim_of("machine")),
        claimable: Err("claimed".into()),
        phase: Some(Phase::Provisioning),
        ..chosen()
    }
}

fn provisioned() -> Chosen {
    Chosen { deployed: true, phase: Some(Phase::Provisioned), ..claimed() }
}

fn released() -> Chosen {
    let order = WipeOrder {
        claim_uid: "machine".into(),
        released_by: "web-1".into(),
        policy: WipePolicy::Metadata,
        ordered_at: at(100),
    };
    Chosen { wipe: Some(order), wiped: false, phase: Some(Phase::Deprovisioning), ..chosen() }
}

fn deleting(view: MachineView) -> MachineView {
    MachineView { deleting: true, ..view }
}

fn next(view: &MachineView) -> Step {
    decide(view, at(110), &Limits::default())
}

fn reason(view: &MachineView) -> String {
    match next(view) {
        Step::Wait(wait) => wait.reason,
        other => panic!("not a wait: {other:?}"),
    }
}

#[test]
fn a_host_is_written_down_before_it_is_claimed() {
    assert_eq!(next(&machine()), Step::Choose { id: id(), host_uid: "host".into() });
    assert!(
        matches!(next(&on(chosen())), Step::Claim(claim) if *claim == Claim { claimed_at: at(110), ..claim_of("machine") })
    );
}

#[test]
fn every_wait_before_a_claim_names_what_is_waited_for() {
    let cluster = |infrastructure_provisioned| Some(ClusterSeen { name: "prod".into(), infrastructure_provisioned });
    for (view, expected) in [
        (MachineView { owner: None, ..machine() }, "WaitingForOwner"),
        (MachineView { cluster: None, ..machine() }, "WaitingForCluster"),
        (MachineView { cluster: cluster(false), ..machine() }, "WaitingForCluster"),
        (MachineView { owner: Some(OwnerSeen::default()), ..machine() }, "WaitingForBootstrapData"),
        (MachineView { image: None, ..machine() }, "ImageNotFound"),
        (MachineView { candidates: vec![], ..machine() }, "NoHostMatches"),
        (MachineView { host: HostSeen::Foreign("aws:///i-1".into()), ..machine() }, "ForeignProviderID"),
    ] {
        assert_eq!(reason(&view), expected);
    }
}

#[test]
fn a_host_that_another_machine_got_is_not_waited_for() {
    assert!(matches!(next(&on(Chosen { claim: Some(claim_of("other")), ..chosen() })), Step::Unchoose { .. }));
    assert!(matches!(next(&on(Chosen { claimable: Err("broken".into()), ..chosen() })), Step::Unchoose { .. }));
    assert!(matches!(next(&MachineView { host: HostSeen::Missing(id()), ..machine() }), Step::Unchoose { .. }));
}

#[test]
fn a_machine_whose_host_was_deleted_under_it_says_so_and_takes_no_other() {
    let status = RackwrightMachineStatus { host: Some("a01-u07".into()), ..RackwrightMachineStatus::default() };
    assert_eq!(reason(&MachineView { host: HostSeen::Missing(id()), status, ..machine() }), "HostGone");
}

#[test]
fn a_machine_is_provisioned_once_its_image_runs_and_stays_so() {
    assert_eq!(reason(&on(claimed())), "Provisioning");
    assert_eq!(next(&on(provisioned())), Step::Rest);
    let first = status(&on(provisioned()), &Step::Rest, &Outcome::Nothing, at(1));
    assert_eq!(first.initialization, Some(MachineInitialization { provisioned: Some(true) }));
    let dead = MachineView {
        status: first,
        ..on(Chosen {
            broken: Some(Broken { reason: "NoPower".into(), message: "a story".into(), since: at(5) }),
            phase: Some(Phase::Broken),
            ..provisioned()
        })
    };
    let later = status(&dead, &next(&dead), &Outcome::Nothing, at(6));
    assert_eq!(later.initialization, Some(MachineInitialization { provisioned: Some(true) }));
    let ready = find(&later.conditions, "Ready").expect("said");
    assert_eq!((ready.status.as_str(), ready.reason.as_str()), ("False", "NoPower"));
}

#[test]
fn what_troubles_the_host_stands_on_the_machine() {
    let troubles = Some(("ImageDigestMismatch".to_string(), "the image is not what it should be".to_string()));
    let view = on(Chosen { troubles, ..claimed() });
    let told = status(&view, &next(&view), &Outcome::Nothing, at(1));
    let provisioned = find(&told.conditions, "Provisioned").expect("said");
    assert_eq!((provisioned.status.as_str(), provisioned.reason.as_str()), ("False", "ImageDigestMismatch"));
    assert!(provisioned.message.contains("a01-u07"));
}

#[test]
fn a_deleted_machine_gives_its_host_back_and_waits_until_it_is_wiped() {
    assert!(matches!(next(&deleting(on(provisioned()))), Step::Release(order) if order.claim_uid == "machine"));
    assert_eq!(reason(&deleting(on(released()))), "WaitingForWipe");
    assert_eq!(next(&deleting(on(Chosen { wiped: true, ..released() }))), Step::LetGo);
}

#[test]
fn a_deletion_always_ends() {
    let broken = Some(Broken { reason: "NoPower".into(), message: "a story".into(), since: at(5) });
    assert_eq!(next(&deleting(on(Chosen { broken, ..released() }))), Step::LetGo);
    let limits = Limits::default();
    assert_eq!(decide(&deleting(on(released())), at(100) + limits.release, &limits), Step::LetGo);
    assert_eq!(next(&deleting(MachineView { host: HostSeen::Missing(id()), ..machine() })), Step::LetGo);
    assert_eq!(next(&deleting(machine())), Step::LetGo);
    assert_eq!(next(&deleting(MachineView { owner: None, cluster: None, ..machine() })), Step::LetGo);
}

#[test]
fn a_deleted_machine_never_releases_a_host_that_another_machine_has() {
    assert_eq!(next(&deleting(on(Chosen { claim: Some(claim_of("other")), ..chosen() }))), Step::LetGo);
}

#[test]
fn a_paused_machine_is_not_touched_even_when_it_is_deleted() {
    assert_eq!(next(&MachineView { paused: true, ..deleting(on(provisioned())) }), Step::Paused);
}

#[test]
fn a_machine_that_was_moved_to_another_cluster_keeps_its_host() {
    let moved = MachineView {
        uid: "uid-after-the-move".into(),
        status: RackwrightMachineStatus::default(),
        ..on(provisioned())
    };
    assert_eq!(next(&moved), Step::Rest);
    assert!(matches!(next(&deleting(moved)), Step::Release(order) if order.claim_uid == "machine"));
}

fn installs(config_map: bool, answers: AnswersSeen) -> MachineView {
    let installer: Installer = serde_json::from_value(serde_json::json!({
        "kernel": { "url": "http://images/vmlinuz", "digest": "sha256:aa" },
        "initrd": { "url": "http://images/initrd", "digest": "sha256:bb" },
        "kernelArguments": ["inst.stage2=http://images/"],
        "kickstart": if config_map {
            serde_json::json!({ "configMapRef": { "name": "web", "key": "ks.cfg" } })
        } else {
            serde_json::json!({ "ostree": { "container": { "url": "quay.io/example/os:1" } } })
        },
    }))
    .expect("an installer");
    let plain = on(chosen());
    let image = plain.image.as_ref().expect("is set").spec.clone();
    let image = OSImageSpec { disk: None, installer: Some(installer), final_boot: FinalBoot::Kexec, ..image };
    MachineView { image: Some(Arc::new(OSImage::new("fedora", image))), answers, ..plain }
}

fn claimed_by(view: &MachineView) -> ClaimedImage {
    match next(view) {
        Step::Claim(claim) => claim.image,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_claim_holds_an_installer_with_everything_resolved() {
    let image = claimed_by(&installs(false, AnswersSeen::None));

    assert_eq!((image.url.as_str(), image.digest.as_str()), ("http://images/vmlinuz", "sha256:aa"));
    assert_eq!(image.final_boot, FinalBoot::PowerCycle, "the installer is what the ramdisk starts by kexec");
    let installer = image.installer.expect("resolved");
    assert_eq!(installer.initrd.url, "http://images/initrd");
    assert_eq!(installer.kernel_arguments, ["inst.stage2=http://images/"]);
    assert!(installer.kickstart.is_some_and(|kickstart| kickstart.ostree.is_some() && kickstart.template.is_none()));
}

#[test]
fn a_claim_keeps_the_kickstart_as_the_config_map_had_it() {
    let image = claimed_by(&installs(true, AnswersSeen::Text("rootpw --lock\n".into())));

    let kickstart = image.installer.and_then(|installer| installer.kickstart).expect("resolved");
    assert_eq!(kickstart.template.as_deref(), Some("rootpw --lock\n"));
}

#[test]
fn no_host_is_chosen_or_claimed_for_answers_that_cannot_be_used() {
    for (answers, expected) in [
        (AnswersSeen::Missing("ConfigMap ns/web with the key ks.cfg does not exist".into()), "does not exist"),
        (AnswersSeen::Text("x".repeat(ANSWERS_MAX + 1)), "has 65537 bytes; 65536 are allowed"),
        (AnswersSeen::Text("%packages\ncurl\n".into()), "the section %packages does not end with %end"),
        (AnswersSeen::Text("part / --ondisk={{ dsik }}\n".into()), "line 1: names what is not known"),
    ] {
        let claiming = installs(true, answers);
        let choosing = MachineView { host: HostSeen::NotChosen, candidates: machine().candidates, ..claiming.clone() };
        for view in [claiming, choosing] {
            let Step::Wait(wait) = next(&view) else { panic!("{expected}: {:?}", next(&view)) };
            assert_eq!((wait.condition, wait.reason.as_str()), ("HostClaimed", "ImageInvalid"));
            assert!(wait.message.contains(expected), "{}", wait.message);
        }
    }
}

#[test]
fn a_pools_machine_never_chooses_a_host_itself() {
    let lost = MachineView { pooled: true, ..machine() };
    assert!(matches!(next(&lost), Step::Wait(Wait { ref reason, .. }) if reason == "WaitingForPool"));
    let taken = Chosen { claim: None, claimable: Err("in maintenance".into()), ..chosen() };
    assert!(matches!(next(&on(taken.clone())), Step::Unchoose { .. }));
    let taken = MachineView { pooled: true, ..on(taken) };
    assert!(matches!(next(&taken), Step::Wait(Wait { ref reason, .. }) if reason == "HostNotClaimable"));
}
