//! Where nothing leaks, nothing is said to leak.

use unshed_tests::harness::{Target, Unshed};
use unshed_tests::interpreters::on_each;
use unshed_tests::report::{Report, Totals};

use crate::record;

/// Share of what was allocated that may live on in CPython's own freelists and caches: one in two hundred.
const KEPT_BY_FREELISTS: u64 = 200;

#[test]
fn honest_churn_leaves_nothing_and_no_site_is_a_leak() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "honest.py", &[]);
        let allocated = report.totals.allocated_blocks;
        assert!(
            allocated > truth.fact("churned") * 5,
            "the churn was not seen: {allocated} blocks allocated"
        );
        assert_nothing_is_kept(&report);
        assert_nothing_is_lost(&report);
    });
}

#[test]
fn objects_of_all_kinds_that_come_and_go_leave_nothing() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "all_kinds.py", &[]);
        let allocated = report.totals.allocated_blocks;
        assert!(
            allocated > truth.fact("churned") * 20,
            "the churn was not seen: {allocated} blocks allocated"
        );
        assert_nothing_is_kept(&report);
        assert_nothing_is_lost(&report);
        // What lived before and dies in the trace are the interpreter's own caches and freelists, which the collector empties.
        let unknown = report.loss("unknown_free");
        assert!(
            unknown * KEPT_BY_FREELISTS <= allocated,
            "{unknown} frees of unknown blocks beside {allocated} blocks allocated\n{}",
            report.worst()
        );
    });
}

/// CPython keeps what it likes in its freelists and caches; nothing else lives on, and nothing of it is called a leak.
fn assert_nothing_is_kept(report: &Report) {
    let Totals { allocated_blocks, live_blocks, .. } = report.totals;
    assert!(
        live_blocks * KEPT_BY_FREELISTS <= allocated_blocks,
        "{live_blocks} of {allocated_blocks} blocks are said to live on\n{}",
        report.worst()
    );
    for site in &report.sites {
        assert_ne!(site.verdict, "leak", "an honest site is called a leak: {site:?}\n{}", report.worst());
    }
}

/// Nothing was lost where nothing came to its limit. An address that is allocated twice without a free in between would prove
/// that a free was missed, and a missed free invents a leak.
pub(crate) fn assert_nothing_is_lost(report: &Report) {
    for code in [
        "block_map_full",
        "block_map_memory",
        "site_map_full",
        "thread_map_full",
        "address_reborn",
        "failed_alloc",
    ] {
        assert_eq!(report.loss(code), 0, "{code}\n{}", report.worst());
    }
}

#[test]
fn what_was_leaked_and_then_freed_is_not_live() {
    on_each(|interpreter| {
        let mut target = Target::spawn(interpreter, "many_blocks.py", &[]);
        let recording = Unshed::record(target.pid(), &[]);
        let truth = target.go();
        target.ask("free");
        let report = recording.stop().report();
        let (leak, live) = (&truth.leaks[0], truth.leaks[0].live_blocks(&report));
        let place = leak.place();
        assert!(live <= 10, "{live} blocks live at {place}, but all were freed\n{}", report.worst());
        let freed: u64 = leak.sites(&report).iter().map(|site| site.freed_blocks).sum();
        assert!(freed >= 100_000, "only {freed} frees were seen\n{}", report.worst());
        target.assert_unharmed();
    });
}
