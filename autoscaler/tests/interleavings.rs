//! Any order of calls, failures, edits, lost answers and late news keeps what must hold.

mod support;

use proptest::prelude::*;
use rackwright_autoscaler::groups::*;
use rackwright_autoscaler::service::Provider;
use rackwright_autoscaler::wire::cloud_provider_server::CloudProvider;
use rackwright_autoscaler::wire::*;
use std::collections::HashSet;
use std::sync::Arc;
use support::{Fault, Memory, provider_id};
use tonic::Request;

#[derive(Clone, Debug)]
enum Act {
    Increase(usize, i32),
    Decrease(usize, i32),
    Delete(usize),
    Register(usize),
    /// The autoscaler sees the node and says so; nobody else knows yet.
    Name(usize),
    Fail(usize),
    Edit(usize, i32, bool),
    PoolController,
    Restart,
    Fault(Vec<Fault>),
}

fn act() -> impl Strategy<Value = Act> {
    let fault = prop_oneof![Just(Fault::None), Just(Fault::NotWritten), Just(Fault::Conflict), Just(Fault::AnswerLost)];
    prop_oneof![
        4 => (0usize..4, -1i32..4).prop_map(|(group, delta)| Act::Increase(group, delta)),
        2 => (0usize..4, -4i32..1).prop_map(|(group, delta)| Act::Decrease(group, delta)),
        3 => (0usize..12).prop_map(Act::Delete),
        3 => (0usize..12).prop_map(Act::Register),
        2 => (0usize..12).prop_map(Act::Name),
        1 => (0usize..12).prop_map(Act::Fail),
        1 => (0usize..2, 0i32..8, any::<bool>()).prop_map(|(pool, max, paused)| Act::Edit(pool, max, paused)),
        1 => Just(Act::PoolController),
        1 => Just(Act::Restart),
        1 => prop::collection::vec(fault, 1..4).prop_map(Act::Fault),
    ]
}

/// Two pools that share twelve hosts in two racks.
fn world() -> Inventory {
    let pool = |name: &str| PoolEntry {
        namespace: "n".into(),
        name: name.into(),
        bounds: Some((0, 6)),
        by_rack: true,
        ..PoolEntry::default()
    };
    let host = |n: usize| HostEntry {
        namespace: "n".into(),
        name: format!("h{n:02}"),
        rack: format!("r{}", n % 2),
        fits: [("a".to_owned(), None), ("b".to_owned(), None)].into(),
        ..HostEntry::default()
    };
    Inventory { pools: vec![pool("a"), pool("b")], hosts: (0..12).map(host).collect(), options: false }
}

const GROUPS: [&str; 4] = ["n/a/r0", "n/a/r1", "n/b/r0", "n/b/r1"];

fn registered(store: &Memory) -> Vec<String> {
    store.edit(|all| {
        let live = |host: &&HostEntry| {
            let released = |held: &Reservation| all.pools.iter().any(|pool| pool.releases(&host.name, &held.id));
            host.stage == Stage::Registered && host.reservation.as_ref().is_some_and(|held| !released(held))
        };
        all.hosts.iter().filter(live).map(|host| host.name.clone()).collect()
    })
}

