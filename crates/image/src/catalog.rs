//! The images of a store: what is known about each, and where its parts are.

use std::{collections::BTreeSet, fmt, path::PathBuf, time::Duration};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use store::{Digest, PinName, Store};

use crate::{Error, Recipe, Result, build::builder, recipe::is_image_name};

/// An image that is older gets a warning: its packages have missed security updates.
pub const MAX_AGE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A package of an image, as it was resolved when the image was built.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Package {
    /// Its name.
    pub name: String,
    /// Its version.
    pub version: String,
    /// `amd64` or `all`.
    pub architecture: String,
}

/// An image: a root, its kernel, and the modules that mount it.
#[derive(Clone, Debug)]
pub struct Image {
    /// Its name.
    pub name: String,
    /// Digest of its inputs: the recipe, every resolved version, and how this version builds.
    pub id: Digest,
    /// When its versions were resolved.
    pub created: Timestamp,
    /// The Debian release.
    pub suite: String,
    /// The user that steps run as; its number is [`crate::USER_ID`].
    pub user: String,
    /// As `uname -r` says.
    pub kernel_release: String,
    /// The kernel: an ELF `vmlinux` where the package's could be unpacked, else the bzImage itself.
    pub kernel: PathBuf,
    /// A cpio of the modules that the agent loads, and their order.
    pub modules: PathBuf,
    /// The root, a squashfs.
    pub root: PathBuf,
    /// Digest of the root's file.
    pub root_digest: Digest,
    /// Size of the root's file in bytes.
    pub root_bytes: u64,
    /// Every package with its version, sorted; the kernel's is among them.
    pub packages: Vec<Package>,
    /// Version of node, where the image has it.
    pub node: Option<String>,
    /// Digest of the recipe.
    pub recipe: Digest,
    pub(crate) modules_digest: Digest,
    builder: Digest,
    contents: Digest,
}

/// An image is old.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgeWarning {
    name: String,
    days: i64,
}

impl fmt::Display for AgeWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let AgeWarning { name, days } = self;
        write!(f, "the image {name:?} is {days} days old and has missed security updates; ")?;
        write!(f, "make a new one with: ampoule image build")?;
        if name == "standard" { Ok(()) } else { write!(f, " <its recipe>") }
    }
}

impl Image {
    /// What to tell the user of an image that is older than [`MAX_AGE`].
    #[must_use]
    pub fn age_warning(&self) -> Option<AgeWarning> {
        self.age_warning_at(Timestamp::now())
    }

    fn age_warning_at(&self, now: Timestamp) -> Option<AgeWarning> {
        let age = now.duration_since(self.created);
        let days = age.as_secs() / (24 * 60 * 60);
        (age.as_secs() > 0 && age.unsigned_abs() > MAX_AGE)
            .then(|| AgeWarning { name: self.name.clone(), days })
    }

    /// Whether it was built from this recipe as it is now, in the way that this version builds. Where its
    /// packages came from makes no difference: whatever the mirror, Debian signed them.
    #[must_use]
    pub fn is_of(&self, recipe: &Recipe) -> bool {
        self.contents == contents(&recipe.canonical()) && self.builder == builder()
    }
}

/// What is stored about an image; the first blob of its pin.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Manifest {
    pub(crate) format: u32,
    pub(crate) name: String,
    pub(crate) id: Digest,
    pub(crate) created: Timestamp,
    pub(crate) recipe: String,
    pub(crate) builder: Digest,
    pub(crate) suite: String,
    pub(crate) user: String,
    pub(crate) kernel_release: String,
    pub(crate) kernel: Digest,
    pub(crate) modules: Digest,
    pub(crate) root: Digest,
    pub(crate) root_bytes: u64,
    pub(crate) node: Option<String>,
    pub(crate) packages: Vec<Package>,
}

pub(crate) const FORMAT: u32 = 1;
const MANIFEST_LIMIT: u64 = 16 << 20;
const PREFIX: &str = "image-";

pub(crate) fn pin_name(name: &str) -> Option<PinName> {
    if is_image_name(name) { format!("{PREFIX}{name}").parse().ok() } else { None }
}

/// Digest of a canonical recipe without its mirrors.
fn contents(canonical: &str) -> Digest {
    let is_mirror = |line: &&str| line.starts_with("mirror ") || line.starts_with("security-mirror ");
    Digest::of(canonical.lines().filter(|line| !is_mirror(line)).collect::<Vec<_>>().join("\n"))
}

pub(crate) fn id_of(recipe: &Recipe, packages: &[Package]) -> Digest {
    let mut inputs = format!("builder {}\n{}", builder(), recipe.canonical());
    for Package { name, version, architecture } in packages {
        inputs.push_str(&format!("locked {name} {version} {architecture}\n"));
    }
    Digest::of(inputs)
}

