//! Whether blocks that were born a while ago still live, and whether they are still the same: asked from outside, without a probe, in bounded batches of reads.
//!
//! A sampling window sees births; what becomes of the born is seen here. Liveness is the allocator's own books: a small block lives when its pool has carved it and it is not on the pool's
//! free list; a large one when its chunk of glibc's `malloc` is in use. An object that lies in one of CPython's freelists (reference count 0, or from 3.14 on the address of the next in its place) is dead though its block is not free.
//!
//! **Identity.** `identity[0]` is a hash of what an object cannot change: type, the allocator's size, and contents that are set at its birth. Where it differs from an earlier look, another object has the block.
//! `identity[1]` is a hash of what an object may change but two objects seldom share (a dict's version, a list's item array and length, an instance's values). Where only that one differs, the object was changed
//! or replaced. Nothing that mere use changes is in either: reference counts, the collector's head, cached hashes. The words of each kind stand in `layout::kinds`.
//!
//! **What identity cannot tell.** An object from its successor of the same type with the same contents: equal numbers and strings, instances of a class with `__slots__` or a managed dict that got the same
//! words and the same array of values again (the allocator gives back what was freed last), the middle of texts and of tuples too long for the first read, functions and generators of one `def` with the same closure and first argument,
//! exceptions with the same two first arguments, memory without a type that begins with the same 32 bytes.
//! Up to 3.13 a dict has no such twin: its version counts all changes of all dicts. From 3.14 on there is no version, and a dict is what its table begins with: places, and the first two entries of a small one.
//! From 3.13 on an instance has its attributes in itself, so that a change of the first two of them is a change of it; up to 3.12 only where they are is looked at.
//!
//! **Who is charged for what.** A dict is charged for its key table (`owned_bytes`), unless it shares it with its class; the table itself, met as a block of its own, is [`Look::Part`]. Nothing else owns:
//! item arrays of lists, tables of sets, arrays of instance values and buffers cannot be told from other memory, so they are candidates of their own.
//!
//! **Bounds.** A look reads at most [`HEAD`] + 168 bytes of each block (its head, the headers of its chunk, two further places), 48 bytes of each distinct pool, three times its 16 KiB where a block may be on its free list,
//! 300 bytes of each word that may be a type and a type's name. Sizes and counts in the target's memory bound nothing. A block is alive, dead or unread; a target that writes meanwhile can make a free block seem alive for
//! this one look, or a pool unread; a living object seems dead only if, by chance, its first words are those of a free block of its very pool or chunk.
//!
//! Without glibc's `malloc` (musl, jemalloc, tcmalloc) large blocks have no books that are read here: they are alive as long as they can be read, and only identity tells when they were replaced.

use tracer_common::domain::Domain;

use crate::error::Result;
use crate::target::image::Image;
use crate::target::layout::{self, Layout};
use crate::target::memory::{Bytes, Memory};
use crate::target::process::Process;
use crate::target::python::Python;

use chunks::{Chunk, Chunks};
use identity::{FOLLOW, Portrait};
use pools::{Place, Pools, Slot};
use types::Types;

mod chunks;
mod identity;
mod keys;
mod pages;
mod pools;
mod types;

/// Bytes read of each block: as far as the words of a `_asyncio.Task` and of a small frozenset reach, behind the collector's head.
const HEAD: usize = 192;

/// Blocks that are looked at together: bounds the memory that a look needs, and keeps it in the processor's cache.
const BATCH: usize = 1024;

/// pymalloc serves requests up to this many bytes (`SMALL_REQUEST_THRESHOLD`, `Objects/obmalloc.c`).
const SMALL: u64 = 512;

/// A block to be looked at: its address, its size in bytes as it was asked for or given, and its domain, if it is known.
pub type Block = (u64, u64, Option<Domain>);

/// What became of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is free, unmapped, of another size, or an object in a freelist.
    Dead,
    /// The key table of a dict: whichever dict has it now is charged for it.
    Part,
    /// It is in use.
    Alive {
        /// What tells it from another in the same place; see the module.
        identity: [u64; 2],
        /// Bytes of the block that it alone owns besides, as the allocator gives them; 0 for all but dicts.
        owned_bytes: u64,
    },
    /// It could not be found out: the process has ended or may not be read, or the pool changed all the time. Nothing follows from it.
    Unread,
}

