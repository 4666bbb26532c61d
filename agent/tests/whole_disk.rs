//! Deployments to a disk, seen from the disk: what is on it afterwards, and at every moment before.

mod support;

use rackwright_agent::Outcome;
use rackwright_protocol::facts::{ConfigDriveKind, ImageFormat, ReadBack};
use rackwright_protocol::plan::{Action, ConfigDrive};
use rackwright_protocol::report::Event;
use sha2::{Digest, Sha256};
use std::process::Command;
use support::disk::DiskMachine;
use support::images::Images;
use support::tables::{MIB, Part, gpt, mbr, read_gpt};
use support::{Boot, Script, deployment};

fn drive(kind: ConfigDriveKind) -> ConfigDrive {
    let user_data = format!("#cloud-config\nruncmd: [\"echo {}\"]\n", "a secret ".repeat(500));
    ConfigDrive { kind, user_data, meta_data: "{\"instance-id\": \"i-1\"}".into() }
}

/// What became of a deployment of `image`, and why it failed, if it did.
async fn deploy(machine: &mut DiskMachine, image: &[u8], drive: ConfigDrive) -> Result<(), (String, String)> {
    deploy_served(machine, image.to_vec(), ImageFormat::Raw, drive, ReadBack::Sampled).await
}

async fn deploy_served(
    machine: &mut DiskMachine,
    served: Vec<u8>,
    format: ImageFormat,
    drive: ConfigDrive,
    extent: ReadBack,
) -> Result<(), (String, String)> {
    let digest: String = Sha256::digest(&served).iter().map(|byte| format!("{byte:02x}")).collect();
    let images = Images::serve(served, &[]).await;
    let mut plan = deployment(&images.url, &format!("sha256:{digest}"), format);
    if let Action::Deploy(deploy) = &mut plan.action {
        (deploy.config_drive, deploy.read_back) = (drive, extent);
    }
    let boot = Boot::serve(&plan, Script::default()).await;
    let outcome = rackwright_agent::run_with(&boot.media, machine, &support::patience()).await;
    match &boot.results()[..] {
        [Event::Deployed { .. }] => Ok(()),
        [Event::Failed { reason, message, .. }] => {
            assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
            Err((reason.clone(), message.clone()))
        }
        other => Err(("NotOneResult".into(), format!("{other:?}"))),
    }
}

