//! Births as compilers write them, and in the interpreters of this machine.

use super::*;
use crate::probe::code::pymalloc::FastPaths;
use crate::probe::code::tests::fixture::{Snippet, libraries, unpacked};
use crate::target::elf::Elf;
use crate::target::fixture::debian;
use crate::target::frame_table::FrameTable;
use Register::{R14, Rax, Rbx, Rdi};

/// The function itself, as gcc has made Debian's.
const FUNCTION: &str = "
    entry: mov eax, counter[rip]; test eax, eax; own: jne set; mov qword ptr [rdi], 1; ret
    set: sub rsp, 24; mov [rsp + 8], rdi; call trace; mov rdi, [rsp + 8]; mov qword ptr [rdi], 1; add rsp, 24; ret; int3
    trace: cmp dword ptr counter[rip], 0; je gone; mov rbx, rdi; call other; gone: ret; int3; other: ret; int3";

/// All births of a text behind the function, without its own.
fn births_of(text: &str) -> (Snippet, Births) {
    let snippet = Snippet::of(&format!("{FUNCTION}; start: {text}"));
    let code = snippet.code();
    let tracer = Tracer::of(&code, snippet.label("entry")).unwrap();
    let expected =
        Tracer { word: Some(snippet.label("counter")), callee: Callee::Function(snippet.label("trace")) };
    assert_eq!(tracer, expected);
    let fast = FastPaths::of(&code);
    let mut origins = Origins::new(&code, fast.allocs.iter().map(|alloc| alloc.site.store));
    let starts = [snippet.label("entry"), snippet.label("start")];
    let start = |ip| starts.into_iter().filter(|start| *start <= ip).max();
    let mut births = Births::of(&code, &tracer, &mut origins, start);
    let own = Birth { ip: snippet.label("own"), object: Rdi, emulated: true, origin: Origin::Kept };
    assert_eq!(births.births.remove(0), own);
    (snippet, births)
}

/// The only birth of a text, at the label `jump`.
fn birth_of(text: &str) -> (Register, Origin) {
    let (snippet, births) = births_of(text);
    let [birth] = births.births[..] else { panic!("{births:#x?} in {text}") };
    assert_eq!((birth.ip, birth.emulated, births.lost.len()), (snippet.label("jump"), true, 0), "{text}");
    (birth.object, birth.origin)
}

/// Behind the jump: the store on one side, the call on the other.
const BOTH: &str = "mov qword ptr [rbx], 1; ret; slow: mov rdi, rbx; call trace; mov qword ptr [rbx], 1; ret";

#[test]
fn copies_are_seen_however_they_are_written() {
    let kept = |register| (register, Origin::Kept);
    let seen = |text: &str| birth_of(&format!("{text}; jump: jne slow; {BOTH}"));
    assert_eq!(seen("mov rbx, [rsi]; mov eax, counter[rip]; test eax, eax"), kept(Rbx));
    assert_eq!(seen("mov rbx, [rsi]; cmp dword ptr counter[rip], 0"), kept(Rbx));
    assert_eq!(seen("mov r10d, counter[rip]; mov rbx, [rsi + rax * 8 + 3872]; test r10d, r10d"), kept(Rbx));
    // The register is the one that holds the object at the jump, not at the store.
    let text = "mov r14, [rsi]; cmp dword ptr counter[rip], 0; jump: je fine; mov rdi, r14; call trace; mov qword ptr [r14], 1; ret
        fine: mov rbx, r14; mov [rsi + 16], rax; jmp on; on: mov qword ptr [rbx], 1; ret";
    assert_eq!(birth_of(text), kept(R14));
    // An object that was put aside is known by the store of its type.
    let text = "mov rax, [rsi]; mov [rsp + 8], rax; mov qword ptr [rax + 8], 5; cmp dword ptr counter[rip], 0; jump: jne slow
        mov rdx, [rsp + 8]; mov qword ptr [rdx], 1; ret; slow: mov rdi, [rsp + 8]; call trace; mov rdx, [rsp + 8]; mov qword ptr [rdx], 1; ret";
    assert_eq!(birth_of(text), kept(Rax));
}

#[test]
fn one_read_may_serve_two_births() {
    let (snippet, births) = births_of(
        "mov r12d, counter[rip]; mov rbx, [rsi]; test r12d, r12d; one: jne slow; back: mov qword ptr [rbx], 1
         mov rax, [rdi]; test r12d, r12d; two: jne slower; mov qword ptr [rax], 1; ret
         slow: mov rdi, rbx; call trace; jmp back; slower: mov rdi, rax; call trace; ud2",
    );
    let found: Vec<_> = births.births.iter().map(|birth| (birth.ip, birth.object)).collect();
    assert_eq!(found, [(snippet.label("one"), Rbx), (snippet.label("two"), Rax)]);
    assert!(births.lost.is_empty());
}

