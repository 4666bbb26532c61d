//! Namespaces of its own for a lab: network, mounts, processes.
//!
//! The program starts itself again inside them (`unshare`, util-linux). When the inner one ends, however it ends, the
//! kernel takes every process, mount and interface with it.

use anyhow::{Context, Result, bail, ensure};
use std::ffi::OsString;
use std::fs;
use std::process::{Child, Command};

/// Set for the program inside.
const INSIDE: &str = "RACKWRIGHT_METAL_INSIDE";
/// What libvirt and `ip netns` keep in fixed places: empty in here, whatever it is outside.
const PRIVATE: [&str; 5] = ["/run/libvirt", "/var/lib/libvirt", "/var/cache/libvirt", "/etc/libvirt", "/run/netns"];

/// Whether this program runs inside.
pub fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Starts this program once more, inside, with `args` and more environment. Its process id is that of somebody who is in the
/// same network and sees the same mounts, so that `nsenter` can join.
pub fn enter(args: &[OsString], environment: &[(&str, OsString)]) -> Result<Child> {
    let program = std::env::current_exe().context("the path of this program is unknown")?;
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "--", "unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc"]);
    // The first process of a pid namespace inherits orphans (every QEMU is one) and must reap them: a shell does.
    command.args(["--kill-child", "sh", "-c", r#""$@"; exit $?"#, "sandbox"]).arg(program).args(args);
    command.env(INSIDE, "1").envs(environment.iter().map(|(name, value)| (name, value)));
    command.spawn().context("unshare and setpriv (util-linux) are needed")
}

/// The body of a test: told inside; outside, the test program is started inside with this one test.
///
/// The test's name is that of the function in which `story` is written.
pub fn test<S: AsyncFnOnce() -> Result<()>>(story: S) -> Result<()> {
    test_beside(|| Ok(((), Vec::new())), story)
}

/// [`test`], with something that stays outside as long as the story lasts: `outside` gives it, and what the story inside is
/// told about it.
pub fn test_beside<O, S: AsyncFnOnce() -> Result<()>>(
    outside: impl FnOnce() -> Result<(O, Vec<(&'static str, OsString)>)>,
    story: S,
) -> Result<()> {
    if is_inside() {
        prepare()?;
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
        return runtime.block_on(story());
    }
    let name = test_name(std::any::type_name::<S>());
    let args = [&name, "--exact", "--include-ignored", "--nocapture", "--test-threads=1"].map(OsString::from);
    let (_stays, told) = outside()?;
    let ended = enter(&args, &told)?.wait()?;
    ensure!(ended.success(), "{name} ended with {ended} inside its namespaces");
    Ok(())
}

/// `crate::module::name::{{closure}}` → `module::name`, as the test harness calls it.
fn test_name(type_name: &str) -> String {
    let parts = type_name.split("::").skip(1).take_while(|part| !part.starts_with('{'));
    parts.collect::<Vec<_>>().join("::")
}

/// Makes the inside ready for a lab; once, before anything is started.
pub fn prepare() -> Result<()> {
    if !is_inside() {
        bail!("a lab of real machines is set up only in namespaces of its own");
    }
    for folder in PRIVATE {
        fs::create_dir_all(folder).with_context(|| format!("{folder} cannot be made; root is needed"))?;
        super::run("mount", &["-t", "tmpfs", "rackwright", folder])?;
    }
    super::run("ip", &["link", "set", "lo", "up"])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_is_named_after_the_function_that_tells_its_story() {
        assert_eq!(test_name("metal::faults::a_cut_is_resumed::{{closure}}"), "faults::a_cut_is_resumed");
        assert_eq!(test_name("metal::one_machine::{{closure}}::{{closure}}"), "one_machine");
    }
}
