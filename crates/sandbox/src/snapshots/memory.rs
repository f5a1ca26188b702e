//! Memory and disks of saved VMs as files without a name: made, sealed, compared, copied.
//!
//! Only what is there is touched: a hole is zeroes and stays a hole.

use std::{
    fs::File,
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::fs::FileExt,
    },
    time::{Duration, Instant},
};

use rustix::{
    fs::{MemfdFlags, SealFlags, SeekFrom, fcntl_add_seals, memfd_create, seek},
    io::Errno,
};
use serde::{Deserialize, Serialize};
use store::Digest;
use vm::{Mebibytes, Ram};

/// Name of disks, as /proc shows it.
const DISK: &str = "ampoule-disk";
/// How long the kernel may hold a page of a file that is to be sealed.
const HELD: Duration = Duration::from_secs(10);
/// After how long it is asked once more.
const AGAIN: Duration = Duration::from_millis(10);
/// The longest extent in bytes.
const EXTENT: usize = 1 << 20;

/// A part of a file that is not a hole.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Extent {
    /// Where in the file, in bytes.
    pub(crate) offset: u64,
    pub(crate) length: u32,
    pub(crate) digest: Digest,
}

/// Why a file of a snapshot is not what it was.
#[derive(Debug)]
pub(crate) enum Fault {
    Io(io::Error),
    /// In words.
    Damaged(String),
}