pub(crate) fn save(manifest: &Manifest, store: &Store) -> Result<Image> {
    let bad = || Error::Manifest { name: manifest.name.clone() };
    let text = serde_json::to_vec_pretty(manifest).map_err(|_| bad())?;
    let digest = store.put(&text[..])?;
    let pin = pin_name(&manifest.name).ok_or_else(bad)?;
    store.pin(&pin, &[digest, manifest.root, manifest.kernel, manifest.modules])?;
    find(&manifest.name, store)?.ok_or_else(bad)
}

/// The image of this name, or `None`.
///
/// # Errors
/// When it was made by another version, or the store is damaged.
pub fn find(name: &str, store: &Store) -> Result<Option<Image>> {
    let Some(pin) = pin_name(name) else { return Ok(None) };
    let Some(digests) = store.pinned(&pin)? else { return Ok(None) };
    let bad = || Error::Manifest { name: name.to_owned() };
    let bytes = store.read(digests.first().ok_or_else(bad)?, MANIFEST_LIMIT)?;
    let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|_| bad())?;
    if manifest.format != FORMAT || manifest.name != name {
        return Err(bad());
    }
    let part = |digest: Digest| store.get(&digest).ok_or(store::Error::Missing { digest });
    Ok(Some(Image {
        id: manifest.id,
        created: manifest.created,
        suite: manifest.suite,
        user: manifest.user,
        kernel_release: manifest.kernel_release,
        kernel: part(manifest.kernel)?,
        modules: part(manifest.modules)?,
        root: part(manifest.root)?,
        root_digest: manifest.root,
        root_bytes: manifest.root_bytes,
        packages: manifest.packages,
        node: manifest.node,
        recipe: Digest::of(&manifest.recipe),
        modules_digest: manifest.modules,
        builder: manifest.builder,
        contents: contents(&manifest.recipe),
        name: manifest.name,
    }))
}

/// The image of this name, with the content of its root, kernel and modules checked.
///
/// # Errors
/// When there is none, or one of its blobs is damaged.
pub fn inspect(name: &str, store: &Store) -> Result<Image> {
    let image = find(name, store)?.ok_or_else(|| unknown(name, store))?;
    if let Some(digests) = pin_name(name).map(|pin| store.pinned(&pin)).transpose()?.flatten() {
        for digest in digests {
            store.verify(&digest)?;
        }
    }
    Ok(image)
}

/// All images, sorted by name. One that cannot be read is left out, and logged.
///
/// # Errors
/// When the store's pins cannot be read.
pub fn ls(store: &Store) -> Result<Vec<Image>> {
    let mut images = Vec::new();
    for name in names(store)? {
        match find(&name, store) {
            Ok(Some(image)) => images.push(image),
            Ok(None) => {}
            Err(error) => tracing::warn!(image = name, %error, "an image cannot be used"),
        }
    }
    Ok(images)
}

