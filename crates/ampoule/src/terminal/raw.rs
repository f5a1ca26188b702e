//! A terminal that passes every key on, and the way back.
//!
//! Owner: [`super::Terminal`] while a command runs on it. What it was is kept for the whole process, so that
//! a panic of any thread can give it back before it says a word.
//!
//! Invariants: the settings come back once, by whoever is first; what a guest left switched on in the
//! terminal (colours, the other screen, reports of the mouse) is switched off, and what the terminal was made
//! to answer is thrown away: both would come to the user's next program.

use std::{
    fs::File,
    io,
    os::fd::AsFd,
    sync::{Mutex, PoisonError},
};

use rustix::termios::{OptionalActions, QueueSelector, Termios, tcflush, tcgetattr, tcsetattr};

/// The terminal that is raw now, and its settings before.
static BEFORE: Mutex<Option<Before>> = Mutex::new(None);

struct Before {
    terminal: File,
    settings: Termios,
    /// What else makes it usual again.
    words: &'static [u8],
}

/// In this order: plain text, the usual characters, the cursor shown, the main screen, keys as usual, no
/// reports of the mouse or of the focus, nothing around what is pasted; an empty row.
const USUAL: &[u8] = b"\x1b[0m\x1b(B\x0f\x1b[?25h\x1b[?1047l\x1b[?1l\x1b>\
    \x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1004l\x1b[?1006l\x1b[?2004l\r\x1b[K";

/// As long as this lives the terminal is raw.
pub(super) struct Raw {
    terminal: File,
    raw: Termios,
}

impl Raw {
    /// Makes it raw.
    pub(super) fn enter(terminal: &File) -> io::Result<Self> {
        let settings = tcgetattr(terminal.as_fd())?;
        let mut raw = settings.clone();
        raw.make_raw();
        let this = Self { terminal: terminal.try_clone()?, raw };
        let dumb = std::env::var_os("TERM").is_none_or(|name| name == "dumb");
        let words = if dumb { b"\r\n" } else { USUAL };
        let before = Before { terminal: terminal.try_clone()?, settings, words };
        // before it is changed: from here on whoever fails gives it back
        *BEFORE.lock().unwrap_or_else(PoisonError::into_inner) = Some(before);
        tcsetattr(terminal.as_fd(), OptionalActions::Now, &this.raw)?;
        Ok(this)
    }

    /// Makes it raw once more, unless it was given back.
    pub(super) fn again(&self) {
        let before = BEFORE.lock().unwrap_or_else(PoisonError::into_inner);
        if before.is_none() {
            return;
        }
        // one that is gone is noticed by its reader
        let _ = tcsetattr(self.terminal.as_fd(), OptionalActions::Now, &self.raw);
    }
}

impl Drop for Raw {
    fn drop(&mut self) {
        restore();
    }
}

/// Gives a raw terminal back. May be called at any time, by any thread, also by one that panics.
pub(crate) fn restore() {
    // a thread that holds it is doing just this
    let Ok(mut before) = BEFORE.try_lock() else { return };
    let Some(Before { terminal, settings, words }) = before.take() else { return };
    // the terminal may be gone, and then needs nothing
    let _ = rustix::io::write(&terminal, words);
    let _ = tcflush(terminal.as_fd(), QueueSelector::IFlush);
    let _ = tcsetattr(terminal.as_fd(), OptionalActions::Now, &settings);
}

#[cfg(test)]
mod tests {
    use std::{io::Read, panic::catch_unwind};

    use rustix::{
        fs::{Mode, OFlags},
        pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt},
        termios::LocalModes,
    };

    use super::*;

    /// One test, since there is one terminal for the process.
    #[test]
    fn however_it_ends_the_terminal_is_as_it_was() {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        let name = ptsname(&ours, Vec::new()).unwrap();
        let flags = OFlags::RDWR | OFlags::NOCTTY;
        let theirs = File::from(rustix::fs::open(name.as_c_str(), flags, Mode::empty()).unwrap());
        let modes = || tcgetattr(theirs.as_fd()).unwrap().local_modes;
        let before = modes();
        assert!(before.contains(LocalModes::ECHO | LocalModes::ISIG));
        let raw = || {
            let raw = Raw::enter(&theirs).unwrap();
            assert!(!modes().intersects(LocalModes::ECHO | LocalModes::ISIG | LocalModes::ICANON));
            raw
        };

        drop(raw());
        assert_eq!(modes(), before);
        let unwound = catch_unwind(std::panic::AssertUnwindSafe(|| {
            let _raw = raw();
            std::panic::resume_unwind(Box::new(()));
        }));
        assert!(unwound.is_err());
        assert_eq!(modes(), before);
        let held = raw();
        restore();
        assert_eq!(modes(), before, "a panic gives it back before its owner does");
        held.again();
        assert_eq!(modes(), before, "nobody would give it back once more");
        drop(held);
        let held = raw();
        tcsetattr(theirs.as_fd(), OptionalActions::Now, &BEFORE.lock().unwrap().as_ref().unwrap().settings)
            .unwrap();
        assert_eq!(modes(), before, "a shell does that when it stops its job");
        held.again();
        assert!(!modes().contains(LocalModes::ECHO));
        drop(held);
        assert_eq!(modes(), before);

        drop(theirs);
        let mut shown = Vec::new();
        // ends with an error, since nobody has the other side
        let _ = File::from(ours).read_to_end(&mut shown);
        let shown = String::from_utf8(shown).unwrap();
        assert!(shown.contains("\r"), "{shown:?}");
    }
}
