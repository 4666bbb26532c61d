//! An input to start from, and cloud-init's way of reading user-data.
#![allow(dead_code, reason = "every test file takes what it needs")]

pub mod install;

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, UndefinedBehavior, context};
use rackwright_bootstrap::input::{ApiServer, Join, Kubelet};
use rackwright_bootstrap::{BootstrapInput, BootstrapToken, render};
use serde_json::Value;
use std::collections::BTreeMap;

/// A worker of cluster `prod` that asks for nothing.
pub fn plain_worker() -> BootstrapInput {
    BootstrapInput {
        cluster_name: "prod".into(),
        api_server: ApiServer { host: "10.1.0.10".into(), port: 6443 },
        ca_pem: include_str!("../data/ca.crt").into(),
        token: BootstrapToken::new("abcdef", "0123456789abcdef").expect("a token of the right shape"),
        kubernetes_version: Some("v1.36.3".into()),
        join: Join::Kubelet,
        service_cidr: None,
        cluster_domain: None,
        kubelet: Kubelet::default(),
        sysctls: BTreeMap::new(),
        node_labels: BTreeMap::new(),
        node_taints: vec![],
        files: vec![],
        before_join: vec![],
        after_join: vec![],
        ssh_authorized_keys: vec![],
        network: None,
    }
}

/// What cloud-init makes of user-data: jinja first (with its settings), then YAML.
pub fn as_cloud_init_reads(user_data: &str) -> Value {
    let rendered = as_jinja_renders(user_data);
    serde_saphyr::from_str(&rendered).map_err(|error| format!("{error}\n{rendered}")).expect("YAML")
}

/// What jinja makes of user-data, with cloud-init's settings.
pub fn as_jinja_renders(user_data: &str) -> String {
    let template = user_data.strip_prefix("## template: jinja\n").expect("the header that turns jinja on");
    let mut jinja = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).keep_trailing_newline(true).build();
    jinja.set_syntax(syntax.expect("the default delimiters"));
    jinja.set_undefined_behavior(UndefinedBehavior::Strict);
    let metadata = context! { provider_id => "rackwright://metal/a01-u07/uid", local_hostname => "web-1", unit => 7 };
    let rendered = jinja.render_str(template, context! { ds => context! { meta_data => metadata } }).expect("jinja");
    assert!(rendered.starts_with("#cloud-config\n"));
    rendered
}

/// What a node makes of `input`.
pub fn node_of(input: &BootstrapInput) -> Value {
    as_cloud_init_reads(render(input).expect("an input that can be rendered").expose())
}

/// Content of the file at `path`.
pub fn file<'a>(node: &'a Value, path: &str) -> Option<&'a str> {
    let files = node["write_files"].as_array()?;
    files.iter().find(|file| file["path"] == path)?["content"].as_str()
}
