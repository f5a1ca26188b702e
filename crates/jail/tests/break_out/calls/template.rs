//! Writing the template that every VM is a copy of.

use std::{os::fd::RawFd, ptr};

use super::{Tried, at, call, int, last_error, open, write as write_to};
use crate::vmm::Scene;

const PAGE: usize = 4096;

pub(crate) fn write(scene: &Scene) -> Tried {
    write_to(scene.template)
}

fn map(fd: RawFd, protection: i32, flags: i32) -> Tried<*mut u8> {
    // SAFETY: a new mapping, at a place of the kernel's choice.
    let map = unsafe { libc::mmap(ptr::null_mut(), PAGE, protection, flags, fd, 0) };
    if map == libc::MAP_FAILED { Err(last_error()) } else { Ok(map.cast()) }
}

pub(crate) fn map_writable(scene: &Scene) -> Tried {
    let map = map(scene.template, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED)?;
    // SAFETY: the kernel just said that it may be written.
    unsafe { map.write_volatile(0xff) };
    Ok(())
}

pub(crate) fn make_a_mapping_writable(scene: &Scene) -> Tried {
    let map = map(scene.template, libc::PROT_READ, libc::MAP_SHARED)?;
    let protection = libc::PROT_READ | libc::PROT_WRITE;
    call(libc::SYS_mprotect, &[map.expose_provenance(), PAGE, int(protection)])?;
    // SAFETY: the kernel just said that it may be written.
    unsafe { map.write_volatile(0xff) };
    Ok(())
}

/// Through the file of its own memory, which does not ask how a page is mapped.
pub(crate) fn write_past_a_mapping(scene: &Scene) -> Tried {
    let map = map(scene.template, libc::PROT_READ, libc::MAP_SHARED)?;
    let memory = open("/proc/self/mem", libc::O_RDWR)?;
    call(libc::SYS_pwrite64, &[int(memory), at(b"broken"), 6, map.expose_provenance()]).map(drop)
}

pub(crate) fn remove_pages(scene: &Scene) -> Tried {
    let map = map(scene.template, libc::PROT_READ, libc::MAP_SHARED)?;
    call(libc::SYS_madvise, &[map.expose_provenance(), PAGE, int(libc::MADV_REMOVE)]).map(drop)
}

pub(crate) fn truncate(scene: &Scene) -> Tried {
    call(libc::SYS_ftruncate, &[int(scene.template), 0]).map(drop)
}

pub(crate) fn grow(scene: &Scene) -> Tried {
    call(libc::SYS_ftruncate, &[int(scene.template), 1 << 30]).map(drop)
}

pub(crate) fn punch_a_hole(scene: &Scene) -> Tried {
    let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
    call(libc::SYS_fallocate, &[int(scene.template), int(mode), 0, PAGE]).map(drop)
}

pub(crate) fn reopen_and_write(scene: &Scene) -> Tried {
    write_to(open(&format!("/proc/self/fd/{}", scene.template), libc::O_RDWR)?)
}

pub(crate) fn reopen_for_reading_and_again(scene: &Scene) -> Tried {
    let read_only = open(&format!("/proc/self/fd/{}", scene.template), libc::O_RDONLY)?;
    write_to(open(&format!("/proc/self/fd/{read_only}"), libc::O_RDWR)?)
}

/// Seals can only be added, and none to this one: so a seal that could not be added could not be taken away.
pub(crate) fn change_the_seals(scene: &Scene) -> Tried {
    let seals = libc::F_SEAL_WRITE | libc::F_SEAL_SEAL;
    call(libc::SYS_fcntl, &[int(scene.template), int(libc::F_ADD_SEALS), int(seals)]).map(drop)
}

pub(crate) fn copy_into(scene: &Scene) -> Tried {
    call(libc::SYS_sendfile, &[int(scene.template), int(scene.image), 0, PAGE]).map(drop)
}

/// What a VM does all the time: it gets a copy of the page.
pub(crate) fn write_a_private_mapping(scene: &Scene) -> Tried {
    let map = map(scene.template, libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE)?;
    // SAFETY: the kernel just said that it may be written.
    unsafe { map.write_volatile(0xff) };
    Ok(())
}
