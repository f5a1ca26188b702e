//! One command in one sandbox: what it printed and how it ended.
//!
//! Invariants
//! - Of each output that is kept at most a given number of bytes is; what comes later is read and dropped, so
//!   that a command that prints more still ends by itself. Of all members together it is [`KEPT_OF_ALL`].
//! - A guest whose agent does not end a command in time is waited for [`GRACE`] longer, not for ever; the time
//!   in which a reader of ours was slow is not counted.

use std::time::Duration;

use job::rows::Assembler;
use sandbox::{
    Account, Chunk, ExecRequest, Exited, FailureKind, Gone, OutputMode, Running, Sandbox, Stdin, Stream,
};
use serde::Serialize;
use tokio::time::{Instant, sleep_until};

use super::rows::Row;
use crate::{
    class::End,
    sink::{Out, millis},
};

/// Most bytes that are kept of each output.
const KEPT_OF_ONE: usize = 8 << 20;
/// Most bytes that are kept of all outputs of all members.
const KEPT_OF_ALL: usize = 256 << 20;
/// How much longer than its time-out a command is waited for: the agent ends it, and that takes a moment.
const GRACE: Duration = Duration::from_secs(10);
/// A row up to this many bytes is shown as one; a longer one is cut.
const LONGEST_ROW: usize = 64 << 10;

/// Most bytes that are kept of each output, of so many members.
pub(super) fn most_kept(count: u16) -> usize {
    (KEPT_OF_ALL / (2 * usize::from(count.max(1)))).min(KEPT_OF_ONE)
}

/// What every member does.
pub(super) struct Task {
    pub(super) command: Vec<String>,
    pub(super) count: u16,
    pub(super) timeout: Option<Duration>,
    pub(super) report: Report,
}

/// What becomes of what they print.
pub(super) enum Report {
    /// It is shown.
    Rows(Out<Row>),
    /// It is kept.
    Kept { most: usize },
}

/// One that ran.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) index: u16,
    id: String,
    pub(super) how: How,
    kept: Kept,
    duration: Duration,
}

/// How a command ended.
#[derive(Debug)]
pub(super) enum How {
    /// By itself.
    Exited(u8),
    /// There is no such program, or it cannot be run: the code that a shell gives.
    NotStarted { code: u8, message: String },
    /// By a signal.
    Signalled(i32),
    /// Its time was over.
    TimedOut,
    /// The command, or what it did, ended its sandbox.
    SwitchedOff(Gone),
    /// The sandbox went.
    Lost(sandbox::Error),
}

impl How {
    pub(super) fn of(exited: Exited) -> Self {
        match exited {
            Exited { timed_out: true, .. } => Self::TimedOut,
            Exited { signal: Some(signal), .. } => Self::Signalled(signal),
            // what no process can end with is the guest's invention
            Exited { code, .. } => {
                Self::Exited(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX))
            }
        }
    }

    /// As what it counts where an exit code is made of it; none where there is nothing to compare.
    pub(super) fn counts_as(&self) -> Option<u8> {
        match self {
            // as a job that does it
            Self::SwitchedOff(_) => Some(End::Failed.code()),
            how => how.code(),
        }
    }

    fn code(&self) -> Option<u8> {
        match self {
            Self::Exited(code) | Self::NotStarted { code, .. } => Some(*code),
            Self::Signalled(signal) => {
                Some(u8::try_from(*signal).ok().and_then(|signal| signal.checked_add(128)).unwrap_or(u8::MAX))
            }
            Self::TimedOut => Some(124),
            Self::SwitchedOff(_) | Self::Lost(_) => None,
        }
    }

    /// What is said of it; nothing of a success.
    pub(super) fn told(&self, timeout: Option<Duration>) -> Option<String> {
        match self {
            Self::Exited(0) => None,
            Self::Exited(code) => Some(format!("exit code {code}")),
            Self::NotStarted { message, .. } => Some(message.clone()),
            Self::Signalled(signal) => Some(format!("ended by signal {signal}")),
            Self::TimedOut => {
                let time = timeout.unwrap_or_default().as_secs_f64();
                Some(format!("killed: its time of {time} s was over"))
            }
            Self::SwitchedOff(gone) => Some(format!("{gone}: the command switched it off or crashed it")),
            Self::Lost(error) => Some(error.to_string()),
        }
    }
}

/// What was kept of the outputs.
#[derive(Debug, Default)]
struct Kept {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
    truncated: bool,
}

impl Kept {
    fn add(&mut self, stream: Stream, bytes: &[u8], most: usize) {
        let kept = match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        };
        let room = most.saturating_sub(kept.len());
        self.truncated |= bytes.len() > room;
        kept.extend(bytes.iter().take(room));
    }
}

