//! One client per BMC, kept as long as it is asked for.
//!
//! Systems behind one BMC with one account share its client, so they share its session and its one request at a time. Whoever asks
//! with another password gets a new client; the session of an old one is given back when its last user lets go.

use super::RedfishConfig;
use super::client::Client;
use super::machine::Machine;
use super::session::check_account;
use super::tls::http_client;
use crate::access::{Access, Trust};
use crate::error::{Error, Result};
use crate::{Bmc, Connect};
use async_trait::async_trait;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use tokio::task::JoinSet;
use tokio::time::Instant;
use url::Url;

/// BMCs that are logged out of at the same time.
const CLOSED_AT_ONCE: usize = 64;

/// Reaches BMCs by Redfish.
pub struct RedfishConnector {
    config: Arc<RedfishConfig>,
    cache: Mutex<Cache>,
}

#[derive(Default)]
struct Cache {
    /// By scheme, host and port.
    bmcs: HashMap<String, Vec<Entry>>,
    /// HTTP clients that fit many BMCs: one per authority, since the system's store alone takes hundreds of kilobytes.
    https: Vec<(Trust, Weak<reqwest::Client>)>,
    swept: Option<Instant>,
}

struct Entry {
    access: Access,
    machine: Arc<Machine>,
    used: Instant,
}

impl RedfishConnector {
    /// Makes no connection.
    pub fn new(config: RedfishConfig) -> Self {
        Self { config: Arc::new(config), cache: Mutex::default() }
    }

    /// Gives all sessions back, best effort, and forgets all clients: for the end of a process. A BMC that does not answer takes as long as
    /// its timeouts, so whoever is in a hurry puts a limit around this.
    pub async fn close(&self) {
        let entries: Vec<Entry> = std::mem::take(&mut *self.cache()).bmcs.into_values().flatten().collect();
        for some in entries.chunks(CLOSED_AT_ONCE) {
            let mut closing = JoinSet::new();
            for machine in some.iter().map(|entry| entry.machine.clone()) {
                closing.spawn(async move {
                    if let Ok(mut call) = machine.call().await {
                        call.line.log_out().await;
                    }
                });
            }
            closing.join_all().await;
        }
    }

    /// The machine behind `access`, from the cache if it can be.
    pub(crate) fn machine(&self, access: &Access) -> Result<Arc<Machine>> {
        check(access, &self.config)?;
        let key = access.address.origin().ascii_serialization();
        let now = Instant::now();
        let mut cache = self.cache();
        cache.sweep(now, &self.config);
        let entries = cache.bmcs.entry(key.clone()).or_default();
        if let Some(entry) = entries.iter_mut().find(|entry| entry.access.is_same(access)) {
            entry.used = now;
            return Ok(entry.machine.clone());
        }
        entries.retain(|entry| entry.access.address != access.address);
        let sibling = entries.iter().find(|entry| shares_client(&entry.access, access));
        let client = match sibling {
            Some(sibling) => sibling.machine.client.clone(),
            None => Arc::new(Client::new(access, cache.http(&access.trust, &self.config)?, self.config.clone())),
        };
        let machine = Arc::new(Machine::new(client, &access.address));
        let entry = Entry { access: access.clone(), machine: machine.clone(), used: now };
        cache.bmcs.entry(key).or_default().push(entry);
        Ok(machine)
    }

    fn cache(&self) -> MutexGuard<'_, Cache> {
        // A cache is good whatever happened to those who use it.
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl Connect for RedfishConnector {
    async fn bmc(&self, access: &Access) -> Result<Arc<dyn Bmc>> {
        Ok(self.machine(access)?)
    }
}

impl Cache {
    /// Lets go of what nobody asked for lately, now and then: hosts that are gone must not stay here.
    fn sweep(&mut self, now: Instant, config: &RedfishConfig) {
        let swept = *self.swept.get_or_insert(now);
        if now.duration_since(swept) < config.idle / 4 {
            return;
        }
        self.swept = Some(now);
        self.bmcs.retain(|_, entries| {
            entries.retain(|entry| now.duration_since(entry.used) < config.idle);
            !entries.is_empty()
        });
    }

