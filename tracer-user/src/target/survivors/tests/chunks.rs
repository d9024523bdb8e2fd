//! Made-up heaps of `malloc`: whether a chunk is in use, and where the key of those in a cache is learnt.

use super::*;

/// A chunk of `malloc` with its block's first words, and the next chunk's size word.
pub(super) fn chunk(size: u64, words: &[u64], next: u64) -> (u64, Vec<u8>) {
    let mut bytes = vec![0; (size + 16) as usize];
    put(&mut bytes, 8, &[size | 1]);
    put(&mut bytes, 16, words);
    put(&mut bytes, size + 8, &[next]);
    (HEAP + 0x1000, bytes)
}

pub(super) const CHUNK: u64 = HEAP + 0x1010;

const LIBC: Option<Domain> = Some(Domain::Libc);

#[test]
fn a_large_block_lives_as_long_as_its_chunk() {
    let look = |chunk, size| one(vec![chunk], (CHUNK, size, LIBC));
    assert!(matches!(look(chunk(0x430, &[1, 2], 0x21), 0x428), Look::Alive { .. }));
    assert_eq!(look(chunk(0x430, &[1, 2], 0x20), 0x428), Look::Dead, "in a bin");
    assert_eq!(look(chunk(0x430, &[1, 2], 0x21), 0x429), Look::Dead, "too small for what was asked");
    let mut nonsense = chunk(0x430, &[1, 2], 0x21);
    nonsense.1[8] |= 8;
    assert_eq!(look(nonsense, 0x428), Look::Dead, "no size");
    assert_eq!(look(chunk(0x60, &[CHUNK >> 12, 2], 0x21), 80), Look::Dead, "the last of a fastbin");
    let mangled = (CHUNK >> 12) ^ (CHUNK + 0x1000 - 16);
    let linked = |words: &[u64], size: u64, link: u64| {
        let mut other = vec![0; 32];
        put(&mut other, 0, &[size | 1, link]);
        one(vec![chunk(0x60, words, 0x21), (CHUNK + 0x1000 - 8, other)], (CHUNK, 80, LIBC))
    };
    let last = (CHUNK + 0x1000) >> 12;
    assert_eq!(linked(&[mangled, 2], 0x60, last), Look::Dead, "in a fastbin");
    assert!(matches!(linked(&[mangled ^ 0x100, 2], 0x60, last), Look::Alive { .. }), "it leads nowhere");
    assert!(matches!(linked(&[mangled, 2], 0x70, last), Look::Alive { .. }), "a chunk of another size");
    assert!(matches!(linked(&[mangled, 2], 0x60, CHUNK), Look::Alive { .. }), "the next one is in no chain");
    let mut mapped = chunk(0x3000, &[1, 2], 0);
    mapped.1[8] |= 2;
    assert!(matches!(look(mapped, 0x2ff0), Look::Alive { .. }), "a mapping of its own");
    let mut mapped = chunk(0x2ff0, &[1, 2], 0);
    mapped.1[8] |= 2;
    assert!(matches!(look(mapped.clone(), 0x2ff0), Look::Alive { .. }), "the same since 2.43");
    mapped.1[8] ^= 0x20;
    assert_eq!(look(mapped, 0x2ff0), Look::Dead, "no whole pages");
    assert_eq!(one(vec![], (CHUNK, 80, LIBC)), Look::Dead, "unmapped");
}

/// As keys are: a random number.
const KEY: u64 = 0xfeed_beef_dead_c0de;

/// A heap that begins with chunks of these sizes, and the words at these offsets.
fn first_chunks(sizes: &[u64], words: &[(u64, u64)]) -> Vec<u8> {
    let mut bytes = vec![0; sizes.iter().sum::<u64>() as usize + 16];
    let mut at = 0;
    for size in sizes {
        put(&mut bytes, at + 8, &[size | 1]);
        at += size;
    }
    for (at, word) in words {
        put(&mut bytes, *at, &[*word]);
    }
    bytes
}

/// A block that chains of caches lead to, behind others: its chunk has 0x60 bytes, and that is its second word.
const FREED: u64 = CHUNK + 0x1000;

/// What a block with that second word is said to be, in a heap that begins so; the chains lead to a block with another.
fn look_with(first: &[u8], freed: u64, second: u64) -> Look {
    let mut bytes = vec![0; 32];
    put(&mut bytes, 0, &[0x61, 0, freed]);
    let regions = vec![(HEAP, first.to_vec()), (FREED - 8, bytes), chunk(0x400, &[5, second], 0x21)];
    one(regions, (CHUNK, 0x3f0, LIBC))
}

#[test]
fn the_key_of_the_cache_is_learnt() {
    // The chain of chunks of 0x60 bytes is the fifth.
    let cache = first_chunks(&[0x290], &[(16 + 128 + 8 * 4, FREED)]);
    assert_eq!(look_with(&cache, KEY, KEY), Look::Dead);
    assert!(matches!(look_with(&cache, KEY, KEY + 1), Look::Alive { .. }));
    let place = HEAP + 16;
    assert_eq!(look_with(&cache, place, place), Look::Dead, "before 2.34");
}

/// Since 2.42 the cache is larger, and not the first chunk.
#[test]
fn the_key_of_a_later_cache_is_learnt() {
    let heap = first_chunks(&[0x20, 0x300], &[(0x30 + 2 * 76 + 8 * 4, FREED)]);
    assert_eq!(look_with(&heap, KEY, KEY), Look::Dead);
    assert!(matches!(look_with(&heap, KEY, KEY + 1), Look::Alive { .. }));
}

/// A chunk of the cache's size may hold pointers to small objects: the second word of those is their type, and all objects of that type would be taken for dead.
#[test]
fn a_table_of_objects_is_no_cache() {
    let chain = 0x10 + 128 + 8 * 4;
    let table = first_chunks(&[0x290], &[(chain, FREED)]);
    assert!(matches!(look_with(&table, FLOAT, FLOAT), Look::Alive { .. }), "the second word is a type");
    let mixed = first_chunks(&[0x290], &[(chain, FREED), (chain + 8, FREED)]);
    assert!(matches!(look_with(&mixed, KEY, KEY), Look::Alive { .. }), "a chunk of another chain's size");
    let both = first_chunks(&[0x290, 0x290], &[(chain + 8, FREED), (0x290 + chain, FREED)]);
    assert_eq!(look_with(&both, KEY, KEY), Look::Dead, "the cache comes after it");
}

/// Seen with 3.15 in environments of some sizes: a pool's header would lie where nothing is mapped.
#[test]
fn a_block_near_the_start_of_its_heap_lives() {
    let start = POOL + 0x1000;
    let mut bytes = vec![0; 64];
    put(&mut bytes, 8, &[0x21, 1, FLOAT, 7, 0x21]);
    assert!(matches!(one(vec![(start, bytes.clone())], (start + 16, 24, OBJECT)), Look::Alive { .. }));
    put(&mut bytes, 40, &[0x20]);
    assert_eq!(one(vec![(start, bytes)], (start + 16, 24, OBJECT)), Look::Dead, "in a bin");
    assert_eq!(one(vec![], (start + 16, 24, OBJECT)), Look::Dead, "unmapped");
}
