//! Patterns of branches, tags and paths.
//!
//! Purpose: the globs of `on`, as the server matches them: `*` stays within a `/`, `**` does not, `**/`
//! is any number of directories, `?` and `+` repeat what stands before them, `[a-z]` is one of these,
//! `\` takes the next character as it is, and a `!` in front turns the pattern round.
//! Owner: [`super::PatternList`]. Invariant: matching takes pattern times name steps, whatever was written.

use std::fmt;

/// One pattern that can be matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    negative: bool,
    pieces: Vec<Piece>,
}

/// What is wrong with a pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct BadPattern {
    /// First byte of the fault in the pattern's text.
    pub(crate) start: usize,
    /// One past its last byte.
    pub(crate) end: usize,
    /// Why.
    pub(crate) why: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    /// One of these characters, so many times.
    Chars(Set, Times),
    /// `**/`: nothing, or anything that ends with `/`.
    Directories,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Set {
    Any,
    NoSlash,
    One(char),
    Ranges(Vec<(char, char)>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Times {
    Once,
    Maybe,
    Many,
    ManyOrNone,
}

impl Pattern {
    /// Reads a pattern.
    pub(crate) fn parse(text: &str) -> Result<Pattern, BadPattern> {
        let (negative, rest) = match text.strip_prefix('!') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        if rest.is_empty() {
            let why = if negative { "nothing stands behind the `!`" } else { "this is nothing" };
            return Err(BadPattern { start: 0, end: text.len(), why });
        }
        let shift = text.len() - rest.len();
        let pieces = Reader { text: rest, at: 0, pieces: Vec::new() }.read().map_err(|bad| BadPattern {
            start: bad.start + shift,
            end: bad.end + shift,
            ..bad
        })?;
        Ok(Pattern { text: text.to_owned(), negative, pieces })
    }

    /// Whether it begins with `!`.
    pub fn is_negative(&self) -> bool {
        self.negative
    }

    /// Whether the name is of this form; a `!` in front plays no part.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        // `reached[n]`: the pieces so far can be the first n characters of the name.
        let mut reached = vec![false; name.len() + 1];
        reached[0] = true;
        for piece in &self.pieces {
            reached = piece.step(&name, &reached);
        }
        reached[name.len()]
    }
}

/// As written.
impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl Piece {
    fn step(&self, name: &[char], reached: &[bool]) -> Vec<bool> {
        let (set, times) = match self {
            Piece::Chars(set, times) => (set, *times),
            Piece::Directories => {
                let mut next = reached.to_vec();
                let mut begun = false;
                for (at, found) in name.iter().enumerate() {
                    next[at + 1] |= begun && *found == '/';
                    begun |= reached[at];
                }
                return next;
            }
        };
        let mut next = match times {
            Times::Once | Times::Many => vec![false; reached.len()],
            Times::Maybe | Times::ManyOrNone => reached.to_vec(),
        };
        let repeats = matches!(times, Times::Many | Times::ManyOrNone);
        for (at, found) in name.iter().enumerate() {
            next[at + 1] |= (reached[at] || repeats && next[at]) && set.holds(*found);
        }
        next
    }
}

impl Set {
    fn holds(&self, found: char) -> bool {
        match self {
            Set::Any => true,
            Set::NoSlash => found != '/',
            Set::One(one) => found == *one,
            Set::Ranges(ranges) => ranges.iter().any(|(low, high)| (*low..=*high).contains(&found)),
        }
    }
}

struct Reader<'a> {
    text: &'a str,
    at: usize,
    pieces: Vec<Piece>,
}

impl Reader<'_> {
    fn read(mut self) -> Result<Vec<Piece>, BadPattern> {
        while let Some(found) = self.take() {
            match found {
                '*' if self.skip("*/") => {
                    self.pieces.push(Piece::Directories);
                    self.repeated()?;
                }
                '*' => {
                    let set = if self.skip("*") { Set::Any } else { Set::NoSlash };
                    self.pieces.push(Piece::Chars(set, Times::ManyOrNone));
                    self.repeated()?;
                }
                '?' | '+' => match self.pieces.last_mut() {
                    Some(Piece::Chars(_, times)) => {
                        *times = if found == '?' { Times::Maybe } else { Times::Many };
                        self.repeated()?;
                    }
                    // A `?` or `+` that begins the pattern is itself.
                    Some(Piece::Directories) | None => self.one(found),
                },
                '[' => {
                    let ranges = self.class()?;
                    self.pieces.push(Piece::Chars(Set::Ranges(ranges), Times::Once));
                }
                '\\' => {
                    let Some(next) = self.take() else {
                        return Err(self.bad(self.at - 1, "nothing stands behind the `\\`"));
                    };
                    self.one(next);
                }
                other => self.one(other),
            }
        }
        Ok(self.pieces)
    }

    fn one(&mut self, found: char) {
        self.pieces.push(Piece::Chars(Set::One(found), Times::Once));
    }

    fn take(&mut self) -> Option<char> {
        let found = self.text[self.at..].chars().next()?;
        self.at += found.len_utf8();
        Some(found)
    }

    fn skip(&mut self, text: &str) -> bool {
        let there = self.text[self.at..].starts_with(text);
        if there {
            self.at += text.len();
        }
        there
    }

    /// Behind what repeats already: a `?` there changes nothing, and more of them is an error.
    fn repeated(&mut self) -> Result<(), BadPattern> {
        let _ = self.skip("?");
        if self.text[self.at..].starts_with(['?', '+']) {
            self.at += 1;
            return Err(self.bad(self.at - 1, "what stands before it repeats already"));
        }
        Ok(())
    }

    /// What stands between `[` and `]`: ASCII letters, digits and ``[\^_` ``, and ranges of them.
    fn class(&mut self) -> Result<Vec<(char, char)>, BadPattern> {
        let open = self.at - 1;
        if self.skip("]") {
            return Err(self.bad(open, "`[]` has nothing in it"));
        }
        let mut ranges: Vec<(char, char)> = Vec::new();
        // The character that a range could begin with.
        let mut low: Option<char> = None;
        loop {
            let start = self.at;
            match self.take() {
                None => return Err(self.bad(open, "the `[` is not closed")),
                Some(']') => return Ok(ranges),
                Some('-') => {
                    let Some(from) = low.take() else {
                        return Err(self.bad(start, "a range such as `a-z` begins with a character"));
                    };
                    let end = self.take();
                    let Some(to) = end.filter(|to| in_class(*to) && same_kind(from, *to) && from <= *to)
                    else {
                        return Err(
                            self.bad(start, "a range is of letters or digits, such as `a-z` and `0-9`")
                        );
                    };
                    ranges.pop();
                    ranges.push((from, to));
                }
                Some(found) if in_class(found) => {
                    ranges.push((found, found));
                    low = Some(found);
                }
                Some(_) => {
                    return Err(self.bad(start, "only letters and digits can stand between `[` and `]`"));
                }
            }
        }
    }

    fn bad(&self, start: usize, why: &'static str) -> BadPattern {
        BadPattern { start, end: self.at.max(start + 1).min(self.text.len()), why }
    }
}

