//! The files of a kubelet that joins by itself: TLS bootstrap (Kubernetes, "TLS bootstrapping").

use crate::RenderError;
use crate::cloud_config::{HOSTNAME, OsFile, PROVIDER_ID};
use crate::input::{BootstrapInput, Kubelet, Taint, TaintEffect};
use crate::network;
use crate::yaml::{Yaml, document, map, texts};
use std::collections::BTreeMap;

const CA: &str = "/etc/kubernetes/pki/ca.crt";
const BOOTSTRAP_KUBECONFIG: &str = "/etc/kubernetes/bootstrap-kubelet.conf";
const KUBECONFIG: &str = "/etc/kubernetes/kubelet.conf";
const CONFIG: &str = "/var/lib/kubelet/config.yaml";
const UNIT: &str = "/etc/systemd/system/kubelet.service";
/// Stands in the way of the drop-in of the same name that the kubeadm package ships under /usr/lib: that one would empty
/// ExecStart and put its own flags there (systemd.unit(5): a file in /etc wins over one of the same name in /usr/lib).
const PACKAGE_DROP_IN: &str = "/etc/systemd/system/kubelet.service.d/10-kubeadm.conf";
/// Where the kubelet looks for static pods; made before it starts, else it complains every 20 seconds.
pub(crate) const MANIFESTS: &str = "/etc/kubernetes/manifests";
/// Holds pods off until Cluster API has put the Machine's labels on the Node, and is then taken away by it.
const UNINITIALIZED: &str = "node.cluster.x-k8s.io/uninitialized";

/// The files, in the order they are written.
pub(crate) fn files(input: &BootstrapInput) -> Result<Vec<OsFile>, RenderError> {
    Ok(vec![
        OsFile::new(CA, "0644", input.ca_pem.clone().into()),
        OsFile::new(BOOTSTRAP_KUBECONFIG, "0600", Yaml::Jinja(document(&bootstrap_kubeconfig(input)))),
        OsFile::new(CONFIG, "0644", Yaml::Jinja(document(&configuration(input)?))),
        OsFile::new(UNIT, "0644", Yaml::Jinja(unit(input))),
        OsFile::new(PACKAGE_DROP_IN, "0644", String::from("# Empty: kubelet.service says it all.\n").into()),
    ])
}

fn bootstrap_kubeconfig(input: &BootstrapInput) -> Yaml {
    let cluster = map([
        ("certificate-authority", CA.into()),
        ("server", format!("https://{}", input.api_server.authority()).into()),
    ]);
    let context = map([("cluster", input.cluster_name.as_str().into()), ("user", "kubelet-bootstrap".into())]);
    map([
        ("apiVersion", "v1".into()),
        ("kind", "Config".into()),
        ("clusters", Yaml::List(vec![map([("name", input.cluster_name.as_str().into()), ("cluster", cluster)])])),
        ("contexts", Yaml::List(vec![map([("name", "bootstrap".into()), ("context", context)])])),
        ("current-context", "bootstrap".into()),
        (
            "users",
            Yaml::List(vec![map([
                ("name", "kubelet-bootstrap".into()),
                ("user", map([("token", input.token.expose().into())])),
            ])]),
        ),
    ])
}

/// KubeletConfiguration (kubelet.config.k8s.io/v1beta1).
fn configuration(input: &BootstrapInput) -> Result<Yaml, RenderError> {
    let mut entries = header();
    let mut add = |key: &str, value: Yaml| entries.push((key.to_owned(), value));
    add(
        "authentication",
        map([
            ("anonymous", map([("enabled", Yaml::Bool(false))])),
            ("webhook", map([("enabled", Yaml::Bool(true))])),
            ("x509", map([("clientCAFile", CA.into())])),
        ]),
    );
    add("authorization", map([("mode", "Webhook".into())]));
    add("cgroupDriver", "systemd".into());
    if input.kubelet.cluster_dns.is_empty() {
        add("clusterDNS", texts([network::dns_address(input.service_cidr.as_deref())?.to_string()]));
    }
    add("clusterDomain", input.cluster_domain.as_deref().unwrap_or("cluster.local").into());
    add("providerID", Yaml::Jinja(PROVIDER_ID.into()));
    add("registerWithTaints", taints(&input.node_taints));
    add("rotateCertificates", Yaml::Bool(true));
    add("staticPodPath", MANIFESTS.into());
    entries.extend(settings(&input.kubelet));
    Ok(Yaml::Map(entries))
}

/// Kind and version of a KubeletConfiguration.
pub(crate) fn header() -> Vec<(String, Yaml)> {
    vec![
        ("apiVersion".to_owned(), "kubelet.config.k8s.io/v1beta1".into()),
        ("kind".to_owned(), "KubeletConfiguration".into()),
    ]
}

