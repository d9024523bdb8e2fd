//! Tables of made-up files and of real ones: what is in them, what the kernel is told, and what does not fit.

use std::path::Path;
use std::sync::Arc;

use proptest::prelude::*;
use tracer_common::unwind::{Cfa, Missing, Rbp, find};

use super::*;
use crate::target::modules::CodeFile;

const LIMITS: Limits = Limits { modules: 8, pages: 64, rows: 4 * CHUNK_ROWS as u32, rules: 16 };

fn rule(words: i16) -> Rule {
    Rule::new(Cfa::Rsp, words, Rbp::Same, 0)
}

/// A file whose code begins at this address, each stretch as long and with the CFA as far away as said; 0: nothing is known.
fn file(vaddr: u64, stretches: &[(u64, i16)]) -> FileRows {
    let mut at = vaddr;
    FileRows::of_stretches(stretches.iter().map(|(bytes, words)| {
        at += bytes;
        (at - bytes..at, if *words == 0 { Rule::NONE } else { rule(*words) })
    }))
    .unwrap()
}

fn key(number: u8) -> Key {
    Key::Build(vec![number], Vec::new())
}

/// What the kernel has after it was told.
#[derive(Default)]
struct Kernel {
    modules: HashMap<u32, Module>,
    pages: Vec<Page>,
    rows: Vec<Row>,
    rules: Vec<Rule>,
}

impl Kernel {
    fn tell(&mut self, packed: &Packed, changes: &Changes) {
        let fit = |len: usize, range: &Range<u32>| assert!(range.is_empty() || len >= range.start as usize);
        fit(self.rules.len(), &changes.rules);
        fit(self.rows.len() / CHUNK_ROWS, &changes.chunks);
        fit(self.pages.len(), &changes.pages);
        self.rules.extend(packed.rules(changes.rules.clone()));
        if !changes.chunks.is_empty() {
            self.rows.truncate(changes.chunks.start as usize * CHUNK_ROWS);
        }
        self.rows.extend(packed.chunks(changes.chunks.clone()).as_flattened());
        self.pages.extend(packed.pages(changes.pages.clone()));
        self.modules.extend((changes.view.first()..).zip(changes.modules.iter().copied()));
    }
}

impl Tables for Kernel {
    fn module(&self, place: u32) -> Option<Module> {
        self.modules.get(&place).copied()
    }
    fn page(&self, place: u32) -> Option<Page> {
        self.pages.get(place as usize).copied()
    }
    fn row(&self, place: u32) -> Option<Row> {
        self.rows.get(place as usize).copied()
    }
    fn rule(&self, number: u16) -> Option<Rule> {
        self.rules.get(usize::from(number)).copied()
    }
}

#[test]
fn a_file_that_comes_later_is_appended() {
    let (one, two) = (file(0x1000, &[(16, 1), (16, 2)]), file(0x2000, &[(8, 2), (8, 3)]));
    let mut packed = Packed::new(LIMITS);
    let mut kernel = Kernel::default();
    packed.place(key(1), &one).unwrap();
    let first = packed.view(&[]);
    assert_eq!((first.rules.clone(), first.chunks.clone(), first.pages.clone()), (0..4, 0..1, 0..1));
    kernel.tell(&packed, &first);
    let nothing = packed.view(&[]);
    assert!([&nothing.rules, &nothing.chunks, &nothing.pages].iter().all(|range| range.is_empty()));
    assert_ne!((nothing.view.first(), nothing.view), (first.view.first(), first.view));
    packed.place(key(2), &two).unwrap();
    let second = packed.view(&[]);
    // A rule that both have is there once; the chunk that both are in is written again.
    assert_eq!((second.rules.clone(), second.chunks.clone(), second.pages.clone()), (4..5, 0..1, 1..2));
    kernel.tell(&packed, &second);
    assert_eq!((packed.rules(2..5), packed.row_count()), (&[rule(1), rule(2), rule(3)][..], 8));
    assert!(packed.has(&key(1)) && packed.has(&key(2)) && !packed.has(&key(3)));
}

