//! Simulated machines join a real cluster, by what their config drives hold and nothing else.
//!
//! One control plane (real etcd, kube-apiserver, kube-controller-manager, made by the real kubeadm), one worker by TLS
//! bootstrap, one by `kubeadm join`; then power cuts.

#![expect(clippy::panic, clippy::print_stderr, reason = "a test that prints what it measures")]

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Node, Secret};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use rackwright_protocol::facts::{Cpu, Disk, Facts};
use rackwright_simulator::os::{OsInput, OsTiming, run};
use serde_json::json;
use sha2::Digest;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const TOKEN_ID: &str = "abcdef";
const TOKEN_SECRET: &str = "0123456789abcdef";

/// A machine whose power can be switched.
struct Machine {
    input: OsInput,
    power: CancellationToken,
    os: Option<JoinHandle<anyhow::Result<()>>>,
}

impl Machine {
    fn new(root: PathBuf, name: &str, address: Ipv4Addr, user_data: String) -> Self {
        let meta_data = json!({
            "instance-id": format!("uid-of-{name}"),
            "local-hostname": name,
            "provider_id": provider_id(name),
            "rack": "rack-a",
        });
        let facts = Facts {
            cpu: Cpu { architecture: "amd64".into(), model: None, cores: 16, threads: 32 },
            memory_mib: 65536,
            disks: vec![Disk {
                by_path: None,
                device: "/dev/nvme0n1".into(),
                size_bytes: 960_197_124_096,
                rotational: false,
                read_only: false,
                model: None,
                serial: None,
                wwn: None,
            }],
            ..Facts::default()
        };
        let timing = OsTiming { lease_interval: Duration::from_secs(1), ..OsTiming::default() };
        let input = OsInput {
            root,
            user_data,
            meta_data: meta_data.to_string(),
            address: IpAddr::V4(address),
            facts,
            programs: Some(programs()),
            timing,
        };
        Self { input, power: CancellationToken::new(), os: None }
    }

    fn power_on(&mut self) {
        self.power = CancellationToken::new();
        self.os = Some(tokio::spawn(run(self.input.clone(), self.power.clone())));
    }

    async fn power_off(&mut self) {
        self.power.cancel();
        let os = self.os.take().expect("powered on");
        os.await.expect("the operating system does not panic").expect("its disk is usable");
    }

    fn file(&self, path: &str) -> PathBuf {
        self.input.root.join(path.trim_start_matches('/'))
    }

    fn console(&self) -> String {
        std::fs::read_to_string(self.file("/var/log/console.log")).unwrap_or_default()
    }

    /// Processes that were started for this machine.
    fn processes(&self) -> Vec<String> {
        let root = self.input.root.canonicalize().expect("a disk");
        let root = root.to_str().expect("a plain path");
        let commands = std::fs::read_dir("/proc").expect("Linux").flatten().filter_map(|entry| {
            let command = std::fs::read(entry.path().join("cmdline")).ok()?;
            Some(String::from_utf8_lossy(&command).replace('\0', " "))
        });
        commands.filter(|command| command.contains(root)).collect()
    }
}

fn programs() -> PathBuf {
    std::env::var_os("RACKWRIGHT_PROGRAMS")
        .expect("RACKWRIGHT_PROGRAMS names the folder with the bed's programs")
        .into()
}

fn provider_id(name: &str) -> String {
    format!("rackwright://metal/{name}/uid-of-{name}")
}

/// As the kubeadm bootstrap provider writes it, without a PKI: kubeadm makes its own.
fn control_plane_user_data(endpoint: Ipv4Addr) -> String {
    format!(
        "## template: jinja
#cloud-config

write_files:
-   path: /run/kubeadm/kubeadm.yaml
    owner: root:root
    permissions: '0640'
    content: |
      ---
      apiVersion: kubeadm.k8s.io/v1beta4
      kind: ClusterConfiguration
      clusterName: demo
      controlPlaneEndpoint: {endpoint}:6443
      kubernetesVersion: v1.36.3
      controllerManager:
        extraArgs:
        - name: node-monitor-grace-period
          value: 8s
      ---
      apiVersion: kubeadm.k8s.io/v1beta4
      kind: InitConfiguration
      localAPIEndpoint: {{}}
      nodeRegistration:
        name: '{{{{ ds.meta_data.local_hostname }}}}'
        kubeletExtraArgs:
        - name: provider-id
          value: '{{{{ ds.meta_data.provider_id }}}}'
        taints: null
-   path: /run/cluster-api/placeholder
    owner: root:root
    permissions: '0640'
    content: \"This placeholder file is used to create the /run/cluster-api sub directory\"
runcmd:
  - 'kubeadm init --config /run/kubeadm/kubeadm.yaml  && echo success > /run/cluster-api/bootstrap-success.complete'
"
    )
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("      {line}\n")).collect()
}

