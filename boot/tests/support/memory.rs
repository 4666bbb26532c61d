//! A store in memory that refuses stale writes as the API server does, and whose cache may lag behind.

use super::host::{NAME, NAMESPACE};
use async_trait::async_trait;
use rackwright_api::hardware::{Disk, HostHardwareSpec};
use rackwright_api::host::{AgentStatus, ClaimedImage, Deployed, Host, Wiped};
use rackwright_api::topology::{BootService, DatacenterSpec};
use rackwright_api::{Datacenter, Rack};
use rackwright_boot::{KeptLog, Place, Store, StoreError};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

/// One host, as all replicas of the service share it.
#[derive(Clone)]
pub struct Memory(Arc<Mutex<State>>);

pub struct State {
    /// The host as it is; absent when it was deleted.
    pub host: Option<Host>,
    /// The host as the cache shows it, when the cache does not follow.
    pub lagging: Option<Option<Host>>,
    /// `NAMESPACE/NAME` and value.
    pub secrets: HashMap<String, String>,
    pub boot_url: Option<String>,
    pub hardware: Option<HostHardwareSpec>,
    pub logs: Vec<KeptLog>,
    /// What was written, in order.
    pub writes: Vec<&'static str>,
    /// Answers of the next writes, before anything is written.
    pub errors: Vec<StoreError>,
    pub ready: bool,
}

impl Memory {
    pub fn new(host: Host) -> Memory {
        let secrets = HashMap::from([("prod/web-1-user-data".into(), super::USER_DATA.into())]);
        Memory(Arc::new(Mutex::new(State {
            host: Some(host),
            lagging: None,
            secrets,
            boot_url: None,
            hardware: None,
            logs: vec![],
            writes: vec![],
            errors: vec![],
            ready: true,
        })))
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().expect("not poisoned")
    }

    /// The host as it is.
    pub fn host(&self) -> Host {
        self.state().host.clone().expect("not deleted")
    }

    /// The reason of the failure that the manager sees.
    pub fn failure(&self) -> Option<String> {
        Some(self.host().status?.agent?.failure?.reason)
    }

    fn write(&self, of: &Host, what: &'static str, edit: impl FnOnce(&mut Host)) -> Result<(), StoreError> {
        let mut state = self.state();
        if !state.errors.is_empty() {
            return Err(state.errors.remove(0));
        }
        let host = state.host.as_mut().ok_or(StoreError::Conflict)?;
        if host.metadata.resource_version != of.metadata.resource_version || host.metadata.uid != of.metadata.uid {
            return Err(StoreError::Conflict);
        }
        edit(host);
        let version: u64 = host.metadata.resource_version.as_deref().unwrap_or("0").parse().expect("a number");
        host.metadata.resource_version = Some((version + 1).to_string());
        state.writes.push(what);
        Ok(())
    }
}

#[async_trait]
impl Store for Memory {
    fn is_ready(&self) -> bool {
        self.state().ready
    }

    fn seen(&self, namespace: &str, name: &str) -> Option<Arc<Host>> {
        let state = self.state();
        let shown = state.lagging.clone().unwrap_or_else(|| state.host.clone());
        shown.filter(|_| (namespace, name) == (NAMESPACE, NAME)).map(Arc::new)
    }

    async fn read(&self, namespace: &str, name: &str) -> Result<Option<Arc<Host>>, StoreError> {
        tokio::task::yield_now().await;
        Ok(self.state().host.clone().filter(|_| (namespace, name) == (NAMESPACE, NAME)).map(Arc::new))
    }

    fn place(&self, _: &Host) -> Place {
        let datacenter = |url: &String| {
            let boot = BootService { url: url.clone(), firmware_url: None };
            Arc::new(Datacenter::new("osl1", DatacenterSpec { region: "eu".into(), boot, host_defaults: None }))
        };
        Place { rack: None::<Arc<Rack>>, datacenter: self.state().boot_url.as_ref().map(datacenter) }
    }

    fn by_mac(&self, mac: &str) -> Option<Arc<Host>> {
        self.seen(NAMESPACE, NAME).filter(|host| host.spec.boot_mac_address == mac)
    }

    fn claimed_image(&self, digest: &str) -> Option<ClaimedImage> {
        let image = self.state().host.as_ref()?.spec.claim.as_ref()?.image.clone();
        (image.digest == digest).then_some(image)
    }

    async fn user_data(&self, namespace: &str, secret: &str) -> Result<Option<String>, StoreError> {
        tokio::task::yield_now().await;
        Ok(self.state().secrets.get(&format!("{namespace}/{secret}")).cloned())
    }

    async fn write_agent(&self, host: &Host, agent: &AgentStatus) -> Result<(), StoreError> {
        tokio::task::yield_now().await;
        self.write(host, "agent", |host| host.status.get_or_insert_default().agent = Some(agent.clone()))
    }

    async fn write_results(
        &self,
        host: &Host,
        deployed: Option<&Deployed>,
        wiped: Option<&Wiped>,
    ) -> Result<(), StoreError> {
        self.write(host, "results", |host| {
            (host.spec.deployed, host.spec.wiped) = (deployed.cloned(), wiped.cloned());
        })
    }

    async fn disks(&self, _: &Host) -> Result<Vec<Disk>, StoreError> {
        Ok(self.state().hardware.as_ref().map(|hardware| hardware.facts.disks.clone()).unwrap_or_default())
    }

    async fn write_hardware(&self, host: &Host, hardware: &HostHardwareSpec) -> Result<(), StoreError> {
        self.write(host, "hardware", |_| {})?;
        self.state().hardware = Some(hardware.clone());
        Ok(())
    }

    async fn write_log(&self, _: &Host, log: &KeptLog) -> Result<(), StoreError> {
        self.state().logs.push(log.clone());
        Ok(())
    }
}
