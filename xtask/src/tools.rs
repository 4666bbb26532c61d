//! The programs of the test bed: real Kubernetes, real Cluster API, built from the Go module `e2e/tools`.
//!
//! They go to a cache folder named after everything that decides what comes out (go.mod, go.sum, the list of programs,
//! the version stamps), so two checkouts share them and a change never meets an old build. A program appears under
//! its name only when it is whole.

use crate::command;
use crate::paths;
use anyhow::{Context, Result, bail};
use rackwright_e2e::Narrator;
use rackwright_e2e::programs::{CLUSTER_API_VERSION, KUBERNETES_VERSION};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

/// The oldest Go that builds them (`go` line of Kubernetes' own module).
const GO_OLDEST: (u32, u32) = (1, 26);

/// Name of each program and its package, the slow one early so that the rest finds its libraries built.
const PROGRAMS: [(&str, &str); 9] = [
    ("etcd", "go.etcd.io/etcd/server/v3"),
    ("kube-apiserver", "k8s.io/kubernetes/cmd/kube-apiserver"),
    ("kube-controller-manager", "k8s.io/kubernetes/cmd/kube-controller-manager"),
    ("kubeadm", "k8s.io/kubernetes/cmd/kubeadm"),
    ("kubectl", "k8s.io/kubernetes/cmd/kubectl"),
    ("clusterctl", "sigs.k8s.io/cluster-api/cmd/clusterctl"),
    ("capi-core", "sigs.k8s.io/cluster-api/core"),
    ("capi-kubeadm-bootstrap", "sigs.k8s.io/cluster-api/bootstrap/kubeadm"),
    ("capi-kubeadm-control-plane", "sigs.k8s.io/cluster-api/controlplane/kubeadm"),
];

/// What the node image has of Kubernetes. A list of its own: the bed does without.
const NODE_PROGRAMS: [(&str, &str); 2] =
    [("kubeadm", "k8s.io/kubernetes/cmd/kubeadm"), ("kubelet", "k8s.io/kubernetes/cmd/kubelet")];

/// Cluster API's own providers as clusterctl wants them: folder, file, where the module keeps their manifests.
const COMPONENTS: [(&str, &str, &str); 3] = [
    ("cluster-api", "core-components.yaml", "core/config/default"),
    ("bootstrap-kubeadm", "bootstrap-components.yaml", "bootstrap/kubeadm/config/default"),
    ("control-plane-kubeadm", "control-plane-components.yaml", "controlplane/kubeadm/config/default"),
];

/// What [`prepare`] made.
pub struct Tools {
    /// Folder with the programs.
    pub programs: PathBuf,
    /// File repository with Cluster API's own providers.
    pub cluster_api: PathBuf,
}

/// Builds what is missing and gives the folders.
pub fn prepare(narrator: &Narrator) -> Result<Tools> {
    let module = paths::root().join("e2e/tools");
    let home = paths::cache()?.join(format!("tools-{}", fingerprint(&module)?));
    let tools = Tools { programs: home.join("bin"), cluster_api: home.join("cluster-api-repository") };
    fs::create_dir_all(&tools.programs).with_context(|| format!("{} cannot be made", tools.programs.display()))?;
    let lock = File::create(home.join("lock"))?;
    lock.lock().context("another run's lock on the cache cannot be waited for")?;

    let missing: Vec<_> = PROGRAMS.iter().filter(|(name, _)| !tools.programs.join(name).exists()).collect();
    let cached = PROGRAMS.len() - missing.len();
    narrator.step(format!("programs of the bed: {cached} of {} in the cache ({})", PROGRAMS.len(), home.display()));
    if !missing.is_empty() {
        check_go()?;
        narrator.more("building the others; all of them take about 6 minutes on 2 cores, once");
    }
    for (name, package) in missing {
        let took = build(&module, &tools.programs, name, package)?;
        narrator.step(format!("  {name:<28} built in {} s", took.as_secs()));
    }
    if !tools.cluster_api.exists() {
        write_components(&module, &tools)?;
    }
    Ok(tools)
}

/// Builds what the node image needs, in a folder of its own, and gives that.
pub fn prepare_node(narrator: &Narrator) -> Result<PathBuf> {
    let module = paths::root().join("e2e/tools");
    let mut hash = hash_module(&module)?;
    hash.update(format!("{NODE_PROGRAMS:?}{}", stamps()));
    let home = paths::cache()?.join(format!("node-tools-{}", &hex::encode(hash.finalize())[..12]));
    fs::create_dir_all(&home).with_context(|| format!("{} cannot be made", home.display()))?;
    let lock = File::create(home.join("lock"))?;
    lock.lock().context("another run's lock on the cache cannot be waited for")?;
    for (name, package) in NODE_PROGRAMS.iter().filter(|(name, _)| !home.join(name).exists()) {
        check_go()?;
        let took = build(&module, &home, name, package)?;
        narrator.step(format!("  {name:<28} built in {} s", took.as_secs()));
    }
    Ok(home)
}