/// Looks at the blocks of one process.
#[derive(Debug)]
pub struct Survivors<M = Memory> {
    memory: M,
    layout: &'static Layout,
    types: Types,
    chunks: Chunks,
    /// An address that can be read as long as the process has its memory.
    always: Option<u64>,
}

impl Survivors {
    /// Prepares looks at a process. Reads its memory map twice, and nothing else of it.
    ///
    /// # Errors
    /// When the version of `python` is not supported, or the process has ended ([`crate::error::Kind::Target`]); when its maps may not be read
    /// ([`crate::error::Kind::Privilege`]).
    pub fn new(process: &Process, python: &Python) -> Result<Self> {
        let layout = python.layout_or(&format!("process {}", process.pid()))?;
        let of_c = Image::allocator_of(process).is_ok_and(|image| image.is_glibc());
        let bias = python.image.bias.unwrap_or(0);
        let address =
            |name: &str| python.image.elf.symbol(name).map(|symbol| bias.wrapping_add(symbol.address));
        Ok(Self {
            memory: Memory::new(process.pid()),
            layout,
            types: Types::new(&layout.kinds, address),
            chunks: if of_c { Chunks::glibc(process.brk_heap()?) } else { Chunks::unknown() },
            always: python.runtime(),
        })
    }

    /// The same for a child that was forked from that process, and has all at the same places.
    ///
    /// # Errors
    /// When the child has ended, or its maps may not be read.
    pub fn of_child(&self, process: &Process) -> Result<Self> {
        Ok(Self {
            memory: Memory::new(process.pid()),
            layout: self.layout,
            types: self.types.clone(),
            chunks: self.chunks.of_child(process.brk_heap()?),
            always: self.always,
        })
    }
}

/// How far a block has been followed.
#[derive(Clone, Copy, Debug)]
enum Stage {
    /// This is the answer.
    Done(Look),
    /// In a pool.
    InPool(Slot),
    /// In a page of mimalloc.
    InPage(pages::Slot),
    /// A block of `malloc`: the bytes that it was given.
    Chunk(u64),
}

impl Stage {
    /// The bytes that a block was given that may be alive.
    const fn given(&self) -> Option<u64> {
        match self {
            Self::Done(_) => None,
            Self::InPool(slot) => Some(slot.given),
            Self::InPage(slot) => Some(slot.given),
            Self::Chunk(given) => Some(*given),
        }
    }
}

/// The first bytes of some blocks.
struct Heads {
    bytes: Vec<u8>,
    /// For each block that may be alive, which [`HEAD`] of them are its own.
    places: Vec<usize>,
}

impl Heads {
    /// The head of a block of so many bytes: what lies behind its end is not its own.
    fn of(&self, at: usize, given: u64) -> &[u8] {
        let start = self.places.get(at).map_or(usize::MAX, |place| place * HEAD);
        self.bytes.get(start..).and_then(|rest| rest.get(..inside(given))).unwrap_or_default()
    }
}

impl<M: Bytes> Survivors<M> {
    /// What became of some blocks, in their order. The caller bounds their number; see the module for what is read.
    pub fn look(&mut self, blocks: &[Block]) -> Vec<Look> {
        self.types.begin();
        // In the order of their addresses, blocks of one pool come together.
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        order.sort_unstable_by_key(|at| blocks[*at].0);
        let mut looks = vec![Look::Unread; blocks.len()];
        for places in order.chunks(BATCH) {
            let batch: Vec<Block> = places.iter().map(|at| blocks[*at]).collect();
            for (at, look) in places.iter().zip(self.batch(&batch)) {
                looks[*at] = look;
            }
        }
        // An ending process loses its memory before it counts as ended, and what cannot be read then is not dead for that.
        if self.always.is_some_and(|address| self.memory.read_u64(address).is_err()) {
            looks.fill(Look::Unread);
        }
        looks
    }

    fn batch(&mut self, blocks: &[Block]) -> Vec<Look> {
        let mut stages = self.stages(blocks);
        let heads = self.heads(blocks, &mut stages);
        self.refuse_free(blocks, &heads, &mut stages);
        self.name(blocks, &heads, &stages)
    }

