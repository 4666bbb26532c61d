use super::*;
use crate::progress::Progress;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use tempfile::TempDir;

const MIB: usize = 1 << 20;
const SIZE: usize = 40 * MIB;
const SECRET: &[u8] = b"a secret in the user-data";

/// A folder with a disk full of data, and one with programs.
struct Bench {
    folder: TempDir,
    name: &'static str,
}

impl Bench {
    fn new(name: &'static str) -> Bench {
        let bench = Bench { folder: TempDir::new().expect("a folder"), name };
        fs::create_dir(bench.folder.path().join("bin")).expect("a folder");
        fs::write(bench.path(), vec![0x5a; SIZE]).expect("writes");
        bench
    }

    fn path(&self) -> std::path::PathBuf {
        self.folder.path().join(self.name)
    }

    fn disk(&self) -> Vec<u8> {
        fs::read(self.path()).expect("reads")
    }

    /// A program that is a shell script. What it was called with is kept.
    fn program(&self, name: &str, script: &str) {
        let path = self.folder.path().join("bin").join(name);
        let log = self.folder.path().join("calls");
        let script = format!("#!/bin/sh\necho {name} \"$@\" >> {}\n{script}\n", log.display());
        fs::write(&path, script).expect("writes");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("made executable");
    }

    /// How the programs were called, without the folder.
    fn calls(&self) -> Vec<String> {
        let log = fs::read_to_string(self.folder.path().join("calls")).unwrap_or_default();
        let folder = format!("{}/", self.folder.path().display());
        log.lines().map(|line| line.replace(&folder, "")).collect()
    }

    async fn wipe(&self, policy: WipePolicy) -> Result<WipedDisk, MachineError> {
        let facts = Disk { device: format!("/dev/{}", self.name), serial: Some("S1".into()), ..Disk::default() };
        let programs = Programs::of(&self.folder.path().join("bin"));
        let (progress, _marks) = Progress::new();
        wipe_disk(&self.path(), &facts, 512, Turn::default(), policy, &programs, &progress).await
    }
}

fn is_zero(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| *byte == 0)
}

/// Zeroes the disk that is its last argument.
const ZERO_IT: &str =
    "for disk in \"$@\"; do :; done; dd if=/dev/zero of=$disk bs=1M count=40 conv=notrunc 2>/dev/null";

#[tokio::test]
async fn metadata_is_both_ends_and_where_file_systems_are_told_by() {
    let bench = Bench::new("sda");
    let wiped = bench.wipe(WipePolicy::Metadata).await.expect("wipes");
    assert_eq!((wiped.method.as_str(), wiped.device.as_str()), ("metadata", "/dev/sda"));
    assert_eq!((wiped.serial.as_deref(), wiped.size_bytes), (Some("S1"), Some(SIZE as i64)));
    assert!(wiped.verified.is_some() && wiped.seconds.is_some());
    let disk = bench.disk();
    assert!(is_zero(&disk[..8 * MIB]) && is_zero(&disk[SIZE - MIB..]));
    assert!(disk[8 * MIB..SIZE - MIB].iter().all(|byte| *byte == 0x5a), "other content is not metadata's");
}

#[tokio::test]
async fn a_config_drive_is_gone_under_every_policy_even_if_its_table_was_never_written() {
    let drive = rackwright_protocol::plan::ConfigDrive {
        user_data: String::from_utf8_lossy(SECRET).repeat(2000),
        ..Default::default()
    };
    let image = crate::config_drive::iso::image(&drive);
    for at in [12 * MIB, SIZE - 5 * MIB] {
        let bench = Bench::new("sda");
        let mut disk = bench.disk();
        disk[at..at + image.len()].copy_from_slice(&image);
        fs::write(bench.path(), disk).expect("writes");
        bench.wipe(WipePolicy::Metadata).await.expect("wipes");
        let disk = bench.disk();
        assert!(!disk.windows(SECRET.len()).any(|window| window == SECRET), "at {at}");
        assert!(is_zero(&disk[at..at + image.len()]) && disk[at - 1] == 0x5a, "at {at}");
    }
}

