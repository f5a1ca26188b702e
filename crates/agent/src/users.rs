//! Users of the guest.
//!
//! Purpose: an [`Account`] to user id, group id and further groups, from `/etc/passwd` and `/etc/group`.
//! No name service: a guest has none before its first command.

use std::{collections::BTreeSet, fs::File, io::Read};

use wire::message::{Account, Failure, FailureKind};

use crate::failure::failure;

/// Most that is read of either file.
const MAX_FILE: u64 = 4 << 20;

/// Whom a command runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    /// Further groups, the own one among them.
    pub(crate) groups: Vec<u32>,
}

/// Looks an account up.
pub(crate) fn resolve(account: &Account) -> Result<Identity, Failure> {
    match account {
        Account::Ids { uid, gid } => Ok(Identity { uid: *uid, gid: *gid, groups: vec![*gid] }),
        Account::Name(name) => find(name, &read("/etc/passwd"), &read("/etc/group"))
            .ok_or_else(|| failure(FailureKind::User, format!("the guest has no user {name:?}"))),
    }
}

/// A file that is missing has no entries.
fn read(path: &str) -> String {
    let mut bytes = Vec::new();
    if let Ok(file) = File::open(path) {
        // What can be read of a broken file is what there is.
        let _ = file.take(MAX_FILE).read_to_end(&mut bytes);
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A name, or a user id in digits.
fn find(wanted: &str, passwd: &str, group: &str) -> Option<Identity> {
    let (name, uid, gid) = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid: u32 = fields.nth(1)?.parse().ok()?;
        let gid: u32 = fields.next()?.parse().ok()?;
        (name == wanted || uid.to_string() == wanted).then_some((name, uid, gid))
    })?;
    let mut groups = BTreeSet::from([gid]);
    for line in group.lines() {
        let mut fields = line.split(':');
        if let (Some(_), Some(_), Some(gid), Some(members)) =
            (fields.next(), fields.next(), fields.next(), fields.next())
            && members.split(',').any(|member| member == name)
            && let Ok(gid) = gid.parse()
        {
            groups.insert(gid);
        }
    }
    Some(Identity { uid, gid, groups: groups.into_iter().collect() })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/bash\nbroken\n:x:5:5::/:\n\
        runner:x:1001:118:,,,:/home/runner:/bin/bash\n+::::::\n";
    const GROUP: &str = "root:x:0:\nsudo:x:27:other,runner\ndocker:x:999:runnerx\nrunner:x:118:\nx\n";

    #[test]
    fn a_user_has_all_groups_and_no_other() {
        let runner = Identity { uid: 1001, gid: 118, groups: vec![27, 118] };
        assert_eq!(find("runner", PASSWD, GROUP), Some(runner.clone()));
        assert_eq!(find("1001", PASSWD, GROUP), Some(runner));
        assert_eq!(find("root", PASSWD, GROUP).unwrap().uid, 0);
    }

    #[test]
    fn an_unknown_user_is_none() {
        for name in ["", "nobody", "+", "broken", "5x"] {
            assert_eq!(find(name, PASSWD, GROUP), None, "{name}");
        }
    }
}
