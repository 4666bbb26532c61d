//! A management cluster with one worker's config, the workload cluster it is to join, and time that a test moves.

use crate::api_server::ApiServer;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::{SignedDuration, Timestamp};
use kube::runtime::controller::Action;
use kube::runtime::watcher::Event;
use kube::{Client, Config};
use rackwright_api::RackwrightConfig;
use rackwright_api::conditions::find;
use rackwright_api::contract::{Cluster, Machine};
use rackwright_bmc::redfish::{RedfishConfig, RedfishConnector};
use rackwright_controllers::bootstrap_config::reconcile;
use rackwright_controllers::caches::{Caches, Feeds};
use rackwright_controllers::{Clock, Context, Limits};
use rackwright_protocol::token::BootKey;
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use std::time::Duration;

pub const CONFIG: &str = "/apis/bootstrap.cluster.x-k8s.io/v1alpha1/namespaces/metal/rackwrightconfigs/web-1";
pub const DATA: &str = "/api/v1/namespaces/metal/secrets/web-1";
pub const KUBECONFIG: &str = "/api/v1/namespaces/metal/secrets/prod-kubeconfig";
pub const TOKENS: &str = "/api/v1/namespaces/kube-system/secrets/";
pub const GRANTS: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/";

pub struct HandClock(Mutex<Timestamp>);

impl Clock for HandClock {
    fn now(&self) -> Timestamp {
        *self.0.lock().expect("not poisoned")
    }

    fn fresh_id(&self) -> String {
        "id".into()
    }
}

pub struct World {
    pub management: ApiServer,
    pub workload: ApiServer,
    clock: Arc<HandClock>,
    ctx: Arc<Context>,
    feeds: Feeds,
}

impl World {
    /// Everything is there for the config's data to be made.
    pub async fn new() -> World {
        let (management, workload) = (ApiServer::start().await, ApiServer::start().await);
        let clock = Arc::new(HandClock(Mutex::new(Timestamp::from_second(1_800_000_000).expect("a valid time"))));
        let (ctx, feeds) = process(&management, &clock);
        let mut world = World { management, workload, clock, ctx, feeds };
        world.management.put(CONFIG, config());
        world.give_kubeconfig(&world.workload.url());
        let ca = include_str!("../../../bootstrap/tests/data/ca.crt");
        world.management.put("/api/v1/namespaces/metal/secrets/prod-ca", secret("prod-ca", &[("tls.crt", ca)]));
        world.see();
        world.change_machine(|_| {});
        world
    }

    /// The process dies; another one takes over.
    pub fn restart(&mut self) {
        let machines = self.ctx.caches.machines.store.state();
        (self.ctx, self.feeds) = process(&self.management, &self.clock);
        self.see();
        self.feeds.machines.take(&Event::Init);
        machines.iter().for_each(|machine| self.feeds.machines.take(&Event::InitApply(machine.as_ref().clone())));
        self.feeds.machines.take(&Event::InitDone);
    }

    fn see(&mut self) {
        let cluster: Cluster = serde_json::from_value(cluster()).expect("a Cluster");
        self.feeds.clusters.take(&Event::Init);
        self.feeds.clusters.take(&Event::InitApply(cluster));
        self.feeds.clusters.take(&Event::InitDone);
    }

