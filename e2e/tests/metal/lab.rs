//! The lab itself: our client against a BMC that nobody here wrote, with a machine behind it that really goes on and off.

use anyhow::{Result, anyhow, ensure};
use axum::Router;
use axum::routing::get;
use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use rackwright_bmc::story::Story;
use rackwright_bmc::{Access, Connect, Trust};
use rackwright_e2e::metal::bmc::{PASSWORD, USERNAME};
use rackwright_e2e::metal::{Firmware, Lab, Spec, lan, sandbox, toy};
use rackwright_e2e::pki::Authority;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn the_client_story_holds_against_a_bmc_with_a_real_machine_behind_it() -> Result<()> {
    sandbox::test(async || {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new("lab-ca")?;
        authority.write(&folder.path().join("pki"))?;
        let mut lab = Lab::start(folder.path()).await?;
        let images = serve(vec![0; 64 << 10]).await?;
        for (number, firmware) in [(1, Firmware::Bios), (2, Firmware::Uefi)] {
            let unit = lab.add(Spec::new(&format!("{firmware:?}"), number, firmware), &authority).await?;
            let access = Access {
                address: unit.bmc.url.parse()?,
                username: USERNAME.into(),
                password: PASSWORD.to_owned().into(),
                trust: Trust::Ca(authority.pem().into()),
            };
            let bmc = RedfishConnector::new(RedfishConfig::default()).bmc(&access).await?;
            let story = Story {
                image: format!("{images}/one.img"),
                other_image: format!("{images}/other.img"),
                http_boot: false, // it takes a URL, fetches it, and shows a CD
                patience: PATIENCE,
                poll_interval: Duration::from_millis(250),
            };
            story.tell(&*bmc).await.map_err(|why| anyhow!("{firmware:?}: {why}"))?;
            assert!(!unit.machine.is_on(), "the story ends with the machine off");
            assert_eq!(bmc.system().await?.uuid.as_deref(), Some(unit.machine.spec.uuid().as_str()));
            assert!(!unit.machine.disk_holds_anything(0)?, "nobody wrote to the disk");
        }
        Ok(())
    })
}

#[test]
#[ignore = "needs QEMU: cargo xtask e2e-metal"]
fn the_toy_image_boots_from_a_disk_with_either_firmware() -> Result<()> {
    sandbox::test(async || {
        let folder = tempfile::tempdir()?;
        let authority = Authority::new("lab-ca")?;
        let mut lab = Lab::start(folder.path()).await?;
        let image = toy::image()?;
        for (number, firmware) in [(1, Firmware::Bios), (2, Firmware::Uefi)] {
            let machine = &lab.add(Spec::new(&format!("{firmware:?}"), number, firmware), &authority).await?.machine;
            let mut disk = std::fs::File::options().write(true).open(machine.disk(0)?)?;
            std::io::Write::write_all(&mut disk, &image)?;
            assert!(machine.disk_holds(0, toy::MARK)?);
            let begun = Instant::now();
            machine.push_button()?;
            while machine.console.first(toy::GREETING, begun).is_none() {
                ensure!(begun.elapsed() < PATIENCE, "{firmware:?} says only:\n{}", machine.console.tail(20));
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
        Ok(())
    })
}

/// Serves the same bytes under any name; gives the URL in front of the name.
async fn serve(image: Vec<u8>) -> Result<String> {
    let listener = tokio::net::TcpListener::bind((lan::LAB, 8080)).await?;
    let router = Router::new().route("/{name}", get(move || async move { image.clone() }));
    tokio::spawn(async move { axum::serve(listener, router).await });
    Ok(format!("http://{}:8080", lan::LAB))
}
