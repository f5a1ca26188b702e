//! Sandboxes that outlive the command which makes them.
//!
//! ```text
//!   create ─▶ n leases, all or none ─▶ each left to the engine ─▶ its id
//!   exec, cp ─▶ id ─▶ a handle of it        branch ─▶ id ─▶ a copy of it ─▶ n leases, as create
//!   ls, inspect, rm ─▶ what the engine keeps
//! ```
//! Owner: `cli` calls each once. Invariants: only sandboxes with the mark of these commands are seen, so that one of
//! another door is not ended by hand; a beginning of an id that could be two is refused before anything is done.

pub(crate) mod copy;
mod create;
mod inside;
pub(crate) mod place;
mod show;

use std::{
    io::{self, Write},
    path::Path,
    process::ExitCode,
    time::Duration,
};

use sandbox::{Engine, Kept, Sandbox};
use tokio_util::sync::CancellationToken;

use self::show::Named;
use super::{SandboxCmdError, member::How};
use crate::{
    bare,
    class::End,
    cli::{
        args::{MachineArgs, StateArgs},
        kept_args::{BranchArgs, CpArgs, CreateArgs, InsideArgs, InspectArgs, LsArgs, RefusedArgs, RmArgs},
    },
    engine_cmd,
    exec::{machine::MachineError, warn},
    prefix,
    registry::Registry,
    sanitise::{self, Colours},
    signals::{Signals, Wish},
    sink::Look,
    state_dir,
};

/// Whose they are, for the engine.
pub(crate) const MARK: &str = "sandbox";
/// Characters of an id that people are shown: all.
const SHOWN: usize = 35;

/// How a command in a sandbox ended.
#[derive(Debug)]
pub(super) enum Inside {
    Ended(How),
    /// It was killed, since nobody is there any more.
    Left,
}

/// The exit code of a command in a sandbox.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(u8);

impl From<Code> for ExitCode {
    fn from(code: Code) -> Self {
        code.0.into()
    }
}

/// Forks sandboxes that stay, and prints their ids.
pub fn create(args: &CreateArgs, registry: &Registry) -> Result<End, SandboxCmdError> {
    create::run(args, registry)
}

/// Forks sandboxes of one that runs.
pub fn branch(args: &BranchArgs, registry: &Registry) -> Result<End, SandboxCmdError> {
    create::branch(args, registry)
}

/// Runs a command in a sandbox; its exit code.
pub fn inside(args: &InsideArgs, registry: &Registry) -> Result<Code, SandboxCmdError> {
    if args.command.first().is_some_and(String::is_empty) {
        return Err(SandboxCmdError::NoProgram);
    }
    let run = async |_: &Engine, sandbox: &Sandbox, _| inside::run(sandbox, args).await;
    let ended = with_sandbox(&args.id, &args.machine, &args.state, registry, run)?;
    let how = match ended {
        Inside::Left => return Ok(Code(End::Cancelled.code())),
        Inside::Ended(how) => how,
    };
    match &how {
        // as if it had run here
        How::Exited(_) | How::Signalled(_) => {}
        How::NotStarted { .. } | How::TimedOut | How::SwitchedOff(_) | How::Lost(_) => {
            if let Some(text) = how.told(args.timeout) {
                warn(Look::of(&io::stderr()), &sanitise::line(&text, Colours::Drop));
            }
        }
    }
    Ok(Code(how.counts_as().unwrap_or(End::Infrastructure.code())))
}

/// Copies files into a sandbox or out of it.
pub fn cp(args: &CpArgs, registry: &Registry) -> Result<End, SandboxCmdError> {
    let copy = args.copy().ok_or(SandboxCmdError::CopyEnds)?;
    with_sandbox(copy.id, &args.machine, &args.state, registry, async |_, sandbox, look| {
        let signals = Signals::listen().map_err(SandboxCmdError::Runtime)?;
        let mut wish = signals.wish();
        let copied = async {
            match copy.way {
                place::Way::In(from) => {
                    let left_out = copy::into(sandbox, from, copy.path).await?;
                    left_out.told().iter().for_each(|told| warn(look, told));
                }
                place::Way::Out(to) => copy::out(sandbox, copy.path, to, args.limit).await?,
            }
            Ok(End::Success)
        };
        tokio::select! {
            copied = copied => copied,
            Ok(_) = wish.wait_for(|wish| *wish != Wish::Run) => Err(SandboxCmdError::Cancelled),
        }
    })
}

