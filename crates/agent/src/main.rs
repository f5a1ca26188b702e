//! `ampoule-agent`: PID 1 of a guest, or `--hosted ROOT --listen-fd N`.
//!
//! It has its own C entry point: std's would abort where the kernel gives PID 1 no descriptors and the
//! initramfs has no `/dev/null`, before a line of ours could make one.
#![no_main]

use std::{
    ffi::{CStr, OsStr, OsString},
    os::unix::ffi::OsStrExt,
    process::ExitCode,
};

/// Entry point of the C library.
// SAFETY: the signature is that of C's `main`, and the crate has no other.
#[unsafe(no_mangle)]
extern "C" fn main(count: libc::c_int, arguments: *const *const libc::c_char) -> libc::c_int {
    let count = usize::try_from(count).unwrap_or(0);
    let arguments: Vec<OsString> = (1..count)
        .map(|index| {
            // SAFETY: the C library passes `count` pointers.
            let argument = unsafe { arguments.add(index) };
            // SAFETY: as above; it is within the array.
            let argument = unsafe { *argument };
            // SAFETY: each of them is a text that ends with a zero byte and lives as long as the process.
            let argument = unsafe { CStr::from_ptr(argument) };
            OsStr::from_bytes(argument.to_bytes()).to_owned()
        })
        .collect();
    // The kernel passes words of its command line that it does not know.
    if rustix::process::getpid().is_init() && !arguments.iter().any(|argument| argument == "--hosted") {
        agent::init::main();
    }
    let code = agent::hosted::main(arguments);
    libc::c_int::from(code != ExitCode::SUCCESS)
}
