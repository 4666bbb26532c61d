//! Bad input: what each of it is answered with, that it heals once a person mends it, and that it costs nothing and
//! harms nobody else. One bed per theme; inside a theme everything wrong stands at the same time.

mod bmc;
mod identity;
mod image;
mod place;

use anyhow::{Context, Result};
use rackwright_e2e::racks::OS_IMAGE;
use rackwright_e2e::trouble::Kind;
use rackwright_e2e::{Bed, Layout, Level, Narrator, Programs};
use serde_json::json;
use std::time::Duration;

/// Long enough for a busy machine with two cores; a case that goes well takes a fraction of it.
const PATIENCE: Duration = Duration::from_secs(180);
/// How long everything wrong is watched for writes and looks.
const WINDOW: Duration = Duration::from_secs(20);
/// Secret with user-data that every machine may use.
const USER_DATA: &str = "alone";

/// Tells `story` on racks of machines, all of them inspected and Available, with a Cluster for machines.
async fn on_racks(racks: u8, hosts_per_rack: u8, story: impl AsyncFnOnce(&mut Bed) -> Result<()>) -> Result<()> {
    let layout = Layout { racks, hosts_per_rack, ..Layout::default() };
    let mut bed = Bed::start(Programs::from_env()?, Level::Racks(layout), Narrator::stdout()).await?;
    bed.create_pool().await?;
    bed.put_user_data(USER_DATA).await?;
    bed.wait_until_available(layout.hosts(), PATIENCE).await?;
    bed.wait_until_quiet(PATIENCE).await?;
    bed.narrator.step(format!("{} hosts Available", layout.hosts()));
    let told = story(&mut bed).await;
    match &told {
        Ok(()) => bed.narrator.step("told"),
        Err(_) => bed.keep_folder(),
    }
    bed.stop().await;
    told
}

/// Makes an OSImage of what the bed serves, or of what it does not.
async fn make_image(bed: &Bed, name: &str, suffix: &str, digest: Option<&str>) -> Result<()> {
    let served = &bed.racks.as_ref().context("this bed has no racks")?.images;
    let disk = json!({ "url": format!("{}{suffix}", served.url), "digest": digest.unwrap_or(&served.digest), "format": "raw" });
    bed.apply(json!({
        "apiVersion": "rackwright.dev/v1alpha1", "kind": "OSImage", "metadata": { "name": name },
        "spec": { "disk": disk },
    }))
    .await
}

/// A machine that only one host fits.
#[derive(Clone, Copy)]
struct Order<'a> {
    machine: &'a str,
    host: &'a str,
    image: &'a str,
    user_data: &'a str,
}

impl<'a> Order<'a> {
    /// With the image and user-data that are right.
    fn new(machine: &'a str, host: &'a str) -> Order<'a> {
        Order { machine, host, image: OS_IMAGE, user_data: USER_DATA }
    }

    /// Orders it; its host does not fit yet.
    async fn place(&self, bed: &Bed) -> Result<()> {
        let own = json!({ "selector": { "matchLabels": { "for": self.machine } } });
        bed.order_machine(self.machine, self.user_data, json!({ "image": { "name": self.image }, "host": own })).await
    }

    /// Makes its host fit.
    async fn admit(&self, bed: &Bed) -> Result<()> {
        bed.change(&Kind::Host.named(self.host), json!({ "metadata": { "labels": { "for": self.machine } } })).await
    }
}
