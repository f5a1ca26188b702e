//! What QEMU may ask of the kernel.
//!
//! Made from what QEMU 7.2 and 10.0 were seen to call with our own arguments (boot, disks, QMP with
//! descriptors, saving and loading, the end), from QEMU's source, and from what a C library may call instead
//! of one of those. QEMU's own `-sandbox` stays; it forbids some of what is not here either.
//!
//! What is not listed is refused with EPERM: a QEMU that tries something harmless goes on without it.

use jail::{Call, Check, Filter, Rules};
use libc as c;

/// The rules, compiled: once per backend.
pub(super) fn filter() -> jail::Result<Filter> {
    Filter::new(&rules())
}

fn rules() -> Rules {
    let calls = FREE.iter().copied().map(Call::any);
    let checked = [threads(), files(), devices(), descriptors(), itself()];
    Rules {
        allow: calls.chain(checked.into_iter().flatten()).collect(),
        absent: ABSENT.iter().copied().chain(NEWER_THAN_THIS_LIST).collect(),
        deadly: DEADLY.to_vec(),
    }
}

/// With whatever arguments: they work on what the process holds, or tell what the jail lets it see.
const FREE: &[i64] = &[
    // descriptors that it has
    c::SYS_read,
    c::SYS_write,
    c::SYS_readv,
    c::SYS_writev,
    c::SYS_pread64,
    c::SYS_pwrite64,
    c::SYS_preadv,
    c::SYS_pwritev,
    c::SYS_preadv2,
    c::SYS_pwritev2,
    c::SYS_lseek,
    c::SYS_close,
    c::SYS_close_range,
    c::SYS_dup,
    c::SYS_dup2,
    c::SYS_dup3,
    c::SYS_fsync,
    c::SYS_fdatasync,
    c::SYS_sync_file_range,
    c::SYS_fallocate,
    c::SYS_ftruncate,
    c::SYS_fadvise64,
    c::SYS_copy_file_range,
    // events
    c::SYS_poll,
    c::SYS_ppoll,
    c::SYS_select,
    c::SYS_pselect6,
    c::SYS_epoll_create1,
    c::SYS_epoll_ctl,
    c::SYS_epoll_wait,
    c::SYS_epoll_pwait,
    c::SYS_epoll_pwait2,
    c::SYS_eventfd2,
    c::SYS_signalfd4,
    c::SYS_pipe,
    c::SYS_pipe2,
    // sockets that it has: there is no socket(), bind() or connect()
    c::SYS_listen,
    c::SYS_accept,
    c::SYS_accept4,
    c::SYS_getsockname,
    c::SYS_getpeername,
    c::SYS_getsockopt,
    c::SYS_setsockopt,
    c::SYS_shutdown,
    c::SYS_sendmsg,
    c::SYS_recvmsg,
    c::SYS_sendto,
    c::SYS_recvfrom,
    // looking at files
    c::SYS_stat,
    c::SYS_lstat,
    c::SYS_fstat,
    c::SYS_newfstatat,
    c::SYS_statx,
    c::SYS_statfs,
    c::SYS_fstatfs,
    c::SYS_access,
    c::SYS_faccessat,
    c::SYS_faccessat2,
    c::SYS_readlink,
    c::SYS_readlinkat,
    c::SYS_getdents64,
    c::SYS_getcwd,
    c::SYS_fchdir,
    // memory: a translator writes code through one mapping and runs it through another
    c::SYS_brk,
    c::SYS_mmap,
    c::SYS_munmap,
    c::SYS_mremap,
    c::SYS_mprotect,
    c::SYS_madvise,
    c::SYS_msync,
    c::SYS_mlock,
    c::SYS_mlock2,
    c::SYS_munlock,
    c::SYS_membarrier,
    c::SYS_memfd_create,
    c::SYS_get_mempolicy,
    c::SYS_set_mempolicy,
    // threads, signals, time
    c::SYS_futex,
    c::SYS_set_robust_list,
    c::SYS_set_tid_address,
    c::SYS_rseq,
    c::SYS_arch_prctl,
    c::SYS_sched_yield,
    c::SYS_sched_getaffinity,
    c::SYS_getcpu,
    c::SYS_rt_sigaction,
    c::SYS_rt_sigprocmask,
    c::SYS_rt_sigpending,
    c::SYS_rt_sigsuspend,
    c::SYS_rt_sigtimedwait,
    c::SYS_rt_sigreturn,
    c::SYS_sigaltstack,
    c::SYS_tkill,
    c::SYS_tgkill,
    c::SYS_restart_syscall,
    c::SYS_nanosleep,
    c::SYS_clock_nanosleep,
    c::SYS_clock_gettime,
    c::SYS_clock_getres,
    c::SYS_gettimeofday,
    c::SYS_time,
    c::SYS_times,
    c::SYS_exit,
    // what is asked about oneself and the host
    c::SYS_getpid,
    c::SYS_getppid,
    c::SYS_gettid,
    c::SYS_getpgrp,
    c::SYS_getuid,
    c::SYS_geteuid,
    c::SYS_getgid,
    c::SYS_getegid,
    c::SYS_getresuid,
    c::SYS_getresgid,
    c::SYS_getgroups,
    c::SYS_getrlimit,
    c::SYS_getrusage,
    c::SYS_getrandom,
    c::SYS_sysinfo,
    c::SYS_uname,
];

