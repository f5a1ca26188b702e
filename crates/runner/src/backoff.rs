//! Waiting between tries: twice as long each time, up to a limit, with a spread.
//!
//! Invariant: a success starts it anew; two runners that lost the same server do not come back in step.

use std::time::Duration;

/// How long to wait before the next try.
#[derive(Clone, Debug)]
pub(crate) struct Backoff {
    first: Duration,
    most: Duration,
    tries: u32,
    seed: u64,
}

impl Backoff {
    pub(crate) fn new(first: Duration, most: Duration) -> Self {
        let seed = uuid::Uuid::now_v7().as_u128();
        #[expect(clippy::cast_possible_truncation, reason = "the random half of the id")]
        let seed = seed as u64 | 1;
        Self { first, most, tries: 0, seed }
    }

    /// The next wait: between half of its length and all of it.
    pub(crate) fn next(&mut self) -> Duration {
        let whole =
            self.first.saturating_mul(1_u32.checked_shl(self.tries).unwrap_or(u32::MAX)).min(self.most);
        self.tries = (self.tries + 1).min(31);
        // xorshift: nobody guesses at it, it only has to differ
        self.seed ^= self.seed << 13;
        self.seed ^= self.seed >> 7;
        self.seed ^= self.seed << 17;
        let part = u32::try_from(self.seed % 1000).unwrap_or_default();
        whole / 2 + whole.mul_f64(f64::from(part) / 2000.0)
    }

    pub(crate) fn reset(&mut self) {
        self.tries = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_limit_and_start_anew() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(5));
        let mut wait = || backoff.next();
        let (first, second) = (wait(), wait());
        assert!((50..=100).contains(&first.as_millis()) && (100..=200).contains(&second.as_millis()));
        for _ in 0..100 {
            assert!(wait() <= Duration::from_secs(5));
        }
        assert!(wait() >= Duration::from_millis(2500));
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
