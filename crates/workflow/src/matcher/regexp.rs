//! The regular expressions of problem matchers.
//!
//! Purpose: they are written for JavaScript and run by GitHub's runner on .NET in its ECMAScript mode; here
//! they become expressions of a library whose time is linear in the row. What that cannot do (look-around,
//! back-references) is an error with its place, never another meaning.
//! Owner: the parser of matchers. Invariants: `\d`, `\w` and `\s` are ASCII; groups count as in JavaScript; the
//! compiled size is capped.

use std::ops::Range;

use regex::{Regex, RegexBuilder};

/// Longest expression.
const MAX_TEXT: usize = 4096;

/// Largest compiled expression. Those of known tools have 4 to 16 KiB.
const MAX_SIZE: usize = 32 << 10;

/// Largest automaton that is made of one while it runs.
const MAX_AUTOMATON: usize = 256 << 10;

/// What is wrong, and where in the expression.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) at: Range<usize>,
    pub(super) what: String,
}

/// A compiled expression and what it weighs: its size in bytes, rounded up to a power of two.
pub(super) fn compile(text: &str) -> Result<(Regex, usize), Fault> {
    let whole = |what: String| Fault { at: 0..text.len(), what };
    if text.len() > MAX_TEXT {
        return Err(whole(format!("a regular expression has at most {MAX_TEXT} bytes")));
    }
    let translated = Translation { text, rest: text, out: String::new() }.whole()?;
    let mut weight = 4 << 10;
    loop {
        let built = RegexBuilder::new(&translated)
            .size_limit(weight)
            .dfa_size_limit(MAX_AUTOMATON)
            .nest_limit(64)
            .build();
        match built {
            Ok(regex) => return Ok((regex, weight)),
            Err(regex::Error::CompiledTooBig(_)) if weight < MAX_SIZE => weight *= 2,
            Err(regex::Error::CompiledTooBig(_)) => {
                return Err(whole(
                    "the regular expression is too large when its repetitions are written out".to_owned(),
                ));
            }
            Err(error) => {
                let said = error.to_string();
                let reason = said.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
                return Err(whole(format!("this is no regular expression: {reason}")));
            }
        }
    }
}

struct Translation<'a> {
    text: &'a str,
    rest: &'a str,
    out: String,
}

/// One member of a class.
enum Member {
    Char(char),
    Set(&'static str),
    Named(String),
}

impl<'a> Translation<'a> {
    fn whole(mut self) -> Result<String, Fault> {
        while let Some(c) = self.take() {
            match c {
                '\\' => self.escape()?,
                '[' => self.class()?,
                '(' => self.group()?,
                '{' => self.braces(),
                '}' | ']' => {
                    self.out.push('\\');
                    self.out.push(c);
                }
                c => self.out.push(c),
            }
        }
        Ok(self.out)
    }

    fn at(&self) -> usize {
        self.text.len() - self.rest.len()
    }

    fn take(&mut self) -> Option<char> {
        let c = self.rest.chars().next()?;
        self.rest = &self.rest[c.len_utf8()..];
        Some(c)
    }

    fn fault<T>(&self, from: usize, what: impl Into<String>) -> Result<T, Fault> {
        Err(Fault { at: from..self.at(), what: what.into() })
    }

    /// `{` repeats only where a whole repetition stands; else it is a character.
    fn braces(&mut self) {
        let digits = |text: &'a str| text.trim_start_matches(|c: char| c.is_ascii_digit());
        let behind = digits(self.rest);
        let counted = behind.len() < self.rest.len();
        let behind = behind.strip_prefix(',').map_or(behind, digits);
        if !(counted && behind.starts_with('}')) {
            self.out.push('\\');
        } else {
            let end = self.rest.len() - behind.len() + 1;
            self.out.push('{');
            self.out.push_str(&self.rest[..end]);
            self.rest = &self.rest[end..];
            return;
        }
        self.out.push('{');
    }

    fn group(&mut self) -> Result<(), Fault> {
        let from = self.at() - 1;
        self.out.push('(');
        let Some(kind) = self.rest.strip_prefix('?') else { return Ok(()) };
        if ["=", "!", "<=", "<!"].iter().any(|look| kind.starts_with(look)) {
            self.rest = &kind[if kind.starts_with('<') { 2 } else { 1 }..];
            return self.fault(from, "look-around is not possible here: match what stands around it as well");
        }
        let flags = kind.trim_start_matches(['i', 'm', 's', '-']);
        let named = kind.strip_prefix('<').and_then(|name| name.split_once('>'));
        let word = |name: &str| name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
        let length = match named {
            Some((name, _)) if word(name) => name.len() + 2,
            _ if flags.starts_with([':', ')']) && (flags.len() < kind.len() || flags.starts_with(':')) => {
                // the end of `(?i)` is an end as any other
                kind.len() - flags.len() + usize::from(flags.starts_with(':'))
            }
            _ => {
                self.rest = kind;
                return self.fault(from, "this kind of group is not possible here");
            }
        };
        self.out.push('?');
        self.out.push_str(&kind[..length]);
        self.rest = &kind[length..];
        Ok(())
    }

