//! Names of code that lives, of code that has died, and of code whose address has a new tenant.

use super::*;
use crate::target::fixture::{self, Script};
use crate::target::layout::v3_11::LAYOUT;
use crate::target::memory::Memory;

fn frame(names: &CodeNames<Memory>, code: u64) -> PyFrame {
    PyFrame { code, fingerprint: names.fingerprint(code).unwrap(), instr_bytes: 0, flags: 0 }
}

/// Makes functions whose names need every width of string, prints the addresses of their code, and later replaces one by another.
const TEXT: &str = r#"
import gc
def make(name, file):
    space = {}
    exec(compile('\n\n\ndef ' + name + '(): return 1\n', file, 'exec'), space)
    return space[name]
kept = [make(n, f) for n, f in [('plain', 'a.py'), ('caf\u00e9', '/tmp/\u00fc.py'), ('\u0436', '\u6f22.py'), ('\U00020000', '\U0001f600.py')]]
old = make('old_name', 'old.py')
print(*[id(f.__code__) for f in kept], id(old.__code__), id(kept))
input()
address = id(old.__code__)
del old
gc.collect()
print(address)
input()
more = []
while id((f := make('new_name', 'new.py')).__code__) != address and len(more) < 100000: more.append(f)
print(id(f.__code__))
input()
"#;

#[test]
fn names_are_right_or_absent() {
    let Some(python) = fixture::shared() else { return eprintln!("skipped: no pyenv 3.11") };
    let mut script = Script::start(&python, TEXT, &[("PYTHONIOENCODING", "utf8")]);
    let [plain, cafe, zhe, han, old, list] = script.numbers()[..] else { panic!() };
    let memory = Memory::new(script.pid());
    let mut early = CodeNames::new(memory, &LAYOUT);
    for (code, function, file) in [
        (plain, "plain", "a.py"),
        (cafe, "café", "/tmp/ü.py"),
        (zhe, "ж", "漢.py"),
        (han, "\u{20000}", "😀.py"),
        (old, "old_name", "old.py"),
    ] {
        let named = early.name(&frame(&early, code));
        assert_eq!((named.frame.function.as_str(), named.frame.file.as_deref()), (function, Some(file)));
        assert_eq!((named.frame.line, named.gone), (Some(4), false));
    }
    let old_frame = frame(&early, old);
    let (none, table) = (PyFrame { code: list, ..old_frame }, PyFrame { code: 8, ..old_frame });
    assert!(early.name(&none).gone && early.name(&table).gone);
    // A forked child that has ended had this code object too; it never had another one.
    let mut ended = CodeNames::sharing(Memory::new(0), &LAYOUT, early.cache.clone());
    assert_eq!(ended.name(&old_frame).frame.function, "old_name");
    let other = PyFrame { fingerprint: old_frame.fingerprint ^ 1, ..old_frame };
    assert!(ended.name(&other).gone && CodeNames::new(Memory::new(0), &LAYOUT).name(&old_frame).gone);

    script.go_on();
    script.line();
    let check = |early: &mut CodeNames<Memory>| {
        assert_eq!(early.name(&old_frame).frame.function, "old_name", "what was read stays right");
        let late = CodeNames::new(memory, &LAYOUT).name(&old_frame);
        assert_eq!((late.frame.function.as_str(), late.frame.line, late.gone), (GONE, None, true));
    };
    check(&mut early);
    script.go_on();
    assert_eq!(script.numbers(), [old], "another code object has the address now");
    check(&mut early);
    let now = frame(&early, old);
    assert_eq!(early.name(&now).frame.function, "new_name");
    let faulted = PyFrame { fingerprint: 0, flags: PyFrame::FAULTED, ..now };
    assert_eq!(CodeNames::new(memory, &LAYOUT).name(&faulted).frame.function, "new_name");
}

/// Memory in which a `str` object stands, with any state and any characters.
fn string(state: u8, length: u64, data: &[u8], at: usize) -> crate::target::recorded::Recorded {
    let mut object = vec![0; 4096];
    object[16..24].copy_from_slice(&length.to_le_bytes());
    object[32] = state;
    object[at..at + data.len()].copy_from_slice(data);
    crate::target::recorded::Recorded::new(vec![(0x1000, object)])
}

#[test]
fn broken_strings_are_not_believed() {
    let read = |memory| read_str(&memory, &LAYOUT.objects, 0x1000, CHARACTERS);
    assert_eq!(read(string(1 << 2 | 1 << 5 | 1 << 6, 3, b"abc", 48)).unwrap(), "abc");
    let surrogate = [0x41, 0, 0, 0xd8];
    assert_eq!(read(string(2 << 2 | 1 << 5, 2, &surrogate, 72)).unwrap(), "A\u{fffd}");
    assert_eq!(read(string(4 << 2 | 1 << 5, 1, &[0xff; 4], 72)).unwrap(), "\u{fffd}");
    assert_eq!(read(string(1 << 2, 3, b"abc", 48)), Err(Fault), "not compact");
    assert_eq!(read(string(3 << 2 | 1 << 5, 3, b"abc", 48)), Err(Fault), "no such width");
    assert_eq!(
        read(string(1 << 2 | 1 << 5 | 1 << 6, u64::MAX, b"abc", 48)),
        Err(Fault),
        "longer than what is there"
    );
}
