//! Real interpreters: who they are, where their runtime lies, and the walk that the kernel runs, here over `process_vm_readv`.

use tracer_common::frame::PyFrame;
use tracer_common::limits::{MAX_DEPTH, TEXT_CHUNK};
use tracer_common::walk::{Asking, Scratch, UserMemory, WalkEnd, Wish, innermost, walk};

use super::*;
use crate::error::Kind;
use crate::symbol::code::CodeNames;
use crate::target::fixture::Script;
use crate::target::memory::{Bytes, Memory};
use crate::target::python::Flavour;
use crate::target::recorded::Recorded;

/// It knows its own truth: file, the lines of the calls, and that it is inside the innermost loop when it says so.
const NESTED: &str = "
import sys, threading
class Shop:
    def sell(self, n):
        return [self.serve(n) for _ in 'x']

    def serve(self, n):
        print(threading.get_ident(), flush=True)
        while True: pass

def main():
    shop = Shop()
    return shop.sell(3)
main()
";

const EXPECTED: [(&str, u32); 5] = [
    ("Shop.serve", 9),
    ("Shop.sell.<locals>.<listcomp>", 5),
    ("Shop.sell", 5),
    ("main", 13),
    ("<module>", 14),
];

fn interpreters() -> Vec<(std::path::PathBuf, Flavour)> {
    let shared = fixture::shared().map(|path| (path, Flavour::Shared));
    shared.into_iter().chain(fixture::debian().map(|path| (path, Flavour::Static))).collect()
}

/// The stack of a thread that holds the GIL; nobody does for a moment whenever it is handed over, so it is looked at again.
fn stack(memory: &Memory, process: &Process, python: &Python, ident: u64) -> (Vec<PyFrame>, WalkEnd, u64) {
    let layout = &python.layout().unwrap().walk;
    let current = current::of_process(python, process);
    let asking = Asking { runtime: python.runtime().unwrap(), thread_pointer: ident, holds_gil: false };
    let first = (0..100_000).find_map(|_| match innermost(memory, layout, &current, asking, &mut 0) {
        Ok(0) | Err(_) => None,
        Ok(address) => Some(address),
    });
    let mut frames = [PyFrame::default(); MAX_DEPTH];
    let walked = walk(
        memory,
        layout,
        Wish { innermost: first.unwrap(), max_depth: 64, seed: 0, epoch: 0 },
        &mut Scratch::default(),
        &mut frames,
    );
    (frames[..walked.depth as usize].to_vec(), walked.end, first.unwrap())
}

#[test]
fn a_live_stack_has_its_names() {
    for (path, flavour) in interpreters() {
        let mut script = Script::start(&path, NESTED, &[]);
        let ident = script.numbers()[0];
        let process = Process::open(script.pid()).unwrap();
        let python = Python::find(&process).unwrap();
        assert_eq!((python.flavour, python.version.major, python.version.minor), (flavour, 3, 11));
        assert!(python.version.micro.is_some());
        let memory = Memory::new(script.pid());
        let (frames, end, _) = stack(&memory, &process, &python, ident);
        assert_eq!(end, WalkEnd::Complete);
        let mut names = CodeNames::new(memory, python.layout().unwrap());
        let named: Vec<_> = frames.iter().map(|frame| names.name(frame)).collect();
        let seen: Vec<_> =
            named.iter().map(|named| (named.frame.function.as_str(), named.frame.line.unwrap())).collect();
        assert_eq!(seen, EXPECTED);
        assert!(named.iter().all(|named| named.frame.file.as_deref() == Some("<string>") && !named.gone));
        let entries = frames.iter().map(|frame| frame.flags & PyFrame::ENTRY);
        assert_eq!(entries.collect::<Vec<_>>(), [0, 0, 0, 0, 1], "one evaluator runs them all");
    }
}

#[test]
fn the_bias_is_where_the_runtime_is() {
    for (path, _) in interpreters() {
        // `PyThreadState_Get` reads the very word; ctypes asks the process itself.
        let text = "import ctypes, sys
api = ctypes.pythonapi
api.PyThreadState_Get.restype = ctypes.c_void_p
rt = ctypes.addressof(ctypes.c_char.in_dll(api, '_PyRuntime'))
print(rt, api.PyThreadState_Get(), sys.hexversion)
input()";
        let mut script = Script::start(&path, text, &[]);
        let [runtime, tstate, version] = script.numbers()[..] else { panic!() };
        let python = Python::find(&Process::open(script.pid()).unwrap()).unwrap();
        assert_eq!(python.runtime(), Some(runtime));
        assert_eq!(version >> 8 & 0xff, u64::from(python.version.micro.unwrap()));
        let memory = Memory::new(script.pid());
        let threads = python.layout().unwrap().threads;
        let interpreter = memory.read_u64(runtime + threads.runtime_interpreters_head).unwrap();
        assert_eq!(memory.read_u64(interpreter + threads.interpreter_threads_head), Ok(tstate));
        assert_eq!(memory.read_u64(tstate + threads.tstate_next), Ok(0));
    }
}

