//! Does what a plan says, and nothing else. Reports nothing itself: the event it returns is the report.

use crate::digest::Digester;
use crate::fetch::Download;
use crate::image::Ends;
use crate::installer::{Fetching, Installer};
use crate::progress::Progress;
use crate::{BlockDevice, Failure, Machine, MachineError, Patience, disk, image, installer, partitions};
use futures::StreamExt;
use futures::stream::FuturesOrdered;
use rackwright_protocol::facts::{Disk, Facts, FinalBoot, ReadBack, RootDevice, WipePolicy, WipedDisk};
use rackwright_protocol::media::MediaConfig;
use rackwright_protocol::plan::{Action, Deploy, Image, Install, Plan, Prepare, SignedPlan};
use rackwright_protocol::report::Event;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Between two looks for a disk that is missing.
const LOOK_AGAIN: Duration = Duration::from_secs(2);

/// The plan, if it was made for this media, this machine and `operation_id`, and how long it may be worked on.
pub(crate) fn accept(
    signed: &SignedPlan,
    media: &MediaConfig,
    operation_id: &str,
    facts: &Facts,
) -> Result<(Plan, Duration), Failure> {
    let rejected = |why: String| Failure::new("PlanRejected", why);
    let plan =
        signed.open(&media.token, &media.subject.host_uid, operation_id).map_err(|why| rejected(why.to_string()))?;
    if !facts.nics.iter().any(|nic| plan.boot_macs.iter().any(|mac| mac.eq_ignore_ascii_case(&nic.mac))) {
        let macs = plan.boot_macs.join(", ");
        return Err(rejected(format!("the plan is for a machine with MAC address {macs}, which this one has not")));
    }
    let time = plan.deadline.duration_since(plan.issued_at);
    match Duration::try_from(time) {
        Ok(time) if !time.is_zero() => Ok((plan, time)),
        _ => Err(rejected("its deadline had passed when it was handed out".into())),
    }
}

/// What work leaves behind, whatever ends it.
#[derive(Default)]
pub(crate) struct Traces {
    /// The disk that an image is being written to; set before the first write.
    pub unfinished: Option<String>,
    /// The disks that were wiped.
    pub wiped: Vec<WipedDisk>,
}

/// What the work has besides the plan.
pub(crate) struct Work<'a> {
    pub media: &'a MediaConfig,
    pub machine: &'a mut dyn Machine,
    pub facts: Facts,
    pub patience: &'a Patience,
    pub progress: Progress,
    /// What an earlier plan has prepared.
    pub written: Option<Written>,
}

/// An image on a disk, but for the disk's ends: nothing starts from it yet.
pub(crate) struct Written {
    device: String,
    root_device: Option<RootDevice>,
    digest: String,
    ends: Ends<'static>,
}

impl Written {
    /// True when it is what `deploy` wants, where it wants it.
    fn is_for(&self, deploy: &Deploy) -> bool {
        self.digest == deploy.image.digest && self.root_device == deploy.root_device
    }
}

/// Wipes one of many disks; the error names it.
async fn wipe_disk(
    machine: &dyn Machine,
    disk: &Disk,
    policy: WipePolicy,
    progress: Progress,
) -> Result<WipedDisk, String> {
    let wiped = machine.wipe_disk(disk, policy, &progress).await;
    let size = u64::try_from(disk.size_bytes).unwrap_or(0);
    progress.bytes("Wiping", size, size);
    wiped.map_err(|why| format!("{}: {why}", disk.device))
}

fn write_failed(device: &str, why: MachineError) -> Failure {
    Failure::new("DiskWriteFailed", format!("{device}: {why}"))
}

