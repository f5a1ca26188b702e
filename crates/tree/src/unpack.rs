//! A tar stream into a directory.
//!
//! Purpose: [`unpack`]. The `tar` crate only cuts the stream into raw entries: names, extended headers and
//! the file system are handled here, because each of them must be capped or confined.
//! Owner: one call.
//!
//! Invariants: those of the crate. Modes and times of directories are set last, so that a read-only one can
//! be filled and filling it does not change its time.

use std::{
    collections::HashMap,
    ffi::OsStr,
    io::{self, Read},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::{Component, Path},
    rc::Rc,
};

use rustix::{
    fs::{
        self, AtFlags, FileType, Gid, Mode, OFlags, Timespec, Timestamps, Uid, fchmod, futimens, linkat,
        mkdirat, openat, statat, symlinkat, unlinkat, utimensat,
    },
    io::Errno,
};
use tar::{Archive, EntryType};

use crate::{
    Copied, Error, Owner, Refusal, Result,
    error::Malformed,
    path::Inside,
    source::{Source, State},
};

/// Longest GNU long name or PAX header, in bytes.
const MAX_EXTENDED: u64 = 64 * 1024;
/// Padding that may follow the end of an archive, in bytes (a tape block of the largest usual size).
const MAX_PADDING: u64 = 4 << 20;
/// Bytes moved at a time.
const BUFFER: usize = 64 * 1024;

/// Which symbolic links are made. None is ever followed here; this is for who reads the tree later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Symlinks {
    /// Any.
    Any,
    /// Those whose target, as it is written, stays in the tree.
    Inside,
}

/// How to unpack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unpack {
    /// Owner of everything that is made; none: whoever runs this.
    pub owner: Option<Owner>,
    /// Which symbolic links are made.
    pub symlinks: Symlinks,
    /// At most this many entries.
    pub max_entries: u64,
    /// At most this many bytes of content.
    pub max_bytes: u64,
}

impl Default for Unpack {
    fn default() -> Self {
        Self { owner: None, symlinks: Symlinks::Any, max_entries: 4_000_000, max_bytes: u64::MAX }
    }
}

/// Unpacks an archive below the directory `tree`, to the end of the stream.
///
/// # Errors
/// [`Error`]; what was made before stays.
pub fn unpack(archive: impl Read, tree: BorrowedFd<'_>, options: &Unpack) -> Result<Copied> {
    let (source, state) = Source::new(archive);
    let mut archive = Archive::new(source);
    let mut work = Work {
        tree,
        options,
        state: &state,
        copied: Copied::default(),
        parent: None,
        directories: HashMap::new(),
        buffer: vec![0; BUFFER],
    };
    let mut extended = Extended::default();
    let judge = |error| state.judge(error);
    let entries = archive.entries().map_err(judge)?.raw(true);
    for entry in entries {
        let mut entry = entry.map_err(judge)?;
        state.understood();
        if extended.take(&mut entry, &state)? {
            continue;
        }
        work.entry(&mut entry, &std::mem::take(&mut extended))?;
    }
    work.finish()?;
    let copied = work.copied;
    let padding = io::copy(&mut archive.into_inner().take(MAX_PADDING + 1), &mut io::sink());
    if padding.map_err(judge)? > MAX_PADDING {
        return Err(Malformed::Followed.into());
    }
    Ok(copied)
}

/// Makes a directory and those above it where they are missing, and opens it. Only what was made gets the
/// owner, and mode 0755.
///
/// # Errors
/// [`Error::Entry`] with the directory that failed.
pub fn make_directories(path: &Path, owner: Option<Owner>) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let fail = |errno: Errno| Error::entry(path.as_os_str().as_bytes(), errno);
    let start = if path.is_absolute() { "/" } else { "." };
    let mut current = fs::open(start, flags, Mode::empty()).map_err(fail)?;
    for part in path.components() {
        let name = match part {
            Component::Normal(name) => name,
            Component::ParentDir => OsStr::new(".."),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => continue,
        };
        current = match openat(&current, name, flags, Mode::empty()) {
            Err(Errno::NOENT) => {
                match mkdirat(&current, name, Mode::from_raw_mode(0o755)) {
                    Ok(()) => {
                        own(current.as_fd(), name, owner).map_err(fail)?;
                    }
                    Err(Errno::EXIST) => {}
                    Err(errno) => return Err(fail(errno)),
                }
                openat(&current, name, flags, Mode::empty()).map_err(fail)?
            }
            other => other.map_err(fail)?,
        };
    }
    Ok(current)
}

