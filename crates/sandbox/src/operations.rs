//! What commands become: one future each, in the JoinSet of the owner task.
//!
//! Invariant: an operation ends by itself when nobody waits for its answer any more, and then leaves nothing
//! running in the guest.

use tokio::{
    io::{AsyncRead, AsyncReadExt, DuplexStream, duplex},
    sync::oneshot,
};
use tokio_util::sync::CancellationToken;
use wire::{
    Code, StreamId,
    message::{self, Account, Answer as Reply, Body, Copied},
};

use crate::{
    Control, CopyOut, Error, ExecRequest, Input, Output, OutputMode, Result, Running, Sandbox, Stdin,
    command::{Answer, Command, Source},
    connection::{BegunCopyIn, BegunExec, Connection},
};

/// Bytes of input that wait here while the guest does not read.
const PIPE: usize = 64 << 10;

/// Carries out `command`. `token` ends when the VM does.
pub(crate) async fn carry_out(
    command: Command,
    connection: Connection,
    sandbox: Sandbox,
    token: CancellationToken,
) {
    match command {
        Command::Exec { request, answer } => exec(&connection, sandbox, request, answer, &token).await,
        Command::Signal { exec, signal, answer } => {
            let body = Body::Signal(message::Signal { exec, signal });
            let _ = answer.send(connection.request(body).await.map(drop));
        }
        Command::Kill { exec, answer } => {
            let body = Body::Kill(message::Kill { exec });
            let _ = answer.send(connection.request(body).await.map(drop));
        }
        Command::Resize { exec, size, answer } => {
            let message::TerminalSize { rows, columns } = size.into();
            let body = Body::Resize(message::Resize { exec, rows, columns });
            let _ = answer.send(connection.request(body).await.map(drop));
        }
        Command::CopyIn { dest, owner, source, answer } => {
            copy_in(&connection, dest, owner, source, answer).await;
        }
        Command::CopyOut { path, answer } => copy_out(&connection, path, answer, &token).await,
        // its owner task's: they take what only that has
        Command::Refused { answer } => drop(answer.send(Err(Error::Lost))),
        Command::Branch { answer } => drop(answer.send(Err(Error::Lost))),
        Command::Keep { answer, .. } => drop(answer.send(Err(Error::Lost))),
        Command::Ping { answer } => {
            let _ = answer.send(connection.request(Body::Ping).await.map(drop));
        }
    }
}

/// The answer to a request, when it comes.
async fn reply(from: oneshot::Receiver<Result<Reply>>) -> Result<Reply> {
    from.await.unwrap_or(Err(Error::Lost))
}

async fn exec(
    connection: &Connection,
    sandbox: Sandbox,
    mut request: ExecRequest,
    answer: Answer<Running>,
    token: &CancellationToken,
) {
    let stdin = std::mem::replace(&mut request.stdin, Stdin::Null);
    // Its contents are ours to send; the connection only needs to know whether there are any.
    request.stdin = match &stdin {
        Stdin::Null => Stdin::Null,
        Stdin::Bytes(_) | Stdin::Pipe => Stdin::Pipe,
    };
    let with_terminal = matches!(request.output, OutputMode::Terminal(_));
    let BegunExec { exec, stdin: stream, stderr, output, reply: started, mut exited } =
        match connection.exec(request).await {
            Ok(begun) => begun,
            Err(error) => return drop(answer.send(Err(error))),
        };
    match reply(started).await {
        Ok(Reply::Started(started)) if with_terminal && !started.terminal => {
            // It runs, and without a terminal is not what was wanted.
            let _ = connection.request(Body::Kill(message::Kill { exec })).await;
            if let Some(stream) = stream {
                connection.reset(stream, Code::CANCELLED).await;
            }
            return drop(answer.send(Err(no_terminals())));
        }
        Ok(_) => {}
        Err(error) => return drop(answer.send(Err(error))),
    }
    let kill = token.child_token();
    let (exited_to, exited_from) = oneshot::channel();
    let (input, source) = match stdin {
        Stdin::Null => (None, None),
        Stdin::Bytes(bytes) => (None, Some(Box::new(std::io::Cursor::new(bytes)) as Source)),
        Stdin::Pipe => {
            let (ours, theirs): (DuplexStream, DuplexStream) = duplex(PIPE);
            (Some(Input(theirs)), Some(Box::new(ours) as Source))
        }
    };
    let control = Control { sandbox, exec };
    let output = Output { consumer: output, stderr };
    let running = Running::new(input, output, control, exited_from, kill.clone().drop_guard());
    // When the caller is gone the value comes back and is dropped, which kills the command.
    let _ = answer.send(Ok(running));

    let feed = async {
        if let (Some(stream), Some(source)) = (stream, source) {
            // A source of ours does not fail; that the guest reads no more is its affair.
            let _ = pour(connection, stream, source).await;
        }
    };
    tokio::pin!(feed);
    let (mut fed, mut killed) = (false, false);
    let end = loop {
        tokio::select! {
            end = &mut exited => break end.unwrap_or(Err(Error::Lost)),
            () = &mut feed, if !fed => fed = true,
            () = kill.cancelled(), if !killed => {
                killed = true;
                let _ = connection.request(Body::Kill(message::Kill { exec })).await;
            }
        }
    };
    if let (Some(stream), false) = (stream, fed) {
        connection.reset(stream, Code::CANCELLED).await;
    }
    let _ = exited_to.send(end);
}

