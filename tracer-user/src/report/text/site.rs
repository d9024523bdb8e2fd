//! One site of the text report: how bad, what it keeps, and the stack with the leaking line.

use std::borrow::Cow;
use std::collections::HashSet;

use super::family;
use super::page::{Ink, Page};
use crate::heap::spread::Spread;
use crate::heap::verdict::Verdict;
use crate::report::lines::python_caller;
use crate::report::own::Program;
use crate::report::story::{Ints, OTHER_SITES, Site, Story, TypeCount};
use crate::report::{estimate, plain, units};
use crate::symbol::Frame;

/// Types with a freelist in CPython 3.11 (`Include/internal/pycore_{list,dict,tuple,floatobject}.h`).
const FREELISTED: [&str; 4] = ["list", "dict", "tuple", "float"];
/// Types named in a line.
const TYPES: usize = 5;
/// Columns that function names are padded to at most.
const FUNCTION: usize = 40;
/// Columns before a label, and before a frame without the arrow.
const INDENT: usize = 4;
/// Frames in a row that are worth folding.
const FOLDED: usize = 3;
/// What points at the leaking line; as wide as [`INDENT`].
const ARROW: &str = "==> ";

/// In the place of a verdict's meaning, where only slow paths were watched.
const WATCHED: &str = "what pools opened here, large blocks and mappings hold; no verdict";

/// A verdict's word, its ink and what it means: of samples it was made from old survivors, else from the course of all that lived.
pub(super) fn judged(story: &Story, verdict: Verdict) -> (&'static str, Ink, &'static str) {
    let (word, ink, meaning) = traced(verdict);
    let meaning = match verdict {
        _ if story.watch.is_some() => WATCHED,
        _ if story.sampling.is_none() => meaning,
        Verdict::Leak => "old blocks stay, and more join them all the time",
        Verdict::Cache => "filled early; little that stays came later",
        Verdict::Plateau => "bounded: it takes its time, but what is old dies",
        Verdict::Churn => meaning,
        Verdict::Unknown => "too few samples, or too early, for a verdict",
    };
    (word, ink, meaning)
}

const fn traced(verdict: Verdict) -> (&'static str, Ink, &'static str) {
    match verdict {
        Verdict::Leak => ("LEAK", Ink::Alarm, "grows steadily to the end; what is old does not die"),
        Verdict::Cache => ("CACHE", Ink::Strong, "filled, then stopped growing"),
        Verdict::Plateau => ("PLATEAU", Ink::Strong, "bounded: blocks come and go"),
        Verdict::Churn => ("CHURN", Ink::Strong, "nearly all that is allocated is freed"),
        Verdict::Unknown => ("UNKNOWN", Ink::Strong, "too early or too uneven for a verdict"),
    }
}

