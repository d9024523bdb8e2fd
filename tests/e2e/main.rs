//! End to end: real interpreters, real programs, the real binary; needs root, gcc, gdb, pyenv's shared CPython 3.11, Debian's own, for
//! the matrix all others of `cargo xtask pythons`, and the allocators jemalloc and tcmalloc.
//!
//! `cargo test --package unshed-tests --test e2e`, or a part of it: `… --test e2e manners::`. `UNSHED_BIN` names another binary.
//! `programs::` needs neither root nor the tool: it checks the programs themselves against tracemalloc.

mod allocators;
mod builds;
mod churn;
mod cli;
mod counts;
mod doctor;
mod family;
mod follow;
mod follow_samples;
mod free_threaded;
mod freelists;
mod large;
mod limits;
mod manners;
mod matrix;
mod mixed;
mod names;
mod native;
mod programs;
mod realloc;
mod refusals;
mod reports;
mod sample;
mod truth;
mod unproven;
mod watch;
mod whereabouts;
mod workers;

use unshed_tests::harness::{Launch, Target, Unshed};
use unshed_tests::interpreters::Interpreter;
use unshed_tests::report::Report;
use unshed_tests::truth::Truth;

/// The whole way of most tests: start a program, record it, let it go, stop recording, see that the program is unharmed.
fn record(interpreter: &Interpreter, program: &str, args: &[&str]) -> (Report, Truth) {
    record_launched(Target::on(interpreter), interpreter, program, args)
}

/// The same for a program that is started in a way of its own.
fn record_launched(
    launch: Launch<'_>,
    interpreter: &Interpreter,
    program: &str,
    args: &[&str],
) -> (Report, Truth) {
    let mut target = launch.spawn(program, &[]);
    let recording = Unshed::record(target.pid(), args);
    let truth = target.go();
    let report = recording.stop().report();
    target.assert_unharmed();
    assert_eq!(report.target.pid, target.pid(), "the report is about another process");
    assert_eq!(report.target.python, interpreter.version);
    assert!(target.quit().success(), "{program} did not end well after it was traced");
    (report, truth)
}
