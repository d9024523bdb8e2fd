//! End to end: real interpreters, real programs, the real binary; needs root, gcc, pyenv's shared CPython 3.11 and Debian's own.
//!
//! `cargo test --package unshed-tests --test e2e`, or a part of it: `… --test e2e manners::`. `UNSHED_BIN` names another binary.
//! `programs::` needs neither root nor the tool: it checks the programs themselves against tracemalloc.

mod churn;
mod cli;
mod doctor;
mod family;
mod limits;
mod manners;
mod programs;
mod realloc;
mod refusals;
mod reports;
mod truth;

use unshed_tests::harness::{Target, Unshed};
use unshed_tests::interpreters::Interpreter;
use unshed_tests::report::Report;
use unshed_tests::truth::Truth;

/// The whole way of most tests: start a program, record it, let it go, stop recording, see that the program is unharmed.
fn record(interpreter: &Interpreter, program: &str, args: &[&str]) -> (Report, Truth) {
    let mut target = Target::spawn(interpreter, program, &[]);
    let recording = Unshed::record(target.pid(), args);
    let truth = target.go();
    let report = recording.stop().report();
    target.assert_unharmed();
    assert_eq!(report.target.pid, target.pid(), "the report is about another process");
    assert_eq!(report.target.python, interpreter.version);
    assert!(target.quit().success(), "{program} did not end well after it was traced");
    (report, truth)
}
