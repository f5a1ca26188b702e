//! Gitea's binary, built once from its Go module.
//!
//! Purpose: `testing/gitea` pins the version and all that it is made of by checksum; this builds it with the
//! host's Go and keeps it, with the files that it reads at run time, in cargo's target directory.
//! Owner: [`Program::ensure`]; `cargo xtask test` calls it in a stage of its own, so that no test waits for it.
//!
//! Invariants
//! - What is kept is named by a digest of go.mod, go.sum and the flags: another version is another directory.
//! - One build at a time for each target directory; a build that was cut leaves nothing that looks whole.

use std::{
    env, fs,
    fs::File,
    io::{BufRead, BufReader, Write as _},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use sha2::{Digest as _, Sha256};

use super::{Error, Result, files};

const MODULE: &str = "code.gitea.io/gitea";
const TAGS: &str = "sqlite sqlite_unlock_notify";
const LINK: &str = "-s -w -X main.Version=";
const GO_MOD: &str = include_str!("../../../gitea/go.mod");
const GO_SUM: &str = include_str!("../../../gitea/go.sum");
/// What Gitea reads at run time; without the tag `bindata` it is not in the binary.
const STATIC: &[&str] = &["options", "public", "templates"];
/// How often a build says that it still lives.
const SIGN_OF_LIFE: Duration = Duration::from_secs(20);

/// A built Gitea.
#[derive(Clone, Debug)]
pub struct Program {
    /// The binary.
    pub binary: PathBuf,
    /// The directory for `STATIC_ROOT_PATH`.
    pub files: PathBuf,
}

impl Program {
    /// The built one; builds it first where that was not done yet, which takes minutes and is told on the
    /// error output.
    ///
    /// # Errors
    /// Without a Go, without the module's sources, or when it does not compile.
    pub fn ensure() -> Result<Self> {
        let kept = kept()?;
        let home = kept.join(digest());
        let program = Self { binary: home.join("gitea"), files: home.join("static") };
        if home.is_dir() {
            return Ok(program);
        }
        fs::create_dir_all(&kept).map_err(Error::io(format!("make {}", kept.display())))?;
        let lock = kept.join("lock");
        let lock = File::create(&lock).map_err(Error::io(format!("open {}", lock.display())))?;
        lock.lock().map_err(Error::io("wait for another build of Gitea"))?;
        // while this waited, another process may have built it
        if !home.is_dir() {
            build(&kept.join("new"), &home)?;
        }
        Ok(program)
    }
}

/// The version that go.mod pins, without the `v`.
#[must_use]
pub fn version() -> &'static str {
    let line = GO_MOD.lines().find_map(|line| line.trim().strip_prefix(MODULE)?.strip_prefix(" v"));
    line.and_then(|rest| rest.split_whitespace().next()).unwrap_or_default()
}

fn build(fresh: &Path, home: &Path) -> Result<()> {
    let go = go()?;
    say(&format!("gitea: building {} with {}, once; this takes some minutes", version(), go.display()));
    let begun = Instant::now();
    if fresh.exists() {
        fs::remove_dir_all(fresh).map_err(Error::io(format!("remove {}", fresh.display())))?;
    }
    fs::create_dir_all(fresh).map_err(Error::io(format!("make {}", fresh.display())))?;
    let mut compile = in_module(&go);
    compile.args(["build", "-v", "-mod=readonly", "-tags", TAGS]);
    compile.arg(format!("-ldflags={LINK}{}", version()));
    compile.arg("-o").arg(fresh.join("gitea")).arg(MODULE);
    watched(compile)?;
    let mut list = in_module(&go);
    let listed = list.args(["list", "-m", "-f", "{{.Dir}}", MODULE]).stderr(Stdio::inherit()).output();
    let listed = listed.map_err(Error::io("run go list"))?;
    let source = PathBuf::from(String::from_utf8_lossy(&listed.stdout).trim());
    for name in STATIC {
        files::copy_tree(&source.join(name), &fresh.join("static").join(name), files::How::Copy)?;
    }
    fs::rename(fresh, home).map_err(Error::io(format!("keep {}", home.display())))?;
    say(&format!("gitea: built after {} s, kept in {}", begun.elapsed().as_secs(), home.display()));
    Ok(())
}

