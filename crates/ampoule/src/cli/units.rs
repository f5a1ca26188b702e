//! Values of options with a unit: `2GiB`, `1h30m`.
//!
//! Invariant: a number without its unit is refused, so that nobody's `512` is taken for bytes.

use std::time::Duration;

use vm::Mebibytes;

/// Why a value is not of its option's form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnitError {
    /// No size.
    #[error("expected a number of MiB, GiB or TiB, such as `512MiB` or `2GiB`")]
    Size,
    /// A size that the option does not take.
    #[error("it is from {} to {}", shown(*.least), shown(*.most))]
    SizeRange {
        /// In bytes.
        least: u64,
        /// In bytes.
        most: u64,
    },
    /// No rate.
    #[error("expected a number of Mbit or Gbit, such as `10Mbit` or `1Gbit`, from 1 Mbit to 100 Gbit")]
    Rate,
    /// No time.
    #[error("expected numbers of ms, s, m, h or d, such as `90s`, `1h30m` or `7d`")]
    Time,
    /// No time at all.
    #[error("it has to be longer than nothing")]
    NoTime,
}

/// A size as a person reads it.
pub(crate) fn shown(bytes: u64) -> String {
    const MIB: u64 = 1 << 20;
    const GIB: u64 = 1 << 30;
    const TIB: u64 = 1 << 40;
    match bytes {
        TIB.. if bytes.is_multiple_of(TIB) => format!("{} TiB", bytes / TIB),
        GIB.. if bytes.is_multiple_of(GIB) => format!("{} GiB", bytes / GIB),
        _ => format!("{} MiB", bytes.div_ceil(MIB)),
    }
}

/// A time as a person reads it, to the second: `1h30m`.
pub(crate) fn shown_time(time: Duration) -> String {
    let seconds = time.as_secs();
    let parts =
        [(seconds / 86_400, "d"), (seconds / 3600 % 24, "h"), (seconds / 60 % 60, "m"), (seconds % 60, "s")];
    let text: String = parts
        .into_iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, unit)| format!("{number}{unit}"))
        .collect();
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// Bytes out of `2GiB`; the letters of a unit may be small, and its `iB` or `B` left out.
pub(crate) fn size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(UnitError::Size)?;
    let (number, unit) = text.split_at(digits);
    let shift = match unit.trim_start().to_ascii_lowercase().as_str() {
        "m" | "mi" | "mib" => 20,
        "g" | "gi" | "gib" => 30,
        "t" | "ti" | "tib" => 40,
        _ => return Err(UnitError::Size),
    };
    let number: u64 = number.parse().map_err(|_| UnitError::Size)?;
    number.checked_mul(1 << shift).ok_or(UnitError::Size)
}

fn size_within(text: &str, least: u64, most: u64) -> Result<u64, UnitError> {
    let bytes = size(text)?;
    if (least..=most).contains(&bytes) { Ok(bytes) } else { Err(UnitError::SizeRange { least, most }) }
}

/// Bits per second out of `10Mbit`.
pub(crate) fn rate(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or(UnitError::Rate)?;
    let (number, unit) = text.split_at(digits);
    let factor: u64 = match unit.trim_start().to_ascii_lowercase().as_str() {
        "mbit" => 1_000_000,
        "gbit" => 1_000_000_000,
        _ => return Err(UnitError::Rate),
    };
    let rate = number.parse::<u64>().ok().and_then(|number| number.checked_mul(factor));
    rate.filter(|rate| (1_000_000..=100_000_000_000).contains(rate)).ok_or(UnitError::Rate)
}

/// Memory of a VM.
pub(crate) fn memory(text: &str) -> Result<Mebibytes, UnitError> {
    let bytes = size_within(text, MIN_MEMORY.bytes(), MAX_MEMORY.bytes())?;
    u32::try_from(bytes >> 20).map(Mebibytes).map_err(|_| UnitError::Size)
}

/// Logical size of a scratch disk.
pub(crate) fn disk(text: &str) -> Result<u64, UnitError> {
    size_within(text, MIN_DISK, MAX_DISK)
}

