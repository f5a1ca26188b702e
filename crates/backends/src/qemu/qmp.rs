//! A client of QEMU's control protocol: one connection, one command at a time.
//!
//! Owner: whoever has something to ask; it connects, asks, and goes, because a connected client that does not
//! read makes QEMU keep its events.
//! Invariants: a QEMU that was taken over by its guest can cost its owner neither memory (a line and a whole
//! exchange are capped) nor a panic, and no command waits for ever. One that was not answered in time breaks the
//! connection: what comes then would be taken for the answer to the next.

use std::{
    io::{self, IoSlice},
    mem::MaybeUninit,
    os::fd::BorrowedFd,
    time::Duration,
};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest},
    net::UnixStream,
    time::timeout,
};
use vm::{Error, Result};

/// How long an answer is waited for.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest line that is taken.
const LINE_LIMIT: usize = 1 << 20;
/// How much may come between a command and its answer: events of a guest that makes many.
const EXCHANGE_LIMIT: usize = 16 << 20;

/// A connection that is ready for commands.
#[derive(Debug)]
pub(super) struct Qmp<S> {
    stream: S,
    buffer: Vec<u8>,
    /// Where in `buffer` no line's end was found yet.
    searched: usize,
    health: Health,
}

/// Whether an answer can still be told from the one to another command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Good,
    Broken,
}

/// What the other side says: a greeting, an answer, an event.
#[derive(Debug, Deserialize)]
struct Message {
    #[serde(rename = "QMP")]
    greeting: Option<Value>,
    #[serde(rename = "return")]
    value: Option<Value>,
    error: Option<Refusal>,
    event: Option<String>,
}

#[derive(Debug, Deserialize)]
struct Refusal {
    class: String,
    desc: String,
}

/// Answer to `query-status`.
#[derive(Debug, Deserialize)]
pub(super) struct Status {
    /// Whether the guest's processors run.
    pub(super) running: bool,
    /// The state's name.
    pub(super) status: String,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Qmp<S> {
    /// Takes the greeting and makes the connection ready.
    pub(super) async fn open(stream: S) -> Result<Self> {
        let mut qmp = Self { stream, buffer: Vec::new(), searched: 0, health: Health::Good };
        let mut left = EXCHANGE_LIMIT;
        let first = timeout(PATIENCE, qmp.message(&mut left)).await;
        let first = first.unwrap_or(Err(Error::TimedOut { what: "QEMU's greeting", limit: PATIENCE }))?;
        if first.greeting.is_none() {
            return Err(Error::Control("sent something else than a greeting".to_owned()));
        }
        qmp.execute::<Value>("qmp_capabilities", None).await?;
        Ok(qmp)
    }

    /// The state of the VM.
    pub(super) async fn status(&mut self) -> Result<Status> {
        self.execute("query-status", None).await
    }

    /// Runs one command.
    pub(super) async fn execute<T: DeserializeOwned>(
        &mut self,
        name: &str,
        arguments: Option<Value>,
    ) -> Result<T> {
        let line = line_of(name, arguments);
        self.stream.write_all(&line).await.map_err(Error::io(format!("send {name} to QEMU")))?;
        self.answer(name).await
    }

    /// Takes the answer to the command `name`.
    async fn answer<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        if self.health == Health::Broken {
            return Err(Error::Control("did not answer before".to_owned()));
        }
        // also where this future is dropped in the middle
        self.health = Health::Broken;
        let answer = timeout(PATIENCE, self.take(name)).await;
        let answer = answer.unwrap_or(Err(Error::TimedOut { what: "QEMU's answer", limit: PATIENCE }));
        if !matches!(answer, Err(Error::TimedOut { .. } | Error::Io { .. })) {
            self.health = Health::Good;
        }
        answer
    }

    async fn take<T: DeserializeOwned>(&mut self, name: &str) -> Result<T> {
        let mut left = EXCHANGE_LIMIT;
        loop {
            let message = self.message(&mut left).await?;
            if let Some(refusal) = message.error {
                let Refusal { class, desc } = refusal;
                return Err(Error::Control(format!(
                    "{name} was refused: {} ({})",
                    short(&desc),
                    short(&class)
                )));
            }
            if let Some(value) = message.value {
                let answer = serde_json::from_value(value);
                return answer
                    .map_err(|error| Error::Control(format!("{name} was answered strangely: {error}")));
            }
            if message.event.is_none() {
                return Err(Error::Control("sent what is no answer and no event".to_owned()));
            }
        }
    }

    async fn message(&mut self, left: &mut usize) -> Result<Message> {
        let line = self.line(left).await?;
        serde_json::from_slice(&line)
            .map_err(|error| Error::Control(format!("sent what is no message: {error}")))
    }

    /// One line. What was read of the next stays, also when the future is dropped.
    async fn line(&mut self, left: &mut usize) -> Result<Vec<u8>> {
        loop {
            if let Some(end) = self.buffer[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=self.searched + end).collect();
                self.searched = 0;
                return Ok(line);
            }
            self.searched = self.buffer.len();
            if self.buffer.len() >= LINE_LIMIT || *left == 0 {
                return Err(Error::Control("sent more than it may".to_owned()));
            }
            let room = (LINE_LIMIT - self.buffer.len()).min(*left);
            let mut chunk = [0; 4096];
            let room = room.min(chunk.len());
            match self
                .stream
                .read(&mut chunk[..room])
                .await
                .map_err(Error::io("read from QEMU's control channel"))?
            {
                0 => return Err(Error::Control("was closed".to_owned())),
                length => {
                    self.buffer.extend_from_slice(&chunk[..length]);
                    *left -= length;
                }
            }
        }
    }
}

