//! The arguments of those commands of `ampoule sandbox` that work on sandboxes which outlive them.

use std::{fmt, time::Duration};

use clap::Args;
use sandbox::Account;

use super::{
    args::{MachineArgs, StateArgs},
    pair::EnvArg,
    sandbox_args::SizeArgs,
    units,
};
use crate::network::NetworkArgs;
use crate::sandbox_cmd::{Copy, Place};

pub(super) const CREATE: &str = "\
All are made, or none. Each lives until `ampoule sandbox rm`, or until its time is up, also when the engine that holds \
it crashes. An engine is started where none runs in the state directory.";

pub(super) const EXEC: &str = "\
The exit code is that of the command: 128 and the signal's number where a signal ended it, 124 where its time was \
over, 127 where there is no such program, and 126 where it cannot be run. Signals are passed on to it. When this \
program ends before the command, the command is killed.";

pub(super) const CP: &str = "\
One of SOURCE and TARGET is ID:PATH; a PATH that is not absolute is one of /workspace. The other is a path of this \
host (`./a:b` where it has a colon), or `-`: a tar archive that is read and unpacked in PATH, or one that PATH is \
packed into, which is as the sandbox made it and not to be trusted. A directory is copied into TARGET where that \
is there, else as TARGET; with `/.` at the end only what is in it.";

/// How long a sandbox lives unless another time is asked for.
const TTL: &str = "1h";

/// Arguments of `ampoule sandbox create`.
#[derive(Debug, Args)]
pub struct CreateArgs {
    /// How many sandboxes
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// How large each is.
    #[command(flatten)]
    pub size: SizeArgs,
    /// Logical size of each one's disk, such as 10GiB; it is sparse on the host
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = units::disk)]
    pub disk: u64,
    /// What each may reach.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// A name in each that leads to somewhere that this host reaches; can be given several times
    #[arg(long = "forward", value_name = "NAME:PORT=HOST:PORT")]
    pub forwards: Vec<sandbox::Forward>,
    /// How long each lives at most, such as 30m or 7d
    #[arg(long, value_name = "TIME", default_value = TTL, value_parser = units::some_time)]
    pub ttl: Duration,
    /// Print one JSON array, on standard output
    #[arg(long)]
    pub json: bool,
    /// How VMs run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule sandbox exec`.
