//! Media and tokens in the wrong hands: nothing is handed out, and the machine that they were made for is not disturbed.

use super::victim::{PATIENCE, SLOWLY, amid_the_image, attempt_that_deploys, bed, client};
use anyhow::{Context, Result, ensure};
use kube::ResourceExt;
use rackwright_api::Host;
use rackwright_api::host::Phase;
use rackwright_bmc::{BootDevice, PowerTarget};
use rackwright_e2e::metal::lan::CONTROL_PLANE;
use rackwright_e2e::metal::{Firmware, MetalBed, Spec, sandbox};
use rackwright_protocol::media::{self, MediaConfig};
use rackwright_protocol::report::{Event, Refusal, Report, SessionRequest};
use rackwright_protocol::{REPORT_PATH, SESSION_PATH, Subject};
use serde_json::json;
use std::net::IpAddr;
use std::time::Instant;

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn the_ramdisk_of_one_machine_does_nothing_on_another() -> Result<()> {
    sandbox::test(async || {
        let mut metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        let stranger = metal.lab.add(Spec::new("stranger", 2, Firmware::Bios), &metal.bed.plane.authority).await?;
        let other = client(&stranger.bmc.url, metal.bed.plane.authority.pem()).await?;
        let own = client(&metal.lab.units()[0].bmc.url, metal.bed.plane.authority.pem()).await?;
        let begun = Instant::now();
        metal.create_machine("mine", "toy", "Discard").await?;
        metal.until_power("m1", true, PATIENCE).await?;
        metal.machine("m1")?.cut_power()?; // before its own ramdisk can use the token
        let url = own.media().await?.url.context("its media is still in")?;
        other.insert_media(&url).await?;
        other.set_boot(BootDevice::Cd).await?;
        other.set_power(PowerTarget::On).await?;
        metal.until_says("stranger", "WrongMachine", begun, PATIENCE).await?;
        metal.bed.narrator.step("the stranger was told that the media is not for it");
        metal.until_power("stranger", false, PATIENCE).await?;
        ensure!(!metal.machine("stranger")?.disk_holds_anything(0)?, "nothing was written to the stranger's disk");
        attempt_that_deploys(&metal).await.map(drop)
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn who_has_read_the_media_of_a_machine_gets_nothing_for_its_token() -> Result<()> {
    sandbox::test(async || {
        let mut metal = bed(Spec::new("m1", 1, Firmware::Bios), json!({})).await?;
        metal.image_wire.slow_down(SLOWLY);
        metal.create_machine("mine", "toy", "Discard").await?;
        amid_the_image(&metal).await?;
        let own = client(&metal.lab.units()[0].bmc.url, metal.bed.plane.authority.pem()).await?;
        let stranger = Stranger::with(own.media().await?.url.context("its media is still in")?, &metal).await?;
        metal.bed.narrator.step("a stranger has read m1's media while its image is written");
        let mine = stranger.media.subject.clone();
        stranger.is_told("TokenUsed", 409, mine.clone()).await?;
        stranger.is_told("TokenInvalid", 401, Subject { operation_id: "another".into(), ..mine.clone() }).await?;
        stranger.reports_in_vain().await?;
        let logged = std::fs::read_to_string(metal.bed.folder().join("log/rackwright-boot.log"))?;
        ensure!(logged.contains("media handed out to another address"), "the audit log does not tell of the stranger");

        metal.add_machine(Spec::new("m2", 2, Firmware::Bios), json!({})).await?;
        let works = |host: &Host| host.status.as_ref().is_some_and(|status| status.operation.is_some());
        let other = metal.until_host("m2", "its inspection", PATIENCE, works).await?;
        let operation_id = other.status.as_ref().and_then(|status| Some(status.operation.as_ref()?.id.clone()));
        let of_m2 = Subject {
            host: "m2".into(),
            host_uid: other.uid().context("every host has one")?,
            operation_id: operation_id.context("it was there")?,
            ..mine.clone()
        };
        stranger.is_told("TokenInvalid", 401, of_m2).await?;
        metal.until_phase("m2", Phase::Available, PATIENCE).await?;
        metal.bed.narrator.step("m2 is inspected as if nothing was");

        metal.image_wire.slow_down(0);
        let attempt = attempt_that_deploys(&metal).await?;
        ensure!(attempt == 1, "nobody disturbed the first try, but try {attempt} was the one");
        stranger.is_told("OperationOver", 410, mine).await?;
        ensure!(stranger.get_media().await?.status() == 404, "media of an operation that is over is nobody's");
        metal.bed.narrator.step("when it is over, its media and its token are nothing at all");
        Ok(())
    })
}

/// Somebody with the media of m1, who says that he is m1.
struct Stranger {
    http: reqwest::Client,
    url: String,
    media: MediaConfig,
    macs: Vec<String>,
    system_uuid: String,
}

impl Stranger {
    async fn with(url: String, metal: &MetalBed) -> Result<Stranger> {
        let ca = reqwest::Certificate::from_pem(metal.bed.plane.authority.pem().as_bytes())?;
        // He has an address of his own.
        let http =
            reqwest::Client::builder().tls_certs_only([ca]).no_proxy().local_address(IpAddr::from(CONTROL_PLANE));
        let (http, url) = (http.build()?, metal.past_the_wire(&url));
        let media = http.get(&url).send().await?.error_for_status()?.bytes().await?;
        let media = media::read(&media).map_err(|why| anyhow::anyhow!("the media has no area of m1's: {why}"))?;
        let spec = &metal.machine("m1")?.spec;
        Ok(Stranger { http, url, media, macs: vec![spec.mac()], system_uuid: spec.uuid() })
    }

    async fn get_media(&self) -> Result<reqwest::Response> {
        Ok(self.http.get(&self.url).send().await?)
    }

    /// Asks for a session with the token, as `subject`, and is refused with `reason` and `status`.
    async fn is_told(&self, reason: &str, status: u16, subject: Subject) -> Result<()> {
        let (token, macs) = (self.media.token.clone(), self.macs.clone());
        let request = SessionRequest { subject, token, macs, system_uuid: Some(self.system_uuid.clone()) };
        let answer = self.http.post(format!("{}{SESSION_PATH}", self.media.boot_url)).json(&request).send().await?;
        let (code, refusal) = (answer.status(), answer.json::<Refusal>().await?);
        ensure!(code == status && refusal.reason == reason, "{code} {} instead of {status} {reason}", refusal.reason);
        Ok(())
    }

    /// Says that m1 is done, with the token in the place of a session.
    async fn reports_in_vain(&self) -> Result<()> {
        let event = Event::Failed { reason: "Strange".into(), message: "give up".into(), wiped: Vec::new() };
        let report = Report { subject: self.media.subject.clone(), event };
        let url = format!("{}{REPORT_PATH}", self.media.boot_url);
        let answer = self.http.post(url).bearer_auth(&self.media.token).json(&report).send().await?;
        ensure!(answer.status() == 401, "a report without the session is answered {}", answer.status());
        Ok(())
    }
}
