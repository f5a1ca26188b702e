//! The arguments of `ampoule snapshot`.

use std::time::Duration;

use clap::{Args, Subcommand};

use super::{
    args::{MachineArgs, StateArgs},
    sandbox_args::SizeArgs,
    units,
};

/// Arguments of `ampoule snapshot`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct SnapshotArgs {
    /// What to do with snapshots.
    #[command(subcommand)]
    pub command: SnapshotCommand,
}

/// The commands of `ampoule snapshot`.
#[derive(Debug, Subcommand)]
pub enum SnapshotCommand {
    /// Make the snapshot that VMs of a size are forks of, where there is none, and print its key
    Build(BuildArgs),
    /// List the snapshots
    Ls {
        /// Print one JSON array, on standard output
        #[arg(long)]
        json: bool,
        /// Where state is kept.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Print what is known of a snapshot
    Inspect {
        /// Its key, or the beginning of it
        #[arg(value_name = "KEY")]
        key: String,
        /// Print one JSON object
        #[arg(long)]
        json: bool,
        /// Where state is kept.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Remove snapshots; VMs that were forked of them go on
    Rm {
        /// Their keys, or the beginnings of them
        #[arg(value_name = "KEY", required = true)]
        keys: Vec<String>,
        /// Where state is kept.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Keep snapshots from `gc`, and from being removed by themselves, as long as they are of use
    Pin(PinArgs),
    /// Let pinned snapshots go as others do
    Unpin(PinArgs),
    /// Remove the snapshots that nobody can use any more, and those that these options name
    Gc(GcArgs),
}

/// Arguments of `ampoule snapshot build`.
#[derive(Debug, Args)]
pub struct BuildArgs {
    /// Of which VMs.
    #[command(flatten)]
    pub size: SizeArgs,
    /// Logical size of each one's disk, such as 10GiB
    #[arg(long, value_name = "SIZE", default_value = "16GiB", value_parser = units::disk)]
    pub disk: u64,
    /// How VMs run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule snapshot pin` and `unpin`.
#[derive(Debug, Args)]
pub struct PinArgs {
    /// Their keys, or the beginnings of them
    #[arg(value_name = "KEY", required = true)]
    pub keys: Vec<String>,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule snapshot gc`.
#[derive(Debug, Args)]
pub struct GcArgs {
    /// Remove those too that were not used for this time, such as 7d
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub unused_for: Option<Duration>,
    /// Then, those first that were not used for the longest time, until all together take no more than this, such
    /// as 16GiB
    #[arg(long, value_name = "SIZE", value_parser = units::size)]
    pub quota: Option<u64>,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn snapshot(line: &str) -> Result<SnapshotCommand, clap::Error> {
        let cli = Cli::try_parse_from(["ampoule", "snapshot"].into_iter().chain(line.split_whitespace()))?;
        match cli.command {
            Command::Snapshot(args) => Ok(args.command),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn every_option_is_taken_and_what_is_wrong_is_refused() {
        let SnapshotCommand::Gc(gc) = snapshot("gc --unused-for 7d --quota 16GiB").unwrap() else { panic!() };
        assert_eq!((gc.unused_for, gc.quota), (Some(Duration::from_secs(604_800)), Some(16 << 30)));
        let SnapshotCommand::Build(build) = snapshot("build").unwrap() else { panic!() };
        assert_eq!(
            (build.size.cpus, build.size.memory),
            (crate::exec::machine::CPUS, crate::exec::machine::MEMORY)
        );
        for good in [
            "build --image small --cpus 1 --memory 256MiB --backend qemu --accel tcg --state-dir s",
            "ls --json --state-dir s",
            "inspect ab --json",
            "rm ab cd",
            "gc",
        ] {
            assert!(snapshot(good).is_ok(), "{good}");
        }
        for bad in [
            "",
            "build x",
            "build --memory 1MiB",
            "inspect",
            "inspect a b",
            "rm",
            "gc --quota 5",
            "gc --unused-for x",
        ] {
            assert_eq!(snapshot(bad).unwrap_err().exit_code(), 2, "{bad}");
        }
    }
}
