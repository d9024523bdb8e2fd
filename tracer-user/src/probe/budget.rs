//! How often windows come and how long they are, so that they stay within their budget whatever the target does.
//!
//! Two accounts are kept, each allowed the same share of the time: what the target loses to traps, and what we use of a CPU ourselves. The dearer one sets the pace.
//! Pure: times and costs come in, lengths and gaps go out.

/// What a window may cost the target at least, in seconds: some two hundred hits.
pub const SHORTEST_S: f64 = 200e-6;
/// A recording begins with windows that may cost so much, in seconds.
const FIRST_S: f64 = 250e-6;
/// Where a larger part of the windows is cut short than this, stacks are walked for fewer births: a birth with its stack costs three to four times what one without does, and windows that end in the
/// middle of a request never see its end.
const OFTEN_CUT: f64 = 0.3;
/// One birth of so many gets a stack then. With four instead of two a window reaches a fifth further and shows half as much of what it reaches: in services of `bench accuracy` errors were twice as large.
const THIN: u32 = 2;
/// How much longer than what it may cost a window stays open where the target does nothing in it. Traps cost nothing there, and a server that waits most of
/// the time is seldom seen at work by windows that close before its next request.
const PATIENCE: f64 = 6.0;
/// The part of the budget that is planned for; the rest is for what was not foreseen.
const PLANNED: f64 = 0.85;
/// The part of the budget with which debts are paid off. What is spent beside windows (on each process of a family, on looks) is in no plan, and some of it is still owed when a recording ends.
const PAID: f64 = 0.95;
/// Debts of so many intervals are left to the mean.
const SLACK: f64 = 3.0;
/// The weight of the newest window in the running means.
const NEWEST: f64 = 0.1;
/// Windows before it is judged whether they should be shorter.
const JUDGED_AFTER: u32 = 4;
/// How much longer they become at once where they may. Short ones see little, and what they see weighs much, so that the first are an expense; one is enough to see what a window costs.
const LONGER: f64 = 3.0;
/// Windows before they are found too dear.
const LEAST_JUDGED: u32 = 3;
/// Where windows would come less often than this, in seconds, shorter ones are better: what happens in one window is one observation.
const SELDOM_S: f64 = 1.0;
/// Where even the shortest windows would come less often than this, in seconds, nothing is found any more.
const TOO_SELDOM_S: f64 = 30.0;
/// Windows never come more often than this, in seconds: what is found must be looked at too.
const OFTEN_S: f64 = 0.04;
/// The most that is waited between two windows to pay off debts, in seconds.
const LONGEST_WAIT_S: f64 = 60.0;

/// What a window is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Own time of the target that the window may see, in seconds.
    pub length_s: f64,
    /// What it may cost the target, in seconds.
    pub share_s: f64,
    /// One birth of so many gets a stack, a power of two.
    pub thin: u32,
}

/// When the next window comes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pause {
    /// It is not before so many seconds: debts are paid off first.
    pub wait_s: f64,
    /// After that, the mean of the exponential gap, in seconds.
    pub mean_gap_s: f64,
}

/// What a window has cost, all in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Spent {
    /// What the target lost: its traps and interruptions from the first trap that went in to the last that came out.
    pub target_s: f64,
    /// What we used of a CPU since the last window, for it and for all else.
    pub own_s: f64,
    /// Time in which no other window can begin: putting the traps in, the window, and what follows it.
    pub dead_s: f64,
    /// Time that has passed since the window before was accounted for.
    pub passed_s: f64,
    /// The target did something in it.
    pub has_hits: bool,
    /// It ended because of what it had cost.
    pub is_cut: bool,
}

/// A running mean.
#[derive(Clone, Copy, Debug, Default)]
struct Mean {
    value: f64,
    count: u32,
}

impl Mean {
    fn add(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        // The first ones count alike.
        let weight = NEWEST.max(1.0 / f64::from(self.count));
        self.value += (value - self.value) * weight;
    }
}

/// One account.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    per_window: Mean,
    /// Spent and not yet paid off, in seconds.
    debt_s: f64,
}

impl Account {
    fn settle(&mut self, spent_s: f64, allowed_s: f64) {
        self.per_window.add(spent_s);
        self.debt_s = (self.debt_s + spent_s - allowed_s).max(0.0);
    }
}

/// Plans windows.
#[derive(Clone, Debug)]
pub struct Governor {
    /// Part of one CPU, of each account.
    part: f64,
    /// The most that a window may cost, and what the next one may, in seconds.
    most_s: f64,
    share_s: f64,
    target: Account,
    own: Account,
    dead: Mean,
    /// The part of the windows with hits that were cut short.
    cut: Mean,
    /// Windows of the present terms.
    judged: u32,
}

impl Governor {
    /// A governor for a part of one CPU (0.01: one percent) and windows that cost up to so many seconds each.
    #[must_use]
    pub fn new(part: f64, most_s: f64) -> Self {
        let most_s = most_s.max(SHORTEST_S);
        Self {
            part: part.max(1e-6),
            most_s,
            share_s: FIRST_S.min(most_s),
            target: Account::default(),
            own: Account::default(),
            dead: Mean::default(),
            cut: Mean::default(),
            judged: 0,
        }
    }

    /// What the next window is allowed.
    #[must_use]
    pub const fn terms(&self) -> Terms {
        Terms {
            length_s: self.share_s * PATIENCE,
            share_s: self.share_s,
            thin: if self.cut.value > OFTEN_CUT { THIN } else { 1 },
        }
    }

