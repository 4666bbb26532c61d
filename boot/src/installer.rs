//! The plan of a host that is installed: from its claim to an installer's files and command line. Pure.
//!
//! The answers hold the user-data, so they are made when the one session of the operation is opened, and travel in its
//! plan. The installer reports with a secret of its own: the session stays with the agent.

use crate::refusal::{Reason, Refusal};
use crate::session::{Place, bounded, meta_data};
use kube::ResourceExt;
use rackwright_api::host::{Claim, Host};
use rackwright_api::installer::{ClaimedInstaller, ClaimedKickstart, ClaimedPreseed, InstallerFile, Ostree};
use rackwright_bootstrap::installer::{self, Address, Kickstart, Preseed, Wanted};
use rackwright_protocol::facts::{FinalBoot, ImageFormat, StaticNetwork};
use rackwright_protocol::plan::{DISK, Image, Install, InstallFile};
use rackwright_protocol::report::{Event, Report};
use rackwright_protocol::{INSTALLED_PATH, Subject};
use std::collections::BTreeMap;

/// Where an installer's report goes, and what proves it.
pub(crate) struct Caller<'a> {
    /// Whose report it is.
    pub subject: &'a Subject,
    /// Authorities to trust, PEM.
    pub authorities: &'a str,
    /// Bearer token.
    pub token: String,
}

/// The plan's part for `claim`, which is to be installed by `installer`.
pub(crate) fn install(
    host: &Host,
    place: &Place,
    claim: &Claim,
    installer: &ClaimedInstaller,
    user_data: String,
    caller: Caller<'_>,
) -> Result<Install, Refusal> {
    let invalid = |why: String| {
        let message = format!("OSImage {} cannot be installed on this host: {why}", claim.image.name);
        Refusal::ending(Reason::InstallerInvalid, bounded(&message))
    };
    let boot_url = place.boot_url().ok_or_else(|| invalid("its rack or datacenter is not there".into()))?;
    let network = host.spec.ramdisk.as_ref().and_then(|ramdisk| ramdisk.network.as_ref());
    let answers = installer::render(&installer::Install {
        wanted: wanted(installer).ok_or_else(|| invalid("the claim names nothing to install".into()))?,
        disk: DISK.into(),
        hostname: claim.hostname.clone(),
        boot_mac: host.spec.boot_mac_address.clone(),
        address: network.map(address),
        kernel_arguments: installer.kernel_arguments.clone(),
        user_data,
        meta_data: meta_data(host, place, claim),
        facts: facts(host, place, claim),
        report: report(claim, boot_url, caller).map_err(|why| invalid(why.to_string()))?,
    })
    .map_err(|why| invalid(why.to_string()))?;
    let kernel = InstallerFile { url: claim.image.url.clone(), digest: claim.image.digest.clone() };
    Ok(Install {
        kernel: image(&kernel),
        initrd: image(&installer.initrd),
        command_line: answers.command_line,
        files: answers.files.into_iter().map(|(path, content)| InstallFile { path, content }).collect(),
        root_device: host.spec.root_device.clone(),
    })
}

fn image(file: &InstallerFile) -> Image {
    Image { url: file.url.clone(), digest: file.digest.clone(), format: ImageFormat::Raw }
}

fn wanted(installer: &ClaimedInstaller) -> Option<Wanted> {
    match (&installer.kickstart, &installer.preseed) {
        (Some(kickstart), None) => Some(Wanted::Kickstart(of_kickstart(kickstart)?)),
        (None, Some(preseed)) => Some(Wanted::Preseed(of_preseed(preseed)?)),
        _ => None,
    }
}

fn of_kickstart(kickstart: &ClaimedKickstart) -> Option<Kickstart> {
    let ClaimedKickstart { template, ostree, packages } = kickstart.clone();
    Some(match (template, ostree, packages) {
        (Some(template), None, None) => Kickstart::Own(template),
        (None, Some(Ostree { setup: Some(setup), container: None }), None) => {
            Kickstart::OstreeSetup { osname: setup.osname, url: setup.url, reference: setup.reference, gpg: setup.gpg }
        }
        (None, Some(Ostree { setup: None, container: Some(container) }), None) => Kickstart::OstreeContainer {
            url: container.url,
            transport: container.transport,
            stateroot: container.stateroot,
            remote: container.remote,
            signature_verification: container.signature_verification,
        },
        (None, None, Some(packages)) => Kickstart::Packages { url: packages.url, names: packages.names },
        _ => return None,
    })
}

fn of_preseed(preseed: &ClaimedPreseed) -> Option<Preseed> {
    let ClaimedPreseed { template, mirror } = preseed.clone();
    Some(match (template, mirror) {
        (Some(template), None) => Preseed::Own(template),
        (None, Some(mirror)) => Preseed::Mirror {
            host: mirror.host,
            directory: mirror.directory,
            suite: mirror.suite,
            packages: mirror.packages,
        },
        _ => return None,
    })
}

fn address(network: &StaticNetwork) -> Address {
    Address {
        address: network.address.clone(),
        gateway: network.gateway.clone(),
        dns: network.dns.clone(),
        vlan: network.vlan,
    }
}

