//! One row after the other: the guest's times, clamped.
//!
//! Invariant: no time that leaves here is before one that left earlier, nor, while the host's clock is not
//! set back, after the moment at which it left. A guest can therefore date a row at most back to the row
//! before it.

use std::sync::atomic::{AtomicI64, Ordering};

use jiff::Timestamp;

/// The times of one VM's rows.
#[derive(Debug)]
pub(crate) struct Clock {
    /// Nanoseconds since 1970 of the last row.
    last: AtomicI64,
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

impl Clock {
    /// No row is before now.
    pub(crate) fn starting_now() -> Self {
        Self { last: AtomicI64::new(nanoseconds(Timestamp::now())) }
    }

    /// The time of a row that the guest dates `guest_ns` and that arrives now.
    pub(crate) fn guest_row(&self, guest_ns: u64) -> Timestamp {
        self.row(guest_ns, Timestamp::now())
    }

    /// The time of a row that the host writes now.
    pub(crate) fn host_row(&self) -> Timestamp {
        self.row(u64::MAX, Timestamp::now())
    }

    fn row(&self, guest_ns: u64, arrival: Timestamp) -> Timestamp {
        let wanted = i64::try_from(guest_ns).unwrap_or(i64::MAX).min(nanoseconds(arrival));
        let row = self.last.fetch_max(wanted, Ordering::AcqRel).max(wanted);
        Timestamp::from_nanosecond(i128::from(row)).unwrap_or(arrival)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    #[test]
    fn a_guests_time_stays_between_the_row_before_and_its_arrival() {
        let clock = Clock { last: AtomicI64::new(nanoseconds(at(100))) };
        let second = 1_000_000_000;
        assert_eq!(clock.row(105 * second, at(110)), at(105), "as the guest says");
        assert_eq!(clock.row(0, at(111)), at(105), "not before the row before");
        assert_eq!(clock.row(u64::MAX, at(112)), at(112), "not after its arrival");
        assert_eq!(clock.row(1, at(50)), at(112), "not back, even if the host's clock is");
    }
}