#[test]
fn who_only_reads_the_word_gives_birth_to_nothing() {
    for text in [
        "cmp dword ptr counter[rip], 0; je no; call other; mov qword ptr [rbx], 1; no: ret",
        "mov eax, counter[rip]; mov rdi, rax; jmp other",
        "mov dword ptr counter[rip], 1; ret",
        // Somebody else's word.
        "cmp dword ptr slot[rip], 0; jne slow; mov qword ptr [rbx], 1; ret; slow: call other; ret",
        // A dying object that its finalizer has kept alive: it has its old count.
        "cmp dword ptr counter[rip], 0; jne slow; on: mov [rbx], r12; ret; slow: mov rdi, rbx; call trace; jmp on",
    ] {
        let (_, births) = births_of(text);
        assert_eq!(births, Births::default(), "{text}");
    }
}

#[test]
fn what_cannot_be_followed_is_lost_and_said() {
    // No register: the object is only in memory.
    let text = "cmp dword ptr counter[rip], 0; jump: jne slow; on: mov rdx, [rsp + 8]; mov qword ptr [rdx], 1; ret; slow: call trace; jmp on";
    let (snippet, births) = births_of(text);
    assert_eq!((births.births.len(), births.lost), (0, vec![snippet.label("jump")]));
    // A call that nothing leads to.
    let (snippet, births) = births_of("nop; alone: call trace; ret");
    assert_eq!((births.births.len(), births.lost), (0, vec![snippet.label("alone")]));
}

#[test]
fn fresh_memory_is_told_from_what_was_kept() {
    let origin =
        |text: &str| birth_of(&format!("{text}; cmp dword ptr counter[rip], 0; jump: jne slow; {BOTH}")).1;
    for text in [
        "call other; mov rbx, rax",
        "call [slot]; lea rbx, [rax + 16]; call other",
        "call other; mov [rsp + 8], rax; call other; mov rbx, [rsp + 8]; add rbx, 16",
        // A header of a size that is computed stands before it.
        "mov ebx, [rdi]; call other; add rbx, rax",
        "call other; lea rbx, [rax + r12]",
        // A block off a pool's list, as pymalloc takes it.
        "mov rdx, usedpools[rdi * 8]; mov rbx, [rdx + 8]; add dword ptr [rdx], 1; mov rcx, [rbx]; mov [rdx + 8], rcx; test rcx, rcx; je gone",
        // Two ways, both of them fresh; and one on which there is none.
        "test rdi, rdi; je else; call other; mov rbx, rax; jmp join; else: call [slot]; mov rbx, rax; join: test rbx, rbx",
        "test rdi, rdi; je else; xor ebx, ebx; jmp join; else: call [slot]; mov rbx, rax; join: test rbx, rbx",
    ] {
        assert_eq!(origin(text), Origin::Fresh, "{text}");
    }
    for text in [
        "mov rbx, rdi",
        "mov rbx, [rsi + rax * 8 + 3872]",
        "mov rbx, slot[rip]",
        "mov rbx, [rdx + 8]; mov rcx, [rbx + 24]; mov [rdx], rcx",
        "test rdi, rdi; je else; call other; mov rbx, rax; jmp join; else: mov rbx, [rdi]; join: test rbx, rbx",
        "mov [rsp + 8], rdi; call other; mov rbx, [rsp + 8]",
        "mov rbx, [rsp + 64]",
        "mov rbx, [rsi]; add rbx, rsi",
        "call other; mov ebx, eax",
    ] {
        assert_eq!(origin(text), Origin::Kept, "{text}");
    }
}

#[test]
fn the_interpreters_of_this_machine_lose_no_birth() {
    let mut paths = libraries();
    paths.extend(debian());
    paths.extend(unpacked());
    let mut copied = 0;
    for path in paths {
        let elf = Elf::open(&path).unwrap();
        let code = Code::of(&elf);
        // Before 3.9 it was a macro.
        let Some(symbol) = elf.symbol("_Py_NewReference") else { continue };
        let fast = FastPaths::of(&code);
        let frames = FrameTable::new(&elf);
        let start = |ip| frames.function_at(ip).map(|function| function.start);
        let mut origins = Origins::new(&code, fast.allocs.iter().map(|alloc| alloc.site.store));
        let tracer = Tracer::of(&code, symbol.address);
        let is_it = |at: u64| at == symbol.address || elf.plt_target(at) == Some("_Py_NewReference");
        let calls = Births::calls(&code, is_it, &mut origins, start);
        assert!(calls.lost.is_empty() && !calls.births.is_empty(), "{}: {calls:#x?}", path.display());
        let Some(tracer) = tracer else { continue };
        let births = Births::of(&code, &tracer, &mut origins, start);
        if tracer.word.is_none() {
            assert_eq!(births.births, [], "{}", path.display());
            continue;
        }
        copied += 1;
        // Every call of tracemalloc's function is the other side of one of them.
        if let Callee::Function(callee) = tracer.callee {
            assert!(births.births.len() >= code.calls_of(callee).len(), "{}", path.display());
        }
        assert!(births.lost.is_empty(), "{}: {births:#x?}", path.display());
        assert!(births.births.iter().all(|birth| birth.emulated));
        let kept = births.births.iter().filter(|birth| birth.origin == Origin::Kept).count();
        println!("{}: {} births, {kept} of them may be kept", path.display(), births.births.len());
        assert!(kept > 20 && 3 * kept < 2 * births.births.len(), "{kept} of {}", births.births.len());
    }
    assert!(copied > 0, "these tests need /usr/bin/python3.11");
}

