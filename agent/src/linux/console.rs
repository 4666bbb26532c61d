//! What a person at the console sees, and what goes home: one line per event, with the seconds since the kernel started.
//!
//! Lines hold no secrets: what has any does not print itself. Of a panic only its place is told, for its text may quote
//! anything.

use super::text;
use crate::Logs;
use std::fmt::Write as _;
use std::fs::{File, OpenOptions};
use std::io::{Read, Write};
use std::path::Path;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;

/// Kernel messages of this level and worse go home: warnings (`KERN_WARNING`).
const KERNEL_LEVEL: u32 = 4;

/// Sends events to the console and to `logs`. Debug events only when the kernel's command line has `rackwright.debug`.
pub fn start(logs: &Logs) {
    let debug =
        text("/proc/cmdline").is_some_and(|line| line.split_whitespace().any(|word| word == "rackwright.debug"));
    let level = if debug { Level::DEBUG } else { Level::INFO };
    // The kernel's console is the last on its command line; who sits in front of the machine looks at the screen.
    let is_screen = text("/sys/class/tty/console/active").is_some_and(|tty| tty.ends_with("tty0"));
    let screen = if is_screen { None } else { OpenOptions::new().write(true).open("/dev/tty0").ok() };
    let lines = Lines { logs: logs.clone(), level, screen };
    // An error means that somebody else has begun to listen, which nobody does before this.
    let _ = tracing_subscriber::registry().with(lines).try_init();
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(ToString::to_string).unwrap_or_default();
        tracing::error!("panicked at {place}");
    }));
}

/// Sends the kernel's warnings to `logs`, from the first on, in a thread of its own.
pub fn follow_kernel(logs: &Logs) {
    let logs = logs.clone();
    std::thread::spawn(move || {
        let Ok(mut messages) = File::open("/dev/kmsg") else { return };
        let mut buffer = vec![0; 8192];
        loop {
            match messages.read(&mut buffer) {
                Ok(length) => {
                    if let Some(line) = kernel_line(&String::from_utf8_lossy(&buffer[..length])) {
                        logs.push(line);
                    }
                }
                // Messages were overwritten before we came to them; the next read is of those that are left.
                Err(why) if why.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
                Err(_) => return,
            }
        }
    });
}

/// One record of /dev/kmsg (Documentation/ABI/testing/dev-kmsg), when it is the kernel's and bad enough.
fn kernel_line(record: &str) -> Option<String> {
    let (head, message) = record.split_once(';')?;
    let mut fields = head.split(',');
    let priority: u32 = fields.next()?.parse().ok()?;
    let microseconds: u64 = fields.nth(1)?.parse().ok()?;
    let (facility, level) = (priority >> 3, priority & 7);
    (facility == 0 && level <= KERNEL_LEVEL).then(|| {
        // Several lines in one come with their line feeds escaped.
        let message = message.lines().next().unwrap_or_default().replace("\\x0a", " ");
        format!("[{:>5}.{:03}] kernel: {message}", microseconds / 1_000_000, microseconds / 1000 % 1000)
    })
}

/// A line, written to the console whether or not anybody listens to events.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "{} {line}", stamp());
}

fn stamp() -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    format!("[{:>5}.{:03}]", now.tv_sec, now.tv_nsec / 1_000_000)
}

struct Lines {
    logs: Logs,
    level: Level,
    screen: Option<File>,
}

impl<S: Subscriber> Layer<S> for Lines {
    fn enabled(&self, metadata: &Metadata<'_>, _: Context<'_, S>) -> bool {
        let ours = metadata.target().starts_with("rackwright");
        *metadata.level() <= if ours { self.level } else { Level::WARN }
    }

    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let mut line = stamp();
        if *event.metadata().level() <= Level::WARN {
            let _ = write!(line, " {}:", event.metadata().level().as_str().to_lowercase());
        }
        event.record(&mut Words(&mut line));
        // Whatever is in a value, it is one line.
        let mut line: String = line.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
        self.logs.push(line.clone());
        line.push('\n');
        let _ = std::io::stderr().write_all(line.as_bytes());
        if let Some(mut screen) = self.screen.as_ref() {
            let _ = screen.write_all(line.as_bytes());
        }
    }
}

struct Words<'a>(&'a mut String);

impl Visit for Words<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value}"),
            name => write!(self.0, " {name}={value}"),
        };
    }

    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ = match field.name() {
            "message" => write!(self.0, " {value:?}"),
            name => write!(self.0, " {name}={value:?}"),
        };
    }
}

/// Starts a shell on the serial console; it runs beside the agent and ends with it.
pub fn rescue_shell() {
    let tty = ["/dev/ttyS0", "/dev/ttyAMA0", "/dev/console"].into_iter().find(|tty| Path::new(tty).exists());
    let Some(tty) = tty else { return };
    let open = || OpenOptions::new().read(true).write(true).open(tty);
    let started = open().and_then(|input| {
        let (output, errors) = (input.try_clone()?, input.try_clone()?);
        // A session of its own with the console as its terminal: job control, and Ctrl-C does not reach the agent.
        let mut shell = std::process::Command::new("/bin/busybox");
        shell.args(["setsid", "-c", "/bin/sh", "-l"]).env("PS1", "rescue# ").stdin(input).stdout(output).stderr(errors);
        shell.spawn()
    });
    match started {
        Ok(_) => tracing::warn!("a rescue shell runs on {tty}, because the Host asks for one"),
        Err(why) => tracing::warn!("the rescue shell does not start: {why}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_kernels_warnings_go_home_and_its_chatter_does_not() {
        let line = kernel_line("4,339,5140900,-;ata1: hard\\x0aresetting link\n SUBSYSTEM=scsi\n");
        assert_eq!(line.as_deref(), Some("[    5.140] kernel: ata1: hard resetting link"));
        assert_eq!(kernel_line("6,340,5140900,-;eth0: link up\n"), None);
        assert_eq!(kernel_line("12,341,5140900,-;written to /dev/kmsg by a program\n"), None);
        assert_eq!(kernel_line("nonsense"), None);
    }

    #[test]
    fn an_event_is_one_line_and_a_panic_tells_its_place_only() {
        let logs = Logs::default();
        let lines = Lines { logs: logs.clone(), level: Level::INFO, screen: None };
        let subscriber = tracing_subscriber::registry().with(lines);
        tracing::subscriber::with_default(subscriber, || {
            tracing::warn!(disk = "sda", gone = true, "a\nb");
            tracing::debug!("not told");
        });
        let lines = logs.drain();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].ends_with("] warn: a b disk=sda gone=true"), "{lines:?}");
    }

    proptest! {
        #[test]
        fn no_record_of_the_kernel_is_a_panic(record in ".{0,80}") {
            let _ = kernel_line(&record);
        }
    }
}
