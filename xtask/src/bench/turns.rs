//! Whose turn it was between two steps: the host's, the agent's, or the step's own command's.
//!
//! Purpose: the engine's own cost of a step, from what the connection to the agent logs at debug. A moment at which
//! no request waits for its answer and no command runs is the host's.
//!
//! Invariant: a step is what lies between the starts of two commands, so that its three parts are all of it.

use std::{collections::BTreeMap, time::Duration};

/// What the log must hold: a value of `$AMPOULE_LOG`.
pub(super) const LEVELS: &str = "off,sandbox::connection=debug";

/// The parts of one step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Turns {
    /// Nothing was asked of the guest.
    pub(super) host: Duration,
    /// The agent had a request to answer.
    pub(super) agent: Duration,
    /// The command ran.
    pub(super) command: Duration,
    /// Requests.
    pub(super) requests: u32,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Busy {
    Agent,
    Command,
}

/// The steps of a log without colours, in their order. The first command begins the first one, and what follows
/// the start of the last is none.
pub(super) fn steps(log: &str) -> Vec<Turns> {
    let mut busy: BTreeMap<(&str, u64), Busy> = BTreeMap::new();
    let mut starts: BTreeMap<u64, u64> = BTreeMap::new();
    let (mut steps, mut now) = (Vec::new(), Turns::default());
    let (mut last, mut begun) = (None, false);
    for (at, text) in log.lines().filter_map(entry) {
        // over midnight it counts as nothing
        let passed = last.map_or(Duration::ZERO, |last| at.saturating_sub(last));
        last = Some(at);
        let turn = if busy.values().any(|busy| *busy == Busy::Agent) {
            &mut now.agent
        } else if busy.is_empty() {
            &mut now.host
        } else {
            &mut now.command
        };
        *turn += passed;
        let word = |name: &str| text.split(' ').find_map(|word| word.strip_prefix(name)?.strip_prefix('='));
        let number = |name: &str| word(name).and_then(|number| number.parse::<u64>().ok());
        match (text.split(' ').next(), number("request"), number("exec")) {
            // it is asked beside the steps, by the clock
            (Some("asked"), ..) if word("what") == Some("\"ping\"") => {}
            (Some("asked"), Some(request), exec) => {
                if let Some(exec) = exec {
                    if begun {
                        steps.push(now);
                    }
                    (begun, now) = (true, Turns::default());
                    starts.insert(request, exec);
                }
                now.requests += 1;
                busy.insert(("request", request), Busy::Agent);
            }
            (Some("answered"), Some(request), _) => {
                busy.remove(&("request", request));
                if let (Some(exec), Some("false")) = (starts.remove(&request), word("failed")) {
                    busy.insert(("exec", exec), Busy::Command);
                }
            }
            (Some("exited"), _, Some(exec)) => drop(busy.remove(&("exec", exec))),
            _ => {}
        }
    }
    steps
}

/// A line of the connection's, with its time of the day.
fn entry(line: &str) -> Option<(Duration, &str)> {
    let (at, rest) = line.split_once(' ')?;
    let (_, text) = rest.trim_start().strip_prefix("DEBUG sandbox::connection")?.split_once(": ")?;
    let (clock, micros) = at.split_once('T')?.1.trim_end_matches('Z').split_once('.')?;
    let seconds = clock.split(':').try_fold(0, |sum, part| Some(sum * 60 + part.parse::<u64>().ok()?))?;
    Some((Duration::from_secs(seconds) + Duration::from_micros(micros.parse().ok()?), text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_moment_is_of_one_of_the_three() {
        let line = |ms: u32, text: &str| {
            format!("2026-01-01T10:00:00.{:06}Z DEBUG sandbox::connection::task: {text}\n", ms * 1000)
        };
        let log = [
            line(0, "asked request=1 what=\"exec\" exec=1"),
            line(10, "answered request=1 failed=false"),
            line(12, "asked request=2 what=\"ping\""),
            line(14, "answered request=2 failed=false"),
            line(30, "exited exec=1"),
            "a line of somebody else\n".to_owned(),
            line(31, "asked request=3 what=\"copy-out\""),
            line(41, "answered request=3 failed=false"),
            line(43, "asked request=4 what=\"exec\" exec=2"),
            line(44, "answered request=4 failed=true"),
            line(49, "asked request=5 what=\"exec\" exec=3"),
        ];
        let ms = Duration::from_millis;
        let first = Turns { host: ms(3), agent: ms(20), command: ms(20), requests: 2 };
        let refused = Turns { host: ms(5), agent: ms(1), command: ms(0), requests: 1 };
        assert_eq!(steps(&log.concat()), [first, refused]);
    }
}
