//! Warm: files in the page cache before a guest is saved.
//!
//! Purpose: everything that needs no scratch disk is mounted, all processors run, and the files that nearly every command
//! needs first are in the page cache: a fork shares those pages with all others instead of reading and unpacking them.
//! Owner: one call, before the Prepare of a template. Invariant: nothing is written.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

use wire::message::{Failure, Warm};

use crate::{
    mounts,
    prepare::{self, Disks},
};

/// The image's own list: one absolute path per line; a directory stands for the files in it.
const LIST: &str = "etc/ampoule/warm";
/// What a shell and the first commands of a script are made of, where the image has no list.
const USUAL: [&str; 23] = [
    "/bin/sh",
    "/bin/bash",
    "/bin/cat",
    "/bin/cp",
    "/bin/echo",
    "/bin/grep",
    "/bin/ls",
    "/bin/mkdir",
    "/bin/rm",
    "/bin/sed",
    "/bin/sleep",
    "/bin/true",
    "/bin/uname",
    "/usr/bin/env",
    "/usr/bin/id",
    "/usr/bin/tr",
    "/etc/passwd",
    "/etc/group",
    "/etc/nsswitch.conf",
    "/etc/ld.so.cache",
    "/lib64/ld-linux-x86-64.so.2",
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/x86_64-linux-gnu/libtinfo.so.6",
];
/// Read of one file at most, and of all, in bytes: it is memory that each fork has.
const MOST_OF_ONE: u64 = 16 << 20;
const MOST_OF_ALL: u64 = 96 << 20;
/// Links in a path.
const MOST_LINKS: u32 = 8;
const MAX_LIST: usize = 64 << 10;

pub(crate) fn warm(disks: &mut Disks, wanted: &Warm) -> Result<(), Failure> {
    prepare::base(disks, &wanted.root, wanted.fs)?;
    let image = Path::new(mounts::IMAGE);
    let list = fs::read_to_string(image.join(LIST)).ok().filter(|list| list.len() <= MAX_LIST);
    let mut left = MOST_OF_ALL;
    match &list {
        Some(list) => list.lines().for_each(|path| read(image, path, &mut left)),
        None => USUAL.iter().for_each(|path| read(image, path, &mut left)),
    }
    // last, as without a template
    disks.processors.bring_up();
    Ok(())
}

/// Reads one file, or those of one directory. What cannot be read is not there: a matter of speed only.
fn read(image: &Path, path: &str, left: &mut u64) {
    let Some(path) = resolve(image, path) else { return };
    if path.is_dir() {
        for entry in fs::read_dir(&path).into_iter().flatten().flatten() {
            if entry.file_type().is_ok_and(|kind| kind.is_file()) {
                read_file(&entry.path(), left);
            }
        }
    } else {
        read_file(&path, left);
    }
}

fn read_file(path: &Path, left: &mut u64) {
    let Ok(file) = File::open(path) else { return };
    let Ok(metadata) = file.metadata() else { return };
    if metadata.is_file() && metadata.len() <= MOST_OF_ONE.min(*left) {
        *left -= metadata.len();
        // into nothing: what stays is the kernel's cache
        let _ = io::copy(&mut &file, &mut io::sink());
    }
}

/// The file that an absolute path of the image names, below the place where the image is mounted.
fn resolve(image: &Path, path: &str) -> Option<PathBuf> {
    let mut rest: Vec<String> = parts(path);
    let mut found = PathBuf::new();
    let mut links = 0;
    while let Some(part) = rest.pop() {
        if part == ".." {
            found.pop();
            continue;
        }
        let next = found.join(&part);
        match fs::read_link(image.join(&next)) {
            Ok(target) => {
                links += 1;
                if links > MOST_LINKS {
                    return None;
                }
                if target.is_absolute() {
                    found = PathBuf::new();
                }
                rest.extend(parts(target.to_str()?));
            }
            Err(_) => found = next,
        }
    }
    Some(image.join(found))
}

/// The parts of a path, the last one first.
fn parts(path: &str) -> Vec<String> {
    path.split('/').filter(|part| !part.is_empty() && *part != ".").rev().map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_stay_in_the_image() {
        let dir = tempfile::tempdir().unwrap();
        let image = dir.path();
        fs::create_dir_all(image.join("usr/bin")).unwrap();
        symlink("usr/bin", image.join("bin")).unwrap();
        symlink("/usr/bin/bash", image.join("usr/bin/sh")).unwrap();
        symlink("../../../../usr/bin/bash", image.join("usr/bin/up")).unwrap();
        symlink("loop", image.join("loop")).unwrap();
        for path in ["/bin/sh", "/bin/up", "//usr/./bin/bash"] {
            assert_eq!(resolve(image, path), Some(image.join("usr/bin/bash")), "{path}");
        }
        assert_eq!(resolve(image, "/loop"), None);
        assert_eq!(resolve(image, "/../.."), Some(image.to_owned()));
    }

    #[test]
    fn no_more_is_read_than_may_be() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("d")).unwrap();
        for name in ["a", "b", "c"] {
            fs::write(dir.path().join("d").join(name), [0; 100]).unwrap();
        }
        let mut left = 250;
        read(dir.path(), "/d", &mut left);
        assert_eq!(left, 50);
        read(dir.path(), "/absent", &mut left);
        assert_eq!(left, 50);
    }
}
