//! Ctrl-C, a request to end, a terminal that was closed: what they do to a run.
//!
//! ```text
//!  running ──first signal──▶ ending (grace for steps) ──second signal──▶ ending at once
//! ```
//! Invariant: the state only goes to the right; every run hears of it through one receiver.

use std::io;

use tokio::{
    signal::unix::{SignalKind, signal},
    sync::watch,
    task::JoinHandle,
};

/// What the user wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Wish {
    /// It goes on.
    Run,
    /// It ends; running steps get their signals and `always()` steps their time.
    End(Signal),
    /// It ends now.
    EndNow(Signal),
}

/// The signal that came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Ctrl-C.
    Interrupt,
    /// Someone asks for the end.
    Terminate,
    /// The terminal was closed.
    Hangup,
    /// Nobody reads our output any more.
    OutputGone,
    /// Our output cannot be written: a full disk.
    OutputFailed,
}

impl Signal {
    /// What a failure to write our output is: only a broken pipe is a reader that went.
    #[must_use]
    pub fn of_output(error: &io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe { Self::OutputGone } else { Self::OutputFailed }
    }

    /// As messages name it.
    #[must_use]
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Interrupt => "interrupted",
            Self::Terminate => "asked to end",
            Self::Hangup => "the terminal was closed",
            Self::OutputGone => "nobody reads the output any more",
            Self::OutputFailed => "the output cannot be written",
        }
    }
}

/// Listens until it is dropped.
#[derive(Debug)]
pub struct Signals {
    wish: watch::Sender<Wish>,
    listener: JoinHandle<()>,
}

impl Signals {
    /// Takes over the three signals.
    pub fn listen() -> io::Result<Self> {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        let mut hangup = signal(SignalKind::hangup())?;
        let (wish, _) = watch::channel(Wish::Run);
        let sender = wish.clone();
        let listener = tokio::spawn(async move {
            loop {
                let came = tokio::select! {
                    Some(()) = interrupt.recv() => Signal::Interrupt,
                    Some(()) = terminate.recv() => Signal::Terminate,
                    Some(()) = hangup.recv() => Signal::Hangup,
                    else => return,
                };
                raise(&sender, came);
            }
        });
        Ok(Self { wish, listener })
    }

    /// What the user wants, now and later.
    #[must_use]
    pub fn wish(&self) -> watch::Receiver<Wish> {
        self.wish.subscribe()
    }

    /// As if a signal had come.
    pub fn raise(&self, signal: Signal) {
        raise(&self.wish, signal);
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        self.listener.abort();
    }
}

fn raise(wish: &watch::Sender<Wish>, came: Signal) {
    wish.send_modify(|wish| *wish = after(*wish, came));
}

/// The next state. A closed terminal often brings SIGHUP and a broken output together: those two, coming
/// second, are no impatience of a person.
fn after(wish: Wish, came: Signal) -> Wish {
    match (wish, came) {
        (Wish::Run, came) => Wish::End(came),
        (Wish::End(first), Signal::Interrupt | Signal::Terminate) => Wish::EndNow(first),
        (wish @ (Wish::End(_) | Wish::EndNow(_)), _) => wish,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_signal_ends_it_at_once() {
        let first = after(Wish::Run, Signal::Interrupt);
        assert_eq!(first, Wish::End(Signal::Interrupt));
        assert_eq!(after(first, Signal::Interrupt), Wish::EndNow(Signal::Interrupt));
        assert_eq!(after(first, Signal::Terminate), Wish::EndNow(Signal::Interrupt));
        assert_eq!(after(Wish::End(Signal::Hangup), Signal::OutputGone), Wish::End(Signal::Hangup));
        let now = Wish::EndNow(Signal::Interrupt);
        assert_eq!(after(now, Signal::Interrupt), now);
    }
}
