//! A tree of files into a tar stream.
//!
//! Purpose: [`pack`], [`pack_telling`].
//! Owner: one call.
//!
//! Invariants
//! - Directories are read by descriptor, symbolic links are stored and never followed, so what another
//!   process renames meanwhile does not lead out of the tree.
//! - Sockets, pipes and devices are left out, which [`pack_telling`] tells; owners are not stored; a file that shrinks
//!   while it is read is filled up with zeros, one that grows is cut: the archive stays readable. One that says it is
//!   empty and is not, as those of `/proc` do, is read ahead, up to [`MAX_SIZELESS`] bytes; more is an error.

use std::{
    collections::HashMap,
    ffi::{CString, OsStr},
    fs::File,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{self, AtFlags, Dir, FileType, Mode, OFlags, Stat, openat, readlinkat, statat},
    io::Errno,
};
use tar::{Builder, EntryType, Header};

use crate::{Copied, Error, Refusal, Result};

/// Deepest directory that is entered.
const MAX_DEPTH: usize = 512;
/// Most bytes of a file that says it is empty: they are in memory.
const MAX_SIZELESS: u64 = 16 << 20;

/// What a file gives that says it is empty: most often nothing.
///
/// # Errors
/// It cannot be read, or there is more than fits into memory.
pub fn read_sizeless(file: &File) -> io::Result<Vec<u8>> {
    sizeless_up_to(file, MAX_SIZELESS)
}

fn sizeless_up_to(file: &File, most: u64) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    file.take(most).read_to_end(&mut bytes)?;
    // the rest of one that has a size by now was written since: it is cut, as any that grows
    if bytes.len() as u64 == most && file.metadata()?.len() == 0 && (&*file).read(&mut [0])? > 0 {
        return Err(Errno::FBIG.into());
    }
    Ok(bytes)
}

/// Packs the content of a directory, named relative to it, or anything else as one entry with its file
/// name. A last component that is a symbolic link is followed.
///
/// # Errors
/// [`Error::Entry`] when something cannot be read, [`Error::Write`] when `out` fails.
pub fn pack(path: &Path, out: impl Write) -> Result<Copied> {
    pack_telling(path, out, |_| {})
}

