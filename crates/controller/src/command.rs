//! One command in a sandbox, and its answer: the four ways to end, told apart, each with the partial output.
//!
//! | how | `outcome` | `exit_code` | beside |
//! |---|---|---|---|
//! | it ended | `exited` | its own | |
//! | no such program | `not_found` | 127 | the agent's words in `stderr` |
//! | it may not be run | `not_executable` | 126 | the same |
//! | its time was over | `timed_out` | 124 | `timed_out: true` |
//! | a signal ended it | `signalled` | 128 + number | `signal` |
//!
//! A client of forkd reads `stdout`, `stderr` and `exit_code`; the codes are those of a shell, and of timeout(1).
//!
//! Invariants
//! - Of each output at most [`MAX_OUTPUT`] bytes are kept; what comes later is read and dropped, so that a
//!   command that prints more still ends by itself.
//! - A guest whose agent does not end a command in time costs its client [`GRACE`], not for ever.

use std::time::Duration;

use sandbox::{Account, ExecRequest, FailureKind, OutputMode, Running, Sandbox, Stdin, Stream};
use serde::Serialize;
use tokio::time::{Instant, timeout_at};

use crate::{failure::Failure, guest};

/// Most bytes that are kept of each output.
pub(crate) const MAX_OUTPUT: usize = 8 << 20;
/// How much longer than its time-out a command is waited for: the agent ends it, and that takes a moment.
const GRACE: Duration = Duration::from_secs(10);

/// What runs. Arguments may hold secrets, so it cannot be printed.
pub(crate) struct Command {
    pub(crate) args: Vec<String>,
    pub(crate) stdin: Stdin,
    pub(crate) timeout: Duration,
}

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome {
    Exited,
    NotFound,
    NotExecutable,
    TimedOut,
    Signalled,
}

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    pub(crate) stdout: String,
    pub(crate) stderr: String,
    pub(crate) exit_code: i32,
    pub(crate) outcome: Outcome,
    pub(crate) timed_out: bool,
    pub(crate) signal: Option<i32>,
    pub(crate) truncated: bool,
}

/// What a command printed so far.
#[derive(Debug, Default)]
struct Printed {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

impl Printed {
    fn add(&mut self, stream: Stream, bytes: &[u8]) {
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = MAX_OUTPUT.saturating_sub(kept.len());
        self.truncated |= bytes.len() > room;
        kept.extend(bytes.iter().take(room));
    }

    fn texts(self) -> (String, String) {
        (text(self.stdout), text(self.stderr))
    }

    fn answer(self, exit_code: i32, outcome: Outcome, signal: Option<i32>) -> Answer {
        let truncated = self.truncated;
        let (stdout, stderr) = self.texts();
        let timed_out = outcome == Outcome::TimedOut;
        Answer { stdout, stderr, exit_code, outcome, timed_out, signal, truncated }
    }
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

/// What a client may not ask for: the guest would refuse it too, in other words.
pub(crate) fn check(args: &[String]) -> Result<(), Failure> {
    match args.first() {
        None => Err(Failure::Args("is empty: there is no program")),
        Some(program) if program.is_empty() => Err(Failure::Args("begins with an empty program")),
        Some(_) if args.iter().any(|arg| arg.contains('\0')) => Err(Failure::Args("has a zero byte")),
        Some(_) => Ok(()),
    }
}

/// Runs it to its end. Dropping the future kills it.
pub(crate) async fn run(sandbox: &Sandbox, command: Command) -> Result<Answer, Failure> {
    let until = Instant::now() + command.timeout + GRACE;
    let request = ExecRequest {
        argv: command.args,
        env: guest::environment(sandbox.info()),
        cwd: guest::DIRECTORY.to_owned(),
        user: Account::ROOT,
        stdin: command.stdin,
        output: OutputMode::Separate,
        timeout: Some(command.timeout),
    };
    let mut printed = Printed::default();
    let running = match timeout_at(until, sandbox.exec(request)).await {
        Ok(started) => started,
        Err(_) => return Ok(printed.answer(124, Outcome::TimedOut, None)),
    };
    let running = match running {
        Ok(running) => running,
        Err(sandbox::Error::Guest { kind: FailureKind::NotFound, message }) => {
            printed.add(Stream::Stderr, format!("{message}\n").as_bytes());
            return Ok(printed.answer(127, Outcome::NotFound, None));
        }
        Err(sandbox::Error::Guest { kind: FailureKind::Permission, message }) => {
            printed.add(Stream::Stderr, format!("{message}\n").as_bytes());
            return Ok(printed.answer(126, Outcome::NotExecutable, None));
        }
        Err(error) => return Err(error.into()),
    };
    match timeout_at(until, finish(running, &mut printed)).await {
        Err(_) => Ok(printed.answer(124, Outcome::TimedOut, None)),
        Ok(Ok(exited)) if exited.timed_out => Ok(printed.answer(124, Outcome::TimedOut, None)),
        Ok(Ok(exited)) => Ok(match (exited.code, exited.signal) {
            (_, Some(signal)) => printed.answer(128 + signal, Outcome::Signalled, Some(signal)),
            (Some(code), None) => printed.answer(code, Outcome::Exited, None),
            (None, None) => printed.answer(-1, Outcome::Exited, None),
        }),
        Ok(Err(source)) => {
            let (stdout, stderr) = printed.texts();
            Err(Failure::CutOff { stdout, stderr, source })
        }
    }
}

async fn finish(mut running: Running, printed: &mut Printed) -> sandbox::Result<sandbox::Exited> {
    while let Some(chunk) = running.output.next().await? {
        printed.add(chunk.stream, &chunk.bytes);
    }
    running.exit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_has_an_end_and_is_text() {
        let mut printed = Printed::default();
        printed.add(Stream::Stdout, &vec![b'a'; MAX_OUTPUT - 1]);
        assert!(!printed.truncated);
        printed.add(Stream::Stderr, b"\xff!");
        printed.add(Stream::Stdout, b"bc");
        printed.add(Stream::Stdout, b"d");
        let answer = printed.answer(0, Outcome::Exited, None);
        assert!(answer.truncated);
        assert_eq!(answer.stdout.len(), MAX_OUTPUT);
        assert!(answer.stdout.ends_with("ab"));
        assert_eq!(answer.stderr, "\u{fffd}!");
    }

    #[test]
    fn a_command_has_a_program() {
        let args = |words: &[&str]| words.iter().map(|&word| word.to_owned()).collect::<Vec<_>>();
        assert!(check(&args(&["true"])).is_ok());
        assert!(check(&args(&["echo", ""])).is_ok());
        for bad in [&[][..], &[""], &["echo", "a\0b"]] {
            assert!(check(&args(bad)).is_err(), "{bad:?}");
        }
    }
}
