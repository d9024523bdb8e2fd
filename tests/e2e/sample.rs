//! The sample engine, the default: it names the lines that leak and no others, says how far off it may be, and leaves nothing behind.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::Value;
use unshed_tests::harness::{
    Build, Output, Recording, Scratch, Target, Unshed, build_extension, is_alive, program, traps_of,
    wait_until,
};
use unshed_tests::interpreters::{Interpreter, any_supported, on_each, supported};
use unshed_tests::report::{Report, Sampling, Site};
use unshed_tests::truth::{Leak, Truth};

/// A build for debugging takes several times the CPU time for each window, and would open a handful of them in ten seconds.
const GENEROUS: [&str; 2] = ["--budget", "4"];

/// Requests of `sample_leaks.py` in which a leak is surely seen: ten seconds of them.
const ENOUGH: &str = "go 3000";
/// Requests in which some windows open.
const SOME: &str = "go 600";

/// Fields that say how far off a sum may be; sites have one for their growth besides.
const ERRORS: [&str; 6] = [
    "allocated_bytes_error",
    "allocated_blocks_error",
    "freed_bytes_error",
    "freed_blocks_error",
    "live_bytes_error",
    "live_blocks_error",
];

/// How often the tool is killed on each interpreter.
const KILLS: u32 = 3;

/// A server that leaks as the words say.
fn server(interpreter: &Interpreter, words: &[&str]) -> Target {
    Target::spawn(interpreter, "sample_leaks.py", words)
}

/// Samples a server while it does so many requests.
fn sample(interpreter: &Interpreter, words: &[&str], requests: &str) -> (Output, Truth) {
    let mut target = server(interpreter, words);
    let recording = Unshed::record_as_typed(target.pid(), &GENEROUS);
    let truth = target.tell(requests);
    let output = recording.stop();
    let cost = output.report().cost;
    assert!(cost.target_cpu_fraction <= 0.05, "the budget was 4 %: {cost:?}");
    target.assert_unharmed();
    assert!(target.quit().success(), "sample_leaks.py did not end well after it was sampled");
    (output, truth)
}

/// How it was sampled.
fn sampling(report: &Report) -> &Sampling {
    report.sampling.as_ref().expect("a sampled report says how it was sampled")
}

/// Asserts that it was sampled, that something was seen, and what must hold of all estimates.
fn assert_sampled(report: &Report) {
    assert_eq!(report.engine, "sample");
    let sampling = sampling(report);
    assert!(sampling.windows > 0 && sampling.births > 0, "nothing was seen: {sampling:?}");
    assert_eq!(sampling.fell_back, None);
}

/// Asserts that there is an error bar for each figure, and that it is a number.
fn assert_errors(text: &str) {
    let report: Value = serde_json::from_str(text).expect("a report is JSON");
    let sound = |of: &Value, name: &str| {
        let error = of[name].as_f64();
        assert!(error.is_some_and(|error| error >= 0.0 && error.is_finite()), "{name} is {error:?} in {of}");
    };
    ERRORS.iter().for_each(|name| sound(&report["totals"], name));
    let sites = report["sites"].as_array().expect("sites are a list");
    assert!(!sites.is_empty(), "there are no sites");
    for site in sites {
        ERRORS.iter().for_each(|name| sound(site, name));
        sound(site, "growth_bytes_per_second_error");
    }
}

/// Asserts that the line is the first that is called a leak, and that no other one that is called so grows more.
fn assert_found(report: &Report, leak: &Leak) {
    let leaks = || report.sites.iter().filter(|site| site.verdict == "leak");
    let first = leaks().next().or(report.sites.first());
    let place = leak.place();
    assert!(
        first.is_some_and(|site| leak.is_passed_by(site)),
        "the first is not {place}\n{}",
        report.worst()
    );
    let (own, others): (Vec<&Site>, Vec<&Site>) = leaks().partition(|site| leak.is_passed_by(site));
    let growth: f64 = own.iter().map(|site| site.growth_bytes_per_second).sum();
    assert!(
        others.iter().all(|site| site.growth_bytes_per_second <= growth),
        "an honest line is said to leak more than {place}\n{}",
        report.worst()
    );
}

/// Asserts that a line that leaks is found under an interpreter, with figures that have error bars.
pub(crate) fn the_line_is_found(interpreter: &Interpreter) {
    let (output, truth) = sample(interpreter, &["line"], ENOUGH);
    let report = output.report();
    assert_sampled(&report);
    let sampling = sampling(&report);
    assert!(sampling.candidates > 0 && sampling.looks > 0, "nobody was looked at: {sampling:?}");
    let text = std::fs::read_to_string(output.scratch.path("report.json")).expect("it was read before");
    assert_errors(&text);
    assert_found(&report, &truth.leaks[0]);
}