/// The same, and tells the names of what is left out, as an archive would have them.
///
/// # Errors
/// As [`pack`].
pub fn pack_telling(path: &Path, out: impl Write, left_out: impl FnMut(&Path)) -> Result<Copied> {
    let fail = |errno: Errno| Error::entry(path.as_os_str().as_bytes(), errno);
    let root = fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(fail)?;
    let stat = fs::fstat(&root).map_err(fail)?;
    let mut work =
        Work { builder: Builder::new(out), copied: Copied::default(), links: HashMap::new(), left_out };
    if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
        let root = openat(&root, ".", OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
            .map_err(fail)?;
        work.tree(root)?;
    } else {
        // Through its real name, so that the entry can be opened in its directory.
        let real = path.canonicalize().map_err(|error| Error::entry(path.as_os_str().as_bytes(), error))?;
        let (Some(directory), Some(name), Some(shown)) = (real.parent(), real.file_name(), path.file_name())
        else {
            return Err(fail(Errno::INVAL));
        };
        let directory =
            fs::open(directory, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
                .map_err(fail)?;
        work.entry(directory.as_fd(), name, shown.as_bytes())?;
    }
    let mut out = work.builder.into_inner().map_err(Error::Write)?;
    out.flush().map_err(Error::Write)?;
    Ok(work.copied)
}

struct Work<W: Write, L> {
    builder: Builder<W>,
    copied: Copied,
    /// Files with several names: their first one.
    links: HashMap<(u64, u64), Vec<u8>>,
    /// Told what is left out.
    left_out: L,
}

/// A directory that is being read.
struct Level {
    entries: Dir,
    fd: OwnedFd,
    path: Vec<u8>,
}

impl Level {
    fn open(fd: OwnedFd, path: Vec<u8>) -> Result<Self> {
        let entries = Dir::read_from(&fd).map_err(|errno| Error::entry(&path, errno))?;
        Ok(Self { entries, fd, path })
    }
}

impl<W: Write, L: FnMut(&Path)> Work<W, L> {
    fn tree(&mut self, root: OwnedFd) -> Result<()> {
        let mut levels = vec![Level::open(root, Vec::new())?];
        while let Some(level) = levels.last_mut() {
            let Some(found) = level.entries.next() else {
                levels.pop();
                continue;
            };
            let name: CString =
                found.map_err(|errno| Error::entry(&level.path, errno))?.file_name().to_owned();
            if matches!(name.as_bytes(), b"." | b"..") {
                continue;
            }
            let mut path = level.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(name.as_bytes());
            let name = OsStr::from_bytes(name.as_bytes());
            if let Some(directory) = self.entry(level.fd.as_fd(), name, &path)? {
                if levels.len() >= MAX_DEPTH {
                    return Err(Error::refused(&path, Refusal::Name));
                }
                levels.push(Level::open(directory, path)?);
            }
        }
        Ok(())
    }

    /// Packs one entry; a directory is returned, opened.
    fn entry(&mut self, parent: BorrowedFd<'_>, name: &OsStr, path: &[u8]) -> Result<Option<OwnedFd>> {
        let fail = |errno: Errno| Error::entry(path, errno);
        let stat = match statat(parent, name, AtFlags::SYMLINK_NOFOLLOW) {
            // Removed since the directory was read.
            Err(Errno::NOENT) => return Ok(None),
            other => other.map_err(fail)?,
        };
        let mut header = header(&stat);
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => {
                let directory =
                    openat(parent, name, flags | OFlags::DIRECTORY, Mode::empty()).map_err(fail)?;
                header.set_entry_type(EntryType::Directory);
                let mut shown = path.to_vec();
                shown.push(b'/');
                self.append(&mut header, &shown, io::empty())?;
                Ok(Some(directory))
            }
            FileType::RegularFile => {
                let key = (stat.st_dev, stat.st_ino);
                if stat.st_nlink > 1 {
                    if let Some(first) = self.links.get(&key) {
                        header.set_entry_type(EntryType::Link);
                        let first = first.clone();
                        self.link(&mut header, path, &first)?;
                        return Ok(None);
                    }
                    self.links.insert(key, path.to_vec());
                }
                let file = File::from(openat(parent, name, flags, Mode::empty()).map_err(fail)?);
                let mut size = u64::try_from(stat.st_size).unwrap_or(0);
                let mut ahead = Vec::new();
                if size == 0 {
                    ahead = read_sizeless(&file).map_err(|error| Error::entry(path, error))?;
                    size = ahead.len() as u64;
                }
                header.set_entry_type(EntryType::Regular);
                header.set_size(size);
                self.copied.bytes += size;
                if !ahead.is_empty() {
                    return self.append(&mut header, path, ahead.as_slice()).map(|()| None);
                }
                let mut content = Content { file, left: size, failed: None };
                let appended = self.append(&mut header, path, &mut content);
                if let Some(error) = content.failed {
                    return Err(Error::entry(path, error));
                }
                appended.map(|()| None)
            }
            FileType::Symlink => {
                let target = readlinkat(parent, name, Vec::new()).map_err(fail)?;
                header.set_entry_type(EntryType::Symlink);
                self.link(&mut header, path, target.as_bytes())?;
                Ok(None)
            }
            _ => {
                (self.left_out)(Path::new(OsStr::from_bytes(path)));
                Ok(None)
            }
        }
    }

    fn append(&mut self, header: &mut Header, path: &[u8], content: impl Read) -> Result<()> {
        self.copied.entries += 1;
        self.builder.append_data(header, Path::new(OsStr::from_bytes(path)), content).map_err(Error::Write)
    }

    fn link(&mut self, header: &mut Header, path: &[u8], target: &[u8]) -> Result<()> {
        // As it is: the builder would tidy a short target up.
        if header.set_link_name_literal(target).is_ok() {
            return self.append(header, path, io::empty());
        }
        self.copied.entries += 1;
        let path = Path::new(OsStr::from_bytes(path));
        self.builder.append_link(header, path, Path::new(OsStr::from_bytes(target))).map_err(Error::Write)
    }
}

fn header(stat: &Stat) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(stat.st_mode & 0o777);
    header.set_mtime(u64::try_from(stat.st_mtime).unwrap_or(0));
    header.set_size(0);
    header
}

/// Exactly as many bytes as the header says.
struct Content {
    file: File,
    left: u64,
    failed: Option<io::Error>,
}

impl Read for Content {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let Some(buffer) = buffer.get_mut(..most) else { return Ok(0) };
        let count = match self.file.read(buffer) {
            Ok(0) => {
                buffer.fill(0);
                buffer.len()
            }
            Ok(count) => count,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => return Err(error),
            Err(error) => {
                let copy = io::Error::from(error.kind());
                self.failed = Some(error);
                return Err(copy);
            }
        };
        self.left -= count as u64;
        Ok(count)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_says_that_it_is_empty_has_an_end() {
        let status = || File::open("/proc/self/status").unwrap();
        assert_eq!(status().metadata().unwrap().len(), 0);
        assert!(read_sizeless(&status()).unwrap().starts_with(b"Name:"));
        let more = sizeless_up_to(&status(), 5).unwrap_err();
        assert_eq!(more.raw_os_error(), Some(Errno::FBIG.raw_os_error()));
        // one that was written since is cut
        let mut grown = tempfile::tempfile().unwrap();
        grown.write_all(b"0123456789").unwrap();
        io::Seek::rewind(&mut grown).unwrap();
        assert_eq!(sizeless_up_to(&grown, 5).unwrap(), b"01234");
    }
}
