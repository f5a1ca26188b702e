//! What was meant by a text that other languages know.
//!
//! Purpose: the helps of the parser: lists, methods, `in`, `not(…)`, words without quotes. Owner: the parser, which
//! asks only where it has a fault to tell. Invariant: an expression that a help gives whole is one of this language.

use std::ops::Range;

use super::{Parser, Token, operator};
use crate::expr::{function::Function, lexer};

/// What a word means that other languages have.
pub(super) fn word(name: &str) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    let symbol = match lower.as_str() {
        "and" => "&&",
        "or" => "||",
        "not" => "!",
        _ => {
            let literals = ["true", "false", "null", "NaN", "Infinity"];
            let meant = literals.into_iter().find(|literal| literal.eq_ignore_ascii_case(name))?;
            return Some(format!("write `{meant}`"));
        }
    };
    Some(format!("`{lower}` is written `{symbol}`"))
}

/// Functions of other languages that are operators here.
const OPERATORS: [(&str, &str, &str); 9] = [
    ("and", "(a, b)", "a && b"),
    ("or", "(a, b)", "a || b"),
    ("not", "(a)", "!(a)"),
    ("eq", "(a, b)", "a == b"),
    ("ne", "(a, b)", "a != b"),
    ("lt", "(a, b)", "a < b"),
    ("le", "(a, b)", "a <= b"),
    ("gt", "(a, b)", "a > b"),
    ("ge", "(a, b)", "a >= b"),
];

/// Whether a text begins with a bracket that its last character closes.
fn is_in_brackets(text: &str) -> bool {
    let (mut depth, mut quoted) = (0usize, false);
    for (at, c) in text.char_indices() {
        match c {
            '\'' => quoted = !quoted,
            '(' if !quoted => depth += 1,
            ')' if !quoted => match depth {
                1 => return at + 1 == text.len(),
                _ => depth = depth.saturating_sub(1),
            },
            _ if depth == 0 => return false,
            _ => {}
        }
    }
    false
}

