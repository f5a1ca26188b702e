//! The memory of a VM as its process has it: which pages it wrote, and what is in them.
//!
//! Invariant: what /proc says of a VMM that was taken over may be anything; sizes are bounded by the memory
//! that the VM was given, and what is read is its own memory.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt,
    },
    path::Path,
    thread,
};

use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use vm::{Error, Mebibytes, Ram, Result};

const PAGE: u64 = 4096;
/// Bits of an entry of /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const SWAPPED: u64 = 1 << 62;
/// A page of a file or shared with others: the parent's.
const OF_FILE: u64 = 1 << 61;
/// Entries that are read at a time.
const ENTRIES: usize = 64 << 10;
/// The longest run, in pages: what one thread reads at a time.
const LONGEST: u64 = 256;
/// Threads that read, at most: more would wait for memory.
const READERS: usize = 4;
/// Below this each thread more costs more than it saves, in bytes.
const PER_READER: usize = 8 << 20;
/// What a VM may write between two looks, in bytes.
const MARGIN: usize = 8 << 20;

/// The pages that a VM wrote.
#[derive(Debug, Default)]
pub(super) struct Written {
    bytes: Vec<u8>,
    runs: Vec<Run>,
}

/// Pages, one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    /// Where in the VMM.
    address: u64,
    /// Where in the memory, in bytes.
    offset: u64,
    length: usize,
}

impl Written {
    /// Room for what [`Process::written`] will find, with memory behind it: its making is a third of the time.
    fn room(bytes: usize) -> Self {
        let mut room = Self::default();
        room.bytes.resize(bytes, 1);
        room
    }

    /// Each run with its place in the memory.
    pub(super) fn runs(&self) -> impl Iterator<Item = (u64, &[u8])> {
        let mut rest = &self.bytes[..];
        self.runs.iter().map_while(move |run| {
            let (bytes, after) = rest.split_at_checked(run.length)?;
            rest = after;
            Some((run.offset, bytes))
        })
    }

    /// How much it is, in bytes.
    pub(super) fn length(&self) -> usize {
        self.bytes.len()
    }
}

/// The process of a VM.
#[derive(Clone, Copy, Debug)]
pub(super) struct Process {
    pid: i32,
}

/// One mapping of the memory's file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Mapping {
    start: u64,
    end: u64,
    offset: u64,
}

impl Process {
    /// That of the VM in a slot's directory.
    pub(super) fn of(dir: &Path) -> Result<Self> {
        jail::program_pid(dir).map(|pid| Self { pid }).map_err(crate::of_jail)
    }

    fn path(&self, name: &str) -> String {
        format!("/proc/{}/{name}", self.pid)
    }

    fn failed(&self, name: &str) -> impl FnOnce(io::Error) -> Error {
        Error::io(format!("read {}", self.path(name)))
    }

    /// The memory's file of a VM that somebody else started.
    pub(super) fn memory(&self) -> Result<Ram> {
        let none = || Error::Unsupported("save a VM whose memory is its own".to_owned());
        for entry in fs::read_dir(self.path("fd")).map_err(self.failed("fd"))? {
            let path = entry.map_err(self.failed("fd"))?.path();
            let named = fs::read_link(&path).is_ok_and(|target| target.to_string_lossy().contains(Ram::NAME));
            if !named {
                continue;
            }
            let file = File::open(&path).map_err(self.failed("fd"))?;
            // the name may be anything's; only a file of ours is sealed so
            let sealed = fcntl_get_seals(&file).is_ok_and(|seals| seals.contains(SealFlags::WRITE));
            let length = file.metadata().map_err(self.failed("fd"))?.len();
            let size = u32::try_from(length >> 20).map(Mebibytes).map_err(|_| none())?;
            if sealed && size.bytes() == length {
                return Ok(Ram::new(OwnedFd::from(file), size));
            }
        }
        Err(none())
    }

    /// Where `parent` is mapped.
    fn mappings(&self, parent: &Ram) -> Result<Vec<Mapping>> {
        let inode = fstat(parent.as_fd()).map_err(|error| self.failed("maps")(error.into()))?.st_ino;
        let maps = fs::read_to_string(self.path("maps")).map_err(self.failed("maps"))?;
        mappings(&maps, inode, parent.size().bytes())
            .ok_or_else(|| Error::Control("has another memory than it was given".to_owned()))
    }

