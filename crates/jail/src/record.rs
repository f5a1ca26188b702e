//! What the shim leaves on disk: how the VMM ended, who the shim is, and the ends of its logs.
//!
//! Owner: the shim writes, anyone with access to the slot's directory reads.
//! Invariant: `exit.json` appears whole or not at all (written beside, then renamed).

use std::{
    fs::{self, File},
    io::{self, Read, Seek, SeekFrom},
    path::Path,
};

use serde::{Deserialize, Serialize};

use crate::{Error, Result};

pub(crate) const LOCK: &str = "shim.lock";
pub(crate) const IDENTITY: &str = "shim.json";
pub(crate) const EXIT: &str = "exit.json";
pub(crate) const OWNER_SOCKET: &str = "owner.sock";

/// Why the VMM is no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ending {
    /// It ended by itself (a guest that powers off is one of these), or something outside killed it.
    Itself,
    /// Its owner was gone and it was killed.
    OwnerLost,
    /// Its owner said that it should end, and it was killed.
    Asked,
    /// No owner came in time, and it was killed.
    Expired,
    /// The shim itself was killed, and everything with it.
    ShimKilled,
}

/// How a VMM ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExitRecord {
    /// Why.
    pub ending: Ending,
    /// Its exit code, unless a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
}

/// Who the shim of a slot is, for an [`crate::end()`] from outside.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Identity {
    /// Process ids as the host sees them, outermost first, each with its start time.
    pub(crate) processes: Vec<Process>,
}

/// One process, so that it is not taken for a later one with the same id.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Process {
    pub(crate) pid: i32,
    /// Field 22 of /proc/PID/stat: clock ticks between the start of the host and that of the process.
    pub(crate) start: u64,
}

impl Process {
    /// The process `pid` as it is now.
    pub(crate) fn look(pid: i32) -> io::Result<Self> {
        Ok(Self { pid, start: stat(pid)?.1 })
    }

    /// Whether it still runs; one that waits to be reaped does not.
    pub(crate) fn lives(&self) -> bool {
        stat(self.pid).is_ok_and(|(state, start)| start == self.start && !matches!(state, 'Z' | 'X'))
    }
}

/// State and start time from /proc/PID/stat.
fn stat(pid: i32) -> io::Result<(char, u64)> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The second field is the program's name in parentheses and may hold anything, also a `)`.
    let fields = stat.rsplit_once(')').map(|(_, rest)| rest.split_ascii_whitespace().collect::<Vec<_>>());
    let parsed = fields.and_then(|fields| {
        let state = fields.first()?.chars().next()?;
        Some((state, fields.get(19)?.parse().ok()?))
    });
    parsed.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "unreadable /proc/PID/stat"))
}

/// Writes `value` to `dir/name` so that a reader finds all of it or nothing.
pub(crate) fn write(dir: &Path, name: &str, value: &impl Serialize) -> io::Result<()> {
    let beside = dir.join(format!("{name}.new"));
    fs::write(&beside, serde_json::to_vec(value)?)?;
    fs::rename(&beside, dir.join(name))
}

/// Reads `dir/name`; `None` where it is not there.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(dir: &Path, name: &str) -> Result<Option<T>> {
    let path = dir.join(name);
    let file = match File::open(&path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::io(format!("open {}", path.display()))(error)),
    };
    let mut text = Vec::new();
    file.take(64 << 10).read_to_end(&mut text).map_err(Error::io(format!("read {}", path.display())))?;
    serde_json::from_slice(&text).map(Some).map_err(Error::io(format!("read {}", path.display())))
}

/// How the VMM in `dir` ended; `None` while it has not, or where none was started.
///
/// # Errors
/// The record is there and cannot be read.
pub fn exit_record(dir: &Path) -> Result<Option<ExitRecord>> {
    read(dir, EXIT)
}

/// The last `limit` bytes of the log `name` of the VM in `dir`, as text without control characters (line
/// ends stay). Empty where nothing was written. What a guest printed may be in it.
#[must_use]
pub fn log_tail(dir: &Path, name: &str, limit: usize) -> String {
    let bytes = tail(&dir.join(name), limit).unwrap_or_default();
    String::from_utf8_lossy(&bytes).chars().filter(|c| *c == '\n' || *c == '\t' || !c.is_control()).collect()
}

fn tail(path: &Path, limit: usize) -> io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let limit = limit as u64;
    let length = file.metadata()?.len();
    file.seek(SeekFrom::Start(length.saturating_sub(limit)))?;
    let mut bytes = Vec::new();
    file.take(limit).read_to_end(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_holds_no_control_characters() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(log_tail(dir.path(), "log", 10), "");
        fs::write(dir.path().join("log"), "ab\x1b[31m\ncd\u{9b}").unwrap();
        assert_eq!(log_tail(dir.path(), "log", 100), "ab[31m\ncd");
        assert_eq!(log_tail(dir.path(), "log", 4), "cd");
    }

    #[test]
    fn a_process_is_its_id_and_its_start() {
        let me = i32::try_from(std::process::id()).unwrap();
        let one = Process::look(me).unwrap();
        assert_eq!(one.start, Process::look(me).unwrap().start);
        assert!(one.start > Process::look(1).unwrap().start);
        assert!(one.lives() && !Process { pid: me, start: 1 }.lives());
    }

    #[test]
    fn no_record_is_no_error_and_a_broken_one_is() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(exit_record(dir.path()).unwrap(), None);
        fs::write(dir.path().join(EXIT), "{").unwrap();
        assert!(exit_record(dir.path()).is_err());
        let record = ExitRecord { ending: Ending::Itself, code: Some(3), signal: None };
        write(dir.path(), EXIT, &record).unwrap();
        assert_eq!(exit_record(dir.path()).unwrap(), Some(record));
    }
}
