//! A process of ours in QEMU's place: what a VMM that its guest has taken over may try.
//!
//! It is started by QEMU's own backend with QEMU's own arguments, says what the backend wants to hear, and then
//! makes the one attempt that the kernel arguments name. What came of it is a line on its error output.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Write},
    os::{
        fd::{FromRawFd, RawFd},
        unix::net::UnixListener,
    },
    path::PathBuf,
    process::ExitCode,
};

use serde_json::{Value, json};

use crate::{OUTLIVE, attempts::ATTEMPTS, calls::processes};

/// What the words of the kernel's arguments that are for this program begin with.
const PREFIX: &str = "break_out.";
/// What its account begins with.
const MARK: &str = "attempt: ";

/// Arguments of the kernel for one attempt, with what it has to know.
pub(crate) fn kernel_args(attempt: &str, known: &Known) -> Vec<String> {
    let Known { slots, slot, host, victim, port } = known;
    let (slots, slot, host) = (slots.display(), slot.display(), host.clone());
    [
        format!("attempt={attempt}"),
        format!("slots={slots}"),
        format!("slot={slot}"),
        format!("host={host}"),
        format!("victim={victim}"),
        format!("port={port}"),
    ]
    .map(|word| format!("{PREFIX}{word}"))
    .to_vec()
}

/// What an attacker may know of the host.
#[derive(Clone, Debug)]
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
    /// The sealed template: a descriptor that may only read, and one that may write.
    pub(crate) template: [RawFd; 2],
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
    let after = |name: &'static str| {
        args.iter().zip(&args[1..]).filter(move |(word, _)| *word == name).map(|(_, next)| next)
    };
    let words = after("-append").next().unwrap();
    let word = |name: &str| {
        let found = words
            .split(' ')
            .find_map(|word| word.strip_prefix(PREFIX)?.strip_prefix(name)?.strip_prefix('='));
        found.unwrap().to_owned()
    };
    // The console, the image, and twice the template: as the backend numbers its sets.
    let sets: Vec<RawFd> = after("-add-fd").map(|set| number(set, "fd=")).collect();
    let [_, image, read_only, writable] = sets[..] else { panic!("{sets:?}") };
    let known = Known {
        slots: word("slots").into(),
        slot: word("slot").into(),
        host: word("host"),
        victim: word("victim").parse().unwrap(),
        port: word("port").parse().unwrap(),
    };
    (word("attempt"), Scene { known, program, image, template: [read_only, writable] })
}

fn number(option: &str, name: &str) -> RawFd {
    option.split(',').find_map(|part| part.strip_prefix(name)).unwrap().parse().unwrap()
}

/// Is a QEMU whose VM runs, for one client.
fn pretend(args: &[String]) {
    let control = args.iter().find(|arg| arg.starts_with("socket,id=control")).unwrap();
    // SAFETY: the descriptor is this process's, and nothing else here owns it.
    let listener = unsafe { UnixListener::from_raw_fd(number(control, "fd=")) };
    let (mut client, _) = listener.accept().unwrap();
    writeln!(client, "{}", json!({ "QMP": {} })).unwrap();
    for line in BufReader::new(client.try_clone().unwrap()).lines() {
        let command: Value = serde_json::from_str(&line.unwrap()).unwrap();
        let answer = match command["execute"].as_str() {
            Some("query-status") => json!({ "return": { "status": "running", "running": true } }),
            _ => json!({ "return": {} }),
        };
        writeln!(client, "{answer}").unwrap();
    }
    // It stays open, as QEMU's does.
    std::mem::forget(listener);
}