#[test]
fn what_does_not_fit_says_so_and_changes_nothing() {
    let rows: Vec<(u64, i16)> = (0..4000).map(|at| (1, 1 + at % 2)).collect();
    let mut packed = Packed::new(LIMITS);
    packed.place(key(1), &file(0, &rows)).unwrap();
    let before = packed.row_count();
    assert_eq!(
        packed.place(key(2), &file(0, &rows)),
        Err(format!("no room for {before} unwind rows: {before} of 4096 are taken"))
    );
    assert_eq!((packed.row_count(), packed.has(&key(2))), (before, false));
    let wide = file(0, &[(64 << 16, 1)]);
    assert_eq!(packed.place(key(3), &wide), Err("no room for 65 pages: 1 of 64 are taken".to_owned()));
    packed.place(key(4), &file(0, &[(1, 1)])).unwrap();
}

#[test]
fn a_rule_without_room_is_unsupported_and_counted() {
    let rows: Vec<(u64, i16)> = (1..=20).map(|words| (4, words)).collect();
    let file = file(0, &rows);
    let mut packed = Packed::new(LIMITS);
    packed.place(key(1), &file).unwrap();
    assert_eq!((packed.rule_count(), packed.refused()), (16, (6, 0)));
    let of = |row: u32| packed.rule(packed.row(row).unwrap().0 as u16).unwrap();
    assert_eq!((of(13), of(14), of(19)), (rule(14), UNSUPPORTED, UNSUPPORTED));
}

/// Modules of this very program: what [`find`] says in the kernel's copy of the tables, which is built from the changes alone, is what the rows say; also
/// when the files come one by one and some are gone again.
#[test]
fn the_kernel_finds_what_the_rows_say() {
    let open = |name: &str| Arc::new(CodeFile::of_file(Path::new(name)).unwrap());
    let files = ["/bin/sh", "/lib64/ld-linux-x86-64.so.2", "/bin/true"].map(open);
    let rows: Vec<FileRows> = files.iter().map(|file| FileRows::of(file).unwrap()).collect();
    let limits = Limits { modules: 8, pages: 1024, rows: 64 * CHUNK_ROWS as u32, rules: 1024 };
    let (mut packed, mut kernel) = (Packed::new(limits), Kernel::default());
    let mut mapped = Vec::<modules::Module>::new();
    for (number, file) in files.iter().enumerate() {
        let segment = file.segments().iter().find(|segment| segment.executable).unwrap();
        let start = 0x7000_0000_0000 + number as u64 * 0x1000_0000 + (segment.vaddr & !0xfff);
        let (vaddr, offset) = (segment.vaddr & !0xfff, segment.offset & !0xfff);
        let end = start + segment.file_size + (segment.vaddr - vaddr);
        // In two pieces, as `mprotect` cuts; the tables have it in one.
        let cut = start + 0x1000;
        let piece = |from: u64, to: u64| modules::Module {
            start: from,
            end: to,
            offset: offset + (from - start),
            vaddr: vaddr + (from - start),
            file: Arc::clone(file),
        };
        mapped.extend([piece(start, cut), piece(cut, end)]);
        packed.place(Key::of(file), &rows[number]).unwrap();
        let changes = packed.view(&mapped);
        assert_eq!(changes.modules.len(), mapped.len() / 2);
        kernel.tell(&packed, &changes);
        for module in &mapped {
            let rows = &rows[files.iter().position(|file| Arc::ptr_eq(file, &module.file)).unwrap()];
            for address in (module.start..module.end).step_by(7) {
                let expected = rows.rule_at(module.vaddr + (address - module.start));
                let found = find(&kernel, changes.view, address);
                assert_eq!(found.unwrap_or_default().bare(), expected);
                assert_eq!(found, find(&packed, changes.view, address));
            }
            // Files are told apart by what a rule is found with.
            let place = |at: u64| find(&kernel, changes.view, at).map(Rule::file);
            let mine: Vec<u64> = (module.start..module.end).filter_map(|at| place(at).ok()).collect();
            assert!(mine.windows(2).all(|pair| pair[0] == pair[1]) && !mine.is_empty());
            let beyond = find(&kernel, changes.view, mapped.last().unwrap().end);
            assert_eq!(beyond, Err(Missing::Module));
        }
    }
    let changes = packed.view(&mapped[2..4]);
    kernel.tell(&packed, &changes);
    assert_eq!(find(&kernel, changes.view, mapped[0].start), Err(Missing::Module));
    assert!(find(&kernel, changes.view, mapped[2].start + 0x100) != Err(Missing::Module));
}

