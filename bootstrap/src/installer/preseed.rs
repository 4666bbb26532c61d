//! A preseed: debian-installer's answers, in debconf's format: one question a line.
//!
//! What ends the installation stands in scripts beside it, in the initial ramdisk that debian-installer runs from.

use super::{Install, Preseed, scripts, template, words};
use crate::RenderError;

/// The script that ends the installation; a preseed with a `preseed/late_command` of its own has to run it.
const LATE: &str = "/rackwright/late.sh";
/// What the node needs beside what a person asked for.
const PACKAGES: &str = "cloud-init curl ca-certificates";

/// The files of `install`: the preseed, a person's own or a generated one, and the scripts.
pub(super) fn render(install: &Install, wanted: &Preseed) -> Result<Vec<(String, String)>, RenderError> {
    let mut text = match wanted {
        Preseed::Own(own) => own_text(install, own)?,
        Preseed::Mirror { host, directory, suite, packages } => {
            generated(install)? + &mirror(host, directory, suite.as_deref(), packages)?
        }
    };
    // The last answer counts: whatever a person's own preseed says, the manager waits for the power to go.
    text += "d-i finish-install/reboot_in_progress note\n\
             d-i debian-installer/exit/halt boolean false\n\
             d-i debian-installer/exit/poweroff boolean true\n";
    if !text.contains(LATE) {
        text += &format!("d-i preseed/late_command string sh {LATE}\n");
    }
    Ok(vec![
        ("/preseed.cfg".to_owned(), text),
        (LATE.to_owned(), late()),
        ("/rackwright/seed.sh".to_owned(), scripts::seed(install)),
        ("/rackwright/done.sh".to_owned(), scripts::done(&install.report)),
        ("/rackwright/failed.sh".to_owned(), scripts::failed(&install.report)),
    ])
}

fn own_text(install: &Install, own: &str) -> Result<String, RenderError> {
    let mut text = template::render("preseed", own, install)?;
    let answers = || text.lines().filter(|line| !line.trim_start().starts_with('#'));
    let own_late = answers().any(|line| line.contains("preseed/late_command"));
    if own_late != answers().any(|line| line.contains(LATE)) {
        let why = format!(
            "its preseed/late_command must end with `sh {LATE}`, which hands over the user-data; or leave it out"
        );
        return Err(RenderError::new("preseed", why));
    }
    if text.trim_end_matches('\n').ends_with('\\') {
        return Err(RenderError::new("preseed", "ends with a backslash, which would take the next line in"));
    }
    if !text.ends_with('\n') {
        text.push('\n');
    }
    Ok(text)
}

fn generated(install: &Install) -> Result<String, RenderError> {
    let (disk, hostname) = (&install.disk, &install.hostname);
    Ok(format!(
        "# Written by Rackwright, anew for each installation.\n\
         d-i debian-installer/locale string en_US.UTF-8\n\
         d-i keyboard-configuration/xkb-keymap select us\n\
         d-i netcfg/choose_interface select auto\n\
         {}\
         d-i netcfg/get_hostname string {hostname}\n\
         d-i netcfg/get_domain string\n\
         d-i netcfg/hostname string {hostname}\n\
         d-i hw-detect/load_firmware boolean true\n\
         d-i clock-setup/utc boolean true\n\
         d-i clock-setup/ntp boolean true\n\
         d-i time/zone string Etc/UTC\n\
         d-i passwd/root-login boolean true\n\
         d-i passwd/root-password-crypted password !\n\
         d-i passwd/make-user boolean false\n\
         d-i partman-auto/disk string {disk}\n\
         d-i partman-auto/method string regular\n\
         d-i partman-auto/choose_recipe select atomic\n\
         d-i partman-lvm/device_remove_lvm boolean true\n\
         d-i partman-md/device_remove_md boolean true\n\
         d-i partman-partitioning/confirm_write_new_label boolean true\n\
         d-i partman-efi/non_efi_system boolean true\n\
         d-i partman/choose_partition select finish\n\
         d-i partman/confirm boolean true\n\
         d-i partman/confirm_nooverwrite boolean true\n\
         d-i grub-installer/only_debian boolean true\n\
         d-i grub-installer/bootdev string {disk}\n\
         popularity-contest popularity-contest/participate boolean false\n",
        network(install)?
    ))
}

fn network(install: &Install) -> Result<String, RenderError> {
    // Asked for only where DHCP names none, and then nobody is there to say "none".
    let Some(address) = &install.address else { return Ok("d-i netcfg/get_nameservers string\n".into()) };
    if address.vlan.is_some() {
        let why = "debian-installer cannot be given a VLAN; use a preseed of your own, or an untagged network";
        return Err(RenderError::new("ramdisk.network.vlan", why));
    }
    let (ip, prefix) = words::address(address)?;
    let ip = match words::netmask(ip, prefix) {
        Some(mask) => format!("d-i netcfg/get_ipaddress string {ip}\nd-i netcfg/get_netmask string {mask}\n"),
        None => format!("d-i netcfg/get_ipaddress string {ip}/{prefix}\n"),
    };
    let gateway = words::ip("ramdisk.network.gateway", address.gateway.as_deref())?;
    let gateway = gateway.map(|gateway| gateway.to_string()).unwrap_or_default();
    Ok(format!(
        "d-i netcfg/disable_autoconfig boolean true\n\
         {ip}\
         d-i netcfg/get_gateway string {gateway}\n\
         d-i netcfg/get_nameservers string {}\n\
         d-i netcfg/confirm_static boolean true\n",
        address.dns.join(" ")
    ))
}

fn mirror(host: &str, directory: &str, suite: Option<&str>, packages: &[String]) -> Result<String, RenderError> {
    let mut text = format!(
        "d-i mirror/country string manual\n\
         d-i mirror/protocol string http\n\
         d-i mirror/http/hostname string {}\n\
         d-i mirror/http/directory string {}\n\
         d-i mirror/http/proxy string\n",
        words::word("preseed.mirror.host", host)?,
        words::word("preseed.mirror.directory", directory)?,
    );
    if let Some(suite) = suite {
        text += &format!("d-i mirror/suite string {}\n", words::word("preseed.mirror.suite", suite)?);
    }
    let mut names = PACKAGES.to_owned();
    for name in packages {
        names.push(' ');
        names += words::package("preseed.mirror.packages", name)?;
    }
    text += "tasksel tasksel/first multiselect standard\n";
    Ok(text + &format!("d-i pkgsel/include string {names}\nd-i pkgsel/upgrade select none\n"))
}

/// Runs the scripts in the new system, where base64 and curl are. Tells of a failure, and leaves nothing behind.
fn late() -> String {
    "set -u\n\
     umask 077\n\
     inside=/rackwright-install\n\
     mkdir -p \"/target$inside\"\n\
     cp /rackwright/seed.sh /rackwright/done.sh /rackwright/failed.sh \"/target$inside/\"\n\
     if in-target sh \"$inside/seed.sh\" && in-target sh \"$inside/done.sh\"; then status=0; else\n\
     \tin-target sh \"$inside/failed.sh\"\n\
     \tstatus=1\n\
     fi\n\
     rm -rf \"/target$inside\"\n\
     exit $status\n"
        .to_owned()
}