/// A thread, never a process and never a namespace. `clone3`, whose flags are out of a filter's sight, is
/// absent: the C libraries then call this one.
fn threads() -> Vec<Call> {
    let thread = c::CLONE_VM | c::CLONE_FS | c::CLONE_FILES | c::CLONE_SIGHAND | c::CLONE_THREAD;
    let spaces = c::CLONE_NEWNS
        | c::CLONE_NEWCGROUP
        | c::CLONE_NEWUTS
        | c::CLONE_NEWIPC
        | c::CLONE_NEWUSER
        | c::CLONE_NEWPID
        | c::CLONE_NEWNET;
    let others = c::CLONE_PTRACE | c::CLONE_UNTRACED | c::CLONE_VFORK | c::CLONE_PARENT | c::CLONE_PIDFD;
    let known = (thread | spaces | others).cast_unsigned();
    vec![Call::when(c::SYS_clone, [Check::bits(0, known, thread.cast_unsigned())])]
}

/// Opening what is there; nothing is made and nothing is cut to nothing.
fn files() -> Vec<Call> {
    /// `O_TMPFILE` without the bit of `O_DIRECTORY` in it.
    const UNNAMED: c::c_int = c::O_TMPFILE & !c::O_DIRECTORY;
    let making = (c::O_CREAT | c::O_TRUNC | UNNAMED).cast_unsigned();
    vec![
        Call::when(c::SYS_open, [Check::bits(1, making, 0)]),
        Call::when(c::SYS_openat, [Check::bits(2, making, 0)]),
    ]
}

/// KVM, vhost and taps, and what is asked about a disk image. A terminal can be asked whether it is one;
/// nothing can be typed into it.
fn devices() -> Vec<Call> {
    /// The byte of a request that says whose it is.
    const KIND: u32 = 0xff00;
    const KVM: u32 = 0xae00;
    const VHOST: u32 = 0xaf00;
    const DISK: u32 = 0x1200;
    /// Requests of taps: they share their kind with those of terminals, which have lower numbers.
    const TAP_NUMBERS: u32 = 0xffc0;
    const TAP: u32 = 0x54c0;
    /// `TCGETS` and, of newer C libraries, `TCGETS2`; `TIOCGWINSZ`.
    const TERMINAL: [u32; 3] = [0x5401, 0x802c_542a, 0x5413];
    /// `FIONREAD`, `FIONBIO`, `FIONCLEX`, `FIOCLEX`.
    const ANY: [u32; 4] = [0x541b, 0x5421, 0x5450, 0x5451];
    /// `FS_IOC_GETFLAGS`, `FS_IOC_FIEMAP`, `FS_IOC_FSGETXATTR`, `XFS_IOC_DIOINFO`.
    const FILE: [u32; 4] = [0x8008_6601, 0xc020_660b, 0x801c_581f, 0x800c_581e];
    let kinds = [(KIND, KVM), (KIND, VHOST), (KIND, DISK), (TAP_NUMBERS, TAP)];
    let kinds = kinds.map(|(mask, value)| Check::bits(1, mask, value));
    let single = [&TERMINAL[..], &ANY, &FILE].concat().into_iter().map(|request| Check::is(1, request));
    kinds.into_iter().chain(single).map(|check| Call::when(c::SYS_ioctl, [check])).collect()
}

