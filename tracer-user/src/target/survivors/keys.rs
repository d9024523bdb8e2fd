//! The key tables of dicts (`PyDictKeysObject`, `Include/internal/pycore_dict.h`): plain memory of the object domain, known by what must hold between its numbers.

use crate::target::census::pool::u64_at;
use crate::target::layout::Layout;
use crate::target::layout::kinds::{KeySize, KeyTable};

/// `DICT_KEYS_GENERAL` has entries of hash, key and value, the other two of key and value.
const GENERAL: u8 = 0;
const SPLIT: u8 = 2;
const ENTRY: u64 = 16;
const ENTRY_WITH_HASH: u64 = 24;

/// Where user space can have code.
const CODE: std::ops::Range<u64> = 1 << 16..1 << 47;

/// `PyDict_LOG_MINSIZE`; only the one empty table of the interpreter is smaller.
const LEAST_LOG2: u8 = 3;
const MOST_LOG2: u8 = 40;

/// mimalloc counts in these.
const WORD: u64 = 8;

/// Larger requests go to `malloc`, whose chunks are multiples of 16 with a header of 8.
const SMALL: u64 = 512;

/// More than so many bytes behind its end, and a block was not asked for this table (`malloc` leaves no remainder of less than 32 bytes).
const SLACK: u64 = 32;

/// `DEFAULT_MMAP_THRESHOLD` is 128 KiB, but may be set; no smaller setting is of use.
const LEAST_MAPPED: u64 = 1 << 14;
const PAGE: u64 = 4096;

/// Indices that are checked; the smallest table has so many.
const INDICES: usize = 8;

/// What a key table says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Keys {
    /// Dicts that have it, or its class.
    references: u64,
    /// It belongs to a class, and its dicts have their values elsewhere.
    is_split: bool,
    /// Bytes of it.
    bytes: u64,
    entries: u64,
    /// 1, 2, 4 or 8.
    index_bytes: usize,
}

impl Keys {
    /// Reads the head of a key table; `None` where its numbers do not fit together.
    pub(super) fn parse(head: &[u8], layout: &KeyTable) -> Option<Self> {
        let (usable, entries) = (u64_at(head, layout.dk_usable)?, u64_at(head, layout.dk_nentries)?);
        let Size { log2, log2_index_bytes, entry, is_split } = Size::parse(head, layout.size)?;
        // `new_keys_object`, `Objects/dictobject.c`.
        let wider = match log2 {
            ..8 => 0,
            8..16 => 1,
            16..32 => 2,
            _ => 3,
        };
        let room = (1u64 << log2) * 2 / 3;
        let fits = log2_index_bytes.is_none_or(|bytes| bytes == log2 + wider)
            && usable.checked_add(entries)? <= room;
        fits.then(|| Self {
            references: u64_at(head, layout.dk_refcnt).unwrap_or_default(),
            is_split,
            bytes: layout.dk_indices as u64 + (1 << (log2 + wider)) + room * entry,
            entries,
            index_bytes: 1 << wider,
        })
    }

    /// Bytes of its block, if one dict alone has it; `in_page`: mimalloc has given it.
    pub(super) const fn owned_bytes(self, in_page: bool) -> u64 {
        if self.is_split || self.references != 1 {
            0
        } else if in_page {
            given_by_mimalloc(self.bytes)
        } else {
            given(self.bytes)
        }
    }
}

/// What a table says of its size and kind.
struct Size {
    log2: u8,
    /// The same of the indices, where it is told.
    log2_index_bytes: Option<u8>,
    /// Bytes of an entry.
    entry: u64,
    /// Only known where the kind is told; a dict tells it by having its values elsewhere.
    is_split: bool,
}

impl Size {
    fn parse(head: &[u8], size: KeySize) -> Option<Self> {
        let (log2, log2_index_bytes, kind) = match size {
            KeySize::Places { dk_size, dk_lookup } => {
                let places = u64_at(head, dk_size).filter(|places| places.is_power_of_two())?;
                // Any of four functions.
                u64_at(head, dk_lookup).filter(|function| CODE.contains(function))?;
                (u8::try_from(places.ilog2()).ok()?, None, GENERAL)
            }
            KeySize::Log2 { dk_log2_size, dk_log2_index_bytes, dk_kind } => {
                let byte = |at: usize| head.get(at).copied();
                (byte(dk_log2_size)?, Some(byte(dk_log2_index_bytes)?), byte(dk_kind)?)
            }
        };
        let sound = (LEAST_LOG2..=MOST_LOG2).contains(&log2) && kind <= SPLIT;
        let entry = if kind == GENERAL { ENTRY_WITH_HASH } else { ENTRY };
        sound.then_some(Self { log2, log2_index_bytes, entry, is_split: kind == SPLIT })
    }
}

/// What the allocators give for a request.
const fn given(bytes: u64) -> u64 {
    if bytes <= SMALL { bytes.next_multiple_of(16) } else { (bytes + 8).next_multiple_of(16) - 8 }
}

/// What mimalloc gives for a request: four classes between two powers of two (`_mi_bin`, `Objects/mimalloc/page-queue.c`). Very large ones get whole pages besides, which is an eighth of them at most.
const fn given_by_mimalloc(bytes: u64) -> u64 {
    let words = bytes.div_ceil(WORD);
    let step = if words <= 8 { 2 } else { 1 << ((words - 1).ilog2() - 2) };
    words.next_multiple_of(step) * WORD
}

/// Whether a block holds a key table: of a living dict, or one that waits in the freelist for the next (`PyDict_MAXFREELIST`).
pub(super) fn is_key_table(head: &[u8], block_bytes: u64, in_page: bool, layout: &Layout) -> bool {
    let (layout, objects) = (&layout.kinds.keys, &layout.objects);
    let Some(keys) = Keys::parse(head, layout) else { return false };
    // A pool's blocks are multiples of 16 bytes; chunks of `malloc` are 8 more, those with a mapping of their own up to a page.
    let in_pool = keys.bytes <= SMALL && block_bytes == given(keys.bytes);
    let slack = if keys.bytes < LEAST_MAPPED { SLACK } else { PAGE };
    let in_chunk = !block_bytes.is_multiple_of(16) || keys.bytes >= LEAST_MAPPED;
    let fits = match in_page {
        true => (keys.bytes..=given_by_mimalloc(keys.bytes)).contains(&block_bytes),
        false => in_pool || (in_chunk && (keys.bytes..=keys.bytes + slack).contains(&block_bytes)),
    };
    let referred = keys.references < 1 << 32 || objects.free_link(keys.references).is_some();
    fits && referred && indices(head, &keys, layout)
}

/// The first indices are numbers of entries, or `DKIX_EMPTY` and `DKIX_DUMMY`, which are -1 and -2.
fn indices(head: &[u8], keys: &Keys, layout: &KeyTable) -> bool {
    let size = keys.index_bytes;
    let table = head.get(layout.dk_indices..).unwrap_or_default();
    table.chunks_exact(size).take(INDICES).all(|bytes| {
        let mut word = [0; 8];
        word[..size].copy_from_slice(bytes);
        let index = u64::from_le_bytes(word);
        let empty = u64::MAX >> (64 - 8 * size);
        index < keys.entries || index == empty || index == empty - 1
    })
}
