//! The half of the shim inside the jail: starts the VMM and is its only company.
//!
//! ```text
//!   owned ── end of file, Keep ──▶ waiting ── a new owner ──▶ owned
//!     │ end of file, Kill             │ time is up
//!     │ order to end                  │
//!     │ VMM ended                     │ VMM ended
//!     └───────────────▶ ended ◀───────┘      (its exit ends every process of the pid namespace)
//! ```

use std::{
    fs::File,
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    process::ExitCode,
    time::{Duration, SystemTime},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{Pid, Signal, WaitOptions, WaitStatus, set_parent_process_death_signal, setsid, wait},
};
use serde::{Deserialize, Serialize};

use super::{
    Config, Failure, Orders, Report, Wish,
    logs::Drain,
    privileges, program, signals,
    spaces::{self, Missing},
    tap, view,
};
use crate::{Ending, ExitRecord, Level, OwnerLoss, Part, filter};

/// Everything that the outer half prepared.
pub(super) struct Init {
    pub(super) channel: UnixStream,
    pub(super) config: Config,
    pub(super) listener: UnixListener,
    /// Each with the program's end and its number there.
    pub(super) logs: Vec<(Drain, OwnedFd, i32)>,
    pub(super) inherit: Vec<OwnedFd>,
    pub(super) missing: Missing,
    /// Where the exit record goes.
    pub(super) record: File,
}

/// What the program's process says before it becomes the program: nothing else means that it did.
#[derive(Debug, Serialize, Deserialize)]
struct Prepared {
    missing: Vec<Part>,
    failed: Option<String>,
}

/// The longest wait in one piece: the clock that [`OwnerLoss::Keep`] counts by may be set meanwhile.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// Runs until the VMM is to end. `_lock` is held by both halves.
pub(super) fn run(mut init: Init, mut go: File, _lock: &OwnedFd) -> Result<ExitCode, Failure> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::io("follow the monitor"))?;
    if !matches!(go.read(&mut [0]), Ok(1)) {
        // The monitor is gone, or could not write down who this is: it reports.
        return Ok(ExitCode::FAILURE);
    }
    drop(go);
    setsid().map_err(Failure::io("start a session"))?;
    for part in [Part::NetworkNamespace, Part::IpcNamespace, Part::UtsNamespace] {
        spaces::enter(part, &mut init.missing);
    }
    let children = program::out_of_the_way(signals::children()?)?;
    let Some(vmm) = start(&mut init)? else { return Ok(ExitCode::FAILURE) };
    privileges::drop_capabilities()?;

    let started = Report::Started { missing: init.missing.parts().to_vec() };
    started.send(&init.channel);
    init.channel.set_nonblocking(true).map_err(Failure::io("set up the owner's socket"))?;
    let mut watch = Watch {
        owner: Owner::Here(init.channel),
        listener: init.listener,
        children,
        logs: init.logs.into_iter().map(|(drain, ..)| drain).collect(),
        on_owner_loss: init.config.on_owner_loss,
        orders: Orders::default(),
        vmm,
        started,
    };
    let record = watch.run()?;
    if let Owner::Here(channel) = &watch.owner {
        Report::Ended { record: record.clone() }.send(channel);
    }
    let text = serde_json::to_vec(&record).map_err(Failure::io("write the exit record"))?;
    init.record.write_all(&text).map_err(Failure::io("write the exit record"))?;
    Ok(ExitCode::SUCCESS)
}

