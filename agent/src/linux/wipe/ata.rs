//! ATA's own way: SECURITY ERASE UNIT (ACS-4 section 7.30) through `hdparm`. Only for drives that firmware has not
//! frozen and that nobody has locked; a password that was set for it never stays.

use super::Programs;
use std::time::Duration;

const ASK: Duration = Duration::from_secs(60);
/// Set for the erasure only: the drive forgets it with the rest.
const PASSWORD: &str = "rackwright";
/// When the drive does not say how long it takes.
const USUAL_MINUTES: u64 = 12 * 60;

/// What a drive says of its security.
#[derive(Debug, PartialEq, Eq)]
struct Security {
    supported: bool,
    enabled: bool,
    locked: bool,
    frozen: bool,
    /// How long the plain and the enhanced erasure take, minutes.
    plain_minutes: Option<u64>,
    enhanced_minutes: Option<u64>,
}

impl Security {
    /// From what `hdparm -I` prints under `Security:`.
    fn read(text: &str) -> Security {
        let section = text.split_once("Security:").map_or("", |(_, section)| section);
        let lines: Vec<Vec<&str>> = section.lines().skip(1).map(|line| line.split_whitespace().collect()).collect();
        let has = |words: &[&str]| lines.iter().any(|line| line == words);
        let minutes = |what: &str| {
            let (before, _) = section.split_once(what)?;
            before.split_whitespace().next_back()?.trim_end_matches(|c: char| !c.is_ascii_digit()).parse().ok()
        };
        // Both figures stand in one line, `2min for SECURITY ERASE UNIT. 4min for ENHANCED SECURITY ERASE UNIT.`
        let before_for = |what: &str| minutes(what);
        Security {
            supported: has(&["supported"]),
            enabled: has(&["enabled"]),
            locked: has(&["locked"]),
            frozen: has(&["frozen"]),
            plain_minutes: before_for("min for SECURITY ERASE UNIT"),
            enhanced_minutes: before_for("min for ENHANCED SECURITY ERASE UNIT"),
        }
    }

    fn obstacle(&self) -> Option<&'static str> {
        match self {
            Security { supported: false, .. } => Some("the drive has no secure erase"),
            Security { frozen: true, .. } => Some("firmware has frozen the drive's secure erase"),
            Security { locked: true, .. } => Some("the drive is locked with somebody else's password"),
            Security { enabled: true, .. } => Some("somebody else's password is set on the drive"),
            _ => None,
        }
    }
}

/// Erases the drive at `path`. Says by what, or why not.
pub(super) async fn erase(programs: &Programs, path: &str) -> Result<String, String> {
    let run = async |arguments: &[&str], limit: Duration| {
        let said = programs.run("hdparm", arguments, limit).await;
        said.map(|said| String::from_utf8_lossy(&said).into_owned()).map_err(|why| why.to_string())
    };
    let security = Security::read(&run(&["-I", path], ASK).await?);
    if let Some(obstacle) = security.obstacle() {
        return Err(obstacle.into());
    }
    let (verb, minutes, method) = match security.enhanced_minutes {
        Some(minutes) => ("--security-erase-enhanced", Some(minutes), "ata-secure-erase-enhanced"),
        None => ("--security-erase", security.plain_minutes, "ata-secure-erase"),
    };
    // Drives round; twice what they say and ten minutes is late by any measure.
    let limit = Duration::from_secs((minutes.filter(|minutes| *minutes > 0).unwrap_or(USUAL_MINUTES) * 2 + 10) * 60);
    run(&["--user-master", "u", "--security-set-pass", PASSWORD, path], ASK).await?;
    let erased = run(&["--user-master", "u", verb, PASSWORD, path], limit).await;
    let after = run(&["-I", path], ASK).await.map(|text| Security::read(&text));
    if erased.is_ok() && after.as_ref().is_ok_and(|after| !after.enabled) {
        return Ok(method.into());
    }
    let unlocked = run(&["--user-master", "u", "--security-disable", PASSWORD, path], ASK).await;
    let why = erased.err().unwrap_or_else(|| "the drive still has the password after its secure erase".into());
    match unlocked {
        Ok(_) => Err(why),
        Err(stuck) => Err(format!("{why}; and the password {PASSWORD:?} could not be taken off: {stuck}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const READY: &str = "ATA device\nCommands/features:\n\tEnabled\tSupported:\n\t   *\tSecurity Mode feature set\nSecurity: \n\
        \tMaster password revision code = 65534\n\t\tsupported\n\tnot\tenabled\n\tnot\tlocked\n\tnot\tfrozen\n\
        \tnot\texpired: security count\n\t\tsupported: enhanced erase\n\
        \t2min for SECURITY ERASE UNIT. 8min for ENHANCED SECURITY ERASE UNIT. \nLogical Unit WWN\n";

    #[test]
    fn what_hdparm_prints_is_understood() {
        let security = Security::read(READY);
        assert_eq!(security.obstacle(), None);
        assert_eq!((security.plain_minutes, security.enhanced_minutes), (Some(2), Some(8)));
        for (from, to) in [
            ("not\tfrozen", "\tfrozen"),
            ("not\tlocked", "\tlocked"),
            ("not\tenabled", "\tenabled"),
            ("\t\tsupported\n", "\tnot\tsupported\n"),
        ] {
            assert!(Security::read(&READY.replace(from, to)).obstacle().is_some(), "{to}");
        }
        assert!(Security::read("no such thing").obstacle().is_some());
    }
}
