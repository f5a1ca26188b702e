//! What a command reads from and writes to: pipes, or a terminal of its own.
//!
//! Purpose: opens both sides, those of the command and those of the agent.
//! Owner: the execution that is being started; nothing is left of it where that fails.
//!
//! Invariant: the agent's sides never block. A terminal has two descriptors here, for its two directions;
//! the kernel hangs up when both are closed.

use std::os::fd::OwnedFd;

use rustix::{
    fs::{Mode, OFlags, fchmod, fchown, fcntl_setfl},
    io::Errno,
    pipe::{PipeFlags, fcntl_setpipe_size, pipe_with},
    pty::{OpenptFlags, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{Winsize, tcsetwinsize},
};
use wire::{
    StreamId,
    message::{Exec, Failure, FailureKind, TerminalSize},
};

use crate::{
    failure::{failure, io_failure},
    users::Identity,
};

/// Room of an output pipe in bytes: fewer switches between a command and the agent.
const PIPE: usize = 256 * 1024;

/// What an end is one of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Pipe,
    Terminal,
}

/// Both sides.
#[derive(Debug)]
pub(crate) struct Ends {
    pub(crate) kind: Kind,
    /// The agent's ends of the outputs, by stream.
    pub(crate) outputs: Vec<(StreamId, OwnedFd)>,
    /// The agent's end of the input.
    pub(crate) input: Option<(StreamId, OwnedFd)>,
    /// The command's side of its terminal, to be held while it runs: as long as somebody holds it, a command
    /// that closes its own for a while has not ended its output.
    pub(crate) terminal: Option<OwnedFd>,
    /// The command's; none: `/dev/null`.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    /// None: the same as `stdout`.
    pub(crate) stderr: Option<OwnedFd>,
}

/// Opens what a command asks for. `identity` is whom it runs as, if not as this process.
pub(crate) fn open(wanted: &Exec, identity: Option<&Identity>) -> Result<Ends, Failure> {
    let ends = match wanted.terminal {
        Some(size) => terminal(wanted, size, identity)?,
        None => pipes(wanted)?,
    };
    for end in ends.outputs.iter().chain(&ends.input).map(|(_, end)| end) {
        fcntl_setfl(end, OFlags::NONBLOCK).map_err(|errno| io_failure("an end of a command", errno))?;
    }
    Ok(ends)
}

fn pipes(wanted: &Exec) -> Result<Ends, Failure> {
    let pipe = |what: &str| pipe_with(PipeFlags::CLOEXEC).map_err(|errno| io_failure(what, errno));
    let (out, stdout) = pipe("a pipe for output")?;
    let mut outputs = vec![(wanted.stdout, out)];
    let stderr = if wanted.stderr == wanted.stdout {
        None
    } else {
        let (out, stderr) = pipe("a pipe for output")?;
        outputs.push((wanted.stderr, out));
        Some(stderr)
    };
    let (input, stdin) = match wanted.stdin {
        Some(stream) => {
            let (stdin, input) = pipe("a pipe for input")?;
            (Some((stream, input)), Some(stdin))
        }
        None => (None, None),
    };
    for (_, end) in &outputs {
        // A matter of speed only; the default is 64 KiB.
        let _ = fcntl_setpipe_size(end, PIPE);
    }
    Ok(Ends { kind: Kind::Pipe, outputs, input, terminal: None, stdin, stdout, stderr })
}

fn terminal(wanted: &Exec, size: TerminalSize, identity: Option<&Identity>) -> Result<Ends, Failure> {
    if wanted.stderr != wanted.stdout {
        return Err(failure(FailureKind::Invalid, "a terminal has one output: stderr is the same as stdout"));
    }
    let size = checked(size)?;
    let fail = |errno: Errno| io_failure("a terminal", errno);
    let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC;
    let ours = openpt(flags).map_err(fail)?;
    unlockpt(&ours).map_err(fail)?;
    // Not by its name: this process may see another /dev/pts than the one that it lies in.
    let theirs = ioctl_tiocgptpeer(&ours, flags).map_err(fail)?;
    if let Some(identity) = identity {
        // The group stays that of terminals, whose members may write a message to it.
        fchown(&theirs, Some(rustix::fs::Uid::from_raw(identity.uid)), None).map_err(fail)?;
        fchmod(&theirs, Mode::from_raw_mode(0o620)).map_err(fail)?;
    }
    tcsetwinsize(&ours, size).map_err(fail)?;
    let again = |end: &OwnedFd| end.try_clone().map_err(|error| io_failure("a terminal", error));
    let input = match wanted.stdin {
        Some(stream) => Some((stream, again(&ours)?)),
        None => None,
    };
    Ok(Ends {
        kind: Kind::Terminal,
        input,
        stdin: Some(again(&theirs)?),
        stdout: again(&theirs)?,
        stderr: None,
        terminal: Some(theirs),
        outputs: vec![(wanted.stdout, ours)],
    })
}

/// Gives a terminal another size; its programs are told by a SIGWINCH.
pub(crate) fn resize(terminal: &OwnedFd, size: TerminalSize) -> Result<(), Failure> {
    tcsetwinsize(terminal, checked(size)?).map_err(|errno| io_failure("the size of the terminal", errno))
}

fn checked(TerminalSize { rows, columns }: TerminalSize) -> Result<Winsize, Failure> {
    if rows == 0 || columns == 0 {
        return Err(failure(
            FailureKind::Invalid,
            format!("{rows} times {columns} is no size of a terminal"),
        ));
    }
    Ok(Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 })
}
