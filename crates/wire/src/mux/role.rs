//! The two ends of a link and what differs between them.

use crate::message::{Body, MAX_MESSAGE, StreamId, ToGuest, ToHost};

pub(super) mod sealed {
    use crate::{error::ProtocolError, mux::Mux};

    /// What an end does with the other's handshake.
    pub trait Greets: Sized {
        fn greeted(mux: &mut Mux<Self>, json: &[u8], what: &'static str) -> Result<(), ProtocolError>
        where
            Self: super::Role;
    }
}

/// An end of a link: [`Host`] or [`Guest`].
pub trait Role: sealed::Greets {
    /// Messages that come in.
    type In: serde::de::DeserializeOwned;
    /// Messages that go out.
    type Out: serde::Serialize;
    /// Whether this is the host.
    const IS_HOST: bool;
    /// Largest message that is read here, in bytes of JSON.
    const MAX_IN: usize;
    /// Largest message that the other side reads.
    const MAX_OUT: usize;
    /// The streams that a message of the other side opens.
    fn named(message: &Self::In) -> Vec<StreamId>;
}

/// Messages of the guest are small; an answer that is not may not fill the host's memory.
const MAX_TO_HOST: usize = 256 * 1024;

/// The end that asks.
#[derive(Debug)]
pub struct Host {
    pub(super) _private: (),
}

/// The end that answers.
#[derive(Debug)]
pub struct Guest {
    /// Version of the agent program.
    pub(super) agent: String,
}

impl Role for Host {
    type In = ToHost;
    type Out = ToGuest;
    const IS_HOST: bool = true;
    const MAX_IN: usize = MAX_TO_HOST;
    const MAX_OUT: usize = MAX_MESSAGE;

    fn named(message: &ToHost) -> Vec<StreamId> {
        match message {
            ToHost::Open(open) => vec![open.stream],
            ToHost::Reply(_) | ToHost::Exited(_) | ToHost::Note(_) => Vec::new(),
        }
    }
}

impl Role for Guest {
    type In = ToGuest;
    type Out = ToHost;
    const IS_HOST: bool = false;
    const MAX_IN: usize = MAX_MESSAGE;
    const MAX_OUT: usize = MAX_TO_HOST;

    fn named(message: &ToGuest) -> Vec<StreamId> {
        let ToGuest::Request(request) = message;
        match &request.body {
            Body::Exec(exec) => exec.stdin.into_iter().chain([exec.stdout, exec.stderr]).collect(),
            Body::CopyIn(copy) => vec![copy.stream],
            Body::CopyOut(copy) => vec![copy.stream],
            Body::Warm(_)
            | Body::Prepare(_)
            | Body::Bind(_)
            | Body::Signal(_)
            | Body::Kill(_)
            | Body::Resize(_)
            | Body::Ping
            | Body::Freeze(_)
            | Body::Thaw
            | Body::Shutdown
            | Body::Accept(_) => Vec::new(),
        }
    }
}
