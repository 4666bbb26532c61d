//! Makes the ramdisk that machines boot: from Debian's packages and our agent to an ISO, a UEFI application and the
//! bare kernel and initial ramdisk.
//!
//! It decides what goes in and where it lies; the same input gives the same bytes. It never installs anything on the
//! machine that it runs on: packages are fetched and unpacked into the cache. How the parts boot, and under which
//! signatures, is in docs/ramdisk.md.

pub mod architecture;
pub mod build;
pub mod cpio;
mod elf;
pub mod fat;
pub mod gpt;
pub mod grub;
pub mod initrd;
pub mod iso;
pub mod libraries;
pub mod modules;
pub mod packages;
pub mod program;
pub mod uki;

pub use build::{Inputs, build};
