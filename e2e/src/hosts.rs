//! Hosts as a story speaks of them.

use crate::bed::Bed;
use crate::racks::NAMESPACE;
use crate::wait::Look;
use anyhow::Result;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use rackwright_api::Host;
use rackwright_api::host::Phase;
use std::time::Duration;

impl Bed {
    /// All hosts, by name.
    pub async fn hosts(&self) -> Result<Vec<Host>> {
        let mut hosts = Api::<Host>::namespaced(self.client(), NAMESPACE).list(&ListParams::default()).await?.items;
        hosts.sort_by_key(Host::name_any);
        Ok(hosts)
    }

    /// One host.
    pub async fn host(&self, name: &str) -> Result<Host> {
        Ok(Api::<Host>::namespaced(self.client(), NAMESPACE).get(name).await?)
    }

    /// Waits until `count` hosts are Available.
    pub async fn wait_until_available(&self, count: usize, within: Duration) -> Result<()> {
        self.wait(&format!("{count} hosts Available"), within, async || {
            let hosts = self.hosts().await?;
            let available = hosts.iter().filter(|host| phase(host) == Some(Phase::Available)).count();
            Ok(Look::when(available == count, format!("{available} of {}: {}", hosts.len(), phases(&hosts))))
        })
        .await
    }

    /// Waits until one host is in `wanted`; gives it.
    pub async fn wait_until_host_is(&self, name: &str, wanted: Phase, within: Duration) -> Result<Host> {
        self.wait(&format!("host {name} {wanted:?}"), within, async || {
            let host = self.host(name).await?;
            Ok(match phase(&host) == Some(wanted) {
                true => Look::Seen(host),
                false => Look::NotYet(phases(&[host])),
            })
        })
        .await
    }
}

/// Where a host is in its life.
pub fn phase(host: &Host) -> Option<Phase> {
    host.status.as_ref().and_then(|status| status.phase)
}

fn phases(hosts: &[Host]) -> String {
    let one = |host: &Host| {
        let waiting = host.status.as_ref().and_then(|status| status.waiting_for.as_deref()).unwrap_or_default();
        format!("{} {:?} {waiting}", host.name_any(), phase(host))
    };
    hosts.iter().map(one).collect::<Vec<_>>().join("; ")
}