fn fingerprint(module: &Path) -> Result<String> {
    let mut hash = hash_module(module)?;
    hash.update(format!("{PROGRAMS:?}{COMPONENTS:?}{}", stamps()));
    Ok(hex::encode(hash.finalize())[..12].to_string())
}

fn hash_module(module: &Path) -> Result<Sha256> {
    let mut hash = Sha256::new();
    for file in ["go.mod", "go.sum"] {
        hash.update(fs::read(module.join(file)).with_context(|| format!("e2e/tools/{file} cannot be read"))?);
    }
    Ok(hash)
}

fn check_go() -> Result<()> {
    let needed = format!(
        "the test bed is built from source: install Go {}.{} or newer (https://go.dev/dl)",
        GO_OLDEST.0, GO_OLDEST.1
    );
    let Ok(found) = command::output(Command::new("go").args(["env", "GOVERSION"])) else {
        bail!("`go` is not on the PATH; {needed}");
    };
    match go_version(found.trim()) {
        Some(version) if version >= GO_OLDEST => Ok(()),
        Some(_) => bail!("{} is too old; {needed}", found.trim()),
        None => bail!("`go env GOVERSION` says {:?}, which is no version; {needed}", found.trim()),
    }
}

/// Major and minor of `go1.26.8`.
fn go_version(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.strip_prefix("go")?.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn build(module: &Path, bin: &Path, name: &str, package: &str) -> Result<Duration> {
    let begun = Instant::now();
    let unfinished = bin.join(format!("{name}.unfinished"));
    let mut go = Command::new("go");
    go.current_dir(module).env("CGO_ENABLED", "0").env("GOWORK", "off");
    go.args(["build", "-trimpath", "-buildvcs=false", "-ldflags", &stamps(), "-o"]).arg(&unfinished).arg(package);
    command::output(&mut go).with_context(|| format!("{name} cannot be built"))?;
    fs::rename(&unfinished, bin.join(name))?;
    Ok(begun.elapsed())
}

/// Linker flags that stamp the versions as upstream stamps them; clusterctl refuses an apiserver without.
fn stamps() -> String {
    let date = "2026-11-01T00:00:00Z";
    let mut flags = vec!["-s -w".to_string()];
    for (package, version) in [
        ("k8s.io/component-base/version", KUBERNETES_VERSION),
        ("k8s.io/client-go/pkg/version", KUBERNETES_VERSION),
        ("sigs.k8s.io/cluster-api/version", CLUSTER_API_VERSION),
    ] {
        let mut numbers = version.trim_start_matches('v').split('.');
        let (major, minor) = (numbers.next().unwrap_or_default(), numbers.next().unwrap_or_default());
        for (name, value) in [
            ("gitVersion", version),
            ("gitMajor", major),
            ("gitMinor", minor),
            ("gitCommit", version),
            ("gitTreeState", "clean"),
            ("buildDate", date),
        ] {
            flags.push(format!("-X {package}.{name}={value}"));
        }
    }
    flags.join(" ")
}

/// Renders Cluster API's manifests as its own releases do: kustomize of `config/default`.
fn write_components(module: &Path, tools: &Tools) -> Result<()> {
    let mut go = Command::new("go");
    go.current_dir(module).args(["list", "-m", "-f", "{{.Dir}}", "sigs.k8s.io/cluster-api"]);
    let source = PathBuf::from(command::output(&mut go)?.trim());
    let unfinished = tools.cluster_api.with_extension("unfinished");
    for (provider, file, manifests) in COMPONENTS {
        let folder = unfinished.join(provider).join(CLUSTER_API_VERSION);
        fs::create_dir_all(&folder)?;
        let mut kubectl = Command::new(tools.programs.join("kubectl"));
        let rendered = command::output(kubectl.arg("kustomize").arg(source.join(manifests)))?;
        fs::write(folder.join(file), rendered)?;
        fs::copy(source.join("metadata.yaml"), folder.join("metadata.yaml"))?;
    }
    fs::rename(&unfinished, &tools.cluster_api)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_versions_that_are_stamped_are_the_ones_that_go_mod_asks_for() {
        let go_mod = fs::read_to_string(paths::root().join("e2e/tools/go.mod")).expect("is there");
        for (module, version) in
            [("k8s.io/kubernetes", KUBERNETES_VERSION), ("sigs.k8s.io/cluster-api", CLUSTER_API_VERSION)]
        {
            let wanted = format!("{module} {version}");
            assert!(go_mod.lines().any(|line| line.trim().trim_end_matches(" // indirect") == wanted), "{wanted}");
        }
    }

    #[test]
    fn every_program_is_a_tool_of_the_module() {
        let go_mod = fs::read_to_string(paths::root().join("e2e/tools/go.mod")).expect("is there");
        for (name, package) in PROGRAMS.iter().chain(&NODE_PROGRAMS) {
            assert!(go_mod.lines().any(|line| line.trim() == *package), "{name}");
        }
    }

    #[test]
    fn a_go_version_is_read_with_and_without_a_patch_number() {
        assert_eq!(go_version("go1.26.8"), Some((1, 26)));
        assert_eq!(go_version("go1.27rc1"), Some((1, 27)));
        assert_eq!(go_version("devel +abc"), None);
    }
}
