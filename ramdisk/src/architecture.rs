//! What differs between processor architectures: names of packages, files and consoles, all in one place.

/// Names that depend on the machine's processor.
#[derive(Debug)]
pub struct Architecture {
    /// Debian's name, also the ending of our files.
    pub debian: &'static str,
    /// Rust's target for the agent.
    pub target: &'static str,
    /// Debian's folder of shared libraries below `lib` and `usr/lib`.
    pub libraries: &'static str,
    /// The dynamic loader, as programs name it.
    pub loader: &'static str,
    /// Kernel package that a ramdisk is built from when nobody asks for another.
    pub kernel: &'static str,
    /// Package and path of the shim that firmware trusts.
    pub shim: (&'static str, &'static str),
    /// Package and path of the GRUB that shim trusts, in the variant that looks for its files on a CD.
    pub grub: (&'static str, &'static str),
    /// Path of systemd's EFI stub in `systemd-boot-efi`.
    pub stub: &'static str,
    /// Where firmware looks for a removable medium's loader, below `EFI/BOOT`.
    pub boot_file: &'static str,
    /// What shim looks for beside itself.
    pub second_file: &'static str,
    /// The kernel's serial console.
    pub console: &'static str,
}

/// PCs and most servers.
pub const AMD64: Architecture = Architecture {
    debian: "amd64",
    target: "x86_64-unknown-linux-gnu",
    libraries: "x86_64-linux-gnu",
    loader: "lib64/ld-linux-x86-64.so.2",
    kernel: "linux-image-cloud-amd64",
    shim: ("shim-signed", "usr/lib/shim/shimx64.efi.signed"),
    grub: ("grub-efi-amd64-signed", "usr/lib/grub/x86_64-efi-signed/gcdx64.efi.signed"),
    stub: "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
    boot_file: "BOOTX64.EFI",
    second_file: "grubx64.efi",
    console: "ttyS0,115200",
};
