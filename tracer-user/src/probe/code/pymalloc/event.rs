//! What one store to `pool->freeblock` is part of, seen on every way that leads to it, and in which registers block, pool and size are behind it.

use tracer_common::hook::Register;

use super::super::Code;
use super::super::instruction::{AnyInstruction, Flow};
use super::super::registers::Registers;
use super::super::values::{Line, Made, Store, Value};
use super::super::ways::{Before, after, before, extend};

/// Instructions that are followed on each way to the store, and behind it.
const BEFORE: usize = 40;
const BEHIND: usize = 16;

/// Ways to one store that are told apart.
const WAYS: usize = 8;

/// `pool->freeblock`, in bytes from the pool.
const FREEBLOCK: i64 = 8;

/// Bytes that CPython's debug hooks put before a block (`Objects/obmalloc.c`, `_PyMem_DebugRawFree`).
const DEBUG_PREFIX: i64 = 16;

/// An allocation or a free.
pub(super) struct Event<I> {
    /// A block is handed out; else one is taken back.
    pub(super) handed_out: bool,
    /// The store, and what always runs behind it, up to the first instruction but a jump that the kernel emulates.
    pub(super) path: Vec<I>,
    /// For each instruction of the path, whether the kernel emulates it.
    pub(super) emulated: Vec<bool>,
    /// For each instruction of the path, what the registers hold before it runs, whatever way led there.
    pub(super) held: Vec<Held>,
    /// How the pool was found, if there is one way only.
    pub(super) pool: Made,
    /// The last place before the store that always leads to it, and a register that holds the block there: for code that puts the block aside in memory, and has it
    /// in no register behind.
    pub(super) ahead: Option<Ahead>,
}

/// A place before a store.
#[derive(Clone, Copy)]
pub(super) struct Ahead {
    /// The address of the instruction.
    pub(super) ip: u64,
    /// The register that holds the block before it runs.
    pub(super) block: Register,
    /// The kernel emulates it.
    pub(super) emulated: bool,
}

/// Which registers hold what.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Held {
    /// The block.
    pub(super) block: Registers,
    /// The pool.
    pub(super) pool: Registers,
    /// The bytes that were asked for.
    pub(super) size: Registers,
}

/// What a store was found to be.
pub(super) enum Verdict<I> {
    /// None of pymalloc's.
    Other,
    /// One of pymalloc's on some ways, but what it is on the others cannot be told.
    Unclear,
    /// One of pymalloc's.
    Event(Event<I>),
}

/// What a way to a store shows.
struct Sight {
    line: Line,
    pool: Value,
    block: Value,
    handed_out: bool,
    /// The address of the load of `pool->freeblock`.
    load: u64,
}

/// Judges a store to `pool->freeblock`.
pub(super) fn judge<I: AnyInstruction>(code: &Code<'_, I>, store: u64) -> Verdict<I> {
    let Some(first) = code.at(store) else { return Verdict::Other };
    let behind = behind(code, first);
    let Some(ways) = ways(code, first, &behind) else { return Verdict::Other };
    let (Some(handed_out), true) = (ways.handed_out(), ways.all) else { return Verdict::Unclear };
    let emulated: Vec<bool> = behind.iter().map(|at| at.is_emulated(code.bytes(at))).collect();
    let end = behind.iter().zip(&emulated).position(|(at, emulated)| *emulated && at.flow() != Flow::Jump);
    let mut path = behind;
    path.truncate(end.map_or(path.len(), |end| end + 1));
    let each = ways.seen.iter().map(|(way, sight)| held(way, sight, &path));
    let held = each.reduce(|one, other| one.iter().zip(&other).map(|(one, other)| one.and(*other)).collect());
    let pool = match &*ways.seen {
        [(_, only)] => only.line.made(only.pool),
        _ => Made::Somehow,
    };
    let ahead = match &*ways.seen {
        [(way, sight)] if handed_out => ahead(code, way, sight),
        _ => None,
    };
    Verdict::Event(Event { handed_out, path, emulated, held: held.unwrap_or_default(), pool, ahead })
}

