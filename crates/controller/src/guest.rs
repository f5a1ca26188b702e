//! What a sandbox looks like from inside, through whichever door it was made.
//!
//! Owner: whoever leases one; plain data.

use sandbox::{Account, Bind, Directory, GuestInfo};

/// Where commands run; a directory of the scratch disk, and root's home.
pub const DIRECTORY: &str = "/workspace";
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What is known of a sandbox when it is leased.
#[must_use]
pub fn bind() -> Bind {
    let directory = |path: &str, mode| Directory { path: path.to_owned(), owner: Account::ROOT, mode };
    Bind {
        hostname: "sandbox".to_owned(),
        directories: vec![
            directory("/tmp", 0o1777),
            directory("/var/lib/containers", 0o755),
            directory(DIRECTORY, 0o755),
        ],
        ..Bind::default()
    }
}

/// The environment of a command.
#[must_use]
pub fn environment(guest: &GuestInfo) -> Vec<(String, String)> {
    let home = format!("{}{DIRECTORY}", guest.root_prefix);
    let env = [("PATH", PATH), ("HOME", &home), ("USER", "root"), ("LANG", "C.UTF-8")];
    env.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec()
}
