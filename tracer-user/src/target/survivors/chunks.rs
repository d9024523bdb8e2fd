//! Blocks of glibc's `malloc` (`malloc/malloc.c`): whether their chunk is in use.
//!
//! The word before a block is its chunk's size and three flags. A chunk that lies in a bin has told the next one so (`PREV_INUSE` clear there). One in a thread's cache or in a fastbin has not; there the first two words of the
//! block tell: the link, mangled by its own address (glibc ≥ 2.32, `PROTECT_PTR`), and in the cache a key (a random number of the process since 2.34; before, the address of the cache). The key is learnt from the main thread's cache,
//! which is one of the first chunks of the heap. As long as it is not learnt, a block in a cache is called alive, and its changed first words give it another identity.

use crate::target::census::pool::u64_at;
use crate::target::memory::Bytes;

/// `SIZE_BITS`: flags in the size word.
const PREV_INUSE: u64 = 1;
const IS_MMAPPED: u64 = 2;
const FLAGS: u64 = 7;

/// `MINSIZE`, `MALLOC_ALIGNMENT`.
const LEAST: u64 = 32;
const STEP: u64 = 16;
/// The size word lies this many bytes before the block; the chunk begins twice as many before it.
const WORD: u64 = 8;
const BEFORE: u64 = 2 * WORD;

/// No chunk is larger than user space.
const MOST: u64 = 1 << 47;

/// `MAX_TCACHE_SIZE` and the default of `global_max_fast`, as sizes of chunks.
const CACHED: u64 = 0x410;
const FAST: u64 = 0x80;

/// Links of a fastbin that are followed: a chain that is right for so long is one.
const LINKS: usize = 8;

/// `tcache_perthread_struct`: counts of 16 bits, then as many chains, of which the first 64 are of chunks of 32, 48 … bytes.
struct Cache {
    /// Bytes of its chunk.
    chunk: u64,
    bins: usize,
}

/// Since 2.30, and since 2.42 (12 more, for large chunks).
const CACHES: [Cache; 2] = [Cache { chunk: 0x290, bins: 64 }, Cache { chunk: 0x300, bins: 76 }];
const CACHE_BINS: usize = 64;

/// The cache is the first chunk of the heap, or since 2.42, which makes it when something is first freed, one of the first.
const FIRST_CHUNKS: usize = 64;

/// What a block of `malloc` is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Chunk {
    /// Unmapped, in a bin, or with a header that does not fit.
    Gone,
    /// Not in a bin, with so many bytes to use.
    Used(u64),
}

/// What is known about the process's `malloc`.
#[derive(Debug)]
pub(super) struct Chunks {
    glibc: bool,
    /// Where the heap of `brk` begins.
    heap: Option<u64>,
    key: Option<u64>,
}

impl Chunks {
    pub(super) const fn glibc(heap: Option<u64>) -> Self {
        Self { glibc: true, heap, key: None }
    }

    /// An allocator whose books are not known.
    pub(super) const fn unknown() -> Self {
        Self { glibc: false, heap: None, key: None }
    }

    /// Those of a forked child, whose heap of `brk` begins there.
    pub(super) const fn of_child(&self, heap: Option<u64>) -> Self {
        Self { glibc: self.glibc, heap, key: None }
    }

    /// Looks at the headers of blocks, given as (address, size in bytes).
    pub(super) fn look(&mut self, memory: &impl Bytes, blocks: &[(u64, u64)]) -> Vec<Chunk> {
        if !self.glibc {
            return blocks.iter().map(|(_, size)| Chunk::Used(*size)).collect();
        }
        if !blocks.is_empty() && self.key.is_none() {
            self.key = self.heap.and_then(|heap| cache_key(memory, heap));
        }
        let headers: Vec<u64> = blocks.iter().map(|(block, _)| block.wrapping_sub(BEFORE)).collect();
        let mut bytes = Vec::new();
        let readable = memory.read_many(&headers, BEFORE as usize, &mut bytes);
        let each = blocks.iter().zip(bytes.chunks_exact(BEFORE as usize)).zip(readable);
        let sizes: Vec<Option<Size>> = each
            .map(|(((block, asked), header), readable)| {
                readable.then(|| Size::parse(*block, *asked, header)).flatten()
            })
            .collect();
        let nexts: Vec<u64> = sizes.iter().flatten().filter_map(|size| size.next).collect();
        let readable = memory.read_many(&nexts, WORD as usize, &mut bytes);
        let mut nexts = bytes.chunks_exact(WORD as usize).zip(readable);
        sizes
            .iter()
            .map(|size| {
                let Some(size) = size else { return Chunk::Gone };
                let in_use = size.next.is_none()
                    || nexts.next().is_some_and(|(word, readable)| {
                        readable && u64_at(word, 0).is_some_and(|word| word & PREV_INUSE != 0)
                    });
                if in_use { Chunk::Used(size.given) } else { Chunk::Gone }
            })
            .collect()
    }

