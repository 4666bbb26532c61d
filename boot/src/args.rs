//! Flags of `rackwright boot`; each can be given in the environment.

use crate::reports::KeepLogs;
use clap::Args;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

/// Serves boot media, plans and reports to hosts.
#[derive(Args, Clone, Debug)]
pub struct BootArgs {
    /// Address and port to listen on, for hosts and their BMCs.
    #[arg(long, env = "RACKWRIGHT_BOOT_LISTEN", default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// Certificate chain of this service, PEM. Read again when the file changes.
    #[arg(long, env = "RACKWRIGHT_BOOT_TLS_CERT_FILE", value_name = "FILE")]
    pub tls_cert_file: PathBuf,
    /// Private key of that certificate, PEM.
    #[arg(long, env = "RACKWRIGHT_BOOT_TLS_PRIVATE_KEY_FILE", value_name = "FILE")]
    pub tls_private_key_file: PathBuf,
    /// Authorities that agents shall trust for this service, PEM; and no others.
    #[arg(long, env = "RACKWRIGHT_BOOT_CA_FILE", value_name = "FILE")]
    pub ca_file: PathBuf,
    /// Secret with the key that tokens are derived from, under `key`.
    #[arg(
        long,
        env = "RACKWRIGHT_BOOT_KEY_SECRET",
        value_name = "NAMESPACE/NAME",
        default_value = "rackwright-system/rackwright-boot-key"
    )]
    pub key_secret: String,
    /// Serve only the hosts of this namespace. Default: of all.
    #[arg(long, env = "RACKWRIGHT_NAMESPACE")]
    pub namespace: Option<String>,
    /// Folder that `cargo xtask ramdisk` made, or one ISO or UEFI image of it. Default: just the part of it that is a
    /// host's own, which only simulated machines can boot.
    #[arg(long, env = "RACKWRIGHT_BOOT_RAMDISK", value_name = "FOLDER")]
    pub ramdisk: Option<PathBuf>,
    /// How long open calls may go on after a request to stop.
    #[arg(long, env = "RACKWRIGHT_BOOT_GRACE", value_name = "SECONDS", default_value = "10", value_parser = seconds)]
    pub grace: Duration,
    /// Shortest time between two writes of one host's progress.
    #[arg(long, env = "RACKWRIGHT_BOOT_PROGRESS", value_name = "SECONDS", default_value = "5", value_parser = seconds)]
    pub progress_interval: Duration,
    /// Of which operations the agent's log is kept, in a ConfigMap beside the Host: one write for each.
    #[arg(long, env = "RACKWRIGHT_BOOT_KEEP_LOGS", value_enum, default_value = "failures")]
    pub keep_logs: KeepLogs,
    /// Folder for images that hosts fetch from here: qcow2 images and OCI artifacts, which agents cannot fetch
    /// themselves, and with --proxy-images all others. Each replica has its own.
    #[arg(long, env = "RACKWRIGHT_BOOT_IMAGE_CACHE", value_name = "FOLDER")]
    pub image_cache: Option<PathBuf>,
    /// How much it may hold; what was used longest ago is thrown away.
    #[arg(long, env = "RACKWRIGHT_BOOT_IMAGE_CACHE_SIZE", value_name = "BYTES", default_value = "20Gi", value_parser = bytes)]
    pub image_cache_size: u64,
    /// Let hosts fetch all images from here: one download for all of them.
    #[arg(long, env = "RACKWRIGHT_BOOT_PROXY_IMAGES", requires = "image_cache")]
    pub proxy_images: bool,
    /// Address and port to serve images on without TLS, which costs half the processor time: their digests guard them.
    /// Hosts must reach the port at the address of the boot service. Default: over TLS, with everything else.
    #[arg(long, env = "RACKWRIGHT_BOOT_IMAGE_LISTEN", value_name = "ADDRESS:PORT")]
    pub image_listen: Option<SocketAddr>,
    /// Serve media without TLS as well, for firmware whose own TLS is too old (a Datacenter's spec.boot.firmwareURL). Whoever
    /// listens on that network sees the token of a host that boots this way, until its agent has used it.
    #[arg(long, env = "RACKWRIGHT_BOOT_MEDIA_IN_THE_CLEAR", requires = "image_listen")]
    pub media_in_the_clear: bool,
    /// How many hosts of one rack are sent media or an image at the same time.
    #[arg(long, env = "RACKWRIGHT_BOOT_MAX_TRANSFERS_PER_RACK", default_value = "64", value_parser = count)]
    pub max_transfers_per_rack: usize,
    /// How many hosts are sent media or an image at the same time.
    #[arg(long, env = "RACKWRIGHT_BOOT_MAX_TRANSFERS", default_value = "256", value_parser = count)]
    pub max_transfers: usize,
    /// How fast all of them together are sent it. Default: as fast as it goes.
    #[arg(long, env = "RACKWRIGHT_BOOT_MAX_BYTES_PER_SECOND", value_name = "BYTES", value_parser = bytes)]
    pub max_bytes_per_second: Option<u64>,
    /// Tell network cards of hosts that boot by way of PXE what to boot, beside the DHCP server that is there; ADDRESS is
    /// how hosts reach this service. Whoever shows the MAC address of such a host is given its media, in the clear.
    #[arg(
        long,
        env = "RACKWRIGHT_BOOT_PROXY_DHCP",
        value_name = "ADDRESS",
        requires = "ipxe",
        requires = "image_listen"
    )]
    pub proxy_dhcp: Option<Ipv4Addr>,
    /// Folder with ipxe.efi and undionly.kpxe, which network cards fetch by TFTP.
    #[arg(long, env = "RACKWRIGHT_BOOT_IPXE", value_name = "FOLDER", requires = "proxy_dhcp")]
    pub ipxe: Option<PathBuf>,
}

/// A number of bytes, perhaps with Ki, Mi, Gi or Ti behind it.
fn bytes(text: &str) -> Result<u64, String> {
    let digits = text.trim_end_matches(|letter: char| !letter.is_ascii_digit());
    let factor = match &text[digits.len()..] {
        "" => 0,
        "Ki" => 10,
        "Mi" => 20,
        "Gi" => 30,
        "Ti" => 40,
        unit => return Err(format!("{unit:?} is not Ki, Mi, Gi or Ti")),
    };
    let number: u64 = digits.parse().map_err(|_| format!("{text:?} is not a number of bytes"))?;
    match number.checked_mul(1 << factor) {
        None | Some(0) => Err(format!("{text:?} is too large or nothing")),
        Some(bytes) => Ok(bytes),
    }
}

fn count(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|count| *count > 0).ok_or_else(|| format!("{text:?} is not a number above 0"))
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds: f64 = text.parse().map_err(|_| format!("{text:?} is not a number of seconds"))?;
    Duration::try_from_secs_f64(seconds).map_err(|why| why.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_are_given_with_and_without_a_unit() {
        for (text, expected) in
            [("1", Some(1)), ("64Ki", Some(65536)), ("20Gi", Some(20 << 30)), ("1Ti", Some(1 << 40))]
        {
            assert_eq!(bytes(text).ok(), expected, "{text}");
        }
        for text in ["", "0", "Gi", "-1", "1.5Gi", "1GB", "99999999999Ti", "1 Gi"] {
            assert!(bytes(text).is_err(), "{text}");
        }
    }
}
