//! The reserved area of boot media: what makes generic media this host's own.
//!
//! The area is found by its magic on any 512-byte boundary, so the same code serves an ISO, a disk image and the bare
//! area that simulated machines boot. It has a fixed size: nothing is built per host, and a BMC that asks for a range
//! gets the same bytes each time.

use crate::Subject;
use crate::facts::StaticNetwork;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// Size of the reserved area, bytes.
pub const AREA_SIZE: usize = 64 * 1024;
/// First bytes of the area.
pub const MAGIC: &[u8; 24] = b"RACKWRIGHT-HOST-AREA-01\n";

/// What a host needs to know to call home.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct MediaConfig {
    /// Base URL of the boot service.
    pub boot_url: String,
    /// Authorities to trust for it, PEM; and no others.
    pub ca: String,
    /// The host and operation that the media is for.
    #[serde(flatten)]
    pub subject: Subject,
    /// One-time token.
    pub token: String,
    /// When its operation began: the same for everybody who reads the media, and near enough to now for a machine whose own
    /// clock is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub began_at: Option<Timestamp>,
    /// How the ramdisk reaches the network; absent: DHCP and router advertisements.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network: Option<StaticNetwork>,
    /// MAC address of the interface to use first, lower case.
    #[serde(default, rename = "bootMAC", skip_serializing_if = "Option::is_none")]
    pub boot_mac: Option<String>,
    /// A shell on the serial console: only when a person asked for it on the Host.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rescue_shell: bool,
}

impl std::fmt::Debug for MediaConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MediaConfig")
            .field("boot_url", &self.boot_url)
            .field("subject", &self.subject)
            .finish_non_exhaustive()
    }
}

/// What the media is, and the ending of its name: some firmware goes by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum MediaKind {
    /// A hybrid ISO for a virtual CD drive.
    #[default]
    Iso,
    /// A UEFI application (kernel and initial ramdisk in one) for HTTP boot.
    Efi,
    /// An iPXE script that fetches the next two.
    Ipxe,
    /// The kernel alone: the same for every host.
    Kernel,
    /// The initial ramdisk alone, with the area in it.
    Initrd,
}

impl MediaKind {
    /// All there are.
    pub const ALL: [MediaKind; 5] =
        [MediaKind::Iso, MediaKind::Efi, MediaKind::Ipxe, MediaKind::Kernel, MediaKind::Initrd];

    /// Ending of the file's name, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            MediaKind::Iso => "iso",
            MediaKind::Efi => "efi",
            MediaKind::Ipxe => "ipxe",
            MediaKind::Kernel => "kernel",
            MediaKind::Initrd => "initrd",
        }
    }

    /// The secret and the kind in the name of a file that [`path`] made.
    pub fn split(file: &str) -> Option<(&str, MediaKind)> {
        let (secret, extension) = file.rsplit_once('.')?;
        let kind = MediaKind::ALL.into_iter().find(|kind| kind.extension() == extension)?;
        Some((secret, kind))
    }
}

/// Path of a host's media below the boot service's base URL. `secret` is [`Purpose::Media`](crate::token::Purpose)'s.
pub fn path(namespace: &str, host: &str, operation_id: &str, secret: &str, kind: MediaKind) -> String {
    format!("/media/{namespace}/{host}/{operation_id}/{secret}.{}", kind.extension())
}

/// Why media is not ours or not whole.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum MediaError {
    /// The config does not fit.
    #[error("the host area holds {AREA_SIZE} bytes, the config needs {0}")]
    TooLarge(usize),
    /// No area in these bytes.
    #[error("no host area on this media")]
    NoArea,
    /// An area whose content makes no sense.
    #[error("the host area is damaged: {0}")]
    Damaged(String),
}

/// The area for `config`: magic, length (8 hex digits and a line feed), JSON, zeros.
pub fn write(config: &MediaConfig) -> Result<Vec<u8>, MediaError> {
    let json = serde_json::to_vec(config).map_err(|why| MediaError::Damaged(why.to_string()))?;
    let mut area = Vec::with_capacity(AREA_SIZE);
    area.extend_from_slice(MAGIC);
    area.extend_from_slice(format!("{:08x}\n", json.len()).as_bytes());
    area.extend_from_slice(&json);
    if area.len() > AREA_SIZE {
        return Err(MediaError::TooLarge(area.len()));
    }
    area.resize(AREA_SIZE, 0);
    Ok(area)
}

/// Where the area begins in `media`, bytes from its start.
pub fn find(media: &[u8]) -> Option<usize> {
    (0..media.len()).step_by(512).find(|&at| media[at..].starts_with(MAGIC))
}

/// The config in the area of `media`.
pub fn read(media: &[u8]) -> Result<MediaConfig, MediaError> {
    let area = &media[find(media).ok_or(MediaError::NoArea)?..];
    let damaged = |what: &str| MediaError::Damaged(what.to_string());
    let head = area.get(MAGIC.len()..MAGIC.len() + 9).ok_or_else(|| damaged("cut short"))?;
    let digits = std::str::from_utf8(&head[..8]).map_err(|_| damaged("length is not text"))?;
    let length = usize::from_str_radix(digits, 16).map_err(|_| damaged("length is not a number"))?;
    let start = MAGIC.len() + 9;
    let json = area.get(start..start.saturating_add(length)).ok_or_else(|| damaged("cut short"))?;
    serde_json::from_slice(json).map_err(|why| MediaError::Damaged(why.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn config(ca: String) -> MediaConfig {
        MediaConfig {
            boot_url: "https://127.0.0.1:8443".into(),
            ca,
            subject: Subject {
                namespace: "metal".into(),
                host: "a01-u07".into(),
                host_uid: "uid".into(),
                operation_id: "op".into(),
            },
            token: "secret".into(),
            ..MediaConfig::default()
        }
    }

    #[test]
    fn a_kind_of_media_is_told_by_the_name_it_was_given() {
        for kind in MediaKind::ALL {
            let path = path("metal", "a01-u07", "op", "secret", kind);
            assert_eq!(MediaKind::split(path.rsplit('/').next().expect("a file")), Some(("secret", kind)));
        }
        assert_eq!(MediaKind::split("secret.img"), None);
        assert_eq!(MediaKind::split("secret"), None);
    }

    #[test]
    fn the_area_is_found_behind_other_blocks() {
        let mut media = vec![0; 4096];
        media.extend(write(&config("ca".into())).expect("fits"));
        assert_eq!(find(&media), Some(4096));
        assert_eq!(read(&media), Ok(config("ca".into())));
    }

    #[test]
    fn a_config_that_does_not_fit_is_refused() {
        assert!(matches!(write(&config("x".repeat(AREA_SIZE))), Err(MediaError::TooLarge(_))));
    }

    #[test]
    fn the_token_is_not_in_the_debug_text() {
        assert!(!format!("{:?}", config(String::new())).contains("secret"));
    }

    proptest! {
        #[test]
        fn damaged_media_is_an_error_and_never_a_panic(noise in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut media = MAGIC.to_vec();
            media.extend(noise);
            prop_assert!(read(&media).is_err());
        }
    }
}
