//! Workflow commands: rows by which a step talks to its runner.
//!
//! Purpose: reads `::name key=value,key=value::text` (at the beginning of a row, after blanks) and
//! `##[name key=value;key=value]text`, with their escapes, and keeps the two states there are: whether
//! commands are stopped, and whether they are echoed.
//! Owner: `job`, one [`Reader`] per step for both of its streams, in the order of arrival.
//!
//! Invariants
//! - A row that is no command, or an unknown one, is [`Row::Text`] and belongs into the log as it is.
//! - Between `::stop-commands::TOKEN` and `::TOKEN::` nothing is a command.
//! - Names of commands and properties compare without case, tokens and escapes with it; of a property that
//!   is given twice the last counts. So do GitHub's runner and Forgejo's, but for the token, which GitHub's
//!   compares without case, and for `##[`, which GitHub's finds anywhere in a row.
//! - Time is linear in the row.
//!
//! ```text
//!             ::stop-commands::TOKEN
//!   reading ─────────────────────────▶ stopped
//!      ▲             ::TOKEN::            │
//!      └──────────────────────────────────┘
//! ```

use std::borrow::Cow;

mod annotation;
mod raw;

pub use annotation::{Annotation, Level, Lines};
pub use raw::{Form, row};

use raw::Raw;

/// A row of a step's output, as the runner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row<'a> {
    /// For the log.
    Text(&'a str),
    /// For the runner.
    Command {
        /// What it asks.
        command: Command,
        /// What the log shows of the row itself: something when commands are echoed.
        echo: Option<Cow<'a, str>>,
    },
    /// Looked like a command for the runner, but cannot be one; the reason. The row is also text.
    Bad(&'a str, Reason),
}

/// Why a command is none.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Reason {
    /// Without a name there is nothing to set.
    #[error("`{0}` needs a name: `::{0} name=NAME::VALUE`")]
    NoName(&'static str),
    /// A token that ends by chance is no protection.
    #[error("`stop-commands` needs a token that is not empty and not the name of a command")]
    Token,
    /// Nothing stands behind the command.
    #[error("`{0}` needs a path: `::{0}::PATH`")]
    NoPath(&'static str),
    /// Both or none of what says which.
    #[error(
        "`remove-matcher` needs one of both: `::remove-matcher owner=OWNER::` or `::remove-matcher::PATH`"
    )]
    Remove,
    /// Neither of the two words.
    #[error("`echo` is `on` or `off`: `::echo::on`")]
    Echo,
}

/// A workflow command. Values are unescaped and may hold line feeds and secrets: Debug shows none of them.
#[derive(Clone, PartialEq, Eq)]
pub enum Command {
    /// `set-output name=N`: the old form of `GITHUB_OUTPUT`.
    SetOutput {
        /// The output's name, not empty.
        name: String,
        /// Its value.
        value: String,
    },
    /// `save-state name=N`: the old form of `GITHUB_STATE`.
    SaveState {
        /// The state's name, not empty.
        name: String,
        /// Its value.
        value: String,
    },
    /// `set-env name=N`: refused unless the workflow allows unsecure commands.
    SetEnv {
        /// The variable's name, not empty.
        name: String,
        /// Its value.
        value: String,
    },
    /// `add-path`: refused unless the workflow allows unsecure commands. Not empty.
    AddPath(String),
    /// `add-mask`: a secret from here on.
    AddMask(String),
    /// `debug`: a row for those who asked for it.
    Debug(String),
    /// `group`: rows from here to `endgroup` fold under this title.
    Group(String),
    /// `endgroup`.
    EndGroup,
    /// `notice`, `warning`, `error`.
    Annotation(Annotation),
    /// `add-matcher`: the matchers of this file, relative to the workspace, look at the rows that follow.
    AddMatcher(String),
    /// `remove-matcher owner=O`: this one no longer.
    RemoveMatcher(String),
    /// `remove-matcher`: those of this file no longer.
    RemoveMatchersOf(String),
    /// Has no effect beyond the reader's own state: `echo`, and the two that stop commands and let them go on.
    Nothing,
}

impl Command {
    /// Its name.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        match self {
            Self::SetOutput { .. } => "set-output",
            Self::SaveState { .. } => "save-state",
            Self::SetEnv { .. } => "set-env",
            Self::AddPath(_) => "add-path",
            Self::AddMask(_) => "add-mask",
            Self::Debug(_) => "debug",
            Self::Group(_) => "group",
            Self::EndGroup => "endgroup",
            Self::Annotation(annotation) => annotation.level.name(),
            Self::AddMatcher(_) => "add-matcher",
            Self::RemoveMatcher(_) | Self::RemoveMatchersOf(_) => "remove-matcher",
            Self::Nothing => "nothing",
        }
    }
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// Every name that is a command.
const NAMES: [&str; 15] = [
    "set-output",
    "save-state",
    "set-env",
    "add-path",
    "add-mask",
    "debug",
    "group",
    "endgroup",
    "notice",
    "warning",
    "error",
    "stop-commands",
    "add-matcher",
    "remove-matcher",
    "echo",
];

