//! Whatever a person writes reaches the node as written: jinja does not act on it, and YAML does not end in it.

mod common;

use common::{file, node_of, plain_worker};
use proptest::prelude::*;
use rackwright_bootstrap::input::{File, Join, Kubelet};
use rackwright_bootstrap::{BootstrapInput, render};
use serde_json::Value;
use std::collections::BTreeMap;

/// Text made of what jinja, YAML, systemd and shells give a meaning to.
fn nasty_text() -> impl Strategy<Value = String> {
    let marks = prop::sample::select(vec![
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        "{",
        "{% raw %}",
        "{% endraw %}",
        "{{ ds.meta_data.provider_id }}",
        "\"",
        "'",
        "\\",
        "\\x7b",
        "\n",
        "\n\n",
        "\r\n",
        "\r",
        "\t",
        " ",
        "  ",
        ": ",
        " #",
        "- ",
        "---\n",
        "...\n",
        "%",
        "$",
        "&&",
        "|",
        "\u{85}",
        "\u{2028}",
        "\u{feff}",
        "\u{7f}",
        "\u{1}",
        "å",
        "🦀",
        "yes",
        "0x1f",
        "~",
    ]);
    let piece = prop_oneof![3 => marks.prop_map(str::to_owned), 1 => any::<char>().prop_map(String::from)];
    prop::collection::vec(piece, 1..12).prop_map(|pieces| pieces.concat().replace('\0', "0"))
}

fn one_line(text: &str) -> String {
    format!("x{}", text.chars().filter(|c| !c.is_control()).collect::<String>())
}

/// The words of a systemd command line (systemd.service(5)): what our quoting has to survive.
fn systemd_words(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        let last = words.last_mut().expect("one word is always there");
        match c {
            '"' => quoted = !quoted,
            ' ' if !quoted => words.push(String::new()),
            '%' | '$' => last.extend(chars.next().filter(|next| *next == c)),
            '\\' => match chars.next() {
                Some('x') => {
                    let digits: String = chars.by_ref().take(2).collect();
                    last.push(char::from(u8::from_str_radix(&digits, 16).expect("two hexadecimal digits")));
                }
                next => last.extend(next),
            },
            c => last.push(c),
        }
    }
    words
}

proptest! {
    #[test]
    fn files_and_commands_arrive_as_written(content in nasty_text(), name in nasty_text(), command in nasty_text()) {
        let path = format!("/etc/{}", one_line(&name).replace(['/', '.'], "_"));
        prop_assume!(!command.trim().is_empty());
        let written = File { path: path.clone(), content: content.clone(), owner: None, permissions: None };
        let input = BootstrapInput { files: vec![written], before_join: vec![command.clone()], ..plain_worker() };

        let node = node_of(&input);

        prop_assert_eq!(file(&node, &path), Some(content.as_str()));
        let script = node["runcmd"][0].as_str().expect("a command");
        let escaped = command.replace('\'', "'\\''");
        let first_step = format!("bash -c '{}' && ", escaped);
        prop_assert!(script.starts_with(&first_step), "{}", script);
    }

    #[test]
    fn flags_arrive_as_written(value in nasty_text(), kubeadm in any::<bool>()) {
        let value = one_line(&value);
        let extra_args = BTreeMap::from([("x".to_owned(), value.clone())]);
        let join = if kubeadm { Join::Kubeadm } else { Join::Kubelet };
        let input = BootstrapInput { join, kubelet: Kubelet { extra_args, ..Kubelet::default() }, ..plain_worker() };

        let node = node_of(&input);

        if kubeadm {
            let config = file(&node, "/run/kubeadm/kubeadm-join-config.yaml").expect("there");
            let config: Value = serde_saphyr::from_str(config).expect("YAML");
            let args = config["nodeRegistration"]["kubeletExtraArgs"].as_array().expect("a list");
            prop_assert!(args.contains(&serde_json::json!({"name": "x", "value": value})), "{:?}", args);
        } else {
            let unit = file(&node, "/etc/systemd/system/kubelet.service").expect("there");
            let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=")).expect("a command");
            let wanted = format!("--x={value}");
            prop_assert!(systemd_words(command).contains(&wanted), "{} lacks {}", command, wanted);
        }
    }

    #[test]
    fn kernel_parameters_arrive_as_written(value in nasty_text()) {
        let value = one_line(&value);
        let input = BootstrapInput { sysctls: BTreeMap::from([("a.b".to_owned(), value.clone())]), ..plain_worker() };

        let node = node_of(&input);

        let expected = format!("a.b = {value}\n");
        prop_assert_eq!(file(&node, "/etc/sysctl.d/90-rackwright.conf"), Some(expected.as_str()));
    }

    #[test]
    fn the_same_input_gives_the_same_bytes(content in nasty_text()) {
        let written = File { path: "/etc/x".into(), content, owner: None, permissions: None };
        let input = BootstrapInput { files: vec![written], ..plain_worker() };
        prop_assert_eq!(render(&input), render(&input.clone()));
    }
}
