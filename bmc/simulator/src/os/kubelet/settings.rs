//! What a kubelet is told: its flags and its KubeletConfiguration, read as the real one reads them.
//!
//! Pure. Flags win over the file. What the real kubelet refuses is refused here: an unknown flag, a label in the
//! `kubernetes.io` name space that nodes may not set themselves, a reservation of an unknown resource.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Taint;
use serde::Deserialize;

use super::quantity;

/// Flags of kubelet v1.36: one `name bool` or `name value` a line.
const FLAGS: &str = include_str!("flags-v1.36.txt");

/// Labels with a `kubernetes.io` name that a kubelet may give its own node.
const OWN_LABELS: &[&str] = &[
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/instance-type",
    "beta.kubernetes.io/os",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
    "kubernetes.io/arch",
    "kubernetes.io/hostname",
    "kubernetes.io/os",
    "node.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
];

/// Why the kubelet does not start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum SettingsError {
    /// No such flag in this version.
    #[error("unknown flag: --{0}")]
    UnknownFlag(String),
    /// A flag at the end of the line whose value is missing.
    #[error("flag needs an argument: --{0}")]
    NoValue(String),
    /// A word that is no flag.
    #[error("unknown command {0:?}")]
    UnknownCommand(String),
    /// A value that the kubelet refuses.
    #[error("invalid value {value:?} for {name}: {why}")]
    Value {
        /// Flag or field.
        name: &'static str,
        /// What was given.
        value: String,
        /// What is wrong.
        why: &'static str,
    },
    /// The configuration file is none.
    #[error("the KubeletConfiguration cannot be read: {0}")]
    Configuration(String),
}

/// The flags of one command line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Flags(BTreeMap<String, String>);

impl Flags {
    /// Reads the words after the program's own.
    pub fn parse(words: &[String]) -> Result<Self, SettingsError> {
        let known: BTreeMap<&str, &str> = FLAGS.lines().filter_map(|line| line.split_once(' ')).collect();
        let mut flags = BTreeMap::new();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let Some(flag) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
                return Err(SettingsError::UnknownCommand(word.clone()));
            };
            let (name, value) = flag.split_once('=').map_or((flag, None), |(name, value)| (name, Some(value)));
            let kind = known.get(name).ok_or_else(|| SettingsError::UnknownFlag(name.into()))?;
            let value = match (value, *kind) {
                (Some(value), _) => value,
                (None, "bool") => "true",
                (None, _) => words.next().ok_or_else(|| SettingsError::NoValue(name.into()))?,
            };
            flags.insert(name.into(), value.into());
        }
        Ok(Self(flags))
    }

    /// A flag's value, unless it is empty.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }
}

/// The fields of `kubelet.config.k8s.io/v1beta1` that show on a Node.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Configuration {
    api_version: String,
    kind: String,
    #[serde(rename = "providerID")]
    provider_id: Option<String>,
    register_node: Option<bool>,
    register_with_taints: Option<Vec<Taint>>,
    max_pods: Option<i64>,
    kube_reserved: Option<BTreeMap<String, String>>,
    system_reserved: Option<BTreeMap<String, String>>,
    eviction_hard: Option<BTreeMap<String, String>>,
    static_pod_path: Option<String>,
    node_lease_duration_seconds: Option<i32>,
}

/// What is kept free of pods, in thousandths.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Reserved {
    /// Processors.
    pub cpu: i128,
    /// Memory, bytes.
    pub memory: i128,
    /// Disk, bytes.
    pub ephemeral_storage: i128,
}

/// A threshold of `evictionHard`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Threshold {
    /// Thousandths of a byte.
    Milli(i128),
    /// Part of the capacity, 0 to 1.
    Part(f64),
}

