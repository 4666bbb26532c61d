//! Everything that can be known to be wrong before a machine boots with it, each refusal with the field's name.
//!
//! What the API server's CEL rules refuse is looked at again: an object stored under older rules gets here too.

use crate::RenderError;
use crate::input::{BootstrapInput, File, Kubelet};
use crate::{names, network, quantity};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Refuses an input that cannot become a working node, naming the first field that is wrong.
pub(crate) fn check(input: &BootstrapInput) -> Result<(), RenderError> {
    check_server(input)?;
    check_kubelet(&input.kubelet)?;
    check_sysctls(&input.sysctls)?;
    names::check_labels(&input.node_labels)?;
    names::check_taints(&input.node_taints)?;
    check_files(&input.files)?;
    check_commands("beforeJoin", &input.before_join)?;
    check_commands("afterJoin", &input.after_join)?;
    for (index, key) in input.ssh_authorized_keys.iter().enumerate() {
        if key.trim().is_empty() || key.chars().any(char::is_control) {
            return Err(RenderError::new(
                format!("sshAuthorizedKeys[{index}]"),
                "a key is one line, as in authorized_keys",
            ));
        }
    }
    input.network.as_ref().map_or(Ok(()), network::check)
}

fn check_server(input: &BootstrapInput) -> Result<(), RenderError> {
    let host = &input.api_server.host;
    if host.parse::<IpAddr>().is_err() && !names::is_dns_subdomain(&host.to_ascii_lowercase()) {
        return Err(RenderError::new("controlPlaneEndpoint.host", "is neither an IP address nor a DNS name"));
    }
    match &input.cluster_domain {
        Some(domain) if !names::is_dns_subdomain(domain) => {
            Err(RenderError::new("clusterNetwork.serviceDomain", "is not a DNS name"))
        }
        _ => Ok(()),
    }
}

fn check_kubelet(kubelet: &Kubelet) -> Result<(), RenderError> {
    check_reserved("kubelet.kubeReserved", &kubelet.kube_reserved)?;
    check_reserved("kubelet.systemReserved", &kubelet.system_reserved)?;
    check_thresholds("kubelet.evictionHard", &kubelet.eviction_hard)?;
    check_thresholds("kubelet.evictionSoft", &kubelet.eviction_soft)?;
    check_grace_periods(kubelet)?;
    positive("kubelet.podPidsLimit", kubelet.pod_pids_limit, 1)?;
    positive("kubelet.maxPods", kubelet.max_pods.map(i64::from), 1)?;
    positive("kubelet.containerLogMaxFiles", kubelet.container_log_max_files.map(i64::from), 2)?;
    if kubelet.container_log_max_size.as_deref().is_some_and(|size| !quantity::is_quantity(size)) {
        return Err(RenderError::new("kubelet.containerLogMaxSize", "is not a quantity such as 50Mi"));
    }
    for (index, address) in kubelet.cluster_dns.iter().enumerate() {
        if address.parse::<IpAddr>().is_err() {
            return Err(RenderError::new(format!("kubelet.clusterDNS[{index}]"), "is not an IP address"));
        }
    }
    kubelet.extra_args.iter().try_for_each(|(name, value)| check_extra_arg(name, value))
}

/// The kubelet takes reservations of these four only.
fn check_reserved(field: &str, reserved: &BTreeMap<String, String>) -> Result<(), RenderError> {
    const RESOURCES: [&str; 4] = ["cpu", "memory", "ephemeral-storage", "pid"];
    for (resource, amount) in reserved {
        let field = format!("{field}[{resource}]");
        if !RESOURCES.contains(&resource.as_str()) {
            return Err(RenderError::new(field, "only cpu, memory, ephemeral-storage and pid can be reserved"));
        }
        if !quantity::is_quantity(amount) {
            return Err(RenderError::new(field, "is not a quantity such as 500m or 4Gi"));
        }
    }
    Ok(())
}

const SIGNALS: [&str; 7] = [
    "memory.available",
    "nodefs.available",
    "nodefs.inodesFree",
    "imagefs.available",
    "imagefs.inodesFree",
    "pid.available",
    "allocatableMemory.available",
];

fn check_thresholds(field: &str, thresholds: &BTreeMap<String, String>) -> Result<(), RenderError> {
    for (signal, amount) in thresholds {
        let field = format!("{field}[{signal}]");
        if !SIGNALS.contains(&signal.as_str()) {
            return Err(RenderError::new(field, format!("the kubelet knows only {}", SIGNALS.join(", "))));
        }
        if !quantity::is_quantity(amount) && !quantity::is_percentage(amount) {
            return Err(RenderError::new(field, "is neither a quantity such as 1Gi nor a percentage such as 5%"));
        }
    }
    Ok(())
}

