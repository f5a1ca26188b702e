//! A tree on its way out of a guest.
//!
//! Invariant: what the guest sends is unpacked by `tree` alone, whose rules hold against any archive.

use std::{
    io,
    os::fd::AsFd,
    path::{Path, PathBuf},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, ReadBuf},
    sync::oneshot,
    task::spawn_blocking,
};
use tokio_util::{io::SyncIoBridge, sync::DropGuard};
use tree::{Symlinks, Unpack};
use wire::message::Copied;

use crate::{Error, Result, delivery::Consumer};

/// A tar stream out of a guest: hostile, to be read with that in mind. Ends with an error when the guest
/// could not pack the tree or is gone; an end without one means that it is complete. Dropping it stops the
/// guest.
pub struct CopyOut {
    consumer: Consumer,
    /// What of the last part was not read yet.
    rest: io::Cursor<Vec<u8>>,
    answer: Option<oneshot::Receiver<Result<Copied>>>,
    _cancel_on_drop: DropGuard,
}

impl CopyOut {
    pub(crate) fn new(
        consumer: Consumer,
        answer: oneshot::Receiver<Result<Copied>>,
        cancel_on_drop: DropGuard,
    ) -> Self {
        Self {
            consumer,
            rest: io::Cursor::new(Vec::new()),
            answer: Some(answer),
            _cancel_on_drop: cancel_on_drop,
        }
    }

    /// The guest's verdict, after its last byte.
    fn poll_verdict(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let Some(answer) = &mut self.answer else { return Poll::Ready(Ok(())) };
        let result = match Pin::new(answer).poll(cx) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(result) => result.unwrap_or(Err(Error::Lost)),
        };
        self.answer = None;
        Poll::Ready(match result {
            // It says that all was sent, and gave the stream up before its end.
            Ok(_) if self.consumer.was_cut() => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => Ok(()),
            Err(error) => Err(io::Error::other(error)),
        })
    }
}

impl AsyncRead for CopyOut {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        loop {
            let at = usize::try_from(self.rest.position()).unwrap_or(usize::MAX);
            let left = self.rest.get_ref().get(at..).unwrap_or_default();
            if !left.is_empty() {
                let count = left.len().min(buf.remaining());
                buf.put_slice(&left[..count]);
                self.rest.set_position((at + count) as u64);
                return Poll::Ready(Ok(()));
            }
            match self.consumer.poll_take(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(part))) => self.rest = io::Cursor::new(part.bytes),
                Poll::Ready(Some(Err(gone))) => return Poll::Ready(Err(io::Error::other(Error::Gone(gone)))),
                Poll::Ready(None) => return self.poll_verdict(cx),
            }
        }
    }
}

/// How much of a guest's tree the host takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FetchLimits {
    /// Entries.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// Unpacks `stream` below `dest`.
pub(crate) async fn unpack(stream: CopyOut, dest: PathBuf, limits: FetchLimits) -> Result<Copied> {
    let bridge = SyncIoBridge::new(stream);
    let unpacked = spawn_blocking(move || {
        let dir = tree::make_directories(&dest, None).map_err(|error| at(&dest, error))?;
        // A link that leads out of the tree is no use on the host, and a danger to whoever reads it.
        let options = Unpack {
            owner: None,
            symlinks: Symlinks::Inside,
            max_entries: limits.entries,
            max_bytes: limits.bytes,
        };
        tree::unpack(bridge, dir.as_fd(), &options).map_err(|error| at(&dest, error))
    });
    let tree::Copied { entries, bytes } = unpacked.await.unwrap_or(Err(Error::Lost))?;
    Ok(Copied { entries, bytes })
}

/// An error of the tree below `dest`, or of the guest that sent it.
fn at(dest: &Path, error: tree::Error) -> Error {
    match error {
        tree::Error::Read(source) => match source.downcast::<Error>() {
            Ok(ours) => ours,
            Err(source) => Error::Tree(tree::Error::Read(source)),
        },
        full if full.is_full() => Error::DiskFull { path: dest.to_owned() },
        other => Error::Tree(other),
    }
}
