//! The watch engine: what it says of growth is true, and it never gives a verdict.

use unshed_tests::harness::{Target, Unshed};
use unshed_tests::interpreters::{Interpreter, on_each};
use unshed_tests::report::{Report, Watch};
use unshed_tests::truth::Truth;

/// Runs one command of `watched.py` while it is watched.
fn watch(interpreter: &Interpreter, command: &str) -> (Report, Watch, Truth) {
    let mut target = Target::spawn(interpreter, "watched.py", &[]);
    let recording = Unshed::record_as_typed(target.pid(), &["--watch"]);
    let truth = target.tell(command);
    let output = recording.stop();
    let report = output.report();
    target.assert_unharmed();
    assert!(target.quit().success(), "watched.py did not end well after it was watched");
    assert_eq!(report.engine, "watch");
    assert!(output.stdout.contains("\nverdict   none: "), "the text gives a verdict:\n{}", output.stdout);
    assert!(report.sites.iter().all(|site| site.verdict == "unknown"), "a verdict\n{}", report.worst());
    let watch = report.watch.clone().expect("a report of the watch engine says what was watched");
    (report, watch, truth)
}

/// Live blocks and bytes of a domain on the leaking line.
fn told(report: &Report, truth: &Truth, domain: &str) -> (u64, u64) {
    let leak = &truth.leaks[0];
    let line = |frame: &unshed_tests::report::Frame| {
        frame.file.as_deref() == Some(leak.file.as_str()) && frame.line == Some(leak.line)
    };
    let sites = report.sites.iter().filter(|site| site.domain.as_deref() == Some(domain));
    let sites = sites.filter(|site| site.python().is_some_and(line));
    sites.fold((0, 0), |sum, site| (sum.0 + site.live_blocks, sum.1 + site.live_bytes))
}

/// Blocks of a size class that have come.
fn grown(watch: &Watch, bytes: u64) -> i64 {
    let class = watch.classes.iter().find(|class| class.bytes == bytes);
    class.map_or(0, |class| class.blocks_end.cast_signed() - class.blocks_start.cast_signed())
}

/// Asserts that a figure is that of the truth, up to so many percent below and above.
fn assert_near(figure: u64, truth: u64, (below, above): (u64, u64), what: &str, report: &Report) {
    let (least, most) = (truth * (100 - below) / 100, truth * (100 + above) / 100);
    assert!((least..=most).contains(&figure), "{what}: {figure}, but it is {truth}\n{}", report.worst());
}

#[test]
fn small_blocks_are_told_by_size_and_by_the_line_that_opens_their_pools() {
    on_each(|interpreter| {
        let (report, watch, truth) = watch(interpreter, "small 20000");
        assert_near(
            grown(&watch, 64).unsigned_abs(),
            20_000,
            (2, 2),
            "blocks of 64 bytes that have come",
            &report,
        );
        // Pools that were open before are filled too, and the churn may have opened some that the leak then filled.
        let (blocks, bytes) = told(&report, &truth, "object");
        let share = (watch.pools_share * 100.0) as u64;
        assert_near(blocks, 20_000, (100 - share * 8 / 10, 5), "live blocks of the line", &report);
        assert!(bytes >= 64 * blocks, "{bytes} bytes in {blocks} blocks of 64");
        assert!(watch.arenas_end > 0 && watch.arenas_end >= watch.arenas_start, "{watch:?}");
    });
}

#[test]
fn large_blocks_are_told_one_by_one() {
    on_each(|interpreter| {
        let (report, watch, truth) = watch(interpreter, "large 60");
        assert_eq!(watch.large_stopped_after_seconds, None, "60 blocks in some seconds are few");
        let bytes = truth.fact("bytes");
        assert_eq!(told(&report, &truth, "object"), (60, bytes), "{}", report.worst());
    });
}

#[test]
fn mappings_are_told_one_by_one() {
    on_each(|interpreter| {
        let (report, watch, truth) = watch(interpreter, "mapped 60");
        let bytes = truth.fact("bytes");
        assert_eq!(told(&report, &truth, "map"), (60, bytes), "{}", report.worst());
        assert!(watch.mapped_bytes >= bytes, "{} mapped", watch.mapped_bytes);
    });
}

#[test]
fn honest_work_grows_by_nothing() {
    on_each(|interpreter| {
        let (report, watch, _) = watch(interpreter, "honest 300");
        assert_eq!((watch.small_growth, watch.resident_growth), (None, None), "{}", report.worst());
        let (start, end) = watch.classes.iter().fold((0, 0), |(start, end), class| {
            (start + class.bytes * class.blocks_start, end + class.bytes * class.blocks_end)
        });
        assert!(end.abs_diff(start) < 64 << 10, "{start} → {end} bytes of small blocks");
        let large: Vec<_> = report.sites.iter().filter(|site| site.live_bytes > 64 << 10).collect();
        // A C library that gets more from the kernel keeps it.
        assert!(large.iter().all(|site| site.domain.as_deref() == Some("map")), "{}", report.worst());
    });
}
