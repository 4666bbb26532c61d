//! `/init` of the ramdisk. As pid 1 it looks after the machine; as the child that pid 1 starts it is the agent.

use rackwright_agent::linux::agent::{self, Ending};
use rackwright_agent::linux::init;
use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args().nth(1).as_deref() == Some(init::AGENT) {
        return match agent::run() {
            Ending::PowerOff => ExitCode::SUCCESS,
            Ending::LoadedKernel => ExitCode::from(init::START_LOADED_KERNEL),
        };
    }
    if std::process::id() == 1 {
        init::run();
        // Pid 1 must not end: the kernel would panic and start the machine anew.
        loop {
            std::thread::park();
        }
    }
    let _ = std::io::Write::write_all(&mut std::io::stderr(), b"rackwright-agent is pid 1 of a ramdisk; see docs\n");
    ExitCode::from(2)
}