fn has(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

const PARTS: [Part; 2] = [("boot", 1, 3), ("root", 4, 7)];

#[tokio::test]
async fn an_image_without_a_place_for_it_gets_a_partition_at_the_end_and_a_gpt_that_knows_the_whole_disk() {
    let image = gpt(8 * MIB, &PARTS);
    let mut machine = DiskMachine::new(24 * MIB);
    assert_eq!(deploy(&mut machine, &image, drive(ConfigDriveKind::NoCloud)).await, Ok(()));
    let disk = machine.content().bytes.clone();
    let partitions = read_gpt(&disk);
    assert_eq!(
        partitions,
        [("boot".into(), MIB, 3 * MIB), ("root".into(), 4 * MIB, 7 * MIB), ("cidata".into(), 22 * MIB, 23 * MIB)]
    );
    assert_eq!(disk[MIB..3 * MIB], image[MIB..3 * MIB]);
    assert_eq!(disk[4 * MIB..7 * MIB], image[4 * MIB..7 * MIB]);
    assert_eq!(disk[3 * MIB..4 * MIB], image[3 * MIB..4 * MIB], "zeros of the image are zeros on the disk");
    assert_eq!(&disk[22 * MIB + 32769..][..5], b"CD001");
    // Protective MBR: the whole disk but for its first sector.
    assert_eq!(disk[458..462], ((24 * MIB / 512 - 1) as u32).to_le_bytes());
}

#[tokio::test]
async fn a_second_deployment_replaces_the_first_and_leaves_nothing_of_its_drive() {
    let mut machine = DiskMachine::new(24 * MIB);
    let image = gpt(8 * MIB, &[PARTS[0], PARTS[1]]);
    assert_eq!(deploy(&mut machine, &image, drive(ConfigDriveKind::OpenStack)).await, Ok(()));
    assert!(has(&machine.content().bytes, b"a secret"));
    let other = ConfigDrive { user_data: "#cloud-config\n".into(), ..drive(ConfigDriveKind::NoCloud) };
    assert_eq!(deploy(&mut machine, &image, other).await, Ok(()));
    let disk = machine.content().bytes.clone();
    assert_eq!(read_gpt(&disk)[2].0, "cidata");
    assert!(!has(&disk, b"a secret"));
}

#[tokio::test]
async fn the_images_own_partition_is_used_by_its_name_or_by_the_label_in_it() {
    for name in ["cidata", "CONFIG-2", "seed"] {
        let mut image = gpt(8 * MIB, &[("root", 1, 3), (name, 4, 6)]);
        if name == "seed" {
            // A FAT16 boot sector with a label.
            image[4 * MIB..6 * MIB].fill(0);
            image[4 * MIB + 38] = 0x29;
            image[4 * MIB + 43..4 * MIB + 54].copy_from_slice(b"CIDATA     ");
            image[4 * MIB + 510..4 * MIB + 512].copy_from_slice(&[0x55, 0xaa]);
        }
        let mut machine = DiskMachine::new(24 * MIB);
        assert_eq!(deploy(&mut machine, &image, drive(ConfigDriveKind::NoCloud)).await, Ok(()));
        let disk = machine.content().bytes.clone();
        assert_eq!(read_gpt(&disk).len(), 2, "{name}: no partition was added");
        assert_eq!(&disk[4 * MIB + 32808..][..6], b"cidata", "{name}");
        assert!(disk[5 * MIB..6 * MIB].iter().all(|byte| *byte == 0), "{name}: the rest of the partition is empty");
    }
}

#[tokio::test]
async fn an_image_with_an_mbr_gets_a_primary_partition_at_the_end() {
    let image = mbr(8 * MIB, &PARTS);
    let mut machine = DiskMachine::new(24 * MIB);
    assert_eq!(deploy(&mut machine, &image, drive(ConfigDriveKind::NoCloud)).await, Ok(()));
    let disk = machine.content().bytes.clone();
    assert_eq!(disk[..478], image[..478], "boot code and the image's partitions stay");
    assert_eq!(disk[482], 0x83);
    assert_eq!(disk[486..490], ((23 * MIB / 512) as u32).to_le_bytes());
    assert_eq!(disk[490..494], ((MIB / 512) as u32).to_le_bytes());
    assert_eq!(&disk[23 * MIB + 32808..][..6], b"cidata");
}

#[tokio::test]
async fn without_room_for_the_config_drive_there_is_nothing_to_boot() {
    let four = [("a", 1, 2), ("b", 2, 3), ("c", 3, 4), ("d", 4, 5)];
    for (what, image, size) in [
        ("an MBR with four partitions", mbr(8 * MIB, &four), 24 * MIB),
        ("a GPT with a full disk", gpt(8 * MIB, &[("root", 1, 7)]), 8 * MIB),
        ("an MBR with a full disk", mbr(8 * MIB, &[("root", 1, 8)]), 8 * MIB),
    ] {
        let mut machine = DiskMachine::new(size);
        let (reason, message) = deploy(&mut machine, &image, drive(ConfigDriveKind::NoCloud)).await.expect_err(what);
        assert_eq!(reason, "ConfigDriveNoRoom", "{what}: {message}");
        assert!(machine.content().bytes[..MIB].iter().all(|byte| *byte == 0), "{what}");
    }
    // The image's own partition is too small for what is to go there.
    let image = gpt(8 * MIB, &[("root", 1, 3), ("cidata", 4, 5)]);
    let large = ConfigDrive { user_data: "x".repeat(MIB), ..ConfigDrive::default() };
    let mut machine = DiskMachine::new(24 * MIB);
    let (reason, message) = deploy(&mut machine, &image, large).await.expect_err("too large");
    assert_eq!(reason, "ConfigDriveNoRoom");
    assert!(message.contains("the partition that the image keeps for it has 1048576"), "{message}");
}

#[tokio::test]
async fn an_image_that_nothing_could_be_started_from_is_refused() {
    let mut damaged = gpt(8 * MIB, &PARTS);
    damaged[1024] ^= 1;
    let larger = gpt(32 * MIB, &[("root", 1, 31)])[..8 * MIB].to_vec();
    let text = b"<html>404</html>".repeat(100_000);
    for (image, wanted) in [(damaged, "NoPartitionTable"), (text, "NoPartitionTable"), (larger, "ImageTooLarge")] {
        let mut machine = DiskMachine::new(24 * MIB);
        let (reason, message) = deploy(&mut machine, &image, drive(ConfigDriveKind::NoCloud)).await.expect_err(wanted);
        assert_eq!(reason, wanted, "{message}");
        assert!(machine.content().bytes[..MIB].iter().all(|byte| *byte == 0));
    }
}

#[tokio::test]
async fn zeros_are_made_by_the_disk_or_written_but_never_left_out() {
    let image = gpt(20 * MIB, &[("boot", 1, 2), ("root", 15, 19)]);
    for zeroes in [true, false] {
        let mut machine = DiskMachine::new(24 * MIB);
        machine.content().zeroes = zeroes;
        assert_eq!(deploy(&mut machine, &image, drive(ConfigDriveKind::NoCloud)).await, Ok(()));
        let content = machine.content();
        assert_eq!(content.bytes[MIB..19 * MIB], image[MIB..19 * MIB], "{zeroes}");
        assert_eq!(content.zeroed > 0, zeroes, "{}", content.zeroed);
    }
}

#[tokio::test]
async fn an_image_as_large_as_the_disk_is_whole_with_a_gpt_in_which_it_keeps_a_place() {
    let image = gpt(24 * MIB, &[("root", 1, 20), ("cidata", 21, 22)]);
    let packed = zstd::encode_all(&image[..], 3).expect("packs");
    let mut machine = DiskMachine::new(24 * MIB);
    let drive = drive(ConfigDriveKind::NoCloud);
    let done = deploy_served(&mut machine, packed, ImageFormat::RawZst, drive, ReadBack::Whole).await;
    assert_eq!(done, Ok(()));
    let disk = machine.content().bytes.clone();
    assert_eq!(disk[..20 * MIB], image[..20 * MIB]);
    assert_eq!(disk[22 * MIB..], image[22 * MIB..]);
}

#[tokio::test]
async fn a_disk_that_loses_writes_is_found_and_has_nothing_to_boot() {
    let image = gpt(16 * MIB, &[("root", 1, 15)]);
    // The end of the image, the config drive's place, the first sector, the GPT's copy.
    for (lost, extent) in [
        (16 * MIB - 1, ReadBack::Sampled),
        (5 * MIB + 3, ReadBack::Whole),
        (22 * MIB, ReadBack::Sampled),
        (100, ReadBack::Sampled),
        (24 * MIB - 512, ReadBack::Sampled),
    ] {
        let mut machine = DiskMachine::new(24 * MIB);
        machine.content().loses = Some(lost as u64);
        let drive = drive(ConfigDriveKind::NoCloud);
        let failed = deploy_served(&mut machine, image.clone(), ImageFormat::Raw, drive, extent).await;
        assert_eq!(failed.map_err(|(reason, _)| reason), Err("ReadBackDiffers".into()), "a lost write at {lost}");
        if lost > MIB {
            assert!(machine.content().bytes[..512].iter().all(|byte| *byte == 0), "{lost}");
        }
    }
}

#[tokio::test]
async fn whenever_the_power_goes_there_is_the_old_system_or_nothing_or_all_of_the_new_one_to_boot() {
    let image = gpt(16 * MIB, &[("root", 1, 15)]);
    let old = gpt(24 * MIB, &[("old", 1, 20), ("cidata", 21, 22)]);
    let mut whole = DiskMachine::holding(old.clone());
    assert_eq!(deploy(&mut whole, &image, drive(ConfigDriveKind::NoCloud)).await, Ok(()));
    let whole = whole.content().bytes.clone();
    let mut nothing_to_boot = 0;
    for power in 0.. {
        let mut machine = DiskMachine::holding(old.clone());
        machine.content().power = power;
        let ended = deploy(&mut machine, &image, drive(ConfigDriveKind::NoCloud)).await;
        let disk = machine.content().bytes.clone();
        // Without its first sector neither BIOS nor UEFI starts a disk.
        if disk[510..512] == [0x55, 0xaa] {
            let is_old = disk[..20 * MIB] == old[..20 * MIB];
            assert!(is_old || disk == whole, "half a system after {power} writes");
        } else {
            nothing_to_boot += 1;
        }
        if ended.is_ok() {
            assert!(power > 10, "{power}");
            break;
        }
    }
    assert!(nothing_to_boot > 5, "{nothing_to_boot}");
}

/// Python with pycdlib, which reads ISO 9660 and is nobody's here.
const PYTHON: &str = "RACKWRIGHT_PYCDLIB";

const READ: &str = r#"
import io, sys, pycdlib
iso = pycdlib.PyCdlib(); iso.open(sys.argv[1])
def text(**path):
    out = io.BytesIO(); iso.get_file_from_iso_fp(out, **path); return out.getvalue().decode()
kind = sys.argv[2]
paths = {"cidata": ["user-data", "meta-data"], "config-2": ["openstack/latest/user_data", "openstack/latest/meta_data.json"]}
for path in paths[kind]:
    plain = "/" + path.upper() + (";1" if "." in path else ".;1")
    joliet = text(joliet_path="/" + path)
    assert joliet == text(iso_path=plain), path
    sys.stdout.write(joliet + "\0")
assert iso.pvd.volume_identifier.decode().strip() == kind, iso.pvd.volume_identifier
assert iso.joliet_vd.volume_identifier.decode("utf-16-be").strip() == kind, iso.joliet_vd.volume_identifier
"#;

#[tokio::test]
#[ignore = "needs pycdlib: cargo xtask test"]
async fn a_config_drive_is_read_by_a_reader_that_is_not_ours() {
    let python = std::env::var(PYTHON).expect("RACKWRIGHT_PYCDLIB names a Python with pycdlib: run `cargo xtask test`");
    for (kind, label) in [(ConfigDriveKind::NoCloud, "cidata"), (ConfigDriveKind::OpenStack, "config-2")] {
        let drive = drive(kind);
        let mut machine = DiskMachine::new(24 * MIB);
        assert_eq!(deploy(&mut machine, &gpt(8 * MIB, &PARTS), drive.clone()).await, Ok(()));
        let disk = machine.content().bytes.clone();
        let (name, start, end) = read_gpt(&disk)[2].clone();
        assert_eq!(name, label);
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), &disk[start..end]).expect("writes");
        let mut command = Command::new(&python);
        let read = command.args(["-c", READ]).arg(file.path()).arg(label).output().expect("python starts");
        assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
        let expected = format!("{}\0{}\0", drive.user_data, drive.meta_data);
        assert_eq!(String::from_utf8_lossy(&read.stdout), expected, "{label}");
    }
}
