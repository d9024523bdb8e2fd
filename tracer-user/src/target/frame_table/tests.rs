//! The frame descriptions of this machine's files, against what readelf says and what the code does; and damaged ones.

use std::path::{Path, PathBuf};
use std::process::Command;

use object::{Object, ObjectSymbol, SymbolKind};
use proptest::prelude::*;

use super::*;
use crate::target::fixture;

/// The files of this machine that a planner reads.
fn real_files() -> Vec<PathBuf> {
    let library = fixture::shared().map(|path| path.with_file_name("../lib/libpython3.11.so.1.0"));
    let files: Vec<_> = [library, fixture::debian(), Some("/lib/x86_64-linux-gnu/libc.so.6".into())].into();
    if files.contains(&None) {
        eprintln!("skipped: no pyenv 3.11, or not Debian's");
    }
    files.into_iter().flatten().collect()
}

/// One row that readelf prints: from where to where, and the words.
type Row = (Range<u64>, Option<u8>);

/// The functions and rows of `readelf --debug-dump=frames-interp`.
fn readelf(path: &Path) -> Option<(Vec<Range<u64>>, Vec<Row>)> {
    let output = Command::new("readelf").arg("--debug-dump=frames-interp").arg(path).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let hex = |text: &str| u64::from_str_radix(text, 16).unwrap();
    let (mut functions, mut rows) = (Vec::new(), Vec::<Row>::new());
    let (mut commons, mut common) = (HashMap::new(), None);
    for line in text.lines() {
        let fields: Vec<&str> = line.split_whitespace().collect();
        match *fields.as_slice() {
            [at, _, _, "CIE", ..] => common = Some(at.to_owned()),
            [_, _, _, "FDE", of, range] => {
                let (start, end) = range.strip_prefix("pc=").unwrap().split_once("..").unwrap();
                functions.push(hex(start)..hex(end));
                let words = commons.get(of.strip_prefix("cie=").unwrap()).copied().flatten();
                rows.push((hex(start)..hex(end), words));
                common = None;
            }
            ["LOC", ..] | [] => {}
            [at, cfa, .., ra] if at.len() == 16 => {
                let offset = cfa.strip_prefix("rsp+").filter(|_| ra == "c-8");
                let words =
                    offset.and_then(|offset| u8::try_from(offset.parse::<u64>().unwrap() / 8 - 1).ok());
                if let Some(common) = &common {
                    commons.insert(common.clone(), words);
                } else {
                    let (last, _) = rows.last_mut().unwrap();
                    let end = std::mem::replace(&mut last.end, hex(at));
                    rows.push((hex(at)..end, words));
                }
            }
            _ => {}
        }
    }
    functions.sort_unstable_by_key(|range| (range.start, range.end));
    rows.retain(|(range, _)| !range.is_empty());
    Some((functions, rows))
}

#[test]
fn functions_and_words_are_those_that_readelf_prints() {
    for path in real_files() {
        let elf = Elf::open(&path).unwrap();
        let table = FrameTable::new(&elf);
        let Some((functions, rows)) = readelf(&path) else { return eprintln!("skipped: no readelf") };
        assert!(functions.len() > 3000 && rows.len() > functions.len());
        assert!(table.functions().eq(functions.iter().cloned()), "{}", path.display());
        for (range, words) in &rows {
            for vaddr in [range.start, range.end - 1] {
                assert_eq!(table.cfa_words(vaddr), *words, "{} {vaddr:#x}", path.display());
            }
        }
        for range in functions {
            let inside = [range.start, range.start + (range.end - range.start) / 2, range.end - 1];
            assert!(inside.iter().all(|vaddr| table.function_at(*vaddr) == Some(range.clone())));
            assert_ne!(table.function_at(range.end), Some(range));
        }
    }
}

/// The length of a `push` that the code begins with.
fn push(code: &[u8]) -> Option<u64> {
    match code {
        [0x50..=0x57, ..] => Some(1),
        [0x41, 0x50..=0x57, ..] => Some(2),
        _ => None,
    }
}

#[test]
fn where_a_function_begins_the_return_address_is_on_top() {
    for path in real_files() {
        let elf = Elf::open(&path).unwrap();
        let table = FrameTable::new(&elf);
        let bytes = std::fs::read(&path).unwrap();
        let file = object::File::parse(&*bytes).unwrap();
        let (mut begun, mut pushed) = (0, 0);
        for symbol in file.dynamic_symbols().filter(|symbol| symbol.kind() == SymbolKind::Text) {
            let vaddr = symbol.address();
            // Some assembly has no description, and `_start` says that nobody called it.
            let starts = table.function_at(vaddr).is_some_and(|range| range.start == vaddr);
            if !starts || symbol.name() == Ok("_start") {
                continue;
            }
            assert_eq!(table.cfa_words(vaddr), Some(0), "{:?}", symbol.name());
            begun += 1;
            let Some(len) = push(elf.at(vaddr, 2).unwrap()) else { continue };
            let words = table.cfa_words(vaddr + len);
            assert_eq!(words, Some(1), "{:?}", symbol.name());
            pushed += 1;
        }
        assert!(begun > 1000 && pushed > 300, "{}: {begun} functions, {pushed} pushes", path.display());
    }
}

/// With the index as it is; with an index that has no table; without an index; without either.
#[test]
fn the_functions_are_found_in_every_way() {
    for path in real_files() {
        let bytes = std::fs::read(&path).unwrap();
        let whole = Elf::parse(bytes.clone()).unwrap();
        let expected: Vec<_> = FrameTable::new(&whole).functions().collect();
        let functions = |bytes: &[u8]| {
            let elf = Elf::parse(bytes.to_vec()).unwrap();
            FrameTable::new(&elf).functions().collect::<Vec<_>>()
        };
        let index = whole.file_offset(whole.frame_index().unwrap().start).unwrap() as usize;
        let without_sections = |mut bytes: Vec<u8>| {
            // e_shoff, and e_shentsize to e_shstrndx.
            bytes[0x28..0x30].fill(0);
            bytes[0x3a..0x40].fill(0);
            bytes
        };
        assert_eq!(functions(&without_sections(bytes.clone())), expected);
        let mut walked = without_sections(bytes.clone());
        walked[index + 2..index + 4].fill(0xff);
        assert_eq!(functions(&walked), expected);
        let mut sections = bytes.clone();
        sections[index] = 0;
        assert_eq!(functions(&sections), expected);
        assert_eq!(functions(&without_sections(sections)), []);
    }
}

proptest! {
    #[test]
    fn broken_descriptions_never_panic(
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..64), vaddr: u64,
    ) {
        let mut bytes = std::fs::read("/bin/true").unwrap();
        let elf = Elf::parse(bytes.clone()).unwrap();
        let index = elf.frame_index().unwrap().start;
        let from = elf.file_offset(index).unwrap() as usize;
        let to = from + elf.tail(index).unwrap().len();
        for (at, value) in changes {
            bytes[from + at.index(to - from)] = value;
        }
        let elf = Elf::parse(bytes).unwrap();
        let table = FrameTable::new(&elf);
        let mut before = 0;
        for range in table.functions() {
            assert!(before <= range.start && range.start < range.end && elf.is_code(range.start));
            before = range.end;
            for vaddr in [range.start, range.end - 1] {
                assert_eq!(table.function_at(vaddr), Some(range.clone()));
                let _ = table.cfa_words(vaddr);
            }
        }
        let _ = (table.function_at(vaddr), table.cfa_words(vaddr));
    }
}
