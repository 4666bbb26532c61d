//! What a machine says on its serial port, line by line, with the time at which each line was there.

use anyhow::Result;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::task::JoinHandle;

/// How often the file is looked at; what is timed by lines is as exact as this.
const INTERVAL: Duration = Duration::from_millis(50);

/// A line and when it was seen.
#[derive(Clone, Debug)]
pub struct Line {
    /// When.
    pub at: Instant,
    /// What.
    pub text: String,
}

/// A serial console that is being watched; it ends when this is dropped.
pub struct Console {
    path: PathBuf,
    lines: Arc<Mutex<Vec<Line>>>,
    watcher: JoinHandle<()>,
}

impl Console {
    /// Watches the file `path`, which is made when it is not there.
    pub fn watch(path: PathBuf) -> Result<Console> {
        let mut file = File::options().read(true).append(true).create(true).open(&path)?;
        let lines = Arc::<Mutex<Vec<Line>>>::default();
        let into = lines.clone();
        let watcher = tokio::spawn(async move {
            let mut rest = Vec::new();
            loop {
                // Little enough at a time that reading it here holds nobody up.
                if file.read_to_end(&mut rest).is_ok() {
                    take_lines(&mut rest, &into);
                }
                tokio::time::sleep(INTERVAL).await;
            }
        });
        Ok(Console { path, lines, watcher })
    }

    /// The file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The first line since `since` that contains `text`.
    pub fn first(&self, text: &str, since: Instant) -> Option<Line> {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        lines.iter().find(|line| line.at >= since && line.text.contains(text)).cloned()
    }

    /// The last `count` lines.
    pub fn tail(&self, count: usize) -> String {
        let lines = self.lines.lock().unwrap_or_else(PoisonError::into_inner);
        let last = &lines[lines.len().saturating_sub(count)..];
        last.iter().map(|line| line.text.as_str()).collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Console {
    fn drop(&mut self) {
        self.watcher.abort();
    }
}

fn take_lines(rest: &mut Vec<u8>, into: &Mutex<Vec<Line>>) {
    let at = Instant::now();
    while let Some(end) = rest.iter().position(|byte| *byte == b'\n') {
        let text = String::from_utf8_lossy(&rest[..end]).trim_end().to_owned();
        rest.drain(..=end);
        into.lock().unwrap_or_else(PoisonError::into_inner).push(Line { at, text });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    #[tokio::test]
    async fn a_line_is_found_once_it_is_whole() {
        let folder = tempfile::tempdir().expect("temp folder");
        let begun = Instant::now();
        let console = Console::watch(folder.path().join("serial")).expect("a file");
        let mut port = File::options().append(true).open(console.path()).expect("a file");
        write!(port, "booting\r\nhello wor").expect("written");
        tokio::time::sleep(INTERVAL * 4).await;
        assert!(console.first("booting", begun).is_some());
        assert!(console.first("hello", begun).is_none());
        writeln!(port, "ld").expect("written");
        tokio::time::sleep(INTERVAL * 4).await;
        assert_eq!(console.first("hello", begun).map(|line| line.text), Some("hello world".into()));
        assert!(console.first("booting", Instant::now()).is_none(), "an older line");
        assert_eq!(console.tail(1), "hello world");
    }
}
