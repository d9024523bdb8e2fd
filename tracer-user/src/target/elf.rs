//! What an ELF file says: symbols, segments, what it needs. The file belongs to the target, so every offset in it is checked.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{LittleEndian, Object, ObjectSection, ObjectSymbol, SectionKind, elf};

use self::dynamic::Dynamic;
use crate::error::{Context, Error, Kind, Result};

mod dynamic;
mod imports;
pub mod outline;
#[cfg(test)]
mod tests;

/// The largest file that is read: a debug build of a big embedder has some hundred MB.
const FILE_LIMIT: u64 = 1 << 30;

/// Why a file is refused. Probes have only run on x86-64: there is no tracing of a file for aarch64 yet, and nothing is guessed about it.
fn not_for(machine: Machine, found: Option<elf::Machine>) -> Error {
    let aarch64 = machine == Machine::X86_64 && found == Some(elf::EM_AARCH64);
    Error::new(
        Kind::Target,
        match machine {
            _ if aarch64 => {
                "a file for aarch64: unshed can plan its hooks, but not yet walk its C frames or see births there, and has never run there; nothing is traced"
            }
            Machine::X86_64 => "not an x86-64 ELF file",
            Machine::Aarch64 => "not an aarch64 ELF file",
        },
    )
}

/// Program headers that are looked at; real files have about a dozen.
const SEGMENTS: usize = 64;

/// The longest name or path that is taken from a string table, in bytes.
const STRING_LIMIT: usize = 4096;

/// Section headers that are looked at; real files have some forty.
const SECTIONS: usize = 4096;

/// Symbols that are kept; a debug build of CPython has 30,000.
const SYMBOLS: usize = 1 << 21;

/// A `PT_LOAD` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Segment {
    /// Address in the file's own address space.
    pub vaddr: u64,
    /// Offset in the file, in bytes.
    pub offset: u64,
    /// Bytes in the file.
    pub file_size: u64,
    /// Whether it is mapped for execution.
    pub executable: bool,
}

/// A defined symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol {
    /// Address in the file's own address space.
    pub address: u64,
    /// Bytes; 0 where the file does not say.
    pub size: u64,
}

/// The processor that a file is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Machine {
    /// x86-64.
    X86_64,
    /// aarch64.
    Aarch64,
}

impl Machine {
    /// Its number in a file's header.
    const fn number(self) -> elf::Machine {
        match self {
            Self::X86_64 => elf::EM_X86_64,
            Self::Aarch64 => elf::EM_AARCH64,
        }
    }
}

/// An ELF file, taken apart.
#[derive(Debug)]
pub struct Elf {
    machine: Machine,
    /// Sections with code, if the file lists its sections.
    code: Vec<Range<u64>>,
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    symbols: HashMap<String, Symbol>,
    build_id: Option<Vec<u8>>,
    interpreter: Option<String>,
    dynamic: Dynamic,
    frame_index: Option<Range<u64>>,
    frames: Option<Range<u64>>,
}

impl Elf {
    /// Reads and takes apart a file.
    ///
    /// # Errors
    /// When the file cannot be read, or is no x86-64 ELF file ([`Kind::Target`]).
    pub fn open(path: &Path) -> Result<Self> {
        let what = format!("cannot read {}", path.display());
        let file = File::open(path).context(&what)?;
        let mut bytes = Vec::new();
        file.take(FILE_LIMIT + 1).read_to_end(&mut bytes).context(&what)?;
        if bytes.len() as u64 > FILE_LIMIT {
            return Err(Error::failed(format!("{} is larger than {} MiB", path.display(), FILE_LIMIT >> 20)));
        }
        Self::parse(bytes).map_err(|cause| Error::new(cause.kind(), format!("{}: {cause}", path.display())))
    }

    /// Takes apart a file's bytes.
    ///
    /// # Errors
    /// [`Kind::Target`] when they are no x86-64 ELF file.
    pub fn parse(bytes: Vec<u8>) -> Result<Self> {
        Self::parse_for(Machine::X86_64, bytes)
    }

