//! What the watch may cost: an account that fills by a share of the time and is charged with what the target pays. Pure.

/// Share of a core that the target may lose to all that is watched.
pub(crate) const SHARE: f64 = 0.002;
/// The account never holds more, in seconds of a core. A group of traps that turns out hot costs as much before it is noticed, and what a tick lets pass.
pub(crate) const MOST_S: f64 = 0.005;

/// The account, in seconds of a core.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Guard {
    credit_s: f64,
}

/// The traps that may be too hot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hot {
    /// Those where a pool is opened. They may come back later: what their pools hold is read from outside.
    Pools,
    /// Those of requests that go to `malloc`. Once out they stay out, because what is freed meanwhile would be taken for alive.
    Large,
}

impl Default for Guard {
    fn default() -> Self {
        Self::new()
    }
}

impl Guard {
    /// A full account.
    pub(crate) const fn new() -> Self {
        Self { credit_s: MOST_S }
    }

    /// Books a stretch of time and what it has cost, by group, in seconds; `Some` if the account is overdrawn: the group to take out, which has cost most.
    pub(crate) fn book(&mut self, elapsed_s: f64, pools_s: f64, large_s: f64) -> Option<Hot> {
        let spent = pools_s.max(0.0) + large_s.max(0.0);
        self.credit_s = (self.credit_s + SHARE * elapsed_s.max(0.0) - spent).min(MOST_S);
        (self.credit_s < 0.0).then_some(if large_s >= pools_s { Hot::Large } else { Hot::Pools })
    }

    /// Forgives the debt of a group that is out for good: what stays did not make it.
    pub(crate) fn forgive(&mut self) {
        self.credit_s = self.credit_s.max(MOST_S / 2.0);
    }

    /// Whether what was too hot may be tried again.
    pub(crate) fn is_full(&self) -> bool {
        self.credit_s >= MOST_S
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_cheap_stays() {
        let mut guard = Guard::new();
        assert!((0..1000).all(|_| guard.book(0.25, 0.0002, 0.0002).is_none()));
        assert!(guard.is_full());
    }

    #[test]
    fn who_costs_most_goes_and_waits() {
        let mut guard = Guard::new();
        assert_eq!(guard.book(0.0, 0.001, 0.009), Some(Hot::Large));
        assert_eq!(Guard::new().book(0.0, 0.009, 0.001), Some(Hot::Pools));
        // 5 ms too much are paid off in 2.5 s, and 2.5 s more fill the account.
        assert!((0..9).all(|_| guard.book(0.25, 0.0, 0.0).is_some()));
        assert!((0..10).all(|_| !guard.is_full() && guard.book(0.25, 0.0, 0.0).is_none()));
        assert_eq!((guard.book(0.5, 0.0, 0.0), guard.is_full()), (None, true));
    }

    #[test]
    fn who_stays_does_not_pay_for_who_went() {
        let mut guard = Guard::new();
        assert_eq!(guard.book(0.25, 0.00001, 0.2), Some(Hot::Large));
        guard.forgive();
        assert!((0..100).all(|_| guard.book(0.25, 0.0001, 0.0).is_none()));
    }

    proptest! {
        /// Traps that are in only while the account is not overdrawn, and back in when it is full.
        #[test]
        fn the_share_holds_however_hot(hot in prop::collection::vec(0.0f64..1.0, 2000)) {
            let mut guard = Guard::new();
            let (mut inside, mut spent, mut worst) = (true, 0.0, 0.0f64);
            for rate in &hot {
                let cost = if inside { rate * 0.25 } else { 0.0 };
                spent += cost;
                worst = worst.max(cost);
                if guard.book(0.25, cost, 0.0).is_some() {
                    inside = false;
                } else if guard.is_full() {
                    inside = true;
                }
            }
            let seconds = hot.len() as f64 * 0.25;
            prop_assert!(spent <= SHARE * seconds + MOST_S + worst + 1e-9, "{spent}");
        }
    }
}
