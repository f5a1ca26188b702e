//! The files of a step: its script, and those by which it speaks.
//!
//! Purpose: one archive to the guest before the step, one back after it, and what is in it.
//! Owner: the step that runs. What comes back was written by foreign code: only regular files of the names
//! that were sent count, each up to the cap of [`workflow::envfile`]. One that is something else now is a
//! fault; one that is gone is as good as empty.
//!
//! ```text
//!   /tmp/_ampoule/<n>/script.sh
//!   /tmp/_ampoule/<n>/files/{output,env,path,state,summary}
//! ```

use std::{io::Read, path::Path};

use sandbox::{Error as SandboxError, FailureKind, Sandbox};
use tokio::io::AsyncReadExt;
use workflow::envfile::MAX_FILE;

use crate::guest::{Fault, OWN_DIR};

/// Most bytes of the archive that comes back.
const MAX_ARCHIVE: u64 = (5 * MAX_FILE + (1 << 20)) as u64;

/// How much is read of the archive of one path, to see whether there is anything in it.
const LOOK: u64 = 64 << 10;

/// What is wrong with a file that a step replaced.
const REPLACED: &str = "is no longer a regular file";

/// A file by which a step speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum File {
    Output,
    Env,
    Path,
    State,
    Summary,
}

impl File {
    pub(crate) const ALL: [Self; 5] = [Self::Output, Self::Env, Self::Path, Self::State, Self::Summary];

    /// Its name in the step's directory.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Output => "output",
            Self::Env => "env",
            Self::Path => "path",
            Self::State => "state",
            Self::Summary => "summary",
        }
    }

    /// Its variable, behind `GITHUB_` or `FORGEJO_`.
    pub(crate) const fn variable(self) -> &'static str {
        match self {
            Self::Output => "OUTPUT",
            Self::Env => "ENV",
            Self::Path => "PATH",
            Self::State => "STATE",
            Self::Summary => "STEP_SUMMARY",
        }
    }
}

/// Where the files of one step lie, as requests name them.
#[derive(Clone, Debug)]
pub(crate) struct StepFiles {
    dir: String,
}

/// What a step wrote.
#[derive(Default)]
pub(crate) struct Written {
    contents: [Vec<u8>; 5],
    /// Which of them were there, as whatever.
    there: [bool; 5],
    /// The first that cannot be taken, and why.
    fault: Option<String>,
}

impl StepFiles {
    pub(crate) fn new(step: usize) -> Self {
        Self { dir: format!("{OWN_DIR}/{step}") }
    }

    pub(crate) fn dir(&self) -> &str {
        &self.dir
    }

    pub(crate) fn script(&self, extension: &str) -> String {
        format!("{}/script{extension}", self.dir)
    }

    pub(crate) fn file(&self, file: File) -> String {
        format!("{}/files/{}", self.dir, file.name())
    }

    /// The archive to unpack in [`StepFiles::dir`].
    pub(crate) fn archive(extension: &str, script: &str) -> Vec<u8> {
        let mut archive = Archive::default();
        archive.add(&format!("script{extension}"), 0o755, script.as_bytes());
        for file in File::ALL {
            archive.add(&format!("files/{}", file.name()), 0o666, b"");
        }
        archive.finish()
    }

    /// What the step wrote. What it removed, the directory or a file, is as good as empty.
    pub(crate) async fn read(&self, sandbox: &Sandbox) -> Result<Written, Fault> {
        let all = fetch(sandbox, format!("{}/files", self.dir), MAX_ARCHIVE + 1).await?;
        let Some(archive) = all else { return Ok(Written::default()) };
        if archive.len() as u64 > MAX_ARCHIVE {
            return Err(Fault::step(too_large(&archive)));
        }
        let mut written = Written::unpack(&archive);
        for file in File::ALL {
            // Archives leave pipes, sockets and devices out. Asked for by name, such a one is an empty
            // archive, and what is not there an error. Nobody opens it, so nobody waits for its writer.
            if !written.there[file as usize]
                && let Some(archive) = fetch(sandbox, self.file(file), LOOK).await?
                && is_empty(&archive)
            {
                written.blame(file, REPLACED);
            }
        }
        Ok(written)
    }
}

