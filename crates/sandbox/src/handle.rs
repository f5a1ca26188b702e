//! The handle of a VM: what others hold while the owner task owns it.
//!
//! Owner: anyone; it is cheap to clone and keeps nothing alive. Every method sends one command to the owner
//! task and waits for its answer; dropping the returned future cancels what it asked for.

use std::{path::Path, sync::Arc, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::{
    io::AsyncRead,
    sync::{mpsc, oneshot, watch},
};
use wire::{
    ExecId,
    message::{Account, Copied},
};

use crate::{
    Branch, Error, ExecRequest, Gone, Refusals, Result,
    clock::Clock,
    command::{Answer, Command},
    copy::{self, CopyOut, FetchLimits},
    running::{Control, Running},
};

/// What is known of a guest since it was prepared.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuestInfo {
    /// What stands before every absolute path of a request in the name that commands see: empty in a VM, a
    /// directory of the host in hosted mode.
    pub root_prefix: String,
    /// Release of the guest's kernel: untrusted text, without control characters.
    pub kernel: String,
    /// Version of the agent: untrusted text, without control characters.
    pub agent: String,
    /// How it began.
    pub origin: Origin,
    /// From the start of the VMM to the end of the guest's preparation, as the host saw it.
    pub boot: Duration,
    /// Boots that were needed: 1, or 2 where the first guest never said Hello.
    pub tries: u32,
}

/// How a guest began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// Its kernel was booted.
    Booted,
    /// It is a fork of a template.
    Forked,
    /// It is a fork that stood by.
    Pooled,
    /// It is a fork of a branch of another VM.
    Branched,
}

/// The handle of a leased VM.
#[derive(Clone)]
pub struct Sandbox {
    pub(crate) shared: Arc<Shared>,
}

pub(crate) struct Shared {
    pub(crate) slot: vm::SlotId,
    pub(crate) info: GuestInfo,
    pub(crate) commands: mpsc::Sender<Command>,
    pub(crate) gone: watch::Receiver<Option<Gone>>,
    pub(crate) clock: Arc<Clock>,
}

impl std::fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Sandbox({})", self.shared.slot)
    }
}

impl Sandbox {
    /// Name of its slot.
    #[must_use]
    pub fn id(&self) -> vm::SlotId {
        self.shared.slot
    }

    /// What is known of the guest.
    #[must_use]
    pub fn info(&self) -> &GuestInfo {
        &self.shared.info
    }

    /// Starts a command; returns when it runs. Its end is [`Running::exit`].
    ///
    /// # Errors
    /// [`Error::Guest`] where it could not be started, [`Error::Gone`] where the VM went.
    pub async fn exec(&self, request: ExecRequest) -> Result<Running> {
        self.ask(|answer| Command::Exec { request, answer }).await
    }

    /// Unpacks a tar stream into the directory `dest` of the guest, which is made where it is missing.
    /// Everything in it then belongs to `owner`. Returns when all is written.
    ///
    /// # Errors
    /// [`Error::CopySource`] where `source` failed, [`Error::Guest`] with the entry's name where an entry is
    /// refused or could not be written; what was unpacked before stays.
    pub async fn copy_in(
        &self,
        dest: impl Into<String>,
        owner: Account,
        source: impl AsyncRead + Send + Unpin + 'static,
    ) -> Result<Copied> {
        let (dest, source) = (dest.into(), Box::new(source));
        self.ask(|answer| Command::CopyIn { dest, owner, source, answer }).await
    }

    /// Packs a file, or the content of a directory, of the guest into a tar stream. The stream is hostile:
    /// unpack it with [`Sandbox::fetch`] or with rules of the same kind.
    ///
    /// # Errors
    /// [`Error::Gone`]. That the path is not there is told by the stream's reader.
    pub async fn copy_out(&self, path: impl Into<String>) -> Result<CopyOut> {
        let path = path.into();
        self.ask(|answer| Command::CopyOut { path, answer }).await
    }

    /// Copies a file, or the content of a directory, of the guest into the directory `dest` of the host,
    /// which is made where it is missing. Nothing outside of `dest` is touched, whatever the guest sends;
    /// what was made before an error stays.
    ///
    /// # Errors
    /// [`Error::Tree`] where an entry is refused, a limit is reached or `dest` cannot be written;
    /// [`Error::Guest`] where the guest could not read `path`; [`Error::Gone`].
    pub async fn fetch(&self, path: impl Into<String>, dest: &Path, limits: FetchLimits) -> Result<Copied> {
        let stream = self.copy_out(path).await?;
        copy::unpack(stream, dest.to_owned(), limits).await
    }

    /// Makes a copy of the whole VM as it is now, memory and disk, of which others can be forked
    /// ([`crate::Engine::lease_branch`]). What runs in it stands still for a moment and goes on, whatever comes of
    /// this. One branch of a VM is made after the other.
    ///
    /// # Errors
    /// [`Error::NotFrozen`] where what runs in it does not stop, [`Error::Save`] where the backend cannot,
    /// [`Error::DiskFull`]; [`Error::Gone`] where the VM went.
    pub async fn branch(&self) -> Result<Branch> {
        self.ask(|answer| Command::Branch { answer }).await
    }

    /// What it tried to reach and may not, by address and port, since it was leased.
    ///
    /// # Errors
    /// [`Error::Network`] where that cannot be told; [`Error::Gone`].
    pub async fn refused(&self) -> Result<Refusals> {
        self.ask(|answer| Command::Refused { answer }).await
    }

    /// Asks the agent whether it is there; returns how long its answer took.
    ///
    /// # Errors
    /// [`Error::Gone`].
    pub async fn ping(&self) -> Result<Duration> {
        let asked = tokio::time::Instant::now();
        self.ask(|answer| Command::Ping { answer }).await?;
        Ok(asked.elapsed())
    }

    /// `None` while the VM lives, then why it does not. It never changes again.
    #[must_use]
    pub fn gone(&self) -> watch::Receiver<Option<Gone>> {
        self.shared.gone.clone()
    }

    /// The time for a row of the log that the host itself writes: now, but not before any chunk's.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.shared.clock.host_row()
    }

    /// Signals for a command that somebody else started.
    pub(crate) fn control(&self, exec: ExecId) -> Control {
        Control { sandbox: self.clone(), exec }
    }

    /// Why a command got no answer.
    pub(crate) fn why(&self) -> Error {
        self.shared.gone.borrow().clone().map_or(Error::Lost, Error::Gone)
    }

    pub(crate) async fn ask<T>(&self, command: impl FnOnce(Answer<T>) -> Command) -> Result<T> {
        let (answer, answered) = oneshot::channel();
        if self.shared.commands.send(command(answer)).await.is_err() {
            return Err(self.why());
        }
        match answered.await {
            Ok(result) => result,
            Err(_) => Err(self.why()),
        }
    }
}
