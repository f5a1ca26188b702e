//! Scratch disks: a fresh, empty ext4 file system per VM.
//!
//! Purpose: the guest's only writable disk, ready in milliseconds. Owner: the slot, whose directory it lies in
//! and with which it goes.
//! How: `state_dir/scratch` holds one template per size, made once by mke2fs under a lock; a slot gets a
//! reflink of it or a copy of what is not a hole. No journal (the disk never outlives its guest) and no
//! checksums (they would be computed by an emulated processor), and no room to grow (4 MiB that each slot would copy).
//! Invariant: a template appears whole, by a rename, and is never written again.

use std::{
    fs::{self, DirBuilder, File},
    io::{self, ErrorKind},
    ops::Range,
    os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    process::Command,
};

use jail::lock::Lock;
use rustix::{
    fs::{SeekFrom, ioctl_ficlone, seek},
    io::Errno,
};
use vm::Slot;

use crate::{Error, Result, identity::lock_failed};

/// Smallest disk in MiB; a file system of less is not worth mounting.
const SMALLEST: u64 = 16;
/// Name of a slot's disk.
const NAME: &str = "scratch.img";
/// Changes with the options below, so that an older engine's templates are not taken for ours.
const FORMAT: &str = "ext4-2";
/// Tried in this order; e2fsprogs before 1.47 knows neither `orphan_file` nor `assume_storage_prezeroed`.
const VARIANTS: [[&str; 4]; 2] = [
    [
        "-O",
        "^has_journal,^orphan_file,^metadata_csum,^resize_inode",
        "-E",
        "lazy_itable_init=1,nodiscard,root_owner=0:0,assume_storage_prezeroed=1",
    ],
    ["-O", "^has_journal,^metadata_csum,^resize_inode", "-E", "lazy_itable_init=1,nodiscard,root_owner=0:0"],
];
/// Where mke2fs is when the PATH of a plain user does not name it.
const SBIN: [&str; 2] = ["/usr/sbin", "/sbin"];
const COPY_BUFFER: usize = 1 << 20;

/// Makes the disk of `slot` with at least `bytes`, belonging to the slot's user. Blocks.
pub(crate) fn make(state_dir: &Path, slot: &Slot, bytes: u64) -> Result<PathBuf> {
    let template = template(state_dir, size(bytes) >> 20)?;
    make_copy(&template, slot)
}

/// How large a disk of at least `bytes` is.
pub(crate) fn size(bytes: u64) -> u64 {
    bytes.div_ceil(1 << 20).max(SMALLEST) << 20
}

/// Where the disk of a slot is.
pub(crate) fn path(dir: &Path) -> PathBuf {
    dir.join(NAME)
}

/// Makes the disk of `slot` as a copy of another VM's, or of a template's. Blocks.
pub(crate) fn make_copy(from: &File, slot: &Slot) -> Result<PathBuf> {
    let path = path(&slot.dir);
    let copied = create(&path).and_then(|to| copy(from, &to, || false));
    copied.map_err(Error::state("write", &path))?;
    own(&path, slot)?;
    Ok(path)
}

fn own(path: &Path, slot: &Slot) -> Result<()> {
    let Some(ids) = slot.ids else { return Ok(()) };
    std::os::unix::fs::chown(path, Some(ids.uid), Some(ids.gid)).map_err(Error::state("own", path))
}

