//! The parts of a file that describe its frames, read without the rest of it.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::elf;
use object::read::{CompressedData, CompressionFormat};

use crate::target::elf::Segment;
use crate::target::elf::outline::{Outline, Stored};

/// The longest section or index that is read, in bytes; a PyTorch of 2024 has some 40 MB.
const LIMIT: u64 = 256 << 20;

/// The parts of a file that describe its frames.
#[derive(Debug)]
pub struct FrameBytes {
    /// The index, if there is one, and its address.
    pub(super) index: Option<(u64, Vec<u8>)>,
    /// The descriptions, and their address.
    pub(super) section: Vec<u8>,
    pub(super) vaddr: u64,
    segments: Vec<Segment>,
}

impl FrameBytes {
    /// Reads the descriptions that the process itself uses (`.eh_frame`); `None` if the file has none that can be read.
    #[must_use]
    pub fn read(file: &File, outline: &Outline) -> Option<Self> {
        let segments = outline.segments.clone();
        let this = |index, vaddr, section| Self { index, section, vaddr, segments };
        let indexed = outline.frame_index.clone().and_then(|range| {
            let index = loaded(file, outline, range.start, range.end.checked_sub(range.start)?)?;
            let vaddr = super::section_by_index(range.start, &index)?;
            // The index does not say where the section ends; the section header does, if there is one.
            let named = outline.frames.clone().filter(|frames| frames.start == vaddr);
            let size = named.map_or(LIMIT, |frames| frames.end - frames.start);
            Some((range.start, index, vaddr, loaded_tail(file, outline, vaddr, size)?))
        });
        if let Some((at, index, vaddr, section)) = indexed {
            return Some(this(Some((at, index)), vaddr, section));
        }
        let range = outline.frames.clone()?;
        let section = loaded(file, outline, range.start, range.end.checked_sub(range.start)?)?;
        Some(this(None, range.start, section))
    }

    /// Reads the descriptions that are for debuggers (`.debug_frame`); `None` if the file has none that can be read.
    #[must_use]
    pub fn read_debug(file: &File, outline: &Outline) -> Option<Self> {
        let Stored { offset, size, packed } = outline.debug_frames?;
        let data = stored(file, offset, size)?;
        let section = match packed {
            None => data,
            Some((how, size)) => {
                let format = match how {
                    elf::ELFCOMPRESS_ZLIB => CompressionFormat::Zlib,
                    elf::ELFCOMPRESS_ZSTD => CompressionFormat::Zstandard,
                    _ => return None,
                };
                let packed = CompressedData { format, data: &data, uncompressed_size: size };
                (size <= LIMIT).then(|| packed.decompress().ok())??.into_owned()
            }
        };
        Some(Self { index: None, section, vaddr: 0, segments: outline.segments.clone() })
    }

    /// Whether this address is code of the file.
    pub(super) fn is_code(&self, vaddr: u64) -> bool {
        segment_at(&self.segments, vaddr).is_some_and(|segment| segment.executable)
    }
}

/// The first segment that fills an address.
fn segment_at(segments: &[Segment], vaddr: u64) -> Option<&Segment> {
    segments
        .iter()
        .find(|segment| vaddr.checked_sub(segment.vaddr).is_some_and(|inside| inside < segment.file_size))
}

/// Bytes at an address, all of them.
fn loaded(file: &File, outline: &Outline, vaddr: u64, size: u64) -> Option<Vec<u8>> {
    loaded_tail(file, outline, vaddr, size).filter(|bytes| bytes.len() as u64 == size)
}

/// Bytes from an address up to the end of its segment, at most so many.
fn loaded_tail(file: &File, outline: &Outline, vaddr: u64, most: u64) -> Option<Vec<u8>> {
    let segment = segment_at(&outline.segments, vaddr)?;
    let inside = vaddr - segment.vaddr;
    let offset = segment.offset.checked_add(inside)?;
    let end = file.metadata().ok()?.len();
    stored(file, offset, (segment.file_size - inside).min(most).min(end.checked_sub(offset)?))
}

fn stored(file: &File, offset: u64, size: u64) -> Option<Vec<u8>> {
    let fits = size <= LIMIT && offset.checked_add(size)? <= file.metadata().ok()?.len();
    let mut bytes = vec![0; usize::try_from(size).ok().filter(|_| fits)?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}
