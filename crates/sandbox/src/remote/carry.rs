//! Commands of handles, carried to the engine process: one connection each.
//!
//! Invariant: an operation ends by itself when nobody waits for its answer any more; the end of its connection ends
//! it in the engine.

use std::sync::Arc;

use tokio::{sync::watch, time::timeout};
use vm::SlotId;

use super::{
    client::{FarBranch, Remote},
    error::EngineError,
    link::nonsense,
    message::{Ask, Say},
    operation,
};
use crate::{
    Branch, Error, Gone, Result, Sandbox,
    clock::Clock,
    command::{Answer, Command},
};

/// How much later a VM's end may be heard of than that it is not there.
const LATER: std::time::Duration = std::time::Duration::from_secs(1);

/// What an operation has of its VM.
pub(super) struct Carrier {
    pub(super) remote: Arc<Remote>,
    pub(super) id: SlotId,
    pub(super) gone: watch::Receiver<Option<Gone>>,
    pub(super) clock: Arc<Clock>,
}

impl Carrier {
    /// What is to be told: that the engine or the VM is gone is one thing to those who use the VM.
    pub(super) async fn told(&mut self, error: Error) -> Error {
        let gone = match error {
            Error::Engine(EngineError::Lost | EngineError::Absent { .. }) => Gone::EngineLost,
            Error::Engine(EngineError::Ending) => Gone::Destroyed,
            Error::NotKept { .. } => {
                // it was there: whoever hears of its end knows more
                match timeout(LATER, self.gone.wait_for(Option::is_some)).await {
                    Ok(Ok(gone)) => gone.clone().unwrap_or(Gone::Destroyed),
                    Ok(Err(_)) | Err(_) => Gone::Destroyed,
                }
            }
            error => return error,
        };
        Error::Gone(self.why(gone))
    }

    /// Why the VM is gone, as far as that was heard.
    pub(super) fn why(&self, otherwise: Gone) -> Gone {
        self.gone.borrow().clone().unwrap_or(otherwise)
    }

    async fn done(&mut self, ask: Ask, answer: Answer<()>) {
        self.once(ask, answer, |said| matches!(said, Say::Done).then_some(())).await;
    }

    async fn once<T>(&mut self, ask: Ask, mut answer: Answer<T>, of: impl FnOnce(Say) -> Option<T>) {
        let said = tokio::select! {
            biased;
            () = answer.closed() => return,
            said = self.remote.once(&ask) => said,
        };
        let result = match said {
            Ok(said) => of(said).ok_or_else(|| nonsense("another answer than to what was asked")),
            Err(error) => Err(self.told(error).await),
        };
        let _ = answer.send(result);
    }

    async fn branch(&mut self, mut answer: Answer<Branch>) {
        let ask = Ask::Branch { id: self.id };
        let made = async {
            let mut connection = self.remote.open(&ask).await?;
            match connection.0.say().await? {
                Say::Branched { branch, source, times } => {
                    Ok(FarBranch { branch, source, times, _connection: connection })
                }
                _ => Err(nonsense("no word of the branch")),
            }
        };
        let made = tokio::select! {
            biased;
            () = answer.closed() => return,
            made = made => made,
        };
        let result: Result<Branch> = match made {
            Ok(branch) => Ok(Branch::there(branch)),
            Err(error) => Err(self.told(error).await),
        };
        let _ = answer.send(result);
    }
}

/// Carries out `command`.
pub(super) async fn carry(mut carrier: Carrier, sandbox: Sandbox, command: Command) {
    let id = carrier.id;
    match command {
        Command::Exec { request, answer } => operation::exec(carrier, sandbox, request, answer).await,
        command => {
            // no operation keeps a handle for itself
            drop(sandbox);
            match command {
                Command::Exec { .. } => {}
                Command::Signal { exec, signal, answer } => {
                    carrier.done(Ask::Signal { id, exec, signal }, answer).await;
                }
                Command::Kill { exec, answer } => carrier.done(Ask::Kill { id, exec }, answer).await,
                Command::Resize { exec, size, answer } => {
                    carrier.done(Ask::Resize { id, exec, size: size.into() }, answer).await;
                }
                Command::CopyIn { dest, owner, source, answer } => {
                    let ask = Ask::CopyIn { id, dest, owner };
                    operation::copy_in(carrier, ask, source, answer).await;
                }
                Command::CopyOut { path, answer } => operation::copy_out(carrier, path, answer).await,
                Command::Branch { answer } => carrier.branch(answer).await,
                Command::Keep { until, answer } => carrier.done(Ask::Keep { id, until }, answer).await,
                Command::Refused { answer } => {
                    let of = |said| match said {
                        Say::Refused(refused) => Some(refused),
                        _ => None,
                    };
                    carrier.once(Ask::Refused { id }, answer, of).await;
                }
                Command::Ping { answer } => carrier.done(Ask::Ping { id }, answer).await,
            }
        }
    }
}