/// As the Rackwright bootstrap provider writes it for `join: Kubelet`.
fn kubelet_user_data(endpoint: Ipv4Addr, ca: &str, token: &str) -> String {
    let bootstrap = format!(
        "apiVersion: v1\nkind: Config\nclusters:\n- name: c\n  cluster:\n    server: https://{endpoint}:6443\n    \
         certificate-authority: /etc/kubernetes/pki/ca.crt\nusers:\n- name: u\n  user:\n    token: {token}\ncontexts:\n- name: x\n  \
         context: {{cluster: c, user: u}}\ncurrent-context: x\n"
    );
    let config = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nkubeReserved: {cpu: 500m, memory: 1Gi}\n\
                  systemReserved: {cpu: '1', memory: 4Gi}\nevictionHard: {memory.available: 1Gi}\nregisterWithTaints:\n\
                  - {key: dedicated, value: search, effect: NoSchedule}\n";
    let unit = "[Unit]\nDescription=kubelet\n[Service]\nExecStart=/usr/bin/kubelet \\\n  --config=/var/lib/kubelet/config.yaml \\\n  \
                --bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf \\\n  --kubeconfig=/etc/kubernetes/kubelet.conf \\\n  \
                --provider-id={{ ds.meta_data.provider_id }} \\\n  --node-labels=node.example.com/tier=web,topology.kubernetes.io/zone={{ ds.meta_data.rack }}\nRestart=always\n";
    format!(
        "## template: jinja\n#cloud-config\nwrite_files:\n\
         - path: /etc/kubernetes/pki/ca.crt\n  content: |\n{}\
         - path: /etc/kubernetes/bootstrap-kubelet.conf\n  permissions: '0600'\n  content: |\n{}\
         - path: /var/lib/kubelet/config.yaml\n  content: |\n{}\
         - path: /etc/systemd/system/kubelet.service\n  content: |\n{}\
         - path: /etc/sysctl.d/90-node.conf\n  content: |\n      vm.max_map_count = 262144\n\
         runcmd:\n- sysctl --system\n- systemctl daemon-reload\n- systemctl enable --now kubelet\n\
         - mkdir -p /run/cluster-api && echo success > /run/cluster-api/bootstrap-success.complete\n",
        indent(ca),
        indent(&bootstrap),
        indent(config),
        indent(unit),
    )
}

/// As the kubeadm bootstrap provider writes it for a worker.
fn kubeadm_join_user_data(endpoint: Ipv4Addr, ca_hash: &str, token: &str) -> String {
    format!(
        "## template: jinja
#cloud-config

write_files:
-   path: /run/kubeadm/kubeadm-join-config.yaml
    owner: root:root
    permissions: '0640'
    content: |
      ---
      apiVersion: kubeadm.k8s.io/v1beta4
      kind: JoinConfiguration
      discovery:
        bootstrapToken:
          apiServerEndpoint: {endpoint}:6443
          caCertHashes:
          - {ca_hash}
          token: {token}
      nodeRegistration:
        name: '{{{{ ds.meta_data.local_hostname }}}}'
        kubeletExtraArgs:
        - name: provider-id
          value: '{{{{ ds.meta_data.provider_id }}}}'
        - name: node-labels
          value: tier=db
        taints:
        - {{key: dedicated, value: db, effect: NoSchedule}}
      patches:
        directory: /etc/kubernetes/patches
-   path: /etc/kubernetes/patches/kubeletconfiguration+merge.yaml
    content: |
      kubeReserved: {{cpu: 500m}}
      maxPods: 30
-   path: /run/cluster-api/placeholder
    content: \"placeholder\"
runcmd:
  - kubeadm join --config /run/kubeadm/kubeadm-join-config.yaml  && echo success > /run/cluster-api/bootstrap-success.complete
"
    )
}

