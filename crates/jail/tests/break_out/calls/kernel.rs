//! The kernel itself: what it lets a privileged process do, and what has been the way to more privileges.

use std::arch::asm;

use super::{Tried, at, call, int, text};

pub(crate) fn bpf() -> Tried {
    const NEXT_PROGRAM: usize = 11;
    let attributes = [0_u32; 3];
    call(libc::SYS_bpf, &[NEXT_PROGRAM, at(&attributes), 12]).map(drop)
}

pub(crate) fn perf() -> Tried {
    let mut attributes = [0_u32; 32];
    attributes[1] = 128;
    call(libc::SYS_perf_event_open, &[at(&attributes), 0, int(-1), int(-1)]).map(drop)
}

pub(crate) fn module() -> Tried {
    let none = text("");
    call(libc::SYS_init_module, &[0, 0, at(none.as_c_str())]).map(drop)
}

pub(crate) fn kexec() -> Tried {
    call(libc::SYS_kexec_load, &[]).map(drop)
}

/// Without the numbers that would make it one.
pub(crate) fn reboot() -> Tried {
    call(libc::SYS_reboot, &[]).map(drop)
}

pub(crate) fn log() -> Tried {
    const SIZE: usize = 10;
    call(libc::SYS_syslog, &[SIZE]).map(drop)
}

pub(crate) fn keys() -> Tried {
    const KEYRING_ID: usize = 0;
    const USERS: i32 = -4;
    call(libc::SYS_keyctl, &[KEYRING_ID, int(USERS), 0]).map(drop)
}

pub(crate) fn userfaultfd() -> Tried {
    const USER_MODE_ONLY: usize = 1;
    call(libc::SYS_userfaultfd, &[USER_MODE_ONLY]).map(drop)
}

pub(crate) fn io_uring() -> Tried {
    let parameters = [0_u64; 15];
    call(libc::SYS_io_uring_setup, &[1, at(&parameters)]).map(drop)
}

pub(crate) fn type_in() -> Tried {
    call(libc::SYS_ioctl, &[2, usize::try_from(libc::TIOCSTI).unwrap(), at(b"x")]).map(drop)
}

/// `getpid` by the way of 32-bit programs.
pub(crate) fn call_as_i386() -> Tried {
    let mut result: i64 = 20;
    // SAFETY: the call takes nothing and changes nothing but registers.
    unsafe { asm!("int 0x80", inout("rax") result, out("r8") _, out("r9") _, out("r10") _, out("r11") _) };
    i32::try_from(result).map_or(Err(0), |result| if result < 0 { Err(-result) } else { Ok(()) })
}

/// `getpid` with the bit of x32.
pub(crate) fn call_as_x32() -> Tried {
    call_number(libc::SYS_getpid | 0x4000_0000)
}

/// One that does not exist.
pub(crate) fn call_number(number: i64) -> Tried {
    call(number, &[]).map(drop)
}
