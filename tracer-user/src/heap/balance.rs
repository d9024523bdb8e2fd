//! Whether the probes have seen every small block: their hits against the heap's own counters.
//!
//! The heap grows by as many blocks as were allocated and not freed, whoever counts. So between two moments the hits of the probes, allocations − frees, must be the change of what a
//! census counted (`target::census`). Nothing stops the target meanwhile, hence four readings of the hits, just before and just after each
//! census; what happened during a census may or may not be in it, and is all that is allowed for, besides [`IN_FLIGHT`].
//!
//! What it cannot find: probes that miss allocations and the frees of the same blocks alike, because such blocks leave no trace in the sum.

/// Calls that may be half done when a counter is read, so that only one of the two books has them: a block is counted by its pool and by its
/// probe some instructions apart, in either order. Only the holder of the GIL allocates and frees small blocks, so there is one such call at a time; and four
/// readings bound the difference of two moments: of allocations and of frees, the one after the first census and the one before the second (or the other way round).
pub const IN_FLIGHT: i64 = 4;

/// Fewer hits than these prove nothing by agreeing.
pub const LEAST_HITS: u64 = 100;

/// A net miss of so many hits, or of 1 % of the hits if that is more, is never taken for agreement.
pub const MATTERS: u64 = 32;

/// What the probes have counted since they were all in place.
///
/// It must count each small block (1 to 512 bytes, of the domains object and mem) that the allocator gives or takes back, also in calls that are part of
/// another call (`realloc`), also frees of blocks from before; and no block that went to `malloc` (more than 512 bytes, or none). It may be summed up over CPUs while it runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Small blocks allocated.
    pub allocated: u64,
    /// Small blocks freed.
    pub freed: u64,
}

/// One census and the hits around it. All zeros ([`Moment::default`]) for a process that was started with the probes in place and has not run yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// The hits, read before the census began.
    pub before: Hits,
    /// The blocks in use, as the heap counts them (`Census::live_blocks`).
    pub live_blocks: u64,
    /// What the census left out (`Census::left_out`): 0 for nothing. Moments that left out different things, or unknown ones (`None`), are not compared.
    pub left_out: Option<u64>,
    /// The hits, read after the census had ended.
    pub after: Hits,
}

impl Default for Moment {
    fn default() -> Self {
        Self { before: Hits::default(), live_blocks: 0, left_out: Some(0), after: Hits::default() }
    }
}

/// Two moments compared. All in blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Allocations that the probes saw between the two censuses.
    pub allocated: u64,
    /// Frees that they saw.
    pub freed: u64,
    /// By how much the heap's own counters grew; negative when they fell.
    pub grew: i64,
    /// By how much more they grew than the hits say: positive when allocations were missed, negative when frees were.
    pub difference: i64,
    /// The least difference that complete probes can leave: minus the frees during the two censuses, minus [`IN_FLIGHT`].
    pub least: i64,
    /// The greatest: the allocations during the two censuses, plus [`IN_FLIGHT`].
    pub greatest: i64,
}

/// What the comparison says about the probes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The hits are the heap's change: a net miss of 1 % of the hits (or of [`MATTERS`] blocks, if that is more) would have shown.
    Agrees(Figures),
    /// They are not: the probes miss allocations or frees.
    Disagrees(Figures),
    /// Nothing can be said yet.
    TooLittle(Why),
}

/// Why nothing can be said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// No two moments left out the same: swapped-out pools, or a heap too large to count. Or there is only one moment.
    NothingToCompare,
    /// The target allocated and freed next to nothing: fewer than [`LEAST_HITS`] hits.
    Quiet(Figures),
    /// So many hits fell into the censuses themselves that a miss that matters would not show. It gets better with time, and with censuses in quieter moments.
    Hasty(Figures),
}

/// Compares every two of the moments, which are in the order of time.
///
/// Two are enough; each further one, taken a while after the last, can only sharpen the judgement. So: one when the probes are in place, one after a
/// second, and as long as it is [`Verdict::TooLittle`], one more now and then, the last at the end of the trace. A [`Verdict::Disagrees`] needs no
/// second opinion, as far as `Hits` is what it promises.
#[must_use]
pub fn judge(moments: &[Moment]) -> Verdict {
    let later = |at: usize| moments.get(at + 1..).unwrap_or_default();
    let pairs = moments.iter().enumerate().flat_map(|(at, one)| later(at).iter().map(move |two| (one, two)));
    let figures: Vec<Figures> = pairs.filter_map(|(one, two)| Figures::between(one, two)).collect();
    if let Some(worst) =
        figures.iter().filter(|figures| figures.excess() > 0).max_by_key(|figures| figures.excess())
    {
        return Verdict::Disagrees(*worst);
    }
    let most = |figures: &&Figures| figures.hits();
    if let Some(best) = figures.iter().filter(|figures| figures.proves()).max_by_key(most) {
        return Verdict::Agrees(*best);
    }
    Verdict::TooLittle(match figures.iter().max_by_key(most) {
        None => Why::NothingToCompare,
        Some(figures) if figures.hits() < LEAST_HITS => Why::Quiet(*figures),
        Some(figures) => Why::Hasty(*figures),
    })
}

