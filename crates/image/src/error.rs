//! What can go wrong with images.

use std::{io, path::PathBuf};

use crate::Requirement;

/// Result of this crate's calls.
pub type Result<T> = std::result::Result<T, Error>;

/// Why there is no image. A failed build has left nothing behind.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The recipe is not one; it says where and why.
    #[error("not a recipe")]
    Recipe(#[source] doc::Error),
    /// The recipe's file cannot be read.
    #[error("could not read the recipe {}", path.display())]
    RecipeFile {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// No image has this name.
    #[error("there is no image {name:?}{}", list(known))]
    Unknown {
        /// The name that was asked for.
        name: String,
        /// The images that are there.
        known: Vec<String>,
    },
    /// An image's manifest is not one, or of another version of this program.
    #[error("the image {name:?} was not written by this version; build it again")]
    Manifest {
        /// The image.
        name: String,
    },
    /// A build needs programs that the host does not have.
    #[error("the image build needs {}; install with: {}", programs(missing), install(missing))]
    Missing {
        /// What is missing.
        missing: Vec<Requirement>,
    },
    /// Images are built for x86_64 on x86_64 only.
    #[error("images are built on x86_64 only, this machine is {0}")]
    Architecture(&'static str),
    /// The build cannot have namespaces of its own.
    #[error("this user cannot have the namespaces that an image build needs ({said}); {mend}")]
    Namespaces {
        /// What the attempt said.
        said: String,
        /// What to do about it.
        mend: String,
    },
    /// Node could not be fetched.
    #[error("could not fetch node; pip said:\n{log}")]
    Node {
        /// The last lines of pip.
        log: String,
    },
    /// mmdebstrap failed.
    #[error("could not install the packages{}; mmdebstrap said:\n{log}", hint.map(|hint| format!(" ({hint})")).unwrap_or_default())]
    Packages {
        /// The last lines of its output.
        log: String,
        /// What is probably the matter.
        hint: Option<&'static str>,
    },
    /// The tree could not be packed.
    #[error("could not pack the image; mksquashfs said:\n{log}")]
    Pack {
        /// The last lines of its output.
        log: String,
    },
    /// The build gave something that an image cannot be made of.
    #[error("the build gave no usable {what}")]
    Incomplete {
        /// What is missing or too large.
        what: &'static str,
    },
    /// There is not enough room for the build's files.
    #[error("no space left on the disk of {}: a build needs about 2 GiB", at.display())]
    Full {
        /// Where it was building.
        at: PathBuf,
    },
    /// The caller cancelled it.
    #[error("the image build was cancelled")]
    Cancelled,
    /// The store failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// Another failure of the system.
    #[error("could not {doing}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// What the system said.
        source: io::Error,
    },
}

pub(crate) trait Doing<T> {
    fn doing(self, doing: &'static str) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, doing: &'static str) -> Result<T> {
        self.map_err(|source| Error::Io { doing, source })
    }
}

fn list(known: &[String]) -> String {
    if known.is_empty() {
        "; there are none yet".to_owned()
    } else {
        format!("; there are: {}", known.join(", "))
    }
}

fn programs(missing: &[Requirement]) -> String {
    missing.iter().map(|requirement| requirement.needs).collect::<Vec<_>>().join(", ")
}

fn install(missing: &[Requirement]) -> String {
    let mut packages: Vec<&str> = missing.iter().map(|requirement| requirement.package).collect();
    packages.sort_unstable();
    packages.dedup();
    format!("apt-get install --no-install-recommends {}", packages.join(" "))
}
