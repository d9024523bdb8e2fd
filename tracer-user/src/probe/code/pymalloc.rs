//! pymalloc's fast paths, wherever the compiler has put them, found by what they do to a pool's header (`Objects/obmalloc.c`, `pymalloc_alloc`
//! and `pymalloc_free`; the header is the same from 3.8 to 3.15):
//!
//! * allocation: `block = pool->freeblock; ++pool->ref.count; pool->freeblock = *block`
//! * free: `*block = lastfree = pool->freeblock; pool->freeblock = block; --pool->ref.count`
//!
//! Both store to `pool->freeblock`, at offset 8; around each such store of the file, the values are followed along the straight line. The order of the
//! instructions, the registers and the compiler do not matter.

use iced_x86::{FlowControl, Instruction, Mnemonic};
use tracer_common::hook::Register;

use super::super::sites::spot::is_emulated;
use super::values::{Line, Made, Store, Value};
use super::{Code, is_near};

/// Instructions that are followed before the store, and behind it until a trap can be placed.
const BEFORE: usize = 40;
const BEHIND: usize = 16;

/// `pool->freeblock`, in bytes from the pool.
const FREEBLOCK: i64 = 8;

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
    /// Stores that do what a fast path does, but behind which no register holds the block: no trap can be placed.
    pub lost: Vec<u64>,
}

/// What a store to `pool->freeblock` was part of.
struct Found {
    block: Value,
    pool: Value,
    /// An allocation; else a free.
    handed_out: bool,
    /// The instruction behind which the block's entry is complete.
    last: Instruction,
    store: u64,
}

impl FastPaths {
    /// Finds them all.
    #[must_use]
    pub fn of(code: &Code<'_>) -> Self {
        let mut this = Self::default();
        let mut pools = Vec::new();
        for &store in &code.stores {
            let Some((mut line, found)) = recognise(code, store) else { continue };
            let Some(site) = place(code, &mut line, &found) else {
                this.lost.push(store);
                continue;
            };
            match found.handed_out {
                false => this.add_free(site),
                true => {
                    let made = line.made(found.pool);
                    pools.push(made);
                    let size = asked(code, &line, made, site.ip).unwrap_or(Size::Pool);
                    this.allocs.push(Alloc { site, size });
                }
            }
        }
        this.frees.sort_unstable_by_key(|site| site.ip);
        this.classes(&pools);
        this
    }

