//! The one connection to a helper: requests from everywhere, answers to whoever asked.
//!
//! ```text
//!  ask ──▶ queue ──▶ writer ──▶ socket ──▶ helper
//!   ▲                                        │
//!   └── oneshot ◀── reader ◀── socket ◀──────┘
//! ```
//!
//! Invariants: the helper's process and socket are held here alone, so that the end of this is the end of it; when it
//! ends first, whoever waits for an answer hears [`Error::Gone`], and everyone after. An end that nobody asked for is said
//! once, by whoever sees it first.

use std::{
    collections::{HashMap, VecDeque},
    ffi::OsString,
    io::{self, IoSliceMut},
    mem::MaybeUninit,
    os::{fd::OwnedFd, unix::net::UnixStream as BlockingStream},
    process::Stdio,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, recvmsg};
use tokio::{
    io::Interest,
    net::UnixStream,
    process::Command,
    sync::{mpsc, oneshot, watch},
    task::AbortHandle,
};

use crate::{
    Error, Result,
    helper::protocol::{Answer, Ask, HEAD, Id, MOST_FDS, Place, Request, Said, Setting, Tool, frame, head},
};

type Answered = (Result<Answer, String>, Vec<OwnedFd>);
type Pending = Arc<Mutex<Option<HashMap<u64, oneshot::Sender<Answered>>>>>;

/// It.
#[derive(Debug)]
pub(super) struct Client {
    /// Whether the helper is root of the host.
    pub(super) root: bool,
    next: AtomicU64,
    requests: mpsc::UnboundedSender<Vec<u8>>,
    end: Ender,
    /// Whether its process is gone, and was waited for.
    reaped: watch::Receiver<bool>,
}

/// What ends a helper, for whoever finds out that it is of no use any more.
#[derive(Clone, Debug)]
pub(super) struct Ender {
    pending: Pending,
    tasks: [AbortHandle; 2],
}

impl Ender {
    /// Whether the helper ended, however it did.
    pub(super) fn is_gone(&self) -> bool {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).is_none()
    }

    /// Ends the helper; whether it had not ended yet.
    pub(super) fn end(&self) -> bool {
        // With the tasks goes the socket, and with that the helper.
        for task in &self.tasks {
            task.abort();
        }
        forget(&self.pending)
    }

    /// Ends the helper and says why, unless it had ended.
    pub(super) fn end_for(&self, why: &str) {
        if self.end() {
            lost(why);
        }
    }
}

fn lost(why: &str) {
    tracing::warn!("{why}: VMs that are there have no network any more, new ones do");
}

impl Drop for Client {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Client {
    /// Starts a helper and waits until it is ready.
    pub(super) async fn start(program: &[OsString]) -> Result<Self> {
        let (ours, theirs) = BlockingStream::pair().map_err(|error| Error::start(&error))?;
        let (name, args) = program.split_first().ok_or_else(|| Error::Start("none is named".to_owned()))?;
        let mut command = Command::new(name);
        // a group of its own, so that a Ctrl-C in the owner's terminal never reaches it
        command.args(args).stdin(Stdio::from(OwnedFd::from(theirs))).stdout(Stdio::null()).process_group(0);
        command.stderr(Stdio::null()).env_clear().current_dir("/");
        let mut child = command.spawn().map_err(|error| Error::start(&error))?;
        // nothing of ours but the helper may hold the other end
        drop(command);
        ours.set_nonblocking(true).map_err(|error| Error::start(&error))?;
        // whatever ends it, and however long its VMs hold this: nothing stays below this process
        let (ended, reaped) = watch::channel(false);
        tokio::spawn(async move {
            let _ = child.wait().await;
            ended.send_replace(true);
        });
        let socket = Arc::new(UnixStream::from_std(ours).map_err(|error| Error::start(&error))?);
        let mut incoming = Incoming::new(socket.clone());
        let root = match incoming.next().await {
            Ok((Said::Ready { root }, _)) => root,
            Ok((Said::Failed(what), _)) => return Err(Error::Namespaces(what)),
            Ok((Said::Answer { .. }, _)) => return Err(Error::Unreadable("the network's helper")),
            Err(error) => return Err(Error::start(&error)),
        };
        let pending: Pending = Arc::new(Mutex::new(Some(HashMap::new())));
        let (requests, queue) = mpsc::unbounded_channel();
        let writer = tokio::spawn(write(socket, queue)).abort_handle();
        let reader = tokio::spawn(read(incoming, pending.clone())).abort_handle();
        Ok(Self {
            root,
            next: AtomicU64::new(0),
            requests,
            end: Ender { pending, tasks: [writer, reader] },
            reaped,
        })
    }

