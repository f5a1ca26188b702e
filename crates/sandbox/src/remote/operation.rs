//! Commands and copies of an engine in another process: what is a stream.
//!
//! Invariant: of what comes, no more than a window waits here for whoever reads it; the socket holds up the rest.

use jiff::Timestamp;
use tokio::{
    io::{AsyncReadExt, DuplexStream, duplex},
    sync::{mpsc, oneshot},
};
use tokio_util::sync::CancellationToken;
use wire::{
    ExecId, StreamId,
    message::{Copied, Exec},
};

use super::{
    carry::Carrier,
    error::EngineError,
    frame::Frame,
    link::{Reader, Writer, nonsense, parse},
    message::{Ask, Say},
};
use crate::{
    Control, CopyOut, Error, ExecRequest, Exited, Gone, Input, Output, OutputMode, Result, Running, Sandbox,
    Stdin, Stream,
    command::{Answer, Source},
    delivery::{Part, Producer, Taken, delivery},
};

/// Bytes that wait for whoever reads them.
const WINDOW: usize = 256 << 10;
/// Bytes of input that wait here while the engine does not take them.
const PIPE: usize = 64 << 10;
const STDIN: StreamId = StreamId(1);
const STDOUT: StreamId = StreamId(3);
const STDERR: StreamId = StreamId(5);

/// The end of what a consumer reads: it is told why there is no more, whatever ends this.
struct Feed {
    producer: Producer,
    taken: mpsc::UnboundedReceiver<Taken>,
    held: usize,
    carrier: Carrier,
}

impl Drop for Feed {
    fn drop(&mut self) {
        // behind the end of the stream this says nothing
        self.producer.fail(&self.carrier.why(Gone::EngineLost));
    }
}

impl Feed {
    /// The next frame, while there is room for one.
    async fn frame(&mut self, reader: &mut Reader) -> Result<Frame> {
        loop {
            tokio::select! {
                biased;
                Some(taken) = self.taken.recv() => self.held = self.held.saturating_sub(taken.bytes),
                frame = reader.frame(), if self.held < WINDOW => {
                    return frame?.ok_or_else(|| EngineError::Lost.into());
                }
            }
        }
    }

    fn push(&mut self, stream: StreamId, time: Timestamp, bytes: Vec<u8>) {
        let length = bytes.len();
        if self.producer.push(Part { stream, time, bytes }) {
            self.held += length;
        }
    }
}

/// What a command is started with, on the way.
fn told(request: ExecRequest) -> (Exec, Stdin, OutputMode) {
    let ExecRequest { argv, env, cwd, user, stdin, output, timeout } = request;
    let (stderr, terminal) = match output {
        OutputMode::Merged => (STDOUT, None),
        OutputMode::Separate => (STDERR, None),
        OutputMode::Terminal(size) => (STDOUT, Some(size.into())),
    };
    let exec = Exec {
        // the engine names it
        exec: ExecId(0),
        argv,
        env,
        cwd,
        user,
        stdin: (!matches!(stdin, Stdin::Null)).then_some(STDIN),
        stdout: STDOUT,
        stderr,
        timeout_ms: timeout.map(|limit| u64::try_from(limit.as_millis()).unwrap_or(u64::MAX)),
        terminal,
    };
    (exec, stdin, output)
}

pub(super) async fn exec(
    mut carrier: Carrier,
    sandbox: Sandbox,
    request: ExecRequest,
    mut answer: Answer<Running>,
) {
    let (exec, stdin, mode) = told(request);
    let ask = Ask::Exec { id: carrier.id, exec: Box::new(exec) };
    let begun = async {
        let (mut reader, writer) = carrier.remote.open(&ask).await?;
        match reader.say().await? {
            Say::Started { exec } => Ok((reader, writer, exec)),
            _ => Err(nonsense("no word of the command")),
        }
    };
    let begun = tokio::select! {
        biased;
        () = answer.closed() => return,
        begun = begun => begun,
    };
    drop(ask);
    let (mut reader, writer, exec) = match begun {
        Ok(begun) => begun,
        Err(error) => return drop(answer.send(Err(carrier.told(error).await))),
    };
    let kill = CancellationToken::new();
    let (exited_to, exited) = oneshot::channel();
    let (taken_to, taken) = mpsc::unbounded_channel();
    // one end of both
    let (producer, consumer) = delivery(1, taken_to);
    let (input, source) = match stdin {
        Stdin::Null => (None, None),
        Stdin::Bytes(bytes) => (None, Some(Box::new(std::io::Cursor::new(bytes)) as Source)),
        Stdin::Pipe => {
            let (ours, theirs): (DuplexStream, DuplexStream) = duplex(PIPE);
            (Some(Input(theirs)), Some(Box::new(ours) as Source))
        }
    };
    let output = Output { consumer, stderr: (mode == OutputMode::Separate).then_some(STDERR) };
    let control = Control { sandbox, exec };
    let running = Running::new(input, output, control, exited, kill.clone().drop_guard());
    if answer.send(Ok(running)).is_err() {
        return;
    }
    let mut feed = Feed { producer, taken, held: 0, carrier };
    let deaf = CancellationToken::new();
    let end = tokio::select! {
        biased;
        // the end of the connection kills it
        () = kill.cancelled() => return,
        end = printed(&mut feed, &mut reader, &deaf) => end,
        () = pour(writer, source, &deaf) => return,
    };
    let end = match end {
        Ok(exited) => Ok(exited),
        Err(error) => {
            let error = feed.carrier.told(error).await;
            if let Error::Gone(gone) = &error {
                feed.producer.fail(gone);
            }
            Err(error)
        }
    };
    let _ = exited_to.send(end);
}