    fn runs(&self, parent: &Ram) -> Result<Vec<Run>> {
        let pagemap = File::open(self.path("pagemap")).map_err(self.failed("pagemap"))?;
        let mut runs = Vec::new();
        for mapping in self.mappings(parent)? {
            mapping.runs(&pagemap, &mut runs).map_err(self.failed("pagemap"))?;
        }
        Ok(runs)
    }

    /// Room for what the VM, which may run, has written so far and a little more.
    pub(super) fn room(&self, parent: &Ram) -> Result<Written> {
        let so_far: usize = self.runs(parent)?.iter().map(|run| run.length).sum();
        Ok(Written::room(so_far + MARGIN))
    }

    /// The pages that differ from `parent`, into `room`. The VM stands still.
    pub(super) fn written(&self, parent: &Ram, room: Written) -> Result<Written> {
        let runs = self.runs(parent)?;
        let memory = File::open(self.path("mem")).map_err(self.failed("mem"))?;
        let length: usize = runs.iter().map(|run| run.length).sum();
        let mut bytes = room.bytes;
        bytes.resize(length, 0);
        let cores = thread::available_parallelism().map_or(1, usize::from);
        let readers = (length / PER_READER).clamp(1, READERS.min(cores));
        read(&memory, &runs, &mut bytes, readers).map_err(self.failed("mem"))?;
        Ok(Written { bytes, runs })
    }
}

/// Reads runs into `bytes`, one behind the other, by so many threads.
fn read(memory: &File, runs: &[Run], bytes: &mut [u8], readers: usize) -> io::Result<()> {
    let share = bytes.len().div_ceil(readers.max(1));
    thread::scope(|scope| {
        let (mut runs, mut bytes) = (runs, bytes);
        let mut readers = Vec::new();
        while !runs.is_empty() {
            let (mut count, mut length) = (0, 0);
            while let Some(run) = runs.get(count)
                && length < share
            {
                count += 1;
                length += run.length;
            }
            let (ours, later) = runs.split_at(count);
            let (into, rest) = std::mem::take(&mut bytes).split_at_mut(length);
            (runs, bytes) = (later, rest);
            if later.is_empty() {
                // the last one by this thread
                readers.push(Ok(read_runs(memory, ours, into)));
            } else {
                readers.push(Err(scope.spawn(move || read_runs(memory, ours, into))));
            }
        }
        readers.into_iter().try_for_each(|reader| match reader {
            Ok(done) => done,
            Err(thread) => thread.join().unwrap_or_else(|_| Err(io::Error::other("a reader panicked"))),
        })
    })
}

fn read_runs(memory: &File, runs: &[Run], mut into: &mut [u8]) -> io::Result<()> {
    for run in runs {
        let (part, rest) = into.split_at_mut(run.length);
        memory.read_exact_at(part, run.address)?;
        into = rest;
    }
    Ok(())
}

impl Mapping {
    /// The runs of pages in it that are the VM's own.
    fn runs(&self, pagemap: &File, runs: &mut Vec<Run>) -> io::Result<()> {
        let pages = (self.end - self.start) / PAGE;
        let mut buffer = vec![0; ENTRIES * 8];
        // where the run that is open began, in pages of this mapping
        let mut open: Option<u64> = None;
        let mut page = 0;
        while page < pages {
            let count = (pages - page).min(ENTRIES as u64);
            let part = buffer.get_mut(..usize::try_from(count).unwrap_or(0) * 8).unwrap_or_default();
            pagemap.read_exact_at(part, (self.start / PAGE + page) * 8)?;
            for entry in part.as_chunks::<8>().0 {
                let entry = u64::from_ne_bytes(*entry);
                let written = entry & (PRESENT | SWAPPED) != 0 && entry & OF_FILE == 0;
                match (written, open) {
                    (true, None) => open = Some(page),
                    (true, Some(from)) if page - from == LONGEST => {
                        runs.push(self.run(from, page));
                        open = Some(page);
                    }
                    (false, Some(from)) => {
                        runs.push(self.run(from, page));
                        open = None;
                    }
                    _ => {}
                }
                page += 1;
            }
        }
        if let Some(from) = open {
            runs.push(self.run(from, pages));
        }
        Ok(())
    }

