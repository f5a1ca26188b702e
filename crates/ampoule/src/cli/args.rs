//! The command line as data: what clap derives the parser, the help, the completions and the man pages from.
//!
//! Owner: [`super::main`] parses once; the commands take their arguments as these types.
//! Invariant: the form of `exec` is the one that scripts and checks rely on; an option is added, never renamed.

use std::{fmt, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand, ValueEnum, builder::Styles};

use secrecy::SecretString;
use workflow::rules::{Level, Rule};

use super::{
    pair::{EnvArg, MatrixFilter, Pair, SecretArg},
    sandbox_args::SandboxArgs,
    snapshot_args::SnapshotArgs,
    units,
};
use crate::network::NetworkArgs;

/// Run Forgejo Actions workflows, every job in its own microVM.
#[derive(Debug, Parser)]
#[command(name = "ampoule", version, styles = STYLES, max_term_width = 100)]
#[command(arg_required_else_help = true, propagate_version = true, disable_help_subcommand = true)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

const STYLES: Styles = Styles::styled()
    .header(anstyle::AnsiColor::Green.on_default().bold())
    .usage(anstyle::AnsiColor::Green.on_default().bold())
    .literal(anstyle::AnsiColor::Cyan.on_default().bold())
    .placeholder(anstyle::AnsiColor::Cyan.on_default());

/// The commands of `ampoule`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a workflow of the working directory in ephemeral microVMs
    Exec(Box<ExecArgs>),
    /// Print the value of an expression
    Eval(EvalArgs),
    /// Print the jobs of a workflow, each of a matrix and those of the workflows that it calls, and run nothing
    Expand(ExpandArgs),
    /// Look for what is wrong with workflows and actions, and run nothing
    Validate(ValidateArgs),
    /// Print the JSON schema of workflows or of action.yml, for editors
    Schema(SchemaArgs),
    /// Serve sandboxes to clients of forkd, each a microVM
    Controller(ControllerArgs),
    /// Keep microVMs ready for the other commands of this user, which then share them
    Engine(EngineArgs),
    /// Run commands in sandboxes, each a fork of a warm microVM
    Sandbox(SandboxArgs),
    /// Register this machine as a runner of a Forgejo instance
    Register(RegisterArgs),
    /// Take jobs from a Forgejo instance, and run each in its own microVM
    Daemon(DaemonArgs),
    /// Take one job from a Forgejo instance, run it, and end
    OneJob(OneJobArgs),
    /// Look at configurations of the runner
    #[command(arg_required_else_help = true)]
    Config {
        /// What to do.
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Install what this host lacks, and make the root image and its snapshot
    Setup(SetupArgs),
    /// Look at what this host can do, and say what mends what it cannot
    Doctor(DoctorArgs),
    /// Remove what crashed runs left, and files and snapshots that nothing uses
    Prune(PruneArgs),
    /// Make, list, remove and inspect root images
    Image(ImageArgs),
    /// Make, list, remove and inspect snapshots, of which VMs are forked
    Snapshot(SnapshotArgs),
    /// Print a shell's completion script
    Completions {
        /// The shell
        #[arg(value_name = "SHELL")]
        shell: clap_complete::Shell,
    },
    /// Write the man pages
    Man {
        /// Directory to write them to; it is made if it does not exist
        #[arg(value_name = "DIR")]
        dir: PathBuf,
    },
}

/// Arguments of `ampoule register`.
#[derive(Args)]
pub struct RegisterArgs {
    /// Ask nothing; what is not given has its default, or is an error
    #[arg(long)]
    pub no_interactive: bool,
    /// URL of the instance
    #[arg(long, value_name = "URL")]
    pub instance: Option<String>,
    /// Registration token, as the instance's page of runners shows it
    #[arg(long, value_name = "TOKEN", value_parser = hidden)]
    pub token: Option<SecretString>,
    /// Name of this runner [default: the host's]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// Labels whose jobs are taken, with commas between
    #[arg(long, value_name = "LABELS")]
    pub labels: Option<String>,
    /// The instance forgets the runner after one job
    #[arg(long)]
    pub ephemeral: bool,
    /// Configuration that says where the registration is written [default: config.toml, if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

impl fmt::Debug for RegisterArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RegisterArgs")
            .field("instance", &self.instance)
            .field("name", &self.name)
            .field("labels", &self.labels)
            .finish_non_exhaustive()
    }
}

fn hidden(text: &str) -> Result<SecretString, std::convert::Infallible> {
    Ok(SecretString::from(text.trim()))
}

