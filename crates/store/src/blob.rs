//! Blobs: written once, read by path.

use std::{
    fs::{self, File, Permissions},
    io::{self, Read, Write},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::SystemTime,
};

use sha2::{Digest as _, Sha256};

use crate::{Digest, Error, Result, Store, error::During as _, sync_dir, temp::temp_file};

/// A blob that is being written; dropped before [`Writer::finish`] it leaves nothing.
#[derive(Debug)]
pub struct Writer {
    store: Store,
    file: File,
    path: tempfile::TempPath,
    hasher: Sha256,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.file.write(bytes)?;
        self.hasher.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Writer {
    /// Makes what was written a blob.
    ///
    /// # Errors
    /// When it cannot be brought to the disk; then nothing is left of it.
    pub fn finish(self) -> Result<Digest> {
        let digest = Digest::finish(self.hasher);
        self.store.publish(&self.file, self.path, digest)?;
        Ok(digest)
    }

    /// Writes all of `reader`.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn copy(&mut self, reader: &mut impl Read) -> Result<u64> {
        let mut buffer = vec![0_u8; 256 * 1024];
        let mut total = 0_u64;
        loop {
            let count = match reader.read(&mut buffer) {
                Ok(0) => return Ok(total),
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(source) => return Err(Error::from_io("read what goes to", &self.path, source)),
            };
            self.write_all(&buffer[..count]).during("write", &self.path)?;
            total += count as u64;
        }
    }
}

impl Store {
    /// Begins a blob.
    ///
    /// # Errors
    /// When no file can be made.
    pub fn writer(&self) -> Result<Writer> {
        let (file, path) = temp_file(self)?;
        Ok(Writer { store: self.clone(), file, path, hasher: Sha256::new() })
    }

    /// Stores all that `reader` gives.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn put(&self, mut reader: impl Read) -> Result<Digest> {
        let mut writer = self.writer()?;
        writer.copy(&mut reader)?;
        writer.finish()
    }

    /// Makes a file of a [`crate::Scratch`] of this store a blob, by a rename: `path` is gone afterwards.
    ///
    /// # Errors
    /// When it cannot be read, or is not on the store's file system.
    pub fn adopt(&self, path: &Path) -> Result<Digest> {
        let file = File::open(path).during("open", path)?;
        let digest = digest_of(&file).during("read", path)?;
        let path = tempfile::TempPath::try_from_path(path).during("open", path)?;
        self.publish(&file, path, digest)?;
        Ok(digest)
    }

    fn publish(&self, file: &File, path: tempfile::TempPath, digest: Digest) -> Result<()> {
        let to = self.blob_path(&digest);
        if to.exists() {
            // Same name, same content; what is there may be mapped by a VM, so it stays.
            touch(&to);
            return Ok(());
        }
        file.set_permissions(Permissions::from_mode(0o444)).during("set the mode of", &path)?;
        file.sync_all().during("sync", &path)?;
        let dir = self.shard(&digest);
        fs::create_dir_all(&dir).during("make", &dir)?;
        path.persist(&to).map_err(|error| Error::from_io("rename to", &to, error.error))?;
        touch(&to);
        sync_dir(&dir)?;
        sync_dir(&self.part("blobs"))
    }

    /// Where a blob is, or `None`. It counts as used now.
    #[must_use]
    pub fn get(&self, digest: &Digest) -> Option<PathBuf> {
        let path = self.blob_path(digest);
        path.is_file().then(|| {
            touch(&path);
            path
        })
    }

    /// Like [`Store::get`], and the content is read and checked as well.
    ///
    /// # Errors
    /// When it is not there, cannot be read, or is damaged. A damaged blob is not removed: a VM may have
    /// it open.
    pub fn verify(&self, digest: &Digest) -> Result<PathBuf> {
        let path = self.get(digest).ok_or(Error::Missing { digest: *digest })?;
        let found = File::open(&path).and_then(|file| digest_of(&file)).during("read", &path)?;
        if found == *digest { Ok(path) } else { Err(Error::Corrupt { digest: *digest, found }) }
    }

    /// The content of a small blob, checked.
    ///
    /// # Errors
    /// When it is not there, larger than `limit` bytes, cannot be read, or is damaged.
    pub fn read(&self, digest: &Digest, limit: u64) -> Result<Vec<u8>> {
        let path = self.get(digest).ok_or(Error::Missing { digest: *digest })?;
        let size = fs::metadata(&path).during("look at", &path)?.len();
        if size > limit {
            return Err(Error::TooLarge { digest: *digest, size, limit });
        }
        let bytes = fs::read(&path).during("read", &path)?;
        let found = Digest::of(&bytes);
        if found == *digest { Ok(bytes) } else { Err(Error::Corrupt { digest: *digest, found }) }
    }

    /// Removes a blob.
    ///
    /// # Errors
    /// When a pin holds it or it cannot be removed. That it is not there is no error.
    pub fn remove(&self, digest: &Digest) -> Result<()> {
        for (name, digests) in self.pins()? {
            if digests.contains(digest) {
                return Err(Error::Pinned { digest: *digest, pin: name.to_string() });
            }
        }
        let path = self.blob_path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(Error::from_io("remove", &path, error))
            }
            _ => Ok(()),
        }
    }

    pub(crate) fn shard(&self, digest: &Digest) -> PathBuf {
        self.part("blobs").join(&digest.hex()[..2])
    }

    pub(crate) fn blob_path(&self, digest: &Digest) -> PathBuf {
        self.shard(digest).join(digest.hex())
    }
}

pub(crate) fn digest_of(mut file: &File) -> io::Result<Digest> {
    let mut hasher = Sha256::new();
    let mut buffer = vec![0_u8; 256 * 1024];
    loop {
        match file.read(&mut buffer) {
            Ok(0) => return Ok(Digest::finish(hasher)),
            Ok(count) => hasher.update(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// The time of last use is the modification time; failing to set it only makes the blob look older.
fn touch(path: &Path) {
    let touched = File::open(path).and_then(|file| file.set_modified(SystemTime::now()));
    if let Err(error) = touched {
        tracing::debug!(path = %path.display(), %error, "could not note the use of a blob");
    }
}
