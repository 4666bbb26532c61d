//! Unpacks what is served, block by block: however small a packed file is, no more than one block of it is in memory.
//!
//! Each kind may be several packed files one after the other, as `cat` makes them. A checksum that the packing carries is
//! checked; it says nothing about who made the image: that is the digest's to say.

use super::BLOCK;
use crate::Failure;
use bytes::{Bytes, BytesMut};
use flate2::{Decompress, FlushDecompress};
use liblzma::stream::{Action, CONCATENATED, Status, Stream};
use rackwright_protocol::facts::ImageFormat;
use zstd::stream::raw::{Decoder, Operation};

/// Memory that unpacking xz may take, bytes: four times what `xz -9` asks for.
const XZ_MEMORY: u64 = 260 << 20;

/// Unpacks one image.
pub(super) struct Unpacker {
    kind: Kind,
    block: BytesMut,
    filled: usize,
}

enum Kind {
    Raw,
    /// Between two members there is no decoder.
    Gzip(Option<Box<Decompress>>),
    /// With true inside of a frame.
    Zstd(Box<Decoder<'static>>, bool),
    Xz(Stream),
}

/// One step: bytes taken and bytes made.
struct Step(usize, usize);

impl Unpacker {
    pub fn new(format: ImageFormat) -> Result<Unpacker, Failure> {
        let kind = match format {
            ImageFormat::Raw => Kind::Raw,
            ImageFormat::RawGz => Kind::Gzip(Some(gzip())),
            ImageFormat::RawZst => Kind::Zstd(Box::new(Decoder::new().map_err(unreadable)?), false),
            ImageFormat::RawXz => Kind::Xz(Stream::new_stream_decoder(XZ_MEMORY, CONCATENATED).map_err(unreadable)?),
            ImageFormat::Qcow2 => {
                let message = "the plan names a qcow2 image; the boot service unpacks these before it plans";
                return Err(Failure::new("PlanUnsupported", message));
            }
        };
        Ok(Unpacker { kind, block: BytesMut::zeroed(BLOCK), filled: 0 })
    }

    /// Unpacks from `packed`, and takes from it what was used, until a block is full (then that is the result) or nothing
    /// is left.
    pub fn feed(&mut self, packed: &mut Bytes) -> Result<Option<Bytes>, Failure> {
        self.ensure_block();
        while !packed.is_empty() && self.filled < BLOCK {
            let Step(taken, made) = self.kind.step(packed, &mut self.block[self.filled..])?;
            self.filled += made;
            let _taken = packed.split_to(taken);
            if (taken, made) == (0, 0) {
                return Err(unreadable("it makes no progress"));
            }
        }
        Ok((self.filled == BLOCK).then(|| self.take()))
    }

    /// After the last byte: the next of what is left, nothing when all is out. An image that was cut off is an error.
    pub fn finish(&mut self) -> Result<Option<Bytes>, Failure> {
        self.ensure_block();
        while self.filled < BLOCK {
            match self.kind.end(&mut self.block[self.filled..])? {
                0 => break,
                made => self.filled += made,
            }
        }
        Ok((self.filled > 0).then(|| self.take()))
    }

    /// Gives back the memory of a block that is no longer used.
    pub fn reuse(&mut self, block: Bytes) {
        if self.block.is_empty()
            && let Ok(block) = block.try_into_mut()
            && block.len() == BLOCK
        {
            self.block = block;
        }
    }

    fn ensure_block(&mut self) {
        if self.block.is_empty() {
            self.block = BytesMut::zeroed(BLOCK);
        }
    }

    fn take(&mut self) -> Bytes {
        let mut block = std::mem::take(&mut self.block);
        block.truncate(self.filled);
        self.filled = 0;
        block.freeze()
    }
}

impl Kind {
    fn step(&mut self, packed: &[u8], block: &mut [u8]) -> Result<Step, Failure> {
        match self {
            Kind::Raw => {
                let length = packed.len().min(block.len());
                block[..length].copy_from_slice(&packed[..length]);
                Ok(Step(length, length))
            }
            Kind::Gzip(decoder) => gunzip(decoder, packed, block),
            Kind::Zstd(decoder, inside) => {
                let status = decoder.run_on_buffers(packed, block).map_err(unreadable)?;
                *inside = status.remaining != 0;
                Ok(Step(status.bytes_read, status.bytes_written))
            }
            Kind::Xz(stream) => run_xz(stream, packed, block, Action::Run),
        }
    }