/// A member as `--json` shows it; a promise of the documentation.
#[derive(Serialize)]
pub(super) struct Json<'a> {
    index: u16,
    id: &'a str,
    exit_code: Option<u8>,
    signal: Option<i32>,
    timed_out: bool,
    stdout: std::borrow::Cow<'a, str>,
    stderr: std::borrow::Cow<'a, str>,
    truncated: bool,
    duration_ms: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<String>,
}

impl Member {
    /// As what it counts where the worst is looked for; none where there is nothing to compare.
    pub(super) fn counts_as(&self) -> Option<u8> {
        self.how.counts_as()
    }

    pub(super) fn json(&self) -> Json<'_> {
        Json {
            index: self.index,
            id: &self.id,
            exit_code: self.how.code(),
            signal: if let How::Signalled(signal) = self.how { Some(signal) } else { None },
            timed_out: matches!(self.how, How::TimedOut),
            stdout: String::from_utf8_lossy(&self.kept.stdout),
            stderr: String::from_utf8_lossy(&self.kept.stderr),
            truncated: self.kept.truncated,
            duration_ms: millis(self.duration),
            error: match &self.how {
                How::NotStarted { .. } | How::SwitchedOff(_) | How::Lost(_) => self.how.told(None),
                How::Exited(_) | How::Signalled(_) | How::TimedOut => None,
            },
        }
    }
}

impl Task {
    /// Runs the command to its end. Dropping the future kills it.
    pub(super) async fn run(&self, index: u16, sandbox: &Sandbox) -> Member {
        let begun = Instant::now();
        let mut printed = Printed::new(index, &self.report);
        let how = match self.command(index, sandbox, &mut printed).await {
            Ok(how) => how,
            Err(sandbox::Error::Gone(gone)) if gone.by_guest() => How::SwitchedOff(gone),
            Err(error) => How::Lost(error),
        };
        let duration = begun.elapsed();
        let kept = printed.finish(how.told(self.timeout)).await;
        Member { index, id: super::name(sandbox.id()), how, kept, duration }
    }

    async fn command(
        &self,
        index: u16,
        sandbox: &Sandbox,
        printed: &mut Printed<'_>,
    ) -> sandbox::Result<How> {
        let mut until = self.timeout.and_then(|time| Instant::now().checked_add(time + GRACE));
        let running = tokio::select! {
            started = sandbox.exec(self.request(index, sandbox)) => started,
            () = at(until) => return Ok(How::TimedOut),
        };
        let mut running: Running = match running {
            Ok(running) => running,
            Err(sandbox::Error::Guest { kind: FailureKind::NotFound, message }) => {
                return Ok(How::NotStarted { code: 127, message });
            }
            Err(sandbox::Error::Guest { kind: FailureKind::Permission, message }) => {
                return Ok(How::NotStarted { code: 126, message });
            }
            Err(error) => return Err(error),
        };
        loop {
            let chunk = tokio::select! {
                biased;
                chunk = running.output.next() => chunk?,
                () = at(until) => return Ok(How::TimedOut),
            };
            let Some(chunk) = chunk else { break };
            let begun = Instant::now();
            printed.add(chunk).await;
            until = until.map(|until| until + begun.elapsed());
        }
        tokio::select! {
            exited = running.exit() => exited.map(How::of),
            () = at(until) => Ok(How::TimedOut),
        }
    }

    fn request(&self, index: u16, sandbox: &Sandbox) -> ExecRequest {
        let mut env = controller::guest::environment(sandbox.info());
        env.push(("SANDBOX_INDEX".to_owned(), index.to_string()));
        env.push(("SANDBOX_COUNT".to_owned(), self.count.to_string()));
        ExecRequest {
            argv: self.command.clone(),
            env,
            cwd: controller::guest::DIRECTORY.to_owned(),
            user: Account::ROOT,
            stdin: Stdin::Null,
            output: OutputMode::Separate,
            timeout: self.timeout,
        }
    }
}

/// At this moment, if there is one.
async fn at(moment: Option<Instant>) {
    match moment {
        Some(moment) => sleep_until(moment).await,
        None => std::future::pending().await,
    }
}

/// What one member prints.
struct Printed<'a> {
    index: u16,
    report: &'a Report,
    kept: Kept,
    stdout: Assembler,
    stderr: Assembler,
}

impl<'a> Printed<'a> {
    fn new(index: u16, report: &'a Report) -> Self {
        let rows = || Assembler::with_longest(LONGEST_ROW);
        Self { index, report, kept: Kept::default(), stdout: rows(), stderr: rows() }
    }

