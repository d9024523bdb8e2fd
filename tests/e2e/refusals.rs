//! What cannot be done is refused at once, in one or two lines, with the exit code of its kind.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use unshed_tests::harness::{EXACT, Output, Recording, Scratch, Target, Unshed};
use unshed_tests::interpreters::{any_supported, debian, unsupported};

/// Asserts a refusal: the exit code, one or two lines on stderr, nothing on stdout, and that nothing was traced.
fn assert_refused(output: &Output, code: i32) {
    output.assert_code(code);
    let Output { line, stderr, stdout, .. } = output;
    let lines = stderr.lines().filter(|line| !line.trim().is_empty()).count();
    assert!((1..=2).contains(&lines), "{line}\nrefuses in {lines} lines, not one or two:\n{stderr}");
    assert!(
        !stderr.lines().any(|line| line.starts_with("tracing ")),
        "{line}\nrefuses only after tracing:\n{stderr}"
    );
    assert!(stdout.is_empty(), "{line}\nrefuses on stdout, which is for data:\n{stdout}");
}

fn assert_refused_record(pid: u32, more: &[&str], code: i32) -> Output {
    let pid = pid.to_string();
    let mut args = vec!["record", "-d", "1", "-p", &pid];
    args.extend(more);
    let output = Unshed::run(&args);
    assert_refused(&output, code);
    output
}

fn leaker() -> Target {
    Target::spawn(any_supported(), "class_list.py", &[])
}

#[test]
fn without_root() {
    let target = leaker();
    let scratch = Scratch::default();
    // The folders on the way to the real binary may be closed to others.
    let binary = scratch.path("unshed");
    std::fs::copy(Unshed::binary(), &binary).expect("/tmp takes a copy of the binary");
    for path in [binary.parent().expect("it lies in a folder"), &binary] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755)).expect("the copy is ours");
    }
    let mut command = Command::new(&binary);
    command
        .args(["record", "-d", "1", "-p", &target.pid().to_string()])
        .current_dir("/")
        .uid(65534)
        .gid(65534);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    assert_refused(&Recording::start(command, scratch).wait(), 77);
}

#[test]
fn no_such_process() {
    let mut child = Command::new("true").spawn().expect("`true` can be run");
    let pid = child.id();
    child.wait().expect("a child can be waited for");
    let output = assert_refused_record(pid, &[], 4);
    assert!(output.stderr.contains(&pid.to_string()), "it does not name the process:\n{}", output.stderr);
}

#[test]
fn not_a_python() {
    let mut sleeper = Command::new("sleep").arg("1000").spawn().expect("`sleep` can be run");
    let output = Unshed::run(&["record", "-d", "1", "-p", &sleeper.id().to_string()]);
    sleeper.kill().expect("a child can be killed");
    sleeper.wait().expect("a child can be waited for");
    assert_refused(&output, 4);
    assert!(
        output.stderr.contains(&sleeper.id().to_string()),
        "it does not name the process:\n{}",
        output.stderr
    );
}

#[test]
fn a_version_that_is_not_supported() {
    for interpreter in unsupported() {
        let mut command = Command::new(&interpreter.path);
        command.args(["-c", "import os, sys; print('READY', os.getpid(), flush=True); sys.stdin.read()"]);
        let target = Target::start(command, "idle");
        let output = assert_refused_record(target.pid(), &[], 4);
        let minor: Vec<&str> = interpreter.version.split('.').take(2).collect();
        assert!(output.stderr.contains(&minor.join(".")), "it does not name the version:\n{}", output.stderr);
    }
}

#[test]
fn a_build_whose_hooks_would_be_incomplete() {
    let mut target = Target::spawn(debian(), "class_list.py", &[]);
    let output = assert_refused_record(target.pid(), &[&EXACT[..], &["--hooks", "functions"]].concat(), 4);
    assert!(
        output.stderr.contains("--incomplete"),
        "it does not say how to go on all the same:\n{}",
        output.stderr
    );

    let recording = Unshed::record(target.pid(), &["--hooks", "functions", "--incomplete"]);
    target.go();
    let output = recording.stop();
    let hooks = output.report().hooks.expect("the JSON report has hooks.complete");
    assert!(!hooks.complete, "functions of an inlined build are said to see everything");
    let said = output.stdout.to_lowercase();
    let said = said.contains("incomplete") || said.contains("not complete");
    assert!(said, "the text report does not say that the hooks are incomplete:\n{}", output.stdout);
    target.assert_unharmed();
}

