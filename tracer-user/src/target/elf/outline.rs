//! What the headers of an ELF file say, without reading the rest: a debug build has hundreds of MB, and a process maps hundreds of files. The file belongs
//! to the target: headers that ask for more than an honest file does are refused.

use std::cell::Cell;
use std::fs::File;
use std::ops::Range;

use object::elf::{FileHeader64, ProgramHeader64};
use object::read::elf::{FileHeader, ProgramHeader, SectionHeader, SectionTable};
use object::read::{ReadCache, ReadRef};
use object::{LittleEndian, elf};

use super::{SEGMENTS, Segment, addresses};
use crate::error::{Error, Kind, Result};

/// Bytes of headers and notes that are read of a file, at most: a file with 65,535 sections has 4 MiB of them.
const LIMIT: u64 = 16 << 20;

/// What the headers say.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Outline {
    /// The `PT_LOAD` segments, in the file's order.
    pub segments: Vec<Segment>,
    /// The GNU build id.
    pub build_id: Option<Vec<u8>>,
    /// The addresses of the index of the frame descriptions (`PT_GNU_EH_FRAME`).
    pub frame_index: Option<Range<u64>>,
    /// The addresses of the frame descriptions (`.eh_frame`), where the file has section headers.
    pub frames: Option<Range<u64>>,
    /// Frame descriptions that are not loaded (`.debug_frame`).
    pub debug_frames: Option<Stored>,
}

/// A part of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stored {
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Bytes in the file.
    pub size: u64,
    /// How it is packed, and its bytes then; `None` if it is not.
    pub packed: Option<(elf::CompressionType, u64)>,
}

impl Outline {
    /// Reads the headers of a file.
    ///
    /// # Errors
    /// [`Kind::Target`] when it is no x86-64 ELF file.
    pub fn read(file: &File) -> Result<Self> {
        let (cache, left) = (ReadCache::new(file), Cell::new(LIMIT));
        Self::parse(Bounded { cache: &cache, left: &left })
            .ok_or_else(|| Error::new(Kind::Target, "not an x86-64 ELF file"))
    }

    fn parse<'a>(file: impl ReadRef<'a>) -> Option<Self> {
        const ENDIAN: LittleEndian = LittleEndian;
        let header = FileHeader64::<LittleEndian>::parse(file).ok()?;
        header.endian().ok()?;
        if header.e_machine.get(ENDIAN) != elf::EM_X86_64 {
            return None;
        }
        let headers = header.program_headers(ENDIAN, file).ok()?;
        let headers = headers.iter().take(SEGMENTS);
        let mut this = Self::default();
        for header in headers {
            match header.p_type(ENDIAN) {
                elf::PT_LOAD => this.segments.push(Segment::of(header)),
                elf::PT_GNU_EH_FRAME => {
                    this.frame_index =
                        addresses(header.p_vaddr(ENDIAN), header.p_filesz(ENDIAN)).or(this.frame_index);
                }
                elf::PT_NOTE if this.build_id.is_none() => this.build_id = build_id(header, file),
                _ => {}
            }
        }
        // A file whose section headers are gone or broken runs as well as any other.
        if let Ok(sections) = header.sections(ENDIAN, file) {
            this.read_sections(&sections, file);
        }
        Some(this)
    }

    fn read_sections<'a, R: ReadRef<'a>>(
        &mut self,
        sections: &SectionTable<'a, FileHeader64<LittleEndian>, R>,
        file: R,
    ) {
        const ENDIAN: LittleEndian = LittleEndian;
        for section in sections.iter() {
            let name = sections.section_name(ENDIAN, section);
            if name == Ok(b".eh_frame") {
                self.frames = addresses(section.sh_addr(ENDIAN), section.sh_size(ENDIAN));
            } else if name == Ok(b".debug_frame") {
                self.debug_frames = match section.compression(ENDIAN, file) {
                    Ok(None) => {
                        section.file_range(ENDIAN).map(|(offset, size)| Stored { offset, size, packed: None })
                    }
                    Ok(Some((how, offset, size))) => {
                        let packed = Some((how.ch_type.get(ENDIAN), how.ch_size.get(ENDIAN)));
                        Some(Stored { offset, size, packed })
                    }
                    Err(_) => None,
                };
            }
        }
    }
}

impl Segment {
    /// From its header.
    pub(super) fn of(header: &ProgramHeader64<LittleEndian>) -> Self {
        Self {
            vaddr: header.p_vaddr(LittleEndian),
            offset: header.p_offset(LittleEndian),
            file_size: header.p_filesz(LittleEndian),
            executable: header.p_flags(LittleEndian).0 & elf::PF_X.0 != 0,
        }
    }
}

fn build_id<'a>(header: &ProgramHeader64<LittleEndian>, file: impl ReadRef<'a>) -> Option<Vec<u8>> {
    let mut notes = header.notes(LittleEndian, file).ok()??;
    while let Ok(Some(note)) = notes.next() {
        if note.name() == elf::ELF_NOTE_GNU && note.n_type(LittleEndian) == elf::NT_GNU_BUILD_ID {
            return Some(note.desc().to_vec());
        }
    }
    None
}

/// A file of which only so much is read.
#[derive(Clone, Copy)]
struct Bounded<'a> {
    cache: &'a ReadCache<&'a File>,
    left: &'a Cell<u64>,
}

impl<'a> ReadRef<'a> for Bounded<'a> {
    fn len(self) -> std::result::Result<u64, ()> {
        self.cache.len()
    }

    fn read_bytes_at(self, offset: u64, size: u64) -> std::result::Result<&'a [u8], ()> {
        self.left.set(self.left.get().checked_sub(size).ok_or(())?);
        self.cache.read_bytes_at(offset, size)
    }

    /// A name, of which `ReadCache` reads at most 4 KiB.
    fn read_bytes_at_until(self, range: Range<u64>, delimiter: u8) -> std::result::Result<&'a [u8], ()> {
        self.cache.read_bytes_at_until(range, delimiter)
    }
}

#[cfg(test)]
mod tests;