/// What a person set, as fields of a KubeletConfiguration.
pub(crate) fn settings(kubelet: &Kubelet) -> Vec<(String, Yaml)> {
    let amounts = |amounts: &BTreeMap<String, String>| {
        Yaml::Map(amounts.iter().map(|(key, amount)| (key.clone(), amount.as_str().into())).collect())
    };
    let mut entries = Vec::new();
    let mut add = |key: &str, value: Yaml| {
        let empty = matches!(&value, Yaml::Map(entries) if entries.is_empty())
            || matches!(&value, Yaml::List(items) if items.is_empty());
        if !empty {
            entries.push((key.to_owned(), value));
        }
    };
    add("clusterDNS", texts(&kubelet.cluster_dns));
    add("kubeReserved", amounts(&kubelet.kube_reserved));
    add("systemReserved", amounts(&kubelet.system_reserved));
    add("evictionHard", amounts(&kubelet.eviction_hard));
    add("evictionSoft", amounts(&kubelet.eviction_soft));
    add("evictionSoftGracePeriod", amounts(&kubelet.eviction_soft_grace_period));
    for (key, number) in [
        ("podPidsLimit", kubelet.pod_pids_limit),
        ("maxPods", kubelet.max_pods.map(i64::from)),
        ("containerLogMaxFiles", kubelet.container_log_max_files.map(i64::from)),
    ] {
        if let Some(number) = number {
            add(key, Yaml::Int(number));
        }
    }
    if let Some(size) = &kubelet.container_log_max_size {
        add("containerLogMaxSize", size.as_str().into());
    }
    entries
}

/// The taints that a node registers with: those of the person and Cluster API's own.
pub(crate) fn taints(wanted: &[Taint]) -> Yaml {
    let ours = Taint { key: UNINITIALIZED.into(), value: String::new(), effect: TaintEffect::NoSchedule };
    let missing = !wanted.iter().any(|taint| (&taint.key, taint.effect) == (&ours.key, ours.effect));
    let all = wanted.iter().chain(missing.then_some(&ours));
    Yaml::List(all.map(taint).collect())
}

fn taint(taint: &Taint) -> Yaml {
    let mut entries = vec![("key".to_owned(), taint.key.as_str().into())];
    if !taint.value.is_empty() {
        entries.push(("value".to_owned(), taint.value.as_str().into()));
    }
    entries.push(("effect".to_owned(), taint.effect.as_str().into()));
    Yaml::Map(entries)
}

/// `key=value,…` as `--node-labels` takes it.
pub(crate) fn node_labels(labels: &BTreeMap<String, String>) -> Option<String> {
    let pairs: Vec<String> = labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
    (!pairs.is_empty()).then(|| pairs.join(","))
}

/// The kubelet's unit. The command stands on one line, its flags sorted.
fn unit(input: &BootstrapInput) -> String {
    let ours = |name: &'static str, value: &str| (name, format!("--{name}={value}"));
    let mut flags: BTreeMap<&str, String> = BTreeMap::from([
        ours("bootstrap-kubeconfig", BOOTSTRAP_KUBECONFIG),
        ours("config", CONFIG),
        ours("hostname-override", HOSTNAME),
        ours("kubeconfig", KUBECONFIG),
    ]);
    flags.extend(node_labels(&input.node_labels).map(|labels| ours("node-labels", &labels)));
    for (name, value) in &input.kubelet.extra_args {
        flags.insert(name, argument(&format!("--{name}={value}")));
    }
    flags.extend([ours("provider-id", PROVIDER_ID)]);
    let command: String = flags.values().map(|flag| format!(" {flag}")).collect();
    format!(
        "[Unit]\n\
         Description=kubelet: the Kubernetes node agent\n\
         Documentation=https://kubernetes.io/docs/\n\
         Wants=network-online.target\n\
         After=network-online.target containerd.service crio.service\n\
         StartLimitIntervalSec=0\n\
         \n\
         [Service]\n\
         ExecStart=/usr/bin/kubelet{command}\n\
         Restart=always\n\
         RestartSec=5\n\
         \n\
         [Install]\n\
         WantedBy=multi-user.target\n"
    )
}

/// `word` as one word of an ExecStart line: quoted as a whole and escaped where systemd (systemd.syntax(7),
/// systemd.service(5)) or jinja would read something into it.
fn argument(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:,=@+[]<>".contains(c);
    if word.chars().all(plain) {
        return word.to_owned();
    }
    let mut out = String::from("\"");
    for c in word.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '%' | '$' => out.extend([c, c]),
            '{' => out.push_str("\\x7b"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_reach_the_kubelet_through_systemd_unchanged() {
        for (word, written) in [
            ("--v=4", "--v=4"),
            ("--eviction-hard=memory.available<1Gi", "--eviction-hard=memory.available<1Gi"),
            ("--x=", "--x="),
            ("--x=a b", "\"--x=a b\""),
            ("--x=50%", "\"--x=50%%\""),
            ("--x=$HOME", "\"--x=$$HOME\""),
            (r#"--x=say "\x""#, r#""--x=say \"\\x\"""#),
            ("--x={{ x }}", "\"--x=\\x7b\\x7b x }}\""),
        ] {
            assert_eq!(argument(word), written);
        }
    }
}
