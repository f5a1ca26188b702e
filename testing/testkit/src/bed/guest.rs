//! A guest of the bed: a process in a namespace of its own, with a card whose frames go to and come from a tap's
//! descriptor, as a VMM's would.

use std::{
    fs::File,
    io::{self, BufRead, BufReader, Read, Write},
    net::{IpAddr, SocketAddr, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixStream,
    },
    process::{Child, Command, ExitCode},
    thread,
    time::Duration,
};

use rustix::net::{
    AddressFamily, SocketAddrAny, SocketType, bind, connect, ipproto, recv, send, socket, sockopt,
};

use super::{GUEST, batch, ip, peer::FORGED};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_millis(1200);
/// Bytes in front of a frame.
const VIRTIO: usize = 10;

/// How the guest's card is set up.
#[derive(Clone, Debug)]
pub struct Card {
    /// Its Ethernet address.
    pub mac: String,
    /// The gateway's.
    pub gateway_mac: String,
    /// Addresses with the bits of their networks, IPv4's first.
    pub addresses: [String; 2],
    /// Where everything goes.
    pub gateways: [IpAddr; 2],
}

/// A guest, seen from the test.
#[derive(Debug)]
pub struct Guest {
    child: Child,
    channel: BufReader<UnixStream>,
}

impl Guest {
    /// Starts one behind a tap.
    ///
    /// # Panics
    /// It cannot be started.
    #[must_use]
    pub fn start(tap: &OwnedFd, card: &Card) -> Self {
        let me = std::env::current_exe().expect("this program");
        let (ours, theirs) = UnixStream::pair().expect("a socket");
        let mut command = Command::new("unshare");
        if !rustix::process::geteuid().is_root() {
            command.args(["--user", "--map-root-user"]);
        }
        command.args(["--net", "--"]).arg(me).arg(GUEST);
        command.stdin(tap.try_clone().expect("the tap")).stdout(OwnedFd::from(theirs));
        let child = command.spawn().expect("start a guest");
        drop(command);
        let mut guest = Self { child, channel: BufReader::new(ours) };
        let Card { mac, gateway_mac, addresses, gateways } = card;
        let set_up = guest.ask(&format!(
            "card {mac} {gateway_mac} {} {} {} {}",
            addresses[0], addresses[1], gateways[0], gateways[1]
        ));
        assert_eq!(set_up, "done");
        guest
    }

    /// Whether an address answers: `tcp`, `udp` or `ping`. A port is of no meaning to the last.
    pub fn reaches(&mut self, by: &str, address: &str, port: u16) -> bool {
        self.ask(&format!("{by} {address} {port}")) == "reached"
    }

