//! Hosted mode: the agent without a machine.
//!
//! Purpose: what is above a VM can be tested, and reached by other means, without one. The agent is a plain
//! process; a directory stands for `/`.
//! Owner: whoever started it; it ends on SIGTERM or a Shutdown, and takes what it started with it.
//!
//! Differences from a machine: nothing is mounted, users and owners of requests are ignored, paths of
//! requests are taken below the directory (those that are below it already stay), the environment is passed
//! as it is, a Freeze stops nothing. Processes that left the session of their execution cannot be told from
//! those of another one that has ended: a Kill ends both.

use std::{
    ffi::OsString,
    fs, io,
    os::{
        fd::RawFd,
        unix::{ffi::OsStrExt, net::UnixListener},
    },
    path::{Component, Path, PathBuf},
    process::ExitCode,
};

use rustix::process::{Pid, Signal, getpid, kill_process, set_child_subreaper};

use crate::{
    agent::{Agent, Ground},
    link::Link,
    poller::Poller,
    system,
};

/// How often descendants are looked for, should they start others meanwhile.
const ROUNDS: usize = 50;

/// The directory that stands for `/`.
#[derive(Debug)]
pub(crate) struct Hosted {
    root: PathBuf,
}

impl Hosted {
    /// The directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// An absolute path of a request.
    pub(crate) fn path(&self, path: &Path) -> PathBuf {
        if path.starts_with(&self.root) {
            return path.to_owned();
        }
        let below = path.components().filter(|part| !matches!(part, Component::RootDir));
        self.root.join(below.collect::<PathBuf>())
    }

    /// Kills all descendants of this process but those of `others`, which are leaders of sessions.
    pub(crate) fn kill_all_but(&self, others: &[Pid]) {
        for _ in 0..ROUNDS {
            let mut found = false;
            for process in descendants() {
                if others.iter().any(|other| process.belongs_to(*other)) {
                    continue;
                }
                found = true;
                // It may have ended meanwhile.
                let _ = kill_process(process.pid, Signal::KILL);
            }
            if !found {
                return;
            }
        }
    }
}

/// A process that descends from this one and has not ended.
struct Process {
    pid: Pid,
    session: i32,
    /// Those that it descends from, below this process.
    ancestors: Vec<i32>,
}

impl Process {
    fn belongs_to(&self, leader: Pid) -> bool {
        let leader = leader.as_raw_nonzero().get();
        self.session == leader
            || self.pid.as_raw_nonzero().get() == leader
            || self.ancestors.contains(&leader)
    }
}

/// State, parent and session of a process.
fn stat(pid: i32) -> Option<(char, i32, i32)> {
    let stat = fs::read(format!("/proc/{pid}/stat")).ok()?;
    // The name, in parentheses, may hold anything.
    let end = stat.iter().rposition(|&byte| byte == b')')?;
    let text = std::str::from_utf8(stat.get(end + 1..)?).ok()?;
    let mut fields = text.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let parent = fields.next()?.parse().ok()?;
    let session = fields.nth(1)?.parse().ok()?;
    Some((state, parent, session))
}

fn descendants() -> Vec<Process> {
    let own = getpid().as_raw_nonzero().get();
    let all: std::collections::BTreeMap<i32, (char, i32, i32)> = fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let pid = std::str::from_utf8(entry.ok()?.file_name().as_bytes()).ok()?.parse().ok()?;
            Some((pid, stat(pid)?))
        })
        .collect();
    let mut found = Vec::new();
    for (&pid, &(state, parent, session)) in &all {
        if matches!(state, 'Z' | 'X') {
            continue;
        }
        let mut ancestors = Vec::new();
        let mut at = parent;
        while at != own && ancestors.len() <= all.len() {
            ancestors.push(at);
            let Some((_, parent, _)) = all.get(&at) else { break };
            at = *parent;
        }
        if at == own
            && let Some(pid) = Pid::from_raw(pid)
        {
            found.push(Process { pid, session, ancestors });
        }
    }
    found
}

/// Options of `ampoule-agent --hosted ROOT --listen-fd N`.
struct Options {
    root: PathBuf,
    listen: RawFd,
}

fn parse(args: impl IntoIterator<Item = OsString>) -> Option<Options> {
    let (mut root, mut listen) = (None, None);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.to_str()? {
            "--hosted" => root = Some(PathBuf::from(args.next()?)),
            "--listen-fd" => listen = Some(args.next()?.to_str()?.parse().ok()?),
            _ => return None,
        }
    }
    Some(Options { root: root?, listen: listen? })
}

/// The agent as a plain process: `--hosted ROOT --listen-fd N`, where `ROOT` is a directory and `N` an
/// inherited listening Unix socket. Of several connections the newest counts. `args` begins with the first
/// option. To be called by a process that has no other thread and no child.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    let Some(options) = parse(args) else {
        return complain("usage: ampoule-agent --hosted ROOT --listen-fd N");
    };
    match serve(&options) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => complain(&format!("ampoule-agent: {error}")),
    }
}

fn complain(text: &str) -> ExitCode {
    // Where standard error is closed there is nobody to tell.
    let _ = rustix::io::write(rustix::stdio::stderr(), format!("{text}\n").as_bytes());
    ExitCode::FAILURE
}

fn serve(options: &Options) -> io::Result<()> {
    let root = options.root.canonicalize()?;
    system::ignore_broken_pipes();
    set_child_subreaper(Some(getpid()))?;
    let signals = system::signals(&[Signal::CHILD, Signal::TERM])?;
    let poller = Poller::new()?;
    let link = Link::listen(UnixListener::from(system::inherited(options.listen)?), &poller)?;
    let mut agent = Agent::new(Ground::Hosted(Hosted { root: root.clone() }), poller, link, signals)?;
    let outcome = agent.run();
    Hosted { root }.kill_all_but(&[]);
    outcome
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_requests_are_below_the_directory_once() {
        let hosted = Hosted { root: "/tmp/x".into() };
        assert_eq!(hosted.path(Path::new("/workspace/a")), Path::new("/tmp/x/workspace/a"));
        assert_eq!(hosted.path(Path::new("/tmp/x/workspace/a")), Path::new("/tmp/x/workspace/a"));
        assert_eq!(hosted.path(Path::new("/")), Path::new("/tmp/x"));
    }

    #[test]
    fn options_are_complete_or_refused() {
        let parsed = |args: &[&str]| parse(args.iter().map(OsString::from)).is_some();
        assert!(parsed(&["--hosted", "/x", "--listen-fd", "3"]));
        for bad in [&["--hosted", "/x"][..], &["--listen-fd", "3"], &["--hosted"], &["--what"], &[]] {
            assert!(!parsed(bad), "{bad:?}");
        }
    }
}
