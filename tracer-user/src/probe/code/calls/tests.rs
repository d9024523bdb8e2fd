//! Calls of the C library as compilers write them.

use super::*;
use crate::probe::code::tests::fixture::Snippet;
use Register::{Rax, Rbp, Rbx};

/// Reads a text in which `malloc`, `free` and `raw` are functions, and `slot` is where `malloc` is imported.
fn read_all(text: &str) -> (Snippet, Calls) {
    let snippet = Snippet::of(&format!("{text}; ud2; malloc: ret; free: ret; raw: ret; out: ret"));
    let names = [
        ("malloc", Callee::Libc(Role::Malloc)),
        ("free", Callee::Libc(Role::Free)),
        ("raw", Callee::Raw(Role::Malloc)),
    ];
    let named = |at: u64| names.iter().find(|(name, _)| snippet.label(name) == at).map(|(_, callee)| *callee);
    let imported = |at: u64| (at == snippet.label("slot")).then_some(Callee::Libc(Role::Malloc));
    let calls = Calls::of(&snippet.code(), named, imported);
    (snippet, calls)
}

/// Where the outcome of the only call is seen: the label `trap`.
fn outcome_of(text: &str) -> (Register, bool) {
    let (snippet, calls) = read_all(text);
    let [Call { kind: Kind::Call(outcome), .. }] = *calls.calls else { panic!("{calls:#x?} in {text}") };
    assert_eq!((outcome.ip, calls.lost.len()), (snippet.label("trap"), 0), "{text}");
    (outcome.register, outcome.emulated)
}

#[test]
fn the_outcome_is_seen_at_the_first_cheap_instruction() {
    assert_eq!(outcome_of("call malloc; test rax, rax; trap: je out"), (Rax, true));
    assert_eq!(outcome_of("call malloc; mov rbx, rax; xor eax, eax; trap: jmp out"), (Rbx, true));
    assert_eq!(outcome_of("call malloc; trap: push rax; ret"), (Rax, true));
    assert_eq!(outcome_of("call malloc; mov rbp, rax; mov ebp, eax; trap: nop"), (Rax, true));
    // The result or the stack pointer would be gone by then: stepped, at once.
    assert_eq!(outcome_of("call malloc; trap: add rsp, 8; ret"), (Rax, false));
    assert_eq!(outcome_of("call malloc; trap: mov eax, eax; je out"), (Rax, false));
    assert_eq!(outcome_of("call malloc; trap: pop rbx; je out"), (Rax, false));
    assert_eq!(outcome_of("call malloc; trap: ret"), (Rax, false));
    assert_eq!(
        outcome_of("call malloc; mov rbp, rax; mov rax, [rbp]; test rax, rax; trap: je out"),
        (Rbp, true)
    );
}

#[test]
fn jumps_and_pointers_are_calls_too() {
    let (snippet, calls) =
        read_all("one: jmp malloc; two: call [slot]; nop; three: jmp [slot]; four: call free; nop");
    let found: Vec<(u64, Role, bool)> =
        calls.calls.iter().map(|call| (call.ip, call.role, call.kind == Kind::Jump)).collect();
    let expected = [
        (snippet.label("one"), Role::Malloc, true),
        (snippet.label("two"), Role::Malloc, false),
        (snippet.label("three"), Role::Malloc, true),
        (snippet.label("four"), Role::Free, false),
    ];
    assert_eq!(found, expected);
    // Only the near ones are emulated.
    assert_eq!(calls.calls.iter().map(|call| call.emulated).collect::<Vec<_>>(), [true, false, false, true]);
    // Whether a conditional one is taken cannot be seen there.
    let (snippet, calls) = read_all("one: je malloc; ret");
    assert_eq!((calls.calls.len(), calls.lost), (0, vec![snippet.label("one")]));
}

#[test]
fn the_linkers_stubs_are_no_calls() {
    // Whoever calls or jumps to them was found by their address; `endbr64` may stand before.
    for stub in ["stub: jmp [slot]", "stub: endbr64; jmp [slot]", "stub: endbr64; bnd jmp [slot]"] {
        for user in ["call stub; nop", "jmp stub"] {
            let (_, calls) = read_all(&format!("{user}; ud2; .balign 16; {stub}"));
            assert_eq!((calls.calls.len(), calls.lost.len()), (0, 0), "{stub} {user}");
        }
    }
}

#[test]
fn what_is_passed_on_is_counted_in_one_word() {
    let counted = |call: &str, jump: &str| {
        format!("call {call}; test rax, rax; {jump}; inc qword ptr counter[rip]; ret")
    };
    let text = format!(
        "{}; {}; call malloc; test rax, rax; je out; inc qword ptr slot[rip]; ret; call raw; nop; ret
         call malloc; test rax, rax; jne fine; ret; fine: add qword ptr counter[rip], 1; ret
         call malloc; test rax, rax; je out; dec qword ptr counter[rip]; ret",
        counted("malloc", "je out"),
        counted("raw", "je out")
    );
    let (snippet, calls) = read_all(&text);
    assert_eq!(calls.counter, Some(Word::Fixed(snippet.label("counter"))));
    let found: Vec<(bool, bool)> = calls.calls.iter().map(|call| (call.outer, call.passed_on)).collect();
    // The plain call of `PyMem_RawMalloc` is seen where that calls the C library.
    assert_eq!(found, [(false, true), (true, true), (false, false), (false, true), (false, false)]);
}

#[test]
fn names_are_those_of_the_c_library_and_of_the_raw_domain() {
    assert_eq!(Callee::named("calloc"), Some(Callee::Libc(Role::Calloc)));
    assert_eq!(Callee::named("PyMem_RawRealloc"), Some(Callee::Raw(Role::Realloc)));
    assert_eq!((Callee::named("PyMem_RawFree"), Callee::named("mallocx")), (None, None));
}
