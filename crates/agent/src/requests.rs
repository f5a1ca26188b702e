//! What the host asks.
//!
//! Purpose: each kind of [`Request`] to its deed and its one [`Reply`](wire::message::Reply).
//! Owner: the loop; a part of it.
//!
//! Invariant: a request that is refused resets the streams that it named, so that the host's ends close.

use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    process::{Pid, Signal, kill_process_group},
};
use tree::Owner;
use wire::{
    Code, Direction, StreamId,
    message::{
        Account, Answer, Body, CopyIn, CopyOut, Exec as ExecRequest, Failure, FailureKind, Freeze, Inherited,
        Pong, Request, Resize, Started, TerminalSize, WriteBack,
    },
};

use crate::{
    agent::{Agent, Ground, User},
    cgroup,
    copy::{self, Incoming, Outgoing},
    ends::{self, Ends, Kind},
    exec::{Exec, Input, Output},
    failure::{failure, io_failure},
    life::{Life, Silence, Stage},
    prepare,
    spawn::{Spawn, spawn},
    system::now_ns,
    users, warm,
};

/// How long the job may take to stop for a Freeze.
const FREEZE: Duration = Duration::from_secs(3);

impl Agent {
    pub(crate) fn request(&mut self, request: Request) {
        // Asked in another life: nobody waits for an answer.
        if request.epoch != self.mux.epoch() {
            return;
        }
        let id = request.id;
        let named: Vec<StreamId> = match &request.body {
            Body::Exec(exec) => exec.stdin.into_iter().chain([exec.stdout, exec.stderr]).collect(),
            Body::CopyIn(copy) => vec![copy.stream],
            Body::CopyOut(copy) => vec![copy.stream],
            Body::Warm(_) | Body::Prepare(_) | Body::Bind(_) | Body::Signal(_) | Body::Resize(_) => {
                Vec::new()
            }
            Body::Kill(_) | Body::Ping | Body::Freeze(_) | Body::Thaw | Body::Shutdown | Body::Accept(_) => {
                Vec::new()
            }
        };
        match self.answer(id, request.body) {
            Ok(None) => {}
            Ok(Some(answer)) => self.reply(id, Ok(answer)),
            Err(error) => {
                for stream in named {
                    self.streams.remove(&stream);
                    self.mux.reset(stream, Code::REFUSED);
                }
                self.reply(id, Err(error));
            }
        }
    }

    /// `None`: the answer comes later.
    fn answer(&mut self, id: u64, body: Body) -> Result<Option<Answer>, Failure> {
        let state = |text: &str| Err(failure(FailureKind::State, text));
        match (&body, self.life) {
            (_, Life::Ending(_)) => return state("the guest is shutting down"),
            (Body::Ping | Body::Shutdown | Body::Prepare(_), Life::Fresh | Life::Warm) => {}
            (Body::Warm(_), Life::Fresh) => {}
            (Body::Warm(_), _) => return state("the guest is warm already"),
            (_, Life::Fresh | Life::Warm) => return state("the guest is not prepared"),
            (Body::Prepare(_), _) => return state("the guest is prepared already"),
            (Body::Freeze(_), Life::Freezing(..) | Life::Frozen) => {
                return state("the guest is frozen already");
            }
            (Body::Exec(_) | Body::CopyIn(_) | Body::CopyOut(_), Life::Freezing(..) | Life::Frozen) => {
                return state("the guest is frozen");
            }
            _ => {}
        }
        Ok(Some(match body {
            Body::Warm(wanted) => {
                if let Ground::Machine = self.ground {
                    warm::warm(&mut self.disks, &wanted)?;
                }
                self.life = Life::Warm;
                Answer::Done
            }
            Body::Prepare(wanted) => {
                let prepared = prepare::prepare(&self.ground, &mut self.disks, &wanted)?;
                self.ways(wanted.network.as_ref())?;
                prepare::hooks(&self.ground, wanted.hooks)?;
                self.refill();
                self.life = Life::Prepared;
                Answer::Prepared(prepared)
            }
            Body::Bind(wanted) => {
                self.end_inherited(&wanted.inherited);
                prepare::bind(&self.ground, &mut self.disks, &wanted)?;
                self.ways(wanted.network.as_ref())?;
                prepare::hooks(&self.ground, wanted.hooks)?;
                Answer::Done
            }
            Body::Exec(wanted) => self.exec(&wanted)?,
            Body::Signal(wanted) => {
                let signal = Signal::from_named_raw(wanted.signal).ok_or_else(|| {
                    failure(FailureKind::Invalid, format!("there is no signal {}", wanted.signal))
                })?;
                // Not after it was reaped: the number may belong to another process then.
                if let Some(exec) = self.by_id.get(&wanted.exec).and_then(|number| self.execs.get(number))
                    && exec.ended.is_none()
                {
                    match kill_process_group(exec.pid, signal) {
                        Ok(()) | Err(Errno::SRCH) => {}
                        Err(errno) => return Err(io_failure("the signal", errno)),
                    }
                }
                Answer::Done
            }
            Body::Kill(wanted) => {
                if let Some(&number) = self.by_id.get(&wanted.exec) {
                    self.kill(number);
                }
                Answer::Done
            }
            Body::Resize(wanted) => {
                self.resize(&wanted)?;
                Answer::Done
            }
            Body::CopyIn(wanted) => return self.copy_in(id, &wanted).map(|()| None),
            Body::CopyOut(wanted) => return self.copy_out(id, &wanted).map(|()| None),
            Body::Ping => Answer::Pong(Pong { time_ns: now_ns() }),
            Body::Freeze(wanted) => return self.freeze(id, wanted).map(|()| None),
            Body::Thaw => {
                self.thaw()?;
                Answer::Done
            }
            Body::Shutdown => {
                self.end();
                Answer::Done
            }
            Body::Accept(wanted) => {
                let known = match self.streams.get(&wanted.stream) {
                    Some(User::Names) => true,
                    Some(User::Forward) => self.ways.forwards.accepted(wanted.stream),
                    _ => false,
                };
                if !known {
                    return state("no stream waits to be accepted");
                }
                Answer::Done
            }
        }))
    }

