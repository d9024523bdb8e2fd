//! The reading of code: its index, the interpreters of this machine, and bytes that nobody would write.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use tracer_common::hook::Role;

use super::calls::{Callee, Calls, Kind};
use super::pymalloc::{FastPaths, Size, SlowPath};
use super::*;
use crate::target::fixture::debian;
use fixture::{Snippet, libraries, stubs_called};

pub(in crate::probe) mod fixture;

/// All calls of a file, by the names that its linker left.
pub(super) fn calls_of<I: AnyInstruction>(elf: &Elf, code: &Code<'_, I>) -> Calls {
    let own: BTreeMap<u64, Callee> = ["PyMem_RawMalloc", "PyMem_RawCalloc", "PyMem_RawRealloc"]
        .into_iter()
        .filter_map(|name| Some((elf.symbol(name)?.address, Callee::named(name)?)))
        .collect();
    let callee = |vaddr| elf.plt_target(vaddr).and_then(Callee::named).or_else(|| own.get(&vaddr).copied());
    Calls::of(code, callee, |pointer| elf.import_at(pointer).and_then(Callee::named))
}

/// What holds for every build whose fast paths are all seen; returns how many traps the kernel has to single-step.
pub(super) fn is_complete<I: AnyInstruction>(elf: &Elf, code: &Code<'_, I>, fast: &FastPaths) -> usize {
    assert!(fast.lost.is_empty(), "{:#x?}", fast.lost);
    let slow = SlowPath::of(code, &fast.allocs).unwrap();
    assert!(slow.matches(&fast.allocs), "{slow:#x?} {fast:#x?}");
    // Calls of the slow path by whatever finds them: all edges, not only those with an owner.
    let edges = code.calls_of(slow.function).len() + code.jumps_to(slow.function).len();
    assert_eq!(edges, fast.allocs.len());
    if let Some(symbol) = elf.symbol("allocate_from_new_pool") {
        assert_eq!(slow.function, symbol.address);
    }
    let sites: Vec<_> =
        fast.allocs.iter().map(|alloc| alloc.site).chain(fast.frees.iter().copied()).collect();
    for site in &sites {
        assert!(code.at(site.ip).is_some() && code.at(site.store).is_some(), "{site:#x?}");
    }
    for alloc in &fast.allocs {
        assert!(!matches!(alloc.size, Size::Class(bytes) if bytes % 16 != 0 || bytes > 512), "{alloc:?}");
    }
    sites.iter().filter(|site| !site.emulated).count()
}

/// Calls of the C library are those that objdump finds, in number.
fn calls_agree(path: &Path, calls: &Calls) {
    assert!(calls.lost.is_empty(), "{:#x?}", calls.lost);
    let roles = [Role::Malloc, Role::Calloc, Role::Realloc, Role::Free];
    let of = |role| calls.calls.iter().filter(|call| call.role == role && !call.outer).count();
    let found = stubs_called(path, ["malloc", "calloc", "realloc", "free"]);
    assert_eq!(roles.map(of), found, "{}", path.display());
}

#[test]
fn debians_interpreter_has_its_allocator_inlined() {
    let Some(path) = debian() else { panic!("these tests need /usr/bin/python3.11") };
    let elf = Elf::open(&path).unwrap();
    let code = Code::of(&elf);
    let fast = FastPaths::of(&code);
    assert_eq!(is_complete(&elf, &code, &fast), 0);
    assert!(fast.allocs.len() > 100 && fast.frees.len() > 30, "{} {}", fast.allocs.len(), fast.frees.len());
    let calls = calls_of(&elf, &code);
    calls_agree(&path, &calls);
    // Beside each fast path stands a call of the C library that passes on what is too large for it.
    let passed_on = calls.calls.iter().filter(|call| call.passed_on).count();
    assert_eq!(passed_on, fast.allocs.len());
    let count = |up: bool| {
        code.tallies().iter().filter(|tally| Some(tally.word) == calls.counter && tally.up == up).count()
    };
    assert_eq!(count(true), passed_on);
    // A free of a large block needs no fast path, but each fast path frees large ones too, or shares who does.
    assert!(count(false) > 30 && count(false) <= fast.frees.len());
}

#[test]
fn debians_later_interpreters_have_it_inlined_too() {
    // facts/cpython.md §1.4; of two frees that share their end, one site sees both.
    for (path, (allocs, frees)) in fixture::unpacked().into_iter().zip([(254, 50), (211, 72), (217, 72)]) {
        let elf = Elf::open(&path).unwrap();
        let code = Code::of(&elf);
        let fast = FastPaths::of(&code);
        // All but a few that have put the block aside are cheap.
        let stepped = is_complete(&elf, &code, &fast);
        assert_eq!((fast.allocs.len(), fast.frees.len()), (allocs, frees), "{}", path.display());
        assert!(stepped <= 3, "{stepped} in {}", path.display());
        let calls = calls_of(&elf, &code);
        assert!(matches!(calls.counter, Some(Word::Field(_))), "{:?} in {}", calls.counter, path.display());
        let passed_on = calls.calls.iter().filter(|call| call.passed_on).count();
        println!("{}: {passed_on} large requests, {stepped} stepped", path.display());
        assert!(passed_on + 2 >= fast.allocs.len(), "{passed_on} in {}", path.display());
    }
}

