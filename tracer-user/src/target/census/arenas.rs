//! The allocator's own table of arenas: found once in the interpreter's data, it says where every pool is, and nothing else needs to be looked at.
//!
//! `arenas` (`Objects/obmalloc.c`) has no symbol in a stripped file, but it proves itself: the pools of the arena that entry 5 of the table names
//! have 5 in their headers. So any word of the interpreter's data that points to such a table will do, as long as it still does when it is used.

use std::ops::Range;

use super::pool::{self, MAX_ARENAS, u32_at, u64_at};
use crate::target::layout::Pools;
use crate::target::memory::Bytes;

/// Words of the interpreter's data that are kept because they may be `arenas`. Right after the start a few others (`usable_arenas`, `nfp2lasta`) hold
/// the same address, that of entry 0; only the true one goes on doing so.
const VARIABLES: usize = 128;

/// How often the table is read again because it moved meanwhile. It moves when it doubles: at most 12 times in a process's life.
const TRIES: usize = 4;

/// One arena in use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Arena {
    /// Its place in the table.
    pub(super) index: u32,
    /// Where the pools are that have been used at least once.
    pub(super) pools: Range<u64>,
}

/// The addresses of the words in `data` that may be `arenas`: those that point into `heap` and to a table that proves itself. May be empty.
pub(super) fn find(
    memory: &impl Bytes,
    data: &[Range<u64>],
    heap: &[Range<u64>],
    layout: &Pools,
) -> Vec<u64> {
    let mut words = Vec::new();
    for range in data {
        let Ok(len) = usize::try_from(range.end.saturating_sub(range.start)) else { continue };
        let mut bytes = vec![0; len];
        if memory.read(range.start, &mut bytes).is_ok() {
            let addresses = (range.start..).step_by(8);
            let values = bytes.chunks_exact(8).filter_map(|word| u64_at(word, 0));
            words.extend(addresses.zip(values).filter(|(_, value)| is_in(heap, *value)));
        }
    }
    let mut tables: Vec<u64> = words.iter().map(|(_, value)| *value).collect();
    tables.sort_unstable();
    tables.dedup();
    let tables = proven(memory, &tables, layout);
    let variables = words.iter().filter(|(_, value)| tables.contains(value)).map(|(address, _)| *address);
    variables.take(VARIABLES).collect()
}

/// Whether a pointer to something that `malloc` gave can lie there: aligned, and inside one of the sorted ranges.
fn is_in(ranges: &[Range<u64>], value: u64) -> bool {
    let after = ranges.partition_point(|range| range.start <= value);
    let before = after.checked_sub(1).and_then(|at| ranges.get(at));
    value.is_multiple_of(16) && before.is_some_and(|range| value < range.end)
}

/// Those of `tables` that prove themselves by their first chunk.
fn proven(memory: &impl Bytes, tables: &[u64], layout: &Pools) -> Vec<u64> {
    let mut bytes = Vec::new();
    let mut found = Vec::new();
    for batch in tables.chunks(pool::BATCH) {
        let readable = memory.read_many(batch, chunk_len(layout), &mut bytes);
        let chunks = batch.iter().zip(bytes.chunks_exact(chunk_len(layout))).zip(readable);
        for ((table, chunk), _) in chunks.filter(|(_, readable)| *readable) {
            if let Some(arenas) = arenas_of(*table, 0, chunk, layout)
                && proves(memory, &arenas, layout)
            {
                found.push(*table);
            }
        }
    }
    found
}

/// Whether the first pools of some arenas name the entries that the arenas have in the table.
fn proves(memory: &impl Bytes, arenas: &[Arena], layout: &Pools) -> bool {
    let begun: Vec<&Arena> = arenas.iter().filter(|arena| !arena.pools.is_empty()).collect();
    let firsts: Vec<u64> = begun.iter().map(|arena| arena.pools.start).collect();
    let pools = pool::read(memory, &firsts, layout);
    let right = pools.iter().filter(|(at, pool)| begun[*at].index == pool.arena).count();
    // One may be in the middle of being made or given back.
    right > 0 && right + 1 >= pools.len()
}