    /// What the allocators' headers say.
    fn stages(&mut self, blocks: &[Block]) -> Vec<Stage> {
        let settled = match &self.layout.pages {
            Some(pages) => self.in_pages(blocks, pages),
            None => self.in_pools(blocks),
        };
        // What lies in no pool may be `malloc`'s: PYTHONMALLOC=malloc sends all blocks there.
        let others = blocks.iter().zip(&settled).filter(|(_, stage)| stage.is_none());
        let others: Vec<(u64, u64)> = others.map(|(block, _)| (block.0, block.1)).collect();
        let mut chunks = self.chunks.look(&self.memory, &others).into_iter();
        let mut chunk = || match chunks.next() {
            Some(Chunk::Used(given)) => Stage::Chunk(given),
            Some(Chunk::Gone) | None => Stage::Done(Look::Dead),
        };
        settled.into_iter().map(|stage| stage.unwrap_or_else(&mut chunk)).collect()
    }

    /// Blocks in pools of pymalloc; `None` for others.
    fn in_pools(&self, blocks: &[Block]) -> Vec<Option<Stage>> {
        let small: Vec<u64> = blocks.iter().filter(|block| is_small(block)).map(|block| block.0).collect();
        let pools = Pools::read(&self.memory, &small, &self.layout.pools);
        let stage = |block: &Block| match is_small(block).then(|| pools.place(block.0, block.1))? {
            Place::Block(slot) => Some(Stage::InPool(slot)),
            Place::Gone => Some(Stage::Done(Look::Dead)),
            Place::NoPool => None,
        };
        blocks.iter().map(stage).collect()
    }

    /// Blocks in pages of mimalloc; `None` for others.
    fn in_pages(&self, blocks: &[Block], layout: &layout::Pages) -> Vec<Option<Stage>> {
        let may_be = |block: &&Block| matches!(block.2, None | Some(Domain::Object | Domain::Mem));
        let addresses: Vec<u64> = blocks.iter().filter(may_be).map(|block| block.0).collect();
        let pages = pages::Pages::read(&self.memory, &addresses, layout);
        let stage = |block: &Block| match may_be(&block).then(|| pages.place(block.0, block.1, layout))? {
            pages::Place::Block(slot) => Some(Stage::InPage(slot)),
            pages::Place::Gone => Some(Stage::Done(Look::Dead)),
            pages::Place::NoPage => None,
        };
        blocks.iter().map(stage).collect()
    }

    /// The first bytes of each block that is not known to be dead.
    fn heads(&self, blocks: &[Block], stages: &mut [Stage]) -> Heads {
        let mut addresses = Vec::with_capacity(blocks.len());
        let mut places = vec![0; blocks.len()];
        for ((block, stage), place) in blocks.iter().zip(&*stages).zip(&mut places) {
            if stage.given().is_some() {
                *place = addresses.len();
                addresses.push(block.0);
            }
        }
        let mut bytes = Vec::new();
        let readable = self.memory.read_many(&addresses, HEAD, &mut bytes);
        for (at, stage) in stages.iter_mut().enumerate() {
            let Some(given) = stage.given() else { continue };
            if readable.get(places[at]) == Some(&true) {
                continue;
            }
            // A small block at the very end of a mapping: what lies behind it is not there.
            let head = bytes.get_mut(places[at] * HEAD..).and_then(|rest| rest.get_mut(..inside(given)));
            if head.is_none_or(|head| self.memory.read(blocks[at].0, head).is_err()) {
                *stage = Stage::Done(Look::Dead);
            }
        }
        Heads { bytes, places }
    }

    /// Settles those that are free: on their pool's free list, or in a cache of `malloc`.
    fn refuse_free(&self, blocks: &[Block], heads: &Heads, stages: &mut [Stage]) {
        let pools = &self.layout.pools;
        let (mut doubtful, mut in_pages) = (Vec::new(), Vec::new());
        for (at, stage) in stages.iter_mut().enumerate() {
            match *stage {
                Stage::Chunk(given) => {
                    let head = heads.of(at, given);
                    if self.chunks.is_cached(&self.memory, blocks[at].0, given, head) {
                        *stage = Stage::Done(Look::Dead);
                    }
                }
                Stage::InPool(slot) if slot.may_be_free(heads.of(at, slot.given), pools) => {
                    doubtful.push((at, slot.pool));
                }
                Stage::InPage(slot)
                    if slot.may_be_free(&self.memory, heads.of(at, slot.given), blocks[at].0) =>
                {
                    in_pages.push((at, slot));
                }
                _ => {}
            }
        }
        let free = pools::Free::read(&self.memory, doubtful.iter().map(|(_, pool)| *pool).collect(), pools);
        let mut settle = |at: usize, is_free: Option<bool>| match is_free {
            Some(false) => {}
            Some(true) => stages[at] = Stage::Done(Look::Dead),
            None => stages[at] = Stage::Done(Look::Unread),
        };
        for (at, pool) in doubtful {
            settle(at, free.holds(pool, blocks[at].0));
        }
        if let Some(layout) = &self.layout.pages {
            let slots: Vec<pages::Slot> = in_pages.iter().map(|(_, slot)| *slot).collect();
            let free = pages::Free::read(&self.memory, &slots, layout);
            for (at, slot) in in_pages {
                settle(at, free.holds(&slot));
            }
        }
    }

