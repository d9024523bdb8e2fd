//! pymalloc's fast paths, wherever the compiler has put them, found by what they do to a pool's header (`Objects/obmalloc.c`, `pymalloc_alloc`
//! and `pymalloc_free`; the header is the same from 3.8 to 3.15):
//!
//! * allocation: `block = pool->freeblock; ++pool->ref.count; pool->freeblock = *block`
//! * free: `*block = lastfree = pool->freeblock; pool->freeblock = block; --pool->ref.count`
//!
//! Both store to `pool->freeblock`, at offset 8; on each way to such a store of the file, the values are followed. The order of the instructions, the registers and
//! the compiler do not matter. A trap is only where nobody comes by who has not just run such a store.

use std::collections::{HashMap, HashSet};

use tracer_common::hook::Register;

use self::event::{Ahead, Event, Held, Verdict, judge};
pub use self::slow::{SlowCall, SlowPath};
use super::Code;
use super::instruction::{AnyInstruction, Flow};
use super::values::Made;
use super::ways::before;

mod event;
mod slow;

/// Size classes of pymalloc, 16 bytes apart.
const CLASSES: u64 = 32;

/// Where the block's address is at a trap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// In this register.
    Held(Register),
    /// In `pool->freeblock`, where it was just put; this register holds the pool.
    Freeblock(Register),
}

/// Where a trap sees a block being handed out or taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Site {
    /// The address of the instruction that gets the trap.
    pub ip: u64,
    /// Where the block's address is there.
    pub block: Block,
    /// The kernel emulates the instruction.
    pub emulated: bool,
    /// The store to `pool->freeblock`.
    pub store: u64,
}

/// How the size of a new block is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// A register holds the bytes that were asked for.
    Asked(Register),
    /// Every block of this site is of one size class, so many bytes.
    Class(u32),
    /// The pool's header tells the size class.
    Pool,
}

/// An allocation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Alloc {
    /// Where.
    pub site: Site,
    /// How large.
    pub size: Size,
}

/// All fast paths of a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct FastPaths {
    /// Allocations, by address.
    pub allocs: Vec<Alloc>,
    /// Frees, by address.
    pub frees: Vec<Site>,
    /// Stores that do what a fast path does, but not on all ways that lead there, or with the block in no register: no trap can be placed.
    pub lost: Vec<u64>,
}

impl FastPaths {
    /// Finds them all.
    #[must_use]
    pub fn of<I: AnyInstruction>(code: &Code<'_, I>) -> Self {
        let mut this = Self::default();
        let mut events = Vec::new();
        for &store in &code.stores {
            match judge(code, store) {
                Verdict::Other => {}
                Verdict::Unclear => this.lost.push(store),
                Verdict::Event(event) => events.push(event),
            }
        }
        let mut groups: HashMap<(u64, bool), Vec<&Event<I>>> = HashMap::new();
        for event in &events {
            groups.entry(event.group()).or_default().push(event);
        }
        let shared: HashMap<(u64, bool), Shared> =
            groups.into_iter().map(|(key, group)| (key, Shared::of(code, &group))).collect();
        let mut pools = Vec::new();
        for event in &events {
            let shared = shared.get(&event.group()).copied().unwrap_or_default();
            match place(code, event, shared.held) {
                None => this.lost.push(event.store()),
                Some((site, _)) if !event.handed_out => this.frees.push(site),
                Some((site, size)) => {
                    pools.push(if shared.one_pool { event.pool } else { Made::Somehow });
                    this.allocs.push(Alloc { site, size: size.map_or(Size::Pool, Size::Asked) });
                }
            }
        }
        this.classes(&pools);
        // Where the compiler has merged the ends of several, they share a trap.
        this.frees.sort_unstable_by_key(|site| (site.ip, site.store));
        this.frees.dedup_by_key(|site| site.ip);
        this.allocs.sort_unstable_by_key(|alloc| (alloc.site.ip, alloc.site.store));
        this
    }

    /// Fills in the classes of the sites that take their pool from a fixed place of `usedpools`, whose address the others tell.
    fn classes(&mut self, pools: &[Made]) {
        let tables = pools.iter().filter_map(|made| match made {
            Made::Entry { table: Some(table), .. } => Some(*table),
            _ => None,
        });
        let Some(table) = most_frequent(tables) else { return };
        for (alloc, made) in self.allocs.iter_mut().zip(pools) {
            let Made::Fixed(address) = *made else { continue };
            // `usedpools` has two words for each class, and pools point at the first of them.
            let Some(inside) = address.checked_sub(table).filter(|inside| inside.is_multiple_of(16)) else {
                continue;
            };
            if inside / 16 < CLASSES {
                alloc.size = Size::Class((inside as u32 / 16 + 1) * 16);
            }
        }
    }
}