    /// Bytes that were still inside, after the last packed one.
    fn end(&mut self, block: &mut [u8]) -> Result<usize, Failure> {
        match self {
            Kind::Raw | Kind::Gzip(None) | Kind::Zstd(_, false) => Ok(0),
            Kind::Gzip(Some(_)) => match self.step(&[], block)? {
                Step(_, 0) if matches!(self, Kind::Gzip(Some(_))) => Err(cut_off()),
                Step(_, made) => Ok(made),
            },
            Kind::Zstd(..) => match self.step(&[], block)? {
                Step(_, 0) if matches!(self, Kind::Zstd(_, true)) => Err(cut_off()),
                Step(_, made) => Ok(made),
            },
            Kind::Xz(stream) => run_xz(stream, &[], block, Action::Finish).map(|Step(_, made)| made),
        }
    }
}

fn gzip() -> Box<Decompress> {
    Box::new(Decompress::new_gzip(15))
}

fn gunzip(decoder: &mut Option<Box<Decompress>>, packed: &[u8], block: &mut [u8]) -> Result<Step, Failure> {
    let inflate = match decoder {
        Some(inflate) => inflate,
        // Zeros behind the last member are padding, as for gzip(1).
        None => match packed.iter().take_while(|byte| **byte == 0).count() {
            0 => decoder.insert(gzip()),
            zeros => return Ok(Step(zeros, 0)),
        },
    };
    let before = (inflate.total_in(), inflate.total_out());
    let status = inflate.decompress(packed, block, FlushDecompress::None).map_err(unreadable)?;
    let step = step_of(before, (inflate.total_in(), inflate.total_out()));
    if status == flate2::Status::StreamEnd {
        *decoder = None;
    }
    Ok(step)
}

fn run_xz(stream: &mut Stream, packed: &[u8], block: &mut [u8], action: Action) -> Result<Step, Failure> {
    let before = (stream.total_in(), stream.total_out());
    let status = stream.process(packed, block, action);
    let step = step_of(before, (stream.total_in(), stream.total_out()));
    match status {
        Ok(Status::StreamEnd) => Ok(step),
        Ok(_) if !matches!(action, Action::Finish) || step.1 > 0 => Ok(step),
        Err(why) if matches!(action, Action::Run) => Err(unreadable(why)),
        // No end, and nothing more comes out.
        Ok(_) | Err(_) => Err(cut_off()),
    }
}

fn step_of(before: (u64, u64), after: (u64, u64)) -> Step {
    let grown = |before, after: u64| usize::try_from(after - before).unwrap_or(usize::MAX);
    Step(grown(before.0, after.0), grown(before.1, after.1))
}

fn cut_off() -> Failure {
    unreadable("it ends in the middle")
}

fn unreadable(why: impl std::fmt::Display) -> Failure {
    Failure::new("ImageUnreadable", format!("the image cannot be unpacked: {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn content(length: usize) -> Vec<u8> {
        (0..length).map(|at| if at / 3000 % 3 == 0 { 0 } else { (at ^ (at >> 9)) as u8 }).collect()
    }

    fn pack(format: ImageFormat, bytes: &[u8]) -> Vec<u8> {
        match format {
            ImageFormat::RawGz => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
                encoder.write_all(bytes).expect("to memory");
                encoder.finish().expect("to memory")
            }
            ImageFormat::RawZst => zstd::encode_all(bytes, 1).expect("to memory"),
            ImageFormat::RawXz => {
                let mut encoder = liblzma::write::XzEncoder::new(Vec::new(), 0);
                encoder.write_all(bytes).expect("to memory");
                encoder.finish().expect("to memory")
            }
            ImageFormat::Raw | ImageFormat::Qcow2 => bytes.to_vec(),
        }
    }

    fn unpack(format: ImageFormat, packed: &[u8], cut: usize) -> Result<Vec<u8>, Failure> {
        let (mut unpacker, mut out) = (Unpacker::new(format)?, Vec::new());
        for piece in packed.chunks(cut) {
            let mut piece = Bytes::copy_from_slice(piece);
            while !piece.is_empty() {
                out.extend(unpacker.feed(&mut piece)?.into_iter().flatten());
            }
        }
        loop {
            match unpacker.finish()? {
                Some(block) => out.extend(block),
                None => return Ok(out),
            }
        }
    }

    const PACKED: [ImageFormat; 3] = [ImageFormat::RawGz, ImageFormat::RawZst, ImageFormat::RawXz];

    #[test]
    fn every_format_is_unpacked_however_it_is_cut() {
        let whole = content(BLOCK + 300_001);
        for format in PACKED.into_iter().chain([ImageFormat::Raw]) {
            let packed = pack(format, &whole);
            for cut in [packed.len(), 70_001, 1013] {
                assert!(unpack(format, &packed, cut) == Ok(whole.clone()), "{format:?} in pieces of {cut}");
            }
        }
    }

    #[test]
    fn several_packed_files_in_a_row_are_one_image() {
        let (one, two) = (content(70_000), content(5));
        for format in PACKED {
            let packed = [pack(format, &one), pack(format, &two)].concat();
            assert!(unpack(format, &packed, 333) == Ok([one.clone(), two.clone()].concat()), "{format:?}");
        }
    }

    #[test]
    fn a_packed_file_that_was_cut_off_or_is_none_is_unreadable() {
        for format in PACKED {
            let packed = pack(format, &content(200_000));
            for end in [1, 11, packed.len() / 2, packed.len() - 1] {
                let failure = unpack(format, &packed[..end], 4096).expect_err("cut off");
                assert_eq!(failure.reason, "ImageUnreadable", "{format:?} cut at {end}");
            }
            assert!(unpack(format, b"this is not packed at all", 7).is_err(), "{format:?}");
        }
    }

    #[test]
    fn a_small_file_that_unpacks_to_much_comes_block_by_block() {
        for format in PACKED {
            let packed = pack(format, &vec![0; 5 * BLOCK]);
            let mut unpacker = Unpacker::new(format).expect("known");
            let (mut packed, mut blocks) = (Bytes::from(packed), 0);
            while let Some(block) = unpacker.feed(&mut packed).expect("readable") {
                assert_eq!(block.len(), BLOCK, "{format:?}");
                blocks += 1;
            }
            while let Some(block) = unpacker.finish().expect("readable") {
                assert_eq!(block.len(), BLOCK, "{format:?}");
                blocks += 1;
            }
            assert_eq!(blocks, 5, "{format:?}");
        }
    }

    #[test]
    fn qcow2_is_the_boot_services_to_unpack() {
        assert_eq!(
            Unpacker::new(ImageFormat::Qcow2).err().map(|failure| failure.reason),
            Some("PlanUnsupported".into())
        );
    }
}
