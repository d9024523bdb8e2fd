//! Made-up heaps: each rule of liveness and of identity by itself, and heaps of nonsense.

use proptest::prelude::*;

use super::*;
use crate::target::census::pool::tests::header;
use crate::target::layout::v3_11::LAYOUT;
use crate::target::layout::{self, kinds::KeySize};
use crate::target::recorded::Recorded;
use chunks::{CHUNK, chunk};

mod chunks;

const POOL: u64 = 0x7f00_0000_4000;
const TYPE: u64 = 0x95_0000;
const FLOAT: u64 = 0x95_1000;
const DICT: u64 = 0x95_2000;
const HEAP: u64 = 0x100_0000;
const OBJECT: Option<Domain> = Some(Domain::Object);
const MEM: Option<Domain> = Some(Domain::Mem);

fn put(bytes: &mut [u8], at: u64, words: &[u64]) {
    for (word, slot) in words.iter().zip(bytes[at as usize..].chunks_exact_mut(8)) {
        slot.copy_from_slice(&word.to_le_bytes());
    }
}

/// A type object: ready, of 24 bytes, whose type is `type`.
fn type_object(flags: u64) -> Vec<u8> {
    let mut bytes = vec![0; 304];
    put(&mut bytes, 0, &[1, TYPE]);
    put(&mut bytes, 24, &[TYPE + 296, 24]);
    put(&mut bytes, 168, &[1 << 12 | flags]);
    bytes
}

/// A pool of blocks of `size` bytes: `carved` of them, with these free ones, and these words in the others.
fn pool(size: u64, carved: u32, free: &[u64], blocks: &[(u64, &[u64])]) -> (u64, Vec<u8>) {
    let at = |block: u64| POOL + 48 + block * size;
    let chain: Vec<u64> = free.iter().map(|block| at(*block)).chain([0]).collect();
    let mut bytes = header(carved - free.len() as u32, (size / 16 - 1) as u32, carved, chain[0], 0);
    bytes.resize(16384, 0);
    for (block, words) in blocks {
        put(&mut bytes, 48 + block * size, words);
    }
    for links in chain.windows(2) {
        put(&mut bytes, links[0] - POOL, &links[1..]);
    }
    (POOL, bytes)
}

fn heap(regions: Vec<(u64, Vec<u8>)>) -> Survivors<Recorded> {
    heap_of(&LAYOUT, regions)
}

fn heap_of(layout: &'static Layout, mut regions: Vec<(u64, Vec<u8>)>) -> Survivors<Recorded> {
    regions.extend([
        (TYPE, type_object(1 << 31 | 1 << 14)),
        (FLOAT, type_object(0)),
        (DICT, type_object(1 << 29 | 1 << 14)),
    ]);
    let symbol = |name: &str| (name == "PyFloat_Type").then_some(FLOAT);
    Survivors {
        memory: Recorded::new(regions),
        layout,
        types: Types::new(&layout.kinds, symbol),
        chunks: Chunks::glibc(Some(HEAP)),
        always: None,
    }
}

fn one(regions: Vec<(u64, Vec<u8>)>, block: Block) -> Look {
    heap(regions).look(&[block])[0]
}

fn identity(look: Look) -> [u64; 2] {
    let Look::Alive { identity, .. } = look else { panic!("{look:?}") };
    identity
}

/// The block `block` of a pool of 32 bytes, in which blocks 1 and 4 are free.
fn in_small_pool(block: u64, words: &[u64]) -> Look {
    let words = [(block, words)];
    one(vec![pool(32, 6, &[4, 1], &words)], (POOL + 48 + 32 * block, 32, OBJECT))
}

