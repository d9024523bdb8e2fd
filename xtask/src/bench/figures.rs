//! The arithmetic of the bench: pure, so that every figure it prints can be checked with literals.

/// What one run of a workload did.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Run {
    /// Units of work, above 0.
    pub(crate) work: f64,
    /// CPU-seconds of the target, above 0.
    pub(crate) cpu_seconds: f64,
}

impl Run {
    /// CPU-seconds of one unit of work.
    pub(crate) fn cost(self) -> f64 {
        self.cpu_seconds / self.work
    }
}

/// What a tool says that it saw during a traced run.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// Hits of its probes; `None` if it does not say.
    pub(crate) hits: Option<f64>,
    /// Allocations; `None` if it does not say.
    pub(crate) allocations: Option<f64>,
}

/// A traced run beside its untraced neighbours.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Pair {
    pub(crate) traced: Run,
    /// CPU-seconds of one unit of work, the mean of the untraced runs right before and after.
    pub(crate) untraced: f64,
    pub(crate) seen: Seen,
}

impl Pair {
    /// The CPU of one unit traced / untraced, − 1: 0 costs nothing, 1 takes twice as long.
    pub(crate) fn slowdown(&self) -> f64 {
        self.traced.cost() / self.untraced - 1.0
    }

    /// The CPU that one unit costs beyond what it costs untraced, in nanoseconds.
    pub(crate) fn extra_ns(&self) -> f64 {
        (self.traced.cost() - self.untraced) * 1e9
    }

    /// Hits of one unit of work; `None` where the tool saw none, or does not say.
    pub(crate) fn hits_per_unit(&self) -> Option<f64> {
        self.seen.hits.filter(|hits| *hits > 0.0).map(|hits| hits / self.traced.work)
    }

    /// The extra CPU for each allocation that the tool saw, in nanoseconds; `None` where it saw none, or does not say.
    pub(crate) fn ns_per_allocation(&self) -> Option<f64> {
        let allocations = self.allocations_per_unit().filter(|count| *count > 0.0)?;
        Some(self.extra_ns() / allocations)
    }

    /// Allocations of one unit of work, as the tool saw them.
    pub(crate) fn allocations_per_unit(&self) -> Option<f64> {
        self.seen.allocations.map(|allocations| allocations / self.traced.work)
    }
}

/// The median of some figures, and how far apart they lie.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) least: f64,
    pub(crate) median: f64,
    pub(crate) most: f64,
}

impl Spread {
    /// `None` without a figure.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let (least, most) = (*sorted.first()?, *sorted.last()?);
        let half = sorted.len() / 2;
        let median =
            if sorted.len() % 2 == 1 { sorted[half] } else { f64::midpoint(sorted[half - 1], sorted[half]) };
        Some(Self { least, median, most })
    }
}

/// How many times less the slowdown of `ours` is than that of `theirs`, round by round; `None` without a round of both.
pub(crate) fn times_less(ours: &[Pair], theirs: &[Pair]) -> Option<Spread> {
    let rounds = ours.iter().zip(theirs);
    Spread::of(rounds.map(|(ours, theirs)| quotient(theirs.slowdown(), ours.slowdown())))
}

/// How many times less an allocation that `ours` saw costs than one that `theirs` saw, round by round: a tool that misses
/// most of them slows down little, and has paid for little. `None` without a round in which both saw some.
pub(crate) fn times_less_per_allocation(ours: &[Pair], theirs: &[Pair]) -> Option<Spread> {
    let rounds = ours.iter().zip(theirs);
    Spread::of(
        rounds.filter_map(|(ours, theirs)| {
            Some(quotient(theirs.ns_per_allocation()?, ours.ns_per_allocation()?))
        }),
    )
}

/// What is lost in the noise of `ours` is beaten by any slowdown, and beats none that is lost in it, too.
fn quotient(theirs: f64, ours: f64) -> f64 {
    match (theirs > 0.0, ours > 0.0) {
        (true, true) => theirs / ours,
        (true, false) => f64::INFINITY,
        (false, _) => 0.0,
    }
}

/// The price of one hit in nanoseconds: the extra CPU of a unit, shared among the hits of a unit.
///
/// The hits are those of other runs of the same work, because an empty probe counts nothing.
pub(crate) fn ns_per_hit(pairs: &[Pair], hits_per_unit: f64) -> Option<Spread> {
    if hits_per_unit > 0.0 {
        Spread::of(pairs.iter().map(|pair| pair.extra_ns() / hits_per_unit))
    } else {
        None
    }
}

