//! What could not become a working node is refused, with the field to change.

mod common;

use common::plain_worker;
use rackwright_bootstrap::input::{File, Interface, Join, Network};
use rackwright_bootstrap::{BootstrapInput, render};
use std::collections::BTreeMap;

fn one(key: &str, value: &str) -> BTreeMap<String, String> {
    BTreeMap::from([(key.to_owned(), value.to_owned())])
}

fn refused_field(change: impl FnOnce(&mut BootstrapInput)) -> String {
    let mut input = plain_worker();
    change(&mut input);
    render(&input).expect_err("an input that cannot work").field
}

fn file(path: &str) -> File {
    File { path: path.into(), content: "x".into(), owner: None, permissions: None }
}

fn network(interface: Interface) -> Option<Network> {
    Some(Network { interfaces: vec![interface], name_servers: vec![] })
}

#[test]
fn settings_of_the_kubelet_are_refused_by_name() {
    let refusals = [
        ("kubelet.kubeReserved[gpu]", refused_field(|input| input.kubelet.kube_reserved = one("gpu", "1"))),
        ("kubelet.systemReserved[cpu]", refused_field(|input| input.kubelet.system_reserved = one("cpu", "one"))),
        ("kubelet.evictionHard[memory]", refused_field(|input| input.kubelet.eviction_hard = one("memory", "1Gi"))),
        (
            "kubelet.evictionHard[memory.available]",
            refused_field(|input| input.kubelet.eviction_hard = one("memory.available", "1GB")),
        ),
        (
            "kubelet.evictionSoft[pid.available]",
            refused_field(|input| input.kubelet.eviction_soft = one("pid.available", "5%")),
        ),
        ("kubelet.podPidsLimit", refused_field(|input| input.kubelet.pod_pids_limit = Some(0))),
        ("kubelet.maxPods", refused_field(|input| input.kubelet.max_pods = Some(-1))),
        ("kubelet.containerLogMaxFiles", refused_field(|input| input.kubelet.container_log_max_files = Some(1))),
        (
            "kubelet.containerLogMaxSize",
            refused_field(|input| input.kubelet.container_log_max_size = Some("big".into())),
        ),
        ("kubelet.clusterDNS[0]", refused_field(|input| input.kubelet.cluster_dns = vec!["dns".into()])),
        ("kubelet.extraArgs[provider-id]", refused_field(|input| input.kubelet.extra_args = one("provider-id", "x"))),
        ("kubelet.extraArgs[--v]", refused_field(|input| input.kubelet.extra_args = one("--v", "4"))),
        ("kubelet.extraArgs[v]", refused_field(|input| input.kubelet.extra_args = one("v", "4\nExecStartPre=x"))),
    ];
    for (expected, refused) in refusals {
        assert_eq!(refused, expected);
    }
}

#[test]
fn what_the_operating_system_would_not_take_is_refused_by_name() {
    let refusals = [
        ("sysctls[vm max]", refused_field(|input| input.sysctls = one("vm max", "1"))),
        ("sysctls[vm.x]", refused_field(|input| input.sysctls = one("vm.x", "1\nkernel.y = 2"))),
        ("nodeLabels[kubernetes.io/x]", refused_field(|input| input.node_labels = one("kubernetes.io/x", "y"))),
        ("files[0].path", refused_field(|input| input.files = vec![file("etc/motd")])),
        ("files[0].path", refused_field(|input| input.files = vec![file("/etc/../motd")])),
        ("files[1].path", refused_field(|input| input.files = vec![file("/etc/motd"), file("/etc/motd")])),
        ("files[0].path", refused_field(|input| input.files = vec![file("/etc/systemd/system/kubelet.service")])),
        ("beforeJoin[0]", refused_field(|input| input.before_join = vec!["  ".into()])),
        ("afterJoin[0]", refused_field(|input| input.after_join = vec!["a\0b".into()])),
        ("sshAuthorizedKeys[0]", refused_field(|input| input.ssh_authorized_keys = vec!["ssh-rsa A\nB".into()])),
        (
            "files[0].permissions",
            refused_field(|input| input.files = vec![File { permissions: Some("rwx".into()), ..file("/a") }]),
        ),
        ("files[0].owner", refused_field(|input| input.files = vec![File { owner: Some("a b".into()), ..file("/a") }])),
    ];
    for (expected, refused) in refusals {
        assert_eq!(refused, expected);
    }
}

#[test]
fn a_network_that_could_not_work_is_refused_by_name() {
    let eth0 = || Interface { name: "eth0".into(), addresses: vec!["10.0.0.7/24".into()], ..Interface::default() };
    let with = |interface: Interface| refused_field(|input| input.network = network(interface));
    assert_eq!(with(Interface { name: "../x".into(), ..eth0() }), "network.interfaces[0].name");
    assert_eq!(
        with(Interface { name: "enp193s0f1np1".into(), vlan: Some(100), ..eth0() }),
        "network.interfaces[0].name"
    );
    assert_eq!(with(Interface { vlan: Some(5000), ..eth0() }), "network.interfaces[0].vlan");
    assert_eq!(with(Interface { mtu: Some(100), ..eth0() }), "network.interfaces[0].mtu");
    assert_eq!(with(Interface { gateway: Some("10.0.0.1/24".into()), ..eth0() }), "network.interfaces[0].gateway");
    let half = Interface { addresses: vec!["10.0.0.{{ ds.meta_data.unit /24".into()], ..eth0() };
    assert_eq!(with(half), "network.interfaces[0].addresses[0]");
    let twice = Network { interfaces: vec![eth0(), eth0()], name_servers: vec![] };
    assert_eq!(refused_field(|input| input.network = Some(twice)), "network.interfaces[1]");
}

#[test]
fn a_cluster_that_cannot_be_joined_is_refused_by_name() {
    assert_eq!(refused_field(|input| input.ca_pem = "no certificate".into()), "CA certificate");
    assert_eq!(refused_field(|input| input.api_server.host = "a b".into()), "controlPlaneEndpoint.host");
    assert_eq!(refused_field(|input| input.cluster_domain = Some("a b".into())), "clusterNetwork.serviceDomain");
    assert_eq!(refused_field(|input| input.service_cidr = Some("x".into())), "clusterNetwork.services.cidrBlocks");
    let old = refused_field(|input| {
        input.join = Join::Kubeadm;
        input.kubernetes_version = Some("v1.30.1".into());
    });
    assert_eq!(old, "version");
}

#[test]
fn no_secret_is_in_a_debug_text() {
    let user_data = render(&plain_worker()).expect("renders");
    assert_eq!(format!("{user_data:?}"), "UserData(..)");
}
