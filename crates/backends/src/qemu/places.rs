//! Places of this host: where short-lived things live, and what of the file system QEMU gets to see.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use jail::{View, lock::Lock};
use rustix::process::getuid;
use vm::{Error, Result};

const NAME: &str = "ampoule";
const SCRATCH: &str = "qemu-";
const SCRATCH_LOCK: &str = "scratch.lock";
const END_LIMIT: Duration = Duration::from_secs(5);

/// A directory of this user alone that is gone after the next start of the host, made where it is missing.
///
/// # Errors
/// None of the usual places can be used.
pub(super) fn runtime_dir() -> Result<PathBuf> {
    let user = getuid();
    let session = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from).filter(|path| path.is_absolute());
    let system = user.is_root().then(|| PathBuf::from("/run"));
    let mut last = io::Error::from(io::ErrorKind::NotFound);
    let named = session.into_iter().chain(system).map(|base| base.join(NAME));
    for path in named.chain([PathBuf::from(format!("/tmp/{NAME}-{}", user.as_raw()))]) {
        match own_dir(&path) {
            Ok(()) => return Ok(path),
            Err(error) => last = error,
        }
    }
    Err(Error::io("find a directory for runtime files")(last))
}

/// Makes `path`, or makes sure that nobody else made it or may write to it.
fn own_dir(path: &Path) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(error),
        _ => {}
    }
    let found = fs::symlink_metadata(path)?;
    let safe = found.is_dir() && found.uid() == getuid().as_raw() && found.mode() & 0o022 == 0;
    if safe { Ok(()) } else { Err(io::ErrorKind::PermissionDenied.into()) }
}

/// A directory for one short run of QEMU, removed with everything in it; what a killed process left of its
/// own is removed by the next one.
#[derive(Debug)]
pub(super) struct Scratch {
    path: PathBuf,
    _lock: Lock,
}

impl Scratch {
    pub(super) fn new(what: &str) -> Result<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let base = runtime_dir()?;
        sweep(&base);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = base.join(format!("{SCRATCH}{what}-{}-{number}", std::process::id()));
        let failed = || Error::io(format!("make {}", path.display()));
        DirBuilder::new().mode(0o700).create(&path).map_err(failed())?;
        let lock = Lock::try_take(&path.join(SCRATCH_LOCK)).map_err(crate::of_jail)?;
        let lock = lock.ok_or_else(|| failed()(io::ErrorKind::ResourceBusy.into()))?;
        Ok(Self { path, _lock: lock })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        remove(&self.path);
    }
}

/// Removes what others left; best effort, it is tried again next time.
fn sweep(base: &Path) {
    let Ok(entries) = fs::read_dir(base) else { return };
    for entry in entries.filter_map(std::result::Result::ok) {
        let ours = entry.file_name().to_str().is_some_and(|name| name.starts_with(SCRATCH));
        // One that was made a moment ago and is not locked yet has no lock file either.
        let lock = entry.path().join(SCRATCH_LOCK);
        if ours && lock.exists() && matches!(Lock::try_take(&lock), Ok(Some(_))) {
            remove(&entry.path());
        }
    }
}

fn remove(path: &Path) {
    if jail::end(path, END_LIMIT).is_ok() {
        let _ = fs::remove_dir_all(path);
    }
}

/// What QEMU needs of the host's file system: itself, its libraries and firmware, a few devices, and what the
/// accelerator needs.
pub(super) fn view(program: &Path, accelerator: &[&str]) -> View {
    let mut read_only: Vec<PathBuf> = [
        "/usr",
        "/bin",
        "/sbin",
        "/lib",
        "/lib32",
        "/lib64",
        "/etc/ld.so.cache",
        "/etc/alternatives",
        "/nix/store",
    ]
    .map(PathBuf::from)
    .to_vec();
    // One that was put elsewhere has its libraries and firmware beside it: PREFIX/bin, PREFIX/share.
    let real = fs::canonicalize(program).unwrap_or_else(|_| program.to_owned());
    for path in [program, &real] {
        let prefix = path.parent().and_then(Path::parent);
        if let Some(prefix) = prefix
            && prefix.parent().is_some()
            && !read_only.iter().any(|shown| path.starts_with(shown))
        {
            read_only.push(prefix.to_owned());
        }
    }
    let devices = ["/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"].iter().chain(accelerator);
    let devices = devices.map(PathBuf::from).collect();
    View { read_only, devices }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt, symlink};

    use super::*;

    #[test]
    fn a_directory_that_others_may_write_is_not_ours() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        own_dir(&path).unwrap();
        own_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o770)).unwrap();
        assert!(own_dir(&path).is_err());
        symlink(dir.path(), dir.path().join("link")).unwrap();
        assert!(own_dir(&dir.path().join("link")).is_err());
    }

    #[test]
    fn what_a_killed_process_left_is_swept_and_what_lives_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let [dead, living] = ["dead", "living"].map(|name| dir.path().join(format!("{SCRATCH}{name}")));
        for path in [&dead, &living] {
            fs::create_dir(path).unwrap();
        }
        drop(Lock::try_take(&dead.join(SCRATCH_LOCK)).unwrap());
        let _held = Lock::try_take(&living.join(SCRATCH_LOCK)).unwrap().unwrap();
        sweep(dir.path());
        assert!(!dead.exists() && living.exists());
    }

    #[test]
    fn a_qemu_elsewhere_brings_its_prefix_along() {
        assert!(view(Path::new("/opt/qemu/bin/qemu"), &[]).read_only.contains(&PathBuf::from("/opt/qemu")));
        assert!(!view(Path::new("/usr/bin/env"), &[]).read_only.contains(&PathBuf::from("/")));
        assert!(!view(Path::new("/qemu"), &[]).read_only.contains(&PathBuf::from("/")));
    }
}