    async fn add(&mut self, chunk: Chunk) {
        match self.report {
            Report::Kept { most } => self.kept.add(chunk.stream, &chunk.bytes, *most),
            Report::Rows(out) => {
                let rows = match chunk.stream {
                    Stream::Stdout => &mut self.stdout,
                    Stream::Stderr => &mut self.stderr,
                };
                let mut whole = Vec::new();
                rows.push(&chunk.bytes, |piece| whole.push(piece.text));
                for text in whole {
                    out.send(Row::Printed { index: self.index, stream: chunk.stream, text }).await;
                }
            }
        }
    }

    /// It prints nothing any more; `told` is said of how it ended.
    async fn finish(mut self, told: Option<String>) -> Kept {
        if let Report::Rows(out) = self.report {
            let index = self.index;
            for (stream, rows) in [(Stream::Stdout, &mut self.stdout), (Stream::Stderr, &mut self.stderr)] {
                if let Some(piece) = rows.finish() {
                    out.send(Row::Printed { index, stream, text: piece.text }).await;
                }
            }
            if let Some(text) = told {
                out.send(Row::Ended { index, text }).await;
            }
        }
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    fn member(how: How) -> Member {
        let kept = Kept { stdout: b"a\xff".to_vec(), stderr: Vec::new(), truncated: false };
        Member { index: 2, id: "sb-x".to_owned(), how, kept, duration: Duration::from_millis(1500) }
    }

    #[test]
    fn what_is_kept_has_an_end() {
        let mut kept = Kept::default();
        kept.add(Stream::Stdout, b"abc", 4);
        kept.add(Stream::Stderr, b"abcd", 4);
        assert!(!kept.truncated);
        kept.add(Stream::Stdout, b"def", 4);
        kept.add(Stream::Stdout, b"g", 4);
        assert_eq!((kept.stdout.as_slice(), kept.stderr.as_slice()), (&b"abcd"[..], &b"abcd"[..]));
        assert!(kept.truncated);
        assert_eq!(most_kept(1), KEPT_OF_ONE);
        for count in [1, 16, 17, 1000] {
            assert!(most_kept(count) * 2 * usize::from(count) <= KEPT_OF_ALL);
        }
    }

    #[test]
    fn every_end_has_its_code() {
        let exited = |code, signal, timed_out| {
            How::of(Exited { code, signal, timed_out, time: Timestamp::UNIX_EPOCH }).code()
        };
        assert_eq!(exited(Some(3), None, false), Some(3));
        assert_eq!(exited(None, Some(9), false), Some(137));
        assert_eq!(exited(None, Some(9), true), Some(124));
        // no process ends so, and it must not look like a success
        assert_eq!(exited(Some(256), None, false), Some(255));
        assert_eq!(exited(None, None, false), Some(255));
        assert_eq!(exited(None, Some(-3), false), Some(255));
    }

    #[test]
    fn the_worst_code_is_the_highest_and_a_lost_member_is_an_error() {
        let worst = |hows: Vec<How>| super::super::Worst::of(hows.into_iter().map(member).collect());
        let codes = vec![How::Exited(0), How::TimedOut, How::Exited(7), How::Signalled(2)];
        assert_eq!(format!("{:?}", worst(codes).unwrap()), "Worst(130)");
        let off = || How::SwitchedOff(Gone::Silent(Duration::ZERO));
        assert_eq!(format!("{:?}", worst(vec![How::Exited(0), off()]).unwrap()), "Worst(1)");
        assert_eq!(format!("{:?}", worst(vec![How::Exited(7), off()]).unwrap()), "Worst(7)");
        assert!(worst(vec![How::Exited(0), How::Lost(sandbox::Error::Lost)]).is_err());
    }

    #[test]
    fn a_member_has_its_documented_shape() {
        let text = |how| serde_json::to_string(&member(how).json()).unwrap();
        assert_eq!(
            text(How::Exited(3)),
            "{\"index\":2,\"id\":\"sb-x\",\"exit_code\":3,\"signal\":null,\"timed_out\":false,\
             \"stdout\":\"a\u{fffd}\",\"stderr\":\"\",\"truncated\":false,\"duration_ms\":1500}"
        );
        assert!(text(How::Signalled(15)).contains("\"exit_code\":143,\"signal\":15,\"timed_out\":false"));
        assert!(text(How::TimedOut).contains("\"exit_code\":124,\"signal\":null,\"timed_out\":true"));
        let absent = How::NotStarted { code: 127, message: "no such program".to_owned() };
        assert!(text(absent).ends_with("\"duration_ms\":1500,\"error\":\"no such program\"}"));
        assert!(text(How::Lost(sandbox::Error::Lost)).contains("\"exit_code\":null"));
    }
}
