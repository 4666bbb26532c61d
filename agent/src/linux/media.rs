//! Where the machine finds what makes its media its own: a file in the ramdisk, the kernel's command line, SMBIOS, or
//! the media itself.
//!
//! The first place that holds a whole config wins. A place with a damaged one is named in the error, so that a person at
//! the console knows where to look.

use super::{Roots, inventory, names, text};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use rackwright_protocol::media::{self, AREA_SIZE, MAGIC, MediaConfig, MediaError};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What of a CD is searched when nothing says where the area is, bytes.
const SEARCHED: u64 = 128 << 20;
/// How often devices that have not come yet are looked for.
const LOOK: Duration = Duration::from_millis(200);

/// There is none, and where it was looked for.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("this media belongs to no host: {0}. It must come from the boot service, which writes the host's part into it")]
pub struct NotOurs(String);

/// Looks in all places, and again for up to `limit` while devices may still come.
pub async fn find(roots: &Roots, ramdisk: &Path, limit: Duration) -> Result<MediaConfig, NotOurs> {
    let until = Instant::now() + limit;
    loop {
        match look(roots, ramdisk) {
            Err(_) if Instant::now() < until => sleep(LOOK).await,
            found => return found,
        }
    }
}

fn look(roots: &Roots, ramdisk: &Path) -> Result<MediaConfig, NotOurs> {
    let command_line = text(roots.proc.join("cmdline")).unwrap_or_default();
    let word = |key: &str| command_line.split_whitespace().find_map(|word| word.strip_prefix(key));
    let mut seen = Vec::new();
    let mut note = |place: String, found: Result<MediaConfig, MediaError>| {
        found.map_err(|why| seen.push(format!("{place}: {why}"))).ok()
    };

    let file = std::fs::read(ramdisk.join("rackwright/area")).map_err(|_| MediaError::NoArea);
    if let Some(found) = note("/rackwright/area in the ramdisk".into(), file.and_then(|area| media::read(&area))) {
        return Ok(found);
    }
    if let Some(found) = word("rackwright.config=").and_then(|text| note("kernel command line".into(), decode(text))) {
        return Ok(found);
    }
    let strings = inventory::oem_strings(roots);
    let smbios = strings.iter().find_map(|text| text.strip_prefix("rackwright.config="));
    if let Some(found) = smbios.and_then(|text| note("SMBIOS".into(), decode(text))) {
        return Ok(found);
    }
    let offset = word("rackwright.area=").and_then(|text| text.parse().ok());
    for name in names(roots.sys.join("block")) {
        let is_cd = name.starts_with("sr");
        if !is_cd && (offset.is_none() || !roots.sys.join("block").join(&name).join("device").exists()) {
            continue;
        }
        let found = on_device(&roots.dev.join(&name), offset);
        if found != Err(MediaError::NoArea)
            && let Some(found) = note(format!("/dev/{name}"), found)
        {
            return Ok(found);
        }
    }
    Err(NotOurs(seen.join("; ")))
}

/// A config as a word: JSON in base64, of either alphabet.
fn decode(word: &str) -> Result<MediaConfig, MediaError> {
    let damaged = |why: String| MediaError::Damaged(why);
    let json =
        URL_SAFE_NO_PAD.decode(word).or_else(|_| STANDARD.decode(word)).map_err(|why| damaged(why.to_string()))?;
    serde_json::from_slice(&json).map_err(|why| damaged(why.to_string()))
}

/// The area on a device: at `offset`, or found by its magic.
fn on_device(path: &Path, offset: Option<u64>) -> Result<MediaConfig, MediaError> {
    let file = File::open(path).map_err(|_| MediaError::NoArea)?;
    let at = match offset {
        Some(offset) => offset,
        None => search(&file)?,
    };
    let mut area = vec![0; AREA_SIZE];
    file.read_exact_at(&mut area, at).map_err(|_| MediaError::NoArea)?;
    media::read(&area)
}

fn search(file: &File) -> Result<u64, MediaError> {
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < SEARCHED {
        let length = file.read_at(&mut buffer, at).map_err(|_| MediaError::NoArea)?;
        if let Some(found) = media::find(&buffer[..length]) {
            return Ok(at + found as u64);
        }
        // The magic is shorter than the boundary that it stands on: it never lies across two pieces.
        const { assert!(MAGIC.len() <= 512) };
        at += (length / 512 * 512) as u64;
        if length < 512 {
            break;
        }
    }
    Err(MediaError::NoArea)
}

#[cfg(test)]
mod tests {
    use super::super::inventory::fixture::{Tree, oem_strings};
    use super::*;

    fn config(host: &str) -> MediaConfig {
        let mut config = MediaConfig { boot_url: "https://10.0.0.1:8443".into(), ..MediaConfig::default() };
        config.subject.host = host.into();
        config
    }

    fn word(host: &str) -> String {
        format!("rackwright.config={}", URL_SAFE_NO_PAD.encode(serde_json::to_vec(&config(host)).expect("JSON")))
    }

    fn found(tree: &Tree) -> Result<String, String> {
        let found = look(&tree.roots(), &tree.roots().dev.join(".."));
        found.map(|config| config.subject.host).map_err(|why| why.to_string())
    }

    #[test]
    fn the_first_place_that_holds_a_config_wins() {
        let tree = Tree::new();
        let mut cd = vec![0; (1 << 20) + 512];
        cd.extend(media::write(&config("cd")).expect("fits"));
        tree.file("sys/block/sr0/size", "1");
        tree.bytes("dev/sr0", &cd);
        assert_eq!(found(&tree), Ok("cd".into()));
        tree.bytes("sys/firmware/dmi/tables/DMI", &oem_strings(&["other", &word("smbios")]));
        assert_eq!(found(&tree), Ok("smbios".into()));
        tree.file("proc/cmdline", &format!("quiet {} panic=30", word("line")));
        assert_eq!(found(&tree), Ok("line".into()));
        tree.bytes("rackwright/area", &media::write(&config("ramdisk")).expect("fits"));
        assert_eq!(found(&tree), Ok("ramdisk".into()));
    }

    #[test]
    fn an_area_that_nobody_filled_in_is_passed_over_and_named() {
        let tree = Tree::new();
        let mut empty = [&MAGIC[..], b"00000000\n"].concat();
        empty.resize(AREA_SIZE, 0);
        tree.bytes("rackwright/area", &empty);
        let why = found(&tree).expect_err("nobody's");
        assert!(
            why.starts_with("this media belongs to no host: /rackwright/area in the ramdisk: the host area is damaged"),
            "{why}"
        );
        tree.file("proc/cmdline", &word("line"));
        assert_eq!(found(&tree), Ok("line".into()));
        tree.file("proc/cmdline", "rackwright.config=!!");
        assert!(found(&tree).expect_err("damaged").contains("kernel command line: the host area is damaged"));
    }

    #[test]
    fn a_disk_is_read_only_where_the_command_line_says() {
        let tree = Tree::new();
        let mut disk = vec![0; 1024];
        disk.extend(media::write(&config("disk")).expect("fits"));
        tree.file("sys/block/sda/device/type", "0");
        tree.bytes("dev/sda", &disk);
        assert!(found(&tree).is_err());
        tree.file("proc/cmdline", "rackwright.area=1024");
        assert_eq!(found(&tree), Ok("disk".into()));
        tree.file("proc/cmdline", "rackwright.area=2048");
        assert!(found(&tree).is_err());
    }
}
