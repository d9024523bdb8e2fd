//! What happens at the edges: blocks older than the trace, maps too small, stacks too deep, code objects that die.

use unshed_tests::harness::{Target, Unshed};
use unshed_tests::interpreters::on_each;
use unshed_tests::report::Site;

use crate::record;

#[test]
fn blocks_older_than_the_trace_are_unknown_frees_and_no_sites_business() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "preexisting.py", &[]);
        let (unknown, freed) = (report.loss("unknown_free"), truth.fact("freed"));
        assert!(
            (freed..freed + freed / 20).contains(&unknown),
            "{freed} old blocks were freed, {unknown} counted as unknown_free\n{}",
            report.worst()
        );
        truth.assert_told_by(&report);
        let forget =
            report.sites.iter().find(|site| site.python().is_some_and(|frame| frame.function == "forget"));
        assert!(
            forget.is_none_or(|site| site.freed_blocks < 100),
            "old frees were charged to a site: {forget:?}"
        );
    });
}

#[test]
fn a_full_block_map_counts_what_it_refuses_and_keeps_the_rest_right() {
    on_each(|interpreter| {
        let mut target = Target::spawn(interpreter, "many_blocks.py", &[]);
        let recording = Unshed::record(target.pid(), &["--max-blocks", "10000"]);
        let truth = target.go();
        let output = recording.stop();
        let report = output.report();
        let refused = report.loss("block_map_full");
        assert!(
            refused >= 89_000,
            "of 100,000 blocks 10,000 fit, but only {refused} were refused\n{}",
            report.worst()
        );
        let live = truth.leaks[0].live_blocks(&report);
        assert!(
            (8_500..=10_000).contains(&live),
            "{live} kept blocks at {}\n{}",
            truth.leaks[0].place(),
            report.worst()
        );
        assert!(
            report.totals.live_blocks <= 10_000,
            "{} live blocks in a map of 10,000",
            report.totals.live_blocks
        );
        assert!(
            truth.leaks[0].is_at(&report.sites[0]),
            "the kept blocks do not lead to the leak\n{}",
            report.worst()
        );
        let said = output.stdout.contains("block map was full") || output.stdout.contains("block_map_full");
        assert!(said, "the text report does not say that blocks were refused:\n{}", output.stdout);
        target.assert_unharmed();
    });
}

/// `--max-depth` counts these; native frames come on top.
fn python_frames(site: &Site) -> usize {
    site.stack.iter().filter(|frame| frame.kind == "python").count()
}

#[test]
fn a_stack_deeper_than_the_walk_keeps_its_innermost_frames() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "deep_recursion.py", &["--max-depth", "32"]);
        truth.assert_told_by(&report);
        let deepest = report.sites.iter().map(python_frames).max().unwrap_or(0);
        assert!(deepest <= 32, "a stack of {deepest} Python frames in spite of --max-depth 32");
        let kept = python_frames(truth.leaks[0].sites(&report)[0]);
        assert_eq!(kept, 32, "the leak's stack is deeper than 32, so 32 Python frames are kept");
        assert!(report.loss("stack_truncated") > 0, "cut stacks are not counted\n{}", report.worst());
    });
}

#[test]
fn default_depth_copes_with_deep_recursion() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "deep_recursion.py", &[]);
        truth.assert_told_by(&report);
    });
}

/// The number in a function's name, if it is one of the generated ones.
fn generated(site: &Site) -> Option<u64> {
    site.python()?.function.strip_prefix("generated_")?.parse().ok()
}

#[test]
fn code_objects_that_die_are_never_taken_for_others() {
    on_each(|interpreter| {
        let (report, truth) = record(interpreter, "exec_code.py", &[]);
        let (functions, each) = (truth.fact("functions"), truth.fact("each"));
        let mut named = vec![0; usize::try_from(functions).expect("a few hundred")];
        for site in &report.sites {
            if let Some(number) = generated(site) {
                let number = usize::try_from(number).expect("a few hundred");
                assert!(number < named.len(), "generated_{number} has not run in this trace");
                named[number] += site.live_blocks;
            }
        }
        for (number, &blocks) in named.iter().enumerate() {
            assert!(
                blocks <= each + 1,
                "generated_{number} leaked {each} blocks and is charged with {blocks}\n{}",
                report.worst()
            );
        }
        let nameless =
            report.sites.iter().filter(|site| site.python().is_none_or(|frame| frame.file.is_none()));
        let nameless: u64 = nameless.map(|site| site.live_blocks).sum();
        let all = named.iter().sum::<u64>() + nameless;
        eprintln!("{} blocks named, {nameless} not, of {}", named.iter().sum::<u64>(), functions * each);
        assert!(
            all * 100 >= functions * each * 99,
            "{all} blocks are left of {}\n{}",
            functions * each,
            report.worst()
        );
        assert!(
            nameless == 0 || report.loss("code_gone") > 0,
            "names are missing and nothing says so\n{}",
            report.worst()
        );
    });
}
