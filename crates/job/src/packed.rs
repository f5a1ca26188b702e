//! An archive that is made while it is read.
//!
//! Purpose: what every [`crate::WorkingTree`] needs: a thread that writes, a stream that is read. Owner: the reader;
//! the thread ends when it is gone. Invariant: the end of the stream is an error if packing was one, so that half a
//! tree is never taken for a whole one.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::{
    io::{AsyncRead, DuplexStream, ReadBuf},
    task::JoinHandle,
};
use tokio_util::io::SyncIoBridge;

use crate::Archive;

/// Bytes under way.
const PIPE: usize = 256 << 10;

/// The archive that `pack` writes, on a thread of its own, as fast as it is read.
pub fn packed<F>(pack: F) -> Archive
where
    F: FnOnce(&mut dyn io::Write) -> io::Result<()> + Send + 'static,
{
    let (reader, writer) = tokio::io::duplex(PIPE);
    let packing = tokio::task::spawn_blocking(move || {
        let mut out = io::BufWriter::with_capacity(64 << 10, SyncIoBridge::new(writer));
        pack(&mut out)?;
        io::Write::flush(&mut out)
    });
    Box::new(Packed { reader, packing: Some(packing) })
}

struct Packed {
    reader: DuplexStream,
    packing: Option<JoinHandle<io::Result<()>>>,
}

impl AsyncRead for Packed {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.reader).poll_read(cx, buf))?;
        if buf.filled().len() > before || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(packing) = &mut self.packing else { return Poll::Ready(Ok(())) };
        let result = ready!(Pin::new(packing).poll(cx));
        self.packing = None;
        Poll::Ready(result.unwrap_or_else(|error| Err(io::Error::other(error))))
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::AsyncReadExt;

    use super::*;

    #[tokio::test]
    async fn a_whole_archive_ends_and_half_of_one_is_an_error() {
        let mut whole = Vec::new();
        packed(|out| out.write_all(b"all of it")).read_to_end(&mut whole).await.unwrap();
        assert_eq!(whole, b"all of it");
        let mut half = Vec::new();
        let failing = packed(|out| {
            out.write_all(b"half")?;
            out.flush()?;
            Err(io::Error::other("no more"))
        });
        let mut failing = failing;
        let error = failing.read_to_end(&mut half).await.unwrap_err();
        assert_eq!((half.as_slice(), error.to_string().as_str()), (&b"half"[..], "no more"));
    }
}
