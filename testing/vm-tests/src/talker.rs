//! A server of the host that does what the first line of a connection asks, for tests and figures of forwards.
//!
//! ```text
//!   echo        sends back what it reads, until the end of that
//!   count       reads to the end, then says how many bytes that were
//!   end         ends its own direction at once, and reads to the end of the other
//!   reset       resets
//!   stall       neither reads nor writes
//!   blob N      sends N bytes, then its end
//! ```

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

/// The server; it ends when it is dropped.
pub struct Talker {
    /// Where it listens.
    pub address: SocketAddr,
    heard: Arc<Mutex<Vec<String>>>,
    open: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
    _task: AbortOnDropHandle<()>,
}

impl Talker {
    /// Starts one that this host alone can reach.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn start() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into()).await
    }

    /// Starts one at this address of the host.
    ///
    /// # Panics
    /// When it cannot listen.
    pub async fn at(address: IpAddr) -> Self {
        let listener = TcpListener::bind((address, 0)).await.expect("a port");
        let address = listener.local_addr().expect("its address");
        let heard: Arc<Mutex<Vec<String>>> = Arc::default();
        let (open, most): (Arc<AtomicUsize>, Arc<AtomicUsize>) = Default::default();
        let (all, count, peak) = (Arc::clone(&heard), Arc::clone(&open), Arc::clone(&most));
        let task = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (all, count) = (Arc::clone(&all), Arc::clone(&count));
                peak.fetch_max(count.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::spawn(async move {
                    let mut stream = BufReader::new(stream);
                    let mut asked = String::new();
                    let end = match stream.read_line(&mut asked).await {
                        Ok(_) => talk(stream, asked.trim()).await,
                        Err(error) => error.kind().to_string(),
                    };
                    count.fetch_sub(1, Ordering::Relaxed);
                    let said = format!("{}: {end}", asked.trim());
                    all.lock().unwrap_or_else(PoisonError::into_inner).push(said);
                });
            }
        });
        Self { address, heard, open, most, _task: AbortOnDropHandle::new(task) }
    }

    /// How its connections ended, in order.
    #[must_use]
    pub fn heard(&self) -> Vec<String> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Connections that are open.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.load(Ordering::Relaxed)
    }

    /// The most that were open at a time.
    #[must_use]
    pub fn most(&self) -> usize {
        self.most.load(Ordering::Relaxed)
    }

    /// Waits until a connection ended so.
    ///
    /// # Panics
    /// When none does.
    #[track_caller]
    pub fn hears(&self, what: &str) -> impl Future<Output = ()> {
        let place = std::panic::Location::caller();
        async move {
            for _ in 0..1000 {
                if self.heard().iter().any(|heard| heard == what) {
                    return;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            panic!("{what:?} is not in {:?}, at {place}", self.heard());
        }
    }
}

async fn talk(mut stream: BufReader<TcpStream>, asked: &str) -> String {
    match converse(&mut stream, asked).await {
        Ok(end) => end,
        Err(error) => error.kind().to_string(),
    }
}

async fn converse(stream: &mut BufReader<TcpStream>, asked: &str) -> std::io::Result<String> {
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    match asked.split_once(' ').unwrap_or((asked, "")) {
        ("echo", _) => loop {
            let count = stream.read(&mut buffer).await?;
            if count == 0 {
                return Ok(format!("ended after {total}"));
            }
            total += count;
            stream.write_all(&buffer[..count]).await?;
        },
        (how @ ("count" | "end"), _) => {
            if how == "end" {
                stream.shutdown().await?;
            }
            loop {
                let count = stream.read(&mut buffer).await?;
                total += count;
                if count == 0 {
                    break;
                }
            }
            if how == "count" {
                stream.write_all(format!("{total}\n").as_bytes()).await?;
            }
            Ok(format!("ended after {total}"))
        }
        ("reset", _) => {
            rustix::net::sockopt::set_socket_linger(&*stream.get_mut(), Some(Duration::ZERO))?;
            Ok("it was".to_owned())
        }
        ("blob", size) => {
            let mut left: usize = size.parse().unwrap_or(0);
            while left > 0 {
                let count = left.min(buffer.len());
                stream.write_all(&buffer[..count]).await?;
                left -= count;
            }
            Ok("sent".to_owned())
        }
        // a reset is an error of the socket, also where nothing is read
        _ => loop {
            tokio::time::sleep(Duration::from_millis(20)).await;
            if let Some(error) = stream.get_ref().take_error()? {
                return Err(error);
            }
        },
    }
}
