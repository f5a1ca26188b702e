//! Secrets, variables and environment of a run, from options, files and the environment.
//!
//! Invariants: names of secrets and variables are upper-case; an option wins over a file, a later option
//! over an earlier one; no error and no `Debug` shows a value.

use std::{
    collections::BTreeMap,
    env, fmt,
    io::{self, IsTerminal},
    path::Path,
};

use secrecy::SecretString;

use super::{
    ask,
    dotenv::{self, DotenvError},
};
use crate::cli::{
    args::ExecArgs,
    pair::{self, EnvArg, Pair, PairError},
};

/// The values of a run.
#[derive(Default)]
pub struct Values {
    /// By upper-case name.
    pub secrets: BTreeMap<String, SecretString>,
    /// By upper-case name.
    pub vars: BTreeMap<String, String>,
    /// In the order in which they were given; may hold what nobody should read, so `Debug` shows names.
    pub env: Vec<Pair>,
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values")
            .field("secrets", &self.secrets.keys().collect::<Vec<_>>())
            .field("vars", &self.vars.keys().collect::<Vec<_>>())
            .field("env", &self.env)
            .finish()
    }
}

/// Why there are no values.
#[derive(Debug, thiserror::Error)]
pub enum ValueError {
    /// A file cannot be used.
    #[error(transparent)]
    File(#[from] DotenvError),
    /// A name is no name.
    #[error("`{name}`: {source}")]
    Name {
        /// As given.
        name: String,
        /// Why.
        #[source]
        source: PairError,
    },
    /// A secret without a value, and nobody to ask.
    #[error("the secret `{name}` has no value: set it in the environment, or give `--secret-file`")]
    NoSecret {
        /// Its name.
        name: String,
    },
    /// A variable without a value that this process does not have either.
    #[error(
        "`--env {name}` has no value, and the environment has no `{name}` in UTF-8: write `--env {name}=VALUE`"
    )]
    NoEnv {
        /// Its name.
        name: String,
    },
    /// The terminal did not give an answer.
    #[error("the secret `{name}` could not be asked for")]
    Ask {
        /// Its name.
        name: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
}

/// Asks a person for a secret, without echo.
pub type Ask<'a> = &'a dyn Fn(&str) -> Result<SecretString, ValueError>;

/// Gathers all values; files are relative to `directory`.
pub fn gather(args: &ExecArgs, directory: &Path, ask: Ask<'_>) -> Result<Values, ValueError> {
    let mut values = Values::default();
    if let Some(path) = &args.secret_file {
        for Pair { key, value } in dotenv::read(&super::find::resolve(directory, path))? {
            values.secrets.insert(name(&key)?, SecretString::from(value));
        }
    }
    for secret in &args.secrets {
        let value = match &secret.value {
            Some(value) => value.clone(),
            None => match env::var(&secret.written).or_else(|_| env::var(&secret.name)) {
                Ok(value) => SecretString::from(value),
                Err(_) => ask(&secret.name)?,
            },
        };
        values.secrets.insert(secret.name.clone(), value);
    }
    for Pair { key, value } in &args.vars {
        values.vars.insert(name(key)?, value.clone());
    }
    if let Some(path) = &args.env_file {
        values.env = dotenv::read(&super::find::resolve(directory, path))?;
    }
    for EnvArg { key, value } in &args.envs {
        let value = match value {
            Some(value) => value.clone(),
            None => env::var(key).map_err(|_| ValueError::NoEnv { name: key.clone() })?,
        };
        values.env.push(Pair { key: key.clone(), value });
    }
    Ok(values)
}

/// Asks at the terminal that this process has, if it has one.
pub fn ask_terminal(name: &str) -> Result<SecretString, ValueError> {
    if !io::stdin().is_terminal() && !io::stderr().is_terminal() {
        return Err(ValueError::NoSecret { name: name.to_owned() });
    }
    match ask::hidden(format!("Secret {name}: ")) {
        Ok(value) => Ok(value),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(ValueError::NoSecret { name: name.to_owned() })
        }
        Err(source) => Err(ValueError::Ask { name: name.to_owned(), source }),
    }
}

fn name(text: &str) -> Result<String, ValueError> {
    match pair::check_name(text) {
        Ok(()) => Ok(text.to_ascii_uppercase()),
        Err(source) => Err(ValueError::Name { name: text.to_owned(), source }),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::cli::args::{Cli, Command};

    fn exec(words: &[&str]) -> ExecArgs {
        let cli = Cli::try_parse_from(["ampoule", "exec"].iter().chain(words)).unwrap();
        match cli.command {
            Command::Exec(args) => *args,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn options_win_over_files_and_names_are_upper_case() {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("s"), "token=file\nother=kept\n").unwrap();
        std::fs::write(dir.path().join("e"), "A=file\nlower=x\n").unwrap();
        let args = exec(&[
            "--secret-file",
            "s",
            "--env-file",
            "e",
            "-s",
            "Token=option",
            "--var",
            "region=eu",
            "--env",
            "A=option",
            "--env",
            "PATH",
        ]);
        let values = gather(&args, dir.path(), &|_| panic!("nothing to ask")).unwrap();
        let path = env::var("PATH").unwrap();
        let secrets: Vec<_> = values.secrets.iter().map(|(k, v)| (k.as_str(), v.expose_secret())).collect();
        assert_eq!(secrets, [("OTHER", "kept"), ("TOKEN", "option")]);
        assert_eq!(values.vars, BTreeMap::from([("REGION".to_owned(), "eu".to_owned())]));
        let env: Vec<_> = values.env.iter().map(|p| (p.key.as_str(), p.value.as_str())).collect();
        assert_eq!(env, [("A", "file"), ("lower", "x"), ("A", "option"), ("PATH", path.as_str())]);
        assert!(!format!("{values:?}").contains("option"));
    }

    #[test]
    fn a_secret_without_value_is_looked_up_and_then_asked_for() {
        let args = exec(&["-s", "AMPOULE_TEST_NO_SUCH_VARIABLE", "-s", "path"]);
        let values = gather(&args, Path::new("/"), &|name| {
            assert_eq!(name, "AMPOULE_TEST_NO_SUCH_VARIABLE");
            Ok(SecretString::from("typed"))
        })
        .unwrap();
        assert_eq!(values.secrets["AMPOULE_TEST_NO_SUCH_VARIABLE"].expose_secret(), "typed");
        assert_eq!(values.secrets["PATH"].expose_secret(), env::var("PATH").unwrap());
        let lacking = exec(&["--env", "AMPOULE_TEST_NO_SUCH_VARIABLE"]);
        let error = gather(&lacking, Path::new("/"), &ask_terminal).unwrap_err();
        assert!(matches!(error, ValueError::NoEnv { .. }), "{error}");
        assert!(gather(&exec(&["--var", "a b=c"]), Path::new("/"), &ask_terminal).is_err());
    }
}
