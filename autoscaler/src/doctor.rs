//! What in a cluster-autoscaler's flags does not fit bare metal, and what to change. Pure.

use std::collections::HashMap;

/// One thing to change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// The flag or part.
    pub about: String,
    /// What is wrong and what to set.
    pub advice: String,
}

/// How much hardware the autoscaler must be able to count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Size {
    /// Cores of all hosts that pools may use.
    pub cores: u64,
    /// Their memory, GiB.
    pub memory_gib: u64,
}

/// Upstream's default of `--cores-total`.
const CORES: u64 = 320_000;
/// Upstream's default of `--memory-total`, GiB.
const MEMORY_GIB: u64 = 6_400_000;
/// Metal boots, is imaged and joins within this: minutes.
const METAL_MINUTES: u64 = 60;
/// Upstream's default of both deadlines, minutes.
const DEFAULT_MINUTES: u64 = 15;

/// Everything that does not fit, in the containers' `args` (command and arguments of each cluster-autoscaler container in
/// the cluster) and the `images` they run.
pub fn check(autoscalers: &[Vec<String>], images: &[String], size: Size) -> Vec<Finding> {
    let mut findings = Vec::new();
    let flags: Vec<_> = autoscalers.iter().map(|args| parse(args)).collect();
    let ours = flags.iter().find(|flags| flags.get("cloud-provider").is_some_and(|value| value == "externalgrpc"));
    let Some(ours) = ours else {
        return vec![finding(
            "--cloud-provider",
            "no cluster-autoscaler uses Rackwright: set it to externalgrpc".into(),
        )];
    };
    if flags.iter().any(|flags| flags.get("cloud-provider").is_some_and(|value| value == "clusterapi")) {
        let text = "another cluster-autoscaler runs with clusterapi in the same cluster: stop it, both change the same Machines";
        findings.push(finding("--cloud-provider", text.into()));
    }
    if !ours.contains_key("cloud-config") {
        findings.push(finding("--cloud-config", "is missing: name the file with address, key, cert and cacert".into()));
    }
    findings.extend(total(ours, "cores-total", CORES, size.cores, "cores"));
    findings.extend(total(ours, "memory-total", MEMORY_GIB, size.memory_gib, "GiB"));
    for name in ["max-node-provision-time", "max-node-startup-time"] {
        let minutes = ours.get(name).map_or(Some(DEFAULT_MINUTES), |value| minutes(value));
        match minutes {
            Some(minutes) if minutes >= METAL_MINUTES => {}
            Some(minutes) => findings.push(finding(
                &format!("--{name}"),
                format!("is {minutes} min and metal takes longer: set it to {METAL_MINUTES}m or more"),
            )),
            None => findings.push(finding(&format!("--{name}"), "is not a duration: write for example 60m".into())),
        }
    }
    let balances = ours.get("balance-similar-node-groups").is_some_and(|value| value != "false");
    let ignored = ours.get("balancing-ignore-label").is_some_and(|value| value.contains("rackwright.dev/rack"));
    if balances && !ignored {
        let text = "racks never look alike: add --balancing-ignore-label=rackwright.dev/rack";
        findings.push(finding("--balance-similar-node-groups", text.into()));
    }
    findings.extend(images.iter().filter_map(|image| old(image)));
    findings
}

fn finding(about: &str, advice: String) -> Finding {
    Finding { about: about.into(), advice }
}

fn parse(args: &[String]) -> HashMap<String, String> {
    let mut flags: HashMap<String, String> = HashMap::new();
    let mut rest = args.iter().peekable();
    while let Some(arg) = rest.next() {
        let Some(name) = arg.strip_prefix("--").or_else(|| arg.strip_prefix('-')) else { continue };
        let (name, value) = match name.split_once('=') {
            Some((name, value)) => (name, value.to_owned()),
            None => (name, rest.next_if(|next| !next.starts_with('-')).cloned().unwrap_or_else(|| "true".into())),
        };
        // Flags that may be repeated add up.
        let slot = flags.entry(name.into()).or_default();
        if name == "balancing-ignore-label" && !slot.is_empty() {
            slot.push(',');
            slot.push_str(&value);
        } else {
            *slot = value;
        }
    }
    flags
}

