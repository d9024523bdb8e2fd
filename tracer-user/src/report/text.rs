//! What a stranger reads first, at three in the morning: who was traced, whether the figures can be trusted, the answer, then the worst
//! sites with the leaking line of each.

use std::collections::HashSet;
use std::io::Write;

use super::lines::{Caller, Line, lines};
use super::story::{Site, Story, SumErrors};
use super::together::Together;
use super::{Style, estimate, plain, units};
use crate::error::{Context, Result};
use page::{Ink, Page};

mod family;
mod head;
mod page;
mod sampled;
mod site;
mod watch;

/// Lines in the table.
const LINES: usize = 5;

/// Writes the text report.
///
/// # Errors
/// When the writer fails.
pub fn write(story: &Story, style: &Style, out: &mut dyn Write) -> Result<()> {
    let what = "cannot write the text report";
    out.write_all(page(story, style).as_bytes()).and_then(|()| out.flush()).context(what)
}

fn page(story: &Story, style: &Style) -> String {
    let mut page = Page::new(style);
    let lines = lines(story);
    head::write(&mut page, story, &lines);
    family::table(&mut page, story);
    // A site that keeps nothing is not worth a stranger's time, unless it took references of cached ints.
    let (worth, quiet): (Vec<&Site>, Vec<&Site>) = story
        .sites
        .iter()
        .partition(|site| site.live_blocks > 0 || site.ints.is_some() || site.held_at_exit().1 > 0);
    page.blank();
    if worth.is_empty() {
        nothing(&mut page, story);
        return page.into_text();
    }
    worst_lines(&mut page, story, &lines);
    let top = if style.top == 0 { worth.len() } else { style.top.min(worth.len()) };
    page.heading(&format!("Worst sites ({top} of {})", worth.len()));
    let mut told = HashSet::new();
    for (at, site) in worth.iter().take(top).enumerate() {
        page.blank();
        site::write(&mut page, at + 1, site, story, &mut told);
    }
    rest(&mut page, story, &worth[top..], worth.len(), quiet.len());
    page.into_text()
}

/// The worst lines in a table, where that says more than the sites below: a line may be reached by many stacks.
fn worst_lines(page: &mut Page, story: &Story, all: &[Line]) {
    if all.is_empty() {
        return;
    }
    let shown = LINES.min(all.len());
    page.heading(&format!("Lines that keep the most alive ({shown} of {})", all.len()));
    page.blank();
    // Errors take room; where there are none, none is left for them.
    let (wide, wider) = if story.sampling.is_some() { (16, 18) } else { (10, 14) };
    for line in all.iter().take(shown) {
        let (word, ink, _) = site::judged(story, line.verdict);
        let figures = format!(
            "{:>wide$}  {:>6}  {:>wider$}  ",
            estimate::bytes(line.live_bytes, line.live_bytes_error),
            estimate::share(line.live_bytes, line.live_bytes_error, story.totals.live_bytes),
            estimate::rate(line.growth_bytes_per_second, line.growth_bytes_per_second_error),
        );
        let function = line.function.as_deref().unwrap_or("[no frames]");
        let taken = 9 + plain::columns(&figures) + plain::columns(function) + 2;
        let place = place_of(line, page.width.saturating_sub(taken));
        let verdict = format!("{word:<9}");
        page.line(&[
            (ink, &verdict),
            (Ink::Plain, &figures),
            (Ink::Strong, function),
            (Ink::Plain, "  "),
            (Ink::Plain, &place),
        ]);
        if let Some(caller) = line.callers.first() {
            called_from(page, caller, line, 9 + plain::columns(&figures));
        }
    }
    page.blank();
}

