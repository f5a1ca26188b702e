//! From a recipe to an image.

use std::{
    collections::BTreeSet,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::{Timestamp, Unit};
use store::{Digest, KeyLock, Scratch, Store};
use tokio_util::sync::CancellationToken;

use crate::{
    Error, Image, Package, Phase, Progress, Recipe, Result, USER_ID,
    catalog::{FORMAT, Manifest, find, id_of, save},
    cpio::Archive,
    enclosure::{self, ENCLOSURE, Job, Room},
    error::Doing as _,
    host::{missing, room_in_memory, search_path},
    log::Log,
    node,
};

const CUSTOMIZE: &str = include_str!("scripts/customize.sh");

/// Without these the build itself would fail: they unpack the kernel's modules and node.
const ALWAYS: [&str; 4] = ["kmod", "unzip", "xz-utils", "zstd"];

/// What the agent needs before it has a root; those that are built into the kernel drop out. `loop` is
/// for disk images that a job has made, and the root's modules are not loaded by themselves without udev; the card is
/// in every snapshot.
const MODULES: &str =
    "virtio virtio_ring virtio_mmio virtio_blk virtio_console virtio_net squashfs overlay ext4 loop";

/// What mmdebstrap is told beside names.
const OPTIONS: [&str; 16] = [
    "--verbose",
    "--mode=root",
    "--variant=minbase",
    "--architectures=amd64",
    "--format=tar",
    "--aptopt=APT::Install-Recommends \"false\"",
    "--aptopt=Acquire::Retries \"3\"",
    "--aptopt=Acquire::http::Timeout \"30\"",
    "--aptopt=Acquire::https::Timeout \"30\"",
    // The tree is thrown away if the machine goes down, so nothing is gained by syncing it.
    "--dpkgopt=force-unsafe-io",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-include=/usr/share/doc/*/copyright",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/info/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    "--customize-hook=sh /mnt/in/customize.sh \"$1\"",
];

/// Lists and indexes of a build are below these sizes by far.
const TEXT_LIMIT: u64 = 8 << 20;
const MODULE_LIMIT: u64 = 64 << 20;

/// Digest of how this version makes an image from what a recipe says.
pub(crate) fn builder() -> Digest {
    Digest::of([CUSTOMIZE, MODULES, &OPTIONS.join("\n"), &ALWAYS.join(" ")].join("\0"))
}

/// Builds the image of `recipe` and gives it the recipe's name, in place of an older one. When another
/// process is building this recipe, its image is waited for and returned. The root of the older one goes, unless
/// `is_used` says that something needs it.
///
/// # Errors
/// When the host lacks something, packages cannot be had, or `cancel` was cancelled; then there is
/// nothing left of it and the older image is still there.
pub async fn build(
    recipe: &Recipe,
    store: &Store,
    is_used: &(dyn Fn(&Digest) -> bool + Sync),
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Image> {
    if std::env::consts::ARCH != "x86_64" {
        return Err(Error::Architecture(std::env::consts::ARCH));
    }
    let now_there = || find(&recipe.name, store).ok().flatten();
    let before = now_there().map(|image| image.created);
    let _lock = lock(recipe, store, progress, cancel).await?;
    // Another process may have built it while this one waited.
    if let Some(image) = now_there()
        && image.is_of(recipe)
        && Some(image.created) != before
    {
        return Ok(image);
    }
    let lacking = blocking(missing).await?;
    if !lacking.is_empty() {
        return Err(Error::Missing { missing: lacking });
    }
    enclosure::probe().await?;
    let sweeping = store.clone();
    blocking(move || sweep(&sweeping)).await?;

    let older = now_there();
    let _hold = store.hold()?;
    let scratch = store.scratch()?;
    let built = attempt(recipe, store, &scratch, progress, cancel).await;
    let removed = blocking(move || {
        // A plain user cannot remove the files of his subordinate ids without this.
        let removed = enclosure::remove_tree(scratch.path());
        drop(scratch);
        removed
    })
    .await?;
    if let Err(error) = removed {
        tracing::warn!(%error, "files of the image build stay behind until the next one");
    }
    if let (Ok(image), Some(older)) = (&built, older) {
        let_go(&older, image, store, is_used);
    }
    built
}

/// Removes the root of an image in whose place another is; one that a VM has open lives on without its name.
pub(crate) fn let_go(older: &Image, image: &Image, store: &Store, is_used: &dyn Fn(&Digest) -> bool) {
    if older.root_digest == image.root_digest || is_used(&older.root_digest) {
        return;
    }
    match store.remove(&older.root_digest) {
        Ok(()) | Err(store::Error::Pinned { .. }) => {}
        Err(error) => tracing::warn!(%error, "the older image's root stays until the next prune"),
    }
}

/// Removes what killed builds have left in the store's `tmp/`. [`build`] does this as well.
pub fn sweep(store: &Store) {
    store.sweep(&mut |path| enclosure::remove_tree(path));
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T> {
    // It fails only when the runtime goes down or the work panics.
    tokio::task::spawn_blocking(work).await.map_err(|_| Error::Cancelled)
}

async fn lock(
    recipe: &Recipe,
    store: &Store,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<KeyLock> {
    let key = format!("image {}", recipe.name);
    let mut told = false;
    loop {
        if let Some(lock) = store.try_lock(&key)? {
            return Ok(lock);
        }
        if !std::mem::replace(&mut told, true) {
            progress.phase(Phase::Waiting);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(200)) => {}
            () = cancel.cancelled() => return Err(Error::Cancelled),
        }
    }
}

/// In memory first: it is faster, and leaves nothing whatever happens. On the disk when that was too small.
async fn attempt(
    recipe: &Recipe,
    store: &Store,
    scratch: &Scratch,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Image> {
    let wheel = match &recipe.node {
        Some(release) => {
            progress.phase(Phase::Node);
            Some(node::fetch(release, store, scratch, cancel).await?)
        }
        None => None,
    };
    let rooms = room_in_memory().map(Room::Memory).into_iter().chain([Room::Disk]);
    let mut last = Err(Error::Full { at: scratch.path().to_owned() });
    for (number, room) in rooms.enumerate() {
        let work = scratch.path().join(format!("build-{number}"));
        last = bootstrap(recipe, &work, room, wheel.as_deref(), progress, cancel).await;
        match &last {
            Err(Error::Full { .. }) if room != Room::Disk => {
                tracing::info!("the image does not fit into memory, building it on the disk");
            }
            _ => break,
        }
    }
    let made = last?;
    progress.phase(Phase::Store);
    let (recipe, store) = (recipe.clone(), store.clone());
    blocking(move || keep(&recipe, &store, &made)).await?
}

/// What a build has made, still in its directory.
struct Made {
    out: PathBuf,
    root: PathBuf,
    created: Timestamp,
}

async fn bootstrap(
    recipe: &Recipe,
    work: &Path,
    room: Room,
    wheel: Option<&Path>,
    progress: &dyn Progress,
    cancel: &CancellationToken,
) -> Result<Made> {
    for part in ["in", "out", "tree"] {
        fs::create_dir_all(work.join(part)).doing("make the build's directory")?;
    }
    fs::write(work.join("enclosure.sh"), ENCLOSURE).doing("write the build's script")?;
    let customize = work.join("in/customize.sh");
    fs::write(&customize, CUSTOMIZE).doing("write the build's script")?;
    if let Some(wheel) = wheel {
        fs::copy(wheel, work.join("in/node.whl")).doing("give node to the build")?;
    }
    let created = Timestamp::now();
    // Times in the image are no later than this day's start, so that builds of one day can be compared.
    let epoch = created.round(Unit::Second).map_or(0, Timestamp::as_second);
    let epoch = epoch - epoch.rem_euclid(24 * 60 * 60);
    let root = work.join("root.squashfs");
    let job = Job {
        work,
        room,
        mmdebstrap: arguments(recipe),
        path: search_path(),
        env: vec![
            ("LC_ALL", "C.UTF-8".to_owned()),
            ("SOURCE_DATE_EPOCH", epoch.to_string()),
            ("AMPOULE_KERNEL", recipe.kernel.clone()),
            ("AMPOULE_USER", recipe.user.clone()),
            ("AMPOULE_UID", USER_ID.to_string()),
            ("AMPOULE_MODULES", MODULES.to_owned()),
            ("AMPOULE_NODE", if wheel.is_some() { "yes" } else { "no" }.to_owned()),
        ],
        root: &root,
    };
    let mut log = Log::new(progress);
    enclosure::run(job, &mut log, cancel).await?;
    Ok(Made { out: work.join("out"), root, created })
}

fn arguments(recipe: &Recipe) -> Vec<OsString> {
    let packages: BTreeSet<&str> = recipe.packages.iter().map(String::as_str).chain(ALWAYS).collect();
    let packages: Vec<&str> = packages.into_iter().collect();
    let mut arguments: Vec<String> = OPTIONS.map(str::to_owned).into();
    arguments.push(format!("--include={}", packages.join(",")));
    arguments.push(recipe.suite.clone());
    arguments.push("-".to_owned());
    arguments.extend(recipe.sources());
    arguments.into_iter().map(OsString::from).collect()
}

fn keep(recipe: &Recipe, store: &Store, made: &Made) -> Result<Image> {
    let text = |name: &str, what| read_text(&made.out.join(name), what);
    let mut packages = parse_packages(&text("packages", "list of packages")?)?;
    packages.extend(parse_packages(&text("kernel.package", "kernel package")?)?);
    packages.sort();
    packages.dedup();
    let kernel_release = text("kernel.release", "kernel release")?.trim().to_owned();
    let modules = modules_archive(&made.out)?;
    let root_bytes = fs::metadata(&made.root).doing("look at the root")?.len();
    let manifest = Manifest {
        format: FORMAT,
        name: recipe.name.clone(),
        id: id_of(recipe, &packages),
        created: made.created,
        recipe: recipe.canonical(),
        builder: builder(),
        suite: recipe.suite.clone(),
        user: recipe.user.clone(),
        kernel_release,
        kernel: adopt(store, &made.out.join("kernel"))?,
        modules: store.put(&modules[..])?,
        root: adopt(store, &made.root)?,
        root_bytes,
        node: recipe.node.as_ref().map(|node| node.version.clone()),
        packages,
    };
    save(&manifest, store)
}

fn adopt(store: &Store, path: &Path) -> Result<Digest> {
    let meta = fs::symlink_metadata(path).map_err(|_| Error::Incomplete { what: "kernel or root" })?;
    if !meta.is_file() || meta.len() == 0 {
        return Err(Error::Incomplete { what: "kernel or root" });
    }
    Ok(store.adopt(path)?)
}

fn read_text(path: &Path, what: &'static str) -> Result<String> {
    let missing = |_| Error::Incomplete { what };
    if fs::metadata(path).map_err(missing)?.len() > TEXT_LIMIT {
        return Err(Error::Incomplete { what });
    }
    let bytes = fs::read(path).map_err(missing)?;
    String::from_utf8(bytes).map_err(|_| Error::Incomplete { what })
}

/// Lines of name, version and architecture, with tabs between them.
fn parse_packages(text: &str) -> Result<Vec<Package>> {
    let package = |line: &str| {
        let mut fields = line.split('\t').map(str::to_owned);
        match (fields.next(), fields.next(), fields.next(), fields.next()) {
            (Some(name), Some(version), Some(architecture), None) if !version.is_empty() => {
                Ok(Package { name, version, architecture })
            }
            _ => Err(Error::Incomplete { what: "list of packages" }),
        }
    };
    text.lines().map(package).collect()
}

/// `lib/modules/*.ko` and `lib/modules/ampoule.list`, their absolute paths in the order of loading.
fn modules_archive(out: &Path) -> Result<Vec<u8>> {
    let incomplete = || Error::Incomplete { what: "list of kernel modules" };
    let order = read_text(&out.join("modules.order"), "list of kernel modules")?;
    let mut archive = Archive::default();
    archive.directory("lib");
    archive.directory("lib/modules");
    let mut list = String::new();
    for name in order.lines() {
        let plain = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte));
        if !plain || !name.ends_with(".ko") {
            return Err(incomplete());
        }
        let path = out.join("modules").join(name);
        if fs::metadata(&path).map_err(|_| incomplete())?.len() > MODULE_LIMIT {
            return Err(incomplete());
        }
        let content = fs::read(&path).map_err(|_| incomplete())?;
        archive.file(&format!("lib/modules/{name}"), 0o644, &content).map_err(|_| incomplete())?;
        list.push_str(&format!("/lib/modules/{name}\n"));
    }
    archive.file("lib/modules/ampoule.list", 0o644, list.as_bytes()).map_err(|_| incomplete())?;
    Ok(archive.finish())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_hold_packages_once_and_sources_last() {
        let recipe = Recipe { mirror: Some("http://m/debian".to_owned()), ..Recipe::standard().unwrap() };
        let arguments: Vec<String> =
            arguments(&recipe).into_iter().map(|argument| argument.into_string().unwrap()).collect();
        let include = arguments.iter().find_map(|argument| argument.strip_prefix("--include=")).unwrap();
        assert_eq!(include.split(',').filter(|package| *package == "zstd").count(), 1);
        assert!(include.split(',').any(|package| package == "kmod"));
        let end = &arguments[arguments.len() - 4..];
        assert_eq!(
            end,
            ["trixie", "-", "deb http://m/debian trixie main", "deb http://m/debian trixie-updates main"]
        );
    }

    #[test]
    fn package_lists_are_read_strictly() {
        let packages = parse_packages("bash\t5.2-1\tamd64\njq\t1.7\tamd64\n").unwrap();
        assert_eq!(packages[1].name, "jq");
        assert!(parse_packages("bash\t\tamd64\n").is_err());
        assert!(parse_packages("bash 5.2 amd64\n").is_err());
    }

    #[test]
    fn modules_keep_their_order() {
        let out = tempfile::tempdir().unwrap();
        fs::create_dir(out.path().join("modules")).unwrap();
        for name in ["b.ko", "a.ko"] {
            fs::write(out.path().join("modules").join(name), name).unwrap();
        }
        fs::write(out.path().join("modules.order"), "b.ko\na.ko\n").unwrap();
        let bytes = modules_archive(out.path()).unwrap();
        let text = String::from_utf8_lossy(&bytes);
        assert!(text.contains("/lib/modules/b.ko\n/lib/modules/a.ko\n"));
        fs::write(out.path().join("modules.order"), "../a.ko\n").unwrap();
        assert!(modules_archive(out.path()).is_err());
        fs::write(out.path().join("modules.order"), "gone.ko\n").unwrap();
        assert!(modules_archive(out.path()).is_err());
    }

    #[tokio::test]
    async fn a_build_that_waits_for_another_can_be_cancelled() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).unwrap();
        let recipe = Recipe::standard().unwrap();
        let _other = store.try_lock("image standard").unwrap().unwrap();
        let cancel = CancellationToken::new();
        cancel.cancel();
        let built = build(&recipe, &store, &|_| false, &crate::Silent, &cancel).await;
        assert!(matches!(built, Err(Error::Cancelled)), "{built:?}");
        assert_eq!(fs::read_dir(dir.path().join("tmp")).unwrap().count(), 0);
    }
}
