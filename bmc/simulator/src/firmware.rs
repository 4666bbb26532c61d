//! What a machine runs, for real: its firmware reads the boot media over HTTP(S), its ramdisk is the agent, its disk is
//! an operating system. Each of them belongs to one power-on and ends with it.

mod media;
mod ramdisk;

use crate::host::Host;
use crate::machine::{Guest, Run};
use crate::os::{self, OsInput};
use rackwright_agent::{Outcome, Patience};
use rackwright_protocol::media::MediaConfig;
use rackwright_protocol::plan::ConfigDrive;
use ramdisk::Ramdisk;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Reads the media that the BMC has in its drive, and tells the machine whether it found a ramdisk.
pub async fn load_media(host: Arc<Host>, run: Run, url: String, power: CancellationToken) {
    let authorities = host.site.config.media_ca.as_deref();
    let Some(found) = power.run_until_cancelled(media::fetch(&url, authorities)).await else { return };
    match found {
        Ok(media) => {
            host.keep_media(run, media);
            host.guest(run, Guest::MediaLoaded);
        }
        Err(why) => {
            tracing::warn!(host = host.spec.name, why = format!("{why:#}"), "the firmware cannot boot its media");
            host.guest(run, Guest::MediaFailed);
        }
    }
}

/// Runs the agent, then switches the machine off, or starts the system that the agent has written and loaded. A power cut
/// ends it wherever it is.
pub async fn run_ramdisk(host: Arc<Host>, run: Run, media: Option<MediaConfig>, power: CancellationToken) {
    let Some(_alone) = power.run_until_cancelled(host.guest.lock()).await else { return };
    let Some(media) = media else { return };
    let mut machine = Ramdisk::new(host.clone(), run, &media.subject.operation_id);
    let patience = Patience::default();
    let agent = rackwright_agent::run_with(&media, &mut machine, &patience);
    let Some(outcome) = power.run_until_cancelled(agent).await else { return };
    if outcome == Outcome::Done && machine.is_loaded() && host.guest(run, Guest::Kexec) {
        return;
    }
    host.guest(run, Guest::PowerOff);
}

/// Runs the operating system on the disk until the power goes, or until it ends by itself.
pub async fn run_system(host: Arc<Host>, run: Run, drive: Option<ConfigDrive>, power: CancellationToken) {
    let Some(_alone) = power.run_until_cancelled(host.guest.lock()).await else { return };
    // An image without a config drive starts as well; it has nothing to do.
    let (user_data, meta_data) = drive.map(|drive| (drive.user_data, drive.meta_data)).unwrap_or_default();
    let input = OsInput {
        root: host.root(),
        user_data,
        meta_data,
        address: host.spec.address.into(),
        facts: host.spec.facts.clone(),
        programs: host.site.config.programs.clone(),
        timing: host.site.config.os.clone(),
    };
    match os::run(input, power).await {
        Ok(()) => host.guest(run, Guest::PowerOff),
        Err(why) => {
            tracing::error!(host = host.spec.name, why = format!("{why:#}"), "the operating system stops");
            host.guest(run, Guest::Panic)
        }
    };
}