impl Work<'_> {
    /// Does `action`, and notes in `traces` what the caller must clean up or tell when it ends early.
    pub async fn follow(&mut self, action: &Action, traces: &mut Traces) -> Result<Event, Failure> {
        match action {
            Action::Inspect => self.inspect().await,
            Action::Deploy(deploy) => self.deploy(deploy, traces).await,
            Action::Wipe { policy, known } => self.wipe(*policy, known, traces).await,
            Action::Install(install) => self.install(install).await,
            Action::Prepare(prepare) => self.prepare(prepare, traces).await,
        }
    }

    async fn inspect(&mut self) -> Result<Event, Failure> {
        self.progress.at("Inspecting", 0);
        let facts = self.machine.inspect().await;
        Ok(Event::Inspected { facts: facts.map_err(|why| Failure::new("FactsUnreadable", why.to_string()))? })
    }

    async fn install(&mut self, install: &Install) -> Result<Event, Failure> {
        let unable = || Failure::new("PlanUnsupported", "this machine cannot start an installer");
        let folder = self.machine.installer_folder().ok_or_else(unable)?;
        let disk = disk::choose(&self.facts.disks, install.root_device.as_ref())?;
        self.progress.at("FetchingInstaller", 0);
        let by = Fetching { media: self.media, patience: self.patience, progress: &self.progress, folder: &folder };
        let Installer { kernel, initrd, command_line } = installer::fetch(install, disk, &by).await?;
        self.progress.at("LoadingInstaller", 0);
        let loaded = self.machine.load_installer(&kernel, &initrd, &command_line).await;
        loaded.map_err(|why| Failure::new("InstallerUnloadable", why.to_string()))?;
        Ok(Event::InstallerStarting)
    }

    /// How it goes on after a deployment: a kernel that cannot be loaded is started by the firmware.
    async fn final_boot(&mut self, wanted: FinalBoot, device: &str) -> FinalBoot {
        if wanted == FinalBoot::Kexec {
            self.progress.at("LoadingSystem", 0);
            match self.machine.load_written(device).await {
                Ok(()) => return FinalBoot::Kexec,
                Err(why) => {
                    tracing::warn!(device, %why, "the written system cannot be started from here; switching off")
                }
            }
        }
        FinalBoot::PowerCycle
    }

    /// Leaves an image that nothing starts from, for a deployment that may come.
    async fn prepare(&mut self, prepare: &Prepare, traces: &mut Traces) -> Result<Event, Failure> {
        let Some(image) = &prepare.image else { return Ok(Event::Prepared { digest: None }) };
        let written = self.write(image, prepare.root_device.as_ref(), prepare.read_back, traces).await?;
        let digest = Some(written.digest.clone());
        self.written = Some(written);
        Ok(Event::Prepared { digest })
    }

    async fn deploy(&mut self, deploy: &Deploy, traces: &mut Traces) -> Result<Event, Failure> {
        let written = match self.written.take().filter(|written| written.is_for(deploy)) {
            Some(written) => {
                traces.unfinished = Some(written.device.clone());
                written
            }
            None => self.write(&deploy.image, deploy.root_device.as_ref(), deploy.read_back, traces).await?,
        };
        let Written { device, digest, mut ends, .. } = written;
        let failed = |why| write_failed(&device, why);
        self.progress.at("WritingConfigDrive", 0);
        self.machine.write_config_drive(&device, &mut ends, &deploy.config_drive).await?;

        // From here on the machine has something to boot.
        self.progress.at("WritingStart", 0);
        let pending = ends.pending();
        let mut disk = ends.commit().await.map_err(failed)?;
        for (at, wanted) in pending {
            if disk.read_at(at, wanted.len()).await.map_err(failed)? != wanted {
                return Err(image::differs(at, wanted.len()));
            }
        }
        drop(disk);
        let final_boot = self.final_boot(deploy.final_boot, &device).await;
        Ok(Event::Deployed { device, digest, final_boot })
    }

    /// Brings `image` to the disk that `hints` resolve to, all but the disk's ends, and checks it there.
    async fn write(
        &mut self,
        image: &Image,
        hints: Option<&RootDevice>,
        extent: ReadBack,
        traces: &mut Traces,
    ) -> Result<Written, Failure> {
        let device = disk::choose(&self.facts.disks, hints)?.device.clone();
        let digester = Digester::new(&image.digest)?;
        let mut download = Download::new(&image.url, self.media, self.patience)?;
        image::check_format(image.format)?;
        self.progress.at("WritingImage", 0);

        traces.unfinished = Some(device.clone());
        let failed = |why| write_failed(&device, why);
        self.machine.make_unbootable(&device).await.map_err(failed)?;
        let mut ends = Ends::hold(self.machine.open_disk(&device).await.map_err(failed)?);
        let (digest, samples) =
            image::write(&mut download, image.format, digester, &mut ends, extent, &self.progress).await?;
        ends.finish().await.map_err(failed)?;
        partitions::read(&mut ends).await?;
        image::read_back(&mut ends, samples, &self.progress).await?;
        Ok(Written { device, root_device: hints.cloned(), digest, ends })
    }

    /// Wipes all disks at the same time: it takes hours where blocks are overwritten. What cannot be wiped holds up nothing
    /// else, and is told. So is one that is `known` and gone: it has taken what is on it along.
    async fn wipe(&mut self, policy: WipePolicy, known: &[Disk], traces: &mut Traces) -> Result<Event, Failure> {
        let gone = self.await_disks(known).await;
        self.progress.at("Wiping", 0);
        let (disks, machine) = (&self.facts.disks, &*self.machine);
        let sizes: Vec<u64> = disks.iter().map(|disk| u64::try_from(disk.size_bytes).unwrap_or(0)).collect();
        let mut wipes = FuturesOrdered::new();
        for (disk, progress) in disks.iter().zip(self.progress.parts(&sizes)) {
            wipes.push_back(wipe_disk(machine, disk, policy, progress));
        }
        let mut failed = Vec::new();
        while let Some(wiped) = wipes.next().await {
            match wiped {
                Ok(wiped) => traces.wiped.push(wiped),
                Err(why) => failed.push(why),
            }
        }
        if !failed.is_empty() {
            let why = format!("{} of {} disks are wiped; {}", traces.wiped.len(), disks.len(), failed.join("; "));
            return Err(Failure::new("WipeFailed", why));
        }
        if !gone.is_empty() {
            let names = gone.into_iter().map(disk::name).collect::<Vec<_>>().join("; ");
            let why = format!("the inspection found what is not there any more, and not wiped: {names}");
            return Err(Failure::new("DiskMissing", why));
        }
        Ok(Event::Wiped { disks: std::mem::take(&mut traces.wiped) })
    }

    /// Looks until all `known` disks are there, or long enough; gives those that are not.
    async fn await_disks<'d>(&mut self, known: &'d [Disk]) -> Vec<&'d Disk> {
        let until = Instant::now() + self.patience.disks;
        loop {
            let gone = disk::gone(known, &self.facts.disks);
            if gone.is_empty() || Instant::now() >= until {
                return gone;
            }
            self.progress.at("WaitingForDisks", 0);
            sleep(LOOK_AGAIN.min(self.patience.disks)).await;
            match self.machine.facts().await {
                Ok(facts) => self.facts = facts,
                Err(why) => tracing::warn!(%why, "the disks cannot be looked at"),
            }
        }
    }
}
