//! A release as clusterctl reads it from a folder: `PROVIDER/VERSION/FILE` (clusterctl book, "Provider repositories").
//!
//! Two providers come from one release: `infrastructure-rackwright` and `bootstrap-rackwright`. Their components are
//! the files of `config/` one after another, with the version filled in; nothing else is done to them.

use crate::paths;
use anyhow::{Context, Result, bail};
use std::fs;
use std::path::{Path, PathBuf};

/// Stands for the version in `config/manager`.
const VERSION_MARK: &str = ":VERSION}";

/// Writes the release and says where it is.
pub fn run(version: &str, out: &Path) -> Result<()> {
    let out = paths::root().join(out);
    lay_out(version, &out)?;
    println!("release {version}: {}", out.display());
    Ok(())
}

/// Writes the release to `out`.
pub fn lay_out(version: &str, out: &Path) -> Result<()> {
    let config = paths::root().join("config");
    let metadata = fs::read_to_string(paths::root().join("metadata.yaml"))?;
    check_version(version, &metadata)?;

    let infrastructure = out.join("infrastructure-rackwright").join(version);
    let mut components = vec![config.join("manager/infrastructure.yaml")];
    components.extend(definitions(&config, |name| !name.starts_with("bootstrap."))?);
    let parts = ["infrastructure", "boot", "autoscaler"].map(|part| config.join(format!("rbac/{part}.yaml")));
    components.extend(parts);
    components.extend(["manager/boot.yaml", "manager/autoscaler.yaml"].map(|file| config.join(file)));
    write(&infrastructure, "infrastructure-components.yaml", &joined(&components, version)?)?;
    write(&infrastructure, "metadata.yaml", &metadata)?;
    for template in ["cluster-template.yaml", "cluster-template-development.yaml"] {
        write(&infrastructure, template, &fs::read_to_string(config.join("templates").join(template))?)?;
    }

    let bootstrap = out.join("bootstrap-rackwright").join(version);
    let mut components = vec![config.join("manager/bootstrap.yaml")];
    components.extend(definitions(&config, |name| name.starts_with("bootstrap."))?);
    components.push(config.join("rbac/bootstrap.yaml"));
    write(&bootstrap, "bootstrap-components.yaml", &joined(&components, version)?)?;
    write(&bootstrap, "metadata.yaml", &metadata)
}

/// clusterctl refuses a version that is not semantic or has no series in the metadata; so it is refused here.
fn check_version(version: &str, metadata: &str) -> Result<()> {
    let numbers: Vec<_> = version.strip_prefix('v').unwrap_or_default().splitn(3, '.').collect();
    let [major, minor, _patch] = numbers[..] else { bail!("{version:?} is not a version such as v0.1.0") };
    let metadata: serde_json::Value = serde_saphyr::from_str(metadata).context("metadata.yaml is not YAML")?;
    let series = metadata["releaseSeries"].as_array().context("metadata.yaml has no releaseSeries")?;
    let listed =
        series.iter().any(|s| s["major"].as_u64() == major.parse().ok() && s["minor"].as_u64() == minor.parse().ok());
    if !listed {
        bail!("metadata.yaml has no release series {major}.{minor}: add it with its contract");
    }
    Ok(())
}

/// The generated definitions whose file name is `wanted`.
fn definitions(config: &Path, wanted: impl Fn(&str) -> bool) -> Result<Vec<PathBuf>> {
    let entries = fs::read_dir(config.join("crd")).context("config/crd is not there: run `cargo xtask crds`")?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.retain(|file| file.file_name().is_some_and(|name| wanted(&name.to_string_lossy())));
    files.sort();
    Ok(files)
}

fn joined(files: &[PathBuf], version: &str) -> Result<String> {
    let mut documents = Vec::new();
    for file in files {
        let text = fs::read_to_string(file).with_context(|| format!("{} cannot be read", file.display()))?;
        documents.push(text.replace(VERSION_MARK, &format!(":{version}}}")));
    }
    Ok(documents.join("---\n"))
}

fn write(folder: &Path, name: &str, text: &str) -> Result<()> {
    fs::create_dir_all(folder)?;
    fs::write(folder.join(name), text).with_context(|| format!("{} cannot be written", folder.join(name).display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const METADATA: &str = "releaseSeries:\n- {major: 0, minor: 1, contract: v1beta2}\n";

    #[test]
    fn a_version_needs_a_series_in_the_metadata() {
        assert!(check_version("v0.1.7", METADATA).is_ok());
        for (version, why) in
            [("v0.2.0", "no release series 0.2"), ("0.1.0", "not a version"), ("v0.1", "not a version")]
        {
            let said = check_version(version, METADATA).expect_err(version).to_string();
            assert!(said.contains(why), "{version}: {said}");
        }
    }

    #[test]
    fn a_release_holds_what_clusterctl_looks_for_and_names_its_own_version() {
        let out = tempfile::tempdir().expect("temp folder");
        lay_out("v0.1.9", out.path()).expect("can be laid out");
        let read = |file: &str| fs::read_to_string(out.path().join(file)).expect(file);

        let infrastructure = read("infrastructure-rackwright/v0.1.9/infrastructure-components.yaml");
        let bootstrap = read("bootstrap-rackwright/v0.1.9/bootstrap-components.yaml");
        for components in [&infrastructure, &bootstrap] {
            assert!(components.contains("rackwright/rackwright:v0.1.9}"), "the image has the release's version");
            assert!(!components.contains(VERSION_MARK));
            assert_eq!(components.matches("kind: Namespace").count(), 1, "clusterctl takes one namespace per provider");
        }
        assert_eq!(infrastructure.matches("\nkind: CustomResourceDefinition").count(), 11);
        assert_eq!(bootstrap.matches("\nkind: CustomResourceDefinition").count(), 2);
        for file in ["metadata.yaml", "cluster-template.yaml", "cluster-template-development.yaml"] {
            read(&format!("infrastructure-rackwright/v0.1.9/{file}"));
        }
        read("bootstrap-rackwright/v0.1.9/metadata.yaml");
    }
}