/// The beginning of the archive of a path of the guest; none where there is no such path.
async fn fetch(sandbox: &Sandbox, path: String, most: u64) -> Result<Option<Vec<u8>>, Fault> {
    let mut archive = Vec::new();
    let stream = sandbox.copy_out(path).await?;
    match stream.take(most).read_to_end(&mut archive).await {
        Ok(_) => Ok(Some(archive)),
        Err(error) => match error.into_inner().map(|inner| inner.downcast::<SandboxError>()) {
            Some(Ok(error)) => match *error {
                SandboxError::Guest { kind: FailureKind::NotFound, .. } => Ok(None),
                other => Err(other.into()),
            },
            _ => Err(Fault::step("the files of the step cannot be read")),
        },
    }
}

/// The content of one regular file of the guest, or why there is none.
pub(crate) async fn content(
    sandbox: &Sandbox,
    path: String,
    most: usize,
) -> Result<Result<Vec<u8>, String>, Fault> {
    // a tar header and padding stand around it
    let archive = match fetch(sandbox, path, most as u64 + LOOK).await {
        Ok(Some(archive)) => archive,
        Ok(None) => return Ok(Err("there is no such file".to_owned())),
        Err(Fault::Step(text)) => return Ok(Err(text)),
        Err(fault) => return Err(fault),
    };
    Ok(single(&archive, most))
}

/// The one file of an archive.
fn single(archive: &[u8], most: usize) -> Result<Vec<u8>, String> {
    let mut archive = tar::Archive::new(archive);
    let entry = archive.entries().ok().and_then(|mut entries| entries.next()?.ok());
    let Some(mut entry) = entry.filter(|entry| entry.header().entry_type().is_file()) else {
        return Err("it is no regular file".to_owned());
    };
    if entry.size() > most as u64 {
        return Err(format!("it is larger than {} KiB", most >> 10));
    }
    let size = entry.size();
    let mut content = Vec::new();
    match entry.read_to_end(&mut content) {
        Ok(_) if content.len() as u64 == size => Ok(content),
        _ => Err("it came back broken".to_owned()),
    }
}

/// What is said of an archive that was cut at [`MAX_ARCHIVE`]: which file is to blame, if it is one.
fn too_large(archive: &[u8]) -> String {
    let fault = Written::unpack(archive).fault.filter(|fault| fault.ends_with(&larger()));
    fault.unwrap_or_else(|| {
        format!("the files that lie beside GITHUB_OUTPUT are larger than {} MiB together", MAX_ARCHIVE >> 20)
    })
}

/// What is wrong with a file of more than [`MAX_FILE`].
fn larger() -> String {
    format!("is larger than {} MiB", MAX_FILE >> 20)
}

fn is_empty(archive: &[u8]) -> bool {
    tar::Archive::new(archive).entries().is_ok_and(|mut entries| entries.next().is_none())
}

impl Written {
    /// The content of a file; empty when it is not there.
    pub(crate) fn content(&self, file: File) -> &[u8] {
        &self.contents[file as usize]
    }

    /// Why not all of it counts.
    pub(crate) fn fault(&self) -> Option<&str> {
        self.fault.as_deref()
    }

    fn unpack(archive: &[u8]) -> Self {
        let mut written = Self::default();
        let mut archive = tar::Archive::new(archive);
        let Ok(entries) = archive.entries() else { return written };
        for entry in entries {
            let Ok(mut entry) = entry else {
                written.fault.get_or_insert_with(|| "the files of the step came back broken".to_owned());
                break;
            };
            let Ok(path) = entry.path() else { continue };
            let path = path.strip_prefix(".").unwrap_or(&path);
            // By components: a directory's name ends with a slash.
            let Some(file) = File::ALL.into_iter().find(|file| path == Path::new(file.name())) else {
                continue;
            };
            written.there[file as usize] = true;
            let fault = if !entry.header().entry_type().is_file() {
                Some(REPLACED.to_owned())
            } else if entry.size() > MAX_FILE as u64 {
                Some(larger())
            } else {
                let mut content = Vec::new();
                let read = entry.read_to_end(&mut content);
                written.contents[file as usize] = content;
                read.err().map(|_| "came back broken".to_owned())
            };
            if let Some(fault) = fault {
                written.blame(file, &fault);
            }
        }
        written
    }

    fn blame(&mut self, file: File, fault: &str) {
        self.fault.get_or_insert_with(|| format!("GITHUB_{} {fault}", file.variable()));
    }
}

/// A tar archive that is made in memory.
pub(crate) struct Archive(tar::Builder<Vec<u8>>);

impl Default for Archive {
    fn default() -> Self {
        Self(tar::Builder::new(Vec::new()))
    }
}