impl Qmp<UnixStream> {
    /// Runs one command with a descriptor for QEMU.
    pub(super) async fn execute_with<T: DeserializeOwned>(
        &mut self,
        name: &str,
        arguments: Option<Value>,
        fd: BorrowedFd<'_>,
    ) -> Result<T> {
        let failed = || Error::io(format!("send {name} to QEMU"));
        let line = line_of(name, arguments);
        let sent = loop {
            self.stream.writable().await.map_err(failed())?;
            let sent = self.stream.try_io(Interest::WRITABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
                let mut ancillary = SendAncillaryBuffer::new(&mut space);
                let fds = [fd];
                if !ancillary.push(SendAncillaryMessage::ScmRights(&fds)) {
                    return Err(io::ErrorKind::OutOfMemory.into());
                }
                Ok(sendmsg(&self.stream, &[IoSlice::new(&line)], &mut ancillary, SendFlags::NOSIGNAL)?)
            });
            match sent {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                sent => break sent.map_err(failed())?,
            }
        };
        self.stream.write_all(line.get(sent..).unwrap_or_default()).await.map_err(failed())?;
        self.answer(name).await
    }
}

fn line_of(name: &str, arguments: Option<Value>) -> Vec<u8> {
    let mut command = json!({ "execute": name });
    if let Some(arguments) = arguments {
        command["arguments"] = arguments;
    }
    let mut line = command.to_string().into_bytes();
    line.push(b'\n');
    line
}

/// Foreign text for an error message.
fn short(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(300).collect()
}

#[cfg(test)]
mod tests {
    use tokio::io::{DuplexStream, duplex};

    use super::*;

    const GREETING: &str =
        r#"{"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}}, "capabilities": []}}"#;

    fn block_on<T>(future: impl Future<Output = T>) -> T {
        tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap()
            .block_on(future)
    }

    async fn against(script: &[u8]) -> Result<Qmp<DuplexStream>> {
        let (ours, mut theirs) = duplex(64 << 20);
        theirs.write_all(script).await.unwrap();
        // Kept readable for what is sent, closed for more.
        tokio::spawn(async move { tokio::io::copy(&mut theirs, &mut tokio::io::sink()).await });
        Qmp::open(ours).await
    }

    async fn closing_after(script: &[u8]) -> Result<Status> {
        let (ours, mut theirs) = duplex(64 << 20);
        theirs.write_all(script).await.unwrap();
        theirs.shutdown().await.unwrap();
        let mut qmp = Qmp::open(ours).await?;
        qmp.status().await
    }

    #[test]
    fn an_answer_is_found_among_events() {
        block_on(async {
            let script = format!(
                "{GREETING}\r\n{{\"return\": {{}}}}\r\n{{\"event\": \"RESUME\", \"timestamp\": {{}}}}\r\n\
                 {{\"return\": {{\"status\": \"running\", \"running\": true, \"singlestep\": false}}}}\r\n"
            );
            let mut qmp = against(script.as_bytes()).await.unwrap();
            let status = qmp.status().await.unwrap();
            assert!(status.running && status.status == "running");
        });
    }

    /// What comes after an answer that was given up would be taken for the next one.
    #[test]
    fn a_command_that_is_not_answered_breaks_the_connection() {
        block_on(async {
            let script = format!("{GREETING}\n{{\"return\": {{}}}}\n");
            let mut qmp = against(script.as_bytes()).await.unwrap();
            assert!(matches!(qmp.status().await, Err(Error::TimedOut { .. })));
            assert!(matches!(qmp.status().await, Err(Error::Control(text)) if text.contains("before")));
        });
    }

    #[test]
    fn a_refusal_is_an_error_with_its_text() {
        block_on(async {
            let script = format!(
                "{GREETING}\n{{\"return\": {{}}}}\n\
                 {{\"error\": {{\"class\": \"GenericError\", \"desc\": \"no \\u001b[31m way\"}}}}\n"
            );
            let error = closing_after(script.as_bytes()).await.unwrap_err().to_string();
            assert!(error.contains("query-status was refused: no [31m way"), "{error}");
        });
    }

    #[test]
    fn nonsense_is_an_error() {
        block_on(async {
            let deep = "[".repeat(100_000) + "\n";
            let no_answer = format!("{GREETING}\n{{\"return\": {{}}}}\n{{\"return\": 3}}\n");
            for script in [
                "",
                "{}\n",
                "\n",
                "nonsense\n",
                "{\"return\": {}}\n",
                "\u{0}\u{1}\n",
                &deep,
                GREETING,
                &no_answer,
            ] {
                assert!(closing_after(script.as_bytes()).await.is_err(), "{}", short(script));
            }
            assert!(closing_after(&[0xff; 100]).await.is_err());
        });
    }

    #[test]
    fn an_endless_line_and_endless_events_are_refused() {
        block_on(async {
            let endless = vec![b' '; LINE_LIMIT + 1];
            assert!(
                matches!(closing_after(&endless).await, Err(Error::Control(text)) if text.contains("more than"))
            );
            let mut events = format!("{GREETING}\n").into_bytes();
            while events.len() < EXCHANGE_LIMIT + 100_000 {
                events.extend_from_slice(b"{\"event\": \"BLOCK_IO_ERROR\"}\n");
            }
            assert!(
                matches!(closing_after(&events).await, Err(Error::Control(text)) if text.contains("more than"))
            );
        });
    }
}
