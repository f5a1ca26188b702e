//! Text into tokens.
//!
//! Purpose: the words of the language with their byte ranges. Owner: the parser.
//! Invariants: every byte of the text is in a token, is white space, or is the one that the error names; nothing of
//! the text is copied, for a large file has a hundred thousand tokens.

use std::ops::Range;

/// A word of the language.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Token<'a> {
    Name(&'a str),
    Number(f64),
    /// What stands between the quotes, a quote within still twice: see [`text`].
    Text(&'a str),
    Null,
    Bool(bool),
    Open,
    Close,
    OpenIndex,
    CloseIndex,
    Dot,
    Comma,
    Star,
    Not,
    And,
    Or,
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Token<'_> {
    /// As messages call it.
    pub(crate) fn describe(self) -> String {
        match self {
            Token::Name(name) => format!("`{name}`"),
            Token::Number(_) => "a number".to_owned(),
            Token::Text(_) => "text".to_owned(),
            Token::Null => "`null`".to_owned(),
            Token::Bool(value) => format!("`{value}`"),
            other => format!("`{}`", other.symbol()),
        }
    }

    fn symbol(self) -> &'static str {
        match self {
            Token::Open => "(",
            Token::Close => ")",
            Token::OpenIndex => "[",
            Token::CloseIndex => "]",
            Token::Dot => ".",
            Token::Comma => ",",
            Token::Star => "*",
            Token::Not => "!",
            Token::And => "&&",
            Token::Or => "||",
            Token::Equal => "==",
            Token::NotEqual => "!=",
            Token::Less => "<",
            Token::LessEqual => "<=",
            Token::Greater => ">",
            Token::GreaterEqual => ">=",
            Token::Name(_) | Token::Number(_) | Token::Text(_) | Token::Null | Token::Bool(_) => "",
        }
    }
}

/// What is no word of the language.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct LexError {
    pub(crate) at: Range<usize>,
    pub(crate) message: String,
    pub(crate) label: &'static str,
    pub(crate) help: Option<String>,
}

/// So many tokens most texts have at most.
const LIKELY: usize = 16;

/// All tokens of a text.
pub(crate) fn tokens(text: &str) -> Result<Vec<(Token<'_>, Range<usize>)>, LexError> {
    let mut tokens: Vec<(Token<'_>, Range<usize>)> = Vec::with_capacity(text.len().min(LIKELY));
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let (token, length) = match first {
            '\'' => quoted(text, at)?,
            // words of the language are good names after a point
            'a'..='z' | 'A'..='Z' | '_' if matches!(tokens.last(), Some((Token::Dot, _))) => {
                property(&text[at..])
            }
            'a'..='z' | 'A'..='Z' | '_' => name(&text[at..]),
            '0'..='9' | '+' | '-' => number(text, at)?,
            '.' if starts_number(&text[at + 1..]) && !follows_value(tokens.last()) => number(text, at)?,
            _ => symbol(text, at, first)?,
        };
        tokens.push((token, at..at + length));
        at += length;
    }
    Ok(tokens)
}

fn starts_number(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_digit())
}

