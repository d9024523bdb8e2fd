//! A long mixed loop: what unshed counts is what the interpreter's own books say, to one block in two thousand.

use serde_json::Value;
use unshed_tests::harness::{Target, Unshed};
use unshed_tests::interpreters::on_each;

/// 0.05 %.
const ONE_IN: u64 = 2000;

/// Asserts that two counts agree to 0.05 % of `whole`.
fn assert_agree(seen: u64, expected: u64, whole: u64, what: &str) {
    let off = seen.abs_diff(expected);
    eprintln!("{what}: {seen} seen, {expected} expected, off by {off} of {whole}");
    assert!(off * ONE_IN <= whole, "{what}: {seen} seen, but {expected} expected: off by more than 0.05 %");
}

/// One of the program's figures.
fn figure(figures: &Value, source: &str, what: &str) -> u64 {
    let value = &figures[source][what];
    value.as_u64().unwrap_or_else(|| panic!("mixed.py does not tell {source}.{what}, but {figures}"))
}

#[test]
fn allocations_and_frees_are_those_of_the_interpreters_own_books() {
    on_each(|interpreter| {
        let mut target = Target::spawn(interpreter, "mixed.py", &[]);
        let recording = Unshed::record(target.pid(), &[]);
        target.go();
        let report = recording.stop().report();
        let figures = target.ask("figures");
        let totals = report.totals.clone();
        for source in ["by_text", "by_count", "by_class"] {
            let told = |what: &str| figure(&figures, source, what);
            let (allocated, freed) = (told("allocated"), told("freed"));
            assert_agree(totals.allocated_blocks, allocated, allocated, &format!("allocated, {source}"));
            assert_agree(totals.freed_blocks, freed, freed, &format!("freed, {source}"));
            // What is left may be off by as much as the sums of which it is the difference.
            let kept = totals.allocated_blocks - totals.freed_blocks;
            assert_agree(kept, told("kept"), allocated, &format!("blocks in use, {source}"));
        }
        assert_eq!(report.loss("address_reborn"), 0, "a free was missed\n{}", report.worst());
        target.assert_unharmed();
    });
}

/// Without the tool: if the program's own three sources did not agree, none of them would prove anything.
#[test]
fn the_interpreters_books_agree_with_the_programs_text() {
    on_each(|interpreter| {
        let mut target = Target::spawn(interpreter, "mixed.py", &[]);
        target.go();
        let figures = target.ask("figures");
        for what in ["allocated", "freed", "kept"] {
            let text = figure(&figures, "by_text", what);
            for source in ["by_count", "by_class"] {
                assert_agree(figure(&figures, source, what), text, text, &format!("{what}, {source}"));
            }
        }
    });
}
