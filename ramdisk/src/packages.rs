//! Debian's packages: fetched with apt, checked, unpacked into the cache; nothing is installed.
//!
//! Which version is taken is apt's choice, made once per build; the build's `digests.txt` names it. A package that is
//! in the cache with the digest that apt's index gives is not fetched again.

use crate::program;
use anyhow::{Context, Result, bail};
use sha2::{Digest, Sha256};
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

/// A package and where its files are.
#[derive(Clone, Debug)]
pub struct Package {
    /// Debian's name.
    pub name: String,
    /// Debian's version.
    pub version: String,
    /// Of the package's file, as apt's index gives it.
    pub sha256: String,
    /// What it depends on, as the package says it.
    depends: String,
    /// Its files, below a folder in the cache.
    pub tree: PathBuf,
}

/// Several packages.
#[derive(Clone, Debug, Default)]
pub struct Packages(Vec<Package>);

impl Packages {
    /// Fetches and unpacks `names` into the folder `cache`.
    pub fn fetch(cache: &Path, names: &[&str], say: &dyn Fn(&str)) -> Result<Packages> {
        fs::create_dir_all(cache).with_context(|| format!("{} cannot be made", cache.display()))?;
        let lock = File::create(cache.join("lock"))?;
        lock.lock().context("another run's lock on the packages cannot be waited for")?;
        let mut found = resolve(cache, names)?;
        let missing: Vec<_> = found.iter().filter(|package| !package.tree.exists()).collect();
        if !missing.is_empty() {
            say(&format!("fetching {} of {} packages of Debian", missing.len(), found.len()));
        }
        download(cache, &missing)?;
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(Packages(found))
    }

    /// The package of this name.
    pub fn named(&self, name: &str) -> Result<&Package> {
        self.0.iter().find(|package| package.name == name).with_context(|| format!("{name} was not fetched"))
    }

    /// All of them, by name.
    pub fn iter(&self) -> impl Iterator<Item = &Package> {
        self.0.iter()
    }

    /// These and `others`.
    pub fn and(mut self, others: Packages) -> Packages {
        self.0.extend(others.0);
        self.0.sort_by(|one, other| one.name.cmp(&other.name));
        self
    }

    /// Where the file or folder is that some package has at `path` (no leading slash).
    pub fn path(&self, path: &str) -> Result<PathBuf> {
        let all = self.0.iter().map(|package| package.tree.join(path));
        all.into_iter().find(|path| path.exists()).with_context(|| format!("no package on the list has /{path}"))
    }

    /// Folders with shared libraries of an architecture: for running a program out of these packages.
    pub fn library_folders(&self, architecture: &str) -> Vec<PathBuf> {
        let folders = |package: &Package| ["lib", "usr/lib"].map(|lib| package.tree.join(lib).join(architecture));
        self.0.iter().flat_map(folders).filter(|folder| folder.exists()).collect()
    }

    /// The content of the file at `path`, links followed.
    pub fn read(&self, path: &str) -> Result<Vec<u8>> {
        let found = self.path(path)?;
        fs::read(&found).with_context(|| format!("{} cannot be read", found.display()))
    }
}

impl Package {
    /// The package that this one, which has no files of its own, stands for: `linux-image-cloud-amd64` stands for the
    /// newest `linux-image-VERSION-cloud-amd64`.
    pub fn stands_for(&self, beginning: &str) -> Option<&str> {
        let names = self.depends.split(',').filter_map(|name| name.split_whitespace().next());
        names.into_iter().find(|name| name.starts_with(beginning))
    }
}

fn resolve(cache: &Path, names: &[&str]) -> Result<Vec<Package>> {
    let known = match show(names) {
        Ok(text) if parse(cache, &text, names).is_ok() => text,
        // A fresh machine or container has no index at all.
        _ => {
            program::output(Command::new("apt-get").args(["update", "-qq"]))
                .context("Debian's packages are needed, and apt's index does not have them (apt-get update)")?;
            show(names)?
        }
    };
    parse(cache, &known, names)
}

