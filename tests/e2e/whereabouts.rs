//! Where the target lives: in other namespaces, below another root, from files that are gone or replaced. What is read, trapped and named is always what it runs, never what
//! stands under the same name where the tool is; and whoever shares its files pays nothing.

mod cgroups;
mod inside;
mod room;

use std::os::unix::fs::MetadataExt;

use serde_json::Value;
use unshed_tests::harness::{
    EXACT, Output, Recording, Scratch, Target, Unshed, assert_no_traps, program, traps_of,
};
use unshed_tests::interpreters::{Which, debian, on_each};
use unshed_tests::report::Report;
use unshed_tests::stacks::{Native, Row, assert_told};
use unshed_tests::truth::Truth;

use room::{ALL, Place, ROOMS};

const PROGRAM: &str = "whereabouts.py";

/// The report as JSON.
fn json(output: &Output) -> Value {
    let text = std::fs::read_to_string(output.scratch.path("report.json")).expect("there is a report");
    serde_json::from_str(&text).expect("it is JSON")
}

/// Asserts that both leaks are told with their lines and their counts: nobody else's blocks are among them.
fn assert_both_told(report: &Report, truth: &Truth) {
    truth.leaks[0].assert_told_by(report, truth.inlined);
    assert_told(&Row::all(truth), report, Native::Leaf);
    assert!(report.hooks.as_ref().is_some_and(|hooks| hooks.complete));
}

/// Records exactly what a target does when it is told to go.
fn assert_recorded(target: &mut Target) -> Output {
    let recording = Unshed::record(target.pid(), &[]);
    assert!(!traps_of(target.pid()).expect("it lives").is_empty(), "there is no trap in it");
    let truth = target.go();
    let output = recording.stop();
    let report = output.report();
    assert_both_told(&report, &truth);
    assert_eq!(report.target.pid, target.pid(), "the report is about another process");
    target.assert_unharmed();
    output
}

/// In each kind of namespace, with files that are others, or none, under the same names outside.
#[test]
fn a_target_in_other_namespaces_is_told_as_it_sees_itself() {
    on_each(|interpreter| {
        for room in ROOMS {
            eprintln!("— {room:?}");
            let place = Place::new(interpreter);
            let mut target = place.start(room, PROGRAM, &[]);
            drop(assert_recorded(&mut target));
            assert!(target.quit().success());
        }
    });
}

#[test]
fn a_target_in_all_namespaces_is_sampled() {
    on_each(|interpreter| {
        let place = Place::new(interpreter);
        let mut target = place.start(&ALL, "sample_leaks.py", &["line"]);
        let recording = Unshed::record_as_typed(target.pid(), &["--budget", "4"]);
        let truth = target.tell("go 3000");
        let output = recording.stop();
        crate::sample::assert_line_found(&output.report(), &truth);
        target.assert_unharmed();
    });
}

#[test]
fn a_target_in_all_namespaces_is_watched() {
    on_each(|interpreter| {
        let place = Place::new(interpreter);
        let mut target = place.start(&ALL, PROGRAM, &[]);
        let recording = Unshed::record_as_typed(target.pid(), &["--watch"]);
        let truth = target.go();
        let report = recording.stop().report();
        let leak = &truth.leaks[0];
        assert!(!leak.sites(&report).is_empty(), "{} is not told\n{}", leak.place(), report.worst());
        target.assert_unharmed();
    });
}

/// Below a root of its own, in namespaces of its own. At home, the extension's name is another build's.
#[test]
fn a_target_below_another_root_is_told_as_it_sees_itself() {
    for minor in [13, 14] {
        let interpreter = &Which::Chroot(minor).find()[0];
        let place = Place::new(interpreter);
        let mut target = place.start_below_root(PROGRAM);
        let output = assert_recorded(&mut target);
        let told = &json(&output)["target"];
        let root = interpreter.root.as_ref().expect("it has one").display().to_string();
        // In a mount namespace of its own, its root's path is one of that.
        assert_eq!(told["root"], root, "{told}");
    }
}

/// An upgrade in place: the names are other files' now.
#[test]
fn files_that_were_replaced_while_they_run_are_still_the_ones_that_run() {
    on_each(|interpreter| {
        let place = Place::new(interpreter);
        let mut target = place.start_here(PROGRAM);
        let running = place.mapped_by(&target);
        place.replace();
        assert_all_deleted(&target, &running);
        let output = assert_recorded(&mut target);
        let executable = output.report().target.executable;
        assert!(executable.ends_with(" (deleted)"), "{executable}");
    });
}

