//! As whom a Gitea runs, and how it ends with us.
//!
//! Purpose: it refuses to run as root, and must not outlive the tests, however they end. `setpriv`, which every
//! Debian has, does both without code of ours between fork and exec.

use std::{ffi::OsStr, fs, path::Path, process::Command};

/// Whose process the server is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum User {
    /// Ours: we are no root.
    Same,
    /// Another's, since we are root.
    Other {
        /// User.
        uid: u32,
        /// Group.
        gid: u32,
    },
}

impl User {
    /// Ours, or nobody's.
    pub(super) fn find() -> Self {
        if rustix::process::geteuid().is_root() {
            nobody(&fs::read_to_string("/etc/passwd").unwrap_or_default())
        } else {
            Self::Same
        }
    }

    /// A call of a program as this user, killed when the calling thread ends.
    pub(super) fn command(self, program: &Path) -> Command {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--no-new-privs"]);
        if let Self::Other { uid, gid } = self {
            let (uid, gid) = (uid.to_string(), gid.to_string());
            command.args(["--reuid", &uid, "--regid", &gid, "--clear-groups"]);
        }
        command.arg(OsStr::new("--")).arg(program);
        command
    }
}

fn nobody(passwd: &str) -> User {
    let ids = passwd.lines().find_map(|line| {
        let mut fields = line.strip_prefix("nobody:")?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    });
    let (uid, gid) = ids.unwrap_or((65534, 65534));
    User::Other { uid, gid }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_looked_up() {
        let passwd = "root:x:0:0:root:/root:/bin/sh\nnobody:x:99:98:nobody:/nonexistent:/bin/false\n";
        assert_eq!(nobody(passwd), User::Other { uid: 99, gid: 98 });
        assert_eq!(nobody(""), User::Other { uid: 65534, gid: 65534 });
    }
}
