use super::*;

const ETCD: &str = "
apiVersion: v1
kind: Pod
metadata: {name: etcd}
spec:
  containers:
  - command:
    - etcd
    - --advertise-client-urls=https://192.0.2.1:2379
    - --initial-cluster=cp-0=https://192.0.2.1:2380
    - --listen-client-urls=https://127.0.0.1:2379,https://192.0.2.1:2379
    - --data-dir=/var/lib/etcd
";

fn command(manifest: &str) -> Vec<String> {
    let pod: Value = serde_saphyr::from_str(&adapt_manifest(manifest, "127.9.0.1").expect("a manifest")).expect("YAML");
    let words = pod["spec"]["containers"][0]["command"].as_array().expect("a command");
    words.iter().filter_map(Value::as_str).map(String::from).collect()
}

#[test]
fn etcd_listens_on_the_address_of_the_control_plane_only() {
    assert_eq!(
        command(ETCD),
        [
            "etcd",
            "--advertise-client-urls=https://127.9.0.1:2379",
            "--initial-cluster=cp-0=https://127.9.0.1:2380",
            "--listen-client-urls=https://127.9.0.1:2379",
            "--data-dir=/var/lib/etcd",
            "--unsafe-no-fsync=true",
        ]
    );
}

#[test]
fn extra_arguments_of_the_user_stay_unless_they_are_about_addresses() {
    let manifest = "spec: {containers: [{command: [kube-apiserver, --advertise-address=192.0.2.1, --bind-address=0.0.0.0, --audit-log-maxage=3]}]}";
    assert_eq!(
        command(manifest),
        [
            "kube-apiserver",
            "--audit-log-maxage=3",
            "--advertise-address=192.0.2.1",
            "--bind-address=127.9.0.1",
            "--endpoint-reconciler-type=none",
        ]
    );
}

#[test]
fn a_rate_that_the_user_gives_stays() {
    let manifest = "spec: {containers: [{command: [kube-controller-manager, --kube-api-qps=7, --secure-port=10257]}]}";
    let expected = ["kube-controller-manager", "--kube-api-qps=7", "--secure-port=0", "--kube-api-burst=400"];
    assert_eq!(command(manifest), expected);
}

#[test]
fn the_address_is_that_of_the_endpoint() {
    for (endpoint, address) in [
        ("127.1.2.3:6443", Some("127.1.2.3")),
        ("127.1.2.3", Some("127.1.2.3")),
        ("[::1]:6443", Some("::1")),
        ("api.example.com:6443", None),
    ] {
        assert_eq!(endpoint_address(endpoint), address.and_then(|address| address.parse().ok()), "{endpoint}");
    }
}

#[test]
fn a_name_is_added_once_to_a_list_that_may_be_missing() {
    let mut document = json!({});
    push(&mut document, "/a/b", "x");
    push(&mut document, "/a/b", "x");
    assert_eq!(document, json!({ "a": { "b": ["x"] } }));
}