#[test]
fn a_small_block_lives_as_long_as_its_pool_says() {
    let float = [1, FLOAT, 42];
    assert!(matches!(in_small_pool(2, &float), Look::Alive { owned_bytes: 0, .. }));
    assert_eq!([in_small_pool(1, &float), in_small_pool(4, &float)], [Look::Dead; 2], "on the free list");
    assert_eq!(in_small_pool(6, &float), Look::Dead, "not carved");
    let with = |address: u64, size: u64| one(vec![pool(32, 6, &[], &[(2, &float)])], (address, size, OBJECT));
    let at = POOL + 48 + 64;
    assert!(matches!(with(at, 32), Look::Alive { .. }));
    assert!(matches!(with(at, 25), Look::Alive { .. }), "shrunk by a quarter");
    assert_eq!([with(at, 16), with(at, 33), with(at, 64)], [Look::Dead; 3], "a pool of another class");
    assert_eq!([with(at + 16, 32), with(POOL + 16, 32)], [Look::Dead; 2], "between blocks");
    assert_eq!(with(at + (1 << 20), 32), Look::Dead, "unmapped");
    let mut empty = pool(32, 6, &[], &[(2, &float)]);
    empty.1[0] = 0;
    assert_eq!(one(vec![empty], (at, 32, OBJECT)), Look::Dead, "no block of the pool is in use");
    // Its first word is no link, so that its pool's chain does not matter; block 3 begins with a link.
    let torn = || {
        let mut torn = pool(32, 6, &[4, 1], &[(2, &float), (3, &[0, 0, 5])]);
        put(&mut torn.1, 48 + 32 * 4, &[POOL + 7]);
        vec![torn]
    };
    assert!(matches!(one(torn(), (at, 32, OBJECT)), Look::Alive { .. }));
    assert_eq!(one(torn(), (at + 32, 32, OBJECT)), Look::Unread, "the chain cannot be followed");
}

#[test]
fn freelists_are_no_life() {
    assert_eq!(in_small_pool(2, &[0, FLOAT, 42]), Look::Dead, "an object without references");
    assert_eq!(in_small_pool(2, &[0, POOL + 48, 42]), Look::Dead, "a float in the freelist");
    assert_eq!(in_small_pool(2, &[0, 0, 42]), Look::Dead, "the last float in the freelist");
    assert!(matches!(in_small_pool(2, &[5, POOL + 48, 42]), Look::Alive { .. }), "no object");
}

#[test]
fn identity_is_what_stays() {
    let [first, again] = [1, 77].map(|references| identity(in_small_pool(2, &[references, FLOAT, 42])));
    assert_eq!(first, again, "references come and go");
    let other = identity(in_small_pool(2, &[1, FLOAT, 43]));
    assert!(other[0] != first[0] && other[1] == first[1], "another value is another float");
    let memory =
        |words: &[u64]| identity(one(vec![pool(64, 6, &[], &[(2, words)])], (POOL + 48 + 128, 64, MEM)));
    let items = memory(&[1 << 50, 2, 3, 4, 5]);
    assert_eq!(items, memory(&[1 << 50, 2, 3, 4, 6]), "what grows behind");
    assert_ne!(items, memory(&[1 << 50, 2, 3, 5, 5]));
}

/// The head of a key table of 8 places, two of them taken; kind 1 has entries of 16 bytes.
fn keys(references: u64, kind: u64) -> [u64; 5] {
    [references, 3 | 3 << 8 | kind << 16, 3, 2, 0xffff_ff01_ff00_ffff]
}

#[test]
fn a_dict_owns_its_key_table() {
    let table = POOL + (1 << 20);
    let dict = |version: u64, keys: &[u64]| {
        let words = [POOL, POOL, 1, DICT, 2, version, table, 0];
        let mut bytes = vec![0; 120];
        put(&mut bytes, 0, keys);
        one(vec![pool(64, 6, &[1], &[(2, &words)]), (table, bytes)], (POOL + 48 + 128, 64, OBJECT))
    };
    let owned =
        |look: Look| if let Look::Alive { owned_bytes, .. } = look { Some(owned_bytes) } else { None };
    assert_eq!(owned(dict(9, &keys(1, 1))), Some(128), "32 + 8 + 5 * 16");
    assert_eq!(owned(dict(9, &keys(1, 0))), Some(160), "32 + 8 + 5 * 24");
    assert_eq!(owned(dict(9, &keys(2, 2))), Some(0), "its class has it");
    assert_eq!(owned(dict(9, &[0; 5])), Some(0), "nonsense");
    let [before, after] = [9, 10].map(|version| identity(dict(version, &keys(1, 1))));
    assert!(before[0] == after[0] && before[1] != after[1], "the version tells");
}

