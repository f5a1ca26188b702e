//! The times of `schedule`.
//!
//! Purpose: whether the server will take a cron expression: five fields, or a word such as `@daily`.
//! Owner: the lowering. Invariant: as strict as the server, which wants 0 to 6 for the day of the week.

use std::fmt;

/// A cron expression that the server takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cron {
    text: String,
    never: bool,
}

/// What is wrong with a cron expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadCron {
    /// First byte of the fault in the expression's text.
    pub(crate) start: usize,
    /// One past its last byte.
    pub(crate) end: usize,
    /// What it is.
    pub(crate) message: String,
    /// What to write instead.
    pub(crate) help: String,
}

struct Field {
    name: &'static str,
    low: u32,
    high: u32,
    names: &'static [&'static str],
}

const MONTHS: [&str; 12] =
    ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

const DAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

const FIELDS: [Field; 5] = [
    Field { name: "minute", low: 0, high: 59, names: &[] },
    Field { name: "hour", low: 0, high: 23, names: &[] },
    Field { name: "day of the month", low: 1, high: 31, names: &[] },
    Field { name: "month", low: 1, high: 12, names: &MONTHS },
    Field { name: "day of the week", low: 0, high: 6, names: &DAYS },
];

const WORDS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

const EXAMPLE: &str = "five fields are minute, hour, day, month and day of the week: `30 5 * * 1-5`";

impl Cron {
    /// Reads an expression.
    pub(crate) fn parse(text: &str) -> Result<Cron, BadCron> {
        let mut rest = text;
        if ["TZ=", "CRON_TZ="].iter().any(|zone| text.starts_with(zone)) {
            let Some((zone, times)) = text.split_once(' ') else {
                return Err(bad(text, text, "there is only a time zone", EXAMPLE));
            };
            if zone.ends_with('=') || zone.contains("..") {
                return Err(bad(text, zone, "this is no time zone", "write one such as `TZ=Europe/Berlin`"));
            }
            rest = times.trim();
        }
        let never = if rest.starts_with('@') {
            word(text, rest)?;
            false
        } else {
            never(fields(text, rest)?)
        };
        Ok(Cron { text: text.to_owned(), never })
    }

    /// Whether there is no such time in any year: the 31st of February.
    pub fn never(&self) -> bool {
        self.never
    }
}

