//! Names for machine code: stripped libraries with their debug information elsewhere, files that are gone, mount namespaces, captures named later.

mod library;

use std::path::Path;
use std::process::Command;

use library::Library;
use unshed_tests::harness::{EXACT, Output, Recording, Scratch, Target, Unshed, program};
use unshed_tests::interpreters::{Interpreter, any_supported, debian};
use unshed_tests::report::{Frame, Report};

/// Blocks that each function leaks.
const COUNT: u64 = 1000;
/// What the one and the other ask for.
const HIDDEN: u64 = 777;
const INLINED: u64 = 1333;

/// The program with a library, as a command line.
fn python(interpreter: &Interpreter, library: &str) -> Vec<String> {
    let paths = [interpreter.path.as_path(), &program("names.py"), Path::new(library)]
        .map(|path| path.display().to_string());
    paths.to_vec()
}

fn spawn(interpreter: &Interpreter, library: &str) -> Target {
    let line = python(interpreter, library);
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    Target::start(command, "names.py")
}

/// The way of most tests: the program leaks while it is recorded.
fn leak(library: &Library, more: &[&str]) -> Report {
    let mut target = spawn(any_supported(), &library.arg());
    let recording = record(&target, more);
    target.ask("go");
    let report = recording.stop().report();
    target.assert_unharmed();
    report
}

fn record(target: &Target, more: &[&str]) -> Recording {
    Unshed::record(target.pid(), &[&["--domains", "libc"], more].concat())
}

/// The native frames of the library on the stack of the blocks of one size, innermost first.
fn frames(report: &Report, size: u64) -> Vec<Frame> {
    let bytes = size * COUNT;
    let site = report.sites.iter().find(|site| site.live_blocks == COUNT && site.live_bytes == bytes);
    let site =
        site.unwrap_or_else(|| panic!("no site has {COUNT} blocks of {size} bytes\n{}", report.worst()));
    let own = |frame: &&Frame| frame.module.as_deref() == Some("libnames.so");
    let frames: Vec<Frame> = site.stack.iter().filter(own).cloned().collect();
    assert!(!frames.is_empty(), "no frame of the library is on {:#?}", site.stack);
    frames
}

fn assert_is(frame: &Frame, function: &str, mark: &str, inlined: bool) {
    let file = frame.file.as_deref().unwrap_or_default();
    assert_eq!((frame.function.as_str(), frame.inlined), (function, inlined), "{frame:?}");
    assert!(file.ends_with("names.c"), "{frame:?}");
    assert_eq!(frame.line, Some(Library::line(mark)), "{frame:?}");
    assert_eq!(frame.unnamed, None);
}

/// Both leaks have their functions and lines, and the one that was inlined the function into which it was.
fn assert_named(report: &Report) {
    assert_is(&frames(report, HIDDEN)[0], "hidden", "HIDDEN", false);
    let inlined = frames(report, INLINED);
    assert_is(&inlined[0], "grow", "INLINED", true);
    assert_is(&inlined[1], "leak_inlined", "grow((size_t)size)", false);
}

/// The static function has no name, and the reason is said; the exported one has its own.
fn assert_nameless(report: &Report, build_id: &str) {
    let hidden = &frames(report, HIDDEN)[0];
    assert!(hidden.function.starts_with("<libnames.so+0x"), "{hidden:?}");
    assert_eq!((&hidden.file, hidden.line), (&None, None));
    assert_eq!(hidden.unnamed.as_deref(), Some(format!("no symbols in libnames.so ({build_id})").as_str()));
    let exported = &frames(report, INLINED)[0];
    assert_eq!((exported.function.as_str(), exported.inlined), ("leak_inlined", false), "{exported:?}");
    assert_eq!((exported.line, &exported.unnamed), (None, &None));
}

#[test]
fn debug_information_in_a_build_id_directory_gives_names() {
    let library = Library::build(&[]).detach("names.debug");
    let folder = library.by_build_id("names.debug", "debug");
    assert_named(&leak(&library, &["--debug-dir", folder.to_str().expect("a path of ours")]));
}

