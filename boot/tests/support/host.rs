//! A host in the middle of an operation.

use jiff::{SignedDuration, Timestamp};
use rackwright_api::common::{LocalReference, UidReference};
use rackwright_api::host::{
    AgentStatus, Bmc, Claim, ClaimedImage, Host, HostSpec, HostStatus, Operation, OperationKind, PowerWish, Stage,
    WipeOrder, WipePolicy,
};
use rackwright_api::image::ImageFormat;
use rackwright_api::installer::{ClaimedInstaller, ClaimedKickstart, InstallerFile, Ostree, OstreeContainer};
use rackwright_protocol::Subject;
use rackwright_protocol::token;

pub const NAMESPACE: &str = "metal";
pub const NAME: &str = "a01-u07";
pub const UID: &str = "uid-host";
pub const OPERATION: &str = "op-1";
pub const MACHINE_UID: &str = "uid-machine";
pub const MAC: &str = "52:54:00:00:00:01";
pub const DIGEST: &str = "sha256:00";

/// What an agent of this host's operation says about itself.
pub fn subject() -> Subject {
    Subject { namespace: NAMESPACE.into(), host: NAME.into(), host_uid: UID.into(), operation_id: OPERATION.into() }
}

/// A host in an operation of this kind, with an hour left, claimed or with an order to wipe as it needs.
pub fn host(kind: OperationKind, now: Timestamp) -> Host {
    let claimed = kind == OperationKind::Deploy;
    let for_machine = matches!(kind, OperationKind::Deploy | OperationKind::Wipe);
    let mut host = Host::new(NAME, spec());
    host.metadata.namespace = Some(NAMESPACE.into());
    host.metadata.uid = Some(UID.into());
    host.metadata.resource_version = Some("1".into());
    host.spec.claim = claimed.then(|| claim(now));
    host.spec.wipe = (kind == OperationKind::Wipe).then(|| WipeOrder {
        claim_uid: MACHINE_UID.into(),
        released_by: "web-1".into(),
        policy: WipePolicy::Discard,
        ordered_at: now,
    });
    let operation = Operation {
        id: OPERATION.into(),
        kind,
        claim_uid: for_machine.then(|| MACHINE_UID.into()),
        way: None,
        takes_over: None,
        system_uuid: None,
        stage: Stage::Booting,
        attempt: 1,
        started_at: now,
        stage_since: now,
        deadline: now + SignedDuration::from_hours(1),
    };
    host.status = Some(HostStatus { operation: Some(operation), ..HostStatus::default() });
    host
}

/// The same, after an agent has opened `session`.
pub fn host_with_session(kind: OperationKind, session: &str, now: Timestamp) -> Host {
    let mut host = host(kind, now);
    status(&mut host).agent = Some(AgentStatus {
        operation_id: OPERATION.into(),
        session_digest: token::digest(session),
        since: now,
        heard_at: Some(now),
        step: None,
        percent: None,
        bytes_per_second: None,
        steps: Vec::new(),
        image_digest: None,
        prepared_at: None,
        failure: None,
    });
    host
}

pub fn status(host: &mut Host) -> &mut HostStatus {
    host.status.as_mut().expect("has a status")
}

pub fn operation(host: &mut Host) -> &mut Operation {
    status(host).operation.as_mut().expect("has an operation")
}

fn spec() -> HostSpec {
    HostSpec {
        rack: "a01".into(),
        unit: Some(7),
        bmc: Bmc { address: "https://127.1.1.7".into(), credentials_ref: None, trust: None },
        boot_mac_address: MAC.into(),
        root_device: None,
        boot_ways: Vec::new(),
        ramdisk: None,
        power: PowerWish::Auto,
        maintenance: None,
        retire: None,
        warm: None,
        claim: None,
        wipe: None,
        deployed: None,
        reservation: None,
        wiped: None,
        broken: None,
    }
}

/// What a claim holds of an installer: an ostree in a container image.
pub fn installer() -> ClaimedInstaller {
    let container = OstreeContainer {
        url: "quay.io/example/os:1".into(),
        transport: None,
        stateroot: None,
        remote: None,
        signature_verification: false,
    };
    ClaimedInstaller {
        initrd: InstallerFile { url: "http://images/initrd".into(), digest: DIGEST.into() },
        kernel_arguments: vec!["inst.stage2=http://images/".into()],
        kickstart: Some(ClaimedKickstart {
            ostree: Some(Ostree { setup: None, container: Some(container) }),
            ..ClaimedKickstart::default()
        }),
        preseed: None,
    }
}

fn claim(now: Timestamp) -> Claim {
    Claim {
        consumer: UidReference { namespace: "prod".into(), name: "web-1".into(), uid: MACHINE_UID.into() },
        cluster_name: "prod".into(),
        image: ClaimedImage {
            name: "debian".into(),
            url: "http://images/disk.raw".into(),
            digest: DIGEST.into(),
            format: ImageFormat::Raw,
            config_drive: Default::default(),
            final_boot: Default::default(),
            installer: None,
        },
        user_data: LocalReference { name: "web-1-user-data".into() },
        hostname: "web-1".into(),
        provider_id: format!("rackwright://{NAMESPACE}/{NAME}/{MACHINE_UID}"),
        claimed_at: now,
    }
}