    /// Accounts for a window.
    pub fn account(&mut self, spent: Spent) {
        let allowed_s = self.part * PAID * spent.passed_s.max(0.0);
        self.target.settle(spent.target_s.max(0.0), allowed_s);
        self.own.settle(spent.own_s.max(0.0), allowed_s);
        self.dead.add(spent.dead_s.max(0.0));
        if spent.has_hits {
            self.cut.add(f64::from(u8::from(spent.is_cut)));
        }
        self.judged += 1;
        self.adapt();
    }

    /// We used so many seconds of a CPU for what no window is to blame for: it is paid off, and not expected again.
    pub fn owe(&mut self, own_s: f64) {
        self.own.debt_s += own_s.max(0.0);
    }

    /// When the next window comes.
    #[must_use]
    pub fn pause(&self) -> Pause {
        let wait_s = (self.target.debt_s.max(self.own.debt_s) / self.part - self.slack_s()).max(0.0);
        let mean_gap_s = (self.interval_s() - self.dead.value).max(OFTEN_S / 2.0);
        Pause { wait_s: wait_s.min(LONGEST_WAIT_S), mean_gap_s }
    }

    /// Dead time of a window in the mean, in seconds.
    #[must_use]
    pub const fn dead_s(&self) -> f64 {
        self.dead.value
    }

    /// Whether even the shortest windows would come so seldom that they find nothing.
    #[must_use]
    pub fn is_too_dear(&self) -> bool {
        let no_cheaper = self.is_ours() || self.share_s <= FIRST_S;
        no_cheaper && self.dead.count >= LEAST_JUDGED && self.interval_s() > TOO_SELDOM_S
    }

    /// Mean time between two windows that the budget allows, in seconds.
    fn interval_s(&self) -> f64 {
        let dearest_s = self.target.per_window.value.max(self.own.per_window.value);
        (dearest_s / (self.part * PLANNED)).max(OFTEN_S)
    }

    /// Debts up to so many seconds of waiting are left to the mean: windows differ, and one dear window is no reason to look away just then.
    fn slack_s(&self) -> f64 {
        SLACK * self.interval_s()
    }

    /// Whether our own time sets the pace: that is for opening and closing, so a window that may cost the target more shows more for it.
    fn is_ours(&self) -> bool {
        self.own.per_window.value > self.target.per_window.value
    }

    fn adapt(&mut self) {
        let (interval_s, is_ours) = (self.interval_s(), self.is_ours());
        if !is_ours && interval_s > SELDOM_S && self.share_s > SHORTEST_S && self.judged >= JUDGED_AFTER {
            self.share_s = (self.share_s / 2.0).max(SHORTEST_S);
        } else if (is_ours || interval_s < SELDOM_S / 2.0) && self.share_s < self.most_s {
            self.share_s = (self.share_s * LONGER).min(self.most_s);
        } else {
            return;
        }
        self.judged = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A target of which each second in a window costs `cost` seconds, with so much for putting the traps in.
    fn run(governor: &mut Governor, seconds: f64, cost: f64, attach_s: f64, own_s: f64) -> (f64, f64, u32) {
        let (mut now, mut target, mut own, mut windows) = (0.0, 0.0, 0.0, 0);
        while now < seconds {
            let length = governor.terms().share_s;
            let spent = Spent { target_s: attach_s + length * cost, own_s, dead_s: 0.01, ..Spent::default() };
            let pause = governor.pause();
            let passed_s = pause.wait_s + pause.mean_gap_s + spent.dead_s;
            governor.account(Spent { passed_s, ..spent });
            now += passed_s;
            target += spent.target_s;
            own += spent.own_s;
            windows += 1;
        }
        (target / now, own / now, windows)
    }

    #[test]
    fn a_busy_target_is_looked_at_within_the_budget() {
        let mut governor = Governor::new(0.01, 2e-3);
        let (target, own, windows) = run(&mut governor, 60.0, 0.95, 0.2e-3, 1e-3);
        assert!(target <= 0.01 && target > 0.007, "{target}");
        assert!(own <= 0.01, "{own}");
        assert!(windows > 200 && (governor.terms().share_s - 2e-3).abs() < 1e-9, "{windows}");
    }

    #[test]
    fn our_own_time_sets_the_pace_where_attaching_is_dear() {
        let mut governor = Governor::new(0.01, 2e-3);
        let (_, own, windows) = run(&mut governor, 120.0, 0.95, 3e-3, 12e-3);
        assert!(own <= 0.0101 && windows > 60, "{own} {windows}");
    }

    #[test]
    fn what_is_too_dear_is_found_out() {
        let mut governor = Governor::new(0.0001, 2e-3);
        run(&mut governor, 3000.0, 1.0, 10e-3, 30e-3);
        assert!(governor.is_too_dear());
        let mut governor = Governor::new(0.01, 2e-3);
        run(&mut governor, 60.0, 1.0, 10e-3, 30e-3);
        assert!(!governor.is_too_dear());
    }

    proptest! {
        #[test]
        fn the_budget_holds_for_any_target(
            share in 0.0005f64..0.1, cost in 0.0f64..1.0, attach in 0.0f64..0.02, own in 0.0f64..0.04,
        ) {
            let mut governor = Governor::new(share, 2e-3);
            let dearest = attach.max(own) + 2e-3;
            let (target, used, _) = run(&mut governor, 100.0 * dearest / share, cost, attach, own);
            prop_assert!(target <= share * 1.1, "{target} of {share}");
            prop_assert!(used <= share * 1.1, "{used} of {share}");
        }
    }
}
