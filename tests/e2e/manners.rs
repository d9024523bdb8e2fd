//! However it ends, the target lives on at full speed: no trap is left in it, which is proved by reading its code.

use std::time::Duration;

use unshed_tests::harness::{EXACT, Target, Unshed, assert_no_traps, is_alive, traps_of, wait_until};
use unshed_tests::interpreters::{any_supported, debian};

/// How often the tracer is killed.
const KILLS: usize = 50;

/// A program that allocates and frees at full speed in four threads.
fn storm() -> Target {
    Target::spawn(any_supported(), "storm.py", &["4"])
}

/// The same in the build that takes the most probe points: Debian's, with hundreds of inlined allocators.
fn storm_of_inlined() -> Target {
    Target::spawn(debian(), "storm.py", &["4"])
}

/// Asserts that all of a storm's threads still go round.
fn assert_rages_on(target: &mut Target) {
    target.assert_unharmed();
    let before = target.ask("count")["slowest"].as_u64();
    wait_until("all threads of the storm have gone on", Duration::from_secs(30), || {
        target.ask("count")["slowest"].as_u64() > before
    });
}

#[test]
fn while_tracing_there_are_traps() {
    let target = storm_of_inlined();
    assert_no_traps(target.pid());
    let recording = Unshed::record(target.pid(), &[]);
    let traps = traps_of(target.pid()).expect("the target lives");
    assert!(
        !traps.is_empty(),
        "unshed says that it traces, but no code has changed: the other tests here prove nothing"
    );
    assert!(traps.iter().all(|trap| trap.byte == 0xcc), "something else than a trap was written: {traps:x?}");
    drop(recording.stop());
}

#[test]
fn ctrl_c_ends_with_a_report() {
    let mut target = storm();
    let report = Unshed::record(target.pid(), &[]).stop().report();
    assert!(report.seconds < 60.0, "{} s", report.seconds);
    assert_rages_on(&mut target);
}

#[test]
fn sigterm_ends_with_a_report() {
    let mut target = storm_of_inlined();
    let recording = Unshed::record(target.pid(), &[]);
    recording.signal(libc::SIGTERM);
    let _checked = recording.wait().report();
    assert_rages_on(&mut target);
}

#[test]
fn the_elapsed_duration_ends_with_a_report() {
    let mut target = storm();
    let report = Unshed::record(target.pid(), &["-d", "1"]).wait().report();
    assert!((0.99..10.0).contains(&report.seconds), "-d 1 recorded {} s", report.seconds);
    assert!(
        report.cost.hits > 0 && report.totals.allocated_blocks > 0,
        "a storm was not seen: {:?}",
        report.totals
    );
    assert_rages_on(&mut target);
}

#[test]
fn a_second_ctrl_c_aborts() {
    let mut target = storm();
    let recording = Unshed::record(target.pid(), &[]);
    recording.signal(libc::SIGINT);
    recording.signal(libc::SIGINT);
    let output = recording.wait();
    eprintln!("ended with {} after two Ctrl-C", output.status);
    assert_rages_on(&mut target);
}

#[test]
fn a_target_that_ends_by_itself_ends_the_recording() {
    let mut target = Target::spawn(any_supported(), "exits.py", &[]);
    let recording = Unshed::record(target.pid(), &[]);
    let truth = target.go();
    assert_eq!(target.wait().code(), Some(3), "the target's own exit code");
    let report = recording.wait().report();
    truth.assert_told_by(&report);
}

#[test]
fn a_target_that_is_killed_ends_the_recording() {
    let mut target = storm_of_inlined();
    let recording = Unshed::record(target.pid(), &[]);
    target.kill();
    let report = recording.wait().report();
    assert_eq!(report.target.pid, target.pid());
}

#[test]
fn a_target_killed_after_its_leak_is_still_told_of() {
    let mut target = Target::spawn(debian(), "class_list.py", &[]);
    let recording = Unshed::record(target.pid(), &[]);
    let truth = target.go();
    target.kill();
    truth.assert_told_by(&recording.wait().report());
}

#[test]
fn a_killed_tracer_leaves_no_trap_fifty_times() {
    let mut targets = [storm(), storm_of_inlined()];
    for time in 1..=KILLS {
        // Where allocators are inlined, attaching takes longer: every fifth time will do.
        let target = &targets[usize::from(time % 5 == 0)];
        let recording = Unshed::record(target.pid(), &[]);
        recording.kill(target.pid());
        assert!(is_alive(target.pid()), "the target died when the tracer was killed for the {time}th time");
        assert_no_traps(target.pid());
    }
    targets.iter_mut().for_each(assert_rages_on);
}

#[test]
fn a_tracer_killed_while_it_attaches_leaves_no_trap() {
    let mut target = storm_of_inlined();
    let pid = target.pid().to_string();
    for _ in 0..5 {
        let command = Unshed::command(&[&["record", "-p", &pid], &EXACT[..]].concat());
        let recording =
            unshed_tests::harness::Recording::start(command, unshed_tests::harness::Scratch::default());
        wait_until("the first trap is in", Duration::from_secs(60), || {
            traps_of(target.pid()).is_ok_and(|traps| !traps.is_empty())
        });
        recording.kill(target.pid());
        assert_rages_on(&mut target);
    }
}

#[test]
fn recording_twice_in_a_row_and_by_two_at_once_works() {
    let mut target = storm_of_inlined();
    let first = Unshed::record(target.pid(), &[]);
    let second = Unshed::record(target.pid(), &[]);
    let one = first.stop().report();
    let other = second.stop().report();
    assert!(one.totals.allocated_blocks > 0 && other.totals.allocated_blocks > 0);
    assert_rages_on(&mut target);
}
