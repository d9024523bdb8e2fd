//! What a trace would cost is told before it begins, and an exact trace that costs too much is refused; counting leaves nothing behind.

use std::time::Duration;

use serde_json::Value;
use unshed_tests::harness::{Output, Recording, Scratch, Target, Unshed, wait_until};
use unshed_tests::interpreters::{Interpreter, any_supported, debian};

/// How often a target is killed at most until that hits the moment in which it is counted.
const KILLS: usize = 10;

fn both() -> [&'static Interpreter; 2] {
    [any_supported(), debian()]
}

/// A program that allocates and frees at full speed.
fn storm(interpreter: &Interpreter) -> Target {
    Target::spawn(interpreter, "storm.py", &["2"])
}

/// Waits until all threads of a storm have been around.
fn goes_round(target: &mut Target) {
    let before = target.ask("count")["slowest"].as_u64();
    wait_until("the storm has gone on", Duration::from_secs(60), || {
        target.ask("count")["slowest"].as_u64() > before
    });
}

/// A program that waits for a word.
fn idle(interpreter: &Interpreter) -> Target {
    Target::spawn(interpreter, "class_list.py", &[])
}

/// What `doctor -p` says of a process, as JSON.
fn examined(target: &Target) -> Value {
    let output = Unshed::run(&["doctor", "--json", "-p", &target.pid().to_string()]);
    output.assert_code(0);
    let examined: Value = serde_json::from_str(&output.stdout)
        .unwrap_or_else(|error| panic!("doctor --json is no JSON ({error}):\n{}", output.stdout));
    assert_eq!(examined["schema"], "unshed.doctor/1");
    examined["process"].clone()
}

fn sum(rows: &Value, field: &str) -> u64 {
    rows.as_array().expect("an array").iter().map(|row| row[field].as_u64().expect("a count")).sum()
}

#[test]
fn a_busy_target_is_counted_and_its_slowdown_foretold() {
    for interpreter in both() {
        let mut target = storm(interpreter);
        let process = examined(&target);
        let counted = &process["counted"];
        let hits = counted["hits"].as_u64().expect("a count");
        assert!(hits > 100, "a storm was not seen: {counted}");
        assert_eq!(sum(&process["kinds"], "hits"), hits, "the kinds have other hits than the whole");
        assert_eq!(sum(&process["points"], "hits"), hits, "the points have other hits than the whole");
        let points = process["points"].as_array().expect("an array").len() as u64;
        assert_eq!(sum(&process["kinds"], "points"), points, "the kinds have other points than the plan");
        let of_kind = |name: &str| {
            let kinds = process["kinds"].as_array().expect("an array");
            kinds
                .iter()
                .find(|kind| kind["kind"] == name)
                .map_or(0, |kind| kind["hits"].as_u64().unwrap_or(0))
        };
        let (born, freed) = (of_kind("allocation fast path"), of_kind("free fast path"));
        // Whatever the storm takes it gives back within a round.
        assert!(born > 0 && born.abs_diff(freed) < born / 2 + 1_000, "{born} born, {freed} freed");
        assert_eq!(process["complete"], true, "{}", process["reason"]);
        assert!(counted["slowdown"].as_f64().expect("a number") > 2.0, "a storm would be cheap: {counted}");
        target.assert_unharmed();
    }
}

#[test]
fn an_idle_target_is_told_as_such() {
    for interpreter in both() {
        let mut target = idle(interpreter);
        let process = examined(&target);
        assert_eq!(process["counted"]["hits"], 0, "{}", process["counted"]);
        assert_eq!(process["counted"]["slowdown"], 1.0, "{}", process["counted"]);
        let output = Unshed::run(&["doctor", "-p", &target.pid().to_string()]);
        output.assert_code(0);
        for needed in ["measure while it works", "allocation fast path", "hooks"] {
            assert!(output.stdout.contains(needed), "doctor does not say {needed:?}:\n{}", output.stdout);
        }
        target.assert_unharmed();
    }
}

#[test]
fn every_probe_point_is_listed_where_that_is_asked_for() {
    let target = storm(any_supported());
    let output = Unshed::run(&["doctor", "-v", "-p", &target.pid().to_string()]);
    output.assert_code(0);
    let listed = |line: &&str| line.starts_with("     entry ") || line.starts_with("     return ");
    let points = examined(&target)["points"].as_array().expect("an array").len();
    assert_eq!(output.stdout.lines().filter(listed).count(), points, "{}", output.stdout);
    assert!(output.stdout.contains("slowdown of `record --exact` now: "), "{}", output.stdout);
}

/// `record --exact` with more arguments.
fn exact(target: &Target, more: &[&str]) -> Output {
    let pid = target.pid().to_string();
    Unshed::run(&[&["record", "--exact", "-d", "1", "-p", &pid], more].concat())
}

