//! Logs of the program: pipes that are always drained into files that never grow past a cap.
//!
//! A guest can print for ever: a program whose pipe is full would stop, and a file without a cap would fill
//! the disk. When a file has reached its cap the last half of it is moved to its front.

use std::{
    fs::{File, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::fs::OpenOptionsExt,
    },
    path::Path,
};

use rustix::pipe::{PipeFlags, pipe_with};

use super::{Failure, program::out_of_the_way};
use crate::launch::Log;

/// One log: the reading end of its pipe and its file.
#[derive(Debug)]
pub(super) struct Drain {
    pipe: File,
    file: CappedFile,
    open: bool,
}

/// A file that holds the last bytes of what was written to it.
#[derive(Debug)]
struct CappedFile {
    file: File,
    length: u64,
    cap: u64,
}

impl Drain {
    /// A log below `dir`; the second is the program's end of the pipe.
    pub(super) fn new(dir: &Path, log: &Log) -> Result<(Self, OwnedFd), Failure> {
        let path = dir.join(&log.name);
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(true).mode(0o600);
        let file = options.open(&path).map_err(Failure::io(format!("open {}", path.display())))?;
        let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(Failure::io("make a pipe"))?;
        rustix::io::ioctl_fionbio(&reader, true).map_err(Failure::io("set up a pipe"))?;
        let file =
            CappedFile { file: File::from(out_of_the_way(file.into())?), length: 0, cap: log.cap.max(2) };
        Ok((Self { pipe: File::from(out_of_the_way(reader)?), file, open: true }, out_of_the_way(writer)?))
    }

    /// Whether the program may still write to it.
    pub(super) fn is_open(&self) -> bool {
        self.open
    }

    /// Moves what the pipe holds now, at most one buffer. Whether there was anything.
    pub(super) fn step(&mut self) -> bool {
        let mut buffer = [0; 16 << 10];
        match self.pipe.read(&mut buffer) {
            Ok(0) => self.open = false,
            Ok(length) => {
                // A full disk costs the log, not the VM.
                let _ = self.file.append(&buffer[..length]);
                return true;
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.open = false,
        }
        false
    }
}

impl AsFd for Drain {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pipe.as_fd()
    }
}

impl CappedFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(usize::try_from(self.cap / 2).unwrap_or(usize::MAX)) {
            if self.length + part.len() as u64 > self.cap {
                self.keep_half()?;
            }
            self.file.seek(SeekFrom::Start(self.length))?;
            self.file.write_all(part)?;
            self.length += part.len() as u64;
        }
        Ok(())
    }

    fn keep_half(&mut self) -> io::Result<()> {
        let mut kept = Vec::new();
        self.file.seek(SeekFrom::Start(self.length.saturating_sub(self.cap / 2)))?;
        self.file.read_to_end(&mut kept)?;
        self.file.seek(SeekFrom::Start(0))?;
        self.file.write_all(&kept)?;
        self.length = kept.len() as u64;
        self.file.set_len(self.length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_keeps_its_end_and_never_grows_past_its_cap() {
        let dir = tempfile::tempdir().unwrap();
        let log = Log { name: "log".into(), target: 3, cap: 100 };
        let (mut drain, writer) = Drain::new(dir.path(), &log).unwrap();
        let mut writer = File::from(writer);
        let mut all = Vec::new();
        for number in 0..500 {
            let line = format!("line {number}\n");
            writer.write_all(line.as_bytes()).unwrap();
            all.extend_from_slice(line.as_bytes());
            assert!(drain.step());
            let kept = std::fs::read(dir.path().join("log")).unwrap();
            assert!(kept.len() <= 100 && all.ends_with(&kept), "{kept:?}");
            assert!(kept.len() >= 50.min(all.len()));
        }
        writer.write_all(&[b'x'; 1000]).unwrap();
        assert!(drain.step() && !drain.step() && drain.is_open());
        assert_eq!(std::fs::read(dir.path().join("log")).unwrap(), [b'x'; 100]);
        drop(writer);
        assert!(!drain.step() && !drain.is_open());
    }
}