/// Hands on what a command prints, and how it ended.
async fn printed(feed: &mut Feed, reader: &mut Reader, deaf: &CancellationToken) -> Result<Exited> {
    loop {
        match feed.frame(reader).await? {
            Frame::Output { stream, time, bytes } => {
                let stream = match stream {
                    Stream::Stdout => STDOUT,
                    Stream::Stderr => STDERR,
                };
                // times are one row for all who read, and not later than now
                let time = feed.carrier.clock.guest_row(u64::try_from(time).unwrap_or(0));
                feed.push(stream, time, bytes);
            }
            Frame::End => feed.producer.finish_one(),
            Frame::Message(json) => match parse(&json)? {
                Say::Exited { code, signal, timed_out, time } => {
                    let time = feed.carrier.clock.guest_row(u64::try_from(time).unwrap_or(0));
                    return Ok(Exited { code, signal, timed_out, time });
                }
                Say::Deaf => deaf.cancel(),
                Say::Failed(fault) => return Err(fault.into()),
                _ => return Err(nonsense("no word of the command")),
            },
            Frame::Bytes(_) => return Err(nonsense("bytes that belong to nothing")),
        }
    }
}

/// Sends all of `source` and then its end; never ends by itself, for it holds the connection.
async fn pour(mut writer: Writer, source: Option<Source>, deaf: &CancellationToken) {
    if let Some(source) = source {
        tokio::select! {
            // that the engine is gone is told by whoever reads
            _ = send(&mut writer, source) => {}
            () = deaf.cancelled() => {}
        }
    }
    std::future::pending::<()>().await;
}

/// Sends all of `source` and then its end. The inner error is that of `source`.
async fn send(writer: &mut Writer, mut source: Source) -> Result<(), std::io::Error> {
    let mut bytes = Vec::with_capacity(PIPE);
    loop {
        bytes.clear();
        if source.read_buf(&mut bytes).await? == 0 {
            let _ = writer.end().await;
            return Ok(());
        }
        if writer.bytes(&bytes).await.is_err() {
            // why is told by whoever reads
            return Ok(());
        }
    }
}

pub(super) async fn copy_in(mut carrier: Carrier, ask: Ask, source: Source, mut answer: Answer<Copied>) {
    let copied = async {
        let (mut reader, mut writer) = carrier.remote.open(&ask).await?;
        let said = async {
            match reader.say().await? {
                Say::Copied(copied) => Ok(copied),
                _ => Err(nonsense("no word of the copy")),
            }
        };
        tokio::pin!(said);
        tokio::select! {
            // before the end: an error, or a guest that does not care for the rest
            said = &mut said => return said,
            sent = send(&mut writer, source) => sent.map_err(Error::CopySource)?,
        }
        said.await
    };
    let copied = tokio::select! {
        biased;
        () = answer.closed() => return,
        copied = copied => copied,
    };
    let result = match copied {
        Ok(copied) => Ok(copied),
        Err(error) => Err(carrier.told(error).await),
    };
    let _ = answer.send(result);
}

pub(super) async fn copy_out(mut carrier: Carrier, path: String, mut answer: Answer<CopyOut>) {
    let ask = Ask::CopyOut { id: carrier.id, path };
    let begun = async {
        let (mut reader, writer) = carrier.remote.open(&ask).await?;
        match reader.say().await? {
            Say::Done => Ok((reader, writer)),
            _ => Err(nonsense("no word of the copy")),
        }
    };
    let begun = tokio::select! {
        biased;
        () = answer.closed() => return,
        begun = begun => begun,
    };
    let (mut reader, _writer) = match begun {
        Ok(begun) => begun,
        Err(error) => return drop(answer.send(Err(carrier.told(error).await))),
    };
    let (taken_to, taken) = mpsc::unbounded_channel();
    let (producer, consumer) = delivery(1, taken_to);
    let (verdict_to, verdict) = oneshot::channel();
    let dropped = CancellationToken::new();
    let copy = CopyOut::new(consumer, verdict, dropped.clone().drop_guard());
    if answer.send(Ok(copy)).is_err() {
        return;
    }
    let mut feed = Feed { producer, taken, held: 0, carrier };
    let end = tokio::select! {
        biased;
        () = dropped.cancelled() => return,
        end = unpacked(&mut feed, &mut reader) => end,
    };
    let end = match end {
        Ok(copied) => Ok(copied),
        Err(error) => Err(feed.carrier.told(error).await),
    };
    // after the last byte, the verdict
    feed.producer.finish_one();
    let _ = verdict_to.send(end);
}

/// Hands on a tree, and what came of it.
async fn unpacked(feed: &mut Feed, reader: &mut Reader) -> Result<Copied> {
    loop {
        match feed.frame(reader).await? {
            Frame::Bytes(bytes) => feed.push(STDOUT, Timestamp::UNIX_EPOCH, bytes),
            Frame::Message(json) => match parse(&json)? {
                Say::Copied(copied) => return Ok(copied),
                Say::Failed(fault) => return Err(fault.into()),
                _ => return Err(nonsense("no word of the copy")),
            },
            other => return Err(nonsense(format!("{other:?} in a tree"))),
        }
    }
}