#[derive(Args)]
pub struct InsideArgs {
    /// The sandbox: its id, or the beginning of it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Pass standard input on
    #[arg(short, long)]
    pub interactive: bool,
    /// Give the command a terminal, which is this one
    #[arg(short, long)]
    pub tty: bool,
    /// An environment variable; without a value that of the environment
    #[arg(short, long = "env", value_name = "K[=V]", value_parser = EnvArg::parse)]
    pub envs: Vec<EnvArg>,
    /// Directory to run in
    #[arg(short, long, value_name = "DIR", default_value = controller::guest::DIRECTORY)]
    pub workdir: String,
    /// User to run as: a name, or numbers as UID or UID:GID [default: root]
    #[arg(short, long, value_name = "USER", value_parser = account)]
    pub user: Option<Account>,
    /// Kill the command after this time, such as 30s or 1h30m [default: never]
    #[arg(long, value_name = "TIME", value_parser = units::some_time)]
    pub timeout: Option<Duration>,
    /// How VMs run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
    /// The command: a program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

impl fmt::Debug for InsideArgs {
    /// Without the command, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InsideArgs")
            .field("id", &self.id)
            .field("interactive", &self.interactive)
            .field("tty", &self.tty)
            .field("workdir", &self.workdir)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// Arguments of `ampoule sandbox cp`.
#[derive(Debug, Args)]
pub struct CpArgs {
    /// What is copied: ID:PATH, a path of this host, or `-`
    #[arg(value_name = "SOURCE", value_parser = Place::parse)]
    pub from: Place,
    /// Where to: the same
    #[arg(value_name = "TARGET", value_parser = Place::parse)]
    pub to: Place,
    /// Most content that is taken out of a sandbox, such as 10GiB
    #[arg(long, value_name = "SIZE", default_value = "64GiB", value_parser = units::size)]
    pub limit: u64,
    /// How VMs run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

impl CpArgs {
    /// Which way it goes; none: neither, or from one sandbox to another.
    pub(crate) fn copy(&self) -> Option<Copy<'_>> {
        Copy::of(&self.from, &self.to)
    }
}

/// Arguments of `ampoule sandbox branch`.
#[derive(Debug, Args)]
pub struct BranchArgs {
    /// The sandbox: its id, or the beginning of it
    #[arg(value_name = "ID")]
    pub id: String,
    /// How many sandboxes
    #[arg(short = 'n', long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub count: u16,
    /// In the new ones, kill the commands that run in the sandbox; they go on there
    #[arg(long)]
    pub kill_running: bool,
    /// How long each lives at most, such as 30m or 7d
    #[arg(long, value_name = "TIME", default_value = TTL, value_parser = units::some_time)]
    pub ttl: Duration,
    /// Print one JSON object with the ids, and how long the sandbox stood still
    #[arg(long)]
    pub json: bool,
    /// How VMs run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule sandbox ls`.
#[derive(Debug, Args)]
pub struct LsArgs {
    /// Print one JSON array
    #[arg(long, conflicts_with = "quiet")]
    pub json: bool,
    /// Print the ids alone
    #[arg(short, long)]
    pub quiet: bool,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule sandbox inspect`.
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// The sandbox: its id, or the beginning of it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule sandbox network`.
#[derive(Debug, Args)]
pub struct RefusedArgs {
    /// The sandbox: its id, or the beginning of it
    #[arg(value_name = "ID")]
    pub id: String,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// How VMs run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule sandbox rm`.
#[derive(Debug, Args)]
pub struct RmArgs {
    /// The sandboxes: their ids, or the beginnings of them
    #[arg(value_name = "ID", required_unless_present = "all", conflicts_with = "all")]
    pub ids: Vec<String>,
    /// End all of them
    #[arg(long)]
    pub all: bool,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

fn account(text: &str) -> Result<Account, &'static str> {
    let number = |text: &str| text.parse::<u32>().ok();
    let (user, group) = text.split_once(':').unwrap_or((text, text));
    match (number(user), number(group)) {
        (Some(uid), Some(gid)) => Ok(Account::Ids { uid, gid }),
        _ if text.is_empty() || text.contains(':') => Err("expected a name, UID, or UID:GID"),
        _ => Ok(Account::Name(text.to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::{
        args::{Cli, Command},
        sandbox_args::SandboxCommand,
    };

    fn sandbox(line: &str) -> Result<SandboxCommand, clap::Error> {
        let cli = Cli::try_parse_from(["ampoule", "sandbox"].into_iter().chain(line.split_whitespace()))?;
        match cli.command {
            Command::Sandbox(args) => Ok(args.command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_option_is_taken() {
        let SandboxCommand::Create(create) = sandbox("create").unwrap() else { panic!() };
        assert_eq!((create.count, create.ttl, create.disk), (1, Duration::from_secs(3600), 16 << 30));
        let line = "exec ab -it -e A=b --env C --workdir /tmp --user 1:2 --timeout 5s -- sh -c x";
        let SandboxCommand::Exec(exec) = sandbox(line).unwrap() else { panic!() };
        assert!(exec.interactive && exec.tty);
        assert_eq!((exec.id.as_str(), exec.envs.len(), exec.workdir.as_str()), ("ab", 2, "/tmp"));
        assert_eq!(exec.user, Some(Account::Ids { uid: 1, gid: 2 }));
        assert_eq!(exec.command, ["sh", "-c", "x"]);
        for good in [
            "create -n 3 --image small --cpus 1 --memory 256MiB --disk 1GiB --ttl 2h --json --backend qemu",
            "cp ab:/x y",
            "cp ab: y",
            "cp y ab:",
            "cp y ab:x --limit 1GiB",
            "cp - ab:/x",
            "branch ab -n 2 --kill-running --ttl 5m --json",
            "ls -q",
            "ls --json",
            "inspect ab --json",
            "network ab --json",
            "rm ab cd",
            "rm --all",
        ] {
            assert!(sandbox(good).is_ok(), "{good}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused() {
        for bad in [
            "create -n 0",
            "create --ttl 0s",
            "exec ab",
            "exec ab true",
            "exec -- true",
            "exec ab --user a:b -- true",
            "exec ab --user= -- true",
            "cp a",
            "cp : b",
            "branch",
            "ls -q --json",
            "inspect",
            "network",
            "rm",
            "rm ab --all",
        ] {
            assert_eq!(sandbox(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }

    #[test]
    fn a_user_is_a_name_or_numbers() {
        assert_eq!(account("runner"), Ok(Account::Name("runner".to_owned())));
        assert_eq!(account("1000"), Ok(Account::Ids { uid: 1000, gid: 1000 }));
        assert_eq!(account("1000:5"), Ok(Account::Ids { uid: 1000, gid: 5 }));
        assert!(account("1000:wheel").is_err());
    }
}
