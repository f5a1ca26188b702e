//! Names for blobs: pins, which hold them, and keys, which do not.

use std::{fmt, fs, io, io::Write as _, path::Path, str::FromStr};

use crate::{
    BuildError, Digest, Error, Result, Store, Writer, error::During as _, sync_dir, temp::temp_file,
};

/// Name of a pin: 1 to 100 of `a-z A-Z 0-9 . _ - +`, not beginning with a dot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PinName(String);

/// A text that cannot name a pin.
#[derive(Debug, thiserror::Error)]
#[error("not a name: {0:?} (letters, digits and . _ - + only, at most 100, no dot first)")]
pub struct InvalidPinName(String);

impl FromStr for PinName {
    type Err = InvalidPinName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"._-+".contains(&byte);
        if (1..=100).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(fine) {
            Ok(PinName(text.to_owned()))
        } else {
            Err(InvalidPinName(text.chars().take(100).collect()))
        }
    }
}

impl fmt::Display for PinName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl PinName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// A record is a list of digests; this is far above what anything pins.
const RECORD_LIMIT: u64 = 1 << 20;

impl Store {
    /// Makes `name` hold exactly these blobs, in this order, in place of what it held.
    ///
    /// # Errors
    /// When one of the blobs is not there, or the record cannot be written.
    pub fn pin(&self, name: &PinName, digests: &[Digest]) -> Result<()> {
        if let Some(digest) = digests.iter().find(|digest| self.get(digest).is_none()) {
            return Err(Error::Missing { digest: *digest });
        }
        self.write_record("pins", name.as_str(), digests)
    }

    /// Lets go of what `name` held, and says whether it was there. The blobs stay until [`Store::gc`].
    ///
    /// # Errors
    /// When the record cannot be removed.
    pub fn unpin(&self, name: &PinName) -> Result<bool> {
        let dir = self.part("pins");
        let path = dir.join(name.as_str());
        match fs::remove_file(&path) {
            Ok(()) => sync_dir(&dir).map(|()| true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(Error::from_io("remove", &path, error)),
        }
    }

    /// What `name` holds, or `None` when there is no such pin.
    ///
    /// # Errors
    /// When the record cannot be read or is not one.
    pub fn pinned(&self, name: &PinName) -> Result<Option<Vec<Digest>>> {
        read_record(&self.part("pins").join(name.as_str()))
    }

    /// All pins, sorted by name.
    ///
    /// # Errors
    /// When a record cannot be read or is not one.
    pub fn pins(&self) -> Result<Vec<(PinName, Vec<Digest>)>> {
        let dir = self.part("pins");
        let mut pins = Vec::new();
        for entry in fs::read_dir(&dir).during("list", &dir)? {
            let path = entry.during("list", &dir)?.path();
            let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
            let name: PinName = name.parse().map_err(|_| Error::Record { at: path.clone() })?;
            // Gone since the listing: another process unpinned it.
            if let Some(digests) = read_record(&path)? {
                pins.push((name, digests));
            }
        }
        pins.sort();
        Ok(pins)
    }

    /// The blob that was built for `key`, while it is there.
    ///
    /// # Errors
    /// When the record cannot be read or is not one.
    pub fn lookup(&self, key: &str) -> Result<Option<Digest>> {
        let record = read_record(&self.part("keys").join(Digest::of(key).hex()))?;
        Ok(record.and_then(|digests| digests.first().copied()).filter(|digest| self.get(digest).is_some()))
    }

    /// The blob of `key`, built by `build` if it is not there. Of all threads and processes that ask at
    /// once, one builds and the others wait for it.
    ///
    /// # Errors
    /// When the store or `build` fails; then the next caller builds.
    pub fn get_or_build<E>(
        &self,
        key: &str,
        build: impl FnOnce(&mut Writer) -> std::result::Result<(), E>,
    ) -> Result<Digest, BuildError<E>> {
        if let Some(digest) = self.lookup(key)? {
            return Ok(digest);
        }
        let _lock = self.lock(key)?;
        if let Some(digest) = self.lookup(key)? {
            return Ok(digest);
        }
        let _hold = self.hold()?;
        let mut writer = self.writer()?;
        build(&mut writer).map_err(BuildError::Build)?;
        let digest = writer.finish()?;
        self.write_record("keys", &Digest::of(key).hex(), &[digest])?;
        Ok(digest)
    }

    fn write_record(&self, part: &str, name: &str, digests: &[Digest]) -> Result<()> {
        let dir = self.part(part);
        let to = dir.join(name);
        let (mut file, path) = temp_file(self)?;
        let text: String = digests.iter().map(|digest| format!("{digest}\n")).collect();
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).during("write", &path)?;
        path.persist(&to).map_err(|error| Error::from_io("rename to", &to, error.error))?;
        sync_dir(&dir)
    }
}

fn read_record(path: &Path) -> Result<Option<Vec<Digest>>> {
    let bad = || Error::Record { at: path.to_owned() };
    match fs::metadata(path) {
        Ok(meta) if meta.len() > RECORD_LIMIT => return Err(bad()),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::from_io("look at", path, error)),
    }
    let text = match fs::read(path) {
        Ok(bytes) => String::from_utf8(bytes).map_err(|_| bad())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::from_io("read", path, error)),
    };
    text.lines().map(|line| line.parse().map_err(|_| bad())).collect::<Result<Vec<Digest>>>().map(Some)
}