fn total(flags: &HashMap<String, String>, name: &str, default: u64, has: u64, unit: &str) -> Option<Finding> {
    let text = flags.get(name);
    let max = match text {
        None => default,
        Some(text) => match text.split_once(':').and_then(|(_, max)| max.parse().ok()) {
            Some(max) => max,
            None => return Some(finding(&format!("--{name}"), format!("{text:?} is not MIN:MAX"))),
        },
    };
    (max < has).then(|| {
        finding(
            &format!("--{name}"),
            format!("allows {max} {unit} and the hosts have {has}: set it to 0:{has} or more"),
        )
    })
}

/// Minutes of a Go duration such as `1h30m`.
fn minutes(text: &str) -> Option<u64> {
    let (mut total, mut number) = (0u64, String::new());
    for c in text.chars() {
        if c.is_ascii_digit() {
            number.push(c);
            continue;
        }
        let seconds = match c {
            'h' => 3600,
            'm' => 60,
            's' => 1,
            _ => return None,
        };
        total = total.checked_add(number.parse::<u64>().ok()?.checked_mul(seconds)?)?;
        number.clear();
    }
    (number.is_empty() && !text.is_empty()).then_some(total / 60)
}

fn old(image: &str) -> Option<Finding> {
    let tag = image.rsplit_once(':')?.1.trim_start_matches('v');
    let mut parts = tag.split('.').map(|part| part.split('-').next().unwrap_or_default().parse::<u32>().unwrap_or(0));
    let version = (parts.next()?, parts.next()?, parts.next().unwrap_or(0));
    (version < (1, 34, 2)).then(|| {
        finding(
            image,
            "is older than 1.34.2 and knows the old wire alone: Rackwright answers it, but run 1.34.2 or later".into(),
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(text: &str) -> Vec<String> {
        text.split(' ').map(str::to_owned).collect()
    }

    const GOOD: &str = "./cluster-autoscaler --cloud-provider=externalgrpc --cloud-config=/c.yaml \
        --max-node-provision-time=60m --max-node-startup-time 1h30m";

    #[test]
    fn flags_that_fit_have_no_finding() {
        let size = Size { cores: 64, memory_gib: 512 };
        assert_eq!(check(&[args(GOOD)], &["registry.k8s.io/autoscaling/cluster-autoscaler:v1.36.1".into()], size), []);
    }

    #[test]
    fn each_flag_that_does_not_fit_has_one_finding() {
        let abouts = |text: &str, image: &str, cores| {
            let size = Size { cores, memory_gib: 1 };
            check(&[args(text)], &[image.to_owned()], size).into_iter().map(|found| found.about).collect::<Vec<_>>()
        };
        assert_eq!(abouts(GOOD, "x:v1.36.1", 960_000), ["--cores-total"]);
        assert_eq!(abouts(&format!("{GOOD} --cores-total=0:1000000"), "x:v1.36.1", 960_000), Vec::<String>::new());
        assert_eq!(abouts(&GOOD.replace("60m", "15m"), "x:v1.36.1", 1), ["--max-node-provision-time"]);
        assert_eq!(abouts(&GOOD.replace("1h30m", "20m"), "x:v1.36.1", 1), ["--max-node-startup-time"]);
        assert_eq!(
            abouts(&format!("{GOOD} --balance-similar-node-groups"), "x:v1.36.1", 1),
            ["--balance-similar-node-groups"]
        );
        assert_eq!(abouts(GOOD, "x:v1.34.1", 1), ["x:v1.34.1"]);
        assert_eq!(abouts("ca --cloud-provider=clusterapi", "x:v1.36.1", 1), ["--cloud-provider"]);
    }

    #[test]
    fn two_providers_in_one_cluster_are_found() {
        let both = [args(GOOD), args("ca --cloud-provider=clusterapi")];
        assert_eq!(check(&both, &[], Size::default()).len(), 1);
    }
}
