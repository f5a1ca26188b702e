//! The state directory: whether it can be written, its room, and the image in it.

use std::{
    io,
    path::{Path, PathBuf},
};

use sandbox::{Reserve, Room, SnapshotInfo, Standing, list_snapshots};
use store::Store;

use super::{Finding, Patient};
use crate::{
    cli::units,
    exec::machine::MEMORY,
    image_cmd::{self, STANDARD},
    snapshot_cmd,
};

/// Below this nothing useful can run: an image and a scratch disk.
const ROOM_MIN: u64 = 2 << 30;
/// Below this a build may fill it.
const ROOM_GOOD: u64 = 8 << 30;

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    let dir = &patient.state_dir;
    let found = match crate::runtime::new() {
        Ok(runtime) => runtime.block_on(snapshot_cmd::judged(dir, patient.registry)),
        // without their word on what fits them
        Err(_) => list_snapshots(dir, &[]),
    };
    vec![directory(dir), room(dir), memory(), image(dir), snapshots(found)]
}

fn directory(dir: &Path) -> Finding {
    const NAME: &str = "state directory";
    let (nearest, exists) = nearest(dir);
    let access = rustix::fs::access(&nearest, rustix::fs::Access::WRITE_OK | rustix::fs::Access::EXEC_OK);
    match access {
        Ok(()) if exists => Finding::ok(NAME, dir.display().to_string()),
        Ok(()) => Finding::ok(NAME, format!("{} (made when it is needed)", dir.display())),
        Err(error) => Finding::bad(
            NAME,
            format!("{} cannot be written ({})", nearest.display(), io::Error::from(error)),
        )
        .mend("choose another one with --state-dir, or $AMPOULE_STATE_DIR"),
    }
}

/// The directory itself, or the nearest one above it that exists.
fn nearest(dir: &Path) -> (PathBuf, bool) {
    let found = dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("/"));
    (found.to_owned(), found == dir)
}

fn room(dir: &Path) -> Finding {
    const NAME: &str = "disk space";
    let (nearest, _) = nearest(dir);
    let free = match rustix::fs::statvfs(&nearest) {
        Ok(stat) => stat.f_bavail.saturating_mul(stat.f_frsize),
        Err(error) => {
            return Finding::note(
                NAME,
                format!("{} cannot be asked ({})", nearest.display(), io::Error::from(error)),
            );
        }
    };
    let seen = format!("{} free for {}", gibibytes(free), dir.display());
    match free {
        free if free < ROOM_MIN => {
            Finding::bad(NAME, seen).mend("ampoule prune").mend("or give it another disk with --state-dir")
        }
        free if free < ROOM_GOOD => Finding::note(NAME, seen).mend("ampoule prune"),
        _ => Finding::ok(NAME, seen),
    }
}

/// By the engine's own rule for a VM of a job.
fn memory() -> Finding {
    const NAME: &str = "memory";
    let room = match Room::look(MEMORY, Reserve::default()) {
        Ok(room) => room,
        Err(error) => return Finding::note(NAME, format!("what is free cannot be told ({error})")),
    };
    let (free, needed) = (gibibytes(room.free), gibibytes(room.needed));
    let seen = format!("{free} free; a job's VM, with {MEMORY}, begins when {needed} are");
    if room.is_enough() {
        return Finding::ok(NAME, seen);
    }
    Finding::note(NAME, seen)
        .mend("end something else: VMs wait until there is room, and fail where none can end")
}

fn gibibytes(bytes: u64) -> String {
    let tenths = bytes / ((1 << 30) / 10);
    format!("{}.{} GiB", tenths / 10, tenths % 10)
}

fn image(dir: &Path) -> Finding {
    const NAME: &str = "root image";
    let store_dir = image_cmd::store_dir(dir);
    if !store_dir.is_dir() {
        return Finding::bad(NAME, "there is none yet").mend("ampoule image build");
    }
    let found =
        Store::open(&store_dir).map_err(image::Error::from).and_then(|store| image_cmd::standard(&store));
    match found {
        Ok(Some(image)) => {
            let seen = image_cmd::describe(&image);
            match image.age_warning() {
                Some(warning) => {
                    Finding::note(NAME, format!("{seen}; {warning}")).mend("ampoule image build")
                }
                None => Finding::ok(NAME, seen),
            }
        }
        Ok(None) => {
            Finding::bad(NAME, format!("there is no image `{STANDARD}` yet")).mend("ampoule image build")
        }
        Err(error) => Finding::bad(NAME, error.to_string()).mend("ampoule image build"),
    }
}

fn snapshots(found: sandbox::Result<Vec<SnapshotInfo>>) -> Finding {
    const NAME: &str = "snapshots";
    let all = match found {
        Ok(all) => all,
        Err(error) => return Finding::note(NAME, format!("they cannot be read ({error})")),
    };
    if all.is_empty() {
        return Finding::ok(NAME, "none yet; the first VM of a kind makes one, or `ampoule snapshot build`");
    }
    let bytes = |of: &dyn Fn(&&SnapshotInfo) -> bool| all.iter().filter(of).map(|info| info.bytes).sum();
    let seen = format!("{}, {}", all.len(), units::shown(bytes(&|_| true)));
    let of_no_use = |info: &&SnapshotInfo| info.standing != Standing::Usable;
    let count = |standing| all.iter().filter(|info| info.standing == standing).count();
    match (count(Standing::Expired), count(Standing::Orphaned), count(Standing::Unfit)) {
        (0, 0, 0) => Finding::ok(NAME, seen),
        (expired, orphaned, unfit) => {
            let size = units::shown(bytes(&of_no_use));
            let why = format!(
                "{expired} too old, {orphaned} of an image, kernel or agent that is gone, {unfit} of another version \
                 or host"
            );
            Finding::note(NAME, format!("{seen}; of no use any more: {size} ({why})"))
                .mend("ampoule snapshot gc")
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::doctor::State;

    #[test]
    fn a_directory_that_is_not_there_yet_is_looked_at_from_above() {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("a/b");
        assert_eq!(nearest(&state), (dir.path().to_owned(), false));
        assert_eq!(directory(&state).state, State::Ok);
        assert_eq!(image(&state).state, State::Bad);
        assert_eq!(gibibytes(3 << 30), "3.0 GiB");
    }

    #[test]
    fn snapshots_of_no_use_are_told() {
        let info = |standing| SnapshotInfo {
            key: String::new(),
            made: SystemTime::UNIX_EPOCH,
            used: SystemTime::UNIX_EPOCH,
            root: None,
            cpus: 1,
            memory: vm::Mebibytes(1),
            disk_bytes: None,
            backend: String::new(),
            bytes: 100 << 20,
            standing,
            pinned: false,
        };
        let look = |standings: &[Standing]| {
            let finding = snapshots(Ok(standings.iter().copied().map(info).collect()));
            (finding.state, finding.seen, finding.mend.len())
        };
        let (state, seen, mend) = look(&[]);
        assert_eq!((state, mend), (State::Ok, 0));
        assert!(seen.starts_with("none yet"), "{seen}");
        assert_eq!(look(&[Standing::Usable; 2]), (State::Ok, "2, 200 MiB".to_owned(), 0));
        let mut all = vec![Standing::Usable, Standing::Expired, Standing::Orphaned, Standing::Orphaned];
        all.extend([Standing::Unfit; 3]);
        let seen = "7, 700 MiB; of no use any more: 600 MiB (1 too old, 2 of an image, kernel or agent that is gone, \
                    3 of another version or host)";
        assert_eq!(look(&all), (State::Note, seen.to_owned(), 1));
    }
}
