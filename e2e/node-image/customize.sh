#!/bin/sh
# Run by mmdebstrap with the root of the new system: what is left out, what is switched on.
set -eu
root=$1
rm -rf "$root"/boot/initrd.img* "$root"/boot/System.map* "$root"/vmlinuz* "$root"/initrd.img*
rm -rf "$root"/usr/share/i18n "$root"/usr/share/bash-completion "$root"/usr/share/bug "$root"/usr/share/lintian
rm -rf "$root"/usr/lib/udev/hwdb* "$root"/usr/lib/*/gconv "$root"/usr/lib/python3/dist-packages/cloudinit/tests
# The schema check costs a second of each boot, and whoever writes user-data has it checked in its own tests.
rm -rf "$root"/usr/lib/python3/dist-packages/jsonschema*
rm -f "$root"/etc/cloud/cloud.cfg.d/9*
find "$root"/usr/share/zoneinfo -mindepth 1 -maxdepth 1 ! -name UTC ! -name Etc -exec rm -rf {} +
find "$root"/usr/lib/cni -type f ! -name bridge ! -name loopback ! -name host-local ! -name portmap -delete
rm -f "$root"/usr/bin/containerd-stress "$root"/usr/bin/containerd-shim "$root"/usr/bin/containerd-shim-runc-v1
chroot "$root" passwd -q -d root
: > "$root"/etc/machine-id
: > "$root"/etc/resolv.conf
for unit in systemd-networkd systemd-networkd-wait-online containerd pod-network cloud-init-stages; do
    chroot "$root" systemctl -q enable "$unit.service"
done
for unit in cloud-init-local.service cloud-init.service cloud-config.service cloud-final.service \
    cloud-init-hotplugd.socket systemd-timesyncd.service apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer \
    e2scrub_all.timer e2scrub_reap.service fstrim.timer getty@tty1.service serial-getty@ttyS0.service \
    systemd-pstore.service systemd-binfmt.service networking.service; do
    chroot "$root" systemctl -q mask "$unit"
done