fn follows_value(last: Option<&(Token<'_>, Range<usize>)>) -> bool {
    matches!(last, Some((Token::Name(_) | Token::Close | Token::CloseIndex | Token::Star, _)))
}

fn quoted(text: &str, at: usize) -> Result<(Token<'_>, usize), LexError> {
    let inner = &text[at + 1..];
    let mut quotes =
        inner.bytes().enumerate().filter(|(_, byte)| *byte == b'\'').map(|(at, _)| at).peekable();
    while let Some(quote) = quotes.next() {
        // two are one that is part of the text
        if quotes.next_if_eq(&(quote + 1)).is_none() {
            return Ok((Token::Text(&inner[..quote]), quote + 2));
        }
    }
    Err(LexError {
        at: at..text.len(),
        message: "text that is not closed".to_owned(),
        label: "it begins here",
        help: Some("close it with `'`; a quote within is written twice: `'it''s'`".to_owned()),
    })
}

/// The text that a [`Token::Text`] means.
pub(crate) fn text(quoted: &str) -> String {
    quoted.replace("''", "'")
}

fn word(rest: &str) -> &str {
    let end = rest.bytes().position(|c| !(c.is_ascii_alphanumeric() || matches!(c, b'_' | b'-')));
    &rest[..end.unwrap_or(rest.len())]
}

fn property(rest: &str) -> (Token<'_>, usize) {
    let word = word(rest);
    (Token::Name(word), word.len())
}

fn name(rest: &str) -> (Token<'_>, usize) {
    let word = word(rest);
    let token = match word {
        "null" => Token::Null,
        "true" => Token::Bool(true),
        "false" => Token::Bool(false),
        "NaN" => Token::Number(f64::NAN),
        "Infinity" => Token::Number(f64::INFINITY),
        _ => Token::Name(word),
    };
    (token, word.len())
}

fn number(text: &str, at: usize) -> Result<(Token<'_>, usize), LexError> {
    let rest = &text[at..];
    let mut end = 1;
    for (offset, c) in rest.char_indices().skip(1) {
        let exponent_sign = matches!(c, '+' | '-') && matches!(rest.as_bytes()[offset - 1], b'e' | b'E');
        if !(c.is_ascii_alphanumeric() || c == '.' || c == '_' || exponent_sign) {
            break;
        }
        end = offset + 1;
    }
    let word = &rest[..end];
    let value = crate::value::parse_number(word);
    if value.is_nan() {
        let sign = matches!(word, "+" | "-");
        return Err(LexError {
            at: at..at + end,
            message: if sign {
                format!("`{word}` is no operator of expressions")
            } else {
                format!("`{word}` is not a number")
            },
            label: if sign { "expressions cannot calculate" } else { "not a number" },
            help: (!sign).then(|| format!("if it is text, write `'{word}'`")),
        });
    }
    Ok((Token::Number(value), end))
}

fn symbol(text: &str, at: usize, first: char) -> Result<(Token<'_>, usize), LexError> {
    let rest = &text[at..];
    let two = match rest.get(..2) {
        Some("&&") => Some(Token::And),
        Some("||") => Some(Token::Or),
        Some("==") => Some(Token::Equal),
        Some("!=") => Some(Token::NotEqual),
        Some("<=") => Some(Token::LessEqual),
        Some(">=") => Some(Token::GreaterEqual),
        _ => None,
    };
    if let Some(token) = two {
        return Ok((token, 2));
    }
    let one = match first {
        '(' => Token::Open,
        ')' => Token::Close,
        '[' => Token::OpenIndex,
        ']' => Token::CloseIndex,
        '.' => Token::Dot,
        ',' => Token::Comma,
        '*' => Token::Star,
        '!' => Token::Not,
        '<' => Token::Less,
        '>' => Token::Greater,
        _ => return Err(stray(text, at, first)),
    };
    Ok((one, 1))
}

fn stray(text: &str, at: usize, first: char) -> LexError {
    if let Some(what) = doc::odd_space(first) {
        return LexError {
            at: at..at + first.len_utf8(),
            message: format!("{what} does not belong in an expression"),
            label: "no server takes it",
            help: Some("write a space in its place".to_owned()),
        };
    }
    if let Some(fault) = other_operator(text, at) {
        return fault;
    }
    let mut end = at + first.len_utf8();
    let mut shown = first;
    let help = match first {
        '"' => {
            if let Some(close) = text[at + 1..].find('"') {
                end = at + close + 2;
            }
            let inner = text[at + 1..end].trim_end_matches('"').replace('\'', "''");
            Some(format!("expressions quote text with `'`: write `'{inner}'`"))
        }
        '=' => Some("write `==` to compare".to_owned()),
        '&' => Some("write `&&`".to_owned()),
        '|' => Some("write `||`".to_owned()),
        '$' if text[at..].starts_with("${{") => Some("one `${{ … }}` cannot stand within another".to_owned()),
        '$' => Some("an expression names a context, as in `env.NAME`, without `$`".to_owned()),
        '{' | '}' => Some("one `${{ … }}` cannot stand within another".to_owned()),
        ';' => Some("an expression has no `;` at its end: leave it out".to_owned()),
        '/' | '~' | '^' | ':' => Some("if it is text, put it in single quotes".to_owned()),
        c => {
            shown = if c.is_control() { '\u{fffd}' } else { c };
            None
        }
    };
    LexError {
        at: at..end,
        message: format!("`{shown}` does not belong in an expression"),
        label: "unexpected",
        help,
    }
}

/// An operator of other languages that has the character at `at` in it.
fn other_operator(text: &str, at: usize) -> Option<LexError> {
    let rest = text.get(at..)?;
    let before = text.get(..at)?;
    let (start, operator, help) = match rest.as_bytes().first()? {
        b'=' if before.ends_with("==") => (at - 2, "===", "write `==`"),
        b'=' if before.ends_with("!=") => (at - 2, "!==", "write `!=`"),
        b'%' => (at, "%", "expressions cannot calculate: let a step do it"),
        b'?' if rest.starts_with("?.") => (at, "?.", "write `.`: a property of what is not there is `null`"),
        b'?' if rest.starts_with("??") => (at, "??", "write `||`"),
        b'?' => {
            (at, "?", "for `a ? b : c` write `a && b || c`, which is `c` also where `b` is empty or false")
        }
        _ => return None,
    };
    Some(LexError {
        at: start..start + operator.len(),
        message: format!("`{operator}` is no operator of expressions"),
        label: "unexpected",
        help: Some(help.to_owned()),
    })
}
