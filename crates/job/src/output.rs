//! What a step prints, on its way from bytes to masked rows.
//!
//! Purpose: rows are assembled, commands are taken out and obeyed, the rest is masked, cut and timed.
//! Owner: the step that runs; one [`Output`] for both of its streams. Pure: no I/O, no clock.
//!
//! ```text
//!  chunk ─▶ rows (per stream) ─▶ commands ─▶ mask (per stream) ─▶ cut at 64 KiB ─▶ rows of the log
//!                                    └─▶ effects: outputs, state, masks
//! ```
//!
//! Invariants
//! - Text leaves only masked, with every value that was known when its row came.
//! - A row holds no line feed and at most [`MAX_ROW`] bytes.
//! - What is held is bounded: a row that is not at its end, and what may be the beginning of a secret.

use std::{borrow::Cow, collections::VecDeque};

use jiff::Timestamp;
use sandbox::Stream;
use workflow::{
    command::{Command, Reader, Row as Parsed},
    mask::{self, Masker, TooManyMasks},
};

use crate::{
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
    /// What its commands did so far.
    pub(crate) effects: Effects,
}

impl Output {
    pub(crate) fn new(debug: DebugRows, unsecure: Unsecure) -> Self {
        Self {
            stdout: Channel::default(),
            stderr: Channel::default(),
            reader: Reader::new(),
            debug,
            unsecure,
            effects: Effects::default(),
        }
    }

    /// Takes a chunk and appends the rows that it completes.
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
    ) -> Result<(), TooManyMasks> {
        let mut pieces = Vec::new();
        self.channel(stream).assembler.push(bytes, |piece| pieces.push(piece));
        pieces.into_iter().try_for_each(|piece| self.piece(masker, stream, time, piece, rows))
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
            if let Some(piece) = self.channel(stream).assembler.finish() {
                self.piece(masker, stream, time, piece, rows)?;
            }
            self.channel(stream).finish(masker, time, rows);
        }
        Ok(())
    }

    fn channel(&mut self, stream: Stream) -> &mut Channel {
        match stream {
            Stream::Stdout => &mut self.stdout,
            Stream::Stderr => &mut self.stderr,
        }
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
        let shown = if whole {
            match self.reader.read(&text) {
                Parsed::Text(_) => None,
                Parsed::Command(command) => Some(self.obey(masker, command)?),
                Parsed::Bad(row, reason) => Some(Some(format!("{row}\n##[warning]{reason}"))),
            }
        } else {
            None
        };
        match shown {
            None => {
                if ends {
                    text.push('\n');
                }
                self.channel(stream).text(masker, &text, time, rows);
            }
            Some(Some(mut text)) => {
                text.push('\n');
                self.channel(stream).text(masker, &text, time, rows);
            }
            Some(None) => {}
        }
        Ok(())
    }

    /// Does what a command asks; the text that the log gets instead of it.
    fn obey(&mut self, masker: &mut Masker, command: Command) -> Result<Option<String>, TooManyMasks> {
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
                masker.add(&value)?;
                None
            }
            Command::Debug(text) => match self.debug {
                DebugRows::Shown => Some(marked(masker, "##[debug]", &text)),
                DebugRows::Hidden => None,
            },
            Command::Group(title) => Some(format!("##[group]{title}")),
            Command::EndGroup => Some("##[endgroup]".to_owned()),
            Command::Annotation { level, place, title, message } => {
                let mut text = String::new();
                for part in [place, title].into_iter().flatten() {
                    text.push_str(&part);
                    text.push_str(": ");
                }
                text.push_str(&message);
                Some(marked(masker, &format!("##[{}]", level.name()), &text))
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

/// One stream after its commands are out.
#[derive(Debug, Default)]
struct Channel {
    assembler: Assembler,
    mask: mask::Stream,
    /// When each line feed that is held back came.
    times: VecDeque<Timestamp>,
    /// The row that is being made of masked text.
    row: String,
    masked: String,
}

impl Channel {
    fn text(&mut self, masker: &Masker, text: &str, time: Timestamp, rows: &mut Vec<Row>) {
        let text = &*as_seen(masker, text);
        self.times.extend(text.bytes().filter(|&byte| byte == b'\n').map(|_| time));
        self.mask.push(masker, text, &mut self.masked);
        self.cut(time, rows);
    }

    fn finish(&mut self, masker: &Masker, time: Timestamp, rows: &mut Vec<Row>) {
        self.mask.finish(masker, &mut self.masked);
        self.cut(time, rows);
        if !self.row.is_empty() {
            rows.push(Row { time, text: std::mem::take(&mut self.row) });
        }
    }

    /// Makes rows of what is masked.
    fn cut(&mut self, now: Timestamp, rows: &mut Vec<Row>) {
        let mut text = self.masked.as_str();
        while !text.is_empty() {
            let end = text.find('\n');
            let part = &text[..end.unwrap_or(text.len())];
            self.row.push_str(part);
            while self.row.len() > MAX_ROW {
                let rest = self.row.split_off(self.row.floor_char_boundary(MAX_ROW));
                rows.push(Row { time: now, text: std::mem::replace(&mut self.row, rest) });
            }
            match end {
                Some(end) => {
                    let time = self.times.pop_front().unwrap_or(now);
                    rows.push(Row { time, text: std::mem::take(&mut self.row) });
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