/// The template of `mib` MiB, opened; it stays usable when it is pruned meanwhile.
fn template(state_dir: &Path, mib: u64) -> Result<File> {
    let dir = state_dir.join("scratch");
    let path = dir.join(format!("{FORMAT}-{mib}MiB.img"));
    if let Some(file) = open(&path)? {
        return Ok(file);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(&dir).map_err(Error::state("make", &dir))?;
    let lock_path = dir.join("lock");
    let _lock = Lock::take(&lock_path).map_err(|error| lock_failed(error, &lock_path))?;
    if let Some(file) = open(&path)? {
        return Ok(file);
    }
    // One name for all tries: the lock is ours, and what a dead engine left is overwritten.
    let half = dir.join("half");
    let made = format(&half, mib).and_then(|file| {
        fs::rename(&half, &path).map_err(Error::state("make", &path))?;
        Ok(file)
    });
    if made.is_err() {
        let _ = fs::remove_file(&half);
    }
    made
}

fn open(path: &Path) -> Result<Option<File>> {
    match File::open(path) {
        Ok(file) => Ok(Some(file)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(Error::state("open", path)(error)),
    }
}

fn format(path: &Path, mib: u64) -> Result<File> {
    let mut detail = String::new();
    for options in VARIANTS {
        let file = File::options().read(true).write(true).create(true).truncate(true).mode(0o600).open(path);
        let file = file.map_err(Error::state("make", path))?;
        file.set_len(mib << 20).map_err(Error::state("make", path))?;
        let output = mke2fs()
            .args(["-q", "-F", "-t", "ext4", "-b", "4096", "-m", "0", "-L", "scratch"])
            .args(options)
            .arg(path)
            .env("LC_ALL", "C")
            .output();
        let output = output.map_err(|error| match error.kind() {
            ErrorKind::NotFound => tool(path, "it is not installed (package e2fsprogs)".to_owned()),
            _ => tool(path, error.to_string()),
        })?;
        if output.status.success() {
            file.sync_all().map_err(Error::state("write", path))?;
            return Ok(file);
        }
        detail = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        if detail.contains("No space left") {
            return Err(Error::DiskFull { path: path.to_owned() });
        }
        if detail.is_empty() {
            detail = output.status.to_string();
        }
    }
    Err(tool(path, detail))
}

fn tool(path: &Path, detail: String) -> Error {
    Error::Tool { program: "mke2fs", path: path.to_owned(), detail }
}

fn mke2fs() -> Command {
    let installed = SBIN.iter().map(|dir| Path::new(dir).join("mke2fs")).find(|path| path.exists());
    Command::new(installed.unwrap_or_else(|| "mke2fs".into()))
}

/// A new, empty disk.
pub(crate) fn create(path: &Path) -> io::Result<File> {
    File::options().write(true).create_new(true).mode(0o600).open(path)
}

/// Copies `from` to the empty file `to`, sharing its blocks where the file system can, else only its data; ends
/// with an error soon after `stop` says so.
pub(crate) fn copy(from: &File, to: &File, stop: impl Fn() -> bool) -> io::Result<()> {
    match ioctl_ficlone(to, from) {
        Ok(()) => return Ok(()),
        Err(Errno::OPNOTSUPP | Errno::NOTTY | Errno::XDEV | Errno::INVAL | Errno::NOSYS | Errno::PERM) => {}
        Err(error) => return Err(error.into()),
    }
    let length = from.metadata()?.len();
    to.set_len(length)?;
    let mut buffer = vec![0; COPY_BUFFER];
    let mut at = 0;
    while at < length {
        let start = match seek(from, SeekFrom::Data(at)) {
            Ok(start) => start,
            Err(Errno::NXIO) => break,
            Err(error) => return Err(error.into()),
        };
        let end = seek(from, SeekFrom::Hole(start))?;
        copy_range(from, to, start..end, &mut buffer, &stop)?;
        at = end;
    }
    Ok(())
}

fn copy_range(
    from: &File,
    to: &File,
    Range { start: mut at, end }: Range<u64>,
    buffer: &mut [u8],
    stop: impl Fn() -> bool,
) -> io::Result<()> {
    while at < end {
        if stop() {
            return Err(ErrorKind::Interrupted.into());
        }
        let want = usize::try_from(end - at).map_or(buffer.len(), |left| left.min(buffer.len()));
        let count = from.read_at(&mut buffer[..want], at)?;
        if count == 0 {
            return Err(ErrorKind::UnexpectedEof.into());
        }
        to.write_all_at(&buffer[..count], at)?;
        at += count as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::MetadataExt;

    use vm::{OwnerLoss, SlotId};

    use super::*;

    fn slot(dir: &Path) -> Slot {
        fs::create_dir_all(dir).unwrap();
        Slot { id: SlotId::new(), dir: dir.to_owned(), ids: None, on_owner_loss: OwnerLoss::Kill }
    }

    #[test]
    fn a_disk_is_a_sparse_ext4_of_its_own() {
        let state = tempfile::tempdir().unwrap();
        let one = make(state.path(), &slot(&state.path().join("a")), (512 << 20) - 1).unwrap();
        let metadata = fs::metadata(&one).unwrap();
        assert_eq!(metadata.len(), 512 << 20);
        assert!(metadata.blocks() * 512 < 16 << 20, "{} blocks are no hole", metadata.blocks());
        let mut magic = [0; 2];
        File::open(&one).unwrap().read_exact_at(&mut magic, 1024 + 0x38).unwrap();
        assert_eq!(magic, [0x53, 0xef]);

        File::options().write(true).open(&one).unwrap().write_all_at(b"mine", 0).unwrap();
        let two = make(state.path(), &slot(&state.path().join("b")), 512 << 20).unwrap();
        let mut head = [1; 4];
        File::open(&two).unwrap().read_exact_at(&mut head, 0).unwrap();
        assert_eq!(head, [0; 4], "the second has what was written to the first");
        assert_eq!(fs::read_dir(state.path().join("scratch")).unwrap().count(), 2, "template and lock");
    }

    #[test]
    fn many_at_once_make_one_template() {
        let state = tempfile::tempdir().unwrap();
        std::thread::scope(|scope| {
            for n in 0..4 {
                let dir = state.path().join(n.to_string());
                let state = state.path();
                scope.spawn(move || make(state, &slot(&dir), 1).unwrap());
            }
        });
        assert_eq!(fs::read_dir(state.path().join("scratch")).unwrap().count(), 2, "template and lock");
    }

    #[test]
    fn holes_and_data_are_copied_where_they_are() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("from");
        let from = File::options().read(true).write(true).create_new(true).open(&path).unwrap();
        from.set_len(64 << 20).unwrap();
        for at in [0, 5 << 20, (64 << 20) - 3] {
            from.write_all_at(b"abc", at).unwrap();
        }
        let to = create(&dir.path().join("to")).unwrap();
        copy(&from, &to, || false).unwrap();
        assert!(fs::read(&path).unwrap() == fs::read(dir.path().join("to")).unwrap());
        assert!(fs::metadata(dir.path().join("to")).unwrap().blocks() * 512 < 4 << 20);
        let to = create(&dir.path().join("stopped")).unwrap();
        assert_eq!(copy(&from, &to, || true).unwrap_err().kind(), ErrorKind::Interrupted);
    }
}
