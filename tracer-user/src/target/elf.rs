//! What an ELF file says: symbols, segments, what it needs. The file belongs to the target, so every offset in it is checked.

use std::collections::HashMap;
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;

use object::read::elf::{ElfFile64, ProgramHeader};
use object::{LittleEndian, Object, ObjectSymbol, elf};

use crate::error::{Context, Error, Kind, Result};

/// The largest file that is read: a debug build of a big embedder has some hundred MB.
const FILE_LIMIT: u64 = 1 << 30;

/// Program headers that are looked at; real files have about a dozen.
const SEGMENTS: usize = 64;

/// The longest name or path that is taken from a string table, in bytes.
const STRING_LIMIT: usize = 4096;

/// Entries of the dynamic section that are looked at.
const DYNAMIC_ENTRIES: usize = 4096;

/// Symbols that are kept; a debug build of CPython has 30,000.
const SYMBOLS: usize = 1 << 21;

/// A `PT_LOAD` segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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

/// An x86-64 ELF file, taken apart.
#[derive(Debug)]
pub struct Elf {
    bytes: Vec<u8>,
    segments: Vec<Segment>,
    symbols: HashMap<String, Symbol>,
    build_id: Option<Vec<u8>>,
    interpreter: Option<String>,
    dynamic: Dynamic,
}

/// What the dynamic section says.
#[derive(Debug, Default)]
struct Dynamic {
    needed: Vec<String>,
    soname: Option<String>,
    relocations: Range<u64>,
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
        let no_elf = || Error::new(Kind::Target, "not an x86-64 ELF file");
        let file = ElfFile64::<LittleEndian>::parse(&*bytes).map_err(|_| no_elf())?;
        if file.elf_header().e_machine.get(LittleEndian) != elf::EM_X86_64 {
            return Err(no_elf());
        }
        let mut this = Self {
            segments: segments(&file),
            symbols: symbols(&file),
            build_id: file.build_id().ok().flatten().map(<[u8]>::to_vec),
            interpreter: None,
            dynamic: Dynamic::default(),
            bytes: Vec::new(),
        };
        let find = |kind: elf::ProgramType| {
            let header = file
                .elf_program_headers()
                .iter()
                .take(SEGMENTS)
                .find(|header| header.p_type(LittleEndian) == kind)?;
            let (offset, size) = header.file_range(LittleEndian);
            Some((usize::try_from(offset).ok()?, usize::try_from(size).ok()?))
        };
        let (interpreter, dynamic) = (find(elf::PT_INTERP), find(elf::PT_DYNAMIC));
        this.bytes = bytes;
        this.interpreter = interpreter.and_then(|(offset, _)| this.string_in_file(offset));
        if let Some((offset, size)) = dynamic {
            this.dynamic = this.read_dynamic(offset, size);
        }
        Ok(this)
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
        self.segments.iter().find_map(|segment| {
            let inside = vaddr.checked_sub(segment.vaddr).filter(|inside| *inside < segment.file_size)?;
            segment.offset.checked_add(inside)
        })
    }

    /// The address, in the file's own address space, of a byte of an executable segment. Whole pages are mapped, so the offset
    /// may lie up to a page before the segment.
    #[must_use]
    pub fn executable_vaddr(&self, offset: u64) -> Option<u64> {
        let segment = self.segments.iter().find(|segment| {
            let begin = segment.offset & !0xfff;
            segment.executable
                && offset >= begin
                && offset - begin < (segment.offset - begin).saturating_add(segment.file_size)
        })?;
        Some(offset.wrapping_sub(segment.offset).wrapping_add(segment.vaddr))
    }

    /// Whether this address is code of this file.
    #[must_use]
    pub fn is_code(&self, vaddr: u64) -> bool {
        let inside = |segment: &Segment| {
            vaddr.checked_sub(segment.vaddr).is_some_and(|inside| inside < segment.file_size)
        };
        self.segments.iter().any(|segment| segment.executable && inside(segment))
    }

    /// Bytes of the file at an address; `None` unless the file fills all of them.
    #[must_use]
    pub fn at(&self, vaddr: u64, len: u64) -> Option<&[u8]> {
        let last = vaddr.checked_add(len.checked_sub(1)?)?;
        let segment = self.segments.iter().find(|segment| {
            vaddr >= segment.vaddr
                && last.checked_sub(segment.vaddr).is_some_and(|last| last < segment.file_size)
        })?;
        let from = usize::try_from(segment.offset.checked_add(vaddr - segment.vaddr)?).ok()?;
        self.bytes.get(from..from.checked_add(usize::try_from(len).ok()?)?)
    }

    /// The code of a function, as long as its symbol says, at most `limit` bytes.
    #[must_use]
    pub fn code(&self, symbol: Symbol, limit: u64) -> Option<&[u8]> {
        self.at(symbol.address, symbol.size.clamp(1, limit))
    }

    /// The pointer that stands at an address once the file is loaded at bias 0: from its relocation (`R_X86_64_RELATIVE`), else from its bytes.
    #[must_use]
    pub fn pointer_at(&self, vaddr: u64) -> Option<u64> {
        let table = &self.dynamic.relocations;
        let entries = self.at(table.start, table.end.saturating_sub(table.start)).unwrap_or_default();
        let relocated = entries.chunks_exact(24).find_map(|entry| {
            let kind = word(entry, 8)?;
            (word(entry, 0)? == vaddr && kind == u64::from(elf::R_X86_64_RELATIVE.0))
                .then(|| word(entry, 16))?
        });
        relocated.or_else(|| word(self.at(vaddr, 8)?, 0))
    }

    fn string_in_file(&self, offset: usize) -> Option<String> {
        let tail = self.bytes.get(offset..)?;
        let tail = &tail[..tail.len().min(STRING_LIMIT)];
        let end = tail.iter().position(|byte| *byte == 0)?;
        Some(String::from_utf8_lossy(&tail[..end]).into_owned())
    }

    fn read_dynamic(&self, offset: usize, size: usize) -> Dynamic {
        let bytes = offset.checked_add(size).and_then(|end| self.bytes.get(offset..end)).unwrap_or_default();
        let pairs = || {
            let pairs = bytes.chunks_exact(16).take(DYNAMIC_ENTRIES);
            pairs.filter_map(|pair| Some((word(pair, 0)?, word(pair, 8)?))).take_while(|(tag, _)| *tag != 0)
        };
        let is = |tag: u64, wanted: elf::DynamicTag| tag.cast_signed() == wanted.0;
        let value = |wanted| pairs().find(|(tag, _)| is(*tag, wanted)).map(|(_, value)| value);
        let strings = value(elf::DT_STRTAB);
        let string = |at: u64| {
            let offset = self.file_offset(strings?.checked_add(at)?)?;
            self.string_in_file(usize::try_from(offset).ok()?)
        };
        let needed =
            pairs().filter(|(tag, _)| is(*tag, elf::DT_NEEDED)).filter_map(|(_, at)| string(at)).collect();
        let start = value(elf::DT_RELA).unwrap_or(0);
        let size = value(elf::DT_RELASZ).unwrap_or(0);
        Dynamic {
            needed,
            soname: value(elf::DT_SONAME).and_then(string),
            relocations: start..start.saturating_add(size),
        }
    }
}

