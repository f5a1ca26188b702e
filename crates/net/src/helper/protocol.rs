//! What an owner and its helper say to each other: frames of JSON over a socket, with descriptors.
//!
//! Invariants: each request has one answer, which names it; answers may come in another order, but of what runs at one
//! place each starts when the one before it ended.

use std::{
    io::{self, IoSlice, Read, Write},
    mem::MaybeUninit,
    os::{fd::BorrowedFd, unix::net::UnixStream},
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, Serialize};

/// The most bytes of a frame.
pub(crate) const MOST: u32 = 64 << 20;
/// The most descriptors with a frame.
pub(crate) const MOST_FDS: usize = 4;
/// Bytes in front of a frame: its length, and how many descriptors come with it.
pub(crate) const HEAD: usize = 8;

/// A network namespace of the helper's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Id(pub(crate) u32);

/// Where something is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Place {
    /// In the network namespace in which the helper was started.
    Host,
    /// In one that it made.
    In(Id),
}

/// A program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Tool {
    Nft,
    Ip,
    Tc,
    Pasta,
}

impl Tool {
    /// What it is called.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Nft => "nft",
            Self::Ip => "ip",
            Self::Tc => "tc",
            Self::Pasta => "pasta",
        }
    }
}

/// A file below /proc/sys/net and what is written to it; nothing happens where there is no such file.
pub(crate) type Setting = (String, String);

/// From the owner.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Request {
    pub(crate) id: u64,
    pub(crate) ask: Ask,
}

/// What it asks for.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Ask {
    /// A new namespace, with a tap in it of that name; its descriptor comes with the answer.
    Make { settings: Vec<Setting>, tap: Option<String> },
    /// A run of a program until its end.
    Run {
        at: Place,
        tool: Tool,
        args: Vec<String>,
        input: String,
        /// Namespaces that it gets as descriptors, from [`FIRST_NAMESPACE`] on.
        with: Vec<Id>,
    },
    /// A program that runs until its input, whose writing end comes with the answer, is closed, or as long as it likes.
    /// The reading end of its output comes with it, too.
    Keep { at: Place, tool: Tool, args: Vec<String> },
    /// Settings are written, then read.
    Settings { at: Place, write: Vec<Setting>, read: Vec<String> },
    /// A batch of messages to netfilter.
    Netfilter { namespace: Id, batch: Vec<u8> },
    /// A process that shows a namespace in /proc.
    Anchor(Id),
    /// Whether programs are installed.
    Installed(Vec<Tool>),
    /// A namespace is not needed any more.
    Forget(Id),
}

/// The number of the first namespace among a program's descriptors.
pub(crate) const FIRST_NAMESPACE: usize = 3;

/// From the helper.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Said {
    /// First of all.
    Ready { root: bool },
    /// First of all, and last.
    Failed(String),
    /// To a request.
    Answer { id: u64, answer: Result<Answer, String> },
}

/// What came of a request.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum Answer {
    Made(Id),
    Ran {
        code: Option<i32>,
        output: String,
        errors: String,
    },
    Kept,
    Set,
    /// What was read; nothing where there is no such file.
    Settings(Vec<Option<String>>),
    Anchored(u32),
    Installed(Vec<bool>),
    Forgotten,
}

/// One frame, as it is sent.
pub(crate) fn frame(what: &impl Serialize, fds: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; HEAD];
    serde_json::to_writer(&mut bytes, what)?;
    let length = u32::try_from(bytes.len() - HEAD).ok().filter(|length| *length <= MOST);
    let length = length.ok_or_else(|| io::Error::other("a frame is too long"))?;
    let fds = u32::try_from(fds).map_err(io::Error::other)?;
    bytes[..4].copy_from_slice(&length.to_le_bytes());
    bytes[4..HEAD].copy_from_slice(&fds.to_le_bytes());
    Ok(bytes)
}

/// Length and descriptors of the frame that begins so.
pub(crate) fn head(bytes: [u8; HEAD]) -> io::Result<(usize, usize)> {
    let [a, b, c, d, e, f, g, h] = bytes;
    let (length, fds) = (u32::from_le_bytes([a, b, c, d]), u32::from_le_bytes([e, f, g, h]) as usize);
    if length > MOST || fds > MOST_FDS {
        return Err(io::Error::other("a frame is too long"));
    }
    Ok((length as usize, fds))
}

/// Sends a frame of the helper's, and waits until it is sent.
pub(crate) fn say(mut to: &UnixStream, what: &Said, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let bytes = frame(what, fds.len())?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(fds)) {
        return Err(io::Error::other("too many descriptors"));
    }
    let sent = rustix::io::retry_on_intr(|| {
        sendmsg(to, &[IoSlice::new(&bytes)], &mut ancillary, SendFlags::NOSIGNAL)
    })?;
    to.write_all(&bytes[sent..])
}

/// The next frame from the owner; nothing at its end.
pub(crate) fn hear(mut from: &UnixStream) -> io::Result<Option<Request>> {
    let mut first = [0; HEAD];
    match from.read_exact(&mut first) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
        Err(error) => return Err(error),
    }
    let (length, _) = head(first)?;
    let mut text = vec![0; length];
    from.read_exact(&mut text)?;
    Ok(Some(serde_json::from_slice(&text)?))
}
