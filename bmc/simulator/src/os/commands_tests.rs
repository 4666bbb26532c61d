use super::*;
use crate::os::tests::host;

async fn script(host: &Arc<Host>, text: &str) -> i32 {
    run_script(host, text).await
}

#[tokio::test]
async fn a_sentinel_is_written_after_what_succeeded() {
    let (_folder, host) = host();
    assert_eq!(
        script(&host, "mkdir -p /run/cluster-api && echo success > /run/cluster-api/bootstrap-success.complete").await,
        0
    );
    assert_eq!(host.disk.read("/run/cluster-api/bootstrap-success.complete").as_deref(), Some("success\n"));
}

#[tokio::test]
async fn an_unknown_command_is_127_and_what_depends_on_it_does_not_run() {
    let (_folder, host) = host();
    assert_eq!(script(&host, "frobnicate && echo success > /ok").await, 127);
    assert!(!host.disk.exists("/ok"));
    assert!(host.disk.read("/var/log/console.log").unwrap_or_default().contains("frobnicate: command not found"));
}

#[tokio::test]
async fn scripts_end_with_the_code_that_a_shell_would_give() {
    let (_folder, host) = host();
    for (text, code) in [
        ("true", 0),
        ("false", 1),
        ("false; true", 0),
        ("false || true", 0),
        ("true && false", 1),
        ("set -e; false; true", 1),
        ("bash -c 'false'", 1),
        ("/bin/sh -c \"exit-is-unknown\"", 127),
        ("echo a | cat", 2),
        ("echo x > /no/such/folder", 1),
        ("test -f /etc/none || touch /etc/made", 0),
        ("test -f /etc/made", 0),
        ("systemctl daemon-reload", 0),
        ("systemctl enable --now containerd", 0),
        ("systemctl start nginx", 5),
        ("systemctl is-active kubelet", 3),
        ("kubeadm reset", 1),
        ("A=/etc/b && touch $A && test -e /etc/b", 0),
    ] {
        assert_eq!(script(&host, text).await, code, "{text}");
    }
}

#[tokio::test]
async fn a_list_of_words_is_run_without_a_shell() {
    let (_folder, host) = host();
    let words = ["touch", "/a && b"].map(String::from);
    assert_eq!(run_words(&host, &words).await, 0);
    assert!(host.disk.exists("/a && b"));
}