fn own(parent: BorrowedFd<'_>, name: &OsStr, owner: Option<Owner>) -> Result<(), Errno> {
    let Some(Owner { uid, gid }) = owner else { return Ok(()) };
    fs::chownat(parent, name, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)), AtFlags::SYMLINK_NOFOLLOW)
}

fn times(mtime: u64) -> Timestamps {
    let time = Timespec { tv_sec: i64::try_from(mtime).unwrap_or(0), tv_nsec: 0 };
    Timestamps { last_access: time, last_modification: time }
}

/// Names of the next entry that did not fit into its header.
#[derive(Default)]
struct Extended {
    name: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    size: Option<u64>,
}

impl Extended {
    /// Reads an entry that only says something of the next one.
    fn take(&mut self, entry: &mut tar::Entry<'_, impl Read>, state: &State) -> Result<bool> {
        let kind = entry.header().entry_type();
        match kind {
            EntryType::GNULongName => self.name = Some(long(entry, state)?),
            EntryType::GNULongLink => self.link = Some(long(entry, state)?),
            EntryType::XHeader => {
                let bytes = capped(entry, state)?;
                for extension in tar::PaxExtensions::new(&bytes) {
                    let bad = |_| Error::refused(b"PaxHeader", Refusal::Extended);
                    let extension = extension.map_err(bad)?;
                    match extension.key_bytes() {
                        b"path" => self.name = Some(extension.value_bytes().to_vec()),
                        b"linkpath" => self.link = Some(extension.value_bytes().to_vec()),
                        b"size" => {
                            let size = extension.value().ok().and_then(|text| text.parse().ok());
                            self.size =
                                Some(size.ok_or_else(|| Error::refused(b"PaxHeader", Refusal::Extended))?);
                        }
                        _ => {}
                    }
                }
            }
            // Defaults for all entries, as git writes its commit id: nothing that matters here.
            EntryType::XGlobalHeader => drop(capped(entry, state)?),
            _ => return Ok(false),
        }
        Ok(true)
    }
}

fn capped(entry: &mut tar::Entry<'_, impl Read>, state: &State) -> Result<Vec<u8>> {
    let size = entry.size();
    if size > MAX_EXTENDED {
        return Err(Error::refused(&entry.path_bytes(), Refusal::Extended));
    }
    let mut bytes = Vec::new();
    entry.read_to_end(&mut bytes).map_err(|error| state.judge(error))?;
    if bytes.len() as u64 != size {
        return Err(Malformed::Early.into());
    }
    Ok(bytes)
}

fn long(entry: &mut tar::Entry<'_, impl Read>, state: &State) -> Result<Vec<u8>> {
    let mut bytes = capped(entry, state)?;
    if bytes.last() == Some(&0) {
        bytes.pop();
    }
    Ok(bytes)
}

struct Directory {
    mode: u32,
    mtime: u64,
}

struct Work<'a> {
    tree: BorrowedFd<'a>,
    options: &'a Unpack,
    state: &'a State,
    copied: Copied,
    /// The directory of the entry before: most often that of the next one too.
    parent: Option<(Inside, Rc<OwnedFd>)>,
    directories: HashMap<Vec<u8>, Directory>,
    buffer: Vec<u8>,
}