/// Arguments of `ampoule daemon`.
#[derive(Debug, Args)]
pub struct DaemonArgs {
    /// Configuration [default: config.toml, if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Whose engine makes the VMs.
    #[command(flatten)]
    pub engine: OwnEngineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule one-job`.
#[derive(Debug, Args)]
pub struct OneJobArgs {
    /// Configuration [default: config.toml, if it is there]
    #[arg(short, long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// The job to run, as the instance's API names it (Forgejo)
    #[arg(long, value_name = "HANDLE")]
    pub handle: Option<String>,
    /// Wait until there is a job; without it the exit code is 2 when there is none
    #[arg(long)]
    pub wait: bool,
    /// Whose engine makes the VMs.
    #[command(flatten)]
    pub engine: OwnEngineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// The commands of `ampoule config`.
#[derive(Debug, Subcommand)]
pub enum ConfigCommand {
    /// Look at a configuration, and say what is wrong with it
    Check {
        /// The file [default: config.toml]
        #[arg(value_name = "FILE")]
        file: Option<PathBuf>,
    },
    /// Print every setting with its default
    Example,
}

/// Where everything is kept that outlives a command.
#[derive(Clone, Debug, Default, Args)]
pub struct StateArgs {
    /// Directory of images, caches and running VMs [default: /var/lib/ampoule for root, else
    /// $XDG_STATE_HOME/ampoule or ~/.local/state/ampoule]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// What runs VMs unless another is asked for.
const BACKEND: &str = "qemu";

/// How VMs run.
#[derive(Clone, Debug, Args)]
pub struct MachineArgs {
    /// What runs the VMs
    #[arg(long, value_name = "NAME", default_value = BACKEND)]
    pub backend: String,
    /// How the VMs run code; `auto` takes KVM if a probe boot proves that it works
    #[arg(long, value_name = "ACCEL", value_enum, default_value_t = AccelArg::Auto)]
    pub accel: AccelArg,
}

impl Default for MachineArgs {
    fn default() -> Self {
        Self { backend: BACKEND.to_owned(), accel: AccelArg::Auto }
    }
}

/// The values of `--accel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AccelArg {
    /// KVM if a probe boot proves that it works, else emulation
    Auto,
    /// KVM or nothing
    Kvm,
    /// Software emulation
    Tcg,
}

/// Arguments of `ampoule exec`.
#[derive(Debug, Args)]
pub struct ExecArgs {
    /// A workflow, or a directory of which every workflow with the event runs [default: the first of
    /// .forgejo/workflows, .gitea/workflows and .github/workflows]
    #[arg(short = 'W', long, value_name = "FILE|DIR")]
    pub workflows: Option<PathBuf>,
    /// Leave out the workflows in subdirectories
    #[arg(long)]
    pub no_recurse: bool,
    /// Run this job, and the jobs that it needs
    #[arg(short, long, value_name = "JOB")]
    pub job: Option<String>,
    /// The event [default: the only event of the workflow, else push]
    #[arg(short = 'E', long, value_name = "NAME")]
    pub event: Option<String>,
    /// A JSON file with the event's payload
    #[arg(long, value_name = "FILE")]
    pub eventpath: Option<PathBuf>,
    /// An input of workflow_dispatch
    #[arg(long = "input", value_name = "K=V", value_parser = Pair::parse)]
    pub inputs: Vec<Pair>,
    /// A secret; without a value it is read from the environment, else asked for
    #[arg(short = 's', long = "secret", value_name = "K[=V]", value_parser = SecretArg::parse)]
    pub secrets: Vec<SecretArg>,
    /// A file of secrets, K=V in each line
    #[arg(long, value_name = "F")]
    pub secret_file: Option<PathBuf>,
    /// A variable of the `vars` context
    #[arg(long = "var", value_name = "K=V", value_parser = Pair::parse)]
    pub vars: Vec<Pair>,
    /// An environment variable of all steps; without a value that of the environment
    #[arg(long = "env", value_name = "K[=V]", value_parser = EnvArg::parse)]
    pub envs: Vec<EnvArg>,
    /// A file of environment variables, K=V in each line
    #[arg(long, value_name = "F")]
    pub env_file: Option<PathBuf>,
    /// Run only the jobs of a matrix with this value; can be given several times
    #[arg(long = "matrix", value_name = "K:V", value_parser = MatrixFilter::parse)]
    pub matrix: Vec<MatrixFilter>,
    /// A name in the VMs that leads to somewhere that this host reaches; can be given several times
    #[arg(long = "forward", value_name = "NAME:PORT=HOST:PORT")]
    pub forwards: Vec<sandbox::Forward>,
    /// The working directory
    #[arg(short = 'C', long, value_name = "DIR", default_value = ".")]
    pub directory: PathBuf,
    /// Print what would run, and run nothing
    #[arg(short = 'n', long)]
    pub dryrun: bool,
    /// Print one JSON object per line, on standard output
    #[arg(long, conflicts_with = "list")]
    pub json: bool,
    /// List the workflows and their jobs, and run nothing
    #[arg(short = 'l', long)]
    pub list: bool,
    /// When a step fails, open a shell in its VM, and go on with the job when that is left
    #[arg(long, conflicts_with_all = ["json", "list", "dryrun"])]
    pub shell_on_failure: bool,
    /// Use the engine that runs, and start one in the background where none does: the next run is faster
    #[arg(long, conflicts_with_all = ["own_engine", "list", "dryrun"])]
    pub warm: bool,
    /// Whose engine makes the VMs.
    #[command(flatten)]
    pub engine: OwnEngineArgs,
    /// The root image that all labels run on; `ampoule image ls` lists them [default: standard]
    #[arg(short, long, value_name = "NAME")]
    pub image: Option<String>,
    /// What the jobs' VMs may reach.
    #[command(flatten)]
    pub network: NetworkArgs,
    /// How VMs run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
    /// Options of the official `exec` that mean nothing here.
    #[command(flatten)]
    pub inapplicable: super::inapplicable::Inapplicable,
}

/// Arguments of `ampoule eval`.
#[derive(Debug, Args)]
#[command(after_help = EVAL_EXAMPLES)]
pub struct EvalArgs {
    /// A JSON file with the contexts, such as {"github": {"ref": "refs/heads/main"}, "env": {"A": "b"}}
    #[arg(long, value_name = "FILE.json")]
    pub context: Option<PathBuf>,
    /// The expression, or text with expressions in ${{ }}
    #[arg(value_name = "EXPR", allow_hyphen_values = true)]
    pub expr: String,
}

const EVAL_EXAMPLES: &str = "\
Examples:
  ampoule eval \"format('{0} of {1}', 1, 'x')\"
  ampoule eval --context contexts.json 'on ${{ github.ref }}'";

/// Arguments of `ampoule expand`.
#[derive(Debug, Args)]
pub struct ExpandArgs {
    /// The workflow
    #[arg(value_name = "FILE")]
    pub file: PathBuf,
    /// The event [default: the only event of the workflow, else push]
    #[arg(short = 'E', long, value_name = "NAME")]
    pub event: Option<String>,
    /// A JSON file with the event's payload
    #[arg(long, value_name = "FILE")]
    pub eventpath: Option<PathBuf>,
    /// An input of workflow_dispatch or workflow_call
    #[arg(long = "input", value_name = "K=V", value_parser = Pair::parse)]
    pub inputs: Vec<Pair>,
    /// A variable of the `vars` context
    #[arg(long = "var", value_name = "K=V", value_parser = Pair::parse)]
    pub vars: Vec<Pair>,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `ampoule validate`.
#[derive(Debug, Args)]
pub struct ValidateArgs {
    /// Workflows, action.yml files, and directories that hold them, such as that of a repository
    #[arg(value_name = "PATH", required_unless_present = "rules")]
    pub paths: Vec<PathBuf>,
    /// The form of what is found
    #[arg(long, value_enum, default_value_t = ReportFormat::Text)]
    pub format: ReportFormat,
    /// What becomes of what a rule finds: error, warn or off; of two for one rule the last counts
    #[arg(long = "rule", value_name = "NAME=LEVEL", value_parser = RuleLevel::parse)]
    pub levels: Vec<RuleLevel>,
    /// List the rules with their levels, and look at no file
    #[arg(long, conflicts_with_all = ["paths", "format"])]
    pub rules: bool,
}

/// Arguments of `ampoule schema`.
#[derive(Debug, Args)]
pub struct SchemaArgs {
    /// Of which files
    #[arg(value_enum, value_name = "KIND")]
    pub of: SchemaOf,
}

/// What a schema is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// Workflows
    Workflow,
    /// action.yml
    Action,
}

/// The form of what `validate` finds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ReportFormat {
    /// For people: each with its line
    Text,
    /// One object
    Json,
    /// SARIF 2.1.0, for code hosts and editors
    Sarif,
}

