//! GRUB for a BIOS on a disk image: what `grub-install` does, without a device to install to.

use crate::gpt::SECTOR;
use anyhow::{Result, bail};

/// Where GRUB's first sector keeps the sector of its core.
const KERNEL_SECTOR: usize = 0x5c;
/// A jump that the installer takes out for hard disks.
const DRIVE_CHECK: usize = 0x66;
/// Where GRUB's core keeps the list of its own sectors: the last entry of its first one.
const BLOCK_LIST: usize = 0x1f4;
/// The list's segment for what lies behind the first sector.
const SEGMENT: u16 = 0x820;
/// What of the first sector is code; behind it is the partition table.
const CODE: usize = 440;

/// `boot` (GRUB's boot.img) for a core at sector `at`: the first 440 bytes of the disk.
pub fn first_sector(boot: &[u8], at: u64) -> Result<Vec<u8>> {
    if boot.len() != SECTOR as usize {
        bail!("GRUB's boot.img has {} bytes instead of {SECTOR}", boot.len());
    }
    let mut code = boot[..CODE].to_vec();
    code[KERNEL_SECTOR..KERNEL_SECTOR + 8].copy_from_slice(&at.to_le_bytes());
    code[DRIVE_CHECK..DRIVE_CHECK + 2].copy_from_slice(&[0x90, 0x90]);
    Ok(code)
}

/// `core` (from grub-mkimage) as it lies from sector `at` on, in a partition of `room` sectors.
pub fn core(mut core: Vec<u8>, at: u64, room: u64) -> Result<Vec<u8>> {
    core.resize(core.len().next_multiple_of(SECTOR as usize), 0);
    let sectors = core.len() as u64 / SECTOR;
    if sectors > room || sectors < 2 {
        bail!("GRUB's core has {sectors} sectors, there is room for {room}");
    }
    core[BLOCK_LIST..BLOCK_LIST + 8].copy_from_slice(&(at + 1).to_le_bytes());
    core[BLOCK_LIST + 8..BLOCK_LIST + 10].copy_from_slice(&u16::try_from(sectors - 1)?.to_le_bytes());
    core[BLOCK_LIST + 10..BLOCK_LIST + 12].copy_from_slice(&SEGMENT.to_le_bytes());
    Ok(core)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_sector_knows_the_core_and_the_core_the_rest_of_itself() {
        let first = first_sector(&[0xAA; 512], 2048).expect("a sector");
        assert_eq!((first.len(), &first[0x5c..0x64]), (440, &[0, 8, 0, 0, 0, 0, 0, 0][..]));
        let core = core(vec![1; 1000], 2048, 2).expect("fits");
        assert_eq!(core[0x1f4..0x200], [1, 8, 0, 0, 0, 0, 0, 0, 1, 0, 0x20, 8]);
    }

    #[test]
    fn a_core_that_does_not_fit_is_refused() {
        assert!(core(vec![1; 2000], 2048, 3).is_err());
        assert!(first_sector(&[0; 511], 2048).is_err());
    }
}
