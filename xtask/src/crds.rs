//! `config/crd/`: the definitions of our kinds, written from the types in `api/`.

use crate::paths;
use anyhow::{Context, Result, bail};
use rackwright_api::crds;
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

const HEAD: &str = "# Written by `cargo xtask crds` from the types in api/; change those.\n";

/// Writes the definitions and removes files of kinds that are gone.
pub fn write() -> Result<()> {
    write_to(&folder())
}

/// Fails when the committed files are not what [`write`] would write.
pub fn check() -> Result<()> {
    let stale = stale(&folder())?;
    if !stale.is_empty() {
        bail!("config/crd is not what api/ says; run `cargo xtask crds` and commit: {}", stale.join(", "));
    }
    Ok(())
}

fn folder() -> PathBuf {
    paths::root().join("config/crd")
}

fn write_to(folder: &Path) -> Result<()> {
    let wanted = wanted()?;
    fs::create_dir_all(folder)?;
    for (name, text) in &wanted {
        let path = folder.join(name);
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    for name in present(folder)?.keys().filter(|name| !wanted.contains_key(*name)) {
        fs::remove_file(folder.join(name))?;
    }
    Ok(())
}

/// Names of files that are missing, differ, or should not be there.
fn stale(folder: &Path) -> Result<Vec<String>> {
    let (wanted, present) = (wanted()?, present(folder)?);
    let differing = wanted.iter().filter(|(name, text)| present.get(*name) != Some(text)).map(|(name, _)| name);
    let gone = present.keys().filter(|name| !wanted.contains_key(*name));
    Ok(differing.chain(gone).cloned().collect())
}

/// File name in `config/crd` and text of each definition.
fn wanted() -> Result<BTreeMap<String, String>> {
    let all = crds::infrastructure().into_iter().chain(crds::bootstrap());
    all.map(|definition| {
        let name = format!("{}_{}.yaml", definition.spec.group, definition.spec.names.plural);
        Ok((name, format!("{HEAD}{}", serde_saphyr::to_string(&definition)?)))
    })
    .collect()
}

fn present(folder: &Path) -> Result<BTreeMap<String, String>> {
    let Ok(entries) = fs::read_dir(folder) else { return Ok(BTreeMap::new()) };
    entries
        .map(|entry| {
            let path = entry?.path();
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            Ok((name, fs::read_to_string(path)?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_definitions_are_what_the_types_say() {
        assert_eq!(stale(&folder()).expect("can be read"), Vec::<String>::new(), "run `cargo xtask crds` and commit");
    }

    #[test]
    fn a_changed_a_missing_and_a_left_over_file_are_all_found() {
        let folder = tempfile::tempdir().expect("temp folder");
        write_to(folder.path()).expect("can be written");
        assert_eq!(stale(folder.path()).expect("can be read"), Vec::<String>::new());

        let hosts = "rackwright.dev_hosts.yaml";
        let racks = "rackwright.dev_racks.yaml";
        fs::write(folder.path().join(hosts), "edited").expect("can be written");
        fs::remove_file(folder.path().join(racks)).expect("can be removed");
        fs::write(folder.path().join("old.yaml"), "left").expect("can be written");

        assert_eq!(stale(folder.path()).expect("can be read"), [hosts, racks, "old.yaml"]);
    }
}
