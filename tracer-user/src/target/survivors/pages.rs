//! Blocks of mimalloc, CPython's copy of which serves objects where there is no GIL: which page they are in, and whether they are on one of its lists of free blocks.
//!
//! A segment of 32 MiB begins with the heads of its pages; a page has blocks of one size and three chains of free ones: those to be handed out, those that its own thread has freed, and those that others have
//! (`Include/internal/mimalloc/mimalloc/types.h`). Blocks in use are `used` less the last chain, so the other two must have `capacity - used`: a copy in which they have not was written to while it was made, and is read again.
//! The first block that another thread frees in a full page may lie in a chain of the owner's heap instead (`mi_free_block_mt`, `Objects/mimalloc/alloc.c`).

use std::collections::{HashMap, HashSet};

use crate::target::census::pool::{u32_at, u64_at};
use crate::target::layout;
use crate::target::memory::Bytes;

/// How often a page is read again because it was being written to.
const TRIES: usize = 3;

/// Larger blocks lie in pages that are larger than is read at once, and are few.
const SMALL: u64 = 4096;

/// Links of a heap's chain that are followed. Its thread takes all of them whenever it asks for a page.
const DELAYED: usize = 4096;

/// The lowest bits of `xthread_free` (`mi_delayed_t`): the page's blocks may be in its heap's chain.
const NO_DELAYED_FREE: u64 = 2;
const DELAYED_FLAGS: u64 = 3;

/// What a segment can be (`mi_segment_kind_t`).
const KINDS: u64 = 2;

/// Bytes of a page's head that are read.
const HEAD: usize = 64;

/// Where a block lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// In no segment.
    NoPage,
    /// It is not in use: its page has become free, or one of smaller blocks, or has never handed it out.
    Gone,
    /// At the place of a block, or in it.
    Block(Slot),
}

/// A block of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    /// Bytes of it from the asked address on.
    pub(super) given: u64,
    /// Its beginning.
    block: u64,
    page: Page,
}

/// What a page's head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Page {
    /// Its head's address.
    head: u64,
    /// Its first block.
    start: u64,
    block_size: u64,
    capacity: u64,
    used: u64,
    free: u64,
    local_free: u64,
    thread_free: u64,
    heap: u64,
}

impl Page {
    fn parse(head: u64, bytes: &[u8], layout: &layout::Pages) -> Option<Self> {
        let segment = head - head % layout.segment_size;
        let index = (head - segment).checked_sub(layout.slices)? / layout.slice_len;
        let block_size = u64::from(u32_at(bytes, layout.xblock_size)?);
        let capacity = u64::from(u32_at(bytes, layout.capacity)? & 0xffff);
        // `_mi_segment_page_start_from_slice` (`Objects/mimalloc/segment.c`): small blocks do not begin where pages of memory do.
        let skip = match block_size {
            0..8 => return None,
            8..=64 => 3 * block_size,
            65..=512 => block_size,
            _ => 0,
        };
        Some(Self {
            head,
            start: segment + index * layout.slice_size + skip,
            block_size,
            capacity,
            used: u64::from(u32_at(bytes, layout.used)?),
            free: u64_at(bytes, layout.free)?,
            local_free: u64_at(bytes, layout.local_free)?,
            thread_free: u64_at(bytes, layout.xthread_free)?,
            heap: u64_at(bytes, layout.xheap)?,
        })
    }

    fn read(memory: &impl Bytes, head: u64, layout: &layout::Pages) -> Option<Self> {
        let mut bytes = [0; HEAD];
        memory.read(head, &mut bytes).ok()?;
        Self::parse(head, &bytes, layout)
    }

    const fn has(&self, address: u64) -> bool {
        address >= self.start && address - self.start < self.capacity * self.block_size
    }

    /// One of its blocks may be in the heap's chain.
    const fn is_delayed(&self) -> bool {
        let flags = self.thread_free & DELAYED_FLAGS;
        flags != 0 && flags <= NO_DELAYED_FREE
    }

    const fn is_full(&self) -> bool {
        self.free == 0 && self.local_free == 0 && self.thread_free & !DELAYED_FLAGS == 0
    }
}

/// The pages of some blocks.
#[derive(Debug)]
pub(super) struct Pages {
    /// By slice, which is its head's address: `None` for what is no page.
    by_slice: HashMap<u64, Option<Page>>,
}

/// The head of the slice that an address is in.
const fn slice_of(address: u64, layout: &layout::Pages) -> u64 {
    let inside = address % layout.segment_size;
    address - inside + layout.slices + inside / layout.slice_size * layout.slice_len
}

impl Pages {
    /// Reads the head of each page that one of the blocks would be in, once.
    pub(super) fn read(memory: &impl Bytes, blocks: &[u64], layout: &layout::Pages) -> Self {
        let mut segments: HashMap<u64, bool> = HashMap::new();
        let mut by_slice = HashMap::new();
        for block in blocks {
            let segment = block - block % layout.segment_size;
            if !*segments.entry(segment).or_insert_with(|| is_segment(memory, segment, layout)) {
                continue;
            }
            let slice = slice_of(*block, layout);
            by_slice.entry(slice).or_insert_with(|| page_of(memory, slice, layout));
        }
        Self { by_slice }
    }

    /// Where a block of `size` bytes lies.
    pub(super) fn place(&self, block: u64, size: u64, layout: &layout::Pages) -> Place {
        let page = match self.by_slice.get(&slice_of(block, layout)) {
            None => return Place::NoPage,
            Some(None) => return Place::Gone,
            Some(Some(page)) => *page,
        };
        if !page.has(block) || page.used == 0 {
            return Place::Gone;
        }
        // Debug hooks give the address of a place in the block.
        let inside = (block - page.start) % page.block_size;
        let given = page.block_size - inside;
        if given < size {
            return Place::Gone;
        }
        Place::Block(Slot { given, block: block - inside, page })
    }
}

