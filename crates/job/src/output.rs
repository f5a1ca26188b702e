//! What a step prints, on its way from bytes to masked rows.
//!
//! Purpose: rows are assembled, commands are taken out and obeyed, the rest is masked, cut and timed.
//! Owner: the step that runs; one [`Output`] for both of its streams. Pure: no I/O, no clock.
//!
//! ```text
//!  chunk ─▶ rows (per stream) ─▶ commands ─▶ mask (per stream) ─▶ cut at 64 KiB ─▶ matchers ─▶ rows of the log
//!                                    ├─▶ effects: outputs, state, masks
//!                                    └─▶ a file of matchers is wanted: nothing more is taken before it is there
//! ```
//!
//! Invariants
//! - Text leaves only masked, with every value that was known when its row came; matchers see masked rows.
//! - A row holds no line feed and at most [`MAX_ROW`] bytes.
//! - What is held is bounded: a row that is not at its end, and what may be the beginning of a secret.

use std::{borrow::Cow, collections::VecDeque};

use jiff::Timestamp;
use sandbox::Stream;
use workflow::{
    command::{Annotation, Command, Echo, Reader, Row as Parsed, Tokens},
    envfile::{self, Standing},
    mask::{self, Masker, TooManyMasks},
};

use crate::{
    problems::{Problems, Wanted},
    rows::{Assembler, Piece},
    sanitise::{self, Colours},
};

/// Most bytes of a row of the log; a longer one goes on in the next.
pub(crate) const MAX_ROW: usize = 64 << 10;

/// Most outputs, states and variables that commands of one step may set: what is set through a row is held.
const MAX_SET: usize = 10_000;

/// A row of the log, masked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Row {
    /// When its end came.
    pub(crate) time: Timestamp,
    /// Its text, without a line feed.
    pub(crate) text: String,
    /// What it says about a place in the sources; masked.
    pub(crate) annotation: Option<Box<Annotation>>,
}

impl Row {
    pub(crate) fn new(time: Timestamp, text: String) -> Self {
        Self { time, text, annotation: None }
    }
}

/// Whether rows of `::debug::` are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DebugRows {
    Shown,
    Hidden,
}

/// Whether `set-env` and `add-path` are obeyed (`ACTIONS_ALLOW_UNSECURE_COMMANDS`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unsecure {
    Allowed,
    Refused,
}

/// What the commands of a step did. Values may be secret.
#[derive(Default)]
pub(crate) struct Effects {
    pub(crate) outputs: Vec<(String, String)>,
    pub(crate) state: Vec<(String, String)>,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) paths: Vec<String>,
    /// A command that must not be obeyed was there: the step fails.
    pub(crate) refused: bool,
    warned: bool,
}

impl std::fmt::Debug for Effects {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |list: &[(String, String)]| list.iter().map(|(name, _)| name.clone()).collect::<Vec<_>>();
        f.debug_struct("Effects")
            .field("outputs", &names(&self.outputs))
            .field("env", &names(&self.env))
            .field("refused", &self.refused)
            .finish_non_exhaustive()
    }
}

/// The output of one step.
#[derive(Debug)]
pub(crate) struct Output {
    stdout: Channel,
    stderr: Channel,
    reader: Reader,
    debug: DebugRows,
    unsecure: Unsecure,
    /// What has come and waits for a file of matchers.
    pending: VecDeque<(Stream, Timestamp, Piece)>,
    wanted: Option<Wanted>,
    /// What looks at its rows.
    pub(crate) problems: Problems,
    /// What its commands did so far.
    pub(crate) effects: Effects,
}

impl Output {
    pub(crate) fn new(debug: DebugRows, unsecure: Unsecure) -> Self {
        Self {
            stdout: Channel::default(),
            stderr: Channel::default(),
            reader: Reader::new(match debug {
                DebugRows::Shown => Echo::On,
                DebugRows::Hidden => Echo::Off,
            }),
            debug,
            unsecure,
            pending: VecDeque::new(),
            wanted: None,
            problems: Problems::default(),
            effects: Effects::default(),
        }
    }

    /// Its commands are stopped by these tokens.
    pub(crate) fn stopped_by(self, tokens: Tokens) -> Self {
        Self { reader: self.reader.stopped_by(tokens), ..self }
    }

    /// Its rows are looked at by these.
    pub(crate) fn with(self, problems: Problems) -> Self {
        Self { problems, ..self }
    }

