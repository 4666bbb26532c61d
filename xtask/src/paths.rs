//! Where things are: the checkout and the cache outside it.

use anyhow::{Context, Result};
use std::path::{Path, PathBuf};

/// The root of this checkout.
pub fn root() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.parent().unwrap_or(here).to_path_buf()
}

/// What is costly to build and the same for every checkout: `$RACKWRIGHT_CACHE`, else `~/.cache/rackwright`.
pub fn cache() -> Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    set("RACKWRIGHT_CACHE")
        .or_else(|| set("XDG_CACHE_HOME").map(|cache| cache.join("rackwright")))
        .or_else(|| set("HOME").map(|home| home.join(".cache/rackwright")))
        .context("neither RACKWRIGHT_CACHE nor HOME is set: where may the test bed's programs be kept?")
}

/// Where cargo puts what it builds.
pub fn target() -> PathBuf {
    match std::env::var_os("CARGO_TARGET_DIR") {
        Some(target) => root().join(target),
        None => root().join("target"),
    }
}