impl Parser<'_> {
    /// What to write for a token that does not fit; `start` is its place.
    pub(super) fn instead_of(&self, token: Token<'_>, start: usize) -> Option<String> {
        let at = self.tokens.partition_point(|(_, range)| range.start < start);
        match token {
            Token::Name(name) if name.eq_ignore_ascii_case("in") => Some(self.within(at)),
            Token::Name(name) => word(name),
            Token::OpenIndex => Some(match self.list(at) {
                Some((list, _)) => format!("a list is written `{list}`"),
                None => "a list is written as JSON, as in `fromJSON('[1, 2]')`".to_owned(),
            }),
            Token::Open => self.method(at),
            Token::Star if at > 0 => Some("expressions cannot calculate".to_owned()),
            _ => None,
        }
    }

    /// The help for the name of a function that is not called; the parser stands behind it.
    pub(super) fn instead_of_function(&self, name: &str, function: Function, fewest: usize) -> String {
        if function.is_status() && self.is_taken_for_text() {
            format!("`{name}` is text here, and text stands in single quotes: `'{name}'`")
        } else if fewest == 0 {
            format!("a function is called with brackets: `{name}()`")
        } else {
            format!("a function is called with brackets: `{name}(…)`")
        }
    }

    /// The help for the call of a function of another language.
    pub(super) fn instead_of_call(&self, name: &str) -> Option<String> {
        let (known, args, meant) = OPERATORS.into_iter().find(|row| row.0.eq_ignore_ascii_case(name))?;
        // an `if` without `${{` that begins with `!` is a tag of YAML
        let whole = |rest: &&str| known == "not" && self.offset == 0 && is_in_brackets(rest.trim());
        Some(match self.text.trim().strip_prefix(name).filter(whole) {
            Some(rest) => format!("`not` is written `!`: write `${{{{ !{} }}}}`", rest.trim()),
            None => format!("`{known}{args}` is written `{meant}`"),
        })
    }

    /// Whether the name in front of the parser is compared with something, or is what a function looks for.
    fn is_taken_for_text(&self) -> bool {
        let token = |at: Option<usize>| at.and_then(|at| self.tokens.get(at)).map(|(token, _)| *token);
        let compares = |found: Option<Token<'_>>| {
            found
                .and_then(operator)
                .is_some_and(|(operator, _)| matches!(operator, super::Operator::Compare(_)))
        };
        let (before, after) = (token(self.at.checked_sub(2)), token(Some(self.at)));
        // `success == true` is about the function
        let other = if compares(before) {
            token(self.at.checked_sub(3))
        } else if compares(after) {
            token(Some(self.at + 1))
        } else {
            return before == Some(Token::Comma);
        };
        !matches!(other, Some(Token::Bool(_)))
    }

    fn slice(&self, range: Range<usize>) -> &str {
        self.text.get(range).unwrap_or_default()
    }

    /// `['a', 'b']`, whose bracket is the token `at`, as JSON, and the token behind it.
    fn list(&self, at: usize) -> Option<(String, usize)> {
        let mut items = Vec::new();
        let mut at = at + 1;
        loop {
            let (token, range) = self.tokens.get(at)?;
            items.push(match token {
                Token::Text(text) => serde_json::to_string(&lexer::text(text)).ok()?.replace('\'', "''"),
                Token::Number(number) if number.is_finite() => self.slice(range.clone()).to_owned(),
                Token::Bool(_) | Token::Null => self.slice(range.clone()).to_owned(),
                _ => return None,
            });
            let (token, _) = self.tokens.get(at + 1)?;
            at += 2;
            match token {
                Token::Comma => {}
                Token::CloseIndex => {
                    // numbers are written in more ways than JSON has
                    let json = format!("[{}]", items.join(", "));
                    serde_json::from_str::<serde_json::Value>(&json.replace("''", "'")).ok()?;
                    return Some((format!("fromJSON('{json}')"), at));
                }
                _ => return None,
            }
        }
    }

    /// `a.b` in front of the token `at`, or a text there.
    fn operand_before(&self, at: usize) -> Option<&str> {
        let end = at.checked_sub(1)?;
        let (token, range) = self.tokens.get(end)?;
        if matches!(token, Token::Text(_)) {
            return Some(self.slice(range.clone()));
        }
        let path = |(token, _): &&(Token<'_>, Range<usize>)| {
            matches!(token, Token::Name(_) | Token::Dot | Token::Star)
        };
        let first = self.tokens.get(..at)?.iter().rev().take_while(path).last()?;
        matches!(first.0, Token::Name(_)).then(|| self.slice(first.1.start..range.end))
    }

    /// `a.b`, a text or a list from the token `at` on.
    fn operand_from(&self, at: usize) -> Option<String> {
        let (token, range) = self.tokens.get(at)?;
        match token {
            Token::Text(_) => Some(self.slice(range.clone()).to_owned()),
            Token::OpenIndex => self.list(at).map(|(list, _)| list),
            Token::Name(_) => {
                let path = |(token, _): &&(Token<'_>, Range<usize>)| {
                    matches!(token, Token::Name(_) | Token::Dot | Token::Star)
                };
                let last = self.tokens.get(at..)?.iter().take_while(path).last()?;
                Some(self.slice(range.start..last.1.end).to_owned())
            }
            _ => None,
        }
    }

    /// `x in y`, whose `in` is the token `at`.
    fn within(&self, at: usize) -> String {
        match (self.operand_before(at), self.operand_from(at + 1)) {
            (Some(item), Some(list)) => format!("write `contains({list}, {item})`"),
            _ => "write `contains(list, item)`".to_owned(),
        }
    }

    /// `x.startsWith('a')`, whose bracket is the token `at`.
    fn method(&self, at: usize) -> Option<String> {
        let [.., (Token::Dot, _), (Token::Name(name), _)] = self.tokens.get(..at)? else { return None };
        let known = if name.eq_ignore_ascii_case("includes") { "contains" } else { name };
        let Some((function, ..)) = Function::parse(known).filter(|(function, ..)| !function.is_status())
        else {
            return Some("values have no methods, only functions".to_owned());
        };
        let function = function.name();
        let mut depth = 0usize;
        let close = self.tokens.get(at..)?.iter().find(|(token, _)| {
            match token {
                Token::Open => depth += 1,
                Token::Close => depth = depth.saturating_sub(1),
                _ => {}
            }
            depth == 0
        });
        let args = close.map(|(_, range)| self.slice(self.tokens[at].1.end..range.start).trim());
        Some(match (self.operand_before(at - 2), args) {
            (Some(value), Some("")) => format!("write `{function}({value})`"),
            (Some(value), Some(args)) => format!("write `{function}({value}, {args})`"),
            _ => format!("it is a function: write `{function}(value, …)`"),
        })
    }
}