/// The guest is older than terminals are: a saved one may be.
fn no_terminals() -> Error {
    Error::Guest {
        kind: message::FailureKind::Invalid,
        message: "the agent of this VM is of a version that has no terminals".to_owned(),
    }
}

/// Sends all of `source` and then the end of the stream.
async fn pour(
    connection: &Connection,
    stream: StreamId,
    mut source: impl AsyncRead + Unpin,
) -> std::io::Result<()> {
    loop {
        let mut bytes = Vec::with_capacity(PIPE);
        if source.read_buf(&mut bytes).await? == 0 {
            connection.finish(stream).await;
            return Ok(());
        }
        if !connection.send(stream, bytes).await {
            // Whoever reads there has enough; why is told by the answer to the request.
            return Ok(());
        }
    }
}

async fn copy_in(
    connection: &Connection,
    dest: String,
    owner: Account,
    source: Source,
    mut answer: Answer<Copied>,
) {
    let BegunCopyIn { stream, reply: from } = match connection.copy_in(dest, owner).await {
        Ok(begun) => begun,
        Err(error) => return drop(answer.send(Err(error))),
    };
    let from = reply(from);
    tokio::pin!(from);
    let poured = {
        let pour = pour(connection, stream, source);
        tokio::pin!(pour);
        tokio::select! {
            poured = &mut pour => Some(poured),
            () = answer.closed() => None,
            // Before the end of the stream: an error, or a guest that does not care for the rest.
            early = &mut from => {
                connection.reset(stream, Code::CANCELLED).await;
                return drop(answer.send(early.and_then(copied)));
            }
        }
    };
    match poured {
        Some(Ok(())) => {}
        Some(Err(error)) => {
            connection.reset(stream, Code::FAILED).await;
            return drop(answer.send(Err(Error::CopySource(error))));
        }
        None => return connection.reset(stream, Code::CANCELLED).await,
    }
    let result = from.await.and_then(copied);
    let _ = answer.send(result);
}

async fn copy_out(connection: &Connection, path: String, answer: Answer<CopyOut>, token: &CancellationToken) {
    let begun = match connection.copy_out(path).await {
        Ok(begun) => begun,
        Err(error) => return drop(answer.send(Err(error))),
    };
    let dropped = token.child_token();
    let (verdict_to, verdict) = oneshot::channel();
    let copy = CopyOut::new(begun.content, verdict, dropped.clone().drop_guard());
    let _ = answer.send(Ok(copy));
    tokio::select! {
        result = reply(begun.reply) => drop(verdict_to.send(result.and_then(copied))),
        () = dropped.cancelled() => connection.reset(begun.stream, Code::CANCELLED).await,
    }
}

fn copied(reply: Reply) -> Result<Copied> {
    match reply {
        Reply::Copied(copied) => Ok(copied),
        // The guest answered another question: it is confused, but this hurts nobody else.
        _ => Err(Error::Guest {
            kind: message::FailureKind::Invalid,
            message: "the agent gave another answer than to a copy".to_owned(),
        }),
    }
}
