//! The stream of an archive, as the `tar` crate reads it.
//!
//! Purpose: that crate's errors do not say whose they are, and repeat what they could not read; [`State::judge`] tells
//! those of the stream from an archive that is none.
//! Owner: one call of `unpack`, which shares the state with the reader.

use std::{
    cell::{Cell, RefCell},
    io::{self, Read},
    rc::Rc,
};

use crate::{Error, error::Malformed};

/// As many bytes as tell one kind of file from another.
const BEGIN: usize = 6;

/// What was seen of a stream.
#[derive(Debug, Default)]
pub(crate) struct State {
    begin: RefCell<Vec<u8>>,
    failed: Cell<bool>,
    ended: Cell<bool>,
    /// An entry was understood.
    is_tar: Cell<bool>,
}

impl State {
    /// An entry was understood.
    pub(crate) fn understood(&self) {
        self.is_tar.set(true);
    }

    /// What it means that the archive cannot be read on.
    pub(crate) fn judge(&self, error: io::Error) -> Error {
        if self.failed.get() {
            Error::Read(error)
        } else if !self.is_tar.get() {
            Malformed::of_begin(&self.begin.borrow()).into()
        } else if self.ended.get() {
            Malformed::Early.into()
        } else {
            Malformed::Header.into()
        }
    }
}

/// A stream that is watched.
pub(crate) struct Source<R> {
    inner: R,
    state: Rc<State>,
}

impl<R> Source<R> {
    pub(crate) fn new(inner: R) -> (Self, Rc<State>) {
        let state = Rc::new(State::default());
        (Self { inner, state: Rc::clone(&state) }, state)
    }
}

impl<R: Read> Read for Source<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.inner.read(buffer) {
            Ok(count) => {
                let mut begin = self.state.begin.borrow_mut();
                let room = BEGIN - begin.len();
                begin.extend(buffer.iter().take(count.min(room)));
                self.state.ended.set(count == 0 && !buffer.is_empty());
                Ok(count)
            }
            Err(error) => {
                self.state.failed.set(error.kind() != io::ErrorKind::Interrupted);
                Err(error)
            }
        }
    }
}
