//! Masking: no secret leaves a job, however its text was cut on the way.
//!
//! Purpose: replaces every occurrence of every secret by `***`, in whole texts ([`Masker::mask`]) and in
//! streams that arrive in pieces ([`Stream`]).
//! Owner: the job; one [`Masker`] for all of its steps, one [`Stream`] per stream of output.
//!
//! Invariants
//! - A byte is masked if *any* occurrence of *any* value covers it. (Of two secrets that overlap in the
//!   text, "leftmost longest" would show the end of the second.) Covered bytes that touch become one `***`.
//! - Line feeds are never masked: a text has as many rows after masking as before. A value of several lines
//!   is found across rows and becomes one `***` in each of them; its lines are also masked one by one, unless
//!   they are as short as a brace.
//! - A value is looked for in all its [`forms`]: as it is, its lines, base64, URL, JSON, quoted.
//! - For every way to cut a text into pieces, the masked pieces joined are the masked text.
//! - A stream keeps back only the end that may be the beginning of a secret: a row is late only for that.
//! - Values are kept in tiers, each at least twice as large as the next, with an automaton each: a job that
//!   adds values one by one costs what it adds, times the logarithm of it, not the square.
//!
//! ```text
//!   push ──▶ [ scanned: final │ held: may begin a secret ] ──▶ final bytes out, masked
//!                             ▲ length of the longest suffix that a value can still continue
//! ```

use std::{collections::HashSet, fmt};

mod automaton;
mod forms;

use automaton::{Automaton, State};
use forms::{Form, normalised};

/// What stands in the place of a secret.
pub const MASK: &str = "***";

/// Most bytes that all values of a job may have together, with their lines.
pub const MAX_TOTAL: usize = 1 << 20;

/// Most values of a job, with their lines.
pub const MAX_VALUES: usize = 8192;

/// Most bytes that the encoded forms of all values (base64, URL, JSON) add to the automata; values that come
/// when they are used up are masked as they are.
pub const MAX_ENCODED_TOTAL: usize = 3 << 20;

/// The values can no longer be masked, so nothing more may be said: the step has to fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("too many values to mask: at most {MAX_VALUES} of {MAX_TOTAL} bytes together")]
pub struct TooManyMasks;

/// The secrets of a job; grows while it runs.
#[derive(Clone, Default)]
pub struct Masker {
    tiers: Vec<Tier>,
    /// In all their forms.
    values: HashSet<String>,
    /// What was given, without its encoded forms.
    plain: Count,
    /// What the encoded forms add to the automata.
    encoded: usize,
    /// How many values are masked only as they are.
    unencoded: usize,
    /// Grows with every change of the tiers, so that streams know that their states are of older ones.
    version: u64,
}

/// How much of something there is.
#[derive(Clone, Copy, Default)]
struct Count {
    values: usize,
    bytes: usize,
}

/// Some of the values.
#[derive(Clone)]
struct Tier {
    /// Ascending.
    values: Vec<String>,
    bytes: usize,
    automaton: Automaton,
}

impl Tier {
    fn new(mut values: Vec<String>) -> Self {
        values.sort_unstable();
        let bytes = values.iter().map(String::len).sum();
        let automaton = Automaton::new(values.iter().map(String::as_bytes));
        Self { values, bytes, automaton }
    }
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Masker").field("values", &self.values.len()).finish_non_exhaustive()
    }
}

