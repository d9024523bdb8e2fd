//! Whatever the build, the hooks are complete, and that is checked and said.

use std::path::{Path, PathBuf};
use std::process::Command;

use unshed_tests::harness::{Launch, Scratch, Target, Unshed};
use unshed_tests::interpreters::{any_supported, on_each, supported};
use unshed_tests::report::Report;

use crate::{record, record_launched};

/// A build with inlined allocators has them at dozens of places at least; Debian's 3.11.2 has them at 172.
const INLINED_AT_LEAST: u64 = 20;

/// Asserts that a report says that its hooks are complete, at how many places, and that this was checked.
fn assert_complete_and_checked(report: &Report, inlined: bool) {
    let hooks = report.hooks.as_ref().expect("the JSON report has hooks");
    assert!(hooks.complete, "the hooks are said to be incomplete: {hooks:?}");
    assert!(hooks.reason.contains("checked"), "it is not said that the hooks were checked: {hooks:?}");
    let numbers = hooks.reason.split(|letter: char| !letter.is_ascii_digit());
    let most = numbers.filter_map(|digits| digits.parse::<u64>().ok()).max();
    let least = if inlined { INLINED_AT_LEAST } else { 1 };
    assert!(most.is_some_and(|most| most >= least), "the number of places is not said: {hooks:?}");
    assert!(hooks.points >= most.unwrap_or(0).min(least), "more places than probe points: {hooks:?}");
}

#[test]
fn the_hooks_are_complete_and_that_was_checked() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "class_list.py", &[]);
        truth.assert_told_by(&report);
        assert_complete_and_checked(&report, interpreter.inlined);
    });
}

#[test]
fn the_text_says_that_the_hooks_are_complete() {
    on_each(|interpreter| {
        let mut target = Target::spawn(interpreter, "class_list.py", &[]);
        let recording = Unshed::record(target.pid(), &[]);
        target.go();
        let output = recording.stop();
        output.assert_code(0);
        let line = output.stdout.lines().find(|line| line.trim_start().starts_with("hooks"));
        let line = line.unwrap_or_else(|| panic!("the text does not tell of the hooks:\n{}", output.stdout));
        assert!(line.contains("complete") && !line.to_lowercase().contains("incomplete"), "{line}");
    });
}

#[test]
fn ps_lists_the_pythons_with_version_build_and_complete_hooks() {
    let targets: Vec<Target> =
        supported().iter().map(|interpreter| Target::spawn(interpreter, "class_list.py", &[])).collect();
    let output = Unshed::run(&["ps"]);
    output.assert_code(0);
    for (target, interpreter) in targets.iter().zip(supported()) {
        let pid = target.pid().to_string();
        let mut lines = output.stdout.lines();
        let line = lines.find(|line| line.split_whitespace().any(|word| word == pid));
        let line = line.unwrap_or_else(|| panic!("ps does not list {pid}:\n{}", output.stdout));
        for needed in [interpreter.version.as_str(), interpreter.kind(), " complete"] {
            assert!(line.contains(needed), "ps does not say {needed:?} of {interpreter}: {line}");
        }
    }
}

/// Copies a libpython and takes all symbols and debug information from the copy but those that the linker needs.
fn strip(library: &Path, folder: &Scratch) -> PathBuf {
    let name = library.file_name().expect("a library has a name").to_string_lossy().into_owned();
    let copy = folder.path(&name);
    let mut strip = Command::new("strip");
    strip.arg("--strip-all").arg(library).arg("-o").arg(&copy);
    let output =
        strip.output().unwrap_or_else(|error| panic!("cannot run strip ({error}): apt-get install binutils"));
    assert!(output.status.success(), "strip fails: {}", String::from_utf8_lossy(&output.stderr));
    let (whole, stripped) = (size_of(library), size_of(&copy));
    assert!(stripped < whole, "{} had nothing to strip", library.display());
    copy
}

fn size_of(path: &Path) -> u64 {
    let facts = std::fs::metadata(path);
    facts.unwrap_or_else(|error| panic!("cannot look at {}: {error}", path.display())).len()
}

/// pyenv's executable, to be started with a library of this folder instead of its own (its own is in its RUNPATH, which is looked at
/// after `LD_LIBRARY_PATH`).
fn with_library_of(folder: &Scratch) -> Launch<'static> {
    Target::on(any_supported()).env("LD_LIBRARY_PATH", &folder.arg(""))
}

#[test]
fn a_stripped_libpython_is_hooked_completely_too() {
    let interpreter = any_supported();
    let folder = Scratch::default();
    let copy = strip(interpreter.library.as_deref().expect("pyenv's build is shared"), &folder);
    let target = with_library_of(&folder).spawn("class_list.py", &[]);
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("the target lives");
    assert!(maps.contains(&copy.display().to_string()), "the stripped copy is not what runs:\n{maps}");
    drop(target);
    for program in ["class_list.py", "many_blocks.py", "honest.py"] {
        let (report, truth) = record_launched(with_library_of(&folder), interpreter, program, &[]);
        truth.assert_told_by(&report);
        assert_complete_and_checked(&report, false);
        let invented = report.sites.iter().find(|site| truth.leaks.is_empty() && site.verdict == "leak");
        assert!(invented.is_none(), "an honest site is called a leak: {invented:?}\n{}", report.worst());
        assert_eq!(report.loss("address_reborn"), 0, "a free was missed\n{}", report.worst());
    }
}