/// Whether commands are shown before they are obeyed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Echo {
    /// They are.
    On,
    /// They are not.
    #[default]
    Off,
}

/// Which tokens may stop commands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tokens {
    /// Those that no command is called by.
    #[default]
    Safe,
    /// Any that is not empty (`ACTIONS_ALLOW_UNSECURE_STOPCOMMAND_TOKENS`).
    Any,
}

/// Reads the rows of one step.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    stopped_until: Option<String>,
    echo: Echo,
    tokens: Tokens,
}

impl Reader {
    /// A reader that takes commands; who wants debug rows sees them too.
    #[must_use]
    pub fn new(echo: Echo) -> Self {
        Self { stopped_until: None, echo, tokens: Tokens::Safe }
    }

    /// The same, which lets these tokens stop commands.
    #[must_use]
    pub fn stopped_by(self, tokens: Tokens) -> Self {
        Self { tokens, ..self }
    }

    /// What this row is. It has no line feed at its end.
    pub fn read<'a>(&mut self, row: &'a str) -> Row<'a> {
        let Some(raw) = Raw::parse(row) else { return Row::Text(row) };
        if let Some(token) = &self.stopped_until {
            if raw.name != token && raw.inner != token {
                return Row::Text(row);
            }
            self.stopped_until = None;
            return Row::Command { command: Command::Nothing, echo: None };
        }
        let Some(name) = NAMES.iter().find(|name| name.eq_ignore_ascii_case(raw.name)) else {
            return Row::Text(row);
        };
        let echo = self.echo;
        match self.command(name, &raw) {
            Ok(command) => {
                let echo = if echo == Echo::On { shown(row, &command) } else { None };
                Row::Command { command, echo }
            }
            Err(reason) => Row::Bad(row, reason),
        }
    }

    fn command(&mut self, name: &'static str, raw: &Raw<'_>) -> Result<Command, Reason> {
        let named = |make: fn(String, String) -> Command| match raw.property("name") {
            Some(key) if !key.trim().is_empty() => Ok(make(key, raw.text())),
            _ => Err(Reason::NoName(name)),
        };
        let path = |make: fn(String) -> Command| match raw.text() {
            path if path.trim().is_empty() => Err(Reason::NoPath(name)),
            path => Ok(make(path)),
        };
        match name {
            "set-output" => named(|name, value| Command::SetOutput { name, value }),
            "save-state" => named(|name, value| Command::SaveState { name, value }),
            "set-env" => named(|name, value| Command::SetEnv { name, value }),
            "add-path" => path(Command::AddPath),
            "add-matcher" => path(|path| Command::AddMatcher(path.trim().to_owned())),
            "add-mask" => Ok(Command::AddMask(raw.text())),
            "debug" => Ok(Command::Debug(raw.text())),
            "group" => Ok(Command::Group(raw.text())),
            "endgroup" => Ok(Command::EndGroup),
            "notice" => Ok(Command::Annotation(raw.annotation(Level::Notice))),
            "warning" => Ok(Command::Annotation(raw.annotation(Level::Warning))),
            "error" => Ok(Command::Annotation(raw.annotation(Level::Error))),
            "remove-matcher" => {
                let path = raw.text().trim().to_owned();
                match (raw.property("owner"), path.is_empty()) {
                    (Some(owner), true) => Ok(Command::RemoveMatcher(owner)),
                    (None, false) => Ok(Command::RemoveMatchersOf(path)),
                    _ => Err(Reason::Remove),
                }
            }
            "echo" => {
                self.echo = match raw.text().trim() {
                    word if word.eq_ignore_ascii_case("on") => Echo::On,
                    word if word.eq_ignore_ascii_case("off") => Echo::Off,
                    _ => return Err(Reason::Echo),
                };
                Ok(Command::Nothing)
            }
            _ => {
                let token = raw.text();
                let known =
                    NAMES.iter().chain(&["pause-logging"]).any(|name| name.eq_ignore_ascii_case(&token));
                if token.trim().is_empty() || known && self.tokens == Tokens::Safe {
                    return Err(Reason::Token);
                }
                self.stopped_until = Some(token);
                Ok(Command::Nothing)
            }
        }
    }
}

/// What is echoed of a command: nothing of those that the log shows anyhow, and of a mask no value.
fn shown<'a>(row: &'a str, command: &Command) -> Option<Cow<'a, str>> {
    match command {
        Command::Debug(_) | Command::Annotation(_) | Command::Group(_) | Command::EndGroup => None,
        Command::AddMask(_) => Some("::add-mask::***".into()),
        _ => Some(row.into()),
    }
}

#[cfg(test)]
mod tests;