#[test]
fn too_many_modules_are_counted() {
    let file = Arc::new(CodeFile::of_file(Path::new("/bin/true")).unwrap());
    let module = |number: u64| modules::Module {
        start: number << 20,
        end: (number << 20) + 4096,
        offset: 0,
        vaddr: 0,
        file: Arc::clone(&file),
    };
    let mapped: Vec<_> = (1..=11).map(module).collect();
    let mut packed = Packed::new(LIMITS);
    let changes = packed.view(&mapped);
    assert_eq!((changes.modules.len(), packed.refused()), (8, (0, 3)));
    let known = find(&packed, changes.view, 8 << 20);
    // No file was placed.
    assert_eq!((known, find(&packed, changes.view, 9 << 20)), (Err(Missing::Row), Err(Missing::Module)));
}

proptest! {
    /// Any stretches, against the plainest search.
    #[test]
    fn pages_say_what_the_stretches_say(
        vaddr in 0u64..0x3_0000,
        stretches in prop::collection::vec((prop_oneof![1u64..64, 0xfff0u64..0x1_0010, 1u64..0x2_0000], 0i16..4), 1..40),
        asked in prop::collection::vec(0u64..0x50_0000, 64),
    ) {
        prop_assume!(stretches.iter().any(|(_, words)| *words > 0));
        let rows = file(vaddr, &stretches);
        let mut at = vaddr;
        let mut borders = vec![0, vaddr.saturating_sub(1)];
        let list: Vec<_> = stretches.iter().map(|(bytes, words)| { at += bytes; borders.extend([at - bytes, at - 1, at]); (at - bytes..at, *words) }).collect();
        for vaddr in borders.into_iter().chain(asked) {
            let words = list.iter().find(|(range, _)| range.contains(&vaddr)).map_or(0, |(_, words)| *words);
            let expected = if words == 0 { Rule::NONE } else { rule(words) };
            prop_assert_eq!(rows.rule_at(vaddr), expected, "{:#x}", vaddr);
        }
    }

    #[test]
    fn the_evaluator_is_marked_to_the_byte(
        stretches in prop::collection::vec((1u64..0x9000, 0i16..4), 1..20),
        parts in prop::collection::vec((0u64..0x3_0000, 1u64..0x8000), 0..4),
    ) {
        prop_assume!(stretches.iter().any(|(_, words)| *words > 0));
        let rows = file(0x1000, &stretches);
        let parts: Vec<Range<u64>> = parts.into_iter().map(|(start, bytes)| start..start + bytes).collect();
        let marked = rows.with_evaluator(&parts).unwrap();
        for vaddr in parts.iter().flat_map(|part| [part.start.saturating_sub(1), part.start, part.end - 1, part.end])
            .chain((0..0x4_0000).step_by(97))
        {
            let plain = rows.rule_at(vaddr);
            let inside = plain != Rule::NONE && parts.iter().any(|part| part.contains(&vaddr));
            prop_assert_eq!(marked.rule_at(vaddr), if inside { plain.of_evaluator() } else { plain }, "{:#x}", vaddr);
        }
    }
}
