//! A question at the terminal, answered without echo.
//!
//! Purpose: secrets that neither an option nor the environment gives.
//! Invariant: however it ends, by an answer, a signal or an error, the terminal echoes again.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
};

use rustix::termios::{OptionalActions, Termios, tcgetattr, tcsetattr};
use secrecy::SecretString;
use tokio::{
    signal::unix::{SignalKind, signal},
    sync::oneshot,
};

use crate::signals::{Signals, Wish};

/// Asks at the terminal of this process.
///
/// # Errors
/// [`io::ErrorKind::NotFound`] without a terminal, [`io::ErrorKind::Interrupted`] when a signal came first.
pub(crate) fn hidden(question: String) -> io::Result<SecretString> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    // before the echo is off: a signal must not find it so with nobody listening
    let (signals, mut quit) = {
        let _inside = runtime.enter();
        (Signals::listen()?, signal(SignalKind::quit())?)
    };
    let mut echo = Echo::keep()?;
    let (answer, answered) = oneshot::channel();
    // a thread, since a read of a terminal cannot be called off; it ends with the process
    std::thread::Builder::new().name("ask".to_owned()).spawn(move || {
        let _ = answer.send(rpassword::prompt_password(question));
    })?;
    let mut wish = signals.wish();
    let typed = runtime.block_on(async {
        tokio::select! {
            answer = answered => answer.unwrap_or_else(|_| Err(io::ErrorKind::UnexpectedEof.into())),
            _ = wish.wait_for(|wish| *wish != Wish::Run) => Err(echo.leave()),
            _ = quit.recv() => Err(echo.leave()),
        }
    });
    typed.map(SecretString::from)
}

/// The terminal's settings, which come back when it is dropped.
struct Echo {
    terminal: File,
    settings: Termios,
}

impl Echo {
    fn keep() -> io::Result<Self> {
        let terminal = match File::options().read(true).write(true).open("/dev/tty") {
            Ok(terminal) => terminal,
            // a process without a controlling terminal
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NXIO.raw_os_error()) => {
                return Err(io::ErrorKind::NotFound.into());
            }
            Err(error) => return Err(error),
        };
        let settings = tcgetattr(terminal.as_fd())?;
        Ok(Self { terminal, settings })
    }
}

impl Echo {
    /// What follows the question begins a row of its own.
    fn leave(&mut self) -> io::Error {
        let _ = self.terminal.write_all(b"\r\n");
        io::ErrorKind::Interrupted.into()
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        // a terminal that is gone needs no settings
        let _ = tcsetattr(&self.terminal, OptionalActions::Now, &self.settings);
    }
}
