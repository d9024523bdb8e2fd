//! Which C line leaks? Real extensions leak in every way that C has; their lines, the Python lines behind them and the counts are told right.

mod builds;
mod edges;

use unshed_tests::harness::{
    Build, EXACT, Output, Recording, Scratch, Target, Unshed, build_extension, program,
};
use unshed_tests::interpreters::{Interpreter, any_supported, debian, on_each};
use unshed_tests::report::Report;
use unshed_tests::stacks::{Native, Row, assert_shown, assert_told};
use unshed_tests::truth::Truth;

/// `malloc` too.
const ALL_DOMAINS: [&str; 2] = ["--domains", "object,mem,raw,libc"];

/// All the ways in which machine code can be missing from a stack.
const CUTS: [&str; 6] =
    ["native_no_module", "native_no_rows", "native_rule", "native_fault", "native_depth", "native_astray"];

/// A program, its extension built so.
struct Case<'a> {
    interpreter: &'a Interpreter,
    program: &'static str,
    build: Build,
    native: Native,
    environment: &'static [(&'static str, &'static str)],
}

impl Case<'_> {
    /// Records what the program does when it is told `command`, in all domains.
    fn told(&self, command: &str, more: &[&str]) -> (Output, Truth) {
        let args = [ALL_DOMAINS.as_slice(), &self.native.args(), more].concat();
        let launch = Target::on(self.interpreter).built(self.build);
        let launch = self.environment.iter().fold(launch, |launch, (name, value)| launch.env(name, value));
        let mut target = launch.spawn(self.program, &[]);
        let recording = Unshed::record(target.pid(), &args);
        let truth = target.tell(command);
        let output = recording.stop();
        output.assert_code(0);
        target.assert_unharmed();
        assert!(target.quit().success(), "{} did not end well after it was traced", self.program);
        (output, truth)
    }

    /// Asserts that all leaks are told as they are, and no machine code is missing.
    fn assert_told_whole(&self) -> Report {
        let (output, truth) = self.told("go", &[]);
        let report = output.report();
        assert_told(&Row::all(&truth), &report, self.native);
        assert_whole(&report);
        report
    }
}

/// Asserts that no stack lacks machine code.
fn assert_whole(report: &Report) {
    for code in CUTS {
        assert_eq!(report.loss(code), 0, "C frames are missing: {code}\n{}", report.worst());
    }
}

/// `c_leaks.py` with everything usual.
fn usual(interpreter: &Interpreter, native: Native) -> Case<'_> {
    Case { interpreter, program: "c_leaks.py", build: Build::USUAL, native, environment: &[] }
}

/// Every way to leak in C, with its lines; for every CPython, by `matrix`.
pub(crate) fn every_leak_is_told(interpreter: &Interpreter) {
    drop(usual(interpreter, Native::Leaf).assert_told_whole());
}

#[test]
fn all_the_c_code_between_python_frames_is_told_in_order() {
    on_each(|interpreter| drop(usual(interpreter, Native::Full).assert_told_whole()));
}

#[test]
fn without_native_frames_the_python_lines_have_the_same_counts() {
    on_each(|interpreter| {
        let report = usual(interpreter, Native::Off).assert_told_whole();
        let native = report.sites.iter().find(|site| site.stack.iter().any(|frame| frame.kind == "native"));
        assert!(native.is_none(), "there is machine code with --native off: {native:?}");
    });
}

#[test]
fn all_ways_from_python_to_python_through_c_are_told_in_order() {
    on_each(|interpreter| {
        for native in [Native::Full, Native::Leaf] {
            drop(Case { program: "c_between.py", ..usual(interpreter, native) }.assert_told_whole());
        }
    });
}

/// Who serves the memory does not change who asked for it.
#[test]
fn with_malloc_for_everything_the_stacks_are_the_same() {
    on_each(|interpreter| {
        let environment = &[("PYTHONMALLOC", "malloc")];
        drop(Case { environment, ..usual(interpreter, Native::Leaf) }.assert_told_whole());
    });
}

#[test]
fn behind_the_debug_hooks_the_stacks_are_the_same() {
    on_each(|interpreter| {
        let environment = &[("PYTHONMALLOC", "debug")];
        drop(Case { environment, ..usual(interpreter, Native::Full) }.assert_told_whole());
    });
}

