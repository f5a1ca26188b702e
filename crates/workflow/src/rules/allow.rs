//! Comments that silence a rule at one place: `# ampoule: allow RULE: REASON`.
//!
//! Purpose: an exception that says why it is one. Owner: [`super::check`], and whoever parses to run.
//! Invariants: a comment counts for its own line, and one that stands alone for the next line that is no such
//! comment; where that line is a key, for all lines of its text, also of a script: no comment can stand between the
//! lines of one command, or in a here-document; one without a reason silences nothing; errors without a rule stay.

use std::collections::HashSet;

use doc::{Diagnostic, Source, Span, did_you_mean};

use super::{Level, Levels, Rule};

/// What begins such a comment.
const MARK: &str = "ampoule: allow";

/// What begins a comment that may be meant so.
const NAME: &str = "ampoule:";

/// A comment.
struct Comment {
    /// Where, from its `#` on.
    span: Span,
    /// The lines that it counts for, from 1.
    lines: [usize; 2],
    what: Result<Rule, Fault>,
}

/// What is wrong with a comment.
enum Fault {
    Unknown(super::UnknownRule),
    NoReason(Rule),
    NoRule,
    /// Another word than `allow`, or no blank in front of it.
    NoMark,
}

/// What no comment silences.
pub(super) fn filter(source: &Source, found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if !source.text().contains(MARK) {
        return found;
    }
    let lines = Lines::of(source);
    let comments = comments(source);
    let allowed: HashSet<_> = comments.iter().flat_map(Comment::allows).collect();
    found.into_iter().filter(|fault| !lines.of_rule(fault).any(|place| allowed.contains(&place))).collect()
}

/// The same, and what is wrong with the comments; one that silences nothing only where there is no error, since what
/// it is for may not have been looked at.
pub(super) fn lint(source: &Source, found: Vec<Diagnostic>, levels: &Levels) -> Vec<Diagnostic> {
    if !source.text().contains(NAME) {
        return found;
    }
    let good = !found.iter().any(Diagnostic::is_error);
    let lines = Lines::of(source);
    let told: HashSet<_> = found.iter().flat_map(|fault| lines.of_rule(fault)).collect();
    let comments = comments(source);
    let wrong = comments.iter().filter_map(|comment| {
        let used = comment.allows().any(|place| told.contains(&place));
        comment.fault(source, used || !good, levels)
    });
    let wrong: Vec<_> = wrong.take(super::MAX_DIAGNOSTICS).collect();
    let mut all = filter(source, found);
    all.extend(wrong);
    all.sort_by_key(|fault| fault.primary.as_ref().map_or(usize::MAX, |label| label.span.start));
    all
}

