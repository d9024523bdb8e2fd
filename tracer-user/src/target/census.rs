//! The heap's own block counters, read from outside: how many small blocks a CPython process has in use, without a single probe.
//!
//! CPython's allocator of small blocks (pymalloc: at most 512 bytes) keeps them in pools of 16 KiB (up to 3.9: 4 KiB), and each pool counts its blocks in its header. The sum of these counters
//! changes by one with each allocation and each free, wherever the compiler has put the code for it; so it tells whether the probes have seen everything
//! ([`crate::heap::balance`]). Blocks that went to `malloc` instead are not in it, nor are those of interpreters that run with `PYTHONMALLOC=malloc`.
//!
//! ```no_run
//! # use tracer_user::{target::{census::Heap, process::Process, python::Python}, heap::balance::{Hits, Moment, judge}};
//! # fn hits() -> Hits { Hits::default() }
//! # fn example(process: &Process, python: &Python) -> tracer_user::error::Result<()> {
//! let heap = Heap::find(process, python)?; // Once, before the first moment: takes milliseconds.
//! let moment = || {
//!     let before = hits();
//!     let census = heap.census(process)?; // Short: between `before` and `after` nothing else should happen.
//!     let after = hits();
//!     Ok(Moment { before, live_blocks: census.live_blocks, left_out: census.left_out(), after })
//! };
//! # let _: tracer_user::error::Result<Moment> = moment();
//! # Ok(()) }
//! ```
//!
//! The target runs on while it is counted. Each pool is read at its own time between the beginning and the end of a census, so the sum is wrong by some of the
//! allocations and frees of that time and by nothing else. Pools that come and go meanwhile are no exception: a pool that is missed was made, and one that is gone was emptied, in that time.

use std::collections::hash_map::DefaultHasher;
use std::hash::Hasher;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;

use crate::error::{Error, Kind, Result};
use crate::target::layout::{Layout, Pools};
use crate::target::maps::Region;
use crate::target::memory::{Bytes, Memory};
use crate::target::process::{Process, gone};
use crate::target::python::Python;

use arenas::Arena;
use pages::{Page, PageMap, Pages};
use pool::{MAX_ARENAS, Tally};

mod arenas;
mod interpreters;
mod pages;
pub(super) mod pool;
mod scan;

/// Bytes of address space that a scan looks at, at most: time and work are bounded even in a process that has reserved terabytes.
const SCAN_LIMIT: u64 = 32 << 30;

/// Bytes of a piece of the interpreter's data that are searched, at most. CPython 3.11 has 1.6 MiB.
const DATA_LIMIT: u64 = 16 << 20;

/// Size classes of small blocks, 16 bytes apart: those of the first hold 16 bytes, those of the last 512.
pub const CLASSES: usize = 32;

/// The pools of one size class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Class {
    /// Pools with at least one block in use.
    pub pools: u64,
    /// Blocks in use.
    pub blocks: u64,
}

/// Where a process keeps its small blocks.
#[derive(Clone, Debug)]
pub struct Heap {
    layout: &'static Pools,
    /// Addresses of the words that may be the allocator's `arenas`; may be empty.
    variables: Vec<u64>,
    /// Where the list of interpreters begins, which may have allocators of their own.
    interpreters: Option<u64>,
}

/// The small blocks of a process at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Census {
    /// Pools with at least one block in use.
    pub pools: u64,
    /// Blocks in use: the sum of the pools' own counters.
    pub live_blocks: u64,
    /// Bytes of these blocks, as the size classes round them.
    pub live_bytes: u64,
    /// Pools and blocks by size class.
    pub classes: [Class; CLASSES],
    /// Arenas in use, of which pools are parts; 0 if the allocator's table was not found.
    pub arenas: u64,
    /// Bytes of address space in which a pool was looked for.
    pub looked_at_bytes: u64,
    /// Places of pools that were not read because their page is swapped out. Without the allocator's table (see [`Heap::knows_arenas`]) they may have been anything.
    pub swapped: u64,
    /// Whether there was more to look at than a census ever does (64 GiB of pools; 32 GiB of address space without the table).
    pub truncated: bool,
    fingerprint: u64,
}