#[test]
fn files_that_were_removed_while_they_run_are_still_known() {
    on_each(|interpreter| {
        let place = Place::new(interpreter);
        let mut target = place.start_here(PROGRAM);
        let running = place.mapped_by(&target);
        place.remove();
        assert_all_deleted(&target, &running);
        drop(assert_recorded(&mut target));
    });
}

/// The test itself: what runs are the files that are gone.
fn assert_all_deleted(target: &Target, running: &[String]) {
    let maps = std::fs::read_to_string(format!("/proc/{}/maps", target.pid())).expect("the target lives");
    assert!(running.len() >= 2, "{running:?}");
    for file in running {
        assert!(maps.contains(&format!("{file} (deleted)")), "{file} is mapped still:\n{maps}");
    }
}

/// What a command runs in a mount namespace of its own is not what stands under that name here.
#[test]
fn a_command_that_is_started_in_other_namespaces_is_told_as_it_sees_itself() {
    on_each(|interpreter| {
        let place = Place::new(interpreter);
        let scratch = Scratch::default();
        let file = scratch.arg("report.json");
        let mut command = Unshed::command(&[&["record", "-o", &file][..], &EXACT, &["--"]].concat());
        place.append(&mut command, &room::MOUNT, &program(PROGRAM).display().to_string(), &["now"]);
        let output = Recording::start(command, scratch).wait();
        let (report, truth) = (output.report(), Truth::among(&output.stdout));
        assert_eq!(report.target.python, interpreter.version);
        truth.leaks[0].assert_told_by(&report, interpreter.inlined);
        unshed_tests::stacks::assert_shown(&Row::all(&truth), &report, Native::Leaf);
    });
}

/// Two containers of one image: the kernel knows their interpreter as one file.
#[test]
fn who_shares_the_interpreters_file_has_no_trap_and_is_not_counted() {
    on_each(|interpreter| {
        let room = room::CONTAINER;
        let spawn = || room::start(interpreter, &room, PROGRAM);
        let (mut one, mut other) = (spawn(), spawn());
        let inode = |target: &Target| {
            std::fs::metadata(format!("/proc/{}/exe", target.pid())).map(|file| (file.dev(), file.ino()))
        };
        assert_eq!(inode(&one).expect("it lives"), inode(&other).expect("it lives"), "they share no file");
        let recording = Unshed::record(one.pid(), &[]);
        assert!(!traps_of(one.pid()).expect("it lives").is_empty());
        assert_eq!(traps_of(other.pid()).expect("it lives"), []);
        drop(other.go());
        let truth = one.go();
        // Neither has one that is started while the traps are in.
        let mut third = spawn();
        drop(third.go());
        assert_eq!(traps_of(third.pid()).expect("it lives"), []);
        assert_eq!(traps_of(other.pid()).expect("it lives"), []);
        let report = recording.stop().report();
        assert_both_told(&report, &truth);
        one.assert_unharmed();
    });
}

#[test]
fn a_killed_tool_leaves_no_trap_in_a_container() {
    let place = Place::new(debian());
    let mut target = place.start(&ALL, PROGRAM, &[]);
    Unshed::record(target.pid(), &[]).kill(target.pid());
    drop(target.go());
    assert_no_traps(target.pid());
    assert!(target.quit().success());
}

#[test]
fn threads_and_exec_in_a_container_are_as_outside() {
    let mut target = room::start(debian(), &room::CONTAINER, "threads_come_and_go.py");
    let recording = Unshed::record(target.pid(), &[]);
    let truth = target.go();
    let report = recording.stop().report();
    truth.assert_told_by(&report);
    assert_eq!(report.loss("thread_map_full"), 0, "the map of threads does not forget those that have gone");
    target.assert_unharmed();

    let mut target = room::start(debian(), &room::CONTAINER, "execs.py");
    let recording = Unshed::record(target.pid(), &[]);
    let truth = target.go();
    target.send("exec");
    let report = recording.wait().report();
    truth.leaks[0].assert_told_by(&report, truth.inlined);
    target.ready_within();
    target.assert_unharmed();
}
