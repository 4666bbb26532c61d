//! What calls that change something do when the world is against them.

mod support;

use async_trait::async_trait;
use rackwright_autoscaler::groups::*;
use rackwright_autoscaler::plan::Write;
use rackwright_autoscaler::service::{Provider, Store, StoreError};
use rackwright_autoscaler::wire::cloud_provider_server::CloudProvider;
use rackwright_autoscaler::wire::*;
use std::sync::Arc;
use std::time::Duration;
use support::{Fault, Memory};
use tonic::{Code, Request, Status};

fn world() -> Memory {
    let pool = PoolEntry {
        namespace: "n".into(),
        name: "p".into(),
        replicas: 1,
        bounds: Some((1, 4)),
        ..PoolEntry::default()
    };
    let host = |n: usize| HostEntry {
        namespace: "n".into(),
        name: format!("h{n}"),
        fits: [("p".to_owned(), (n == 3).then(|| "in maintenance".to_owned()))].into(),
        reservation: (n == 0).then(|| Reservation { pool: "p".into(), id: "first".into(), at: 0 }),
        stage: if n == 0 { Stage::Registered } else { Stage::Creating },
        ..HostEntry::default()
    };
    Memory::new(Inventory { pools: vec![pool], hosts: (0..4).map(host).collect(), options: false })
}

fn provider(store: &Memory) -> Provider {
    Provider::new(Arc::new(store.clone()), Default::default())
}

async fn increase(provider: &Provider, delta: i32) -> Result<(), Status> {
    let request = NodeGroupIncreaseSizeRequest { id: "n/p".into(), delta };
    provider.node_group_increase_size(Request::new(request)).await.map(|_| ())
}

async fn delete(provider: &Provider, provider_id: &str) -> Result<(), Status> {
    let nodes = vec![ExternalGrpcNode { name: provider_id.into(), ..ExternalGrpcNode::default() }];
    let request = NodeGroupDeleteNodesRequest { id: "n/p".into(), nodes };
    provider.node_group_delete_nodes(Request::new(request)).await.map(|_| ())
}

fn state(store: &Memory) -> (i32, usize) {
    store.edit(|all| (all.pools[0].replicas, all.hosts.iter().filter(|host| host.reservation.is_some()).count()))
}

fn faults(store: &Memory, last_first: &[Fault]) {
    store.inner.lock().expect("no panic under the lock").faults = last_first.to_vec();
}

#[tokio::test]
async fn too_few_hosts_are_refused_with_the_reasons_and_nothing_changes() {
    let store = world();
    let refused = increase(&provider(&store), 3).await.expect_err("two are free");
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.message(), "n/p lacks 1 of 3 hosts: 4 hosts: 2 free, 1 held by a pool, 1 in maintenance");
    assert_eq!(state(&store), (1, 1));
}

#[tokio::test]
async fn another_host_stands_in_for_one_that_was_taken() {
    let store = world();
    faults(&store, &[Fault::Conflict]);
    increase(&provider(&store), 1).await.expect("h2 stands in for h1");
    assert_eq!(state(&store), (2, 2));
    assert!(store.edit(|all| all.hosts[2].reservation.is_some()));
}

#[tokio::test]
async fn hosts_are_let_go_when_the_pool_cannot_be_written() {
    let store = world();
    faults(&store, &[Fault::None, Fault::None, Fault::NotWritten, Fault::None, Fault::None]);
    let refused = increase(&provider(&store), 2).await.expect_err("the pool's write fails");
    assert_eq!(refused.code(), Code::Unavailable);
    assert_eq!(state(&store), (1, 1));
}

#[tokio::test]
async fn hosts_stay_held_when_the_answer_to_the_commit_is_lost() {
    let store = world();
    faults(&store, &[Fault::AnswerLost, Fault::None]);
    increase(&provider(&store), 1).await.expect_err("the answer is lost");
    assert_eq!(state(&store), (2, 2));
}

/// A store whose writes take a while.
struct Slow(Memory);

#[async_trait]
impl Store for Slow {
    fn inventory(&self) -> Inventory {
        self.0.inventory()
    }
    async fn write(&self, write: &Write) -> Result<(), StoreError> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        self.0.write(write).await
    }
}

#[tokio::test]
async fn an_increase_is_undone_when_its_caller_has_gone() {
    let store = world();
    let provider = Provider::new(Arc::new(Slow(store.clone())), Default::default());
    let call = increase(&provider, 1);
    assert!(tokio::time::timeout(Duration::from_millis(20), call).await.is_err(), "the caller gives up first");
    tokio::time::sleep(Duration::from_millis(400)).await;
    assert_eq!(state(&store), (1, 1));
}

