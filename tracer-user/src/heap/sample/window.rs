//! What enters the sampler: a window with what happened in it, and what was seen of a block from outside.

use tracer_common::domain::Domain;

/// The greatest cost rate that is believed. A hit takes 1.2 to 1.6 µs, and what the target has for itself between two is what remains of the time, which is known to some 50 ns: less than that may be
/// nothing but error, and a window of which hardly anything remains would outweigh all others. The densest code (33 ns between hits were measured) is estimated a third too low for it.
const MOST_COST_RATE: f64 = 30.0;
/// Own time, in seconds, below which a cost rate cannot be measured: what a window has at least, whatever the books of its cost say.
const LEAST_OWN_S: f64 = 1e-7;
/// If fewer records than one in so many got through, a window says nothing.
const LEAST_LOGGED: f64 = 1.0 / 16.0;

/// One window. Seconds throughout; moments (`_s` of an event, too) count from when sampling began.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Window {
    /// When the gate opened.
    pub opened_s: f64,
    /// The expected time from the start of one window to the start of the next when this one was drawn: the mean gap and what a window takes.
    pub interval_s: f64,
    /// The longest own time of the target that the window could see.
    pub length_s: f64,
    /// The most that it could cost.
    pub share_s: f64,
    /// Own time of the target that it saw.
    pub own_s: f64,
    /// What it cost.
    pub cost_s: f64,
    /// Own time after which `early_cost_s` was taken.
    pub early_s: f64,
    /// The cost of the first `early_s`, as the first hit after it found it; 0 if there was no such hit. A hit that found none before leaves a trace above 0
    /// (the kernel writes 1 ns).
    pub early_cost_s: f64,
    /// Records that were lost because the ring was full.
    pub refused: u64,
    /// One birth of so many was logged, at random; 1: all.
    pub thin: f64,
}

impl Window {
    /// For how many windows' worth of time this one stands: what happened in it counts so many times. 0 for a window whose figures are absurd.
    ///
    /// A window ends when `own / length + cost / share` reaches 1. Measured in that sum, all windows are equally long, and what happens at a moment is
    /// seen by the windows that start at most 1 before it. `interval` times the pace of the sum at the start, `1 / length + cost rate / share`, integrates to 1
    /// over these starts, so every allocation counts once on average, however dense the code around it is. Without hits that is `interval / length`.
    #[must_use]
    pub fn weight(&self) -> f64 {
        let sound = [self.interval_s, self.length_s, self.share_s].iter().all(|&s| s.is_finite() && s > 0.0);
        if !sound {
            return 0.0;
        }
        // Without an early cost nothing was hit after the early time, so that all cost is that of what the window saw of it.
        let cost_s = if self.early_cost_s > 0.0 { self.early_cost_s } else { self.cost_s };
        let over_s = if self.early_cost_s > 0.0 { self.early_s } else { self.own_s().min(self.early_s) };
        let rate = cost_s / over_s.max(LEAST_OWN_S);
        let rate = if rate.is_finite() { rate.clamp(0.0, MOST_COST_RATE) } else { 0.0 };
        let weight = self.interval_s * (1.0 / self.length_s + rate / self.share_s);
        if weight.is_finite() { weight } else { 0.0 }
    }

    /// The weight of what was logged, if `logged` records came through.
    ///
    /// The ring refuses when it is full, so the missing records are the later ones, and the window was as good as closed at the first of them. It had then used the logged
    /// share of its resource, as far as hits come evenly, so what it did log counts in inverse proportion; throwing such windows away would
    /// miss the densest code. 0 if next to nothing came through.
    pub(super) fn weight_of_logged(&self, logged: usize) -> f64 {
        let weight = self.weight() * if self.thin.is_finite() { self.thin.max(1.0) } else { 1.0 };
        if self.refused == 0 {
            return weight;
        }
        let share = logged as f64 / (logged as f64 + self.refused as f64);
        if share < LEAST_LOGGED { 0.0 } else { weight / share }
    }

    /// Own time as a sound number.
    pub(super) fn own_s(&self) -> f64 {
        if self.own_s.is_finite() { self.own_s.clamp(0.0, self.length_s.max(0.0)) } else { 0.0 }
    }

    /// When the gate was shut.
    pub(super) fn closed_s(&self) -> f64 {
        let closed_s = self.opened_s + self.own_s() + self.cost_s;
        if closed_s.is_finite() { closed_s.clamp(0.0, 1e9) } else { 0.0 }
    }

