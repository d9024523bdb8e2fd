//! Processes and threads that come and go: fork, exec, short-lived threads.

use unshed_tests::harness::{Target, Unshed, assert_no_traps, is_alive};
use unshed_tests::interpreters::debian;

use crate::record;

#[test]
fn children_that_free_what_they_inherited_change_nothing() {
    let mut target = Target::spawn(debian(), "forker.py", &[]);
    let recording = Unshed::record(target.pid(), &[]);
    let truth = target.go();
    let child = u32::try_from(truth.fact("child")).expect("a pid");
    let report = recording.stop().report();
    truth.assert_told_by(&report);
    assert!(is_alive(child), "the target's child did not survive");
    assert_no_traps(child);
    target.assert_unharmed();
    assert!(target.quit().success());
}

#[test]
fn a_target_that_becomes_another_program_ends_the_recording() {
    let mut target = Target::spawn(debian(), "execs.py", &[]);
    let recording = Unshed::record(target.pid(), &[]);
    let truth = target.go();
    target.send("exec");
    let report = recording.wait().report();
    truth.leaks[0].assert_told_by(&report, truth.inlined);
    target.ready();
    target.assert_unharmed();
    let again = target.go();
    assert_eq!(
        again.leaks[0].blocks, truth.leaks[0].blocks,
        "the new program does not work as the old one did"
    );
}

#[test]
fn two_hundred_threads_that_come_and_go() {
    let (report, truth) = record(debian(), "threads_come_and_go.py", &[]);
    truth.assert_told_by(&report);
    assert_eq!(report.loss("thread_map_full"), 0, "the map of threads does not forget those that have gone");
}
