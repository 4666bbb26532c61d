//! Node pools in the simulation: their passes, what Cluster API's core does with their Machines, and people and
//! autoscalers who change their minds.

use crate::api_server::Fate;
use crate::world::{NAMESPACE, World, core_machine_path, host_path, machine_path, path};
use kube::runtime::reflector::ObjectRef;
use rackwright_api::conditions::is_true;
use rackwright_api::{NodePool, POOL_LABEL};
use rackwright_controllers::pool;
use rand::RngExt;
use rand::rngs::SmallRng;
use rand::seq::IndexedRandom;
use serde_json::{Value, json};
use std::time::Duration;

const NAMES: [&str; 2] = ["blue", "green"];
/// What Cluster API's core holds a Machine with.
const CORE: &str = "machine.cluster.x-k8s.io";

fn pool_path(name: &str) -> String {
    path("rackwright.dev/v1alpha1", "nodepools", name)
}

/// Whether an object was made for a pool.
pub fn is_of_pool(object: &Value) -> bool {
    object["metadata"]["labels"][POOL_LABEL].is_string()
}

fn name(object: &Value) -> String {
    object["metadata"]["name"].as_str().unwrap_or_default().into()
}

impl World {
    /// Two pools, empty at first.
    pub fn add_pools(&mut self) {
        self.with_pools = true;
        for name in NAMES {
            let pool = json!({
                "apiVersion": "rackwright.dev/v1alpha1", "kind": "NodePool",
                "metadata": { "name": name, "namespace": NAMESPACE, "uid": format!("uid-{name}") },
                "spec": {
                    "clusterName": "prod", "version": "v1.36.1", "replicas": 0, "image": { "name": "debian" },
                    "bootstrap": { "config": { "join": "Kubelet" } }, "spread": { "over": "Rack" },
                    "idle": { "warm": 1, "powerOffAfterSeconds": 120 },
                },
            });
            self.api.put(&pool_path(name), pool);
        }
        self.deliver_all();
    }

    /// The pool `name` shall have so many.
    pub fn resize(&mut self, name: &str, replicas: i32) {
        let mut pool = self.api.get(&pool_path(name)).expect("pools stay");
        pool["spec"]["replicas"] = json!(replicas);
        self.api.put(&pool_path(name), pool);
    }

    fn pools(&self) -> Vec<NodePool> {
        let typed = |pool| serde_json::from_value(pool).expect("a pool");
        self.api.list("nodepools").into_iter().map(typed).collect()
    }

    pub async fn pass_over_pool(&mut self, chance: &mut SmallRng) -> String {
        let name = NAMES.choose(chance).expect("not empty");
        let fate = self.fate(chance);
        self.pool_pass(name, fate).await
    }

    async fn pool_pass(&mut self, name: &str, fate: Fate) -> String {
        let key = ObjectRef::<NodePool>::new(name).within(NAMESPACE);
        let Some(found) = self.ctx.caches.pools.store.get(&key) else { return "no pool".into() };
        self.api.next_write(fate);
        let ended = tokio::time::timeout(Duration::from_secs(3600), pool::reconcile(found, self.ctx.clone())).await;
        let ended = ended.map(|result| result.map(|_| ()).map_err(|why| why.to_string()));
        self.after(&format!("pass over pool {name}"), fate, ended)
    }

    /// Cluster API's core looks at one Machine of a pool.
    pub fn core_acts(&mut self, chance: &mut SmallRng) -> String {
        let machines: Vec<_> = self.api.list("machines").into_iter().filter(is_of_pool).collect();
        let Some(machine) = machines.choose(chance) else { return "no machine of a pool".into() };
        self.core_looks_at(machine);
        format!("core looks at {}", name(machine))
    }

    /// It holds the Machine, tells the infrastructure whose it is, gives bootstrap data, sees the node, and deletes in
    /// its order: infrastructure first, then the Machine.
    fn core_looks_at(&mut self, machine: &Value) {
        let name = name(machine);
        let (core, ours) = (core_machine_path(&name), machine_path(&name));
        let infra = self.api.get(&ours);
        if !machine["metadata"]["deletionTimestamp"].is_null() {
            match infra {
                Some(_) => self.api.delete(&ours),
                None => {
                    let mut gone = machine.clone();
                    gone["metadata"]["finalizers"] = json!([]);
                    self.api.put(&core, gone);
                }
            }
            return;
        }
        let mut changed = machine.clone();
        changed["metadata"]["finalizers"] = json!([CORE]);
        changed["spec"]["bootstrap"]["dataSecretName"] = json!(name);
        let Some(mut infra) = infra else { return self.api.put(&core, changed) };
        infra["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"] = json!("prod");
        infra["metadata"]["ownerReferences"] = json!([{
            "apiVersion": "cluster.x-k8s.io/v1beta2", "kind": "Machine", "name": name, "uid": machine["metadata"]["uid"],
            "controller": true,
        }]);
        let conditions = serde_json::from_value(infra["status"]["conditions"].clone()).unwrap_or_default();
        let ready: Vec<_> = conditions;
        let up = is_true(&ready, "Ready");
        self.api.put(&ours, infra);
        let condition = |kind: &str| {
            let time = json!(self.ctx.clock.now());
            json!({ "type": kind, "status": "True", "reason": "R", "message": "", "lastTransitionTime": time })
        };
        if up && changed["status"]["nodeRef"].is_null() {
            changed["status"]["nodeRef"] = json!({ "name": name });
            let told = changed["status"]["conditions"].as_array().cloned().unwrap_or_default();
            changed["status"]["conditions"] = [told, vec![condition("Ready"), condition("Available")]].concat().into();
        }
        self.api.put(&core, changed);
    }