/// What a census did not look at.
#[derive(Debug, Default)]
struct LeftOut {
    truncated: bool,
    swapped: u64,
    places: DefaultHasher,
}

impl Census {
    /// Bytes in use of a size class, by its place in [`Census::classes`]; 0 of one that there is not.
    #[must_use]
    pub fn class_bytes(&self, class: usize) -> u64 {
        let block_bytes = class_block_bytes(class);
        self.classes.get(class).map_or(0, |class| class.blocks.saturating_mul(block_bytes))
    }
}

/// Bytes of the blocks of a size class, by its place (Objects/obmalloc.c: `ALIGNMENT` 16 from 3.7 on, on 64 bits).
#[must_use]
pub const fn class_block_bytes(class: usize) -> u64 {
    16 * (class as u64 + 1)
}

impl Heap {
    /// Looks for the allocator's table of arenas in the interpreter's data: reads 1 to 2 MiB of the target, and what pointers in it lead to.
    ///
    /// Not finding it is no error: the interpreter may not have begun yet, or was built differently; then each census scans the target's memory,
    /// which is slow where there is much of it.
    ///
    /// # Errors
    /// When the version of `python` is not supported, or the process has ended ([`crate::error::Kind::Target`]); when its maps may not be read
    /// ([`crate::error::Kind::Privilege`]).
    pub fn find(process: &Process, python: &Python) -> Result<Self> {
        let Layout { pools: layout, threads, .. } =
            python.layout_or(&format!("process {}", process.pid()))?;
        let regions = process.regions()?;
        let inode = python.image.open.metadata().ok().map(|file| file.ino());
        let data = data_of(inode, &regions);
        if python.free_threaded {
            let what = format!("process {} is free-threaded: there are no pools to count", process.pid());
            return Err(Error::new(Kind::Target, what));
        }
        let variables = arenas::find(&Memory::new(process.pid()), &data, &anonymous(&regions), layout);
        let interpreters =
            python.runtime().and_then(|runtime| runtime.checked_add(threads.runtime_interpreters_head));
        Ok(Self { layout, variables, interpreters })
    }

    /// Whether the allocator's table of arenas was found, so that a census reads nothing but pools.
    #[must_use]
    pub const fn knows_arenas(&self) -> bool {
        !self.variables.is_empty()
    }

    /// Counts the blocks in use. `process` is the one that was given to [`Heap::find`].
    ///
    /// Reads the 48 bytes of each pool's header, in batches, and brings no page into memory that is not there: pages that are swapped out are
    /// left out and counted. There are 64 pools in a MiB of small blocks (up to 3.9: 256), and each takes about half a microsecond.
    /// Interpreters with an allocator of their own are counted too, those with a table that has been made.
    ///
    /// # Errors
    /// When the process has ended meanwhile ([`crate::error::Kind::Target`]): a heap that vanished is never taken for an empty one. When its
    /// page map is needed and may not be read ([`crate::error::Kind::Privilege`]).
    pub fn census(&self, process: &Process) -> Result<Census> {
        let memory = Memory::new(process.pid());
        let Some((variable, mut arenas)) = arenas::table(&memory, &self.variables, self.layout) else {
            return self.scan(process, &memory);
        };
        if let Some(head) = self.interpreters {
            arenas.extend(interpreters::others(&memory, head, variable, self.layout));
        }
        // The used part of an arena has been written to, so that it is in memory unless there is swap.
        let mut pages = if process.swapped_bytes() == Some(0) { None } else { Some(PageMap::open(process)?) };
        let census = count(&memory, pages.as_mut(), &arenas, self.layout);
        // An ending process loses its memory before it counts as ended; what can be read at the end could be read all the time.
        if memory.read_u64(variable).is_err() || !process.still_same() {
            return Err(gone(process.pid()));
        }
        Ok(census)
    }