/// Lists the sandboxes.
pub fn ls(args: &LsArgs) -> Result<End, SandboxCmdError> {
    let all = with_engine(&args.state, async |engine| kept(engine).await)?;
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    let named = Named::all(&all, &state_dir);
    let text = match (args.quiet, args.json) {
        (true, _) => all.iter().map(|kept| format!("{}\n", id(kept))).collect(),
        (false, true) => show::array(&named),
        (false, false) => show::table(&named),
    };
    print(&text)
}

/// Prints what is known of a sandbox.
pub fn inspect(args: &InspectArgs) -> Result<End, SandboxCmdError> {
    let one = with_engine(&args.state, async |engine| find(engine, &args.id).await)?;
    let state_dir = state_dir::resolve(args.state.state_dir.as_deref())?;
    let named = Named::all(std::slice::from_ref(&one), &state_dir);
    let text = named.first().map(|named| if args.json { show::object(named) } else { show::details(named) });
    print(&text.unwrap_or_default())
}

/// Prints what a sandbox was refused.
pub fn network(args: &RefusedArgs, registry: &Registry) -> Result<End, SandboxCmdError> {
    with_sandbox(&args.id, &args.machine, &args.state, registry, async |_, sandbox, _| {
        let refused = sandbox.refused().await.map_err(SandboxCmdError::Refused)?;
        print(&if args.json { show::refused_object(&refused) } else { show::refused(&refused) })
    })
}

/// Ends sandboxes.
pub fn rm(args: &RmArgs) -> Result<End, SandboxCmdError> {
    with_engine(&args.state, async |engine| {
        let all = kept(engine).await?;
        let mut meant: Vec<&Kept> = if args.all {
            all.iter().collect()
        } else {
            args.ids.iter().map(|given| one_of(&all, given)).collect::<Result<_, _>>()?
        };
        meant.sort_by_key(|kept| kept.id);
        meant.dedup_by_key(|kept| kept.id);
        let Some(engine) = engine else { return Ok(End::Success) };
        for kept in meant {
            let ended = engine.end(kept.id).await;
            ended.map_err(|source| SandboxCmdError::End { id: id(kept), source })?;
            print(&format!("{}\n", id(kept)))?;
        }
        Ok(End::Success)
    })
}

/// Works with the engine that runs, or, where none does, with one that runs nothing but knows what is kept; with none
/// where nothing is.
fn with_engine<T>(
    state: &StateArgs,
    work: impl AsyncFnOnce(Option<&Engine>) -> Result<T, SandboxCmdError>,
) -> Result<T, SandboxCmdError> {
    let state_dir = state_dir::resolve(state.state_dir.as_deref())?;
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let engine = any_engine(&state_dir).await?;
        let done = work(engine.as_ref()).await;
        if let Some(engine) = engine {
            engine.close().await;
        }
        done
    });
    runtime.shutdown_background();
    done
}

/// Works in the sandbox that is meant. Where no engine runs, one is started, which takes it over.
fn with_sandbox<T>(
    given: &str,
    args: &MachineArgs,
    state: &StateArgs,
    registry: &Registry,
    work: impl AsyncFnOnce(&Engine, &Sandbox, Look) -> Result<T, SandboxCmdError>,
) -> Result<T, SandboxCmdError> {
    // wrong names are said before anything is looked for
    registry.needs(&args.backend).map_err(MachineError::from)?;
    let state_dir = state_dir::resolve(state.state_dir.as_deref())?;
    let look = Look::of(&io::stderr());
    let runtime = runtime()?;
    let done = runtime.block_on(async {
        let found = any_engine(&state_dir).await?;
        let one = find(found.as_ref(), given).await?;
        let engine = match found {
            Some(engine) if engine.socket().is_some() => engine,
            bare => {
                if let Some(bare) = bare {
                    bare.close().await;
                }
                engine_cmd::connect_or_start(args, &state_dir).await.map_err(Box::new)?
            }
        };
        let attached = engine.attach(one.id).await;
        let sandbox = attached.map_err(|source| SandboxCmdError::Attach { id: id(&one), source })?;
        let done = work(&engine, &sandbox, look).await;
        engine.close().await;
        done
    });
    // a thread that reads what nobody types is left behind
    runtime.shutdown_background();
    done
}

