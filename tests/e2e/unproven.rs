//! Versions that no test has proven: what tells its own offsets is tried before it is believed, and marked; what does not is refused.

use std::path::{Path, PathBuf};
use std::process::Command;

use unshed_tests::harness::{Scratch, Target, Unshed, function_in_file, program};
use unshed_tests::interpreters::{Interpreter, every};
use unshed_tests::report::Frame;

/// `PY_VERSION_HEX` of 3.16.0, final.
const UNKNOWN: u32 = 0x0310_00f0;
/// Where 3.13 says in `_PyRuntime` where `code_object.filename` is (`_Py_DebugOffsets`).
const FILE_NAME_AT: usize = 280;

/// pyenv's 3.13.
fn interpreter() -> &'static Interpreter {
    let is_it = |interpreter: &&Interpreter| interpreter.minor() == 13 && interpreter.library.is_some();
    every().iter().find(is_it).expect("`every` has a shared 3.13")
}

/// Its library, which says that it is of a version that does not exist yet, in a folder of its own; `words` are put into `_PyRuntime`.
fn made_up(scratch: &Scratch, words: &[(usize, u64)]) -> PathBuf {
    let library = interpreter().library.as_deref().expect("it is a shared build");
    let mut bytes = std::fs::read(library).expect("the library can be read");
    let version = usize::try_from(function_in_file(library, "Py_Version").0).expect("a file offset");
    bytes[version..version + 4].copy_from_slice(&UNKNOWN.to_le_bytes());
    let runtime = usize::try_from(function_in_file(library, "_PyRuntime").0).expect("a file offset");
    for (at, word) in words {
        bytes[runtime + at..runtime + at + 8].copy_from_slice(&word.to_le_bytes());
    }
    let copy = scratch.path(library.file_name().and_then(|name| name.to_str()).expect("it has a name"));
    std::fs::write(&copy, bytes).expect("/tmp takes a copy of it");
    copy.parent().expect("it lies in a folder").to_owned()
}

fn start(folder: &Path) -> Target {
    let mut command = Command::new(&interpreter().path);
    command.arg(program("class_list.py")).env("LD_LIBRARY_PATH", folder);
    Target::start(command, "class_list.py")
}

#[test]
fn a_version_of_tomorrow_is_traced_and_marked() {
    let scratch = Scratch::default();
    let mut target = start(&made_up(&scratch, &[]));
    let recording = Unshed::record(target.pid(), &[]);
    target.go();
    let output = recording.stop();
    output.assert_code(0);
    assert!(output.stderr.contains("python 3.16.0, unproven"), "{}", output.stderr);
    assert!(output.stdout.contains("CPython 3.16.0 is unproven"), "{}", output.stdout);
    assert!(output.stdout.contains("class_list.py"), "no line of the program is named:\n{}", output.stdout);
}

#[test]
fn the_json_report_has_the_mark_in_its_notes() {
    let scratch = Scratch::default();
    let mut target = start(&made_up(&scratch, &[]));
    let recording = Unshed::record(target.pid(), &[]);
    target.go();
    let report = recording.stop().report();
    assert_eq!(report.target.python, "3.16.0");
    assert!(report.notes.iter().any(|note| note.contains("unproven")), "{:?}", report.notes);
    // An object and its attributes are one block in 3.13, which it is in truth; each of 20,000 is kept.
    let keeps = |frame: &Frame| {
        frame.function == "accept"
            && frame.file.as_deref().is_some_and(|file| file.ends_with("class_list.py"))
    };
    let sites = report.sites.iter().filter(|site| site.stack.iter().any(keeps));
    let blocks: u64 = sites.map(|site| site.live_blocks).sum();
    assert!((19_900..20_100).contains(&blocks), "{blocks} blocks are kept at accept");
}

#[test]
fn a_version_of_tomorrow_that_says_nonsense_is_refused() {
    for words in [&[(FILE_NAME_AT, 96)][..], &[(FILE_NAME_AT, 1 << 40)], &[(0, 0)]] {
        let scratch = Scratch::default();
        let target = start(&made_up(&scratch, words));
        let output = Unshed::run(&["record", "-d", "1", "-p", &target.pid().to_string()]);
        output.assert_code(4);
        let said = &output.stderr;
        assert!(said.contains("CPython 3.16.0") && said.contains("supported: CPython 3.8 to 3.15"), "{said}");
        assert!(!said.contains("tracing "), "{said}");
    }
}

#[test]
fn a_version_before_3_8_is_refused_by_its_name() {
    let versions = interpreter().path.ancestors().nth(3).expect("it is in a folder of versions");
    let mut tried = 0;
    for old in ["2.7", "3.6", "3.7"] {
        let entries = std::fs::read_dir(versions).expect("the versions can be listed").flatten();
        let of_it = |name: &str| name.starts_with(&format!("{old}."));
        let found = entries.map(|entry| entry.path());
        let path = found
            .into_iter()
            .find(|path| path.file_name().is_some_and(|name| of_it(&name.to_string_lossy())));
        let Some(path) = path.map(|path| path.join("bin/python")) else { continue };
        tried += 1;
        let mut command = Command::new(path);
        let text = "import os, sys; sys.stdout.write('READY %d\\n' % os.getpid()); sys.stdout.flush(); sys.stdin.read()";
        command.args(["-c", text]);
        let target = Target::start(command, "idle");
        let output = Unshed::run(&["record", "-d", "1", "-p", &target.pid().to_string()]);
        output.assert_code(4);
        assert!(output.stderr.contains(&format!("CPython {old}")), "{}", output.stderr);
        assert!(output.stderr.contains("supported: CPython 3.8 to 3.15"), "{}", output.stderr);
    }
    assert!(tried > 0, "the tests need a CPython before 3.8 of pyenv: pyenv install 3.7");
}