    /// Whether the helper ended, however it did.
    pub(super) fn is_gone(&self) -> bool {
        self.end.is_gone()
    }

    /// Ends the helper.
    pub(super) fn stop(&self) {
        self.end.end();
    }

    /// What ends it.
    pub(super) fn ender(&self) -> Ender {
        self.end.clone()
    }

    /// Ends the helper and waits until it is gone, with everything that it held.
    pub(super) async fn end(&self) {
        self.stop();
        let _ = self.reaped.clone().wait_for(|reaped| *reaped).await;
    }

    /// Sends a request now; its answer is waited for when the result is awaited, in whatever order.
    pub(super) fn ask(&self, ask: Ask) -> impl Future<Output = Result<Answered>> + Send + use<> {
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let (answer, answered) = oneshot::channel();
        let sent = frame(&Request { id, ask }, 0).ok().is_some_and(|bytes| {
            let mut pending = self.end.pending.lock().unwrap_or_else(PoisonError::into_inner);
            let Some(pending) = pending.as_mut() else { return false };
            pending.insert(id, answer);
            self.requests.send(bytes).is_ok()
        });
        async move {
            if !sent {
                return Err(Error::Gone);
            }
            answered.await.map_err(|_| Error::Gone)
        }
    }

    /// Makes a namespace, with a tap where one is named.
    pub(super) async fn make(
        &self,
        settings: Vec<Setting>,
        tap: Option<&str>,
    ) -> Result<(Id, Option<OwnedFd>)> {
        const WHAT: &str = "make a network namespace";
        let asked = self.ask(Ask::Make { settings, tap: tap.map(str::to_owned) });
        match asked.await? {
            (Ok(Answer::Made(id)), fds) => Ok((id, fds.into_iter().next())),
            other => Err(refused(WHAT, other.0)),
        }
    }

    /// Runs a program; its output, if it ends well. What is sent after it for the same place comes after it.
    pub(super) fn run(
        &self,
        what: &'static str,
        at: Place,
        tool: Tool,
        args: &[&str],
        input: String,
        with: Vec<Id>,
    ) -> impl Future<Output = Result<String>> + Send + use<> {
        let args = args.iter().map(|arg| (*arg).to_owned()).collect();
        let asked = self.ask(Ask::Run { at, tool, args, input, with });
        async move {
            match asked.await?.0 {
                Ok(Answer::Ran { code: Some(0), output, .. }) => Ok(output),
                Ok(Answer::Ran { code, errors, .. }) => {
                    let how = code.map_or("killed".to_owned(), |code| format!("code {code}"));
                    Err(Error::Refused {
                        what,
                        answer: format!("{} ({how}): {}", tool.name(), errors.trim()),
                    })
                }
                other => Err(refused(what, other)),
            }
        }
    }

    /// A script for nft.
    pub(super) fn nft(
        &self,
        what: &'static str,
        at: Place,
        script: String,
    ) -> impl Future<Output = Result<String>> + Send + use<> {
        self.run(what, at, Tool::Nft, &["-f", "-"], script, Vec::new())
    }

