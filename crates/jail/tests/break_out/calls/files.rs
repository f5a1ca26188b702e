//! Files: the shared image, those of other VMs and of the host, and the jail's own file system.

use std::path::Path;

use super::{Tried, at, call, int, open, text, write};
use crate::vmm::Scene;

pub(crate) fn image_write(scene: &Scene) -> Tried {
    write(scene.image)
}

pub(crate) fn image_reopen(scene: &Scene) -> Tried {
    write(open(&format!("/proc/self/fd/{}", scene.image), libc::O_RDWR)?)
}

pub(crate) fn image_change_mode(scene: &Scene) -> Tried {
    call(libc::SYS_fchmod, &[int(scene.image), 0o666])?;
    image_reopen(scene)
}

pub(crate) fn list(path: &str) -> Tried {
    let directory = open(path, libc::O_RDONLY | libc::O_DIRECTORY)?;
    let mut entries = [0_u64; 512];
    call(libc::SYS_getdents64, &[int(directory), entries.as_mut_ptr().expose_provenance(), 4096]).map(drop)
}

pub(crate) fn read(path: &str) -> Tried {
    open(path, libc::O_RDONLY).map(drop)
}

fn string(path: &Path) -> &str {
    path.to_str().unwrap()
}

pub(crate) fn list_the_slots(scene: &Scene) -> Tried {
    list(string(&scene.known.slots))
}

pub(crate) fn list_the_slot(scene: &Scene) -> Tried {
    list(string(&scene.known.slot))
}

pub(crate) fn read_the_disk(scene: &Scene) -> Tried {
    read(string(&scene.known.slot.join(crate::DISK)))
}

pub(crate) fn open_by_handle() -> Tried {
    // Its length, its kind, and that of the root directory's inode in most file systems.
    let handle = [8_u32, 1, 2, 0];
    call(libc::SYS_open_by_handle_at, &[int(libc::AT_FDCWD), at(&handle), 0]).map(drop)
}

/// A file of the program's own directory, which everyone may write by its mode.
pub(crate) fn write_to_the_view(scene: &Scene) -> Tried {
    let prefix = scene.program.parent().and_then(Path::parent).unwrap();
    write(open(string(&prefix.join(crate::SHARED)), libc::O_WRONLY)?)
}

pub(crate) fn open_for_writing(path: &str) -> Tried {
    open(path, libc::O_WRONLY).map(drop)
}

/// Until there is no more room for anyone.
pub(crate) fn fill(path: &str) -> Tried {
    fill_open(open(path, libc::O_WRONLY | libc::O_CREAT)?)
}

pub(crate) fn fill_unnamed(directory: &str) -> Tried {
    fill_open(open(directory, libc::O_WRONLY | libc::O_TMPFILE)?)
}

fn fill_open(file: i32) -> Tried {
    let bytes = [0_u8; 4096];
    while call(libc::SYS_write, &[int(file), at(&bytes), bytes.len()]).is_ok() {}
    Ok(())
}

pub(crate) fn make_directory(path: &str) -> Tried {
    let path = text(path);
    call(libc::SYS_mkdir, &[at(path.as_c_str()), 0o777]).map(drop)
}

/// The first disk of most hosts.
pub(crate) fn make_device(path: &str) -> Tried {
    let path = text(path);
    let device = usize::try_from(libc::makedev(8, 0)).unwrap();
    call(libc::SYS_mknod, &[at(path.as_c_str()), (libc::S_IFBLK | 0o666) as usize, device]).map(drop)
}
