//! The engine that runs, or one that is started in the background.
//!
//! ```text
//!   connect ── answers, fits ─────────────────────────────▶ used
//!      │ nobody listens               ▲
//!      └──▶ `ampoule engine` started ─┴─ it ended, or does not answer ──▶ an error with its words
//! ```

use std::{
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read, Seek, SeekFrom},
    os::unix::{
        fs::{DirBuilderExt, OpenOptionsExt},
        process::CommandExt,
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::Duration,
};

use clap::ValueEnum;
use sandbox::{Engine, EngineError};
use tokio::time::{Instant, sleep};

use super::EngineCmdError;
use crate::{
    cli::args::{AccelArg, MachineArgs},
    network,
    sink::Look,
};

/// Where an engine is served.
const SOCKET: &str = "engine.sock";
const LOG: &str = "engine.log";
/// A log that is longer begins anew when an engine is started.
const MAX_LOG: u64 = 4 << 20;
/// How much of it an error shows.
const WORDS: u64 = 2000;
/// How long one that was started may take to answer: it looks for a backend, and tries KVM.
const PATIENCE: Duration = Duration::from_secs(60);
const AGAIN: Duration = Duration::from_millis(20);

/// The socket of the engine of a state directory.
pub fn socket(state_dir: &Path) -> PathBuf {
    state_dir.join(SOCKET)
}

/// The engine that runs in the state directory, if it is one that can be used for that; why not is nobody's business.
pub(crate) async fn running(args: &MachineArgs, state_dir: &Path) -> Option<Engine> {
    let path = socket(state_dir);
    match Engine::connect(&path).await.map_err(EngineCmdError::from).and_then(|engine| fits(args, engine)) {
        Ok(engine) => Some(engine),
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::debug!(error, "no engine that runs is used");
            None
        }
    }
}

/// The engine that runs in the state directory; where none does, one is started, which ends when nobody needs it.
///
/// # Errors
/// The one that runs is of another build or has another backend; one cannot be started, and why.
pub async fn connect_or_start(args: &MachineArgs, state_dir: &Path) -> Result<Engine, EngineCmdError> {
    let path = socket(state_dir);
    match Engine::connect(&path).await {
        Ok(engine) => return fits(args, engine),
        Err(sandbox::Error::Engine(error)) if error.is_absence() => {}
        Err(error) => return Err(error.into()),
    }
    let log = state_dir.join(LOG);
    let (mut child, before) = start(args, state_dir, &log).map_err(EngineCmdError::Start)?;
    let until = Instant::now() + PATIENCE;
    let mut ended = false;
    loop {
        match Engine::connect(&path).await {
            Ok(engine) => {
                // it has said it into its log
                network::tell(&engine, Look::of(&io::stderr()));
                return fits(args, engine);
            }
            Err(sandbox::Error::Engine(error)) if error.is_absence() && !ended && Instant::now() < until => {}
            Err(_) if ended => return Err(EngineCmdError::Ended { words: words(&log, before), log }),
            Err(sandbox::Error::Engine(EngineError::Absent { .. })) => {
                return Err(EngineCmdError::Silent { log });
            }
            Err(error) => return Err(error.into()),
        }
        // one that found another, which was started at the same moment, ends too: that one is asked once more
        ended = child.try_wait().map_err(EngineCmdError::Start)?.is_some();
        sleep(AGAIN).await;
    }
}

/// Whether an engine has what is asked for.
fn fits(args: &MachineArgs, engine: Engine) -> Result<Engine, EngineCmdError> {
    let has = engine.capabilities().accelerator.as_str();
    let wanted = match args.accel {
        AccelArg::Auto => true,
        AccelArg::Kvm => has == "kvm",
        AccelArg::Tcg => has == "tcg",
    };
    if engine.backend_name() == args.backend && (wanted || has == "none") {
        return Ok(engine);
    }
    Err(EngineCmdError::Unfit {
        path: engine.socket().unwrap_or(Path::new("")).to_owned(),
        theirs: format!("{} {has}", engine.backend_name()),
        ours: format!("{} {}", args.backend, accel(args.accel)),
    })
}

fn accel(accel: AccelArg) -> String {
    accel.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
}

/// Starts an engine that outlives this process and its terminal. Also how long its log was before.
fn start(args: &MachineArgs, state_dir: &Path, log: &Path) -> io::Result<(Child, u64)> {
    DirBuilder::new().recursive(true).mode(0o700).create(state_dir)?;
    let long = fs::metadata(log).is_ok_and(|log| log.len() > MAX_LOG);
    let out =
        OpenOptions::new().create(true).append(!long).write(true).truncate(long).mode(0o600).open(log)?;
    let before = out.metadata()?.len();
    let child = Command::new("/proc/self/exe")
        .arg0("ampoule")
        .arg("engine")
        .arg("--background")
        .arg("--state-dir")
        .arg(state_dir)
        .args(["--backend", &args.backend, "--accel", &accel(args.accel)])
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(out.try_clone()?)
        .stderr(out)
        .spawn()?;
    Ok((child, before))
}

/// What a log says since it had this length; of much the last rows.
fn words(log: &Path, before: u64) -> String {
    let read = || -> io::Result<Vec<u8>> {
        let mut file = File::open(log)?;
        let from = before.max(file.metadata()?.len().saturating_sub(WORDS));
        // with the byte before, which says whether a row begins there
        let begin = from.saturating_sub(1).max(before);
        file.seek(SeekFrom::Start(begin))?;
        let mut bytes = Vec::new();
        file.take(from - begin + WORDS).read_to_end(&mut bytes)?;
        if begin > before {
            let row = bytes.iter().position(|byte| *byte == b'\n').map_or(0, |end| end + 1);
            bytes.drain(..row);
        }
        Ok(bytes)
    };
    String::from_utf8_lossy(&read().unwrap_or_default()).trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_of_an_engine_are_its_own_and_whole_rows() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join(LOG);
        let old = "an old run\n".repeat(10);
        let before = old.len() as u64;
        fs::write(&log, format!("{old}why\nit ended\n")).unwrap();
        assert_eq!(words(&log, before), "why\nit ended");
        assert_eq!(words(&log, before + 13), "");
        // of a run that says much, the end
        let row = "x".repeat(98);
        fs::write(&log, format!("{old}{}the cause\n", format!("{row}\n").repeat(100))).unwrap();
        let told = words(&log, before);
        assert!(told.len() <= 2000 && told.ends_with("\nthe cause"), "{told}");
        assert_eq!(told.lines().next(), Some(row.as_str()));
        // a row that begins just where the last bytes do is whole
        let half = format!("{}\n", "y".repeat(999));
        fs::write(&log, format!("{old}{half}{half}{half}")).unwrap();
        assert_eq!(words(&log, before), format!("{half}{half}").trim_end());
        // and one without an end is better than nothing
        fs::write(&log, format!("{old}{}", "z".repeat(5000))).unwrap();
        assert_eq!(words(&log, before).len(), 2001);
    }
}
