//! The head of a report of the watch engine: whether the heap grows and by which sizes, and that this is no verdict.

use super::head;
use super::page::{Ink, Page};
use crate::report::story::Story;
use crate::report::units;
use crate::report::watch::{ClassGrowth, Growth, Watch};

/// Looks at the heap that it takes to tell whether it grows.
const LOOKS: u64 = 32;
/// Size classes in the table.
const CLASSES: usize = 8;

/// Writes what stands between the title and the table of lines.
pub(super) fn write(page: &mut Page, story: &Story, watch: &Watch) {
    let grown = |what: &str, growth: &Option<Growth>| {
        growth.as_ref().map(|growth| {
            let (rate, seconds) = (units::rate(growth.bytes_per_second), units::seconds(growth.seconds));
            format!("{what} {rate} over the last {seconds}")
        })
    };
    let grown =
        [grown("small blocks", &watch.small_growth), grown("resident memory", &watch.resident_growth)];
    let grown: Vec<String> = grown.into_iter().flatten().collect();
    if grown.is_empty() {
        let text = if watch.looks < LOOKS {
            format!(
                "too early to tell: that takes {LOOKS} looks at the heap, some 16 s, and there were {}",
                watch.looks
            )
        } else {
            format!("no: neither small blocks nor resident memory grew steadily over the last {LOOKS} looks")
        };
        page.row(0, "grows", Ink::Strong, &text);
    } else {
        page.row(0, "GROWS", Ink::Alarm, &grown.join("; "));
    }
    page.row(
        0,
        "verdict",
        Ink::Strong,
        "none: this looks only where the allocator takes more memory, a pool of 16 KiB or a large block at a time. It says that the heap grows and in which sizes. \
         The stacks below are those that happened to need a new pool; others may have filled it. `unshed record -p PID` finds what leaks",
    );
    head::command(page, story);
    page.row(0, "watched", Ink::Plain, &watched(story, watch));
    small(page, watch);
    head::rss(page, story);
    head::cost(page, story);
    head::lost(page, &story.losses);
    for note in &story.notes {
        page.row(0, "note", Ink::Strong, note);
    }
    classes(page, watch);
}

/// What was watched, and what was not.
fn watched(story: &Story, watch: &Watch) -> String {
    let pools = if watch.pools_share > 0.9995 {
        "all the time".to_owned()
    } else {
        format!(
            "{} of the time (more would cost too much): the stacks below are of the pools that were opened then",
            units::fraction(watch.pools_share)
        )
    };
    let large = match watch.large_stopped_after_seconds {
        None => "all the time".to_owned(),
        Some(seconds) => format!(
            "not after {}: they are too frequent here, and none is in the figures below",
            units::seconds(seconds)
        ),
    };
    format!(
        "new pools {pools}; requests over 512 bytes {large}; mappings all the time ({}; {})",
        units::plural(u64::from(story.hooks.points), "probe point"),
        story.hooks.reason,
    )
}

fn small(page: &mut Page, watch: &Watch) {
    let (start, end) = watch.small_bytes();
    let (from, to) = (units::bytes(start), units::bytes(end));
    let sums = |of: fn(&ClassGrowth) -> u64| units::count(watch.classes.iter().map(of).sum());
    page.row(
        0,
        "small",
        Ink::Plain,
        &format!(
            "{from} → {to} of blocks up to 512 bytes; {} → {} pools; {} → {} arenas",
            sums(|class| class.pools_start),
            sums(|class| class.pools_end),
            units::count(watch.arenas_start),
            units::count(watch.arenas_end),
        ),
    );
}

/// The size classes that changed most.
fn classes(page: &mut Page, watch: &Watch) {
    let change =
        |class: &ClassGrowth| class.blocks_end.abs_diff(class.blocks_start).saturating_mul(class.bytes);
    let mut changed: Vec<&ClassGrowth> = watch.classes.iter().filter(|class| change(class) > 0).collect();
    changed.sort_by_key(|class| std::cmp::Reverse(change(class)));
    let shown = CLASSES.min(changed.len());
    if shown == 0 {
        return;
    }
    page.blank();
    page.heading(&format!("Small blocks by size: what changed most ({shown} of {})", changed.len()));
    page.blank();
    page.line(&[(Ink::Dim, &format!("{:>6}  {:>14}  {:>27}  {:>19}", "size", "growth", "blocks", "pools"))]);
    for class in changed.iter().take(shown) {
        let rate = units::rate(class.growth_bytes_per_second);
        let blocks = format!("{} → {}", units::count(class.blocks_start), units::count(class.blocks_end));
        let pools = format!("{} → {}", units::count(class.pools_start), units::count(class.pools_end));
        let line = format!("{:>6}  {rate:>14}  {blocks:>27}  {pools:>19}", units::bytes(class.bytes));
        page.line(&[(Ink::Plain, &line)]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Style, fixture};

    fn watched(watch: Watch) -> String {
        let mut story = fixture::story();
        story.engine = "watch".to_owned();
        story.watch = Some(watch);
        story.sites.iter_mut().for_each(|site| site.verdict = crate::heap::verdict::Verdict::Unknown);
        let style = Style { color: false, width: 120, top: 2, hide_interpreter: false };
        super::super::page(&story, &style)
    }

    #[test]
    fn growth_is_told_and_no_verdict_is_given() {
        let class = ClassGrowth {
            bytes: 48,
            pools_start: 10,
            pools_end: 1_200,
            blocks_start: 3_300,
            blocks_end: 403_300,
            growth_bytes_per_second: 640_000.0,
        };
        let text = watched(Watch {
            small_growth: Some(Growth { bytes_per_second: 640_000.0, seconds: 16.0 }),
            classes: vec![class],
            arenas_start: 1,
            arenas_end: 20,
            pools_share: 1.0,
            ..Watch::default()
        });
        insta::assert_snapshot!(text);
        assert!(!text.contains("LEAK") && !text.contains("NOT COMPLETE"));
    }

    #[test]
    fn what_was_not_watched_is_said() {
        let text =
            watched(Watch { pools_share: 0.25, large_stopped_after_seconds: Some(1.5), ..Watch::default() });
        assert!(text.contains("new pools 25.0 % of the time") && text.contains("not after 1.5 s"), "{text}");
        assert!(text.contains("too early to tell") && !text.contains("by size"), "{text}");
    }
}
