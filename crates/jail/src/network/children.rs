//! Children of the helper: all that happens in another network namespace.

use std::{
    io::{self, IoSlice, IoSliceMut, Read},
    mem::MaybeUninit,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
};

use rustix::{
    io::Errno,
    net::{
        RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
        SendFlags, recvmsg, sendmsg,
    },
    process::{Pid, Resource, Rlimit, WaitOptions, WaitStatus, setrlimit, wait, waitpid},
    thread::{LinkNameSpaceType, move_into_link_name_space},
};

use crate::{
    launch::Program,
    shim::{
        Failure,
        privileges::drop_capabilities,
        program::{FIRST, exec, out_of_the_way},
        signals,
        spaces::fork,
    },
};

/// The most that a program may write, and that [`within`] may say, in bytes.
const MOST_OUTPUT: u64 = 64 << 20;
/// The most descriptors that [`within`] hands back.
const MOST_FDS: usize = 4;

/// A program to start.
#[derive(Debug)]
pub struct Spawn<'a> {
    /// It, with arguments and environment.
    pub program: &'a Program,
    /// The network namespace that it runs in; the helper's own without.
    pub namespace: Option<BorrowedFd<'a>>,
    /// Its descriptors from 0 on, at least three. Others of this process it does not get.
    pub descriptors: &'a [BorrowedFd<'a>],
}

/// Starts a program.
///
/// # Errors
/// There are no more processes. That it cannot be executed is seen by its end, with code 127.
pub fn spawn(what: &Spawn<'_>) -> io::Result<Pid> {
    match fork().map_err(into_io)? {
        Some(child) => Ok(child),
        None => {
            let _ = become_program(what);
            end(127)
        }
    }
}

/// Returns only when that fails.
fn become_program(what: &Spawn<'_>) -> Result<(), Failure> {
    enter(what.namespace).map_err(Failure::io("enter the namespace"))?;
    let most = Rlimit { current: Some(MOST_OUTPUT), maximum: Some(MOST_OUTPUT) };
    setrlimit(Resource::Fsize, most).map_err(Failure::io("limit what is written"))?;
    let copies = what
        .descriptors
        .iter()
        .map(|fd| rustix::io::fcntl_dupfd_cloexec(fd, FIRST))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Failure::io("copy a descriptor"))?;
    for (target, fd) in (0..).zip(&copies) {
        // SAFETY: whatever had this number is of no more use to this process, which becomes a program.
        let placed = unsafe { libc::dup2(fd.as_raw_fd(), target) };
        if placed != target {
            return Err(Failure::io("place a descriptor")(io::Error::last_os_error()));
        }
    }
    signals::unblock_all()?;
    Err(exec(what.program, None))
}

/// Does some work in a child in another network namespace, and brings back what it says and its descriptors.
///
/// # Errors
/// The work's own, or there are no more processes.
pub fn within(
    namespace: Option<BorrowedFd<'_>>,
    work: impl FnOnce() -> io::Result<(Vec<u8>, Vec<OwnedFd>)>,
) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let (ours, theirs) = UnixStream::pair()?;
    let Some(child) = fork().map_err(into_io)? else {
        drop(ours);
        let result = enter(namespace).and_then(|()| work());
        end(i32::from(answer(&theirs, result).is_err()));
    };
    drop(theirs);
    let result = receive(&ours);
    loop {
        match waitpid(Some(child), WaitOptions::empty()) {
            Err(Errno::INTR) | Ok(None) => {}
            Ok(Some(_)) | Err(_) => return result,
        }
    }
}

/// A byte that says how it went, with the descriptors; then the text.
fn answer(mut to: &UnixStream, result: io::Result<(Vec<u8>, Vec<OwnedFd>)>) -> io::Result<()> {
    let (byte, text, fds) = match result {
        Ok((text, fds)) => (b'+', text, fds),
        Err(error) => (b'-', error.to_string().into_bytes(), Vec::new()),
    };
    let fds: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
        return Err(io::Error::other("too many descriptors"));
    }
    sendmsg(to, &[IoSlice::new(&[byte])], &mut ancillary, SendFlags::NOSIGNAL)?;
    io::Write::write_all(&mut to, &text)
}