async fn admin(machine: &Machine) -> Client {
    let kubeconfig = Kubeconfig::read_from(machine.file("/etc/kubernetes/admin.conf")).expect("admin.conf");
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.expect("a config");
    config.proxy_url = None;
    Client::try_from(config).expect("a client")
}

async fn create_token(client: &Client) {
    let secret: Secret = serde_json::from_value(json!({
        "metadata": { "name": format!("bootstrap-token-{TOKEN_ID}"), "namespace": "kube-system" },
        "type": "bootstrap.kubernetes.io/token",
        "stringData": {
            "token-id": TOKEN_ID,
            "token-secret": TOKEN_SECRET,
            "usage-bootstrap-authentication": "true",
            "usage-bootstrap-signing": "true",
            "auth-extra-groups": "system:bootstrappers:kubeadm:default-node-token",
        },
    }))
    .expect("a Secret");
    let secrets: Api<Secret> = Api::namespaced(client.clone(), "kube-system");
    secrets.create(&Default::default(), &secret).await.expect("a token");
}

/// `sha256:...` of the CA's public key, as `openssl` would compute it.
fn ca_hash(ca: &str) -> String {
    use rustls::pki_types::{CertificateDer, pem::PemObject};
    let certificate = CertificateDer::from_pem_slice(ca.as_bytes()).expect("a certificate");
    let parsed = rustls::server::ParsedCertificate::try_from(&certificate).expect("a certificate");
    format!("sha256:{}", hex::encode(sha2::Sha256::digest(parsed.subject_public_key_info())))
}

/// Waits until `check` gives something; then says what is on the consoles.
async fn eventually<T, F>(what: &str, limit: Duration, machines: &[&Machine], mut check: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = check().await {
            return value;
        }
        if Instant::now() > deadline {
            let consoles: Vec<String> = machines.iter().map(|machine| machine.console()).collect();
            panic!("not within {} s: {what}\n{}", limit.as_secs(), consoles.join("\n----\n"));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn condition(node: &Node, kind: &str) -> Option<String> {
    let conditions = node.status.as_ref()?.conditions.as_ref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.clone())
}

async fn node_that_is(client: &Client, name: &str, ready: &str, machines: &[&Machine]) -> Node {
    let nodes: &Api<Node> = &Api::all(client.clone());
    eventually(&format!("node {name} is Ready={ready}"), Duration::from_secs(60), machines, || async move {
        let node = nodes.get_opt(name).await.ok()??;
        (condition(&node, "Ready").as_deref() == Some(ready)).then_some(node)
    })
    .await
}

fn labels(node: &Node) -> BTreeMap<String, String> {
    node.metadata.labels.clone().unwrap_or_default()
}

fn taints(node: &Node) -> Vec<String> {
    let taints = node.spec.as_ref().and_then(|spec| spec.taints.clone()).unwrap_or_default();
    // The node controller adds and removes taints of its own while a node settles.
    let own = taints.into_iter().filter(|taint| !taint.key.starts_with("node.kubernetes.io/"));
    own.map(|taint| format!("{}={}:{}", taint.key, taint.value.unwrap_or_default(), taint.effect)).collect()
}

fn allocatable(node: &Node, resource: &str) -> String {
    let allocatable = node.status.as_ref().and_then(|status| status.allocatable.as_ref()).expect("allocatable");
    allocatable[resource].0.clone()
}

async fn renewed(client: &Client, name: &str) -> Option<jiff::Timestamp> {
    let leases: Api<Lease> = Api::namespaced(client.clone(), "kube-node-lease");
    leases.get_opt(name).await.ok()??.spec?.renew_time.map(|time| time.0)
}

/// A loopback network that is hardly anybody else's.
fn network() -> u8 {
    150 + u8::try_from(std::process::id() % 100).expect("below 100")
}

fn own_address(network: u8, unit: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, network, 0, unit)
}