    /// Takes apart the bytes of a file for a processor.
    ///
    /// # Errors
    /// [`Kind::Target`] when they are no ELF file for it.
    pub fn parse_for(machine: Machine, bytes: Vec<u8>) -> Result<Self> {
        let file = ElfFile64::<LittleEndian>::parse(&*bytes).map_err(|_| not_for(machine, None))?;
        let found = file.elf_header().e_machine.get(LittleEndian);
        if found != machine.number() {
            return Err(not_for(machine, Some(found)));
        }
        let mut this = Self {
            machine,
            code: code_sections(&file),
            segments: segments(&file),
            symbols: symbols(&file),
            build_id: file.build_id().ok().flatten().map(<[u8]>::to_vec),
            interpreter: None,
            dynamic: Dynamic::default(),
            frame_index: None,
            frames: frame_section(&file),
            bytes: Vec::new(),
        };
        let find = |kind: elf::ProgramType| {
            let mut headers = file.elf_program_headers().iter().take(SEGMENTS);
            headers.find(|header| header.p_type(LittleEndian) == kind)
        };
        let range = |header: &elf::ProgramHeader64<LittleEndian>| {
            let (offset, size) = header.file_range(LittleEndian);
            Some((usize::try_from(offset).ok()?, usize::try_from(size).ok()?))
        };
        let (interpreter, dynamic) =
            (find(elf::PT_INTERP).and_then(range), find(elf::PT_DYNAMIC).and_then(range));
        this.frame_index = find(elf::PT_GNU_EH_FRAME)
            .and_then(|header| addresses(header.p_vaddr(LittleEndian), header.p_filesz(LittleEndian)));
        this.bytes = bytes;
        this.interpreter = interpreter.and_then(|(offset, _)| this.string_in_file(offset));
        if let Some((offset, size)) = dynamic {
            this.dynamic = Dynamic::read(&this, offset, size);
        }
        this.forget_what_is_not_mapped();
        Ok(this)
    }

    /// Keeps the bytes of segments alone: debug information is four fifths of an interpreter that was built with it.
    fn forget_what_is_not_mapped(&mut self) {
        let ends = self.segments.iter().map(|segment| segment.offset.saturating_add(segment.file_size));
        self.bytes.truncate(usize::try_from(ends.max().unwrap_or(0)).unwrap_or(usize::MAX));
        self.bytes.shrink_to_fit();
    }

    /// A defined symbol, of the dynamic table or the full one.
    #[must_use]
    pub fn symbol(&self, name: &str) -> Option<Symbol> {
        self.symbols.get(name).copied()
    }

    /// The name of a function or object that begins at this address; the shortest of several.
    #[must_use]
    pub fn name_at(&self, vaddr: u64) -> Option<&str> {
        let names =
            self.symbols.iter().filter(|(_, symbol)| symbol.address == vaddr).map(|(name, _)| name.as_str());
        names.min_by_key(|name| (name.len(), *name))
    }

    /// The sections with code; none if the file does not list its sections. Some linkers put tables of data into the same segment.
    #[must_use]
    pub fn code_sections(&self) -> &[Range<u64>] {
        &self.code
    }

    /// The `PT_LOAD` segments, in the file's order.
    #[must_use]
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// The GNU build id.
    #[must_use]
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// The dynamic loader that it asks for (`PT_INTERP`).
    #[must_use]
    pub fn interpreter(&self) -> Option<&str> {
        self.interpreter.as_deref()
    }

    /// The libraries that it needs (`DT_NEEDED`).
    #[must_use]
    pub fn needed(&self) -> &[String] {
        &self.dynamic.needed
    }

    /// Its own library name (`DT_SONAME`).
    #[must_use]
    pub fn soname(&self) -> Option<&str> {
        self.dynamic.soname.as_deref()
    }

    /// Where in the file the byte at this address is; `None` for addresses that the file does not fill.
    #[must_use]
    pub fn file_offset(&self, vaddr: u64) -> Option<u64> {
        let segment = self.segment_at(vaddr)?;
        segment.offset.checked_add(vaddr - segment.vaddr)
    }

    /// The address, in the file's own address space, of a byte of an executable segment. Whole pages are mapped, so the offset
    /// may lie up to a page before the segment.
    #[must_use]
    pub fn executable_vaddr(&self, offset: u64) -> Option<u64> {
        executable_vaddr(&self.segments, offset)
    }

    /// Whether this address is code of this file.
    #[must_use]
    pub fn is_code(&self, vaddr: u64) -> bool {
        self.segment_at(vaddr).is_some_and(|segment| segment.executable)
    }

    /// Bytes of the file at an address; `None` unless the file fills all of them from one segment, or for 0 bytes.
    #[must_use]
    pub fn at(&self, vaddr: u64, len: u64) -> Option<&[u8]> {
        let len = usize::try_from(len).ok().filter(|len| *len > 0)?;
        self.tail(vaddr)?.get(..len)
    }

