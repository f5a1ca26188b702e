//! The user's working tree as `job` wants it: a tar stream for each checkout.
//!
//! Owner: all jobs of a run share one; each stream is made by a thread of its own, which ends when its reader
//! is gone.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use job::{Archive, TreeError, Wanted, WorkingTree};
use tokio::io::AsyncWrite;
use tokio_util::io::SyncIoBridge;

use crate::worktree::WorkTree;

/// Bytes of a stream under way.
const PIPE: usize = 256 << 10;

/// A [`WorkTree`] that jobs can read.
pub(super) struct LocalTree {
    tree: Arc<WorkTree>,
    /// Names of what is checked out.
    names: Vec<String>,
    /// What the last archive that was packed whole left out.
    left_out: Arc<Mutex<Vec<String>>>,
}

impl LocalTree {
    /// Asks once what is checked out.
    pub(super) fn new(tree: Arc<WorkTree>) -> Self {
        let mut names: Vec<String> = vec!["HEAD".to_owned()];
        names.extend(tree.head_sha());
        if let Some(head) = tree.head_ref() {
            names.extend(head.strip_prefix("refs/heads/").map(str::to_owned));
            names.push(head);
        }
        Self { tree, names, left_out: Arc::default() }
    }
}

impl WorkingTree for LocalTree {
    fn describe(&self) -> String {
        format!("the working tree of {}", self.tree.root().display())
    }

    fn archive<'a>(
        &'a self,
        wanted: &'a Wanted,
    ) -> std::pin::Pin<Box<dyn Future<Output = Result<Archive, TreeError>> + Send + 'a>> {
        Box::pin(async move {
            if let Some(reference) = wanted.reference.as_deref().filter(|name| !name.is_empty())
                && !self.names.iter().any(|name| name == reference)
            {
                return Err(TreeError::NotThere(format!(
                    "`ref: {reference}` is not what is checked out here ({}); a local run has the working tree only",
                    self.names.last().map_or("HEAD", String::as_str)
                )));
            }
            let (reader, writer) = tokio::io::duplex(PIPE);
            let tree = Arc::clone(&self.tree);
            let left_out = Arc::clone(&self.left_out);
            let packing = tokio::task::spawn_blocking(move || pack(&tree, writer, &left_out));
            Ok(Box::new(Checked { reader, packing: Some(packing) }) as Archive)
        })
    }

    fn left_out(&self) -> Vec<String> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn pack(
    tree: &WorkTree,
    writer: impl AsyncWrite + Unpin,
    left_out: &Mutex<Vec<String>>,
) -> Result<(), crate::worktree::Error> {
    let mut out = io::BufWriter::with_capacity(64 << 10, SyncIoBridge::new(writer));
    let packed = tree.write_tar(&mut out)?;
    *left_out.lock().unwrap_or_else(PoisonError::into_inner) = packed.left_out;
    Ok(())
}

/// The stream; its end is an error if packing was one, so that half a tree is never taken for a whole one.
struct Checked {
    reader: tokio::io::DuplexStream,
    packing: Option<tokio::task::JoinHandle<Result<(), crate::worktree::Error>>>,
}

impl tokio::io::AsyncRead for Checked {
    fn poll_read(
        mut self: std::pin::Pin<&mut Self>,
        cx: &mut std::task::Context<'_>,
        buf: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<io::Result<()>> {
        use std::{future::Future, pin::Pin, task::Poll};
        let before = buf.filled().len();
        std::task::ready!(Pin::new(&mut self.reader).poll_read(cx, buf))?;
        if buf.filled().len() > before || buf.remaining() == 0 {
            return Poll::Ready(Ok(()));
        }
        let Some(packing) = &mut self.packing else { return Poll::Ready(Ok(())) };
        let result = std::task::ready!(Pin::new(packing).poll(cx));
        self.packing = None;
        Poll::Ready(match result {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(io::Error::other(error)),
            Err(error) => Err(io::Error::other(error)),
        })
    }
}
