//! The verbs and flags, one by one.

use unshed_tests::harness::{EXACT, Output, Recording, Scratch, Target, Unshed, program, traps_in_function};
use unshed_tests::interpreters::{Interpreter, any_supported, debian, on_each, unsupported};
use unshed_tests::report::Report;
use unshed_tests::truth::{Truth, assert_within_percent};

use crate::record;

#[test]
fn a_command_is_traced_from_before_its_first_bytecode() {
    on_each(command_is_traced_from_its_start);
}

fn command_is_traced_from_its_start(interpreter: &Interpreter) {
    let scratch = Scratch::default();
    let (file, python) = (scratch.arg("report.json"), interpreter.path.display().to_string());
    let script = program("module_level.py").display().to_string();
    // Without `site`: what is installed on this machine would be imported and traced, half a minute's worth of stacks.
    let command =
        Unshed::command(&[&["record", "-o", &file][..], &EXACT, &["--", &python, "-S", &script]].concat());
    let output = Recording::start(command, scratch).wait();
    let report = output.report();
    let truth = Truth::among(&output.stdout);
    truth.assert_told_by(&report);
    assert_eq!(truth.fact("pid"), u64::from(report.target.pid), "the report is about another process");
    let frozen = |file: &str| file.starts_with("<frozen ");
    let early = report
        .sites
        .iter()
        .any(|site| site.stack.iter().any(|frame| frame.file.as_deref().is_some_and(frozen)));
    assert!(
        early,
        "nothing of the interpreter's own start was seen, so the trace began late\n{}",
        report.worst()
    );
}

#[test]
fn ints_tells_the_value_of_a_leaked_int() {
    let (report, truth) = record(debian(), "leak_new_reference.py", &["--ints"]);
    truth.assert_told_by(&report);
    let sites = truth.leaks[0].sites(&report);
    let ints = sites.iter().find_map(|site| site.ints.as_ref()).unwrap_or_else(|| {
        panic!("no site at {} has ints\n{}", truth.leaks[0].place(), report.worst());
    });
    assert_eq!((ints.calls, ints.small), (1_000_000, 0), "calls and small ints: {ints:?}");
    let most = ints.values.first().map(|value| (value.value, value.calls));
    assert_eq!(most, Some((1000, 1_000_000)), "the most frequent value: {ints:?}");
}

#[test]
fn ints_counts_references_to_small_ints() {
    let (report, truth) = record(any_supported(), "small_ints.py", &["--ints"]);
    let leak = &truth.leaks[0];
    let small: u64 =
        leak.sites(&report).iter().filter_map(|site| site.ints.as_ref()).map(|ints| ints.small).sum();
    assert_eq!(
        small,
        truth.fact("calls"),
        "references to a cached int at {}\n{}",
        leak.place(),
        report.worst()
    );
    assert!(leak.live_blocks(&report) <= 1, "small ints allocate nothing\n{}", report.worst());
    let values =
        leak.sites(&report).into_iter().filter_map(|site| site.ints.as_ref()).flat_map(|ints| &ints.values);
    assert!(values.into_iter().any(|value| value.value == 7), "the value 7 is not told\n{}", report.worst());
}

#[test]
fn without_ints_the_hook_of_ints_is_not_attached() {
    let target = Target::spawn(any_supported(), "class_list.py", &[]);
    let recording = Unshed::record(target.pid(), &[]);
    assert_eq!(traps_in_function(target.pid(), "PyLong_FromLong"), [], "trapped without --ints");
    assert_ne!(traps_in_function(target.pid(), "_PyObject_Malloc"), [], "the object domain is on by default");
    drop(recording.stop());
    let recording = Unshed::record(target.pid(), &["--ints"]);
    assert_ne!(traps_in_function(target.pid(), "PyLong_FromLong"), [], "not trapped with --ints");
    drop(recording.stop());
}

#[test]
fn the_libc_domain_sees_what_an_extension_takes_from_malloc() {
    let (report, truth) = record(debian(), "malloc_leak.py", &["--domains", "object,mem,raw,libc"]);
    truth.assert_told_by(&report);
    let sites = truth.leaks[0].sites(&report);
    let libc =
        sites.iter().filter(|site| site.domain.as_deref() == Some("libc")).map(|site| site.live_blocks).sum();
    assert_within_percent(libc, truth.leaks[0].blocks, "blocks of the libc domain");
}

