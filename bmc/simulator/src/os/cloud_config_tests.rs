use super::*;

fn read_with(user_data: &str, meta_data: &str) -> Result<CloudConfig, CloudConfigError> {
    read(user_data, &InstanceData::parse(meta_data)?)
}

fn one_file(entry: &str) -> Result<File, CloudConfigError> {
    read_with(&format!("#cloud-config\nwrite_files:\n- {entry}\n"), "").map(|config| config.files[0].clone())
}

// As `cloudinit.NewInitControlPlane` of the kubeadm bootstrap provider lays it out.
const KUBEADM: &str = "\
## template: jinja
#cloud-config

write_files:
-   path: /etc/kubernetes/pki/ca.crt
    owner: root:root
    permissions: '0640'
    content: |
      -----BEGIN CERTIFICATE-----
      {{ ds.meta_data.local_hostname }}
-   path: /run/kubeadm/kubeadm.yaml
    owner: root:root
    permissions: '0640'
    content: |
      ---
      kind: ClusterConfiguration
      ---
      nodeRegistration:
        kubeletExtraArgs:
        - name: provider-id
          value: '{{ ds.meta_data.provider_id }}'
-   path: /run/cluster-api/placeholder
    content: \"placeholder\"
runcmd:
  - 'kubeadm init --config /run/kubeadm/kubeadm.yaml  && echo success > /run/cluster-api/bootstrap-success.complete'
users:
  - name: capi
";

const META_DATA: &str = r#"{"instance-id":"uid-1","local-hostname":"node-1","provider_id":"rackwright://a/b/uid-1"}"#;

#[test]
fn what_the_kubeadm_bootstrap_provider_writes_is_rendered_and_read() {
    let config = read_with(KUBEADM, META_DATA).expect("readable");
    assert_eq!(config.hostname.as_deref(), Some("node-1"));
    assert_eq!(config.files[0].content, b"-----BEGIN CERTIFICATE-----\nnode-1\n");
    assert_eq!(config.files[0].mode, 0o640);
    let kubeadm = String::from_utf8_lossy(&config.files[1].content).into_owned();
    assert!(kubeadm.ends_with("    value: 'rackwright://a/b/uid-1'\n"), "{kubeadm}");
    assert_eq!(config.files[2].mode, 0o644);
    assert_eq!(config.runcmd.len(), 1);
    assert_eq!(config.left_out, ["users"]);
}

#[test]
fn templates_see_the_names_that_cloud_init_gives() {
    for (template, expected) in [
        ("{{ ds.meta_data.local_hostname }}", "node-1"),
        ("{{ ds.meta_data['local-hostname'] }}", "node-1"),
        ("{{ v1.local_hostname }}", "node-1"),
        ("{{ local_hostname }}", "node-1"),
        ("{{ v1.instance_id }}", "uid-1"),
        ("{% if ds.meta_data.provider_id %}x{% endif %}", "x"),
        ("{{ ds.meta_data.nope | default('none') }}", "none"),
    ] {
        let user_data = format!("## template: jinja\n#cloud-config\nhostname: \"{template}\"\n");
        assert_eq!(read_with(&user_data, META_DATA).expect(template).hostname.as_deref(), Some(expected));
    }
}

#[test]
fn without_the_jinja_header_braces_stay_as_they_are() {
    let config = read_with("#cloud-config\nruncmd: ['echo {{ x }}']\n", META_DATA).expect("readable");
    assert_eq!(config.runcmd, [Command::Shell("echo {{ x }}".into())]);
}

#[test]
fn meta_data_may_be_yaml() {
    let config = read_with("#cloud-config\n", "instance-id: i-1\nlocal-hostname: node-2\n").expect("readable");
    assert_eq!(config.hostname.as_deref(), Some("node-2"));
}

#[test]
fn commands_are_strings_or_lists() {
    let config = read_with("#cloud-config\nbootcmd: [[sleep, 1]]\nruncmd:\n- echo a\n", "").expect("readable");
    assert_eq!(config.bootcmd, [Command::Words(vec!["sleep".into(), "1".into()])]);
    assert_eq!(config.runcmd, [Command::Shell("echo a".into())]);
}

#[test]
fn files_are_decoded_and_get_their_mode() {
    for (entry, content, mode, append) in [
        ("{path: /a, content: x}", "x", 0o644, false),
        ("{path: /a, content: x, permissions: '0600'}", "x", 0o600, false),
        ("{path: /a, content: x, permissions: 0755, append: true}", "x", 0o755, true),
        ("{path: /a, content: eA==, encoding: b64}", "x", 0o644, false),
        ("{path: /a, content: 'H4sIAAAAAAAC/6sAAIMW3IwBAAAA', encoding: gz+b64}", "x", 0o644, false),
    ] {
        let expected = File { path: "/a".into(), content: content.into(), mode, append };
        match one_file(entry) {
            Ok(file) => assert_eq!(file, expected, "{entry}"),
            Err(error) => panic!("{entry}: {error}"),
        }
    }
}

#[test]
fn what_is_wrong_is_named_and_the_content_is_not_shown() {
    for (user_data, message) in [
        (
            "",
            "user-data begins with \"something else\"; only \"#cloud-config\" (after \"## template: jinja\" or alone) is understood",
        ),
        (
            "#!/bin/sh\n",
            "user-data begins with \"#!/bin/sh\"; only \"#cloud-config\" (after \"## template: jinja\" or alone) is understood",
        ),
        (
            "## template: jinja\n#cloud-config\n# {{ ds.meta_data.secret }}\n",
            "the jinja template of the user-data does not render: undefined value in line 3",
        ),
        (
            "#cloud-config\nwrite_files: [{path: a}]\n",
            "write_files entry \"a\": the path must be absolute and without \"..\"",
        ),
        (
            "#cloud-config\nwrite_files: [{path: /a/../b}]\n",
            "write_files entry \"/a/../b\": the path must be absolute and without \"..\"",
        ),
        (
            "#cloud-config\nwrite_files: [{path: /a, permissions: rwx}]\n",
            "write_files entry \"/a\": permissions \"rwx\" are not octal digits",
        ),
        (
            "#cloud-config\nwrite_files: [{path: /a, encoding: rot13}]\n",
            "write_files entry \"/a\": encoding \"rot13\" is not known (base64, gz+b64 or none)",
        ),
    ] {
        assert_eq!(read_with(user_data, META_DATA).expect_err(user_data).to_string(), message);
    }
}

#[test]
fn broken_yaml_says_where() {
    let error = read_with("#cloud-config\nruncmd:\n  - a\n bad: [\n", "").expect_err("broken").to_string();
    assert!(
        error.starts_with("the cloud-config of the user-data cannot be read: ") && error.contains("line"),
        "{error}"
    );
}

#[test]
fn a_file_shows_no_content_in_debug() {
    let file = one_file("{path: /a, content: secret}").expect("readable");
    assert_eq!(format!("{file:?}"), "/a (6 bytes, mode 0644, append false)");
}