/// Starts the VMM. `None`: this is the process that should have become it, or nobody wants it any more.
fn start(init: &mut Init) -> Result<Option<Pid>, Failure> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(Failure::io("make a pipe"))?;
    let (mut reader, mut writer) =
        (File::from(program::out_of_the_way(reader)?), File::from(program::out_of_the_way(writer)?));
    let parent = rustix::process::getpid();
    let Some(vmm) = spaces::fork()? else {
        drop(reader);
        let failure = become_program(init, &mut writer, parent);
        say(&mut writer, &Prepared { missing: Vec::new(), failed: Some(failure.to_string()) });
        return Ok(None);
    };
    drop(writer);
    // The program's descriptors are the program's alone.
    init.inherit.clear();
    for (_, writer, _) in &mut init.logs {
        *writer = File::open("/dev/null").map_err(Failure::io("open /dev/null"))?.into();
    }

    let mut text = Vec::new();
    loop {
        let mut fds = [PollFd::new(&reader, PollFlags::IN), PollFd::new(&init.channel, PollFlags::RDHUP)];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => return Err(Failure::io("wait for the program")(error)),
        }
        if !fds[1].revents().is_empty() {
            return Ok(None);
        }
        if !fds[0].revents().is_empty() {
            let mut buffer = [0; 4096];
            match reader.read(&mut buffer).map_err(Failure::io("wait for the program"))? {
                0 => break,
                length => text.extend_from_slice(&buffer[..length]),
            }
        }
    }
    let mut prepared = false;
    for line in serde_json::Deserializer::from_slice(&text).into_iter::<Prepared>() {
        let line = line.map_err(|_| Failure::Killed)?;
        if let Some(what) = line.failed {
            Report::Failed { what }.send(&init.channel);
            return Ok(None);
        }
        prepared = true;
        init.missing.extend(line.missing);
    }
    if prepared { Ok(Some(vmm)) } else { Err(Failure::Killed) }
}

/// The last process on its way to the VMM; returns only when that fails.
fn become_program(init: &mut Init, report: &mut File, parent: Pid) -> Failure {
    match prepare(init, report, parent) {
        Ok(()) => program::exec(&init.config.program, init.config.filter.as_ref()),
        Err(failure) => failure,
    }
}

fn prepare(init: &mut Init, report: &mut File, parent: Pid) -> Result<(), Failure> {
    // while the host's devices can be seen
    let tap = init.config.tap.map(|target| Ok((tap::make(&init.missing)?, target))).transpose()?;
    view::enter(init.config.view.as_ref(), &init.config.dir, &mut init.missing)?;
    if init.config.filter.is_some() && !filter::can_be_had() {
        init.missing.add(Part::Filter);
        init.config.filter = None;
    }
    if init.config.level == Level::Strict && !init.missing.parts().is_empty() {
        return Err(Failure::Missing(init.missing.parts().to_vec()));
    }
    privileges::drop_for_program(init.config.ids, &init.config.groups)?;
    // After the change of identity, which clears it. In a pid namespace it is the second of two safeguards.
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(Failure::io("follow the shim"))?;
    if rustix::process::getppid() != Some(parent) {
        return Err(Failure::Killed);
    }
    signals::unblock_all()?;
    for (_, writer, target) in &init.logs {
        program::place(writer.as_fd(), *target)?;
    }
    for (fd, target) in init.inherit.iter().zip(&init.config.targets) {
        program::place(fd.as_fd(), *target)?;
    }
    if let Some((tap, target)) = &tap {
        program::place(tap.as_fd(), *target)?;
    }
    say(report, &Prepared { missing: init.missing.parts().to_vec(), failed: None });
    Ok(())
}

fn say(report: &mut File, what: &Prepared) {
    if let Ok(text) = serde_json::to_vec(what) {
        // The reader is the parent, whose end is this process's end.
        let _ = report.write_all(&text);
    }
}

enum Owner {
    Here(UnixStream),
    Awaited { until: SystemTime },
}

/// The state while the VMM runs.
struct Watch {
    owner: Owner,
    listener: UnixListener,
    children: OwnedFd,
    logs: Vec<Drain>,
    on_owner_loss: OwnerLoss,
    /// Of the owner that is here.
    orders: Orders,
    vmm: Pid,
    started: Report,
}

