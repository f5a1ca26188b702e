//! Which descriptors are ready.
//!
//! Purpose: epoll with tokens.
//! Owner: the loop.

use std::{io, os::fd::AsFd, time::Duration};

use rustix::{
    event::{
        Timespec,
        epoll::{self, CreateFlags, Event, EventData, EventFlags},
    },
    fd::OwnedFd,
    io::Errno,
};

/// Names a registered descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct Token(pub(crate) u64);

impl Token {
    pub(crate) const LINK: Self = Self(0);
    pub(crate) const LISTENER: Self = Self(1);
    pub(crate) const SIGNALS: Self = Self(2);
    pub(crate) const WORKERS: Self = Self(3);
    /// The first that pipes may have.
    pub(crate) const FIRST_PIPE: u64 = 16;
}

/// What is waited for.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Interest {
    /// Reported as long as there is something to read.
    Read,
    /// Reported as long as there is room to write.
    Write,
    /// Reported once per change, in either direction.
    Edges,
}

impl Interest {
    fn flags(self) -> EventFlags {
        match self {
            Self::Read => EventFlags::IN,
            Self::Write => EventFlags::OUT,
            Self::Edges => EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET,
        }
    }
}

/// An epoll instance.
pub(crate) struct Poller {
    epoll: OwnedFd,
    events: Vec<Event>,
}

impl Poller {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { epoll: epoll::create(CreateFlags::CLOEXEC)?, events: Vec::with_capacity(64) })
    }

    pub(crate) fn add(&self, source: impl AsFd, token: Token, interest: Interest) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, EventData::new_u64(token.0), interest.flags())?)
    }

    /// Forgets a descriptor that may not be registered.
    pub(crate) fn remove(&self, source: impl AsFd) {
        // Not registered, or of a kind that cannot be: what was wanted.
        let _ = epoll::delete(&self.epoll, source);
    }

    /// Waits until something is ready, or for `timeout`.
    pub(crate) fn wait(&mut self, timeout: Option<Duration>) -> io::Result<Vec<Token>> {
        let timeout = timeout.map(|limit| Timespec {
            tv_sec: i64::try_from(limit.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(limit.subsec_nanos()),
        });
        self.events.clear();
        match epoll::wait(&self.epoll, rustix::buffer::spare_capacity(&mut self.events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(self.events.iter().map(|event| Token(event.data.u64())).collect())
    }
}
