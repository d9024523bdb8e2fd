//! How far two views of the same stacks agree.

use std::collections::BTreeMap;
use std::fmt;

use tracer_common::native::NativeEnd;
use unshed_tests::harness::{FrameKind, StoppedThread};

use super::walker::Walked;

/// Kinds of disagreement that are printed.
const SHOWN: usize = 20;

/// A share in percent; none of nothing.
pub(super) fn percent(part: usize, whole: usize) -> f64 {
    100.0 * part as f64 / whole.max(1) as f64
}

/// Sums over stacks.
#[derive(Debug, Default)]
pub(super) struct Tally {
    /// Stacks compared.
    pub(super) stacks: usize,
    /// Stacks that are the same from end to end.
    same: usize,
    /// Frames, of the longer one of both views each time.
    pub(super) frames: usize,
    /// Frames that both have at the same place.
    pub(super) agreeing: usize,
    /// Stacks with a signal's frame.
    pub(super) interrupted: usize,
    /// Stacks that are longer than what is walked.
    pub(super) cut: usize,
    /// Where the views part: how often, and one stack of it.
    partings: BTreeMap<String, (usize, String)>,
}

impl Tally {
    /// Adds a stack.
    pub(super) fn add(&mut self, thread: &StoppedThread, walked: &Walked, describe: impl Fn(u64) -> String) {
        let mut theirs: Vec<u64> = thread.addresses().into_iter().map(|(address, _)| address).collect();
        if walked.end == NativeEnd::Depth {
            theirs.truncate(walked.frames.len());
            self.cut += 1;
        }
        let ours = &walked.frames;
        let agreeing = ours.iter().zip(&theirs).filter(|(one, other)| one == other).count();
        let frames = ours.len().max(theirs.len());
        self.stacks += 1;
        self.same += usize::from(agreeing == frames);
        self.frames += frames;
        self.agreeing += agreeing;
        self.interrupted += usize::from(thread.frames.iter().any(|frame| frame.kind == FrameKind::Signal));
        if agreeing < frames {
            let parting = ours.iter().zip(&theirs).take_while(|(one, other)| one == other).count();
            let place = |list: &[u64], at: Option<usize>| {
                let address = at.and_then(|at| list.get(at));
                address.map_or_else(|| "nothing".to_owned(), |address| describe(address.wrapping_sub(1)))
            };
            let kind = format!(
                "above {}: gdb has {}, the walk {} ({:?}; gdb: {})",
                place(ours, parting.checked_sub(1)),
                place(&theirs, Some(parting)),
                place(ours, Some(parting)),
                walked.end,
                thread.end,
            );
            let whole = || {
                let line = |at| format!("\n      {:<60} {}", place(&theirs, Some(at)), place(ours, Some(at)));
                let registers =
                    format!("rip {:#x}, rsp {:#x}, rbp {:#x}", thread.rip, thread.rsp, thread.rbp);
                registers + &(0..frames).map(line).collect::<String>()
            };
            self.partings.entry(kind).or_insert_with(|| (0, whole())).0 += 1;
        }
    }

    /// The share of frames that agree.
    pub(super) fn percent(&self) -> f64 {
        percent(self.agreeing, self.frames)
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { stacks, same, frames, agreeing, interrupted, cut, .. } = self;
        write!(
            to,
            "{stacks} stacks, {same} the same; {frames} frames, {agreeing} agree: {:.3} %; \
             {interrupted} stacks with signals, {cut} too long",
            self.percent()
        )?;
        let mut partings: Vec<_> = self.partings.iter().collect();
        partings.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
        for (kind, (count, stack)) in partings.iter().take(SHOWN) {
            write!(to, "\n  {count} times {kind}\n    gdb, the walk; {stack}")?;
        }
        let more = partings.len().saturating_sub(SHOWN);
        if more > 0 { write!(to, "\n  and {more} other kinds") } else { Ok(()) }
    }
}