    /// Finds out what the living are.
    fn name(&mut self, blocks: &[Block], heads: &Heads, stages: &[Stage]) -> Vec<Look> {
        let (objects, kinds) = (&self.layout.objects, &self.layout.kinds);
        let living = || {
            let open = stages.iter().enumerate().filter_map(|(at, stage)| Some((at, stage.given()?)));
            open.map(|(at, given)| (at, given, heads.of(at, given)))
        };
        let maybe = living().filter(|(at, ..)| may_be_object(&blocks[*at])).map(|(.., head)| head);
        self.types.learn(&self.memory, maybe, objects, kinds);
        let mut looks: Vec<Look> = stages
            .iter()
            .map(|stage| if let Stage::Done(look) = stage { *look } else { Look::Unread })
            .collect();
        let mut portraits = Vec::new();
        let in_page = |at: usize| matches!(stages.get(at), Some(Stage::InPage(_)));
        for (at, given, head) in living() {
            let object = may_be_object(&blocks[at]).then(|| self.types.object(head, objects)).flatten();
            let object = object.filter(|object| {
                object.link.is_none_or(|link| self.is_linked(link, object.type_address, blocks[at].2))
            });
            looks[at] = match object {
                Some(object) if object.references == 0 => Look::Dead,
                Some(object) => {
                    portraits.push((at, Portrait::new(blocks[at].0, head, given, &object, self.layout)));
                    continue;
                }
                None if keys::is_key_table(head, given, in_page(at), self.layout) => Look::Part,
                None if identity::is_free_float(head, given, blocks[at].2, self.layout) => Look::Dead,
                None => alive(identity::of_memory(head, given), 0),
            };
        }
        self.finish(portraits, &mut looks);
        looks
    }

    /// Whether an object without a count is in a freelist: the next in it is of the same type. An array of objects may begin like that too, but not in the object domain.
    fn is_linked(&self, link: u64, type_address: u64, domain: Option<Domain>) -> bool {
        let its_type = || self.memory.read_u64(link.wrapping_add(self.layout.objects.ob_type));
        domain == Some(Domain::Object) && its_type() == Ok(type_address)
    }

    /// One or two more reads for those whose identity lies further away.
    fn finish(&self, mut portraits: Vec<(usize, Portrait)>, looks: &mut [Look]) {
        for _ in 0..identity::FURTHER_READS {
            let addresses: Vec<u64> = portraits.iter().filter_map(|(_, portrait)| portrait.wants()).collect();
            let mut bytes = Vec::new();
            let readable = self.memory.read_many(&addresses, FOLLOW, &mut bytes);
            let mut read = bytes.chunks_exact(FOLLOW).zip(readable);
            for (_, portrait) in &mut portraits {
                let Some((bytes, readable)) = portrait.wants().and_then(|_| read.next()) else { continue };
                portrait.follow(readable.then_some(bytes), self.layout);
            }
        }
        for (at, portrait) in portraits {
            let (identity, owned_bytes) = portrait.finish();
            looks[at] = alive(identity, owned_bytes);
        }
    }
}

const fn alive(identity: [u64; 2], owned_bytes: u64) -> Look {
    Look::Alive { identity, owned_bytes }
}

/// Whether pymalloc may have it: small, and of a domain that goes there.
const fn is_small((_, size, domain): &Block) -> bool {
    *size <= SMALL && matches!(domain, None | Some(Domain::Object | Domain::Mem))
}

/// Objects come from the object domain.
const fn may_be_object((_, _, domain): &Block) -> bool {
    matches!(domain, None | Some(Domain::Object))
}

/// Bytes of a head that are the block's own.
fn inside(given: u64) -> usize {
    usize::try_from(given).unwrap_or(HEAD).min(HEAD)
}

#[cfg(test)]
mod live;
#[cfg(test)]
mod tests;