/// A rule and the level that it is to have.
#[derive(Clone, Copy, Debug)]
pub struct RuleLevel {
    /// The rule.
    pub rule: Rule,
    /// Its level.
    pub level: Level,
}

impl RuleLevel {
    /// From `NAME=LEVEL`.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (name, level) = text.split_once('=').ok_or("expected NAME=LEVEL")?;
        let levels = [Level::Off, Level::Warn, Level::Error];
        let rule = Rule::parse(name).map_err(|error| error.to_string())?;
        let level = levels.into_iter().find(|known| known.name() == level);
        Ok(Self { rule, level: level.ok_or("a level is error, warn or off")? })
    }
}

/// Arguments of `ampoule controller`.
#[derive(Debug, Args)]
pub struct ControllerArgs {
    /// Where it listens
    #[arg(long, value_name = "ADDR:PORT", default_value = "127.0.0.1:8889")]
    pub listen: std::net::SocketAddr,
    /// Which of this host's controllers it is: it takes over the sandboxes of the one before it with this name
    /// [default: its port]
    #[arg(long, value_name = "NAME")]
    pub name: Option<String>,
    /// File with the token that clients show; without it only loopback is served
    #[arg(long, value_name = "F")]
    pub token_file: Option<PathBuf>,
    /// How VMs run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Whose engine makes the VMs.
    #[command(flatten)]
    pub engine: OwnEngineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule engine`.
#[derive(Debug, Args)]
pub struct EngineArgs {
    /// Where it listens [default: engine.sock in the state directory, or the socket of the service manager]
    #[arg(long, value_name = "PATH")]
    pub socket: Option<PathBuf>,
    /// End when nobody needed it for this time, such as 10m; 0s: never
    #[arg(long, value_name = "TIME", default_value = "10m", value_parser = units::time)]
    pub idle: Duration,
    /// Keep this many VMs for jobs ready, whatever is asked for
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub ready: usize,
    /// Leave the session of whoever started it
    #[arg(long, hide = true)]
    pub background: bool,
    /// How VMs run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Whose engine makes the VMs.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct OwnEngineArgs {
    /// Make the VMs in this process, also where an engine runs (`ampoule engine`)
    #[arg(long)]
    pub own_engine: bool,
}

/// Arguments of `ampoule setup`.
#[derive(Debug, Args)]
pub struct SetupArgs {
    /// Do not ask before packages are installed
    #[arg(short, long)]
    pub yes: bool,
    /// Only say what is missing; exit 2 if anything is
    #[arg(long)]
    pub check: bool,
    /// Install the packages, and make no image and no snapshot
    #[arg(long)]
    pub no_image: bool,
    /// Mirror to make the image from [default: that of the recipe]
    #[arg(long, value_name = "URL", conflicts_with = "no_image")]
    pub mirror: Option<String>,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// How VMs would run.
    #[command(flatten)]
    pub machine: MachineArgs,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule prune`.
#[derive(Debug, Args)]
pub struct PruneArgs {
    /// Remove images too, with their snapshots, but for those that something uses
    #[arg(long)]
    pub all: bool,
    /// Where state is kept.
    #[command(flatten)]
    pub state: StateArgs,
}

/// Arguments of `ampoule image`.
#[derive(Debug, Args)]
#[command(arg_required_else_help = true)]
pub struct ImageArgs {
    /// What to do with images.
    #[command(subcommand)]
    pub command: ImageCommand,
}

/// The commands of `ampoule image`.
#[derive(Debug, Subcommand)]
pub enum ImageCommand {
    /// Make an image from a recipe
    Build {
        /// The recipe [default: the standard image's]
        #[arg(value_name = "RECIPE")]
        recipe: Option<PathBuf>,
        /// Mirror to take packages from [default: that of the recipe]
        #[arg(long, value_name = "URL")]
        mirror: Option<String>,
        /// Where state is kept.
        #[command(flatten)]
        state: StateArgs,
    },
    /// List the images
    Ls {
        /// Where state is kept.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Remove images
    Rm {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// Where state is kept.
        #[command(flatten)]
        state: StateArgs,
    },
    /// Print what an image is made of, as JSON
    Inspect {
        /// Its name
        #[arg(value_name = "NAME", default_value = "standard")]
        name: String,
        /// Where state is kept.
        #[command(flatten)]
        state: StateArgs,
    },
}
