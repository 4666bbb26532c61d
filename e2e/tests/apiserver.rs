//! Our definitions in a real kube-apiserver: they are taken, so are all samples, and bad input is refused with a
//! sentence that says what to do.

use anyhow::{Context, Result};
use rackwright_e2e::{Bed, Level, Narrator, Programs, objects};
use std::path::{Path, PathBuf};

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn every_definition_is_taken() -> Result<()> {
    let bed = Bed::start(Programs::from_env()?, Level::ApiServer, Narrator::stdout()).await?;
    let mut refused = Vec::new();
    for file in files("config/crd")? {
        if let Err(why) = objects::apply_all(&bed.client(), &std::fs::read_to_string(&file)?).await {
            refused.push(format!("{}: {why:#}", file.display()));
        }
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    Ok(())
}

fn files(folder: &str) -> Result<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let entries = std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))?;
    let mut files = entries.map(|entry| Ok(entry?.path())).collect::<Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}