#[test]
fn debug_information_behind_a_debug_link_gives_names() {
    assert_named(&leak(&Library::build(&[]).detach("names.debug").link("names.debug"), &[]));
    let without_build_id = Library::build(&["-Wl,--build-id=none"]).detach("names.debug").link("names.debug");
    assert_named(&leak(&without_build_id, &[]));
}

#[test]
fn a_stripped_library_has_the_names_of_what_it_exports_and_reasons_for_the_rest() {
    let library = Library::build(&[]).strip();
    let report = leak(&library, &[]);
    let id = library.build_id();
    assert_nameless(&report, &format!("build id {id}"));
    let hidden = &frames(&report, HIDDEN)[0];
    assert_eq!(hidden.module_path.as_deref(), Some(library.arg().as_str()));
    assert_eq!(hidden.build_id.as_deref(), Some(id.as_str()));
    assert!(hidden.module_offset.is_some_and(|offset| offset > 0), "{hidden:?}");
    let bare = Library::build(&["-Wl,--build-id=none"]).strip();
    assert_nameless(&leak(&bare, &[]), "no build id");
}

#[test]
fn a_library_that_was_replaced_on_disk_is_named_by_the_file_that_is_mapped() {
    let library = Library::build(&[]);
    let mut target = spawn(debian(), &library.arg());
    std::fs::remove_file(library.arg()).expect("it is ours");
    std::fs::write(library.arg(), "another file").expect("/tmp takes a file");
    let recording = record(&target, &[]);
    target.ask("go");
    // The target is gone, too, when names are asked for.
    assert!(target.quit().success());
    assert_named(&recording.wait().report());
}

#[test]
fn a_library_that_was_unloaded_is_still_named() {
    let library = Library::build(&[]).detach("names.debug").link("names.debug");
    let mut target = spawn(any_supported(), &library.arg());
    let recording = record(&target, &[]);
    target.ask("go");
    let answer = target.ask("close");
    assert_eq!(answer["mapped"], false, "the library cannot be unloaded");
    assert_named(&recording.stop().report());
    target.assert_unharmed();
}

/// The addresses are the same, the stacks are the same, nothing is unknown: only the file is another one. It is noticed at the next look, a quarter of a second later.
#[test]
fn a_library_in_the_place_of_another_is_named_for_itself() {
    let (library, other) = (Library::build(&[]), Library::build(&["-Dhidden=other"]));
    let mut line = python(any_supported(), &library.arg());
    line.push(other.arg());
    let mut command = Command::new(&line[0]);
    command.args(&line[1..]);
    let mut target = Target::start(command, "names.py");
    let recording = record(&target, &[]);
    target.ask("go");
    assert_eq!(target.ask("close")["mapped"], false, "the library cannot be unloaded");
    let answer = target.ask("reopen");
    assert_eq!(
        answer["same"], true,
        "the dynamic loader has put it elsewhere, which proves nothing: {answer}"
    );
    let report = recording.stop().report();
    let blocks = |function: &str| -> u64 {
        let sites = report.sites.iter().filter(|site| site.live_bytes == site.live_blocks * HIDDEN);
        let of = sites.filter(|site| site.stack.iter().any(|frame| frame.function == function));
        of.map(|site| site.live_blocks).sum()
    };
    let count = answer["count"].as_u64().expect("it counts");
    assert_eq!(blocks("hidden") + blocks("other"), COUNT + count, "{}", report.worst());
    assert!(blocks("other") > count / 2, "{} of {count}\n{}", blocks("other"), report.worst());
    target.assert_unharmed();
}

