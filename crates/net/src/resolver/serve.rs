//! The service `dns`: messages as DNS has them over TCP, each behind its length, answered in any order.
//!
//! Invariants
//! - At most so many questions of a stream are worked on, and as many answers wait for it; then nothing more is read,
//!   so that a guest that does not take its answers waits for itself.
//! - The end of the stream's reading half ends it after its last answer; whoever drops the future drops all of them.

use std::io;

use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    sync::mpsc,
    task::JoinSet,
};

use super::Resolver;

/// Most questions of a stream at once.
const MAX_AT_ONCE: usize = 64;

/// Answers a guest's questions until its stream ends.
pub async fn serve_names(resolver: Resolver, stream: impl AsyncRead + AsyncWrite) -> io::Result<()> {
    let (mut from, mut to) = tokio::io::split(stream);
    let (answers, mut ready) = mpsc::channel::<Vec<u8>>(MAX_AT_ONCE);
    let reader = async move {
        let mut working = JoinSet::new();
        loop {
            while working.len() >= MAX_AT_ONCE || working.try_join_next().is_some() {
                if working.len() >= MAX_AT_ONCE {
                    working.join_next().await;
                }
            }
            let length = match from.read_u16().await {
                Ok(length) => length,
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
                Err(error) => return Err(error),
            };
            let mut question = vec![0; usize::from(length)];
            from.read_exact(&mut question).await?;
            let (resolver, answers) = (resolver.clone(), answers.clone());
            working.spawn(async move {
                if let Some(answer) = resolver.answer(&question).await {
                    // a writer that is gone ends the reader as well
                    let _ = answers.send(answer).await;
                }
            });
        }
        while working.join_next().await.is_some() {}
        Ok(())
    };
    let writer = async move {
        while let Some(answer) = ready.recv().await {
            let Ok(length) = u16::try_from(answer.len()) else { continue };
            to.write_all(&[&length.to_be_bytes(), &answer[..]].concat()).await?;
            if ready.is_empty() {
                to.flush().await?;
            }
        }
        to.shutdown().await
    };
    tokio::try_join!(reader, writer).map(|_| ())
}