    /// A path of a request as this process sees it.
    fn path(&self, path: &str) -> Result<PathBuf, Failure> {
        let wanted = Path::new(path);
        if !wanted.is_absolute() || path.contains('\0') {
            return Err(failure(FailureKind::Invalid, format!("{path:?} is no absolute path")));
        }
        Ok(match &self.ground {
            Ground::Machine => wanted.to_owned(),
            Ground::Hosted(hosted) => hosted.path(wanted),
        })
    }

    fn owner(&self, account: &Account) -> Result<Option<Owner>, Failure> {
        match self.ground {
            Ground::Machine => {
                let identity = users::resolve(account)?;
                Ok(Some(Owner { uid: identity.uid, gid: identity.gid }))
            }
            Ground::Hosted(_) => Ok(None),
        }
    }

    fn accept(&mut self, stream: StreamId, direction: Direction) -> Result<(), Failure> {
        self.mux.accept(stream, direction).map_err(|error| failure(FailureKind::Invalid, error.to_string()))
    }

    fn exec(&mut self, wanted: &ExecRequest) -> Result<Answer, Failure> {
        if self.by_id.contains_key(&wanted.exec) {
            return Err(failure(FailureKind::Invalid, format!("execution {} exists", wanted.exec)));
        }
        let cwd = self.path(&wanted.cwd)?;
        let identity = match self.ground {
            Ground::Machine => Some(users::resolve(&wanted.user)?),
            Ground::Hosted(_) => None,
        };
        let Ends { kind, outputs, input, terminal, stdin, stdout, stderr } =
            ends::open(wanted, identity.as_ref())?;
        for (stream, _) in &outputs {
            self.accept(*stream, Direction::Send)?;
        }
        if let Some((stream, _)) = &input {
            self.accept(*stream, Direction::Receive)?;
        }
        let cgroup = match self.ground {
            Ground::Machine => {
                Some(self.cgroups.take().map_err(|error| io_failure("a control group", error))?)
            }
            Ground::Hosted(_) => None,
        };
        let started = spawn(Spawn {
            argv: &wanted.argv,
            env: &wanted.env,
            cwd: &cwd,
            identity,
            kind,
            stdin,
            stdout,
            stderr,
            cgroup: cgroup.as_ref(),
        });
        let pid = match started {
            Ok(pid) => pid,
            Err(error) => {
                if let Some(cgroup) = &cgroup {
                    // One that stays is empty and harms nobody.
                    let _ = cgroup.remove();
                }
                return Err(error);
            }
        };
        let time_ns = now_ns();
        let outputs: Vec<Output> =
            outputs.into_iter().map(|(stream, end)| Output::new(stream, self.token(), end, kind)).collect();
        let stdin = input.map(|(stream, end)| Input::new(stream, self.token(), end));
        let deadline = wanted.timeout_ms.and_then(|ms| Instant::now().checked_add(Duration::from_millis(ms)));
        self.adopt(Exec {
            id: wanted.exec,
            epoch: self.mux.epoch(),
            pid,
            cgroup,
            stdin,
            outputs,
            terminal,
            deadline,
            timed_out: false,
            ended: None,
            reported: false,
        });
        let terminal = kind == Kind::Terminal;
        Ok(Answer::Started(Started { pid: pid.as_raw_nonzero().get().unsigned_abs(), time_ns, terminal }))
    }

