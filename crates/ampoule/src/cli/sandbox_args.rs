//! The arguments of `ampoule sandbox`.

use std::{fmt, num::NonZeroU8, time::Duration};

use clap::{Args, Subcommand};
use vm::Mebibytes;

use super::{
    args::{MachineArgs, OwnEngineArgs, StateArgs},
    kept_args::{
        BranchArgs, CP, CREATE, CpArgs, CreateArgs, EXEC, InsideArgs, InspectArgs, LsArgs, RefusedArgs,
        RmArgs,
    },
    units,
};
use crate::{exec::machine, image_cmd, network::NetworkArgs};

/// Arguments of `ampoule sandbox`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct SandboxArgs {
    /// What to do with sandboxes.
    #[command(subcommand)]
    pub command: SandboxCommand,
}

/// The commands of `ampoule sandbox`.
#[derive(Debug, Subcommand)]
pub enum SandboxCommand {
    /// Fork sandboxes, run one command in each, and end with the worst exit code
    #[command(after_help = RUN)]
    Run(Box<RunArgs>),
    /// Fork sandboxes that stay, and print their ids
    #[command(after_help = CREATE)]
    Create(Box<CreateArgs>),
    /// Run a command in a sandbox
    #[command(after_help = EXEC)]
    Exec(Box<InsideArgs>),
    /// Copy files into a sandbox or out of it
    #[command(after_help = CP)]
    Cp(CpArgs),
    /// Fork sandboxes of one that runs: what runs in it goes on in each of them
    Branch(BranchArgs),
    /// List the sandboxes
    Ls(LsArgs),
    /// Print what is known of a sandbox
    Inspect(InspectArgs),
    /// Print what a sandbox tried to reach and may not
    Network(RefusedArgs),
    /// End sandboxes
    Rm(RmArgs),
}

const RUN: &str = "\
The command runs as root in /workspace, with nothing to read. SANDBOX_INDEX (from 0) and SANDBOX_COUNT tell it \
which it is. It counts as 124 where its time was over, as 128 and the signal's number where a signal ended it, \
as 127 where there is no such program, and as 126 where the program cannot be run.";

/// Arguments of `ampoule sandbox run`.
#[derive(Args)]
pub struct RunArgs {
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
    /// Kill the command after this time, such as 30s or 1h30m [default: never]
    #[arg(long, value_name = "TIME", value_parser = units::some_time)]
    pub timeout: Option<Duration>,
    /// Print one JSON array when all have ended, on standard output
    #[arg(long)]
    pub json: bool,
    /// How VMs run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Whose engine makes the VMs.
    #[command(flatten)]
    pub engine: OwnEngineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
    /// The command: a program and its arguments
    #[arg(last = true, required = true, value_name = "CMD")]
    pub command: Vec<String>,
}

impl fmt::Debug for RunArgs {
    /// Without the command, which may hold secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RunArgs")
            .field("count", &self.count)
            .field("size", &self.size)
            .field("disk", &self.disk)
            .field("timeout", &self.timeout)
            .finish_non_exhaustive()
    }
}

/// What VMs of one kind have in common, and their snapshot with them; the defaults are those of jobs.
#[derive(Clone, Debug, Args)]
pub struct SizeArgs {
    /// The root image; `ampoule image ls` lists them
    #[arg(long, value_name = "NAME", default_value = image_cmd::STANDARD)]
    pub image: String,
    /// Virtual processors of each
    #[arg(long, value_name = "N", default_value_t = machine::CPUS, value_parser = cpus)]
    pub cpus: NonZeroU8,
    /// Memory of each, such as 512MiB
    #[arg(long, value_name = "SIZE", default_value = "2GiB", value_parser = units::memory)]
    pub memory: Mebibytes,
}

impl Default for SizeArgs {
    fn default() -> Self {
        Self { image: image_cmd::STANDARD.to_owned(), cpus: machine::CPUS, memory: machine::MEMORY }
    }
}

/// Most virtual processors of a VM.
const MAX_CPUS: u8 = 64;

fn cpus(text: &str) -> Result<NonZeroU8, String> {
    let number = text.parse().ok().filter(|cpus: &NonZeroU8| cpus.get() <= MAX_CPUS);
    number.ok_or_else(|| format!("expected a number from 1 to {MAX_CPUS}"))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn run(line: &str) -> Result<RunArgs, clap::Error> {
        let cli =
            Cli::try_parse_from(["ampoule", "sandbox", "run"].into_iter().chain(line.split_whitespace()))?;
        match cli.command {
            Command::Sandbox(SandboxArgs { command: SandboxCommand::Run(args) }) => Ok(*args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_those_of_jobs() {
        let args = run("-- true").unwrap();
        assert_eq!(
            (args.size.cpus, args.size.memory, args.disk),
            (machine::CPUS, machine::MEMORY, machine::SCRATCH)
        );
        assert_eq!((args.count, args.timeout, args.json), (1, None, false));
        assert_eq!(args.size.image, image_cmd::STANDARD);
    }

    #[test]
    fn every_option_is_taken_and_what_is_wrong_is_refused() {
        let args = run(
            "-n 3 --image small --cpus 1 --memory 256MiB --disk 1GiB --timeout 1m30s --json --backend qemu \
             --accel tcg --state-dir s --forward Forge:80=127.0.0.1:3000 --forward a:1=b:2 -- echo -n --json",
        )
        .unwrap();
        let forwards: Vec<_> = args.forwards.iter().map(ToString::to_string).collect();
        assert_eq!(forwards, ["forge:80=127.0.0.1:3000", "a:1=b:2"]);
        assert_eq!((args.count, args.size.memory, args.disk), (3, Mebibytes(256), 1 << 30));
        assert_eq!(args.timeout, Some(Duration::from_secs(90)));
        assert_eq!(args.command, ["echo", "-n", "--json"]);
        for bad in [
            "true",
            "--",
            "-n 0 -- true",
            "-n 1001 -- true",
            "--cpus 0 -- true",
            "--cpus 65 -- true",
            "--memory 1GB -- true",
            "--memory 64MiB -- true",
            "--disk 1MiB -- true",
            "--timeout 0s -- true",
            "--timeout 5 -- true",
            "--forward a:80 -- true",
        ] {
            assert_eq!(run(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
