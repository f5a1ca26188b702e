//! Trees in and out: threads between streams and the file system.
//!
//! Purpose: `tree` blocks, the loop does not; here they meet.
//! Owner: the loop holds one [`Incoming`] or [`Outgoing`] per copy; the thread ends by itself when the loop
//! drops its end.
//!
//! Invariants
//! - What lies between the two is bounded: by the stream's credit on the way in, by [`AHEAD`] pieces on the
//!   way out.
//! - An archive that the host cut short is an error of the copy, never its end.

use std::{
    io::{self, Read, Write},
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{Receiver, Sender, SyncSender, TryRecvError, channel, sync_channel},
    },
    thread,
};

use rustix::event::{EventfdFlags, eventfd};
use tree::{Copied, Owner, Unpack};
use wire::{
    Guest, Mux, StreamId,
    message::{Failure, FailureKind},
};

use crate::{
    failure::{TreeError, failure, io_failure},
    system::now_ns,
};

/// Pieces that may wait on the way out.
const AHEAD: usize = 4;
/// Size of a piece in bytes.
const PIECE: usize = 64 * 1024;
/// Stack of a thread in bytes.
const STACK: usize = 256 * 1024;

/// What a thread tells the loop.
#[derive(Debug)]
pub(crate) enum News {
    /// It is done with bytes of a stream of the host.
    Consumed(StreamId, usize),
    /// It has a piece for a stream to the host, or no more.
    Piece(StreamId),
    /// A copy ended.
    Copied(StreamId, Result<Copied, Failure>),
    /// All disks are written; the id is that of the request.
    Synced(u64),
}

/// The way from threads to the loop.
#[derive(Clone, Debug)]
pub(crate) struct Reporter {
    /// In which it was given: streams and requests of another one have the same names.
    epoch: u32,
    news: Sender<(u32, News)>,
    bell: Arc<OwnedFd>,
}

impl Reporter {
    fn tell(&self, news: News) {
        // A loop that is gone needs no news.
        if self.news.send((self.epoch, news)).is_ok() {
            // Fails only when the counter is full, and then the bell rings already.
            let _ = rustix::io::write(&*self.bell, &1_u64.to_ne_bytes());
        }
    }
}

/// The loop's end of it.
#[derive(Debug)]
pub(crate) struct Reports {
    reporter: Reporter,
    news: Receiver<(u32, News)>,
}

impl Reports {
    pub(crate) fn new() -> io::Result<Self> {
        let bell = Arc::new(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?);
        let (sender, news) = channel();
        Ok(Self { reporter: Reporter { epoch: 0, news: sender, bell }, news })
    }

    pub(crate) fn bell(&self) -> std::os::fd::BorrowedFd<'_> {
        self.reporter.bell.as_fd()
    }

    /// News of threads that were started before are of no interest any more. Returns the epoch before.
    pub(crate) fn begin(&mut self, epoch: u32) -> u32 {
        std::mem::replace(&mut self.reporter.epoch, epoch)
    }

    pub(crate) fn reporter(&self) -> Reporter {
        self.reporter.clone()
    }

    pub(crate) fn silence(&self) {
        // Not ringing is as good.
        let _ = rustix::io::read(self.bell(), &mut [0; 8]);
    }

    pub(crate) fn next(&self) -> Option<News> {
        loop {
            let (epoch, news) = self.news.try_recv().ok()?;
            if epoch == self.reporter.epoch {
                return Some(news);
            }
        }
    }
}

fn start(name: &str, body: impl FnOnce() + Send + 'static) -> Result<(), Failure> {
    thread::Builder::new()
        .name(name.into())
        .stack_size(STACK)
        .spawn(body)
        .map(drop)
        .map_err(|error| io_failure("a thread", error))
}

/// Writes all disks back, then tells.
pub(crate) fn sync(reporter: Reporter, request: u64) -> Result<(), Failure> {
    start("sync", move || {
        rustix::fs::sync();
        reporter.tell(News::Synced(request));
    })
}

enum Part {
    Bytes(Vec<u8>),
    End,
}

/// A copy into the guest.
#[derive(Debug)]
pub(crate) struct Incoming {
    pub(crate) request: u64,
    parts: Option<Sender<Part>>,
}

impl std::fmt::Debug for Part {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Bytes(bytes) => write!(f, "Bytes({})", bytes.len()),
            Self::End => f.write_str("End"),
        }
    }
}

