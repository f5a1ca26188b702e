//! The repository's files on their way into the workspace.
//!
//! Purpose: the tree that is there before the first step, and checkout steps that are satisfied from it.
//! Owner: the job's task.

use workflow::checkout::{Checkout, Clean};

use crate::{
    Wanted,
    guest::{Fault, Guest, USER},
    steps::Steps,
};

/// What the workspace holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TreeState {
    /// Nothing.
    Empty,
    /// The tree as it was delivered.
    Fresh,
    /// What steps made of it.
    Used,
}

impl TreeState {
    /// A step runs, and may change whatever it wants.
    pub(crate) fn used(&mut self) {
        *self = Self::Used;
    }
}

/// Most rows about what a tree left out.
const MAX_LEFT_OUT: usize = 10;

impl Steps<'_> {
    /// Puts the tree into the workspace before the first step.
    pub(crate) async fn fill(&mut self, guest: &Guest) -> Result<(), Fault> {
        let text = self.bring(guest, guest.workspace().to_owned(), &Wanted::default()).await?;
        self.tree = TreeState::Fresh;
        self.log.say(None, &text).await;
        Ok(())
    }

    /// Runs a checkout step.
    pub(crate) async fn checkout(
        &mut self,
        guest: &Guest,
        step: usize,
        wanted: &Checkout,
    ) -> Result<(), Fault> {
        let Checkout { path, reference, clean } = wanted;
        let dest = if path.is_empty() { guest.workspace().to_owned() } else { guest.path(path) };
        let text = if path.is_empty() && self.tree == TreeState::Fresh && reference.is_none() {
            format!("{} is already in {}", self.context.tree.describe(), guest.seen(&dest))
        } else {
            if *clean == Clean::Yes {
                self.clear(guest, path).await?;
            }
            let text = self.bring(guest, dest, &Wanted { reference: reference.clone() }).await?;
            if path.is_empty() && self.tree == TreeState::Empty {
                self.tree = TreeState::Fresh;
            }
            text
        };
        self.log.say(Some(step), &text).await;
        Ok(())
    }

    /// Removes what is there. A directory of the tree itself stays where it is when it is the workspace.
    async fn clear(&self, guest: &Guest, path: &str) -> Result<(), Fault> {
        if !path.is_empty() {
            // The name was checked to be below the workspace; what it is now, the guest may decide.
            guest.ask(&["rm", "-rf", "--", path], Vec::new(), 1 << 16).await?;
        } else if self.tree != TreeState::Empty {
            guest.ask(&["find", ".", "-mindepth", "1", "-delete"], Vec::new(), 1 << 16).await?;
        }
        Ok(())
    }

    /// Copies the tree in; the text that says so.
    async fn bring(&self, guest: &Guest, dest: String, wanted: &Wanted) -> Result<String, Fault> {
        let tree = &self.context.tree;
        let archive = tree.archive(wanted).await?;
        let seen = guest.seen(&dest);
        let copied = guest.sandbox.copy_in(dest, USER, archive).await?;
        let (described, entries, bytes) = (tree.describe(), copied.entries, copied.bytes);
        let mut text = format!("{described}: {entries} entries, {bytes} bytes, in {seen}");
        let left_out = tree.left_out();
        for what in left_out.iter().take(MAX_LEFT_OUT) {
            // A name may hold anything.
            let what: String = what.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
            text.push_str("\n##[warning]left out: ");
            text.push_str(&what);
        }
        if let Some(more) = left_out.len().checked_sub(MAX_LEFT_OUT).filter(|more| *more > 0) {
            text.push_str(&format!("\n##[warning]left out: {more} more that are no files"));
        }
        Ok(text)
    }
}
