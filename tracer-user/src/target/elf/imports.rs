//! Words of a file that its loader fills: whose addresses they hold, and the stubs that jump through them.

use super::{Elf, Machine, word};

/// `endbr64`, where an indirect jump may land (Intel SDM, volume 2).
const LANDING: &[u8] = &[0xf3, 0x0f, 0x1e, 0xfa];

/// `jmp [rip + offset]`, and the same with the prefix of MPX, `bnd`, which linkers wrote together with `endbr64`.
const JUMPS: [&[u8]; 2] = [&[0xff, 0x25], &[0xf2, 0xff, 0x25]];

/// The longest stub up to the end of its jump: `endbr64; bnd jmp [rip + offset]`.
const STUB: usize = 4 + 3 + 4;

impl Elf {
    /// The words that the loader fills with a symbol's address (of the GOT or of data), with the symbol's name, in the order of their addresses. A name
    /// has no version: those are in a section of their own (`.gnu.version`).
    pub fn imports(&self) -> impl Iterator<Item = (u64, &str)> {
        self.dynamic.imports.iter().filter_map(|(vaddr, name)| Some((*vaddr, self.name_in_file(*name)?)))
    }

    /// The symbol whose address the loader puts at this address.
    #[must_use]
    pub fn import_at(&self, got_vaddr: u64) -> Option<&str> {
        self.name_in_file(find(&self.dynamic.imports, got_vaddr)?)
    }

    /// The import that the code at this address jumps to, when that is a stub of a procedure linkage table: `jmp [rip + offset]`, also after an
    /// `endbr64` or with a `bnd`.
    #[must_use]
    pub fn plt_target(&self, vaddr: u64) -> Option<&str> {
        let code = self.tail(vaddr).filter(|_| self.is_code(vaddr))?;
        if self.machine == Machine::Aarch64 {
            return self.import_at(aarch64_slot(code, vaddr)?);
        }
        let code = &code[..code.len().min(STUB)];
        let rest = code.strip_prefix(LANDING).unwrap_or(code);
        let rest = JUMPS.iter().find_map(|jump| rest.strip_prefix(*jump))?;
        let offset = i32::from_le_bytes(*rest.first_chunk()?);
        let end = (code.len() - rest.len()).checked_add(4)?;
        self.import_at(vaddr.checked_add(end as u64)?.checked_add_signed(offset.into())?)
    }

    /// The pointer that stands at an address once the file is loaded at bias 0: from its relocation (`R_X86_64_RELATIVE`), else from its bytes, where the
    /// packed relocations (`DT_RELR`) have it too.
    #[must_use]
    pub fn pointer_at(&self, vaddr: u64) -> Option<u64> {
        find(&self.dynamic.relative, vaddr).or_else(|| word(self.at(vaddr, 8)?, 0))
    }

    fn name_in_file(&self, offset: usize) -> Option<&str> {
        std::str::from_utf8(self.bytes_in_file(offset)?).ok().filter(|name| !name.is_empty())
    }
}

/// The word that a stub for aarch64 jumps through: `adrp x16, page; ldr x17, [x16, #offset]`, also after a `bti c` (Arm ARM, C6.2).
fn aarch64_slot(code: &[u8], vaddr: u64) -> Option<u64> {
    const BTI_C: u32 = 0xd503_245f;
    let word = |at: usize| Some(u32::from_le_bytes(*code.get(at..)?.first_chunk()?));
    let begin = if word(0)? == BTI_C { 4 } else { 0 };
    let (adrp, ldr) = (word(begin)?, word(begin + 4)?);
    // `adrp x16`: 21 bits of a distance in pages, the lowest two of them at bit 29. `ldr x17, [x16]`: 12 bits of a distance in words.
    if adrp & 0x9f00_001f != 0x9000_0010 || ldr & 0xffc0_03ff != 0xf940_0211 {
        return None;
    }
    let pages = (adrp >> 5 & 0x7_ffff) << 2 | adrp >> 29 & 3;
    let pages = i64::from((pages << 11).cast_signed() >> 11);
    let page = (vaddr.checked_add(begin as u64)? & !0xfff).wrapping_add_signed(pages << 12);
    page.checked_add(u64::from(ldr >> 10 & 0xfff) * 8)
}

/// The first entry for an address in a list that is sorted by address.
fn find<T: Copy>(list: &[(u64, T)], vaddr: u64) -> Option<T> {
    let at = list.partition_point(|(entry, _)| *entry < vaddr);
    list.get(at).filter(|(entry, _)| *entry == vaddr).map(|(_, value)| *value)
}