/// Everything that decides how the node joins and looks.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Name of the Node.
    pub node_name: String,
    /// `--kubeconfig`: written by the TLS bootstrap, then used.
    pub kubeconfig: Option<String>,
    /// `--bootstrap-kubeconfig`.
    pub bootstrap_kubeconfig: Option<String>,
    /// Where keys and certificates go.
    pub cert_dir: String,
    /// `spec.providerID`.
    pub provider_id: Option<String>,
    /// `--node-labels`.
    pub labels: BTreeMap<String, String>,
    /// Taints the Node is made with.
    pub taints: Vec<Taint>,
    /// `--node-ip`, when not the host's own.
    pub node_ip: Option<String>,
    /// Pods at most.
    pub max_pods: i64,
    /// kube and system reservations, summed.
    pub reserved: Reserved,
    /// `evictionHard[memory.available]`.
    pub evict_memory: Threshold,
    /// `evictionHard[nodefs.available]`.
    pub evict_disk: Threshold,
    /// Whether the kubelet makes its Node.
    pub register: bool,
    /// Folder of static pods.
    pub static_pods: Option<String>,
    /// `spec.leaseDurationSeconds` of the Lease.
    pub lease_duration_seconds: i32,
}

impl Settings {
    /// Takes flags, the text of the file that `--config` names, and the host's name together.
    pub fn read(flags: &Flags, file: Option<&str>, hostname: &str) -> Result<Self, SettingsError> {
        let file = file.map(configuration).transpose()?.unwrap_or_default();
        let reserved_for = |flag: &'static str, of_file: &Option<BTreeMap<String, String>>| match flags.get(flag) {
            Some(text) => reserved(flag, &pairs(flag, text, '=')?),
            None => reserved(flag, of_file.as_ref().unwrap_or(&BTreeMap::new())),
        };
        let kube = reserved_for("kube-reserved", &file.kube_reserved)?;
        let system = reserved_for("system-reserved", &file.system_reserved)?;
        let eviction = match flags.get("eviction-hard") {
            Some(text) => Some(pairs("eviction-hard", text, '<')?),
            None => file.eviction_hard,
        };
        let taints = match flags.get("register-with-taints") {
            Some(text) => taints(text)?,
            None => file.register_with_taints.unwrap_or_default(),
        };
        let max_pods = match flags.get("max-pods") {
            Some(text) => number("max-pods", text)?,
            None => file.max_pods.filter(|pods| *pods > 0).unwrap_or(110),
        };
        let text = |name: &str| flags.get(name).map(String::from);
        Ok(Self {
            node_name: text("hostname-override").unwrap_or_else(|| hostname.into()).to_lowercase(),
            kubeconfig: text("kubeconfig"),
            bootstrap_kubeconfig: text("bootstrap-kubeconfig"),
            cert_dir: text("cert-dir").unwrap_or_else(|| "/var/lib/kubelet/pki".into()),
            provider_id: text("provider-id").or(file.provider_id.filter(|id| !id.is_empty())),
            labels: labels(flags.get("node-labels").unwrap_or_default())?,
            taints,
            node_ip: text("node-ip"),
            max_pods,
            reserved: Reserved {
                cpu: kube.cpu + system.cpu,
                memory: kube.memory + system.memory,
                ephemeral_storage: kube.ephemeral_storage + system.ephemeral_storage,
            },
            evict_memory: threshold(eviction.as_ref(), "memory.available", Threshold::Milli(1000 * (100 << 20)))?,
            evict_disk: threshold(eviction.as_ref(), "nodefs.available", Threshold::Part(0.1))?,
            register: flags.get("register-node").map_or(file.register_node.unwrap_or(true), |flag| flag == "true"),
            static_pods: text("pod-manifest-path").or(file.static_pod_path.filter(|path| !path.is_empty())),
            lease_duration_seconds: file.node_lease_duration_seconds.filter(|seconds| *seconds > 0).unwrap_or(40),
        })
    }
}

fn configuration(text: &str) -> Result<Configuration, SettingsError> {
    let options = serde_saphyr::options! { with_snippet: false };
    let file: Configuration = serde_saphyr::from_str_with_options(text, options)
        .map_err(|error| SettingsError::Configuration(error.to_string()))?;
    if (file.api_version.as_str(), file.kind.as_str()) != ("kubelet.config.k8s.io/v1beta1", "KubeletConfiguration") {
        let why = format!("no kind {:?} is registered for version {:?}", file.kind, file.api_version);
        return Err(SettingsError::Configuration(why));
    }
    Ok(file)
}

