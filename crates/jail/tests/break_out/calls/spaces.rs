//! Mounts and namespaces.

use super::{Tried, at, call, int, open, text};

/// What a thread is made with.
pub(crate) const THREAD: i32 =
    libc::CLONE_VM | libc::CLONE_FS | libc::CLONE_FILES | libc::CLONE_SIGHAND | libc::CLONE_THREAD;

pub(crate) fn mount_something() -> Tried {
    let (kind, target) = (text("tmpfs"), text("/proc"));
    call(libc::SYS_mount, &[at(kind.as_c_str()), at(target.as_c_str()), at(kind.as_c_str())]).map(drop)
}

pub(crate) fn remount_root() -> Tried {
    let (none, root) = (text("none"), text("/"));
    let flags = usize::try_from(libc::MS_REMOUNT | libc::MS_BIND).unwrap();
    call(libc::SYS_mount, &[at(none.as_c_str()), at(root.as_c_str()), 0, flags]).map(drop)
}

pub(crate) fn unmount_root() -> Tried {
    let root = text("/");
    call(libc::SYS_umount2, &[at(root.as_c_str()), int(libc::MNT_DETACH)]).map(drop)
}

pub(crate) fn change_root() -> Tried {
    let path = text("/proc");
    call(libc::SYS_chroot, &[at(path.as_c_str())]).map(drop)
}

pub(crate) fn pivot() -> Tried {
    let path = text(".");
    call(libc::SYS_pivot_root, &[at(path.as_c_str()), at(path.as_c_str())]).map(drop)
}

pub(crate) fn open_tree() -> Tried {
    const CLONE: usize = 1;
    let path = text("/");
    call(libc::SYS_open_tree, &[int(libc::AT_FDCWD), at(path.as_c_str()), CLONE]).map(drop)
}

pub(crate) fn unshare(flags: i32) -> Tried {
    call(libc::SYS_unshare, &[int(flags)]).map(drop)
}

pub(crate) fn join() -> Tried {
    let space = open("/proc/self/ns/net", libc::O_RDONLY)?;
    call(libc::SYS_setns, &[int(space), 0]).map(drop)
}

/// A child that comes to be ends at once.
pub(crate) fn clone(flags: i32) -> Tried {
    match call(libc::SYS_clone, &[int(flags)])? {
        // SAFETY: the child has nothing to flush or to release.
        0 => unsafe { libc::_exit(0) },
        _ => Ok(()),
    }
}

/// Without arguments.
pub(crate) fn clone3() -> Tried {
    call(libc::SYS_clone3, &[]).map(drop)
}