#[test]
fn pyenvs_libraries_have_it_in_its_own_functions() {
    let paths: Vec<PathBuf> = libraries();
    assert!(!paths.is_empty(), "these tests need a pyenv CPython");
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let minor = name.trim_start_matches("libpython3.").trim_end_matches(".so.1.0").parse::<u32>();
        let Some(minor) = minor.ok().filter(|minor| *minor >= 8) else { continue };
        let elf = Elf::open(&path).unwrap();
        let code = Code::of(&elf);
        let fast = FastPaths::of(&code);
        // facts/cpython.md §1.4 has 1–2 and 1–3, without `_PyObject_Calloc` where that has a body of its own.
        assert!(
            (1..=3).contains(&fast.allocs.len()) && (1..=3).contains(&fast.frees.len()),
            "{name}: {fast:#x?}"
        );
        assert!(fast.allocs.iter().all(|alloc| matches!(alloc.size, Size::Asked(_))), "{name}: {fast:#x?}");
        if minor == 8 {
            // The slow path is part of `pymalloc_alloc`: no count of calls can prove anything.
            let slow = SlowPath::of(&code, &fast.allocs);
            assert!(!slow.is_some_and(|slow| slow.matches(&fast.allocs)) && fast.lost.is_empty(), "{name}");
        } else {
            assert_eq!(is_complete(&elf, &code, &fast), 0, "{name}");
        }
        let calls = calls_of(&elf, &code);
        calls_agree(&path, &calls);
        // From 3.12 on, the state of the allocator has the counter, and no instruction names its address.
        let passed_on = calls.calls.iter().filter(|call| call.passed_on).count();
        assert_eq!(matches!(calls.counter, Some(Word::Fixed(_))), minor < 12, "{name}: {:x?}", calls.counter);
        assert_eq!(
            matches!(calls.counter, Some(Word::Field(_))),
            minor >= 12,
            "{name}: {:x?}",
            calls.counter
        );
        assert!(passed_on >= fast.allocs.len(), "{name}: {calls:#x?}");
    }
}

#[test]
fn the_index_knows_where_instructions_begin() {
    let snippet = Snippet::of(
        "begin: mov rax, [rdi+8]; mid: inc qword ptr counter[rip]; jne begin; call there; dec qword ptr counter[rip]
         there: jmp [slot]; call [slot]; add qword ptr counter[rip], 2; inc dword ptr counter[rip]
         inc qword ptr [rax+1088]; sub qword ptr [r12+1088], 1; inc qword ptr [rax+8]; inc dword ptr [rax+1088]
         inc qword ptr [rax+rdx+1088]; inc qword ptr fs:[rax+1088]",
    );
    let (code, at) = (snippet.code(), |name| snippet.label(name));
    assert_eq!(code.at(at("mid")).map(|found| found.ip()), Some(at("mid")));
    assert_eq!(code.at(at("mid") + 1), None);
    assert_eq!(code.before(at("mid")).map(|found| found.ip()), Some(at("begin")));
    assert_eq!((code.before(at("begin")), code.before(at("mid") + 1), code.at(0)), (None, None, None));
    assert_eq!(code.jumps_to(at("begin")).len(), 1);
    assert_eq!(code.calls_of(at("there")).len(), 1);
    assert!(code.jumps_to(at("there")).is_empty() && code.calls_of(at("begin")).is_empty());
    let throughs: Vec<u64> = code.throughs().iter().map(|through| through.pointer).collect();
    assert_eq!(throughs, [at("slot"), at("slot")]);
    let tallies: Vec<(Word, bool)> = code.tallies().iter().map(|tally| (tally.word, tally.up)).collect();
    let counter = Word::Fixed(at("counter"));
    let field = Word::Field(1088);
    assert_eq!(tallies, [(counter, true), (counter, false), (field, true), (field, false)]);
    assert_eq!(code.tally_at(at("mid")).map(|tally| tally.up), Some(true));
    assert_eq!(code.tally_at(at("mid") + 1), None);
    assert_eq!(
        code.from(at("begin")).take(2).map(|found| found.ip()).collect::<Vec<_>>(),
        [at("begin"), at("mid")]
    );
    assert_eq!(code.bytes(&code.at(at("begin")).unwrap()), [0x48, 0x8b, 0x47, 8]);
}