/// `true` beside an act: the service looks at the world after it. Until it looks it acts on what it knew.
async fn run(acts: Vec<(Act, bool)>) {
    let store = Memory::new(world());
    let mut provider = Provider::new(Arc::new(store.clone()), Default::default());
    let mut named = HashSet::new();
    for (act, looks) in acts {
        let before = registered(&store);
        match act.clone() {
            Act::Increase(group, delta) => {
                let request = NodeGroupIncreaseSizeRequest { id: GROUPS[group].into(), delta };
                let _ = provider.node_group_increase_size(Request::new(request)).await;
            }
            Act::Decrease(group, delta) => {
                let request = NodeGroupDecreaseTargetSizeRequest { id: GROUPS[group].into(), delta };
                let _ = provider.node_group_decrease_target_size(Request::new(request)).await;
                assert_eq!(before, registered(&store), "DecreaseTargetSize never touches a registered node");
                let kept = store.edit(|all| {
                    let released = |pool: &PoolEntry| pool.release.iter().any(|life| named.contains(&life.id));
                    !all.pools.iter().any(released)
                });
                assert!(kept || delta >= 0, "nor one that the autoscaler has just spoken of");
            }
            Act::Delete(host) => {
                let found = store.edit(|all| {
                    let host = &all.hosts[host];
                    let held = host.reservation.clone()?;
                    Some((format!("n/{}/{}", held.pool, host.rack), provider_id(&host.name, &held.id)))
                });
                if let Some((id, provider_id)) = found {
                    named.retain(|life: &String| !provider_id.ends_with(life.as_str()));
                    let nodes = vec![ExternalGrpcNode { provider_id, ..ExternalGrpcNode::default() }];
                    let request = NodeGroupDeleteNodesRequest { id, nodes };
                    let _ = provider.node_group_delete_nodes(Request::new(request)).await;
                }
            }
            Act::Register(host) => set_stage(&store, host, Stage::Registered),
            Act::Name(host) => {
                let held = store.edit(|all| {
                    all.hosts[host].reservation.clone().map(|held| (all.hosts[host].name.clone(), held.id))
                });
                if let Some((host, id)) = held {
                    let node = ExternalGrpcNode { provider_id: provider_id(&host, &id), ..ExternalGrpcNode::default() };
                    let _ =
                        provider.node_group_for_node(Request::new(NodeGroupForNodeRequest { node: Some(node) })).await;
                    let released = store.edit(|all| all.pools.iter().any(|pool| pool.releases(&host, &id)));
                    if !released {
                        named.insert(id);
                    }
                }
            }
            Act::Fail(host) => {
                let failure = Failure { reason: "Stalled".into(), message: "no news".into(), out_of_resources: false };
                set_stage(&store, host, Stage::Failed(failure));
            }
            Act::Edit(pool, max, paused) => store.edit(|all| {
                let pool = &mut all.pools[pool];
                pool.bounds = Some((0, max.max(pool.replicas)));
                pool.paused = paused;
                pool.version = format!("{}", pool.version.parse::<u64>().unwrap_or(0) + 1);
            }),
            Act::PoolController => store.pool_controller(),
            // The next loop of the autoscaler names them again.
            Act::Restart => {
                named.clear();
                provider = Provider::new(Arc::new(store.clone()), Default::default());
            }
            Act::Fault(faults) => store.inner.lock().expect("no panic under the lock").faults = faults,
        }
        if looks {
            provider.look_again().await;
            holds(&store, &provider, &act).await;
        }
    }
    // With everything settled, the pools hold exactly what they promise.
    store.inner.lock().expect("no panic under the lock").faults.clear();
    store.pool_controller();
    store.edit(|all| {
        for pool in &all.pools {
            let held = all.hosts.iter().filter(|host| host.held_by(pool).is_some());
            let stuck = held.clone().filter(|host| host.stage != Stage::Creating).count();
            assert!(held.count() <= stuck.max(pool.replicas as usize), "{} holds hosts beyond its replicas", pool.name);
        }
    });
}

fn set_stage(store: &Memory, host: usize, stage: Stage) {
    store.edit(|all| {
        if all.hosts[host].reservation.is_some() && all.hosts[host].stage == Stage::Creating {
            all.hosts[host].stage = stage;
        }
    });
}

async fn holds(store: &Memory, provider: &Provider, act: &Act) {
    let all = provider.node_groups(Request::new(NodeGroupsRequest {})).await.expect("a read is answered").into_inner();
    for group in all.node_groups {
        let id = group.id.clone();
        let request = Request::new(NodeGroupTargetSizeRequest { id: id.clone() });
        let target =
            provider.node_group_target_size(request).await.expect("a read is answered").into_inner().target_size;
        assert!(group.min_size <= target && target <= group.max_size, "{act:?}: {group:?} {target}");
        let held = store.edit(|all| {
            let pool = all.pools.iter().find(|pool| id.starts_with(&format!("n/{}/", pool.name))).cloned();
            let pool = pool.expect("each group has a pool");
            let live = |host: &&HostEntry| {
                pool.group_of(host) == id
                    && host.held_by(&pool).is_some_and(|held| !pool.releases(&host.name, &held.id))
            };
            all.hosts.iter().filter(live).count() as i32
        });
        assert_eq!(target, held, "{act:?}: target = claimed + promised");
    }
    store.edit(|all| {
        for pool in &all.pools {
            let (min, max) = pool.bounds.expect("the pools have bounds");
            assert!(min <= pool.replicas && pool.replicas <= max, "{act:?}: {} has {}", pool.name, pool.replicas);
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]
    #[test]
    fn any_interleaving_keeps_the_promises(acts in prop::collection::vec((act(), any::<bool>()), 1..60)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        runtime.block_on(run(acts));
    }
}
