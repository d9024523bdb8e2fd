//! The table of exported symbols (`.dynsym`) of a file whose other tables cannot be read: every stripped library of Fedora carries a compressed
//! `.gnu_debugdata`, and blazesym built without liblzma then gives no name at all.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::LittleEndian;
use object::elf::{self, FileHeader64, SectionHeader64, Sym64};
use object::pod::{from_bytes, slice_from_all_bytes};

/// Bytes of the symbols and of their names at most, each; the largest library that people load exports some 100,000 symbols.
const TABLE: u64 = 1 << 26;
/// Sections that are looked at.
const SECTIONS: u16 = 8192;

/// Exported functions by address.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::symbol) struct Exported {
    /// First address, bytes, and where the name begins; by address.
    symbols: Vec<(u64, u64, u32)>,
    names: Vec<u8>,
}

impl Exported {
    /// Reads the table; `None` if there is none.
    pub(in crate::symbol) fn read(file: &File) -> Option<Self> {
        let header = read(file, 0, size_of::<FileHeader64<LittleEndian>>() as u64)?;
        let (header, _) = from_bytes::<FileHeader64<LittleEndian>>(&header).ok()?;
        let count = header.e_shnum.get(LittleEndian);
        if count == 0 || count > SECTIONS {
            return None;
        }
        let bytes = u64::from(count) * size_of::<SectionHeader64<LittleEndian>>() as u64;
        let sections = read(file, header.e_shoff.get(LittleEndian), bytes)?;
        let sections = slice_from_all_bytes::<SectionHeader64<LittleEndian>>(&sections).ok()?;
        let table = sections.iter().find(|section| section.sh_type.get(LittleEndian) == elf::SHT_DYNSYM)?;
        let names = sections.get(table.sh_link.get(LittleEndian) as usize)?;
        let contents = |section: &SectionHeader64<LittleEndian>| {
            let size = section.sh_size.get(LittleEndian);
            (size <= TABLE).then(|| read(file, section.sh_offset.get(LittleEndian), size)).flatten()
        };
        let table = contents(table)?;
        Some(Self::new(slice_from_all_bytes::<Sym64<LittleEndian>>(&table).ok()?, contents(names)?))
    }

    fn new(symbols: &[Sym64<LittleEndian>], names: Vec<u8>) -> Self {
        let code = |symbol: &&Sym64<LittleEndian>| {
            let kind = symbol.st_info.st_type();
            symbol.st_shndx.get(LittleEndian) != elf::SHN_UNDEF
                && (kind == elf::STT_FUNC || kind == elf::STT_GNU_IFUNC)
        };
        let mut symbols: Vec<_> = symbols
            .iter()
            .filter(code)
            .map(|symbol| {
                let (value, size) = (symbol.st_value.get(LittleEndian), symbol.st_size.get(LittleEndian));
                (value, size, symbol.st_name.get(LittleEndian))
            })
            .collect();
        symbols.sort_unstable();
        Self { symbols, names }
    }

    /// The function that holds an address; never the nearest one that does not. Of several with one beginning, the longest.
    pub(in crate::symbol) fn name(&self, vaddr: u64) -> Option<&str> {
        let after = self.symbols.partition_point(|(value, ..)| *value <= vaddr);
        let (value, size, name) = self.symbols.get(after.checked_sub(1)?)?;
        if vaddr - value >= *size {
            return None;
        }
        let name = self.names.get(*name as usize..)?.split(|byte| *byte == 0).next()?;
        std::str::from_utf8(name).ok().filter(|name| !name.is_empty())
    }
}

/// Bytes of the file; `None` unless they are all there. The caller bounds `size`.
fn read(file: &File, offset: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}
