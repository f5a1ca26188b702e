//! The rate of this host's time stamp counter, which a guest without a timer to measure it by has to be told.
//!
//! It is in this crate because reading the counter is `unsafe` in Rust.

use std::time::{Duration, Instant};

/// How long is measured: two readings of the clock are off by some 50 ns, 2.5 millionths of this.
const SPAN: Duration = Duration::from_millis(20);
const TRIES: u32 = 32;

/// Ticks of the time stamp counter in a millisecond; `None` where it does not run at one rate all the time.
/// Blocks its thread for 20 ms.
#[must_use]
pub fn tsc_khz() -> Option<u32> {
    const INVARIANT: u32 = 1 << 8;
    const LEAF: u32 = 0x8000_0007;
    let highest = std::arch::x86_64::__cpuid(0x8000_0000).eax;
    if highest < LEAF || std::arch::x86_64::__cpuid(LEAF).edx & INVARIANT == 0 {
        return None;
    }
    let (first, began) = pair();
    std::thread::sleep(SPAN);
    let (last, ended) = pair();
    let nanos = ended.duration_since(began).as_nanos();
    let khz = u128::from(last.checked_sub(first)?) * 1_000_000 / nanos.max(1);
    u32::try_from(khz).ok().filter(|khz| *khz > 0)
}

/// A reading of the counter and the clock's time at it: of several, the one that took least time.
fn pair() -> (u64, Instant) {
    let mut best = (u64::MAX, 0, Instant::now());
    for _ in 0..TRIES {
        let before = counter();
        let now = Instant::now();
        let after = counter();
        let width = after.saturating_sub(before);
        if width < best.0 {
            best = (width, before + width / 2, now);
        }
    }
    (best.1, best.2)
}

fn counter() -> u64 {
    // SAFETY: every x86_64 processor has the instruction; it touches nothing but two registers.
    unsafe { std::arch::x86_64::_rdtsc() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_measurements_agree() {
        let (Some(one), Some(other)) = (tsc_khz(), tsc_khz()) else { return };
        assert!(one.abs_diff(other) < one / 100, "{one} {other}");
    }
}