fn pairs(name: &'static str, text: &str, separator: char) -> Result<BTreeMap<String, String>, SettingsError> {
    let pair = |part: &str| match part.split_once(separator) {
        Some((key, value)) => Ok((key.trim().to_string(), value.trim().to_string())),
        None => Err(SettingsError::Value { name, value: part.into(), why: "a name and a value are needed" }),
    };
    text.split(',').filter(|part| !part.trim().is_empty()).map(pair).collect()
}

fn reserved(name: &'static str, map: &BTreeMap<String, String>) -> Result<Reserved, SettingsError> {
    let mut reserved = Reserved::default();
    for (resource, text) in map {
        let wrong = |why| SettingsError::Value { name, value: format!("{resource}={text}"), why };
        let value = quantity::milli(text).filter(|value| *value >= 0).ok_or(wrong("this is no quantity"))?;
        match resource.as_str() {
            "cpu" => reserved.cpu = value,
            "memory" => reserved.memory = value,
            "ephemeral-storage" => reserved.ephemeral_storage = value,
            "pid" => {}
            _ => return Err(wrong("only cpu, memory, ephemeral-storage and pid can be reserved")),
        }
    }
    Ok(reserved)
}

/// A map that is given takes the place of all defaults, as in the kubelet: what it does not name is 0.
fn threshold(
    map: Option<&BTreeMap<String, String>>,
    signal: &str,
    default: Threshold,
) -> Result<Threshold, SettingsError> {
    let Some(map) = map else { return Ok(default) };
    let Some(text) = map.get(signal) else { return Ok(Threshold::Milli(0)) };
    let wrong = || SettingsError::Value {
        name: "evictionHard",
        value: format!("{signal}={text}"),
        why: "a quantity or a percentage is needed",
    };
    match text.strip_suffix('%') {
        Some(percent) => percent.parse().map(|percent: f64| Threshold::Part(percent / 100.0)).map_err(|_| wrong()),
        None => quantity::milli(text).map(Threshold::Milli).ok_or_else(wrong),
    }
}

fn labels(text: &str) -> Result<BTreeMap<String, String>, SettingsError> {
    let labels = pairs("node-labels", text, '=')?;
    for key in labels.keys() {
        let prefix = key.split_once('/').map(|(prefix, _)| prefix).unwrap_or_default();
        let reserved =
            ["kubernetes.io", "k8s.io"].iter().any(|own| prefix == *own || prefix.ends_with(&format!(".{own}")));
        let allowed = OWN_LABELS.contains(&key.as_str())
            || ["kubelet.kubernetes.io", "node.kubernetes.io"]
                .iter()
                .any(|own| prefix == *own || prefix.ends_with(&format!(".{own}")));
        if reserved && !allowed {
            return Err(SettingsError::Value {
                name: "node-labels",
                value: key.clone(),
                why: "a node may not give itself this label of the kubernetes.io name space",
            });
        }
    }
    Ok(labels)
}

/// `key[=value]:Effect`, separated by commas.
pub fn taints(text: &str) -> Result<Vec<Taint>, SettingsError> {
    let taint = |part: &str| {
        let wrong = |why| SettingsError::Value { name: "register-with-taints", value: part.into(), why };
        let (name, effect) = part.rsplit_once(':').ok_or(wrong("an effect is needed: key=value:Effect"))?;
        if !["NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect) {
            return Err(wrong("the effect must be NoSchedule, PreferNoSchedule or NoExecute"));
        }
        let (key, value) = name.split_once('=').map_or((name, None), |(key, value)| (key, Some(value)));
        let value = value.filter(|value| !value.is_empty()).map(String::from);
        Ok(Taint { key: key.into(), value, effect: effect.into(), time_added: None })
    };
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(taint).collect()
}

fn number(name: &'static str, text: &str) -> Result<i64, SettingsError> {
    text.parse().map_err(|_| SettingsError::Value { name, value: text.into(), why: "a whole number is needed" })
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
