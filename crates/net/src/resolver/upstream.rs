//! Name servers of the host, asked for all of its VMs.
//!
//! Purpose: one question, one answer, whatever the servers do: lose it, cut it, be slow, lie.
//! Owner: the engine has one [`Upstreams`]; every [`Resolver`](super::Resolver) holds it.
//!
//! ```text
//!  for each attempt, for each server:  UDP ──answer──▶ done
//!                                       │ TC ─▶ TCP ──answer──▶ done
//!                                       │ FORMERR, NOTIMP ─▶ once more without EDNS
//!                                       └ silence, failure, garbage ─▶ the next server
//! ```
//!
//! Invariants
//! - Each question has a socket of its own, connected, so that its port is the kernel's choice and only its server is
//!   heard, and a random id. An answer with another id or question is not heard; the time goes on. No 0x20: the servers
//!   are the host's own resolvers, some of which do not keep the case of letters.
//! - One question takes at most [`WHOLE`], one exchange the servers' timeout, and one answer 64 KiB.

use std::{
    fs,
    net::{Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UdpSocket},
    sync::Semaphore,
    time::{Instant, timeout, timeout_at},
};

use super::{
    message::{Answer, Bad, Message, Question, read_answer},
    resolv_conf::Servers,
};

/// Longest time for one question.
pub(super) const WHOLE: Duration = Duration::from_secs(10);
/// How often the file is looked at.
const LOOK: Duration = Duration::from_secs(1);
/// How long a server that answered stays the first to be asked, when others before it did not.
const PREFER: Duration = Duration::from_secs(30);
/// Most questions that are with servers, of all VMs.
const MAX_EXCHANGES: usize = 512;
/// Most datagrams that are not the answer, of one exchange.
const MAX_STRAY: usize = 64;
/// Largest datagram that is read; more was not offered.
const DATAGRAM: usize = 4096;

/// Whom the host asks.
#[derive(Debug)]
pub struct Upstreams {
    file: Option<PathBuf>,
    state: Mutex<State>,
    exchanges: Semaphore,
}

#[derive(Debug)]
struct State {
    servers: Arc<Servers>,
    /// Of the file that they are of.
    stamp: Option<(SystemTime, u64)>,
    looked: Option<Instant>,
    preferred: Option<(usize, Instant)>,
}

impl Upstreams {
    /// The servers of a resolv.conf, followed when it changes. While the file cannot be read they stay what they were.
    pub fn follow(file: impl Into<PathBuf>) -> Arc<Self> {
        Self::new(Servers::parse(""), Some(file.into()))
    }

    /// These servers, always.
    pub fn fixed(servers: Servers) -> Arc<Self> {
        Self::new(servers, None)
    }

    fn new(servers: Servers, file: Option<PathBuf>) -> Arc<Self> {
        let state = State { servers: Arc::new(servers), stamp: None, looked: None, preferred: None };
        Arc::new(Self { file, state: Mutex::new(state), exchanges: Semaphore::new(MAX_EXCHANGES) })
    }

    /// Who is asked now, and who of them first.
    pub(super) fn servers(&self) -> (Arc<Servers>, usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if let Some(file) = &self.file
            && state.looked.is_none_or(|looked| now >= looked + LOOK)
        {
            state.looked = Some(now);
            let stamp = fs::metadata(file).ok().and_then(|meta| Some((meta.modified().ok()?, meta.len())));
            if stamp.is_some()
                && stamp != state.stamp
                && let Ok(text) = fs::read(file)
            {
                state.stamp = stamp;
                state.servers = Arc::new(Servers::parse(&String::from_utf8_lossy(&text)));
                state.preferred = None;
            }
        }
        let first = state.preferred.filter(|(_, until)| now < *until).map_or(0, |(index, _)| index);
        (state.servers.clone(), first)
    }

    fn prefer(&self, servers: &Arc<Servers>, index: usize) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if Arc::ptr_eq(&state.servers, servers) {
            state.preferred = (index != 0).then(|| (index, Instant::now() + PREFER));
        }
    }

    /// Asks until one answers; none if nobody does in time.
    pub(super) async fn ask(&self, question: &Question) -> Option<Message> {
        let (servers, first) = self.servers();
        timeout(WHOLE, async {
            let _room = self.exchanges.acquire().await.ok()?;
            for _ in 0..servers.attempts {
                for step in 0..servers.addresses.len() {
                    let index = (first + step) % servers.addresses.len();
                    if let Some(message) = one(servers.addresses[index], servers.timeout, question).await {
                        if index != first {
                            self.prefer(&servers, index);
                        }
                        return Some(message);
                    }
                }
            }
            None
        })
        .await
        .ok()?
    }
}

async fn one(server: SocketAddr, limit: Duration, question: &Question) -> Option<Message> {
    let mut edns = true;
    loop {
        match exchange(server, limit, question, edns).await {
            Ok(message) => return Some(message),
            Err(Bad::NotUnderstood) if edns => edns = false,
            Err(_) => return None,
        }
    }
}

async fn exchange(
    server: SocketAddr,
    limit: Duration,
    question: &Question,
    edns: bool,
) -> Result<Message, Bad> {
    let id = u16::from_ne_bytes(random().ok_or(Bad::Failed)?);
    let asked = question.upstream(id, edns).ok_or(Bad::Failed)?;
    let udp = timeout(limit, udp(server, &asked, id, question)).await.map_err(|_| Bad::Failed)??;
    match udp {
        Answer::Whole(message) => Ok(message),
        Answer::Truncated => {
            let tcp = tcp(server, &asked, id, question);
            match timeout_at(Instant::now() + limit, tcp).await.map_err(|_| Bad::Failed)?? {
                Answer::Whole(message) => Ok(message),
                Answer::Truncated => Err(Bad::Garbage),
            }
        }
    }
}

fn random() -> Option<[u8; 2]> {
    let mut bytes = [0; 2];
    getrandom::fill(&mut bytes).ok()?;
    Some(bytes)
}

async fn udp(server: SocketAddr, asked: &[u8], id: u16, question: &Question) -> Result<Answer, Bad> {
    let any: SocketAddr = match server {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).await.map_err(|_| Bad::Failed)?;
    socket.connect(server).await.map_err(|_| Bad::Failed)?;
    socket.send(asked).await.map_err(|_| Bad::Failed)?;
    let mut buffer = vec![0; DATAGRAM];
    for _ in 0..MAX_STRAY {
        let length = socket.recv(&mut buffer).await.map_err(|_| Bad::Failed)?;
        match read_answer(&buffer[..length], id, question) {
            Err(Bad::Other) => {}
            answer => return answer,
        }
    }
    Err(Bad::Other)
}

async fn tcp(server: SocketAddr, asked: &[u8], id: u16, question: &Question) -> Result<Answer, Bad> {
    let failed = |_| Bad::Failed;
    let mut stream = TcpStream::connect(server).await.map_err(failed)?;
    let length = u16::try_from(asked.len()).map_err(|_| Bad::Failed)?;
    stream.write_all(&[&length.to_be_bytes(), asked].concat()).await.map_err(failed)?;
    let length = stream.read_u16().await.map_err(failed)?;
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes).await.map_err(failed)?;
    read_answer(&bytes, id, question)
}
