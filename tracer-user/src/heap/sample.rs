//! From short windows to facts: what a few milliseconds of births and deaths, and looks at what lived on, say about the whole time.
//!
//! Each window has a weight, so that sums over windows are right on average ([`Window::weight`]). What is born and ends in a window is churn. What lives at its end is a candidate, and is looked at
//! from outside at growing ages until it is dead; memory stays bounded because candidates are thinned at random and the kept ones weigh more. Growth is
//! made of *old* survivors only: what was born long enough ago and lives. Churn, sessions and caches with a turnover are young or dead.
//!
//! What is not right on average: (1) a candidate that dies between the end of its window and its first look, and whose address another object has taken by then, is taken for that object; so the first
//! look must come at once; and so is one that dies later, if nothing tells the two apart. How much that may be is estimated and added to the errors (module `mistaken`). (2) A cache that turns over more slowly than the observed time looks like a leak, because nobody saw the birth of what it drops. (3) The bytes of a part
//! that an object owns count as allocated at the line that allocated them, and, as long as the object lives, at the object's line too; as live only there.

use std::collections::{BTreeMap, HashMap};

use tracer_common::domain::Domain;
use tracer_common::site::OTHER_SITES;

use candidate::{Candidate, FIRST_AGES_S, Pool, next_age_s};
use ledger::{FIRST_PIECE_S, Ledger, Moment, PIECES};
use limits::{Drawn, Sums};
use mistaken::{ByClass, class};

mod bounds;
mod calibrate;
mod candidate;
mod course;
mod facts;
mod judge;
mod ledger;
mod limits;
mod living;
mod mistaken;
mod random;
mod unexplained;
mod window;

pub use bounds::Bounds;
pub use course::HeapAt;
pub use facts::{Errors, Sampled};
pub use judge::{Evidence, Half, Hazard};
pub use limits::Estimate;
pub use random::Random;
pub use unexplained::{Unexplained, unexplained};
pub use window::{Happened, Look, Window};

/// Moments of the clock that are kept; when there are as many, every second one is dropped.
const MOMENTS: usize = 1024;
/// What could not be read is tried again after this share of its age, and at least after `RETRY_S` seconds.
const RETRY_SHARE: f64 = 0.1;
/// See [`RETRY_SHARE`].
const RETRY_S: f64 = 0.1;

/// Names a candidate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

/// A candidate that is to be looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// For [`Sampler::seen`].
    pub id: Id,
    /// Where it is.
    pub address: u64,
    /// Its size at birth, bytes.
    pub size_bytes: u64,
    /// Where its memory comes from.
    pub domain: Option<Domain>,
}

/// How the sampler itself has fared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Windows that count.
    pub windows: u64,
    /// Windows that do not, because their figures are absurd or nearly all of their records were refused.
    pub windows_dropped: u64,
    /// Births seen.
    pub births: u64,
    /// Births that outlived their window.
    pub candidates: u64,
    /// Candidates that are remembered now.
    pub remembered: u64,
    /// Candidates that turned out to be parts of objects.
    pub parts: u64,
    /// Looks that answered.
    pub looks: u64,
    /// Looks that could not read.
    pub unread: u64,
    /// Records that the ring refused.
    pub refused: u64,
}

/// Collects windows and looks. All times are seconds since sampling began.
#[derive(Clone, Debug)]
pub struct Sampler {
    bounds: Bounds,
    random: Random,
    pool: Pool,
    sites: BTreeMap<u64, Ledger>,
    all_blocks: Sums,
    all_bytes: Sums,
    /// Births by class of size, in blocks.
    classes: ByClass,
    /// Start of a window, and the time that it and all before stand for; rising.
    clock: Vec<(f64, Drawn)>,
    drawn: Drawn,
    /// Every how many windows a moment of the clock is kept.
    stride: u64,
    /// Length of a piece of the ledgers' courses, seconds.
    piece_s: f64,
    counts: Counts,
}

/// A birth of the window that is being taken in.
struct Birth {
    site: u64,
    address: u64,
    size_bytes: u64,
    domain: Option<Domain>,
    at_s: f64,
    died_s: Option<f64>,
}

impl Sampler {
    /// An empty one. The seed is that of the thinning.
    #[must_use]
    pub fn new(seed: u64, bounds: Bounds) -> Self {
        Self {
            bounds,
            random: Random::new(seed),
            pool: Pool::default(),
            sites: BTreeMap::new(),
            all_blocks: Sums::default(),
            all_bytes: Sums::default(),
            classes: ByClass::new(),
            clock: Vec::new(),
            drawn: Drawn::default(),
            stride: 1,
            piece_s: FIRST_PIECE_S,
            counts: Counts::default(),
        }
    }

    /// From now on it remembers so much; sites that are there stay.
    pub const fn bound(&mut self, bounds: Bounds) {
        self.bounds = bounds;
    }