/// What is told of dense code rests on few windows, and may be far off; but not too low by more than is said. When the pace of the allocations was reckoned wrongly, an eighth of them was told,
/// with an error as small.
#[test]
fn bursts_are_not_told_too_low() {
    let mut target = Target::spawn(any_supported(), "bursts.py", &[]);
    let recording = Unshed::record_as_typed(target.pid(), &["--budget", "10"]);
    let truth = target.tell("go 300");
    let report = recording.stop().report();
    target.assert_unharmed();
    let sites = report.sites.iter().filter(|site| truth.leaks[0].is_passed_by(site));
    let (told, error) = sites.fold((0, 0.0), |(told, error), site| {
        (told + site.live_blocks, error + site.live_blocks_error.unwrap_or_default())
    });
    let blocks = truth.leaks[0].blocks;
    assert!(
        told as f64 + 3.0 * error >= blocks as f64,
        "{told} ± {error} blocks are told, {blocks} were kept\n{}",
        report.worst()
    );
}

/// The same of a report that others have made of `sample_leaks.py`.
pub(crate) fn assert_line_found(report: &Report, truth: &Truth) {
    assert_sampled(report);
    assert_found(report, &truth.leaks[0]);
}

#[test]
fn the_line_that_leaks_is_the_first_and_its_figures_have_error_bars() {
    on_each(the_line_is_found);
}

#[test]
fn what_c_code_leaks_is_found_with_its_function() {
    on_each(|interpreter| {
        let (output, truth) = sample(interpreter, &["c"], ENOUGH);
        let report = output.report();
        assert_sampled(&report);
        assert_found(&report, &truth.leaks[0]);
        let functions = truth.facts["functions"].as_array().expect("the program names C functions");
        assert!(!functions.is_empty());
        for function in functions {
            let of = |site: &&Site| site.stack.iter().any(|frame| frame.function == *function);
            let site = report.sites.iter().find(of);
            let site = site.unwrap_or_else(|| panic!("{function} is not told of\n{}", report.worst()));
            assert!(site.live_blocks > 0 && truth.leaks[0].is_passed_by(site), "{site:?}");
        }
    });
}

#[test]
fn nothing_honest_is_called_a_leak() {
    on_each(|interpreter| {
        let (output, truth) = sample(interpreter, &[], ENOUGH);
        assert!(truth.leaks.is_empty());
        let report = output.report();
        assert_sampled(&report);
        let leaks = report.sites.iter().filter(|site| site.verdict == "leak").count();
        assert_eq!(leaks, 0, "an honest program is said to leak\n{}", report.worst());
    });
}

#[test]
fn what_grows_past_the_allocators_is_told_though_it_has_no_site() {
    let mut target = Target::spawn(any_supported(), "watched.py", &[]);
    let recording = Unshed::record_as_typed(target.pid(), &GENEROUS);
    target.ask("written 50");
    let output = recording.stop();
    let grew = "resident memory grew all the time, by ";
    let report = output.report();
    assert!(report.notes.iter().any(|note| note.contains(grew)), "{:?}\n{}", report.notes, report.worst());
    assert!(output.stdout.contains(grew), "the text does not say so:\n{}", output.stdout);
    target.assert_unharmed();
    assert!(target.quit().success());
}

/// Whether a window is open: what tells that the interpreter ends is trapped all the time, at one place.
fn is_open(target: &Target) -> bool {
    traps_of(target.pid()).is_ok_and(|traps| traps.len() > 1)
}

#[test]
fn a_killed_tool_leaves_no_trap_at_any_moment() {
    on_each(|interpreter| {
        let mut target = server(interpreter, &["line"]);
        for time in 0..KILLS {
            let recording = Unshed::record_as_typed(target.pid(), &GENEROUS);
            // The moments are those at which we happen to come; at every second one, a window is open.
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than 1970");
            target.ask(&format!("go {}", 1 + now.subsec_micros() % 150));
            if time % 2 == 0 {
                wait_until("a window is open", Duration::from_secs(60), || is_open(&target));
            }
            recording.kill(target.pid());
            assert!(is_alive(target.pid()), "the target died when the tool was killed, time {time}");
        }
        target.ask("go 30");
        target.assert_unharmed();
        assert!(target.quit().success());
    });
}

#[test]
fn a_target_that_ends_while_it_is_sampled_ends_the_recording() {
    on_each(|interpreter| {
        let mut target = server(interpreter, &["line"]);
        let recording = Unshed::record_as_typed(target.pid(), &GENEROUS);
        let (pid, _) = (target.pid(), target.tell(SOME));
        assert!(target.quit().success(), "a sampled program did not end well");
        let report = recording.wait().report();
        assert_eq!(report.target.pid, pid);
        assert_sampled(&report);
    });
}

#[test]
fn a_target_that_is_killed_while_it_is_sampled_ends_the_recording() {
    on_each(|interpreter| {
        let mut target = server(interpreter, &["line"]);
        let recording = Unshed::record_as_typed(target.pid(), &GENEROUS);
        target.ask(SOME);
        target.kill();
        assert_sampled(&recording.wait().report());
    });
}

