//! libvirtd without an init system: one per lab, in its namespaces, with nothing of the host's security set-up.

use super::run;
use crate::process::{Launch, Process};
use anyhow::Result;
use std::fs;
use std::path::Path;
use std::time::Duration;

const QEMU_CONF: &str = r#"user = "root"
group = "root"
dynamic_ownership = 0
remember_owner = 0
security_driver = "none"
cgroup_controllers = [ ]
namespaces = [ ]
stdio_handler = "file"
seccomp_sandbox = 0
"#;

const DAEMON_CONF: &str = r#"listen_tls = 0
listen_tcp = 0
auth_unix_ro = "none"
auth_unix_rw = "none"
unix_sock_group = "root"
unix_sock_rw_perms = "0700"
log_level = 3
"#;

/// Storage pool that the emulator puts media into.
pub const POOL: &str = "default";
/// Where libvirt answers.
pub const URI: &str = "qemu:///system";

/// A running libvirtd.
pub struct Libvirt {
    daemon: Process,
}

impl Libvirt {
    /// Starts it with its data in `folder`.
    pub async fn start(folder: &Path) -> Result<Libvirt> {
        let home = folder.join("libvirt");
        let pool = home.join("pool");
        for needed in [pool.as_path(), Path::new("/etc/libvirt/qemu"), Path::new("/var/lib/libvirt/qemu")] {
            fs::create_dir_all(needed)?;
        }
        fs::write("/etc/libvirt/qemu.conf", QEMU_CONF)?;
        let config = home.join("libvirtd.conf");
        fs::write(&config, DAEMON_CONF)?;
        let launch = Launch::new("libvirtd", Path::new("libvirtd")).args([
            format!("--config={}", config.display()),
            format!("--pid-file={}", home.join("libvirtd.pid").display()),
        ]);
        let mut libvirt = Libvirt { daemon: launch.start(&folder.join("log"))? };
        libvirt.daemon.ready(Duration::from_secs(30), async || virsh(&["version"]).is_ok()).await?;
        virsh(&["pool-create-as", POOL, "dir", "--target", &pool.display().to_string()])?;
        Ok(libvirt)
    }
}

/// Runs virsh and gives what it prints.
pub fn virsh(args: &[&str]) -> Result<String> {
    run("virsh", &[&["--quiet", "--connect", URI], args].concat())
}
