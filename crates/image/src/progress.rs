//! What a build is doing, for whoever shows it.

/// One stage of a build, in the order in which they come. Some are skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Another process builds the same recipe; this one waits for it.
    Waiting,
    /// Node is fetched.
    Node,
    /// The lists of packages are fetched and checked.
    Index,
    /// The packages without which no other can be installed.
    Essential,
    /// All other packages.
    Packages,
    /// Kernel, node and user are put in place.
    Customize,
    /// The tree becomes an image.
    Pack,
    /// The image goes into the store.
    Store,
}

impl Phase {
    /// What it does, in a few words for a person.
    #[must_use]
    pub fn describe(self) -> &'static str {
        match self {
            Phase::Waiting => "waiting for another build of this image",
            Phase::Node => "fetching node",
            Phase::Index => "fetching the package lists",
            Phase::Essential => "installing essential packages",
            Phase::Packages => "installing packages",
            Phase::Customize => "adding kernel and node",
            Phase::Pack => "packing the image",
            Phase::Store => "storing the image",
        }
    }
}

/// Hears how a build goes on. Calls come from one task at a time and should return at once.
pub trait Progress: Send + Sync {
    /// A phase begins; the one before is over.
    fn phase(&self, phase: Phase);

    /// Of the current phase, `done` of `total` steps are done. A package is two steps: fetched, installed.
    fn steps(&self, done: u64, total: u64);
}

/// Shows nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Progress for Silent {
    fn phase(&self, _: Phase) {}
    fn steps(&self, _: u64, _: u64) {}
}
