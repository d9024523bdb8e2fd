//! Interpreters with an allocator of their own (PEP 684, from 3.12 on): each has a table of arenas, which hangs in its state. They come and go, so that their list is walked each time.

use super::arenas::{self, Arena};
use crate::target::layout::{Pools, States};
use crate::target::memory::Bytes;

/// Interpreters that are looked at: the list may be a ring, if somebody else has written it.
const MAX_INTERPRETERS: usize = 1 << 12;

/// The arenas in use of all states but the one whose table the variable at `known` leads to. `head` is the address of `_PyRuntime.interpreters.head`.
pub(super) fn others(memory: &impl Bytes, head: u64, known: u64, layout: &Pools) -> Vec<Arena> {
    let States::PerInterpreter { next, obmalloc, is_pointer, arenas } = layout.states else {
        return Vec::new();
    };
    let word = |address: u64, offset: u64| memory.read_u64(address.checked_add(offset)?).ok();
    let mut seen = vec![word(known, 0).unwrap_or_default(), 0];
    let mut found = Vec::new();
    let mut interpreter = word(head, 0).unwrap_or_default();
    for _ in 0..MAX_INTERPRETERS {
        if interpreter == 0 {
            break;
        }
        let state = if is_pointer { word(interpreter, obmalloc) } else { interpreter.checked_add(obmalloc) };
        let variable = state.filter(|state| *state != 0).and_then(|state| state.checked_add(arenas));
        // Most share the state of the main interpreter, or have made nothing of theirs.
        let table = variable.and_then(|variable| word(variable, 0)).filter(|table| !seen.contains(table));
        if let (Some(variable), Some(table)) = (variable, table) {
            seen.push(table);
            found.extend(arenas::table(memory, &[variable], layout).into_iter().flat_map(|(_, own)| own));
        }
        interpreter = word(interpreter, next).unwrap_or_default();
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::target::census::arenas::tests::{TABLE, pools_in, table_of};
    use crate::target::layout;
    use crate::target::recorded::Recorded;

    const HEAD: u64 = 0x95_0000;
    const KNOWN: u64 = 0x95_1000;
    const KNOWN_TABLE: u64 = 0x300_0040;
    const MAIN: u64 = 0x10_0000;
    const OTHER: u64 = 0x20_0000;
    const STATE: u64 = 0x30_0000;

    fn word(address: u64, word: u64) -> (u64, Vec<u8>) {
        (address, word.to_le_bytes().to_vec())
    }

    /// Two interpreters: the main one's state leads to the known table, and the other one's to `table`; behind the other comes `last`.
    fn found(minor: u8, table: u64, last: u64) -> Vec<u32> {
        let pools = &layout::of(3, minor).unwrap().pools;
        let States::PerInterpreter { next, obmalloc, is_pointer, arenas } = pools.states else { panic!() };
        let mut regions = pools_in(&[0, 5]);
        regions.extend([(TABLE, table_of(16, &[0, 5])), word(HEAD, MAIN), word(KNOWN, KNOWN_TABLE)]);
        regions.extend([word(MAIN + next, OTHER), word(OTHER + next, last)]);
        for (interpreter, state, table) in [(MAIN, STATE, KNOWN_TABLE), (OTHER, STATE + 4096, table)] {
            let state = if is_pointer {
                regions.push(word(interpreter + obmalloc, state));
                state
            } else {
                interpreter + obmalloc
            };
            regions.push(word(state + arenas, table));
        }
        let arenas = others(&Recorded::new(regions), HEAD, KNOWN, pools);
        arenas.iter().map(|arena| arena.index).collect()
    }

    #[test]
    fn an_interpreter_with_a_table_of_its_own_is_found() {
        for minor in 12..=15 {
            assert_eq!(found(minor, TABLE, 0), [0, 5], "3.{minor}");
            assert_eq!(found(minor, TABLE, MAIN), [0, 5], "3.{minor}: each table once, and an end");
            assert_eq!(found(minor, TABLE, 0xdead_0000), [0, 5], "3.{minor}: what cannot be read");
            for none in [0, KNOWN_TABLE, TABLE + 48, 0xdead_0000] {
                assert_eq!(found(minor, none, 0), [] as [u32; 0], "3.{minor}: {none:#x}");
            }
        }
        for minor in 8..=11 {
            let pools = &layout::of(3, minor).unwrap().pools;
            let memory = Recorded::new(vec![word(HEAD, MAIN)]);
            assert_eq!(others(&memory, HEAD, KNOWN, pools), [], "3.{minor} has one allocator");
        }
    }

    proptest! {
        #[test]
        fn hostile_lists_never_panic(
            minor in 12u8..=15, table: u64, last: u64,
            words in prop::collection::vec(prop_oneof![Just(HEAD), Just(MAIN), any::<u64>()], 4000),
        ) {
            let _ = found(minor, table, last);
            let pools = &layout::of(3, minor).unwrap().pools;
            let bytes = words.iter().flat_map(|word| word.to_le_bytes()).collect();
            let memory = Recorded::new(vec![word(HEAD, MAIN), (MAIN, bytes)]);
            let _ = others(&memory, HEAD, KNOWN, pools);
        }
    }
}