#[test]
fn a_target_that_is_gone_is_refused() {
    let target = server(any_supported(), &[]);
    let pid = target.pid().to_string();
    assert!(target.quit().success());
    let output = Unshed::run(&["record", "-d", "1", "-p", &pid]);
    output.assert_code(4);
    assert!(output.stdout.is_empty(), "half a report of nobody:\n{}", output.stdout);
}

#[test]
fn samples_for_one_percent_are_the_default_and_end_with_the_duration() {
    on_each(|interpreter| {
        let mut target = server(interpreter, &["line"]);
        let report = Unshed::record_as_typed(target.pid(), &["-d", "2"]).wait().report();
        assert!(report.seconds >= 1.99, "-d 2 recorded {} s", report.seconds);
        assert_eq!((report.engine.as_str(), sampling(&report).budget_percent), ("sample", 1.0));
        target.assert_unharmed();
    });
}

#[test]
fn a_command_is_sampled_from_its_start() {
    on_each(|interpreter| {
        let scratch = Scratch::default();
        let (file, python) = (scratch.arg("report.json"), interpreter.path.display().to_string());
        let script = program("sample_leaks.py").display().to_string();
        let what = [&python, "-S", &script, "line", "now", "7500"];
        let mut command =
            Unshed::command(&[&["record", "-o", &file][..], &GENEROUS, &["--"], &what].concat());
        command.env("PYTHONPATH", build_extension(interpreter, "leaks.c", Build::USUAL));
        let output = Recording::start(command, scratch).wait();
        let (report, truth) = (output.report(), Truth::among(&output.stdout));
        assert_sampled(&report);
        assert_found(&report, &truth.leaks[0]);
    });
}

/// A server of its own, and a recording that waits until it grows.
fn wait_for_growth(interpreter: &Interpreter, words: &[&str]) -> (Target, Recording) {
    let target = server(interpreter, words);
    let scratch = Scratch::default();
    let (pid, file) = (target.pid().to_string(), scratch.arg("report.json"));
    let args = [&["record", "-p", &pid, "-o", &file, "--when", "growing"][..], &GENEROUS].concat();
    (target, Recording::start(Unshed::command(&args), scratch))
}

/// All at once, since all must be waited for long.
#[test]
fn windows_that_wait_for_growth_come_with_it_and_not_without() {
    let mut growing: Vec<_> = supported().iter().map(|python| wait_for_growth(python, &["line"])).collect();
    let idle: Vec<_> = supported().iter().map(|python| wait_for_growth(python, &[])).collect();
    for (target, recording) in &mut growing {
        recording.armed();
        target.send(ENOUGH);
    }
    for (mut target, recording) in growing {
        let truth = Truth::parse(target.answer(ENOUGH));
        let report = recording.stop().report();
        assert_sampled(&report);
        assert_found(&report, &truth.leaks[0]);
        target.assert_unharmed();
    }
    for (mut target, recording) in idle {
        let output = recording.stop();
        let report = output.report();
        let sampling = sampling(&report);
        assert_eq!(sampling.fell_back.as_deref(), Some("the heap did not grow"), "{sampling:?}");
        assert_eq!((sampling.windows, report.sites.len()), (0, 0), "{}", report.worst());
        assert!(
            output.stdout.contains("the heap did not grow"),
            "the text does not say so:\n{}",
            output.stdout
        );
        target.assert_unharmed();
    }
}

/// The forms of a report.
const FORMS: [&str; 4] = ["text", "json", "folded", "svg"];

#[test]
fn a_capture_of_samples_can_be_told_in_all_forms() {
    on_each(|interpreter| {
        let mut target = server(interpreter, &["line"]);
        let scratch = Scratch::default();
        let (pid, file) = (target.pid().to_string(), scratch.arg("capture.unshed"));
        let command = Unshed::command(&[&["record", "-p", &pid, "-o", &file][..], &GENEROUS].concat());
        let mut recording = Recording::start(command, scratch);
        recording.armed();
        target.ask(ENOUGH);
        let recorded = recording.stop();
        recorded.assert_code(0);
        let [text, json, folded, svg] = FORMS.map(|form| {
            let output = Unshed::run(&["report", &file, "-f", form]);
            output.assert_code(0);
            output.stdout
        });
        assert_eq!(text.trim(), recorded.stdout.trim(), "`report` says something else than `record`");
        assert_errors(&json);
        assert_sampled(&Report::parse(&json));
        let counted =
            |line: &str| line.rsplit_once(' ').is_some_and(|(_, bytes)| bytes.parse::<u64>().is_ok());
        assert!(!folded.is_empty() && folded.lines().all(counted), "no folded stacks:\n{folded}");
        assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"), "this is no SVG");
    });
}
