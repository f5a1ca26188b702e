//! Users, groups, capabilities.

use super::{Tried, at, call, int, open, text, write};
use crate::vmm::{Account, Scene};

pub(crate) fn become_user(uid: usize) -> Tried {
    call(libc::SYS_setresuid, &[uid, uid, uid]).map(drop)
}

pub(crate) fn change_groups() -> Tried {
    let groups = [0_u32];
    call(libc::SYS_setgroups, &[1, at(&groups)]).map(drop)
}

pub(crate) fn take_capabilities() -> Tried {
    const VERSION_3: u32 = 0x2008_0522;
    let header = [VERSION_3, 0];
    call(libc::SYS_capset, &[at(&header), at(&[u32::MAX; 6])]).map(drop)
}

pub(crate) fn take_ambient() -> Tried {
    const SYS_ADMIN: usize = 21;
    call(libc::SYS_prctl, &[int(libc::PR_CAP_AMBIENT), int(libc::PR_CAP_AMBIENT_RAISE), SYS_ADMIN]).map(drop)
}

/// One with root's set-user-id bit, where root runs these tests; it says itself what it became.
pub(crate) fn start_a_program_of_root(scene: &Scene) -> Tried {
    let path = text(scene.program.with_file_name(crate::RAISED).to_str().unwrap());
    let (args, env) = ([at(path.as_c_str()), 0], [0_usize]);
    call(libc::SYS_execve, &[at(path.as_c_str()), at(&args), at(&env)]).map(drop)
}

/// That program: what it says is not what the kernel says to one that it does not let start.
pub(crate) fn raised() {
    // SAFETY: it has no arguments and cannot fail.
    let user = unsafe { libc::geteuid() };
    // SAFETY: it takes no pointers.
    let refused = unsafe { libc::setresuid(0, 0, 0) } != 0;
    Account::tell(if user != 0 && refused { Err(libc::EACCES) } else { Ok(()) });
}

pub(crate) fn map_users() -> Tried {
    write(open("/proc/self/uid_map", libc::O_WRONLY)?)
}