#[test]
fn files_of_another_mount_namespace_are_read_there() {
    let by_link = Library::build(&["-Wl,--build-id=none"]).detach("names.debug").link("names.debug");
    let by_build_id = Library::build(&[]).detach("names.debug");
    let folder = by_build_id.by_build_id("names.debug", "debug");
    // Distributions make this folder; where there is none, there is nothing to mount on.
    std::fs::create_dir_all("/usr/lib/debug").expect("the tests run as root");
    for (library, setup) in [
        (&by_link, format!("mkdir /mnt/.debug && cp {} /mnt/.debug/", by_link.path("names.debug").display())),
        (&by_build_id, format!("mount --bind {} /usr/lib/debug", folder.display())),
    ] {
        let inside = "/mnt/libnames.so";
        let before =
            format!("mount -t tmpfs tmpfs /mnt && {setup} && cp {} {inside} && exec \"$@\"", library.arg());
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &before, "sh"]).args(python(any_supported(), inside));
        let mut target = Target::start(command, "names.py in a mount namespace");
        assert!(!Path::new(inside).exists(), "it is in our mount namespace, too");
        let recording = record(&target, &[]);
        target.ask("go");
        assert!(target.quit().success());
        let report = recording.wait().report();
        assert_named(&report);
        assert_eq!(frames(&report, HIDDEN)[0].module_path.as_deref(), Some(inside));
    }
}

/// A report made of a capture.
fn reported(capture: &str, more: &[&str]) -> Output {
    let output = Unshed::run(&[&["report", capture], more].concat());
    output.assert_code(0);
    output
}

#[test]
fn a_capture_is_named_later_with_debug_files_from_elsewhere() {
    let library = Library::build(&[]).detach("names.debug");
    let mut target = spawn(debian(), &library.arg());
    let scratch = Scratch::default();
    let (pid, capture) = (target.pid().to_string(), scratch.arg("capture.unshed"));
    let args = [&["record", "-p", &pid, "-o", &capture, "--domains", "libc"], &EXACT[..]].concat();
    let mut recording = Recording::start(Unshed::command(&args), scratch);
    recording.armed();
    target.ask("go");
    let recorded = recording.stop();
    recorded.assert_code(0);
    drop(target);
    let id = library.build_id();
    let sentence = format!("no symbols in libnames.so (build id {id})");
    assert_eq!(
        recorded.stdout.matches(&sentence).count(),
        1,
        "the reason is told once:\n{}",
        recorded.stdout
    );
    let report = Report::parse(&reported(&capture, &["-f", "json"]).stdout);
    assert_nameless(&report, &format!("build id {id}"));
    let folded = reported(&capture, &["-f", "folded"]).stdout;
    assert!(folded.contains(";<libnames.so+0x"), "{folded}");

    let folder = library.by_build_id("names.debug", "debug").display().to_string();
    std::fs::remove_file(library.arg()).expect("it is ours");
    let elsewhere = Scratch::default().arg("");
    std::fs::create_dir_all(&elsewhere).expect("/tmp takes a folder");
    let nothing = reported(&capture, &["--debug-dir", &elsewhere]);
    assert!(nothing.stderr.contains("no file there"), "{}", nothing.stderr);
    let dirs = ["--debug-dir", &elsewhere, "--debug-dir", &folder];
    assert_named(&Report::parse(&reported(&capture, &[&["-f", "json"], &dirs[..]].concat()).stdout));
    let text = reported(&capture, &dirs).stdout;
    assert!(text.contains("hidden") && !text.contains("<libnames.so+"), "{text}");
    assert!(reported(&capture, &[&["-f", "folded"], &dirs[..]].concat()).stdout.contains(";hidden ("));
    drop(std::fs::remove_dir_all(elsewhere));
}

#[test]
fn a_folder_of_debug_files_that_does_not_exist_is_refused() {
    let mut target = spawn(any_supported(), &Library::build(&[]).arg());
    let output = Unshed::run(&["record", "-p", &target.pid().to_string(), "--debug-dir", "/no/such/folder"]);
    output.assert_code(1);
    assert!(output.stderr.contains("/no/such/folder"), "{}", output.stderr);
    target.assert_unharmed();
}