/// As written.
impl fmt::Display for Cron {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn word(text: &str, rest: &str) -> Result<(), BadCron> {
    if WORDS.contains(&rest) {
        return Ok(());
    }
    if let Some(every) = rest.strip_prefix("@every ") {
        return match duration(every) {
            true => Ok(()),
            false => Err(bad(text, every, "this is no duration", "write one such as `1h30m`")),
        };
    }
    let help = match doc::did_you_mean(rest, WORDS) {
        Some(near) => format!("did you mean `{near}`?"),
        None => format!("there are {} and @every with a duration", WORDS.join(", ")),
    };
    Err(bad(text, rest, format!("there is no `{rest}`"), help))
}

/// What a field lets through.
#[derive(Clone, Copy, Default)]
struct Values {
    /// Bit n is the value n.
    bits: u64,
    /// A `*` without a step is in it.
    all: bool,
}

fn fields(text: &str, rest: &str) -> Result<[Values; 5], BadCron> {
    let found: Vec<&str> = rest.split_whitespace().collect();
    if found.len() != FIELDS.len() {
        let count = match found.len() {
            0 => "the cron expression is empty".to_owned(),
            1 => "a cron expression has five fields, this one has 1".to_owned(),
            count => format!("a cron expression has five fields, this one has {count}"),
        };
        return Err(bad(text, rest, count, EXAMPLE));
    }
    let mut values = [Values::default(); 5];
    for ((written, field), values) in found.iter().zip(&FIELDS).zip(&mut values) {
        for range in written.split(',').filter(|range| !range.is_empty()) {
            let Values { bits, all } = field.range(text, range)?;
            values.bits |= bits;
            values.all |= all;
        }
    }
    Ok(values)
}

/// Whether the fields have no time in common. Where both days are restricted the server takes either.
fn never([minute, hour, day, month, weekday]: [Values; 5]) -> bool {
    const LENGTHS: [u32; 12] = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let has_day = |(at, length): (u32, u32)| {
        // bits 1 to length
        month.bits & (1 << at) != 0 && day.bits & ((2 << length) - 2) != 0
    };
    let by_day = (1..).zip(LENGTHS).any(has_day);
    let days = match day.all || weekday.all {
        true => by_day && weekday.bits != 0,
        false => by_day || weekday.bits != 0,
    };
    minute.bits == 0 || hour.bits == 0 || month.bits == 0 || !days
}

impl Field {
    fn range(&self, text: &str, range: &str) -> Result<Values, BadCron> {
        let (values, step) = match range.split_once('/') {
            Some((values, step)) => (values, Some(step)),
            None => (range, None),
        };
        let every = match step.map(|step| (step, number(step).filter(|step| *step > 0))) {
            None => 1,
            Some((_, Some(every))) => every,
            Some((step, None)) => {
                let at = if step.is_empty() { range } else { step };
                return Err(bad(text, at, "this is no step", "a step is a number from 1 on, such as `*/15`"));
            }
        };
        let stepped = |first: u32, last: u32, all: bool| {
            let each = (first..=last).step_by(usize::try_from(every).unwrap_or(usize::MAX));
            Values { bits: each.fold(0, |bits, value| bits | 1 << value), all: all && every == 1 }
        };
        let (low, high) = match values.split_once('-') {
            Some((low, high)) => (low, Some(high)),
            None => (values, None),
        };
        if matches!(low, "*" | "?") {
            return Ok(stepped(self.low, self.high, true));
        }
        let at = |part: &str| if part.is_empty() { range.to_owned() } else { part.to_owned() };
        let first = self.value(low).ok_or_else(|| self.bad(text, low, range))?;
        let Some(high) = high else {
            return Ok(stepped(first, if step.is_some() { self.high } else { first }, false));
        };
        let last = self.value(high).ok_or_else(|| self.bad(text, high, range))?;
        if first > last {
            let help = format!("write `{}-{}`, or two ranges with a `,` between them", at(high), at(low));
            return Err(bad(text, range, "the range ends before it begins", help));
        }
        Ok(stepped(first, last, false))
    }

    fn value(&self, written: &str) -> Option<u32> {
        let lower = written.to_ascii_lowercase();
        let named = self.names.iter().position(|name| *name == lower);
        match named.and_then(|at| u32::try_from(at).ok()) {
            Some(at) => Some(at + self.low),
            None => number(written).filter(|value| (self.low..=self.high).contains(value)),
        }
    }

