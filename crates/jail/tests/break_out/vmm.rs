//! A process of ours in QEMU's place: what a VMM that its guest has taken over may try.
//!
//! It is started by QEMU's own backend as a fork of a template, with QEMU's own arguments, says what the backend
//! wants to hear, and then makes the one attempt that the template's state names. What came of it is a line on its
//! error output.

use std::{
    ffi::{CString, OsString},
    fs::File,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{FromRawFd, RawFd},
        unix::net::UnixListener,
    },
    path::PathBuf,
    process::ExitCode,
};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{OUTLIVE, attempts::ATTEMPTS, calls::processes};

/// What its account begins with.
const MARK: &str = "attempt: ";

/// What is to be tried, as the state of the devices that it is forked from.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) attempt: String,
    pub(crate) known: Known,
}

/// What an attacker may know of the host.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Known {
    /// The directory of all slots.
    pub(crate) slots: PathBuf,
    /// That of another VM.
    pub(crate) slot: PathBuf,
    /// The name of an abstract socket of the host.
    pub(crate) host: String,
    /// Process id of the other VM's VMM.
    pub(crate) victim: i32,
    /// A port on which the host listens.
    pub(crate) port: u16,
}

/// What an attempt has to work with.
#[derive(Debug)]
pub(crate) struct Scene {
    pub(crate) known: Known,
    /// The program itself.
    pub(crate) program: PathBuf,
    /// The shared image, as QEMU gets it: read-only.
    pub(crate) image: RawFd,
    /// The sealed template, as QEMU gets it: open for writing, for older ones cannot open it otherwise.
    pub(crate) template: RawFd,
    /// The tap of its network card; a number that is no descriptor where it has none.
    pub(crate) card: RawFd,
}

/// What came of an attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Account {
    /// It did what it was to do.
    Done,
    /// The kernel refused.
    Errno(i32),
}

impl Account {
    /// Reads it from the error output.
    pub(crate) fn read(said: &str) -> Option<Self> {
        let (_, rest) = said.split_once(MARK)?;
        match rest.lines().next()? {
            "done" => Some(Self::Done),
            errno => errno.parse().ok().map(Self::Errno),
        }
    }

    /// Says it.
    pub(crate) fn tell(result: Result<(), i32>) {
        let text = match result {
            Ok(()) => format!("{MARK}done\n"),
            Err(errno) => format!("{MARK}{errno}\n"),
        };
        std::io::stderr().write_all(text.as_bytes()).unwrap();
    }
}

/// Runs in QEMU's place.
pub(crate) fn main(program: PathBuf, args: Vec<OsString>) -> ExitCode {
    let args: Vec<String> = args.into_iter().map(|arg| arg.into_string().unwrap()).collect();
    if args == ["--version"] {
        std::io::stdout().write_all(b"QEMU emulator version 9.9.9\n").unwrap();
        return ExitCode::SUCCESS;
    }
    let (attempt, scene) = read(program, &args);
    pretend(&args);
    // So that it, and what it makes of itself, can be found.
    rustix::thread::set_name(&CString::new(attempt.clone()).unwrap()).unwrap();
    if let Some(attempt) = ATTEMPTS.iter().find(|known| known.name == attempt) {
        Account::tell((attempt.run)(&scene));
        return ExitCode::SUCCESS;
    }
    if attempt == OUTLIVE {
        Account::tell(processes::multiply());
    }
    loop {
        std::thread::park();
    }
}

fn read(program: PathBuf, args: &[String]) -> (String, Scene) {
    // The console, the image, and twice its own disk: as the backend numbers its sets.
    let sets = args.iter().zip(&args[1..]).filter(|(word, _)| *word == "-add-fd");
    let sets: Vec<RawFd> = sets.map(|(_, set)| number(set, "fd=")).collect();
    let [_, image, _, _] = sets[..] else { panic!("{sets:?}") };
    let memory = args.iter().find(|arg| arg.starts_with("memory-backend-file")).unwrap();
    let template = number(memory, "mem-path=/proc/self/fd/");
    let state = File::open(format!("/proc/self/fd/{STATE}")).unwrap();
    let Task { attempt, known } = serde_json::from_reader(state).unwrap();
    let card = args.iter().find(|arg| arg.starts_with("tap,")).map_or(-1, |card| number(card, "fd="));
    (attempt, Scene { known, program, image, template, card })
}

/// Number of the descriptor with the state that a fork loads.
const STATE: RawFd = 3;

fn number(option: &str, name: &str) -> RawFd {
    option.split(',').find_map(|part| part.strip_prefix(name)).unwrap().parse().unwrap()
}

/// Is a QEMU that has loaded the state, for one client.
fn pretend(args: &[String]) {
    let control = args.iter().find(|arg| arg.starts_with("socket,id=control")).unwrap();
    // SAFETY: the descriptor is this process's, and nothing else here owns it.
    let listener = unsafe { UnixListener::from_raw_fd(number(control, "fd=")) };
    let (mut client, _) = listener.accept().unwrap();
    writeln!(client, "{}", json!({ "QMP": {} })).unwrap();
    for line in BufReader::new(client.try_clone().unwrap()).lines() {
        let command: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = match command["execute"].as_str() {
            Some("query-status") => json!({ "return": { "status": "paused", "running": false } }),
            _ => json!({ "return": {} }),
        };
        writeln!(client, "{answer}").unwrap();
    }
    // It stays open, as QEMU's does.
    std::mem::forget(listener);
}
