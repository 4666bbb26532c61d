//! What the bed runs and where it is. Built by `cargo xtask`, which says so by environment variables.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// Version of the Kubernetes programs (e2e/tools/go.mod).
pub const KUBERNETES_VERSION: &str = "v1.36.3";
/// Version of the Cluster API programs (e2e/tools/go.mod).
pub const CLUSTER_API_VERSION: &str = "v1.14.2";
/// Version of our own release.
pub const RACKWRIGHT_VERSION: &str = concat!("v", env!("CARGO_PKG_VERSION"));

/// Folder with the Go programs.
pub const PROGRAMS: &str = "RACKWRIGHT_PROGRAMS";
/// File repository with Cluster API's own providers.
pub const CLUSTER_API: &str = "RACKWRIGHT_CLUSTER_API";
/// File repository with our release.
pub const RELEASE: &str = "RACKWRIGHT_RELEASE";
/// Folder with the `rackwright` program.
pub const BIN: &str = "RACKWRIGHT_BIN";

/// What the bed runs.
#[derive(Clone, Debug)]
pub struct Programs {
    /// Folder with `etcd`, `kube-apiserver`, `clusterctl`, …
    pub bin: PathBuf,
    /// File repository with Cluster API's own providers.
    pub cluster_api: PathBuf,
    /// File repository with our release.
    pub release: PathBuf,
    /// The `rackwright` program.
    pub rackwright: PathBuf,
}

impl Programs {
    /// As `cargo xtask test` hands them to the tests.
    pub fn from_env() -> Result<Programs> {
        Ok(Programs {
            bin: folder(PROGRAMS)?,
            cluster_api: folder(CLUSTER_API)?,
            release: folder(RELEASE)?,
            rackwright: folder(BIN)?.join("rackwright"),
        })
    }

    /// Path of one of the Go programs.
    pub fn path(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }
}

fn folder(variable: &str) -> Result<PathBuf> {
    let value = std::env::var_os(variable).with_context(|| format!("{variable} is not set: run `cargo xtask test`"))?;
    Path::new(&value).canonicalize().with_context(|| format!("{variable} names a folder that is not there"))
}