    /// The bytes of the file from an address to the end of its segment.
    #[must_use]
    pub fn tail(&self, vaddr: u64) -> Option<&[u8]> {
        let segment = self.segment_at(vaddr)?;
        let from = usize::try_from(self.file_offset(vaddr)?).ok()?;
        let rest = self.bytes.get(from..)?;
        let most = usize::try_from(segment.file_size - (vaddr - segment.vaddr)).ok()?;
        Some(&rest[..rest.len().min(most)])
    }

    /// The segment that fills this address. Every question about an address goes through here, so that where segments overlap (they
    /// never do in an honest file) all answers are about the same one.
    fn segment_at(&self, vaddr: u64) -> Option<&Segment> {
        let inside = |segment: &&Segment| {
            vaddr.checked_sub(segment.vaddr).is_some_and(|inside| inside < segment.file_size)
        };
        self.segments.iter().find(inside)
    }

    /// The code of a function, as long as its symbol says, at most `limit` bytes.
    #[must_use]
    pub fn code(&self, symbol: Symbol, limit: u64) -> Option<&[u8]> {
        self.at(symbol.address, symbol.size.clamp(1, limit))
    }

    /// The addresses of the index of the frame descriptions (`PT_GNU_EH_FRAME`), which outlives stripping.
    pub(super) fn frame_index(&self) -> Option<Range<u64>> {
        self.frame_index.clone()
    }

    /// The addresses of the frame descriptions (`.eh_frame`), for files without an index; `None` too where the section headers are gone.
    pub(super) fn frames(&self) -> Option<Range<u64>> {
        self.frames.clone()
    }

    /// The bytes at an offset of the file up to a 0.
    fn bytes_in_file(&self, offset: usize) -> Option<&[u8]> {
        let tail = self.bytes.get(offset..)?;
        let tail = &tail[..tail.len().min(STRING_LIMIT)];
        Some(&tail[..tail.iter().position(|byte| *byte == 0)?])
    }

    fn string_in_file(&self, offset: usize) -> Option<String> {
        Some(String::from_utf8_lossy(self.bytes_in_file(offset)?).into_owned())
    }
}

/// [`Elf::executable_vaddr`] of a file with these segments.
pub(super) fn executable_vaddr(segments: &[Segment], offset: u64) -> Option<u64> {
    let segment = segments.iter().find(|segment| {
        let begin = segment.offset & !0xfff;
        segment.executable
            && offset >= begin
            && (segment.offset - begin).checked_add(segment.file_size).is_some_and(|len| offset - begin < len)
    })?;
    Some(offset.wrapping_sub(segment.offset).wrapping_add(segment.vaddr))
}

fn addresses(start: u64, size: u64) -> Option<Range<u64>> {
    Some(start..start.checked_add(size)?)
}

fn frame_section(file: &ElfFile64<'_, LittleEndian>) -> Option<Range<u64>> {
    let section = file.section_by_name(".eh_frame")?;
    addresses(section.address(), section.size())
}

fn code_sections(file: &ElfFile64<'_, LittleEndian>) -> Vec<Range<u64>> {
    let sections = file.sections().take(SECTIONS).filter(|section| section.kind() == SectionKind::Text);
    sections.filter_map(|section| addresses(section.address(), section.size())).collect()
}

fn segments(file: &ElfFile64<'_, LittleEndian>) -> Vec<Segment> {
    let headers = file.elf_program_headers().iter().take(SEGMENTS);
    headers.filter(|header| header.p_type(LittleEndian) == elf::PT_LOAD).map(Segment::of).collect()
}

/// The dynamic table comes first: where a local symbol of the full table has the same name, the exported one is meant.
fn symbols(file: &ElfFile64<'_, LittleEndian>) -> HashMap<String, Symbol> {
    let mut found = HashMap::new();
    for symbol in file.dynamic_symbols().chain(file.symbols()).take(SYMBOLS) {
        if symbol.is_undefined() || symbol.address() == 0 {
            continue;
        }
        if let Ok(name) = symbol.name()
            && !name.is_empty()
            && !found.contains_key(name)
        {
            found.insert(name.to_owned(), Symbol { address: symbol.address(), size: symbol.size() });
        }
    }
    found
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at.checked_add(8)?)?.try_into().ok()?))
}