#[tokio::test]
async fn what_discards_and_then_reads_zero_is_discarded() {
    let bench = Bench::new("sda");
    bench.program("blkdiscard", ZERO_IT);
    let wiped = bench.wipe(WipePolicy::Discard).await.expect("wipes");
    assert_eq!(wiped.method, "discard");
    assert_eq!(wiped.verified.as_deref(), Some("both ends and 1024 places between read zero"));
    assert_eq!(bench.calls(), ["blkdiscard -f sda"]);
}

#[tokio::test]
async fn what_cannot_discard_or_only_says_so_is_overwritten_and_the_record_says_why() {
    for (script, why) in [
        ("exit 0", "overwrite; byte 8"),
        ("echo 'blkdiscard: BLKDISCARD ioctl failed: Operation not supported' >&2; exit 1", "Operation not supported"),
        ("", "overwrite; byte "),
    ] {
        let bench = Bench::new("sda");
        bench.program("blkdiscard", script);
        let wiped = bench.wipe(WipePolicy::Discard).await.expect("wipes");
        assert!(wiped.method.starts_with("overwrite; ") && wiped.method.contains(why), "{}", wiped.method);
        assert!(is_zero(&bench.disk()));
    }
    let bench = Bench::new("sda");
    let wiped = bench.wipe(WipePolicy::Discard).await.expect("wipes");
    assert!(wiped.method.contains("there is no such program"), "{}", wiped.method);
    assert!(is_zero(&bench.disk()));
}

/// An `nvme` whose controller has these abilities, in octal, and whose acts do this.
fn nvme(bench: &Bench, oacs: &str, sanicap: &str, fna: &str, sanitize: &str, log: &str, format: &str) {
    let script = format!(
        "case $1 in\n\
         id-ctrl) {{ head -c 256 /dev/zero; printf '\\{oacs}'; head -c 71 /dev/zero; printf '\\{sanicap}'; \
         head -c 195 /dev/zero; printf '\\{fna}'; head -c 3571 /dev/zero; }};;\n\
         sanitize) {sanitize};;\n\
         sanitize-log) printf '{log}'; head -c 508 /dev/zero;;\n\
         format) {format};;\n\
         esac"
    );
    bench.program("nvme", &script);
}

/// Zeroes the disk although only its controller is named.
fn zero_namespace(bench: &Bench) -> String {
    format!("dd if=/dev/zero of={} bs=1M count=40 conv=notrunc 2>/dev/null", bench.path().display())
}

#[tokio::test]
async fn an_nvme_drive_is_sanitized_by_the_best_way_it_has() {
    for (sanicap, action, method) in [("003", "2", "nvme-sanitize-block"), ("001", "4", "nvme-sanitize-crypto")] {
        let bench = Bench::new("nvme0n1");
        let erase = zero_namespace(&bench);
        nvme(&bench, "002", sanicap, "000", &erase, "\\377\\377\\001\\000", "exit 1");
        let wiped = bench.wipe(WipePolicy::SecureErase).await.expect("wipes");
        assert_eq!(wiped.method, method);
        assert_eq!(
            bench.calls(),
            [
                "nvme id-ctrl --raw-binary nvme0",
                &format!("nvme sanitize --sanact={action} nvme0"),
                "nvme sanitize-log --raw-binary nvme0"
            ]
        );
    }
}

#[tokio::test]
async fn an_nvme_drive_that_cannot_sanitize_is_formatted() {
    for (fna, how, method) in [("000", "--ses=1", "nvme-format"), ("004", "--ses=2", "nvme-format-crypto")] {
        let bench = Bench::new("nvme0n1");
        nvme(&bench, "002", "000", fna, "exit 1", "", ZERO_IT);
        let wiped = bench.wipe(WipePolicy::SecureErase).await.expect("wipes");
        assert_eq!(wiped.method, method);
        assert_eq!(bench.calls()[1], format!("nvme format {how} --force nvme0n1"));
    }
}