#[test]
fn key_tables_are_parts() {
    let block = |words: &[u64], size: u64| {
        one(vec![pool(size, 6, &[1], &[(2, words)])], (POOL + 48 + 2 * size, size, OBJECT))
    };
    assert_eq!(
        [block(&keys(1, 1), 128), block(&keys(0, 1), 128)],
        [Look::Part; 2],
        "in use, or in the freelist"
    );
    assert_eq!([block(&keys(1, 0), 160), block(&keys(30, 2), 128)], [Look::Part; 2]);
    let not = |at: usize, word: u64| {
        let mut words = keys(1, 1);
        words[at] = word;
        block(&words, 128)
    };
    assert_ne!(block(&keys(1, 1), 144), Look::Part, "of another size");
    assert_ne!(not(0, 1 << 33), Look::Part, "references");
    assert_ne!(not(1, 3 | 4 << 8 | 1 << 16), Look::Part, "indices of the wrong width");
    assert_ne!(not(1, 3 | 3 << 8 | 3 << 16), Look::Part, "no such kind");
    assert_ne!(not(2, 4), Look::Part, "more entries than fit");
    assert_ne!(not(4, 0xffff_ff02_ff00_ffff), Look::Part, "an index of no entry");
}

/// Up to 3.10 a table says its places, and which of four functions looks in it.
#[test]
fn key_tables_of_old_are_parts_as_well() {
    let layout = layout::of(3, 10).unwrap();
    let old = [1, 8, 0x95_4000, 3, 2, 0xffff_ff01_ff00_ffff];
    let block = |words: &[u64], size: u64| {
        let pool = pool(size, 6, &[1], &[(2, words)]);
        heap_of(layout, vec![pool]).look(&[(POOL + 48 + 2 * size, size, OBJECT)])[0]
    };
    let with = |at: usize, word: u64| {
        let mut words = old;
        words[at] = word;
        block(&words, 176)
    };
    assert_eq!([block(&old, 176), with(0, 0), with(0, 77)], [Look::Part; 3], "40 + 8 + 5 * 24");
    assert_ne!(block(&old, 192), Look::Part, "of another size");
    for (at, word, why) in [
        (1, 9, "no power of two"),
        (1, 16, "of more places"),
        (2, 0, "no function"),
        (2, 1 << 47, "no address"),
        (3, 4, "more entries than fit"),
        (5, 0xffff_ff02_ff00_ffff, "an index of no entry"),
    ] {
        assert_ne!(with(at, word), Look::Part, "{why}");
    }
}

/// From 3.14 on what lies in a freelist has the address of the next in the place of its count, and nothing else is changed.
#[test]
fn what_is_linked_in_a_freelist_is_dead() {
    let layout = layout::of(3, 14).unwrap();
    let at = |block: u64| POOL + 48 + 32 * block;
    let look = |first: u64, domain| {
        let blocks: [(u64, &[u64]); 2] = [(2, &[first, FLOAT, 42]), (3, &[0, FLOAT, 43])];
        heap_of(layout, vec![pool(32, 6, &[1], &blocks)]).look(&[(at(2), 32, domain)])[0]
    };
    assert_eq!([look(at(3), OBJECT), look(0, OBJECT)], [Look::Dead; 2], "the next, or the last");
    assert!(matches!(look(1 | 3 << 48, OBJECT), Look::Alive { .. }), "a count with flags of the object");
    assert!(matches!(look(at(4), OBJECT), Look::Alive { .. }), "what it leads to is no float");
    assert!(matches!(look(at(3), MEM), Look::Alive { .. }), "an array of a float and its type");
    assert_eq!(one(vec![pool(32, 6, &[1], &[(2, &[0, FLOAT, 42])])], (at(2), 32, OBJECT)), Look::Dead);
    let keys = |first: u64| {
        let words = [first, 3 | 3 << 8 | 1 << 16, 3, 2, 0xffff_ff01_ff00_ffff];
        heap_of(layout, vec![pool(128, 6, &[1], &[(2, &words)])]).look(&[(POOL + 48 + 256, 128, MEM)])[0]
    };
    assert_eq!([keys(1), keys(POOL + 48)], [Look::Part; 2], "in use, or in the freelist");
}

