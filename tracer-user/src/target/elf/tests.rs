//! Damaged files, the files of this machine (against what the `object` crate reads from their section headers), and small ones made here.

use object::{ObjectSymbolTable, RelocationFlags, RelocationTarget};
use proptest::prelude::*;

use super::*;
use crate::target::fixture;

/// Asks everything that can be asked.
fn use_up(elf: &Elf, vaddr: u64) {
    let _ = (elf.executable_vaddr(vaddr), elf.is_code(vaddr), elf.pointer_at(vaddr));
    let _ = (elf.at(vaddr, vaddr), elf.name_at(vaddr), elf.code(Symbol { address: vaddr, size: vaddr }, 64));
    let _ = (elf.build_id(), elf.needed(), elf.soname(), elf.interpreter());
    let _ = (elf.import_at(vaddr), elf.plt_target(vaddr), elf.imports().count());
    assert_eq!(elf.tail(vaddr).and_then(<[u8]>::first), elf.at(vaddr, 1).and_then(<[u8]>::first));
    if let Some(tail) = elf.tail(vaddr) {
        assert!(tail.is_empty() || tail[0] == elf.bytes[elf.file_offset(vaddr).unwrap() as usize]);
    }
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

    /// The dynamic section, the symbols, their names and the relocations, all of a file of our own.
    #[test]
    fn broken_tables_never_panic(changes in prop::collection::vec((64usize..0x400, any::<u8>()), 1..16)) {
        let mut bytes = small();
        for (at, value) in changes {
            bytes[at] = value;
        }
        if let Ok(elf) = Elf::parse(bytes) {
            for vaddr in (0..0x400).step_by(4).map(|at| BASE + at) {
                use_up(&elf, vaddr);
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
        elf.needed().iter().any(|name| name == "libc.so.6") && elf.build_id().is_some_and(|id| id.len() >= 8)
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

/// The files of this machine that a planner reads.
fn real_files() -> Vec<Vec<u8>> {
    let library = fixture::shared().map(|path| path.with_file_name("../lib/libpython3.11.so.1.0"));
    let libc = Some("/lib/x86_64-linux-gnu/libc.so.6".into());
    let files: Vec<_> = [library, fixture::debian(), libc].into_iter().flatten().collect();
    if files.len() < 3 {
        eprintln!("skipped: no pyenv 3.11, or not Debian's");
    }
    files.iter().filter_map(|path| std::fs::read(path).ok()).collect()
}

/// The relocations of a file's sections: address, kind, addend, and the symbol's name.
fn relocations(bytes: &[u8]) -> Vec<(u64, elf::RelocationType, u64, Option<String>)> {
    let file = ElfFile64::<LittleEndian>::parse(bytes).unwrap();
    let names = file.dynamic_symbol_table().unwrap();
    let all = file.dynamic_relocations().unwrap().map(|(vaddr, relocation)| {
        let RelocationFlags::Elf { r_type } = relocation.flags() else { panic!("{relocation:?}") };
        let name = match relocation.target() {
            RelocationTarget::Symbol(index) => Some(names.symbol_by_index(index).unwrap().name().unwrap()),
            _ => None,
        };
        (vaddr, r_type, relocation.addend().cast_unsigned(), name.map(str::to_owned))
    });
    all.collect()
}

#[test]
fn imports_are_those_of_the_relocation_sections() {
    for bytes in real_files() {
        let (mut expected, mut relative) = (Vec::new(), 0);
        let elf = Elf::parse(bytes.clone()).unwrap();
        for (vaddr, kind, addend, name) in relocations(&bytes) {
            match kind {
                elf::R_X86_64_JUMP_SLOT | elf::R_X86_64_GLOB_DAT => expected.push((vaddr, name.unwrap())),
                elf::R_X86_64_64 if addend == 0 => expected.push((vaddr, name.unwrap())),
                elf::R_X86_64_RELATIVE => {
                    assert_eq!(elf.pointer_at(vaddr), Some(addend));
                    relative += 1;
                }
                _ => {}
            }
        }
        expected.sort_unstable();
        assert!(expected.len() > 20 && elf.dynamic.relative.len() == relative);
        assert!(elf.imports().eq(expected.iter().map(|(vaddr, name)| (*vaddr, name.as_str()))));
        let file = ElfFile64::<LittleEndian>::parse(&*bytes).unwrap();
        for (vaddr, name) in expected {
            assert_eq!(elf.import_at(vaddr), Some(name.as_str()));
            assert_eq!(elf.import_at(vaddr + 1), None);
            assert!(!name.contains('@'), "{name}");
            let mut segments = file.elf_program_headers().iter().filter(|header| {
                header.p_type(LittleEndian) == elf::PT_LOAD
                    && header.p_flags(LittleEndian).0 & elf::PF_W.0 != 0
            });
            let fits = |header: &elf::ProgramHeader64<LittleEndian>| {
                vaddr
                    .checked_sub(header.p_vaddr(LittleEndian))
                    .is_some_and(|at| at < header.p_memsz(LittleEndian))
            };
            assert!(segments.any(fits), "{name}: the loader could not write to {vaddr:#x}");
        }
    }
}

#[test]
fn stubs_are_those_of_the_linker() {
    for bytes in real_files() {
        let elf = Elf::parse(bytes.clone()).unwrap();
        let file = ElfFile64::<LittleEndian>::parse(&*bytes).unwrap();
        let section = file.section_by_name(".plt").unwrap();
        let stubs = (section.address()..section.address() + section.size()).step_by(16);
        let mut found: Vec<Option<String>> =
            stubs.map(|stub| elf.plt_target(stub).map(str::to_owned)).collect();
        let mut expected: Vec<_> = relocations(&bytes)
            .into_iter()
            .filter(|(_, kind, ..)| *kind == elf::R_X86_64_JUMP_SLOT)
            .map(|(.., name)| name)
            .collect();
        assert!(expected.contains(&Some("realloc".to_owned())));
        // The first stub is the loader's own, and jumps that the C library makes to functions of its own have no symbol.
        assert_eq!(found[0], None);
        found.retain(Option::is_some);
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }
}

/// A relocation of a packed table (`DT_RELR`) adds the bias to what stands in the file (gABI, "Relative Relocation Table"): without the
/// table, the bytes are the pointer. Only the C library has one here.
#[test]
fn packed_relocations_leave_the_pointer_in_the_file() {
    let bytes = std::fs::read("/lib/x86_64-linux-gnu/libc.so.6").unwrap();
    let file = ElfFile64::<LittleEndian>::parse(&*bytes).unwrap();
    let Some(section) = file.section_by_name(".relr.dyn") else {
        return eprintln!("skipped: this C library has no packed relocations");
    };
    let (mut slots, mut next) = (Vec::new(), 0);
    for entry in section.data().unwrap().chunks_exact(8).map(|entry| word(entry, 0).unwrap()) {
        if entry & 1 == 0 {
            slots.push(entry);
            next = entry + 8;
        } else {
            slots.extend((0..63).filter(|bit| entry >> (bit + 1) & 1 == 1).map(|bit| next + bit * 8));
            next += 63 * 8;
        }
    }
    let elf = Elf::parse(bytes.clone()).unwrap();
    let end = elf.segments().iter().map(|segment| segment.vaddr + segment.file_size).max().unwrap() + 0x10000;
    assert!(slots.len() > 100);
    for slot in slots {
        let pointer = elf.pointer_at(slot).unwrap();
        assert!((1..end).contains(&pointer), "{slot:#x} points to {pointer:#x}");
    }
}

#[test]
fn what_is_stripped_of_its_section_headers_has_the_same_imports() {
    for mut bytes in real_files() {
        let whole = Elf::parse(bytes.clone()).unwrap();
        // e_shoff, and e_shentsize to e_shstrndx.
        bytes[0x28..0x30].fill(0);
        bytes[0x3a..0x40].fill(0);
        let bare = Elf::parse(bytes).unwrap();
        assert!(whole.imports().count() > 20 && whole.imports().eq(bare.imports()));
    }
}

/// Where the small file's bytes are in its own address space.
const BASE: u64 = 0x10000;

/// Where its code is, and the words that the loader fills.
const CODE: usize = 0x200;
const WORDS: u64 = BASE + 0x300;

fn put(bytes: &mut [u8], at: usize, words: &[u64]) {
    for (word, place) in words.iter().zip(bytes[at..].chunks_exact_mut(8)) {
        place.copy_from_slice(&word.to_le_bytes());
    }
}

/// A file of one executable segment and a dynamic section, without section headers.
fn small() -> Vec<u8> {
    let mut bytes = vec![0; 0x400];
    put(
        &mut bytes,
        0,
        &[0x0001_0102_464c_457f, 0, 0x0000_0001_003e_0003, 0, 0x40, 0, 0x0038_0040_0000_0000, 2],
    );
    put(&mut bytes, 0x40, &[0x5_0000_0001, 0, BASE, BASE, 0x400, 0x400, 0x1000]);
    put(&mut bytes, 0x78, &[0x6_0000_0002, 0x100, BASE + 0x100, BASE + 0x100, 0x70, 0x70, 8]);
    // DT_SYMTAB, DT_STRTAB, DT_RELA, DT_RELASZ, DT_JMPREL, DT_PLTRELSZ
    put(
        &mut bytes,
        0x100,
        &[6, BASE + 0x180, 5, BASE + 0x1d0, 7, BASE + 0x280, 8, 96, 23, BASE + 0x2e0, 2, 24],
    );
    put(&mut bytes, 0x180, &[0, 0, 0, 1, 0, 0, 8, 0, 0]);
    bytes[0x1d0..0x1e1].copy_from_slice(b"\0malloc\0free\0\0\0\0\0");
    // R_X86_64_GLOB_DAT, R_X86_64_64 without and with an addend, R_X86_64_RELATIVE, R_X86_64_JUMP_SLOT
    put(&mut bytes, 0x280, &[WORDS, 1 << 32 | 6, 0, WORDS + 8, 2 << 32 | 1, 0, WORDS + 16, 2 << 32 | 1, 8]);
    put(&mut bytes, 0x2c8, &[WORDS + 24, 8, 0x4711, WORDS + 32, 2 << 32 | 7, 7]);
    bytes
}

#[test]
fn each_kind_of_relocation_is_taken_for_what_it_is() {
    let elf = Elf::parse(small()).unwrap();
    let expected = [(WORDS, "malloc"), (WORDS + 8, "free"), (WORDS + 32, "free")];
    assert_eq!(elf.imports().collect::<Vec<_>>(), expected);
    assert_eq!((elf.import_at(WORDS + 16), elf.import_at(WORDS + 24)), (None, None));
    assert_eq!((elf.pointer_at(WORDS + 24), elf.pointer_at(WORDS + 16)), (Some(0x4711), Some(0)));
}

#[test]
fn each_kind_of_stub_is_known() {
    let target = |code: &[u8]| {
        let mut bytes = small();
        bytes[CODE..CODE + code.len()].copy_from_slice(code);
        Elf::parse(bytes).unwrap().plt_target(BASE + CODE as u64).map(str::to_owned)
    };
    let (malloc, free) = (Some("malloc".to_owned()), Some("free".to_owned()));
    assert_eq!(target(&[0xff, 0x25, 0xfa, 0, 0, 0]), malloc);
    assert_eq!(target(&[0xf2, 0xff, 0x25, 0xf9, 0, 0, 0]), malloc);
    assert_eq!(target(&[0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25, 0x16, 1, 0, 0]), free);
    assert_eq!(target(&[0xf3, 0x0f, 0x1e, 0xfa, 0xf2, 0xff, 0x25, 0x15, 1, 0, 0]), free);
    // A call through the same word, a jump through another, a jump that is cut off by the end of the segment.
    assert_eq!(target(&[0xff, 0x15, 0xfa, 0, 0, 0]), None);
    assert_eq!(target(&[0xff, 0x25, 0xfb, 0, 0, 0]), None);
    let mut bytes = small();
    bytes[0x3fc..].copy_from_slice(&[0xff, 0x25, 0, 0]);
    assert_eq!(Elf::parse(bytes).unwrap().plt_target(BASE + 0x3fc), None);
    // The same bytes where they are no code.
    let mut bytes = small();
    bytes[CODE..CODE + 6].copy_from_slice(&[0xff, 0x25, 0xfa, 0, 0, 0]);
    bytes[0x44] = 4;
    assert_eq!(Elf::parse(bytes).unwrap().plt_target(BASE + CODE as u64), None);
}

/// The same file for aarch64.
fn small_for_aarch64(code: &[u32]) -> Result<Elf> {
    let mut bytes = small();
    bytes[0x12] = 183;
    // R_AARCH64_GLOB_DAT, R_AARCH64_ABS64 without and with an addend, R_AARCH64_RELATIVE, R_AARCH64_JUMP_SLOT
    put(
        &mut bytes,
        0x280,
        &[WORDS, 1 << 32 | 1025, 0, WORDS + 8, 2 << 32 | 257, 0, WORDS + 16, 2 << 32 | 257, 8],
    );
    put(&mut bytes, 0x2c8, &[WORDS + 24, 1027, 0x4711, WORDS + 32, 2 << 32 | 1026, 7]);
    for (at, word) in (CODE..).step_by(4).zip(code) {
        bytes[at..at + 4].copy_from_slice(&word.to_le_bytes());
    }
    Elf::parse_for(Machine::Aarch64, bytes)
}

#[test]
fn a_file_for_another_processor_is_refused_by_its_name() {
    let elf = small_for_aarch64(&[]).unwrap();
    let expected = [(WORDS, "malloc"), (WORDS + 8, "free"), (WORDS + 32, "free")];
    assert_eq!(elf.imports().collect::<Vec<_>>(), expected);
    assert_eq!(elf.pointer_at(WORDS + 24), Some(0x4711));
    let mut bytes = small();
    assert!(Elf::parse_for(Machine::Aarch64, bytes.clone()).is_err());
    bytes[0x12] = 183;
    let refused = Elf::parse(bytes).unwrap_err();
    assert!(refused.to_string().contains("aarch64"), "{refused}");
}

#[test]
fn each_kind_of_stub_for_aarch64_is_known() {
    // The words are at the same page as the code: adrp x16, .; ldr x17, [x16, #WORDS & 0xfff]; add x16, …; br x17
    let ldr = |slot: u64| 0xf940_0211 | ((slot & 0xfff) as u32 / 8) << 10;
    let (adrp, add, br, bti) = (0x9000_0010, 0x9100_0210, 0xd61f_0220, 0xd503_245f);
    let target = |code: &[u32]| {
        let elf = small_for_aarch64(code).unwrap();
        elf.plt_target(BASE + CODE as u64).map(str::to_owned)
    };
    let (malloc, free) = (Some("malloc".to_owned()), Some("free".to_owned()));
    assert_eq!(target(&[adrp, ldr(WORDS), add, br]), malloc);
    assert_eq!(target(&[bti, adrp, ldr(WORDS + 32), add, br]), free);
    // Another page, another word, another register.
    assert_eq!(target(&[adrp | 1 << 29, ldr(WORDS), add, br]), None);
    assert_eq!(target(&[adrp, ldr(WORDS + 40), add, br]), None);
    assert_eq!(target(&[adrp + 1, ldr(WORDS), add, br]), None);
}

#[test]
fn all_answers_are_about_the_same_segment() {
    let mut bytes = small();
    bytes[0x38] = 3;
    // Begins inside the first segment and reaches beyond it.
    put(&mut bytes, 0xb0, &[0x4_0000_0001, 0x10, BASE + 0x3f0, BASE + 0x3f0, 0x40, 0x40, 0x1000]);
    bytes[0x3f0..].copy_from_slice(b"of the first ...");
    let elf = Elf::parse(bytes).unwrap();
    assert_eq!(elf.segments().len(), 2);
    let (inside, beyond) = (BASE + 0x3f8, BASE + 0x400);
    assert_eq!((elf.file_offset(inside), elf.at(inside, 8)), (Some(0x3f8), Some(&b"irst ..."[..])));
    assert_eq!(
        (elf.at(inside, 9), elf.tail(inside).map(<[u8]>::len), elf.is_code(inside)),
        (None, Some(8), true)
    );
    assert_eq!((elf.file_offset(beyond), elf.at(beyond, 0x30).map(<[u8]>::len)), (Some(0x20), Some(0x30)));
    assert_eq!((elf.at(beyond, 0x31), elf.is_code(beyond), elf.at(beyond, 0)), (None, false, None));
}
