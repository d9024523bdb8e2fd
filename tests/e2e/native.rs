//! Which C line leaks? Real extensions leak in every way that C has; their lines, the Python lines behind them and the counts are told right.

use unshed_tests::harness::{Build, Target};
use unshed_tests::interpreters::{Interpreter, on_each};
use unshed_tests::report::Report;
use unshed_tests::stacks::{Native, Row, assert_told};

use crate::record_launched;

/// `malloc` too.
const ALL_DOMAINS: [&str; 2] = ["--domains", "object,mem,raw,libc"];

/// Records `c_leaks.py`, with its extension built so, in all domains.
fn leaks(interpreter: &Interpreter, build: Build, native: Native) -> (Report, Vec<Row>) {
    let args = [ALL_DOMAINS.as_slice(), &native.args()].concat();
    let (report, truth) =
        record_launched(Target::on(interpreter).built(build), interpreter, "c_leaks.py", &args);
    (report, Row::all(&truth))
}

fn told(build: Build, native: Native) {
    on_each(|interpreter| {
        let (report, rows) = leaks(interpreter, build, native);
        assert_told(&rows, &report, native);
    });
}

#[test]
fn every_leak_in_c_is_told_with_its_lines() {
    told(Build::USUAL, Native::Leaf);
}

#[test]
fn all_the_c_code_between_python_frames_is_told_in_order() {
    told(Build::USUAL, Native::Full);
}

#[test]
fn without_native_frames_the_python_lines_have_the_same_counts() {
    told(Build::USUAL, Native::Off);
}