    /// How much faster the target's own time runs than the clock in the window, 0 to 1: ages of what died in it are told in own time.
    pub(super) fn own_share(&self) -> f64 {
        let own_s = self.own_s();
        let cost_s = if self.cost_s.is_finite() { self.cost_s.max(0.0) } else { 0.0 };
        if own_s + cost_s > 0.0 { own_s / (own_s + cost_s) } else { 1.0 }
    }
}

/// What was logged in a window, in the order in which it happened.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Happened {
    /// A block or an object began to live.
    Born {
        /// Whose it is.
        site: u64,
        /// Where: of the block, the same that its end will name.
        address: u64,
        /// Bytes.
        size_bytes: u64,
        /// Where memory comes from; `None` for a code that is none.
        domain: Option<Domain>,
        /// It came out of a freelist. It counts like any birth; what lived there before has died.
        reused: bool,
        /// When.
        at_s: f64,
    },
    /// A block ended.
    Died {
        /// Where.
        address: u64,
        /// When.
        at_s: f64,
    },
}

/// What was seen from outside of the block at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Look {
    /// It is free, or lies in a freelist.
    Dead,
    /// It is part of an object (a dict's key table, a list's items), which is charged with it.
    Part,
    /// It lives.
    Alive {
        /// Tells it from another that has taken its place.
        identity: [u64; 2],
        /// Bytes of its parts.
        owned_bytes: u64,
    },
    /// It could not be read this time.
    Unread,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PLAIN: Window = Window {
        opened_s: 1.0,
        interval_s: 0.2,
        length_s: 0.002,
        share_s: 0.001,
        own_s: 0.002,
        cost_s: 0.0,
        early_s: 20e-6,
        early_cost_s: 0.0,
        refused: 0,
        thin: 1.0,
    };

    #[test]
    fn weights_by_hand() {
        assert!((PLAIN.weight() - 100.0).abs() < 1e-9, "no hits: 0.2 / 0.002");
        let dense = Window { own_s: 0.000_2, cost_s: 0.000_9, early_cost_s: 90e-6, ..PLAIN };
        assert!((dense.weight() - 1000.0).abs() < 1e-9, "0.2 · (500 + 4.5 / 0.001)");
        let soon_over = Window { own_s: 10e-6, cost_s: 0.000_995, ..PLAIN };
        assert!((soon_over.weight() - 6_100.0).abs() < 1e-6, "0.2 · (500 + 30 / 0.001), not 99.5");
        let only_early = Window { own_s: 0.001, cost_s: 10e-6, early_cost_s: 0.0, ..PLAIN };
        assert!((only_early.weight() - 200.0).abs() < 1e-9, "no hit after 20 µs: 0.2 · (500 + 0.5 / 0.001)");
        let later = Window { own_s: 0.001, cost_s: 0.000_5, early_cost_s: 1e-9, ..PLAIN };
        assert!((later.weight() - 100.0).abs() < 0.1, "no hit in 20 µs");
    }

    #[test]
    fn what_was_refused_is_made_up_for() {
        let half = Window { refused: 50, ..PLAIN };
        assert!((half.weight_of_logged(50) - 200.0).abs() < 1e-9);
        assert_eq!(half.weight_of_logged(3), 0.0, "3 of 53 say nothing");
        assert_eq!(half.weight_of_logged(0), 0.0);
    }

    #[test]
    fn absurd_windows_count_nothing() {
        for window in [
            Window { interval_s: f64::NAN, ..PLAIN },
            Window { length_s: 0.0, ..PLAIN },
            Window { share_s: -1.0, ..PLAIN },
            Window::default(),
        ] {
            assert_eq!(window.weight(), 0.0, "{window:?}");
        }
    }

    proptest! {
        #[test]
        fn a_weight_is_a_number(all in prop::array::uniform8(any::<f64>()), refused: u64, logged: u32) {
            let [opened_s, interval_s, length_s, share_s, own_s, cost_s, early_s, early_cost_s] = all;
            let window =
                Window { opened_s, interval_s, length_s, share_s, own_s, cost_s, early_s, early_cost_s, refused, thin: 1.0 };
            for weight in [window.weight(), window.weight_of_logged(logged as usize)] {
                prop_assert!(weight.is_finite() && weight >= 0.0, "{weight}");
            }
            prop_assert!((0.0..=1.0).contains(&window.own_share()));
        }
    }
}
