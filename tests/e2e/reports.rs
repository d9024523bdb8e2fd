//! The capture, and the outputs made of it: `unshed report`.

use std::sync::OnceLock;

use unshed_tests::harness::{EXACT, Output, Recording, Scratch, Target, Unshed};
use unshed_tests::interpreters::debian;
use unshed_tests::report::Report;
use unshed_tests::truth::Truth;

/// One capture for all tests of this module.
struct Capture {
    file: String,
    truth: Truth,
    recorded: Output,
}

fn capture() -> &'static Capture {
    static CAPTURE: OnceLock<Capture> = OnceLock::new();
    CAPTURE.get_or_init(|| {
        let mut target = Target::spawn(debian(), "dict_cache.py", &[]);
        let scratch = Scratch::default();
        let (pid, file) = (target.pid().to_string(), scratch.arg("capture.unshed"));
        let command = Unshed::command(&[&["record", "-p", &pid, "-o", &file][..], &EXACT].concat());
        let mut recording = Recording::start(command, scratch);
        recording.armed();
        let truth = target.go();
        let recorded = recording.stop();
        recorded.assert_code(0);
        Capture { file, truth, recorded }
    })
}

fn report(args: &[&str]) -> String {
    let output = Unshed::run(&[&["report", &capture().file], args].concat());
    output.assert_code(0);
    output.stdout
}

#[test]
fn the_text_is_the_one_that_record_has_printed() {
    let printed = report(&[]);
    assert_eq!(printed, report(&["-f", "text"]), "text is the default");
    assert_eq!(
        printed.trim(),
        capture().recorded.stdout.trim(),
        "`report` says something else than `record` has said"
    );
}

#[test]
fn the_json_tells_the_truth() {
    let text = report(&["-f", "json"]);
    capture().truth.assert_told_by(&Report::parse(&text));
}

/// Debian's interpreter is one file, from which every block of this program comes: only Python frames are left, and the figures stay.
#[test]
fn the_interpreter_can_be_hidden() {
    let whole = Report::parse(&report(&["-f", "json"]));
    let hidden = Report::parse(&report(&["-f", "json", "--hide-interpreter"]));
    let own = |report: &Report| {
        let frames = report.sites.iter().filter(|site| site.stack.iter().any(|frame| frame.kind == "python"));
        frames
            .flat_map(|site| &site.stack)
            .filter(|frame| frame.module.as_deref() == Some("python3.11"))
            .count()
    };
    assert!(own(&whole) > 0, "the capture has frames of the interpreter");
    assert_eq!(own(&hidden), 0);
    assert!(
        hidden
            .sites
            .iter()
            .zip(&whole.sites)
            .all(|(one, other)| one.stack.is_empty() == other.stack.is_empty())
    );
    capture().truth.assert_told_by(&hidden);
    assert!(!report(&["--hide-interpreter"]).contains("[python3.11]"));
}

#[test]
fn a_file_gets_what_stdout_would() {
    for format in ["text", "json", "folded", "svg"] {
        let scratch = Scratch::default();
        let out = scratch.arg("out");
        let said = report(&["-f", format, "-o", &out]);
        assert!(said.is_empty(), "with -o there is nothing for stdout: {said}");
        let written = std::fs::read_to_string(&out).expect("the output was written");
        assert_eq!(written, report(&["-f", format]), "{format} differs between file and stdout");
    }
}

#[test]
fn the_folded_stacks_add_up_to_the_live_bytes() {
    let total = Report::parse(&report(&["-f", "json"])).totals.live_bytes;
    let folded = report(&["-f", "folded"]);
    let mut sum = 0;
    for line in folded.lines() {
        let (stack, bytes) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no folded stack: {line:?}"));
        assert!(!stack.is_empty(), "a stack without frames: {line:?}");
        sum +=
            bytes.parse::<u64>().unwrap_or_else(|error| panic!("no count at the end of {line:?}: {error}"));
    }
    assert_eq!(sum, total, "the folded stacks' bytes and the live bytes");
    let leak = folded.lines().find(|line| line.contains("lookup"));
    let leak = leak.unwrap_or_else(|| panic!("the leak is not among the folded stacks:\n{folded}"));
    let root = leak.find("<module>").expect("the stack begins at the module");
    assert!(
        root < leak.find("lookup").expect("it was found above"),
        "folded stacks go from the root inwards: {leak}"
    );
}

#[test]
fn the_flame_graph_is_an_svg_that_names_the_leak() {
    let svg = report(&["-f", "svg"]);
    assert!(svg.contains("<svg") && svg.trim_end().ends_with("</svg>"), "this is no SVG");
    assert!(svg.contains("lookup"), "the flame graph does not name the leaking function");
}

#[test]
fn an_output_that_exists_is_not_overwritten() {
    let scratch = Scratch::default();
    let out = scratch.arg("out.json");
    std::fs::write(&out, "precious").expect("/tmp takes a file");
    let output = Unshed::run(&["report", &capture().file, "-f", "json", "-o", &out]);
    assert!(
        matches!(output.status.code(), Some(1 | 2)),
        "it ended with {}: {}",
        output.status,
        output.stderr
    );
    assert_eq!(std::fs::read_to_string(&out).expect("it was there"), "precious", "the file was overwritten");
    Unshed::run(&["report", &capture().file, "-f", "json", "-o", &out, "--force"]).assert_code(0);
}

/// Asserts that a file is refused as a capture: exit code 1, one or two lines that name it.
fn assert_no_capture(name: &str, bytes: &[u8]) {
    let scratch = Scratch::default();
    let path = scratch.arg(name);
    std::fs::write(&path, bytes).expect("/tmp takes a file");
    let output = Unshed::run(&["report", &path]);
    output.assert_code(1);
    assert!(output.stdout.is_empty(), "half a report was printed for {name}:\n{}", output.stdout);
    assert!(output.stderr.contains(name), "the message does not name {name}:\n{}", output.stderr);
    let lines = output.stderr.lines().filter(|line| !line.trim().is_empty()).count();
    assert!((1..=2).contains(&lines), "{lines} lines instead of one or two:\n{}", output.stderr);
}

#[test]
fn a_capture_that_is_cut_short_or_none_at_all_is_refused() {
    let whole = std::fs::read(&capture().file).expect("the capture was written");
    for (name, len) in [("empty", 0), ("start", 4), ("half", whole.len() / 2), ("almost", whole.len() - 1)] {
        assert_no_capture(&format!("{name}.unshed"), &whole[..len]);
    }
    let mut damaged = whole.clone();
    let middle = whole.len() / 2;
    damaged[middle] ^= 0x55;
    assert_no_capture("damaged.unshed", &damaged);
    assert_no_capture("nonsense.unshed", b"this was never a capture\n");
}

#[test]
fn a_capture_that_does_not_exist_is_refused() {
    let output = Unshed::run(&["report", "/nonexistent/capture.unshed"]);
    output.assert_code(1);
    assert!(
        output.stderr.contains("/nonexistent/capture.unshed"),
        "the message names no file:\n{}",
        output.stderr
    );
}