struct Cluster {
    endpoint: Ipv4Addr,
    control_plane: Machine,
    client: Client,
}

async fn cluster(folder: &Path, network: u8) -> Cluster {
    let endpoint = own_address(network, 10);
    let user_data = control_plane_user_data(endpoint);
    let mut control_plane = Machine::new(folder.join("cp-0"), "cp-0", own_address(network, 1), user_data);
    control_plane.power_on();
    let sentinel = control_plane.file("/run/cluster-api/bootstrap-success.complete");
    eventually("the control plane is up", Duration::from_secs(120), &[&control_plane], || async {
        sentinel.exists().then_some(())
    })
    .await;
    let client = admin(&control_plane).await;
    Cluster { endpoint, control_plane, client }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn machines_join_a_real_cluster_by_their_user_data_and_leave_it_with_their_power() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = network();
    let begin = Instant::now();
    let Cluster { endpoint, mut control_plane, client } = cluster(folder.path(), network).await;
    eprintln!("control plane initialized after {:.1} s", begin.elapsed().as_secs_f32());

    // The control plane's own node.
    let node = node_that_is(&client, "cp-0", "True", &[&control_plane]).await;
    assert_eq!(node.spec.as_ref().and_then(|spec| spec.provider_id.clone()), Some(provider_id("cp-0")));
    assert_eq!(labels(&node)["node-role.kubernetes.io/control-plane"], "");
    assert_eq!(taints(&node), ["node-role.kubernetes.io/control-plane=:NoSchedule"]);

    // Two workers, each by its own way.
    create_token(&client).await;
    let token = format!("{TOKEN_ID}.{TOKEN_SECRET}");
    let ca = std::fs::read_to_string(control_plane.file("/etc/kubernetes/pki/ca.crt")).expect("a CA");
    let by_kubelet = kubelet_user_data(endpoint, &ca, &token);
    let by_kubeadm = kubeadm_join_user_data(endpoint, &ca_hash(&ca), &token);
    let mut worker = Machine::new(folder.path().join("w-0"), "w-0", own_address(network, 2), by_kubelet);
    let mut joined = Machine::new(folder.path().join("w-1"), "w-1", own_address(network, 3), by_kubeadm);
    let begin = Instant::now();
    worker.power_on();
    joined.power_on();
    let node = node_that_is(&client, "w-0", "True", &[&worker]).await;
    eprintln!("worker by TLS bootstrap Ready after {:.1} s", begin.elapsed().as_secs_f32());
    assert_eq!(node.spec.as_ref().and_then(|spec| spec.provider_id.clone()), Some(provider_id("w-0")));
    assert_eq!(labels(&node)["node.example.com/tier"], "web");
    assert_eq!(labels(&node)["topology.kubernetes.io/zone"], "rack-a");
    assert_eq!(taints(&node), ["dedicated=search:NoSchedule"]);
    assert_eq!((allocatable(&node, "cpu"), allocatable(&node, "memory")), ("30500m".into(), "58Gi".into()));
    assert_eq!(std::fs::read_to_string(worker.file("/proc/sys/vm/max_map_count")).expect("set"), "262144\n");
    let uid = node.metadata.uid.clone();

    let node = node_that_is(&client, "w-1", "True", &[&joined]).await;
    eprintln!("worker by kubeadm join Ready after {:.1} s", begin.elapsed().as_secs_f32());
    assert_eq!(node.spec.as_ref().and_then(|spec| spec.provider_id.clone()), Some(provider_id("w-1")));
    assert_eq!((labels(&node)["tier"].as_str(), taints(&node)), ("db", vec!["dedicated=db:NoSchedule".to_string()]));
    assert_eq!((allocatable(&node, "cpu"), allocatable(&node, "pods")), ("31500m".into(), "30".into()));
    let sentinel = joined.file("/run/cluster-api/bootstrap-success.complete");
    eventually("kubeadm join ends well", Duration::from_secs(20), &[&joined], || async {
        sentinel.exists().then_some(())
    })
    .await;
    assert!(!joined.file("/etc/kubernetes/bootstrap-kubelet.conf").exists(), "the token must not stay on the disk");

    // The lease is renewed while there is power, and not after it.
    let first = renewed(&client, "w-0").await;
    let client_ref = &client;
    eventually("the lease is renewed", Duration::from_secs(10), &[&worker], || async move {
        (renewed(client_ref, "w-0").await > first).then_some(())
    })
    .await;
    worker.power_off().await;
    let last = renewed(&client, "w-0").await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(renewed(&client, "w-0").await, last, "nothing is written without power");
    node_that_is(&client, "w-0", "Unknown", &[&worker]).await;

    // Power comes back: the same Node.
    worker.power_on();
    let node = node_that_is(&client, "w-0", "True", &[&worker]).await;
    assert_eq!(node.metadata.uid, uid, "the same Node");

    // A power cut of the control plane leaves no process; its disk brings the same cluster back.
    assert!(control_plane.processes().len() >= 3, "{:?}", control_plane.processes());
    control_plane.power_off().await;
    assert_eq!(control_plane.processes(), Vec::<String>::new());
    let begin = Instant::now();
    control_plane.power_on();
    let node = eventually("the cluster is back", Duration::from_secs(60), &[&control_plane], || async move {
        Api::<Node>::all(client_ref.clone()).get("w-0").await.ok()
    })
    .await;
    eprintln!("the same cluster answers {:.1} s after power on", begin.elapsed().as_secs_f32());
    assert_eq!(node.metadata.uid, uid, "the same Node");
    node_that_is(&client, "cp-0", "True", &[&control_plane]).await;
    node_that_is(&client, "w-0", "True", &[&worker]).await;

    for machine in [&mut worker, &mut joined, &mut control_plane] {
        machine.power_off().await;
        assert_eq!(machine.processes(), Vec::<String>::new());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_worker_with_a_wrong_token_or_a_wrong_ca_hash_never_joins_and_says_why() {
    let folder = tempfile::tempdir().expect("a folder");
    let network = network();
    let Cluster { endpoint, mut control_plane, client } = cluster(folder.path(), network + 1).await;
    create_token(&client).await;
    let ca = std::fs::read_to_string(control_plane.file("/etc/kubernetes/pki/ca.crt")).expect("a CA");
    let wrong_hash = format!("sha256:{}", "0".repeat(64));
    let right_token = format!("{TOKEN_ID}.{TOKEN_SECRET}");
    let wrong_token = format!("{TOKEN_ID}.ffffffffffffffff");
    let disk = |name: &str| folder.path().join(name);
    let address = own_address(network + 1, 2);
    let mut cases = [
        (Machine::new(disk("w-0"), "w-0", address, kubelet_user_data(endpoint, &ca, &wrong_token)), "Unauthorized"),
        (
            Machine::new(disk("w-1"), "w-1", address, kubeadm_join_user_data(endpoint, &wrong_hash, &right_token)),
            "the CA in cluster-info is not one of the caCertHashes",
        ),
        (
            Machine::new(disk("w-2"), "w-2", address, kubeadm_join_user_data(endpoint, &ca_hash(&ca), &wrong_token)),
            "the signature of cluster-info is not made with this token",
        ),
    ];
    for (machine, message) in &mut cases {
        machine.power_on();
        let machine = &*machine;
        eventually(message, Duration::from_secs(20), &[machine], || async {
            machine.console().contains(*message).then_some(())
        })
        .await;
        assert!(
            !machine.file("/run/cluster-api/bootstrap-success.complete").exists()
                || machine.input.root.ends_with("w-0")
        );
        assert!(!machine.console().contains(STANDARD.encode(TOKEN_SECRET).as_str()));
        assert!(!machine.console().contains(TOKEN_SECRET), "no secret on the console");
    }
    let nodes = Api::<Node>::all(client).list(&Default::default()).await.expect("nodes").items;
    let names: Vec<_> = nodes.into_iter().filter_map(|node| node.metadata.name).collect();
    assert_eq!(names, ["cp-0"]);
    for (machine, _) in &mut cases {
        machine.power_off().await;
    }
    control_plane.power_off().await;
}
