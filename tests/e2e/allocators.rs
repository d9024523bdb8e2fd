//! Others hook CPython's allocators too, before unshed comes or while it traces: the leak is told as it is, or refused clearly; and the
//! operator is told whom unshed has met.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use unshed_tests::harness::{Launch, Output, Target, Unshed};
use unshed_tests::interpreters::{Interpreter, Which, every};
use unshed_tests::report::Report;
use unshed_tests::truth::Truth;

const TRACEMALLOC: &str = "tracemalloc";
const DEBUG_HOOKS: &str = "debug hooks";
const PLAIN_MALLOC: &str = "PYTHONMALLOC=malloc";
const LIBRARY: &str = "another library's allocator";

const MIMALLOC: &str = "mimalloc";

/// Runs a test on each version and build, and says on which it failed.
fn on_every(test: impl Fn(&'static Interpreter)) {
    let failed =
        |interpreter: &&&'static Interpreter| catch_unwind(AssertUnwindSafe(|| test(interpreter))).is_err();
    let all: Vec<_> = every().iter().collect();
    let failed: Vec<String> = all.iter().filter(failed).map(ToString::to_string).collect();
    assert!(failed.is_empty(), "failed on: {}", failed.join("; "));
}

/// The same where there is pymalloc, which builds without the GIL do not know even by name.
fn on_every_with_pymalloc(test: impl Fn(&'static Interpreter)) {
    on_every(|interpreter| {
        if interpreter.which != Which::FreeThreaded {
            test(interpreter);
        }
    });
}

/// A program that leaks, then does this and leaks as much again; each time it tells its truth.
fn leak_around(target: &mut Target, changes: &[&str]) -> Truth {
    let mut truth = target.go();
    for change in changes {
        target.ask(change);
        truth = target.go();
    }
    truth
}

/// What a refusal says, which has to be clear: its exit code, one or two lines, no data. It may come late, when the hooks were checked at
/// work and found wanting.
fn refusal(output: &Output) -> String {
    output.assert_code(4);
    let said = output.stderr.lines().skip_while(|line| !line.starts_with("unshed: "));
    let said: Vec<&str> = said.filter(|line| !line.trim().is_empty()).collect();
    assert!((1..=2).contains(&said.len()), "the refusal is not clear:\n{}", output.stderr);
    assert!(output.stdout.is_empty(), "data after a refusal:\n{}", output.stdout);
    said.join("\n")
}

/// Asserts the leak, and that of what was not leaked nothing is said to be. Where the hooks did not stay complete, and the report says
/// so, at least no more is told than is true.
fn assert_told(report: &Report, truth: &Truth) {
    if report.hooks.as_ref().is_some_and(|hooks| hooks.complete) {
        truth.assert_told_by(report);
        assert_eq!(report.loss("address_reborn"), 0, "a free was missed\n{}", report.worst());
        assert_eq!(report.loss("call_unfinished"), 0, "a return was missed\n{}", report.worst());
        return;
    }
    let (leak, live) = (&truth.leaks[0], truth.leaks[0].live_blocks(report));
    eprintln!("the hooks did not stay complete: {:?}", report.hooks);
    assert!(live <= leak.blocks, "{live} blocks of {} are told\n{}", leak.blocks, report.worst());
}

/// Asserts that a report is right, and returns all that it says of the hooks.
fn what_is_told(output: &Output, mut truth: Truth, met: &str) -> String {
    let mut report = output.report();
    if met == TRACEMALLOC {
        // For each block tracemalloc takes one of its own, from the raw domain: true, but not the leak. What leaks is not raw.
        report.sites.retain(|site| site.domain.as_deref() != Some("raw"));
    }
    if met == DEBUG_HOOKS {
        // The debug hooks ask for 24 bytes more, and unshed may watch before them or behind them.
        truth.leaks[0].sizes.clear();
    }
    assert_told(&report, &truth);
    if met == DEBUG_HOOKS {
        // They pass a large block on twice, each time from a little before: that is no block that nobody knows.
        let unknown = report.loss("unknown_free");
        assert!(unknown * 50 <= truth.leaks[0].blocks, "{unknown} unknown frees\n{}", report.worst());
    }
    let reason = report.hooks.map(|hooks| hooks.reason).unwrap_or_default();
    format!("{reason}\n{}\n{}", report.notes.join("\n"), output.stderr)
}

/// Asserts all of that for one way to start a program and what it does while it is traced; `met` must be named.
fn meets(launch: Launch<'_>, before: &[&str], changes: &[&str], met: &str) {
    let said = stays_right(launch, before, changes, met);
    assert!(said.contains(met), "nothing names {met:?}; hooks.reason, notes and stderr are:\n{said}");
}

/// The same without the name, for what may be over before anybody has looked; returns what was said of the hooks.
fn stays_right(launch: Launch<'_>, before: &[&str], changes: &[&str], met: &str) -> String {
    let mut target = launch.spawn("allocators.py", before);
    let said = match Unshed::try_record(target.pid(), &[]) {
        Err(output) => refusal(&output),
        Ok(recording) => {
            let truth = leak_around(&mut target, changes);
            let output = recording.stop();
            if output.status.success() { what_is_told(&output, truth, met) } else { refusal(&output) }
        }
    };
    target.assert_unharmed();
    said
}

#[test]
fn tracemalloc_that_runs_already() {
    on_every(|interpreter| meets(Target::on(interpreter), &["start"], &[], TRACEMALLOC));
}

#[test]
fn tracemalloc_that_starts_while_traced() {
    on_every(|interpreter| meets(Target::on(interpreter), &[], &["start"], TRACEMALLOC));
}

#[test]
fn tracemalloc_that_starts_and_stops_while_traced() {
    on_every(|interpreter| {
        drop(stays_right(Target::on(interpreter), &[], &["start", "stop"], TRACEMALLOC));
    });
}

#[test]
fn tracemalloc_that_runs_already_and_stops_while_traced() {
    on_every(|interpreter| meets(Target::on(interpreter), &["start"], &["stop"], TRACEMALLOC));
}

#[test]
fn a_library_that_has_hooked_the_allocators_already() {
    on_every(|interpreter| meets(Target::on(interpreter), &["install"], &[], LIBRARY));
}

#[test]
fn a_library_that_hooks_the_allocators_while_traced() {
    on_every(|interpreter| meets(Target::on(interpreter), &[], &["install"], LIBRARY));
}

#[test]
fn a_library_that_comes_and_goes_while_traced() {
    on_every(|interpreter| {
        drop(stays_right(Target::on(interpreter), &[], &["install", "remove"], LIBRARY));
    });
}

#[test]
fn the_debug_hooks() {
    on_every(|interpreter| {
        meets(Target::on(interpreter).env("PYTHONMALLOC", "debug"), &[], &[], DEBUG_HOOKS);
    });
}

#[test]
fn malloc_instead_of_pymalloc() {
    on_every_with_pymalloc(|interpreter| {
        meets(Target::on(interpreter).env("PYTHONMALLOC", "malloc"), &[], &[], PLAIN_MALLOC);
    });
}

#[test]
fn the_debug_hooks_before_pymalloc_and_development_mode() {
    on_every_with_pymalloc(|interpreter| {
        meets(Target::on(interpreter).env("PYTHONMALLOC", "pymalloc_debug"), &[], &[], DEBUG_HOOKS);
    });
    on_every(|interpreter| {
        meets(Target::on(interpreter).env("PYTHONDEVMODE", "1"), &[], &[], DEBUG_HOOKS);
    });
}

#[test]
fn mimalloc_instead_of_pymalloc() {
    on_every(|interpreter| {
        if interpreter.minor() >= 13 {
            meets(Target::on(interpreter).env("PYTHONMALLOC", "mimalloc"), &[], &[], MIMALLOC);
        }
    });
}

/// On each interpreter that memray is installed for, with memray in reach.
fn on_every_with_memray(test: impl Fn(Launch<'_>)) {
    let tried = Cell::new(0);
    on_every(|interpreter| {
        let Some(folder) = interpreter.package("memray") else { return };
        tried.set(tried.get() + 1);
        test(Target::on(interpreter).env("PACKAGES", &folder.display().to_string()));
    });
    assert!(tried.get() >= 6, "memray was met on {} interpreters", tried.get());
}

#[test]
fn memray_that_is_attached_already() {
    on_every_with_memray(|launch| meets(launch, &["memray-python"], &[], LIBRARY));
    on_every_with_memray(|launch| drop(stays_right(launch, &["memray"], &[], LIBRARY)));
}

#[test]
fn memray_that_is_attached_while_traced_and_leaves() {
    on_every_with_memray(|launch| {
        drop(stays_right(launch, &[], &["memray-python", "memray-end"], LIBRARY));
    });
    on_every_with_memray(|launch| drop(stays_right(launch, &[], &["memray"], LIBRARY)));
}

/// Nobody is named who is not there.
#[test]
fn the_interpreters_own_allocators() {
    on_every(|interpreter| {
        let mut target = Target::spawn(interpreter, "allocators.py", &[]);
        let recording = Unshed::record(target.pid(), &[]);
        let truth = target.go();
        let output = recording.stop();
        let report = output.report();
        truth.assert_told_by(&report);
        let hooks = report.hooks.clone().expect("the JSON report has hooks");
        assert!(hooks.complete, "{hooks:?}");
        let said = format!("{}\n{}\n{}", hooks.reason, report.notes.join("\n"), output.stderr);
        for name in [TRACEMALLOC, DEBUG_HOOKS, PLAIN_MALLOC, LIBRARY, MIMALLOC] {
            let is_there = name == MIMALLOC && interpreter.which == Which::FreeThreaded;
            assert_eq!(said.contains(name), is_there, "whether {name} is named:\n{said}");
        }
    });
}
