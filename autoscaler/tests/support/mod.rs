//! A store in memory: versions are checked as the API would, and any write can be made to fail.

use async_trait::async_trait;
use rackwright_autoscaler::groups::{Inventory, Reservation};
use rackwright_autoscaler::plan::Write;
use rackwright_autoscaler::service::{Store, StoreError};
use std::sync::{Arc, Mutex};

#[derive(Clone, Default)]
pub struct Memory {
    pub inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
pub struct Inner {
    pub inventory: Inventory,
    pub clock: i64,
    /// What the next writes do; those after succeed.
    pub faults: Vec<Fault>,
}

#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(dead_code)]
pub enum Fault {
    None,
    NotWritten,
    Conflict,
    AnswerLost,
}

impl Memory {
    pub fn new(inventory: Inventory) -> Memory {
        Memory { inner: Arc::new(Mutex::new(Inner { inventory, ..Inner::default() })) }
    }

    pub fn edit<T>(&self, change: impl FnOnce(&mut Inventory) -> T) -> T {
        change(&mut self.inner.lock().expect("no test panics while it holds the lock").inventory)
    }

    /// What the pool's controller does: hosts in `release` are freed, and so is what is held beyond `replicas`.
    #[allow(dead_code)]
    pub fn pool_controller(&self) {
        self.edit(|inventory| {
            let Inventory { pools, hosts, .. } = inventory;
            for pool in pools {
                for host in hosts.iter_mut() {
                    if host.held_by(pool).is_some_and(|held| pool.releases(&host.name, &held.id)) {
                        host.reservation = None;
                        host.stage = Default::default();
                    }
                }
                pool.release.clear();
                let held = hosts.iter().filter(|host| host.held_by(pool).is_some()).count();
                let mut beyond = held.saturating_sub(pool.replicas.max(0) as usize);
                for host in hosts.iter_mut().rev() {
                    if beyond > 0 && host.held_by(pool).is_some() && host.stage == Default::default() {
                        host.reservation = None;
                        beyond -= 1;
                    }
                }
            }
        });
    }
}

/// The provider ID of a life in namespace `n`.
#[allow(dead_code)]
pub fn provider_id(host: &str, id: &str) -> String {
    format!("rackwright://n/{host}/{id}")
}

fn next(version: &str) -> String {
    (version.parse::<u64>().unwrap_or(0) + 1).to_string()
}

#[async_trait]
impl Store for Memory {
    fn inventory(&self) -> Inventory {
        self.edit(|inventory| inventory.clone())
    }

    async fn write(&self, write: &Write) -> Result<(), StoreError> {
        let mut inner = self.inner.lock().expect("no test panics while it holds the lock");
        inner.clock += 1;
        let at = inner.clock;
        let fault = inner.faults.pop().unwrap_or(Fault::None);
        match fault {
            Fault::NotWritten => return Err(StoreError::NotWritten("the API is away".into())),
            Fault::Conflict => return Err(StoreError::Conflict("the object".into())),
            Fault::None | Fault::AnswerLost => {}
        }
        let inventory = &mut inner.inventory;
        let gone = || StoreError::NotWritten("no such object".into());
        match write {
            Write::Reserve { namespace, host, pool, id } => {
                let found =
                    inventory.hosts.iter_mut().find(|found| found.namespace == *namespace && found.name == *host);
                let found = found.ok_or_else(gone)?;
                if found.reservation.is_some() {
                    return Err(StoreError::Conflict(host.clone()));
                }
                found.reservation = Some(Reservation { pool: pool.clone(), id: id.clone(), at });
            }
            Write::Free { namespace, life } => {
                let found =
                    inventory.hosts.iter_mut().find(|found| found.namespace == *namespace && found.name == life.host);
                let found = found.ok_or_else(gone)?;
                if found.reservation.as_ref().is_some_and(|held| held.id == life.id) {
                    found.reservation = None;
                }
            }
            Write::Pool { namespace, pool, version, replicas, release } => {
                let found =
                    inventory.pools.iter_mut().find(|found| found.namespace == *namespace && found.name == *pool);
                let found = found.ok_or_else(gone)?;
                if found.version != *version {
                    return Err(StoreError::Conflict(pool.clone()));
                }
                found.version = next(&found.version);
                found.replicas = *replicas;
                found.release.extend(release.iter().cloned());
            }
        }
        if fault == Fault::AnswerLost { Err(StoreError::Unknown("the answer was lost".into())) } else { Ok(()) }
    }
}
