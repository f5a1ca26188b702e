//! What is tried, and what has to come of it: under the filter, and where only the rest of the jail is there.

use libc::{EACCES, EBADF, EEXIST, EFAULT, EINVAL, EIO, ENETUNREACH, ENOENT, ENOSYS, EPERM, EROFS, ESRCH};

use crate::{
    calls::{self, Tried},
    vmm::Scene,
};

/// One attempt.
pub(crate) struct Attempt {
    pub(crate) name: &'static str,
    pub(crate) run: fn(&Scene) -> Tried,
    /// What it comes to under the filter.
    pub(crate) filtered: Expect,
    /// What it comes to without one, for a user of its own and for the user of the owner.
    pub(crate) bare: [Expect; 2],
}

/// What has to come of an attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Expect {
    /// One of these errors.
    Errno(&'static [i32]),
    /// The end of the process.
    Killed,
    /// Whatever: nothing may have changed for anyone else, which is looked at after every attempt.
    Nothing,
    /// Only the filter holds it back: it is not tried without.
    Untried,
}

use Expect::{Errno, Killed, Nothing, Untried};

/// One that ends the same way without the filter.
const fn both(name: &'static str, run: fn(&Scene) -> Tried, expect: Expect) -> Attempt {
    Attempt { name, run, filtered: expect, bare: [expect; 2] }
}

const fn row(name: &'static str, run: fn(&Scene) -> Tried, filtered: Expect, bare: Expect) -> Attempt {
    Attempt { name, run, filtered, bare: [bare; 2] }
}

const REFUSED: Expect = Errno(&[EPERM]);
const NOT_THERE: Expect = Errno(&[ENOENT]);
/// The second: a plain user's jail has no user but that one.
const NO_SUCH_USER: Expect = Errno(&[EPERM, EINVAL]);
const FORBIDDEN: Expect = Errno(&[EACCES]);
/// The second: kernels before 6.7 let nobody map a sealed file for all to see, not even for reading.
const NOT_WRITABLE: Expect = Errno(&[EACCES, EPERM]);

