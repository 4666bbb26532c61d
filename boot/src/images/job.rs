//! One image on its way into the cache, however many hosts want it: what everybody who waits for it sees.

use super::Failure;
use super::cache::Cached;
use crate::pump;
use bytes::Bytes;
use futures::{Stream, stream};
use std::fs::File;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::watch;

/// How far it is.
#[derive(Clone, Debug)]
pub enum State {
    /// Where it comes from is being found out.
    Begun,
    /// It comes; what has come can be read.
    Fetching(Fetching),
    /// It has come whole and is being unpacked.
    Unpacking {
        /// How much is done.
        percent: u8,
    },
    /// It is in the cache.
    Done(Done),
    /// It is not to be had; since when.
    Failed(Failure, Instant),
}

/// A file that grows.
#[derive(Clone, Debug)]
pub struct Fetching {
    /// Open for reading.
    pub file: Arc<File>,
    /// Bytes that are there.
    pub written: u64,
    /// Bytes that there will be, when that is known.
    pub length: Option<u64>,
    /// Digest that it shall have.
    pub digest: String,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// Name in the cache.
    pub name: String,
    /// Digest of what hosts fetch.
    pub digest: String,
}

impl State {
    /// How much of the whole is done.
    pub fn percent(&self) -> u8 {
        match self {
            State::Begun | State::Failed(..) => 0,
            State::Fetching(fetching) => match fetching.length {
                Some(length) if length > 0 => {
                    u8::try_from(fetching.written.saturating_mul(100) / length).unwrap_or(100).min(100)
                }
                _ => 0,
            },
            State::Unpacking { percent } => *percent,
            State::Done(_) => 100,
        }
    }
}

/// An image that can be read, to the end or as far as it has come.
#[derive(Debug)]
pub struct Reading {
    /// What is read.
    pub cached: Cached,
    /// Its digest.
    pub digest: String,
    /// How far it is, when it still grows.
    pub growing: Option<watch::Receiver<State>>,
}

impl Reading {
    /// The bytes of `range`, waiting for those that have not come yet.
    pub fn stream(self, range: Range<u64>) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
        stream::try_unfold((self.cached.file, self.growing, range), async |(file, mut growing, range)| {
            if range.is_empty() {
                return Ok(None);
            }
            let there = match &mut growing {
                Some(growing) => there(growing, range.start).await?,
                None => u64::MAX,
            };
            let bytes = pump::chunk(&file, range.start..range.end.min(there)).await?;
            let rest = range.start + bytes.len() as u64..range.end;
            Ok::<_, io::Error>(Some((bytes, (file, growing, rest))))
        })
    }
}

/// Waits until more than `at` bytes are there; how many there are.
async fn there(growing: &mut watch::Receiver<State>, at: u64) -> io::Result<u64> {
    let state = growing.wait_for(|state| match state {
        State::Begun => false,
        State::Fetching(fetching) => fetching.written > at,
        _ => true,
    });
    let state = state.await.map_err(|_| io::Error::other("the image is no longer being fetched"))?;
    match &*state {
        State::Fetching(fetching) => Ok(fetching.written),
        State::Failed(failure, _) => Err(io::Error::other(failure.message.clone())),
        _ => Ok(u64::MAX),
    }
}