    /// Takes a chunk and appends the rows that it completes. A file that is wanted then has to be given to
    /// [`Output::problems`] before [`Output::resume`] goes on.
    ///
    /// # Errors
    /// When a value can no longer be masked: nothing of this step may be shown from here on.
    pub(crate) fn chunk(
        &mut self,
        masker: &mut Masker,
        stream: Stream,
        time: Timestamp,
        bytes: &[u8],
        rows: &mut Vec<Row>,
    ) -> Result<Option<Wanted>, TooManyMasks> {
        let Self { stdout, stderr, pending, .. } = self;
        let channel = of(stream, stdout, stderr);
        channel.assembler.push(bytes, |piece| pending.push_back((stream, time, piece)));
        self.resume(masker, rows)
    }

    /// Goes on behind a row that wanted a file.
    ///
    /// # Errors
    /// As [`Output::chunk`].
    pub(crate) fn resume(
        &mut self,
        masker: &mut Masker,
        rows: &mut Vec<Row>,
    ) -> Result<Option<Wanted>, TooManyMasks> {
        while let Some((stream, time, piece)) = self.pending.pop_front() {
            self.piece(masker, stream, time, piece, rows)?;
            if self.wanted.is_some() {
                break;
            }
        }
        Ok(self.wanted.take())
    }

    /// Adds a row of the runner's own.
    pub(crate) fn say(&mut self, masker: &Masker, time: Timestamp, text: &str, rows: &mut Vec<Row>) {
        self.stdout.text(masker, &format!("{text}\n"), Said::runner(time), &mut self.problems, rows);
    }

    /// The streams have ended: appends what was not at the end of its row, or held back.
    ///
    /// # Errors
    /// As [`Output::chunk`].
    pub(crate) fn finish(
        &mut self,
        masker: &mut Masker,
        time: Timestamp,
        rows: &mut Vec<Row>,
    ) -> Result<(), TooManyMasks> {
        for stream in [Stream::Stdout, Stream::Stderr] {
            let last = of(stream, &mut self.stdout, &mut self.stderr).assembler.finish();
            self.pending.extend(last.map(|piece| (stream, time, piece)));
        }
        // no row comes that a file of matchers could be for
        while self.resume(masker, rows)?.is_some() {}
        let Self { stdout, stderr, problems, .. } = self;
        stdout.finish(masker, time, problems, rows);
        stderr.finish(masker, time, problems, rows);
        Ok(())
    }

    fn piece(
        &mut self,
        masker: &mut Masker,
        stream: Stream,
        time: Timestamp,
        piece: Piece,
        rows: &mut Vec<Row>,
    ) -> Result<(), TooManyMasks> {
        let Piece { mut text, whole, ends } = piece;
        let mut said = Said::runner(time);
        let shown = match if whole { self.reader.read(&text) } else { Parsed::Text(&text) } {
            Parsed::Text(_) => None,
            Parsed::Command { command, echo } => {
                let echo = echo.map(Cow::into_owned);
                let obeyed = self.obey(masker, command, &mut said)?;
                let shown: Vec<String> = echo.into_iter().chain(obeyed).collect();
                Some((!shown.is_empty()).then(|| shown.join("\n")))
            }
            Parsed::Bad(row, reason) => Some(Some(format!("{row}\n##[warning]{reason}"))),
        };
        let Self { stdout, stderr, problems, .. } = self;
        let channel = of(stream, stdout, stderr);
        match shown {
            None => {
                if ends {
                    text.push('\n');
                }
                channel.text(masker, &text, Said { by: By::Step, ..said }, problems, rows);
            }
            Some(Some(mut text)) => {
                text.push('\n');
                channel.text(masker, &text, said, problems, rows);
            }
            Some(None) => {}
        }
        Ok(())
    }

