//! The tool in a PID namespace itself, as in a debug container: it sees the ids of that namespace only.

use std::process::Command;

use unshed_tests::harness::{EXACT, Output, Recording, Scratch, Target, Unshed, innermost, signal};
use unshed_tests::interpreters::{debian, on_each};

use super::room::{self, CONTAINER};
use super::{PROGRAM, assert_both_told, json};

/// The tool beside a target, in its namespaces, where that is process 1.
fn beside(target: &Target, args: &[&str]) -> Recording {
    let scratch = Scratch::default();
    let (pid, file) = (target.pid().to_string(), scratch.arg("report.json"));
    let mut command = Command::new("nsenter");
    command.args(["--target", &pid, "--mount", "--pid", "--"]).arg(Unshed::binary());
    command.args(["record", "-p", "1", "-o", &file]).args(args);
    command.env("NO_COLOR", "1").stdin(std::process::Stdio::null());
    command.stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped());
    Recording::start(command, scratch)
}

/// Ctrl-C for the tool, and not for `nsenter`, which waits for it.
fn stop(recording: Recording) -> Output {
    signal(innermost(recording.pid()), libc::SIGINT);
    recording.wait()
}

#[test]
fn a_tool_in_the_targets_namespaces_sees_it_by_the_id_there() {
    on_each(|interpreter| {
        let mut target = room::start(interpreter, &CONTAINER, PROGRAM);
        let mut recording = beside(&target, &EXACT);
        recording.armed();
        let truth = target.go();
        let output = stop(recording);
        let report = output.report();
        assert_both_told(&report, &truth);
        assert_eq!(report.target.pid, 1);
        let told = &json(&output)["target"];
        assert_eq!((&told["namespace_pids"], &told["namespaces"]), (&vec![1].into(), &serde_json::json!([])));
        target.assert_unharmed();
    });
}

#[test]
fn a_tool_in_the_targets_namespaces_samples_it() {
    on_each(|interpreter| {
        let mut target = room::start_with(interpreter, &CONTAINER, "sample_leaks.py", &["line"]);
        let mut recording = beside(&target, &["--budget", "4"]);
        recording.armed();
        let truth = target.tell("go 3000");
        let report = stop(recording).report();
        crate::sample::assert_line_found(&report, &truth);
        target.assert_unharmed();
    });
}

/// Ids in `/proc` and ids that are typed would be of two namespaces: whoever has that number would be traced.
#[test]
fn a_proc_of_another_namespace_is_refused() {
    let target = Target::spawn(debian(), PROGRAM, &[]);
    let pid = target.pid().to_string();
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--kill-child"]).arg(Unshed::binary()).args(["record", "-d", "1", "-p"]);
    // In the new namespace the tool itself is 1, and in `/proc` somebody else is.
    let output = command.arg("1").output().expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("another PID namespace"), "{said}");
    let mut outside = Command::new("unshare");
    outside.args(["--pid", "--fork", "--kill-child"]).arg(Unshed::binary()).args(["record", "-d", "1", "-p"]);
    let output = outside.arg(&pid).output().expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && said.contains("PID namespace"), "{said}");
}
