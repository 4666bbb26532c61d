//! NVMe's own ways (NVM Express Base Specification 2.0, sections 5.17, 5.14, 5.24): sanitize where the controller has it,
//! else format with erasure. What a controller has is read as the specification lays it out, not as text.

use super::Programs;
use crate::Progress;
use std::time::Duration;

const ASK: Duration = Duration::from_secs(60);
const FORMAT: Duration = Duration::from_secs(2 * 3600);
/// Longest time for sanitizing; the plan's deadline usually comes first.
const SANITIZE: Duration = Duration::from_secs(12 * 3600);
/// Between two looks at how far it is.
const LOOK: Duration = Duration::from_secs(2);

/// What `nvme id-ctrl` tells.
#[derive(Debug, PartialEq, Eq)]
struct Controller {
    can_format: bool,
    format_by_crypto: bool,
    sanitize_by_crypto: bool,
    sanitize_by_block: bool,
}

impl Controller {
    /// From the 4096 bytes of Identify Controller: OACS, SANICAP, FNA.
    fn read(identify: &[u8]) -> Option<Controller> {
        let (oacs, sanicap, fna) = (identify.get(256)?, identify.get(328)?, identify.get(524)?);
        Some(Controller {
            can_format: oacs & 0b10 != 0,
            format_by_crypto: fna & 0b100 != 0,
            sanitize_by_crypto: sanicap & 0b1 != 0,
            sanitize_by_block: sanicap & 0b10 != 0,
        })
    }
}

/// Erases the namespace at `path`. Says by what, or why not.
pub(super) async fn erase(programs: &Programs, path: &str, progress: &Progress) -> Result<String, String> {
    let controller = controller_of(path).ok_or_else(|| format!("{path} is no NVMe namespace"))?;
    let said = programs.run("nvme", &["id-ctrl", "--raw-binary", controller], ASK).await;
    let identify = said.map_err(|why| why.to_string())?;
    let can = Controller::read(&identify).ok_or("the controller told too little of itself")?;
    let action = match can {
        // Block erase first: it takes every block away, not only the key to it.
        Controller { sanitize_by_block: true, .. } => Some(("2", "nvme-sanitize-block")),
        Controller { sanitize_by_crypto: true, .. } => Some(("4", "nvme-sanitize-crypto")),
        _ => None,
    };
    let mut why = String::from("the controller can neither sanitize nor format");
    if let Some((action, method)) = action {
        match sanitize(programs, controller, action, progress).await {
            Ok(()) => return Ok(method.into()),
            Err(failed) => why = failed,
        }
    }
    if can.can_format {
        let (how, method) =
            if can.format_by_crypto { ("--ses=2", "nvme-format-crypto") } else { ("--ses=1", "nvme-format") };
        match programs.run("nvme", &["format", how, "--force", path], FORMAT).await {
            Ok(_) => return Ok(method.into()),
            Err(failed) => why = failed.to_string(),
        }
    }
    Err(why)
}

async fn sanitize(programs: &Programs, controller: &str, action: &str, progress: &Progress) -> Result<(), String> {
    let sanact = format!("--sanact={action}");
    programs.run("nvme", &["sanitize", &sanact, controller], ASK).await.map_err(|why| why.to_string())?;
    let wait = async {
        loop {
            let said = programs.run("nvme", &["sanitize-log", "--raw-binary", controller], ASK).await;
            match state(&said.map_err(|why| why.to_string())?)? {
                State::Done => return Ok(()),
                State::Going(progressed) => progress.bytes("Wiping", progressed, 65536),
            }
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::time::timeout(SANITIZE, wait).await.unwrap_or_else(|_| Err("sanitizing did not end".into()))
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Done,
    /// Of 65536.
    Going(u64),
}

/// From the Sanitize Status log page: SPROG, SSTAT.
fn state(log: &[u8]) -> Result<State, String> {
    let [low, high, status, ..] = log else { return Err("the sanitize log is too short".into()) };
    match status & 0b111 {
        1 | 4 => Ok(State::Done),
        2 => Ok(State::Going(u64::from(u16::from_le_bytes([*low, *high])))),
        other => Err(format!("sanitizing ended with status {other}")),
    }
}

/// `/dev/nvme0` of `/dev/nvme0n1`.
fn controller_of(path: &str) -> Option<&str> {
    let (controller, namespace) = path.rsplit_once('n')?;
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let (_, number) = controller.rsplit_once("nvme")?;
    (is_number(namespace) && is_number(number)).then_some(controller)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_names_its_controller() {
        assert_eq!(controller_of("/dev/nvme0n1"), Some("/dev/nvme0"));
        assert_eq!(controller_of("/dev/nvme12n3"), Some("/dev/nvme12"));
        assert_eq!(controller_of("/dev/sdn"), None);
        assert_eq!(controller_of("/dev/nvme0"), None);
    }

    #[test]
    fn the_sanitize_log_is_read_as_specified() {
        assert_eq!(state(&[0xff, 0xff, 0x01, 0x01]), Ok(State::Done));
        assert_eq!(state(&[0xff, 0xff, 0x04, 0x00]), Ok(State::Done));
        assert_eq!(state(&[0x00, 0x80, 0x02, 0x00]), Ok(State::Going(0x8000)));
        assert!(state(&[0, 0, 3, 0]).is_err());
        assert!(state(&[0, 0, 0, 0]).is_err());
        assert!(state(&[]).is_err());
    }
}