#[test]
fn an_output_that_cannot_be_written() {
    let target = leaker();
    assert_refused_record(target.pid(), &["-o", "/nonexistent/folder/report.json"], 1);
    let scratch = Scratch::default();
    let folder = scratch.path("report.json");
    std::fs::create_dir(&folder).expect("/tmp takes a folder");
    let pid = target.pid().to_string();
    let output = Unshed::run(&["record", "-d", "1", "-p", &pid, "-o", &scratch.arg("report.json")]);
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "a folder as output ends with {}: {}",
        output.status,
        output.stderr
    );
}

#[test]
fn an_output_that_exists_is_not_overwritten_silently() {
    let target = leaker();
    let (pid, scratch) = (target.pid().to_string(), Scratch::default());
    let path = scratch.path("report.json");
    std::fs::write(&path, "precious").expect("/tmp takes a file");
    let args = ["record", "-d", "1", "-p", &pid, "-o", &scratch.arg("report.json")];
    let output = Unshed::run(&args);
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "an existing output ends with {}: {}",
        output.status,
        output.stderr
    );
    assert!(!output.stderr.contains("tracing "), "it refuses only after tracing:\n{}", output.stderr);
    assert_eq!(std::fs::read_to_string(&path).expect("it was there"), "precious", "the file was overwritten");
    Unshed::run(&[&args[..], &["--force"]].concat()).assert_code(0);
    let written = std::fs::read_to_string(&path).expect("it was there");
    assert!(written.starts_with('{'), "--force did not overwrite: {written}");
}

#[test]
fn an_unknown_suffix() {
    let target = leaker();
    let scratch = Scratch::default();
    let output = assert_refused_record(target.pid(), &["-o", &scratch.arg("report.docx")], 2);
    assert!(!scratch.path("report.docx").exists(), "it made the file all the same:\n{}", output.stderr);
}

#[test]
fn a_command_that_is_no_python_or_does_not_exist() {
    assert_refused(&Unshed::run(&["record", "--", "/bin/true"]), 4);
    let output = Unshed::run(&["record", "--", "/nonexistent/python"]);
    assert!(matches!(output.status.code(), Some(1 | 2 | 4)), "{}: {}", output.status, output.stderr);
}

#[test]
fn command_lines_that_make_no_sense() {
    let target = leaker();
    let pid = target.pid().to_string();
    let wrong: [&[&str]; 17] = [
        &["--no-such-flag"],
        &["no-such-command"],
        &["record"],
        &["record", "-p", "not-a-number"],
        &["record", "-p", &pid, "--", "python3", "x.py"],
        &["record", "-p", &pid, "-d", "-1"],
        &["record", "-p", &pid, "--domains", "no-such-domain"],
        &["record", "-p", &pid, "--max-depth", "0"],
        &["record", "-p", &pid, "--max-blocks", "none"],
        &["record", "-p", &pid, "--budget", "0"],
        &["record", "-p", &pid, "--window", "1s"],
        &["record", "-p", &pid, "--exact", "--budget", "1"],
        &["record", "-p", &pid, "--exact", "--when", "growing"],
        &["record", "-p", &pid, "--exact", "--watch"],
        &["record", "-p", &pid, "--watch", "--older", "1s"],
        &["record", "-p", &pid, "--ints", "--budget", "1"],
        &["report", "x.unshed", "-f", "no-such-format"],
    ];
    for args in wrong {
        let output = Unshed::run(args);
        output.assert_code(2);
        assert!(
            output.stdout.is_empty() && !output.stderr.is_empty(),
            "usage errors go to stderr: {output:?}"
        );
    }
}