fn show(names: &[&str]) -> Result<String> {
    program::output(Command::new("apt-cache").args(["show", "--no-all-versions"]).args(names))
        .context("Debian's packages are fetched with apt: this runs on Debian and what descends from it")
}

fn parse(cache: &Path, index: &str, names: &[&str]) -> Result<Vec<Package>> {
    let stanzas: Vec<_> = index.split("\n\n").collect();
    let package = |name: &&str| -> Result<Package> {
        let stanza = stanzas.iter().find(|stanza| field(stanza, "Package") == Some(*name));
        let stanza = stanza.with_context(|| format!("apt's index has no package {name}"))?;
        let get = |key: &str| field(stanza, key).with_context(|| format!("apt's index has no {key} for {name}"));
        let (version, sha256) = (get("Version")?.to_string(), get("SHA256")?.to_string());
        let short: String = sha256.chars().take(12).collect();
        let tree = cache.join(format!("{name}_{}_{short}", version.replace([':', '/'], "-")));
        let depends = field(stanza, "Depends").unwrap_or_default().to_string();
        Ok(Package { name: name.to_string(), version, sha256, depends, tree })
    };
    names.iter().map(package).collect()
}

fn field<'a>(stanza: &'a str, key: &str) -> Option<&'a str> {
    stanza.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
}

/// Fetches all of `missing` at once (apt reads its index each time that it starts) and unpacks them.
fn download(cache: &Path, missing: &[&Package]) -> Result<()> {
    if missing.is_empty() {
        return Ok(());
    }
    let here = tempfile::tempdir_in(cache)?;
    let mut apt = Command::new("apt-get");
    apt.current_dir(here.path()).args(["download", "-qq", "-o", "APT::Sandbox::User=root"]);
    apt.args(missing.iter().map(|package| format!("{}={}", package.name, package.version)));
    program::output(&mut apt)?;
    for entry in fs::read_dir(here.path())? {
        let file = entry?.path();
        let digest = hex::encode(Sha256::digest(fs::read(&file)?));
        let Some(package) = missing.iter().find(|package| package.sha256 == digest) else {
            bail!("{} has the sha256 {digest}, which apt's index does not know", file.display());
        };
        // A name appears in the cache only when everything is below it.
        let tree = here.path().join(format!("{}.tree", package.name));
        program::output(Command::new("dpkg-deb").arg("--extract").arg(&file).arg(&tree))?;
        fs::rename(&tree, &package.tree).with_context(|| format!("{} cannot be made", package.tree.display()))?;
        fs::remove_file(&file)?;
    }
    match missing.iter().find(|package| !package.tree.exists()) {
        Some(package) => bail!("apt-get download did not bring {}", package.name),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INDEX: &str = "Package: linux-image-cloud-amd64\nVersion: 6.1.192-2\nDepends: linux-image-6.1.0-56-cloud-amd64 (= 6.1.192-2), x\n\
        SHA256: 0123456789abcdef\n\nPackage: busybox-static\nVersion: 1:1.35.0-4\nSHA256: ff00\n";

    #[test]
    fn the_index_says_version_and_digest_and_what_a_name_stands_for() {
        let names = ["busybox-static", "linux-image-cloud-amd64"];
        let found = parse(Path::new("/cache"), INDEX, &names).expect("both are there");
        assert_eq!(found[0].version, "1:1.35.0-4");
        assert_eq!(found[0].tree, Path::new("/cache/busybox-static_1-1.35.0-4_ff00"));
        assert_eq!(found[0].stands_for("linux-image-"), None);
        assert_eq!(found[1].stands_for("linux-image-"), Some("linux-image-6.1.0-56-cloud-amd64"));
    }

    #[test]
    fn a_package_that_is_not_there_is_named() {
        let why = parse(Path::new("/cache"), INDEX, &["nvme-cli"]).expect_err("is not there").to_string();
        assert!(why.contains("nvme-cli"), "{why}");
    }
}