impl Archive {
    /// Adds a file. Names of ours are short and relative, and memory does not fail to be written.
    pub(crate) fn add(&mut self, name: &str, mode: u32, content: &[u8]) {
        let mut header = tar::Header::new_gnu();
        header.set_size(content.len() as u64);
        header.set_mode(mode);
        header.set_entry_type(tar::EntryType::Regular);
        let added = self.0.append_data(&mut header, name, content);
        debug_assert!(added.is_ok(), "{name}");
    }

    pub(crate) fn finish(self) -> Vec<u8> {
        self.0.into_inner().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_sent_comes_back_empty() {
        let mut sent = tar::Archive::new(std::io::Cursor::new(StepFiles::archive(".sh", "echo hello")));
        let names: Vec<String> = sent
            .entries()
            .unwrap()
            .map(|entry| entry.unwrap().path().unwrap().to_str().unwrap().to_owned())
            .collect();
        assert_eq!(
            names,
            ["script.sh", "files/output", "files/env", "files/path", "files/state", "files/summary"]
        );
    }

    #[test]
    fn only_regular_files_of_known_names_count() {
        let mut archive = Archive::default();
        archive.add("./output", 0o644, b"a=1");
        archive.add("other", 0o644, b"x");
        archive.add("sub/env", 0o644, b"x");
        let mut link = tar::Header::new_gnu();
        link.set_entry_type(tar::EntryType::Symlink);
        link.set_size(0);
        archive.0.append_link(&mut link, "env", "/etc/passwd").unwrap();
        let written = Written::unpack(&archive.finish());
        assert_eq!(written.content(File::Output), b"a=1");
        assert_eq!(written.content(File::Env), b"");
        assert_eq!(written.fault(), Some("GITHUB_ENV is no longer a regular file"));
    }

    #[test]
    fn a_directory_in_the_place_of_a_file_is_told() {
        let mut archive = Archive::default();
        let mut directory = tar::Header::new_gnu();
        directory.set_entry_type(tar::EntryType::Directory);
        directory.set_size(0);
        archive.0.append_data(&mut directory, "summary/", std::io::empty()).unwrap();
        archive.add("summary/env", 0o644, b"x");
        let written = Written::unpack(&archive.finish());
        assert_eq!(written.fault(), Some("GITHUB_STEP_SUMMARY is no longer a regular file"));
        assert!(is_empty(&Archive::default().finish()));
    }

    #[test]
    fn a_file_that_is_too_large_or_broken_is_told() {
        let mut archive = Archive::default();
        archive.add("state", 0o644, &vec![b'x'; MAX_FILE + 1]);
        archive.add("path", 0o644, b"/x");
        let archive = archive.finish();
        let written = Written::unpack(&archive);
        assert_eq!(written.fault(), Some("GITHUB_STATE is larger than 8 MiB"));
        assert_eq!(written.content(File::Path), b"/x");
        assert!(Written::unpack(&archive[..1000]).fault().is_some());
        assert!(Written::unpack(&[7; 2000]).fault().is_some());
        assert!(Written::unpack(b"").fault().is_none());
    }

    #[test]
    fn one_file_is_taken_out_of_its_archive() {
        let of = |content: &[u8]| {
            let mut archive = Archive::default();
            archive.add("gcc.json", 0o644, content);
            archive.finish()
        };
        assert_eq!(single(&of(b"{}"), 2), Ok(b"{}".to_vec()));
        assert_eq!(single(&of(&[b' '; 2000]), 1024), Err("it is larger than 1 KiB".to_owned()));
        assert_eq!(single(&of(&[b' '; 1000])[..800], 1024), Err("it came back broken".to_owned()));
        for nothing in [&Archive::default().finish()[..], b"", &[7; 2000]] {
            assert_eq!(single(nothing, 2), Err("it is no regular file".to_owned()));
        }
    }

    #[test]
    fn the_file_that_filled_the_archive_is_named() {
        let cut = |name: &str| {
            let mut archive = Archive::default();
            archive.add("output", 0o644, b"a=1");
            archive.add(name, 0o644, &vec![b'x'; MAX_FILE * 6]);
            archive.add("path", 0o644, b"/x");
            let mut archive = archive.finish();
            archive.truncate(5 * MAX_FILE + (1 << 20) + 1);
            too_large(&archive)
        };
        assert_eq!(cut("env"), "GITHUB_ENV is larger than 8 MiB");
        assert_eq!(cut("core"), "the files that lie beside GITHUB_OUTPUT are larger than 41 MiB together");
    }
}