/// The last place between the load of the block and the store, the last of the way, from which nothing leads away and to which nothing else leads.
fn ahead<I: AnyInstruction>(code: &Code<'_, I>, way: &[I], sight: &Sight) -> Option<Ahead> {
    let load = way.iter().position(|at| at.at() == sight.load)?;
    let (mut line, mut found) = (Line::new(), None);
    // Values are numbered in the same order as in the sight, which followed the same instructions.
    way.iter().take(load + 1).for_each(|at| line.step(at));
    for at in way.get(load + 1..way.len().checked_sub(1)?)? {
        before(code, at.at()).only().filter(|_| at.flow() == Flow::Next)?;
        if let Some(block) = line.holders(sight.block).first() {
            found = Some(Ahead { ip: at.at(), block, emulated: at.is_emulated(code.bytes(at)) });
        }
        line.step(at);
    }
    before(code, way.last()?.at()).only()?;
    found
}

/// The store and what runs behind it: up to the first instruction that decides, calls or returns.
fn behind<I: AnyInstruction>(code: &Code<'_, I>, store: I) -> Vec<I> {
    std::iter::successors(Some(store), |at| after(code, at)).take(BEHIND + 1).collect()
}

/// The ways to a store on which it is one of pymalloc's, each as far back as it is the only one.
struct Ways<I> {
    seen: Vec<(Vec<I>, Sight)>,
    /// There are no others.
    all: bool,
}

impl<I> Ways<I> {
    /// What it is on all of them.
    fn handed_out(&self) -> Option<bool> {
        let (_, first) = self.seen.first()?;
        self.seen.iter().all(|(_, sight)| sight.handed_out == first.handed_out).then_some(first.handed_out)
    }
}

/// Looks at every way; `None` if the store is none of pymalloc's on any.
fn ways<I: AnyInstruction>(code: &Code<'_, I>, store: I, behind: &[I]) -> Option<Ways<I>> {
    let mut ways = Ways { seen: Vec::new(), all: true };
    let mut open = vec![vec![store]];
    let mut room = WAYS;
    while let Some(mut way) = open.pop() {
        let before = extend(code, &mut way, BEFORE);
        let forks = way.len() < BEFORE && !before.known.is_empty();
        if !forks && !may_count(&way, behind) {
            ways.all = false;
            continue;
        }
        let line: Vec<I> = way.iter().rev().copied().collect();
        if let Some(sight) = look(&line).filter(|sight| counts(code, &line, behind, sight)) {
            ways.seen.push((line, sight));
        } else if forks && room >= before.known.len() && promises(&line) {
            room -= before.known.len();
            ways.all &= !before.unknown;
            open.extend(fork(&way, &before));
        } else {
            ways.all = false;
        }
    }
    (!ways.seen.is_empty()).then_some(ways)
}

fn fork<I: AnyInstruction>(way: &[I], before: &Before<I>) -> Vec<Vec<I>> {
    let longer = |first: &I| way.iter().chain([first]).copied().collect();
    before.known.iter().map(longer).collect()
}

/// Whether anything here stores four bytes where a register points, or a jump decides what comes next: without that, nothing counts a pool's blocks.
fn may_count<I: AnyInstruction>(way: &[I], behind: &[I]) -> bool {
    behind.last().is_some_and(|last| last.flow() == Flow::Decides)
        || way.iter().chain(behind).any(I::changes_half)
}

/// Whether the end of a way, up to its fork, may be the end of one of pymalloc's: nothing in it says where the stored value is from, or it reads or writes where
/// the block may be.
fn promises<I: AnyInstruction>(line: &[I]) -> bool {
    let mut followed = Line::new();
    for instruction in line {
        followed.step(instruction);
    }
    let Some(store) = followed.stores.last().copied() else { return false };
    let older = followed.is_older(store.value);
    let next = matches!(followed.made(store.value), Made::Word { offset: 0, .. });
    older || next
}

