//! `ampoule register` and `ampoule config check`.
//!
//! Invariants: the registration token is never shown; nothing is written before the server has said yes; a
//! registration that is there is never overwritten.

use std::{
    io::{self, BufRead, IsTerminal, Write},
    path::Path,
};

use runner::{Config, ConfigError, parse_all};

use super::{RunnerCmdError, files, registration_file};
use crate::{
    class::{Class, End},
    cli::args::{ConfigCommand, RegisterArgs},
    exec::{ask, show, warn},
    registry::Registry,
    sanitise::{self, Colours},
    sink::Look,
};

/// Labels of a runner that names none.
const LABELS: &str = "debian,docker,ubuntu-latest";

/// Registers this machine with an instance.
pub fn register(args: &RegisterArgs) -> Result<End, RunnerCmdError> {
    let config = Config::find(args.config.as_deref())?;
    let path = registration_file(&config);
    if path.exists() {
        return Err(RunnerCmdError::There { path });
    }
    runner::Registration::can_be_written(&path)?;
    let asks = !args.no_interactive && io::stdin().is_terminal();
    let instance = answer(args.instance.as_deref(), asks, "--instance", "URL of the instance", None)?;
    let token = match &args.token {
        Some(token) => token.clone(),
        None if asks => ask::hidden("Registration token: ".to_owned()).map_err(RunnerCmdError::Ask)?,
        None => return Err(RunnerCmdError::Missing { option: "--token" }),
    };
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    let name = match (args.name.as_deref(), asks) {
        (None, false) => host,
        (given, asks) => answer(given, asks, "--name", "Name of this runner", Some(&host))?,
    };
    let labels = match (args.labels.as_deref(), asks) {
        (None, false) => LABELS.to_owned(),
        (given, asks) => answer(given, asks, "--labels", "Labels, with commas between", Some(LABELS))?,
    };
    let labels = parse_all(labels.split(',').map(str::trim).filter(|label| !label.is_empty()))?;
    let lifetime = if args.ephemeral { forgejo::Lifetime::Ephemeral } else { forgejo::Lifetime::Persistent };
    let registration = forgejo::Registration {
        name,
        token,
        labels: labels.iter().map(|label| label.name.clone()).collect(),
        version: env!("CARGO_PKG_VERSION").to_owned(),
        lifetime,
    };
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(RunnerCmdError::Runtime)?;
    let instance = instance.trim_end_matches('/').to_owned();
    if let Some(text) = files::idle_ca_file(&config.connection, &instance) {
        warn(Look::of(&io::stderr()), &text);
    }
    let registered =
        runtime.block_on(runner::register(&instance, &config.connection, registration, labels))?;
    registered.write(&path)?;
    let text = format!("registered as `{}` with {instance}; {} is written", registered.name, path.display());
    print(&sanitise::line(&text, Colours::Drop))?;
    Ok(End::Success)
}

/// An option, else what a person types; `fallback` where nothing is typed.
fn answer(
    given: Option<&str>,
    asks: bool,
    option: &'static str,
    question: &str,
    fallback: Option<&str>,
) -> Result<String, RunnerCmdError> {
    if let Some(given) = given.map(str::trim).filter(|given| !given.is_empty()) {
        return Ok(given.to_owned());
    }
    if !asks {
        return Err(RunnerCmdError::Missing { option });
    }
    let hint = fallback.map(|fallback| format!(" [{fallback}]")).unwrap_or_default();
    let mut err = io::stderr().lock();
    write!(err, "{question}{hint}: ").and_then(|()| err.flush()).map_err(RunnerCmdError::Ask)?;
    let mut line = String::new();
    if io::stdin().lock().read_line(&mut line).map_err(RunnerCmdError::Ask)? == 0 {
        return Err(RunnerCmdError::Ask(io::ErrorKind::UnexpectedEof.into()));
    }
    match (line.trim(), fallback) {
        ("", Some(fallback)) => Ok(fallback.to_owned()),
        ("", None) => Err(RunnerCmdError::Missing { option }),
        (typed, _) => Ok(typed.to_owned()),
    }
}

/// Looks at a configuration and says what is wrong with it, or shows one.
pub fn config(command: &ConfigCommand, registry: &Registry) -> Result<End, RunnerCmdError> {
    let path = match command {
        ConfigCommand::Check { file } => file.as_deref(),
        ConfigCommand::Example => {
            print(runner::config::EXAMPLE.trim_end())?;
            return Ok(End::Success);
        }
    };
    let look = Look::of(&io::stderr());
    let named = path.unwrap_or(Path::new(runner::config::FILE));
    match Config::load(named) {
        Ok(config) => {
            registry
                .needs(&config.vm.backend)
                .map_err(|source| RunnerCmdError::Backend { file: named.to_owned(), source })?;
            for text in files::check(&config)? {
                warn(look, &text);
            }
            print(&format!("{} is good", sanitise::line(&named.display().to_string(), Colours::Drop)))?;
            Ok(End::Success)
        }
        Err(ConfigError::Diagnostics(found)) => {
            show(look, &found);
            Ok(Class::User.into())
        }
        Err(error) => Err(error.into()),
    }
}

fn print(text: &str) -> Result<(), RunnerCmdError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(RunnerCmdError::Output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_configuration_of_a_backend_that_there_is_not_is_not_good() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("config.toml");
        let check = |backend: &str| {
            std::fs::write(&file, format!("[vm]\nbackend = \"{backend}\"\n")).unwrap();
            config(&ConfigCommand::Check { file: Some(file.clone()) }, &Registry::standard())
        };
        check("qemu").unwrap();
        let error = check("qenu").unwrap_err();
        assert!(matches!(error, RunnerCmdError::Backend { .. }), "{error}");
    }
}