/// A dict without a version is told by what is in it.
#[test]
fn a_dict_without_a_version_is_its_contents() {
    let table = POOL + (1 << 20);
    let dict = |minor: u8, tag: u64, used: u64, value: u64| {
        let words = [POOL, POOL, 1, DICT, used, tag, table, 0];
        let mut bytes = vec![0; 120];
        put(&mut bytes, 0, &keys(1, 1));
        put(&mut bytes, 40, &[7, value]);
        let mut heap =
            heap_of(layout::of(3, minor).unwrap(), vec![pool(64, 6, &[1], &[(2, &words)]), (table, bytes)]);
        identity(heap.look(&[(POOL + 48 + 128, 64, OBJECT)])[0])
    };
    assert_eq!(dict(14, 0, 2, 8), dict(14, 5, 2, 8), "watchers");
    assert_ne!(dict(14, 0, 2, 8), dict(14, 0, 3, 8), "another item");
    assert_ne!(dict(14, 0, 2, 8), dict(14, 0, 2, 9), "another value");
    for (minor, bits) in [(12, 8), (13, 12)] {
        assert_eq!(
            dict(minor, 5 << bits, 2, 8),
            dict(minor, 5 << bits | 1, 3, 9),
            "3.{minor}: the version tells"
        );
        assert_ne!(dict(minor, 5 << bits, 2, 8), dict(minor, 6 << bits, 2, 8), "3.{minor}: another version");
    }
}

/// An instance's own words, by version: where its attributes are.
#[test]
fn instances_are_told_by_where_their_attributes_are() {
    const INLINE: u64 = 1 << 2 | 1 << 4 | 1 << 14;
    let class = FLOAT + 0x8000;
    let look = |minor: u8, flags: u64, hook: u64, words: &[u64]| {
        let mut kind = type_object(flags);
        put(&mut kind, 32, &[16]);
        put(&mut kind, 288, &[hook]);
        let mut heap =
            heap_of(layout::of(3, minor).unwrap(), vec![(class, kind), pool(96, 6, &[1], &[(2, words)])]);
        identity(heap.look(&[(POOL + 48 + 192, 96, OBJECT)])[0])
    };
    // In the instance: capacity 29, one value, embedded, valid.
    let inside = |dict: u64, head: u64, value: u64| {
        look(13, INLINE, 0, &[0, dict, POOL, POOL, 1, class, head, value, 0])
    };
    assert_eq!(inside(0, 0x0101_011d, 8), inside(POOL, 0x0101_021d, 8), "it got a dict");
    assert_ne!(inside(0, 0x0101_011d, 8), inside(0, 0x0101_011d, 9), "another first value");
    assert_ne!(inside(POOL, 0x0001_011d, 8), inside(POOL + 16, 0x0001_011d, 8), "the dict has them");
    // One word: an odd one is the array.
    let tagged = |word: u64| look(12, 1 << 4 | 1 << 14, 0, &[0, word, POOL, POOL, 1, class, 5, 6]);
    assert_ne!(tagged(POOL | 1), tagged(POOL | 17));
    // A dict of its own, at `tp_dictoffset`; the list of weak references behind it is not looked at.
    let plain = |dict: u64, weak: u64| look(10, 1 << 14, 16, &[POOL, POOL, 1, class, dict, weak]);
    assert_ne!(plain(POOL, 0), plain(POOL + 16, 0));
}