    /// Adds a free. The compiler may have merged the ends of two of them: then they share the trap, and only the pool's header knows which block it is.
    fn add_free(&mut self, site: Site) {
        let Some(other) = self.frees.iter_mut().find(|other| other.ip == site.ip) else {
            return self.frees.push(site);
        };
        if other.block != site.block {
            match (other.block, site.block) {
                (Block::Held(_), Block::Freeblock(_)) => *other = site,
                (Block::Freeblock(_), Block::Held(_)) => {}
                _ => self.lost.push(site.store),
            }
        }
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
pub(super) fn most_frequent(values: impl Iterator<Item = u64>) -> Option<u64> {
    let mut values: Vec<u64> = values.collect();
    values.sort_unstable();
    values
        .chunk_by(|one, other| one == other)
        .max_by_key(|same| same.len())
        .and_then(|same| same.first().copied())
}

/// Follows the line that leads to a store and says what the store is part of; the line then ends with the store, or with the instruction behind it
/// that counts the pool's blocks.
fn recognise(code: &Code<'_>, store: u64) -> Option<(Line, Found)> {
    let mut line = Line::new();
    for instruction in leading(code, store) {
        line.step(&instruction);
    }
    let last = *line.stores.last()?;
    let (pool, value) = (last.base, last.value);
    if last.offset != FREEBLOCK || pool == value {
        return None;
    }
    let from_pool = Made::Word { base: pool, offset: FREEBLOCK };
    let (block, handed_out) = match line.made(value) {
        Made::Word { base: block, offset: 0 } if line.made(block) == from_pool => (block, true),
        _ => {
            // Where the link is stored is not asked: the compiler may know the block by another name, as what `memset` returned.
            let linked = |store: &Store| store.base != pool && line.made(store.value) == from_pool;
            (line.stores.iter().any(linked).then_some(value)?, false)
        }
    };
    let mut last = code.at(store)?;
    for _ in 0..BEHIND {
        if line.counted.contains(&(pool, handed_out)) {
            return Some((line, Found { block, pool, handed_out, last, store }));
        }
        last = next(code, &last)?;
        if last.flow_control() == FlowControl::Next {
            line.step(&last);
        } else if last.flow_control() != FlowControl::UnconditionalBranch {
            return None;
        }
    }
    None
}

/// The instruction that runs after this one, if no jump decides.
fn next(code: &Code<'_>, instruction: &Instruction) -> Option<Instruction> {
    match instruction.flow_control() {
        FlowControl::UnconditionalBranch if is_near(instruction) => code.at(instruction.near_branch64()),
        FlowControl::Next => code.at(instruction.next_ip()),
        _ => None,
    }
}

/// The straight line of instructions that ends with the one at `ip`: jumps that were not taken belong to it, calls and unconditional jumps end it.
fn leading(code: &Code<'_>, ip: u64) -> Vec<Instruction> {
    let mut line: Vec<Instruction> = code.at(ip).into_iter().collect();
    let mut at = ip;
    while line.len() <= BEFORE {
        let Some(instruction) = code.before(at) else { break };
        if !matches!(instruction.flow_control(), FlowControl::Next | FlowControl::ConditionalBranch) {
            break;
        }
        at = instruction.ip();
        line.push(instruction);
    }
    line.reverse();
    line
}

/// The first emulated instruction at which the block can still be told, or the first one of all.
fn place(code: &Code<'_>, line: &mut Line, found: &Found) -> Option<Site> {
    let mut stepped = None;
    let mut at = next(code, &found.last)?;
    for _ in 0..BEHIND {
        let Some(block) = whereabouts(code, line, found, at.ip()) else { break };
        let site = Site { ip: at.ip(), block, emulated: true, store: found.store };
        if is_emulated(&at, code.bytes(&at)) {
            return Some(site);
        }
        stepped = stepped.or(Some(Site { emulated: false, ..site }));
        line.step(&at);
        let Some(behind) = next(code, &at) else { break };
        at = behind;
    }
    stepped
}

/// How the block can be told at `ip`. Whoever jumps into the line between may hold another block in that register: the pool's header is right for all.
fn whereabouts(code: &Code<'_>, line: &Line, found: &Found, ip: u64) -> Option<Block> {
    let freeblock = || line.holder(found.pool).filter(|_| !found.handed_out).map(Block::Freeblock);
    let entered = ip < found.store || !code.jumps_into(found.store + 1..ip + 1).is_empty();
    let held = line.holder(found.block).map(Block::Held);
    if entered { freeblock().or(held) } else { held.or_else(freeblock) }
}

/// The register that holds the size asked for at the trap, if the pool was looked up with it: `usedpools[2 * ((size - 1) / 16)]`.
fn asked(code: &Code<'_>, line: &Line, pool: Made, ip: u64) -> Option<Size> {
    let (size, less) = size_of_pool(line, pool)?;
    let register = line.holder(size)?;
    // Whoever jumps into the line brings another size with him.
    let entered = code.jumps_into(line.made_at(less) + 1..ip + 1);
    entered.is_empty().then_some(Size::Asked(register))
}

/// The value that a pool was looked up with, and the one that is one less.
fn size_of_pool(line: &Line, pool: Made) -> Option<(Value, Value)> {
    let Made::Entry { index, .. } = pool else { return None };
    let Made::Twice(class) = line.made(index) else { return None };
    let Made::Sixteenth(less) = line.made(class) else { return None };
    let Made::Next { of: size, up: false } = line.made(less) else { return None };
    Some((size, less))
}

/// The register that holds the bytes asked for where the slow path is called: followed along the line that leads to the jump, and from there to the call. The
/// kernel checks it against the pool's size class.
fn size_at(code: &Code<'_>, call: u64) -> Option<Register> {
    let arm = leading(code, call);
    let begin = arm.first()?.ip();
    let jump = code.jumps_into(begin..call + 1).iter().find_map(|edge| {
        code.at(edge.source).filter(|jump| jump.flow_control() == FlowControl::ConditionalBranch)
    });
    let before = jump.map(|jump| (leading(code, jump.ip()), jump.near_branch64()));
    let mut line = Line::new();
    let skipped = before.as_ref().map_or(begin, |(_, target)| *target);
    let before = before.map(|(before, _)| before).unwrap_or_default();
    for instruction in before.iter().chain(arm.iter().filter(|at| at.ip() >= skipped && at.ip() < call)) {
        line.step(instruction);
    }
    let sizes = line.pools().filter_map(|pool| size_of_pool(&line, pool));
    line.holder(sizes.last()?.0)
}

/// A call of `allocate_from_new_pool`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlowCall {
    /// The address of the call.
    pub ip: u64,
    /// The address behind it.
    pub next_ip: u64,
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

/// Instructions from a jump to the fast path or to the slow call that it decides between.
const ARM: usize = 16;

impl SlowPath {
    /// Finds it: the function that is called where the fast path is not taken.
    #[must_use]
    pub fn of(code: &Code<'_>, allocs: &[Alloc]) -> Option<Self> {
        let callees = allocs.iter().flat_map(|alloc| {
            deciders(code, alloc.site.store).into_iter().take(2).filter_map(|side| first_call(code, side))
        });
        let function = most_frequent(callees)?;
        let calls = code.calls_of(function).iter().filter_map(|edge| {
            let call = code.at(edge.source)?;
            let owner = owner(code, allocs, call.ip());
            Some(SlowCall { ip: call.ip(), next_ip: call.next_ip(), owner, size: size_at(code, call.ip()) })
        });
        Some(Self { function, calls: calls.collect() })
    }

    /// Whether each call is the slow arm of a fast path, and each fast path has one.
    #[must_use]
    pub fn matches(&self, allocs: &[Alloc]) -> bool {
        let mut seen: Vec<usize> = self.calls.iter().filter_map(|call| call.owner).collect();
        seen.sort_unstable();
        seen.dedup();
        self.calls.iter().all(|call| call.owner.is_some()) && seen.len() == allocs.len()
    }
}

/// The other sides of the conditional jumps that decide whether the code at `ip` is run: of those just before it, nearest first, and of those that jump to it.
fn deciders(code: &Code<'_>, ip: u64) -> Vec<u64> {
    let mut sides = Vec::new();
    let mut at = ip;
    for _ in 0..ARM {
        for edge in code.jumps_into(at..at + 1) {
            let jump =
                code.at(edge.source).filter(|jump| jump.flow_control() == FlowControl::ConditionalBranch);
            sides.extend(jump.map(|jump| jump.next_ip()));
        }
        let Some(before) = code.before(at) else { break };
        match before.flow_control() {
            FlowControl::Next => {}
            FlowControl::ConditionalBranch if is_near(&before) => sides.push(before.near_branch64()),
            _ => break,
        }
        at = before.ip();
    }
    sides
}

/// The function that is called first from here on.
fn first_call(code: &Code<'_>, from: u64) -> Option<u64> {
    along(code, from)
        .find(|instruction| instruction.mnemonic() == Mnemonic::Call)
        .filter(is_near)
        .map(|call| call.near_branch64())
}

/// The allocation that is made instead of the slow call at `call`.
fn owner(code: &Code<'_>, allocs: &[Alloc], call: u64) -> Option<usize> {
    deciders(code, call).into_iter().find_map(|side| {
        along(code, side)
            .take_while(|instruction| instruction.mnemonic() != Mnemonic::Call)
            .find_map(|instruction| allocs.iter().position(|alloc| alloc.site.store == instruction.ip()))
    })
}

/// The instructions from an address on, as they run when no conditional jump is taken.
fn along<'c>(code: &'c Code<'_>, from: u64) -> impl Iterator<Item = Instruction> + 'c {
    let follow = move |instruction: &Instruction| match instruction.flow_control() {
        FlowControl::UnconditionalBranch if is_near(instruction) => code.at(instruction.near_branch64()),
        FlowControl::Next | FlowControl::ConditionalBranch | FlowControl::Call => {
            code.at(instruction.next_ip())
        }
        _ => None,
    };
    std::iter::successors(code.at(from), follow).take(ARM)
}
