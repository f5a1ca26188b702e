//! What a build needs of the host, and what this host gives.

use std::{
    env, fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

/// Something that a build needs, and the Debian or Ubuntu package that has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The program, or the path of the file.
    pub needs: &'static str,
    /// The package.
    pub package: &'static str,
    /// What it is needed for.
    pub why: &'static str,
}

const EVERYONE: &[Requirement] = &[
    Requirement { needs: "mmdebstrap", package: "mmdebstrap", why: "installs the image's packages" },
    Requirement { needs: "mksquashfs", package: "squashfs-tools", why: "packs the image" },
    Requirement { needs: "unshare", package: "util-linux", why: "encloses the build" },
    Requirement { needs: "mount", package: "mount", why: "encloses the build" },
    Requirement { needs: "python3", package: "python3", why: "runs pip" },
    Requirement { needs: PIP, package: "python3-pip", why: "fetches node by its checksum" },
    Requirement {
        needs: "/usr/share/keyrings/debian-archive-keyring.gpg",
        package: "debian-archive-keyring",
        why: "checks the packages' signatures",
    },
];

const PLAIN_USER: &[Requirement] = &[Requirement {
    needs: "newuidmap",
    package: "uidmap",
    why: "lets a plain user make files of the image's users",
}];

const PIP: &str = "pip (python3 -m pip)";

/// All that a build by this user needs.
#[must_use]
pub fn requirements() -> Vec<Requirement> {
    let plain: &[Requirement] = if is_root() { &[] } else { PLAIN_USER };
    EVERYONE.iter().chain(plain).copied().collect()
}

/// What of it the host lacks. Looks at files only and runs nothing but python3.
#[must_use]
pub fn missing() -> Vec<Requirement> {
    requirements().into_iter().filter(|requirement| !is_there(requirement.needs)).collect()
}

fn is_there(needs: &str) -> bool {
    if needs == PIP {
        return std::process::Command::new("python3")
            .args(["-m", "pip", "--version"])
            .env("PATH", search_path())
            .output()
            .is_ok_and(|output| output.status.success());
    }
    if needs.starts_with('/') { Path::new(needs).exists() } else { find_program(needs).is_some() }
}

/// Where a program is: on the path, or where the administrator's programs are, which a plain user's path
/// may leave out.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let dirs = env::split_paths(&path).chain(["/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(PathBuf::from));
    dirs.filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).find(|file| {
        fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    })
}

/// The path that a build's programs search: the caller's, and then the administrator's.
pub(crate) fn search_path() -> String {
    let mut path = env::var("PATH").unwrap_or_default();
    for dir in ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/local/bin", "/usr/bin", "/bin"] {
        if !path.split(':').any(|part| part == dir) {
            if !path.is_empty() {
                path.push(':');
            }
            path.push_str(dir);
        }
    }
    path
}

pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// What to do when namespaces are refused, from what the kernel says about itself.
pub(crate) fn mend_namespaces() -> String {
    let value = |path: &str| fs::read_to_string(path).unwrap_or_default().trim().to_owned();
    let user = env::var("USER").unwrap_or_else(|_| rustix::process::getuid().as_raw().to_string());
    if is_root() {
        "run it where root may mount (with CAP_SYS_ADMIN), or as a plain user".to_owned()
    } else if value("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == "1" {
        "allow them with: sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0".to_owned()
    } else if value("/proc/sys/kernel/unprivileged_userns_clone") == "0" {
        "allow them with: sudo sysctl -w kernel.unprivileged_userns_clone=1".to_owned()
    } else if value("/proc/sys/user/max_user_namespaces") == "0" {
        "allow them with: sudo sysctl -w user.max_user_namespaces=15000".to_owned()
    } else if !has_subids("/etc/subuid", &user) || !has_subids("/etc/subgid", &user) {
        format!(
            "give it ids with: sudo usermod --add-subuids 100000-165535 --add-subgids 100000-165535 {user}"
        )
    } else {
        "run it as root, or where user namespaces are allowed".to_owned()
    }
}

fn has_subids(file: &str, user: &str) -> bool {
    let uid = rustix::process::getuid().as_raw().to_string();
    let text = fs::read_to_string(file).unwrap_or_default();
    text.lines().any(|line| line.split(':').next().is_some_and(|name| name == user || name == uid))
}

/// Bytes of memory that a build's files may take, or `None` where they belong on the disk.
pub(crate) fn room_in_memory() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let kib = meminfo.lines().find_map(|line| line.strip_prefix("MemAvailable:"))?;
    let available = kib.trim().strip_suffix(" kB")?.parse::<u64>().ok()?.checked_mul(1024)?;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit =
        limits.iter().filter_map(|file| fs::read_to_string(file).ok()?.trim().parse::<u64>().ok()).min();
    room_of(available.min(limit.unwrap_or(u64::MAX)))
}

/// Three quarters of what is free, where that is enough for a large image. The rest is for the build's
/// own processes.
fn room_of(available: u64) -> Option<u64> {
    const ENOUGH: u64 = 4 << 30;
    (available >= ENOUGH).then(|| available / 4 * 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn little_memory_means_disk() {
        assert_eq!(room_of(3 << 30), None);
        assert_eq!(room_of(8 << 30), Some(6 << 30));
    }

    #[test]
    fn the_search_path_has_the_administrators_programs_once() {
        let path = search_path();
        assert_eq!(path.split(':').filter(|part| *part == "/usr/sbin").count(), 1);
        assert!(find_program("sh").is_some());
        assert!(find_program("no-such-program-anywhere").is_none());
    }

    #[test]
    fn every_requirement_names_a_package() {
        let all = requirements();
        assert!(all.iter().any(|requirement| requirement.package == "mmdebstrap"));
        let plain = |package: &str| all.iter().any(|requirement| requirement.package == package);
        assert_eq!(plain("uidmap"), !is_root());
    }
}