/// What a person's own template may name beside what every installation has.
fn facts(host: &Host, place: &Place, claim: &Claim) -> BTreeMap<String, String> {
    let datacenter = place.datacenter.as_ref();
    let facts = [
        ("host", host.name_any()),
        ("unit", host.spec.unit.map(|unit| unit.to_string()).unwrap_or_default()),
        ("rack", host.spec.rack.clone()),
        ("datacenter", datacenter.map(|datacenter| datacenter.name_any()).unwrap_or_default()),
        ("region", datacenter.map(|datacenter| datacenter.spec.region.clone()).unwrap_or_default()),
        ("provider_id", claim.provider_id.clone()),
    ];
    facts.map(|(name, value)| (name.to_owned(), value)).into()
}

fn report(claim: &Claim, boot_url: &str, caller: Caller<'_>) -> Result<installer::Report, serde_json::Error> {
    let body = |event| serde_json::to_string(&Report { subject: caller.subject.clone(), event });
    let digest = claim.image.digest.clone();
    let failed = Event::Failed {
        reason: "InstallerFailed".into(),
        message: "the installer gave up; its own log on the host's console says why".into(),
        wiped: Vec::new(),
    };
    Ok(installer::Report {
        url: format!("{}{INSTALLED_PATH}", boot_url.trim_end_matches('/')),
        ca_pem: caller.authorities.into(),
        token: caller.token,
        done: body(Event::Deployed { device: DISK.into(), digest, final_boot: FinalBoot::PowerCycle })?,
        failed: body(failed)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fixture::*;
    use rackwright_api::host::OperationKind::Deploy;
    use rackwright_api::topology::{BootService, DatacenterSpec};
    use std::sync::Arc;

    fn place() -> Place {
        let boot = BootService { url: "https://10.1.0.5:8443/".into(), firmware_url: None };
        let spec = DatacenterSpec { region: "eu".into(), boot, host_defaults: None };
        Place { rack: None, datacenter: Some(Arc::new(rackwright_api::Datacenter::new("osl1", spec))) }
    }

    fn installed(edit: impl FnOnce(&mut Host, &mut ClaimedInstaller)) -> Result<Install, Refusal> {
        let mut host = host(Deploy, jiff::Timestamp::UNIX_EPOCH);
        let mut installer = installer();
        edit(&mut host, &mut installer);
        let claim = host.spec.claim.clone().expect("claimed");
        let subject = subject();
        let caller = Caller { subject: &subject, authorities: "CA", token: "token".into() };
        install(&host, &place(), &claim, &installer, "#cloud-config".into(), caller)
    }

    #[test]
    fn a_plan_to_install_holds_the_answers_and_no_secret_outside_of_them() {
        let install = installed(|_, _| {}).expect("a plan");
        assert_eq!((install.kernel.url.as_str(), install.kernel.digest.as_str()), ("http://images/disk.raw", DIGEST));
        assert_eq!(install.initrd.url, "http://images/initrd");
        assert!(install.command_line.contains(&format!("rackwright.disk={DISK}")), "{}", install.command_line);
        assert!(!install.command_line.contains("token"));
        assert!(install.command_line.ends_with(" inst.stage2=http://images/"), "{}", install.command_line);
        let [file] = install.files.as_slice() else { panic!("{:?}", install.files) };
        assert_eq!(file.path, "/ks.cfg");
        assert!(file.content.contains("'https://10.1.0.5:8443/v1/installed'"));
        let body = file.content.lines().find_map(|line| line.strip_prefix("printf '%s' '")?.split('\'').next());
        let told: Report = serde_json::from_str(body.expect("a body")).expect("a report");
        let event = Event::Deployed { device: DISK.into(), digest: DIGEST.into(), final_boot: FinalBoot::PowerCycle };
        assert_eq!(told, Report { subject: subject(), event });
    }

    #[test]
    fn a_host_without_dhcp_is_installed_with_its_static_address() {
        let network = StaticNetwork { address: "10.1.0.7/24".into(), ..StaticNetwork::default() };
        let install = installed(|host, _| {
            host.spec.ramdisk = Some(rackwright_api::host::Ramdisk { network: Some(network), ..Default::default() });
        });
        let install = install.expect("a plan");
        assert!(
            install.command_line.contains(" ip=10.1.0.7:::255.255.255.0:web-1:boot0:none "),
            "{}",
            install.command_line
        );
    }

    #[test]
    fn a_claim_that_cannot_be_installed_ends_the_operation_with_the_field() {
        let refusal = installed(|_, installer| installer.kernel_arguments = vec!["a b".into()]).expect_err("refused");
        let failure = refusal.failure.expect("ends the operation");
        assert_eq!(failure.reason, "InstallerInvalid");
        assert!(failure.message.contains("installer.kernelArguments"), "{}", failure.message);
        let refusal = installed(|_, installer| installer.kickstart = None).expect_err("refused");
        assert!(refusal.message.contains("names nothing to install"), "{}", refusal.message);
    }
}
