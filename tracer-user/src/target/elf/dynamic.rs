//! The dynamic section: what the loader of the process reads, and what therefore stays in a file that is stripped of its symbols and sections.

use object::elf;

use super::{Elf, Machine, word};

/// Entries of the dynamic section that are looked at.
const ENTRIES: usize = 4096;

/// Relocations of one table that are looked at; libpython has 36,000.
const RELOCATIONS: usize = 1 << 22;

/// Bytes of a relocation with an addend, and of a symbol (`Elf64_Rela`, `Elf64_Sym`).
const RELOCATION: usize = 24;
const SYMBOL: u64 = 24;

/// What the dynamic section says.
#[derive(Debug, Default)]
pub(super) struct Dynamic {
    pub(super) needed: Vec<String>,
    pub(super) soname: Option<String>,
    /// Words that the loader fills with the address of a symbol: address of the word, and the offset of the name in the file. By address.
    pub(super) imports: Vec<(u64, usize)>,
    /// Words that the loader fills with an address of this file: address of the word, and that address at bias 0. By address.
    pub(super) relative: Vec<(u64, u64)>,
}

/// An entry of a relocation table.
struct Relocation {
    vaddr: u64,
    kind: u32,
    symbol: u64,
    addend: u64,
}

impl Dynamic {
    /// Reads the section at an offset of the file.
    pub(super) fn read(elf: &Elf, offset: usize, size: usize) -> Self {
        let bytes = offset.checked_add(size).and_then(|end| elf.bytes.get(offset..end)).unwrap_or_default();
        let pairs = bytes.chunks_exact(16).take(ENTRIES);
        let pairs: Vec<(u64, u64)> = pairs
            .filter_map(|pair| Some((word(pair, 0)?, word(pair, 8)?)))
            .take_while(|(tag, _)| *tag != 0)
            .collect();
        let all = |wanted: elf::DynamicTag| {
            let wanted = pairs.iter().filter(move |(tag, _)| tag.cast_signed() == wanted.0);
            wanted.map(|(_, value)| *value)
        };
        let value = |wanted| all(wanted).next();
        let strings = value(elf::DT_STRTAB);
        let string = |at: u64| {
            let offset = elf.file_offset(strings?.checked_add(at)?)?;
            elf.string_in_file(usize::try_from(offset).ok()?)
        };
        let mut this = Self {
            needed: all(elf::DT_NEEDED).filter_map(string).collect(),
            soname: value(elf::DT_SONAME).and_then(string),
            ..Self::default()
        };
        let names = Names { elf, symbols: value(elf::DT_SYMTAB), strings };
        // These two tables are all: x86-64 has only relocations with addends (its psABI, "Relocation"), and `DT_RELR`, the packed form of the
        // relative ones, leaves the address in the file's own bytes, where it is found without the table.
        for (table, size) in [(elf::DT_RELA, elf::DT_RELASZ), (elf::DT_JMPREL, elf::DT_PLTRELSZ)] {
            if let (Some(table), Some(size)) = (value(table), value(size)) {
                this.take(&names, table, size);
            }
        }
        sort(&mut this.imports);
        sort(&mut this.relative);
        this
    }

    /// Takes up the relocations of a table.
    fn take(&mut self, names: &Names<'_>, table: u64, size: u64) {
        let entries = names.elf.at(table, size).unwrap_or_default().chunks_exact(RELOCATION);
        let kinds = Kinds::of(names.elf.machine);
        for relocation in entries.take(RELOCATIONS).filter_map(Relocation::read) {
            match relocation.kind {
                kind if kind == kinds.relative => {
                    self.relative.push((relocation.vaddr, relocation.addend));
                }
                kind if kinds.fills_with_symbol(kind, relocation.addend) => {
                    let name = names.of(relocation.symbol);
                    self.imports.extend(name.map(|name| (relocation.vaddr, name)));
                }
                _ => {}
            }
        }
    }
}

/// Sorts by address. A word that two relocations name, which no linker writes, keeps the first.
fn sort<T>(list: &mut Vec<(u64, T)>) {
    list.sort_by_key(|(vaddr, _)| *vaddr);
    list.dedup_by_key(|(vaddr, _)| *vaddr);
}

/// A processor's kinds of relocations.
struct Kinds {
    relative: u32,
    slots: [u32; 2],
    word: u32,
}

impl Kinds {
    const fn of(machine: Machine) -> Self {
        match machine {
            Machine::X86_64 => Self {
                relative: elf::R_X86_64_RELATIVE.0,
                slots: [elf::R_X86_64_JUMP_SLOT.0, elf::R_X86_64_GLOB_DAT.0],
                word: elf::R_X86_64_64.0,
            },
            Machine::Aarch64 => Self {
                relative: elf::R_AARCH64_RELATIVE.0,
                slots: [elf::R_AARCH64_JUMP_SLOT.0, elf::R_AARCH64_GLOB_DAT.0],
                word: elf::R_AARCH64_ABS64.0,
            },
        }
    }

    /// Whether the word becomes the very address of the symbol. Slots have no use for an addend; with one, a plain word points into something.
    fn fills_with_symbol(&self, kind: u32, addend: u64) -> bool {
        self.slots.contains(&kind) || (kind == self.word && addend == 0)
    }
}

impl Relocation {
    fn read(entry: &[u8]) -> Option<Self> {
        let info = word(entry, 8)?;
        let kind = (info & u64::from(u32::MAX)) as u32;
        Some(Self { vaddr: word(entry, 0)?, kind, symbol: info >> 32, addend: word(entry, 16)? })
    }
}

/// The names of the dynamic symbols.
struct Names<'a> {
    elf: &'a Elf,
    symbols: Option<u64>,
    strings: Option<u64>,
}

impl Names<'_> {
    /// Where in the file the name of a symbol is. The table does not say how long it is: what lies past it has a name of
    /// some bytes, or none. Symbol 0 is no symbol.
    fn of(&self, symbol: u64) -> Option<usize> {
        let entry = self.symbols?.checked_add(symbol.checked_mul(SYMBOL).filter(|at| *at > 0)?)?;
        let at = u32::from_le_bytes(self.elf.at(entry, 4)?.try_into().ok()?);
        let offset = self.elf.file_offset(self.strings?.checked_add(u64::from(at))?)?;
        usize::try_from(offset).ok()
    }
}