/// Flags, locks and seals of descriptors; not whom to send a signal for one.
fn descriptors() -> Vec<Call> {
    let commands = [
        c::F_DUPFD,
        c::F_DUPFD_CLOEXEC,
        c::F_GETFD,
        c::F_SETFD,
        c::F_GETFL,
        c::F_SETFL,
        c::F_GETLK,
        c::F_SETLK,
        c::F_SETLKW,
        c::F_OFD_GETLK,
        c::F_OFD_SETLK,
        c::F_OFD_SETLKW,
        c::F_GETPIPE_SZ,
        c::F_SETPIPE_SZ,
        c::F_GET_SEALS,
        c::F_ADD_SEALS,
    ];
    commands.map(|command| Call::when(c::SYS_fcntl, [Check::is(1, command.cast_unsigned())])).to_vec()
}

/// What it may change of itself.
fn itself() -> Vec<Call> {
    /// Names for mappings, which newer C libraries give.
    const NAME_MAPPING: c::c_int = 0x5356_4d41;
    let options = [
        c::PR_SET_NAME,
        c::PR_GET_NAME,
        c::PR_SET_TIMERSLACK,
        c::PR_MCE_KILL,
        c::PR_GET_SECCOMP,
        c::PR_SET_NO_NEW_PRIVS,
        c::PR_GET_NO_NEW_PRIVS,
        c::PR_CAPBSET_READ,
        NAME_MAPPING,
    ];
    let mut calls: Vec<Call> =
        options.map(|option| Call::when(c::SYS_prctl, [Check::is(0, option.cast_unsigned())])).to_vec();
    // Limits of itself only.
    calls.push(Call::when(c::SYS_prlimit64, [Check::is(0, 0)]));
    // Its own sandbox; without a listener, to which some other process would have to answer.
    const LISTENER: u32 = 1 << 3;
    calls.push(Call::when(c::SYS_seccomp, [Check::bits(1, LISTENER, 0)]));
    calls
}

/// What there is another way for, which is taken where the kernel does not have this one.
const ABSENT: &[i64] = &[
    c::SYS_clone3,
    c::SYS_openat2,
    c::SYS_io_uring_setup,
    c::SYS_io_uring_enter,
    c::SYS_io_uring_register,
    c::SYS_futex_waitv,
];

/// Calls that kernels got after this list was made, and some before it that nothing here needs: a C library
/// that tries one has to be told that it is not there, for it takes EPERM for an answer.
const NEWER_THAN_THIS_LIST: std::ops::Range<i64> = c::SYS_set_mempolicy_home_node..512;

/// No QEMU of ours, and nothing that it is linked with, has a use for these.
const DEADLY: &[i64] = &[
    // mounts
    c::SYS_mount,
    c::SYS_umount2,
    c::SYS_pivot_root,
    c::SYS_chroot,
    c::SYS_move_mount,
    c::SYS_open_tree,
    c::SYS_fsopen,
    c::SYS_fsconfig,
    c::SYS_fsmount,
    c::SYS_fspick,
    c::SYS_mount_setattr,
    c::SYS_quotactl,
    c::SYS_quotactl_fd,
    // namespaces
    c::SYS_unshare,
    c::SYS_setns,
    // other processes
    c::SYS_ptrace,
    c::SYS_process_vm_readv,
    c::SYS_process_vm_writev,
    c::SYS_process_madvise,
    c::SYS_pidfd_getfd,
    // the kernel itself
    c::SYS_bpf,
    c::SYS_perf_event_open,
    c::SYS_init_module,
    c::SYS_finit_module,
    c::SYS_delete_module,
    c::SYS_kexec_load,
    c::SYS_kexec_file_load,
    c::SYS_reboot,
    c::SYS_swapon,
    c::SYS_swapoff,
    c::SYS_acct,
    c::SYS_iopl,
    c::SYS_ioperm,
    c::SYS_modify_ldt,
    c::SYS_syslog,
    c::SYS_settimeofday,
    c::SYS_clock_settime,
    c::SYS_clock_adjtime,
    c::SYS_adjtimex,
    c::SYS_sethostname,
    c::SYS_setdomainname,
    // keys, which no namespace holds back
    c::SYS_add_key,
    c::SYS_request_key,
    c::SYS_keyctl,
    // files past their paths
    c::SYS_open_by_handle_at,
    c::SYS_fanotify_init,
];