    /// Somebody wants more nodes or fewer, another version, or holds a host and never comes back to it.
    pub fn person_changes_pool(&mut self, chance: &mut SmallRng) -> String {
        let name = NAMES.choose(chance).expect("not empty");
        let mut pool = self.api.get(&pool_path(name)).expect("pools stay");
        let what = match chance.random_range(0..10) {
            0..=5 => {
                let most = if *name == NAMES[0] { 3 } else { 2 };
                pool["spec"]["replicas"] = json!(chance.random_range(0..most));
                format!("{name} shall have {}", pool["spec"]["replicas"])
            }
            6..=7 => {
                pool["spec"]["version"] = json!(format!("v1.36.{}", chance.random_range(1..4)));
                format!("{name} shall have version {}", pool["spec"]["version"])
            }
            _ => return self.somebody_holds_a_host(name, chance),
        };
        self.api.put(&pool_path(name), pool);
        what
    }

    /// As the autoscaler's service does before it raises `replicas`; then it dies, or thinks better of it.
    fn somebody_holds_a_host(&mut self, pool: &str, chance: &mut SmallRng) -> String {
        let hosts = self.hosts();
        let unused = |host: &&rackwright_api::Host| host.spec.reservation.is_some() && host.spec.claim.is_none();
        if let Some(host) = hosts.iter().filter(unused).collect::<Vec<_>>().choose(chance)
            && chance.random()
        {
            let name = host.metadata.name.clone().unwrap_or_default();
            let mut host = self.api.get(&host_path(&name)).expect("hosts stay");
            host["spec"].as_object_mut().expect("it has one").remove("reservation");
            self.api.put(&host_path(&name), host);
            return format!("the hold on {name} is taken back");
        }
        let free: Vec<_> =
            hosts.iter().filter(|host| rackwright_placement::unclaimable(host, None).is_none()).collect();
        let Some(name) = free.choose(chance).and_then(|host| host.metadata.name.clone()) else {
            return "no free host".into();
        };
        let mut host = self.api.get(&host_path(&name)).expect("hosts stay");
        host["spec"]["reservation"] = json!({
            "pool": { "namespace": NAMESPACE, "name": pool, "uid": format!("uid-{pool}") },
            "id": self.ctx.clock.fresh_id(), "at": self.ctx.clock.now(),
        });
        self.api.put(&host_path(&name), host);
        format!("somebody holds {name} for {pool}")
    }

    /// Every pool is looked at as often as it has something to do, and core does its part.
    pub async fn pools_turn(&mut self) {
        if !self.with_pools {
            return;
        }
        for name in NAMES {
            for _ in 0..6 {
                self.deliver_all();
                let what = self.pool_pass(name, Fate::Answered).await;
                self.note(&what);
            }
        }
        for machine in self.api.list("machines").into_iter().filter(is_of_pool) {
            self.core_looks_at(&machine);
        }
        self.deliver_all();
    }

    /// Pools that do not have what they want, or more.
    pub fn unsettled_pools(&self) -> String {
        let mut text = String::new();
        for pool in self.pools() {
            let name = pool.metadata.name.clone().unwrap_or_default();
            let of_pool = |object: &Value| object["metadata"]["labels"][POOL_LABEL] == json!(name);
            let machines: Vec<_> = self.api.list("machines").into_iter().filter(of_pool).collect();
            let held = self.hosts().iter().filter(|host| held_by(host) == Some(name.as_str())).count();
            let up = machines.iter().filter(|machine| {
                !machine["status"]["nodeRef"].is_null() && machine["metadata"]["deletionTimestamp"].is_null()
            });
            let (up, wanted) = (up.count(), usize::try_from(pool.spec.replicas).unwrap_or_default());
            let status = pool.status.clone().unwrap_or_default();
            if (machines.len(), held, up) != (wanted, wanted, wanted) || !pool.spec.release.is_empty() {
                text += &format!(
                    "pool {name}: {wanted} wanted, {held} held, {} machines, {up} up; {:?} {:?}\n",
                    machines.len(),
                    status.waiting_for,
                    pool.spec.release
                );
            } else if status.up_to_date_replicas != pool.spec.replicas || status.waiting_for.is_some() {
                text += &format!(
                    "pool {name}: {} of {wanted} are up to date, waiting for {:?}\n",
                    status.up_to_date_replicas, status.waiting_for
                );
            } else if status.replicas != pool.spec.replicas || status.available_replicas != pool.spec.replicas {
                text += &format!("pool {name} has not told yet what it has\n");
            }
        }
        text
    }
}

fn held_by(host: &rackwright_api::Host) -> Option<&str> {
    host.spec.reservation.as_ref().map(|held| held.pool.name.as_str())
}

/// A host that a pool holds is used by that life of the pool alone; and a life is one host's.
pub fn check(world: &World) -> Result<(), String> {
    for host in world.hosts() {
        let name = host.metadata.name.clone().unwrap_or_default();
        if let (Some(held), Some(claim)) = (&host.spec.reservation, &host.spec.claim)
            && held.provider_id(&name) != claim.provider_id
        {
            return Err(format!("{name} is held by {} and used by {}", held.provider_id(&name), claim.provider_id));
        }
    }
    Ok(())
}