#[test]
fn an_exact_trace_that_costs_too_much_is_refused() {
    for interpreter in both() {
        let mut target = storm(interpreter);
        for limit in [&[][..], &["--max-slowdown", "1"]] {
            let output = exact(&target, limit);
            output.assert_code(1);
            let Output { stderr, stdout, .. } = &output;
            let lines = stderr.lines().filter(|line| !line.trim().is_empty()).count();
            assert_eq!(lines, 2, "a refusal says what and how to go on:\n{stderr}");
            for needed in [&target.pid().to_string(), "hits/s", "the limit is ", "--max-slowdown "] {
                assert!(stderr.contains(needed), "the refusal does not say {needed:?}:\n{stderr}");
            }
            assert!(stdout.is_empty() && !stderr.contains("tracing "), "it traces all the same:\n{stderr}");
        }
        target.assert_unharmed();
    }
}

#[test]
fn an_exact_trace_within_the_limit_is_traced() {
    for interpreter in both() {
        let mut target = storm(interpreter);
        let recording = Unshed::record_as_typed(target.pid(), &["--exact", "--max-slowdown", "1000"]);
        goes_round(&mut target);
        let output = recording.stop();
        assert!(output.stderr.contains("predicted slowdown: "), "it does not say which:\n{}", output.stderr);
        assert!(output.report().totals.allocated_blocks > 0, "a storm was not seen");
        let output = Unshed::record(target.pid(), &[]).stop();
        assert!(
            !output.stderr.contains("predicted"),
            "at any price, nothing is measured:\n{}",
            output.stderr
        );
        let output = Unshed::record_as_typed(target.pid(), &[]).stop();
        assert!(!output.stderr.contains("predicted"), "only --exact measures before:\n{}", output.stderr);
        target.assert_unharmed();
    }
}

#[test]
fn an_idle_target_and_a_command_are_traced_exactly_without_a_word() {
    let mut target = idle(any_supported());
    let recording = Unshed::record_as_typed(target.pid(), &["--exact"]);
    let truth = target.go();
    truth.assert_told_by(&recording.stop().report());
    target.assert_unharmed();
    let python = any_supported().path.display().to_string();
    let output = Unshed::run(&["record", "--exact", "-v", "--", &python, "-c", "print(1)"]);
    output.assert_code(0);
    assert!(output.stderr.contains("has not run yet"), "nothing is said at -v:\n{}", output.stderr);
}

#[test]
fn limits_that_make_no_sense() {
    for wrong in [&["--max-slowdown", "3"][..], &["--exact", "--max-slowdown", "0.5"]] {
        let output = Unshed::run(&[&["record", "-p", "1"], wrong].concat());
        output.assert_code(2);
        assert!(output.stdout.is_empty(), "usage errors go to stderr: {output:?}");
    }
}

/// Whether a page of a process's code is not the file's any more, which a trap makes it. Faster than to compare all code: these traps stay for
/// a tenth of a second.
fn is_trapped(pid: u32) -> bool {
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps")).unwrap_or_default();
    let mut is_code = false;
    smaps.lines().any(|line| {
        let mut words = line.split_ascii_whitespace();
        match (words.next(), words.next()) {
            (Some("Anonymous:"), Some(kib)) => is_code && kib != "0",
            (Some(range), Some(permissions)) if range.contains('-') => {
                is_code = permissions.contains('x') && line.contains(" /");
                false
            }
            _ => false,
        }
    })
}

/// Starts a command line about a storm and waits until traps are in.
fn trapping(target: &Target, args: &[&str]) -> Recording {
    let pid = target.pid().to_string();
    assert!(!is_trapped(target.pid()), "trapped before anybody came");
    let recording = Recording::start(Unshed::command(&[args, &["-p", &pid]].concat()), Scratch::default());
    wait_until("the first trap is in", Duration::from_secs(60), || is_trapped(target.pid()));
    recording
}

#[test]
fn a_target_that_is_killed_while_it_is_counted_is_gone() {
    for args in [&["doctor"][..], &["record", "--exact"]] {
        let mut told = 0;
        for _ in 0..KILLS {
            let mut target = storm(any_supported());
            let looking = trapping(&target, args);
            target.kill();
            let output = looking.wait();
            if output.status.code() == Some(4) {
                assert!(output.stderr.contains(&target.pid().to_string()), "whom?\n{}", output.stderr);
                told += 1;
                break;
            }
            // It was counted to the end before it was killed.
            assert!(matches!(output.status.code(), Some(0 | 1)), "{}: {}", output.status, output.stderr);
        }
        assert_eq!(told, 1, "{args:?}: of {KILLS} kills none was told");
    }
}

#[test]
fn a_doctor_that_is_killed_leaves_no_trap() {
    for interpreter in both() {
        let mut target = storm(interpreter);
        trapping(&target, &["doctor"]).kill(target.pid());
        target.assert_unharmed();
    }
}