fn segments(file: &ElfFile64<'_, LittleEndian>) -> Vec<Segment> {
    let headers = file.elf_program_headers().iter().take(SEGMENTS);
    let loads = headers.filter(|header| header.p_type(LittleEndian) == elf::PT_LOAD);
    loads
        .map(|header| Segment {
            vaddr: header.p_vaddr(LittleEndian),
            offset: header.p_offset(LittleEndian),
            file_size: header.p_filesz(LittleEndian),
            executable: header.p_flags(LittleEndian).0 & elf::PF_X.0 != 0,
        })
        .collect()
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Asks everything that can be asked.
    fn use_up(elf: &Elf, vaddr: u64) {
        let _ =
            (elf.file_offset(vaddr), elf.executable_vaddr(vaddr), elf.is_code(vaddr), elf.pointer_at(vaddr));
        let _ =
            (elf.at(vaddr, vaddr), elf.name_at(vaddr), elf.code(Symbol { address: vaddr, size: vaddr }, 64));
        let _ = (elf.build_id(), elf.needed(), elf.soname(), elf.interpreter());
    }

    proptest! {
        #[test]
        fn broken_files_never_panic(
            changes in prop::collection::vec((0usize..1024, any::<u8>()), 1..16), cut in 64usize..40_000, vaddr: u64,
        ) {
            let mut bytes = std::fs::read("/bin/true").unwrap();
            bytes.truncate(cut);
            for (at, value) in changes {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = value;
                }
            }
            if let Ok(elf) = Elf::parse(bytes) {
                for address in [vaddr, vaddr & 0xffff, elf.segments().first().map_or(0, |segment| segment.vaddr)] {
                    use_up(&elf, address);
                }
            }
        }
    }

    #[test]
    fn our_own_file_is_read_as_it_is() {
        let path = std::env::current_exe().unwrap();
        let elf = Elf::open(&path).unwrap();
        assert!(elf.interpreter().is_some_and(|loader| loader.contains("ld-linux")));
        assert!(
            elf.needed().iter().any(|name| name == "libc.so.6")
                && elf.build_id().is_some_and(|id| id.len() >= 8)
        );
        let main = elf.symbol("main").unwrap();
        assert_eq!((elf.name_at(main.address), elf.is_code(main.address)), (Some("main"), true));
        let offset = elf.file_offset(main.address).unwrap();
        assert_eq!(elf.executable_vaddr(offset), Some(main.address));
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(elf.at(main.address, 16).unwrap(), &bytes[offset as usize..][..16]);
        assert_eq!(elf.soname(), None);
        assert_eq!(Elf::parse(b"no such thing".to_vec()).unwrap_err().kind(), Kind::Target);
    }
}
