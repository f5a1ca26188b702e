//! Which file system a root image holds, from its own first bytes.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use wire::message::RootFs;

use crate::{Error, Result};

const SQUASHFS: &[u8] = b"hsqs";
const EROFS: &[u8] = &[0xe2, 0xe1, 0xf5, 0xe0];
const EROFS_AT: usize = 1024;

/// Looks at the image's magic number. Blocks.
pub(crate) fn probe(path: &Path) -> Result<RootFs> {
    let mut head = [0; EROFS_AT + EROFS.len()];
    let read = File::open(path).and_then(|mut file| file.read_exact(&mut head));
    let not_one = Error::Image { path: path.to_owned(), what: "neither a squashfs nor an erofs image" };
    match read {
        Ok(()) if head.starts_with(SQUASHFS) => Ok(RootFs::Squashfs),
        Ok(()) if head.ends_with(EROFS) => Ok(RootFs::Erofs),
        Ok(()) => Err(not_one),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(not_one),
        Err(error) => Err(Error::state("read", path)(error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_says_itself_what_it_is() {
        let dir = tempfile::tempdir().unwrap();
        let image = |name: &str, at: usize, magic: &[u8]| {
            let mut bytes = vec![0; 4096];
            bytes[at..at + magic.len()].copy_from_slice(magic);
            let path = dir.path().join(name);
            std::fs::write(&path, bytes).unwrap();
            path
        };
        assert_eq!(probe(&image("s", 0, SQUASHFS)).unwrap(), RootFs::Squashfs);
        assert_eq!(probe(&image("e", EROFS_AT, EROFS)).unwrap(), RootFs::Erofs);
        assert!(matches!(probe(&image("x", 7, SQUASHFS)), Err(Error::Image { .. })));
        std::fs::write(dir.path().join("short"), "hsqs").unwrap();
        assert!(matches!(probe(&dir.path().join("short")), Err(Error::Image { .. })));
        assert!(matches!(probe(&dir.path().join("none")), Err(Error::State { .. })));
    }
}
