//! A disk whose two ends are held back in memory until [`Ends::commit`].
//!
//! Firmware starts from the first sectors, and from the last ones where a GPT's copy stands (UEFI 2.10 section 5.3.2). As
//! long as neither is on the disk a machine whose power goes has nothing to boot, however much of an image is there.

use crate::{BlockDevice, MachineError};
use async_trait::async_trait;
use bytes::Bytes;

/// What is held back at each end, bytes.
pub(crate) const END: u64 = 1 << 20;
/// What is written last of all, bytes: one sector of a disk with large sectors, so it is written whole or not at all.
const FIRST: usize = 4096;

/// What [`BlockDevice::zero_at`] counts in, bytes.
const PAGE: u64 = 4096;

/// A disk whose ends hold zeros, and what they are to hold.
pub(crate) struct Ends<'a> {
    disk: Box<dyn BlockDevice + 'a>,
    head: Part,
    tail: Part,
}

/// One end.
struct Part {
    /// Where it begins on the disk.
    at: u64,
    bytes: Vec<u8>,
    /// What was written of it, from and to, counted from its start.
    written: Option<(usize, usize)>,
}

impl<'a> Ends<'a> {
    /// `disk` must have zeros at both ends: [`crate::Machine::make_unbootable`] was called.
    pub fn hold(disk: Box<dyn BlockDevice + 'a>) -> Ends<'a> {
        let size = disk.size();
        let head = END.min(size);
        let tail = END.min(size - head);
        Ends { disk, head: Part::new(0, head), tail: Part::new(size - tail, tail) }
    }

    /// Writes both ends, the very first sectors last, and gives the disk as it is then. When it returns without an error,
    /// all of it survives a power cut.
    pub async fn commit(mut self) -> Result<Box<dyn BlockDevice + 'a>, MachineError> {
        self.finish().await?;
        let Ends { mut disk, head, .. } = self;
        let Some((at, head)) = head.pending() else { return Ok(disk) };
        let first = FIRST.saturating_sub(usize::try_from(at).unwrap_or(FIRST)).min(head.len());
        if head.len() > first {
            disk.write_at(at + first as u64, head.slice(first..)).await?;
        }
        disk.finish().await?;
        disk.write_at(at, head.slice(..first)).await?;
        disk.finish().await?;
        Ok(disk)
    }

    /// What was written to the ends, with its place.
    pub fn pending(&self) -> Vec<(u64, Bytes)> {
        [&self.head, &self.tail].into_iter().filter_map(Part::pending).collect()
    }
}

impl Part {
    fn new(at: u64, length: u64) -> Part {
        Part { at, bytes: vec![0; usize::try_from(length).unwrap_or_default()], written: None }
    }

    /// The part of `offset..offset + length` that lies in here: where in here, and where in the range.
    fn overlap(&self, offset: u64, length: usize) -> Option<(usize, usize, usize)> {
        let (from, to) = (offset.max(self.at), (offset + length as u64).min(self.at + self.bytes.len() as u64));
        let index = |at: u64| usize::try_from(at).ok();
        if from < to { Some((index(from - self.at)?, index(from - offset)?, index(to - from)?)) } else { None }
    }

    fn write(&mut self, offset: u64, bytes: &[u8]) {
        if let Some((here, there, length)) = self.overlap(offset, bytes.len()) {
            self.bytes[here..here + length].copy_from_slice(&bytes[there..there + length]);
            let (from, to) = self.written.unwrap_or((here, here + length));
            self.written = Some((from.min(here), to.max(here + length)));
        }
    }

    fn pending(&self) -> Option<(u64, Bytes)> {
        let (from, to) = self.written?;
        Some((self.at + from as u64, Bytes::copy_from_slice(&self.bytes[from..to])))
    }
}

#[async_trait]
impl BlockDevice for Ends<'_> {
    fn size(&self) -> u64 {
        self.disk.size()
    }

    fn sector(&self) -> u64 {
        self.disk.sector()
    }

    async fn read_at(&mut self, offset: u64, length: usize) -> Result<Bytes, MachineError> {
        if let Some((here, 0, found)) = self.head.overlap(offset, length)
            && found == length
        {
            return Ok(Bytes::copy_from_slice(&self.head.bytes[here..here + length]));
        }
        let mut bytes = self.disk.read_at(offset, length).await?.to_vec();
        for part in [&self.head, &self.tail] {
            if let Some((here, there, length)) = part.overlap(offset, length) {
                bytes[there..there + length].copy_from_slice(&part.bytes[here..here + length]);
            }
        }
        Ok(bytes.into())
    }

    async fn write_at(&mut self, offset: u64, bytes: Bytes) -> Result<(), MachineError> {
        if offset.checked_add(bytes.len() as u64).is_none_or(|end| end > self.size()) {
            return Err(MachineError(format!("the disk holds {} bytes", self.size())));
        }
        self.head.write(offset, &bytes);
        self.tail.write(offset, &bytes);
        let skip = (self.head.bytes.len() as u64).saturating_sub(offset).min(bytes.len() as u64);
        let end = (self.tail.at.max(offset) - offset).min(bytes.len() as u64);
        if skip < end {
            let index = |at: u64| usize::try_from(at).unwrap_or(usize::MAX);
            self.disk.write_at(offset + skip, bytes.slice(index(skip)..index(end))).await?;
        }
        Ok(())
    }

    async fn zero_at(&mut self, offset: u64, length: u64) -> Result<bool, MachineError> {
        let end = offset + length;
        let from = (self.head.bytes.len() as u64).clamp(offset, end);
        let to = (self.tail.at / PAGE * PAGE).clamp(from, end);
        if from < to && !self.disk.zero_at(from, to - from).await? {
            return Ok(false);
        }
        for (from, to) in [(offset, from), (to, end)] {
            let zeros = vec![0; usize::try_from(to - from).unwrap_or_default()];
            self.write_at(from, zeros.into()).await?;
        }
        Ok(true)
    }

    /// All but the start of the disk survives a power cut: without the protective MBR in its first sector a GPT's copy at
    /// the end starts nothing, but tells where partitions are.
    async fn finish(&mut self) -> Result<(), MachineError> {
        if let Some((at, bytes)) = self.tail.pending() {
            self.disk.write_at(at, bytes).await?;
        }
        self.disk.finish().await
    }
}