/// Writes one site. `told` are the reasons for missing names that have been given before: each is given once.
pub(super) fn write<'a>(
    page: &mut Page,
    rank: usize,
    site: &'a Site,
    story: &Story,
    told: &mut HashSet<&'a str>,
) {
    let all_live_bytes = story.totals.live_bytes;
    let (word, ink, why) = judged(story, site.verdict);
    let error = site.error(|errors| errors.live_bytes);
    let bytes = estimate::bytes(site.live_bytes, error);
    let blocks = estimate::plural(site.live_blocks, site.error(|errors| errors.live_blocks), "block");
    let (held_bytes, held_blocks) = site.held_at_exit();
    let live = if site.live_blocks == 0 && held_blocks > 0 {
        let (bytes, blocks) = (units::bytes(held_bytes), units::plural(held_blocks, "block"));
        format!("nothing live; processes that have exited held {bytes} in {blocks}")
    } else if site.live_blocks == 0 {
        "nothing live; only calls of PyLong_FromLong".to_owned()
    } else {
        let share = estimate::share(site.live_bytes, error, all_live_bytes);
        format!("{bytes} live in {blocks} ({share} of live bytes)")
    };
    page.line(&[(Ink::Strong, &format!("#{rank}  ")), (ink, word), (Ink::Strong, &format!("  {live}"))]);
    if site.allocated_blocks > 0 {
        let rate = estimate::rate(site.growth_bytes_per_second, site.growth_error());
        page.row(INDENT, "growth", Ink::Plain, &format!("{rate}: {why}"));
    }
    if let (Some(samples), Some(survivors)) = (site.samples, site.survivors) {
        let text = format!("{} seen; {} old and alive", units::plural(samples, "birth"), are(survivors));
        page.row(INDENT, "samples", Ink::Plain, &text);
    }
    if let Some(sizes) = &site.sizes {
        page.row(INDENT, "size", Ink::Plain, &size(site, sizes));
    }
    if !site.types.is_empty() {
        page.row(INDENT, "types", Ink::Plain, &types(site));
    }
    // Small blocks that were freed again were not seen.
    if site.allocated_blocks > 0 && story.watch.is_none() {
        page.row(INDENT, "freed", Ink::Plain, &freed(site));
    }
    if let Some(whose) = family::whose(site) {
        page.row(INDENT, "process", Ink::Plain, &whose);
    }
    if let Some(name) = handed_on(site) {
        let hint = format!(
            "CPython reuses {name} objects through a freelist: another line may keep what this one allocated"
        );
        page.row(INDENT, "note", Ink::Strong, &hint);
    }
    if let Some(ints) = &site.ints {
        page.row(INDENT, "int", Ink::Plain, &calls(ints));
    }
    stack(page, site, Program::of(story));
    for reason in site.stack.iter().filter_map(|frame| frame.unnamed.as_deref()) {
        if told.insert(reason) {
            page.row(INDENT, "unnamed", Ink::Plain, reason);
        }
    }
}

fn are(blocks: u64) -> String {
    match blocks {
        0 => "none of them is".to_owned(),
        1 => "1 of them is".to_owned(),
        blocks => format!("{} of them are", units::count(blocks)),
    }
}

/// The type whose objects this site may have allocated for others: most survivors are of a type with a freelist, through which an object
/// goes from line to line without a call of the allocator.
fn handed_on(site: &Site) -> Option<&str> {
    // Samples are of objects, from birth to death, and not of calls of the allocator.
    if site.samples.is_some() {
        return None;
    }
    let first = site.types.first()?;
    let most = first.blocks > site.live_blocks / 2;
    (most && FREELISTED.contains(&first.name.as_str())).then_some(&first.name)
}

/// Who leaks, in a few words: `handler (/app/app.py:12)`, and for native code the Python function that called it. Places take at most
/// `room` columns if their paths can be cut so far.
pub(super) fn headline(story: &Story, site: &Site, room: usize) -> String {
    let leaking = Program::of(story).leaking(&site.stack);
    let Some((at, frame)) = leaking.and_then(|at| Some((at, site.stack.get(at)?))) else {
        let others = site.stack_note.as_deref().is_some_and(|note| note.starts_with(OTHER_SITES));
        return if others {
            "other sites".to_owned()
        } else {
            format!("code without frames ({} domain)", site.domain)
        };
    };
    match python_caller(&site.stack, at) {
        Some(caller) => format!("{}, called from {}", named(frame, room), named(caller, room)),
        None => named(frame, room),
    }
}

fn named(frame: &Frame, room: usize) -> String {
    let place = place(frame, room);
    if place.is_empty() { frame.function.clone() } else { format!("{} ({place})", frame.function) }
}

fn size(site: &Site, sizes: &Spread) -> String {
    let domain = &site.domain;
    if let Some(error) = site.error(|errors| errors.live_bytes) {
        let asked = if sizes.min == sizes.max {
            format!("{} asked each", units::bytes(sizes.min))
        } else {
            format!("{} asked", spread(sizes, units::bytes))
        };
        // What is given errs as what was asked for does.
        let error = error * site.live_given_bytes as f64 / site.live_bytes.max(1) as f64;
        let given = estimate::bytes(site.live_given_bytes, Some(error));
        // Only objects have parts that are charged to them.
        let parts = if domain == "object" { ", their tables and arrays included" } else { "" };
        return format!("{asked}; {given} given in all{parts} ({domain} domain)");
    }
    if sizes.min == sizes.max {
        let given = site.live_given_bytes.checked_div(site.live_blocks).unwrap_or_default();
        return format!(
            "{} asked, {} given, each ({domain} domain)",
            units::bytes(sizes.min),
            units::bytes(given)
        );
    }
    format!(
        "{} asked; {} given in all ({domain} domain)",
        spread(sizes, units::bytes),
        units::bytes(site.live_given_bytes),
    )
}

