//! A CPython without the GIL: threads that allocate at the same time, free each other's blocks and end before those. Each block is told, with its line, whoever freed it.

use serde_json::Value;
use unshed_tests::harness::{EXACT, Launch, Target, Unshed};
use unshed_tests::interpreters::free_threaded;
use unshed_tests::report::{Report, Site};
use unshed_tests::truth::Truth;

use crate::{record, record_launched};

const ALL: [&str; 2] = ["--domains", "object,mem,raw,libc"];
const ALL_BUT_LIBC: [&str; 2] = ["--domains", "object,mem,raw"];

/// A whole number of what a program says of one of its lines.
fn number(row: &Value, name: &str) -> u64 {
    row[name].as_u64().unwrap_or_else(|| panic!("{name:?} is no number in {row}"))
}

/// The sites of a line that the program tells besides its leaks, of one domain.
fn sites_of<'a>(report: &'a Report, row: &Value, domain: &str) -> Vec<&'a Site> {
    let is_it = |site: &&Site| {
        site.domain.as_deref() == Some(domain)
            && site.python().is_some_and(|frame| {
                Some(frame.function.as_str()) == row["function"].as_str()
                    && frame.line.map(u64::from) == Some(number(row, "line"))
            })
    };
    report.sites.iter().filter(is_it).collect()
}

/// Every block of eight threads, per domain, to the byte.
fn assert_parallel(report: &Report, truth: &Truth, domains: &[&str]) {
    let leak = &truth.leaks[0];
    leak.assert_exactly_told_by(report, false);
    leak.assert_type_told_by(report);
    for name in ["fill", "resize"] {
        let row = &truth.facts[name];
        for domain in domains {
            let sites = sites_of(report, row, domain);
            let seen: (u64, u64) =
                sites.iter().fold((0, 0), |sum, site| (sum.0 + site.live_blocks, sum.1 + site.live_bytes));
            let blocks = number(row, "blocks");
            let told = (blocks, blocks * number(&row["sizes"], domain));
            assert_eq!(seen, told, "blocks and bytes of {domain} at {name}\n{}", report.worst());
        }
    }
    for loss in ["address_reborn", "block_map_full", "site_map_full", "no_thread_state"] {
        assert_eq!(report.loss(loss), 0, "{loss}\n{}", report.worst());
    }
}

fn parallel(launch: Launch<'_>, domains: &[&str], gil: bool) {
    let (report, truth) = record_launched(launch, free_threaded(), "parallel.py", domains);
    assert_eq!(truth.facts["gil"], Value::Bool(gil), "the program has another GIL than it should have");
    let hooks = report.hooks.as_ref().expect("the exact trace tells of its hooks");
    assert!(hooks.complete, "{}", hooks.reason);
    let names: Vec<&str> = domains[1].split(',').collect();
    assert_parallel(&report, &truth, &names);
}

#[test]
fn eight_threads_at_once_are_counted_to_the_block() {
    parallel(Target::on(free_threaded()), &ALL_BUT_LIBC, false);
}

#[test]
fn so_is_what_c_code_asks_for_itself() {
    parallel(Target::on(free_threaded()), &ALL, false);
}

#[test]
fn so_it_is_with_the_gil_on() {
    parallel(Target::on(free_threaded()).env("PYTHON_GIL", "1"), &ALL_BUT_LIBC, true);
}

#[test]
fn so_it_is_with_the_gil_off_by_name() {
    parallel(Target::on(free_threaded()).env("PYTHON_GIL", "0"), &ALL_BUT_LIBC, false);
}

/// The programs of the truth table, each of which tells its own lines.
fn told(program: &str) {
    let (report, truth) = record(free_threaded(), program, &[]);
    truth.assert_told_by(&report);
    truth.leaks[0].assert_type_told_by(&report);
    assert_eq!(report.loss("address_reborn"), 0, "a free was missed\n{}", report.worst());
}

#[test]
fn a_leaked_new_reference() {
    told("leak_new_reference.py");
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
fn a_leak_in_four_threads() {
    told("four_threads.py");
}

#[test]
fn buffers_that_grow_and_shrink() {
    let (report, truth) = record(free_threaded(), "realloc_heavy.py", &[]);
    let functions = ["work_lists", "work_arrays", "work_dicts"];
    let is_mine =
        |site: &&Site| site.python().is_some_and(|frame| functions.contains(&frame.function.as_str()));
    let live: u64 = report.sites.iter().filter(is_mine).map(|site| site.live_bytes).sum();
    truth.assert_live_bytes(live, &format!("live bytes of {functions:?}\n{}", report.worst()));
    assert_eq!(report.loss("address_reborn"), 0, "an old address was not given up\n{}", report.worst());
}

#[test]
fn the_debug_hooks_before_mimalloc() {
    let launch = Target::on(free_threaded()).env("PYTHONMALLOC", "debug");
    let (report, truth) = record_launched(launch, free_threaded(), "class_list.py", &[]);
    truth.assert_told_by(&report);
    let hooks = report.hooks.expect("the exact trace tells of its hooks");
    assert!(hooks.complete && hooks.reason.contains("debug hooks"), "{}", hooks.reason);
}

#[test]
fn the_report_says_what_is_different() {
    let (report, _) = record(free_threaded(), "class_list.py", &[]);
    let note = report.notes.iter().find(|note| note.contains("free-threaded"));
    let note = note.unwrap_or_else(|| panic!("no note says that it is free-threaded: {:?}", report.notes));
    assert!(note.contains("counts were not checked"), "{note}");
    let target = Target::spawn(free_threaded(), "class_list.py", &[]);
    let pid = target.pid().to_string();
    let output = Unshed::run(&[&["record", "-d", "0.2", "-p", &pid], &EXACT[..]].concat());
    output.assert_code(0);
    // Lines are wrapped.
    let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(words(&output.stdout).contains(&words(note)), "the text does not say it:\n{}", output.stdout);
}
