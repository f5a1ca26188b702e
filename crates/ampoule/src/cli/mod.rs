//! The command line: what is parsed, what it starts, and how it ends.
//!
//! ```text
//!  argv ──"vm-shim"──▶ jail::shim::main          (one thread, before anything of ours)
//!    │ ──"net-helper"──▶ net::helper             (likewise)
//!    └──clap──▶ Command ──▶ End ──▶ exit code
//! ```
//! Owner: `main` of the binary, and of every test harness.
//! Invariants: an error is shown once, with its causes, without control characters; a panic anywhere ends
//! with exit code 4 and says what to report.

pub mod args;
mod crash;
pub mod inapplicable;
pub mod kept_args;
pub mod pair;
pub mod sandbox_args;
mod shell;
pub mod snapshot_args;
#[cfg(test)]
mod tests;
pub(crate) mod units;

use std::{
    env,
    error::Error,
    ffi::OsString,
    io::{self, Write},
    process::ExitCode,
};

use clap::{Parser, error::ContextKind};

use crate::{
    causes,
    class::{Class, Classed, End},
    cli::{
        args::{Cli, Command},
        sandbox_args::SandboxCommand,
    },
    controller_cmd, doctor, engine_cmd, eval_cmd, exec, expand_cmd, image_cmd, network, prune,
    registry::Registry,
    runner_cmd, sandbox_cmd,
    sanitise::{self, Colours},
    schema_cmd, setup,
    sink::Look,
    snapshot_cmd, validate_cmd,
};

/// The program. The first thing that `main` does: the shim must not find a second thread.
pub fn main(registry: Registry) -> ExitCode {
    let args: Vec<OsString> = env::args_os().collect();
    if args.get(1).is_some_and(|word| word == "vm-shim") {
        return jail::shim::main(args.into_iter().skip(2));
    }
    if args.get(1).is_some_and(|word| word == network::HELPER) {
        return net::helper(args.into_iter().skip(2));
    }
    crash::install();
    crash::guard(|| run(args, &registry))
}

fn run(args: Vec<OsString>, registry: &Registry) -> ExitCode {
    let cli = match Cli::try_parse_from(args) {
        Ok(cli) => cli,
        Err(error) => {
            let end = if error.use_stderr() { End::User } else { End::Success };
            // a closed output is nothing that could be told
            let _ = if secret(&error) { writeln!(io::stderr(), "{}", usage(&error)) } else { error.print() };
            return end.into();
        }
    };
    // those say what they do by themselves
    if !matches!(cli.command, Command::Daemon(_) | Command::OneJob(_) | Command::Engine(_)) {
        trace();
    }
    let look = Look::of(&io::stderr());
    match cli.command {
        Command::Exec(args) => told(look, exec::run(&args, registry)),
        Command::Eval(args) => told(look, eval_cmd::run(&args)),
        Command::Expand(args) => told(look, expand_cmd::run(&args)),
        Command::Validate(args) => told(look, validate_cmd::run(&args)),
        Command::Schema(args) => told(look, schema_cmd::run(&args)),
        Command::Register(args) => told(look, runner_cmd::register(&args)),
        Command::Daemon(args) => told(look, runner_cmd::daemon(&args, registry)),
        Command::OneJob(args) => told(look, runner_cmd::one_job(&args, registry)),
        Command::Config { command } => told(look, runner_cmd::config(&command, registry)),
        Command::Controller(args) => told(look, controller_cmd::run(&args, registry)),
        Command::Engine(args) => told(look, engine_cmd::run(&args, registry)),
        Command::Sandbox(args) => match args.command {
            SandboxCommand::Run(args) => told(look, sandbox_cmd::run(&args, registry)),
            SandboxCommand::Create(args) => told(look, sandbox_cmd::create(&args, registry)),
            SandboxCommand::Exec(args) => told(look, sandbox_cmd::inside(&args, registry)),
            SandboxCommand::Cp(args) => told(look, sandbox_cmd::cp(&args, registry)),
            SandboxCommand::Branch(args) => told(look, sandbox_cmd::branch(&args, registry)),
            SandboxCommand::Ls(args) => told(look, sandbox_cmd::ls(&args)),
            SandboxCommand::Inspect(args) => told(look, sandbox_cmd::inspect(&args)),
            SandboxCommand::Network(args) => told(look, sandbox_cmd::network(&args, registry)),
            SandboxCommand::Rm(args) => told(look, sandbox_cmd::rm(&args)),
        },
        Command::Setup(args) => told(look, setup::run(&args, registry)),
        Command::Doctor(args) => told(look, doctor::run(&args, registry)),
        Command::Prune(args) => told(look, prune::run(&args, registry)),
        Command::Image(args) => told(look, image_cmd::run(&args.command)),
        Command::Snapshot(args) => told(look, snapshot_cmd::run(&args.command, registry)),
        Command::Completions { shell } => told(look, shell::completions(shell)),
        Command::Man { dir } => told(look, shell::man(&dir)),
    }
}

/// Whether an error would repeat a secret's value.
fn secret(error: &clap::Error) -> bool {
    error.get(ContextKind::InvalidArg).is_some_and(|arg| arg.to_string().contains("--secret "))
        && error.get(ContextKind::InvalidValue).is_some()
}

/// The error without the value that it is about, if that may be secret.
fn usage(error: &clap::Error) -> String {
    if !secret(error) {
        return error.to_string();
    }
    let why = error.source().map(ToString::to_string).unwrap_or_default();
    format!("error: invalid value for '--secret <K[=V]>': {why}\n\nFor more information, try '--help'.")
}

/// `$AMPOULE_LOG` shows what goes on inside, on standard error.
fn trace() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("AMPOULE_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("off"));
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).finish();
    // a test harness may have one already
    let _ = tracing::subscriber::set_global_default(subscriber);
}

fn told<E: Error + Classed>(look: Look, result: Result<impl Into<ExitCode>, E>) -> ExitCode {
    match result {
        Ok(end) => end.into(),
        Err(error) => {
            let class = error.class();
            if class != Class::Cancelled {
                report(look, &error);
            }
            End::from(class).into()
        }
    }
}

/// Shows an error and what it came from on standard error.
pub(crate) fn report(look: Look, error: &dyn Error) {
    let mut err = io::stderr().lock();
    let texts = causes::texts(error);
    for (at, text) in texts.iter().enumerate() {
        let rows = sanitise::rows(text.trim_end(), Colours::Drop);
        for (row, text) in rows.iter().enumerate() {
            // nobody is left to tell if standard error is gone
            let _ = match (at, row) {
                (0, 0) => writeln!(err, "{} {text}", look.error()),
                (_, 0) => writeln!(err, "  {} {text}", look.dim("because:")),
                _ => writeln!(err, "    {text}"),
            };
        }
    }
}
