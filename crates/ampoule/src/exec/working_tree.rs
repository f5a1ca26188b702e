//! The user's working tree as `job` wants it: a tar stream for each checkout.
//!
//! Owner: all jobs of a run share one; each stream is made by a thread of its own, which ends when its reader
//! is gone.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
};

use job::{Archive, TreeError, Wanted, WorkingTree};

use crate::worktree::WorkTree;

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
            let (tree, left_out) = (Arc::clone(&self.tree), Arc::clone(&self.left_out));
            Ok(job::packed(move |out| {
                let packed = tree.write_tar(out).map_err(io::Error::other)?;
                *left_out.lock().unwrap_or_else(PoisonError::into_inner) = packed.left_out;
                Ok(())
            }))
        })
    }

    fn left_out(&self) -> Vec<String> {
        self.left_out.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
