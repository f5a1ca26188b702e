//! The Python client of forkd, as it is published, and node: programs that are not ours.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

/// The version that is tested against.
const PACKAGE: &str = "forkd==0.5.3";

/// Directory of the client's package, for `PYTHONPATH`: installed once for a target directory.
///
/// # Panics
/// When pip cannot install it.
#[must_use]
pub fn package() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let test = env::current_exe().expect("the path of this test");
        let profile = test.parent().and_then(Path::parent).expect("target directories");
        let place = profile.join("python").join(PACKAGE);
        if !place.is_dir() {
            install(&place);
        }
        place
    })
}

/// Installs beside it, then moves it there in one step: another run may do the same.
fn install(place: &Path) {
    let parent = place.parent().expect("a directory");
    fs::create_dir_all(parent).expect("a directory");
    let fresh = tempfile::tempdir_in(parent).expect("a directory");
    let target = fresh.path().join("package");
    let pip = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target"])
        .arg(&target)
        .arg(PACKAGE)
        .stdin(Stdio::null())
        .output()
        .expect("python3 starts");
    assert!(pip.status.success(), "pip: {}", String::from_utf8_lossy(&pip.stderr));
    if let Err(error) = fs::rename(&target, place) {
        assert!(place.is_dir(), "{error}");
    }
}

/// Whether node is on this host: `cargo xtask test` installs it.
#[must_use]
pub fn has_node() -> bool {
    Command::new("node").arg("--version").output().is_ok_and(|output| output.status.success())
}
