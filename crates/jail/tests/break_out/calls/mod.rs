//! The attempts themselves. Each gives what the kernel said: `Ok` means that it got through.

pub(crate) mod files;
pub(crate) mod kernel;
pub(crate) mod privileges;
pub(crate) mod processes;
pub(crate) mod sockets;
pub(crate) mod spaces;
pub(crate) mod template;

use std::{ffi::CString, io, os::fd::RawFd, ptr};

/// An error number where the kernel refused.
pub(crate) type Tried<T = ()> = Result<T, i32>;

/// A system call by its number.
fn call(number: i64, args: &[usize]) -> Tried<usize> {
    let mut all = [0; 6];
    all[..args.len()].copy_from_slice(args);
    let [a, b, c, d, e, f] = all;
    // SAFETY: pointers among the arguments are those of the callers' own objects, or such as the kernel
    // refuses; what this process loses by it, if anything, ends with it.
    let result = unsafe { libc::syscall(number, a, b, c, d, e, f) };
    usize::try_from(result).map_err(|_| last_error())
}

fn last_error() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap()
}

/// A descriptor, a flag or a number that is no pointer, as an argument.
fn int(value: i32) -> usize {
    value.cast_unsigned() as usize
}

fn text(value: &str) -> CString {
    CString::new(value).unwrap()
}

/// As the address of a string or an object.
fn at<T: ?Sized>(object: &T) -> usize {
    ptr::from_ref(object).cast::<u8>().expose_provenance()
}

fn open(path: &str, flags: i32) -> Tried<RawFd> {
    let path = text(path);
    let fd = call(libc::SYS_openat, &[int(libc::AT_FDCWD), at(path.as_c_str()), int(flags), 0o600])?;
    Ok(RawFd::try_from(fd).unwrap())
}

fn write(fd: RawFd) -> Tried {
    call(libc::SYS_write, &[int(fd), at(b"broken"), 6]).map(drop)
}