fn spread(spread: &Spread, unit: fn(u64) -> String) -> String {
    let of = [("p50", spread.p50), ("p90", spread.p90), ("p99", spread.p99), ("max", spread.max)];
    of.map(|(name, value)| format!("{name} {}", unit(value))).join(", ")
}

fn types(site: &Site) -> String {
    let (types, live_blocks) = (&site.types, site.live_blocks);
    let read = types.iter().fold(0, |sum: u64, one| sum.saturating_add(one.blocks));
    let is_sampled = site.samples.is_some();
    let told = |one: &TypeCount| {
        // Some of those that live are a sample of all: only their proportions say something.
        let blocks = if is_sampled {
            estimate::share(one.blocks, Some(2.0 * (one.blocks as f64).sqrt()), read)
        } else {
            units::count(one.blocks)
        };
        format!("{} {blocks}", one.name)
    };
    let mut named: Vec<String> = types.iter().take(TYPES).map(told).collect();
    if types.len() > TYPES {
        named.push(units::plural((types.len() - TYPES) as u64, "more type"));
    }
    let sample = if is_sampled || read < live_blocks {
        format!(" ({} looked at)", units::plural(read, "block"))
    } else {
        String::new()
    };
    format!("{}{sample}", named.join(", "))
}

fn freed(site: &Site) -> String {
    let allocated = estimate::count(site.allocated_blocks, site.error(|errors| errors.allocated_blocks));
    let error = site.error(|errors| errors.freed_blocks);
    if site.freed_blocks == 0 {
        return format!("none of {allocated} allocated");
    }
    let share = estimate::share(site.freed_blocks, error, site.allocated_blocks);
    let lived =
        site.lifetimes_ns.as_ref().map(|ages| format!("; they lived {}", spread(ages, units::nanoseconds)));
    format!(
        "{} of {allocated} allocated ({share}){}",
        estimate::count(site.freed_blocks, error),
        lived.unwrap_or_default()
    )
}

fn calls(ints: &Ints) -> String {
    let values: Vec<String> =
        ints.values.iter().map(|one| format!("{} ×{}", one.value, units::count(one.calls))).collect();
    let values = if values.is_empty() { String::new() } else { format!("; values {}", values.join(", ")) };
    format!("{}, {} cached small ints{values}", units::plural(ints.calls, "call"), units::count(ints.small))
}

fn stack(page: &mut Page, site: &Site, program: Program<'_>) {
    let leaking = program.leaking(&site.stack);
    let rows = rows(&site.stack, program, leaking);
    let most = FUNCTION.min(page.width / 3);
    let columns = rows.iter().filter_map(|row| {
        if let Row::Frame(_, frame) = row { Some(plain::columns(&frame.function)) } else { None }
    });
    let widest = columns.filter(|columns| *columns <= most).max().unwrap_or_default();
    for row in rows {
        match row {
            Row::Frame(at, frame) => {
                let function = format!("{:<widest$}  ", frame.function);
                line(page, frame, &function, (Some(at) == leaking, program.is_own(frame)));
            }
            Row::Folded(count, what) => page.line(&[(Ink::Dim, &format!("    … {count} {what}"))]),
        }
    }
    if site.stack.is_empty() {
        page.line(&[(Ink::Plain, "    [no frames]")]);
    }
    if let Some(note) = &site.stack_note {
        page.line(&[(Ink::Strong, "    [stack not whole: "), (Ink::Strong, note), (Ink::Strong, "]")]);
    }
}