    /// Does what a command asks; the text that the log gets instead of it.
    fn obey(
        &mut self,
        masker: &mut Masker,
        command: Command,
        said: &mut Said,
    ) -> Result<Option<String>, TooManyMasks> {
        let effects = &mut self.effects;
        Ok(match command {
            Command::SetOutput { name, value } => {
                set(&mut effects.outputs, name, value).or_else(|| {
                    let first = !std::mem::replace(&mut effects.warned, true);
                    first.then(|| {
                        "##[warning]`set-output` is deprecated: write `NAME=VALUE` to the file `$GITHUB_OUTPUT`".to_owned()
                    })
                })
            }
            Command::SaveState { name, value } => set(&mut effects.state, name, value),
            Command::SetEnv { name, value } => match self.unsecure {
                Unsecure::Allowed if envfile::standing(&name) != Standing::Free => reserved(&name),
                Unsecure::Allowed => set(&mut effects.env, name, value),
                Unsecure::Refused => Some(effects.refuse("set-env", "GITHUB_ENV")),
            },
            Command::AddPath(path) => match self.unsecure {
                Unsecure::Allowed if effects.paths.len() < MAX_SET => {
                    effects.paths.push(path);
                    None
                }
                Unsecure::Allowed => Some(too_many()),
                Unsecure::Refused => Some(effects.refuse("add-path", "GITHUB_PATH")),
            },
            // It would mask what every text has.
            Command::AddMask(value) if mask::is_blank(&blanks(&value)) => {
                Some("##[warning]`add-mask` is ignored: its value is empty or blank".to_owned())
            }
            Command::AddMask(value) => {
                let before = masker.unencoded();
                masker.add(&value)?;
                (before == 0 && masker.unencoded() > 0).then(|| {
                    "##[warning]from here on `add-mask` masks values only as written, not in base64 nor in other \
                     encodings: all secrets together are too large for that"
                        .to_owned()
                })
            }
            Command::Debug(text) => match self.debug {
                DebugRows::Shown => Some(marked(masker, "##[debug]", &text)),
                DebugRows::Hidden => None,
            },
            Command::Group(title) => Some(format!("##[group]{title}")),
            Command::EndGroup => Some("##[endgroup]".to_owned()),
            Command::Annotation(annotation) => {
                let shown = marked(masker, &format!("##[{}]", annotation.level.name()), &annotation.text());
                let seen = |text: String| masker.mask(&as_seen(masker, &text));
                said.annotation = self.problems.take(Annotation {
                    file: annotation.file.map(seen),
                    title: annotation.title.map(seen),
                    message: seen(annotation.message),
                    ..annotation
                });
                Some(shown)
            }
            Command::AddMatcher(path) => {
                self.wanted = Some(Wanted::Add(path));
                None
            }
            Command::RemoveMatchersOf(path) => {
                self.wanted = Some(Wanted::Remove(path));
                None
            }
            Command::RemoveMatcher(owner) => {
                self.problems.matchers.remove(&owner);
                None
            }
            Command::Nothing => None,
        })
    }
}

impl Effects {
    fn refuse(&mut self, command: &str, file: &str) -> String {
        self.refused = true;
        format!(
            "##[error]the command `{command}` is refused, for whatever prints can use it: write to the file \
             `${file}`, or set ACTIONS_ALLOW_UNSECURE_COMMANDS=true"
        )
    }
}

/// Why a step cannot set a variable for those that follow, if it cannot: a row of the log.
pub(crate) fn reserved(name: &str) -> Option<String> {
    match envfile::standing(name) {
        Standing::Free => None,
        Standing::Refused => Some(format!(
            "##[error]`{name}` is not set for the steps that follow, for it would run code in their programs: \
             set it in the `env` of a step"
        )),
        Standing::Kept => {
            Some(format!("##[warning]`{name}` is not set for the steps that follow: it is the runner's own"))
        }
    }
}

fn set(list: &mut Vec<(String, String)>, name: String, value: String) -> Option<String> {
    if list.len() == MAX_SET {
        return Some(too_many());
    }
    list.push((name, value));
    None
}

fn too_many() -> String {
    format!("##[warning]ignored: a step can set at most {MAX_SET} values by commands")
}

/// Every row of a text with its mark. It is masked first: with marks in it, a value of several lines would
/// no longer be found.
fn marked(masker: &Masker, mark: &str, text: &str) -> String {
    let text = text.trim_end_matches(['\r', '\n']);
    if !text.contains('\n') {
        return format!("{mark}{text}");
    }
    let text = masker.mask(&as_seen(masker, text));
    text.split('\n').map(|row| format!("{mark}{row}")).collect::<Vec<_>>().join("\n")
}

/// The value with the blanks that some encode for nothing: commands have no escape for them.
fn blanks(value: &str) -> String {
    value.replace("%20", " ").replace("%09", "\t")
}

/// Where a row of the log comes from.
#[derive(Debug)]
struct Said {
    /// When its line feed came.
    time: Timestamp,
    by: By,
    annotation: Option<Box<Annotation>>,
}