/// All of them.
pub(crate) const ATTEMPTS: &[Attempt] = &[
    // the template
    both("template_write", calls::template::write, REFUSED),
    both("template_map_writable", calls::template::map_writable, REFUSED),
    both("template_make_a_mapping_writable", calls::template::make_a_mapping_writable, NOT_WRITABLE),
    both(
        "template_write_past_a_mapping",
        calls::template::write_past_a_mapping,
        Errno(&[EIO, EFAULT, EPERM]),
    ),
    both(
        "template_remove_pages_of_a_mapping",
        calls::template::remove_pages,
        Errno(&[EACCES, EPERM, EINVAL]),
    ),
    both("template_truncate", calls::template::truncate, REFUSED),
    both("template_grow", calls::template::grow, REFUSED),
    both("template_punch_a_hole", calls::template::punch_a_hole, REFUSED),
    both("template_reopen_and_write", calls::template::reopen_and_write, REFUSED),
    both("template_reopen_for_reading_and_again", calls::template::reopen_for_reading_and_again, REFUSED),
    both("template_change_the_seals", calls::template::change_the_seals, REFUSED),
    both("template_copy_into", calls::template::copy_into, Errno(&[EPERM])),
    both("template_write_a_private_mapping", calls::template::write_a_private_mapping, Nothing),
    // the image that all VMs share
    both("image_write", calls::files::image_write, Errno(&[EBADF])),
    both("image_reopen_for_writing", calls::files::image_reopen, FORBIDDEN),
    Attempt {
        name: "image_change_its_mode_and_reopen_it",
        run: calls::files::image_change_mode,
        filtered: REFUSED,
        // the owner of a file may change its mode, whoever runs as that owner
        bare: [REFUSED, Untried],
    },
    // files of the host and of other VMs
    both("list_the_slots", calls::files::list_the_slots, NOT_THERE),
    both("list_the_slot_of_another", calls::files::list_the_slot, NOT_THERE),
    both("read_the_disk_of_another", calls::files::read_the_disk, NOT_THERE),
    both("list_home", |_| calls::files::list("/home"), NOT_THERE),
    both("list_root", |_| calls::files::list("/root"), NOT_THERE),
    both("list_run", |_| calls::files::list("/run"), NOT_THERE),
    both("list_sys", |_| calls::files::list("/sys"), NOT_THERE),
    both("read_shadow", |_| calls::files::read("/etc/shadow"), NOT_THERE),
    both("read_passwd", |_| calls::files::read("/etc/passwd"), NOT_THERE),
    both("read_shadow_by_the_root_of_init", |_| calls::files::read("/proc/1/root/etc/shadow"), FORBIDDEN),
    both("list_the_descriptors_of_init", |_| calls::files::list("/proc/1/fd"), FORBIDDEN),
    both("read_the_memory_of_init", |_| calls::files::read("/proc/1/mem"), FORBIDDEN),
    both("read_the_environment_of_init", |_| calls::files::read("/proc/1/environ"), FORBIDDEN),
    row("open_by_handle", |_| calls::files::open_by_handle(), Killed, REFUSED),
    // changing what it sees
    row("write_a_file_of_the_view", calls::files::write_to_the_view, Errno(&[EROFS]), Errno(&[EROFS])),
    row("fill_the_root", |_| calls::files::fill("/full"), REFUSED, Errno(&[EROFS])),
    row("fill_dev", |_| calls::files::fill("/dev/full"), REFUSED, Errno(&[EROFS])),
    row("fill_etc", |_| calls::files::fill("/etc/full"), REFUSED, Errno(&[EROFS])),
    row("fill_an_unnamed_file", |_| calls::files::fill_unnamed("/"), REFUSED, Errno(&[EROFS])),
    row("make_a_directory", |_| calls::files::make_directory("/full"), REFUSED, Errno(&[EROFS])),
    row("make_a_device", |_| calls::files::make_device("/disk"), REFUSED, Errno(&[EROFS, EPERM])),
    both(
        "set_a_core_pattern",
        |_| calls::files::open_for_writing("/proc/sys/kernel/core_pattern"),
        FORBIDDEN,
    ),
    // sockets
    row("call_the_agent_of_another", calls::sockets::agent, REFUSED, NOT_THERE),
    row("call_the_control_channel_of_another", calls::sockets::control, REFUSED, NOT_THERE),
    row(
        "call_an_abstract_socket_of_the_host",
        calls::sockets::abstract_name,
        REFUSED,
        Errno(&[libc::ECONNREFUSED]),
    ),
    row("call_the_host_by_tcp", calls::sockets::tcp, REFUSED, Errno(&[ENETUNREACH])),
    row("send_to_the_internet", |_| calls::sockets::udp(), REFUSED, Errno(&[ENETUNREACH])),
    row("switch_the_loopback_on", |_| calls::sockets::switch_loopback_on(), REFUSED, REFUSED),
    // its card; EBADF where this host can make none
    both("card_send_a_frame", calls::sockets::send_a_frame, Errno(&[EIO, EBADF])),
    both("card_become_another", calls::sockets::another_card, Errno(&[EEXIST, EBADF])),
    both("card_take_its_namespace", calls::sockets::namespace_of_the_card, Errno(&[EPERM, EBADF])),
    row("card_switch_on", |_| calls::sockets::switch_card_on(), REFUSED, REFUSED),
    row("speak_to_routing", |_| calls::sockets::make_an_interface(), REFUSED, REFUSED),
    both("listen_to_packets", |_| calls::sockets::packets(), REFUSED),
    row("call_the_hypervisor", |_| calls::sockets::vsock(), REFUSED, Untried),
    // processes
    row("see_the_vmm_of_another", calls::processes::see, NOT_THERE, NOT_THERE),
    row("signal_the_vmm_of_another", calls::processes::signal, REFUSED, Errno(&[ESRCH])),
    row("signal_everyone", |_| calls::processes::signal_everyone(), REFUSED, Errno(&[ESRCH])),
    Attempt {
        name: "signal_init",
        run: |_| calls::processes::signal_init(),
        filtered: REFUSED,
        // the kernel spares the first process of a namespace, whoever asks from within
        bare: [REFUSED, Nothing],
    },
    row("trace_init", |_| calls::processes::trace_init(), Killed, REFUSED),
    row("read_init_by_a_call", |_| calls::processes::read_init(), Killed, REFUSED),
    row("take_a_descriptor_of_init", |_| calls::processes::take_a_descriptor(), REFUSED, REFUSED),
    both("enter_the_mounts_of_init", |_| calls::files::read("/proc/1/ns/mnt"), FORBIDDEN),
    row("let_its_end_not_follow_the_shims", |_| calls::processes::forget_the_parent(), REFUSED, Untried),
    // privileges
    row("become_root", |_| calls::privileges::become_user(0), REFUSED, NO_SUCH_USER),
    row("become_the_user_of_another", |_| calls::privileges::become_user(2_000_123), REFUSED, NO_SUCH_USER),
    both("change_its_groups", |_| calls::privileges::change_groups(), REFUSED),
    both("take_all_capabilities", |_| calls::privileges::take_capabilities(), REFUSED),
    both("take_an_ambient_capability", |_| calls::privileges::take_ambient(), REFUSED),
    row("start_a_program_of_root", calls::privileges::start_a_program_of_root, REFUSED, FORBIDDEN),
    both("write_its_own_user_map", |_| calls::privileges::map_users(), REFUSED),
    // mounts and namespaces
    row("mount", |_| calls::spaces::mount_something(), Killed, REFUSED),
    row("make_the_root_writable", |_| calls::spaces::remount_root(), Killed, REFUSED),
    row("unmount", |_| calls::spaces::unmount_root(), Killed, REFUSED),
    row("change_the_root", |_| calls::spaces::change_root(), Killed, REFUSED),
    row("swap_the_root", |_| calls::spaces::pivot(), Killed, REFUSED),
    row("open_a_mount_tree", |_| calls::spaces::open_tree(), Killed, REFUSED),
    row("a_mount_namespace", |_| calls::spaces::unshare(libc::CLONE_NEWNS), Killed, REFUSED),
    row("a_user_namespace", |_| calls::spaces::unshare(libc::CLONE_NEWUSER), Killed, Untried),
    row(
        "a_process_in_a_user_namespace",
        |_| calls::spaces::clone(libc::CLONE_NEWUSER | libc::SIGCHLD),
        REFUSED,
        Untried,
    ),
    row(
        "a_thread_in_a_user_namespace",
        |_| calls::spaces::clone(calls::spaces::THREAD | libc::CLONE_NEWUSER),
        REFUSED,
        Errno(&[EINVAL]),
    ),
    row("join_a_namespace", |_| calls::spaces::join(), Killed, REFUSED),
    row("a_process_by_clone3", |_| calls::spaces::clone3(), Errno(&[ENOSYS]), Errno(&[EINVAL])),
    // the kernel
    row("load_a_program_into_the_kernel", |_| calls::kernel::bpf(), Killed, REFUSED),
    row("measure_the_host", |_| calls::kernel::perf(), Killed, Untried),
    row("load_a_module", |_| calls::kernel::module(), Killed, Errno(&[EPERM, ENOSYS])),
    row("load_a_kernel", |_| calls::kernel::kexec(), Killed, Errno(&[EPERM, ENOSYS])),
    row("reboot", |_| calls::kernel::reboot(), Killed, REFUSED),
    row("read_the_kernels_log", |_| calls::kernel::log(), Killed, Untried),
    row("read_the_users_keys", |_| calls::kernel::keys(), Killed, Untried),
    row("handle_its_own_page_faults", |_| calls::kernel::userfaultfd(), REFUSED, Untried),
    row("a_ring_of_calls", |_| calls::kernel::io_uring(), Errno(&[ENOSYS]), Untried),
    row("type_into_a_terminal", |_| calls::kernel::type_in(), REFUSED, Errno(&[libc::ENOTTY])),
    row("call_as_i386", |_| calls::kernel::call_as_i386(), Killed, Untried),
    row("call_as_x32", |_| calls::kernel::call_as_x32(), REFUSED, Untried),
    row("call_what_no_kernel_has", |_| calls::kernel::call_number(1000), REFUSED, Errno(&[ENOSYS])),
];