/// Least memory of a VM: commands of the standard image's guest have 50 MiB of it.
pub(crate) const MIN_MEMORY: Mebibytes = Mebibytes(128);
/// Most memory of a VM.
pub(crate) const MAX_MEMORY: Mebibytes = Mebibytes(64 << 10);
/// Smallest scratch disk.
const MIN_DISK: u64 = 64 << 20;
/// Largest scratch disk; it is sparse on the host.
const MAX_DISK: u64 = 4 << 40;

/// A time out of `1h30m`.
pub(crate) fn time(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text.trim();
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or(UnitError::Time)?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit()).unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let millis: u64 = match unit.trim() {
            "ms" => 1,
            "s" => 1000,
            "m" | "min" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(UnitError::Time),
        };
        let number: u64 = number.parse().map_err(|_| UnitError::Time)?;
        let millis = number.checked_mul(millis).ok_or(UnitError::Time)?;
        total = total.checked_add(Duration::from_millis(millis)).ok_or(UnitError::Time)?;
        rest = after;
    }
    if text.trim().is_empty() { Err(UnitError::Time) } else { Ok(total) }
}

/// A time that is longer than nothing.
pub(crate) fn some_time(text: &str) -> Result<Duration, UnitError> {
    time(text).and_then(|time| if time.is_zero() { Err(UnitError::NoTime) } else { Ok(time) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_size_has_a_unit() {
        for (text, bytes) in [("512MiB", 512 << 20), ("2GiB", 2 << 30), ("1t", 1 << 40), (" 3 gi ", 3 << 30)]
        {
            assert_eq!(size(text), Ok(bytes), "{text}");
        }
        for bad in
            ["", "512", "GiB", "1.5GiB", "-1GiB", "1KiB", "1GB", "20000000TiB", "99999999999999999999MiB"]
        {
            assert_eq!(size(bad), Err(UnitError::Size), "{bad}");
        }
    }

    #[test]
    fn a_rate_has_a_unit() {
        for (text, bits) in [("10Mbit", 10_000_000), ("1 gbit", 1_000_000_000), ("100Gbit", 100_000_000_000)]
        {
            assert_eq!(rate(text), Ok(bits), "{text}");
        }
        for bad in
            ["10", "0Mbit", "101Gbit", "10MB", "10Mbit/s", "-1Mbit", "Mbit", "99999999999999999999Gbit"]
        {
            assert_eq!(rate(bad), Err(UnitError::Rate), "{bad}");
        }
    }

    #[test]
    fn a_size_that_is_not_taken_says_which_are() {
        assert_eq!(memory("256MiB"), Ok(Mebibytes(256)));
        assert_eq!(memory("127MiB").unwrap_err().to_string(), "it is from 128 MiB to 64 GiB");
        assert!(memory("65GiB").is_err());
        assert_eq!(disk("1GiB"), Ok(1 << 30));
        assert_eq!(disk("5TiB").unwrap_err().to_string(), "it is from 64 MiB to 4 TiB");
        assert_eq!(shown(3 << 19), "2 MiB");
    }

    #[test]
    fn a_time_has_units() {
        for (text, seconds) in [("90s", 90), ("1h30m", 5400), ("7d", 604_800), ("2min", 120), ("0s", 0)] {
            assert_eq!(time(text), Ok(Duration::from_secs(seconds)), "{text}");
        }
        assert_eq!(time("1s500ms"), Ok(Duration::from_millis(1500)));
        for bad in ["", "90", "s", "1w", "1h30", "-1s", "1.5h", "99999999999999999999s"] {
            assert_eq!(time(bad), Err(UnitError::Time), "{bad}");
        }
        assert_eq!(some_time("0s"), Err(UnitError::NoTime));
        for text in ["0s", "59s", "10m", "1h30m", "2d1s", "1d23h59m59s"] {
            assert_eq!(shown_time(time(text).unwrap()), text);
        }
    }
}
