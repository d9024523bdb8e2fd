//! The thread state of a thread that runs, found in the way in which a hit finds it: by where the interpreter's code looks for it.

use tracer_common::walk::{Fault, UserMemory};
use tracer_user::target::current;
use tracer_user::target::memory::Memory;
use tracer_user::target::process::Process;
use tracer_user::target::python::Python;
use unshed_tests::harness::{SHORT, wait_until};
use unshed_tests::interpreters::{self, Interpreter, Which};

use crate::live::start;

fn finds_the_running_thread(interpreter: &Interpreter) {
    eprintln!("{interpreter}");
    let (target, truth) = start(interpreter, "running");
    let process = Process::open(target.pid()).expect("it is there and ours");
    let python = Python::find(&process).expect("it is a CPython that is supported");
    let layout = python.layout().expect("a supported version has a layout");
    let runtime = python.runtime().expect("a running CPython is somewhere");
    let memory = Memory::new(process.pid());
    let ways = [current::of_file(&python), current::of_process(&python, &process)];
    for current in ways {
        let owner = || -> Result<u64, Fault> {
            // On x86-64 glibc a thread calls itself by its thread pointer (`pthread_self`, nptl/pthread_self.c).
            let tstate = memory.word(current.place(&memory, runtime, truth.ident)?)?;
            memory.word(tstate.checked_add(u64::from(layout.walk.tstate_thread_id)).ok_or(Fault)?)
        };
        // It gives the interpreter up for a moment now and then, as there is another thread.
        wait_until(&format!("{interpreter}: the running thread by {current:?}"), SHORT, || {
            owner() == Ok(truth.ident)
        });
    }
}

#[test]
fn it_is_found_in_every_interpreter() {
    interpreters::every().iter().for_each(finds_the_running_thread);
}

/// Debian's executables are static; its libraries ask the dynamic linker where their thread-local variables are.
#[test]
fn it_is_found_in_newer_libraries() {
    for minor in [13, 14, 15] {
        Which::Embedded(minor).find().iter().for_each(finds_the_running_thread);
    }
}
