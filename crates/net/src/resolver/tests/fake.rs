//! A name server for tests, on a port of 127.0.0.1 over UDP and TCP, and the messages that it sends.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, UdpSocket},
    task::JoinHandle,
};

/// A question as the server sees it.
#[derive(Clone, Debug)]
pub(super) struct Query {
    pub(super) id: [u8; 2],
    pub(super) section: Vec<u8>,
    pub(super) name: String,
    pub(super) kind: u16,
    pub(super) edns: bool,
    pub(super) tcp: bool,
}

/// What the server does with one.
pub(super) enum Act {
    Send(Vec<u8>),
    Wait(Duration),
    /// Bytes as they are, on a TCP stream.
    Raw(Vec<u8>),
}

pub(super) struct Server {
    pub(super) address: SocketAddr,
    count: Arc<AtomicUsize>,
    tasks: [JoinHandle<()>; 2],
}

impl Drop for Server {
    fn drop(&mut self) {
        self.tasks.iter().for_each(JoinHandle::abort);
    }
}

type Acts = Arc<dyn Fn(&Query) -> Vec<Act> + Send + Sync>;

impl Server {
    pub(super) async fn start(acts: impl Fn(&Query) -> Vec<Act> + Send + Sync + 'static) -> Self {
        let acts: Acts = Arc::new(acts);
        let (udp, tcp) = loop {
            let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
            if let Ok(tcp) = TcpListener::bind(udp.local_addr().unwrap()).await {
                break (Arc::new(udp), tcp);
            }
        };
        let address = udp.local_addr().unwrap();
        let count = Arc::new(AtomicUsize::new(0));
        let (counted, acting) = (count.clone(), acts.clone());
        let datagrams = tokio::spawn(async move {
            let mut buffer = vec![0; 4096];
            while let Ok((length, from)) = udp.recv_from(&mut buffer).await {
                counted.fetch_add(1, Ordering::SeqCst);
                let acts = acting(&read(&buffer[..length], false));
                let udp = udp.clone();
                tokio::spawn(async move {
                    for act in acts {
                        match act {
                            Act::Send(bytes) | Act::Raw(bytes) => drop(udp.send_to(&bytes, from).await),
                            Act::Wait(time) => tokio::time::sleep(time).await,
                        }
                    }
                });
            }
        });
        let counted = count.clone();
        let streams = tokio::spawn(async move {
            while let Ok((mut stream, _)) = tcp.accept().await {
                counted.fetch_add(1, Ordering::SeqCst);
                let acts = acts.clone();
                tokio::spawn(async move {
                    let length = stream.read_u16().await.unwrap();
                    let mut bytes = vec![0; usize::from(length)];
                    stream.read_exact(&mut bytes).await.unwrap();
                    for act in acts(&read(&bytes, true)) {
                        match act {
                            Act::Send(bytes) => {
                                let length = u16::try_from(bytes.len()).unwrap().to_be_bytes();
                                drop(stream.write_all(&[&length[..], &bytes].concat()).await);
                            }
                            Act::Raw(bytes) => drop(stream.write_all(&bytes).await),
                            Act::Wait(time) => tokio::time::sleep(time).await,
                        }
                    }
                });
            }
        });
        Self { address, count, tasks: [datagrams, streams] }
    }

    /// Questions so far.
    pub(super) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }
}

fn read(bytes: &[u8], tcp: bool) -> Query {
    let mut at = 12;
    let mut name = Vec::new();
    while bytes[at] != 0 {
        let length = usize::from(bytes[at]);
        name.push(String::from_utf8_lossy(&bytes[at + 1..=at + length]).into_owned());
        at += length + 1;
    }
    Query {
        id: [bytes[0], bytes[1]],
        section: bytes[12..at + 5].to_vec(),
        name: name.join("."),
        kind: u16::from_be_bytes([bytes[at + 1], bytes[at + 2]]),
        edns: bytes[11] == 1,
        tcp,
    }
}

/// A question as a guest sends it.
pub(super) fn ask(name: &str, kind: u16) -> Vec<u8> {
    let head = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x01";
    let edns = b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00";
    [&head[..], &labels(name), &kind.to_be_bytes(), b"\x00\x01", edns].concat()
}

pub(super) fn labels(name: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for label in name.split('.').filter(|label| !label.is_empty()) {
        bytes.push(u8::try_from(label.len()).unwrap());
        bytes.extend(label.as_bytes());
    }
    bytes.push(0);
    bytes
}

pub(super) fn record(name: &str, kind: u16, ttl: u32, data: &[u8]) -> Vec<u8> {
    let length = u16::try_from(data.len()).unwrap().to_be_bytes();
    [&labels(name)[..], &kind.to_be_bytes(), b"\x00\x01", &ttl.to_be_bytes(), &length, data].concat()
}

pub(super) fn address(name: &str, ttl: u32, address: &str) -> Vec<u8> {
    match address.parse().unwrap() {
        IpAddr::V4(address) => record(name, 1, ttl, &address.octets()),
        IpAddr::V6(address) => record(name, 28, ttl, &address.octets()),
    }
}

pub(super) fn alias(name: &str, ttl: u32, target: &str) -> Vec<u8> {
    record(name, 5, ttl, &labels(target))
}

pub(super) fn soa(name: &str, ttl: u32, minimum: u32) -> Vec<u8> {
    let numbers: Vec<u8> =
        [1, 2, 3, 4, minimum].iter().flat_map(|number: &u32| number.to_be_bytes()).collect();
    record(name, 6, ttl, &[labels("ns"), labels("admin"), numbers].concat())
}

/// An answer with this code, of these records and, behind them, authorities.
pub(super) fn reply(query: &Query, code: u8, answers: &[Vec<u8>], authorities: &[Vec<u8>]) -> Vec<u8> {
    let count = |records: &[Vec<u8>]| u16::try_from(records.len()).unwrap().to_be_bytes();
    let mut bytes = query.id.to_vec();
    bytes.extend([0x81, 0x80 | code, 0, 1]);
    bytes.extend(count(answers));
    bytes.extend(count(authorities));
    bytes.extend([0, 0]);
    bytes.extend(&query.section);
    bytes.extend(answers.concat());
    bytes.extend(authorities.concat());
    bytes
}

/// The same, too long for a datagram.
pub(super) fn cut(query: &Query) -> Vec<u8> {
    let mut bytes = reply(query, 0, &[], &[]);
    bytes[2] |= 0x02;
    bytes
}
