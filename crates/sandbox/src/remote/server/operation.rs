//! A client's commands and copies.

use std::{num::NonZeroU16, time::Duration};

use jiff::Timestamp;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio_util::sync::CancellationToken;
use wire::message::{Account, Copied, Exec};

use crate::{
    Error, ExecRequest, Input, OutputMode, Result, Running, Sandbox, Stdin, TerminalSize,
    remote::{
        error::EngineError,
        frame::Frame,
        link::{Reader, Writer, nonsense},
        message::Say,
    },
};

/// Bytes of a tree that wait here.
const PIPE: usize = 128 << 10;
/// Bytes of output that are sent in one go, where so many are there.
const BURST: usize = 256 << 10;

/// A connection that is served.
pub(super) struct Serve<'a> {
    pub(super) reader: &'a mut Reader,
    pub(super) writer: &'a mut Writer,
}

impl Serve<'_> {
    /// What comes of `work`, if the client waits for it.
    pub(super) async fn wanted<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            biased;
            () = self.reader.closed() => Err(EngineError::Lost.into()),
            done = work => done,
        }
    }

    pub(super) async fn done(&mut self, work: impl Future<Output = Result<()>>) -> Result<Say> {
        self.wanted(work).await.map(|()| Say::Done)
    }
}

fn nanoseconds(time: Timestamp) -> i64 {
    i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX)
}

fn request(exec: Exec) -> Result<ExecRequest> {
    let Exec { exec: _, argv, env, cwd, user, stdin, stdout, stderr, timeout_ms, terminal } = exec;
    let output = match terminal {
        Some(size) => {
            let sizes = (NonZeroU16::new(size.rows), NonZeroU16::new(size.columns));
            let (Some(rows), Some(columns)) = sizes else {
                return Err(nonsense("a terminal without rows or columns"));
            };
            OutputMode::Terminal(TerminalSize { rows, columns })
        }
        None if stdout == stderr => OutputMode::Merged,
        None => OutputMode::Separate,
    };
    Ok(ExecRequest {
        argv,
        env,
        cwd,
        user,
        stdin: if stdin.is_some() { Stdin::Pipe } else { Stdin::Null },
        output,
        timeout: timeout_ms.map(Duration::from_millis),
    })
}

/// A command; when the client goes it is killed.
pub(super) async fn exec(sandbox: Sandbox, exec: Exec, mut serve: Serve<'_>) -> Result<()> {
    let mut running = serve.wanted(sandbox.exec(request(exec)?)).await?;
    drop(sandbox);
    let Serve { reader, writer } = serve;
    writer.message(&Say::Started { exec: running.id() }).await?;
    let deaf = CancellationToken::new();
    let input = running.stdin.take();
    tokio::select! {
        biased;
        went = heard(reader, input, &deaf) => went,
        done = printed(&mut running, writer, &deaf) => done,
    }
}

/// Hands on what the client sends, until it goes.
async fn heard(reader: &mut Reader, mut input: Option<Input>, deaf: &CancellationToken) -> Result<()> {
    loop {
        match reader.frame().await? {
            Some(Frame::Bytes(bytes)) => {
                let Some(to) = &mut input else { continue };
                let written = tokio::select! {
                    written = to.write_all(&bytes) => written,
                    () = reader.hung_up() => return Ok(()),
                };
                if written.is_err() {
                    // whoever would read has enough
                    input = None;
                    deaf.cancel();
                }
            }
            Some(Frame::End) => input = None,
            Some(other) => return Err(nonsense(format!("{other:?} to a command"))),
            None => return Ok(()),
        }
    }
}

/// Sends what a command prints, and how it ended.
async fn printed(running: &mut Running, writer: &mut Writer, deaf: &CancellationToken) -> Result<()> {
    let mut told = false;
    loop {
        let chunk = tokio::select! {
            biased;
            () = deaf.cancelled(), if !told => {
                told = true;
                writer.message(&Say::Deaf).await?;
                continue;
            }
            chunk = running.output.next() => chunk?,
        };
        let Some(chunk) = chunk else { break };
        writer.put_output(chunk.stream, nanoseconds(chunk.time), &chunk.bytes);
        while writer.waiting() < BURST
            && let Some(chunk) = running.output.at_hand()
        {
            writer.put_output(chunk.stream, nanoseconds(chunk.time), &chunk.bytes);
        }
        if writer.flush().await.is_err() {
            return Ok(());
        }
    }
    if writer.end().await.is_err() {
        return Ok(());
    }
    let exited = running.exit().await?;
    let said = Say::Exited {
        code: exited.code,
        signal: exited.signal,
        timed_out: exited.timed_out,
        time: nanoseconds(exited.time),
    };
    writer.message(&said).await
}

/// A tree on its way into the guest.
pub(super) async fn copy_in(sandbox: Sandbox, dest: String, owner: Account, serve: Serve<'_>) -> Result<()> {
    let Serve { reader, writer } = serve;
    let (mut ours, theirs) = duplex(PIPE);
    let copied = {
        let copy = sandbox.copy_in(dest, owner, theirs);
        tokio::pin!(copy);
        let whole = async {
            loop {
                match reader.frame().await? {
                    Some(Frame::Bytes(bytes)) => {
                        let gone = tokio::select! {
                            // one that wants no more says why
                            written = ours.write_all(&bytes) => written.is_err(),
                            () = reader.hung_up() => return Err(EngineError::Lost.into()),
                        };
                        if gone {
                            std::future::pending::<()>().await;
                        }
                    }
                    Some(Frame::End) => return Ok::<(), Error>(()),
                    Some(other) => return Err(nonsense(format!("{other:?} in a tree"))),
                    None => return Err(EngineError::Lost.into()),
                }
            }
        };
        let early = tokio::select! {
            copied = &mut copy => Some(copied),
            whole = whole => {
                whole?;
                None
            }
        };
        match early {
            Some(copied) => copied,
            None => {
                drop(ours);
                tokio::select! {
                    copied = &mut copy => copied,
                    () = reader.closed() => return Ok(()),
                }
            }
        }
    };
    writer.message(&Say::Copied(copied?)).await
}

/// A tree on its way out of the guest.
pub(super) async fn copy_out(sandbox: Sandbox, path: String, mut serve: Serve<'_>) -> Result<()> {
    let mut copy = serve.wanted(sandbox.copy_out(path)).await?;
    drop(sandbox);
    let Serve { reader, writer } = serve;
    writer.message(&Say::Done).await?;
    let sent = async {
        let mut bytes = Vec::with_capacity(PIPE);
        loop {
            bytes.clear();
            match copy.read_buf(&mut bytes).await {
                Ok(0) => return writer.message(&Say::Copied(Copied { entries: 0, bytes: 0 })).await,
                Ok(_) if writer.bytes(&bytes).await.is_err() => return Ok(()),
                Ok(_) => {}
                Err(error) => return Err(of_stream(error)),
            }
        }
    };
    tokio::select! {
        biased;
        () = reader.closed() => Ok(()),
        sent = sent => sent,
    }
}

/// The error that a tree's stream ends with.
fn of_stream(error: std::io::Error) -> Error {
    match error.downcast::<Error>() {
        Ok(error) => error,
        Err(error) => Error::CopySource(error),
    }
}