    /// What the pools at these addresses are now: the bytes of each block, and the blocks in use; `None` where no pool is, or none in use. Reads 48 bytes of each.
    #[must_use]
    pub fn pools(&self, process: &Process, addresses: &[u64]) -> Vec<Option<(u64, u64)>> {
        let mut found = vec![None; addresses.len()];
        let memory = Memory::new(process.pid());
        for (batch, found) in addresses.chunks(pool::BATCH).zip(found.chunks_mut(pool::BATCH)) {
            for (at, pool) in pool::read(&memory, batch, self.layout) {
                if let Some(found) = found.get_mut(at).filter(|_| pool.blocks > 0) {
                    *found = Some((pool.block_size, u64::from(pool.blocks)));
                }
            }
        }
        found
    }

    fn scan(&self, process: &Process, memory: &Memory) -> Result<Census> {
        let regions = anonymous(&process.regions()?);
        let mut pages = PageMap::open(process)?;
        let census = scan::scan(memory, &mut pages, &regions, self.layout, SCAN_LIMIT);
        process.regions().map(|_| census)
    }
}

impl Census {
    /// What was left out, for comparison with another census of the same process: 0 is nothing, and the same number the same places (by a
    /// hash of 64 bits), so that the difference of the two censuses is that of the rest. `None` when it is not known.
    #[must_use]
    pub const fn left_out(&self) -> Option<u64> {
        if self.truncated { None } else { Some(self.fingerprint) }
    }

    fn new(tally: Tally, left_out: &LeftOut, looked_at_bytes: u64) -> Self {
        // 0 is for nothing alone.
        let fingerprint = if left_out.swapped == 0 { 0 } else { left_out.places.finish().max(1) };
        Self {
            pools: tally.pools,
            live_blocks: tally.blocks,
            live_bytes: tally.bytes,
            classes: tally.classes,
            arenas: 0,
            looked_at_bytes,
            swapped: left_out.swapped,
            truncated: left_out.truncated,
            fingerprint,
        }
    }
}

impl LeftOut {
    fn swapped_out(&mut self, address: u64) {
        self.swapped += 1;
        self.places.write_u64(address);
    }
}

/// Counts the pools of the arenas that the table names.
fn count(
    memory: &impl Bytes,
    mut pages: Option<&mut impl Pages>,
    arenas: &[Arena],
    layout: &Pools,
) -> Census {
    let (mut tally, mut left_out, mut looked_at) = (Tally::default(), LeftOut::default(), 0);
    left_out.truncated = arenas.iter().any(|arena| arena.index + 1 >= MAX_ARENAS);
    for batch in arenas.chunks(pool::BATCH * layout.pool_size as usize / layout.arena_size as usize) {
        let (mut addresses, mut owners) = (Vec::new(), Vec::new());
        for Arena { index, pools } in batch {
            let slots = (pools.end - pools.start) / layout.pool_size;
            let at = pages.as_mut().map(|pages| pages.at(pools.start, layout.pool_size, slots as usize));
            let at = at.unwrap_or_else(|| vec![Page::Present; slots as usize]);
            addresses.extend(
                left_out.present((0..slots).map(|slot| pools.start + slot * layout.pool_size).zip(at)),
            );
            owners.resize(addresses.len(), *index);
            looked_at += pools.end - pools.start;
        }
        tally.add(memory, &addresses, layout, |at, pool| owners[at] == pool.arena);
    }
    Census { arenas: arenas.len() as u64, ..Census::new(tally, &left_out, looked_at) }
}

/// The writable data of the interpreter: what was mapped from its file, and the anonymous memory right behind, where its variables without a first value are.
fn data_of(inode: Option<u64>, regions: &[Region]) -> Vec<Range<u64>> {
    let mut data = Vec::new();
    let mut end_of_file = None;
    for region in regions {
        let from_file = inode.is_some() && region.inode == inode;
        let behind = region.inode.is_none() && end_of_file == Some(region.start);
        if from_file || behind {
            data.push(region.start..region.end.min(region.start.saturating_add(DATA_LIMIT)));
        }
        end_of_file = from_file.then_some(region.end);
    }
    data
}

/// Where small blocks can be: in arenas, which are anonymous mappings, or in the heap, if somebody has replaced the allocator of arenas.
fn anonymous(regions: &[Region]) -> Vec<Range<u64>> {
    regions.iter().filter(|region| region.inode.is_none()).map(|region| region.start..region.end).collect()
}

#[cfg(test)]
mod tests;
