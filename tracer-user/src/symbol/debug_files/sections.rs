//! What an ELF file's section headers say about its names, read with a few bounded reads: the file may be a gigabyte, and it may be made to do harm.

use std::fs::File;
use std::os::unix::fs::FileExt;

use object::LittleEndian;
use object::elf::{self, FileHeader64, SectionHeader64};
use object::pod::{from_bytes, slice_from_all_bytes};

/// Sections that are looked at; real files have some forty, object files of C++ thousands.
const SECTIONS: u16 = 8192;
/// Bytes of the table of section names at most.
const NAMES: u64 = 1 << 20;
/// Bytes of a note or of a debug link at most.
const SMALL: u64 = 4096;
/// `NT_GNU_BUILD_ID` of `include/uapi/linux/elf.h`'s neighbour, glibc's `elf.h`.
const NT_GNU_BUILD_ID: u32 = 3;

/// What a file holds that names can be made of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::symbol) struct Sections {
    /// Its GNU build id.
    pub(in crate::symbol) build_id: Option<Vec<u8>>,
    /// The name and the checksum of the file with its debug information.
    pub(in crate::symbol) link: Option<DebugLink>,
    /// It has debug information (DWARF) itself.
    pub(in crate::symbol) dwarf: bool,
    /// It has a full symbol table itself.
    pub(in crate::symbol) symbols: bool,
}

/// The contents of `.gnu_debuglink`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::symbol) struct DebugLink {
    /// A file name without directories.
    pub(in crate::symbol) name: String,
    /// The CRC-32 of that whole file.
    pub(in crate::symbol) crc: u32,
}

impl Sections {
    /// Reads them; `None` if the file is no x86-64 ELF file or has no section headers.
    pub(in crate::symbol) fn read(file: &File) -> Option<Self> {
        let (names, headers) = section_headers(file)?;
        let table = slice_from_all_bytes::<SectionHeader64<LittleEndian>>(&headers).ok()?;
        let names = table.get(names)?;
        let names = contents(file, names, NAMES)?;
        let mut this = Self::default();
        for section in table {
            let name = names.get(section.sh_name.get(LittleEndian) as usize..).unwrap_or_default();
            let name = name.split(|byte| *byte == 0).next().unwrap_or_default();
            this.take(file, name, section);
        }
        Some(this)
    }

    fn take(&mut self, file: &File, name: &[u8], section: &SectionHeader64<LittleEndian>) {
        // A detached debug file keeps the headers of what it has left out, as SHT_NOBITS.
        let here =
            section.sh_type.get(LittleEndian) != elf::SHT_NOBITS && section.sh_size.get(LittleEndian) > 0;
        match name {
            b".debug_info" => self.dwarf |= here,
            b".symtab" => self.symbols |= here,
            b".note.gnu.build-id" if here => {
                self.build_id = contents(file, section, SMALL).and_then(|note| build_id(&note));
            }
            b".gnu_debuglink" if here => {
                self.link = contents(file, section, SMALL).and_then(|link| DebugLink::parse(&link));
            }
            _ => {}
        }
    }
}

impl DebugLink {
    /// A name that ends with a 0, up to three bytes of padding, and the checksum.
    /// <https://sourceware.org/gdb/current/onlinedocs/gdb.html/Separate-Debug-Files.html>
    fn parse(bytes: &[u8]) -> Option<Self> {
        let end = bytes.iter().position(|byte| *byte == 0)?;
        let name = std::str::from_utf8(&bytes[..end]).ok()?;
        // It is the target's file that says this: it may name a file, not a way through our directories.
        if name.is_empty() || name == "." || name == ".." || name.contains('/') {
            return None;
        }
        let at = (end + 1).next_multiple_of(4);
        let crc = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(Self { name: name.to_owned(), crc: u32::from_le_bytes(crc) })
    }
}

/// The build id in a section of notes: a name size, a size and a kind, 4 bytes each, then name and contents, both padded to 4 bytes.
fn build_id(mut notes: &[u8]) -> Option<Vec<u8>> {
    loop {
        let word = |at: usize| Some(u32::from_le_bytes(notes.get(at..at + 4)?.try_into().ok()?));
        let (name, size, kind) = (word(0)? as usize, word(4)? as usize, word(8)?);
        let from = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let id = notes.get(from..from.checked_add(size)?)?;
        if kind == NT_GNU_BUILD_ID && notes.get(12..16) == Some(b"GNU\0") && !id.is_empty() {
            return Some(id.to_vec());
        }
        notes = notes.get(from.checked_add(size.checked_next_multiple_of(4)?)?..)?;
    }
}