    /// Starts a program that stays: where its input goes in, and where its output comes out.
    pub(super) async fn keep(
        &self,
        what: &'static str,
        at: Place,
        tool: Tool,
        args: Vec<String>,
    ) -> Result<(OwnedFd, OwnedFd)> {
        let (answer, fds) = self.ask(Ask::Keep { at, tool, args }).await?;
        let mut fds = fds.into_iter();
        match (answer, fds.next(), fds.next()) {
            (Ok(Answer::Kept), Some(input), Some(output)) => Ok((input, output)),
            (answer, ..) => Err(refused(what, answer)),
        }
    }

    /// Writes settings of the kernel, then reads others.
    pub(super) async fn settings(
        &self,
        at: Place,
        write: Vec<Setting>,
        read: &[&str],
    ) -> Result<Vec<Option<String>>> {
        let read = read.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        let expected = read.len();
        match self.ask(Ask::Settings { at, write, read }).await?.0 {
            Ok(Answer::Settings(values)) if values.len() == expected => Ok(values),
            other => Err(refused("change a setting of the network", other)),
        }
    }
}

pub(super) fn refused(what: &'static str, answer: Result<Answer, String>) -> Error {
    match answer {
        Err(answer) => Error::Refused { what, answer },
        Ok(_) => Error::Unreadable("the network's helper"),
    }
}

/// Whether it was not done before.
fn forget(pending: &Pending) -> bool {
    pending.lock().unwrap_or_else(PoisonError::into_inner).take().is_some()
}

async fn write(socket: Arc<UnixStream>, mut queue: mpsc::UnboundedReceiver<Vec<u8>>) {
    while let Some(bytes) = queue.recv().await {
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            if socket.writable().await.is_err() {
                return;
            }
            match socket.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                // the reader sees the end
                Err(_) => return,
            }
        }
    }
}

async fn read(mut incoming: Incoming, pending: Pending) {
    while let Ok((said, fds)) = incoming.next().await {
        let Said::Answer { id, answer } = said else { break };
        let waiting = {
            let mut pending = pending.lock().unwrap_or_else(PoisonError::into_inner);
            pending.as_mut().and_then(|pending| pending.remove(&id))
        };
        // whoever asked may have stopped waiting
        if let Some(waiting) = waiting {
            let _ = waiting.send((answer, fds));
        }
    }
    if forget(&pending) {
        lost("the network's helper ended (was it killed?)");
    }
}

/// Frames as they arrive.
#[derive(Debug)]
struct Incoming {
    socket: Arc<UnixStream>,
    bytes: Vec<u8>,
    fds: VecDeque<OwnedFd>,
}

impl Incoming {
    fn new(socket: Arc<UnixStream>) -> Self {
        Self { socket, bytes: Vec::new(), fds: VecDeque::new() }
    }

    async fn next(&mut self) -> io::Result<(Said, Vec<OwnedFd>)> {
        loop {
            if let Some(first) = self.bytes.first_chunk::<HEAD>() {
                let (length, fds) = head(*first)?;
                let end = HEAD + length;
                if self.bytes.len() >= end {
                    let said = serde_json::from_slice(&self.bytes[HEAD..end])?;
                    self.bytes.drain(..end);
                    if self.fds.len() < fds {
                        return Err(io::Error::other("a descriptor did not arrive"));
                    }
                    return Ok((said, self.fds.drain(..fds).collect()));
                }
            }
            self.socket.readable().await?;
            let mut buffer = [0; 64 << 10];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
            let mut ancillary = RecvAncillaryBuffer::new(&mut space);
            let received = self.socket.try_io(Interest::READABLE, || {
                recvmsg(
                    &*self.socket,
                    &mut [IoSliceMut::new(&mut buffer)],
                    &mut ancillary,
                    RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT,
                )
                .map_err(io::Error::from)
            });
            let length = match received {
                Ok(received) if received.bytes == 0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(received) => received.bytes,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error),
            };
            for message in ancillary.drain() {
                if let RecvAncillaryMessage::ScmRights(rights) = message {
                    self.fds.extend(rights);
                }
            }
            self.bytes.extend_from_slice(&buffer[..length]);
        }
    }
}
