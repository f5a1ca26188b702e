//! /dev/kvm: who may open it.

use std::{fs, io, os::unix::fs::MetadataExt};

/// The device.
pub(super) const DEVICE: &str = "/dev/kvm";

/// Who beside root may open it: a VM that root starts has a user of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KvmAccess {
    /// All users.
    Everyone,
    /// This group, which is not root's.
    Group(u32),
    /// Nobody.
    Root,
}

impl KvmAccess {
    /// That of this host's.
    ///
    /// # Errors
    /// There is no such device, or it cannot be looked at.
    pub fn here() -> io::Result<Self> {
        fs::metadata(DEVICE).map(|kvm| Self::of(kvm.mode(), kvm.gid()))
    }

    fn of(mode: u32, group: u32) -> Self {
        const EVERYONE_MAY_USE: u32 = 0o006;
        const GROUP_MAY_USE: u32 = 0o060;
        if mode & EVERYONE_MAY_USE == EVERYONE_MAY_USE {
            Self::Everyone
        } else if group != 0 && mode & GROUP_MAY_USE == GROUP_MAY_USE {
            Self::Group(group)
        } else {
            Self::Root
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_but_roots_or_everyone_lets_a_vm_use_it() {
        for (mode, group, access) in [
            (0o20_600, 0, KvmAccess::Root),
            (0o20_660, 0, KvmAccess::Root),
            (0o20_660, 104, KvmAccess::Group(104)),
            (0o20_640, 104, KvmAccess::Root),
            (0o20_666, 0, KvmAccess::Everyone),
        ] {
            assert_eq!(KvmAccess::of(mode, group), access, "{mode:o} {group}");
        }
    }
}