#[test]
fn without_the_libc_domain_malloc_is_nobodys_business() {
    let (report, truth) = record(any_supported(), "malloc_leak.py", &[]);
    let live = truth.leaks[0].live_blocks(&report);
    assert!(
        live < 100,
        "{live} blocks at {} without --domains libc\n{}",
        truth.leaks[0].place(),
        report.worst()
    );
}

#[test]
fn all_domains_count_no_byte_twice() {
    let (report, truth) = record(debian(), "dict_cache.py", &["--domains", "object,mem,raw,libc"]);
    truth.assert_told_by(&report);
    let (report, truth) = record(debian(), "realloc_heavy.py", &["--domains", "object,mem,raw,libc"]);
    let mine = |name: &str| name.starts_with("work_");
    let sites = report.sites.iter().filter(|site| site.python().is_some_and(|frame| mine(&frame.function)));
    truth.assert_live_bytes(sites.map(|site| site.live_bytes).sum(), &report.worst());
}

#[test]
fn doctor_says_whether_this_host_and_this_process_can_be_traced() {
    let output = Unshed::run(&["doctor"]);
    output.assert_code(0);
    assert!(!output.stdout.is_empty(), "doctor has nothing to say");
    let target = Target::spawn(debian(), "class_list.py", &[]);
    let output = Unshed::run(&["doctor", "-p", &target.pid().to_string()]);
    output.assert_code(0);
    let version = &debian().version;
    assert!(
        output.stdout.contains(version.as_str()),
        "doctor -p does not name the version:\n{}",
        output.stdout
    );
}

#[test]
fn doctor_does_not_approve_of_what_record_refuses() {
    let mut command = std::process::Command::new(&unsupported()[0].path);
    command.args(["-c", "import os, sys; print('READY', os.getpid(), flush=True); sys.stdin.read()"]);
    let target = Target::start(command, "idle");
    let output = Unshed::run(&["doctor", "-p", &target.pid().to_string()]);
    assert_ne!(
        output.status.code(),
        Some(0),
        "doctor approves of an unsupported version:\n{}",
        output.stdout
    );
}

/// A second's recording of a leaker with the default output.
fn second(more: &[&str]) -> Output {
    let mut target = Target::spawn(debian(), "mutable_default.py", &[]);
    let pid = target.pid().to_string();
    let args = [&["record", "-p", &pid], &EXACT[..], more].concat();
    let mut recording = Recording::start(Unshed::command(&args), Scratch::default());
    recording.armed();
    target.go();
    let output = recording.stop();
    output.assert_code(0);
    output
}

#[test]
fn stdout_is_data_stderr_is_messages_and_there_are_no_colours() {
    let output = second(&[]);
    for needed in ["remember", "mutable_default.py:9", "str"] {
        assert!(
            output.stdout.contains(needed),
            "the text report does not say {needed:?}:\n{}",
            output.stdout
        );
    }
    assert!(!output.stdout.contains("tracing "), "a message is among the data:\n{}", output.stdout);
    for (name, text) in [("stdout", &output.stdout), ("stderr", &output.stderr)] {
        assert!(
            !text.contains('\x1b') && !text.contains('\r'),
            "{name} has colours or progress without a terminal: {text:?}"
        );
    }
}

#[test]
fn top_cuts_the_text_and_not_the_json() {
    let scratch = Scratch::default();
    let output = second(&["--top", "1", "-o", &scratch.arg("report.json")]);
    let text = std::fs::read_to_string(scratch.path("report.json")).expect("the report was written");
    assert!(Report::parse(&text).sites.len() > 1, "--top is for people, the JSON report has all sites");
    assert!(output.stdout.contains("remember"), "the worst site is not in the text:\n{}", output.stdout);
}

#[test]
fn quiet_is_quiet() {
    let target = Target::spawn(any_supported(), "mutable_default.py", &[]);
    let output = Unshed::run(&["record", "-q", "-d", "1", "-p", &target.pid().to_string()]);
    output.assert_code(0);
    assert!(output.stderr.is_empty(), "-q leaves messages:\n{}", output.stderr);
    assert!(!output.stdout.is_empty(), "-q takes away the data too");
}
