//! Streams that the guest opens.
//!
//! Owner: the connection's task; a part of it.
//!
//! Invariants
//! - Every stream that the guest asks for is either refused at once, or one of [`Forwards`], which a task of its own
//!   accepts or drops.
//! - What waits for destinations is bounded: by the credit of each stream, and by [`MOST_WAITING`] over all of them.

use std::{collections::HashMap, sync::Arc};

use tokio::{sync::mpsc, task::JoinSet};
use tokio_util::sync::CancellationToken;
use wire::{
    CREDIT, Code, Direction, StreamId,
    message::{Accept, Body, Open},
};

use super::{
    Connection,
    task::{Outgoing, Task, Waiting},
};
use crate::{
    Error, Result,
    delivery::{Consumer, delivery},
    ways::{MOST, Opening, Ways},
};

/// Bytes that a guest's connections together may have sent beyond what their destinations took; an agent of ours stays
/// far below.
const MOST_WAITING: usize = 192 << 20;
/// As many bytes each of them may have in any case.
const FAIR: usize = 64 << 10;
/// Bytes that all connections together may have under way to the guest, where each has as many as it has to.
const BUDGET: u64 = 32 << 20;
/// As many a stream has to have: its reader acknowledges no earlier.
const FEWEST: u64 = CREDIT / 4;

/// A stream that the guest asked for.
struct Forwarded {
    cut: CancellationToken,
    /// Bytes of it that nobody took yet.
    waiting: usize,
}

/// All of them.
pub(super) struct Forwards {
    ways: Arc<Ways>,
    streams: HashMap<StreamId, Forwarded>,
    waiting: usize,
    tasks: JoinSet<()>,
    lost: mpsc::UnboundedReceiver<(StreamId, Code)>,
    lost_to: mpsc::UnboundedSender<(StreamId, Code)>,
    /// For those tasks.
    connection: Connection,
}

impl Forwards {
    pub(super) fn new(connection: Connection) -> Self {
        let (lost_to, lost) = mpsc::unbounded_channel();
        Self {
            ways: Arc::default(),
            streams: HashMap::new(),
            waiting: 0,
            tasks: JoinSet::new(),
            lost,
            lost_to,
            connection,
        }
    }

    pub(super) fn set(&mut self, ways: Arc<Ways>) {
        self.ways = ways;
    }

    pub(super) fn has(&self, stream: StreamId) -> bool {
        self.streams.contains_key(&stream)
    }

    pub(super) fn len(&self) -> usize {
        self.streams.len()
    }

    /// The next stream that nobody has any more; also collects tasks that ended.
    pub(super) async fn next_lost(&mut self) -> (StreamId, Code) {
        loop {
            tokio::select! {
                Some(lost) = self.lost.recv() => return lost,
                Some(ended) = self.tasks.join_next() => {
                    if let Err(error) = ended
                        && error.is_panic()
                    {
                        tracing::error!(%error, "a connection over a forward panicked");
                    }
                }
                else => std::future::pending::<()>().await,
            }
        }
    }

    /// How much of a stream's credit is not used: the more there are, the less each may have under way.
    pub(super) fn kept(&self, stream: StreamId) -> usize {
        if !self.streams.contains_key(&stream) {
            return 0;
        }
        let window = (BUDGET / self.streams.len().max(1) as u64).clamp(FEWEST, CREDIT);
        usize::try_from(CREDIT - window).unwrap_or(0)
    }

    /// Bytes came; `false`: their stream has more than it may.
    pub(super) fn came(&mut self, stream: StreamId, bytes: usize) -> bool {
        let Some(forwarded) = self.streams.get_mut(&stream) else { return true };
        forwarded.waiting += bytes;
        self.waiting += bytes;
        self.waiting <= MOST_WAITING || forwarded.waiting <= FAIR
    }

    /// Bytes were taken.
    pub(super) fn taken(&mut self, stream: StreamId, bytes: usize) {
        if let Some(forwarded) = self.streams.get_mut(&stream) {
            forwarded.waiting = forwarded.waiting.saturating_sub(bytes);
            self.waiting = self.waiting.saturating_sub(bytes);
        }
    }

    /// A stream is over.
    pub(super) fn over(&mut self, stream: StreamId) {
        if let Some(forwarded) = self.streams.remove(&stream) {
            self.waiting = self.waiting.saturating_sub(forwarded.waiting);
        }
    }

    /// A stream was reset.
    pub(super) fn cut(&mut self, stream: StreamId) {
        if let Some(forwarded) = self.streams.get(&stream) {
            forwarded.cut.cancel();
        }
        self.over(stream);
    }
}

impl Task {
    /// The guest asks for a stream. One that asks for more than it reads answers of breaks the protocol: see the mux.
    pub(super) fn opened(&mut self, open: &Open) {
        let forwards = &mut self.forwards;
        // the stream to the resolver, of which an agent has one, has a place of its own: a guest whose programs have taken
        // all others is still told names
        let most = if open.service == Open::DNS { MOST + 1 } else { MOST };
        let room = forwards.streams.len() < most;
        let cut = CancellationToken::new();
        // one that is refused is reset by its drop, as one that cannot be connected
        let opening =
            Opening::new(open.stream, forwards.connection.clone(), forwards.lost_to.clone(), cut.clone());
        let connecting = if room { forwards.ways.connect(&open.service, opening) } else { None };
        forwards.streams.insert(open.stream, Forwarded { cut, waiting: 0 });
        let Some(connecting) = connecting else {
            tracing::debug!(
                service = %crate::text::printable(&open.service, 300),
                "a guest asks for what it has not, or for too much"
            );
            return;
        };
        forwards.tasks.spawn(connecting);
    }

    /// Agrees to a stream that the guest asked for.
    pub(super) fn accept(&mut self, stream: StreamId) -> Result<Consumer> {
        if !self.forwards.streams.contains_key(&stream) {
            return Err(Error::Request("the guest does not want that stream any more"));
        }
        if self.mux.accept(stream, Direction::Both).is_err() {
            self.reset(stream, Code::REFUSED);
            return Err(Error::Request("too many streams at once"));
        }
        let (producer, consumer) = delivery(1, self.taken_to.clone());
        self.incoming.insert(stream, Arc::new(producer));
        self.outgoing.insert(stream, Outgoing::default());
        // a guest that has given it up meanwhile says so in its answer, and it is reset
        let (reply, _) = tokio::sync::oneshot::channel();
        let waiting = Waiting { reply, exec: None, streams: vec![stream] };
        self.ask(Body::Accept(Accept { stream }), waiting).map_err(|(error, _)| error)?;
        Ok(consumer)
    }
}