/// Runs a build and passes on that it lives; its output comes with the error when it fails.
fn watched(mut command: Command) -> Result<()> {
    let words = shown(&command);
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(Error::io(format!("start `{words}`")))?;
    let (begun, mut last) = (Instant::now(), Instant::now());
    let (mut downloads, mut packages) = (0, 0);
    let mut tail = std::collections::VecDeque::new();
    if let Some(stderr) = child.stderr.take() {
        for line in BufReader::new(stderr).lines().map_while(std::io::Result::ok) {
            if line.starts_with("go: downloading") {
                downloads += 1;
            } else {
                packages += 1;
            }
            if last.elapsed() > SIGN_OF_LIFE {
                last = Instant::now();
                let seconds = begun.elapsed().as_secs();
                say(&format!("gitea: {seconds} s, {downloads} modules loaded, {packages} packages compiled"));
            }
            tail.push_back(line);
            if tail.len() > 30 {
                tail.pop_front();
            }
        }
    }
    let status = child.wait().map_err(Error::io(format!("wait for `{words}`")))?;
    if status.success() {
        return Ok(());
    }
    let output = Vec::from(tail).join("\n");
    Err(Error::Command { command: words, status, output })
}

/// A call of Go in the module that pins Gitea. Where the host's Go is older than it asks for, Go loads the
/// right one by itself.
fn in_module(go: &Path) -> Command {
    let mut command = Command::new(go);
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../gitea"));
    command.env("GOTOOLCHAIN", "auto").env("CGO_ENABLED", "1").env_remove("GOFLAGS").env("GOWORK", "off");
    command
}

fn go() -> Result<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain([PathBuf::from("/usr/local/go/bin")])
        .map(|dir| dir.join("go"))
        .find(|go| go.is_file())
        .ok_or_else(|| Error::NoGo(go_version().to_owned()))
}

/// The version of Go that go.mod asks for.
fn go_version() -> &'static str {
    GO_MOD.lines().find(|line| line.starts_with("go ")).unwrap_or("go")
}

/// What names a build.
fn digest() -> String {
    let mut hash = Sha256::new();
    for part in [GO_MOD, GO_SUM, TAGS, LINK] {
        hash.update(part.len().to_le_bytes());
        hash.update(part);
    }
    hash.finalize().iter().take(8).map(|byte| format!("{byte:02x}")).collect()
}

/// Where binaries, and logs of failures, are kept.
pub(super) fn kept() -> Result<PathBuf> {
    Ok(target_dir()?.join("gitea"))
}

/// The target directory that this program was built into: cargo marks it for programs that make backups.
fn target_dir() -> Result<PathBuf> {
    let program = env::current_exe().map_err(Error::io("find this program"))?;
    let target = program.ancestors().find(|dir| dir.join("CACHEDIR.TAG").is_file());
    target.map(Path::to_path_buf).ok_or_else(|| Error::NoTarget(program.display().to_string()))
}

pub(super) fn shown(command: &Command) -> String {
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

pub(super) fn say(line: &str) {
    // nobody may be reading
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_pinned_versions_are_read() {
        assert!(version().starts_with("1."), "{:?}", version());
        assert!(go_version().starts_with("go 1."), "{:?}", go_version());
    }

    #[test]
    fn a_failing_build_shows_its_output() {
        let mut command = Command::new("sh");
        command.args(["-c", "echo 'a.go:1: no such thing' >&2; exit 3"]);
        let error = watched(command).expect_err("it fails").to_string();
        assert!(error.contains("a.go:1: no such thing") && error.contains('3'), "{error}");
    }
}