#[test]
fn beside_tracemalloc_the_stacks_are_the_same() {
    on_each(|interpreter| {
        let environment = &[("PYTHONTRACEMALLOC", "1")];
        let (output, truth) = Case { environment, ..usual(interpreter, Native::Leaf) }.told("go", &[]);
        let (mut report, mut rows) = (output.report(), Row::all(&truth));
        // For each block tracemalloc takes one of its own, from the raw domain: true, but not the leak.
        report.sites.retain(|site| site.domain.as_deref() != Some("raw"));
        rows.retain(|row| !row.name.starts_with("raw"));
        assert_told(&rows, &report, Native::Leaf);
    });
}

#[test]
fn with_a_perf_event_for_each_probe_point_the_stacks_are_the_same() {
    let case = usual(any_supported(), Native::Leaf);
    let (output, truth) = case.told("go", &["--perf-events"]);
    assert_told(&Row::all(&truth), &output.report(), Native::Leaf);
}

#[test]
fn leaf_is_what_happens_without_the_flag() {
    let mut target = Target::spawn(debian(), "c_leaks.py", &[]);
    let recording = Unshed::record(target.pid(), &ALL_DOMAINS);
    let truth = target.go();
    assert_told(&Row::all(&truth), &recording.stop().report(), Native::Leaf);
}

/// What is imported while unshed traces becomes known a moment later: the first stacks may lack frames, and none of the others.
#[test]
fn an_extension_that_is_imported_late_is_named_too() {
    on_each(|interpreter| {
        let mut target = Target::spawn(interpreter, "c_leaks.py", &["late"]);
        let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("the target lives");
        assert!(!maps.contains("leaks.so"), "the extension is there before the trace begins");
        let recording = Unshed::record(target.pid(), &ALL_DOMAINS);
        drop(target.go());
        // The program's truth is of all that it did: of the second time too.
        let truth = target.go();
        let report = recording.stop().report();
        let rows = Row::all(&truth);
        assert_told(&rows, &report.without_native(), Native::Off);
        assert_shown(&rows, &report, Native::Leaf);
        target.assert_unharmed();
    });
}

#[test]
fn the_extension_of_a_command_is_named_too() {
    on_each(|interpreter| {
        let scratch = Scratch::default();
        let (file, python) = (scratch.arg("report.json"), interpreter.path.display().to_string());
        let script = program("c_leaks.py").display().to_string();
        let args =
            [&["record", "-o", &file][..], &EXACT, &ALL_DOMAINS, &["--", &python, "-S", &script, "now"]]
                .concat();
        let mut command = Unshed::command(&args);
        command.env("PYTHONPATH", build_extension(interpreter, "leaks.c", Build::USUAL));
        let output = Recording::start(command, scratch).wait();
        let (report, rows) = (output.report(), Row::all(&Truth::among(&output.stdout)));
        // An interpreter that starts has so many stacks that the ring may be full for a while.
        assert_shown(&rows, &report, Native::Leaf);
    });
}

/// The interpreter's own functions, where it has symbols for them, stand where they were called.
#[test]
fn the_interpreters_functions_between_c_and_python_are_named() {
    let report = usual(any_supported(), Native::Full).assert_told_whole();
    let sorted =
        report.sites.iter().filter(|site| site.python().is_some_and(|frame| frame.function == "<lambda>"));
    let between = |site: &unshed_tests::report::Site| -> Option<Vec<String>> {
        let inner = site.stack.iter().position(|frame| frame.function == "Item.key")?;
        let outer = site.stack.iter().position(|frame| frame.function == "by_key")?;
        Some(site.stack.get(inner + 1..outer)?.iter().map(|frame| frame.function.clone()).collect())
    };
    let seen: Vec<Vec<String>> = sorted.filter_map(between).collect();
    assert!(!seen.is_empty(), "no stack goes through the sorted key\n{}", report.worst());
    for functions in seen {
        // Objects/listobject.c: `list.sort` is `list_sort`, which parses its arguments and calls `list_sort_impl`.
        let sort = functions.iter().any(|name| name.starts_with("list_sort"));
        assert!(sort, "between the key and its caller there is {functions:?}");
    }
}