/// The engine that runs in the state directory, whatever its VMs run on; else one that runs nothing. `None`: it is no
/// state directory, and is not made one to find nothing in it.
async fn any_engine(state_dir: &Path) -> Result<Option<Engine>, SandboxCmdError> {
    match Engine::connect(&engine_cmd::socket(state_dir)).await {
        Ok(engine) => Ok(Some(engine)),
        Err(sandbox::Error::Engine(error)) if error.is_absence() => {
            if sandbox::is_state_dir(state_dir) {
                return Ok(Some(bare::engine(state_dir).await.map_err(SandboxCmdError::Engine)?.0));
            }
            if !state_dir.exists() {
                let path = state_dir.display().to_string();
                let text = format!("there is no state directory {}", sanitise::line(&path, Colours::Drop));
                warn(Look::of(&io::stderr()), &text);
            }
            Ok(None)
        }
        Err(error) => Err(SandboxCmdError::Engine(error)),
    }
}

fn runtime() -> Result<tokio::runtime::Runtime, SandboxCmdError> {
    crate::runtime::new().map_err(SandboxCmdError::Runtime)
}

/// The name of a sandbox.
fn id(kept: &Kept) -> String {
    super::name(kept.id)
}

/// The sandboxes of these commands.
async fn kept(engine: Option<&Engine>) -> Result<Vec<Kept>, SandboxCmdError> {
    let Some(engine) = engine else { return Ok(Vec::new()) };
    let all = engine.kept().await.map_err(SandboxCmdError::List)?;
    Ok(all.into_iter().filter(|kept| kept.mark.as_deref() == Some(MARK)).collect())
}

/// The one that is meant.
fn one_of<'a>(all: &'a [Kept], given: &str) -> Result<&'a Kept, SandboxCmdError> {
    let names: Vec<(String, &Kept)> = all.iter().map(|kept| (id(kept), kept)).collect();
    let whole = if given.is_empty() || "sb-".starts_with(given) || given.starts_with("sb-") {
        given.to_owned()
    } else {
        format!("sb-{given}")
    };
    let found = prefix::find("sandbox", &whole, &names, SHOWN, |(name, _)| name)?;
    Ok(found.1)
}

async fn find(engine: Option<&Engine>, given: &str) -> Result<Kept, SandboxCmdError> {
    one_of(&kept(engine).await?, given).cloned()
}

fn print(text: &str) -> Result<End, SandboxCmdError> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(SandboxCmdError::Output)?;
    Ok(End::Success)
}

/// What says that the user wants the end, until it is dropped.
struct Stop {
    cancel: CancellationToken,
    _signals: Signals,
    watching: tokio::task::JoinHandle<()>,
}

impl Stop {
    fn listen() -> Result<Self, SandboxCmdError> {
        let signals = Signals::listen().map_err(SandboxCmdError::Runtime)?;
        let mut wish = signals.wish();
        let cancel = CancellationToken::new();
        let watched = cancel.clone();
        let watching = tokio::spawn(async move {
            // an error is the end of the signals, and of this
            if wish.wait_for(|wish| *wish != Wish::Run).await.is_ok() {
                watched.cancel();
            }
        });
        Ok(Self { cancel, _signals: signals, watching })
    }
}

impl Drop for Stop {
    fn drop(&mut self) {
        self.watching.abort();
    }
}

/// In milliseconds, with microseconds behind the point.
fn millis(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e6).round() / 1e3
}
