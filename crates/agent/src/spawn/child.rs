//! The child of a spawn, from its birth to its program.
//!
//! ```text
//!   clone3: our memory, its control group ─┐
//!   clone, where there is no clone3 ───────┴▶ ends ▶ session ▶ terminal ▶ user ▶ directory ▶ exec
//!                                             └────── what fails is written into the plan
//! ```
//! Invariants
//! - The parent's thread waits until the child has executed its program or ended: the plan and the stack outlive it.
//! - The child allocates nothing, takes no lock and does not return.

use std::{
    ffi::{CString, c_char, c_int, c_void},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
};

use rustix::{
    fs::{Gid, Uid},
    io::Errno,
    process::Pid,
    thread,
};

use crate::{cgroup::Cgroup, ends::Kind};

/// Of the child: it calls a few functions.
const STACK: usize = 64 << 10;

/// What the child was doing when it failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    Ends,
    Group,
    Session,
    Terminal,
    User,
    Cwd,
    Exec,
}

/// What the child does.
pub(super) struct Plan<'a> {
    /// The first that can be executed is.
    pub(super) programs: &'a [CString],
    /// Each ends with a null.
    pub(super) argv: *const *const c_char,
    pub(super) env: *const *const c_char,
    pub(super) cwd: &'a CString,
    pub(super) identity: Option<&'a (Uid, Gid, Vec<Gid>)>,
    pub(super) kind: Kind,
    /// What becomes 0, 1 and 2; none of them is one of those.
    pub(super) ends: [BorrowedFd<'a>; 3],
    pub(super) cgroup: Option<&'a Cgroup>,
    /// Signals that it must not ignore.
    pub(super) ignored: &'a [c_int],
    /// Of its control group, where it is not born in it.
    pub(super) door: Option<OwnedFd>,
    /// Of the child.
    pub(super) failed: Option<(Stage, Errno)>,
}

/// Starts the child, and waits until it has executed its program or ended, having said why.
pub(super) fn start(plan: &mut Plan<'_>) -> Result<Pid, Errno> {
    match modern::clone3(plan, &mut Stack::new()) {
        // older than the kernel's 5.7, or a filter that cannot look into its arguments
        Err(Errno::NOSYS | Errno::INVAL | Errno::TOOBIG | Errno::PERM) => classic(plan),
        done => done,
    }
}

/// The same on any kernel.
pub(super) fn classic(plan: &mut Plan<'_>) -> Result<Pid, Errno> {
    let mut stack = Stack::new();
    plan.door = plan.cgroup.map(Cgroup::door).transpose()?;
    let flags = libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD;
    let entry = born as extern "C" fn(*mut c_void) -> c_int;
    let plan: *mut Plan<'_> = plan;
    // SAFETY: the child runs `born` on a stack of its own, with a plan that nobody else uses until it has let go of
    // this memory: CLONE_VFORK.
    let pid = unsafe { libc::clone(entry, stack.high().cast(), flags, plan.cast()) };
    child_or_error(i64::from(pid), || std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// The stack of a child.
struct Stack(Vec<u8>);

impl Stack {
    fn new() -> Self {
        // not touched: its pages come when they are needed
        Self(Vec::with_capacity(STACK))
    }

    fn low(&mut self) -> *mut u8 {
        self.0.as_mut_ptr()
    }

    /// Its end, aligned as calls need it.
    fn high(&mut self) -> *mut u8 {
        let end = self.low().wrapping_add(STACK);
        end.wrapping_sub(end.addr() % 16)
    }
}

fn child_or_error(pid: i64, errno: impl FnOnce() -> i32) -> Result<Pid, Errno> {
    let child = i32::try_from(pid).ok().filter(|pid| *pid > 0).and_then(Pid::from_raw);
    child.ok_or_else(|| Errno::from_raw_os_error(errno()))
}

/// Where the child begins.
extern "C" fn born(plan: *mut c_void) -> c_int {
    // SAFETY: `start` passes a plan, which outlives the child and is used by nobody else meanwhile.
    let plan = unsafe { &mut *plan.cast::<Plan<'_>>() };
    if let Err(failed) = plan.carry_out() {
        plan.failed = Some(failed);
    }
    // SAFETY: it ends this process alone, and runs nothing of its parent's.
    unsafe { libc::_exit(127) }
}

trait At<T> {
    fn at(self, stage: Stage) -> Result<T, (Stage, Errno)>;
}

impl<T> At<T> for Result<T, Errno> {
    fn at(self, stage: Stage) -> Result<T, (Stage, Errno)> {
        self.map_err(|errno| (stage, errno))
    }
}

impl Plan<'_> {
    /// Does not return where all goes well.
    fn carry_out(&mut self) -> Result<(), (Stage, Errno)> {
        for (number, end) in (0..).zip(self.ends) {
            // SAFETY: dup2 takes any numbers.
            if unsafe { libc::dup2(end.as_raw_fd(), number) } < 0 {
                return Err(last_error()).at(Stage::Ends);
            }
        }
        if let Some(door) = &self.door {
            rustix::io::write(door.as_fd(), b"0").at(Stage::Group)?;
        }
        rustix::process::setsid().at(Stage::Session)?;
        if self.kind == Kind::Terminal {
            rustix::process::ioctl_tiocsctty(rustix::stdio::stdin()).at(Stage::Terminal)?;
        }
        crate::system::reset_signals(self.ignored)
            .map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))
            .at(Stage::Session)?;
        if let Some((uid, gid, groups)) = self.identity {
            thread::set_thread_groups(groups).at(Stage::User)?;
            thread::set_thread_res_gid(*gid, *gid, *gid).at(Stage::User)?;
            thread::set_thread_res_uid(*uid, *uid, *uid).at(Stage::User)?;
        }
        rustix::process::chdir(self.cwd.as_c_str()).at(Stage::Cwd)?;
        let mut failed = Errno::NOENT;
        for program in self.programs {
            // SAFETY: a text that ends with a zero, and two lists of such that end with a null.
            unsafe { libc::execve(program.as_ptr(), self.argv, self.env) };
            // as execvp: what is not there is looked for further on, and what may not be run is told at the end
            match last_error() {
                Errno::NOENT | Errno::NOTDIR => {}
                Errno::ACCESS => failed = Errno::ACCESS,
                other => return Err(other).at(Stage::Exec),
            }
        }
        Err(failed).at(Stage::Exec)
    }
}