impl Incoming {
    pub(crate) fn start(
        request: u64,
        stream: StreamId,
        dest: PathBuf,
        owner: Option<Owner>,
        reporter: Reporter,
    ) -> Result<Self, Failure> {
        let (parts, receiver) = channel();
        start("copy-in", move || {
            let mut parts = Parts { stream, receiver, current: Vec::new(), at: 0, reporter, ended: false };
            let outcome = tree::make_directories(&dest, owner).and_then(|dest| {
                tree::unpack(&mut parts, dest.as_fd(), &Unpack { owner, ..Unpack::default() })
            });
            let reporter = parts.reporter.clone();
            reporter.tell(News::Copied(stream, outcome.map_err(|error| TreeError(error).into())));
        })?;
        Ok(Self { request, parts: Some(parts) })
    }

    /// Bytes of the archive. A thread that has failed does not take them, and says so by itself.
    pub(crate) fn push(&self, bytes: Vec<u8>) {
        let _ = self.parts.as_ref().map(|parts| parts.send(Part::Bytes(bytes)));
    }

    /// The archive is whole.
    pub(crate) fn finish(&self) {
        let _ = self.parts.as_ref().map(|parts| parts.send(Part::End));
    }

    /// The host sends no more of it: the thread fails, and says how.
    pub(crate) fn cut(&mut self) {
        self.parts = None;
    }
}

/// The archive, as the thread reads it.
struct Parts {
    stream: StreamId,
    receiver: Receiver<Part>,
    current: Vec<u8>,
    at: usize,
    reporter: Reporter,
    ended: bool,
}

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.at == self.current.len() && !self.ended {
            match self.receiver.recv() {
                Ok(Part::Bytes(bytes)) => {
                    self.current = bytes;
                    self.at = 0;
                }
                Ok(Part::End) => self.ended = true,
                Err(_) => {
                    return Err(io::Error::new(io::ErrorKind::ConnectionAborted, "the host cut it short"));
                }
            }
        }
        let rest = self.current.get(self.at..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(place), Some(bytes)) = (buffer.get_mut(..count), rest.get(..count)) {
            place.copy_from_slice(bytes);
        }
        self.at += count;
        if count > 0 && self.at == self.current.len() {
            self.reporter.tell(News::Consumed(self.stream, self.current.len()));
        }
        Ok(count)
    }
}

/// A copy out of the guest.
#[derive(Debug)]
pub(crate) struct Outgoing {
    pub(crate) request: u64,
    pieces: Option<Receiver<Vec<u8>>>,
    current: Vec<u8>,
    at: usize,
    /// Whether the thread has said how it ended.
    pub(crate) outcome: Option<Result<Copied, Failure>>,
}

impl Outgoing {
    pub(crate) fn start(
        request: u64,
        stream: StreamId,
        path: PathBuf,
        reporter: Reporter,
    ) -> Result<Self, Failure> {
        let (sender, pieces) = sync_channel(AHEAD);
        start("copy-out", move || {
            let writer = Pieces { stream, sender, reporter: reporter.clone(), piece: Vec::new() };
            let outcome = tree::pack(&path, writer).map_err(|error| match error {
                tree::Error::Write(_) => failure(FailureKind::Io, "the host wants no more of it"),
                error => TreeError(error).into(),
            });
            reporter.tell(News::Copied(stream, outcome));
        })?;
        Ok(Self { request, pieces: Some(pieces), current: Vec::new(), at: 0, outcome: None })
    }

    /// Sends what there is, as far as credit goes; whether all was sent.
    pub(crate) fn pump(&mut self, mux: &mut Mux<Guest>, stream: StreamId) -> bool {
        loop {
            let rest = self.current.get(self.at..).unwrap_or_default();
            if rest.is_empty() {
                let Some(pieces) = &self.pieces else { return true };
                match pieces.try_recv() {
                    Ok(piece) => {
                        self.current = piece;
                        self.at = 0;
                    }
                    Err(TryRecvError::Empty) => return false,
                    Err(TryRecvError::Disconnected) => return true,
                }
                continue;
            }
            let sent = mux.send(stream, rest, now_ns());
            if sent == 0 {
                return false;
            }
            self.at += sent;
        }
    }
}

impl Outgoing {
    /// The host wants no more of it: the thread fails, and says how.
    pub(crate) fn cut(&mut self) {
        self.pieces = None;
        self.current = Vec::new();
        self.at = 0;
    }
}

/// The archive, as the thread writes it.
struct Pieces {
    stream: StreamId,
    sender: SyncSender<Vec<u8>>,
    reporter: Reporter,
    piece: Vec<u8>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = bytes.len().min(PIECE - self.piece.len());
        self.piece.extend_from_slice(bytes.get(..count).unwrap_or_default());
        if self.piece.len() == PIECE {
            self.flush()?;
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.piece.is_empty() {
            return Ok(());
        }
        let piece = std::mem::replace(&mut self.piece, Vec::with_capacity(PIECE));
        self.sender.send(piece).map_err(|_| io::ErrorKind::BrokenPipe)?;
        self.reporter.tell(News::Piece(self.stream));
        Ok(())
    }
}