    pub fn give_kubeconfig(&self, server: &str) {
        self.give_kubeconfig_text(&format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\n\
             clusters: [{{name: prod, cluster: {{server: \"{server}\"}}}}]\n\
             contexts: [{{name: a, context: {{cluster: prod, user: admin}}}}]\n\
             users: [{{name: admin, user: {{token: x}}}}]\n"
        ));
    }

    pub fn give_kubeconfig_text(&self, text: &str) {
        self.management.put(KUBECONFIG, secret("prod-kubeconfig", &[("value", text)]));
    }

    /// Changes the Machine as Cluster API would.
    pub fn change_machine(&mut self, change: impl FnOnce(&mut Value)) {
        let mut machine = machine();
        change(&mut machine);
        let machine: Machine = serde_json::from_value(machine).expect("a Machine");
        self.feeds.machines.take(&Event::Init);
        self.feeds.machines.take(&Event::InitApply(machine));
        self.feeds.machines.take(&Event::InitDone);
    }

    pub fn wait(&self, time: SignedDuration) {
        *self.clock.0.lock().expect("not poisoned") += time;
    }

    pub fn in_future(&self, time: SignedDuration) -> String {
        (self.clock.now() + time).to_string()
    }

    pub fn config(&self) -> RackwrightConfig {
        serde_json::from_value(self.management.get(CONFIG).expect("there")).expect("a RackwrightConfig")
    }

    pub fn change_config(&self, change: impl FnOnce(&mut Value)) {
        let mut config = self.management.get(CONFIG).expect("there");
        change(&mut config);
        self.management.put(CONFIG, config);
    }

    /// One pass.
    pub async fn pass(&self) -> Action {
        reconcile(Arc::new(self.config()), self.ctx.clone()).await.expect("the management cluster answers")
    }

    /// Passes until nothing is left to do at once.
    pub async fn settle(&self) -> Action {
        for passes in 1.. {
            let next = self.pass().await;
            if next != Action::requeue(Duration::from_millis(20)) {
                return next;
            }
            assert!(passes < 10, "it does not come to rest");
        }
        unreachable!("the loop returns")
    }

    /// Status, reason and message of the condition `Ready`.
    pub fn ready(&self) -> (String, String, String) {
        let status = self.config().status.expect("a status");
        let ready = find(&status.conditions, "Ready").expect("said");
        (ready.status.clone(), ready.reason.clone(), ready.message.clone())
    }

    /// One value of a Secret.
    pub fn value(&self, server: &ApiServer, path: &str, key: &str) -> String {
        let secret = server.get(path).expect("the Secret is there");
        let value = STANDARD.decode(secret["data"][key].as_str().expect("the key is there")).expect("base64");
        String::from_utf8(value).expect("text")
    }
}

fn process(management: &ApiServer, clock: &Arc<HandClock>) -> (Arc<Context>, Feeds) {
    let client = Client::try_from(Config::new(management.url().parse().expect("a URL"))).expect("a client");
    let (caches, feeds) = Caches::new();
    let bmcs = Arc::new(RedfishConnector::new(RedfishConfig::default()));
    let boot_key = BootKey::new(vec![1; 32]).expect("long enough");
    let ctx = Context::new(client, caches, clock.clone(), Limits::default(), bmcs, boot_key);
    (Arc::new(ctx), feeds)
}

fn secret(name: &str, values: &[(&str, &str)]) -> Value {
    let data: Value = values.iter().map(|(key, value)| (key.to_string(), json!(STANDARD.encode(value)))).collect();
    json!({ "apiVersion": "v1", "kind": "Secret", "metadata": { "name": name, "namespace": "metal" }, "data": data })
}

fn config() -> Value {
    let owner =
        json!({ "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "name": "web-1", "uid": "uid-machine" });
    json!({
        "apiVersion": "bootstrap.cluster.x-k8s.io/v1alpha1",
        "kind": "RackwrightConfig",
        "metadata": {
            "name": "web-1", "namespace": "metal", "uid": "uid-config", "generation": 1,
            "creationTimestamp": "2027-01-15T08:00:00Z", "ownerReferences": [owner],
            "labels": { "cluster.x-k8s.io/cluster-name": "prod" },
        },
        "spec": { "nodeLabels": { "team": "search" } },
    })
}

fn machine() -> Value {
    json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Machine",
        "metadata": { "name": "web-1", "namespace": "metal", "uid": "uid-machine" },
        "spec": { "clusterName": "prod", "version": "v1.36.3" },
    })
}

fn cluster() -> Value {
    json!({
        "apiVersion": "cluster.x-k8s.io/v1beta2",
        "kind": "Cluster",
        "metadata": { "name": "prod", "namespace": "metal", "uid": "uid-cluster" },
        "spec": { "controlPlaneEndpoint": { "host": "10.1.0.10", "port": 6443 } },
        "status": { "initialization": { "infrastructureProvisioned": true, "controlPlaneInitialized": true } },
    })
}