/// What the last instruction of a line, a store, is by all that the line shows.
fn look<I: AnyInstruction>(line: &[I]) -> Option<Sight> {
    let mut followed = Line::new();
    for instruction in line {
        followed.step(instruction);
    }
    let last = *followed.stores.last()?;
    let (pool, value) = (last.base, last.value);
    if last.offset != FREEBLOCK || pool == value {
        return None;
    }
    let from_pool = Made::Word { base: pool, offset: FREEBLOCK };
    let freeblock = |value: Value| followed.made(value) == from_pool;
    let (block, handed_out, loaded) = match followed.made(value) {
        Made::Word { base: block, offset: 0 } if freeblock(block) => (block, true, block),
        _ => {
            // The debug hooks know the block by the pointer that they gave out, and by what `memset` returned of it.
            let place = |store: &Store| {
                (store.base, store.offset) == (value, 0)
                    || store.offset == -DEBUG_PREFIX && ![pool, value].contains(&store.base)
            };
            let linked = |store: &&Store| place(store) && freeblock(store.value);
            (value, false, followed.stores.iter().find(linked)?.value)
        }
    };
    let load = followed.made_at(loaded);
    Some(Sight { line: followed, pool, block, handed_out, load })
}

/// Whether the pool's blocks are counted on the line or behind it; if a jump decides first, as in 3.8 whether the pool was full, on both of its sides.
fn counts<I: AnyInstruction>(code: &Code<'_, I>, line: &[I], behind: &[I], sight: &Sight) -> bool {
    let counted = |arm: &[I]| {
        let mut followed = Line::new();
        for instruction in line.iter().chain(behind.iter().skip(1)).chain(arm) {
            followed.step(instruction);
        }
        followed.counted.contains(&(sight.pool, sight.handed_out))
    };
    let sides = || {
        let last = behind.last().filter(|last| last.flow() == Flow::Decides)?;
        let taken = code.at(last.target()?)?;
        Some([self::behind(code, code.at(last.end())?), self::behind(code, taken)])
    };
    counted(&[]) || sides().is_some_and(|sides| sides.iter().all(|side| counted(side)))
}

/// For each instruction of the path, what the registers hold before it, if it was reached on this way.
///
/// What was copied before the part of the way that matters counts only where nothing else holds the value: an indirect jump, which nobody sees, may lead
/// to somewhere in between.
fn held<I: AnyInstruction>(way: &[I], sight: &Sight, path: &[I]) -> Vec<Held> {
    let from = |ip: u64| way.iter().position(|at| at.at() == ip).unwrap_or(0);
    let looked_up = size_of_pool(&sight.line, sight.line.made(sight.pool));
    let whole = follow(way, path);
    let close = follow(way.get(from(sight.load)..).unwrap_or_default(), path);
    let sized = looked_up.and_then(|(_, less)| way.get(from(sight.line.made_at(less))..));
    let sized = sized.map(|way| follow(way, path)).unwrap_or_default();
    whole
        .into_iter()
        .enumerate()
        .map(|(index, whole)| {
            let close = close.get(index).copied().unwrap_or_default();
            let sized = sized.get(index).copied().unwrap_or_default();
            Held {
                block: close.block.or(whole.block),
                pool: close.pool.or(whole.pool),
                size: sized.size.or(whole.size),
            }
        })
        .collect()
}

/// What is held along the path, as far as a line that leads to it shows.
fn follow<I: AnyInstruction>(line: &[I], path: &[I]) -> Vec<Held> {
    let Some(sight) = look(line) else { return Vec::new() };
    let size = size_of_pool(&sight.line, sight.line.made(sight.pool)).map(|(size, _)| size);
    let mut followed = Line::new();
    for instruction in line.iter().take(line.len().saturating_sub(1)) {
        followed.step(instruction);
    }
    let mut held = Vec::new();
    for instruction in path {
        held.push(Held {
            block: followed.holders(sight.block),
            pool: followed.holders(sight.pool),
            size: size.map_or_else(Registers::default, |size| followed.holders(size)),
        });
        followed.step(instruction);
    }
    held
}

/// The value that a pool was looked up with, `usedpools[2 * ((size - 1) / 16)]`, and the one that is one less.
pub(super) fn size_of_pool(line: &Line, pool: Made) -> Option<(Value, Value)> {
    let Made::Entry { index, .. } = pool else { return None };
    let Made::Twice(class) = line.made(index) else { return None };
    let Made::Sixteenth(less) = line.made(class) else { return None };
    let Made::Next { of: size, up: false } = line.made(less) else { return None };
    Some((size, less))
}

impl Held {
    /// What both say.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            block: self.block.and(other.block),
            pool: self.pool.and(other.pool),
            size: self.size.and(other.size),
        }
    }
}
