//! The tree as a tar stream.
//!
//! Invariants: a directory stands before what is in it; a file has exactly the length that its header
//! says, also if it changes while it is read; devices, sockets and pipes are left out, and named.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rustix::fs::OFlags;

use super::{
    Error, Packed,
    list::{Entries, Source},
};

/// Permission bits that travel: no set-user-id.
const MODE_MASK: u32 = 0o777;

/// Writes all entries and the end of the stream.
pub(super) fn write(entries: &Entries, out: &mut dyn io::Write) -> Result<Packed, Error> {
    let mut pack = Pack { tar: tar::Builder::new(out), made: HashSet::new(), packed: Packed::default() };
    for (name, source) in entries {
        match source {
            Source::Disk(path) => pack.disk(name, path)?,
            Source::Bytes(bytes) => pack.file(name, 0o644, 0, bytes.len() as u64, bytes.as_slice())?,
            Source::Directory => pack.directory(name)?,
        }
    }
    let Pack { mut tar, packed, .. } = pack;
    tar.finish().map_err(Error::Write)?;
    tar.into_inner().and_then(|out| out.flush()).map_err(Error::Write)?;
    Ok(packed)
}

struct Pack<'a> {
    tar: tar::Builder<&'a mut dyn io::Write>,
    made: HashSet<PathBuf>,
    packed: Packed,
}

impl Pack<'_> {
    fn disk(&mut self, name: &Path, path: &Path) -> Result<(), Error> {
        let failed = |source| Error::Read { path: path.to_owned(), source };
        let meta = match fs::symlink_metadata(path) {
            Ok(meta) => meta,
            // removed since it was listed: then it is not in the tree
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(failed(source)),
        };
        if meta.is_symlink() {
            let target = fs::read_link(path).map_err(failed)?;
            return self.link(name, &target, meta.mtime());
        }
        if !meta.is_file() {
            self.left_out(name, meta.file_type());
            return Ok(());
        }
        // between the look and the opening the file may have become a link or a pipe
        let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags(flags.bits().cast_signed())
            .open(path)
            .map_err(failed)?;
        let meta = file.metadata().map_err(failed)?;
        if !meta.is_file() {
            self.left_out(name, meta.file_type());
            return Ok(());
        }
        self.file(name, meta.mode(), meta.mtime(), meta.len(), file)
    }

    fn left_out(&mut self, name: &Path, kind: fs::FileType) {
        let kind = match kind {
            kind if kind.is_fifo() => "a named pipe",
            kind if kind.is_socket() => "a socket",
            kind if kind.is_block_device() || kind.is_char_device() => "a device",
            // a repository in the repository that is no submodule, or what took a file's place just now
            _ => "no file",
        };
        self.packed.left_out.push(format!("`{}` is {kind}", name.display()));
    }

    fn parents(&mut self, name: &Path) -> Result<(), Error> {
        match name.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => self.directory(parent),
            _ => Ok(()),
        }
    }

    fn directory(&mut self, name: &Path) -> Result<(), Error> {
        if name.as_os_str().is_empty() || !self.made.insert(name.to_owned()) {
            return Ok(());
        }
        self.parents(name)?;
        let mut header = header(tar::EntryType::Directory, 0o755, 0, 0);
        let mut with_slash = name.as_os_str().to_owned();
        with_slash.push("/");
        self.packed.entries += 1;
        self.tar.append_data(&mut header, Path::new(&with_slash), io::empty()).map_err(Error::Write)
    }

    fn link(&mut self, name: &Path, target: &Path, mtime: i64) -> Result<(), Error> {
        self.parents(name)?;
        let mut header = header(tar::EntryType::Symlink, 0o777, mtime, 0);
        self.packed.entries += 1;
        self.tar.append_link(&mut header, name, target).map_err(Error::Write)
    }

    fn file(
        &mut self,
        name: &Path,
        mode: u32,
        mtime: i64,
        len: u64,
        content: impl io::Read,
    ) -> Result<(), Error> {
        self.parents(name)?;
        let mut header = header(tar::EntryType::Regular, mode & MODE_MASK, mtime, len);
        self.packed.entries += 1;
        self.packed.bytes += len;
        self.tar.append_data(&mut header, name, Exact { content, left: len }).map_err(Error::Write)
    }
}

fn header(kind: tar::EntryType, mode: u32, mtime: i64, len: u64) -> tar::Header {
    let mut header = tar::Header::new_gnu();
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(u64::try_from(mtime).unwrap_or_default());
    header.set_size(len);
    header.set_uid(0);
    header.set_gid(0);
    header
}

/// As many bytes as were promised: what is missing is zeros, what is more is left out.
struct Exact<R> {
    content: R,
    left: u64,
}

impl<R: io::Read> io::Read for Exact<R> {
    fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
        let want = usize::try_from(self.left).unwrap_or(usize::MAX).min(buf.len());
        let Some(part) = buf.get_mut(..want).filter(|part| !part.is_empty()) else { return Ok(0) };
        let read = match self.content.read(part)? {
            0 => {
                part.fill(0);
                want
            }
            read => read,
        };
        self.left -= read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use super::*;

    #[test]
    fn a_file_that_changes_its_length_keeps_the_promised_one() {
        for (content, len, expected) in
            [(&b"abc"[..], 5, &b"abc\0\0"[..]), (b"abcdef", 3, b"abc"), (b"", 0, b""), (b"", 2, b"\0\0")]
        {
            let mut read = Vec::new();
            Exact { content, left: len }.read_to_end(&mut read).unwrap();
            assert_eq!(read, expected);
        }
    }
}
