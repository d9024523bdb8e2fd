//! `allocate_from_new_pool`: the function that is called where a fast path finds no pool with a free block, and which fast path each call stands in for.

use std::collections::HashMap;

use tracer_common::hook::Register;

use super::super::Code;
use super::super::instruction::{AnyInstruction, Flow};
use super::super::values::Line;
use super::super::ways::{before, leading};
use super::event::size_of_pool;
use super::{Alloc, most_frequent};

/// Instructions that are followed back from a call to where its pool was looked up.
const BEFORE: usize = 40;

/// A call of `allocate_from_new_pool`, or a jump to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowCall {
    /// The address of the call.
    pub ip: u64,
    /// The address behind it, to which it returns; `None` if it is a jump, and returns to who called the function that jumps.
    pub next_ip: Option<u64>,
    /// The allocation in whose place it is made, by its number.
    pub owner: Option<usize>,
    /// A register that still holds the bytes asked for.
    pub size: Option<Register>,
}

/// Where `allocate_from_new_pool` is, and who calls it.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct SlowPath {
    /// Its address.
    pub function: u64,
    /// Its calls.
    pub calls: Vec<SlowCall>,
}

/// The most calls that are looked at; Debian's CPython has 171.
const CALLS: usize = 1 << 16;

/// Instructions from a jump to the fast path or to the slow call that it decides between.
const ARM: usize = 16;

impl SlowPath {
    /// Finds it: the function that is called where the fast path is not taken.
    #[must_use]
    pub fn of<I: AnyInstruction>(code: &Code<'_, I>, allocs: &[Alloc]) -> Option<Self> {
        let callees = allocs.iter().flat_map(|alloc| {
            deciders(code, alloc.site.store).into_iter().take(2).filter_map(|side| first_call(code, side))
        });
        let function = most_frequent(callees)?;
        let stores: HashMap<u64, usize> =
            allocs.iter().enumerate().map(|(number, alloc)| (alloc.site.store, number)).collect();
        let edges = code.calls_of(function).iter().chain(code.jumps_to(function));
        let calls = edges.take(CALLS).filter_map(|edge| {
            let call = code.at(edge.source)?;
            let next_ip = is_call(&call).then(|| call.end());
            let owner = owner(code, &stores, &call);
            Some(SlowCall { ip: call.at(), next_ip, owner, size: size_at(code, call.at()) })
        });
        Some(Self { function, calls: calls.collect() })
    }

    /// Whether each call is the slow arm of a fast path of its own, and each fast path has one: then none is missing.
    #[must_use]
    pub fn matches(&self, allocs: &[Alloc]) -> bool {
        let mut owners: Vec<usize> = self.calls.iter().filter_map(|call| call.owner).collect();
        owners.sort_unstable();
        owners.dedup();
        owners.len() == self.calls.len() && owners.len() == allocs.len()
    }
}

/// The other sides of the conditional jumps that decide whether the code at `ip` is run: of those just before it, nearest first, and of those that jump to it.
fn deciders<I: AnyInstruction>(code: &Code<'_, I>, ip: u64) -> Vec<u64> {
    let mut sides = Vec::new();
    let mut at = ip;
    for _ in 0..ARM {
        for source in before(code, at).known {
            if source.flow() == Flow::Decides
                && let Some(taken) = source.target()
            {
                sides.push(if taken == at { source.end() } else { taken });
            }
        }
        let falls = |above: &I| matches!(above.flow(), Flow::Next | Flow::Decides);
        let Some(above) = code.before(at).filter(|above| falls(above)) else { break };
        at = above.at();
    }
    sides
}

fn is_call<I: AnyInstruction>(instruction: &I) -> bool {
    matches!(instruction.flow(), Flow::Call | Flow::CallThrough)
}

/// The function that is called first from here on.
fn first_call<I: AnyInstruction>(code: &Code<'_, I>, from: u64) -> Option<u64> {
    along(code, from).find(is_call)?.target()
}

/// The allocation that is made instead of a slow call; `stores` has their numbers.
fn owner<I: AnyInstruction>(code: &Code<'_, I>, stores: &HashMap<u64, usize>, call: &I) -> Option<usize> {
    // A jump may itself be what decides.
    let own = (call.flow() == Flow::Decides).then(|| call.end());
    own.into_iter().chain(deciders(code, call.at())).find_map(|side| {
        along(code, side)
            .take_while(|instruction| !is_call(instruction))
            .find_map(|instruction| stores.get(&instruction.at()).copied())
    })
}

/// A register that still holds, where the slow path is called, the bytes that the pool was looked up with.
fn size_at<I: AnyInstruction>(code: &Code<'_, I>, call: u64) -> Option<Register> {
    let way = leading(code, call, BEFORE);
    let before_call = way.len().saturating_sub(1);
    let holders = |from: usize| {
        let mut line = Line::new();
        for instruction in way.iter().take(before_call).skip(from) {
            line.step(instruction);
        }
        let (size, less) = line.pools().filter_map(|pool| size_of_pool(&line, pool)).last()?;
        Some((line.holders(size), line.made_at(less)))
    };
    let (whole, less) = holders(0)?;
    // A copy from before the lookup counts only where nothing else holds the size, as at the fast path.
    let close = way.iter().position(|at| at.at() == less).and_then(holders);
    close.map_or(whole, |(close, _)| close.or(whole)).first()
}

/// The instructions from an address on, as they run when no conditional jump is taken.
fn along<'c, I: AnyInstruction>(code: &'c Code<'_, I>, from: u64) -> impl Iterator<Item = I> + 'c {
    let follow = move |instruction: &I| match instruction.flow() {
        Flow::Jump => code.at(instruction.target()?),
        Flow::Next | Flow::Decides | Flow::Call => code.at(instruction.end()),
        _ => None,
    };
    std::iter::successors(code.at(from), follow).take(ARM)
}