fn receive(from: &UnixStream) -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
    let mut byte = [0];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let received = rustix::io::retry_on_intr(|| {
        recvmsg(from, &mut [IoSliceMut::new(&mut byte)], &mut ancillary, RecvFlags::CMSG_CLOEXEC)
    })?;
    let mut fds = Vec::new();
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(rights) = message {
            for fd in rights {
                fds.push(out_of_the_way(fd).map_err(into_io)?);
            }
        }
    }
    if received.bytes == 0 {
        return Err(io::Error::other("a child of the helper was killed"));
    }
    let mut text = Vec::new();
    from.take(MOST_OUTPUT).read_to_end(&mut text)?;
    if byte == *b"+" { Ok((text, fds)) } else { Err(io::Error::other(String::from_utf8_lossy(&text))) }
}

/// A child that does nothing in a namespace and has no capability, so that /proc shows the namespace to a program that
/// has few. Returns its process id as /proc has it, which may be of another process id namespace.
///
/// # Errors
/// There are no more processes, or /proc is none.
pub fn anchor(namespace: BorrowedFd<'_>) -> io::Result<u32> {
    let (ours, theirs) = UnixStream::pair()?;
    if fork().map_err(into_io)?.is_none() {
        drop(ours);
        let named = || -> io::Result<(Vec<u8>, Vec<OwnedFd>)> {
            enter(Some(namespace))?;
            drop_capabilities().map_err(into_io)?;
            let id = std::fs::read_link("/proc/self")?;
            Ok((id.into_os_string().into_encoded_bytes(), Vec::new()))
        };
        if answer(&theirs, named()).is_err() {
            end(1);
        }
        drop(theirs);
        // SAFETY: nothing of this process uses a descriptor any more.
        let _ = unsafe { libc::close_range(0, libc::c_uint::MAX, 0) };
        loop {
            // SAFETY: this call has no arguments.
            unsafe { libc::pause() };
        }
    }
    drop(theirs);
    let (text, _) = receive(&ours)?;
    let id = String::from_utf8_lossy(&text).parse();
    id.map_err(|_| io::Error::other("/proc is not of this process"))
}

/// Children that ended since the last call, with how they did.
///
/// # Errors
/// `children` is no such descriptor.
pub fn ended(children: BorrowedFd<'_>) -> io::Result<Vec<(Pid, WaitStatus)>> {
    let mut signals = [0; 128];
    match rustix::io::read(children, &mut signals) {
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => {}
        Err(error) => return Err(error.into()),
    }
    let mut all = Vec::new();
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(one)) => all.push(one),
            Err(Errno::INTR) => {}
            Ok(None) | Err(_) => return Ok(all),
        }
    }
}

fn enter(namespace: Option<BorrowedFd<'_>>) -> io::Result<()> {
    if let Some(namespace) = namespace {
        move_into_link_name_space(namespace, Some(LinkNameSpaceType::Network))?;
    }
    Ok(())
}

fn into_io(failure: Failure) -> io::Error {
    io::Error::other(failure.to_string())
}

/// Ends a child, and nothing of its parent's that was copied with it.
fn end(code: i32) -> ! {
    // SAFETY: the child has nothing to flush or to release.
    unsafe { libc::_exit(code) }
}

/// A program's path and words, without an environment but for where programs are and the language of messages.
#[must_use]
pub fn tool(path: &Path, args: &[String]) -> Program {
    Program {
        path: path.to_owned(),
        args: args.iter().map(Into::into).collect(),
        env: vec![("PATH".into(), super::PROGRAMS.join(":").into()), ("LC_ALL".into(), "C".into())],
    }
}
