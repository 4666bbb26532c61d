use super::*;
use proptest::prelude::*;
use std::path::{Path, PathBuf};
use std::process::Command;
use tempfile::TempDir;

/// The whole disk, read as the service does.
fn disk(path: &Path) -> Result<Vec<u8>, Qcow2Error> {
    let mut image = Qcow2::open(File::open(path)?)?;
    let (size, mut cluster) = (image.size(), vec![0; image.cluster_size()]);
    let mut disk = Vec::new();
    for index in 0..size.div_ceil(cluster.len() as u64) {
        image.read(index, &mut cluster)?;
        disk.extend_from_slice(&cluster);
    }
    disk.truncate(size as usize);
    Ok(disk)
}

/// `raw` as a qcow2 image that QEMU made.
fn converted(raw: &[u8], arguments: &[&str]) -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().expect("a folder");
    let (from, to) = (folder.path().join("disk.raw"), folder.path().join("disk.qcow2"));
    std::fs::write(&from, raw).expect("writable");
    let mut tool = Command::new("qemu-img");
    tool.args(["convert", "-q", "-f", "raw", "-O", "qcow2"]).args(arguments).arg(&from).arg(&to);
    assert!(tool.status().expect("qemu-img is there").success());
    (folder, to)
}

#[path = "../../tests/support/qcow2.rs"]
mod by_hand;
use by_hand::made_by_hand;

/// Blocks of zeros, of one byte, and of noise, in 512-byte pieces.
fn content() -> impl Strategy<Value = Vec<u8>> {
    let block = prop_oneof![
        (1_usize..400).prop_map(|blocks| vec![0; blocks * 512]),
        (1_usize..100, any::<u8>()).prop_map(|(blocks, byte)| vec![byte; blocks * 512]),
        (1_usize..100, any::<u32>()).prop_map(|(blocks, seed)| {
            let mut state = u64::from(seed) | 1;
            let mut next = || {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) as u8
            };
            (0..blocks * 512).map(|_| next()).collect()
        }),
    ];
    proptest::collection::vec(block, 1..8).prop_map(|blocks| blocks.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    #[ignore = "needs qemu-img: cargo xtask test"]
    fn what_qemu_packed_comes_out_as_it_went_in(
        raw in content(),
        version in prop_oneof![Just("compat=0.10"), Just("compat=1.1"), Just("compat=1.1,compression_type=zstd")],
        cluster in prop_oneof![Just("512"), Just("4096"), Just("65536"), Just("2097152")],
        compressed in any::<bool>(),
    ) {
        let options = format!("{version},cluster_size={cluster}");
        let mut arguments = vec!["-o", &options];
        if compressed {
            arguments.push("-c");
        }
        let (_folder, image) = converted(&raw, &arguments);
        prop_assert!(disk(&image).expect("readable") == raw, "{options} {compressed}");
    }

    #[test]
    #[ignore = "needs qemu-img: cargo xtask test"]
    fn a_damaged_image_is_an_error_or_another_disk_and_never_a_panic(
        raw in content(),
        hits in proptest::collection::vec((0_usize..2048, any::<u8>()), 1..12),
        length in 0_usize..300_000,
    ) {
        let (_folder, image) = converted(&raw, &["-c", "-o", "cluster_size=512"]);
        let mut bytes = std::fs::read(&image).expect("readable");
        for (at, byte) in hits {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        bytes.truncate(length.max(72));
        std::fs::write(&image, bytes).expect("writable");
        if let Ok(mut image) = Qcow2::open(File::open(&image).expect("there")) {
            let mut cluster = vec![0; image.cluster_size()];
            for index in (0..4096).chain([u64::MAX / 512, u64::MAX]) {
                let _ = image.read(index, &mut cluster);
            }
        }
    }

    #[test]
    fn noise_behind_the_magic_is_no_panic(noise in proptest::collection::vec(any::<u8>(), 68..400)) {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("noise");
        std::fs::write(&path, [&MAGIC[..], &noise].concat()).expect("writable");
        prop_assert!(Qcow2::open(File::open(&path).expect("there")).is_err());
    }
}

#[test]
fn what_is_not_unpacked_is_refused_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let image = folder.path().join("image");
    let raw = vec![7; 100_000];
    let whole = made_by_hand(&raw);
    std::fs::write(&image, &whole).expect("writable");
    assert!(disk(&image).expect("readable") == raw);
    for (at, byte, reason) in [
        (7, 4, "is of version 4"),
        (15, 1, "has a backing file"),
        (35, 1, "is encrypted"),
        (79, 2, "marked as corrupt"),
        (79, 4, "in another file"),
        (79, 16, "extended_l2"),
        (78, 1, "needs features"),
        (23, 30, "clusters of 2^30"),
        (24, 1, "the largest that is unpacked"),
        (39, 0, "a first table of 0 entries"),
        (0, 0, "does not begin as one"),
    ] {
        let mut bytes = whole.clone();
        bytes[at] = byte;
        std::fs::write(&image, bytes).expect("writable");
        let refused = disk(&image).err().map(|why| why.to_string()).unwrap_or_default();
        assert!(refused.contains(reason), "{reason}: {refused}");
    }
}