fn last_error() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

#[cfg(target_arch = "x86_64")]
mod modern {
    //! clone3: the child is born in its control group. To move it there later has the kernel wait until no process of the
    //! whole machine is being made.

    use std::{
        arch::asm,
        ffi::{c_int, c_void},
        os::fd::AsRawFd,
    };

    use rustix::{io::Errno, process::Pid};

    use super::{Plan, Stack, born, child_or_error};

    const INTO_CGROUP: u64 = 1 << 33;

    /// `struct clone_args` of linux/sched.h.
    #[repr(C)]
    #[derive(Default)]
    struct Arguments {
        flags: u64,
        pidfd: u64,
        child_tid: u64,
        parent_tid: u64,
        exit_signal: u64,
        stack: u64,
        stack_size: u64,
        tls: u64,
        set_tid: u64,
        set_tid_size: u64,
        cgroup: u64,
    }

    pub(super) fn clone3(plan: &mut Plan<'_>, stack: &mut Stack) -> Result<Pid, Errno> {
        let flags = (libc::CLONE_VM | libc::CLONE_VFORK).unsigned_abs();
        let cgroup = plan.cgroup.map(|cgroup| cgroup.fd().as_raw_fd().unsigned_abs());
        let arguments = Arguments {
            flags: u64::from(flags) | cgroup.map_or(0, |_| INTO_CGROUP),
            exit_signal: libc::SIGCHLD.unsigned_abs().into(),
            stack: stack.low().expose_provenance() as u64,
            stack_size: (stack.high().addr() - stack.low().addr()) as u64,
            cgroup: cgroup.unwrap_or(0).into(),
            ..Arguments::default()
        };
        let plan: *mut Plan<'_> = plan;
        let outcome: i64;
        // SAFETY: the kernel reads `arguments`. In the parent the call returns with its registers as they were. The
        // child has the parent's registers but for rax and the stack pointer, calls `born` with the plan on a stack
        // of its own, aligned as calls need it, and never comes back; the parent waits meanwhile (CLONE_VFORK).
        unsafe {
            asm!(
                "syscall",
                "test rax, rax",
                "jnz 2f",
                "xor ebp, ebp",
                "mov rdi, {plan}",
                "call {born}",
                "ud2",
                "2:",
                plan = in(reg) plan,
                born = in(reg) born as extern "C" fn(*mut c_void) -> c_int,
                inlateout("rax") libc::SYS_clone3 => outcome,
                in("rdi") &raw const arguments,
                in("rsi") size_of::<Arguments>(),
                out("rcx") _,
                out("r11") _,
            );
        }
        child_or_error(outcome, || i32::try_from(-outcome).unwrap_or(libc::EIO))
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod modern {
    use rustix::{io::Errno, process::Pid};

    /// It is a matter of the processor's registers: elsewhere the C library's `clone` does.
    pub(super) fn clone3(_: &mut super::Plan<'_>, _: &mut super::Stack) -> Result<Pid, Errno> {
        Err(Errno::NOSYS)
    }
}