/// Everything that is ever asked of code.
fn ask_all(code: &Code<'_>) {
    let fast = FastPaths::of(code);
    for alloc in &fast.allocs {
        assert!(code.at(alloc.site.ip).is_some() && code.at(alloc.site.store).is_some());
    }
    if let Some(slow) = SlowPath::of(code, &fast.allocs) {
        let _ = slow.matches(&fast.allocs);
        assert!(slow.calls.iter().all(|call| call.owner.is_none_or(|owner| owner < fast.allocs.len())));
    }
    let calls = Calls::of(code, |vaddr| (vaddr % 3 == 0).then_some(Callee::Libc(Role::Malloc)), |_| None);
    for call in calls.calls.iter().take(1_000) {
        if let Kind::Call(outcome) = call.kind {
            assert!(code.at(outcome.ip).is_some());
        }
        let _ = guards::nearest(code, call.ip, |word| (word % 2 == 0).then_some(word));
    }
}

/// Pieces of fast paths and what may stand between them; a jump's distance is drawn.
fn piece() -> impl Strategy<Value = Vec<u8>> {
    let pieces: Vec<&[u8]> = vec![
        &[0x48, 0x8b, 0x42, 8],                   // mov rax, [rdx+8]
        &[0x48, 0x8b, 0x08],                      // mov rcx, [rax]
        &[0x48, 0x89, 0x4a, 8],                   // mov [rdx+8], rcx
        &[0xff, 0x02],                            // inc dword ptr [rdx]
        &[0xff, 0x0a],                            // dec dword ptr [rdx]
        &[0x48, 0x89, 0x01],                      // mov [rcx], rax
        &[0x48, 0x89, 0xc1],                      // mov rcx, rax
        &[0x48, 0x8b, 0x14, 0xc5, 0, 0x10, 0, 0], // mov rdx, [rax*8+0x1000]
        &[0x8d, 0x47, 0xff],                      // lea eax, [rdi-1]
        &[0xc1, 0xe8, 4],                         // shr eax, 4
        &[0x48, 0x85, 0xc9],                      // test rcx, rcx
        &[0x90],
        &[0xc3],
    ];
    let jump = (prop::sample::select(vec![0x74u8, 0x75, 0xeb]), -40i8..40);
    let call = -60i32..60;
    prop_oneof![
        6 => prop::sample::select(pieces).prop_map(<[u8]>::to_vec),
        2 => jump.prop_map(|(opcode, distance)| vec![opcode, distance.cast_unsigned()]),
        1 => call.prop_map(|distance| [&[0xe8][..], &distance.to_le_bytes()].concat()),
    ]
}

proptest! {
    #[test]
    fn hostile_code_never_panics(code: Vec<u8>, vaddr: u64, other: u64) {
        ask_all(&Code::of_parts([(vaddr, &*code), (other, &*code)]));
    }

    #[test]
    fn shuffled_fast_paths_never_panic(pieces in prop::collection::vec(piece(), 1..60), vaddr: u64) {
        ask_all(&Code::of_parts([(vaddr, &*pieces.concat())]));
    }
}

#[test]
fn what_was_written_to_waste_time_is_bounded() {
    let many = |bytes: &[u8], times: usize| bytes.repeat(times);
    let far = |opcode: &[u8], distance: usize| [opcode, &(distance as i32).to_le_bytes()].concat();
    // mov rax, [rdx+8]; inc dword ptr [rdx]; mov rcx, [rax]; mov [rdx+8], rcx; je to the next
    let alloc = [0x48, 0x8b, 0x42, 8, 0xff, 0x02, 0x48, 0x8b, 0x08, 0x48, 0x89, 0x4a, 8, 0x74, 0];
    // mov rcx, [rdx+8]; mov [rdi], rcx; mov [rdx+8], rdi; dec dword ptr [rdx]; jmp to the end
    let free = [0x48, 0x8b, 0x4a, 8, 0x48, 0x89, 0x0f, 0x48, 0x89, 0x7a, 8, 0xff, 0x0a];
    let count = 20_000;
    let one = free.len() + 5;
    let merged: Vec<u8> =
        (1..=count).flat_map(|index| [&free[..], &far(&[0xe9], (count - index) * one)].concat()).collect();
    let before: Vec<u8> = (1..=count).flat_map(|index| far(&[0x0f, 0x84], (count - index) * 6)).collect();
    let merged = [&merged[..], &[0x74, 0]].concat();
    let fast = FastPaths::of(&Code::of_parts([(0x1000, &*merged)]));
    // So many that nobody follows them all to where they meet: each has a trap at its own jump.
    assert_eq!((fast.frees.len(), fast.lost.len()), (count, 0));
    let stores = many(&[0x48, 0x89, 0x4a, 8], STORES + 1);
    assert!(Code::of_parts([(0x1000, &*stores)]).stores.is_empty());
    for bytes in [
        merged,
        [&before[..], &alloc].concat(),
        many(&alloc, 5_000),
        many(&[0x48, 0x89, 0x4a, 8], 50_000),
        many(&[0x74, 0], 100_000),
        many(&[0x75, 0xfe], 100_000),
        many(&[0xe8, 0, 0, 0, 0], 50_000),
    ] {
        ask_all(&Code::of_parts([(0x1000, &*bytes)]));
    }
}
