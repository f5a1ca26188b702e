//! The connection to the agent: what operations hold of it.
//!
//! Purpose: requests and streams over the one link, without their users seeing frames.
//! Owner: the owner task of the VM opens it and decides why it ended; operations hold a clone of
//! [`Connection`] and send it orders. The task behind it ([`task`]) alone touches the link and the mux.

mod forwards;
mod task;

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use tokio_util::task::AbortOnDropHandle;
use vm::Link;
use wire::{
    Code, ExecId, StreamId,
    message::{Account, Answer, Body, Hello},
};

use crate::{Error, ExecRequest, Exited, Gone, Result, clock::Clock, delivery::Consumer, ways::Ways};

/// Orders that wait for the task.
const ORDERS: usize = 64;

/// Where the answer to a request goes.
type ReplyTo = oneshot::Sender<Result<Answer>>;

/// What operations ask of the connection.
enum Order {
    /// Sends a request that needs no stream.
    Request { body: Box<Body>, reply: ReplyTo },
    /// Opens the streams of a command and asks for its start.
    Exec { request: Box<ExecRequest>, begun: oneshot::Sender<Result<BegunExec>> },
    /// Opens a stream to the guest and asks for a tree to be unpacked from it.
    CopyIn { dest: String, owner: Account, begun: oneshot::Sender<Result<BegunCopyIn>> },
    /// Opens a stream from the guest and asks for a tree to be packed into it.
    CopyOut { path: String, begun: oneshot::Sender<Result<BegunCopyOut>> },
    /// Makes these the ways out of the guest.
    Ways(Arc<Ways>),
    /// Agrees to a stream that the guest asked for.
    Accept { stream: StreamId, begun: oneshot::Sender<Result<Consumer>> },
    /// Sends bytes; `taken` says when they are on their way, and whether the stream still is.
    Send { stream: StreamId, bytes: Vec<u8>, taken: oneshot::Sender<bool> },
    /// Ends a stream behind what was sent.
    Finish { stream: StreamId },
    /// Gives a stream up.
    Reset { stream: StreamId, code: Code },
}

/// What is not kept waiting by a hold.
enum Urgent {
    /// Says what there is to say, then asks the guest to freeze, and says nothing more; orders wait.
    Freeze { reply: ReplyTo },
    /// Asks the guest to thaw, and takes orders again.
    Thaw { reply: ReplyTo },
}

/// A command whose start was asked for.
pub(crate) struct BegunExec {
    pub(crate) exec: ExecId,
    pub(crate) stdin: Option<StreamId>,
    /// Where standard error comes on a stream of its own.
    pub(crate) stderr: Option<StreamId>,
    pub(crate) output: Consumer,
    pub(crate) reply: oneshot::Receiver<Result<Answer>>,
    pub(crate) exited: oneshot::Receiver<Result<Exited>>,
}

/// A copy into the guest that was asked for.
pub(crate) struct BegunCopyIn {
    pub(crate) stream: StreamId,
    pub(crate) reply: oneshot::Receiver<Result<Answer>>,
}

/// A copy out of the guest that was asked for.
pub(crate) struct BegunCopyOut {
    pub(crate) stream: StreamId,
    pub(crate) content: Consumer,
    pub(crate) reply: oneshot::Receiver<Result<Answer>>,
}

/// Why the task stopped by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// The guest broke the protocol.
    Protocol(String),
    /// The agent speaks another version of it, this one.
    Version(u32),
    /// The link ended or failed.
    Link(String),
}

/// What operations hold.
#[derive(Clone)]
pub(crate) struct Connection {
    orders: mpsc::Sender<Order>,
    urgent: mpsc::Sender<Urgent>,
}

/// What the owner task holds.
pub(crate) struct Opened {
    pub(crate) connection: Connection,
    /// The agent's first word; the handshake is done when it comes.
    pub(crate) hello: oneshot::Receiver<Hello>,
    /// Comes when the task can go on no longer. It then waits for `verdict`.
    pub(crate) cut: oneshot::Receiver<Cut>,
    /// Ends the connection: everything under way fails with this.
    pub(crate) verdict: oneshot::Sender<Gone>,
    pub(crate) task: AbortOnDropHandle<()>,
}

impl Opened {
    /// Ends the connection and its link.
    pub(crate) async fn close(self) {
        // a task that is gone has no link either
        let _ = self.verdict.send(Gone::Destroyed);
        let _ = self.task.await;
    }
}

