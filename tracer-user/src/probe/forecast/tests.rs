//! The arithmetic on literals, and what holds of any numbers.

use proptest::prelude::*;
use tracer_common::domain::Domain;
use tracer_common::hook::Hook;

use super::*;

const PRICES: Prices = Prices { entry_ns: 700.0, return_ns: 400.0, stepped_ns: 9_000.0, count_ns: 60.0 };

fn point(role: Role, file_offset: u64, returns: bool, emulated: bool) -> Point {
    let hook = Hook { returns: u8::from(returns), ..Hook::new(role, Domain::Object) };
    Point {
        name: "f+0".to_owned(),
        file: "/f".into(),
        file_offset,
        vaddr: file_offset,
        hook,
        returns,
        emulated,
    }
}

#[test]
fn a_return_pays_for_its_entry_only_if_it_has_none() {
    let points = [
        point(Role::Malloc, 8, false, true),
        point(Role::Return, 8, true, true),
        point(Role::Return, 16, true, true),
        point(Role::FastFree, 24, false, false),
        point(Role::Finalize, 32, false, true),
    ];
    let entry = PRICES.entry_ns + COLD_NS;
    let traps = [entry, PRICES.return_ns, entry + PRICES.return_ns, PRICES.stepped_ns + COLD_NS, entry];
    let work = [WORK_BEGUN, WORK_BORN, WORK_BORN, WORK_FREED, 0.0];
    for ((price, trap_ns), work_ns) in PRICES.of(&points).iter().zip(traps).zip(work) {
        assert_eq!((price.counted_ns, price.traced_ns), (trap_ns + PRICES.count_ns, trap_ns + work_ns));
    }
}

#[test]
fn kinds_are_told_from_the_hooks() {
    let mut call = point(Role::Malloc, 1, false, true);
    call.hook.entry_words = -1;
    let mut free = point(Role::Free, 2, false, true);
    free.hook.caller_from = CallerFrom::Here as u8;
    let points = [
        point(Role::FastAlloc, 3, false, true),
        point(Role::FastFree, 4, false, true),
        point(Role::NewPool, 5, false, true),
        point(Role::NewPoolReturn, 5, true, true),
        call,
        free,
        point(Role::Return, 6, false, true),
        point(Role::Free, 7, false, true),
        point(Role::IntFromLong, 8, false, true),
        point(Role::IntReturn, 8, true, true),
        point(Role::Finalize, 9, false, true),
    ];
    use PointKind::*;
    let expected = [
        AllocPath,
        FreePath,
        SlowPath,
        SlowPath,
        LibraryCall,
        LibraryCall,
        LibraryOutcome,
        Function,
        Function,
        FunctionReturn,
        End,
    ];
    assert_eq!(points.each_ref().map(PointKind::of), expected);
    assert!(expected.iter().all(|kind| PointKind::ALL.contains(kind)));
}

#[test]
fn the_time_that_counting_took_is_not_the_targets_own() {
    // 100 ms, of which 20 were counting: the 80 ms of work would take 80 + 40 if they were traced.
    assert_eq!(Slowdown::of(100.0, 20.0, 40.0), Slowdown { factor: 1.5, at_least: false });
    // Hardly anything was its own: 5 of 100 are assumed.
    assert_eq!(Slowdown::of(100.0, 99.0, 200.0), Slowdown { factor: 41.0, at_least: true });
    // An idle target, and a clock that is late.
    assert_eq!(Slowdown::of(0.0, 0.0, 0.0), Slowdown { factor: 1.0, at_least: false });
    assert_eq!(Slowdown::of(50.0, 0.0, 0.0), Slowdown { factor: 1.0, at_least: false });
    assert_eq!(Slowdown::of(10.0, 100.0, 200.0), Slowdown { factor: 41.0, at_least: true });
}

proptest! {
    #[test]
    fn a_slowdown_is_finite_and_never_a_speedup(cpu in 0.0..1e12_f64, counting in 0.0..1e12_f64, tracing in 0.0..1e12_f64) {
        let found = Slowdown::of(cpu, counting, tracing);
        prop_assert!(found.factor >= 1.0 && found.factor.is_finite() || cpu.max(counting) < 1e-200);
        prop_assert!(tracing > 0.0 || found.factor == 1.0);
    }

    #[test]
    fn more_hits_are_never_cheaper(
        cpu in 0.0..1e10_f64,
        hits in prop::collection::vec(0..1_000_000_u64, 1..20),
        more in prop::collection::vec(0..1_000_000_u64, 20),
        emulated: bool,
    ) {
        let points: Vec<Point> =
            (0..hits.len() as u64).map(|at| point(Role::FastAlloc, at, false, emulated)).collect();
        let prices = PRICES.of(&points);
        let slowdown = |hits: &[u64]| {
            let counting = total_ns(hits, &prices, |price| price.counted_ns);
            let tracing = total_ns(hits, &prices, |price| price.traced_ns);
            Slowdown::of(cpu, counting, tracing)
        };
        let more: Vec<u64> = hits.iter().zip(&more).map(|(hits, more)| hits + more).collect();
        let (few, many) = (slowdown(&hits), slowdown(&more));
        prop_assert!(many.factor >= few.factor * (1.0 - 1e-9), "{few:?} {many:?}");
        prop_assert!(many.at_least || !few.at_least);
    }
}