    fn run(&self, from: u64, to: u64) -> Run {
        let length = usize::try_from((to - from) * PAGE).unwrap_or(usize::MAX);
        Run { address: self.start + from * PAGE, offset: self.offset + from * PAGE, length }
    }
}

/// The mappings of a file in the text of /proc/PID/maps; `None` where they are not one whole memory.
fn mappings(maps: &str, inode: u64, length: u64) -> Option<Vec<Mapping>> {
    let mut found = Vec::new();
    for line in maps.lines() {
        let mut fields = line.split_ascii_whitespace();
        let (range, _mode, offset, _device) =
            (fields.next()?, fields.next()?, fields.next()?, fields.next()?);
        if fields.next()?.parse() != Ok(inode) || !line.contains(Ram::NAME) {
            continue;
        }
        let (start, end) = range.split_once('-')?;
        let [start, end, offset] = [start, end, offset].map(|text| u64::from_str_radix(text, 16));
        let mapping = Mapping { start: start.ok()?, end: end.ok()?, offset: offset.ok()? };
        let size = mapping.end.checked_sub(mapping.start)?;
        if mapping.offset.checked_add(size)? > length || !size.is_multiple_of(PAGE) {
            return None;
        }
        found.push(mapping);
    }
    found.sort_by_key(|mapping| mapping.offset);
    let mut at = 0;
    for mapping in &found {
        if mapping.offset != at {
            return None;
        }
        at += mapping.end - mapping.start;
    }
    (at == length).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAPS: &str = "\
        55d0-55d1 r--p 00000000 08:01 7 /usr/bin/qemu\n\
        7f0000000000-7f0000100000 rw-p 00000000 00:01 42 /memfd:ampoule-ram (deleted)\n\
        7f0000100000-7f0000200000 rw-p 00100000 00:01 42 /memfd:ampoule-ram (deleted)\n\
        7f0000200000-7f0000300000 rw-p 00000000 00:01 43 /memfd:other (deleted)\n\
        7ffc00000000-7ffc00001000 rw-p 00000000 00:00 0 \n";

    #[test]
    fn a_memory_is_found_whole_or_not_at_all() {
        let found = mappings(MAPS, 42, 0x20_0000).unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!(found[1], Mapping { start: 0x7f00_0010_0000, end: 0x7f00_0020_0000, offset: 0x10_0000 });
        for (inode, length) in [(42, 0x10_0000), (42, 0x30_0000), (43, 0x10_0000), (44, 0x10_0000)] {
            assert_eq!(mappings(MAPS, inode, length), None, "{inode} {length}");
        }
        assert_eq!(mappings("nonsense\n", 42, 0x1000), None);
    }

    #[test]
    fn runs_are_read_one_behind_the_other_by_any_number_of_threads() {
        let file = tempfile::tempfile().unwrap();
        let page = |number: u64| vec![u8::try_from(number % 251).unwrap(); 4096];
        for number in 0..100 {
            file.write_all_at(&page(number), number * PAGE).unwrap();
        }
        // every third page is not there
        let runs: Vec<Run> = (0..33)
            .map(|at| Run { address: at * 3 * PAGE, offset: at * 3 * PAGE + (1 << 30), length: 2 * 4096 })
            .collect();
        for readers in [1, 2, 3, 50] {
            let mut bytes = vec![0; 33 * 2 * 4096];
            read(&file, &runs, &mut bytes, readers).unwrap();
            let written = Written { bytes, runs: runs.clone() };
            let mut count = 0;
            for (at, (offset, bytes)) in (0..).zip(written.runs()) {
                assert_eq!(offset, at * 3 * PAGE + (1 << 30));
                assert!(bytes == [page(at * 3), page(at * 3 + 1)].concat(), "{at} by {readers}");
                count += 1;
            }
            assert_eq!(count, 33);
        }
        let beyond = [Run { address: 1 << 40, offset: 0, length: 4096 }];
        assert!(read(&file, &beyond, &mut [0; 4096], 1).is_err());
        read(&file, &[], &mut [], 1).unwrap();
    }
}
