//! Debian's CPythons for aarch64, a piece of one, and bytes that nobody would write.

use std::path::PathBuf;

use proptest::prelude::*;
use tracer_common::hook::Role;

use super::*;
use crate::probe::code::calls::{Callee, Calls, Kind};
use crate::probe::code::pymalloc::{Block, FastPaths, Size, SlowPath};
use crate::probe::code::tests::{calls_of, is_complete};
use crate::probe::code::{Edge, guards};
use crate::target::elf::Machine;

/// A page or five of Debian 12's `python3.11` (3.11.2-6+deb12u8, arm64): `_PyObject_GC_New`, `PyObject_Malloc`, `allocate_from_new_pool` and their neighbours.
const PIECE: &[u8] = include_bytes!("tests/python3.11.bin");
const PIECE_AT: u64 = 0x47_5000;

/// Where `allocate_from_new_pool` is in it, and who calls it there, as llvm-objdump has it.
const NEW_POOL: u64 = 0x47_5624;
const CALLS: [u64; 8] =
    [0x47_52f4, 0x47_54a8, 0x47_5604, 0x47_61f4, 0x47_787c, 0x47_8584, 0x47_8f2c, 0x47_9208];

/// Debian's CPythons for aarch64, where `cargo xtask pythons` has unpacked them.
fn unpacked() -> Vec<PathBuf> {
    let told = std::env::var_os("UNSHED_PYTHONS").map(PathBuf::from);
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache/unshed/pythons"));
    let folder = told.or_else(home).unwrap_or_default().join("aarch64/usr");
    let programs = ["3.11", "3.13", "3.14", "3.15"].map(|version| format!("bin/python{version}"));
    let libraries =
        ["3.11", "3.13"].map(|version| format!("lib/aarch64-linux-gnu/libpython{version}.so.1.0"));
    let found: Vec<PathBuf> = programs.iter().chain(&libraries).map(|path| folder.join(path)).collect();
    let missing = found.iter().find(|path| !path.is_file());
    assert_eq!(missing, None, "these tests need it: cargo xtask pythons");
    found
}

#[test]
fn debians_interpreters_for_aarch64_are_complete() {
    for path in unpacked() {
        let elf = Elf::parse_for(Machine::Aarch64, std::fs::read(&path).unwrap()).unwrap();
        let code = Code::of_aarch64(&elf);
        let fast = FastPaths::of(&code);
        // As many sites as calls of the slow path, each call the other arm of a site of its own.
        let stepped = is_complete(&elf, &code, &fast);
        let calls = calls_of(&elf, &code);
        assert!(calls.lost.is_empty(), "{}: {:x?}", path.display(), calls.lost);
        let passed_on = calls.calls.iter().filter(|call| call.passed_on).count();
        let downs =
            code.tallies().iter().filter(|tally| !tally.up && Some(tally.word) == calls.counter).count();
        let (allocs, frees) = (fast.allocs.len(), fast.frees.len());
        println!("{}: {allocs} + {frees} sites, {stepped} stepped, {passed_on} passed on", path.display());
        assert!(
            passed_on >= allocs && downs > 0 && downs <= frees,
            "{passed_on} {downs} in {}",
            path.display()
        );
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        // The programs have the allocator inlined into its callers, the libraries have it in its own functions.
        assert_eq!(
            (allocs > 100, frees > 30),
            (!name.starts_with("lib"), !name.starts_with("lib")),
            "{name}"
        );
        let fixed = matches!(calls.counter, Some(Word::Fixed(_)));
        assert_eq!(fixed, name.contains("3.11"), "{name}: {:x?}", calls.counter);
        let roles = [Role::Malloc, Role::Calloc, Role::Realloc, Role::Free];
        for role in roles {
            assert!(calls.calls.iter().any(|call| call.role == role && !call.outer), "{name}: {role:?}");
        }
    }
}

#[test]
fn a_piece_of_debians_interpreter_has_a_site_for_each_slow_call() {
    let code: Code<'_, Aarch64> = Code::stretches([(PIECE_AT, PIECE)]);
    let fast = FastPaths::of(&code);
    assert_eq!((fast.allocs.len(), &*fast.lost), (CALLS.len(), &[][..]), "{fast:x?}");
    let slow = SlowPath::of(&code, &fast.allocs).unwrap();
    assert_eq!(slow.function, NEW_POOL);
    assert!(slow.calls.iter().map(|call| call.ip).eq(CALLS) && slow.matches(&fast.allocs), "{slow:x?}");
    // ldr x0, [x2, #8]; …; str x1, [x2, #8]; cbz x1: the block is in x0 there, and w1, which had the size, has been used again.
    let first = fast.allocs[0];
    assert_eq!((first.site.store, first.site.ip, first.site.emulated), (0x47_5224, 0x47_5228, true));
    assert_eq!((first.site.block, first.size), (Block::Held(Register::X0), Size::Pool));
    // One call less, and it says so.
    let mut less = slow;
    less.calls.pop();
    assert!(!less.matches(&fast.allocs));
}

/// Words of code, from llvm-mc.
fn bytes(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_le_bytes()).collect()
}

