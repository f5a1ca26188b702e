//! The worst of several exit codes.

use std::process::ExitCode;

use super::{
    SandboxCmdError,
    member::{How, Member},
};

/// The highest exit code of the commands that ran.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Worst(u8);

impl Worst {
    /// That of some members; an error where one was lost.
    pub(super) fn of(members: Vec<Member>) -> Result<Self, SandboxCmdError> {
        let worst = members.iter().filter_map(Member::counts_as).max().unwrap_or(0);
        for member in members {
            if let How::Lost(source) = member.how {
                return Err(SandboxCmdError::Lost { index: member.index, source });
            }
        }
        Ok(Self(worst))
    }
}

impl From<Worst> for ExitCode {
    fn from(worst: Worst) -> Self {
        worst.0.into()
    }
}
