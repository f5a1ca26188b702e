//! Messages to netfilter, without a program.
//!
//! Owner: the helper, which has a socket in each namespace that it made.
//!
//! Invariant: the kernel has done a message, or refused it, and has answered, when sending it returns; nothing is waited
//! for.

use std::{
    io,
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType,
        netlink::{self, SocketAddrNetlink},
        recv, sendto, socket_with,
    },
};

const ERROR: u16 = 2;
/// `struct nlmsghdr`.
const HEADER: usize = 16;

/// A socket for the network namespace that this thread is in.
pub(super) fn socket() -> io::Result<OwnedFd> {
    let socket =
        socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, Some(netlink::NETFILTER))?;
    Ok(socket)
}

/// Sends a batch of which at least one message is answered.
pub(super) fn send(socket: BorrowedFd<'_>, batch: &[u8]) -> io::Result<()> {
    sendto(socket, batch, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut result = Err(io::Error::other("netfilter did not answer"));
    let mut buffer = [0; 8192];
    // all are read also after an error: none is left for the next batch
    loop {
        let length = match recv(socket, &mut buffer, RecvFlags::DONTWAIT) {
            Ok((length, _)) => length,
            Err(Errno::AGAIN) => return result,
            Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
        };
        for code in answers(buffer.get(..length).unwrap_or_default()) {
            match (code, &result) {
                (0, Err(error)) if error.raw_os_error().is_none() => result = Ok(()),
                (0, _) => {}
                (code, _) => result = Err(io::Error::from_raw_os_error(code.saturating_neg())),
            }
        }
    }
}

/// The codes of the answers among these messages: 0 for what was done.
fn answers(mut bytes: &[u8]) -> Vec<i32> {
    let mut all = Vec::new();
    while let (Some(length), Some(kind)) = (bytes.first_chunk::<4>(), bytes.get(4..6)) {
        let length = usize::try_from(u32::from_ne_bytes(*length)).unwrap_or(usize::MAX);
        if kind == ERROR.to_ne_bytes()
            && let Some(code) = bytes.get(HEADER..).and_then(<[u8]>::first_chunk::<4>)
        {
            all.push(i32::from_ne_bytes(*code));
        }
        let next = length.max(HEADER).checked_next_multiple_of(4).unwrap_or(usize::MAX);
        bytes = bytes.get(next..).unwrap_or_default();
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(code: i32) -> Vec<u8> {
        let mut bytes = 36_u32.to_ne_bytes().to_vec();
        bytes.extend_from_slice(&ERROR.to_ne_bytes());
        bytes.extend_from_slice(&[0; 10]);
        bytes.extend_from_slice(&code.to_ne_bytes());
        bytes.extend_from_slice(&[0; 16]);
        bytes
    }

    #[test]
    fn every_answer_is_read_and_nothing_beyond() {
        assert_eq!(answers(&[answer(-2), answer(0)].concat()), [-2, 0]);
        assert_eq!(answers(&answer(-1)[..18]), [0; 0]);
        assert_eq!(answers(&[0; 16]), [0; 0]);
        let mut long = answer(-7);
        long[..4].copy_from_slice(&u32::MAX.to_ne_bytes());
        assert_eq!(answers(&[long, answer(0)].concat()), [-7]);
    }
}