/// Removes an image and its blobs, as far as no other image shares them and they are not among `used`. A VM that runs
/// on it goes on.
///
/// # Errors
/// When there is none, or its files cannot be removed.
pub fn rm(name: &str, store: &Store, used: &BTreeSet<Digest>) -> Result<()> {
    let Some(pin) = pin_name(name) else { return Err(unknown(name, store)) };
    let digests = store.pinned(&pin)?.ok_or_else(|| unknown(name, store))?;
    store.unpin(&pin)?;
    for digest in digests.into_iter().filter(|digest| !used.contains(digest)) {
        match store.remove(&digest) {
            Ok(()) | Err(store::Error::Pinned { .. }) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn names(store: &Store) -> Result<Vec<String>> {
    let pins = store.pins()?;
    Ok(pins.iter().filter_map(|(pin, _)| Some(pin.as_str().strip_prefix(PREFIX)?.to_owned())).collect())
}

fn unknown(name: &str, store: &Store) -> Error {
    Error::Unknown { name: name.chars().take(100).collect(), known: names(store).unwrap_or_default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn new() -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        (dir, store)
    }

    fn manifest(name: &str, root: &str, store: &Store) -> Manifest {
        let recipe = Recipe { name: name.to_owned(), ..Recipe::standard().unwrap() };
        let package =
            Package { name: "bash".to_owned(), version: "5.2".to_owned(), architecture: "amd64".to_owned() };
        Manifest {
            format: FORMAT,
            name: name.to_owned(),
            id: id_of(&recipe, std::slice::from_ref(&package)),
            created: Timestamp::now(),
            recipe: recipe.canonical(),
            builder: builder(),
            suite: "trixie".to_owned(),
            user: "runner".to_owned(),
            kernel_release: "6.12".to_owned(),
            kernel: store.put(&b"kernel"[..]).unwrap(),
            modules: store.put(&b"modules"[..]).unwrap(),
            root: store.put(root.as_bytes()).unwrap(),
            root_bytes: 4,
            node: None,
            packages: vec![package],
        }
    }

    #[test]
    fn images_come_list_and_go() {
        let (_dir, store) = new();
        assert!(find("a", &store).unwrap().is_none() && ls(&store).unwrap().is_empty());
        let a = save(&manifest("a", "root of a", &store), &store).unwrap();
        let b = save(&manifest("b", "root of b", &store), &store).unwrap();
        assert_eq!(a.kernel, b.kernel);
        assert_eq!(
            ls(&store).unwrap().iter().map(|image| image.name.as_str()).collect::<Vec<_>>(),
            ["a", "b"]
        );
        assert!(inspect("a", &store).is_ok());
        store.gc(&store::GcPolicy::default()).unwrap();

        let none = BTreeSet::new();
        rm("a", &store, &none).unwrap();
        assert!(!a.root.exists());
        assert!(b.root.exists() && b.kernel.exists() && b.modules.exists());
        let error = rm("a", &store, &none).unwrap_err().to_string();
        assert_eq!(error, "there is no image \"a\"; there are: b");
        rm("b", &store, &[b.root_digest].into()).unwrap();
        assert!(ls(&store).unwrap().is_empty());
        assert!(b.root.exists() && !b.kernel.exists() && !b.modules.exists());
    }

    #[test]
    fn the_root_of_an_older_image_goes_unless_it_is_used() {
        let (_dir, store) = new();
        let older = save(&manifest("a", "older", &store), &store).unwrap();
        let newer = save(&manifest("a", "newer", &store), &store).unwrap();
        let let_go = |older: &Image, used: bool| crate::build::let_go(older, &newer, &store, &|_| used);
        let_go(&older, true);
        assert!(older.root.exists());
        let_go(&older, false);
        assert!(!older.root.exists());
        let_go(&newer, false);
        assert!(newer.root.exists());
    }

    #[test]
    fn a_name_that_is_a_path_names_nothing() {
        let (_dir, store) = new();
        for name in ["", ".", "..", "../x", "a/b", "A"] {
            assert!(find(name, &store).unwrap().is_none(), "{name}");
            assert!(matches!(rm(name, &store, &BTreeSet::new()), Err(Error::Unknown { .. })), "{name}");
        }
    }

    #[test]
    fn a_damaged_part_is_seen_by_inspect() {
        let (_dir, store) = new();
        let image = save(&manifest("a", "root", &store), &store).unwrap();
        std::fs::remove_file(&image.root).unwrap();
        std::fs::write(&image.root, "rood").unwrap();
        assert!(matches!(inspect("a", &store), Err(Error::Store(store::Error::Corrupt { .. }))));
    }

    #[test]
    fn an_image_knows_its_recipe_and_its_versions() {
        let (_dir, store) = new();
        let recipe = Recipe { name: "a".to_owned(), ..Recipe::standard().unwrap() };
        let one = manifest("a", "root", &store);
        assert!(save(&one, &store).unwrap().is_of(&recipe));
        assert!(!save(&one, &store).unwrap().is_of(&Recipe::standard().unwrap()));
        let mirrored = Recipe { mirror: Some("http://m".to_owned()), ..recipe.clone() };
        assert!(save(&one, &store).unwrap().is_of(&mirrored) && mirrored.digest() != recipe.digest());
        let mut packages = one.packages;
        packages[0].version = "5.3".to_owned();
        assert_ne!(id_of(&recipe, &packages), one.id);
    }

    #[test]
    fn thirty_days_are_old() {
        let (_dir, store) = new();
        let image = save(&manifest("a", "root", &store), &store).unwrap();
        let after = |days: i64| image.created + jiff::SignedDuration::from_hours(24 * days);
        assert_eq!(image.age_warning(), None);
        assert_eq!(image.age_warning_at(after(-100)), None);
        assert_eq!(image.age_warning_at(after(29)), None);
        let warning = image.age_warning_at(after(31)).unwrap().to_string();
        assert!(warning.contains("31 days") && warning.contains("ampoule image build"), "{warning}");
    }

    #[test]
    fn a_manifest_of_another_version_says_so() {
        let (_dir, store) = new();
        let mut newer = manifest("a", "root", &store);
        newer.format = 2;
        let error = save(&newer, &store).unwrap_err();
        assert!(matches!(error, Error::Manifest { .. }), "{error}");
        assert!(ls(&store).unwrap().is_empty());
    }
}
