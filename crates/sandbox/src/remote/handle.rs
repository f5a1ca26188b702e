//! The client's task of one VM: it takes the commands of handles and has each carried out, and hears of the VM's end.
//!
//! ```text
//!   asked ──▶ waits ──▶ ready ──▶ leased ──leave──▶ attached ──▶ no handle is left
//!               │                   │ destroy           │ the VM is gone
//!               └── cancelled ──────┴──▶ ended          ▼
//! ```

use std::sync::{Arc, Weak};

use tokio::{
    sync::{mpsc, oneshot, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use vm::SlotId;

use super::{
    carry::{self, Carrier},
    client::Remote,
    error::EngineError,
    forward,
    link::{Reader, Writer, nonsense},
    message::{Ask, Order, Say},
};
use crate::{
    Error, Gone, GuestInfo, Result, Sandbox, Services, clock::Clock, command::Command, handle::Shared,
};

/// Commands that wait for the task.
const COMMANDS: usize = 64;
/// Operations at a time, as an owner task has it.
const MAX_OPERATIONS: usize = 1024;

/// Where a lease that is left asks for that.
pub(crate) type Leave = mpsc::Sender<oneshot::Sender<Result<()>>>;

/// What a lease's task has of it.
pub(super) struct Leased {
    /// Its place among those that wait.
    pub(super) number: u64,
    pub(super) destroy: CancellationToken,
    pub(super) ended: oneshot::Sender<Result<()>>,
    pub(super) leave: mpsc::Receiver<oneshot::Sender<Result<()>>>,
    /// What answers at forwards of its VM that lead to one.
    pub(super) services: Services,
}

type Ready = oneshot::Sender<Result<Sandbox>>;

/// The life of a lease.
pub(super) async fn leased(remote: Arc<Remote>, ask: Ask, lease: Leased, ready: Ready) {
    // to its end, also where it is not wanted any more: the engine may have heard of it
    let (mut reader, mut writer) = match remote.open(&ask).await {
        Ok(opened) => opened,
        Err(error) => return drop(ready.send(Err(error))),
    };
    let up = come_up(&remote, &lease, &mut reader, &mut writer).await;
    remote.waits_for(lease.number, None);
    match up {
        Ok((id, info)) => {
            let (task, sandbox) = Task::new(&remote, id, info, reader, writer);
            // whoever waited for it and went has cancelled `destroy`
            let _ = ready.send(Ok(sandbox));
            task.run(Some(lease)).await;
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

/// Waits until the VM is ready; when it is not wanted any more, until nothing of it is left.
async fn come_up(
    remote: &Remote,
    lease: &Leased,
    reader: &mut Reader,
    writer: &mut Writer,
) -> Result<(SlotId, GuestInfo)> {
    let mut told = false;
    loop {
        tokio::select! {
            biased;
            () = lease.destroy.cancelled(), if !told => {
                told = true;
                writer.message(&Order::Destroy).await?;
            }
            said = reader.say() => match said? {
                Say::Waiting(why) => remote.waits_for(lease.number, why),
                Say::Ready { id, info } if !told => return Ok((id, info)),
                Say::Ready { .. } | Say::Gone(_) => {}
                Say::Ended => return Err(Error::Cancelled),
                _ => return Err(nonsense("no word of the VM that was asked for")),
            },
        }
    }
}

/// The life of a handle without a lease.
pub(super) async fn attached(remote: Arc<Remote>, id: SlotId, mut ready: Ready) {
    let up = async {
        let (mut reader, writer) = remote.open(&Ask::Attach { id }).await?;
        match reader.say().await? {
            Say::Ready { id, info } => Ok(Task::new(&remote, id, info, reader, writer)),
            _ => Err(nonsense("no word of the VM that was asked for")),
        }
    };
    let up = tokio::select! {
        () = ready.closed() => return,
        up = up => up,
    };
    match up {
        Ok((task, sandbox)) => {
            let _ = ready.send(Ok(sandbox));
            task.run(None).await;
        }
        Err(error) => drop(ready.send(Err(error))),
    }
}

struct Task {
    remote: Arc<Remote>,
    reader: Reader,
    writer: Writer,
    /// Not kept by us: without a handle there is nothing to do.
    shared: Weak<Shared>,
    commands: mpsc::Receiver<Command>,
    gone: watch::Sender<Option<Gone>>,
    operations: JoinSet<()>,
    /// Connections over forwards; they go with this.
    forwards: JoinSet<()>,
    clock: Arc<Clock>,
}

impl Task {
    fn new(
        remote: &Arc<Remote>,
        slot: SlotId,
        info: GuestInfo,
        reader: Reader,
        writer: Writer,
    ) -> (Self, Sandbox) {
        let (commands_to, commands) = mpsc::channel(COMMANDS);
        let (gone, gone_from) = watch::channel(None);
        let clock = Arc::new(Clock::starting_now());
        let shared = Shared { slot, info, commands: commands_to, gone: gone_from, clock: Arc::clone(&clock) };
        let shared = Arc::new(shared);
        let task = Self {
            remote: Arc::clone(remote),
            reader,
            writer,
            shared: Arc::downgrade(&shared),
            commands,
            gone,
            operations: JoinSet::new(),
            forwards: JoinSet::new(),
            clock,
        };
        (task, Sandbox { shared })
    }

    async fn run(mut self, mut lease: Option<Leased>) {
        let mut told = false;
        let mut leaving: Option<oneshot::Sender<Result<()>>> = None;
        let mut handles = true;
        let end = loop {
            if lease.is_none() && !handles && self.operations.is_empty() {
                return;
            }
            let (destroy, leave, services) = match &mut lease {
                Some(Leased { destroy, leave, services, .. }) => {
                    (Some(&*destroy), Some(leave), Some(&*services))
                }
                None => (None, None, None),
            };
            tokio::select! {
                biased;
                () = cancelled(destroy), if !told => {
                    told = true;
                    let _ = self.writer.message(&Order::Destroy).await;
                }
                () = self.remote.closing.cancelled(), if destroy.is_none() => {
                    self.gone.send_replace(Some(Gone::Left));
                    return self.operations.shutdown().await;
                }
                said = self.reader.say() => match said {
                    Ok(Say::Gone(gone)) => self.has_gone(gone),
                    Ok(Say::Connect { number, to }) => {
                        let services = services.cloned().unwrap_or_default();
                        let remote = Arc::clone(&self.remote);
                        self.forwards.spawn(forward::connect(remote, number, to, services));
                    }
                    Ok(Say::Ended) => break Ok(()),
                    Ok(Say::Left) => {
                        lease = None;
                        if let Some(answer) = leaving.take() {
                            let _ = answer.send(Ok(()));
                        }
                    }
                    Ok(_) => break Err(nonsense("no word of a VM")),
                    Err(error) => break Err(error),
                },
                Some(answer) = asked(leave), if leaving.is_none() => {
                    leaving = Some(answer);
                    let _ = self.writer.message(&Order::Leave).await;
                }
                Some(_) = self.operations.join_next() => {}
                Some(_) = self.forwards.join_next() => {}
                command = self.commands.recv(), if handles => match command {
                    Some(command) => self.start(command),
                    None => handles = false,
                },
            }
        };
        match &end {
            Err(Error::Engine(EngineError::Lost | EngineError::Protocol(_))) => {
                self.has_gone(Gone::EngineLost)
            }
            Ok(()) | Err(_) => self.has_gone(Gone::Destroyed),
        }
        // they hear of it by themselves, behind what was printed last
        self.operations.detach_all();
        match (leaving, lease) {
            (Some(answer), _) => drop(answer.send(end)),
            (None, Some(lease)) => drop(lease.ended.send(end)),
            (None, None) => {}
        }
    }

    /// From here on commands are not taken: whoever asks finds the reason.
    fn has_gone(&mut self, gone: Gone) {
        self.gone.send_if_modified(|told| {
            let first = told.is_none();
            told.get_or_insert(gone);
            first
        });
        self.commands.close();
        while self.commands.try_recv().is_ok() {}
    }

    fn start(&mut self, command: Command) {
        if self.operations.len() >= MAX_OPERATIONS {
            return command.refuse(Error::Request("too many operations at once"));
        }
        // whoever asked may have gone, and be the last
        let Some(shared) = self.shared.upgrade() else { return };
        let carrier = Carrier {
            remote: Arc::clone(&self.remote),
            id: shared.slot,
            gone: self.gone.subscribe(),
            clock: Arc::clone(&self.clock),
        };
        self.operations.spawn(carry::carry(carrier, Sandbox { shared }, command));
    }
}

async fn cancelled(token: Option<&CancellationToken>) {
    match token {
        Some(token) => token.cancelled().await,
        None => std::future::pending().await,
    }
}

async fn asked<T>(from: Option<&mut mpsc::Receiver<T>>) -> Option<T> {
    match from {
        Some(from) => from.recv().await,
        None => std::future::pending().await,
    }
}
