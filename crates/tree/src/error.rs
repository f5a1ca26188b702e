//! Why a tree could not be copied.

use std::io;

use rustix::io::Errno;

/// Result of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a tree could not be copied.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The stream of the archive failed.
    #[error("the archive cannot be read")]
    Read(#[source] io::Error),
    /// What the stream gave is no archive, or not a whole one.
    #[error(transparent)]
    Archive(#[from] Malformed),
    /// The stream of the archive could not be written.
    #[error("the archive cannot be written")]
    Write(#[source] io::Error),
    /// The archive asks for something that is not done.
    #[error("archive entry {entry:?} is refused: {reason}")]
    Refused {
        /// Its name as the archive has it, at most 200 characters.
        entry: String,
        /// Why.
        reason: Refusal,
    },
    /// The system failed at an entry: a full disk, a missing permission.
    #[error("cannot copy {entry:?}")]
    Entry {
        /// Its name relative to the directory, at most 200 characters.
        entry: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// More than the caller allows.
    #[error("the archive has more than {limit} {what}")]
    Limit {
        /// `entries` or `bytes`.
        what: &'static str,
        /// The limit.
        limit: u64,
    },
}

/// What is wrong with the bytes of an archive. None of them is told: they may be anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// It does not begin as one.
    #[error("this is no tar archive")]
    NoTar,
    /// Perhaps one that was compressed.
    #[error("this is no tar archive: it is compressed with {0}")]
    Compressed(&'static str),
    /// Something is missing.
    #[error("the archive ends early")]
    Early,
    /// An entry begins with something else.
    #[error("the archive is damaged: an entry has no header that can be read")]
    Header,
    /// More than padding.
    #[error("the archive is followed by other data")]
    Followed,
}

impl Malformed {
    /// What something is that does not begin as an archive.
    pub(crate) fn of_begin(begin: &[u8]) -> Self {
        let known: [(&[u8], &str); 4] = [
            (&[0x1f, 0x8b], "gzip"),
            (b"BZh", "bzip2"),
            (&[0xfd, b'7', b'z', b'X', b'Z', 0], "xz"),
            (&[0x28, 0xb5, 0x2f, 0xfd], "zstd"),
        ];
        let found = known.iter().find(|(magic, _)| begin.starts_with(magic));
        found.map_or(Self::NoTar, |(_, name)| Self::Compressed(name))
    }
}

/// What is not done for an archive.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// An empty name.
    #[error("its name is empty")]
    Empty,
    /// An absolute name.
    #[error("its name is absolute")]
    Absolute,
    /// A name with `..`.
    #[error("its name has `..`")]
    Parent,
    /// A zero byte, or a component or a whole that no Linux file system takes.
    #[error("its name is too long or has a zero byte")]
    Name,
    /// Its name leads through a symbolic link.
    #[error("its name leads through a symbolic link")]
    ThroughSymlink,
    /// A symbolic link whose target is empty, or leaves the tree where that is not allowed.
    #[error("it is a symbolic link that leads out of the tree")]
    SymlinkTarget,
    /// A hard link to something that is no regular file of the tree.
    #[error("it is a hard link to something that is no file of the tree")]
    HardLinkTarget,
    /// A device, a pipe, a sparse file, or a kind that does not exist.
    #[error("its kind ({0:#04x}) is none of file, directory, symbolic link, hard link")]
    Kind(u8),
    /// Its place is taken by a device, a pipe or a socket, which is never replaced.
    #[error("a device, a pipe or a socket is in its place")]
    Special,
    /// An extended header that is too long or cannot be read, or that contradicts the plain one.
    #[error("its extended header is too long or cannot be read")]
    Extended,
}

impl Error {
    /// Whether a file system is full, or a quota is used up.
    #[must_use]
    pub fn is_full(&self) -> bool {
        match self {
            Self::Entry { source, .. } => {
                matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
            }
            Self::Read(_) | Self::Archive(_) | Self::Write(_) | Self::Refused { .. } | Self::Limit { .. } => {
                false
            }
        }
    }

    /// Whether a path was asked for that cannot be what it would have to be: something is missing, is no directory or
    /// is one, cannot be written or is nothing to read.
    #[must_use]
    pub fn is_wrong_path(&self) -> bool {
        match self {
            Self::Entry { source, .. } => Errno::from_io_error(source).is_some_and(|errno| {
                matches!(
                    errno,
                    Errno::NOENT
                        | Errno::NOTDIR
                        | Errno::ISDIR
                        | Errno::EXIST
                        | Errno::ACCESS
                        | Errno::PERM
                        | Errno::ROFS
                        | Errno::LOOP
                        | Errno::NAMETOOLONG
                        | Errno::FBIG
                )
            }),
            Self::Read(_) | Self::Archive(_) | Self::Write(_) | Self::Refused { .. } | Self::Limit { .. } => {
                false
            }
        }
    }

    pub(crate) fn refused(entry: &[u8], reason: Refusal) -> Self {
        Self::Refused { entry: shown(entry), reason }
    }

    pub(crate) fn entry(entry: &[u8], source: impl Into<io::Error>) -> Self {
        Self::Entry { entry: shown(entry), source: source.into() }
    }
}

/// A name for people.
fn shown(name: &[u8]) -> String {
    String::from_utf8_lossy(name).chars().take(200).collect()
}
