//! The client story: what a deployment asks of a BMC, start to end, told through [`Bmc`] alone.
//!
//! The same story runs against every BMC that answers us (sushy-tools, our own simulator), so all are held to one standard. It says nothing
//! of what the machine does with its boot device, only of what the BMC shows.

use crate::{Bmc, BootDevice, Error, Power, PowerTarget};
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// What the story needs to know.
#[derive(Clone, Debug)]
pub struct Story {
    /// URL of a CD image; some BMCs fetch it when it is inserted.
    pub image: String,
    /// Another one, which must give way to the first.
    pub other_image: String,
    /// True for a BMC whose machine can be told to fetch a URL and boot it.
    pub http_boot: bool,
    /// Longest wait for a power change to show.
    pub patience: Duration,
    /// Wait between two looks.
    pub poll_interval: Duration,
}

impl Story {
    /// Tells the story; ends with the machine off, its drive empty and the disk as its boot device.
    ///
    /// # Errors
    /// The step that did not go as told, in a sentence.
    pub async fn tell(&self, bmc: &dyn Bmc) -> Result<(), String> {
        let start = bmc.system().await.map_err(|error| format!("reading the system: {error}"))?;
        claim("the BMC knows whether its machine is on", start.power.is_some())?;
        self.switch(bmc, PowerTarget::Off).await?;

        told("inserting another image", bmc.insert_media(&self.other_image).await)?;
        told("inserting the image over the other", bmc.insert_media(&self.image).await)?;
        self.holds(bmc, Some(&self.image)).await?;
        told("inserting it again", bmc.insert_media(&self.image).await)?;
        self.holds(bmc, Some(&self.image)).await?;

        told("setting the CD", bmc.set_boot(BootDevice::Cd).await)?;
        told("setting the CD again", bmc.set_boot(BootDevice::Cd).await)?;
        self.boots_from(bmc, BootDevice::Cd).await?;
        for device in [BootDevice::Other, BootDevice::Http] {
            let other = bmc.set_boot(device).await;
            claim("no other device can be set, and no URL without one", matches!(other, Err(Error::Rejected { .. })))?;
        }
        told("setting the network", bmc.set_boot(BootDevice::Pxe).await)?;
        self.boots_from(bmc, BootDevice::Pxe).await?;
        if self.http_boot {
            self.fetches(bmc, &self.other_image).await?;
            self.fetches(bmc, &self.image).await?;
        }
        told("setting the CD after that", bmc.set_boot(BootDevice::Cd).await)?;
        self.boots_from(bmc, BootDevice::Cd).await?;

        self.switch(bmc, PowerTarget::On).await?;
        self.switch(bmc, PowerTarget::On).await?;
        self.switch(bmc, PowerTarget::Off).await?;
        self.switch(bmc, PowerTarget::Off).await?;

        told("ejecting", bmc.eject_media().await)?;
        told("ejecting again", bmc.eject_media().await)?;
        self.holds(bmc, None).await?;
        told("setting the disk", bmc.set_boot(BootDevice::Disk).await)?;
        told("setting the disk again", bmc.set_boot(BootDevice::Disk).await)?;
        self.boots_from(bmc, BootDevice::Disk).await
    }

    async fn holds(&self, bmc: &dyn Bmc, image: Option<&str>) -> Result<(), String> {
        let media = bmc.media().await.map_err(|error| format!("reading the drive: {error}"))?;
        match image {
            Some(_) => claim("the drive holds the image", media.url.as_deref() == image),
            None => claim("the drive is empty", media.url.is_none()),
        }
    }

    async fn boots_from(&self, bmc: &dyn Bmc, device: BootDevice) -> Result<(), String> {
        let system = bmc.system().await.map_err(|error| format!("reading the boot device: {error}"))?;
        claim(&format!("the boot device is {device:?}, shown is {:?}", system.boot), system.boot == device)
    }

    async fn fetches(&self, bmc: &dyn Bmc, url: &str) -> Result<(), String> {
        told("setting a URL", bmc.set_http_boot(url).await)?;
        told("setting it again", bmc.set_http_boot(url).await)?;
        self.boots_from(bmc, BootDevice::Http).await?;
        let shown = bmc.system().await.map_err(|error| format!("reading the URL: {error}"))?.boot_uri;
        claim("the URL is the one that was set", shown.as_deref().is_none_or(|shown| shown == url))
    }

    /// Orders power and waits until it shows.
    async fn switch(&self, bmc: &dyn Bmc, target: PowerTarget) -> Result<(), String> {
        told(&format!("switching {target:?}"), bmc.set_power(target).await)?;
        let wanted = match target {
            PowerTarget::On => Power::On,
            PowerTarget::Off => Power::Off,
        };
        let give_up = Instant::now() + self.patience;
        loop {
            let system = bmc.system().await.map_err(|error| format!("waiting for {target:?}: {error}"))?;
            if system.power == Some(wanted) {
                return Ok(());
            }
            claim(
                &format!("{target:?} shows within {:?}, shown is {:?}", self.patience, system.power),
                Instant::now() < give_up,
            )?;
            sleep(self.poll_interval).await;
        }
    }
}

fn told(step: &str, outcome: crate::Result<()>) -> Result<(), String> {
    outcome.map_err(|error| format!("{step}: {error}"))
}

fn claim(what: &str, holds: bool) -> Result<(), String> {
    if holds { Ok(()) } else { Err(format!("not so: {what}")) }
}