/// The median of the hits of a unit of work over the runs whose tool counts them.
pub(crate) fn hits_per_unit(pairs: &[Pair]) -> Option<f64> {
    Spread::of(pairs.iter().filter_map(Pair::hits_per_unit)).map(|spread| spread.median)
}

/// The median of the allocations of a unit of work over the runs whose tool counts them.
pub(crate) fn allocations_per_unit(pairs: &[Pair]) -> Option<f64> {
    Spread::of(pairs.iter().filter_map(Pair::allocations_per_unit)).map(|spread| spread.median)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(traced_seconds: f64, untraced_seconds: f64) -> Pair {
        let traced = Run { work: 100.0, cpu_seconds: traced_seconds };
        Pair { traced, untraced: untraced_seconds / 100.0, seen: Seen::default() }
    }

    fn close(left: f64, right: f64) -> bool {
        (left - right).abs() < 1e-6
    }

    #[test]
    fn a_slowdown_is_the_cpu_beyond_the_untraced() {
        assert!(close(pair(2.0, 1.0).slowdown(), 1.0));
        assert!(close(pair(1.0, 1.0).slowdown(), 0.0));
        assert!(close(pair(370.0, 1.0).slowdown(), 369.0));
    }

    #[test]
    fn a_hit_costs_the_extra_cpu_of_the_same_work() {
        // 100 units took 2 s, untraced they take 1 s; a unit has ten thousand hits, which share 10 ms.
        let price = ns_per_hit(&[pair(2.0, 1.0)], 10_000.0).expect("there is one pair");
        assert!(close(price.median, 1000.0));
        assert!(ns_per_hit(&[pair(2.0, 1.0)], 0.0).is_none());
        assert!(ns_per_hit(&[], 1.0).is_none());
    }

    #[test]
    fn the_median_is_the_middle() {
        let odd = Spread::of([3.0, 1.0, 2.0]).expect("three figures");
        assert_eq!(odd, Spread { least: 1.0, median: 2.0, most: 3.0 });
        let even = Spread::of([4.0, 1.0, 2.0, 3.0]).expect("four figures");
        assert!(close(even.median, 2.5));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn rounds_are_compared_with_their_own() {
        // Slowdowns of 1 and 2 against 10 and 40: 10 and 20 times.
        let less = times_less(&[pair(2.0, 1.0), pair(3.0, 1.0)], &[pair(11.0, 1.0), pair(41.0, 1.0)]);
        let less = less.expect("two rounds");
        assert!(close(less.least, 10.0) && close(less.median, 15.0) && close(less.most, 20.0));
        assert_eq!(times_less(&[pair(2.0, 1.0)], &[]), None);
    }

    #[test]
    fn a_tool_that_misses_most_is_compared_by_what_it_saw() {
        // Ours takes 3 s for 30 allocations, theirs 1 s for 2: a tenth of a second against half a second each.
        let seen = |allocations| Seen { hits: None, allocations: Some(allocations) };
        let ours = [Pair { seen: seen(30.0), ..pair(4.0, 1.0) }];
        let theirs = [Pair { seen: seen(2.0), ..pair(2.0, 1.0) }];
        let less = times_less_per_allocation(&ours, &theirs).expect("both saw some");
        assert!(close(less.median, 5.0));
        assert_eq!(times_less_per_allocation(&ours, &[Pair { seen: seen(0.0), ..theirs[0] }]), None);
        assert_eq!(times_less_per_allocation(&ours, &[pair(2.0, 1.0)]), None);
    }

    #[test]
    fn noise_is_no_victory() {
        let (none, some) = (pair(0.99, 1.0), pair(2.0, 1.0));
        let of = |ours, theirs| times_less(&[ours], &[theirs]).expect("one round").median;
        assert!(of(none, some).is_infinite());
        assert!(close(of(some, none), 0.0));
        assert!(close(of(none, none), 0.0));
    }

    #[test]
    fn hits_come_from_the_runs_that_count_them() {
        let counting = Pair { seen: Seen { hits: Some(500.0), allocations: Some(200.0) }, ..pair(2.0, 1.0) };
        let empty = Pair { seen: Seen { hits: Some(0.0), allocations: None }, ..pair(2.0, 1.0) };
        assert_eq!(hits_per_unit(&[empty, counting]), Some(5.0));
        assert_eq!(hits_per_unit(&[empty]), None);
        assert_eq!(allocations_per_unit(&[empty, counting]), Some(2.0));
    }
}
