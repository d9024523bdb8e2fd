//! The head of the text report: who, the answer, and how far to trust it: how complete, how much, at what cost, what was lost.

use super::page::{Ink, Page};
use super::{sampled, site, watch};
use crate::heap::verdict::Verdict;
use crate::report::lines::Line;
use crate::report::story::{LossCount, Story, SumErrors};
use crate::report::together::Together;
use crate::report::{estimate, plain, units};

/// RSS growth that is worth a word when the live blocks do not explain it, in bytes.
const UNEXPLAINED_BYTES: u64 = 16 << 20;

pub(super) fn write(page: &mut Page, story: &Story, lines: &[Line]) {
    let target = &story.target;
    page.heading(&format!(
        "Process {} on {} · Python {} · {} ({})",
        target.pid,
        target.host,
        target.python,
        sampled::looked(story),
        story.ended,
    ));
    if let Some(watched) = &story.watch {
        return watch::write(page, story, watched);
    }
    answer(page, story, lines);
    command(page, story);
    hooks(page, story);
    if let Some(sampling) = &story.sampling {
        sampled::samples(page, sampling);
    }
    seen(page, story);
    match &story.sampling {
        Some(sampling) => sampled::cost(page, story, sampling),
        None => cost(page, story),
    }
    lost(page, &story.losses);
    for note in &story.notes {
        page.row(0, "note", Ink::Strong, note);
    }
}

pub(super) fn command(page: &mut Page, story: &Story) {
    let target = &story.target;
    let command = if target.command.is_empty() { &target.executable } else { &target.command };
    let room = page.width.saturating_sub(10);
    page.row(0, "command", Ink::Plain, &plain::shorten(command, room));
    // The path of a cgroup may be longer than any line.
    let told = target.home.told();
    let home: Vec<_> = told.iter().map(|told| plain::shorten(told, room.saturating_sub(1))).collect();
    if !home.is_empty() {
        page.row(0, "lives in", Ink::Plain, &home.join("; "));
    }
}

fn hooks(page: &mut Page, story: &Story) {
    let hooks = &story.hooks;
    let points = units::plural(u64::from(hooks.points), "probe point");
    let domains = hooks.domains.join(", ");
    if hooks.complete {
        page.row(
            0,
            "hooks",
            Ink::Plain,
            &format!("complete: {} ({points}; domains {domains})", hooks.reason),
        );
    } else {
        let warning = format!(
            "NOT COMPLETE: {}. Allocations and frees pass unseen: the counts below are too low, and a free that was missed looks like a leak. \
             ({points}; domains {domains})",
            hooks.reason.trim_end_matches('.'),
        );
        page.row(0, "HOOKS", Ink::Alarm, &warning);
    }
}

fn seen(page: &mut Page, story: &Story) {
    let totals = &story.totals;
    let sums = |(blocks, of_blocks): (u64, fn(&SumErrors) -> f64),
                (bytes, of_bytes): (u64, fn(&SumErrors) -> f64)| {
        let bytes = estimate::bytes(bytes, totals.error(of_bytes));
        format!("{bytes} in {}", estimate::plural(blocks, totals.error(of_blocks), "block"))
    };
    page.row(
        0,
        "seen",
        Ink::Plain,
        &format!(
            "allocated {}, freed {}; live {}",
            sums(
                (totals.allocated_blocks, |of| of.allocated_blocks),
                (totals.allocated_bytes, |of| of.allocated_bytes)
            ),
            sums((totals.freed_blocks, |of| of.freed_blocks), (totals.freed_bytes, |of| of.freed_bytes)),
            sums((totals.live_blocks, |of| of.live_blocks), (totals.live_bytes, |of| of.live_bytes)),
        ),
    );
    rss(page, story);
}

