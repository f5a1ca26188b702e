//! What this host is and has: read by `doctor` and `setup`, never changed here.

use std::{
    env, fs, io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

/// Something that has to be installed, and the package of Debian and Ubuntu that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need {
    /// A program's name, or a file.
    pub what: &'static str,
    /// The package.
    pub package: &'static str,
    /// What it is for.
    pub purpose: &'static str,
}

/// What a VM and a run need; what an image's build needs, its own crate knows.
const RUN: [Need; 3] = [
    Need { what: QEMU, package: "qemu-system-x86", purpose: "runs the VMs" },
    Need { what: "git", package: "git", purpose: "reads the working tree" },
    Need { what: "mke2fs", package: "e2fsprogs", purpose: "makes the VMs' scratch disks" },
];

/// What VMs' networks need: without it there are VMs all the same.
const NETWORK: [Need; 3] = [
    Need { what: "nft", package: "nftables", purpose: "sets the rules of VMs' networks" },
    Need { what: "ip", package: "iproute2", purpose: "makes the links of VMs' networks" },
    Need { what: "pasta", package: "passt", purpose: "leads VMs' networks to the host's for a plain user" },
];

/// The program that runs VMs.
pub const QEMU: &str = "qemu-system-x86_64";

/// All that has to be installed for this user.
#[must_use]
pub fn needs() -> Vec<Need> {
    with(&image::requirements(), |_| true)
}

/// What is not installed that `setup` installs: what has to be, and what networks need.
#[must_use]
pub fn missing_for_setup() -> Vec<Need> {
    let mut all = missing();
    all.extend(NETWORK.into_iter().filter(|need| program(need.what).is_none()));
    all
}

/// What of it is not.
#[must_use]
pub fn missing() -> Vec<Need> {
    with(&image::missing(), |need| program(need.what).is_none())
}

fn with(images: &[image::Requirement], keep: impl Fn(&Need) -> bool) -> Vec<Need> {
    let mut all: Vec<Need> = RUN.into_iter().filter(keep).collect();
    for need in images {
        if !all.iter().any(|known| known.what == need.needs)
            && !RUN.iter().any(|known| known.what == need.needs)
        {
            all.push(Need { what: need.needs, package: need.package, purpose: need.why });
        }
    }
    all
}

/// Whether this process is root.
#[must_use]
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Looks a program up in `PATH` and where plain users' `PATH` often does not lead.
#[must_use]
pub fn program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .filter(|dir| dir.is_absolute())
        .chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|path| {
            fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
        })
}

/// What `/etc/os-release` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Os {
    /// `debian`, `ubuntu`, …
    pub id: String,
    /// What it is like, separated by spaces.
    pub like: String,
    /// For people.
    pub name: String,
}

impl Os {
    /// Reads it; empty if there is none.
    #[must_use]
    pub fn read() -> Self {
        ["/etc/os-release", "/usr/lib/os-release"]
            .into_iter()
            .find_map(|path| fs::read_to_string(path).ok())
            .map(|text| Self::parse(&text))
            .unwrap_or_default()
    }

    fn parse(text: &str) -> Self {
        let value = |key: &str| {
            text.lines()
                .filter_map(|line| line.split_once('='))
                .find(|(name, _)| name.trim() == key)
                .map(|(_, value)| value.trim().trim_matches(['"', '\'']).to_owned())
                .unwrap_or_default()
        };
        let os = Self { id: value("ID"), like: value("ID_LIKE"), name: value("PRETTY_NAME") };
        if os.name.is_empty() { Self { name: os.id.clone(), ..os } } else { os }
    }

    /// Whether packages are installed by apt, under the names that we know.
    #[must_use]
    pub fn has_apt(&self) -> bool {
        let known = |word: &str| word == "debian" || word == "ubuntu";
        known(&self.id) || self.like.split_whitespace().any(known)
    }
}

/// The first line of a small file, without white space around it.
pub(crate) fn line(path: impl AsRef<Path>) -> io::Result<String> {
    Ok(fs::read_to_string(path)?.lines().next().unwrap_or_default().trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_system_is_recognised() {
        let debian = Os::parse("PRETTY_NAME=\"Debian GNU/Linux 13 (trixie)\"\nID=debian\n");
        assert!(debian.has_apt());
        assert_eq!(debian.name, "Debian GNU/Linux 13 (trixie)");
        assert!(Os::parse("ID=linuxmint\nID_LIKE=\"ubuntu debian\"\n").has_apt());
        assert!(!Os::parse("ID=fedora\n").has_apt());
        assert!(!Os::default().has_apt());
    }

    #[test]
    fn programs_are_found_by_name() {
        assert!(program("sh").is_some_and(|path| path.is_absolute()));
        assert_eq!(program("no-such-program-at-all"), None);
    }
}