    fn escape(&mut self) -> Result<(), Fault> {
        match self.rest.chars().next() {
            Some('b') => self.out.push_str("(?-u:\\b)"),
            Some('B') => self.out.push_str("\\B"),
            Some('A') => self.out.push_str("\\A"),
            Some('z' | 'Z') => self.out.push_str("\\z"),
            _ => {
                match self.escaped()? {
                    Member::Char(c) => self.literal(c),
                    Member::Set(set) => self.out.push_str(set),
                    Member::Named(set) => self.out.push_str(&set),
                }
                return Ok(());
            }
        }
        self.take();
        Ok(())
    }

    /// What stands behind a backslash, inside of a class or outside.
    fn escaped(&mut self) -> Result<Member, Fault> {
        let from = self.at() - 1;
        let Some(c) = self.take() else { return self.fault(from, "nothing stands behind the last `\\`") };
        Ok(match c {
            'd' => Member::Set("[0-9]"),
            'D' => Member::Set("[^0-9]"),
            'w' => Member::Set("[0-9A-Za-z_]"),
            'W' => Member::Set("[^0-9A-Za-z_]"),
            's' => Member::Set("[\\t\\n\\x0B\\f\\r ]"),
            'S' => Member::Set("[^\\t\\n\\x0B\\f\\r ]"),
            't' => Member::Char('\t'),
            'n' => Member::Char('\n'),
            'r' => Member::Char('\r'),
            'f' => Member::Char('\u{c}'),
            'v' => Member::Char('\u{b}'),
            'a' => Member::Char('\u{7}'),
            'e' => Member::Char('\u{1b}'),
            '0' => Member::Char('\0'),
            'x' => self.hexadecimal(from, 2)?,
            'u' => self.hexadecimal(from, 4)?,
            'c' => match self.take() {
                // the low five bits of a letter
                Some(letter) if letter.is_ascii_alphabetic() => Member::Char(char::from(letter as u8 & 31)),
                _ => return self.fault(from, "`\\c` needs a letter"),
            },
            'p' | 'P' => match self.rest.strip_prefix('{').and_then(|name| name.split_once('}')) {
                Some((name, rest)) if name.chars().all(|c| c.is_ascii_alphanumeric() || "_=".contains(c)) => {
                    self.rest = rest;
                    Member::Named(format!("\\{c}{{{name}}}"))
                }
                _ => return self.fault(from, format!("`\\{c}` needs a name: `\\{c}{{L}}`")),
            },
            '1'..='9' | 'k' => {
                return self.fault(from, "a back-reference is not possible here");
            }
            c if c.is_ascii_alphanumeric() => {
                return self.fault(from, format!("`\\{c}` means nothing in a regular expression"));
            }
            c => Member::Char(c),
        })
    }

    fn hexadecimal(&mut self, from: usize, digits: usize) -> Result<Member, Fault> {
        let (number, rest) = match self.rest.strip_prefix('{').and_then(|inner| inner.split_once('}')) {
            Some(parts) if digits == 4 => parts,
            _ => self.rest.split_at_checked(digits).unwrap_or(("", self.rest)),
        };
        let hex = number.len() <= 6 && number.bytes().all(|byte| byte.is_ascii_hexdigit());
        match u32::from_str_radix(number, 16).ok().and_then(char::from_u32) {
            Some(c) if hex => {
                self.rest = rest;
                Ok(Member::Char(c))
            }
            _ => self.fault(
                from,
                format!("`\\{}` needs {digits} digits of a character", if digits == 2 { 'x' } else { 'u' }),
            ),
        }
    }

    fn class(&mut self) -> Result<(), Fault> {
        let from = self.at() - 1;
        self.out.push('[');
        if let Some(rest) = self.rest.strip_prefix('^') {
            self.rest = rest;
            self.out.push('^');
        }
        let mut first = true;
        loop {
            let begins = self.at();
            let member = match self.take() {
                None => return self.fault(from, "the class is not closed: `]` is missing"),
                Some(']') if !first => break,
                Some('\\') => self.member()?,
                Some(c) => Member::Char(c),
            };
            first = false;
            let ranged = self.rest.starts_with('-') && !self.rest.starts_with("-]");
            match member {
                Member::Char(low) if ranged && self.rest.len() > 1 => {
                    self.take();
                    let high = match self.take() {
                        Some('\\') => self.member()?,
                        Some(c) => Member::Char(c),
                        None => return self.fault(from, "the class is not closed: `]` is missing"),
                    };
                    self.literal(low);
                    match high {
                        Member::Char(high) if high < low => {
                            return self.fault(begins, "the range ends before it begins");
                        }
                        Member::Char(high) => {
                            self.out.push('-');
                            self.literal(high);
                        }
                        Member::Set(set) => {
                            self.out.push_str("\\-");
                            self.out.push_str(set);
                        }
                        Member::Named(set) => {
                            self.out.push_str("\\-");
                            self.out.push_str(&set);
                        }
                    }
                }
                Member::Char(c) => self.literal(c),
                Member::Set(set) => self.out.push_str(set),
                Member::Named(set) => self.out.push_str(&set),
            }
        }
        self.out.push(']');
        Ok(())
    }

