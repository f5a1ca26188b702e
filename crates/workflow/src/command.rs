//! Workflow commands: rows by which a step talks to its runner.
//!
//! Purpose: reads `::name key=value,key=value::text` (at the beginning of a row, after blanks) and
//! `##[name key=value;key=value]text`, with their escapes, and keeps the one state there is: whether
//! commands are stopped.
//! Owner: `job`, one [`Reader`] per step for both of its streams, in the order of arrival.
//!
//! Invariants
//! - A row that is no command, or an unknown one, is [`Row::Text`] and belongs into the log as it is.
//! - Between `::stop-commands::TOKEN` and `::TOKEN::` nothing is a command.
//!
//! ```text
//!             ::stop-commands::TOKEN
//!   reading ─────────────────────────▶ stopped
//!      ▲             ::TOKEN::            │
//!      └──────────────────────────────────┘
//! ```

/// A row of a step's output, as the runner sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Row<'a> {
    /// For the log.
    Text(&'a str),
    /// For the runner.
    Command(Command),
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
    /// `add-path`: refused unless the workflow allows unsecure commands.
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
    Annotation {
        /// How bad it is.
        level: Level,
        /// The place in the sources, `file:line:col`, as far as it was given.
        place: Option<String>,
        /// Its title, if it has one.
        title: Option<String>,
        /// What it says.
        message: String,
    },
    /// Has no effect here and is no text either: `add-matcher`, `remove-matcher`, `echo`, and the two that
    /// stop commands and let them go on.
    Nothing,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::SetOutput { .. } => "SetOutput",
            Self::SaveState { .. } => "SaveState",
            Self::SetEnv { .. } => "SetEnv",
            Self::AddPath(_) => "AddPath",
            Self::AddMask(_) => "AddMask",
            Self::Debug(_) => "Debug",
            Self::Group(_) => "Group",
            Self::EndGroup => "EndGroup",
            Self::Annotation { .. } => "Annotation",
            Self::Nothing => "Nothing",
        })
    }
}

/// Level of an annotation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// Good to know.
    Notice,
    /// May be wrong.
    Warning,
    /// Is wrong.
    Error,
}

impl Level {
    /// Its name in the log: `notice`, `warning`, `error`.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Notice => "notice",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// Every name that is a command.
const NAMES: [&str; 16] = [
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
    "internal-set-repo-path",
];

/// Reads the rows of one step.
#[derive(Clone, Debug, Default)]
pub struct Reader {
    stopped_until: Option<String>,
}

impl Reader {
    /// A reader that takes commands.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What this row is. It has no line feed at its end.
    pub fn read<'a>(&mut self, row: &'a str) -> Row<'a> {
        let Some(raw) = Raw::parse(row) else { return Row::Text(row) };
        if let Some(token) = &self.stopped_until {
            if raw.name != token {
                return Row::Text(row);
            }
            self.stopped_until = None;
            return Row::Command(Command::Nothing);
        }
        match self.command(&raw) {
            Some(Ok(command)) => Row::Command(command),
            Some(Err(reason)) => Row::Bad(row, reason),
            None => Row::Text(row),
        }
    }

    fn command(&mut self, raw: &Raw<'_>) -> Option<Result<Command, Reason>> {
        let name = *NAMES.iter().find(|name| name.eq_ignore_ascii_case(raw.name))?;
        let named = |make: fn(String, String) -> Command| match raw.property("name") {
            Some(key) if !key.trim().is_empty() => Ok(make(key, raw.text())),
            _ => Err(Reason::NoName(name)),
        };
        Some(Ok(match name {
            "set-output" => return Some(named(|name, value| Command::SetOutput { name, value })),
            "save-state" => return Some(named(|name, value| Command::SaveState { name, value })),
            "set-env" => return Some(named(|name, value| Command::SetEnv { name, value })),
            "add-path" => Command::AddPath(raw.text()),
            "add-mask" => Command::AddMask(raw.text()),
            "debug" => Command::Debug(raw.text()),
            "group" => Command::Group(raw.text()),
            "endgroup" => Command::EndGroup,
            "notice" => raw.annotation(Level::Notice),
            "warning" => raw.annotation(Level::Warning),
            "error" => raw.annotation(Level::Error),
            "stop-commands" => {
                let token = raw.text();
                if token.trim().is_empty() || NAMES.iter().any(|name| name.eq_ignore_ascii_case(&token)) {
                    return Some(Err(Reason::Token));
                }
                self.stopped_until = Some(token);
                Command::Nothing
            }
            _ => Command::Nothing,
        }))
    }
}

/// Which of the two ways to write a command; they escape differently.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    Colons,
    Brackets,
}

/// The parts of a row that looks like a command, still escaped.
struct Raw<'a> {
    form: Form,
    name: &'a str,
    properties: &'a str,
    text: &'a str,
}

impl<'a> Raw<'a> {
    fn parse(row: &'a str) -> Option<Self> {
        let row = row.trim_start();
        let (form, inner, text) = if let Some(rest) = row.strip_prefix("::") {
            let (inner, text) = rest.split_once("::")?;
            (Form::Colons, inner, text)
        } else {
            let (inner, text) = row.strip_prefix("##[")?.split_once(']')?;
            (Form::Brackets, inner, text)
        };
        let (name, properties) = inner.split_once(' ').unwrap_or((inner, ""));
        if name.is_empty() {
            return None;
        }
        Some(Self { form, name, properties, text })
    }

    fn text(&self) -> String {
        unescape(self.text, &[("%0D", "\r"), ("%0A", "\n"), ("%25", "%")])
    }