#[tokio::test]
async fn an_nvme_drive_that_fails_lies_or_has_no_way_is_overwritten() {
    for (what, oacs, sanicap, log, format, why) in [
        ("has neither", "000", "000", "", "exit 1", "neither sanitize nor format"),
        ("fails at both", "002", "002", "\\000\\000\\003\\000", "echo no >&2; exit 1", "exit status: 1: no"),
        ("says it is done", "002", "002", "\\377\\377\\001\\000", "exit 1", "places are as before"),
    ] {
        let bench = Bench::new("nvme0n1");
        nvme(&bench, oacs, sanicap, "000", "exit 0", log, format);
        let wiped = bench.wipe(WipePolicy::SecureErase).await.expect("wipes");
        assert!(wiped.method.starts_with("overwrite; ") && wiped.method.contains(why), "{what}: {}", wiped.method);
        assert!(is_zero(&bench.disk()), "{what}");
    }
}

/// A `hdparm` whose drive says this of its security and which erases by doing that.
fn hdparm(bench: &Bench, security: &str, erase: &str) {
    let script =
        format!("case \"$*\" in\n-I*) printf 'Security: \\n{security}';;\n*--security-erase*) {erase};;\nesac");
    bench.program("hdparm", &script);
}

const READY: &str = "\\t\\tsupported\\n\\tnot\\tenabled\\n\\tnot\\tlocked\\n\\tnot\\tfrozen\\n";
const TIMES: &str = "\\t2min for SECURITY ERASE UNIT.\\n";

#[tokio::test]
async fn an_ata_drive_erases_itself_and_its_password_is_gone() {
    let bench = Bench::new("sda");
    hdparm(&bench, &format!("{READY}{TIMES}"), ZERO_IT);
    let wiped = bench.wipe(WipePolicy::SecureErase).await.expect("wipes");
    assert_eq!(wiped.method, "ata-secure-erase");
    assert_eq!(
        bench.calls(),
        [
            "hdparm -I sda",
            "hdparm --user-master u --security-set-pass rackwright sda",
            "hdparm --user-master u --security-erase rackwright sda",
            "hdparm -I sda"
        ]
    );
}

#[tokio::test]
async fn an_ata_drive_that_is_frozen_or_fails_is_overwritten_and_never_left_with_a_password() {
    let frozen = READY.replace("not\\tfrozen", "\\tfrozen");
    for (security, erase, why, calls) in
        [(frozen.as_str(), ZERO_IT, "firmware has frozen", 1), (READY, "echo 'I/O error' >&2; exit 5", "I/O error", 5)]
    {
        let bench = Bench::new("sda");
        hdparm(&bench, security, erase);
        let wiped = bench.wipe(WipePolicy::SecureErase).await.expect("wipes");
        assert!(wiped.method.starts_with("overwrite; ") && wiped.method.contains(why), "{}", wiped.method);
        assert!(is_zero(&bench.disk()));
        assert_eq!(bench.calls().len(), calls);
        if calls > 1 {
            assert_eq!(bench.calls()[4], "hdparm --user-master u --security-disable rackwright sda");
        }
    }
}

#[tokio::test]
async fn a_disk_of_another_kind_is_overwritten_and_says_so() {
    let bench = Bench::new("vda");
    let wiped = bench.wipe(WipePolicy::SecureErase).await.expect("wipes");
    assert_eq!(wiped.method, "overwrite; vda is neither NVMe nor ATA");
    let wiped = bench.wipe(WipePolicy::Overwrite).await.expect("wipes");
    assert_eq!(wiped.method, "overwrite");
    assert!(is_zero(&bench.disk()));
}

#[tokio::test]
async fn a_program_that_hangs_is_killed_at_its_deadline() {
    let bench = Bench::new("sda");
    bench.program("blkdiscard", "exec sleep 100");
    let programs = Programs::of(&bench.folder.path().join("bin"));
    let begun = Instant::now();
    let why = programs.run("blkdiscard", &["x"], Duration::from_millis(200)).await.expect_err("hangs");
    assert!(why.to_string().contains("did not end within"), "{why}");
    assert!(begun.elapsed() < Duration::from_secs(20));
}
