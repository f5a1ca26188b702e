//! The engine process of the state directory: whether one runs, and what it does.

use std::path::Path;

use sandbox::{EngineStatus, Sighting, look_at_engine};

use super::Finding;
use crate::{causes, cli::units, engine_cmd, table};

const NAME: &str = "engine";

pub(super) fn look(state_dir: &Path) -> Finding {
    let path = engine_cmd::socket(state_dir);
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return Finding::note(NAME, format!("could not be looked for: {error}")),
    };
    match runtime.block_on(look_at_engine(&path)) {
        Ok(seen) => finding(seen, &path),
        Err(error) => Finding::note(NAME, format!("cannot be asked: {}", causes::line(&error))),
    }
}

fn finding(seen: Sighting, path: &Path) -> Finding {
    let path = path.display();
    match seen {
        Sighting::Nothing => {
            Finding::ok(NAME, "none runs: every command has its own; `ampoule exec --warm` starts one")
        }
        Sighting::Awaited => Finding::ok(
            NAME,
            format!("none runs yet: a service manager listens at {path}, and starts it for the first command"),
        ),
        Sighting::Engine(status) => Finding::ok(NAME, told(&status)),
        Sighting::Dead => Finding::note(
            NAME,
            format!("none runs: nobody listens at {path}, which a dead one left; the next one replaces it"),
        )
        .mend("ampoule engine   (or exec --warm)"),
        Sighting::Unreachable => Finding::note(
            NAME,
            format!("one holds the lock of {path} and cannot be reached there: it begins or ends, or somebody removed its socket"),
        )
        .mend("ampoule doctor   (again; if it stays so, end the process `ampoule engine`)"),
        Sighting::Silent { pid } => {
            let seen = format!("{} listens at {path} and does not answer: it begins, or hangs", process(pid));
            let again = "ampoule doctor   (again; if it stays so, end it)";
            with_kill(Finding::note(NAME, seen).mend(again), pid)
        }
        Sighting::Stranger { uid } => Finding::note(
            NAME,
            format!("the one at {path} is user {uid}'s, and is not used by this one: every command has its own"),
        ),
        Sighting::Another { pid, build } => {
            let version = build.split(' ').next().unwrap_or_default();
            let seen = format!(
                "{} is of another build of ampoule ({version}), which this one does not use; it ends when it is idle",
                process(pid)
            );
            with_kill(Finding::note(NAME, seen), pid)
        }
    }
}

fn process(pid: Option<i32>) -> String {
    pid.map_or_else(|| "a process".to_owned(), |pid| format!("process {pid}"))
}

fn with_kill(finding: Finding, pid: Option<i32>) -> Finding {
    match pid {
        Some(pid) => finding.mend(format!("kill {pid}")),
        None => finding,
    }
}

fn told(status: &EngineStatus) -> String {
    let EngineStatus { pid, version, backend, accelerator, since, leased, kept, ready, .. } = status;
    let since = table::minute(*since);
    let end = match (status.idle, status.unneeded) {
        (None, _) => "it does not end by itself".to_owned(),
        (Some(idle), None) => format!("ends when nobody needed it for {}", units::shown_time(idle)),
        (Some(idle), Some(since)) => {
            format!("nobody needs it: ends in {}", units::shown_time(idle.saturating_sub(since)))
        }
    };
    format!(
        "process {pid} since {since} UTC, ampoule {version}, {backend} {accelerator}; \
         VMs: {leased} in use, {kept} kept, {ready} ready; {end}"
    )
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, SystemTime};

    use super::*;
    use crate::doctor::State;

    #[test]
    fn each_sighting_is_told_as_what_it_is() {
        let look = |seen| {
            let Finding { state, seen, mend, .. } = finding(seen, Path::new("/s/engine.sock"));
            (state, seen, mend)
        };
        for (seen, state, word, kill) in [
            (Sighting::Nothing, State::Ok, "none runs:", false),
            (Sighting::Awaited, State::Ok, "a service manager listens at /s/engine.sock", false),
            (Sighting::Dead, State::Note, "nobody listens at /s/engine.sock", false),
            (Sighting::Unreachable, State::Note, "cannot be reached", false),
            (
                Sighting::Silent { pid: Some(42) },
                State::Note,
                "process 42 listens at /s/engine.sock and does not",
                true,
            ),
            (Sighting::Silent { pid: None }, State::Note, "a process listens", false),
            (Sighting::Stranger { uid: 7 }, State::Note, "user 7's", false),
            (
                Sighting::Another { pid: Some(42), build: "0.0.9 1-2-3.4".to_owned() },
                State::Note,
                "process 42 is of another build of ampoule (0.0.9)",
                true,
            ),
        ] {
            let (is, text, mend) = look(seen.clone());
            assert!(is == state && text.contains(word), "{seen:?}: {is:?} {text}");
            assert_eq!(mend.iter().any(|mend| mend == "kill 42"), kill, "{seen:?}: {mend:?}");
        }
    }

    #[test]
    fn an_engine_says_when_it_ends() {
        let status = |idle: Option<u64>, unneeded: Option<u64>| EngineStatus {
            pid: 42,
            version: "0.1.0".to_owned(),
            backend: "qemu".to_owned(),
            accelerator: "tcg".to_owned(),
            since: SystemTime::UNIX_EPOCH,
            leased: 3,
            kept: 1,
            ready: 2,
            idle: idle.map(Duration::from_secs),
            unneeded: unneeded.map(Duration::from_secs),
        };
        let begin = "process 42 since 1970-01-01 00:00 UTC, ampoule 0.1.0, qemu tcg; VMs: 3 in use, 1 kept, 2 ready; ";
        for (idle, unneeded, end) in [
            (None, Some(5), "it does not end by itself"),
            (Some(600), None, "ends when nobody needed it for 10m"),
            (Some(600), Some(90), "nobody needs it: ends in 8m30s"),
            (Some(600), Some(601), "nobody needs it: ends in 0s"),
        ] {
            assert_eq!(told(&status(idle, unneeded)), format!("{begin}{end}"));
        }
    }
}