/// The function of 3.13 and later, as gcc has made Debian's, with its guess of the tracer.
const TRACED: &str = "
    entry: endbr64; mov rax, slot[rip]; mov qword ptr [rdi], 1; test rax, rax; own: jne set; ret
    set: lea rcx, guess[rip]; cmp rax, rcx; jne calls; jmp guess; calls: mov rdx, counter[rip]; xor esi, esi; jmp rax; int3; guess: ret; int3
    slow: mov rdx, counter[rip]; xor esi, esi; mov rdi, rbx; call rax; ret; int3
    dies: mov rdx, counter[rip]; mov esi, 1; mov rdi, rbx; call rax; ret; int3; other: ret; int3";

/// All births of a text behind that, without its own.
fn traced_births(text: &str) -> (Snippet, Births) {
    let snippet = Snippet::of(&format!("{TRACED}; start: {text}"));
    let code = snippet.code();
    let tracer = Tracer::of(&code, snippet.label("entry")).unwrap();
    assert_eq!(tracer, Tracer { word: Some(snippet.label("slot")), callee: Callee::Named });
    let mut origins = Origins::new(&code, std::iter::empty());
    let starts = [snippet.label("entry"), snippet.label("start")];
    let start = |ip| starts.into_iter().filter(|start| *start <= ip).max();
    let mut births = Births::of(&code, &tracer, &mut origins, start);
    let own = Birth { ip: snippet.label("own"), object: Rdi, emulated: true, origin: Origin::Kept };
    assert_eq!(births.births.remove(0), own);
    (snippet, births)
}

#[test]
fn copies_that_name_their_tracer_are_seen_too() {
    for (text, object, origin) in [
        (
            "mov rbx, [rsi]; mov rax, slot[rip]; mov qword ptr [rbx], 1; test rax, rax; jump: jne slow; ret",
            Rbx,
            Origin::Kept,
        ),
        (
            "mov rbx, [rsi]; mov qword ptr [rbx], 1; mov rax, slot[rip]; test rax, rax; jump: jne slow; ret",
            Rbx,
            Origin::Kept,
        ),
        (
            "mov rbx, [rsi]; mov rax, slot[rip]; test rax, rax; jump: jne slow; mov qword ptr [rbx], 1; ret",
            Rbx,
            Origin::Kept,
        ),
        (
            "call other; mov r14, rax; mov rax, slot[rip]; mov qword ptr [r14], 1; test rax, rax; jump: jne slow; ret",
            R14,
            Origin::Fresh,
        ),
    ] {
        let (snippet, births) = traced_births(text);
        let expected = Birth { ip: snippet.label("jump"), object, emulated: true, origin };
        assert_eq!((births.births, births.lost), (vec![expected], vec![]), "{text}");
    }
    for text in [
        // An object dies, even right behind a birth of another.
        "mov rax, slot[rip]; test rax, rax; jne dies; ret",
        "mov qword ptr [rbx], 1; call other; mov rax, slot[rip]; test rax, rax; jne dies; ret",
        // Who sets another tracer tests nothing.
        "mov rax, slot[rip]; mov [rdi], rax; test rdi, rdi; jne slow; ret",
        // An object goes on living, as a string that could not be made longer.
        "call other; mov rbx, rax; mov rax, slot[rip]; test rax, rax; jne slow; ret",
    ] {
        let (_, births) = traced_births(text);
        assert_eq!((births.births, births.lost), (vec![], vec![]), "{text}");
    }
    // A birth whose object nobody knows is said to be lost.
    let text = "mov rax, slot[rip]; mov qword ptr [rbx], 1; xor ebx, ebx; test rax, rax; jump: jne slow; ret";
    let (snippet, births) = traced_births(text);
    assert_eq!((births.births, births.lost), (vec![], vec![snippet.label("jump")]));
}