/// The table as it is now, by the first variable that still leads to one: the variable's address, and the arenas in use. `None` when none does.
pub(super) fn table(memory: &impl Bytes, variables: &[u64], layout: &Pools) -> Option<(u64, Vec<Arena>)> {
    for variable in variables {
        for _ in 0..TRIES {
            let Ok(table) = memory.read_u64(*variable) else { break };
            let arenas = read_table(memory, table, layout);
            if memory.read_u64(*variable) != Ok(table) {
                continue;
            }
            let first: Vec<Arena> = arenas
                .iter()
                .take_while(|arena| (arena.index as usize) < layout.initial_arena_objects)
                .cloned()
                .collect();
            if proves(memory, &first, layout) {
                return Some((*variable, arenas));
            }
            break;
        }
    }
    None
}

/// The arenas in use of a table, which begins with [`Pools::initial_arena_objects`] entries and doubles, so that a chunk of so many lies wholly in it or behind it.
///
/// Its length is a variable of its own (`maxarenas`), which does not prove itself; but a chunk behind the end shows: hardly any of its entries makes sense.
fn read_table(memory: &impl Bytes, table: u64, layout: &Pools) -> Vec<Arena> {
    let per_chunk = layout.initial_arena_objects;
    let mut arenas = Vec::new();
    let mut chunk = vec![0; chunk_len(layout)];
    for first in (0..MAX_ARENAS).step_by(per_chunk.max(1)) {
        let at = u64::from(first).checked_mul(layout.arena_object_size as u64);
        let Some(at) = at.and_then(|at| table.checked_add(at)) else { break };
        if memory.read(at, &mut chunk).is_err() {
            break;
        }
        let Some(used) = arenas_of(table, first, &chunk, layout) else { break };
        arenas.extend(used);
    }
    arenas
}

const fn chunk_len(layout: &Pools) -> usize {
    layout.initial_arena_objects * layout.arena_object_size
}

/// The arenas in use of a chunk of a table, whose first entry has the place `first`; `None` when this is no chunk of that table.
///
/// Of a chunk in the table one entry may be half written, and one may be the last of the unused, which leads nowhere.
fn arenas_of(table: u64, first: u32, chunk: &[u8], layout: &Pools) -> Option<Vec<Arena>> {
    let mut doubtful = 0;
    let mut used = Vec::new();
    for (index, entry) in (first..).zip(chunk.chunks_exact(layout.arena_object_size)) {
        match pools_of(entry, layout) {
            Some(pools) => used.push(Arena { index, pools }),
            None if is_unused(entry, table, layout) => {}
            None => doubtful += 1,
        }
    }
    (doubtful <= 2).then_some(used)
}

/// Where the pools of an entry in use are; `None` for any other entry.
fn pools_of(entry: &[u8], layout: &Pools) -> Option<Range<u64>> {
    let address = u64_at(entry, layout.arena_address)?;
    let end = u64_at(entry, layout.arena_pool_address)?;
    let (free, total) = (u32_at(entry, layout.arena_nfreepools)?, u32_at(entry, layout.arena_ntotalpools)?);
    let start = address.checked_next_multiple_of(layout.pool_size)?;
    let used = end.checked_sub(start)?;
    let most = u64::from(total).checked_mul(layout.pool_size)?;
    let sound = address != 0
        && address.is_multiple_of(super::pages::PAGE)
        && free <= total
        && most <= layout.arena_size
        && used <= most
        && used.is_multiple_of(layout.pool_size);
    sound.then_some(start..end)
}