/// Starts the task on `link`.
pub(crate) fn open(link: Link, clock: Arc<Clock>) -> Opened {
    let (orders, inbox) = mpsc::channel(ORDERS);
    let (urgent, urgent_from) = mpsc::channel(1);
    let (hello_to, hello) = oneshot::channel();
    let (cut_to, cut) = oneshot::channel();
    let (verdict, verdict_from) = oneshot::channel();
    let connection = Connection { orders, urgent };
    let task = task::Task::new(inbox, urgent_from, hello_to, clock, connection.clone());
    let task = AbortOnDropHandle::new(tokio::spawn(task.run(link, cut_to, verdict_from)));
    Opened { connection, hello, cut, verdict, task }
}

/// The task has ended: whoever ended it tells everyone why, so this is not seen outside.
fn ended<T>(_: T) -> Error {
    Error::Gone(Gone::Destroyed)
}

impl Connection {
    async fn order(&self, order: Order) -> Result<()> {
        self.orders.send(order).await.map_err(ended)
    }

    async fn begin<T>(&self, order: impl FnOnce(oneshot::Sender<Result<T>>) -> Order) -> Result<T> {
        let (begun_to, begun) = oneshot::channel();
        self.order(order(begun_to)).await?;
        begun.await.map_err(ended)?
    }

    /// Sends a request and waits for its answer.
    pub(crate) async fn request(&self, body: Body) -> Result<Answer> {
        self.begin(|reply| Order::Request { body: Box::new(body), reply }).await
    }

    /// Sends a request; whatever is sent later comes to the guest after it.
    pub(crate) async fn ask(&self, body: Body) -> Result<oneshot::Receiver<Result<Answer>>> {
        let (reply, answer) = oneshot::channel();
        self.order(Order::Request { body: Box::new(body), reply }).await?;
        Ok(answer)
    }

    /// Freezes the guest. From then on nothing is sent to it, and whatever is ordered waits, until
    /// [`Connection::thaw`], which has to follow whatever comes of this: when the guest has answered, no byte
    /// is under way in either direction.
    pub(crate) async fn freeze(&self) -> Result<Answer> {
        self.urge(|reply| Urgent::Freeze { reply }).await
    }

    /// Lets the guest go on, and what was ordered meanwhile take its course.
    pub(crate) async fn thaw(&self) -> Result<Answer> {
        self.urge(|reply| Urgent::Thaw { reply }).await
    }

    async fn urge(&self, urgent: impl FnOnce(ReplyTo) -> Urgent) -> Result<Answer> {
        let (reply, answer) = oneshot::channel();
        self.urgent.send(urgent(reply)).await.map_err(ended)?;
        answer.await.map_err(ended)?
    }

    pub(crate) async fn exec(&self, request: ExecRequest) -> Result<BegunExec> {
        self.begin(|begun| Order::Exec { request: Box::new(request), begun }).await
    }

    pub(crate) async fn copy_in(&self, dest: String, owner: Account) -> Result<BegunCopyIn> {
        self.begin(|begun| Order::CopyIn { dest, owner, begun }).await
    }

    pub(crate) async fn copy_out(&self, path: String) -> Result<BegunCopyOut> {
        self.begin(|begun| Order::CopyOut { path, begun }).await
    }

    /// Makes `ways` the ways out of the guest: before it is told of them.
    pub(crate) async fn ways(&self, ways: Ways) -> Result<()> {
        self.order(Order::Ways(Arc::new(ways))).await
    }

    /// Agrees to a stream that the guest asked for.
    pub(crate) async fn accept(&self, stream: StreamId) -> Result<Consumer> {
        self.begin(|begun| Order::Accept { stream, begun }).await
    }

    /// Sends bytes and waits until the guest's credit let all of them go; `false`: it wants no more.
    pub(crate) async fn send(&self, stream: StreamId, bytes: Vec<u8>) -> bool {
        let (taken_to, taken) = oneshot::channel();
        self.order(Order::Send { stream, bytes, taken: taken_to }).await.is_ok()
            && taken.await.unwrap_or(false)
    }

    /// Ends a stream.
    pub(crate) async fn finish(&self, stream: StreamId) {
        // When the connection is gone, so is the stream.
        let _ = self.order(Order::Finish { stream }).await;
    }

    /// Gives a stream up.
    pub(crate) async fn reset(&self, stream: StreamId, code: Code) {
        let _ = self.order(Order::Reset { stream, code }).await;
    }
}