impl Masker {
    /// A masker of these values.
    ///
    /// # Errors
    /// When they are more than [`MAX_TOTAL`] or [`MAX_VALUES`].
    pub fn new<'a>(values: impl IntoIterator<Item = &'a str>) -> Result<Self, TooManyMasks> {
        let mut masker = Self::default();
        masker.add_all(values)?;
        Ok(masker)
    }

    /// Masks this value from now on. Line feeds at its ends do not count; one that [`is_blank`] is no secret.
    ///
    /// # Errors
    /// When there are too many; the value is then *not* masked.
    pub fn add(&mut self, value: &str) -> Result<(), TooManyMasks> {
        self.add_all([value])
    }

    fn add_all<'a>(&mut self, values: impl IntoIterator<Item = &'a str>) -> Result<(), TooManyMasks> {
        // a blank value would tear holes into every log, and hide nothing
        let mut values: Vec<&str> = values.into_iter().filter(|value| !is_blank(value)).collect();
        // the room for encoded forms is first for the small ones, of which it holds most
        values.sort_by_key(|value| value.len());
        let mut new = HashSet::new();
        let mut plain = self.plain;
        for form in values.iter().flat_map(|value| forms::plain(value)) {
            if !self.values.contains(&form.text) && !new.contains(&form.text) {
                plain.values += 1;
                plain.bytes += form.text.len();
                new.insert(form.text);
            }
        }
        if plain.bytes > MAX_TOTAL || plain.values > MAX_VALUES {
            return Err(TooManyMasks);
        }
        let (mut encoded, mut unencoded) = (self.encoded, self.unencoded);
        for value in values {
            let forms = forms::encoded(value);
            let adds = |form: &Form| if self.values.contains(&form.text) { 0 } else { form.adds };
            let adds: usize = forms.iter().map(adds).sum();
            if encoded + adds > MAX_ENCODED_TOTAL {
                unencoded += 1;
                continue;
            }
            encoded += adds;
            new.extend(forms.into_iter().map(|form| form.text).filter(|form| !self.values.contains(form)));
        }
        self.plain = plain;
        self.encoded = encoded;
        self.unencoded = unencoded;
        if new.is_empty() {
            return Ok(());
        }
        self.version += 1;
        self.values.extend(new.iter().cloned());
        let mut values: Vec<String> = new.into_iter().collect();
        let mut bytes: usize = values.iter().map(String::len).sum();
        while let Some(last) = self.tiers.pop_if(|last| last.bytes < 2 * bytes) {
            bytes += last.bytes;
            values.extend(last.values);
        }
        self.tiers.push(Tier::new(values));
        Ok(())
    }

    /// How many values are masked as they are and not in their encoded forms, because those of the others have used
    /// up [`MAX_ENCODED_TOTAL`]. A value that was added twice counts twice.
    #[must_use]
    pub fn unencoded(&self) -> usize {
        self.unencoded
    }

    /// The text without secrets.
    #[must_use]
    pub fn mask(&self, text: &str) -> String {
        let mut out = String::with_capacity(text.len());
        let mut stream = Stream::new();
        stream.push(self, text, &mut out);
        stream.finish(self, &mut out);
        out
    }

    /// Whether the text holds a secret.
    #[must_use]
    pub fn finds(&self, text: &str) -> bool {
        let text = normalised(text);
        self.tiers.iter().any(|tier| {
            let mut state = State::ROOT;
            text.bytes().any(|byte| {
                state = tier.automaton.next(state, byte);
                tier.automaton.longest_match(state) > 0
            })
        })
    }
}

/// Whether nothing of a value can be seen: it is of blanks, control characters and control sequences such
/// as `ESC [0m`, which a log may have at the end of every row.
#[must_use]
pub fn is_blank(value: &str) -> bool {
    let invisible = |c: char| c.is_whitespace() || c.is_control() || ('\u{200b}'..='\u{200f}').contains(&c);
    let mut rest = value;
    loop {
        rest = rest.trim_start_matches(|c| invisible(c) && !matches!(c, '\u{1b}' | '\u{9b}'));
        let sequence = rest.strip_prefix("\u{1b}[").or_else(|| rest.strip_prefix('\u{9b}'));
        if let Some(sequence) = sequence {
            let parameters = sequence.trim_start_matches(|c| matches!(c, ' '..='?'));
            rest = parameters.strip_prefix(|c| matches!(c, '@'..='~')).unwrap_or(parameters);
        } else if let Some(behind) = rest.strip_prefix('\u{1b}') {
            rest = behind;
        } else {
            return rest.is_empty();
        }
    }
}