impl Figures {
    /// `None` when the censuses did not count the same part of the heap.
    fn between(one: &Moment, two: &Moment) -> Option<Self> {
        if one.left_out.is_none() || one.left_out != two.left_out {
            return None;
        }
        let allocated = two.before.allocated.saturating_sub(one.after.allocated);
        let freed = two.before.freed.saturating_sub(one.after.freed);
        let during = |moment: &Moment| Hits {
            allocated: moment.after.allocated.saturating_sub(moment.before.allocated),
            freed: moment.after.freed.saturating_sub(moment.before.freed),
        };
        let (first, second) = (during(one), during(two));
        let grew = minus(two.live_blocks, one.live_blocks);
        let sum = |one: u64, two: u64| signed(one.saturating_add(two));
        Some(Self {
            allocated,
            freed,
            grew,
            difference: grew.saturating_sub(minus(allocated, freed)),
            least: -sum(first.freed, second.freed).saturating_add(IN_FLIGHT),
            greatest: sum(first.allocated, second.allocated).saturating_add(IN_FLIGHT),
        })
    }

    /// Hits between the two censuses.
    #[must_use]
    pub const fn hits(&self) -> u64 {
        self.allocated.saturating_add(self.freed)
    }

    /// Blocks that the probes cannot have seen: how far the difference is outside of what complete probes leave; 0 when it is inside.
    #[must_use]
    pub fn excess(&self) -> u64 {
        let outside =
            self.difference.saturating_sub(self.greatest).max(self.least.saturating_sub(self.difference));
        u64::try_from(outside).unwrap_or(0)
    }

    /// How far apart two differences can be that complete probes leave, so that a larger net miss is always found.
    #[must_use]
    pub fn allowed(&self) -> u64 {
        u64::try_from(self.greatest.saturating_sub(self.least)).unwrap_or(0)
    }

    /// Whether agreeing means something: a miss that matters would be outside of what is allowed.
    fn proves(&self) -> bool {
        self.hits() >= LEAST_HITS && self.allowed() <= (self.hits() / 100).max(MATTERS)
    }

    /// "41,203 allocations − 40,100 frees = 1,103 blocks".
    fn sum(&self, count: impl Fn(u64) -> String) -> String {
        let net = minus(self.allocated, self.freed);
        format!(
            "{} allocations − {} frees = {}{} block{}",
            count(self.allocated),
            count(self.freed),
            if net < 0 { "−" } else { "" },
            count(net.unsigned_abs()),
            if net.unsigned_abs() == 1 { "" } else { "s" },
        )
    }

    /// "the heap's own counters grew by 1,103".
    fn change(&self, count: impl Fn(u64) -> String) -> String {
        match self.grew {
            0 => "the heap's own counters stand where they stood".to_owned(),
            grew => {
                let verb = if grew < 0 { "fell" } else { "grew" };
                format!("the heap's own counters {verb} by {}", count(grew.unsigned_abs()))
            }
        }
    }
}

impl Verdict {
    /// One sentence for the report, without a full stop; `count` writes a number (`report::units::count`).
    #[must_use]
    pub fn sentence(&self, count: impl Fn(u64) -> String) -> String {
        match self {
            Self::Agrees(figures) => {
                let within = match figures.difference {
                    0 => String::new(),
                    _ => format!(
                        ", the same as far as can be told: up to {} blocks came or went while it was counted",
                        count(figures.allowed())
                    ),
                };
                format!("checked: {}; {}{within}", figures.sum(&count), figures.change(&count))
            }
            Self::Disagrees(figures) => {
                let missed = if figures.difference > 0 { "allocations" } else { "frees" };
                format!(
                    "hooks miss {missed}, {} at least: {}, but {}",
                    count(figures.excess()),
                    figures.sum(&count),
                    figures.change(&count)
                )
            }
            Self::TooLittle(Why::NothingToCompare) => {
                "not checked: the heap's own counters could not be read twice in full (the target had ended, or its heap is swapped out or too large)".to_owned()
            }
            Self::TooLittle(Why::Quiet(figures)) => {
                format!("not checked: only {} small blocks were allocated or freed", count(figures.hits()))
            }
            Self::TooLittle(Why::Hasty(figures)) => format!(
                "not checked: {} hits, but up to {} blocks came or went while the heap was counted, too many to notice a small miss",
                count(figures.hits()),
                count(figures.allowed())
            ),
        }
    }
}

fn signed(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}

/// `one - two`, as far as it fits.
fn minus(one: u64, two: u64) -> i64 {
    if one >= two { signed(one - two) } else { -signed(two - one) }
}

#[cfg(test)]
mod tests;
