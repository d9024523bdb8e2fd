//! Where samples see objects being born. An allocation is seen where it is made; an object out of one of CPython's freelists (floats, tuples, lists, dicts, slices,
//! contexts, …) is born in memory that was handed out long ago, and only its birth tells whose it is now. So births are hooked where the object may have been kept in
//! a freelist: its address comes from memory, or from a caller. Where it is the result of an allocation on every way, nothing is hooked.

use tracer_common::domain::Domain;
use tracer_common::hook::{CallerFrom, Hook, Role};

use super::facts::Facts;
use super::{Place, Planner, Purpose};
use crate::probe::code::births::{Birth, Births, Origin, Origins, Tracer};

/// The function that every birth passes, or passed before the compiler made copies of it.
const FUNCTION: &str = "_Py_NewReference";

/// What was found of births.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BirthCounts {
    /// Places at which objects are born: inlined copies, or calls where there are none.
    pub places: u32,
    /// Those that get a trap, because the object may come out of a freelist.
    pub hooked: u32,
    /// Births that cannot be seen.
    pub lost: u32,
}

/// Hooks the births that need it.
pub(super) fn add(
    planner: &mut Planner,
    place: &Place<'_>,
    facts: &Facts<'_>,
    purpose: Purpose,
) -> BirthCounts {
    let elf = &place.image.elf;
    let Some(symbol) = elf.symbol(FUNCTION) else { return BirthCounts { lost: 1, ..BirthCounts::default() } };
    let code = &facts.code;
    let start = |ip: u64| facts.frames.function_at(ip).map(|function| function.start);
    let mut origins = Origins::new(code, facts.fast.allocs.iter().map(|alloc| alloc.site.store));
    let tracer = Tracer::of(code, symbol.address);
    let copies = tracer.map(|tracer| Births::of(code, &tracer, &mut origins, start)).unwrap_or_default();
    let births = if copies.births.is_empty() {
        // The only one that asks tracemalloc is the function itself: nobody has a copy.
        let is_it = |at: u64| at == symbol.address || elf.plt_target(at) == Some(FUNCTION);
        Births::calls(code, is_it, &mut origins, start)
    } else {
        copies
    };
    // A trace of everything must not take what comes out of a freelist for what was allocated shortly before in the same block: it sees that born, too.
    let kept = births.births.iter().filter(|birth| purpose == Purpose::Trace || birth.origin == Origin::Kept);
    let before = planner.points.len();
    for birth in kept {
        hook(planner, place, facts, birth, symbol.address);
    }
    BirthCounts {
        places: births.births.len() as u32,
        hooked: (planner.points.len() - before) as u32,
        lost: births.lost.len() as u32,
    }
}

/// One trap. Who has the function called asks for the object, where it is the function's own.
fn hook(planner: &mut Planner, place: &Place<'_>, facts: &Facts<'_>, birth: &Birth, function: u64) {
    let hook = Hook { a: birth.object as u8, ..Hook::new(Role::Birth, Domain::Object) };
    let own = facts.frames.function_at(birth.ip).is_some_and(|range| range.start == function);
    let hook = match facts.frames.cfa_words(birth.ip).filter(|_| own) {
        Some(words) => Hook { caller_from: CallerFrom::Stack as u8, caller_words: i32::from(words), ..hook },
        None => facts.asker(birth.ip, hook),
    };
    planner.add_at(place, &facts.name(place, birth.ip), birth.ip, birth.emulated, hook);
}

#[cfg(test)]
mod tests;
