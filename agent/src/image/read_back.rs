//! Reads from the disk what was written to it: a disk that lost or mixed up writes is found before it is booted.

use super::{aside, write_failed};
use crate::{BlockDevice, Failure, Progress};
use aws_lc_rs::digest::{SHA256, digest};
use bytes::Bytes;
use rackwright_protocol::facts::ReadBack;

/// Length of a sample, bytes.
const SAMPLE: usize = 4096;
/// Samples that are compared when not all is.
const SAMPLES: usize = 256;
/// What is compared at the end of the image, bytes.
const LAST: usize = 1 << 20;
/// Kept of a SHA-256: enough against chance, which is the only enemy here.
type Print = [u8; 16];

/// What was written where, in short.
pub(crate) struct Samples {
    extent: ReadBack,
    taken: Vec<Sample>,
    /// The last block, for a longer sample of its end.
    last: Option<(u64, Bytes)>,
}

#[derive(Clone, Copy)]
struct Sample {
    at: u64,
    length: usize,
    print: Print,
}

impl Samples {
    pub fn new(extent: ReadBack) -> Samples {
        Samples { extent, taken: Vec::new(), last: None }
    }

    /// Remembers `block`, which is written at `at`: all of it, or 4 KiB at a place that differs from block to block. Gives
    /// the one before back, whose memory is no longer needed.
    pub async fn take(&mut self, at: u64, block: Bytes) -> Result<Option<Bytes>, Failure> {
        let piece = match self.extent {
            ReadBack::Whole => 0..block.len(),
            ReadBack::Sampled => {
                let pages = (block.len() / SAMPLE).max(1);
                let page = usize::try_from(at / SAMPLE as u64 * 0x9e37 % 65_521).unwrap_or(0) % pages;
                page * SAMPLE..block.len().min((page + 1) * SAMPLE)
            }
        };
        self.add(at + piece.start as u64, block.slice(piece)).await?;
        Ok(self.last.replace((at, block)).map(|(_, before)| before))
    }

    async fn add(&mut self, at: u64, bytes: Bytes) -> Result<(), Failure> {
        let length = bytes.len();
        let print = aside(length, move || print(&bytes)).await?;
        self.taken.push(Sample { at, length, print });
        Ok(())
    }

    /// What is to be compared: everything, or samples from all over the image, and its end.
    async fn chosen(mut self) -> Result<Vec<Sample>, Failure> {
        let last = self.last.take();
        let step = match self.extent {
            ReadBack::Whole => 1,
            ReadBack::Sampled => self.taken.len().div_ceil(SAMPLES).max(1),
        };
        let mut kept: Vec<Sample> = self.taken.iter().copied().step_by(step).collect();
        if let Some((at, block)) = last {
            let from = block.len().saturating_sub(LAST);
            self.add(at + from as u64, block.slice(from..)).await?;
            kept.extend(self.taken.last());
        }
        Ok(kept)
    }
}

/// Compares what `disk` holds now with `samples`. The caller has seen to it that reads come from the disk.
pub(crate) async fn read_back(
    disk: &mut dyn BlockDevice,
    samples: Samples,
    progress: &Progress,
) -> Result<(), Failure> {
    let chosen = samples.chosen().await?;
    let total = chosen.iter().map(|sample| sample.length as u64).sum();
    let mut done = 0;
    for Sample { at, length, print: wanted } in chosen {
        let bytes = disk.read_at(at, length).await.map_err(write_failed)?;
        if aside(length, move || print(&bytes)).await? != wanted {
            return Err(differs(at, length));
        }
        done += length as u64;
        progress.bytes("ReadingBack", done, total);
    }
    Ok(())
}

/// The failure that says what does not hold what was written to it.
pub(crate) fn differs(at: u64, length: usize) -> Failure {
    let message = format!("{length} bytes from byte {at} of the disk are not what was written there; replace the disk");
    Failure::new("ReadBackDiffers", message)
}

fn print(bytes: &[u8]) -> Print {
    let (mut print, digest) = (Print::default(), digest(&SHA256, bytes));
    let length = print.len();
    print.copy_from_slice(&digest.as_ref()[..length]);
    print
}