/// Each version's table by itself, whatever it inherits.
#[test]
fn the_tables_hold_together() {
    for minor in 8..=15 {
        let layout::Layout { kinds, objects, pools, .. } = layout::of(3, minor).unwrap();
        assert!(kinds.type_len as u64 >= kinds.tp_dictoffset + 8, "3.{minor}");
        assert_eq!(matches!(kinds.keys.size, KeySize::Places { .. }), minor <= 10, "3.{minor}");
        assert_eq!(
            objects.pre_header > objects.gc_head,
            kinds.attributes.pre_header_flags() != 0,
            "3.{minor}"
        );
        assert_eq!(pools.pool_size, if minor <= 9 { 4096 } else { 16384 }, "3.{minor}");
        let rules = || kinds.rules.iter().copied().flatten();
        assert!(rules().last().is_some_and(|rule| rule.types == layout::kinds::Types::Any), "3.{minor}");
        let words = rules().flat_map(|rule| rule.stays.iter().chain(rule.moves));
        assert!(words.clone().all(|at| *at >= 16 && usize::from(*at) + 8 <= HEAD), "3.{minor}");
    }
}

#[test]
fn all_is_as_it_is_asked() {
    let mut survivors = heap(vec![pool(32, 6, &[4, 1], &[(2, &[1, FLOAT, 42])])]);
    let block = |at: u64| (POOL + 48 + 32 * at, 32, OBJECT);
    let blocks: Vec<Block> = (0..10_000).map(|at| block(at % 6)).collect();
    let looks = survivors.look(&blocks);
    let alone: Vec<Look> = (0..6).map(|at| survivors.look(&[block(at)])[0]).collect();
    assert!(looks.iter().enumerate().all(|(at, look)| *look == alone[at % 6]));
    survivors.always = Some(TYPE);
    assert_eq!(survivors.look(&blocks), looks);
    survivors.always = Some(0x10);
    assert!(survivors.look(&blocks).iter().all(|look| *look == Look::Unread), "its memory is gone");
    assert_eq!(survivors.look(&[]), []);
}

fn words() -> impl Strategy<Value = u64> {
    let pointers =
        prop::sample::select(vec![POOL, POOL + 48, POOL + 80, POOL + 112, TYPE, FLOAT, DICT, HEAP, CHUNK]);
    prop_oneof![4 => pointers, 2 => 0u64..64, 1 => any::<u64>()]
}

proptest! {
    #[test]
    fn hostile_heaps_never_panic(
        in_pool in prop::collection::vec(words(), 0..200),
        in_type in prop::collection::vec(words(), 38),
        class in 0u32..32, used in 0u32..20, carved in 1u32..20,
        in_chunk in prop::collection::vec(words(), 0..200),
        blocks in prop::collection::vec((words(), 0u64..4096, prop::option::of(0u8..4)), 0..50),
    ) {
        let bytes = |words: &[u64]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<u8>>();
        let mut pool = header(used, class, carved, in_pool.first().copied().unwrap_or_default(), 0);
        pool.extend(bytes(&in_pool));
        pool.resize(16384, 0xff);
        let mut survivors = heap(vec![(POOL, pool), (CHUNK - 32, bytes(&in_chunk)), (0x95_4000, bytes(&in_type)), (HEAP, bytes(&in_type))]);
        let blocks: Vec<Block> =
            blocks.iter().map(|(address, size, domain)| (*address, *size, domain.and_then(Domain::from_code))).collect();
        let looks = survivors.look(&blocks);
        prop_assert_eq!(looks.len(), blocks.len());
        prop_assert_eq!(survivors.look(&blocks), looks, "nothing has changed");
    }

    #[test]
    fn hostile_objects_never_panic(minor in 8u8..=15, words in prop::collection::vec(words(), 24), flags in 0u64..1 << 32, size in 0u64..1 << 40) {
        let mut kind = type_object(flags);
        put(&mut kind, 208, &[size % 64]);
        let mut object = words.clone();
        object[1] = FLOAT + 0x8000;
        object[3] = FLOAT + 0x8000;
        object[5] = FLOAT + 0x8000;
        put(&mut kind, 288, &[size % 48]);
        let layout = layout::of(3, minor).unwrap();
        let mut survivors = heap_of(layout, vec![(FLOAT + 0x8000, kind), pool(192, 6, &[1], &[(2, &object)]), chunk(0x1000, &object, 1)]);
        let _ = survivors.look(&[(POOL + 48 + 2 * 192, 192, OBJECT), (CHUNK, 0x800, OBJECT), (CHUNK, 0x800, None)]);
    }
}