fn check_grace_periods(kubelet: &Kubelet) -> Result<(), RenderError> {
    for (signal, period) in &kubelet.eviction_soft_grace_period {
        let field = format!("kubelet.evictionSoftGracePeriod[{signal}]");
        if !quantity::is_duration(period) {
            return Err(RenderError::new(field, "is not a duration such as 90s or 1m30s"));
        }
        if !kubelet.eviction_soft.contains_key(signal) {
            return Err(RenderError::new(field, "has no threshold in evictionSoft"));
        }
    }
    let alone = kubelet.eviction_soft.keys().find(|signal| !kubelet.eviction_soft_grace_period.contains_key(*signal));
    alone.map_or(Ok(()), |signal| {
        Err(RenderError::new(
            format!("kubelet.evictionSoft[{signal}]"),
            "has no grace period in evictionSoftGracePeriod; the kubelet would not start",
        ))
    })
}

fn positive(field: &str, number: Option<i64>, least: i64) -> Result<(), RenderError> {
    match number {
        Some(number) if number < least => Err(RenderError::new(field, format!("must be at least {least}"))),
        _ => Ok(()),
    }
}

fn check_extra_arg(name: &str, value: &str) -> Result<(), RenderError> {
    let field = format!("kubelet.extraArgs[{name}]");
    if name == "provider-id" {
        return Err(RenderError::new(field, "is set by Rackwright; without it the Machine never finds its Node"));
    }
    let named = name.starts_with(|c: char| c.is_ascii_lowercase())
        && name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
    if !named {
        return Err(RenderError::new(field, "is not the name of a flag without its dashes"));
    }
    if value.chars().any(char::is_control) {
        return Err(RenderError::new(field, "must be one line"));
    }
    Ok(())
}

fn check_sysctls(sysctls: &BTreeMap<String, String>) -> Result<(), RenderError> {
    for (key, value) in sysctls {
        let field = format!("sysctls[{key}]");
        let named = key.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && key.chars().all(|c| c.is_ascii_alphanumeric() || "_./-".contains(c));
        if !named {
            return Err(RenderError::new(field, "is not a kernel parameter such as vm.max_map_count"));
        }
        if value.trim().is_empty() || value.chars().any(|c| c.is_control() && c != '\t') {
            return Err(RenderError::new(field, "a value is one line and not empty"));
        }
    }
    Ok(())
}

fn check_files(files: &[File]) -> Result<(), RenderError> {
    for (index, file) in files.iter().enumerate() {
        let refuse = |part: &str, why: &str| Err(RenderError::new(format!("files[{index}].{part}"), why));
        if !file.path.starts_with('/') || file.path.ends_with('/') || file.path.chars().any(char::is_control) {
            return refuse("path", "is not the absolute path of a file");
        }
        if file.path.split('/').any(|part| part == ".." || part == ".") {
            return refuse("path", "must not hold . or .. as a part");
        }
        if files[..index].iter().any(|other| other.path == file.path) {
            return refuse("path", "is written by another entry too");
        }
        if file.content.contains('\0') {
            return refuse("content", "holds a zero byte; only text can be written");
        }
        if file.permissions.as_deref().is_some_and(|mode| !is_mode(mode)) {
            return refuse("permissions", "is not an octal mode in quotes, for example \"0600\"");
        }
        if file.owner.as_deref().is_some_and(|owner| !is_owner(owner)) {
            return refuse("owner", "is not user or user:group");
        }
    }
    Ok(())
}

fn is_mode(mode: &str) -> bool {
    (3..=5).contains(&mode.len()) && mode.bytes().all(|byte| (b'0'..=b'7').contains(&byte))
}

fn is_owner(owner: &str) -> bool {
    let name = |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.$-".contains(c));
    let (user, group) = owner.split_once(':').unwrap_or((owner, "root"));
    name(user) && name(group)
}

fn check_commands(field: &str, commands: &[String]) -> Result<(), RenderError> {
    for (index, command) in commands.iter().enumerate() {
        if command.trim().is_empty() || command.contains('\0') {
            return Err(RenderError::new(format!("{field}[{index}]"), "is not a shell command"));
        }
    }
    Ok(())
}