/// The place of the section with the names of all, and the headers of all sections, as bytes; `None` if the file is no x86-64 ELF file or has no section headers.
pub(in crate::symbol) fn section_headers(file: &File) -> Option<(usize, Vec<u8>)> {
    let header = read(file, 0, size_of::<FileHeader64<LittleEndian>>() as u64)?;
    let (header, _) = from_bytes::<FileHeader64<LittleEndian>>(&header).ok()?;
    let known = header.e_ident.magic == elf::ELFMAG
        && header.e_ident.class == elf::ELFCLASS64
        && header.e_ident.data == elf::ELFDATA2LSB
        && header.e_machine.get(LittleEndian) == elf::EM_X86_64
        && usize::from(header.e_shentsize.get(LittleEndian)) == size_of::<SectionHeader64<LittleEndian>>();
    let count = header.e_shnum.get(LittleEndian);
    if !known || count == 0 || count > SECTIONS {
        return None;
    }
    let bytes = u64::from(count) * size_of::<SectionHeader64<LittleEndian>>() as u64;
    let headers = read(file, header.e_shoff.get(LittleEndian), bytes)?;
    Some((usize::from(header.e_shstrndx.get(LittleEndian).0), headers))
}

/// The bytes of a section, if they are no more than `most`.
pub(in crate::symbol) fn contents(
    file: &File,
    section: &SectionHeader64<LittleEndian>,
    most: u64,
) -> Option<Vec<u8>> {
    let size = section.sh_size.get(LittleEndian);
    (size <= most).then(|| read(file, section.sh_offset.get(LittleEndian), size)).flatten()
}

/// Bytes of the file; `None` unless they are all there. The caller bounds `size`.
fn read(file: &File, offset: u64, size: u64) -> Option<Vec<u8>> {
    let mut bytes = vec![0; usize::try_from(size).ok()?];
    file.read_exact_at(&mut bytes, offset).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_debug_link_is_a_name_and_a_checksum() {
        let link = |bytes: &[u8]| DebugLink::parse(bytes).map(|link| (link.name, link.crc));
        assert_eq!(link(b"a.debug\0\x04\x03\x02\x01"), Some(("a.debug".to_owned(), 0x0102_0304)));
        assert_eq!(link(b"ab.debug\0\0\0\0\x04\x03\x02\x01"), Some(("ab.debug".to_owned(), 0x0102_0304)));
        for wrong in [&b""[..], b"\0\0\0\0\x04\x03\x02\x01", b"a.debug\0\x04\x03\x02", b"a.debug"] {
            assert_eq!(link(wrong), None, "{wrong:?}");
        }
        for hostile in
            [&b"..\0\0\x04\x03\x02\x01"[..], b"../../etc/x\0\x04\x03\x02\x01", b"/x\0\0\x04\x03\x02\x01"]
        {
            assert_eq!(link(hostile), None, "{hostile:?}");
        }
    }

    #[test]
    fn the_build_id_is_found_among_other_notes() {
        let mut notes = b"\x04\0\0\0\x05\0\0\0\x01\0\0\0GNU\0abcde\0\0\0".to_vec();
        notes.extend(b"\x04\0\0\0\x03\0\0\0\x03\0\0\0GNU\0\x12\x34\x56");
        assert_eq!(build_id(&notes), Some(vec![0x12, 0x34, 0x56]));
        assert_eq!(build_id(&notes[..notes.len() - 1]), None);
    }

    #[test]
    fn our_own_file_has_debug_information() {
        let own = File::open("/proc/self/exe").unwrap();
        let sections = Sections::read(&own).unwrap();
        assert!(sections.dwarf && sections.symbols && sections.link.is_none());
        let elf = crate::target::elf::Elf::open(std::path::Path::new("/proc/self/exe")).unwrap();
        assert_eq!(sections.build_id.as_deref(), elf.build_id());
    }

    proptest! {
        #[test]
        fn no_bytes_do_harm(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = (build_id(&bytes), DebugLink::parse(&bytes));
        }
    }
}
