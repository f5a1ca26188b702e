//! Numbers of several runs, and what is said of them.

use std::time::Duration;

use serde_json::{Value, json};

/// What was measured, one number of each run.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figure(Vec<f64>);

impl Figure {
    /// One run more, in milliseconds.
    pub(crate) fn time(&mut self, time: Duration) {
        self.0.push(time.as_secs_f64() * 1000.0);
    }

    /// One run more, in the unit of the figure.
    pub(crate) fn number(&mut self, number: f64) {
        self.0.push(number);
    }

    /// Whether nothing was measured.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The one that so many of a hundred are not above: by the nearest rank, so it was measured.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.0.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    pub(crate) fn json(&self) -> Value {
        let rounded = |number: f64| (number * 1000.0).round() / 1000.0;
        json!({
            "p50": rounded(self.percentile(50)),
            "p95": rounded(self.percentile(95)),
            "p99": rounded(self.percentile(99)),
            "runs": self.0.iter().map(|number| rounded(*number)).collect::<Vec<_>>(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let ten = Figure((1..=10).rev().map(f64::from).collect());
        assert_eq!(ten.percentile(50).to_bits(), 5.0_f64.to_bits());
        assert_eq!(ten.percentile(99).to_bits(), 10.0_f64.to_bits());
        assert!(Figure::default().percentile(50).is_nan());
        let mut one = Figure::default();
        one.time(Duration::from_micros(1500));
        assert_eq!(one.json()["p95"], 1.5);
    }
}