/// A rule and a line.
type Place = (&'static str, usize);

/// Where the lines of a source begin.
struct Lines<'a> {
    source: &'a Source,
    starts: Vec<usize>,
    /// The line of the key in whose text each line stands, from 1; itself elsewhere.
    keys: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn of(source: &'a Source) -> Lines<'a> {
        let feeds = source.text().bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        let starts = std::iter::once(0).chain(feeds.map(|(at, _)| at + 1)).collect();
        Lines { source, starts, keys: keys(source.text()) }
    }

    /// The rule of what was found with each line that a comment can stand for, from 1.
    fn of_rule(&self, fault: &Diagnostic) -> impl Iterator<Item = Place> {
        let label = fault.primary.as_ref().filter(|label| label.source == *self.source);
        let found = label.zip(fault.rule).map(|(label, rule)| {
            let line = self.starts.partition_point(|start| *start <= label.span.start);
            [(rule, line), (rule, self.keys.get(line - 1).copied().unwrap_or(line))]
        });
        found.into_iter().flatten()
    }
}

/// For each line the one of the key in whose text it stands.
fn keys(text: &str) -> Vec<usize> {
    let mut found = Vec::new();
    // the key's column and line
    let mut open: Option<(usize, usize)> = None;
    for (at, line) in text.lines().enumerate() {
        let indent = line.len() - line.trim_start_matches(' ').len();
        match open {
            Some((column, key)) if line.trim().is_empty() || indent > column => found.push(key),
            _ => {
                open = column_of_text(line).map(|column| (column, at + 1));
                found.push(at + 1);
            }
        }
    }
    found
}

/// The column of the key whose text begins in this line, and may go on below it.
fn column_of_text(line: &str) -> Option<usize> {
    let mut rest = line.trim_start_matches(' ');
    while let Some(item) = rest.strip_prefix("- ") {
        rest = item.trim_start_matches(' ');
    }
    let (key, value) = rest.split_once(':')?;
    let value = value.trim();
    let is_text = match value.chars().next() {
        None => matches!(key, "if" | "run"),
        Some(first) => !matches!(first, '{' | '[' | '*' | '&' | '#'),
    };
    let is_key = key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    (is_key && is_text).then_some(line.len() - rest.len())
}

impl Comment {
    fn allows(&self) -> impl Iterator<Item = Place> {
        let rule = self.what.as_ref().ok();
        rule.into_iter().flat_map(|rule| self.lines.map(|line| (rule.name(), line)))
    }

    fn fault(&self, source: &Source, used: bool, levels: &Levels) -> Option<Diagnostic> {
        let say = |message: String| Rule::AllowComment.warning(message).at(source, self.span);
        Some(match &self.what {
            Ok(_) if used => return None,
            // it may be on for others
            Ok(rule) if levels.of(*rule) == Level::Off => return None,
            Ok(rule) => say(format!("this comment silences nothing: `{}` finds nothing here", rule.name()))
                .label("counts for its line, or for the next one, and for the text of a key in it")
                .help("remove it"),
            Err(Fault::Unknown(unknown)) => {
                let fault = say(format!("there is no rule `{}`", unknown.name)).label("silences nothing");
                match unknown.suggestion {
                    Some(near) => fault.help(format!("did you mean `{near}`?")),
                    None => fault.help("`ampoule validate --rules` lists them"),
                }
            }
            Err(Fault::NoReason(rule)) => say("this comment gives no reason".to_owned())
                .label("silences nothing")
                .help(format!("write `# {MARK} {}: ` and why", rule.name())),
            Err(Fault::NoMark) => say(format!("this comment does not begin with `# {MARK} `"))
                .label("silences nothing")
                .help(format!("write `# {MARK} RULE: REASON`")),
            Err(Fault::NoRule) => say("this comment names no rule".to_owned())
                .label("silences nothing")
                .help(format!("write `# {MARK} RULE: REASON`")),
        })
    }
}

fn comments(source: &Source) -> Vec<Comment> {
    let mut found = Vec::new();
    // comments that stand alone and wait for their line
    let mut waiting = 0;
    let mut start = 0;
    for (at, line) in source.text().split_inclusive('\n').enumerate() {
        let number = at + 1;
        let bare = line.trim_end();
        let comment = hash(bare).and_then(|hash| Some((hash, what(&bare[hash + 1..])?)));
        let alone =
            comment.as_ref().is_some_and(|(hash, _)| bare[..*hash].trim_matches([' ', '\t', '-']).is_empty());
        let is_comment = comment.is_some();
        if let Some((hash, what)) = comment {
            let span = Span::new(start + hash, start + bare.len());
            found.push(Comment { span, lines: [number, number], what });
        }
        if alone {
            waiting += 1;
        } else {
            let from = found.len() - waiting.min(found.len()) - usize::from(is_comment && waiting > 0);
            for comment in found.iter_mut().skip(from).take(waiting) {
                comment.lines[1] = number;
            }
            waiting = 0;
        }
        start += line.len();
    }
    found
}

/// The `#` of the comment of a line: not one of a text in quotes.
fn hash(line: &str) -> Option<usize> {
    let mark = line.find(NAME)?;
    let hash = line[..mark].rfind('#')?;
    let before = &line[..hash];
    let begins = before.is_empty() || before.ends_with([' ', '\t']);
    (begins && line[hash + 1..mark].trim().is_empty() && !ends_in_quotes(before)).then_some(hash)
}

/// Whether quotes are open at the end of a part of a line.
fn ends_in_quotes(text: &str) -> bool {
    let mut open = None;
    let mut before = ' ';
    for c in text.chars() {
        match open {
            // a quote within a word is none, nor an apostrophe
            None if matches!(c, '"' | '\'') && !before.is_alphanumeric() => open = Some(c),
            Some(quote) if quote == c && before != '\\' => open = None,
            _ => {}
        }
        before = c;
    }
    open.is_some()
}

/// What follows the `#`, if that is meant for us.
fn what(comment: &str) -> Option<Result<Rule, Fault>> {
    const ALLOW: &str = "allow";
    let comment = comment.trim_start();
    if let Some(rest) = comment.strip_prefix(MARK)
        && (rest.is_empty() || rest.starts_with([' ', '\t', ':']))
    {
        return Some(rule(rest.trim()));
    }
    let rest = comment.strip_prefix(NAME)?.trim_start();
    let word = rest.split([' ', '\t', ':']).next().unwrap_or_default();
    (word == ALLOW || did_you_mean(word, [ALLOW, "ignore", "disable", "allowed"]).is_some())
        .then_some(Err(Fault::NoMark))
}

fn rule(text: &str) -> Result<Rule, Fault> {
    let (name, reason) = match text.split_once([':', ' ']) {
        Some((name, reason)) => (name, reason.trim_start_matches([':', ' ']).trim()),
        None => (text, ""),
    };
    if name.is_empty() {
        return Err(Fault::NoRule);
    }
    let rule = Rule::parse(name).map_err(Fault::Unknown)?;
    if reason.is_empty() { Err(Fault::NoReason(rule)) } else { Ok(rule) }
}
