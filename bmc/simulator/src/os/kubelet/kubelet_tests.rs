use super::*;

fn disk(files: &[(&str, &str)]) -> (tempfile::TempDir, Disk) {
    let folder = tempfile::tempdir().expect("a folder");
    let disk = Disk::open(folder.path()).expect("a disk");
    for (path, text) in files {
        disk.write(path, text.as_bytes(), 0o644).expect("a file");
    }
    (folder, disk)
}

const CONFIG: &str = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\n";

#[test]
fn a_unit_of_the_user_data_replaces_that_of_the_image() {
    let unit = "[Service]\nExecStart=/usr/bin/kubelet --config=/var/lib/kubelet/config.yaml \\\n --provider-id=x://y\n";
    let (_folder, disk) = disk(&[
        ("/usr/lib/systemd/system/kubelet.service", IMAGE_UNIT),
        ("/etc/systemd/system/kubelet.service", unit),
        ("/var/lib/kubelet/config.yaml", CONFIG),
    ]);
    let settings = settings(&disk, "node-1").expect("settings");
    assert_eq!((settings.provider_id.as_deref(), settings.kubeconfig), (Some("x://y"), None));
}

#[test]
fn the_unit_of_the_image_reads_what_kubeadm_writes() {
    let (_folder, disk) = disk(&[
        ("/usr/lib/systemd/system/kubelet.service", IMAGE_UNIT),
        (
            "/var/lib/kubelet/kubeadm-flags.env",
            "KUBELET_KUBEADM_ARGS=\"--provider-id=x://y --register-with-taints=a=b:NoSchedule\"\n",
        ),
        ("/etc/default/kubelet", "KUBELET_EXTRA_ARGS=--node-labels=tier=web\n"),
        ("/var/lib/kubelet/config.yaml", CONFIG),
    ]);
    let settings = settings(&disk, "node-1").expect("settings");
    assert_eq!(settings.provider_id.as_deref(), Some("x://y"));
    assert_eq!((settings.taints.len(), settings.labels["tier"].as_str()), (1, "web"));
    assert_eq!(settings.kubeconfig.as_deref(), Some("/etc/kubernetes/kubelet.conf"));
    assert_eq!(settings.bootstrap_kubeconfig.as_deref(), Some("/etc/kubernetes/bootstrap-kubelet.conf"));
}

#[test]
fn drop_ins_are_read_by_name_and_etc_wins() {
    let (_folder, disk) = disk(&[
        ("/usr/lib/systemd/system/kubelet.service", "[Service]\nExecStart=/usr/bin/kubelet $A $B\n"),
        ("/usr/lib/systemd/system/kubelet.service.d/10-a.conf", "[Service]\nEnvironment=A=--max-pods=1\n"),
        ("/etc/systemd/system/kubelet.service.d/10-a.conf", "[Service]\nEnvironment=A=--max-pods=2\n"),
        ("/etc/systemd/system/kubelet.service.d/20-b.conf", "[Service]\nEnvironment=B=--provider-id=x://y\n"),
    ]);
    let settings = settings(&disk, "node-1").expect("settings");
    assert_eq!((settings.max_pods, settings.provider_id.as_deref()), (2, Some("x://y")));
}

#[test]
fn a_kubelet_that_cannot_start_says_why() {
    for (files, message) in [
        (vec![], "Unit kubelet.service not found"),
        (
            vec![("/etc/systemd/system/kubelet.service", "[Service]\nExecStart=/usr/bin/kubelet --config=/c\n")],
            "cannot read /c",
        ),
        (
            vec![("/etc/systemd/system/kubelet.service", "[Service]\nEnvironmentFile=/e\nExecStart=kubelet\n")],
            "EnvironmentFile /e does not exist",
        ),
        (
            vec![("/etc/systemd/system/kubelet.service", "[Service]\nExecStart=/usr/bin/k3s agent\n")],
            "the unit starts /usr/bin/k3s, which is not installed on a simulated machine",
        ),
    ] {
        let (_folder, disk) = disk(&files);
        assert_eq!(settings(&disk, "node-1").expect_err(message).to_string(), message);
    }
}
