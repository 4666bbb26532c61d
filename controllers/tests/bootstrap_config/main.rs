//! Passes over a RackwrightConfig against API servers that answer over HTTP: what is written where, how often, and what
//! is left when something breaks off in between.

mod api_server;
mod world;

use jiff::SignedDuration;
use kube::runtime::controller::Action;
use serde_json::json;
use std::time::Duration;
use world::{CONFIG, DATA, GRANTS, KUBECONFIG, TOKENS, World};

const HALF_A_LIFE: SignedDuration = SignedDuration::from_mins(16);

#[tokio::test]
async fn a_worker_costs_the_management_cluster_two_writes() {
    let world = World::new().await;
    world.management.take_log();

    let next = world.settle().await;

    assert_eq!(
        world.management.take_writes(),
        ["POST /api/v1/namespaces/metal/secrets", &format!("PATCH {CONFIG}/status")]
    );
    assert_eq!(world.ready().0, "True");
    assert_eq!(next, Action::requeue(Duration::from_mins(15)), "when half of the token's life is over");
}

#[tokio::test]
async fn the_secret_is_as_the_contract_wants_it() {
    let world = World::new().await;
    world.settle().await;

    let secret = world.management.get(DATA).expect("there");
    assert_eq!(secret["type"], "cluster.x-k8s.io/secret");
    assert_eq!(secret["metadata"]["labels"]["cluster.x-k8s.io/cluster-name"], "prod");
    let owner = json!({ "apiVersion": "bootstrap.cluster.x-k8s.io/v1alpha1", "kind": "RackwrightConfig", "name": "web-1", "uid": "uid-config", "controller": true });
    assert_eq!(secret["metadata"]["ownerReferences"], json!([owner]));
    assert_eq!(world.value(&world.management, DATA, "format"), "cloud-config");
    let status = world.config().status.expect("a status");
    assert_eq!(status.data_secret_name.as_deref(), Some("web-1"));
    assert_eq!(status.initialization.and_then(|once| once.data_secret_created), Some(true));
}

#[tokio::test]
async fn the_token_in_the_data_is_the_one_in_the_workload_cluster() {
    let world = World::new().await;
    world.settle().await;

    let tokens = world.workload.paths(TOKENS);
    assert_eq!(tokens.len(), 1);
    let value = |key| world.value(&world.workload, &tokens[0], key);
    let token = format!("{}.{}", value("token-id"), value("token-secret"));
    assert!(world.value(&world.management, DATA, "value").contains(&token)); // quoted in YAML when it looks like a number
    assert_eq!(value("auth-extra-groups"), "system:bootstrappers:kubeadm:default-node-token");
    assert_eq!(value("expiration"), world.in_future(SignedDuration::from_mins(30)));
}

#[tokio::test]
async fn nodes_are_granted_only_what_kubeadm_did_not_grant() {
    let world = World::new().await;
    world.workload.put(&format!("{GRANTS}kubeadm:kubelet-bootstrap"), json!({ "metadata": {} }));

    world.settle().await;

    let ours: Vec<String> =
        world.workload.paths(GRANTS).into_iter().filter(|path| path.contains("rackwright:")).collect();
    let expected = ["node-autoapprove-bootstrap", "node-autoapprove-certificate-rotation"];
    assert_eq!(ours, expected.map(|name| format!("{GRANTS}rackwright:{name}")));
}

#[tokio::test]
async fn a_crash_between_secret_and_token_neither_loses_nor_doubles_anything() {
    for passes in 1..=3 {
        let mut world = World::new().await;
        for _ in 0..passes {
            world.pass().await;
        }
        let made = world.management.get(DATA);
        world.restart();

        world.settle().await;

        assert!(made.is_none() || made == world.management.get(DATA), "the Secret was made once");
        assert_eq!(world.workload.paths(TOKENS).len(), 1, "after {passes} passes");
        assert_eq!(world.ready().0, "True");
    }
}

#[tokio::test]
async fn a_machine_that_waits_costs_nothing_until_its_token_is_due() {
    let world = World::new().await;
    world.settle().await;
    world.management.take_log();
    world.workload.take_log();

    world.settle().await;

    assert_eq!((world.management.take_log(), world.workload.take_log()), (vec![], vec![]));
}

#[tokio::test]
async fn the_token_of_a_machine_that_waits_is_renewed_and_its_secret_stays() {
    let world = World::new().await;
    world.settle().await;
    let (made, token) = (world.management.get(DATA), world.workload.paths(TOKENS).remove(0));
    let secret_half = world.value(&world.workload, &token, "token-secret");
    world.management.take_log();
    world.wait(HALF_A_LIFE);

    world.settle().await;

    assert_eq!(world.value(&world.workload, &token, "expiration"), world.in_future(SignedDuration::from_mins(30)));
    assert_eq!(world.value(&world.workload, &token, "token-secret"), secret_half);
    assert_eq!(world.management.get(DATA), made);
    assert_eq!(world.management.take_writes(), Vec::<String>::new());
}

#[tokio::test]
async fn a_token_that_ended_while_nobody_looked_is_made_again() {
    let mut world = World::new().await;
    world.settle().await;
    let token = world.workload.paths(TOKENS).remove(0);
    let secret_half = world.value(&world.workload, &token, "token-secret");
    world.workload.remove(&token);
    world.restart();

    world.settle().await;

    assert_eq!(world.value(&world.workload, &token, "token-secret"), secret_half);
}

#[tokio::test]
async fn the_token_is_taken_back_when_the_node_is_there() {
    let mut world = World::new().await;
    world.settle().await;
    world.change_machine(|machine| machine["status"] = json!({ "nodeRef": { "name": "web-1" } }));

    let next = world.settle().await;

    assert_eq!(world.workload.paths(TOKENS), Vec::<String>::new());
    assert_eq!((world.ready().0.as_str(), next), ("True", Action::await_change()));
}