    fn http(&mut self, trust: &Trust, config: &RedfishConfig) -> Result<Arc<reqwest::Client>> {
        if matches!(trust, Trust::Pin(_)) {
            return Ok(Arc::new(http_client(trust, config)?));
        }
        self.https.retain(|(_, http)| http.strong_count() > 0);
        let known = self.https.iter().find(|(known, _)| known == trust).and_then(|(_, http)| http.upgrade());
        if let Some(http) = known {
            return Ok(http);
        }
        let http = Arc::new(http_client(trust, config)?);
        self.https.push((trust.clone(), Arc::downgrade(&http)));
        Ok(http)
    }
}

/// True when two systems of one BMC are reached with the same rights.
fn shares_client(one: &Access, other: &Access) -> bool {
    let same_address = Access { address: other.address.clone(), ..one.clone() };
    same_address.is_same(other)
}

/// Refuses what could never work before anything is sent.
fn check(access: &Access, config: &RedfishConfig) -> Result<()> {
    check_account(&access.username)?;
    match access.address.scheme() {
        "https" => {}
        "http" if config.allow_plain_http && access.trust == Trust::System => {}
        "http" => return Err(Error::Untrusted { why: "without TLS there is no certificate: use https://".into() }),
        other => return Err(Error::Unsupported { what: format!("be spoken to by {other}://") }),
    }
    has_host(&access.address)
}

fn has_host(address: &Url) -> Result<()> {
    match address.host_str() {
        Some(host) if !host.is_empty() => Ok(()),
        _ => Err(Error::Unsupported { what: "be found without a host in its address".into() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn access(address: &str, password: &str) -> Access {
        let address = address.parse().expect("a URL");
        Access {
            address,
            username: "root".into(),
            password: password.to_owned().into(),
            trust: Trust::Pin("0".repeat(64)),
        }
    }

    fn cached(connector: &RedfishConnector) -> usize {
        connector.cache().bmcs.values().map(Vec::len).sum()
    }

    #[tokio::test]
    async fn the_same_access_gives_the_same_client() {
        let connector = RedfishConnector::new(RedfishConfig::default());
        let one = connector.machine(&access("https://10.1.1.7", "a")).expect("a machine");
        let two = connector.machine(&access("https://10.1.1.7", "a")).expect("a machine");
        assert!(Arc::ptr_eq(&one, &two));
    }

    #[tokio::test]
    async fn a_changed_password_replaces_the_client() {
        let connector = RedfishConnector::new(RedfishConfig::default());
        let old = connector.machine(&access("https://10.1.1.7", "a")).expect("a machine");
        let new = connector.machine(&access("https://10.1.1.7", "b")).expect("a machine");
        assert!(!Arc::ptr_eq(&old.client, &new.client));
        assert_eq!(cached(&connector), 1);
    }

    #[tokio::test]
    async fn systems_of_one_bmc_share_its_session() {
        let connector = RedfishConnector::new(RedfishConfig::default());
        let one = connector.machine(&access("https://10.1.1.7/redfish/v1/Systems/1", "a")).expect("a machine");
        let two = connector.machine(&access("https://10.1.1.7/redfish/v1/Systems/2", "a")).expect("a machine");
        assert!(Arc::ptr_eq(&one.client, &two.client) && !Arc::ptr_eq(&one, &two));
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_asks_for_is_forgotten() {
        let connector =
            RedfishConnector::new(RedfishConfig { idle: Duration::from_secs(60), ..RedfishConfig::default() });
        for host in 1..=9 {
            connector.machine(&access(&format!("https://10.1.1.{host}"), "a")).expect("a machine");
        }
        tokio::time::advance(Duration::from_secs(61)).await;
        connector.machine(&access("https://10.1.2.1", "a")).expect("a machine");
        assert_eq!(cached(&connector), 1);
    }

    #[tokio::test]
    async fn a_password_is_not_sent_without_tls() {
        let connector = RedfishConnector::new(RedfishConfig::default());
        let plain = Access { trust: Trust::System, ..access("http://10.1.1.7", "a") };
        assert!(matches!(connector.machine(&plain).err(), Some(Error::Untrusted { .. })));
    }

    #[tokio::test]
    async fn another_protocol_is_unsupported() {
        let connector = RedfishConnector::new(RedfishConfig::default());
        assert!(matches!(connector.machine(&access("ipmi://10.1.1.7", "a")).err(), Some(Error::Unsupported { .. })));
    }
}
