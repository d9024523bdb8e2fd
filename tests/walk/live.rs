//! Walks of live processes that stand still in a place they have told; the source of the recordings.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use tracer_common::limits::MAX_DEPTH;
use tracer_common::walk::WalkEnd;
use tracer_user::target::memory::Memory;
use tracer_user::target::process::Process;
use tracer_user::target::python::Python;
use unshed_tests::harness::{SHORT, Target, wait_until};
use unshed_tests::interpreters::{self, Interpreter};

use crate::expected::{Expected, Pair, Truth};
use crate::look::{Seen, look};
use crate::recorder::Recorder;

/// The most that a recording may weigh, in bytes: it is committed.
const MOST: usize = 64 << 10;

/// A program of `programs/` that is blocked, and what it said before.
struct Blocked {
    target: Target,
    truth: Truth,
}

/// Starts a program of `programs/` and waits until it has told its frames.
pub(crate) fn start(interpreter: &Interpreter, name: &str) -> (Target, Truth) {
    let path = program(name);
    interpreter.show(path.parent().expect("it is in a folder"));
    let mut command = interpreter.command();
    for (variable, _) in std::env::vars().filter(|(variable, _)| variable.starts_with("PYTHON")) {
        command.env_remove(variable);
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONHASHSEED", "0").arg(path);
    let mut target = Target::start(command, name);
    let truth = serde_json::from_value(target.answer("its own frames")).expect("blocked.tell's JSON");
    (target, truth)
}

impl Blocked {
    fn start(interpreter: &Interpreter, name: &str) -> Self {
        let (target, truth) = start(interpreter, name);
        let blocked = Self { target, truth };
        wait_until(&format!("{name} is blocked in read(0, …)"), SHORT, || blocked.is_blocked());
        blocked
    }

    /// Whether the thread is inside `read(0, …)`: number and first argument in `/proc/PID/task/TID/syscall`.
    fn is_blocked(&self) -> bool {
        let path = format!("/proc/{}/task/{}/syscall", self.target.pid(), self.truth.tid);
        let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{path}: {error}"));
        text.starts_with("0 0x0 ")
    }

    /// Walks it, holds the walk against its truth, and returns the recording.
    fn check(&self, name: &str) -> Pair {
        let process = Process::open(self.target.pid()).expect("it is there and ours");
        let python = Python::find(&process).expect("it is a CPython that is supported");
        let runtime = python.runtime().expect("a running CPython is somewhere");
        let recorder = Recorder::new(Memory::new(process.pid()));
        let layout = python.layout().expect("a supported version has a layout");
        let seen = look(&recorder, layout, runtime, self.truth.ident, u32::MAX)
            .expect("a blocked process can be read");
        assert_agrees(name, &self.truth, &seen);
        let expected = Expected {
            python: python.version.to_string(),
            free_threaded: python.free_threaded,
            runtime,
            ident: self.truth.ident,
            truncated: seen.end == WalkEnd::Truncated,
            frames: self.truth.frames[..seen.named.len()].to_vec(),
        };
        let memory = recorder.recorded().save();
        assert!(memory.len() < MOST, "the recording of {name} has {} bytes", memory.len());
        let t = if python.free_threaded { "t" } else { "" };
        let version = format!("{}.{}{t}", python.version.major, python.version.minor);
        Pair { name: format!("{version}-{name}"), memory, expected }
    }
}

fn program(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("walk/programs/{name}.py"))
}

/// The walk has found what CPython says, whole or up to the depth that a stack can have.
fn assert_agrees(name: &str, truth: &Truth, seen: &Seen) {
    let depth = truth.frames.len().min(MAX_DEPTH);
    let end = if truth.frames.len() > MAX_DEPTH { WalkEnd::Truncated } else { WalkEnd::Complete };
    assert_eq!((seen.end, seen.named.len()), (end, depth), "{name}: {:#?}", seen.named);
    for (at, (told, named)) in truth.frames.iter().zip(&seen.named).enumerate() {
        assert!(
            told.is(&named.frame),
            "{name}, frame {at}: CPython says {told:?}, the walk {:?}",
            named.frame
        );
    }
}

/// Runs a program under every CPython of this machine; the first recording of each minor version, with the GIL and without, is kept if that was asked for.
fn every_python_agrees(name: &str) {
    let record = std::env::var_os("UNSHED_RECORD").is_some_and(|value| value == "1");
    let mut recorded = BTreeSet::new();
    for interpreter in interpreters::every() {
        let pair = Blocked::start(interpreter, name).check(name);
        assert_eq!(pair.expected.python, interpreter.version);
        let kind = (interpreter.minor(), pair.expected.free_threaded);
        if record && recorded.insert(kind) {
            pair.save();
            eprintln!("recorded {}: {} bytes", pair.name, pair.memory.len());
        }
    }
}

#[test]
fn calls_of_every_kind() {
    every_python_agrees("nested");
}

#[test]
fn generators_and_coroutines() {
    every_python_agrees("generators");
}

#[test]
fn code_made_at_run_time() {
    every_python_agrees("dynamic");
}

#[test]
fn names_of_every_width() {
    every_python_agrees("names");
}

#[test]
fn more_frames_than_a_stack_holds() {
    every_python_agrees("deep");
}

#[test]
fn the_right_one_of_many_threads() {
    every_python_agrees("threads");
}
