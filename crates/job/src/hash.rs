//! `hashFiles`: the digest of the files that patterns name, asked of the guest.
//!
//! Purpose: lists the workspace, picks by pattern, has the guest digest the files, and joins their digests as
//! the official function does: SHA-256 over the SHA-256 of each file, in the order of their paths.
//! Owner: the step whose expression asks. What the guest says is checked: a digest or a path that is none is
//! an error, never a panic.

use globset::{GlobBuilder, GlobMatcher};
use sha2::{Digest, Sha256};
use workflow::Query;

use crate::guest::{Fault, Guest};

/// Most bytes of a list of files.
const MAX_LIST: usize = 32 << 20;

/// Answers a question of an expression.
pub(crate) async fn answer(guest: &Guest, query: &Query) -> Result<String, Fault> {
    let Query::HashFiles(patterns) = query;
    let patterns = Patterns::parse(patterns, &guest.seen(guest.workspace()))?;
    let list = guest.ask(&["find", ".", "-type", "f", "-print0"], Vec::new(), MAX_LIST).await?;
    let mut files: Vec<&[u8]> =
        list.split(|&byte| byte == 0).map(|path| path.strip_prefix(b"./").unwrap_or(path)).collect();
    // Behind the last NUL there is nothing, which `*` would match.
    files.retain(|path| {
        !path.is_empty() && std::str::from_utf8(path).is_ok_and(|path| patterns.matches(path))
    });
    if files.is_empty() {
        return Ok(String::new());
    }
    files.sort_unstable();
    let mut names = Vec::new();
    for file in &files {
        names.extend_from_slice(b"./");
        names.extend_from_slice(file);
        names.push(0);
    }
    let sums = guest.ask(&["xargs", "-0", "sha256sum", "-z", "--"], names, MAX_LIST).await?;
    join(&sums, files.len())
}

/// Joins what `sha256sum -z` printed: 64 hexadecimal digits, two characters and the name, a NUL.
fn join(sums: &[u8], count: usize) -> Result<String, Fault> {
    let mut all = Sha256::new();
    let mut seen = 0;
    for sum in sums.split(|&byte| byte == 0).filter(|sum| !sum.is_empty()) {
        let digest = sum.get(..64).and_then(unhex).ok_or_else(bad)?;
        all.update(digest);
        seen += 1;
    }
    if seen != count {
        return Err(bad());
    }
    Ok(all.finalize().iter().map(|byte| format!("{byte:02x}")).collect())
}

fn bad() -> Fault {
    Fault::step("`hashFiles`: files changed while they were read, or `sha256sum` is none")
}

fn unhex(digits: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(digits).ok()?;
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(text.get(at..at + 2)?, 16).ok()).collect()
}

/// Patterns in order; the last one that matches decides, `!` in front means no.
struct Patterns(Vec<(GlobMatcher, Verdict)>);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Verdict {
    In,
    Out,
}

impl Patterns {
    fn parse(patterns: &[String], workspace: &str) -> Result<Self, Fault> {
        let mut parsed = Vec::new();
        for line in patterns.iter().flat_map(|pattern| pattern.lines()).map(str::trim) {
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (verdict, glob) =
                line.strip_prefix('!').map_or((Verdict::In, line), |rest| (Verdict::Out, rest));
            let glob = glob.strip_prefix(workspace).unwrap_or(glob);
            let glob = glob.trim_start_matches("./").trim_start_matches('/');
            // A directory stands for what is in it.
            for glob in [glob.to_owned(), format!("{}/**", glob.trim_end_matches('/'))] {
                let built = GlobBuilder::new(&glob).literal_separator(true).build();
                let built = built.map_err(|error| Fault::step(format!("`hashFiles`: {error}")))?;
                parsed.push((built.compile_matcher(), verdict));
            }
        }
        Ok(Self(parsed))
    }

    fn matches(&self, path: &str) -> bool {
        let last = self.0.iter().rev().find(|(glob, _)| glob.is_match(path));
        last.is_some_and(|(_, verdict)| *verdict == Verdict::In)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn matches(patterns: &[&str], path: &str) -> bool {
        let patterns: Vec<String> = patterns.iter().map(|&pattern| pattern.to_owned()).collect();
        Patterns::parse(&patterns, "/workspace/o/r").unwrap().matches(path)
    }

    #[test]
    fn patterns_pick_and_leave_out() {
        assert!(matches(&["**/package-lock.json"], "package-lock.json"));
        assert!(matches(&["**/package-lock.json"], "a/b/package-lock.json"));
        assert!(!matches(&["*.json"], "a/x.json"));
        assert!(matches(&["./src"], "src/a/b.c"));
        assert!(matches(&["/workspace/o/r/Cargo.lock"], "Cargo.lock"));
        assert!(!matches(&["**/*.lock\n!vendor/**"], "vendor/a.lock"));
        assert!(matches(&["**/*.lock", "!vendor/**", "vendor/keep.lock"], "vendor/keep.lock"));
        assert!(Patterns::parse(&["a[".to_owned()], "/w").is_err());
    }

    #[test]
    fn digests_are_joined_and_checked() {
        // sha256 of the empty text, and sha256 of those 32 bytes
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855  ./a\0";
        let joined = join(empty.as_bytes(), 1).unwrap();
        assert_eq!(joined, "5df6e0e2761359d30a8275058e299fcc0381534545f55cf43e41983f5d4c9456");
        assert!(join(empty.as_bytes(), 2).is_err());
        assert!(join(b"nonsense\0", 1).is_err());
        assert!(join("\u{e9}".repeat(40).as_bytes(), 1).is_err());
    }
}
