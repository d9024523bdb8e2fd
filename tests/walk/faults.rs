//! Recordings with holes: memory that cannot be read costs frames or names, and it is always told; it never gives a wrong name.

use tracer_common::frame::PyFrame;
use tracer_common::walk::WalkEnd;
use tracer_user::symbol::code::{GONE, Named};
use tracer_user::target::recorded::Recorded;

use crate::expected::{Pair, Told, all};
use crate::look::{Seen, look};
use crate::recorder::{Regions, regions_of};

/// A loss that was told.
#[derive(Debug, Default, PartialEq, Eq)]
struct Lost {
    /// The walk ended early.
    frames: bool,
    /// Code objects that could not be read when the stack was walked.
    faulted: usize,
    /// Names.
    names: usize,
    /// Lines of frames that have names.
    lines: usize,
}

/// What was lost. Panics at a wrong name, or at a loss that is passed over in silence.
fn lost(pair: &Pair, hole: &str, seen: &Seen) -> Lost {
    let told = &pair.expected.frames;
    let whole = if pair.expected.truncated { WalkEnd::Truncated } else { WalkEnd::Complete };
    assert!(seen.named.len() <= told.len(), "{hole}: frames were invented");
    // What lies behind the last frame may be a shim.
    let early = seen.end == WalkEnd::Fault;
    let is_whole = seen.end == whole && seen.named.len() == told.len();
    assert!(early || is_whole, "{hole}: {:?} with {} of {} frames", seen.end, seen.named.len(), told.len());
    let mut lost = Lost { frames: early, ..Lost::default() };
    for ((told, frame), named) in told.iter().zip(&seen.frames).zip(&seen.named) {
        let faulted = frame.flags & PyFrame::FAULTED != 0;
        assert!(!faulted || named.gone, "{hole}: unreadable code has the name {named:?}");
        assert!(right(told, named), "{hole}: CPython says {told:?}, the walk {named:?}");
        lost.faulted += usize::from(faulted);
        lost.names += usize::from(named.gone);
        lost.lines += usize::from(!named.gone && named.frame.line.is_none());
    }
    lost
}

/// The right name, whole or without its line, or the word that there is none.
fn right(told: &Told, named: &Named) -> bool {
    if named.gone {
        return named.frame.function == GONE && named.frame.file.is_none() && named.frame.line.is_none();
    }
    told.is(&named.frame) || (told.names(&named.frame) && named.frame.line.is_none())
}

/// Walks what is left, and says what was lost; `None` when not even the thread was found.
fn walk_with(pair: &Pair, hole: &str, regions: &Regions) -> Option<Lost> {
    let memory = Recorded::new(regions.clone().into_iter().collect());
    let seen = look(&memory, pair.layout(), pair.expected.runtime, pair.expected.ident, u32::MAX).ok()?;
    Some(lost(pair, hole, &seen))
}

#[test]
fn nothing_is_lost_without_a_hole() {
    for pair in all() {
        let lost = walk_with(&pair, "no hole", &regions_of(&pair.memory));
        assert_eq!(lost, Some(Lost::default()), "{}", pair.name);
    }
}

/// The regions that a loss is told of. A single byte is the opcode that tells whether a generator waits, which nothing here depends on.
fn matter(regions: &Regions) -> impl Iterator<Item = (&u64, &Vec<u8>)> {
    regions.iter().filter(|(_, bytes)| bytes.len() > 1)
}

#[test]
fn each_region_that_is_missing_is_told() {
    for pair in all() {
        let whole = regions_of(&pair.memory);
        let (mut kinds, mut spared) = ([0; 5], 0);
        for start in matter(&whole).map(|(start, _)| start) {
            let hole = format!("{} without the region at {start:#x}", pair.name);
            let mut regions = whole.clone();
            regions.remove(start);
            match walk_with(&pair, &hole, &regions) {
                None => kinds[0] += 1,
                // The frame behind the last one that fits only says whether C code called that.
                Some(lost) if lost == Lost::default() && pair.expected.truncated => spared += 1,
                Some(lost) => {
                    assert_ne!(lost, Lost::default(), "{hole}: nothing was lost, so nobody reads it");
                    let each = [lost.frames, lost.faulted > 0, lost.names > 0, lost.lines > 0];
                    kinds[1..].iter_mut().zip(each).for_each(|(kind, lost)| *kind += usize::from(lost));
                }
            }
        }
        assert!(spared <= 4, "{}: {spared} holes cost nothing", pair.name);
        let [thread, frames, faulted, names, lines] = kinds;
        eprintln!(
            "{}: {} holes; lost the thread {thread}, frames {frames}, code {faulted}, names {names}, lines {lines} times",
            pair.name,
            whole.len()
        );
        assert!(
            kinds.iter().all(|kind| *kind > 0),
            "{}: a kind of loss never happened: {kinds:?}",
            pair.name
        );
    }
}

#[test]
fn each_region_that_is_cut_short_is_told() {
    for pair in all() {
        let whole = regions_of(&pair.memory);
        let mut spared = 0;
        for (start, bytes) in matter(&whole) {
            for len in [1, bytes.len() / 2, bytes.len() - 1] {
                let hole = format!("{} with {len} bytes at {start:#x}", pair.name);
                let mut regions = whole.clone();
                regions.insert(*start, bytes[..len.min(bytes.len() - 1)].to_vec());
                // Whatever is lost, no name is wrong; the end of a text may be missed by nobody.
                let is_spared = walk_with(&pair, &hole, &regions) == Some(Lost::default());
                spared += usize::from(is_spared && len == 1);
            }
        }
        let most = if pair.expected.truncated { 4 } else { 0 };
        assert!(spared <= most, "{}: {spared} cuts cost nothing", pair.name);
    }
}
