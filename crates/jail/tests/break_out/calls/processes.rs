//! Other processes.

use super::{Tried, at, call, int, last_error, open};
use crate::vmm::Scene;

pub(crate) fn see(scene: &Scene) -> Tried {
    open(&format!("/proc/{}/status", scene.known.victim), libc::O_RDONLY).map(drop)
}

fn kill(process: i32, signal: i32) -> Tried {
    call(libc::SYS_kill, &[int(process), int(signal)]).map(drop)
}

pub(crate) fn signal(scene: &Scene) -> Tried {
    kill(scene.known.victim, libc::SIGKILL)
}

/// Whether it could: where it can, it is not to be done.
pub(crate) fn signal_everyone() -> Tried {
    kill(-1, 0)
}

pub(crate) fn signal_init() -> Tried {
    kill(1, libc::SIGKILL)
}

pub(crate) fn trace_init() -> Tried {
    call(libc::SYS_ptrace, &[usize::try_from(libc::PTRACE_ATTACH).unwrap(), 1]).map(drop)
}

pub(crate) fn read_init() -> Tried {
    let mut bytes = [0_u8; 16];
    let [ours, theirs] =
        [bytes.as_mut_ptr().expose_provenance(), 0x1000].map(|address| [address, bytes.len()]);
    call(libc::SYS_process_vm_readv, &[1, at(&ours), 1, at(&theirs), 1]).map(drop)
}

pub(crate) fn take_a_descriptor() -> Tried {
    let init = call(libc::SYS_pidfd_open, &[1, 0])?;
    call(libc::SYS_pidfd_getfd, &[init, 0, 0]).map(drop)
}

pub(crate) fn forget_the_parent() -> Tried {
    call(libc::SYS_prctl, &[int(libc::PR_SET_PDEATHSIG), 0]).map(drop)
}

/// Makes two more of itself, each in a session of its own, the second an orphan; all ignore what can be ignored.
pub(crate) fn multiply() -> Tried {
    for signal in 1..=64 {
        // SAFETY: no handler is installed; those that cannot be ignored are refused.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
    if fork()? {
        return Ok(());
    }
    let _ = call(libc::SYS_setsid, &[]);
    // What this one cannot do is seen by the number of processes.
    if matches!(fork(), Ok(false)) {
        let _ = call(libc::SYS_setsid, &[]);
    }
    loop {
        std::thread::park();
    }
}

/// Whether this is the parent.
fn fork() -> Tried<bool> {
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        0 => Ok(false),
        child if child > 0 => Ok(true),
        _ => Err(last_error()),
    }
}
