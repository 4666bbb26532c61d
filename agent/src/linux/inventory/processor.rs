//! Processors: what is online, as /sys counts it.

use crate::linux::{Roots, names, number, text};
use rackwright_protocol::facts::Cpu;
use std::collections::BTreeSet;

/// Cores and threads of all sockets.
pub fn read(roots: &Roots) -> Cpu {
    let folder = roots.sys.join("devices/system/cpu");
    let (mut cores, mut threads) = (BTreeSet::new(), 0);
    for name in names(&folder) {
        let topology = folder.join(&name).join("topology");
        if let Some(core) = number(topology.join("core_id")) {
            let part = |file: &str| number(topology.join(file)).unwrap_or(0);
            cores.insert((part("physical_package_id"), part("die_id"), core));
            threads += 1;
        }
    }
    let info = text(roots.proc.join("cpuinfo")).unwrap_or_default();
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.trim().strip_prefix(':'));
    Cpu {
        architecture: architecture().into(),
        model: model.map(|model| model.split_whitespace().collect::<Vec<_>>().join(" ")),
        cores: i32::try_from(cores.len()).unwrap_or(i32::MAX),
        threads,
    }
}

/// The name that container images use for what this agent was built for.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}