#[tokio::test]
async fn a_placeholder_is_resolved_by_its_name_and_the_minimum_is_kept() {
    let store = world();
    let provider = provider(&store);
    let refused = delete(&provider, "rackwright://n/h0/first").await.expect_err("the pool keeps one");
    assert_eq!(refused.code(), Code::FailedPrecondition);
    increase(&provider, 1).await.expect("two are free");
    delete(&provider, "rackwright://n/h0/first").await.expect("there are two");
    delete(&provider, "rackwright://n/h0/first").await.expect("it is going already");
    delete(&provider, "rackwright://n/h0/earlier").await.expect("that life is over");
    assert_eq!(delete(&provider, "aws:///x").await.expect_err("it is not ours").code(), Code::NotFound);
    assert_eq!(state(&store).0, 1);
}

#[tokio::test]
async fn a_host_that_failed_is_given_up_at_the_minimum_too_and_the_pool_takes_another() {
    let store = world();
    store.edit(|all| {
        let failure = Failure { reason: "RamdiskSilent".into(), message: "no news".into(), out_of_resources: false };
        all.hosts[0].stage = Stage::Failed(failure);
    });
    delete(&provider(&store), "rackwright://n/h0/first").await.expect("it never became a node");
    let (replicas, release) = store.edit(|all| (all.pools[0].replicas, all.pools[0].release.clone()));
    assert_eq!((replicas, release), (1, vec![HostLife { host: "h0".into(), id: "first".into() }]));
}

#[tokio::test]
async fn a_paused_pool_neither_grows_nor_shrinks() {
    let store = world();
    store.edit(|all| all.pools[0].paused = true);
    let provider = provider(&store);
    assert_eq!(increase(&provider, 1).await.expect_err("it is paused").code(), Code::FailedPrecondition);
    let group =
        provider.node_groups(Request::new(NodeGroupsRequest {})).await.expect("a read is answered").into_inner();
    assert_eq!((group.node_groups[0].min_size, group.node_groups[0].max_size), (1, 1));
}

#[tokio::test]
async fn options_are_given_back_in_both_generations_when_switched_on() {
    let store = world();
    store.edit(|all| all.options = true);
    let provider = provider(&store);
    let minute = prost_types::Duration { seconds: 60, nanos: 0 };
    let defaults = NodeGroupAutoscalingOptions { max_node_provision: Some(minute), ..Default::default() };
    let request = NodeGroupAutoscalingOptionsRequest { id: "n/p".into(), defaults: Some(defaults) };
    let answer = provider.node_group_get_options(Request::new(request)).await.expect("it is switched on").into_inner();
    let options = answer.node_group_autoscaling_options.expect("the defaults were given");
    assert_eq!(options.max_node_provision_legacy, Some(LegacyDuration { nanoseconds: 60_000_000_000 }));
}

#[tokio::test]
async fn a_node_that_only_the_autoscaler_has_seen_is_not_given_up() {
    let store = world();
    let provider = provider(&store);
    increase(&provider, 2).await.expect("two are free");
    let ids = store.edit(|all| {
        let held = all.hosts.iter().filter(|host| host.stage == Stage::Creating);
        held.filter_map(|host| Some(support::provider_id(&host.name, &host.reservation.as_ref()?.id)))
            .collect::<Vec<_>>()
    });
    let name = async |provider_id: &str, fake: bool| {
        let annotations = fake.then(|| ("k8s.io/cluster-autoscaler/fake-node-reason".into(), "unregistered".into()));
        let (provider_id, annotations) = (provider_id.to_owned(), annotations.into_iter().collect());
        let node = Some(ExternalGrpcNode { provider_id, annotations, ..ExternalGrpcNode::default() });
        provider.node_group_for_node(Request::new(NodeGroupForNodeRequest { node })).await.expect("is answered");
    };
    let refresh = async || provider.refresh(Request::new(RefreshRequest {})).await.expect("is answered");
    let decrease = async |delta: i32| {
        let request = NodeGroupDecreaseTargetSizeRequest { id: "n/p".into(), delta };
        provider.node_group_decrease_target_size(Request::new(request)).await.map(|_| ())
    };
    refresh().await;
    name(&ids[0], false).await;
    name(&ids[1], true).await;
    assert_eq!(decrease(-2).await.expect_err("one of them runs").code(), Code::FailedPrecondition);
    decrease(-1).await.expect("the placeholder's host");
    let given_up = store.edit(|all| all.pools[0].release.iter().map(|life| life.host.clone()).collect::<Vec<_>>());
    assert_eq!(given_up.len(), 1);
    assert!(!ids[0].contains(&format!("/{}/", given_up[0])), "{ids:?} {given_up:?}");

    // In the loop after the next nobody has named it: it is no node any more.
    refresh().await;
    assert!(decrease(-1).await.is_err(), "it was named a loop ago");
    refresh().await;
    decrease(-1).await.expect("it was not named again");
}
