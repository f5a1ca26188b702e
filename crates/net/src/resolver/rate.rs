//! How often something may be done: so many at once, and so many a second.

use std::time::Duration;

use tokio::time::Instant;

/// A bucket of tokens that fills by itself. It may be overdrawn: who takes a token ahead waits for it.
#[derive(Debug)]
pub(super) struct Bucket {
    per_second: f64,
    most: f64,
    tokens: f64,
    filled: Instant,
}

impl Bucket {
    pub(super) fn new(per_second: u32, burst: u32) -> Self {
        let (per_second, most) = (f64::from(per_second.max(1)), f64::from(burst.max(1)));
        Self { per_second, most, tokens: most, filled: Instant::now() }
    }

    /// Takes a token and says how long to wait for it; none, and nothing taken, if that would be longer than this.
    pub(super) fn take(&mut self, longest: Duration) -> Option<Duration> {
        let now = Instant::now();
        let past = now.saturating_duration_since(self.filled).as_secs_f64();
        self.tokens = (self.tokens + past * self.per_second).min(self.most);
        self.filled = now;
        let wait = Duration::from_secs_f64(((1.0 - self.tokens) / self.per_second).max(0.0));
        if wait > longest {
            return None;
        }
        self.tokens -= 1.0;
        Some(wait)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_burst_is_free_then_the_rate_holds() {
        let mut bucket = Bucket::new(10, 5);
        let second = Duration::from_secs(1);
        for _ in 0..5 {
            assert_eq!(bucket.take(second), Some(Duration::ZERO));
        }
        let waits: Vec<_> = (0..12).map_while(|_| bucket.take(second)).collect();
        assert_eq!(waits.len(), 10, "{waits:?}");
        assert_eq!(waits.last(), Some(&second));
        assert_eq!(bucket.take(second), None);
        tokio::time::advance(Duration::from_secs(100)).await;
        let free = (0..100).filter(|_| bucket.take(Duration::ZERO).is_some()).count();
        assert_eq!(free, 5, "more than a burst was saved up");
    }
}