/// Whether what is at a multiple of a segment's size says of itself what a segment does.
fn is_segment(memory: &impl Bytes, segment: u64, layout: &layout::Pages) -> bool {
    let word = |at: u64| memory.read_u64(segment + at).ok();
    let slices = layout.segment_size / layout.slice_size;
    segment != 0
        && word(layout.segment_kind).is_some_and(|kind| kind & 0xffff_ffff < KINDS)
        && word(layout.slice_entries).is_some_and(|entries| (1..=slices).contains(&entries))
}

/// The page that a slice is a part of; `None` where it is free.
fn page_of(memory: &impl Bytes, slice: u64, layout: &layout::Pages) -> Option<Page> {
    let mut words = [0; 8];
    memory.read(slice, &mut words).ok()?;
    let back = u64::from(u32_at(&words, layout.slice_offset)?);
    let head = slice.checked_sub(back).filter(|_| back.is_multiple_of(layout.slice_len))?;
    let first = slice - slice % layout.segment_size + layout.slices;
    if head < first {
        return None;
    }
    memory.read(head, &mut words).ok()?;
    let slices = u64::from(u32_at(&words, 0)?);
    (u32_at(&words, layout.slice_offset)? == 0 && back / layout.slice_len < slices)
        .then(|| Page::read(memory, head, layout))?
}

impl Slot {
    /// Whether the block may be free: its page has free blocks, and its first word can be a link of one of their chains.
    pub(super) fn may_be_free(&self, memory: &impl Bytes, head: &[u8], address: u64) -> bool {
        let word = if self.block == address { u64_at(head, 0) } else { memory.read_u64(self.block).ok() };
        let is_link = word.is_none_or(|word| word == 0 || self.page.has(word));
        // A heap's chain leads from page to page.
        self.page.is_delayed() || (!self.page.is_full() && is_link)
    }
}

/// The free blocks of some pages.
#[derive(Debug)]
pub(super) struct Free {
    /// By the address of the head; `None` where the chains could not be followed.
    pages: HashMap<u64, Option<HashSet<u64>>>,
    /// The same by heap.
    heaps: HashMap<u64, Option<HashSet<u64>>>,
}

impl Free {
    /// Reads the pages of these blocks, each once; those that are being written to, again.
    pub(super) fn read(memory: &impl Bytes, slots: &[Slot], layout: &layout::Pages) -> Self {
        let (mut pages, mut heaps) = (HashMap::new(), HashMap::new());
        for Slot { page, .. } in slots {
            // What is in the heap's chain may go to the page's in the meantime, and not back: so the heap's is read first.
            if page.is_delayed() {
                heaps.entry(page.heap).or_insert_with(|| delayed(memory, page.heap, layout));
            }
            pages
                .entry(page.head)
                .or_insert_with(|| (0..TRIES).find_map(|_| chains(memory, page.head, layout)));
        }
        Self { pages, heaps }
    }

    /// Whether a block is free; `None` when it could not be found out.
    pub(super) fn holds(&self, slot: &Slot) -> Option<bool> {
        let of = |chains: &HashMap<u64, Option<HashSet<u64>>>, key| {
            chains.get(&key).map(|chain| chain.as_ref().map(|chain| chain.contains(&slot.block)))
        };
        let in_page = of(&self.pages, slot.page.head)??;
        if in_page {
            return Some(true);
        }
        of(&self.heaps, slot.page.heap).unwrap_or(Some(false))
    }
}

/// The blocks on a page's three chains.
fn chains(memory: &impl Bytes, head: u64, layout: &layout::Pages) -> Option<HashSet<u64>> {
    let page = Page::read(memory, head, layout)?;
    let mut copy = Vec::new();
    if page.block_size <= SMALL {
        copy.resize(usize::try_from(page.capacity * page.block_size).ok()?, 0);
        memory.read(page.start, &mut copy).ok()?;
    }
    let mut free = HashSet::new();
    let mut follow = |first: u64| {
        let (mut link, mut count) = (first, 0);
        while link != 0 {
            let inside =
                link.checked_sub(page.start).filter(|inside| inside.is_multiple_of(page.block_size))?;
            // Longer than the page has blocks: it leads in a circle.
            if !page.has(link) || !free.insert(link) {
                return None;
            }
            count += 1;
            link = match copy.is_empty() {
                true => memory.read_u64(link).ok()?,
                false => u64_at(&copy, usize::try_from(inside).ok()?)?,
            };
        }
        Some(count)
    };
    let own = follow(page.free)? + follow(page.local_free)?;
    let others = follow(page.thread_free & !DELAYED_FLAGS)?;
    let sound = page.used.checked_add(own) == Some(page.capacity) && others <= page.used;
    (sound && Page::read(memory, head, layout) == Some(page)).then_some(free)
}

/// The blocks on a heap's chain.
fn delayed(memory: &impl Bytes, heap: u64, layout: &layout::Pages) -> Option<HashSet<u64>> {
    let at = heap.checked_add(layout.heap_thread_delayed_free)?;
    (0..TRIES).find_map(|_| {
        let first = memory.read_u64(at).ok()?;
        let (mut link, mut free) = (first, HashSet::new());
        while link != 0 {
            if free.len() >= DELAYED || !free.insert(link) {
                return None;
            }
            link = memory.read_u64(link).ok()?;
        }
        (memory.read_u64(at) == Ok(first)).then_some(free)
    })
}
