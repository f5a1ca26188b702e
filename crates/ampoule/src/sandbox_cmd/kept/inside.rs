//! One command in a sandbox that is there, as if it ran here.
//!
//! ```text
//!   stdin ──▶ the command's          Ctrl-C, a request to end ──▶ signals of the command
//!   stdout, stderr ◀── its own, apart, as they are; cleaned where they are a terminal
//!   with --tty: this terminal ◀──▶ one of the command
//! ```
//! Owner: one call. Invariants: the exit code is the command's; when the future is dropped the command is killed.

use std::{
    env,
    io::{self, IsTerminal},
};

use job::rows::Assembler;
use sandbox::{
    Account, Control, Error as SandboxError, ExecRequest, Exited, FailureKind, OutputMode, Running, Sandbox,
    Stdin, Stream,
};
use tokio::{
    io::{AsyncWrite, AsyncWriteExt},
    signal::unix::{Signal, SignalKind, signal},
};

use super::{Inside, place::absolute};
use crate::{
    cli::kept_args::InsideArgs,
    sandbox_cmd::{SandboxCmdError, member::How},
    sanitise::{self, Colours},
    sink::Look,
    terminal::{self, Left, Terminal, TerminalError},
};

/// A row up to this many bytes is shown as one; a longer one is cut.
const LONGEST_ROW: usize = 64 << 10;

/// How it ended; [`Inside::Left`] where it was killed since nobody is there any more.
pub(super) async fn run(sandbox: &Sandbox, args: &InsideArgs) -> Result<Inside, SandboxCmdError> {
    let request = request(sandbox, args);
    let ended =
        if args.tty { on_terminal(sandbox, request).await } else { piped(sandbox, request, args).await };
    match ended {
        Err(Failed::Sandbox(SandboxError::Guest { kind: FailureKind::NotFound, message })) => {
            Ok(Inside::Ended(How::NotStarted { code: 127, message }))
        }
        Err(Failed::Sandbox(SandboxError::Guest { kind: FailureKind::Permission, message })) => {
            Ok(Inside::Ended(How::NotStarted { code: 126, message }))
        }
        Err(Failed::Sandbox(SandboxError::Gone(gone))) if gone.by_guest() => {
            Ok(Inside::Ended(How::SwitchedOff(gone)))
        }
        Err(Failed::Sandbox(source)) => Err(SandboxCmdError::Inside(source)),
        Err(Failed::Terminal(error)) => Err(SandboxCmdError::Terminal(error)),
        Err(Failed::Runtime(error)) => Err(SandboxCmdError::Runtime(error)),
        Err(Failed::Output(error)) => Err(SandboxCmdError::Output(error)),
        Ok(inside) => Ok(inside),
    }
}

/// What ends it before its time.
enum Failed {
    Sandbox(SandboxError),
    Terminal(io::Error),
    Runtime(io::Error),
    Output(io::Error),
}

impl From<SandboxError> for Failed {
    fn from(error: SandboxError) -> Self {
        Self::Sandbox(error)
    }
}

fn request(sandbox: &Sandbox, args: &InsideArgs) -> ExecRequest {
    let mut envs = controller::guest::environment(sandbox.info());
    let mut set = |name: &str, value: String| {
        envs.retain(|(known, _)| known != name);
        envs.push((name.to_owned(), value));
    };
    if let Some(Account::Name(name)) = &args.user {
        set("USER", name.clone());
    }
    for arg in &args.envs {
        // as the official tools do it: what is not set here is not set there
        if let Some(value) = arg.value.clone().or_else(|| env::var(&arg.key).ok()) {
            set(&arg.key, value);
        }
    }
    ExecRequest {
        argv: args.command.clone(),
        env: envs,
        cwd: absolute(&args.workdir),
        user: args.user.clone().unwrap_or(Account::ROOT),
        stdin: if args.interactive { Stdin::Pipe } else { Stdin::Null },
        output: OutputMode::Separate,
        timeout: args.timeout,
    }
}

async fn on_terminal(sandbox: &Sandbox, request: ExecRequest) -> Result<Inside, Failed> {
    if !terminal::is_there() {
        return Err(Failed::Terminal(io::Error::other("standard input and output are none")));
    }
    let terminal = Terminal::open().map_err(Failed::Terminal)?;
    let mut asked = Signals::listen().map_err(Failed::Runtime)?;
    let stop = async {
        asked.next().await;
    };
    match terminal.run(sandbox, request, stop).await {
        Ok(Left::Exited(exited)) => Ok(Inside::Ended(How::of(exited))),
        Ok(Left::Stopped) => Ok(Inside::Left),
        Err(TerminalError::Terminal(error)) => Err(Failed::Terminal(error)),
        Err(TerminalError::Sandbox(error)) => Err(error.into()),
    }
}