    /// Whether a block with these first bytes lies in a thread's cache or in a fastbin.
    pub(super) fn is_cached(&self, memory: &impl Bytes, block: u64, given: u64, head: &[u8]) -> bool {
        let (Some(link), Some(key)) = (u64_at(head, 0), u64_at(head, 8)) else { return false };
        let size = given.saturating_add(WORD);
        if !self.glibc || size > CACHED {
            return false;
        }
        if self.key == Some(key) {
            return true;
        }
        // The last of a chain: nothing but the mangling is left of the link. It is also left in a block that was handed out again and not written yet, but out of a thread's cache that comes with its
        // key wiped (`tcache_get`, malloc/malloc.c); and where the key is known, what has another is in no cache.
        let next = link ^ (block >> 12);
        let may_be_cached = self.key.is_none() && key != 0;
        if size > FAST {
            return next == 0 && may_be_cached;
        }
        if next == 0 {
            return key != 0;
        }
        is_chain(memory, next, size)
    }
}

/// Whether a link leads along chunks of that size, as those of a fastbin do, to the chain's end. One link alone proves little: where the heap lies low (an executable that is not
/// position-independent), a pointer that is no link, "unmangled", leads to somewhere near, and there chunks of one size are many.
fn is_chain(memory: &impl Bytes, first: u64, size: u64) -> bool {
    let mut next = first;
    for _ in 0..LINKS {
        let mut words = [0; 2 * WORD as usize];
        let Some(at) = next.checked_add(WORD).filter(|_| next.is_multiple_of(STEP)) else { return false };
        if memory.read(at, &mut words).is_err() {
            return false;
        }
        let (Some(word), Some(link)) = (u64_at(&words, 0), u64_at(&words, 8)) else { return false };
        if word & !FLAGS != size {
            return false;
        }
        next = link ^ (next.wrapping_add(BEFORE) >> 12);
        if next == 0 {
            return true;
        }
    }
    true
}

/// The size word of a block, made sense of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Size {
    /// Bytes to use.
    given: u64,
    /// Address of the next chunk's size word; `None` for a mapping of its own.
    next: Option<u64>,
}

impl Size {
    fn parse(block: u64, asked: u64, header: &[u8]) -> Option<Self> {
        let (before, word) = (u64_at(header, 0)?, u64_at(header, 8)?);
        let size = word & !FLAGS;
        if !block.is_multiple_of(STEP) || !size.is_multiple_of(STEP) || !(LEAST..MOST).contains(&size) {
            return None;
        }
        let (given, next) = if word & IS_MMAPPED != 0 {
            // A mapping of its own: whole pages, counted from where it begins; since 2.43 without the chunk's own two words.
            let whole = |size: u64| before.checked_add(size).is_some_and(|end| end.is_multiple_of(4096));
            let given = if whole(size) { size - BEFORE } else { whole(size + BEFORE).then_some(size)? };
            (given, None)
        } else {
            (size - WORD, Some(block.checked_sub(WORD)?.checked_add(size)?))
        };
        (given >= asked).then_some(Self { given, next })
    }
}

/// The key of blocks in the main thread's cache, which is among the first chunks of the heap; `None` while that holds nothing, or is no such thing.
fn cache_key(memory: &impl Bytes, heap: u64) -> Option<u64> {
    let mut chunk = heap;
    for _ in 0..FIRST_CHUNKS {
        let size = memory.read_u64(chunk.checked_add(WORD)?).ok()? & !FLAGS;
        let cache = CACHES.iter().find(|cache| cache.chunk == size);
        if let Some(key) = cache.and_then(|cache| key_in(memory, chunk, cache)) {
            return Some(key);
        }
        chunk = chunk.checked_add(Some(size).filter(|size| (LEAST..MOST).contains(size))?)?;
    }
    None
}

/// The key of the blocks in what may be a cache: the first block of each chain has the size of that chain, all have one key, and it is such as keys are. Any chunk of that size is asked, and it may hold
/// pointers to small objects as well: what is a key in a free block is the type in an object.
fn key_in(memory: &impl Bytes, chunk: u64, cache: &Cache) -> Option<u64> {
    let mut bytes = vec![0; usize::try_from(cache.chunk).ok()?];
    memory.read(chunk, &mut bytes).ok()?;
    let chains = bytes.get(BEFORE as usize + 2 * cache.bins..)?;
    let mut only = None;
    for (bin, first) in (0u64..).zip(chains.chunks_exact(8).take(CACHE_BINS)) {
        let first = u64_at(first, 0)?;
        if first == 0 {
            continue;
        }
        let mut words = [0; 24];
        memory.read(first.checked_sub(WORD)?, &mut words).ok()?;
        let right = first.is_multiple_of(STEP) && u64_at(&words, 0)? & !FLAGS == LEAST + STEP * bin;
        let key = u64_at(&words, 16).filter(|key| right && is_key(*key, chunk))?;
        if *only.get_or_insert(key) != key {
            return None;
        }
    }
    only
}

/// Whether a cache in that chunk may have that key: a random number (`tcache_key_initialize`, malloc/malloc.c, since 2.34), of which one in 100,000 would be an address of user space; before, where the
/// cache is.
const fn is_key(key: u64, chunk: u64) -> bool {
    key >= MOST || key == chunk.wrapping_add(BEFORE)
}
