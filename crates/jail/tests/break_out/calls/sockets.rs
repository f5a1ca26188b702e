//! Sockets: of other VMs, of the host, and of the network.

use std::{mem::size_of_val, os::fd::RawFd, path::Path};

use super::{Tried, at, call, int};
use crate::vmm::Scene;

fn socket(family: i32, kind: i32, protocol: i32) -> Tried<RawFd> {
    let fd = call(libc::SYS_socket, &[int(family), int(kind), int(protocol)])?;
    Ok(RawFd::try_from(fd).unwrap())
}

fn connect<T>(socket: RawFd, address: &T, length: usize) -> Tried {
    call(libc::SYS_connect, &[int(socket), at(address), length]).map(drop)
}

fn unix(name: &[u8]) -> Tried {
    // SAFETY: all bytes zero are an address without a name.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap();
    for (place, byte) in address.sun_path.iter_mut().zip(name) {
        *place = byte.cast_signed();
    }
    let socket = socket(libc::AF_UNIX, libc::SOCK_STREAM, 0)?;
    connect(socket, &address, 2 + name.len())
}

fn path(path: &Path) -> Tried {
    let bytes = path.to_str().unwrap().as_bytes();
    assert!(bytes.len() < 108, "too long for an address");
    unix(bytes)
}

pub(crate) fn agent(scene: &Scene) -> Tried {
    path(&scene.known.slot.join("agent.sock"))
}

pub(crate) fn control(scene: &Scene) -> Tried {
    path(&scene.known.slot.join("qmp.sock"))
}

pub(crate) fn abstract_name(scene: &Scene) -> Tried {
    unix(&[b"\0", scene.known.host.as_bytes()].concat())
}

fn internet(kind: i32, host: [u8; 4], port: u16) -> Tried {
    let socket = socket(libc::AF_INET, kind, 0)?;
    let address = libc::sockaddr_in {
        sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap(),
        sin_port: port.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(host) },
        sin_zero: [0; 8],
    };
    connect(socket, &address, size_of_val(&address))
}

pub(crate) fn tcp(scene: &Scene) -> Tried {
    internet(libc::SOCK_STREAM, [127, 0, 0, 1], scene.known.port)
}

/// An address of documents, which nobody has; that it has no way there is told before anything is sent.
pub(crate) fn udp() -> Tried {
    internet(libc::SOCK_DGRAM, [192, 0, 2, 1], 53)
}

pub(crate) fn switch_loopback_on() -> Tried {
    switch_on(b"lo")
}

pub(crate) fn switch_card_on() -> Tried {
    switch_on(b"tap0")
}

fn switch_on(name: &[u8]) -> Tried {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name);
    request[16] = 1;
    call(libc::SYS_ioctl, &[int(socket), usize::try_from(libc::SIOCSIFFLAGS).unwrap(), at(&request)])
        .map(drop)
}

/// A request to the kernel's routing to make an interface; its answer has the error.
pub(crate) fn make_an_interface() -> Tried {
    let socket = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    const LENGTH: u32 = 32;
    let flags = u32::try_from(libc::NLM_F_REQUEST | libc::NLM_F_ACK | libc::NLM_F_CREATE).unwrap();
    let request = [LENGTH, u32::from(libc::RTM_NEWLINK) | flags << 16, 1, 0, 0, 0, 0, 0];
    call(libc::SYS_sendto, &[int(socket), at(&request), LENGTH as usize])?;
    let mut answer = [0_i32; 64];
    call(libc::SYS_recvfrom, &[int(socket), answer.as_mut_ptr().expose_provenance(), size_of_val(&answer)])?;
    if answer[4] == 0 { Ok(()) } else { Err(-answer[4]) }
}

/// A frame to everybody, behind the header that a card of this kind takes.
pub(crate) fn send_a_frame(scene: &Scene) -> Tried {
    let mut frame = [0_u8; 10 + 60];
    frame[10..16].fill(0xff);
    call(libc::SYS_write, &[int(scene.card), at(&frame), frame.len()]).map(drop)
}

/// Makes the descriptor one of another interface.
pub(crate) fn another_card(scene: &Scene) -> Tried {
    let mut request = [0_u8; 40];
    request[..4].copy_from_slice(b"tap1");
    let flags = u16::try_from(libc::IFF_TAP | libc::IFF_NO_PI).unwrap();
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    let request_number = usize::try_from(libc::TUNSETIFF).unwrap();
    call(libc::SYS_ioctl, &[int(scene.card), request_number, at(&request)]).map(drop)
}

/// A descriptor of the namespace that the card is in.
pub(crate) fn namespace_of_the_card(scene: &Scene) -> Tried {
    /// `TUNGETDEVNETNS`.
    const NAMESPACE: usize = 0x54e3;
    call(libc::SYS_ioctl, &[int(scene.card), NAMESPACE, 0]).map(drop)
}

pub(crate) fn packets() -> Tried {
    socket(libc::AF_PACKET, libc::SOCK_RAW, 0).map(drop)
}

/// These know no network namespaces. No more than the socket: a host that is a VM itself has someone there.
pub(crate) fn vsock() -> Tried {
    socket(libc::AF_VSOCK, libc::SOCK_STREAM, 0).map(drop)
}
