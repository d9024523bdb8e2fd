//! The leaking line is named, first or second, with what the program itself says it has leaked.

pub(crate) mod every;

use unshed_tests::harness::{Target, Unshed, assert_no_traps};
use unshed_tests::interpreters::{any_supported, debian, on_each};
use unshed_tests::report::Site;

use crate::record;

/// The program's truth holds on every supported interpreter of this machine.
fn told(program: &str) {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, program, &[]);
        assert!(!truth.leaks.is_empty(), "{program} says that it leaks nothing");
        truth.assert_told_by(&report);
        truth.leaks[0].assert_type_told_by(&report);
    });
}

#[test]
fn a_leaked_new_reference_is_one_site_of_exactly_a_million_blocks() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "leak_new_reference.py", &[]);
        truth.assert_told_by(&report);
        let leak = &truth.leaks[0];
        assert!(leak.is_at(&report.sites[0]), "{} is not the first site\n{}", leak.place(), report.worst());
        let live: Vec<&Site> = leak.sites(&report).into_iter().filter(|site| site.live_blocks > 0).collect();
        let split: Vec<u64> = live.iter().map(|site| site.live_blocks).collect();
        assert_eq!(split, [1_000_000], "live blocks of the sites at {}\n{}", leak.place(), report.worst());
        assert_eq!(live[0].live_bytes, 32_000_000, "CPython 3.11 asks for 32 bytes for an int of 28");
        assert_eq!(live[0].domain.as_deref().unwrap_or("object"), "object");
        leak.assert_type_told_by(&report);
    });
}

#[test]
fn perf_events_tell_the_same_and_leave_no_trap() {
    let mut target = Target::spawn(any_supported(), "leak_new_reference.py", &[]);
    let recording = Unshed::record(target.pid(), &["--perf-events"]);
    let truth = target.go();
    let report = recording.stop().assert_code(0).report();
    truth.assert_told_by(&report);
    assert_eq!(report.sites[0].live_blocks, 1_000_000, "{}", report.worst());
    assert_no_traps(target.pid());
    target.assert_unharmed();
}

#[test]
fn a_mutable_default_argument() {
    told("mutable_default.py");
}

#[test]
fn a_global_dict_cache() {
    told("dict_cache.py");
}

#[test]
fn a_registry_of_callbacks() {
    told("callback_registry.py");
}

#[test]
fn exceptions_stored_with_their_frames() {
    told("stored_exceptions.py");
}

#[test]
fn a_list_on_a_class() {
    told("class_list.py");
}

#[test]
fn a_leak_in_four_threads_at_once() {
    told("four_threads.py");
}

#[test]
fn the_stack_leads_from_the_leak_to_the_module() {
    let (report, truth) = record(debian(), "class_list.py", &[]);
    let site = truth.leaks[0].sites(&report)[0];
    let functions: Vec<&str> = site
        .stack
        .iter()
        .filter(|frame| frame.kind == "python")
        .map(|frame| frame.function.as_str())
        .collect();
    assert_eq!(functions, ["accept", "amid_churn", "go", "serve", "<module>"], "innermost first");
}

#[test]
fn a_leak_that_goes_on_is_counted_on() {
    let mut target = Target::spawn(debian(), "class_list.py", &[]);
    let recording = Unshed::record(target.pid(), &[]);
    target.go();
    let mut truth = target.go();
    truth.leaks[0].blocks *= 2;
    let report = recording.stop().report();
    truth.assert_told_by(&report);
    target.assert_unharmed();
}