/// Masks a text that arrives in pieces.
#[derive(Default)]
pub struct Stream {
    /// What came and is not yet final.
    held: String,
    /// Ranges of `held` that a secret covers: ascending, neither overlapping nor touching.
    covered: Vec<(usize, usize)>,
    /// Of each tier's automaton, after all of `held`.
    states: Vec<State>,
    version: u64,
    /// Whether the last byte that went out was covered: a range that goes on gets no second mask.
    masking: bool,
}

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream").field("held_bytes", &self.held.len()).finish_non_exhaustive()
    }
}

impl Stream {
    /// A stream at its beginning.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next piece and appends to `out` what is final of the text so far.
    ///
    /// A value that was added to the masker since the last piece is masked also in what is held back.
    pub fn push(&mut self, masker: &Masker, piece: &str, out: &mut String) {
        self.catch_up(masker);
        let from = self.held.len();
        self.held.push_str(piece);
        self.scan(masker, from);
        let unfinished =
            masker.tiers.iter().zip(&self.states).map(|(tier, &state)| tier.automaton.unfinished(state));
        let end = self.held.len() - unfinished.max().unwrap_or(0);
        self.release(end, out);
    }

    /// Ends the text: what was held back is final, for no more comes. The stream is then new again.
    pub fn finish(&mut self, masker: &Masker, out: &mut String) {
        self.catch_up(masker);
        let end = self.held.len();
        self.release(end, out);
        *self = Self::default();
    }

    /// Whether something is held back.
    #[must_use]
    pub fn holds(&self) -> bool {
        !self.held.is_empty()
    }

    /// States of older automata mean nothing in newer ones: what is held is read again.
    fn catch_up(&mut self, masker: &Masker) {
        if self.version != masker.version {
            self.version = masker.version;
            self.states = vec![State::ROOT; masker.tiers.len()];
            self.scan(masker, 0);
        }
    }

    fn scan(&mut self, masker: &Masker, from: usize) {
        let bytes = self.held.as_bytes();
        for (Tier { automaton, .. }, state) in masker.tiers.iter().zip(&mut self.states) {
            let mut at = from;
            while at < bytes.len() {
                if *state == State::ROOT {
                    match bytes[at..].iter().position(|&byte| automaton.begins(byte)) {
                        Some(skip) => at += skip,
                        None => break,
                    }
                }
                *state = automaton.next(*state, bytes[at]);
                at += 1;
                let length = automaton.longest_match(*state);
                if length > 0 {
                    cover(&mut self.covered, at - length, at);
                }
            }
        }
    }

    /// Sends out `held[..end]`, which no later byte can change.
    fn release(&mut self, end: usize, out: &mut String) {
        if end == 0 {
            return;
        }
        let mut at = 0;
        let mut ranges = 0;
        for &(start, stop) in self.covered.iter().take_while(|(start, _)| *start < end) {
            if start > at {
                out.push_str(&self.held[at..start]);
                self.masking = false;
            }
            let stop_here = stop.min(end);
            for (index, row) in self.held[start.max(at)..stop_here].split('\n').enumerate() {
                if index > 0 {
                    out.push('\n');
                    self.masking = false;
                }
                if !row.is_empty() && !self.masking {
                    out.push_str(MASK);
                    self.masking = true;
                }
            }
            at = stop_here;
            if stop <= end {
                ranges += 1;
            }
        }
        if end > at {
            out.push_str(&self.held[at..end]);
            self.masking = false;
        }
        self.held.drain(..end);
        self.covered.drain(..ranges);
        for (start, stop) in &mut self.covered {
            *start = start.saturating_sub(end);
            *stop -= end;
        }
    }
}

/// Adds a range; those that it overlaps or touches become one with it.
fn cover(covered: &mut Vec<(usize, usize)>, mut start: usize, mut stop: usize) {
    let after = covered.partition_point(|range| range.1 < start);
    let until = covered.partition_point(|range| range.0 <= stop);
    if after < until {
        start = start.min(covered[after].0);
        stop = stop.max(covered[until - 1].1);
    }
    covered.splice(after..until, [(start, stop)]);
}

#[cfg(test)]
mod tests;
