//! The arithmetic of the contract: how much less a traced process does for its CPU, with the error of that figure. Pure.

use serde_json::{Value, json};

use super::round::{Round, Rounds};
use crate::bench::figures::Spread;

/// A mean and the half width of its 95 % interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Estimate {
    pub(crate) mean: f64,
    pub(crate) half: f64,
}

/// Two-sided 95 % quantiles of Student's t for 1, 2, 3 … degrees of freedom.
const STUDENT: [f64; 30] = [
    12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228, 2.201, 2.179, 2.160, 2.145, 2.131,
    2.120, 2.110, 2.101, 2.093, 2.086, 2.080, 2.074, 2.069, 2.064, 2.060, 2.056, 2.052, 2.048, 2.045, 2.042,
];
/// That of the normal distribution, for more.
const NORMAL: f64 = 1.960;

/// Neighbouring rounds share the untraced phase between them. For phases of equal variance that correlates their losses by 1/6, and the variance
/// of the mean is up to 1 + 2/6 times that of independent ones.
const SHARED: f64 = 4.0 / 3.0;

impl Estimate {
    /// Of figures that share neighbours; `None` for fewer than two.
    pub(crate) fn of(figures: &[f64]) -> Option<Self> {
        let count = figures.len() as f64;
        if figures.len() < 2 {
            return None;
        }
        let mean = figures.iter().sum::<f64>() / count;
        let squares: f64 = figures.iter().map(|figure| (figure - mean).powi(2)).sum();
        let error = (squares / (count - 1.0) / count * SHARED).sqrt();
        let student = STUDENT.get(figures.len() - 2).copied().unwrap_or(NORMAL);
        Some(Self { mean, half: error * student })
    }

    fn json(estimate: Option<Self>) -> Value {
        estimate.map_or(Value::Null, |Self { mean, half }| json!({"mean": mean, "half_width_95": half}))
    }
}

/// How much less was done for the same CPU in the traced phase than in the mean of its neighbours: 0.01 is one percent.
pub(crate) fn loss(round: &Round) -> f64 {
    1.0 - round.traced.rate() / f64::midpoint(round.before.rate(), round.after.rate())
}

/// The same from what single units paid beyond their neighbours. It does not see what slows all units down alike, nor the machine that does so.
pub(crate) fn uneven_loss(round: &Round) -> Option<f64> {
    let untraced = f64::midpoint(round.before.unevenness?, round.after.unevenness?);
    Some(1.0 - untraced / round.traced.unevenness?)
}

/// The median of a figure over the rounds.
pub(crate) fn median(figures: impl IntoIterator<Item = f64>) -> Option<f64> {
    Spread::of(figures).map(|spread| spread.median)
}

/// What the rounds of a workload come to.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Summary {
    /// Loss of work per CPU.
    pub(crate) loss: Option<Estimate>,
    /// See [`uneven_loss`].
    pub(crate) uneven: Option<Estimate>,
    /// The share of a core that the target lost, by measurement.
    pub(crate) lost_cores: Option<Estimate>,
    /// The same as unshed reports it.
    pub(crate) reported_cores: Option<f64>,
}

impl Summary {
    /// Sums up.
    pub(crate) fn of(rounds: &Rounds) -> Self {
        let all =
            |figure: fn(&Round) -> Option<f64>| rounds.0.iter().filter_map(figure).collect::<Vec<f64>>();
        Self {
            loss: Estimate::of(&all(|round| Some(loss(round)))),
            uneven: Estimate::of(&all(uneven_loss)),
            lost_cores: Estimate::of(&all(|round| Some(loss(round) * round.traced.busy()))),
            reported_cores: median(all(|round| round.recorded.as_ref()?.number("/cost/target_cpu_fraction"))),
        }
    }

    /// Reported over measured, when what was measured is beyond its error.
    pub(crate) fn agreement(&self) -> Option<f64> {
        let measured = self.lost_cores.filter(|lost| lost.mean > lost.half)?;
        Some(self.reported_cores? / measured.mean)
    }

    /// For the file of results.
    pub(crate) fn json(&self) -> Value {
        json!({
            "loss": Estimate::json(self.loss),
            "loss_by_uneven_units": Estimate::json(self.uneven),
            "lost_cores": Estimate::json(self.lost_cores),
            "reported_cores": self.reported_cores,
            "reported_over_measured": self.agreement(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::round::fixture::{phase, round};
    use super::*;

    #[test]
    fn the_interval_is_students_for_rounds_that_share_phases() {
        let estimate = Estimate::of(&[1.0, 2.0, 3.0]).expect("three figures");
        // s = 1, s/√3 = 0.577, times √(4/3) = 0.667, times 4.303.
        assert!((estimate.mean - 2.0).abs() < 1e-12 && (estimate.half - 2.0 / 3.0 * 4.303).abs() < 1e-9);
        assert_eq!(Estimate::of(&[1.0]), None);
        let many = Estimate::of(&[1.0, 3.0].repeat(50)).expect("many figures");
        assert!((many.half - (100.0_f64 / 99.0 / 100.0 * 4.0 / 3.0).sqrt() * 1.96).abs() < 1e-9);
    }

    #[test]
    fn a_loss_is_against_the_mean_of_the_neighbours() {
        // 1000 and 800 units per CPU-second beside 855: 5 % less than 900.
        let round = round(phase(1000.0), phase(855.0), phase(800.0));
        assert!((loss(&round) - 0.05).abs() < 1e-12);
    }

    #[test]
    fn units_that_stand_out_are_a_loss_even_when_the_machine_changes_its_pace() {
        let mut round = round(phase(1000.0), phase(2000.0), phase(1000.0));
        round.before.unevenness = Some(1.0);
        round.after.unevenness = Some(1.04);
        round.traced.unevenness = Some(1.275);
        assert!(uneven_loss(&round).is_some_and(|loss| (loss - 0.2).abs() < 1e-12));
        round.after.unevenness = None;
        assert_eq!(uneven_loss(&round), None);
    }

    #[test]
    fn agreement_wants_a_measured_loss() {
        let summary = |mean: f64| Summary {
            loss: None,
            uneven: None,
            lost_cores: Some(Estimate { mean, half: 0.002 }),
            reported_cores: Some(0.009),
        };
        assert!(summary(0.006).agreement().is_some_and(|it| (it - 1.5).abs() < 1e-12));
        assert_eq!(summary(0.001).agreement(), None);
    }
}
