//! One site of the text report: how bad, what it keeps, and the stack with the leaking line.

use std::borrow::Cow;
use std::collections::HashSet;

use super::page::{Ink, Page};
use crate::heap::spread::Spread;
use crate::heap::verdict::Verdict;
use crate::report::lines::python_caller;
use crate::report::own::Program;
use crate::report::story::{Ints, OTHER_SITES, Site, Story, TypeCount};
use crate::report::{plain, units};
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

/// A verdict's word, its ink and what it means.
pub(super) const fn judged(verdict: Verdict) -> (&'static str, Ink, &'static str) {
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
    let (word, ink, why) = judged(site.verdict);
    let watched = story.watch.is_some();
    let (bytes, blocks) = (units::bytes(site.live_bytes), units::plural(site.live_blocks, "block"));
    let live = if site.live_blocks == 0 {
        "nothing live; only calls of PyLong_FromLong".to_owned()
    } else {
        format!("{bytes} live in {blocks} ({} of live bytes)", units::share(site.live_bytes, all_live_bytes))
    };
    page.line(&[(Ink::Strong, &format!("#{rank}  ")), (ink, word), (Ink::Strong, &format!("  {live}"))]);
    if site.allocated_blocks > 0 {
        page.row(
            INDENT,
            "growth",
            Ink::Plain,
            &format!(
                "{}: {}",
                units::rate(site.growth_bytes_per_second),
                if watched { WATCHED } else { why }
            ),
        );
    }
    if let Some(sizes) = &site.sizes {
        page.row(INDENT, "size", Ink::Plain, &size(site, sizes));
    }
    if !site.types.is_empty() {
        page.row(INDENT, "types", Ink::Plain, &types(&site.types, site.live_blocks));
    }
    // Small blocks that were freed again were not seen.
    if site.allocated_blocks > 0 && !watched {
        page.row(INDENT, "freed", Ink::Plain, &freed(site));
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

/// The type whose objects this site may have allocated for others: most survivors are of a type with a freelist, through which an object
/// goes from line to line without a call of the allocator.
fn handed_on(site: &Site) -> Option<&str> {
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

fn types(types: &[TypeCount], live_blocks: u64) -> String {
    let mut named: Vec<String> =
        types.iter().take(TYPES).map(|one| format!("{} {}", one.name, units::count(one.blocks))).collect();
    if types.len() > TYPES {
        named.push(units::plural((types.len() - TYPES) as u64, "more type"));
    }
    let read = types.iter().fold(0, |sum: u64, one| sum.saturating_add(one.blocks));
    let sample = if read < live_blocks {
        format!(" ({} blocks looked at)", units::count(read))
    } else {
        String::new()
    };
    format!("{}{sample}", named.join(", "))
}

fn freed(site: &Site) -> String {
    let allocated = units::count(site.allocated_blocks);
    if site.freed_blocks == 0 {
        return format!("none of {allocated} allocated");
    }
    let share = units::share(site.freed_blocks, site.allocated_blocks);
    let lived =
        site.lifetimes_ns.as_ref().map(|ages| format!("; they lived {}", spread(ages, units::nanoseconds)));
    format!(
        "{} of {allocated} allocated ({share}){}",
        units::count(site.freed_blocks),
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
