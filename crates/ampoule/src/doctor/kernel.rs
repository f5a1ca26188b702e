//! What the kernel and its settings allow.

use std::{
    fs::{self, OpenOptions},
    io,
    path::Path,
    process::{Command, Stdio},
};

use backends::qemu::KvmAccess;

use super::Finding;
use crate::host::{self, is_root};

pub(super) fn architecture() -> Finding {
    const NAME: &str = "architecture";
    match std::env::consts::ARCH {
        "x86_64" => Finding::ok(NAME, "x86_64"),
        other => Finding::bad(NAME, format!("{other}: only x86_64 works so far")),
    }
}

pub(super) fn kvm() -> Finding {
    const NAME: &str = "KVM";
    match OpenOptions::new().read(true).write(true).open("/dev/kvm") {
        Ok(_) if is_root() && matches!(KvmAccess::here(), Ok(KvmAccess::Root)) => Finding::note(
            NAME,
            "only root may open /dev/kvm, and a VM has a user of its own: VMs are emulated",
        )
        .mend("getent group kvm || groupadd --system kvm; chgrp kvm /dev/kvm && chmod 660 /dev/kvm"),
        Ok(_) => Finding::ok(NAME, "/dev/kvm can be opened; a probe boot decides whether it is used"),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Finding::note(
            NAME,
            "there is no /dev/kvm: VMs are emulated, which is slower and a weaker boundary",
        )
        .mend("switch virtualisation on in the firmware, or nested virtualisation in the host of this VM")
        .mend(as_root("modprobe -a kvm kvm_intel kvm_amd")),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            Finding::note(NAME, "/dev/kvm may not be opened by this user: VMs are emulated")
                .mend("sudo usermod -aG kvm \"$USER\"   (then log in again)")
        }
        Err(error) => Finding::note(NAME, format!("/dev/kvm cannot be opened ({error}): VMs are emulated")),
    }
}

pub(super) fn user_namespaces() -> Finding {
    const NAME: &str = "user namespaces";
    if is_root() {
        return Finding::ok(NAME, "not needed: the jail of a VM is built by root");
    }
    let zero = |path: &str| host::line(path).is_ok_and(|value| value == "0");
    if zero("/proc/sys/user/max_user_namespaces") {
        return Finding::bad(NAME, "switched off (user.max_user_namespaces is 0)")
            .mend("sudo sysctl -w user.max_user_namespaces=15000");
    }
    if zero("/proc/sys/kernel/unprivileged_userns_clone") {
        return Finding::bad(NAME, "switched off for plain users (kernel.unprivileged_userns_clone is 0)")
            .mend("sudo sysctl -w kernel.unprivileged_userns_clone=1");
    }
    let restricted =
        host::line("/proc/sys/kernel/apparmor_restrict_unprivileged_userns").is_ok_and(|value| value == "1");
    match (unshares(), restricted) {
        (Some(true), _) => Finding::ok(NAME, "plain users can make them"),
        (_, true) => Finding::bad(NAME, "restricted by Ubuntu's AppArmor rule for plain users")
            .mend("sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")
            .mend("and to keep it: echo kernel.apparmor_restrict_unprivileged_userns=0 | sudo tee /etc/sysctl.d/60-ampoule.conf"),
        (Some(false), false) => Finding::bad(NAME, "this user cannot make one, and no setting says why")
            .mend("run ampoule as root, or outside of the container that it runs in"),
        (None, false) => Finding::note(NAME, "could not be tried: `unshare` is not installed").mend(as_root("apt-get install util-linux")),
    }
}

/// Whether a user namespace with a mapping can be made; nothing if there is no program to try it with.
fn unshares() -> Option<bool> {
    let program = host::program("unshare")?;
    let status = Command::new(program)
        .args(["--user", "--map-root-user", "--mount", "--pid", "--fork", "true"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    Some(status.is_ok_and(|status| status.success()))
}

pub(super) fn tun() -> Finding {
    const NAME: &str = "/dev/net/tun";
    match OpenOptions::new().read(true).write(true).open("/dev/net/tun") {
        Ok(_) => Finding::ok(NAME, "can be opened"),
        Err(error) => {
            let seen = format!("cannot be opened ({error}): VMs have no network card and reach nothing");
            let found = Finding::note(NAME, seen);
            match error.kind() {
                io::ErrorKind::NotFound => found.mend(as_root("modprobe tun")),
                io::ErrorKind::PermissionDenied if !is_root() => {
                    found.mend("sudo chmod 666 /dev/net/tun   (as systemd has it by itself)")
                }
                _ => found,
            }
        }
    }
}

pub(super) fn cgroups() -> Finding {
    const NAME: &str = "cgroups";
    let root = Path::new("/sys/fs/cgroup");
    if root.join("cgroup.controllers").exists() {
        let controllers = host::line(root.join("cgroup.controllers")).unwrap_or_default();
        return match ["cpu", "memory", "pids"]
            .into_iter()
            .filter(|c| !controllers.split(' ').any(|has| has == *c))
            .collect::<Vec<_>>()
        {
            missing if missing.is_empty() => Finding::ok(NAME, "version 2"),
            missing => Finding::note(
                NAME,
                format!("version 2 without {}: these limits are not set", missing.join(", ")),
            ),
        };
    }
    let seen = if fs::metadata(root.join("unified")).is_ok() {
        "version 1 with 2 beside it (hybrid)"
    } else {
        "version 1, or none"
    };
    Finding::note(NAME, format!("{seen}: limits of VMs need version 2 alone"))
        .mend("boot with systemd.unified_cgroup_hierarchy=1")
}

/// A command as this user has to type it.
pub(super) fn as_root(command: &str) -> String {
    if is_root() { command.to_owned() } else { format!("sudo {command}") }
}
