//! The root images as snapshots: what the binary tells the controller about them.
//!
//! Owner: the binary fills [`Images`] with closures over its store; the controller knows no store. They may
//! block: the controller calls them on threads for that.

use std::{fmt, path::PathBuf, str::FromStr, sync::Arc};

use jiff::Timestamp;
use sandbox::Root;
use tokio::task::spawn_blocking;

/// Name of a snapshot: 1 to 64 letters, digits, `_`, `-` and `.`, and the first is no `.`: every name of an image
/// is one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tag(String);

/// A text that is no tag.
#[derive(Debug, thiserror::Error)]
#[error("a tag has 1 to 64 letters, digits, `_`, `-` and `.`, and does not begin with `.`")]
pub struct InvalidTag;

impl Tag {
    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Tag {
    type Err = InvalidTag;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let of_tags = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let good = (1..=64).contains(&text.len()) && !text.starts_with('.') && text.bytes().all(of_tags);
        if good { Ok(Self(text.to_owned())) } else { Err(InvalidTag) }
    }
}

impl fmt::Display for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A root image as clients see it.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// Name of the image.
    pub tag: Tag,
    /// Where its root is.
    pub dir: PathBuf,
    /// When it was made.
    pub created: Timestamp,
    /// Bytes of its root.
    pub root_bytes: u64,
    /// Who else needs it: why it is not deleted without force.
    pub needed_by: Option<&'static str>,
}

/// What of an image boots.
#[derive(Clone, Debug)]
pub struct Boots {
    /// Linux kernel.
    pub kernel: PathBuf,
    /// Initramfs with the agent as `/init`.
    pub initramfs: PathBuf,
    /// What the guest has as `/`.
    pub root: Root,
}

/// Why images cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ImagesError {
    /// The backend boots no image, so there is none to remove.
    #[error("this snapshot cannot be deleted: {0}")]
    Fixed(&'static str),
    /// The store, or an image in it, cannot be used.
    #[error("the images cannot be used")]
    Store(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A task of ours ended without an answer.
    #[error("a task of the controller ended without an answer")]
    Lost,
}

type Call<A, T> = Arc<dyn Fn(A) -> Result<T, ImagesError> + Send + Sync>;

/// What the binary tells about images. Each function may block.
#[derive(Clone)]
pub struct Images {
    list: Call<(), Vec<Snapshot>>,
    boots: Call<Tag, Option<Boots>>,
    remove: Call<Tag, bool>,
}

impl fmt::Debug for Images {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Images")
    }
}

impl Images {
    /// `list` gives all images, sorted by name; `boots` what of one boots, `None` where there is no such image;
    /// `remove` removes one, `false` where there is none.
    #[must_use]
    pub fn new(
        list: impl Fn() -> Result<Vec<Snapshot>, ImagesError> + Send + Sync + 'static,
        boots: impl Fn(&Tag) -> Result<Option<Boots>, ImagesError> + Send + Sync + 'static,
        remove: impl Fn(&Tag) -> Result<bool, ImagesError> + Send + Sync + 'static,
    ) -> Self {
        Self {
            list: Arc::new(move |()| list()),
            boots: Arc::new(move |tag| boots(&tag)),
            remove: Arc::new(move |tag| remove(&tag)),
        }
    }

    pub(crate) async fn list(&self) -> Result<Vec<Snapshot>, ImagesError> {
        call(&self.list, ()).await
    }

    pub(crate) async fn boots(&self, tag: Tag) -> Result<Option<Boots>, ImagesError> {
        call(&self.boots, tag).await
    }

    pub(crate) async fn remove(&self, tag: Tag) -> Result<bool, ImagesError> {
        call(&self.remove, tag).await
    }
}

async fn call<A: Send + 'static, T: Send + 'static>(of: &Call<A, T>, with: A) -> Result<T, ImagesError> {
    let of = Arc::clone(of);
    spawn_blocking(move || of(with)).await.unwrap_or(Err(ImagesError::Lost))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_are_names_and_never_paths() {
        for good in ["a", "pyagent", "branch-sb-1_2", "debian.13", &"x".repeat(64)] {
            assert_eq!(good.parse::<Tag>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", ".a", "a/b", "a b", "ä", &"x".repeat(65)] {
            assert!(bad.parse::<Tag>().is_err(), "{bad}");
        }
    }
}