    /// Of a process that has too few windows to be compared with the clock: what the windows of all those that take turns with it came to, time that passed over time that they were told.
    pub const fn clock(&mut self, told_slow: f64) {
        self.drawn.told_slow = told_slow;
    }

    /// How it has fared so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        Counts { windows: self.drawn.windows, remembered: self.pool.len() as u64, ..self.counts }
    }

    /// Takes in a window, with what was logged in it in its order; windows come in the order of time. What lives at its end is due at once.
    pub fn window(&mut self, window: &Window, happened: &[Happened]) {
        self.counts.refused = self.counts.refused.saturating_add(window.refused);
        let opened_s = sound_s(window.opened_s);
        let births = self.pair(opened_s, happened);
        let weight = window.weight_of_logged(happened.len());
        if weight <= 0.0 {
            self.counts.windows_dropped += 1;
            return;
        }
        let drawn_s = window.weight() * window.own_s();
        self.tick(opened_s, drawn_s);
        let moment = Moment { drawn_s, all: births.len() as f64 * weight, piece: self.piece(opened_s) };
        let mut by_site: BTreeMap<u64, (u64, f64)> = BTreeMap::new();
        let mut all_bytes = 0.0;
        for birth in &births {
            let site = self.slot(birth.site, birth.domain);
            let sums = by_site.entry(site).or_default();
            sums.0 += 1;
            sums.1 += birth.size_bytes as f64;
            all_bytes += birth.size_bytes as f64;
            *self.classes.entry(class(birth.size_bytes)).or_default() += weight;
            self.end_of_window(site, birth, weight, drawn_s, window);
        }
        for (site, (births, bytes)) in by_site {
            if let Some(ledger) = self.sites.get_mut(&site) {
                ledger.born(births, births as f64 * weight, bytes * weight, &moment);
            }
        }
        self.counts.births += births.len() as u64;
        self.all_blocks.add(moment.all, drawn_s);
        self.all_bytes.add(all_bytes * weight, drawn_s);
        self.pool.thin(&self.bounds, &mut self.random);
    }

    /// Takes in what was logged behind a window, while its candidates were looked at for the first time: nothing but deaths, and a birth is one, of what was there before.
    pub fn aftermath(&mut self, happened: &[Happened]) {
        for event in happened {
            let (Happened::Born { address, at_s, .. } | Happened::Died { address, at_s }) = *event;
            if let Some(id) = self.pool.at(address) {
                self.die(id, sound_s(at_s));
            }
        }
    }

    /// Pairs births and deaths in their order. A birth where something lives ends that: it was freed and nobody saw it. Older candidates at these addresses are dead.
    fn pair(&mut self, opened_s: f64, happened: &[Happened]) -> Vec<Birth> {
        let mut births: Vec<Birth> = Vec::with_capacity(happened.len());
        let mut open: HashMap<u64, usize> = HashMap::with_capacity(happened.len());
        for event in happened {
            let (address, at_s) = match *event {
                Happened::Born { address, at_s, .. } | Happened::Died { address, at_s } => (address, at_s),
            };
            let at_s = sound_s(at_s).max(opened_s);
            match open.remove(&address).and_then(|at| births.get_mut(at)) {
                Some(birth) => birth.died_s = Some(at_s),
                None => {
                    if let Some(id) = self.pool.at(address) {
                        self.die(id, at_s);
                    }
                }
            }
            if let Happened::Born { site, size_bytes, domain, .. } = *event {
                open.insert(address, births.len());
                births.push(Birth { site, address, size_bytes, domain, at_s, died_s: None });
            }
        }
        births
    }

    /// Enters what a window says of one birth: that it was churn, or that it lived on.
    fn end_of_window(&mut self, site: u64, birth: &Birth, weight: f64, drawn_s: f64, window: &Window) {
        let closed_s = window.closed_s().max(birth.at_s);
        // The window's own hits have stretched this life.
        let lifetime_s = (birth.died_s.unwrap_or(closed_s) - birth.at_s).max(0.0) * window.own_share();
        if let Some(ledger) = self.sites.get_mut(&site) {
            ledger.mistakable.watched(weight, lifetime_s, birth.died_s.is_some());
            if birth.died_s.is_some() {
                return ledger.churned(weight, lifetime_s);
            }
            ledger.outlived += 1;
        }
        self.counts.candidates += 1;
        self.pool.insert(Candidate {
            site,
            address: birth.address,
            size_bytes: birth.size_bytes,
            domain: birth.domain,
            born_s: birth.at_s,
            window: self.drawn.windows,
            drawn_s,
            weight,
            identity: None,
            owned_bytes: 0,
            seen_s: closed_s,
            due_s: 0.0,
        });
    }

    /// The site under which a birth is counted.
    fn slot(&mut self, site: u64, domain: Option<Domain>) -> u64 {
        if self.sites.contains_key(&site) {
            return site;
        }
        let (site, domain) =
            if self.sites.len() < self.bounds.sites { (site, domain) } else { (OTHER_SITES, None) };
        self.sites.entry(site).or_insert_with(|| Ledger::new(domain));
        site
    }

    /// Notes that a window has opened, and the time that it stands for.
    fn tick(&mut self, opened_s: f64, drawn_s: f64) {
        if self.drawn.windows > 0 && !(self.drawn.windows - 1).is_multiple_of(self.stride) {
            self.clock.pop();
        }
        if self.clock.len() >= MOMENTS {
            let mut index = 0_usize;
            self.clock.retain(|_| {
                index += 1;
                index % 2 == 1
            });
            self.stride *= 2;
        }
        self.drawn.add(drawn_s);
        let newest_s = self.clock.last().map_or(0.0, |(at_s, _)| *at_s);
        self.clock.push((opened_s.max(newest_s), self.drawn));
    }

    /// The piece of the time that a moment lies in.
    fn piece(&mut self, at_s: f64) -> usize {
        while at_s >= self.piece_s * PIECES as f64 {
            self.piece_s *= 2.0;
            self.sites.values_mut().for_each(Ledger::double_pieces);
        }
        ((at_s / self.piece_s) as usize).min(PIECES - 1)
    }

    /// Up to `most` candidates that are to be looked at now: those that nobody has looked at first, then the most overdue ones. One that is never [`Self::seen`] comes again.
    pub fn due(&mut self, now_s: f64, most: usize) -> Vec<Due> {
        let now_s = sound_s(now_s);
        let ids = self.pool.due(now_s, most);
        for &id in &ids {
            self.pool.change(id, |candidate| candidate.due_s = retry_s(candidate, now_s));
        }
        ids.iter().filter_map(|id| self.named(*id)).collect()
    }

    /// All candidates: the last look, for which the facts are told.
    #[must_use]
    pub fn due_at_end(&self) -> Vec<Due> {
        self.pool.iter().filter_map(|(id, _)| self.named(id)).collect()
    }

    fn named(&self, id: u64) -> Option<Due> {
        let &Candidate { address, size_bytes, domain, .. } = self.pool.get(id)?;
        Some(Due { id: Id(id), address, size_bytes, domain })
    }

    /// What was seen of a candidate. One that is no longer remembered is ignored.
    pub fn seen(&mut self, id: Id, now_s: f64, look: Look) {
        let Some(candidate) = self.pool.get(id.0).copied() else { return };
        let now_s = sound_s(now_s).max(candidate.seen_s);
        self.counts.looks += u64::from(look != Look::Unread);
        match look {
            Look::Unread => {
                self.counts.unread += 1;
                self.pool.change(id.0, |candidate| candidate.due_s = retry_s(candidate, now_s));
            }
            Look::Part => {
                self.counts.parts += 1;
                self.pool.remove(id.0);
            }
            Look::Dead => self.die(id.0, now_s),
            Look::Alive { identity, .. } if candidate.identity.is_some_and(|first| first != identity) => {
                self.die(id.0, now_s);
            }
            Look::Alive { identity, owned_bytes } => {
                if let Some(ledger) = self.sites.get_mut(&candidate.site) {
                    let age = |at_s: f64| at_s - candidate.born_s;
                    ledger.watched(candidate.weight, age(candidate.seen_s), age(now_s));
                    if candidate.identity.is_none() {
                        let bytes = candidate.weight * (candidate.size_bytes as f64 + owned_bytes as f64);
                        let later_s = now_s - candidate.seen_s;
                        ledger.mistakable.looked(candidate.weight, candidate.size_bytes, bytes, later_s);
                    }
                }
                self.pool.change(id.0, |candidate| {
                    candidate.identity = Some(identity);
                    candidate.owned_bytes = owned_bytes;
                    candidate.seen_s = now_s;
                    candidate.due_s = candidate.born_s + next_age_s(now_s - candidate.born_s);
                });
            }
        }
    }

    /// A candidate has died at some time between when it was last seen and now.
    fn die(&mut self, id: u64, now_s: f64) {
        let Some(candidate) = self.pool.remove(id) else { return };
        if let Some(ledger) = self.sites.get_mut(&candidate.site) {
            let age = |at_s: f64| (at_s - candidate.born_s).max(0.0);
            ledger.died(candidate.weight, age(candidate.seen_s), age(now_s));
            if candidate.identity.is_some() && age(candidate.seen_s) < FIRST_AGES_S[0] {
                ledger.mistakable.died_soon(candidate.weight);
            }
        }
    }
}

/// When what did not answer is asked again.
fn retry_s(candidate: &Candidate, now_s: f64) -> f64 {
    now_s + ((now_s - candidate.born_s) * RETRY_SHARE).max(RETRY_S)
}

/// A time that can be counted with: within 30 years.
fn sound_s(seconds: f64) -> f64 {
    if seconds.is_finite() { seconds.clamp(0.0, 1e9) } else { 0.0 }
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