#[test]
fn a_recorded_walk_is_the_live_walk() {
    let Some(path) = fixture::shared() else { return eprintln!("skipped: no pyenv 3.11") };
    let mut script = Script::start(&path, NESTED, &[]);
    let ident = script.numbers()[0];
    let process = Process::open(script.pid()).unwrap();
    let python = Python::find(&process).unwrap();
    let memory = Memory::new(script.pid());
    let (frames, _, first) = stack(&memory, &process, &python, ident);
    let layout = &python.layout().unwrap().walk;
    let mut regions = Vec::new();
    let mut address = first;
    while address != 0 {
        let mut frame = vec![0; 80];
        memory.read(address, &mut frame).unwrap();
        regions.push((address, frame));
        address = memory.word(address + u64::from(layout.frame_at + layout.frame_previous)).unwrap();
    }
    for frame in &frames {
        let mut code = vec![0; 192];
        memory.read(frame.code, &mut code).unwrap();
        regions.push((frame.code, code));
        for name in [layout.code_filename, layout.code_qualname] {
            let string = memory.word(frame.code + u64::from(layout.code_at + name)).unwrap();
            let text = string + u64::from(layout.unicode_data);
            let mut bytes = vec![0; TEXT_CHUNK];
            memory.read(text, &mut bytes).unwrap();
            bytes.truncate(bytes.iter().position(|byte| *byte == 0).unwrap_or(TEXT_CHUNK));
            if !regions.iter().any(|(address, _)| *address == text) {
                regions.push((text, bytes));
            }
        }
    }
    let recorded = Recorded::load(&Recorded::new(regions).save()).unwrap();
    let mut replayed = [PyFrame::default(); MAX_DEPTH];
    let walked = walk(
        &recorded,
        layout,
        Wish { innermost: first, max_depth: 64, seed: 0, epoch: 0 },
        &mut Scratch::default(),
        &mut replayed,
    );
    let code =
        |frames: &[PyFrame]| frames.iter().map(|frame| (frame.code, frame.fingerprint)).collect::<Vec<_>>();
    assert_eq!((walked.end, code(&replayed[..walked.depth as usize])), (WalkEnd::Complete, code(&frames)));
}

#[test]
fn what_is_no_python_says_so() {
    let mut cat = std::process::Command::new("cat").stdin(std::process::Stdio::piped()).spawn().unwrap();
    // Until it has been exec'ed it is still this very program.
    let process = loop {
        let process = Process::open(cat.id()).unwrap();
        if process.exe().ends_with("cat") {
            break process;
        }
        std::thread::yield_now();
    };
    let error = Python::find(&process).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("(cat) is no CPython")),
        (Kind::Target, true),
        "{error}"
    );
    cat.kill().unwrap();
    cat.wait().unwrap();
    assert!(Python::find(&process).unwrap_err().to_string().contains("has ended"));
    let error = Python::of_file(std::path::Path::new("/bin/sh"), &[]).unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("which is no CPython")),
        (Kind::Target, true),
        "{error}"
    );
}

#[test]
fn other_versions_are_named_and_refused() {
    let Some(shared) = fixture::shared() else { return eprintln!("skipped: no pyenv 3.11") };
    let versions = shared.ancestors().nth(3).unwrap();
    let path = versions.join("3.7.16/bin/python3.7");
    assert!(path.is_file(), "pyenv has no 3.7.16");
    let error = Python::of_file(&path, &[]).map(|python| python.version).unwrap_err();
    assert_eq!(error.kind(), Kind::Target);
    let text = error.to_string();
    assert!(text.contains("runs CPython 3.7") && text.contains("supported: CPython 3.8 to 3.15"), "{text}");
}

#[test]
fn ps_lists_the_pythons() {
    let scripts: Vec<Script> = interpreters()
        .iter()
        .map(|(path, _)| {
            let mut script = Script::start(path, "print('READY'); input()", &[]);
            assert_eq!(script.line(), "READY");
            script
        })
        .collect();
    let rows = list(|_, python| (python.flavour.to_string(), true, String::new()));
    for script in &scripts {
        let row = rows.iter().find(|row| row.pid == script.pid()).unwrap();
        assert_eq!((row.version.minor, row.command.len(), row.complete), (11, 4, true));
    }
}
