use super::*;

const FILE: &str = "
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
providerID: rackwright://a/b/from-file
maxPods: 60
kubeReserved: {cpu: 500m, memory: 1Gi}
systemReserved: {cpu: \"1\", memory: 4Gi, ephemeral-storage: 10Gi}
evictionHard: {memory.available: 1Gi, nodefs.available: 15%}
registerWithTaints:
- {key: dedicated, value: search, effect: NoSchedule}
podPidsLimit: 16384
somethingOfALaterVersion: true
";

fn read(words: &str, file: Option<&str>) -> Result<Settings, SettingsError> {
    let words: Vec<String> = words.split_whitespace().map(String::from).collect();
    Settings::read(&Flags::parse(&words)?, file, "Node-1")
}

#[test]
fn without_flags_and_file_the_kubelets_defaults_hold() {
    let settings = read("", None).expect("readable");
    assert_eq!(settings.node_name, "node-1");
    assert_eq!(settings.max_pods, 110);
    assert_eq!(settings.evict_memory, Threshold::Milli((100 << 20) * 1000));
    assert_eq!(settings.evict_disk, Threshold::Part(0.1));
    assert_eq!(settings.lease_duration_seconds, 40);
    assert!(settings.register);
}

#[test]
fn the_file_is_read() {
    let settings = read("--config=/var/lib/kubelet/config.yaml", Some(FILE)).expect("readable");
    assert_eq!(settings.provider_id.as_deref(), Some("rackwright://a/b/from-file"));
    assert_eq!(settings.max_pods, 60);
    assert_eq!(settings.reserved.cpu, 1500);
    assert_eq!(settings.reserved.memory, (5 << 30) * 1000);
    assert_eq!(settings.reserved.ephemeral_storage, (10 << 30) * 1000);
    assert_eq!(
        (settings.evict_memory, settings.evict_disk),
        (Threshold::Milli((1 << 30) * 1000), Threshold::Part(0.15))
    );
    assert_eq!(settings.taints, taints("dedicated=search:NoSchedule").expect("a taint"));
}

#[test]
fn flags_win_over_the_file() {
    let words = "--provider-id=x://flag --max-pods 20 --kube-reserved=cpu=2 --system-reserved=memory=1Gi \
                 --eviction-hard=memory.available<5% --register-with-taints=a:NoExecute,b=c:NoSchedule --hostname-override=Other";
    let settings = read(words, Some(FILE)).expect("readable");
    assert_eq!(settings.provider_id.as_deref(), Some("x://flag"));
    assert_eq!((settings.max_pods, settings.node_name.as_str()), (20, "other"));
    assert_eq!(settings.reserved, Reserved { cpu: 2000, memory: (1 << 30) * 1000, ephemeral_storage: 0 });
    assert_eq!((settings.evict_memory, settings.evict_disk), (Threshold::Part(0.05), Threshold::Milli(0)));
    assert_eq!(settings.taints.len(), 2);
}

#[test]
fn what_the_kubelet_refuses_is_refused() {
    for (words, message) in [
        ("--nope=1", "unknown flag: --nope"),
        ("--network-plugin=cni", "unknown flag: --network-plugin"),
        ("--config", "flag needs an argument: --config"),
        ("run", "unknown command \"run\""),
        (
            "--node-labels=node-role.kubernetes.io/worker=",
            "invalid value \"node-role.kubernetes.io/worker\" for node-labels: a node may not give itself this label of the \
             kubernetes.io name space",
        ),
        ("--node-labels=a", "invalid value \"a\" for node-labels: a name and a value are needed"),
        (
            "--register-with-taints=a=b:Never",
            "invalid value \"a=b:Never\" for register-with-taints: the effect must be NoSchedule, PreferNoSchedule or NoExecute",
        ),
        ("--kube-reserved=memory=4GB", "invalid value \"memory=4GB\" for kube-reserved: this is no quantity"),
        (
            "--kube-reserved=gpu=1",
            "invalid value \"gpu=1\" for kube-reserved: only cpu, memory, ephemeral-storage and pid can be reserved",
        ),
        ("--max-pods=many", "invalid value \"many\" for max-pods: a whole number is needed"),
    ] {
        assert_eq!(read(words, None).expect_err(words).to_string(), message);
    }
}

#[test]
fn labels_that_a_node_may_give_itself_are_taken() {
    let labels =
        "node.example.com/tier=web,topology.kubernetes.io/zone=rack-a,node.kubernetes.io/x=y,x.node.kubernetes.io/a=b";
    let settings = read(&format!("--node-labels={labels}"), None).expect("readable");
    assert_eq!(settings.labels.len(), 4);
}

#[test]
fn a_file_of_another_kind_is_refused() {
    let error = read("", Some("kind: ConfigMap\napiVersion: v1\n")).expect_err("another kind");
    assert!(error.to_string().contains("no kind \"ConfigMap\""), "{error}");
}
