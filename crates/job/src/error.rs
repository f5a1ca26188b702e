//! Why a job could not be run to its end.

use workflow::mask::TooManyMasks;

use crate::TreeError;

/// Why a job could not be run to its end. Its events are complete all the same: `JobEnd` says failure.
///
/// Exhaustive: each door maps every variant to a class, which stands beside it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// By the engine's error: no VM could be made.
    #[error("no VM could be made for the job")]
    Lease(#[source] sandbox::Error),
    /// Infrastructure: the VM went while the job ran, or did not do what it always can.
    #[error("the job's VM failed")]
    Vm(#[source] sandbox::Error),
    /// Infrastructure: what a step started does not end, not even when it is killed.
    #[error("a step did not end after it was killed")]
    Unkillable,
    /// Infrastructure: the repository's files could not be read.
    #[error("the repository's files could not be read")]
    Tree(#[source] TreeError),
    /// Limit: the secrets of the job are too many to be masked.
    #[error("the job's secrets cannot be masked")]
    Secrets(#[source] TooManyMasks),
    /// Infrastructure: the job ended, but something of its VM is left.
    #[error("the job's VM could not be removed")]
    Destroy(#[source] sandbox::Error),
}