impl Said {
    fn runner(time: Timestamp) -> Self {
        Self { time, by: By::Runner, annotation: None }
    }
}

/// Whose row it is: matchers look only at those of the step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum By {
    Step,
    Runner,
}

/// One stream after its commands are out.
#[derive(Debug, Default)]
struct Channel {
    assembler: Assembler,
    mask: mask::Stream,
    /// Of each line feed that is held back.
    said: VecDeque<Said>,
    /// The row that is being made of masked text.
    row: String,
    /// A part of that row is out already.
    in_parts: bool,
    masked: String,
}

fn of<'a>(stream: Stream, stdout: &'a mut Channel, stderr: &'a mut Channel) -> &'a mut Channel {
    match stream {
        Stream::Stdout => stdout,
        Stream::Stderr => stderr,
    }
}

impl Channel {
    fn text(
        &mut self,
        masker: &Masker,
        text: &str,
        said: Said,
        problems: &mut Problems,
        rows: &mut Vec<Row>,
    ) {
        let text = &*as_seen(masker, text);
        let Said { time, by, mut annotation } = said;
        let ends = text.bytes().filter(|&byte| byte == b'\n');
        // an annotation belongs to the first of its rows
        self.said.extend(ends.map(|_| Said { time, by, annotation: annotation.take() }));
        self.mask.push(masker, text, &mut self.masked);
        self.cut(time, problems, rows);
    }

    fn finish(&mut self, masker: &Masker, time: Timestamp, problems: &mut Problems, rows: &mut Vec<Row>) {
        self.mask.finish(masker, &mut self.masked);
        self.cut(time, problems, rows);
        if !self.row.is_empty() {
            rows.push(Row::new(time, std::mem::take(&mut self.row)));
        }
    }

    /// Makes rows of what is masked.
    fn cut(&mut self, now: Timestamp, problems: &mut Problems, rows: &mut Vec<Row>) {
        let mut text = self.masked.as_str();
        while !text.is_empty() {
            let end = text.find('\n');
            let part = &text[..end.unwrap_or(text.len())];
            self.row.push_str(part);
            while self.row.len() > MAX_ROW {
                let rest = self.row.split_off(self.row.floor_char_boundary(MAX_ROW));
                rows.push(Row::new(now, std::mem::replace(&mut self.row, rest)));
                self.in_parts = true;
            }
            match end {
                Some(end) => {
                    let Said { time, by, annotation } =
                        self.said.pop_front().unwrap_or_else(|| Said::runner(now));
                    let mut row = Row { time, text: std::mem::take(&mut self.row), annotation };
                    if by == By::Step && !self.in_parts {
                        problems.look(&mut row);
                    }
                    self.in_parts = false;
                    rows.push(row);
                    text = &text[end + 1..];
                }
                None => break,
            }
        }
        self.masked.clear();
    }
}

/// The text as a reader sees it: without control sequences but colours, and without colours too where those
/// would hide a secret from the mask.
fn as_seen<'a>(masker: &Masker, text: &'a str) -> Cow<'a, str> {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t' | b'\r' | b'\n')) {
        return Cow::Borrowed(text);
    }
    let plain = cleaned(text, Colours::Drop);
    if plain == text {
        return Cow::Borrowed(text);
    }
    if !masker.finds(text) {
        return Cow::Owned(coloured(masker, text, plain));
    }
    // a value that has control characters itself is found only before they are dropped
    let masked = masker.mask(text);
    let plain = cleaned(&masked, Colours::Drop);
    Cow::Owned(coloured(masker, &masked, plain))
}

/// The text with its colours; without, where a secret is in either, for a mask would go through a sequence:
/// the one that closes a row is not the text's own.
fn coloured(masker: &Masker, text: &str, plain: String) -> String {
    let kept = cleaned(text, Colours::Keep);
    if masker.finds(&plain) || masker.finds(&kept) { plain } else { kept }
}

/// Each row by itself; what ends a row stays.
fn cleaned(text: &str, colours: Colours) -> String {
    let mut out = String::with_capacity(text.len());
    for part in text.split_inclusive(['\r', '\n']) {
        let row = part.trim_end_matches(['\r', '\n']);
        out.push_str(&sanitise::line(row, colours));
        out.push_str(&part[row.len()..]);
    }
    out
}

#[cfg(test)]
#[path = "output_tests.rs"]
mod tests;
