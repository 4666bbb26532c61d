//! BMCs that cannot be used: wrong or missing credentials, another certificate than the pinned one, no answer.

use crate::{PATIENCE, WINDOW, on_racks};
use anyhow::{Context, Result, ensure};
use rackwright_api::host::Phase;
use rackwright_e2e::Bed;
use rackwright_e2e::hosts::phase;
use rackwright_e2e::trouble::Kind::Host;
use rackwright_e2e::trouble::Named;
use rackwright_simulator::faults::{Fault, Silence};
use serde_json::{Value, json};
use std::time::{Duration, Instant};

/// One Host that says something wrong of its BMC.
struct Wrong {
    case: &'static str,
    host: &'static str,
    /// Merged into the spec of a Host that is registered anew.
    spec: Value,
    reason: &'static str,
    /// Part of what the condition says.
    says: &'static str,
}

impl Wrong {
    /// `Reachable` and `Ready` name what is wrong.
    async fn is_told(&self, bed: &Bed) -> Result<()> {
        let host = Host.named(self.host);
        let message = bed.wait_until_says(&host, "Reachable", self.reason, PATIENCE).await.context(self.case)?;
        ensure!(message.contains(self.says), "{}: {message}", self.case);
        let ready = bed.wait_until_says(&host, "Ready", self.reason, PATIENCE).await.context(self.case)?;
        ensure!(ready.contains(self.says), "{}: Ready: {ready}", self.case);
        bed.narrator.step(format!("{}: {}: {message}", self.case, self.reason));
        Ok(())
    }
}

/// One host per case. `pin`: that of another BMC.
fn wrong(pin: &str) -> [Wrong; 4] {
    [
        Wrong {
            case: "wrong password",
            host: "rack-a-u01",
            spec: json!({ "bmc": { "credentialsRef": { "name": "wrong" } } }),
            reason: "BMCPasswordRefused",
            says: "refused the user name or password",
        },
        Wrong {
            case: "missing Secret",
            host: "rack-a-u02",
            spec: json!({ "bmc": { "credentialsRef": { "name": "missing" } } }),
            reason: "CredentialsMissing",
            says: "Secret missing (spec.bmc.credentialsRef) does not exist",
        },
        Wrong {
            case: "Secret without a password",
            host: "rack-a-u03",
            spec: json!({ "bmc": { "credentialsRef": { "name": "half" } } }),
            reason: "CredentialsMissing",
            says: "Secret half needs the keys username and password",
        },
        Wrong {
            case: "another certificate than the pinned one",
            host: "rack-a-u04",
            spec: json!({ "bmc": { "trust": { "pin": pin } } }),
            reason: "BMCCertificateRefused",
            says: "certificate is not trusted",
        },
    ]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs the bed: cargo xtask test"]
async fn a_bmc_that_cannot_be_used_is_named_and_used_once_it_is_mended() -> Result<()> {
    on_racks(1, 8, async |bed| {
        let wrong = wrong(&bed.fleet()?.certificate_sha256("rack-a-u08")?);
        let touched = ["rack-a-u01", "rack-a-u02", "rack-a-u03", "rack-a-u04", "rack-a-u05", "rack-a-u06"];
        let bystanders = bed.bystanders(&touched).await?;

        put_secret(bed, "wrong", json!({ "username": "admin", "password": "wrong" })).await?;
        put_secret(bed, "half", json!({ "username": "admin" })).await?;
        bed.fleet()?.fault("rack-a-u05", Fault::Unreachable { how: Silence::Silent })?;
        bed.fleet()?.fault("rack-a-u06", Fault::Unreachable { how: Silence::Resets })?;
        for wrong in &wrong {
            bed.register_anew(wrong.host, wrong.host, wrong.spec.clone()).await.context(wrong.case)?;
        }
        for wrong in &wrong {
            wrong.is_told(bed).await?;
            ensure!(phase(&bed.host(wrong.host).await?) == Some(Phase::Registering), "{}: too far", wrong.case);
        }
        for (case, host) in [("silent BMC", "rack-a-u05"), ("BMC that resets", "rack-a-u06")] {
            let wrong = Wrong { case, host, spec: json!({}), reason: "BMCUnreachable", says: "no answer" };
            wrong.is_told(bed).await?;
            bed.wait_until_says(&Host.named(host), "Available", "BMCUnreachable", PATIENCE).await.context(case)?;
        }
        let all: Vec<Named> = touched.iter().map(|host| Host.named(*host)).collect();
        bed.wait_until_quiet(PATIENCE).await?;
        bed.stands_still(&all, WINDOW).await?;

        mend(bed).await?;
        for host in &all {
            bed.wait_until_true(host, "Available", PATIENCE).await?;
            bed.wait_until_true(host, "Ready", PATIENCE).await?;
        }
        bed.narrator.step("everything mended: 8 hosts Available");
        bed.are_unharmed(&bystanders).await
    })
    .await
}

/// What a person does about each; the password must be used within a minute, without a restart.
async fn mend(bed: &mut Bed) -> Result<()> {
    let right = json!({ "username": "admin", "password": "simulated" });
    let (manager, mended) = (bed.services()?.infrastructure.id(), Instant::now());
    put_secret(bed, "wrong", right.clone()).await?;
    bed.wait_until_true(&Host.named("rack-a-u01"), "Reachable", Duration::from_secs(60)).await?;
    ensure!(bed.services()?.infrastructure.id() == manager, "the manager was restarted");
    bed.narrator.step(format!("right password: used after {} s", mended.elapsed().as_secs()));
    put_secret(bed, "missing", right.clone()).await?;
    put_secret(bed, "half", right).await?;
    let own_pin = bed.fleet()?.certificate_sha256("rack-a-u04")?;
    bed.change(&Host.named("rack-a-u04"), json!({ "spec": { "bmc": { "trust": { "pin": own_pin } } } })).await?;
    for host in ["rack-a-u05", "rack-a-u06"] {
        bed.fleet()?.heal(host, Fault::Unreachable { how: Silence::default() })?;
    }
    Ok(())
}

async fn put_secret(bed: &Bed, name: &str, data: Value) -> Result<()> {
    bed.apply(json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name }, "stringData": data })).await
}
