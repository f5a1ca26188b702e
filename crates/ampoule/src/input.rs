//! Files that a person names on the command line.
//!
//! Purpose: one is read up to a size, whatever it is: a device without an end, a pipe that nobody writes to.
//! Owner: the commands. Invariant: no more than one byte beyond the size is read, and nothing waits for a named pipe.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::{FileTypeExt, OpenOptionsExt},
    path::Path,
};

use rustix::fs::OFlags;

/// The bytes of a file, at most one more than `most`: who gets that many says that it is too large.
pub(crate) fn read(path: &Path, most: u64) -> io::Result<Vec<u8>> {
    // To open a pipe is to wait for who writes. What the shell makes of `<(…)` and `/dev/stdin` is open already.
    let kind = fs::metadata(path)?.file_type();
    let is_open = path.starts_with("/dev") || path.starts_with("/proc");
    if kind.is_fifo() && !is_open {
        return Err(io::Error::other("it is a named pipe"));
    }
    // what looks like a file may wait all the same: `/proc/kmsg`
    let flags = if kind.is_file() { OFlags::NONBLOCK } else { OFlags::empty() };
    let file = File::options().read(true).custom_flags(flags.bits().cast_signed()).open(path)?;
    let mut bytes = Vec::new();
    match file.take(most.saturating_add(1)).read_to_end(&mut bytes) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
            Err(io::Error::other("it is a file without an end"))
        }
        read => read.map(|_| bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_it_is_it_ends() {
        let dir = tempfile::tempdir().unwrap();
        let at = |name: &str| dir.path().join(name);
        fs::write(at("file"), "12345").unwrap();
        assert_eq!(read(&at("file"), 10).unwrap(), b"12345");
        assert_eq!(read(&at("file"), 3).unwrap(), b"1234");
        assert_eq!(read(Path::new("/dev/zero"), 3).unwrap(), [0; 4]);
        assert_eq!(read(Path::new("/dev/null"), 3).unwrap(), b"");
        File::create(at("sparse")).unwrap().set_len(5 << 30).unwrap();
        assert_eq!(read(&at("sparse"), 1 << 20).unwrap().len(), (1 << 20) + 1);

        rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe"), rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        std::os::unix::fs::symlink(at("loop"), at("loop")).unwrap();
        let _socket = std::os::unix::net::UnixListener::bind(at("socket")).unwrap();
        for (name, why) in [
            ("pipe", "it is a named pipe"),
            ("loop", "Too many levels of symbolic links"),
            ("socket", "No such device or address"),
            ("none", "No such file or directory"),
            ("", "Is a directory"),
        ] {
            let error = read(&at(name), 10).unwrap_err().to_string();
            assert!(error.starts_with(why), "{name}: {error}");
        }
    }
}
