//! Whose window it is: those of one budget are dealt out among the processes of a family, at random.
//!
//! Windows of the family come as a Poisson process. Each is given to one process, with a probability that is known before it opens, so the windows of one process are a Poisson process too, thinner by that
//! probability, and what it shows weighs more in the same proportion: sums over all windows stay right on average, for a worker that lives a tenth of a second as for one that lives a
//! week. The probability may be anything that does not depend on what the window will see. It is greater for those who work: an idle process shows nothing, and costs as much of our time.

/// How often one that does nothing is looked at, compared with the busiest.
const IDLE: f64 = 0.1;
/// As busy as this they all are at least, so that an idle family's turns do not hang on what little each one does.
const LEAST: f64 = 0.01;

/// The weights of processes that run for these parts of the time. One of which that is not known yet is taken for as busy as the busiest.
pub(super) fn weights(busy: &[Option<f64>]) -> Vec<f64> {
    let sound = |busy: f64| if busy.is_finite() { busy.clamp(0.0, 1.0) } else { 1.0 };
    let most = busy.iter().flatten().map(|busy| sound(*busy)).fold(LEAST, f64::max);
    busy.iter().map(|busy| IDLE * most + busy.map_or(most, sound)).collect()
}

/// Draws one of those with these weights by a random number from 0 to 1: its place, and the probability that it had. `None` if there is none.
pub(super) fn draw(weights: &[f64], unit: f64) -> Option<(usize, f64)> {
    let sum: f64 = weights.iter().sum();
    let mut rest = unit.clamp(0.0, 1.0) * sum;
    for (at, weight) in weights.iter().enumerate() {
        // What rounding leaves over is the last one's.
        if rest < *weight || at + 1 == weights.len() {
            return (*weight > 0.0).then(|| (at, weight / sum));
        }
        rest -= weight;
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn nobody_is_drawn_from_nobody_and_one_from_one() {
        assert_eq!(draw(&[], 0.5), None);
        assert_eq!(draw(&weights(&[Some(0.0)]), 1.0), Some((0, 1.0)));
        let of = weights(&[Some(0.0), Some(0.2), None]);
        assert!(of[0] > 0.0 && of[0] < of[1], "an idle one is looked at too, but not so often: {of:?}");
        assert_eq!(of[1], of[2], "one that is not known is as busy as the busiest");
    }

    proptest! {
        /// What is drawn weighs its inverse probability: on average every process counts once.
        #[test]
        fn each_counts_once_on_average(busy in prop::collection::vec(0.0..1.0_f64, 1..64)) {
            const DRAWS: u32 = 20_000;
            let weights = weights(&busy.into_iter().map(Some).collect::<Vec<_>>());
            let mut counted = vec![0.0; weights.len()];
            for number in 0..DRAWS {
                let (at, probability) = draw(&weights, (f64::from(number) + 0.5) / f64::from(DRAWS)).unwrap();
                counted[at] += 1.0 / probability / f64::from(DRAWS);
            }
            for sum in counted {
                prop_assert!((sum - 1.0).abs() < 0.05, "{sum}");
            }
        }
    }
}
