//! From a RackwrightConfig, its Machine and its Cluster to what user-data is made from. Names are the same on both sides.

use rackwright_api::config::{Join, RackwrightConfigSpec, StaticInterface, TaintEffect};
use rackwright_api::contract::{Cluster, Machine};
use rackwright_bootstrap::input::{self, ApiServer, BootstrapInput};
use rackwright_bootstrap::{BootstrapToken, RenderError};

/// What the user-data of the node of `machine` is made from.
pub fn bootstrap_input(
    spec: &RackwrightConfigSpec,
    machine: &Machine,
    cluster: &Cluster,
    ca_pem: &str,
    token: BootstrapToken,
) -> Result<BootstrapInput, RenderError> {
    let network = cluster.spec.cluster_network.clone().unwrap_or_default();
    Ok(BootstrapInput {
        cluster_name: machine.spec.cluster_name.clone(),
        api_server: api_server(cluster)?,
        ca_pem: ca_pem.to_owned(),
        token,
        kubernetes_version: machine.spec.version.clone(),
        join: match spec.join {
            Join::Kubelet => input::Join::Kubelet,
            Join::Kubeadm => input::Join::Kubeadm,
        },
        service_cidr: network.services.and_then(|services| services.cidr_blocks.into_iter().next()),
        cluster_domain: network.service_domain,
        kubelet: kubelet(spec),
        sysctls: spec.sysctls.clone(),
        node_labels: spec.node_labels.clone(),
        node_taints: spec.node_taints.iter().map(taint).collect(),
        files: spec.files.iter().map(file).collect(),
        before_join: spec.before_join.clone(),
        after_join: spec.after_join.clone(),
        ssh_authorized_keys: spec.ssh_authorized_keys.clone(),
        network: spec.network.as_ref().map(|network| input::Network {
            interfaces: network.interfaces.iter().map(interface).collect(),
            name_servers: network.name_servers.clone(),
        }),
    })
}

fn api_server(cluster: &Cluster) -> Result<ApiServer, RenderError> {
    let refuse = |why: &str| RenderError { field: "controlPlaneEndpoint".into(), why: why.into() };
    let endpoint = cluster.spec.control_plane_endpoint.as_ref().and_then(|endpoint| endpoint.known());
    let endpoint = endpoint.ok_or_else(|| refuse("is not set"))?;
    let port = u16::try_from(endpoint.port).map_err(|_| refuse("has a port above 65535"))?;
    Ok(ApiServer { host: endpoint.host, port })
}

fn kubelet(spec: &RackwrightConfigSpec) -> input::Kubelet {
    let kubelet = spec.kubelet.clone().unwrap_or_default();
    input::Kubelet {
        kube_reserved: kubelet.kube_reserved,
        system_reserved: kubelet.system_reserved,
        eviction_hard: kubelet.eviction_hard,
        eviction_soft: kubelet.eviction_soft,
        eviction_soft_grace_period: kubelet.eviction_soft_grace_period,
        pod_pids_limit: kubelet.pod_pids_limit,
        max_pods: kubelet.max_pods,
        container_log_max_size: kubelet.container_log_max_size,
        container_log_max_files: kubelet.container_log_max_files,
        cluster_dns: kubelet.cluster_dns,
        extra_args: kubelet.extra_args,
    }
}

fn taint(taint: &rackwright_api::config::NodeTaint) -> input::Taint {
    input::Taint {
        key: taint.key.clone(),
        value: taint.value.clone().unwrap_or_default(),
        effect: match taint.effect {
            TaintEffect::NoSchedule => input::TaintEffect::NoSchedule,
            TaintEffect::PreferNoSchedule => input::TaintEffect::PreferNoSchedule,
            TaintEffect::NoExecute => input::TaintEffect::NoExecute,
        },
    }
}

fn file(file: &rackwright_api::config::File) -> input::File {
    input::File {
        path: file.path.clone(),
        content: file.content.clone(),
        owner: file.owner.clone(),
        permissions: file.permissions.clone(),
    }
}

fn interface(interface: &StaticInterface) -> input::Interface {
    input::Interface {
        name: interface.name.clone(),
        addresses: interface.addresses.clone(),
        gateway: interface.gateway.clone(),
        mtu: interface.mtu,
        vlan: interface.vlan,
    }
}
