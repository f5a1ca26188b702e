//! The helper: what `ampoule net-helper` runs.
//!
//! Purpose: it holds every namespace of one router, and does in them what its owner says. It knows no policy: what is
//! to be done comes from `router` as text for nft, ip and tc.
//! Owner: one router, over one socket. At that socket's end of file the helper ends, and with it all its children and
//! all namespaces.
//!
//! ```text
//!  ready ──request──▶ done at once (namespaces, settings), or queued ──▶ runs ──▶ answered
//!    └──end of file──▶ exit: PID 1's end is the end of everything
//! ```
//!
//! Invariants
//! - One thread. Nothing waits for a program: its end is a signal, its output is in memory until then.
//! - At one place one program runs at a time, in the order of the requests; at several places [`MOST_AT_ONCE`].
//! - Namespaces have no name: they are descriptors of this process, and gone with it. (A process that has a tap's
//!   descriptor keeps its namespace alive, cut off from everything, until it closes it.)

mod netfilter;
pub(crate) mod protocol;

use std::{
    collections::{BTreeMap, VecDeque},
    ffi::{CString, OsString},
    fs::{self, File},
    io::{self, Read, Seek, Write},
    os::{
        fd::{AsFd, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::{Path, PathBuf},
    process::ExitCode,
};

use jail::network::{self, PROGRAMS, Spawn};
use rustix::{
    event::{PollFd, PollFlags, poll},
    fs::MemfdFlags,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, WaitStatus},
};

use protocol::{Answer, Ask, Id, Place, Said, Setting, Tool, hear, say};

/// Programs at once.
const MOST_AT_ONCE: usize = 6;

/// Runs the helper: to be called first thing in `main`, before any thread, by the program that
/// [`crate::Config::helper`] names. `args` are what followed the leading arguments: none.
#[must_use]
pub fn main(args: impl IntoIterator<Item = OsString>) -> ExitCode {
    network::main(args, run, |owner, what| {
        let _ = say(&owner, &Said::Failed(what), &[]);
    })
}

fn run(helper: network::Helper) -> ExitCode {
    match Work::new(helper).and_then(|mut work| work.serve()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// A program that runs, and what waits for its end.
#[derive(Debug)]
struct Running {
    id: u64,
    at: Place,
    output: File,
    errors: File,
}

/// One that does not run yet.
#[derive(Debug)]
struct Waiting {
    id: u64,
    at: Place,
    tool: Tool,
    args: Vec<String>,
    input: String,
    with: Vec<Id>,
}

/// A network namespace.
#[derive(Debug)]
struct Made {
    namespace: OwnedFd,
    /// A socket of netfilter in it.
    netfilter: OwnedFd,
}

#[derive(Debug)]
struct Work {
    owner: UnixStream,
    children: OwnedFd,
    null: File,
    namespaces: BTreeMap<Id, Made>,
    next: u32,
    waiting: VecDeque<Waiting>,
    running: Vec<(Pid, Running)>,
}

impl Work {
    fn new(helper: network::Helper) -> io::Result<Self> {
        say(&helper.owner, &Said::Ready { root: helper.root }, &[])?;
        let null = File::options().read(true).write(true).open("/dev/null")?;
        Ok(Self {
            owner: helper.owner,
            children: helper.children,
            null,
            namespaces: BTreeMap::new(),
            next: 0,
            waiting: VecDeque::new(),
            running: Vec::new(),
        })
    }

    /// Until the owner is gone.
    fn serve(&mut self) -> io::Result<()> {
        loop {
            let mut polled =
                [PollFd::new(&self.owner, PollFlags::IN), PollFd::new(&self.children, PollFlags::IN)];
            match poll(&mut polled, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            let (owner, children) = (polled[0].revents(), polled[1].revents());
            if !children.is_empty() {
                for (pid, status) in network::ended(self.children.as_fd())? {
                    self.ended(pid, status)?;
                }
            }
            if !owner.is_empty() {
                let Some(request) = hear(&self.owner)? else { return Ok(()) };
                self.asked(request.id, request.ask)?;
            }
            self.start()?;
        }
    }

    fn asked(&mut self, id: u64, ask: Ask) -> io::Result<()> {
        match ask {
            Ask::Run { at, tool, args, input, with } => {
                self.waiting.push_back(Waiting { id, at, tool, args, input, with });
                Ok(())
            }
            Ask::Make { settings, tap } => {
                let made = make(&settings, tap);
                let (made, tap) = match made {
                    Ok(made) => made,
                    Err(error) => return self.answer(id, Err(error), &[]),
                };
                let new = Id(self.next);
                self.next += 1;
                self.namespaces.insert(new, made);
                let tap: Vec<BorrowedFd<'_>> = tap.iter().map(AsFd::as_fd).collect();
                self.answer(id, Ok(Answer::Made(new)), &tap)
            }
            Ask::Keep { at, tool, args } => match self.keep(at, tool, &args) {
                Ok(ends) => self.answer(id, Ok(Answer::Kept), &[ends.0.as_fd(), ends.1.as_fd()]),
                Err(error) => self.answer(id, Err(error), &[]),
            },
            Ask::Settings { at, write, read } => {
                let done = self.namespace(at).and_then(|at| settings(at, &write, &read));
                self.answer(id, done.map(Answer::Settings), &[])
            }
            Ask::Netfilter { namespace, batch } => {
                let done = match self.namespaces.get(&namespace) {
                    Some(made) => netfilter::send(made.netfilter.as_fd(), &batch),
                    None => Err(no_namespace()),
                };
                self.answer(id, done.map(|()| Answer::Set), &[])
            }
            Ask::Anchor(namespace) => {
                let namespace = self.namespace(Place::In(namespace));
                let anchored = namespace.and_then(|at| network::anchor(at.unwrap_or(self.null.as_fd())));
                self.answer(id, anchored.map(Answer::Anchored), &[])
            }
            Ask::Installed(tools) => {
                let installed = tools.into_iter().map(|tool| find(tool).is_some()).collect();
                self.answer(id, Ok(Answer::Installed(installed)), &[])
            }
            Ask::Forget(namespace) => {
                self.namespaces.remove(&namespace);
                self.answer(id, Ok(Answer::Forgotten), &[])
            }
        }
    }

    fn answer(&self, id: u64, answer: io::Result<Answer>, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        let answer = answer.map_err(|error| error.to_string());
        say(&self.owner, &Said::Answer { id, answer }, fds)
    }

    fn namespace(&self, at: Place) -> io::Result<Option<BorrowedFd<'_>>> {
        match at {
            Place::Host => Ok(None),
            Place::In(id) => match self.namespaces.get(&id) {
                Some(made) => Ok(Some(made.namespace.as_fd())),
                None => Err(no_namespace()),
            },
        }
    }

    /// Starts what can be started.
    fn start(&mut self) -> io::Result<()> {
        let mut busy: Vec<Place> = self.running.iter().map(|(_, running)| running.at).collect();
        let mut at = 0;
        while at < self.waiting.len() && self.running.len() < MOST_AT_ONCE {
            let place = self.waiting[at].at;
            if busy.contains(&place) {
                at += 1;
                continue;
            }
            busy.push(place);
            let Some(next) = self.waiting.remove(at) else { break };
            match self.launch(&next) {
                Ok((pid, output, errors)) => {
                    self.running.push((pid, Running { id: next.id, at: next.at, output, errors }));
                }
                Err(error) => {
                    busy.pop();
                    self.answer(next.id, Err(error), &[])?;
                }
            }
        }
        Ok(())
    }

    fn launch(&self, what: &Waiting) -> io::Result<(Pid, File, File)> {
        let path = installed(what.tool)?;
        let (mut input, output, errors) = (memory()?, memory()?, memory()?);
        input.write_all(what.input.as_bytes())?;
        input.rewind()?;
        let mut descriptors = vec![input.as_fd(), output.as_fd(), errors.as_fd()];
        for id in &what.with {
            descriptors.extend(self.namespace(Place::In(*id))?);
        }
        let program = network::tool(&path, &what.args);
        let namespace = self.namespace(what.at)?;
        let pid = network::spawn(&Spawn { program: &program, namespace, descriptors: &descriptors })?;
        Ok((pid, output, errors))
    }

    fn keep(&self, at: Place, tool: Tool, args: &[String]) -> io::Result<(OwnedFd, OwnedFd)> {
        let program = network::tool(&installed(tool)?, args);
        let (input, to_input) = pipe_with(PipeFlags::CLOEXEC)?;
        let (from_output, output) = pipe_with(PipeFlags::CLOEXEC)?;
        let descriptors = [input.as_fd(), output.as_fd(), output.as_fd()];
        let namespace = self.namespace(at)?;
        network::spawn(&Spawn { program: &program, namespace, descriptors: &descriptors })?;
        Ok((to_input, from_output))
    }

    fn ended(&mut self, pid: Pid, status: WaitStatus) -> io::Result<()> {
        // others are children of children, which came to PID 1, and what is kept: its owner sees the end of its output
        let Some(at) = self.running.iter().position(|(running, _)| *running == pid) else { return Ok(()) };
        let (_, mut running) = self.running.swap_remove(at);
        let read = |file: &mut File| {
            let mut bytes = Vec::new();
            file.rewind()?;
            file.read_to_end(&mut bytes)?;
            Ok::<_, io::Error>(String::from_utf8_lossy(&bytes).into_owned())
        };
        let output = read(&mut running.output)?;
        let errors = read(&mut running.errors)?;
        let code = status.exit_status();
        self.answer(running.id, Ok(Answer::Ran { code, output, errors }), &[])
    }
}

/// A new namespace, and a tap in it.
fn make(write: &[Setting], tap: Option<String>) -> io::Result<(Made, Option<OwnedFd>)> {
    let name = tap.map(CString::new).transpose().map_err(io::Error::other)?;
    let work = || {
        let namespace = network::leave().map_err(told("make a network namespace"))?;
        for setting in write {
            write_setting(setting)?;
        }
        let mut made = vec![namespace, netfilter::socket().map_err(told("make a socket of netfilter"))?];
        if let Some(name) = &name {
            made.push(network::make_tap(name).map_err(told("make a tap (/dev/net/tun)"))?);
        }
        Ok((Vec::new(), made))
    };
    let (_, fds) = network::within(None, work)?;
    let mut fds = fds.into_iter();
    match (fds.next(), fds.next(), fds.next()) {
        (Some(namespace), Some(netfilter), tap) if tap.is_some() == name.is_some() => {
            Ok((Made { namespace, netfilter }, tap))
        }
        _ => Err(io::Error::other("a namespace was lost on its way")),
    }
}

fn settings(
    at: Option<BorrowedFd<'_>>,
    write: &[Setting],
    read: &[String],
) -> io::Result<Vec<Option<String>>> {
    let work = || {
        for setting in write {
            write_setting(setting)?;
        }
        let values = read.iter().map(|name| match fs::read_to_string(file(name)?) {
            Ok(text) => Ok(Some(text.trim().to_owned())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(told(&format!("read {name}"))(error)),
        });
        let values = values.collect::<io::Result<Vec<_>>>()?;
        Ok((serde_json::to_vec(&values)?, Vec::new()))
    };
    let (text, _) = network::within(at, work)?;
    Ok(serde_json::from_slice(&text)?)
}

fn write_setting((name, value): &Setting) -> io::Result<()> {
    match fs::write(file(name)?, value) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        result => result.map_err(told(&format!("set {name} to {value}"))),
    }
}

fn file(name: &str) -> io::Result<PathBuf> {
    if name.split('/').any(|part| part.is_empty() || part == "..") {
        return Err(io::Error::other("no setting has such a name"));
    }
    Ok(Path::new("/proc/sys/net").join(name))
}

fn no_namespace() -> io::Error {
    io::Error::other("there is no such namespace")
}

fn told(what: &str) -> impl FnOnce(io::Error) -> io::Error {
    let what = format!("cannot {what}");
    move |error| io::Error::new(error.kind(), format!("{what}: {error}"))
}

fn memory() -> io::Result<File> {
    Ok(rustix::fs::memfd_create("net-helper", MemfdFlags::CLOEXEC)?.into())
}

fn find(tool: Tool) -> Option<PathBuf> {
    PROGRAMS.iter().map(|dir| Path::new(dir).join(tool.name())).find(|path| path.is_file())
}

fn installed(tool: Tool) -> io::Result<PathBuf> {
    find(tool).ok_or_else(|| io::Error::other(format!("{} is not installed", tool.name())))
}