    fn resize(&self, wanted: &Resize) -> Result<(), Failure> {
        let Some(exec) = self.by_id.get(&wanted.exec).and_then(|number| self.execs.get(number)) else {
            return Ok(());
        };
        match &exec.terminal {
            Some(terminal) => {
                ends::resize(terminal, TerminalSize { rows: wanted.rows, columns: wanted.columns })
            }
            None if exec.ended.is_some() => Ok(()),
            None => Err(failure(FailureKind::Invalid, format!("execution {} has no terminal", wanted.exec))),
        }
    }

    /// Kills everything of an execution.
    pub(crate) fn kill(&mut self, number: u64) {
        let Some(exec) = self.execs.get(&number) else { return };
        let by_group = match &exec.cgroup {
            Some(cgroup) => cgroup.kill().is_err(),
            None => true,
        };
        if !by_group {
            return;
        }
        if exec.ended.is_none() {
            // It may have ended just now.
            let _ = kill_process_group(exec.pid, Signal::KILL);
        }
        if let Ground::Hosted(hosted) = &self.ground {
            let others: Vec<Pid> = self
                .execs
                .iter()
                .filter(|(other, exec)| **other != number && exec.ended.is_none())
                .map(|(_, exec)| exec.pid)
                .collect();
            hosted.kill_all_but(&others);
        }
    }

    fn copy_in(&mut self, id: u64, wanted: &CopyIn) -> Result<(), Failure> {
        let dest = self.path(&wanted.dest)?;
        let owner = self.owner(&wanted.owner)?;
        self.accept(wanted.stream, Direction::Receive)?;
        let copy = Incoming::start(id, wanted.stream, dest, owner, self.reports.reporter())?;
        self.incoming.insert(wanted.stream, copy);
        self.streams.insert(wanted.stream, User::CopyIn);
        Ok(())
    }

    fn copy_out(&mut self, id: u64, wanted: &CopyOut) -> Result<(), Failure> {
        let path = self.path(&wanted.path)?;
        self.accept(wanted.stream, Direction::Send)?;
        let copy = Outgoing::start(id, wanted.stream, path, self.reports.reporter())?;
        self.outgoing.insert(wanted.stream, copy);
        self.streams.insert(wanted.stream, User::CopyOut);
        Ok(())
    }

    fn freeze(&mut self, id: u64, wanted: Freeze) -> Result<(), Failure> {
        if let Ground::Machine = self.ground
            && let Err(error) = cgroup::freeze_job(FREEZE)
        {
            let _ = cgroup::thaw_job();
            return Err(io_failure("the job does not stop", error));
        }
        let stage = match wanted.disks {
            WriteBack::All => {
                copy::sync(self.reports.reporter(), id)?;
                Stage::Writing
            }
            WriteBack::None => Stage::LastWords,
        };
        self.life = Life::Freezing(id, stage);
        Ok(())
    }

    fn thaw(&mut self) -> Result<(), Failure> {
        if let Ground::Machine = self.ground {
            cgroup::thaw_job().map_err(|error| io_failure("the job does not go on", error))?;
        }
        match self.life {
            Life::Freezing(request, _) => {
                self.life = Life::Prepared;
                self.reply(
                    request,
                    Err(failure(FailureKind::State, "it was to go on before it stood still")),
                );
            }
            Life::Frozen => self.life = Life::Prepared,
            Life::Fresh | Life::Warm | Life::Prepared | Life::Ending(_) => {}
        }
        self.silence = Silence::No;
        Ok(())
    }

    /// Kills executions that another host asked for. One that is frozen dies all the same.
    fn end_inherited(&mut self, wanted: &Inherited) {
        let epoch = self.mux.epoch();
        let doomed: Vec<u64> = self
            .execs
            .iter()
            .filter(|(_, exec)| match wanted {
                Inherited::GoOn => false,
                Inherited::Kill => exec.epoch != epoch,
                Inherited::KillOnly(names) => exec.epoch == self.before && names.contains(&exec.id),
            })
            .map(|(number, _)| *number)
            .collect();
        for number in doomed {
            self.kill(number);
        }
    }
}
