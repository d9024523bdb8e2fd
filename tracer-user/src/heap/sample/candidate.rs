//! The candidates: what was born in a window and lived at its end, in bounded memory, each with the weight that it stands for.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use tracer_common::domain::Domain;

use super::Bounds;
use super::random::Random;

/// The first looks, in seconds of age; then each decade has two more.
pub(super) const FIRST_AGES_S: [f64; 2] = [0.1, 0.3];
/// Nothing is looked at later than this age, in seconds: 30 years.
const LAST_AGE_S: f64 = 1e9;

/// One candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    pub(super) site: u64,
    pub(super) address: u64,
    pub(super) size_bytes: u64,
    pub(super) domain: Option<Domain>,
    pub(super) born_s: f64,
    /// Number of the window that saw its birth.
    pub(super) window: u64,
    /// The time that this window stands for, seconds.
    pub(super) drawn_s: f64,
    /// Blocks that it stands for.
    pub(super) weight: f64,
    /// Of the first look; `None` before.
    pub(super) identity: Option<[u64; 2]>,
    /// Bytes of its parts at the last look.
    pub(super) owned_bytes: u64,
    /// When it was last known to live.
    pub(super) seen_s: f64,
    /// When it is to be looked at.
    pub(super) due_s: f64,
}

impl Candidate {
    /// Bytes that are charged to it.
    pub(super) fn bytes(&self) -> f64 {
        self.size_bytes as f64 + self.owned_bytes as f64
    }
}

/// All candidates that may live. Ids rise with time, and so do the windows of their candidates.
#[derive(Clone, Debug, Default)]
pub(super) struct Pool {
    next: u64,
    all: BTreeMap<u64, Candidate>,
    by_address: HashMap<u64, u64>,
    by_site: BTreeMap<u64, BTreeSet<u64>>,
    /// By the time at which they are due, as bits: those of positive numbers are in the order of the numbers.
    due: BTreeSet<(u64, u64)>,
}

impl Pool {
    /// Takes one in. One that stands at its address must have been removed before.
    pub(super) fn insert(&mut self, candidate: Candidate) {
        let id = self.next;
        self.next += 1;
        self.by_address.insert(candidate.address, id);
        self.by_site.entry(candidate.site).or_default().insert(id);
        self.due.insert((candidate.due_s.max(0.0).to_bits(), id));
        self.all.insert(id, candidate);
    }

    pub(super) fn remove(&mut self, id: u64) -> Option<Candidate> {
        let candidate = self.all.remove(&id)?;
        self.due.remove(&(candidate.due_s.max(0.0).to_bits(), id));
        if self.by_address.get(&candidate.address) == Some(&id) {
            self.by_address.remove(&candidate.address);
        }
        if let Some(site) = self.by_site.get_mut(&candidate.site) {
            site.remove(&id);
            if site.is_empty() {
                self.by_site.remove(&candidate.site);
            }
        }
        Some(candidate)
    }

    pub(super) fn get(&self, id: u64) -> Option<&Candidate> {
        self.all.get(&id)
    }

    /// Changes one; its address and site stay.
    pub(super) fn change(&mut self, id: u64, change: impl FnOnce(&mut Candidate)) {
        let Some(candidate) = self.all.get_mut(&id) else { return };
        let before = candidate.due_s.max(0.0).to_bits();
        change(candidate);
        let after = candidate.due_s.max(0.0).to_bits();
        if before != after {
            self.due.remove(&(before, id));
            self.due.insert((after, id));
        }
    }

    pub(super) fn at(&self, address: u64) -> Option<u64> {
        self.by_address.get(&address).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.all.len()
    }

    /// Ids of those that are due, the most overdue first, at most so many.
    pub(super) fn due(&self, now_s: f64, most: usize) -> Vec<u64> {
        let until = (now_s.max(0.0).to_bits(), u64::MAX);
        self.due.range(..=until).take(most).map(|&(_, id)| id).collect()
    }

