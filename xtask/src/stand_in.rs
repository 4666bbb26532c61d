//! An installer for tests, as debian-installer is one to whoever starts it: a kernel and an initial ramdisk with busybox. It reads
//! `/preseed.cfg`, fetches a disk image (`stand-in.image=` on its command line) and writes it to the disk that it was told,
//! runs `preseed/late_command` with an `in-target` into a small system that has curl, and goes off.
//!
//! Debian's own cannot be run to its end everywhere: what it is made of is no package, and not on every mirror.

use crate::debian::{Debian, INIT};
use crate::paths;
use anyhow::Result;
use rackwright_e2e::Narrator;
use rackwright_ramdisk::initrd;
use sha2::{Digest, Sha256};
use std::fs;
use std::path::PathBuf;

const INSTALL: &str = r#"
mkdir -p /target/bin /target/tmp /target/var /target/etc
cp /bin/busybox /target/bin/ && chroot /target /bin/busybox --install -s /bin
printf '#!/bin/sh\nexec chroot /target "$@"\n' > /bin/in-target && chmod 755 /bin/in-target
printf '#!/bin/sh\n[ "$1" = bound ] && ip address add $ip/$mask dev $interface\n' > /udhcpc && chmod 755 /udhcpc
udhcpc -i eth0 -q -f -s /udhcpc

word() { tr ' ' '\n' < /proc/cmdline | sed -n "s|^$1=||p"; }
give_up() { echo "stand-in: $*"; poweroff -f; }
disk=$(word rackwright.disk)
# No udev here: a path to a disk ends with the address of what the disk is plugged into.
case "$(readlink -f /sys/block/vda)" in
    */"${disk##*/pci-}"/*) ;;
    *) give_up "$disk is not the only disk" ;;
esac
grep -qx "d-i partman-auto/disk string $disk" /preseed.cfg || give_up "the answers are for another disk"
chroot /target curl -sSf "$(word stand-in.image)" > /dev/vda || give_up "no image"
sync
late=$(sed -n 's|^d-i preseed/late_command string ||p' /preseed.cfg)
sh -c "$late" || give_up "late_command failed"
echo "stand-in: cloud-init would read:"
cat /target/var/lib/cloud/seed/nocloud/user-data /target/var/lib/cloud/seed/nocloud/meta-data
grep -qx 'd-i debian-installer/exit/poweroff boolean true' /preseed.cfg && poweroff -f
"#;

/// A folder with `linux` and `initrd.gz`, named as Debian names them; in the cache, by what they are made from.
pub fn prepare(narrator: &Narrator) -> Result<PathBuf> {
    let debian = Debian::fetch(&[], &|line| narrator.step(line))?;
    let (kernel, archive) = (debian.kernel()?, debian.tree(format!("{INIT}{INSTALL}"), "target/", &[])?.archive(4));
    let inputs = Sha256::new().chain_update(&kernel).chain_update(&archive).finalize();
    let home = paths::cache()?.join(format!("stand-in-installer-{}", &hex::encode(inputs)[..12]));
    fs::create_dir_all(&home)?;
    if !home.join("initrd.gz").exists() {
        fs::write(home.join("linux"), &kernel)?;
        // The name that is looked for appears when all of it is there.
        let whole = tempfile::NamedTempFile::new_in(&home)?;
        fs::write(whole.path(), initrd::compress(&archive)?)?;
        whole.persist(home.join("initrd.gz"))?;
    }
    Ok(home)
}