    /// The value of a property, if it has one that is not empty.
    fn property(&self, key: &str) -> Option<String> {
        let (separator, escapes) = match self.form {
            Form::Colons => {
                (',', &[("%0D", "\r"), ("%0A", "\n"), ("%3A", ":"), ("%2C", ","), ("%25", "%")] as &[_])
            }
            Form::Brackets => {
                (';', &[("%0D", "\r"), ("%0A", "\n"), ("%3B", ";"), ("%5D", "]"), ("%25", "%")] as &[_])
            }
        };
        self.properties
            .split(separator)
            .filter_map(|property| property.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case(key))
            .map(|(_, value)| unescape(value.trim(), escapes))
            .filter(|value| !value.is_empty())
    }

    fn annotation(&self, level: Level) -> Command {
        let mut place = self.property("file");
        if let Some(place) = &mut place {
            for part in ["line", "col"] {
                let Some(value) = self.property(part) else { break };
                place.push(':');
                place.push_str(&value);
            }
        }
        Command::Annotation { level, place, title: self.property("title"), message: self.text() }
    }
}

/// One pass from left to right, so that `%250A` is the text `%0A`.
fn unescape(text: &str, escapes: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let found = escapes.iter().find(|(escape, _)| {
            rest.as_bytes().get(..3).is_some_and(|head| head.eq_ignore_ascii_case(escape.as_bytes()))
        });
        match found {
            Some((_, plain)) => {
                out.push_str(plain);
                rest = &rest[3..];
            }
            None => {
                out.push('%');
                rest = &rest[1..];
            }
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(row: &str) -> Option<Command> {
        match Reader::new().read(row) {
            Row::Command(command) => Some(command),
            Row::Text(_) | Row::Bad(..) => None,
        }
    }

    fn output(name: &str, value: &str) -> Option<Command> {
        Some(Command::SetOutput { name: name.to_owned(), value: value.to_owned() })
    }

    #[test]
    fn both_forms_are_read() {
        assert_eq!(one("::set-output name=a::1"), output("a", "1"));
        assert_eq!(one("  ::set-output name=a,x=y::b::c"), output("a", "b::c"));
        assert_eq!(one("##[set-output name=a;x=y]1"), output("a", "1"));
        assert_eq!(one("::group::Build"), Some(Command::Group("Build".to_owned())));
        assert_eq!(one("##[group]Build"), Some(Command::Group("Build".to_owned())));
        assert_eq!(one("::endgroup::"), Some(Command::EndGroup));
        assert_eq!(one("::add-mask::p w"), Some(Command::AddMask("p w".to_owned())));
        assert_eq!(one("::Add-Mask::x"), Some(Command::AddMask("x".to_owned())));
    }

    #[test]
    fn escapes_are_undone_once() {
        assert_eq!(one("::set-output name=a%3A%2Cb::x%0Ay%250A%"), output("a:,b", "x\ny%0A%"));
        assert_eq!(one("::set-output name=a::%3A%2C"), output("a", "%3A%2C"));
        assert_eq!(one("##[set-output name=a%3Bb%5D]%0d%0a"), output("a;b]", "\r\n"));
        assert_eq!(one("::add-mask::%é%0"), Some(Command::AddMask("%é%0".to_owned())));
    }

    #[test]
    fn annotations_keep_their_place() {
        assert_eq!(
            one("::error file=a.c,line=3,col=5,title=Oops::no %0A way"),
            Some(Command::Annotation {
                level: Level::Error,
                place: Some("a.c:3:5".to_owned()),
                title: Some("Oops".to_owned()),
                message: "no \n way".to_owned(),
            })
        );
        assert_eq!(
            one("::warning col=5::x"),
            Some(Command::Annotation {
                level: Level::Warning,
                place: None,
                title: None,
                message: "x".to_owned()
            })
        );
    }

    #[test]
    fn other_rows_are_text() {
        for row in
            ["", "::", "::::", ":: ::", "x ::group::y", "::unknown::y", "::group", "##[group", "# [group]x"]
        {
            assert_eq!(Reader::new().read(row), Row::Text(row));
        }
    }

    #[test]
    fn stopped_commands_are_text_until_the_token() {
        let mut reader = Reader::new();
        assert_eq!(reader.read("::stop-commands::tok"), Row::Command(Command::Nothing));
        assert_eq!(reader.read("::add-mask::x"), Row::Text("::add-mask::x"));
        assert_eq!(reader.read("::Tok::"), Row::Text("::Tok::"));
        assert_eq!(reader.read("::tok::"), Row::Command(Command::Nothing));
        assert_eq!(reader.read("::add-mask::x"), Row::Command(Command::AddMask("x".to_owned())));
        assert_eq!(reader.read("::stop-commands::"), Row::Bad("::stop-commands::", Reason::Token));
        assert_eq!(
            reader.read("::stop-commands::add-mask"),
            Row::Bad("::stop-commands::add-mask", Reason::Token)
        );
    }

    #[test]
    fn a_name_is_needed_where_something_is_set() {
        assert_eq!(
            Reader::new().read("::set-output::x"),
            Row::Bad("::set-output::x", Reason::NoName("set-output"))
        );
        assert_eq!(
            Reason::NoName("set-output").to_string(),
            "`set-output` needs a name: `::set-output name=NAME::VALUE`"
        );
    }

    #[test]
    fn values_do_not_show_in_debug() {
        assert!(!format!("{:?}", one("::add-mask::hush").unwrap()).contains("hush"));
    }
}
