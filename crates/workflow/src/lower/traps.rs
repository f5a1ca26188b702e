//! Values that mean something else than their author may think.
//!
//! Purpose: one warning for each trap of YAML, with the form to write. Owner: the lowering.
//! Invariant: nothing is changed: what is read is what YAML 1.2 says, and text is kept as written.
//!
//! | written | is | trap |
//! |---|---|---|
//! | `3.10` | a number | printed as 3.1 |
//! | `1e3`, `0x1F`, `0o17` | a number | printed as 1000, 31, 15 |
//! | `010`, `0755` | a number | Forgejo's parser takes it as octal: 8, 493 |
//! | `1_000` | text | Forgejo's parser takes it as the number 1000 |
//! | `2026-01-31` | text | Forgejo's parser takes it as a time |
//! | `yes`, `no`, `on`, `off` | text | text is true, also `no` and `off` |
//! | `Fix #12` | text and a comment | what follows ` #` is gone |

use doc::{Diagnostic, Node, Span, Style, Typed};

use super::Lower;
use crate::{rules::Rule, value::number_text};

impl Lower<'_> {
    /// A value of a matrix, which keeps its kind.
    pub(super) fn trap(&mut self, node: &Node) {
        let Some(scalar) = node.scalar().filter(|scalar| scalar.style == Style::Plain) else { return };
        let written = scalar.text.as_str();
        let quoted =
            |warning: Diagnostic, why: &str| warning.help(format!("write `'{written}'` if it is {why}"));
        let at = |rule: Rule, message: String, label: &str| {
            rule.warning(message).at(self.source, node.span).label(label)
        };
        let warning = match scalar.typed {
            Typed::Number(number) => match octal(written) {
                Some(octal) => {
                    let message = format!("`{written}` is the number {} here", number_text(number));
                    let note = format!("Forgejo's server takes it as octal, {}", number_text(octal));
                    quoted(
                        at(Rule::OctalNumber, message, "a number, not text").note(note),
                        "a version, a mode or a name",
                    )
                }
                None if prints_otherwise(written, number) => {
                    let message = format!("`{written}` is the number {} here", number_text(number));
                    quoted(at(Rule::NumberAsVersion, message, "a number, not text"), "a version or a name")
                }
                None => return,
            },
            Typed::Text if with_underscores(written) => {
                let digits = written.replace('_', "");
                at(Rule::NumberWithUnderscores, format!("`{written}` is text here"), "not a number")
                    .note("Forgejo's server takes it as a number")
                    .help(format!("write `{digits}` for the number, `'{written}'` for the text"))
            }
            Typed::Text if is_date(written) => {
                at(Rule::DateAsText, format!("`{written}` is text here"), "not a time")
                    .note("Forgejo's server takes it as a time and prints it otherwise")
                    .help(format!("write `'{written}'`"))
            }
            Typed::Text => match written {
                "yes" | "Yes" | "YES" | "on" | "On" | "ON" => {
                    at(Rule::YesOrNo, format!("`{written}` is text here"), "not a boolean")
                        .help(format!("write `true` for the boolean, `'{written}'` for the text"))
                }
                "no" | "No" | "NO" | "off" | "Off" | "OFF" => {
                    at(Rule::YesOrNo, format!("`{written}` is text here, and text is true"), "not a boolean")
                        .help(format!("write `false` for the boolean, `'{written}'` for the text"))
                }
                _ => return,
            },
            Typed::Null | Typed::Bool(_) => return,
        };
        self.faults.push(warning);
    }

    /// A text that ends where a comment begins that may be none.
    pub(super) fn cut(&mut self, node: &Node) {
        if node.scalar().is_none_or(|scalar| scalar.style != Style::Plain) {
            return;
        }
        let rest = self.source.text().get(node.span.end..).unwrap_or_default();
        let line = rest.lines().next().unwrap_or_default();
        let Some(comment) = line.trim_start_matches(' ').strip_prefix('#') else { return };
        if line.starts_with('#') || !comment.starts_with(|c: char| c.is_ascii_digit()) {
            return;
        }
        let start = node.span.end + (line.len() - comment.len() - 1);
        let end = start + 1 + comment.trim_end().len();
        let whole = self.source.slice(Span::new(node.span.start, end));
        let help = match whole.contains('\'') {
            false => format!("write `'{whole}'` if it is part of the value"),
            true => "put the value in quotes if it is part of it".to_owned(),
        };
        self.faults.push(
            Rule::HashBeginsComment
                .warning("` #` begins a comment")
                .at(self.source, Span::new(start, end))
                .label("not part of the value")
                .help(help),
        );
    }

    /// A value that is taken as it is written: GitHub prints the number that it is.
    pub(super) fn unlike_github(&mut self, node: &Node) {
        let Some(scalar) = node.scalar().filter(|scalar| scalar.style == Style::Plain) else { return };
        let Typed::Number(number) = scalar.typed else { return };
        let written = scalar.text.as_str();
        if octal(written).is_none() && !prints_otherwise(written, number) {
            return;
        }
        self.faults.push(
            Rule::NumberAsVersion
                .warning(format!("GitHub takes `{written}` as the number {}", number_text(number)))
                .at(self.source, node.span)
                .label("Forgejo takes it as it is written")
                .help(format!("write `'{written}'`, which both take as it is written")),
        );
    }
}

/// Whether a number is shown otherwise than it was written; a sign or a point in front is meant.
fn prints_otherwise(written: &str, number: f64) -> bool {
    number_text(number) != written && !written.starts_with(['+', '.']) && !written.starts_with("-.")
}

/// The value of digits that begin with a zero, for parsers of YAML 1.1.
fn octal(written: &str) -> Option<f64> {
    let digits = written.strip_prefix('0').filter(|digits| !digits.is_empty())?;
    digits.chars().try_fold(0.0, |value, c| Some(value * 8.0 + f64::from(c.to_digit(8)?)))
}

/// Whether text is a date, `2026-01-31`, for parsers of YAML 1.1.
fn is_date(written: &str) -> bool {
    let parts: Vec<&str> = written.split('-').collect();
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    matches!(parts.as_slice(), [year, month, day]
        if year.len() == 4 && (1..=2).contains(&month.len()) && (1..=2).contains(&day.len()))
        && parts.iter().all(|part| digits(part))
}

/// Whether text is digits with underscores between them.
fn with_underscores(written: &str) -> bool {
    written.contains('_')
        && written.starts_with(|c: char| c.is_ascii_digit())
        && written.ends_with(|c: char| c.is_ascii_digit())
        && written.bytes().all(|byte| byte.is_ascii_digit() || byte == b'_')
}
