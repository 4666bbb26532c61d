//! One boot: the disk as the firmware finds it, then cloud-init's work, then the services that start by themselves.
//!
//! `bootcmd` runs at every boot; files and `runcmd` at the first one of an instance (`instance-id` of meta-data), so a
//! power cycle brings back what was there and does not join again.

use std::sync::{Arc, Mutex};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::cloud_config::{self, CloudConfig, CloudConfigError, Command, File, InstanceData};
use super::host::{Disk, Host};
use super::{OsInput, commands, kubelet, service};

/// The instance whose `runcmd` has been begun.
const INSTANCE: &str = "/var/lib/cloud/data/instance-id";

/// What cloud-init has found on the config drive.
pub struct Instance {
    id: String,
    config: CloudConfig,
}

/// Takes the machine to where an image's own files are there and cloud-init has read the config drive.
pub fn prepare(
    input: OsInput,
    power: CancellationToken,
) -> anyhow::Result<(Arc<Host>, Result<Instance, CloudConfigError>)> {
    let disk = Disk::open(&input.root)?;
    for volatile in ["/run", "/tmp"] {
        disk.remove(volatile);
    }
    for folder in ["/etc", "/run", "/tmp", "/root", "/var/log", "/var/lib", "/proc/sys"] {
        disk.make_folder(folder)?;
    }
    disk.write("/usr/lib/systemd/system/kubelet.service", kubelet::IMAGE_UNIT.as_bytes(), 0o644)?;
    let instance = read(&input);
    let hostname = instance.as_ref().ok().and_then(|instance| instance.config.hostname.clone());
    let hostname = hostname.unwrap_or_else(|| "localhost".into());
    disk.write("/etc/hostname", format!("{hostname}\n").as_bytes(), 0o644)?;
    let host = Host {
        disk,
        hostname,
        address: input.address,
        facts: input.facts,
        programs: input.programs,
        timing: input.timing,
        power,
        tasks: TaskTracker::new(),
        kubelet: service::Kubelet::default(),
        static_pods: Mutex::new(Vec::new()),
    };
    Ok((Arc::new(host), instance))
}

fn read(input: &OsInput) -> Result<Instance, CloudConfigError> {
    let data = InstanceData::parse(&input.meta_data)?;
    let config = cloud_config::read(&input.user_data, &data)?;
    Ok(Instance { id: data.instance_id().into(), config })
}

/// Everything from there on; returns when cloud-init is done, while services go on.
pub async fn boot(host: &Arc<Host>, instance: Result<Instance, CloudConfigError>) {
    host.say("power on");
    if service::is_enabled(host) {
        service::start(host).await;
    }
    match instance {
        Ok(instance) => cloud_init(host, instance).await,
        Err(error) => host.complain(format!("cloud-init: {error}; this host will not join anything")),
    }
}

async fn cloud_init(host: &Arc<Host>, Instance { id, config }: Instance) {
    for (what, keys) in [("left out on a simulated machine", &config.left_out), ("not known", &config.unknown)] {
        if !keys.is_empty() {
            host.say(format!("cloud-init: {what}: {}", keys.join(", ")));
        }
    }
    let mut failed = run_all(host, "bootcmd", &config.bootcmd).await;
    if host.disk.read(INSTANCE).is_some_and(|known| known == id) {
        host.say(format!("cloud-init: instance {id} has been set up before"));
        return;
    }
    for file in &config.files {
        if let Err(error) = write(&host.disk, file) {
            host.complain(format!("cloud-init: write_files: {error:#}"));
            failed += 1;
        }
    }
    // Before the commands, as cloud-init does: commands that the power interrupts are not run again.
    if let Err(error) = host.disk.write(INSTANCE, id.as_bytes(), 0o644) {
        host.complain(format!("cloud-init: {error:#}"));
    }
    failed += run_all(host, "runcmd", &config.runcmd).await;
    match failed {
        0 => host.say("cloud-init: finished"),
        failed => host.complain(format!("cloud-init: finished, {failed} failed")),
    }
}

fn write(disk: &Disk, file: &File) -> anyhow::Result<()> {
    match file.append {
        true => disk.append(&file.path, &file.content, file.mode),
        false => disk.write(&file.path, &file.content, file.mode),
    }
}

/// Runs one after the other; one that fails stops none after it. Gives the number of failures.
async fn run_all(host: &Arc<Host>, list: &str, list_of_commands: &[Command]) -> usize {
    let mut failed = 0;
    for (index, command) in list_of_commands.iter().enumerate() {
        let code = match command {
            Command::Shell(script) => commands::run_script(host, script).await,
            Command::Words(words) => commands::run_words(host, words).await,
        };
        if code != 0 {
            host.complain(format!("cloud-init: {list}[{index}] ended with {code}"));
            failed += 1;
        }
    }
    failed
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::time::Duration;

    use rackwright_protocol::facts::Facts;

    use super::*;
    use crate::os::{OsTiming, run};

    /// Boots, waits a moment, pulls the plug; gives back the console.
    async fn boot_once(root: &Path, user_data: &str, instance: &str) -> String {
        let power = CancellationToken::new();
        let input = OsInput {
            root: root.into(),
            user_data: user_data.into(),
            meta_data: format!("instance-id: {instance}\nlocal-hostname: node-1\n"),
            address: [127, 0, 0, 1].into(),
            facts: Facts::default(),
            programs: None,
            timing: OsTiming::default(),
        };
        let os = tokio::spawn(run(input, power.clone()));
        tokio::time::sleep(Duration::from_millis(100)).await;
        power.cancel();
        os.await.expect("no panic").expect("a usable folder");
        std::fs::read_to_string(root.join("var/log/console.log")).unwrap_or_default()
    }

    #[tokio::test]
    async fn files_and_commands_act_at_the_first_boot_of_an_instance_only() {
        let folder = tempfile::tempdir().expect("a folder");
        let user_data = "#cloud-config\nwrite_files: [{path: /etc/a, content: \"x\\n\", append: true}]\nruncmd: ['echo y >> /etc/a']\n";
        for (instance, expected) in [("i-1", "x\ny\n"), ("i-1", "x\ny\n"), ("i-2", "x\ny\nx\ny\n")] {
            boot_once(folder.path(), user_data, instance).await;
            assert_eq!(std::fs::read_to_string(folder.path().join("etc/a")).expect("written"), expected);
        }
        assert_eq!(std::fs::read_to_string(folder.path().join("etc/hostname")).expect("written"), "node-1\n");
    }

    #[tokio::test]
    async fn bad_user_data_is_said_on_the_console_and_the_host_idles() {
        let folder = tempfile::tempdir().expect("a folder");
        let console = boot_once(folder.path(), "#cloud-config\nwrite_files: [{path: here}]\n", "i-1").await;
        assert!(console.contains("cloud-init: write_files entry \"here\": the path must be absolute"), "{console}");
    }

    #[tokio::test]
    async fn a_control_plane_without_programs_says_what_is_missing() {
        let folder = tempfile::tempdir().expect("a folder");
        let user_data = "#cloud-config\nwrite_files: [{path: /c, content: 'kind: ClusterConfiguration'}]\n\
                         runcmd: ['kubeadm init --config /c && echo success > /run/done']\n";
        let console = boot_once(folder.path(), user_data, "i-1").await;
        assert!(console.contains("no folder of programs was given to the simulator"), "{console}");
        assert!(!folder.path().join("run/done").exists());
    }
}
