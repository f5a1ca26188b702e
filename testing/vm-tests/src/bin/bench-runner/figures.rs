//! Times of several runs, and what is said of them.

use serde_json::{Value, json};

/// Seconds, one of each run.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    /// What it is, in a table.
    pub(crate) what: &'static str,
    /// Its name in the JSON.
    pub(crate) key: &'static str,
    /// In the order of the runs.
    pub(crate) seconds: Vec<f64>,
}

impl Figure {
    /// The one that so many of a hundred are not above: by the nearest rank, so it was measured.
    pub(crate) fn percentile(&self, percent: usize) -> f64 {
        let mut sorted = self.seconds.clone();
        sorted.sort_by(f64::total_cmp);
        let rank = (sorted.len() * percent).div_ceil(100).max(1);
        sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
    }

    /// All of it.
    pub(crate) fn json(&self) -> Value {
        json!({ "p50": self.percentile(50), "p95": self.percentile(95), "runs": self.seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_nearest_rank() {
        let figure = |seconds: Vec<f64>| Figure { what: "w", key: "k", seconds };
        let ten = figure((1..=10).rev().map(f64::from).collect());
        assert_eq!(ten.percentile(50).to_bits(), 5.0_f64.to_bits());
        assert_eq!(ten.percentile(95).to_bits(), 10.0_f64.to_bits());
        assert_eq!(figure(vec![3.0]).percentile(50).to_bits(), 3.0_f64.to_bits());
        assert!(figure(Vec::new()).percentile(50).is_nan());
    }
}