impl From<io::Error> for Fault {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// An empty memory.
pub(crate) fn ram_file(size: Mebibytes) -> io::Result<Ram> {
    Ok(Ram::new(OwnedFd::from(empty(Ram::NAME, size.bytes())?), size))
}

/// An empty file of `length` bytes that can be sealed.
fn empty(name: &str, length: u64) -> io::Result<File> {
    let file = File::from(memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?);
    file.set_len(length)?;
    Ok(file)
}

/// Seals a file without a name against every write, for ever. Fails while a VM still has it mapped for writing.
///
/// Waits for those who hold a page of it for a moment. To the kernel each reference to a page might be somebody who
/// writes to it, and it has them itself when it looks for pages to reclaim or moves them: on a host that is short of
/// memory or processors its own patience of 150 ms is not enough.
pub(crate) fn seal(file: impl AsFd) -> io::Result<()> {
    let begun = Instant::now();
    loop {
        match seal_once(&file) {
            Err(Errno::BUSY) if begun.elapsed() < HELD => std::thread::sleep(AGAIN),
            sealed => return sealed.map_err(Into::into),
        }
    }
}

fn seal_once(file: impl AsFd) -> rustix::io::Result<()> {
    fcntl_add_seals(file, SealFlags::WRITE | SealFlags::GROW | SealFlags::SHRINK | SealFlags::SEAL)
}

/// A file without a name once more, with a position of its own: who looks for data moves it.
pub(crate) fn opened(file: impl AsFd) -> io::Result<File> {
    File::open(format!("/proc/self/fd/{}", file.as_fd().as_raw_fd()))
}

/// A copy of a disk, sealed.
pub(crate) fn disk(from: &File) -> io::Result<File> {
    let to = empty(DISK, from.metadata()?.len())?;
    extents(from, |offset, bytes| to.write_all_at(bytes, offset))?;
    seal(&to)?;
    Ok(to)
}

/// Hands every part of a file that is no hole to `each`, in order.
pub(crate) fn extents<E: From<io::Error>>(
    file: impl AsFd,
    mut each: impl FnMut(u64, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    let file = opened(file)?;
    let length = file.metadata()?.len();
    let mut buffer = vec![0; EXTENT];
    let mut at = 0;
    while at < length {
        let start = match seek(&file, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => return Ok(()),
            Err(error) => return Err(io::Error::from(error).into()),
        };
        let end = seek(&file, SeekFrom::Hole(start)).map_err(io::Error::from)?;
        at = start;
        while at < end {
            let room = usize::try_from(end - at).unwrap_or(EXTENT).min(EXTENT);
            let part = buffer.get_mut(..room).unwrap_or_default();
            file.read_exact_at(part, at)?;
            each(at, part)?;
            at += room as u64;
        }
    }
    Ok(())
}

/// Writes `from` to `file`, with holes where it has some, and tells what is where.
pub(crate) fn write(from: impl AsFd, file: &File) -> io::Result<Vec<Extent>> {
    file.set_len(opened(from.as_fd())?.metadata()?.len())?;
    let mut found = Vec::new();
    extents(from, |offset, bytes| {
        file.write_all_at(bytes, offset)?;
        let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        found.push(Extent { offset, length, digest: Digest::of(bytes) });
        Ok::<(), io::Error>(())
    })?;
    Ok(found)
}

/// Reads a memory of `size` from `file`, comparing every extent while it is copied, and seals it.
pub(crate) fn read(file: &File, size: Mebibytes, extents: &[Extent]) -> Result<Ram, Fault> {
    let ram = compared(file, "memory", Ram::NAME, size.bytes(), extents)?;
    Ok(Ram::new(OwnedFd::from(ram), size))
}

/// Reads a disk of `length` bytes so.
pub(crate) fn read_disk(file: &File, length: u64, extents: &[Extent]) -> Result<File, Fault> {
    compared(file, "disk", DISK, length, extents)
}

fn compared(file: &File, what: &str, name: &str, size: u64, extents: &[Extent]) -> Result<File, Fault> {
    if file.metadata()?.len() != size {
        return Err(Fault::Damaged(format!("its {what} has another size than {size} bytes")));
    }
    let to = empty(name, size)?;
    let mut buffer = vec![0; EXTENT];
    let mut end = 0;
    for extent in extents {
        let Extent { offset, length, digest } = extent;
        let length = usize::try_from(*length).unwrap_or(usize::MAX);
        let after = offset.checked_add(length as u64).filter(|after| *after <= size);
        let part = buffer.get_mut(..length);
        let (Some(after), Some(part), true) = (after, part, *offset >= end) else {
            return Err(Fault::Damaged(format!("the list of extents of its {what} makes no sense")));
        };
        file.read_exact_at(part, *offset)?;
        if Digest::of(&*part) != *digest {
            return Err(Fault::Damaged(format!("its {what} at {offset:#x} is not what was saved")));
        }
        to.write_all_at(part, *offset)?;
        end = after;
    }
    seal(&to)?;
    Ok(to)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use rustix::pipe::SpliceFlags;

    use super::*;

    fn filled() -> Ram {
        let ram = ram_file(Mebibytes(4)).unwrap();
        let file = File::from(ram.as_fd().try_clone_to_owned().unwrap());
        file.write_all_at(&[1; 5000], 100).unwrap();
        file.write_all_at(&[2; 3 << 19], 2 << 20).unwrap();
        ram
    }

    fn bytes(ram: &Ram) -> Vec<u8> {
        let mut bytes = vec![0; usize::try_from(ram.size().bytes()).unwrap()];
        File::from(ram.as_fd().try_clone_to_owned().unwrap()).read_exact_at(&mut bytes, 0).unwrap();
        bytes
    }

    #[test]
    fn a_memory_is_read_back_as_it_was_and_is_sealed() {
        let (ram, file) = (filled(), tempfile::tempfile().unwrap());
        let extents = write(&ram, &file).unwrap();
        assert!(
            extents.len() >= 3
                && extents.iter().map(|extent| u64::from(extent.length)).sum::<u64>() < 2 << 20
        );
        let again = read(&file, Mebibytes(4), &extents).unwrap();
        assert!(bytes(&again) == bytes(&ram));
        let to = File::from(again.as_fd().try_clone_to_owned().unwrap());
        assert!((&to).write_all(b"x").is_err() && to.set_len(0).is_err());
        let path = format!("/proc/self/fd/{}", to.as_raw_fd());
        assert!(File::options().write(true).open(path).and_then(|mut file| file.write_all(b"x")).is_err());
    }

    #[test]
    fn who_holds_a_page_for_a_moment_is_waited_for() {
        let ram = filled();
        // what is in the pipe is the page itself
        let (out, into) = rustix::pipe::pipe().unwrap();
        let mut start = 0;
        let count = rustix::pipe::splice(&ram, Some(&mut start), &into, None, 4096, SpliceFlags::empty());
        assert_eq!(count, Ok(4096));
        assert_eq!(seal_once(&ram), Err(Errno::BUSY), "the kernel waits for less than it is held");
        let held = std::thread::spawn(move || {
            std::thread::sleep(Duration::from_millis(500));
            drop((out, into));
        });
        seal(&ram).unwrap();
        held.join().unwrap();
        let file = File::from(ram.as_fd().try_clone_to_owned().unwrap());
        assert!((&file).write_all(b"x").is_err());
    }

    #[test]
    fn a_disk_is_copied_and_read_back_with_its_holes() {
        let disk_file = tempfile::tempfile().unwrap();
        disk_file.set_len(1 << 40).unwrap();
        for at in [0, 1 << 30, (1 << 40) - 4096] {
            disk_file.write_all_at(&[7; 4096], at).unwrap();
        }
        let (copy, file) = (disk(&disk_file).unwrap(), tempfile::tempfile().unwrap());
        assert!(copy.write_all_at(b"x", 0).is_err(), "it is sealed");
        let extents = write(&copy, &file).unwrap();
        assert_eq!(
            extents.iter().map(|extent| extent.offset).collect::<Vec<_>>(),
            [0, 1 << 30, (1 << 40) - 4096]
        );
        let again = read_disk(&file, 1 << 40, &extents).unwrap();
        let mut end = [0; 4096];
        again.read_exact_at(&mut end, (1 << 40) - 4096).unwrap();
        assert_eq!(end, [7; 4096]);
        file.write_all_at(&[8], 1 << 30).unwrap();
        let damaged = read_disk(&file, 1 << 40, &extents);
        assert!(matches!(&damaged, Err(Fault::Damaged(text)) if text.contains("its disk at")), "{damaged:?}");
    }

    #[test]
    fn every_damage_is_seen() {
        let (ram, file) = (filled(), tempfile::tempfile().unwrap());
        let extents = write(&ram, &file).unwrap();
        let damaged = |file: &File, extents: &[Extent]| {
            matches!(read(file, Mebibytes(4), extents), Err(Fault::Damaged(_)))
        };
        file.write_all_at(&[3], 4000).unwrap();
        assert!(damaged(&file, &extents));
        file.write_all_at(&[1], 4000).unwrap();
        assert!(read(&file, Mebibytes(4), &extents).is_ok());
        let mut wrong = extents.clone();
        wrong[0].offset = 5 << 20;
        assert!(damaged(&file, &wrong));
        wrong[0].offset = u64::MAX;
        assert!(damaged(&file, &wrong));
        wrong = extents.clone();
        wrong[0].length = u32::MAX;
        assert!(damaged(&file, &wrong));
        wrong = extents.clone();
        wrong.swap(0, 1);
        assert!(damaged(&file, &wrong));
        file.set_len(3 << 20).unwrap();
        assert!(damaged(&file, &extents));
    }
}