    fn bad(&self, text: &str, written: &str, range: &str) -> BadCron {
        let part = if written.is_empty() { range } else { written };
        let help = match self.names {
            _ if self.high == 6 && written == "7" => "write `0` or `SUN` for Sunday".to_owned(),
            [] => format!("it is a number from {} to {}", self.low, self.high),
            [first, .., last] => {
                let names = format!("{} to {}", first.to_ascii_uppercase(), last.to_ascii_uppercase());
                format!("it is a number from {} to {}, or a name from {names}", self.low, self.high)
            }
            [only] => format!("it is {only}"),
        };
        bad(text, part, format!("`{part}` is no {}", self.name), help)
    }
}

/// As the server reads it: a sign in front is fine.
fn number(text: &str) -> Option<u32> {
    text.parse().ok()
}

/// A duration as Go writes it: `1h30m`, `1.5h`.
fn duration(text: &str) -> bool {
    let mut rest = text.strip_prefix(['+', '-']).unwrap_or(text);
    if rest == "0" {
        return true;
    }
    if rest.is_empty() {
        return false;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (amount, behind) = rest.split_at(digits);
        if !amount.contains(|c: char| c.is_ascii_digit()) || amount.matches('.').count() > 1 {
            return false;
        }
        let units = ["ns", "us", "µs", "μs", "ms", "s", "m", "h"];
        let Some(unit) = units.iter().find(|unit| behind.starts_with(**unit)) else { return false };
        rest = &behind[unit.len()..];
    }
    true
}

/// A fault at a part of the text, which is a slice of it.
fn bad(text: &str, part: &str, message: impl Into<String>, help: impl Into<String>) -> BadCron {
    let offset = (part.as_ptr() as usize).saturating_sub(text.as_ptr() as usize);
    let start = if offset <= text.len() { offset } else { 0 };
    let end = (start + part.len()).min(text.len());
    BadCron { start, end, message: message.into(), help: help.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_ones() {
        for text in [
            "* * * * *",
            "0 5 * * 1",
            "*/15 0-5,22 1,15 JAN-jun MON-Fri",
            "5/10 ? * ? ?",
            "0 0 31 12 6",
            "  0\t0  1 1 0 ",
            "0,,5 0 * * *",
            "0-59/2 * * * sun",
            "@daily",
            "@every 1h30m",
            "@every 1.5h",
            "TZ=Europe/Berlin 0 5 * * *",
            "CRON_TZ=UTC @hourly",
        ] {
            assert!(Cron::parse(text).is_ok(), "{text}: {:?}", Cron::parse(text));
        }
    }

    #[test]
    fn times_that_never_come() {
        for text in ["0 0 31 2 *", "0 0 30,31 FEB ?", "0 0 31 2,4,6,9-11/2 *", "0 0 31 4/7 *", ", * * * *"] {
            assert!(Cron::parse(text).expect(text).never(), "{text}");
        }
        for text in [
            "0 0 29 2 *",
            "0 0 31 2 1",
            "0 0 31 2 */2",
            "0 0 31 */2 *",
            "0 0 28-31 2 *",
            "@daily",
            "* * * * *",
            "59 23 31 12 6",
        ] {
            assert!(!Cron::parse(text).expect(text).never(), "{text}");
        }
    }

    #[test]
    fn bad_ones() {
        let table = [
            ("", "", "the cron expression is empty"),
            ("5", "5", "a cron expression has five fields, this one has 1"),
            ("0 0 5 * * *", "0 0 5 * * *", "a cron expression has five fields, this one has 6"),
            ("60 * * * *", "60", "`60` is no minute"),
            ("0 24 * * *", "24", "`24` is no hour"),
            ("0 0 0 * *", "0", "`0` is no day of the month"),
            ("0 0 * 13 *", "13", "`13` is no month"),
            ("0 0 * * 7", "7", "`7` is no day of the week"),
            ("0 0 * * MONDAY", "MONDAY", "`MONDAY` is no day of the week"),
            ("0 0 * * FRI-MON", "FRI-MON", "the range ends before it begins"),
            ("*/0 * * * *", "0", "this is no step"),
            ("*/ * * * *", "*/", "this is no step"),
            ("1/2/3 * * * *", "2/3", "this is no step"),
            ("1-2-3 * * * *", "2-3", "`2-3` is no minute"),
            ("-5 * * * *", "-5", "`-5` is no minute"),
            ("@dayly", "@dayly", "there is no `@dayly`"),
            ("@every day", "day", "this is no duration"),
            ("@every", "@every", "there is no `@every`"),
            ("TZ=Europe/Berlin", "TZ=Europe/Berlin", "there is only a time zone"),
            ("TZ= 0 0 * * *", "TZ=", "this is no time zone"),
        ];
        for (text, part, message) in table {
            let bad = Cron::parse(text).expect_err(text);
            assert_eq!((&text[bad.start..bad.end], bad.message.as_str()), (part, message), "{text}");
        }
        let sunday = Cron::parse("0 0 * * 7").expect_err("7");
        assert_eq!(sunday.start, 8);
        assert_eq!(sunday.help, "write `0` or `SUN` for Sunday");
    }
}
