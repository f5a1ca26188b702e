//! The five classes of errors, and the one place that knows which error is of which.
//!
//! Purpose: the class decides the exit code, and nothing else does. Owner: this door; the runner and the
//! controller will have tables of their own.
//! Invariant: one `match` per error type, without a catch-all arm, so that a new error has to be thought of.

use std::process::ExitCode;

use sandbox::Whose;

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// What was asked for cannot be done: a bad workflow, option or recipe.
    User,
    /// The host or the network does not do what it has to.
    Infrastructure,
    /// We did not do what we have to.
    Bug,
    /// Someone ended it.
    Cancelled,
    /// It would have taken more than it may.
    Limit,
}

/// How a command ended, from best to worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Everything was done.
    Success,
    /// A workflow failed, its time was over, or it reached a limit.
    Failed,
    /// The user ended it.
    Cancelled,
    /// [`Class::User`].
    User,
    /// [`Class::Infrastructure`].
    Infrastructure,
    /// [`Class::Bug`].
    Bug,
}

impl End {
    /// The exit code, a promise of the documentation.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Success => 0,
            Self::Failed => 1,
            Self::User => 2,
            Self::Infrastructure => 3,
            Self::Bug => 4,
            Self::Cancelled => 130,
        }
    }
}

impl From<Class> for End {
    fn from(class: Class) -> Self {
        match class {
            Class::User => Self::User,
            Class::Infrastructure => Self::Infrastructure,
            Class::Bug => Self::Bug,
            Class::Cancelled => Self::Cancelled,
            Class::Limit => Self::Failed,
        }
    }
}

impl From<End> for ExitCode {
    fn from(end: End) -> Self {
        Self::from(end.code())
    }
}

/// An error whose class is known.
pub trait Classed {
    /// Its class.
    fn class(&self) -> Class;
}

impl Classed for vm::Error {
    fn class(&self) -> Class {
        match self {
            Self::Io { .. }
            | Self::Missing { .. }
            | Self::Jail(_)
            | Self::Ended { .. }
            | Self::Control(_)
            | Self::TimedOut { .. }
            | Self::NotFrozen(_)
            | Self::Gone(_) => Class::Infrastructure,
            Self::Unsupported(_) => Class::User,
        }
    }
}

impl Classed for sandbox::Gone {
    fn class(&self) -> Class {
        match self {
            Self::Exited(_)
            | Self::Protocol(_)
            | Self::Silent(_)
            | Self::LinkLost(_)
            | Self::Nameless(_)
            | Self::EngineLost => Class::Infrastructure,
            Self::Expired => Class::Limit,
            Self::Destroyed | Self::Left => Class::Cancelled,
        }
    }
}

impl Classed for sandbox::Error {
    fn class(&self) -> Class {
        match self {
            Self::Backend(error) | Self::Save(error) => error.class(),
            Self::Gone(gone) => gone.class(),
            Self::Template(error) => error.class(),
            Self::Engine(error) => error.class(),
            Self::State { .. }
            | Self::DiskFull { .. }
            | Self::Tool { .. }
            | Self::NoIdentity { .. }
            | Self::Teardown { .. }
            | Self::NoHello { .. }
            | Self::NoRoom { .. }
            | Self::NoNetwork { .. }
            | Self::Network(_)
            | Self::Boot { .. }
            | Self::Prepare { .. }
            | Self::NotFrozen { .. }
            | Self::CopySource(_)
            | Self::Version { .. } => Class::Infrastructure,
            Self::Guest { kind, .. } => kind.class(),
            Self::Tree(error) => error.class(),
            Self::Image { .. }
            | Self::Request(_)
            | Self::NotKept { .. }
            | Self::Owned { .. }
            | Self::Foreign { .. } => Class::User,
            Self::TooMuchOutput { .. } => Class::Limit,
            Self::Cancelled => Class::Cancelled,
            Self::Closed | Self::Lost | Self::NotToKeep => Class::Bug,
        }
    }
}

impl Classed for sandbox::EngineError {
    fn class(&self) -> Class {
        match self {
            Self::Absent { .. } | Self::Socket { .. } | Self::Ending | Self::Lost => Class::Infrastructure,
            Self::Running { .. } | Self::Stranger { .. } | Self::Build { .. } => Class::User,
            Self::Protocol(_) => Class::Bug,
            Self::Said { whose, .. } => match whose {
                Whose::User => Class::User,
                Whose::Host => Class::Infrastructure,
                Whose::Ours => Class::Bug,
            },
        }
    }
}

