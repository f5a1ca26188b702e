//! Comments that silence a rule at one place: `# ampoule: allow RULE: REASON`.
//!
//! Purpose: an exception that says why it is one. Owner: [`super::check`], and whoever parses to run.
//! Invariants: a comment counts for its own line, and one that stands alone for the next line that is no such
//! comment; a comment without a reason silences nothing; errors without a rule stay.

use std::collections::HashSet;

use doc::{Diagnostic, Source, Span};

use super::{Level, Levels, Rule};

/// What begins such a comment.
const MARK: &str = "ampoule: allow";

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
}

/// What no comment silences.
pub(super) fn filter(source: &Source, found: Vec<Diagnostic>) -> Vec<Diagnostic> {
    if !source.text().contains(MARK) {
        return found;
    }
    let lines = Lines::of(source);
    let comments = comments(source);
    let allowed: HashSet<_> = comments.iter().flat_map(Comment::allows).collect();
    found
        .into_iter()
        .filter(|fault| lines.of_rule(fault).is_none_or(|place| !allowed.contains(&place)))
        .collect()
}

/// The same, and what is wrong with the comments; one that silences nothing only where there is no error, since what
/// it is for may not have been looked at.
pub(super) fn lint(source: &Source, found: Vec<Diagnostic>, levels: &Levels) -> Vec<Diagnostic> {
    if !source.text().contains(MARK) {
        return found;
    }
    let good = !found.iter().any(Diagnostic::is_error);
    let lines = Lines::of(source);
    let told: HashSet<_> = found.iter().filter_map(|fault| lines.of_rule(fault)).collect();
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
}

impl<'a> Lines<'a> {
    fn of(source: &'a Source) -> Lines<'a> {
        let feeds = source.text().bytes().enumerate().filter(|(_, byte)| *byte == b'\n');
        Lines { source, starts: std::iter::once(0).chain(feeds.map(|(at, _)| at + 1)).collect() }
    }

    /// The rule of what was found, and the line where it stands, from 1.
    fn of_rule(&self, fault: &Diagnostic) -> Option<Place> {
        let label = fault.primary.as_ref().filter(|label| label.source == *self.source)?;
        Some((fault.rule?, self.starts.partition_point(|start| *start <= label.span.start)))
    }
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
                .label("counts for its line, or for the next one")
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
        let comment = hash(bare).and_then(|hash| Some((hash, text(&bare[hash + 1..])?)));
        let alone = comment.is_some_and(|(hash, _)| bare[..hash].trim().is_empty());
        if let Some((hash, text)) = comment {
            let span = Span::new(start + hash, start + bare.len());
            found.push(Comment { span, lines: [number, number], what: what(text) });
        }
        if alone {
            waiting += 1;
        } else {
            let from = found.len() - waiting.min(found.len()) - usize::from(comment.is_some() && waiting > 0);
            for comment in found.iter_mut().skip(from).take(waiting) {
                comment.lines[1] = number;
            }
            waiting = 0;
        }
        start += line.len();
    }
    found
}

/// The `#` of the comment of a line.
fn hash(line: &str) -> Option<usize> {
    let mark = line.find(MARK)?;
    let hash = line[..mark].rfind('#')?;
    line[hash + 1..mark].trim().is_empty().then_some(hash)
}

/// What follows the mark.
fn text(comment: &str) -> Option<&str> {
    let rest = comment.trim_start().strip_prefix(MARK)?;
    (rest.is_empty() || rest.starts_with([' ', '\t', ':'])).then_some(rest.trim())
}

fn what(text: &str) -> Result<Rule, Fault> {
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
