//! Objects that CPython hands from line to line through a freelist: told at the line that keeps them, or else it is said that they may not be.

use unshed_tests::interpreters::Which;
use unshed_tests::report::Report;
use unshed_tests::truth::Truth;

use crate::record;

/// What the note is about.
const NOTE: &str = "through a freelist";

/// The versions in which ints have one.
const WITH_INTS: [Which; 2] = [Which::Chroot(14), Which::Chroot(15)];

fn recorded(which: Which, args: &[&str]) -> (Report, Truth) {
    record(&which.find()[0], "int_freelist.py", args)
}

fn is_noted(report: &Report) -> bool {
    report.notes.iter().any(|note| note.contains(NOTE))
}

#[test]
fn with_ints_the_line_that_keeps_an_int_is_told_with_its_count() {
    for which in WITH_INTS {
        let (report, truth) = recorded(which, &["--ints"]);
        for leak in &truth.leaks {
            leak.assert_told_by(&report, truth.inlined);
            leak.assert_type_told_by(&report);
        }
        assert!(!is_noted(&report), "what is followed is said to be handed on: {:?}", report.notes);
        assert_eq!(report.loss("address_reborn"), 0, "a free was missed\n{}", report.worst());
    }
}

#[test]
fn without_it_is_said_that_ints_may_be_kept_by_another_line() {
    for which in WITH_INTS {
        let (report, truth) = recorded(which, &[]);
        assert!(is_noted(&report), "the freelist is not told of: {:?}", report.notes);
        let fill = truth.fact("fill");
        let filled = |site: &&unshed_tests::report::Site| {
            site.python()
                .is_some_and(|frame| frame.function == "fill" && u64::from(frame.line.unwrap_or(0)) == fill)
        };
        let live: u64 = report.sites.iter().filter(filled).map(|site| site.live_blocks).sum();
        assert!(
            live >= truth.leaks[0].blocks,
            "{live} blocks of the filling line live: no test of the freelist"
        );
        // Ints of two digits have none.
        truth.leaks[2].assert_told_by(&report, truth.inlined);
    }
}

#[test]
fn where_ints_have_none_the_line_is_told_and_nothing_is_said() {
    let (report, truth) = recorded(Which::Pyenv(13), &[]);
    for leak in &truth.leaks {
        leak.assert_told_by(&report, truth.inlined);
    }
    assert!(!is_noted(&report), "{:?}", report.notes);
}

/// From 3.15 on CPython makes the ints up to 1024 once for all.
#[test]
fn a_cached_int_is_what_is_cached_in_this_version() {
    for (which, small) in [(Which::Chroot(14), 0), (Which::Chroot(15), 30_000)] {
        let mut target = unshed_tests::harness::Target::spawn(&which.find()[0], "leak_new_reference.py", &[]);
        let recording = unshed_tests::harness::Unshed::record(target.pid(), &["--ints"]);
        let truth = target.tell("go 1000 30000");
        let report = recording.stop().report();
        let leak = &truth.leaks[0];
        let ints: Vec<_> = leak.sites(&report).iter().filter_map(|site| site.ints.clone()).collect();
        let seen: u64 = ints.iter().map(|ints| ints.small).sum();
        let calls: u64 = ints.iter().map(|ints| ints.calls).sum();
        assert_eq!(
            (calls, seen),
            (30_000, small),
            "calls, and those that returned a cached int, of {which:?}"
        );
        target.assert_unharmed();
    }
}