    /// An escape inside of a class, where `\b` is a backspace.
    fn member(&mut self) -> Result<Member, Fault> {
        match self.rest.strip_prefix('b') {
            Some(rest) => {
                self.rest = rest;
                Ok(Member::Char('\u{8}'))
            }
            None => self.escaped(),
        }
    }

    /// A character that means nothing else, wherever it stands.
    fn literal(&mut self, c: char) {
        if c.is_control() {
            self.out.push_str(&format!("\\x{{{:x}}}", u32::from(c)));
        } else {
            if c.is_ascii_punctuation() && !matches!(c, '<' | '>') {
                self.out.push('\\');
            }
            self.out.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn javascript_means_what_it_says() {
        for (pattern, text, found) in [
            ("^(\\d+)$", "12", Some("12")),
            ("^\\d$", "\u{661}", None),
            ("^\\w+$", "aZ_9", Some("aZ_9")),
            ("^\\w$", "\u{e9}", None),
            ("\\s", "\u{a0}", None),
            ("a\\sb", "a\tb", Some("a\tb")),
            ("^[^\\s]+$", "ab", Some("ab")),
            ("[\\D]", "1x", Some("x")),
            ("\\/\\-\\<\\>\\ \\'\\\"\\:", "/-<> '\":", Some("/-<> '\":")),
            ("a{b", "a{b", Some("a{b")),
            ("a{1,b}", "a{1,b}", Some("a{1,b}")),
            ("a{2}b{1,}c{0,1}", "aabb", Some("aabb")),
            ("a}]", "a}]", Some("a}]")),
            ("[[]", "[", Some("[")),
            ("[[:alpha:]+", "x:", Some(":")),
            ("[]a]+", "]a", Some("]a")),
            ("[a&&b]+", "&&", Some("&&")),
            ("[+--b]+", "+,-b", Some("+,-b")),
            ("[a-c~~-]+", "b~-", Some("b~-")),
            ("[+--]+", "+,-", Some("+,-")),
            ("[\\w-.]+", "a-.", Some("a-.")),
            ("[\\b]", "\u{8}", Some("\u{8}")),
            ("\\bfoo\\b", "a foo", Some("foo")),
            ("\\Boo", "foo", Some("oo")),
            ("(?<file>a)(?:b)", "ab", Some("ab")),
            ("(?i)ERROR", "error", Some("error")),
            ("(?i:E)R", "eR", Some("eR")),
            ("\\x41\\u00e9\\u{1f511}\\cI\\0", "A\u{e9}\u{1f511}\t\0", Some("A\u{e9}\u{1f511}\t\0")),
            ("\\p{Lu}", "\u{c9}", Some("\u{c9}")),
            (".*?b", "aab", Some("aab")),
            ("#&~-", "#&~-", Some("#&~-")),
            ("\\u2716", "\u{2716}", Some("\u{2716}")),
        ] {
            let (regex, _) = compile(pattern).unwrap_or_else(|fault| panic!("{pattern}: {fault:?}"));
            assert_eq!(regex.find(text).map(|found| found.as_str()), found, "{pattern} in {text:?}");
        }
    }

    #[test]
    fn what_is_not_possible_is_said_with_its_place() {
        for (pattern, at, said) in [
            ("a(?=b)", 1..4, "look-around"),
            ("a(?!b)", 1..4, "look-around"),
            ("a(?<=b)", 1..5, "look-around"),
            ("(?<!b)", 0..4, "look-around"),
            ("(a)\\1", 3..5, "back-reference"),
            ("(?<x>a)\\k<x>", 7..9, "back-reference"),
            ("(?>a)", 0..2, "kind of group"),
            ("(?'x'a)", 0..2, "kind of group"),
            ("(?#c)", 0..2, "kind of group"),
            ("\\y", 0..2, "`\\y` means nothing"),
            ("a\\", 1..2, "nothing stands behind"),
            ("x[ab", 1..4, "not closed"),
            ("[]", 0..2, "not closed"),
            ("[z-a]", 1..4, "the range ends"),
            ("[a--b]", 1..4, "the range ends"),
            ("\\xZZ", 0..2, "digits"),
            ("\\ud83d", 0..2, "digits"),
            ("(a", 0..2, "no regular expression: unclosed group"),
            ("a)", 0..2, "no regular expression: unopened group"),
            ("*a", 0..2, "no regular expression: repetition operator missing"),
            ("((a{500}){500}){500}", 0..20, "too large"),
        ] {
            let fault = compile(pattern).expect_err(pattern);
            assert_eq!(fault.at, at, "{pattern}: {}", fault.what);
            assert!(fault.what.contains(said), "{pattern}: {}", fault.what);
        }
        assert!(compile(&"a".repeat(MAX_TEXT + 1)).is_err());
        assert!(compile(&"(".repeat(2000)).is_err());
        assert!(compile(&format!("{}a{}", "(".repeat(100), ")".repeat(100))).is_err());
    }
}
