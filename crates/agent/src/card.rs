//! The network card: addresses, routes, neighbours, as the host says.
//!
//! Purpose: what DHCP, router advertisements and neighbour discovery would find out is told in one batch of rtnetlink
//! messages, so that a guest asks nobody on its network for anything.
//! Owner: `prepare`, once per Prepare or Bind. Invariant: what was set is remembered; a card that is what it was costs no
//! system call, which is what makes a fork of a guest with a network as cheap as one without.
//!
//! ```text
//!   (as the kernel left it) ──Some──▶ set, up ──the same──▶ (nothing)
//!                                     │   ▲  └──another──▶ down, addresses taken away, set, up
//!                                  None   the same
//!                                     ▼   │
//!                                     cut: without its default routes
//! ```
//! It is cut and not put down: that takes an emulated guest some twenty milliseconds, and whatever tries is told as soon
//! that there is no way (`Network is unreachable`).

use std::{
    fs, io,
    net::IpAddr,
    path::{Path, PathBuf},
};

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, socket_with};
use wire::message::{Card, Failure, FailureKind};

use crate::failure::{failure, io_failure};

const INTERFACES: &str = "/sys/class/net";
/// What its driver is called.
const DRIVER: &str = "virtio_net";
const WHAT: &str = "the network card";

/// What is known of the card.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// Of the kernel, once it was looked for.
    interface: Option<Interface>,
    now: Now,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Now {
    #[default]
    Down,
    Up(Card),
    /// Up, and no way leads over it.
    Cut(Card),
    /// Something was refused half-way.
    Unknown,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Interface {
    name: String,
    index: u32,
}

impl State {
    /// Makes the card what is wanted; none: nothing is reached over it.
    pub(crate) fn make(&mut self, wanted: Option<Card>) -> Result<(), Failure> {
        let then = match (self.now, wanted) {
            (_, Some(card)) => Now::Up(card),
            (Now::Up(card) | Now::Cut(card), None) => Now::Cut(card),
            (Now::Down | Now::Unknown, None) => Now::Down,
        };
        if self.now == then {
            return Ok(());
        }
        let interface = match &self.interface {
            Some(interface) => interface.clone(),
            None => {
                let found = find(Path::new(INTERFACES)).map_err(|error| io_failure(WHAT, error))?;
                let Some(found) = found else {
                    return match wanted {
                        None => Ok(()),
                        Some(_) => Err(failure(FailureKind::NotFound, "this machine has no network card")),
                    };
                };
                self.interface.insert(found).clone()
            }
        };
        let before = std::mem::replace(&mut self.now, Now::Unknown);
        change(&interface, before, then).map_err(|error| io_failure(WHAT, error))?;
        self.now = then;
        Ok(())
    }
}

fn change(interface: &Interface, before: Now, then: Now) -> io::Result<()> {
    let index = interface.index;
    match (before, then) {
        (Now::Up(card), Now::Cut(_)) => {
            return match send(&default_routes(libc::RTM_DELROUTE, THERE, index, &card)) {
                // the guest's root took one away itself; the kernel carries out the others all the same
                Err(error) if error.raw_os_error() == Some(libc::ESRCH) => Ok(()),
                sent => sent,
            };
        }
        (Now::Cut(card), Now::Up(wanted)) if card == wanted => {
            return send(&default_routes(libc::RTM_NEWROUTE, MAKE, index, &card));
        }
        _ => {}
    }
    // the kernel then forgets the routes, the neighbours and what is IPv6 by itself
    match before {
        Now::Down => {}
        Now::Up(card) | Now::Cut(card) => {
            send(&[down(index), address(libc::RTM_DELADDR, THERE, index, v4(&card))])?;
        }
        Now::Unknown => send(&[down(index)])?,
    }
    if let Now::Up(card) = then {
        quiet(&interface.name)?;
        send(&messages(index, &card))?;
    }
    Ok(())
}

/// The first interface of the driver, by name.
fn find(interfaces: &Path) -> io::Result<Option<Interface>> {
    let mut found: Vec<PathBuf> = match fs::read_dir(interfaces) {
        Ok(entries) => entries.map(|entry| entry.map(|entry| entry.path())).collect::<io::Result<_>>()?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    found.retain(|path| fs::read_link(path.join("device/driver")).is_ok_and(|to| to.ends_with(DRIVER)));
    found.sort();
    let Some(path) = found.first() else { return Ok(None) };
    let index = fs::read_to_string(path.join("ifindex"))?;
    let index = index.trim().parse().map_err(|_| io::Error::from(io::ErrorKind::InvalidData))?;
    let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
    Ok(Some(Interface { name, index }))
}

/// Nobody on its network is asked or believed: no router's word, no address of the link of its own, whose uniqueness
/// would be asked for. A kernel without IPv6 has none of these.
fn quiet(name: &str) -> io::Result<()> {
    let dir = Path::new("/proc/sys/net/ipv6/conf").join(name);
    for (file, value) in [("accept_ra", "0"), ("addr_gen_mode", "1")] {
        match fs::write(dir.join(file), value) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// An address, and how many bits of it are the network's.
type Prefix = (IpAddr, u8);

fn v4(card: &Card) -> Prefix {
    (card.v4.into(), card.v4_prefix)
}

/// All that makes a card from nothing, in order.
fn messages(index: u32, card: &Card) -> Vec<Message> {
    let gateways: [IpAddr; 2] = [card.v4_gateway.into(), card.v6_gateway.into()];
    let mut messages = vec![
        address(libc::RTM_NEWADDR, MAKE, index, v4(card)),
        address(libc::RTM_NEWADDR, MAKE, index, (card.v6.into(), card.v6_prefix)),
        up(index, card.mtu),
    ];
    messages.extend(gateways.map(|gateway| neighbour(index, gateway, card.gateway_mac)));
    messages.extend(default_routes(libc::RTM_NEWROUTE, MAKE, index, card));
    messages
}

fn default_routes(kind: u16, how: libc::c_int, index: u32, card: &Card) -> [Message; 2] {
    let gateways: [IpAddr; 2] = [card.v4_gateway.into(), card.v6_gateway.into()];
    gateways.map(|gateway| default_route(kind, how, index, gateway))
}

/// Flags of a request: what is there is changed, or taken away.
const THERE: libc::c_int = 0;
/// What is not there is made.
const MAKE: libc::c_int = libc::NLM_F_CREATE | libc::NLM_F_REPLACE;

/// One rtnetlink request.
#[derive(Debug)]
struct Message {
    kind: u16,
    flags: libc::c_int,
    /// Behind the header: a structure of the kernel's, and attributes.
    body: Vec<u8>,
}

/// Length of the header of a message.
const HEADER: usize = 16;

impl Message {
    fn new(kind: u16, flags: libc::c_int, structure: &[&[u8]]) -> Self {
        Self { kind, flags, body: structure.concat() }
    }

    fn attribute(mut self, kind: u16, value: &[u8]) -> Self {
        let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
        self.body.extend_from_slice(&length.to_ne_bytes());
        self.body.extend_from_slice(&kind.to_ne_bytes());
        self.body.extend_from_slice(value);
        self.body.resize(self.body.len().next_multiple_of(4), 0);
        self
    }

    fn write(&self, number: u32, to: &mut Vec<u8>) {
        let flags = self.flags | libc::NLM_F_REQUEST | libc::NLM_F_ACK;
        let length = u32::try_from(HEADER + self.body.len()).unwrap_or(u32::MAX);
        to.extend_from_slice(&length.to_ne_bytes());
        to.extend_from_slice(&self.kind.to_ne_bytes());
        to.extend_from_slice(&u16::try_from(flags).unwrap_or_default().to_ne_bytes());
        to.extend_from_slice(&number.to_ne_bytes());
        // to the kernel
        to.extend_from_slice(&0_u32.to_ne_bytes());
        to.extend_from_slice(&self.body);
    }
}

/// `struct ifinfomsg`
fn link(index: u32, flags: libc::c_int) -> Message {
    let none = [libc::AF_UNSPEC.to_ne_bytes()[0], 0, 0, 0];
    let (flags, changed) = (flags.to_ne_bytes(), libc::IFF_UP.to_ne_bytes());
    Message::new(libc::RTM_NEWLINK, THERE, &[&none, &index.to_ne_bytes(), &flags, &changed])
}

fn down(index: u32) -> Message {
    link(index, 0)
}

fn up(index: u32, mtu: u16) -> Message {
    link(index, libc::IFF_UP).attribute(libc::IFLA_MTU, &u32::from(mtu).to_ne_bytes())
}

/// The kernel's number of a family, and the bytes of an address.
fn bytes(address: IpAddr) -> (u8, Vec<u8>) {
    let (family, bytes) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    (u8::try_from(family).unwrap_or_default(), bytes)
}

/// `struct ifaddrmsg`
fn address(kind: u16, how: libc::c_int, index: u32, (address, prefix): Prefix) -> Message {
    let (family, bytes) = bytes(address);
    let flags = u8::try_from(libc::IFA_F_PERMANENT | libc::IFA_F_NODAD).unwrap_or_default();
    let structure = [family, prefix, flags, libc::RT_SCOPE_UNIVERSE];
    Message::new(kind, how, &[&structure, &index.to_ne_bytes()])
        .attribute(libc::IFA_LOCAL, &bytes)
        .attribute(libc::IFA_ADDRESS, &bytes)
}

/// `struct ndmsg`
fn neighbour(index: u32, address: IpAddr, mac: [u8; 6]) -> Message {
    let (family, bytes) = bytes(address);
    let state = libc::NUD_PERMANENT.to_ne_bytes();
    Message::new(
        libc::RTM_NEWNEIGH,
        MAKE,
        &[&[family, 0, 0, 0], &index.to_ne_bytes(), &state, &[0, libc::RTN_UNICAST]],
    )
    .attribute(libc::NDA_DST, &bytes)
    .attribute(libc::NDA_LLADDR, &mac)
}

/// `struct rtmsg`
fn default_route(kind: u16, how: libc::c_int, index: u32, gateway: IpAddr) -> Message {
    let (family, bytes) = bytes(gateway);
    let structure = [
        family,
        0,
        0,
        0,
        libc::RT_TABLE_MAIN,
        libc::RTPROT_STATIC,
        libc::RT_SCOPE_UNIVERSE,
        libc::RTN_UNICAST,
        0,
        0,
        0,
        0,
    ];
    Message::new(kind, how, &[&structure])
        .attribute(libc::RTA_GATEWAY, &bytes)
        .attribute(libc::RTA_OIF, &index.to_ne_bytes())
}

/// Asks the kernel for all of them, and for the first that it refuses tells why.
fn send(messages: &[Message]) -> io::Result<()> {
    // no protocol is the first one: NETLINK_ROUTE
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let mut request = Vec::new();
    for (number, message) in (0..).zip(messages) {
        message.write(number, &mut request);
    }
    rustix::net::send(&socket, &request, SendFlags::empty())?;
    let mut answered = 0;
    while answered < messages.len() {
        let mut buffer = [0_u8; 4096];
        let (length, _) = rustix::net::recv(&socket, &mut buffer, RecvFlags::empty())?;
        answered += acknowledged(buffer.get(..length).unwrap_or_default())?;
    }
    Ok(())
}

/// How many requests the kernel says that it carried out.
fn acknowledged(mut answer: &[u8]) -> io::Result<usize> {
    let nonsense = || io::Error::from(io::ErrorKind::InvalidData);
    let mut count = 0;
    while !answer.is_empty() {
        let length =
            answer.first_chunk::<4>().map(|bytes| u32::from_ne_bytes(*bytes)).ok_or_else(nonsense)?;
        let length = usize::try_from(length).unwrap_or(usize::MAX).max(HEADER);
        let message = answer.get(..length).ok_or_else(nonsense)?;
        let kind = message.get(4..).and_then(<[u8]>::first_chunk::<2>).map(|kind| u16::from_ne_bytes(*kind));
        let error = message.get(HEADER..).and_then(<[u8]>::first_chunk::<4>);
        match (kind.map(i32::from), error.map(|error| i32::from_ne_bytes(*error))) {
            (Some(libc::NLMSG_ERROR), Some(0)) => count += 1,
            (Some(libc::NLMSG_ERROR), Some(error)) => return Err(io::Error::from_raw_os_error(-error)),
            _ => return Err(nonsense()),
        }
        answer = answer.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    Ok(count)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    fn card() -> Card {
        Card {
            v4: [198, 18, 0, 2].into(),
            v4_prefix: 30,
            v4_gateway: [198, 18, 0, 1].into(),
            v6: "fd61::2".parse().unwrap(),
            v6_prefix: 64,
            v6_gateway: "fd61::1".parse().unwrap(),
            gateway_mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
        }
    }

    #[test]
    fn the_card_is_the_first_of_its_driver() {
        let dir = tempfile::tempdir().unwrap();
        let interfaces = dir.path().join("net");
        assert_eq!(find(&interfaces).unwrap(), None);
        for (name, driver, index) in [("lo", None, 1), ("b", Some(DRIVER), 4), ("a", Some("e1000"), 2)] {
            let device = interfaces.join(name).join("device");
            fs::create_dir_all(&device).unwrap();
            fs::write(interfaces.join(name).join("ifindex"), format!("{index}\n")).unwrap();
            if let Some(driver) = driver {
                symlink(format!("../../drivers/{driver}"), device.join("driver")).unwrap();
            }
        }
        assert_eq!(find(&interfaces).unwrap(), Some(Interface { name: "b".to_owned(), index: 4 }));
        let mut state = State::default();
        // whatever this host has, a card that is down already is not touched
        state.make(None).unwrap();
        assert_eq!(state.interface, None);
    }

    #[test]
    fn messages_are_as_the_kernel_reads_them() {
        let mut bytes = Vec::new();
        default_route(libc::RTM_NEWROUTE, MAKE, 7, [198, 18, 0, 1].into()).write(3, &mut bytes);
        let expected: Vec<u8> = [
            [44_u32.to_ne_bytes(), [24, 0, 5, 5], 3_u32.to_ne_bytes(), [0; 4]].concat(),
            vec![2, 0, 0, 0, 254, 4, 0, 1, 0, 0, 0, 0],
            vec![8, 0, 5, 0, 198, 18, 0, 1, 8, 0, 4, 0, 7, 0, 0, 0],
        ]
        .concat();
        assert_eq!(bytes, expected);
        for message in messages(7, &card()) {
            let mut bytes = Vec::new();
            message.write(0, &mut bytes);
            assert_eq!(bytes.len() % 4, 0, "{message:?}");
            assert_eq!(bytes[..4], u32::try_from(bytes.len()).unwrap().to_ne_bytes());
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_told() {
        let answer = |error: i32| {
            [&36_u32.to_ne_bytes()[..], &[2, 0, 0, 0], &[0; 8], &error.to_ne_bytes(), &[0; 16]].concat()
        };
        assert_eq!(acknowledged(&[answer(0), answer(0)].concat()).unwrap(), 2);
        let refused = acknowledged(&[answer(0), answer(-1)].concat()).unwrap_err();
        assert_eq!(refused.raw_os_error(), Some(1));
        for nonsense in [&answer(0)[..35], &[0; 16], &[1]] {
            assert!(acknowledged(nonsense).is_err(), "{nonsense:?}");
        }
    }
}
