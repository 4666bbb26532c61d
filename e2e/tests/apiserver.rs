//! Our definitions in a real kube-apiserver: they are taken, so are all samples, and bad input is refused with a
//! sentence that says what to do.

use anyhow::{Context, Result};
use kube::core::DynamicObject;
use rackwright_e2e::accounts::{self, Account};
use rackwright_e2e::{Bed, Level, Look, Narrator, Programs, objects};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// An API server with our definitions in it.
async fn bed() -> Result<Bed> {
    let bed = Bed::start(Programs::from_env()?, Level::ApiServer, Narrator::stdout()).await?;
    for definition in folder("config/crd")? {
        objects::apply(&bed.client(), &definition).await?;
    }
    bed.kubectl(&["wait", "--for=condition=Established", "--timeout=30s", "customresourcedefinitions", "--all"])
        .await?;
    Ok(bed)
}

/// Every object in the YAML files of a folder of this repository.
fn folder(path: &str) -> Result<Vec<DynamicObject>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    let mut objects = Vec::new();
    for entry in std::fs::read_dir(&folder).with_context(|| format!("{} cannot be read", folder.display()))? {
        objects.extend(objects::parse(&std::fs::read_to_string(entry?.path())?)?);
    }
    Ok(objects)
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn every_sample_is_taken_and_every_kind_has_one() -> Result<()> {
    let bed = bed().await?;
    let samples = folder("config/samples")?;

    for sample in &samples {
        objects::apply(&bed.client(), sample).await?;
    }

    let kind = |object: &DynamicObject| object.types.as_ref().map(|types| types.kind.clone()).unwrap_or_default();
    let shown: BTreeSet<_> = samples.iter().map(kind).collect();
    for definition in folder("config/crd")? {
        let kind = definition.data["spec"]["names"]["kind"].as_str().unwrap_or_default().to_string();
        assert!(shown.contains(&kind), "config/samples has no {kind}");
    }
    Ok(())
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn kubectl_shows_what_a_host_is_and_what_it_waits_for() -> Result<()> {
    let bed = bed().await?;
    let host = sample("Host", "osl1-a01-u07")?;
    objects::apply(&bed.client(), &host).await?;
    let status = r#"{"status":{"phase":"Provisioning","power":"On","health":"OK","waitingFor":"image 63 %"}}"#;
    bed.kubectl(&["patch", "host", "osl1-a01-u07", "--subresource=status", "--type=merge", "-p", status]).await?;

    let table = bed.kubectl(&["get", "hosts"]).await?;

    let words: Vec<Vec<_>> = table.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(words[0], ["NAME", "RACK", "U", "PHASE", "POWER", "CONSUMER", "HEALTH", "WAITING-FOR", "AGE"]);
    assert_eq!(words[1][..9], ["osl1-a01-u07", "osl1-a01", "7", "Provisioning", "On", "OK", "image", "63", "%"]);
    Ok(())
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn kubectl_shows_what_a_pool_has_and_where_its_rollout_stands() -> Result<()> {
    let bed = bed().await?;
    objects::apply(&bed.client(), &sample("NodePool", "web")?).await?;
    let status = json!({ "status": {
        "replicas": 40, "readyReplicas": 39, "availableReplicas": 38, "upToDateReplicas": 4, "spare": 7, "warm": 2,
        "rollout": "canary 10 %: soaking until 15:10:00", "waitingFor": "1 machine to become Ready",
    } });
    let patch = status.to_string();
    bed.kubectl(&["patch", "nodepool", "web", "--subresource=status", "--type=merge", "-p", &patch]).await?;

    let table = bed.kubectl(&["get", "nodepools", "-o", "wide"]).await?;

    let lines: Vec<_> = table.lines().map(|line| line.split_once("  v1.36.3").map_or(line, |(line, _)| line)).collect();
    assert_eq!(
        lines,
        [
            "NAME   CLUSTER   DESIRED   READY   UP-TO-DATE   SPARE   ROLLOUT                               \
             WAITING-FOR                 AVAILABLE   VERSION   IMAGE                  WARM   AGE",
            "web    prod      40        39      4            7       canary 10 %: soaking until 15:10:00   \
             1 machine to become Ready   38        ",
        ]
    );
    Ok(())
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn our_accounts_cannot_do_what_would_hurt_most() -> Result<()> {
    let bed = bed().await?;
    install_accounts(&bed).await?;

    let mut allowed = Vec::new();
    for account in ACCOUNTS {
        let who = format!("--as=system:serviceaccount:{}:{}", account.namespace, account.name);
        // A node pool owns its Machines, and RBAC cannot tell those from others.
        let pools = account == accounts::INFRASTRUCTURE;
        for (verb, resource) in HARM.into_iter().filter(|(_, resource)| !(pools && resource.starts_with("machines."))) {
            let answer = bed.kubectl(&["auth", "can-i", verb, resource, &who, "--namespace=default"]).await;
            if answer.is_ok() {
                allowed.push(format!("{} may {verb} {resource}", account.name));
            }
        }
        // The question is asked rightly: what each of them lives by is allowed.
        let lives_by = if account == accounts::AUTOSCALER { "nodepools.rackwright.dev" } else { "secrets" };
        bed.kubectl(&["auth", "can-i", "get", lives_by, &who, "--namespace=default"]).await?;
    }
    assert!(allowed.is_empty(), "{}", allowed.join("\n"));
    Ok(())
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn the_autoscaler_writes_holds_and_sizes_and_nothing_else() -> Result<()> {
    let bed = bed().await?;
    install_accounts(&bed).await?;
    let (host, pool) = (sample("Host", "osl1-a01-u07")?, sample("NodePool", "web")?);
    for object in [&host, &pool] {
        objects::apply(&bed.client(), object).await?;
    }
    let who = format!("--as=system:serviceaccount:{}:{}", accounts::AUTOSCALER.namespace, accounts::AUTOSCALER.name);
    let patch =
        async |target: &str, patch: &str| bed.kubectl(&["patch", target, "--type=merge", "-p", patch, &who]).await;
    let (host, pool) = ("host/osl1-a01-u07", "nodepool/web");
    let hold = |id: &str| {
        json!({ "spec": { "reservation": {
            "pool": { "namespace": "default", "name": "web", "uid": "1" }, "id": id, "at": "2026-11-24T00:00:00Z",
        } } })
        .to_string()
    };
    // A policy takes effect some moments after it is written.
    let harmful = r#"{"spec":{"rack":"elsewhere"}}"#;
    bed.wait("the policy holds", std::time::Duration::from_secs(30), async || {
        let tried = bed.kubectl(&["patch", host, "--dry-run=server", "--type=merge", "-p", harmful, &who]).await;
        Ok(Look::when(tried.is_err(), "it may move a host"))
    })
    .await?;
    patch(host, &hold("first")).await?;
    patch(host, r#"{"spec":{"reservation":null}}"#).await?;
    patch(host, &hold("second")).await?;
    patch(pool, r#"{"spec":{"replicas":41,"release":[{"host":"a","id":"b"}]}}"#).await?;
    for (target, wrong) in [
        (host, hold("third").as_str()),
        (host, r#"{"spec":{"maintenance":{"reason":"x"}}}"#),
        (host, r#"{"spec":{"bootMACAddress":"52:54:00:00:00:99"}}"#),
        (host, r#"{"metadata":{"labels":{"a":"b"}}}"#),
        (host, r#"{"metadata":{"finalizers":["example.com/x"]}}"#),
        (pool, r#"{"spec":{"version":"v1.36.4"}}"#),
        (pool, r#"{"spec":{"autoscaling":{"max":1000}}}"#),
        (pool, r#"{"spec":{"paused":true}}"#),
        (pool, r#"{"metadata":{"annotations":{"a":"b"}}}"#),
    ] {
        let refused = patch(target, wrong).await.expect_err(wrong).to_string();
        assert!(refused.contains("the autoscaler may"), "{wrong}: {refused}");
    }
    bed.kubectl(&["patch", pool, "--type=json", "-p", r#"[{"op":"remove","path":"/spec/autoscaling"}]"#]).await?;
    let refused = patch(pool, r#"{"spec":{"replicas":42}}"#).await.expect_err("it is not asked to").to_string();
    assert!(refused.contains("only change pools with spec.autoscaling"), "{refused}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn both_managers_can_hold_a_lease_in_their_own_namespace_and_nowhere_else() -> Result<()> {
    let bed = bed().await?;
    install_accounts(&bed).await?;
    for account in [accounts::INFRASTRUCTURE, accounts::BOOTSTRAP] {
        let who = format!("--as=system:serviceaccount:{}:{}", account.namespace, account.name);
        for verb in ["get", "create", "patch"] {
            let lease = ["auth", "can-i", verb, "leases.coordination.k8s.io", &who];
            let own = format!("--namespace={}", account.namespace);
            bed.kubectl(&[&lease[..], &[&own]].concat()).await?;
            let elsewhere = bed.kubectl(&[&lease[..], &["--namespace=kube-system"]].concat()).await;
            assert!(elsewhere.is_err(), "{} may {verb} leases of kube-system", account.name);
        }
    }
    Ok(())
}

/// Our ServiceAccounts with their roles.
async fn install_accounts(bed: &Bed) -> Result<()> {
    for account in ACCOUNTS {
        bed.kubectl(&["create", "namespace", account.namespace]).await.ok(); // two share one
    }
    for object in folder("config/rbac")? {
        objects::apply(&bed.client(), &object).await?;
    }
    Ok(())
}

const ACCOUNTS: [Account; 4] = [accounts::INFRASTRUCTURE, accounts::BOOT, accounts::BOOTSTRAP, accounts::AUTOSCALER];

/// Verbs and resources that would make a stolen token of ours worth a cluster or a fleet.
const HARM: [(&str, &str); 10] = [
    ("list", "secrets"),
    ("watch", "secrets"),
    ("update", "secrets"),
    ("create", "hosts.rackwright.dev"),
    ("delete", "hosts.rackwright.dev"),
    ("create", "pods"),
    ("impersonate", "users"),
    ("create", "clusterrolebindings.rbac.authorization.k8s.io"),
    ("patch", "customresourcedefinitions.apiextensions.k8s.io"),
    ("delete", "machines.cluster.x-k8s.io"),
];

/// What is written where in a sample, and a part of the sentence that refuses it. One row per rule.
fn refusals() -> Vec<(&'static str, &'static str, Value, &'static str)> {
    vec![
        ("Datacenter", "/spec/boot/url", json!("http://10.1.0.5"), "boot.url must start with https://"),
        ("Datacenter", "/spec/boot/firmwareURL", json!("tftp://10.1.0.5"), "boot.firmwareURL must start with http://"),
        ("Host", "/spec/bmc/address", json!("http://10.1.1.7"), "bmc.address must start with https://"),
        ("Host", "/spec/bootMACAddress", json!("52:54:00:12:34:5G"), "bootMACAddress must be six lower-case hex pairs"),
        ("Host", "/spec/bootMACAddress", json!("52:54:00:AB:CD:EF"), "bootMACAddress must be six lower-case hex pairs"),
        ("Host", "/spec/bmc/trust", json!({}), "set exactly one of trust.ca and trust.pin"),
        (
            "Host",
            "/spec/bmc/trust",
            json!({"ca": {"name": "a", "key": "b"}, "pin": "0".repeat(64)}),
            "set exactly one of trust.ca and trust.pin",
        ),
        ("Host", "/spec/bmc/trust", json!({"pin": "AB:CD"}), "trust.pin must be the certificate's SHA-256"),
        ("Host", "/spec/power", json!("Maybe"), "supported values: \"Auto\", \"On\", \"Off\""),
        ("OSImage", "/spec/disk/url", json!("ftp://images/x.raw"), "disk.url must start with http:// or https://"),
        ("OSImage", "/spec/disk/digest", json!("md5:abc"), "disk.digest must be sha256: and 64, or sha512:"),
        ("OSImage", "/spec", json!({}), "set exactly one of spec.disk (an image that is written as it is)"),
        (
            "OSImage",
            "/spec/installer",
            installer("/kernelArguments", json!([])),
            "set exactly one of spec.disk (an image that is written",
        ),
        ("NodePool", "/spec/clusterName", json!("other"), "clusterName cannot change: make a new pool"),
        ("NodePool", "/spec/version", json!("1.36"), "version must be a Kubernetes version such as v1.36.3"),
        ("NodePool", "/spec/replicas", json!(90), "replicas must lie between autoscaling.min and autoscaling.max"),
        ("NodePool", "/spec/idle", json!({"warm": -1}), "spec.idle.warm"),
        ("NodePool", "/spec/autoscaling", json!({"min": 41, "max": 40}), "autoscaling.min must not be above"),
        (
            "NodePool",
            "/spec/bootstrap/configTemplateRef",
            json!({"name": "web"}),
            "set exactly one of bootstrap.config and",
        ),
        (
            "NodePool",
            "/spec/rollout/canary/steps",
            json!([{"count": 1, "percent": 10}]),
            "a canary step has exactly one of count and percent",
        ),
        (
            "OSImage",
            "/spec",
            installs("/kernel/url", json!("ftp://x/vmlinuz")),
            "the url of a kernel or initrd must start",
        ),
        (
            "OSImage",
            "/spec",
            installs("/initrd/digest", json!("md5:0")),
            "the digest of a kernel or initrd must be sha256:",
        ),
        (
            "OSImage",
            "/spec",
            installs("/kernelArguments", json!(["a b"])),
            "one word of printable ASCII: give each argument",
        ),
        ("OSImage", "/spec", installs("/kernelArguments", json!(["inst.ks=http://x"])), "leave inst.ks=, preseed/ and"),
        (
            "OSImage",
            "/spec",
            installs("/preseed", json!({"mirror": {"host": "a", "directory": "/d"}})),
            "set exactly one of installer.kickstart",
        ),
        (
            "OSImage",
            "/spec",
            installs("/kickstart", json!({})),
            "set exactly one of kickstart.configMapRef (a kickstart of",
        ),
        (
            "OSImage",
            "/spec",
            installs("/kickstart/ostree", json!({})),
            "set exactly one of ostree.setup (a repository)",
        ),
        ("OSImage", "/spec", debian(json!({})), "set exactly one of preseed.configMapRef (a preseed of your own)"),
        (
            "RackwrightConfig",
            "/spec/sysctls",
            json!({"vm max": "1"}),
            "a key is a kernel parameter such as vm.max_map_count",
        ),
        ("RackwrightConfig", "/spec/sysctls", json!({"vm.max_map_count": "1\n2"}), "sysctls: a value is one line"),
        (
            "RackwrightConfig",
            "/spec/nodeLabels",
            json!({"node-role.kubernetes.io/web": ""}),
            "a kubelet may not set labels under kubernetes.io",
        ),
        ("RackwrightConfig", "/spec/files", json!([{"path": "etc/x", "content": ""}]), "files: path must be absolute"),
        (
            "RackwrightConfig",
            "/spec/files",
            json!([{"path": "/x", "content": "", "permissions": "rw-r"}]),
            "files: permissions are octal digits in quotes",
        ),
        (
            "RackwrightConfig",
            "/spec/kubelet",
            json!({"extraArgs": {"provider-id": "x"}}),
            "provider-id is set by Rackwright",
        ),
        (
            "RackwrightMachine",
            "/spec/image/name",
            json!("other"),
            "image and host cannot change once the machine exists",
        ),
    ]
}

#[tokio::test]
#[ignore = "needs the bed: cargo xtask test"]
async fn bad_input_is_refused_with_a_sentence_that_says_what_to_do() -> Result<()> {
    let bed = bed().await?;
    let mut wrong = Vec::new();
    for (kind, field, value, sentence) in refusals() {
        let mut object = sample(kind, "")?;
        objects::apply(&bed.client(), &object).await?; // a rule about changes needs something to change
        set(&mut object.data, field, value.clone());

        match objects::apply(&bed.client(), &object).await {
            Ok(_) => wrong.push(format!("{kind} {field} = {value} was taken")),
            Err(why) if why.to_string().contains(sentence) => {}
            Err(why) => wrong.push(format!("{kind} {field} = {value}: {why:#}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    Ok(())
}

#[test]
fn every_rule_of_the_definitions_has_a_row_above() {
    let mut messages = BTreeSet::new();
    for definition in folder("config/crd").expect("is there") {
        rules(&definition.data, &mut messages);
    }
    let untested: Vec<_> = messages
        .iter()
        .filter(|message| !refusals().iter().any(|(_, _, _, sentence)| message.contains(sentence)))
        .collect();
    assert!(untested.is_empty(), "{untested:#?}");
}

fn rules(schema: &Value, messages: &mut BTreeSet<String>) {
    match schema {
        Value::Object(map) => {
            for rule in map.get("x-kubernetes-validations").and_then(Value::as_array).into_iter().flatten() {
                messages.insert(rule["message"].as_str().unwrap_or("a rule without a message").to_string());
            }
            map.values().for_each(|value| rules(value, messages));
        }
        Value::Array(items) => items.iter().for_each(|value| rules(value, messages)),
        _ => {}
    }
}

/// The first sample of `kind` whose name begins with `name`.
fn sample(kind: &str, name: &str) -> Result<DynamicObject> {
    let wanted = |object: &DynamicObject| {
        object.types.as_ref().is_some_and(|types| types.kind == kind)
            && object.metadata.name.as_deref().is_some_and(|found| found.starts_with(name))
    };
    folder("config/samples")?.into_iter().find(wanted).with_context(|| format!("config/samples has no {kind} {name}"))
}

/// An installer with one value at `pointer` set.
fn installer(pointer: &str, value: Value) -> Value {
    let file = json!({"url": "http://images/x", "digest": format!("sha256:{}", "0".repeat(64))});
    let container = json!({"ostree": {"container": {"url": "quay.io/example/os:1"}}});
    let mut installer = json!({"kernel": file, "initrd": file, "kickstart": container});
    set(&mut installer, pointer, value);
    installer
}

/// The spec of an OSImage that installs, with one value of the installer set.
fn installs(pointer: &str, value: Value) -> Value {
    json!({"installer": installer(pointer, value)})
}

/// The spec of an OSImage that debian-installer installs.
fn debian(preseed: Value) -> Value {
    let mut installer = installer("/preseed", preseed);
    installer.as_object_mut().expect("an object").remove("kickstart");
    json!({"installer": installer})
}

/// Sets the value at a JSON pointer, making the last member when it is absent.
fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, member) = pointer.rsplit_once('/').expect("a pointer has a slash");
    object.pointer_mut(parent).expect("the sample has the parent")[member] = value;
}
