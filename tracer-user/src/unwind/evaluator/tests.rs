//! The evaluator's parts: in assembly, from a compiler that splits functions, and in the interpreters of this machine.

use super::*;
use crate::target::fixture::{self, Made};

/// A function with a frame of 40 bytes whose parts are `hot`, `cold` and `colder`, among jumps that are none of its own: calls in tail position (`other`, a stub), a jump into a
/// function with a frame of another size (`larger`), and one that nobody jumps to (`alone`).
const SOURCE: &str = "
.intel_syntax noprefix
.globl hot, hot_end, cold, cold_end, colder, colder_end
hot: .cfi_startproc
    test edi, edi
    js other
    sub rsp, 40
    .cfi_def_cfa_offset 48
    jz cold
    jmp larger_inside
back:
    add rsp, 40
    .cfi_def_cfa_offset 8
    test eax, eax
    jz elsewhere@PLT
    ret
hot_end: .cfi_endproc
other: .cfi_startproc
    ret
    .cfi_endproc
cold: .cfi_startproc
    .cfi_def_cfa_offset 48
    nop
    jnz colder_inside
    jmp back
cold_end: .cfi_endproc
larger: .cfi_startproc
    sub rsp, 56
    .cfi_def_cfa_offset 64
larger_inside:
    ud2
    .cfi_endproc
alone: .cfi_startproc
    .cfi_def_cfa_offset 48
    jmp back
    .cfi_endproc
colder: .cfi_startproc
    .cfi_def_cfa_offset 48
    nop
colder_inside:
    jmp back
colder_end: .cfi_endproc
";

#[test]
fn what_shares_the_frame_is_a_part() {
    let made = Made::by("gcc", &["-x", "assembler", "-shared", "-nostdlib"], SOURCE).unwrap();
    let elf = Elf::open(&made.path).unwrap();
    let at = |name: &str| elf.symbol(name).unwrap().address;
    let parts = parts_of(&elf, at("hot"));
    let expected = ["hot", "cold", "colder"].map(|name| at(name)..at(&format!("{name}_end")));
    assert_eq!(parts, expected);
    assert_eq!(parts_of(&elf, 0), []);
}

#[test]
fn what_a_compiler_has_split_is_put_together() {
    let source = "
        extern int work(int *), rare(int *, int);
        int _PyEval_EvalFrameDefault(int n)
        {
            int room[40] = {0};
            for (int i = 0; i < n; i++)
                if (__builtin_expect(work(room + i % 40) < 0, 0)) {
                    for (int k = 0; k < 9; k++) { rare(room, k); if (room[k] == n) __builtin_trap(); }
                    rare(room, -1);
                }
            return room[n % 40];
        }
        extern int rare(int *, int) __attribute__((cold));
        int after(int n) { return _PyEval_EvalFrameDefault(n) + 1; }";
    let flags = ["-x", "c", "-O2", "-fPIC", "-shared", "-freorder-blocks-and-partition"];
    let made = Made::by("gcc", &flags, source).unwrap();
    let elf = Elf::open(&made.path).unwrap();
    let range = |name: &str| elf.symbol(name).map(|symbol| symbol.address..symbol.address + symbol.size);
    let (hot, cold) = (range(NAME), range("_PyEval_EvalFrameDefault.cold"));
    assert!(cold.is_some(), "this gcc does not split the function: the test needs another one");
    assert_eq!(parts(&elf), [hot, cold].map(Option::unwrap));
}

#[test]
fn real_evaluators_are_whole() {
    let mut files: Vec<_> = fixture::libraries();
    files.extend(fixture::debian());
    for path in files {
        let elf = Elf::open(&path).unwrap();
        let parts = parts(&elf);
        let symbol = elf.symbol(NAME).unwrap();
        assert_eq!(parts[0].start, symbol.address, "{}", path.display());
        let bytes: u64 = parts.iter().map(|part| part.end - part.start).sum();
        assert!(bytes >= symbol.size && bytes > 30_000, "{} {parts:x?}", path.display());
        // What is found besides has the compiler's name for it, where names were kept.
        let cold = elf.symbol("_PyEval_EvalFrameDefault.cold");
        for part in &parts[1..] {
            let named = cold.is_none_or(|cold| cold.address == part.start);
            assert!(named && elf.name_at(part.start).is_none_or(|name| name.ends_with(".cold")));
        }
        // What bears that name and is not found is a few bytes that are never run: nothing jumps there.
        if let Some(cold) = cold.filter(|cold| parts.iter().all(|part| part.start != cold.address)) {
            assert!(cold.size <= 16, "{} {cold:x?}", path.display());
        }
    }
}
