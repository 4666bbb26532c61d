//! What nodes must be allowed in a workload cluster before one can join by TLS bootstrap (Kubernetes, "TLS
//! bootstrapping"). kubeadm grants it by itself; where it did not, we do, under names of our own.

use k8s_openapi::api::rbac::v1::{ClusterRoleBinding, RoleRef, Subject};
use kube::api::{Api, ObjectMeta, Patch, PatchParams};
use kube::{Client, Error};

/// Group that bootstrap tokens put a node into; the one kubeadm uses.
pub const TOKEN_GROUP: &str = "system:bootstrappers:kubeadm:default-node-token";

/// One right of nodes.
#[derive(Debug, PartialEq, Eq)]
pub struct Grant {
    /// Name of kubeadm's binding.
    kubeadm: &'static str,
    /// Name of ours, where kubeadm's is missing.
    ours: &'static str,
    role: &'static str,
    group: &'static str,
}

/// All that is needed.
pub static GRANTS: [Grant; 3] = [
    // ask for a certificate
    Grant {
        kubeadm: "kubeadm:kubelet-bootstrap",
        ours: "rackwright:kubelet-bootstrap",
        role: "system:node-bootstrapper",
        group: TOKEN_GROUP,
    },
    // have it approved without a person
    Grant {
        kubeadm: "kubeadm:node-autoapprove-bootstrap",
        ours: "rackwright:node-autoapprove-bootstrap",
        role: "system:certificates.k8s.io:certificatesigningrequests:nodeclient",
        group: TOKEN_GROUP,
    },
    // have its successors approved
    Grant {
        kubeadm: "kubeadm:node-autoapprove-certificate-rotation",
        ours: "rackwright:node-autoapprove-certificate-rotation",
        role: "system:certificates.k8s.io:certificatesigningrequests:selfnodeclient",
        group: "system:nodes",
    },
];

/// The grants that are made neither under kubeadm's names nor under ours.
pub async fn missing(client: &Client) -> Result<Vec<&'static Grant>, Error> {
    let api = Api::<ClusterRoleBinding>::all(client.clone());
    let mut missing = Vec::new();
    for grant in &GRANTS {
        if api.get_metadata_opt(grant.kubeadm).await?.is_none() && api.get_metadata_opt(grant.ours).await?.is_none() {
            missing.push(grant);
        }
    }
    Ok(missing)
}

/// Makes `grants`, which may be repeated.
pub async fn make(client: &Client, grants: &[&'static Grant], manager: &str) -> Result<(), Error> {
    let api = Api::<ClusterRoleBinding>::all(client.clone());
    for grant in grants {
        api.patch(grant.ours, &PatchParams::apply(manager).force(), &Patch::Apply(binding(grant))).await?;
    }
    Ok(())
}

fn binding(grant: &Grant) -> ClusterRoleBinding {
    let group = "rbac.authorization.k8s.io";
    ClusterRoleBinding {
        metadata: ObjectMeta { name: Some(grant.ours.into()), ..ObjectMeta::default() },
        role_ref: RoleRef { api_group: Some(group.into()), kind: "ClusterRole".into(), name: grant.role.into() },
        subjects: Some(vec![Subject {
            api_group: Some(group.into()),
            kind: "Group".into(),
            name: grant.group.into(),
            namespace: None,
        }]),
    }
}