/// The value that occurs most often.
pub(super) fn most_frequent<T: Copy + Ord>(values: impl Iterator<Item = T>) -> Option<T> {
    let mut values: Vec<T> = values.collect();
    values.sort_unstable();
    values
        .chunk_by(|one, other| one == other)
        .max_by_key(|same| same.len())
        .and_then(|same| same.first().copied())
}

impl<I: AnyInstruction> Event<I> {
    /// The address of the store.
    fn store(&self) -> u64 {
        self.path.first().map_or(0, I::at)
    }

    /// The instruction at which a trap is cheap, however many events come by there.
    fn trap(&self) -> Option<u64> {
        let decides = |last: &&I| last.flow() != Flow::Jump;
        self.path.last().filter(|_| self.emulated.last() == Some(&true)).filter(decides).map(I::at)
    }

    /// Those with which it shares that instruction, or, by its store, itself alone.
    fn group(&self) -> (u64, bool) {
        (self.trap().unwrap_or_else(|| self.store()), self.handed_out)
    }

    /// A trap before an instruction of the path.
    fn site(&self, index: usize, block: Block) -> Option<Site> {
        let (ip, emulated) = (self.path.get(index)?.at(), *self.emulated.get(index)?);
        Some(Site { ip, block, emulated, store: self.store() })
    }
}

/// The trap of an event, and the register that holds the size there. `shared` is what is held where a trap is cheap, if only known events come by there.
fn place<I: AnyInstruction>(
    code: &Code<'_, I>,
    event: &Event<I>,
    shared: Option<Held>,
) -> Option<(Site, Option<Register>)> {
    if let Some(held) = shared.filter(|_| event.trap().is_some())
        && let Some(block) = whereabouts(held, event.handed_out)
    {
        return Some((event.site(event.path.len() - 1, block)?, held.size.first()));
    }
    // Before anybody else comes along: a cheap instruction, or any at which the block is in a register. The store itself is the first of all.
    let own: HashSet<u64> = event.path.iter().map(I::at).collect();
    let entered = (1..event.path.len()).find(|index| is_entered(code, event, *index, &own));
    let at = |index: usize, stepped: bool| {
        let held = event.held.get(index)?;
        let block = match stepped {
            true => Block::Held(held.block.first()?),
            false => whereabouts(*held, event.handed_out)?,
        };
        Some((event.site(index, block)?, held.size.first()))
    };
    let mut alone = 0..entered.unwrap_or(event.path.len());
    let cheap = alone.clone().skip(1).filter(|index| event.emulated.get(*index) == Some(&true));
    let behind = cheap.filter_map(|index| at(index, false)).next();
    behind.or_else(|| alone.find_map(|index| at(index, true))).or_else(|| {
        let Ahead { ip, block, emulated } = event.ahead?;
        let block = Block::Held(block);
        Some((Site { ip, block, emulated, store: event.store() }, None))
    })
}

/// What is true of all events that end at the same cheap trap.
#[derive(Clone, Copy, Default)]
struct Shared {
    /// What is held there; `None` if somebody else comes by.
    held: Option<Held>,
    /// They find their pool in the same way.
    one_pool: bool,
}

impl Shared {
    fn of<I: AnyInstruction>(code: &Code<'_, I>, events: &[&Event<I>]) -> Self {
        let all: HashSet<u64> = events.iter().flat_map(|event| &event.path).map(I::at).collect();
        let stores: HashSet<u64> = events.iter().map(|event| event.store()).collect();
        // Of two that follow each other, one hit cannot speak for both.
        let apart = |event: &Event<I>| event.path.iter().skip(1).all(|at| !stores.contains(&at.at()));
        let alone =
            |event: &Event<I>| (1..event.path.len()).all(|index| !is_entered(code, event, index, &all));
        let held = events.iter().all(|event| apart(event) && alone(event));
        let held =
            held.then(|| events.iter().filter_map(|event| event.held.last().copied()).reduce(Held::and));
        let one_pool = events.windows(2).all(|pair| matches!(pair, [one, other] if one.pool == other.pool));
        Self { held: held.flatten(), one_pool }
    }
}

/// Whether others than those known come to an instruction of an event's path.
fn is_entered<I: AnyInstruction>(
    code: &Code<'_, I>,
    event: &Event<I>,
    index: usize,
    known: &HashSet<u64>,
) -> bool {
    let Some(at) = event.path.get(index) else { return true };
    let before = before(code, at.at());
    before.unknown || before.known.iter().any(|before| !known.contains(&before.at()))
}

/// How the block can be told.
fn whereabouts(held: Held, handed_out: bool) -> Option<Block> {
    let freeblock = || held.pool.first().filter(|_| !handed_out).map(Block::Freeblock);
    held.block.first().map(Block::Held).or_else(freeblock)
}

#[cfg(test)]
mod tests;