    /// One line, and its answer: `tcp`, `udp`, `ping` with address and port; `hold` with address and port, then `held`;
    /// `many` with address, port and number; `send` with address, port and bytes, which come back; `from` with a port of its
    /// own, address and port, as `tcp`; `spoof` with source, destination and port; `made` with source and port, destination
    /// and port, and TCP's flags of one segment after the other; `frame` with hexadecimal digits.
    ///
    /// # Panics
    /// It is gone.
    pub fn ask(&mut self, line: &str) -> String {
        writeln!(self.channel.get_mut(), "{line}").expect("ask the guest");
        let mut answer = String::new();
        self.channel.read_line(&mut answer).expect("the guest's answer");
        assert!(!answer.is_empty(), "the guest ended at {line}");
        answer.trim_end().to_owned()
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a guest's process does: standard input is the tap, standard output a socket to the test.
pub(super) fn main() -> ExitCode {
    let outer = File::from(io::stdin().as_fd().try_clone_to_owned().expect("the tap"));
    let channel = UnixStream::from(io::stdout().as_fd().try_clone_to_owned().expect("the socket"));
    std::fs::write("/proc/sys/net/ipv4/ping_group_range", "0 0").expect("ping");
    let inner = File::from(jail::network::make_tap(c"eth0").expect("a card"));
    for (from, to) in [(&outer, &inner), (&inner, &outer)] {
        let (mut from, mut to) = (from.try_clone().expect("a copy"), to.try_clone().expect("a copy"));
        thread::spawn(move || {
            let mut frame = vec![0; 128 << 10];
            while let Ok(length) = from.read(&mut frame) {
                // what the other side does not take now is lost, as on a wire
                let _ = to.write(&frame[..length]);
            }
        });
    }
    let mut work = Work { outer, held: None, many: Vec::new(), macs: [[0; 6]; 2] };
    let mut answers = channel.try_clone().expect("a copy");
    for line in BufReader::new(channel).lines() {
        let Ok(line) = line else { break };
        let words: Vec<&str> = line.split(' ').collect();
        let answer = work.answer(&words).unwrap_or_else(|error| format!("error {error}"));
        if writeln!(answers, "{answer}").is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

struct Work {
    outer: File,
    held: Option<TcpStream>,
    many: Vec<TcpStream>,
    macs: [[u8; 6]; 2],
}

impl Work {
    fn answer(&mut self, words: &[&str]) -> io::Result<String> {
        let done = |reached: bool| Ok(if reached { "reached" } else { "silence" }.to_owned());
        match words {
            ["card", mac, gateway_mac, v4, v6, gateway4, gateway6] => {
                self.macs = [parse_mac(mac), parse_mac(gateway_mac)];
                batch(&format!(
                    "link set lo up\nlink set eth0 address {mac} mtu 1500\n\
                     addr add {v4} dev eth0\naddr add {v6} dev eth0 nodad\nlink set eth0 up\n\
                     neigh replace {gateway4} lladdr {gateway_mac} dev eth0 nud permanent\n\
                     neigh replace {gateway6} lladdr {gateway_mac} dev eth0 nud permanent\n\
                     route add default via {gateway4}\nroute add default via {gateway6} dev eth0\n"
                ));
                Ok("done".to_owned())
            }
            ["tcp", address, port] => {
                let mut stream = connect_to(address, port)?;
                done(echoes(&mut stream)?)
            }
            ["udp", address, port] => {
                let to = SocketAddr::new(ip(address), port.parse().map_err(io::Error::other)?);
                let any = if to.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
                let socket = UdpSocket::bind(any)?;
                socket.set_read_timeout(Some(PATIENCE))?;
                socket.connect(to)?;
                done(
                    asked(|| {
                        socket.send(b"?")?;
                        socket.recv(&mut [0; 8])
                    })? == 1,
                )
            }
            ["ping", address, _] => done(ping(ip(address))?),
            ["hold", address, port] => {
                let mut stream = connect_to(address, port)?;
                let reached = echoes(&mut stream)?;
                self.held = Some(stream);
                done(reached)
            }
            ["held"] => match &mut self.held {
                Some(stream) => done(echoes(stream)?),
                None => Ok("nothing is held".to_owned()),
            },
            ["many", address, port, count] => {
                let count: usize = count.parse().map_err(io::Error::other)?;
                self.many.clear();
                for _ in 0..count {
                    match connect_to(address, port) {
                        Ok(stream) => self.many.push(stream),
                        Err(_) => break,
                    }
                }
                Ok(self.many.len().to_string())
            }
            ["send", address, port, bytes] => {
                let mut stream = connect_to(address, port)?;
                stream.set_read_timeout(Some(Duration::from_secs(20)))?;
                let bytes: usize = bytes.parse().map_err(io::Error::other)?;
                let mut back = stream.try_clone()?;
                let reader = thread::spawn(move || back.read_exact(&mut vec![0; bytes]));
                stream.write_all(&vec![b'?'; bytes])?;
                match reader.join() {
                    Ok(read) => read.map(|()| "reached".to_owned()),
                    Err(_) => done(false),
                }
            }
            ["from", own, address, port] => {
                let mut stream = connect_from(own, address, port)?;
                done(echoes(&mut stream)?)
            }
            ["spoof", from, to, port] => {
                let frame = udp_frame(self.macs, ip(from), ip(to), port.parse().map_err(io::Error::other)?);
                self.send(&frame)
            }
            ["made", from, own, to, port, flags] => {
                let ports = [own, port].map(|port| port.parse().unwrap_or_default());
                let frames = flags.chars().map(|flag| tcp_frame(self.macs, [ip(from), ip(to)], ports, flag));
                // all are there before any is answered
                for frame in frames.collect::<Vec<_>>() {
                    self.send(&frame)?;
                }
                Ok("sent".to_owned())
            }
            ["frame", hex] => {
                let bytes: Result<Vec<u8>, _> =
                    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16)).collect();
                self.send(&bytes.map_err(io::Error::other)?)
            }
            _ => Ok("what?".to_owned()),
        }
    }

    /// Past the guest's own network, as a kernel that was broken into would.
    fn send(&mut self, frame: &[u8]) -> io::Result<String> {
        let mut bytes = vec![0; VIRTIO];
        bytes.extend_from_slice(frame);
        self.outer.write_all(&bytes)?;
        Ok("sent".to_owned())
    }
}

fn connect_to(address: &str, port: &str) -> io::Result<TcpStream> {
    let to = SocketAddr::new(ip(address), port.parse().map_err(io::Error::other)?);
    let stream = TcpStream::connect_timeout(&to, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// From a port that one chooses.
fn connect_from(own: &str, address: &str, port: &str) -> io::Result<TcpStream> {
    let to = SocketAddr::new(ip(address), port.parse().map_err(io::Error::other)?);
    let (family, any) = match to {
        SocketAddr::V4(_) => (AddressFamily::INET, ip("0.0.0.0")),
        SocketAddr::V6(_) => (AddressFamily::INET6, ip("::")),
    };
    let socket = socket(family, SocketType::STREAM, None)?;
    // of a connect as well
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Send, Some(PATIENCE))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    let own = SocketAddr::new(any, own.parse().map_err(io::Error::other)?);
    bind(&socket, &SocketAddrAny::from(own))?;
    connect(&socket, &SocketAddrAny::from(to))?;
    Ok(TcpStream::from(socket))
}

fn echoes(stream: &mut TcpStream) -> io::Result<bool> {
    stream.write_all(b"?")?;
    Ok(stream.read(&mut [0])? == 1)
}

fn ping(address: IpAddr) -> io::Result<bool> {
    let (family, protocol, request, reply) = match address {
        IpAddr::V4(_) => (AddressFamily::INET, ipproto::ICMP, 8, 0),
        IpAddr::V6(_) => (AddressFamily::INET6, ipproto::ICMPV6, 128, 129),
    };
    let socket = socket(family, SocketType::DGRAM, Some(protocol))?;
    sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(PATIENCE))?;
    connect(&socket, &SocketAddrAny::from(SocketAddr::new(address, 0)))?;
    let mut answer = [0; 64];
    let length = asked(|| {
        send(&socket, &[request, 0, 0, 0, 0, 0, 0, 1, b'?'], rustix::net::SendFlags::empty())?;
        Ok(recv(&socket, &mut answer[..], rustix::net::RecvFlags::empty())?.0)
    })?;
    Ok(length > 0 && answer[0] == reply)
}

/// Once more where nothing came back: on a busy host a packet can be late, or lost at the tap.
fn asked(mut once: impl FnMut() -> io::Result<usize>) -> io::Result<usize> {
    match once() {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => once(),
        other => other,
    }
}

fn parse_mac(text: &str) -> [u8; 6] {
    let mut bytes = [0; 6];
    for (to, from) in bytes.iter_mut().zip(text.split(':')) {
        *to = u8::from_str_radix(from, 16).expect("an Ethernet address");
    }
    bytes
}

/// A datagram with a source of one's choice.
fn udp_frame(macs: [[u8; 6]; 2], from: IpAddr, to: IpAddr, port: u16) -> Vec<u8> {
    let mut udp = Vec::new();
    udp.extend(4242_u16.to_be_bytes());
    udp.extend(port.to_be_bytes());
    udp.extend(9_u16.to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(FORGED);
    frame(macs, [from, to], 17, udp, 6)
}

/// A segment that begins a connection (`S`), resets it (`R`) or belongs to it (`A`).
fn tcp_frame(macs: [[u8; 6]; 2], ends: [IpAddr; 2], ports: [u16; 2], flag: char) -> Vec<u8> {
    let (flags, sequence) = match flag {
        'S' => (2, 1_u32),
        'R' => (4, 2),
        _ => (16, 2),
    };
    let mut tcp: Vec<u8> = ports.iter().flat_map(|port| port.to_be_bytes()).collect();
    tcp.extend(sequence.to_be_bytes());
    tcp.extend([0, 0, 0, 0, 0x50, flags, 4, 0, 0, 0, 0, 0]);
    frame(macs, ends, 6, tcp, 16)
}

/// A packet of a protocol, whose checksum is set at its place.
fn frame(
    [from_mac, to_mac]: [[u8; 6]; 2],
    [from, to]: [IpAddr; 2],
    protocol: u8,
    mut payload: Vec<u8>,
    at: usize,
) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a short one");
    let mut frame = Vec::from(to_mac);
    frame.extend(from_mac);
    let mut sum = match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            frame.extend([0x08, 0x00]);
            let mut head = vec![0x45, 0];
            head.extend((20 + length).to_be_bytes());
            head.extend([0, 1, 0, 0, 64, protocol, 0, 0]);
            head.extend(from.octets());
            head.extend(to.octets());
            let sum = checksum(&head);
            head[10..12].copy_from_slice(&sum.to_be_bytes());
            frame.extend(head);
            [from.octets(), to.octets()].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
            frame.extend(length.to_be_bytes());
            frame.extend([protocol, 64]);
            frame.extend(from.octets());
            frame.extend(to.octets());
            [from.octets(), to.octets()].concat()
        }
        _ => panic!("two families"),
    };
    sum.extend(length.to_be_bytes());
    sum.extend([0, protocol]);
    sum.extend(&payload);
    let sum = checksum(&sum);
    payload[at..at + 2].copy_from_slice(&sum.to_be_bytes());
    frame.extend(payload);
    frame
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        let low = pair.get(1).copied().unwrap_or_default();
        sum += u32::from(u16::from_be_bytes([pair[0], low]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
