//! Pid 1 of the ramdisk: mounts what the kernel shows, starts the agent, buries whatever dies, and switches the machine
//! off when the agent is gone, however that came about. It does so little that it cannot fail in between.

use super::console::say;
use rustix::mount::{MountFlags, mount};
use rustix::process::{WaitOptions, WaitStatus, wait};
use rustix::system::{RebootCommand, reboot};
use std::io::Read;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::time::Duration;

/// Exit status by which the agent asks for the kernel that it has loaded.
pub const START_LOADED_KERNEL: u8 = 10;
/// First argument of the process that is the agent.
pub const AGENT: &str = "agent";

/// What is mounted where, besides efivarfs on UEFI machines.
const MOUNTS: [(&str, &str, &str); 6] = [
    ("proc", "/proc", ""),
    ("sysfs", "/sys", ""),
    ("devtmpfs", "/dev", "mode=0755"),
    ("tmpfs", "/run", "mode=0755"),
    ("tmpfs", "/tmp", "mode=1777"),
    ("devpts", "/dev/pts", ""),
];

/// Runs until the machine is off. Returns only when it cannot be switched off.
pub fn run() {
    for (kind, target, options) in MOUNTS {
        attach(kind, target, options);
    }
    say("rackwright ramdisk");
    // The kernel begins to gather randomness when somebody waits for it, and TLS will: where the processor has none of
    // its own, that takes seconds, which other things are done in.
    std::thread::spawn(|| std::fs::File::open("/dev/random").map(|mut file| file.read_exact(&mut [0])));
    let ended = std::panic::catch_unwind(supervise);
    match ended {
        Ok(Ok(status)) if status.code() == Some(i32::from(START_LOADED_KERNEL)) => {
            say("starting the loaded kernel");
            finish(RebootCommand::Kexec);
            say("the loaded kernel does not start; switching off");
        }
        Ok(Ok(status)) if status.success() => say("switching off"),
        Ok(Ok(status)) => say(&format!("the agent ended with {status}; switching off")),
        Ok(Err(why)) => say(&format!("the agent cannot be run: {why}; switching off")),
        Err(_) => say("pid 1 panicked; switching off"),
    }
    finish(RebootCommand::PowerOff);
    // No ACPI, or it does not answer: the manager switches off by the BMC when it gives up waiting.
    finish(RebootCommand::Halt);
}

fn finish(command: RebootCommand) {
    rustix::fs::sync();
    if let Err(why) = reboot(command) {
        say(&format!("{command:?}: {why}"));
        std::thread::sleep(Duration::from_secs(1));
    }
}

fn attach(kind: &str, target: &str, options: &str) {
    let _ = std::fs::create_dir_all(target);
    let options = std::ffi::CString::new(options).unwrap_or_default();
    let mounted = mount(kind, target, kind, MountFlags::NOSUID, Some(options.as_c_str()));
    if let Err(why) = mounted
        && why != rustix::io::Errno::BUSY
    {
        say(&format!("{target}: {why}"));
    }
}

/// Variables of UEFI; the driver may be a module that the agent loads, so it is the agent that mounts them.
pub(super) fn attach_efi_variables() {
    let target = "/sys/firmware/efi/efivars";
    if Path::new(target).exists()
        && let Err(why) = mount("efivarfs", target, "efivarfs", MountFlags::RDONLY, None::<&std::ffi::CStr>)
    {
        tracing::debug!("{target}: {why}");
    }
}

/// Runs the agent and waits for it, and for all that lost its parent.
fn supervise() -> std::io::Result<ExitStatus> {
    let agent = Command::new("/proc/self/exe").arg(AGENT).env_clear().env("PATH", "/bin:/sbin").spawn()?;
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if u32::try_from(pid.as_raw_pid()) == Ok(agent.id()) => return Ok(raw(status)),
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(why) => return Err(why.into()),
        }
    }
}

fn raw(status: WaitStatus) -> ExitStatus {
    ExitStatus::from_raw(status.as_raw())
}