impl Watch {
    fn run(&mut self) -> Result<ExitRecord, Failure> {
        let killed = |ending| ExitRecord { ending, code: None, signal: Some(libc::SIGKILL) };
        loop {
            self.wait()?;
            if let Some(status) = self.reap() {
                self.logs.iter_mut().for_each(drain_rest);
                let (code, signal) = (status.exit_status(), status.terminating_signal());
                return Ok(ExitRecord { ending: Ending::Itself, code, signal });
            }
            for log in &mut self.logs {
                log.step();
            }
            // first, so that whoever comes right after an owner is not sent away for it
            if let Some(ending) = self.listen_to_owner() {
                return Ok(killed(ending));
            }
            self.greet();
        }
    }

    fn wait(&self) -> Result<(), Failure> {
        let mut timeout = LONGEST_WAIT;
        let mut fds = vec![PollFd::new(&self.children, PollFlags::IN)];
        match &self.owner {
            Owner::Here(channel) => fds.push(PollFd::new(channel, PollFlags::IN)),
            Owner::Awaited { until } => {
                let left = until.duration_since(SystemTime::now()).unwrap_or_default();
                timeout = timeout.min(left);
            }
        }
        fds.push(PollFd::new(&self.listener, PollFlags::IN));
        fds.extend(self.logs.iter().filter(|log| log.is_open()).map(|log| PollFd::new(log, PollFlags::IN)));
        let timeout = Timespec::try_from(timeout).map_err(|_| Failure::Killed)?;
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(()),
            Err(error) => Err(Failure::io("wait")(error)),
        }
    }

    /// Reaps every child that ended; the VMM's status if it is among them.
    fn reap(&self) -> Option<WaitStatus> {
        let mut info = [0; 128];
        while matches!(rustix::io::read(&self.children, &mut info), Ok(length) if length > 0) {}
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            if pid == self.vmm {
                return Some(status);
            }
        }
        None
    }

    /// A new owner where none is there; anyone else who comes is sent away. Who may come is the directory's
    /// and the socket's mode: its owner (the peer's credentials are of no use in here, its pid is not of this
    /// namespace).
    fn greet(&mut self) {
        let Ok((channel, _)) = self.listener.accept() else { return };
        let Ok(channel) = program::out_of_the_way(channel.into()).map(UnixStream::from) else { return };
        let Owner::Awaited { .. } = self.owner else { return };
        if channel.set_nonblocking(true).is_ok() {
            self.started.send(&channel);
            self.orders = Orders::default();
            self.owner = Owner::Here(channel);
        }
    }

    /// What the owner, or its absence, means: `Some` is the end.
    fn listen_to_owner(&mut self) -> Option<Ending> {
        match &mut self.owner {
            Owner::Awaited { until } => (*until <= SystemTime::now()).then_some(Ending::Expired),
            Owner::Here(channel) => {
                let mut orders = [0; 64];
                match channel.read(&mut orders) {
                    Ok(length) if length > 0 => {
                        for wish in orders[..length].iter().filter_map(|byte| self.orders.next(*byte)) {
                            match wish {
                                Wish::End => return Some(Ending::Asked),
                                Wish::Keep(until) => self.on_owner_loss = OwnerLoss::Keep { until },
                            }
                        }
                        None
                    }
                    Err(error)
                        if matches!(
                            error.kind(),
                            std::io::ErrorKind::WouldBlock | std::io::ErrorKind::Interrupted
                        ) =>
                    {
                        None
                    }
                    _ => match self.on_owner_loss {
                        OwnerLoss::Kill => Some(Ending::OwnerLost),
                        OwnerLoss::Keep { until } => {
                            self.owner = Owner::Awaited { until };
                            None
                        }
                    },
                }
            }
        }
    }
}

/// What the ended program left in the pipe; bounded, for another process may hold it open and write on.
fn drain_rest(log: &mut Drain) {
    for _ in 0..1024 {
        if !log.step() {
            break;
        }
    }
}