impl Work<'_> {
    fn entry(&mut self, entry: &mut tar::Entry<'_, impl Read>, extended: &Extended) -> Result<()> {
        self.copied.entries += 1;
        if self.copied.entries > self.options.max_entries {
            return Err(Error::Limit { what: "entries", limit: self.options.max_entries });
        }
        let raw = match &extended.name {
            Some(name) => name.clone(),
            None => entry.path_bytes().into_owned(),
        };
        let refuse = |reason| Error::refused(&raw, reason);
        if extended.size.is_some_and(|size| size != entry.size()) {
            return Err(refuse(Refusal::Extended));
        }
        let path = Inside::parse(&raw).map_err(refuse)?;
        let mode = entry.header().mode().map_err(|_| refuse(Refusal::Extended))? & 0o777;
        let mtime = entry.header().mtime().map_err(|_| refuse(Refusal::Extended))?;
        let kind = entry.header().entry_type();
        if kind == EntryType::Directory {
            return self.directory(&path, mode, mtime);
        }
        let Some((parent, name)) = path.split() else { return Err(refuse(Refusal::Empty)) };
        let link = || match &extended.link {
            Some(link) => Some(link.clone()),
            None => entry.link_name_bytes().map(std::borrow::Cow::into_owned),
        };
        match kind {
            EntryType::Regular | EntryType::Continuous => {
                let parent = self.parent(parent)?;
                self.file(entry, &path, &parent, name, mode, mtime)
            }
            EntryType::Symlink => {
                let target = link().unwrap_or_default();
                let outside = self.options.symlinks == Symlinks::Inside && !path.target_is_inside(&target);
                if target.is_empty() || target.contains(&0) || outside {
                    return Err(refuse(Refusal::SymlinkTarget));
                }
                let parent = self.parent(parent)?;
                self.symlink(&path, &parent, name, OsStr::from_bytes(&target), mtime)
            }
            EntryType::Link => {
                let target = Inside::parse(&link().unwrap_or_default())
                    .map_err(|_| refuse(Refusal::HardLinkTarget))?;
                let parent = self.parent(parent)?;
                self.hard_link(&path, &parent, name, &target)
            }
            other => Err(refuse(Refusal::Kind(other.as_byte()))),
        }
    }

    fn open_directory(&self, path: &Inside) -> Result<OwnedFd, Errno> {
        path.open(self.tree, OFlags::PATH | OFlags::DIRECTORY)
    }

    /// The directory that an entry is in; made, like those above it, where the archive did not.
    fn parent(&mut self, path: Inside) -> Result<Rc<OwnedFd>> {
        if let Some((known, directory)) = &self.parent
            && *known == path
        {
            return Ok(Rc::clone(directory));
        }
        let opened = match self.open_directory(&path) {
            Err(Errno::NOENT) => {
                self.make_all(&path)?;
                self.open_directory(&path)
            }
            other => other,
        };
        let directory = Rc::new(opened.map_err(|errno| through(&path, errno))?);
        self.parent = Some((path, Rc::clone(&directory)));
        Ok(directory)
    }

    fn make_all(&mut self, path: &Inside) -> Result<()> {
        let bytes = path.as_bytes();
        let ends = bytes.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        for end in ends.chain([bytes.len()]) {
            let part = bytes.get(..end).unwrap_or_default();
            let part = Inside::parse(part).map_err(|reason| Error::refused(bytes, reason))?;
            self.make(&part)?;
        }
        Ok(())
    }

    /// Makes one directory whose parent is there; one that is there already is fine.
    fn make(&mut self, path: &Inside) -> Result<()> {
        let Some((parent, name)) = path.split() else { return Ok(()) };
        let parent = self.open_directory(&parent).map_err(|errno| through(&parent, errno))?;
        match mkdirat(&parent, name, Mode::RWXU) {
            Ok(()) => {
                own(parent.as_fd(), name, self.options.owner)
                    .map_err(|errno| Error::entry(path.as_bytes(), errno))?;
                self.directories
                    .entry(path.as_bytes().to_vec())
                    .or_insert(Directory { mode: 0o755, mtime: 0 });
                Ok(())
            }
            Err(Errno::EXIST) => Ok(()),
            Err(errno) => Err(Error::entry(path.as_bytes(), errno)),
        }
    }

    fn directory(&mut self, path: &Inside, mode: u32, mtime: u64) -> Result<()> {
        match self.open_directory(path) {
            Ok(_) => {}
            Err(Errno::NOENT) => self.make_all(path)?,
            Err(errno) => return Err(through(path, errno)),
        }
        // The caller's directory stays as the caller made it.
        if !path.as_bytes().is_empty() {
            self.directories.insert(path.as_bytes().to_vec(), Directory { mode, mtime });
        }
        Ok(())
    }

    fn file(
        &mut self,
        entry: &mut tar::Entry<'_, impl Read>,
        path: &Inside,
        parent: &OwnedFd,
        name: &OsStr,
        mode: u32,
        mtime: u64,
    ) -> Result<()> {
        let fail = |errno: Errno| Error::entry(path.as_bytes(), errno);
        let size = entry.size();
        if size > self.options.max_bytes.saturating_sub(self.copied.bytes) {
            return Err(Error::Limit { what: "bytes", limit: self.options.max_bytes });
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file =
            replacing(path, parent.as_fd(), name, || openat(parent, name, flags, Mode::RUSR | Mode::WUSR))?;
        let mut written = 0;
        loop {
            let count = entry.read(&mut self.buffer).map_err(|error| self.state.judge(error))?;
            let mut rest = self.buffer.get(..count).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            while !rest.is_empty() {
                let count = rustix::io::retry_on_intr(|| rustix::io::write(&file, rest)).map_err(fail)?;
                rest = rest.get(count..).unwrap_or_default();
            }
            written += count as u64;
        }
        self.copied.bytes += written;
        if written != size {
            return Err(Malformed::Early.into());
        }
        if let Some(Owner { uid, gid }) = self.options.owner {
            fs::fchown(&file, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(fail)?;
        }
        fchmod(&file, Mode::from_raw_mode(mode)).map_err(fail)?;
        futimens(&file, &times(mtime)).map_err(fail)
    }

    fn symlink(
        &self,
        path: &Inside,
        parent: &OwnedFd,
        name: &OsStr,
        target: &OsStr,
        mtime: u64,
    ) -> Result<()> {
        let fail = |errno: Errno| Error::entry(path.as_bytes(), errno);
        replacing(path, parent.as_fd(), name, || symlinkat(target, parent, name))?;
        own(parent.as_fd(), name, self.options.owner).map_err(fail)?;
        utimensat(parent, name, &times(mtime), AtFlags::SYMLINK_NOFOLLOW).map_err(fail)
    }

    fn hard_link(&self, path: &Inside, parent: &OwnedFd, name: &OsStr, target: &Inside) -> Result<()> {
        let refuse = || Error::refused(path.as_bytes(), Refusal::HardLinkTarget);
        let (directory, file) = target.split().ok_or_else(refuse)?;
        let directory = self.open_directory(&directory).map_err(|_| refuse())?;
        let stat = statat(&directory, file, AtFlags::SYMLINK_NOFOLLOW).map_err(|_| refuse())?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(refuse());
        }
        if *path == *target {
            return Ok(());
        }
        replacing(path, parent.as_fd(), name, || linkat(&directory, file, parent, name, AtFlags::empty()))
    }

    /// Modes and times of directories, the deepest first.
    fn finish(&mut self) -> Result<()> {
        self.parent = None;
        let mut directories: Vec<_> = std::mem::take(&mut self.directories).into_iter().collect();
        directories.sort_unstable_by(|(a, _), (b, _)| b.cmp(a));
        for (path, Directory { mode, mtime }) in directories {
            let fail = |errno: Errno| Error::entry(&path, errno);
            let inside = Inside::parse(&path).map_err(|reason| Error::refused(&path, reason))?;
            let directory = inside
                .open(self.tree, OFlags::RDONLY | OFlags::DIRECTORY)
                .map_err(|e| through(&inside, e))?;
            if let Some(Owner { uid, gid }) = self.options.owner {
                fs::fchown(&directory, Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid))).map_err(fail)?;
            }
            if mtime != 0 {
                futimens(&directory, &times(mtime)).map_err(fail)?;
            }
            fchmod(&directory, Mode::from_raw_mode(mode)).map_err(fail)?;
        }
        Ok(())
    }
}

/// What it means that a directory could not be opened.
fn through(path: &Inside, errno: Errno) -> Error {
    match errno {
        Errno::LOOP | Errno::XDEV => Error::refused(path.as_bytes(), Refusal::ThroughSymlink),
        errno => Error::entry(path.as_bytes(), errno),
    }
}

/// Makes something in the place of what has its name, where that is a file or a link.
fn replacing<T>(
    path: &Inside,
    parent: BorrowedFd<'_>,
    name: &OsStr,
    mut make: impl FnMut() -> Result<T, Errno>,
) -> Result<T> {
    let fail = |errno: Errno| Error::entry(path.as_bytes(), errno);
    match make() {
        Err(Errno::EXIST) => {}
        other => return other.map_err(fail),
    }
    let stat = statat(parent, name, AtFlags::SYMLINK_NOFOLLOW).map_err(fail)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile | FileType::Symlink => {
            unlinkat(parent, name, AtFlags::empty()).map_err(fail)?
        }
        FileType::Directory => return Err(fail(Errno::ISDIR)),
        _ => return Err(Error::refused(path.as_bytes(), Refusal::Special)),
    }
    make().map_err(fail)
}