    /// All of them, in the order of their births.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, &Candidate)> {
        self.all.iter().map(|(&id, candidate)| (id, candidate))
    }

    /// Those of a site, in the order of their births.
    pub(super) fn of(&self, site: u64) -> impl Iterator<Item = &Candidate> {
        self.by_site.get(&site).into_iter().flatten().filter_map(|id| self.all.get(id))
    }

    /// Keeps to the bounds: a site that has more than its share loses some at random, and while all have more than theirs together, the sites with the most do.
    pub(super) fn thin(&mut self, bounds: &Bounds, random: &mut Random) {
        let mut cap = bounds.per_site.max(1);
        loop {
            let full: Vec<u64> =
                self.by_site.iter().filter(|(_, ids)| ids.len() > cap).map(|(&site, _)| site).collect();
            for site in full {
                // Three quarters, so that not each further candidate needs another turn.
                self.thin_site(site, (cap * 3).div_ceil(4), random);
            }
            if self.all.len() <= bounds.candidates {
                return;
            }
            if cap == 1 {
                break;
            }
            cap = (cap / 2).max(1);
        }
        // More sites than candidates are allowed, each with one.
        let ids: Vec<u64> = self.all.keys().copied().collect();
        self.thin_ids(&ids, (bounds.candidates * 3).div_ceil(4), random);
    }

    fn thin_site(&mut self, site: u64, keep: usize, random: &mut Random) {
        let ids: Vec<u64> = self.by_site.get(&site).into_iter().flatten().copied().collect();
        self.thin_ids(&ids, keep, random);
    }

    /// Keeps about `keep` of these: each with a probability in proportion to what it stands for, in blocks and in bytes alike, and a weight that is greater in the same proportion. So
    /// whatever is summed up over them stays right on average, and heavy ones are not lost among light ones. They are drawn in one pass in the order of birth
    /// (systematic sampling), so that those kept are spread over time as all were.
    fn thin_ids(&mut self, ids: &[u64], keep: usize, random: &mut Random) {
        let some: Vec<(u64, Candidate)> =
            ids.iter().filter_map(|id| Some((*id, *self.all.get(id)?))).collect();
        let blocks: f64 = some.iter().map(|(_, one)| one.weight).sum();
        let bytes: f64 = some.iter().map(|(_, one)| one.weight * one.bytes()).sum();
        let share = |one: &Candidate| {
            let in_bytes = if bytes > 0.0 { one.weight * one.bytes() / bytes } else { 0.0 };
            one.weight / blocks + in_bytes
        };
        let shares: Vec<f64> = some.iter().map(|(_, one)| share(one)).collect();
        if !shares.iter().all(|share| share.is_finite() && *share > 0.0) {
            return self.cut(&some, keep);
        }
        let step = step(&shares, keep);
        let mut at = random.unit() * step;
        for ((id, _), share) in some.iter().zip(&shares) {
            if *share >= step {
                continue;
            }
            at += share;
            if at < step {
                self.remove(*id);
                continue;
            }
            at -= step;
            self.change(*id, |kept| kept.weight *= step / share);
        }
    }

    /// What weighs nothing, or more than a number can say, is kept by its age: its figures mean nothing anyway.
    fn cut(&mut self, some: &[(u64, Candidate)], keep: usize) {
        for (id, _) in some.iter().skip(keep) {
            self.remove(*id);
        }
    }
}

/// The step with which a pass over these shares keeps `keep`: those of a whole step or more are always kept.
fn step(shares: &[f64], keep: usize) -> f64 {
    let mut sorted = shares.to_vec();
    sorted.sort_unstable_by(f64::total_cmp);
    let mut left: f64 = sorted.iter().sum();
    let mut keep = keep.max(1) as f64;
    while let Some(&largest) = sorted.last() {
        if keep <= 1.0 || largest < left / keep {
            break;
        }
        left -= largest;
        keep -= 1.0;
        sorted.pop();
    }
    left / keep
}

/// The next age at which a look is due, in seconds: 0.1, 0.3, 1, 3, 10, …
pub(super) fn next_age_s(age_s: f64) -> f64 {
    let mut pair = FIRST_AGES_S;
    while pair[0] < LAST_AGE_S {
        if let Some(&next) = pair.iter().find(|next| **next > age_s * 1.000_001) {
            return next;
        }
        pair = pair.map(|age| age * 10.0);
    }
    LAST_AGE_S * 10.0
}
