//! What is installed.

use std::{
    fs,
    process::{Command, Stdio},
};

use super::{Finding, kernel::as_root};
use crate::{
    agent_binary,
    host::{self, Os, QEMU},
};

/// Oldest QEMU that works.
const QEMU_MIN: (u32, u32) = (7, 2);

pub(super) fn system() -> Finding {
    const NAME: &str = "system";
    let os = Os::read();
    if os.has_apt() {
        Finding::ok(NAME, os.name)
    } else {
        let name = if os.name.is_empty() { "unknown".to_owned() } else { os.name };
        Finding::note(NAME, format!("{name}: `ampoule setup` knows Debian and Ubuntu only"))
            .mend("install by hand what is missing below")
    }
}

pub(super) fn qemu() -> Finding {
    const NAME: &str = "QEMU";
    let Some(program) = host::program(QEMU) else {
        return Finding::bad(NAME, "not installed")
            .mend(as_root("apt-get install --no-install-recommends qemu-system-x86"));
    };
    let output = Command::new(&program).arg("--version").stdin(Stdio::null()).stderr(Stdio::null()).output();
    let text = output.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    match version(&text) {
        Some(version) if version >= QEMU_MIN => {
            Finding::ok(NAME, format!("{}.{} at {}", version.0, version.1, program.display()))
        }
        Some((major, minor)) => Finding::bad(
            NAME,
            format!("{major}.{minor} is too old: 7.2 or newer is needed (Debian 12, Ubuntu 24.04)"),
        )
        .mend("upgrade the system, or install a newer QEMU earlier in PATH"),
        None => Finding::bad(NAME, format!("{} does not say its version", program.display()))
            .mend(as_root("apt-get install --reinstall qemu-system-x86")),
    }
}

/// `QEMU emulator version 7.2.22 (…)`
pub(crate) fn version(text: &str) -> Option<(u32, u32)> {
    let rest = text.split("version ").nth(1)?;
    let mut parts = rest.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

pub(super) fn tools() -> Finding {
    const NAME: &str = "tools";
    let missing: Vec<_> = host::missing().into_iter().filter(|need| need.what != QEMU).collect();
    if missing.is_empty() {
        let names: Vec<_> =
            host::needs().iter().map(|need| need.what).filter(|what| !what.starts_with('/')).collect();
        return Finding::ok(NAME, names.join(", "));
    }
    let what: Vec<_> = missing.iter().map(|need| format!("{} ({})", need.what, need.purpose)).collect();
    let packages: Vec<_> = missing.iter().map(|need| need.package).collect();
    Finding::bad(NAME, format!("missing: {}", what.join(", ")))
        .mend(as_root(&format!("apt-get install --no-install-recommends {}", packages.join(" "))))
        .mend("or: ampoule setup")
}

pub(super) fn agent() -> Finding {
    const NAME: &str = "agent";
    match agent_binary::find() {
        Ok(path) => Finding::ok(NAME, path.display().to_string()),
        Err(error) => {
            Finding::bad(NAME, error.to_string()).mend("in a checkout of ampoule: cargo xtask build")
        }
    }
}

pub(super) fn subordinate_ids() -> Finding {
    const NAME: &str = "subordinate ids";
    if host::is_root() {
        return Finding::ok(NAME, "not needed by root");
    }
    let uid = rustix::process::getuid().as_raw().to_string();
    let user = std::env::var("USER").unwrap_or_default();
    let has = |path: &str| {
        fs::read_to_string(path).is_ok_and(|text| {
            text.lines()
                .filter_map(|line| line.split(':').next())
                .any(|name| name == uid || !user.is_empty() && name == user)
        })
    };
    match (has("/etc/subuid"), has("/etc/subgid")) {
        (true, true) => Finding::ok(NAME, "/etc/subuid and /etc/subgid name this user"),
        _ => Finding::note(
            NAME,
            "/etc/subuid or /etc/subgid does not name this user: it can use root images, and make none",
        )
        .mend("sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 \"$USER\""),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_qemu_are_read() {
        assert_eq!(version("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7)\nCopyright"), Some((7, 2)));
        assert_eq!(version("QEMU emulator version 10.0.3"), Some((10, 0)));
        assert_eq!(version("something else"), None);
        assert!(version("QEMU emulator version 6.2.0").unwrap() < QEMU_MIN);
    }
}