/// One frame: the one that leaks, one that merely serves, or another.
fn line(page: &mut Page, frame: &Frame, function: &str, (leaking, own): (bool, bool)) {
    let room = page.width.saturating_sub(INDENT + plain::columns(function));
    if leaking {
        return page.line(&[
            (Ink::Alarm, ARROW),
            (Ink::Strong, function),
            (Ink::Strong, &place(frame, room)),
        ]);
    }
    // What merely serves stands back, and its source is not on this machine: two parts of its path are enough to find it in CPython's.
    let ink = if own { Ink::Dim } else { Ink::Plain };
    let place = if own { place(&with_short_path(frame), room) } else { place(frame, room) };
    page.line(&[(Ink::Plain, &" ".repeat(INDENT)), (ink, function), (ink, &place)]);
}

/// A line of a stack.
enum Row<'a> {
    /// A frame and its index.
    Frame(usize, &'a Frame),
    /// How many frames are not shown, and what they are.
    Folded(usize, &'static str),
}

/// The frames of a stack, without those of the interpreter that tell a reader nothing: many in a row without names, and those at the outer end that every stack of the thread
/// ends in (how it was started).
fn rows<'a>(stack: &'a [Frame], program: Program<'_>, leaking: Option<usize>) -> Vec<Row<'a>> {
    let own = |frame: &Frame| program.is_own(frame);
    let nameless = |frame: &Frame| frame.unnamed.is_some() && own(frame);
    let end = stack.iter().rposition(|frame| !own(frame)).map_or(stack.len(), |at| at + 1);
    let mut rows = Vec::with_capacity(stack.len());
    let mut frames = stack.iter().enumerate().peekable();
    while let Some((at, frame)) = frames.next() {
        let rest = stack.get(at..).unwrap_or_default();
        let (count, what) = if at == end {
            (rest.len(), "outer C frames of the interpreter and the C library")
        } else {
            (
                rest.iter().take_while(|frame| nameless(frame)).count(),
                "C frames of the interpreter without names",
            )
        };
        if count < FOLDED || Some(at) == leaking {
            rows.push(Row::Frame(at, frame));
        } else {
            rows.push(Row::Folded(count, what));
            while frames.next_if(|(next, _)| *next < at + count).is_some() {}
        }
    }
    rows
}

/// The frame with no more than the last folder of its source file's path.
fn with_short_path(frame: &Frame) -> Frame {
    let short = |file: &String| match file.rmatch_indices('/').nth(1) {
        Some((at, _)) => file.get(at + 1..).unwrap_or(file).to_owned(),
        None => file.clone(),
    };
    Frame { file: frame.file.as_ref().map(short), ..frame.clone() }
}

/// Where a frame is, in at most `room` columns if its paths can be cut so far: `file:line [module]`.
pub(super) fn place(frame: &Frame, room: usize) -> String {
    let line = frame.line.map(|line| format!(":{line}")).unwrap_or_default();
    let inlined = if frame.inlined { " (inlined)" } else { "" };
    let file = frame.file.as_deref().unwrap_or_default();
    let Some(module) = &frame.module else {
        let tail = format!("{line}{inlined}");
        return format!("{}{tail}", plain::shorten_path(file, room.saturating_sub(plain::columns(&tail))));
    };
    let between = if file.is_empty() { "" } else { " " };
    // A nameless frame's function says the module's name already; where that lies is news.
    let path = frame.place.as_ref().filter(|_| frame.unnamed.is_some()).map(|place| &place.path);
    let module = path.map_or_else(|| without_tag(module), |path| Cow::Borrowed(path.as_str()));
    // The module gives way first: its directory says less than the source's.
    let rest = plain::columns(file) + plain::columns(&line) + between.len() + 2 + inlined.len();
    let module = plain::shorten_path(&module, room.saturating_sub(rest));
    let tail = format!("{line}{between}[{module}]{inlined}");
    format!("{}{tail}", plain::shorten_path(file, room.saturating_sub(plain::columns(&tail))))
}

/// The name of a C extension without the tag that says for which CPython it was built (PEP 3149), which is the same for all of them: `engine….so` of
/// `engine.cpython-311-x86_64-linux-gnu.so`.
fn without_tag(module: &str) -> Cow<'_, str> {
    match module.split_once(".cpython-").and_then(|(name, tag)| tag.strip_suffix(".so").map(|_| name)) {
        Some(name) => Cow::Owned(format!("{name}….so")),
        None => Cow::Borrowed(module),
    }
}