async fn piped(sandbox: &Sandbox, request: ExecRequest, args: &InsideArgs) -> Result<Inside, Failed> {
    let mut asked = Signals::listen().map_err(Failed::Runtime)?;
    let mut running = tokio::select! {
        biased;
        started = sandbox.exec(request) => started?,
        _ = asked.next() => return Ok(Inside::Left),
    };
    let control = running.control();
    let input = running.stdin.take().filter(|_| args.interactive);
    let fed = async {
        if let Some(mut input) = input {
            // a command that reads no more is none that failed
            let _ = tokio::io::copy(&mut tokio::io::stdin(), &mut input).await;
            let _ = input.shutdown().await;
        }
        std::future::pending::<()>().await;
    };
    let passed_on = pass_on(&control, &mut asked);
    tokio::select! {
        ended = shown(&mut running) => ended,
        () = fed => Ok(Inside::Left),
        () = passed_on => Ok(Inside::Left),
    }
}

/// Passes signals on, for ever.
async fn pass_on(control: &Control, asked: &mut Signals) {
    loop {
        let number = asked.next().await;
        // one of a command that has ended is for nobody
        let _ = control.signal(number).await;
    }
}

/// Writes what it prints, until its end.
async fn shown(running: &mut Running) -> Result<Inside, Failed> {
    let (out, err) = (io::stdout(), io::stderr());
    let mut stdout = Printed::to(tokio::io::stdout(), Onto::of(&out));
    let mut stderr = Printed::to(tokio::io::stderr(), Onto::of(&err));
    while let Some(chunk) = running.output.next().await.map_err(SandboxError::Gone)? {
        let written = match chunk.stream {
            Stream::Stdout => stdout.write(&chunk.bytes).await,
            Stream::Stderr => stderr.write(&chunk.bytes).await,
        };
        if let Err(error) = written {
            return unwritten(error);
        }
    }
    let finished = stdout.finish().await.and(stderr.finish().await);
    let exited: Exited = running.exit().await?;
    match finished {
        Ok(()) => Ok(Inside::Ended(How::of(exited))),
        Err(error) => unwritten(error),
    }
}

/// An output of ours failed: nobody reads it any more, or it is one to be told.
fn unwritten(error: io::Error) -> Result<Inside, Failed> {
    if error.kind() == io::ErrorKind::BrokenPipe { Ok(Inside::Left) } else { Err(Failed::Output(error)) }
}

/// What an output of ours is.
#[derive(Clone, Copy)]
enum Onto {
    Bytes,
    Terminal(Colours),
}

impl Onto {
    fn of(output: &impl IsTerminal) -> Self {
        if output.is_terminal() { Self::Terminal(Look::of(output).colours()) } else { Self::Bytes }
    }
}

/// One output of ours.
struct Printed<W> {
    to: W,
    /// Where it is a terminal: rows of it, which are cleaned.
    rows: Option<(Assembler, Colours)>,
}

impl<W: AsyncWrite + Unpin> Printed<W> {
    fn to(to: W, onto: Onto) -> Self {
        let rows = match onto {
            Onto::Bytes => None,
            Onto::Terminal(colours) => Some((Assembler::with_longest(LONGEST_ROW), colours)),
        };
        Self { to, rows }
    }

    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match &mut self.rows {
            None => self.to.write_all(bytes).await?,
            Some((assembler, colours)) => {
                let mut text = String::new();
                assembler.push(bytes, |piece| add(&mut text, &piece.text, *colours));
                self.to.write_all(text.as_bytes()).await?;
            }
        }
        self.to.flush().await
    }

    async fn finish(&mut self) -> io::Result<()> {
        if let Some((assembler, colours)) = &mut self.rows
            && let Some(piece) = assembler.finish()
        {
            let mut text = String::new();
            add(&mut text, &piece.text, *colours);
            self.to.write_all(text.as_bytes()).await?;
        }
        self.to.flush().await
    }
}

fn add(text: &mut String, row: &str, colours: Colours) {
    for row in sanitise::rows(row, colours) {
        text.push_str(&row);
        text.push('\n');
    }
}

/// The signals that ask a program to end.
struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hangup: Signal,
}

impl Signals {
    fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    /// The number of the next.
    async fn next(&mut self) -> i32 {
        let came = tokio::select! {
            Some(()) = self.interrupt.recv() => SignalKind::interrupt(),
            Some(()) = self.terminate.recv() => SignalKind::terminate(),
            Some(()) = self.hangup.recv() => SignalKind::hangup(),
            else => std::future::pending().await,
        };
        came.as_raw_value()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn printed(onto: Onto) -> String {
        let mut out = Vec::new();
        let mut printed = Printed::to(&mut out, onto);
        for part in ["a\x1b[2J", "b\nc", "\rd"] {
            printed.write(part.as_bytes()).await.unwrap();
        }
        printed.finish().await.unwrap();
        String::from_utf8(out).unwrap()
    }

    #[tokio::test]
    async fn output_is_as_it_is_unless_it_would_command_a_terminal() {
        assert_eq!(printed(Onto::Bytes).await, "a\x1b[2Jb\nc\rd");
        assert_eq!(printed(Onto::Terminal(Colours::Drop)).await, "ab\nc\nd\n");
    }
}
