//! Every row of the truth table in one process, `every_row.py`, so that the whole table is held against every CPython at little cost.

use unshed_tests::harness::{Target, Unshed};
use unshed_tests::interpreters::Interpreter;
use unshed_tests::report::{Frame, Report, Site};
use unshed_tests::truth::Truth;

use crate::churn::assert_nothing_is_lost;

/// What `every_row.py` may hold of live blocks in the last row.
const MAX_BLOCKS: u64 = 2_000;

/// Records all rows but the last, and then the last, for which the block map is too small.
pub(crate) fn every_row(interpreter: &Interpreter) {
    let mut target = Target::spawn(interpreter, "every_row.py", &[]);
    let recording = Unshed::record(target.pid(), &[]);
    let truth = target.go();
    let report = recording.stop().report();
    let leaks = truth.leaks.len();
    assert!(leaks >= 9, "the program tells of {leaks} leaking lines only");
    for leak in &truth.leaks {
        leak.assert_told_by(&report, truth.inlined);
        leak.assert_type_told_by(&report);
    }
    assert_leaks_come_first(&report, &truth);
    assert_the_honest_rows(&report, &truth);
    let (unknown, freed) = (report.loss("unknown_free"), truth.fact("freed"));
    assert!(
        (freed..freed + freed / 20).contains(&unknown),
        "{freed} old blocks were freed, {unknown} counted as unknown_free\n{}",
        report.worst()
    );
    assert_nothing_is_lost(&report);
    a_full_map(&mut target);
    target.assert_unharmed();
    assert!(target.quit().success(), "every_row.py did not end well after it was traced");
}

/// What grows and shrinks holds what it holds, and where all is given back nothing is called a leak.
fn assert_the_honest_rows(report: &Report, truth: &Truth) {
    let grown = report.sites.iter().filter(|site| grows_and_shrinks(site)).map(|site| site.live_bytes).sum();
    truth.assert_live_bytes(grown, &format!("live bytes of realloc_heavy.py\n{}", report.worst()));
    let mut seen = 0;
    for site in report.sites.iter().filter(|site| site.stack.iter().any(|frame| is_in("honest.py", frame))) {
        assert_ne!(site.verdict, "leak", "an honest site is called a leak: {site:?}");
        seen += site.allocated_blocks;
    }
    let churned = truth.fact("churned");
    assert!(seen > 5 * churned, "{seen} blocks of {churned} honest rounds were seen");
}

/// No other line holds as much as the least of those that leak.
fn assert_leaks_come_first(report: &Report, truth: &Truth) {
    let bytes_at = |is_there: &dyn Fn(&Site) -> bool| -> u64 {
        report.sites.iter().filter(|site| is_there(site)).map(|site| site.live_bytes).sum()
    };
    let least = truth.leaks.iter().map(|leak| bytes_at(&|site| leak.is_at(site))).min().unwrap_or(0);
    let honest = |site: &&Site| !grows_and_shrinks(site) && !truth.leaks.iter().any(|leak| leak.is_at(site));
    for site in report.sites.iter().filter(honest) {
        let held = bytes_at(&|other| place(other) == place(site));
        assert!(held < least, "{held} bytes are held by {site:?}, a leaking line has {least}");
    }
}

/// Whether a site holds what `realloc_heavy.py` says that it holds.
fn grows_and_shrinks(site: &Site) -> bool {
    let works = |frame: &Frame| is_in("realloc_heavy.py", frame) && frame.function.starts_with("work_");
    site.python().is_some_and(works)
}

fn is_in(program: &str, frame: &Frame) -> bool {
    frame.file.as_deref().is_some_and(|file| file.ends_with(program))
}

fn place(site: &Site) -> Option<String> {
    site.python().map(Frame::place)
}

/// What a full map refuses is counted, and what it keeps is right.
fn a_full_map(target: &mut Target) {
    let most = MAX_BLOCKS.to_string();
    let recording = Unshed::record(target.pid(), &["--max-blocks", &most]);
    let truth = target.tell("many");
    let report = recording.stop().report();
    let (leak, refused) = (&truth.leaks[0], report.loss("block_map_full"));
    let (live, all) = (leak.live_blocks(&report), report.totals.live_blocks);
    assert!(leak.blocks > 5 * MAX_BLOCKS, "{} blocks are no test of {MAX_BLOCKS}", leak.blocks);
    let missing = leak.blocks - MAX_BLOCKS;
    assert!(refused >= missing, "of {} blocks {refused} were refused\n{}", leak.blocks, report.worst());
    assert!((MAX_BLOCKS * 85 / 100..=MAX_BLOCKS).contains(&live), "{live} were kept\n{}", report.worst());
    assert!(all <= MAX_BLOCKS, "{all} live blocks in a map of {MAX_BLOCKS}");
    // The list that holds them may be larger than the few that were kept, and stand before them.
    let most = report.sites.iter().max_by_key(|site| site.live_blocks);
    assert!(
        most.is_some_and(|site| leak.is_at(site)),
        "the kept do not lead to the leak\n{}",
        report.worst()
    );
}
