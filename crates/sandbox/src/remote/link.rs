//! One connection of an engine's socket, as frames and messages.
//!
//! Owner: each half by one task. Invariant: a writer whose future was dropped half-way is used no more.

use std::io;

use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{
        UnixStream,
        unix::{OwnedReadHalf, OwnedWriteHalf},
    },
};

use super::{
    error::EngineError,
    frame::{self, Decoder, Frame},
    message::Say,
    socket,
};
use crate::{Error, Result, Stream};

/// Bytes that are read at a time.
const READ: usize = 128 << 10;

/// The half that is read.
pub(crate) struct Reader {
    half: OwnedReadHalf,
    decoder: Decoder,
}

/// The half that is written.
pub(crate) struct Writer {
    half: OwnedWriteHalf,
    out: Vec<u8>,
}

/// Both halves.
pub(crate) fn split(stream: UnixStream) -> (Reader, Writer) {
    let (reader, writer) = stream.into_split();
    (Reader { half: reader, decoder: Decoder::default() }, Writer { half: writer, out: Vec::new() })
}

/// What was said makes no sense there.
pub(crate) fn nonsense(what: impl Into<String>) -> Error {
    EngineError::Protocol(what.into()).into()
}

impl Reader {
    /// The next frame; `None` at the end, also in the middle of a frame. Cancel-safe.
    pub(crate) async fn frame(&mut self) -> Result<Option<Frame>> {
        loop {
            if let Some(frame) = self.decoder.next().map_err(|error| nonsense(error.to_string()))? {
                return Ok(Some(frame));
            }
            let buffer = self.decoder.buffer();
            buffer.reserve(READ);
            match self.half.read_buf(buffer).await {
                Ok(0) | Err(_) => return Ok(None),
                Ok(_) => {}
            }
        }
    }

    /// The next message; nothing else may come. Cancel-safe.
    pub(crate) async fn message<T: DeserializeOwned>(&mut self) -> Result<Option<T>> {
        match self.frame().await? {
            Some(Frame::Message(json)) => parse(&json).map(Some),
            Some(other) => Err(nonsense(format!("{other:?} at the place of a message"))),
            None => Ok(None),
        }
    }

    /// What the engine says next; that it failed is an error. Cancel-safe.
    pub(crate) async fn say(&mut self) -> Result<Say> {
        match self.message().await? {
            Some(Say::Failed(fault)) => Err(fault.into()),
            Some(say) => Ok(say),
            None => Err(EngineError::Lost.into()),
        }
    }

    /// Waits until the other side has hung up, also while what it said waits to be read. Cancel-safe.
    pub(crate) async fn hung_up(&self) {
        socket::hung_up(self.half.as_ref()).await;
    }

    /// Waits until the other side is gone, whatever it says. Cancel-safe.
    pub(crate) async fn closed(&mut self) {
        while let Ok(Some(_)) = self.frame().await {}
    }
}

/// A message out of its JSON.
pub(crate) fn parse<T: DeserializeOwned>(json: &[u8]) -> Result<T> {
    // without serde's words: they may quote what is secret
    serde_json::from_slice(json).map_err(|error| {
        nonsense(format!("a message that is none, at line {} column {}", error.line(), error.column()))
    })
}

impl Writer {
    /// Puts a message behind what waits to be sent.
    ///
    /// # Errors
    /// It cannot be said: a path that is not UTF-8, or too long.
    pub(crate) fn put<T: Serialize>(&mut self, message: &T) -> Result<()> {
        let json = serde_json::to_vec(message).map_err(|_| {
            Error::Request("it holds a path that is not UTF-8, which an engine cannot be told")
        })?;
        if !frame::is_message(&json) {
            return Err(Error::Request("it is too long for a message to the engine"));
        }
        frame::put_message(&mut self.out, &json);
        Ok(())
    }

    /// Puts output there.
    pub(crate) fn put_output(&mut self, stream: Stream, time: i64, bytes: &[u8]) {
        frame::put_output(&mut self.out, stream, time, bytes);
    }

    /// Bytes that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.out.len()
    }

    /// Sends what waits.
    pub(crate) async fn flush(&mut self) -> io::Result<()> {
        let sent = self.half.write_all(&self.out).await;
        self.out.clear();
        sent
    }

    /// Sends a message. That the other side is gone is found out by whoever reads.
    pub(crate) async fn message<T: Serialize>(&mut self, message: &T) -> Result<()> {
        self.put(message)?;
        let _ = self.flush().await;
        Ok(())
    }

    /// Sends bytes.
    pub(crate) async fn bytes(&mut self, bytes: &[u8]) -> io::Result<()> {
        frame::put_bytes(&mut self.out, bytes);
        self.flush().await
    }

    /// Says that nothing more is sent, on this connection at all.
    pub(crate) async fn shut(&mut self) {
        // one that is gone knows
        let _ = self.half.shutdown().await;
    }

    /// Sends their end.
    pub(crate) async fn end(&mut self) -> io::Result<()> {
        frame::put_end(&mut self.out);
        self.flush().await
    }
}
