//! What is summed up of a site over all windows: births, deaths by age, and when the births were.

use tracer_common::domain::Domain;
use tracer_common::limits::LIFETIME_BUCKETS;
use tracer_common::site::lifetime_bucket;

use super::judge::Hazard;
use super::limits::Sums;
use super::mistaken::Mistakable;

/// Pieces of the observed time.
pub(super) const PIECES: usize = 16;
/// The length of a piece at the beginning, seconds; it doubles when they are used up.
pub(super) const FIRST_PIECE_S: f64 = 0.25;
/// Bounds of the ages at which deaths are told apart, seconds; those between which looks are due.
const AGES_S: [f64; 10] = [0.0, 0.1, 0.3, 1.0, 3.0, 10.0, 30.0, 100.0, 300.0, 1000.0];

/// Sums of one site. Counts are weighted: what they estimate is the whole time.
#[derive(Clone, Debug)]
pub(super) struct Ledger {
    pub(super) domain: Option<Domain>,
    /// Births seen, as they were seen.
    pub(super) births: u64,
    /// Those of them that outlived their window.
    pub(super) outlived: u64,
    pub(super) blocks: Sums,
    pub(super) bytes: Sums,
    /// What all sites together contributed, in blocks, in the windows in which this one had a part.
    company: f64,
    /// Deaths by lifetime, see [`lifetime_bucket`].
    pub(super) lifetimes: Box<[f32; LIFETIME_BUCKETS]>,
    /// Births in each piece of the time.
    course: [f32; PIECES],
    risks: [Risk; AGES_S.len()],
    pub(super) mistakable: Mistakable,
}

/// What was seen of blocks of a certain age.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Risk {
    /// How long all of them were watched at this age, together, seconds.
    watched_s: f64,
    /// How many of them died at it.
    died: f64,
    /// The same, as they were seen.
    seen: u32,
}

/// A window as a ledger sees it.
pub(super) struct Moment {
    /// The time that it stands for, seconds.
    pub(super) drawn_s: f64,
    /// What all sites contribute in it, in blocks.
    pub(super) all: f64,
    /// The piece of the time that it lies in.
    pub(super) piece: usize,
}

impl Ledger {
    pub(super) fn new(domain: Option<Domain>) -> Self {
        Self {
            domain,
            births: 0,
            outlived: 0,
            blocks: Sums::default(),
            bytes: Sums::default(),
            company: 0.0,
            lifetimes: Box::new([0.0; LIFETIME_BUCKETS]),
            course: [0.0; PIECES],
            risks: [Risk::default(); AGES_S.len()],
            mistakable: Mistakable::default(),
        }
    }

    /// Births of one window, all in the same piece of the time.
    pub(super) fn born(&mut self, births: u64, blocks: f64, bytes: f64, of: &Moment) {
        self.births = self.births.saturating_add(births);
        self.blocks.add(blocks, of.drawn_s);
        self.bytes.add(bytes, of.drawn_s);
        self.company += of.all;
        if let Some(piece) = self.course.get_mut(of.piece) {
            *piece += blocks as f32;
        }
    }

    /// What a window contributes if this site has a part in it, in blocks and in bytes. A site that few windows have seen has not shown how much that can be; but it has shown its share of
    /// what all contribute, which many windows have.
    pub(super) fn typical(&self, all_blocks: &Sums) -> (f64, f64) {
        let share = |sums: &Sums| if self.company > 0.0 { sums.value / self.company } else { 0.0 };
        let of = |sums: &Sums| sums.typical().max(share(sums) * all_blocks.typical());
        (of(&self.blocks), of(&self.bytes))
    }

    /// A death inside the window of the birth.
    pub(super) fn churned(&mut self, weight: f64, lifetime_s: f64) {
        let nanoseconds = (lifetime_s.max(0.0) * 1e9) as u64;
        if let Some(bucket) = self.lifetimes.get_mut(lifetime_bucket(nanoseconds)) {
            *bucket += weight as f32;
        }
    }

    /// So many blocks lived from one age to another.
    pub(super) fn watched(&mut self, weight: f64, from_s: f64, to_s: f64) {
        for (level, risk) in self.risks.iter_mut().enumerate() {
            let end = AGES_S.get(level + 1).copied().unwrap_or(f64::INFINITY);
            let span = to_s.min(end) - from_s.max(AGES_S[level]);
            if span > 0.0 && span.is_finite() {
                risk.watched_s += weight * span;
            }
        }
    }

    /// So many blocks died at some time between two ages. It is told as the middle: later looks are further apart, and their time would make lives up to three times as long as they were.
    pub(super) fn died(&mut self, weight: f64, from_s: f64, to_s: f64) {
        let age_s = from_s.midpoint(to_s);
        self.watched(weight, from_s, age_s);
        self.churned(weight, age_s);
        let level = AGES_S.partition_point(|bound| *bound <= age_s.max(0.0)).saturating_sub(1);
        if let Some(risk) = self.risks.get_mut(level) {
            risk.died += weight;
            risk.seen = risk.seen.saturating_add(1);
        }
    }

    /// What was seen of the blocks that are at least so old.
    pub(super) fn hazard(&self, age_s: f64) -> Hazard {
        let mut all = Hazard::default();
        for (risk, _) in self.risks.iter().zip(AGES_S).filter(|(_, from)| *from >= age_s) {
            all.watched_s += risk.watched_s;
            all.died += risk.died;
            all.seen = all.seen.saturating_add(risk.seen);
        }
        all
    }

    /// Births between two times, if a piece is so long.
    pub(super) fn born_between(&self, from_s: f64, to_s: f64, piece_s: f64) -> f64 {
        let share = |piece: usize| {
            let start = piece as f64 * piece_s;
            ((to_s.min(start + piece_s) - from_s.max(start)) / piece_s).clamp(0.0, 1.0)
        };
        self.course.iter().enumerate().map(|(piece, births)| f64::from(*births) * share(piece)).sum()
    }

    /// From now on pieces are twice as long.
    pub(super) fn double_pieces(&mut self) {
        for piece in 0..PIECES {
            let both = |at: usize| self.course.get(at).copied().unwrap_or(0.0);
            self.course[piece] = both(2 * piece) + both(2 * piece + 1);
        }
    }
}