const ADRP_X0: u32 = 0x9000_0020; // adrp x0, .+0x4000
const ADD_X0: u32 = 0x9105_8000; // add x0, x0, #0x160
const NOP: u32 = 0xd503_201f;
const RET: u32 = 0xd65f_03c0;

#[test]
fn pointers_and_counters_are_put_together() {
    // adrp x0; add x0; ldr x2, [x0, #0x10]; blr x2; adrp x1; ldr x3, [x1, #8]; add x3, x3, #1; str x3, [x1, #8]; ldr x4, [x5, #1088]; sub x4, x4, #1; str x4, [x5, #1088]
    let code = bytes(&[
        ADRP_X0,
        ADD_X0,
        0xf940_0802,
        0xd63f_0040,
        0x9000_0021,
        0xf940_0423,
        0x9100_0463,
        0xf900_0423,
        0xf942_20a4,
        0xd100_0484,
        0xf902_20a4,
        RET,
    ]);
    let code: Code<'_, Aarch64> = Code::stretches([(0x1000, &*code)]);
    let throughs: Vec<_> = code.throughs().iter().map(|through| (through.source, through.pointer)).collect();
    assert_eq!(throughs, [(0x100c, 0x5170)]);
    let tallies: Vec<_> = code.tallies().iter().map(|tally| (tally.source, tally.word, tally.up)).collect();
    assert_eq!(tallies, [(0x101c, Word::Fixed(0x5008), true), (0x1028, Word::Field(1088), false)]);
    let word = |ip: u64| code.at(ip).and_then(|at| at.word(&code));
    assert_eq!((word(0x1008), word(0x1014), word(0x1020)), (Some(0x5170), Some(0x5008), None));
    assert_eq!(guards::nearest(&code, 0x101c, |word| (word == 0x5170).then_some(())), Some(()));
}

#[test]
fn what_a_call_need_not_keep_is_forgotten() {
    // adrp x0; adrp x19; bl .+8; nop; ldr x1, [x0]; ldr x2, [x19]
    let code = bytes(&[ADRP_X0, 0x9000_0033, 0x9400_0002, NOP, 0xf940_0001, 0xf940_0262]);
    let code: Code<'_, Aarch64> = Code::stretches([(0x1000, &*code)]);
    let mut line = Line::new();
    code.from(0x1000).for_each(|at| line.step(&at));
    let made = |register| line.made(line.of(register));
    assert!(matches!(made(Register::X1), Made::Word { offset: 0, .. }), "{:?}", made(Register::X1));
    assert_eq!(made(Register::X2), Made::Fixed(0x5000));
    assert_eq!(code.calls(), [Edge { target: 0x1010, source: 0x1008 }]);
}

#[test]
fn what_the_kernel_emulates() {
    // Linux arch/arm64/kernel/probes/decode-insn.c: b, bl, b.eq, cbz, tbz, br, blr, ret, adr, adrp, ldr from a place in the code.
    let yes = [
        0x1400_0002,
        0x9400_0002,
        0x5400_0040,
        0xb400_0041,
        0x3618_0041,
        0xd61f_0220,
        0xd63f_0040,
        RET,
        0x1000_0041,
        ADRP_X0,
        0x5800_0080,
    ];
    // nop (only since 6.13), add, ldr x1, [x0], str, stp with a new stack pointer, ldr d0 from a place in the code
    let no = [NOP, ADD_X0, 0xf940_0001, 0xf900_0441, 0xa9be_7bfd, 0x5c00_0080];
    let emulated = |word: u32| Aarch64::decode(&word.to_le_bytes(), 0x1000).unwrap().is_emulated(&[]);
    assert_eq!((yes.map(emulated), no.map(emulated)), ([true; 11], [false; 6]));
}

/// Everything that is ever asked of code.
fn ask_all(bytes: &[u8], vaddr: u64) {
    let code: Code<'_, Aarch64> = Code::stretches([(vaddr, bytes)]);
    let fast = FastPaths::of(&code);
    let _ = SlowPath::of(&code, &fast.allocs).map(|slow| slow.matches(&fast.allocs));
    let calls = Calls::of(&code, |vaddr| (vaddr % 3 == 0).then_some(Callee::Libc(Role::Malloc)), |_| None);
    for call in calls.calls.iter().take(100) {
        if let Kind::Call(outcome) = call.kind {
            assert!(code.at(outcome.ip).is_some());
        }
        let _ = guards::nearest(&code, call.ip, |word| (word % 2 == 0).then_some(word));
    }
}

proptest! {
    #[test]
    fn hostile_code_never_panics(code: Vec<u8>, vaddr: u64) {
        ask_all(&code, vaddr);
    }

    /// Real code with a word changed here and there.
    #[test]
    fn damaged_code_never_panics(changes in prop::collection::vec((0..PIECE.len() / 4, any::<u32>()), 1..40), vaddr: u64) {
        let mut code = PIECE[..0x1800].to_vec();
        for (at, word) in changes {
            let at = at % (code.len() / 4) * 4;
            code[at..at + 4].copy_from_slice(&word.to_le_bytes());
        }
        ask_all(&code, vaddr);
    }
}