/// Where a line is, in at most `room` columns if its path can be cut so far; code without a source file is somewhere in its module.
fn place_of(line: &Line, room: usize) -> String {
    let number = line.line.map(|line| format!(":{line}")).unwrap_or_default();
    match (&line.file, &line.module) {
        // Code without a name is called after its module.
        (None, Some(module)) if line.function.as_ref().is_some_and(|function| function.contains(module)) => {
            String::new()
        }
        (None, Some(module)) => format!("[{}]", plain::shorten_path(module, room.saturating_sub(2))),
        (file, _) => {
            let room = room.saturating_sub(number.len());
            format!("{}{number}", plain::shorten_path(file.as_deref().unwrap_or_default(), room))
        }
    }
}

/// Who called a line of C code most, in terms of what lives, and for how much of it; below the line's function, or further to the left if the page is narrow.
fn called_from(page: &mut Page, caller: &Caller, line: &Line, indent: usize) {
    let share = if caller.live_bytes == line.live_bytes {
        String::new()
    } else {
        let share = estimate::share(caller.live_bytes, caller.live_bytes_error, line.live_bytes);
        format!(" ({share} of it)")
    };
    let number = caller.line.map(|line| format!(":{line}")).unwrap_or_default();
    let text = format!("called from {}  ", caller.function);
    let taken = plain::columns(&text) + number.len() + share.len();
    let path = caller.file.as_deref().unwrap_or_default();
    // Names are not cut: a long one begins further to the left.
    let shortest = plain::columns(&plain::shorten_path(path, 0));
    let indent =
        if page.width == 0 { indent } else { indent.min(page.width.saturating_sub(taken + shortest)) };
    let text = format!("{}{text}", " ".repeat(indent));
    let file = plain::shorten_path(path, page.width.saturating_sub(taken + indent));
    page.line(&[(Ink::Plain, &text), (Ink::Plain, &file), (Ink::Plain, &number), (Ink::Plain, &share)]);
}

/// One line for what `--top` hides and one for the sites that keep nothing.
fn rest(page: &mut Page, story: &Story, hidden: &[&Site], all: usize, quiet: usize) {
    if !hidden.is_empty() || quiet > 0 {
        page.blank();
    }
    if !hidden.is_empty() {
        let live_bytes = hidden.iter().fold(0, |sum: u64, site| sum.saturating_add(site.live_bytes));
        let live_blocks = hidden.iter().fold(0, |sum: u64, site| sum.saturating_add(site.live_blocks));
        let error = |of: fn(&SumErrors) -> f64| {
            Together::of(story).sum(hidden.iter().filter_map(|site| site.error(of)))
        };
        let of_bytes = error(|errors| errors.live_bytes);
        page.words(&format!(
            "{} not shown: {} live in {} ({} of live bytes). --top {all} shows all.",
            units::plural(hidden.len() as u64, "more site"),
            estimate::bytes(live_bytes, of_bytes),
            estimate::plural(live_blocks, error(|errors| errors.live_blocks), "block"),
            estimate::share(live_bytes, of_bytes, story.totals.live_bytes),
        ));
    }
    if quiet > 0 {
        let keep = if quiet == 1 { "keeps" } else { "keep" };
        page.words(&format!("{} {keep} nothing alive.", units::plural(quiet as u64, "other site")));
    }
}

/// What to say when there is no site to show.
fn nothing(page: &mut Page, story: &Story) {
    let seconds = units::seconds(story.seconds);
    if story.watch.is_some() {
        page.words("No stacks: no pool that was opened while it was watched is in use, nor a large block or a mapping.");
    } else if story.totals.allocated_blocks == 0 {
        page.words(&format!(
            "No sites: nothing was allocated in these {seconds} in the hooked domains ({}). The process was idle, or allocates elsewhere. \
             Trace it while it works, or for longer (-d SECONDS); --domains adds libc, which sees C extensions too.",
            story.hooks.domains.join(", "),
        ));
    } else if story.totals.live_blocks == 0 {
        page.words(&format!(
            "No sites: all of the {} allocated in these {seconds} were freed again. Nothing leaked while we watched.",
            units::plural(story.totals.allocated_blocks, "block"),
        ));
    } else {
        page.words("No sites: none of the live blocks passes the filter (--older).");
    }
}

#[cfg(test)]
mod tests;
