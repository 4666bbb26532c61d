//! The last stage: blocks to the disk.
//!
//! A disk may hold another system's bytes, so zeros in an image are never simply left out: the disk is told to read as
//! zero there ([`BlockDevice::zero_at`], which promises that), and where it cannot they are written like anything else.

use super::{BLOCK, Ends, Later, Samples, too_large, write_failed};
use crate::{BlockDevice, Failure};
use bytes::Bytes;
use rackwright_protocol::facts::ReadBack;
use tokio::sync::mpsc;

/// Zeros are told from other bytes in units of this, bytes. Divides [`BLOCK`].
const GRAIN: usize = 256 << 10;
static ZEROS: [u8; GRAIN] = [0; GRAIN];

/// Writes blocks as they come, gives their memory back, and samples them.
pub(super) async fn store(
    disk: &mut Ends<'_>,
    extent: ReadBack,
    mut blocks: mpsc::Receiver<Bytes>,
    back: mpsc::Sender<Bytes>,
) -> Result<Later<Samples>, Failure> {
    let (mut samples, mut at, mut zeroes) = (Samples::new(extent), 0, true);
    while let Some(block) = blocks.recv().await {
        let end = at + block.len() as u64;
        if end > disk.size() {
            return Ok(Err(too_large(end, disk.size())));
        }
        if let Some(before) = samples.take(at, block.clone()).await? {
            let _full_or_gone = back.try_send(before);
        }
        for run in runs(&block, zeroes) {
            let from = at + run.from as u64;
            if run.zero && zeroes {
                zeroes = disk.zero_at(from, (run.to - run.from) as u64).await.map_err(write_failed)?;
                if zeroes {
                    continue;
                }
            }
            disk.write_at(from, block.slice(run.from..run.to)).await.map_err(write_failed)?;
        }
        at = end;
    }
    if at == 0 {
        return Ok(Err(Failure::new("ImageUnreadable", "the image is empty")));
    }
    Ok(Ok(samples))
}

/// Part of a block: all zeros, or not.
#[derive(Debug, PartialEq, Eq)]
struct Run {
    from: usize,
    to: usize,
    zero: bool,
}

/// `block` in as few runs as there are; one when zeros are of no interest. A run of zeros is made of whole grains.
fn runs(block: &[u8], zeroes: bool) -> Vec<Run> {
    debug_assert!(block.len() <= BLOCK);
    let mut runs: Vec<Run> = Vec::new();
    for from in (0..block.len()).step_by(GRAIN) {
        let to = block.len().min(from + GRAIN);
        let zero = zeroes && block[from..to] == ZEROS;
        match runs.last_mut() {
            Some(last) if last.zero == zero => last.to = to,
            _ => runs.push(Run { from, to, zero }),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_cover_the_block_and_part_of_a_grain_is_never_zeros() {
        let mut block = vec![0; 5 * GRAIN + 100];
        block[2 * GRAIN + 5] = 1;
        let run = |from, to, zero| Run { from, to, zero };
        assert_eq!(
            runs(&block, true),
            [
                run(0, 2 * GRAIN, true),
                run(2 * GRAIN, 3 * GRAIN, false),
                run(3 * GRAIN, 5 * GRAIN, true),
                run(5 * GRAIN, 5 * GRAIN + 100, false)
            ]
        );
        assert_eq!(runs(&block, false), [run(0, 5 * GRAIN + 100, false)]);
        assert_eq!(runs(&[], true), []);
    }
}
