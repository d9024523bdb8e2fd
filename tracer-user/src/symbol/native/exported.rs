//! The table of exported symbols (`.dynsym`) of a file whose other tables cannot be read: every stripped library of Fedora carries a compressed
//! `.gnu_debugdata`, and blazesym built without liblzma then gives no name at all.

use std::fs::File;

use object::LittleEndian;
use object::elf::{self, SectionHeader64, Sym64};
use object::pod::slice_from_all_bytes;

use crate::symbol::debug_files::{contents, section_headers};

/// Bytes of the symbols and of their names at most, each; the largest library that people load exports some 100,000 symbols.
const TABLE: u64 = 1 << 26;

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
        let (_, headers) = section_headers(file)?;
        let sections = slice_from_all_bytes::<SectionHeader64<LittleEndian>>(&headers).ok()?;
        let table = sections.iter().find(|section| section.sh_type.get(LittleEndian) == elf::SHT_DYNSYM)?;
        let names = sections.get(table.sh_link.get(LittleEndian) as usize)?;
        let (table, names) = (contents(file, table, TABLE)?, contents(file, names, TABLE)?);
        Some(Self::new(slice_from_all_bytes::<Sym64<LittleEndian>>(&table).ok()?, names))
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