fn in_class(found: char) -> bool {
    matches!(found, 'A'..='z' | '0'..='9')
}

fn same_kind(low: char, high: char) -> bool {
    low.is_ascii_digit() == high.is_ascii_digit()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, yes: &[&str], no: &[&str]) {
        let compiled = Pattern::parse(pattern).expect("a pattern");
        for name in yes {
            assert!(compiled.matches(name), "{pattern} matches {name}");
        }
        for name in no {
            assert!(!compiled.matches(name), "{pattern} does not match {name}");
        }
    }

    #[test]
    fn what_matches() {
        check("main", &["main"], &["Main", "main2", "a/main", ""]);
        check("*", &["main", ""], &["a/b"]);
        check("**", &["main", "a/b/c", ""], &[]);
        check("feature/*", &["feature/a", "feature/"], &["feature/a/b", "feature"]);
        check("feature/**", &["feature/a", "feature/a/b"], &["feature"]);
        check("**/README.md", &["README.md", "a/README.md", "a/b/README.md"], &["aREADME.md", "/README.md"]);
        check("docs/**/*.md", &["docs/a.md", "docs/a/b.md"], &["docs.md", "docs/a.txt"]);
        check("**.js", &["a.js", "b/a.js"], &["a.jsx"]);
        check("*.jsx?", &["a.js", "a.jsx"], &["a.jsxx", "b/a.js"]);
        check("v[12].[0-9]+.[0-9]+", &["v1.10.1", "v2.0.0"], &["v3.0.0", "v1.1", "v1..1"]);
        check("[CB]at", &["Cat", "Bat"], &["cat", "CBat"]);
        check("[a-zA-Z0-9]+", &["aB9"], &["", "a-b"]);
        check("[^a]", &["^", "a"], &["b"]);
        check("a\\*b", &["a*b"], &["axb"]);
        check("!main", &["main"], &["other"]);
        check("+x", &["+x"], &["x"]);
        check("?", &["?"], &["a", ""]);
        check("ä?ß+", &["äß", "ß", "ßß"], &["ä"]);
        check("a*?", &["a", "abc"], &["a/b"]);
        check("v*.*", &["v1.2"], &["v1"]);
    }

    #[test]
    fn what_is_no_pattern() {
        let bad = |pattern: &str| {
            let bad = Pattern::parse(pattern).expect_err(pattern);
            (bad.start, bad.end)
        };
        assert_eq!(bad(""), (0, 0));
        assert_eq!(bad("!"), (0, 1));
        assert_eq!(bad("a[]"), (1, 3));
        assert_eq!(bad("a[b"), (1, 3));
        assert_eq!(bad("!a[b"), (2, 4));
        assert_eq!(bad("a["), (1, 2));
        assert_eq!(bad("a\\"), (1, 2));
        assert_eq!(bad("[-a]"), (1, 2));
        assert_eq!(bad("[z-a]"), (2, 4));
        assert_eq!(bad("[a-9]"), (2, 4));
        assert_eq!(bad("[.]"), (1, 2));
        assert_eq!(bad("[ä]"), (1, 3));
        assert_eq!(bad("*+"), (1, 2));
        assert_eq!(bad("a++"), (2, 3));
        assert_eq!(bad("a???"), (3, 4));
        assert_eq!(bad("**/+"), (3, 4));
    }

    /// A pattern that a matcher with backtracking would take years for.
    #[test]
    fn no_backtracking() {
        let name = "a".repeat(200);
        check(&("a?".repeat(200) + &"a".repeat(200)), &[&name], &[&(name.clone() + "b")]);
        check(&("**a".repeat(60) + "b"), &[], &[&name]);
    }
}
