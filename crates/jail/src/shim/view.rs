//! The program's mounts: a private table, its own /proc, and, where a [`View`] is given, a file system that
//! holds of the host what is listed, read-only, and nothing else.
//!
//! Only the program's process enters it. The mounts are slaves of the host's: an unmount on the host is not
//! held up by a VM.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Component, Path, PathBuf},
};

use rustix::{
    fs::{StatVfsMountFlags, statvfs},
    mount::{
        MountFlags, MountPropagationFlags, UnmountFlags, mount, mount_bind_recursive, mount_change,
        mount_remount, unmount,
    },
    process::pivot_root,
};

use super::{
    Failure,
    spaces::{self, Missing},
};
use crate::launch::{Part, View};

const PROC: MountFlags = MountFlags::NOSUID.union(MountFlags::NODEV).union(MountFlags::NOEXEC);

/// Enters the program's mounts; `scratch` is a directory to build them on, not seen by the program.
pub(super) fn enter(view: Option<&View>, scratch: &Path, missing: &mut Missing) -> Result<(), Failure> {
    spaces::enter(Part::MountNamespace, missing);
    if missing.has(Part::MountNamespace) {
        missing.extend([Part::Proc].into_iter().chain(view.map(|_| Part::Root)));
        return Ok(());
    }
    mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)
        .map_err(Failure::io("make the mounts private"))?;
    let Some(view) = view else {
        mount_proc(Path::new("/proc"), missing);
        return Ok(());
    };
    if build(view, scratch, missing).and_then(|()| pivot(scratch)).is_err() {
        missing.add(Part::Root);
        // A half-built one is worse than none; where nothing was mounted there is nothing to undo.
        let _ = unmount(scratch, UnmountFlags::DETACH);
        mount_proc(Path::new("/proc"), missing);
    }
    Ok(())
}

/// Own /proc. Has to come before the host's is out of sight: a user namespace gets no new one after that.
fn mount_proc(target: &Path, missing: &mut Missing) {
    if missing.has(Part::PidNamespace) || mount("proc", target, "proc", PROC, None).is_err() {
        missing.add(Part::Proc);
    }
}

fn build(view: &View, scratch: &Path, missing: &mut Missing) -> io::Result<()> {
    let flags = MountFlags::NOSUID | MountFlags::NODEV;
    mount("jail", scratch, "tmpfs", flags, Some(c"size=256k,nr_inodes=256,mode=0755"))?;
    for path in &view.read_only {
        show(path, scratch, Kind::ReadOnly)?;
    }
    for path in &view.devices {
        show(path, scratch, Kind::Device)?;
    }
    let proc = scratch.join("proc");
    fs::create_dir_all(&proc)?;
    mount_proc(&proc, missing);
    if missing.has(Part::Proc) {
        mount_bind_recursive("/proc", &proc)?;
    }
    Ok(())
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    ReadOnly,
    Device,
}

/// Makes `path` of the host visible below `root`; a link is copied, not followed.
fn show(path: &Path, root: &Path, kind: Kind) -> io::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else { return Ok(()) };
    let target = below(root, path)?;
    if let Some(parent) = target.parent() {
        fs::create_dir_all(parent)?;
    }
    if metadata.is_symlink() {
        return symlink(fs::read_link(path)?, target);
    }
    if metadata.is_dir() {
        fs::create_dir_all(&target)?;
    } else {
        fs::File::create(&target)?;
    }
    mount_bind_recursive(path, &target)?;
    if kind == Kind::Device {
        return Ok(());
    }
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount_remount(&target, flags | restrictions_of(&target)?, "")?)
}

/// `path` with `root` in front.
fn below(root: &Path, path: &Path) -> io::Result<PathBuf> {
    let mut target = root.to_owned();
    for component in path.components() {
        match component {
            Component::RootDir => {}
            Component::Normal(name) => target.push(name),
            _ => return Err(io::ErrorKind::InvalidInput.into()),
        }
    }
    Ok(target)
}

/// What the host's mount forbids already: a user namespace may add to it and not take away.
fn restrictions_of(path: &Path) -> io::Result<MountFlags> {
    let now = statvfs(path)?.f_flag;
    let known = [
        (StatVfsMountFlags::NOEXEC, MountFlags::NOEXEC),
        (StatVfsMountFlags::NOATIME, MountFlags::NOATIME),
        (StatVfsMountFlags::NODIRATIME, MountFlags::NODIRATIME),
        (StatVfsMountFlags::RELATIME, MountFlags::RELATIME),
    ];
    Ok(known.into_iter().filter(|(flag, _)| now.contains(*flag)).map(|(_, flag)| flag).collect())
}

/// Makes `root` the root directory; what was before is out of reach.
fn pivot(root: &Path) -> io::Result<()> {
    rustix::process::chdir(root)?;
    pivot_root(".", ".")?;
    // The old root is stacked on the new one.
    unmount(".", UnmountFlags::DETACH)?;
    rustix::process::chdir("/")?;
    let flags = MountFlags::BIND | MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV;
    Ok(mount_remount("/", flags, "")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_stays_below_the_root() {
        let root = Path::new("/jail");
        assert_eq!(below(root, Path::new("/usr/./lib")).unwrap(), Path::new("/jail/usr/lib"));
        assert!(below(root, Path::new("/usr/../../etc")).is_err());
    }
}