pub(super) fn rss(page: &mut Page, story: &Story) {
    let totals = &story.totals;
    let (start, end) = (totals.rss_start_bytes, totals.rss_end_bytes);
    let sign = if end < start { '-' } else { '+' };
    let (from, to, change) = (units::bytes(start), units::bytes(end), units::bytes(end.abs_diff(start)));
    let mut rss = format!("{from} → {to} ({sign}{change})");
    let given = story.sites.iter().fold(0, |sum: u64, site| sum.saturating_add(site.live_given_bytes));
    let grown = end.saturating_sub(start);
    if grown >= UNEXPLAINED_BYTES && grown / 2 > given && story.watch.is_none() {
        let libc = story.hooks.domains.iter().any(|domain| domain == "libc");
        let advice = if libc { "" } else { "; --domains libc would see what C code allocates" };
        rss.push_str(&format!(
            ". Only {} of that growth is live blocks seen here: the rest is fragmentation or memory taken past the hooked domains{advice}",
            units::bytes(given),
        ));
    }
    page.row(0, "RSS", Ink::Plain, &rss);
}

pub(super) fn cost(page: &mut Page, story: &Story) {
    let cost = &story.cost;
    page.row(
        0,
        "cost",
        Ink::Plain,
        &format!(
            "{} at {}: {} of one CPU, paid by the target; {} of kernel memory",
            units::plural(cost.hits, "probe hit"),
            units::nanoseconds(cost.ns_per_hit.max(0.0) as u64),
            units::fraction(cost.target_cpu_fraction),
            units::bytes(cost.kernel_bytes),
        ),
    );
}

pub(super) fn lost(page: &mut Page, losses: &[LossCount]) {
    let mut label = "lost";
    for loss in losses.iter().filter(|loss| loss.count > 0) {
        // The one loss that is no reason to worry: every process that is not started by us has blocks that are older than the trace.
        let (ink, normal) = match loss.code.as_str() {
            "unknown_free" => (Ink::Plain, " (normal after attaching to a running process)"),
            _ => (Ink::Strong, ""),
        };
        page.row(0, label, ink, &format!("{} {}{normal}", units::count(loss.count), loss.meaning));
        label = "";
    }
    if label == "lost" {
        page.row(0, label, Ink::Plain, "nothing was lost");
    }
}

/// The report in one line: the worst leaking line, or what else there is to say.
fn answer(page: &mut Page, story: &Story, lines: &[Line]) {
    let all = story.totals.live_bytes;
    let mut leaks = lines.iter().filter(|line| line.verdict == Verdict::Leak);
    let leak =
        leaks.next().and_then(|leak| Some((leak, story.sites.iter().find(|site| leak.holds(story, site))?)));
    if let Some((leak, site)) = leak {
        // A line that keeps next to nothing is no news, whatever its history looks like.
        let others = match leaks.filter(|line| line.live_bytes >= all / 100).count() as u64 {
            0 => String::new(),
            others => format!(
                "; {} {} like a leak",
                units::plural(others, "more line"),
                if others == 1 { "looks" } else { "look" }
            ),
        };
        let text = format!(
            "{} keeps {} alive ({} of live bytes), {}{others}",
            site::headline(story, site, page.width / 2),
            estimate::bytes(leak.live_bytes, leak.live_bytes_error),
            estimate::share(leak.live_bytes, leak.live_bytes_error, all),
            estimate::rate(leak.growth_bytes_per_second, leak.growth_bytes_per_second_error),
        );
        return page.row(0, "LEAK", Ink::Alarm, &text);
    }
    if lines.is_empty() && !story.notes.is_empty() && story.totals.live_blocks > 0 {
        return page.row(0, "verdict", Ink::Strong, "none: no live block passes the filter (--older)");
    }
    let of = |verdict| story.sites.iter().filter(move |site| site.verdict == verdict && site.live_blocks > 0);
    let open_bytes = of(Verdict::Unknown).fold(0, |sum: u64, site| sum.saturating_add(site.live_bytes));
    if open_bytes > all / 10 {
        let open = of(Verdict::Unknown).filter_map(|site| site.error(|errors| errors.live_bytes));
        let error = Together::of(story).sum(open);
        let longer = if story.sampling.is_some() {
            "sample longer (-d SECONDS) or with more --budget"
        } else {
            "trace longer (-d SECONDS)"
        };
        let text = format!(
            "no site is sure to leak, but {} ({} of live bytes) have no verdict yet: {longer}",
            estimate::bytes(open_bytes, error),
            estimate::share(open_bytes, error, all),
        );
        return page.row(0, "verdict", Ink::Strong, &text);
    }
    page.row(0, "verdict", Ink::Good, "no site looks like a leak");
}
