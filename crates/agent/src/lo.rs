//! Addresses of the loopback interface.
//!
//! Purpose: gives this machine addresses of its own, and takes them again. An address of global scope there is local to
//! the machine, so that what reaches it by a route (a container by its bridge) reaches the address too; no other
//! interface is needed.
//! Owner: one call per change.

use std::{io, net::Ipv4Addr};

use rustix::{
    fd::OwnedFd,
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, netlink::SocketAddrNetlink,
        recv, sendto, socket_with,
    },
};

const RTM_NEWADDR: u16 = 20;
const RTM_DELADDR: u16 = 21;
const NLMSG_ERROR: u16 = 2;
const REQUEST: u16 = 0x1;
const ACK: u16 = 0x4;
const CREATE: u16 = 0x400;
const AF_INET: u8 = 2;
const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const HEADER: usize = 16;

/// Makes the addresses of `now` those that were of `before`, and returns after all are there.
pub(crate) fn change(before: &[Ipv4Addr], now: &[Ipv4Addr]) -> io::Result<()> {
    let gone = before.iter().filter(|address| !now.contains(address));
    let new = now.iter().filter(|address| !before.contains(address));
    let wanted: Vec<(u16, Ipv4Addr)> = gone
        .map(|address| (RTM_DELADDR, *address))
        .chain(new.map(|address| (RTM_NEWADDR, *address)))
        .collect();
    if wanted.is_empty() {
        return Ok(());
    }
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let index = netdevice::name_to_index(&socket, "lo")?;
    for (kind, address) in wanted {
        match ask(&socket, &request(kind, index, address)) {
            // there already, or not any more
            Ok(()) | Err(Errno::EXIST | Errno::ADDRNOTAVAIL) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(())
}

/// `struct nlmsghdr`, `struct ifaddrmsg`, and two attributes.
fn request(kind: u16, index: u32, address: Ipv4Addr) -> Vec<u8> {
    let flags = REQUEST | ACK | if kind == RTM_NEWADDR { CREATE } else { 0 };
    let mut message = Vec::with_capacity(HEADER + 24);
    message.extend_from_slice(&[0; 4]);
    message.extend_from_slice(&kind.to_ne_bytes());
    message.extend_from_slice(&flags.to_ne_bytes());
    message.extend_from_slice(&[0; 8]);
    // all bits are the network's; no flags; scope 0: everywhere
    message.extend_from_slice(&[AF_INET, 32, 0, 0]);
    message.extend_from_slice(&index.to_ne_bytes());
    for attribute in [IFA_LOCAL, IFA_ADDRESS] {
        message.extend_from_slice(&8_u16.to_ne_bytes());
        message.extend_from_slice(&attribute.to_ne_bytes());
        message.extend_from_slice(&address.octets());
    }
    let length = u32::try_from(message.len()).unwrap_or(0);
    if let Some(place) = message.first_chunk_mut::<4>() {
        *place = length.to_ne_bytes();
    }
    message
}

fn ask(socket: &OwnedFd, message: &[u8]) -> Result<(), Errno> {
    sendto(socket, message, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
    let mut answer = [0; 1024];
    let (_, length) = recv(socket, &mut answer, RecvFlags::empty())?;
    let answer = answer.get(..length).unwrap_or_default();
    let kind = answer.get(4..6).and_then(<[u8]>::first_chunk::<2>).map(|kind| u16::from_ne_bytes(*kind));
    let code = answer.get(HEADER..).and_then(<[u8]>::first_chunk::<4>).map(|code| i32::from_ne_bytes(*code));
    match (kind, code) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(Errno::from_raw_os_error(-code)),
        _ => Err(Errno::PROTO),
    }
}