#[tokio::test]
async fn after_a_move_the_status_is_rebuilt_and_no_secret_made() {
    let mut world = World::new().await;
    world.settle().await;
    let made = world.management.get(DATA);
    world.change_config(|config| config["status"] = json!(null));
    world.change_machine(|machine| machine["spec"]["bootstrap"] = json!({ "dataSecretName": "web-1" }));
    world.restart();
    world.management.take_log();

    world.settle().await;

    assert_eq!(world.config().status.and_then(|status| status.data_secret_name).as_deref(), Some("web-1"));
    assert_eq!(world.management.get(DATA), made);
    assert_eq!(world.management.take_writes(), [format!("PATCH {CONFIG}/status")]);
}

#[tokio::test]
async fn a_paused_config_is_called_paused_and_nothing_else_is_asked() {
    let world = World::new().await;
    world.change_config(|config| config["metadata"]["annotations"] = json!({ "cluster.x-k8s.io/paused": "" }));
    world.management.take_log();

    world.settle().await;

    assert_eq!(world.management.take_log(), [format!("PATCH {CONFIG}/status")]);
    assert_eq!(world.workload.take_log(), Vec::<String>::new());
}

#[tokio::test]
async fn a_workload_cluster_that_does_not_answer_is_said_once_and_then_left_alone() {
    let world = World::new().await;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
    let url = format!("http://{}", nobody.local_addr().expect("bound"));
    drop(nobody);
    world.give_kubeconfig(&url);
    world.wait(SignedDuration::from_secs(60));
    let next = world.settle().await;

    assert_eq!(world.ready().1, "WorkloadClusterUnreachable");
    assert!(world.ready().2.starts_with(&url), "{}", world.ready().2);
    assert_ne!(next, Action::await_change());
    let said = world.config().status;
    world.wait(SignedDuration::from_secs(30));
    world.settle().await;
    assert_eq!(world.config().status, said, "the same situation gives the same text");

    world.give_kubeconfig(&world.workload.url());
    world.wait(SignedDuration::from_mins(5));
    world.settle().await;
    assert_eq!(world.ready().0, "True");
}

#[tokio::test]
async fn a_workload_cluster_that_refuses_us_says_so() {
    let world = World::new().await;
    world.workload.refuse(true);
    world.wait(SignedDuration::from_secs(60));

    world.settle().await;

    assert_eq!((world.ready().1.as_str(), world.management.get(DATA)), ("WorkloadClusterRefuses", None));
}

#[tokio::test]
async fn a_kubeconfig_that_would_have_us_run_a_program_is_refused() {
    let world = World::new().await;
    let kubeconfig = |user: &str| {
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: a\nclusters: [{{name: c, cluster: {{server: \"http://x\"}}}}]\n\
             contexts: [{{name: a, context: {{cluster: c, user: u}}}}]\nusers: [{{name: u, user: {user}}}]\n"
        )
    };
    world.wait(SignedDuration::from_secs(60));
    for (user, why) in [
        ("{exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/true}}", "names a program to run"),
        ("{tokenFile: /etc/passwd}", "names a file"),
        ("{client-certificate: /a, client-key: /b}", "names a file"),
    ] {
        world.give_kubeconfig_text(&kubeconfig(user));
        world.settle().await;
        let (_, reason, message) = world.ready();
        assert_eq!(reason, "KubeconfigUnusable");
        assert!(message.contains(why), "{message}");
    }
}

#[tokio::test]
async fn a_missing_kubeconfig_is_waited_for() {
    let world = World::new().await;
    world.management.remove(KUBECONFIG);
    world.wait(SignedDuration::from_secs(60));

    let next = world.settle().await;

    assert_eq!(world.ready().1, "WaitingForKubeconfig");
    assert_ne!(next, Action::await_change(), "nobody watches Secrets");
}

#[tokio::test]
async fn a_config_that_could_not_work_names_the_field_and_makes_nothing() {
    let world = World::new().await;
    world.change_config(|config| config["spec"]["kubelet"] = json!({ "kubeReserved": { "memory": "4GB" } }));

    world.settle().await;

    let (_, reason, message) = world.ready();
    assert_eq!(reason, "ConfigInvalid");
    assert!(message.starts_with("kubelet.kubeReserved[memory]: "), "{message}");
    assert_eq!((world.management.get(DATA), world.workload.paths(TOKENS)), (None, vec![]));
}

#[tokio::test]
async fn a_secret_of_that_name_that_is_somebody_elses_is_not_touched() {
    let world = World::new().await;
    let theirs = json!({ "metadata": { "name": "web-1", "namespace": "metal" }, "data": { "password": "eA==" } });
    world.management.put(DATA, theirs);
    let theirs = world.management.get(DATA);

    world.settle().await;

    assert_eq!(world.ready().1, "DataSecretNameTaken");
    assert_eq!(world.management.get(DATA), theirs);
}

#[tokio::test]
async fn a_token_name_that_is_taken_gives_other_data() {
    let world = World::new().await;
    while world.management.get(DATA).is_none() {
        world.pass().await;
    }
    let id = world.value(&world.management, DATA, "token").split('.').next().expect("a token").to_owned();
    let taken = format!("{TOKENS}bootstrap-token-{id}");
    world.workload.put(&taken, json!({ "metadata": {}, "data": { "token-secret": "eA==" } }));

    world.settle().await;

    assert!(!world.value(&world.management, DATA, "token").starts_with(&id));
    assert_eq!(world.workload.paths(TOKENS).len(), 2);
    assert_eq!(world.value(&world.workload, &taken, "token-secret"), "x");
}
