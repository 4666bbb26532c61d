//! Deployments: which bytes reach the disk, in which order, and what is left when it goes wrong.

mod support;

use flate2::{Compression, write::GzEncoder};
use rackwright_agent::Outcome;
use rackwright_protocol::facts::{Disk, ImageFormat};
use rackwright_protocol::plan::ConfigDrive;
use rackwright_protocol::report::Event;
use sha2::{Digest, Sha256, Sha512};
use std::io::Write;
use support::images::{Images, Serve};
use support::machine::{DISK, DISK_SIZE, FakeMachine};
use support::{Boot, Script, deployment};

const MIB: usize = 1 << 20;

/// An image that is not the same anywhere and has a boot sector.
fn image(length: usize) -> Vec<u8> {
    let byte = |at: usize| match at {
        510 => 0x55,
        511 => 0xaa,
        _ => (at ^ (at >> 8) ^ (at >> 16)) as u8 | 1,
    };
    (0..length).map(byte).collect()
}

fn sha256(bytes: &[u8]) -> String {
    format!("sha256:{}", hex(&Sha256::digest(bytes)))
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

fn xz(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
    encoder.write_all(bytes).expect("to memory");
    encoder.finish().expect("to memory")
}

/// Runs a deployment of `served`.
async fn deploy(
    served: Vec<u8>,
    digest: &str,
    format: ImageFormat,
    script: &[Serve],
) -> (FakeMachine, Boot, Outcome, Images) {
    let images = Images::serve(served, script).await;
    let boot = Boot::serve(&deployment(&images.url, digest, format), Script::default()).await;
    let mut machine = FakeMachine::new();
    let outcome = boot.run(&mut machine).await;
    (machine, boot, outcome, images)
}

#[tokio::test]
async fn the_start_of_the_disk_is_written_last_after_the_config_drive() {
    let image = image(2 * MIB + 100);
    let digest = sha256(&image);
    let (machine, boot, outcome, _) = deploy(image.clone(), &digest, ImageFormat::Raw, &[]).await;
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(
        machine.acts(),
        [
            "make unbootable /dev/vda",
            "open /dev/vda",
            "write 1048676 at 1048576",
            "flush",
            "config drive /dev/vda",
            "flush",
            "write 1044480 at 4096",
            "flush",
            "write 4096 at 0",
            "flush",
        ]
    );
    assert_eq!(machine.content(image.len()), image);
    let drive = ConfigDrive { user_data: "#cloud-config\n".into(), meta_data: "{}".into(), ..ConfigDrive::default() };
    assert_eq!(machine.drive, Some(drive));
    assert_eq!(boot.results(), [Event::Deployed { device: DISK.into(), digest, final_boot: Default::default() }]);
}

#[tokio::test]
async fn an_image_smaller_than_what_is_held_back_is_written_whole() {
    let image = image(700);
    let digest = format!("sha512:{}", hex(&Sha512::digest(&image)));
    let (machine, _, outcome, _) = deploy(image.clone(), &digest, ImageFormat::Raw, &[]).await;
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(machine.content(700), image);
}

#[tokio::test]
async fn a_packed_image_is_checked_as_served_and_written_unpacked() {
    let image = image(3 * MIB);
    let packed = gzip(&image);
    let (machine, boot, outcome, _) = deploy(packed.clone(), &sha256(&packed), ImageFormat::RawGz, &[]).await;
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(machine.content(image.len()), image);
    assert_eq!(
        boot.results(),
        [Event::Deployed { device: DISK.into(), digest: sha256(&packed), final_boot: Default::default() }]
    );
}

#[tokio::test]
async fn a_packed_image_of_several_members_is_unpacked_whole() {
    let packed = [gzip(&image(MIB)), gzip(&image(500))].concat();
    let (machine, _, outcome, _) = deploy(packed.clone(), &sha256(&packed), ImageFormat::RawGz, &[]).await;
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(machine.content(MIB + 500), [image(MIB), image(500)].concat());
}

#[tokio::test]
async fn a_broken_download_goes_on_where_it_broke() {
    let image = image(2 * MIB);
    let script = [Serve::Break(1000), Serve::Status(503), Serve::Break(MIB), Serve::Stall(10)];
    let (machine, _, outcome, images) = deploy(image.clone(), &sha256(&image), ImageFormat::Raw, &script).await;
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(machine.content(image.len()), image);
    assert_eq!(images.ranges(), ["", "1000-", "1000-", "1049576-", "1049586-"]);
}

#[tokio::test]
async fn a_packed_image_that_breaks_off_at_10_50_and_90_percent_arrives_whole() {
    let image = image(7 * MIB + 13);
    for (format, packed) in [
        (ImageFormat::RawGz, gzip(&image)),
        (ImageFormat::RawZst, zstd::encode_all(&image[..], 1).expect("packs")),
        (ImageFormat::RawXz, xz(&image)),
    ] {
        let [ten, fifty, ninety] = [1, 5, 9].map(|tenth| packed.len() * tenth / 10);
        let script = [Serve::Break(ten), Serve::Break(fifty - ten), Serve::Break(ninety - fifty)];
        let (machine, _, outcome, images) = deploy(packed.clone(), &sha256(&packed), format, &script).await;
        assert_eq!(outcome, Outcome::Done, "{format:?}");
        assert!(machine.content(image.len()) == image, "{format:?}");
        // On a busy machine an answer may be given up before its first byte came: then the same place is asked for again.
        let from = |range: &String| range.trim_end_matches('-').parse().unwrap_or(0);
        let starts: Vec<usize> = images.ranges().iter().map(from).collect();
        assert!(starts.len() >= 4 && starts.is_sorted() && starts.last() > Some(&ten), "{format:?}: {starts:?}");
    }
}

#[tokio::test]
async fn a_file_that_was_replaced_while_it_came_is_noticed_and_not_mixed_with_the_other() {
    let image = image(2 * MIB);
    for length in [2 * MIB, 3 * MIB] {
        let script = [Serve::Break(MIB), Serve::Replaced(length)];
        let (machine, boot, ..) = deploy(image.clone(), &sha256(&image), ImageFormat::Raw, &script).await;
        let [Event::Failed { reason, message, .. }] = &boot.results()[..] else { panic!("{:?}", boot.results()) };
        assert_eq!(reason, "ImageUnavailable");
        assert!(message.contains("another file is served there now"), "{message}");
        assert!(machine.is_unbootable());
    }
}

#[tokio::test]
async fn a_qcow2_image_is_refused_before_anything_is_touched() {
    let (machine, boot, _, images) = deploy(image(MIB), &sha256(b""), ImageFormat::Qcow2, &[]).await;
    assert_eq!(boot.failure(), "PlanUnsupported");
    assert_eq!((machine.acts().len(), images.ranges().len()), (0, 0));
}

#[tokio::test]
async fn progress_tells_how_fast_the_image_comes() {
    let image = image(6 * MIB);
    let images = Images::serve(image.clone(), &[Serve::Stall(MIB), Serve::Stall(2 * MIB)]).await;
    let boot = Boot::serve(&deployment(&images.url, &sha256(&image), ImageFormat::Raw), Script::default()).await;
    assert_eq!(boot.run(&mut FakeMachine::new()).await, Outcome::Done);
    assert!(boot.rates().iter().any(|rate| *rate > 0), "{:?}", boot.rates());
}

#[tokio::test]
async fn a_server_that_begins_again_at_the_start_is_read_from_where_it_broke() {
    let image = image(MIB + 77);
    let script = [Serve::Break(5000), Serve::FromStart];
    let (machine, _, outcome, _) = deploy(image.clone(), &sha256(&image), ImageFormat::Raw, &script).await;
    assert_eq!(outcome, Outcome::Done);
    assert_eq!(machine.content(image.len()), image);
}

#[tokio::test]
async fn other_bytes_than_the_plan_wants_leave_nothing_to_boot() {
    let (machine, boot, outcome, _) = deploy(image(2 * MIB), &sha256(b"other"), ImageFormat::Raw, &[]).await;
    assert!(matches!(outcome, Outcome::Failed(_)), "{outcome:?}");
    assert_eq!(boot.failure(), "ImageDigestMismatch");
    assert!(machine.is_unbootable());
    assert_eq!(machine.drive, None);
    assert!(!machine.acts().iter().any(|act| act.ends_with(" at 0")), "the start was written: {:?}", machine.acts());
}

#[tokio::test]
async fn bytes_that_are_no_gzip_and_not_the_wanted_ones_are_a_digest_mismatch() {
    let (machine, boot, _, _) = deploy(image(MIB), &sha256(b"other"), ImageFormat::RawGz, &[]).await;
    assert_eq!(boot.failure(), "ImageDigestMismatch");
    assert!(machine.is_unbootable());
}

#[tokio::test]
async fn a_damaged_image_with_the_right_digest_is_unreadable() {
    let mut cut_short = gzip(&image(MIB));
    cut_short.truncate(cut_short.len() - 20);
    for (served, format) in
        [(b"no gzip".to_vec(), ImageFormat::RawGz), (cut_short, ImageFormat::RawGz), (vec![], ImageFormat::Raw)]
    {
        let (machine, boot, _, _) = deploy(served.clone(), &sha256(&served), format, &[]).await;
        assert_eq!(boot.failure(), "ImageUnreadable");
        assert!(machine.is_unbootable());
    }
}

#[tokio::test]
async fn an_image_that_does_not_fit_the_disk_is_refused() {
    let image = image(DISK_SIZE + 1);
    let packed = gzip(&image);
    for (served, format) in [(image, ImageFormat::Raw), (packed, ImageFormat::RawGz)] {
        let (machine, boot, _, _) = deploy(served.clone(), &sha256(&served), format, &[]).await;
        assert_eq!(boot.failure(), "ImageTooLarge");
        assert!(machine.is_unbootable());
    }
}

#[tokio::test]
async fn an_image_that_is_not_there_is_asked_for_once() {
    let script = [Serve::Status(404)];
    let (machine, boot, _, images) = deploy(image(10), &sha256(b""), ImageFormat::Raw, &script).await;
    assert_eq!(boot.failure(), "ImageUnavailable");
    assert_eq!(images.ranges().len(), 1);
    assert!(machine.is_unbootable());
}

#[tokio::test]
async fn a_server_that_brings_nothing_is_given_up() {
    let script = [Serve::Stall(100), Serve::Stall(0), Serve::Break(0), Serve::Status(500), Serve::Status(500)];
    let (_, boot, _, images) = deploy(image(MIB), &sha256(b""), ImageFormat::Raw, &script).await;
    assert_eq!(boot.failure(), "ImageUnavailable");
    assert_eq!(images.ranges(), ["", "100-", "100-", "100-"]);
}

#[tokio::test]
async fn a_disk_that_cannot_be_written_is_a_failure() {
    let image = image(3 * MIB);
    let images = Images::serve(image.clone(), &[]).await;
    let boot = Boot::serve(&deployment(&images.url, &sha256(&image), ImageFormat::Raw), Script::default()).await;
    let mut machine = FakeMachine { fails: Some("write"), ..FakeMachine::new() };
    boot.run(&mut machine).await;
    assert_eq!(boot.failure(), "DiskWriteFailed");
    assert!(machine.is_unbootable());
}

#[tokio::test]
async fn a_config_drive_that_cannot_be_written_leaves_nothing_to_boot() {
    let image = image(3 * MIB);
    let images = Images::serve(image.clone(), &[]).await;
    let boot = Boot::serve(&deployment(&images.url, &sha256(&image), ImageFormat::Raw), Script::default()).await;
    let mut machine = FakeMachine { fails: Some("config drive"), ..FakeMachine::new() };
    boot.run(&mut machine).await;
    assert_eq!(boot.failure(), "ConfigDriveFailed");
    assert!(machine.is_unbootable());
}

#[tokio::test]
async fn a_disk_that_cannot_be_chosen_is_not_touched() {
    let boot = Boot::serve(&deployment("http://127.0.0.1:1/", &sha256(b""), ImageFormat::Raw), Script::default()).await;
    let mut machine = FakeMachine::new();
    machine.facts.disks.push(Disk { device: "/dev/vdb".into(), size_bytes: 1 << 30, ..Disk::default() });
    boot.run(&mut machine).await;
    assert_eq!(boot.failure(), "SeveralDisksMatch");
    assert_eq!(machine.acts(), [""; 0]);
}

#[tokio::test]
async fn a_digest_that_is_none_touches_no_disk() {
    let boot = Boot::serve(&deployment("http://127.0.0.1:1/", "md5:0", ImageFormat::Raw), Script::default()).await;
    let mut machine = FakeMachine::new();
    boot.run(&mut machine).await;
    assert_eq!(boot.failure(), "ImageDigestUnknown");
    assert_eq!(machine.acts(), [""; 0]);
}

#[tokio::test]
async fn progress_is_reported_and_its_loss_does_not_matter() {
    let image = image(3 * MIB);
    let images = Images::serve(image.clone(), &[Serve::Stall(MIB)]).await;
    let script = Script { progress: vec![500; 100].into(), ..Script::default() };
    let boot = Boot::serve(&deployment(&images.url, &sha256(&image), ImageFormat::Raw), script).await;
    let outcome = boot.run(&mut FakeMachine::new()).await;
    assert_eq!(outcome, Outcome::Done);
    assert!(boot.steps().contains(&"WritingImage".to_string()), "{:?}", boot.steps());
}

#[tokio::test]
async fn work_that_nobody_wants_any_more_stops_and_leaves_nothing_to_boot() {
    let image = image(3 * MIB);
    let images = Images::serve(image.clone(), &vec![Serve::Stall(MIB); 100]).await;
    let script = Script { progress: vec![200, 410].into(), ..Script::default() };
    let boot = Boot::serve(&deployment(&images.url, &sha256(&image), ImageFormat::Raw), script).await;
    let mut machine = FakeMachine::new();
    let outcome = boot.run(&mut machine).await;
    assert!(matches!(outcome, Outcome::Over(_)), "{outcome:?}");
    assert_eq!(boot.results(), []);
    assert!(machine.is_unbootable());
}

#[tokio::test]
async fn work_stops_at_the_deadline_and_leaves_nothing_to_boot() {
    let image = image(3 * MIB);
    let images = Images::serve(image.clone(), &vec![Serve::Stall(1); 1000]).await;
    let mut plan = deployment(&images.url, &sha256(&image), ImageFormat::Raw);
    plan.deadline = plan.issued_at + jiff::SignedDuration::from_millis(300);
    let boot = Boot::serve(&plan, Script::default()).await;
    let mut machine = FakeMachine::new();
    boot.run(&mut machine).await;
    assert_eq!(boot.failure(), "DeadlinePassed");
    assert!(machine.is_unbootable());
}