/// An entry that is not in use has no address, and leads to the next such entry of the table, unless it is the last.
fn is_unused(entry: &[u8], table: u64, layout: &Pools) -> bool {
    let words = (u64_at(entry, layout.arena_address), u64_at(entry, layout.arena_nextarena));
    let (Some(0), Some(next)) = words else { return false };
    let size = layout.arena_object_size as u64;
    let inside = next.checked_sub(table);
    inside.is_some_and(|inside| inside.is_multiple_of(size) && inside / size < u64::from(MAX_ARENAS))
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::target::census::pool::tests::{POOLS, header};
    use crate::target::census::{Heap, count, pages::PageMap};
    use crate::target::recorded::Recorded;
    use proptest::prelude::*;

    /// Where the made-up interpreter has its data, and where its `malloc` has put the table.
    const DATA: u64 = 0x95_0000;
    pub(in crate::target::census) const TABLE: u64 = 0x100_0040;

    /// The address of an arena that is not aligned as pools are, as `mmap` gives them.
    const fn arena_at(index: u32) -> u64 {
        0x7f00_0000_1000 + ((index as u64) << 21)
    }

    const fn pool_at(index: u32, slot: u64) -> u64 {
        arena_at(index) + 0x3000 + slot * 16384
    }

    fn entry(words: [u64; 2], pools: [u32; 2], next: u64) -> Vec<u8> {
        let mut entry = words.map(u64::to_le_bytes).concat();
        entry.extend(pools.map(u32::to_le_bytes).concat());
        entry.extend([0; 8]);
        entry.extend(next.to_le_bytes());
        entry.extend([0; 8]);
        entry
    }

    /// An entry in use, of an arena of whose 63 pools two have been used.
    fn used(index: u32) -> Vec<u8> {
        entry([arena_at(index), pool_at(index, 2)], [61, 63], 0)
    }

    /// A table of `len` entries, of which those in `indexes` are in use; the others lead from one to the next, and the last nowhere.
    pub(in crate::target::census) fn table_of(len: u32, indexes: &[u32]) -> Vec<u8> {
        let next = |index: u32| if index + 1 < len { TABLE + 48 * u64::from(index + 1) } else { 0 };
        let entries = (0..len).map(|index| {
            if indexes.contains(&index) { used(index) } else { entry([0, 0xdead], [7, 7], next(index)) }
        });
        entries.collect::<Vec<_>>().concat()
    }

    /// Two pools in each of these arenas, of 5 and of 7 blocks of 32 bytes.
    pub(in crate::target::census) fn pools_in(indexes: &[u32]) -> Vec<(u64, Vec<u8>)> {
        let pools = indexes.iter().flat_map(|index| {
            [
                (pool_at(*index, 0), header(5, 1, 9, 0, *index)),
                (pool_at(*index, 1), header(7, 1, 9, 0, *index)),
            ]
        });
        pools.collect()
    }

    /// A process: its words of data, its table, and whatever lies behind that.
    fn process(data: &[u64], table: Vec<u8>, behind: &[u8], indexes: &[u32]) -> Recorded {
        let words = data.iter().flat_map(|word| word.to_le_bytes()).collect();
        let mut regions = pools_in(indexes);
        regions.extend([(DATA, words), (TABLE, [table, behind.to_vec()].concat())]);
        Recorded::new(regions)
    }

    fn find_in(memory: &Recorded) -> Vec<u64> {
        let len = (0..4096).take_while(|at| memory.read_u64(DATA + 8 * at).is_ok()).count() as u64;
        let (data, heap) = (DATA..DATA + 8 * len, 0x100_0000..0x200_0000);
        find(memory, std::slice::from_ref(&data), std::slice::from_ref(&heap), POOLS)
    }

    fn indexes(memory: &Recorded, variables: &[u64]) -> Option<(u64, Vec<u32>)> {
        let (variable, arenas) = table(memory, variables, POOLS)?;
        Some((variable, arenas.iter().map(|arena| arena.index).collect()))
    }

    #[test]
    fn the_table_is_found_and_followed() {
        let words = [0, 0x40_1000, TABLE + 0x1000, TABLE, TABLE + 8, u64::MAX];
        let memory = process(&words, table_of(32, &[0, 5, 31]), &[0; 4096], &[0, 5, 31]);
        let variables = find_in(&memory);
        assert_eq!(variables, [DATA + 24]);
        assert_eq!(indexes(&memory, &variables), Some((DATA + 24, vec![0, 5, 31])), "in both chunks");
        let (_, arenas) = table(&memory, &variables, POOLS).unwrap();
        assert_eq!(arenas[1].pools, pool_at(5, 0)..pool_at(5, 2));
        let census = count(&memory, None::<&mut PageMap>, &arenas, POOLS);
        assert_eq!((census.pools, census.live_blocks, census.live_bytes), (6, 36, 36 * 32));
        assert_eq!((census.looked_at_bytes, census.left_out()), (6 * 16384, Some(0)));
        assert!(Heap { layout: POOLS, variables, interpreters: None }.knows_arenas());
    }

    /// Other words lead into the table too, and even to its first entry for a while; when they have moved on, they do not prove themselves.
    #[test]
    fn only_the_true_variable_stays() {
        let memory = process(&[TABLE, TABLE, TABLE + 48 * 5], table_of(16, &[0, 5]), &[], &[0, 5]);
        let variables = find_in(&memory);
        assert_eq!(variables, [DATA, DATA + 8], "entry 5 is not the first of a table");
        let later = process(&[TABLE + 48 * 5, TABLE], table_of(16, &[0, 5]), &[], &[0, 5]);
        assert_eq!(indexes(&later, &variables), Some((DATA + 8, vec![0, 5])));
        let lost = process(&[0, TABLE + 48 * 5], table_of(16, &[0, 5]), &[], &[0, 5]);
        assert_eq!(indexes(&lost, &variables), None);
    }

    #[test]
    fn half_written_entries_and_pools_are_passed_over() {
        let mut bytes = table_of(16, &[0, 5]);
        // Entry 3 has its address already, and the rest of its former life.
        bytes[3 * 48..4 * 48].copy_from_slice(&entry([arena_at(3), 0xdead_0000], [0, 63], 0));
        let memory = process(&[TABLE], bytes, &[], &[0, 5, 3]);
        assert_eq!(indexes(&memory, &find_in(&memory)), Some((DATA, vec![0, 5])));
        // A pool of another arena, in the place of one of arena 5: the table has become something else.
        let mut regions = pools_in(&[0, 5]);
        regions[3].1 = header(7, 1, 9, 0, 6);
        regions.push((TABLE, table_of(16, &[0, 5])));
        regions.push((DATA, TABLE.to_le_bytes().to_vec()));
        let memory = Recorded::new(regions);
        let (_, arenas) = table(&memory, &[DATA], POOLS).unwrap();
        assert_eq!(count(&memory, None::<&mut PageMap>, &arenas, POOLS).live_blocks, 5 + 7 + 5);
    }

    /// What lies behind the table is not taken for a part of it; and if it looks like one, because the table once lay there, it adds nothing.
    #[test]
    fn the_table_ends_where_it_ends() {
        for behind in [vec![0; 4096], vec![0xff; 4096]] {
            let memory = process(&[TABLE], table_of(16, &[0, 5]), &behind, &[0, 5]);
            assert_eq!(indexes(&memory, &find_in(&memory)), Some((DATA, vec![0, 5])));
        }
        let moved = process(&[TABLE], table_of(16, &[0, 5]), &table_of(16, &[0, 5]), &[0, 5]);
        let (_, arenas) = table(&moved, &find_in(&moved), POOLS).unwrap();
        assert_eq!(count(&moved, None::<&mut PageMap>, &arenas, POOLS).live_blocks, 24, "each pool once");
    }

    #[test]
    fn no_table_is_no_table() {
        for (words, bytes) in [
            (vec![0], table_of(16, &[0])),
            (vec![TABLE], vec![0; 768]),
            (vec![TABLE], table_of(16, &[])),
            (vec![TABLE], table_of(16, &[0])[..767].to_vec()),
        ] {
            assert_eq!(find_in(&process(&words, bytes, &[], &[0])), [] as [u64; 0]);
        }
        let no_pools = process(&[TABLE], table_of(16, &[0]), &[], &[]);
        assert_eq!(find_in(&no_pools), [] as [u64; 0]);
    }

    proptest! {
        #[test]
        fn hostile_tables_never_panic(
            bytes in prop::collection::vec(any::<u8>(), 0..2000),
            words in prop::collection::vec(prop_oneof![Just(TABLE), Just(TABLE + 48), any::<u64>()], 1..8),
            sane in prop::collection::vec(0u32..16, 0..4),
        ) {
            let memory = process(&words, [table_of(16, &sane), bytes].concat(), &[], &sane);
            let variables = find_in(&memory);
            if let Some((_, arenas)) = table(&memory, &variables, POOLS) {
                let census = count(&memory, None::<&mut PageMap>, &arenas, POOLS);
                prop_assert_eq!(census.live_blocks % 12, 0);
            }
        }
    }
}