impl Classed for tree::Error {
    fn class(&self) -> Class {
        match self {
            Self::Refused { .. } => Class::User,
            Self::Limit { .. } => Class::Limit,
            Self::Entry { .. } if self.is_wrong_path() => Class::User,
            // what is unpacked here a sandbox sent
            Self::Read(_) | Self::Archive(_) | Self::Write(_) | Self::Entry { .. } => Class::Infrastructure,
        }
    }
}

impl Classed for sandbox::FailureKind {
    fn class(&self) -> Class {
        match self {
            Self::NotFound | Self::Permission | Self::Cwd | Self::User | Self::Entry => Class::User,
            // the disk of the guest: it has the size that it may have
            Self::NoSpace => Class::Limit,
            Self::Io => Class::Infrastructure,
            Self::Invalid | Self::State => Class::Bug,
        }
    }
}

impl Classed for job::Error {
    fn class(&self) -> Class {
        match self {
            Self::Lease(error) | Self::Vm(error) | Self::Destroy(error) => error.class(),
            Self::Unkillable => Class::Infrastructure,
            Self::Tree(error) => error.class(),
            Self::Secrets(_) => Class::Limit,
        }
    }
}

impl Classed for job::TreeError {
    fn class(&self) -> Class {
        match self {
            Self::NotThere(_) => Class::User,
            Self::Read(_) => Class::Infrastructure,
        }
    }
}

impl Classed for store::Error {
    fn class(&self) -> Class {
        match self {
            Self::Full { .. }
            | Self::Io { .. }
            | Self::Missing { .. }
            | Self::Corrupt { .. }
            | Self::Record { .. } => Class::Infrastructure,
            Self::Pinned { .. } => Class::User,
            Self::TooLarge { .. } => Class::Limit,
        }
    }
}

impl Classed for image::Error {
    fn class(&self) -> Class {
        match self {
            Self::Recipe(_) | Self::RecipeFile { .. } | Self::Unknown { .. } => Class::User,
            Self::Manifest { .. }
            | Self::Missing { .. }
            | Self::Architecture(_)
            | Self::Namespaces { .. }
            | Self::Node { .. }
            | Self::Packages { .. }
            | Self::Pack { .. }
            | Self::Incomplete { .. }
            | Self::Full { .. }
            | Self::Io { .. } => Class::Infrastructure,
            Self::Cancelled => Class::Cancelled,
            Self::Store(error) => error.class(),
        }
    }
}

impl Classed for controller::Error {
    fn class(&self) -> Class {
        match self {
            Self::Open { .. } | Self::Inside => Class::User,
            Self::Kept(error) => error.class(),
            Self::Ledger(_) | Self::Listen(_) => Class::Infrastructure,
        }
    }
}

impl Classed for controller::TokenError {
    fn class(&self) -> Class {
        match self {
            Self::Read { .. } | Self::Length { .. } | Self::Characters { .. } => Class::User,
        }
    }
}

impl Classed for crate::worktree::Error {
    fn class(&self) -> Class {
        match self {
            Self::Directory { .. } | Self::Read { .. } | Self::GitDir { .. } | Self::Git { .. } => {
                Class::User
            }
            Self::TooDeep { .. } => Class::Limit,
            Self::Start(_) | Self::Write(_) => Class::Infrastructure,
        }
    }
}

impl Classed for crate::state_dir::NoStateDir {
    fn class(&self) -> Class {
        match self {
            Self::NoHome | Self::WorkingDirectory(_) => Class::User,
        }
    }
}

impl Classed for crate::registry::RegistryError {
    fn class(&self) -> Class {
        match self {
            Self::Unknown { .. } => Class::User,
            Self::Make(error) => error.class(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_that_cannot_be_is_the_users_and_a_disk_is_not() {
        let class = |kind: rustix::io::Errno| {
            tree::Error::Entry { entry: "x".to_owned(), source: kind.into() }.class()
        };
        assert_eq!(class(rustix::io::Errno::NOTDIR), Class::User);
        assert_eq!(class(rustix::io::Errno::ACCESS), Class::User);
        assert_eq!(class(rustix::io::Errno::IO), Class::Infrastructure);
        assert_eq!(class(rustix::io::Errno::NOSPC), Class::Infrastructure);
    }

    #[test]
    fn exit_codes_are_a_promise() {
        let codes = [Class::User, Class::Infrastructure, Class::Bug, Class::Cancelled, Class::Limit]
            .map(|class| End::from(class).code());
        assert_eq!(codes, [2, 3, 4, 130, 1]);
        assert_eq!((End::Success.code(), End::Failed.code()), (0, 1));
        assert_eq!([End::Failed, End::Bug, End::User].into_iter().max(), Some(End::Bug));
    }
}
