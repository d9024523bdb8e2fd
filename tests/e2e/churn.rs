//! Where nothing leaks, nothing is said to leak.

use unshed_tests::interpreters::supported;

use crate::record;

/// Share of what was allocated that may live on in CPython's own freelists and caches: one in two hundred.
const KEPT_BY_FREELISTS: u64 = 200;

#[test]
fn honest_churn_leaves_nothing_and_no_site_is_a_leak() {
    for interpreter in supported() {
        let (report, truth) = record(interpreter, "honest.py", &[]);
        let allocated = report.totals.allocated_blocks;
        assert!(
            allocated > truth.fact("churned") * 5,
            "the churn was not seen: {allocated} blocks allocated"
        );
        assert!(
            report.totals.live_blocks * KEPT_BY_FREELISTS <= allocated,
            "{} of {allocated} blocks are said to live on\n{}",
            report.totals.live_blocks,
            report.worst()
        );
        for site in &report.sites {
            assert_ne!(site.verdict, "leak", "an honest site is called a leak: {site:?}\n{}", report.worst());
        }
    }
}

#[test]
fn nothing_is_lost_on_a_well_behaved_program() {
    let (report, _) = record(&supported()[0], "honest.py", &[]);
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
    let mut target = unshed_tests::harness::Target::spawn(&supported()[0], "many_blocks.py", &[]);
    let recording = unshed_tests::harness::Unshed::record(target.pid(), &[]);
    let truth = target.go();
    target.ask("free");
    let report = recording.stop().report();
    let live = truth.leaks[0].live_blocks(&report);
    assert!(
        live <= 10,
        "{live} blocks live at {}, but all were freed\n{}",
        truth.leaks[0].place(),
        report.worst()
    );
    let freed: u64 = truth.leaks[0].sites(&report).iter().map(|site| site.freed_blocks).sum();
    assert!(freed >= 100_000, "only {freed} frees were seen\n{}", report.worst());
    target.assert_unharmed();
}
