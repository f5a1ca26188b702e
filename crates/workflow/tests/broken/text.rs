//! A file by its lines, read by nobody's parser.
//!
//! Purpose: where keys, values, lists, blocks of text and expressions stand, as far as indentation and quotes tell.
//! Owner: the kinds of breaks. Invariants: nothing of `doc` or of `workflow` is asked; what is not simple (a tab, a
//! flow collection over several lines) is in none of our files, which [`Text::new`] looks at.

/// One line.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    /// It, without its line feed.
    pub(crate) text: String,
    /// Where the key or the text begins, behind the `- ` of entries.
    pub(crate) column: usize,
    /// Where each `- ` in front begins.
    pub(crate) dashes: Vec<usize>,
    /// The key, if it is one without quotes.
    pub(crate) key: Option<String>,
    /// What stands behind the key, or all behind the dashes.
    pub(crate) value: String,
    /// Where that begins.
    pub(crate) value_at: usize,
    pub(crate) what: What,
    /// The keys that it is below, `-` for an entry of a list, and its own last.
    pub(crate) path: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    /// Nothing or a comment.
    Blank,
    /// Text of a block.
    Block,
    /// A key, an entry of a list, or both.
    Code,
}

/// An expression.
#[derive(Clone, Debug)]
pub(crate) struct Inner {
    pub(crate) row: usize,
    /// From behind `${{` to `}}`; of an `if` without these all of its value.
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) braces: bool,
    /// The key whose value it is in.
    pub(crate) key: String,
    /// Whether it is all of that value.
    pub(crate) whole: bool,
    /// Whether its scalar has another `}}` further on.
    pub(crate) more: bool,
}

pub(crate) struct Text {
    pub(crate) rows: Vec<Row>,
}

fn key_of(rest: &str) -> Option<&str> {
    let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).unwrap_or(rest.len());
    let behind = &rest[end..];
    (end > 0 && behind.starts_with(':') && (behind.len() == 1 || behind[1..].starts_with(' ')))
        .then_some(&rest[..end])
}

impl Text {
    pub(crate) fn new(text: &str) -> Text {
        assert!(!text.contains(['\t', '\r']), "no tabs in what is broken");
        let mut rows: Vec<Row> = Vec::new();
        let mut open: Vec<(usize, String)> = Vec::new();
        let mut block: Option<usize> = None;
        for line in text.lines() {
            let indent = line.len() - line.trim_start_matches(' ').len();
            let blank = line.trim().is_empty();
            if block.is_some_and(|column| blank || indent > column) {
                rows.push(Row::bare(line, What::Block, &open));
                continue;
            }
            block = None;
            if blank || line.trim().starts_with('#') {
                rows.push(Row::bare(line, What::Blank, &[]));
                continue;
            }
            let mut column = indent;
            let mut dashes = Vec::new();
            while line[column..].starts_with("- ") {
                dashes.push(column);
                column += 2;
            }
            for dash in &dashes {
                open.retain(|(at, name)| at < dash || at == dash && name != "-");
                open.push((*dash, "-".to_owned()));
            }
            open.retain(|(at, name)| *at < column || *at == column && name == "-" && dashes.contains(at));
            let rest = line[column..].trim_end();
            let key = key_of(rest).map(str::to_owned);
            let value_at = match &key {
                Some(key) => (column + key.len() + 2).min(line.len()),
                None => column,
            };
            if let Some(key) = &key {
                open.push((column, key.clone()));
            }
            let value = line[value_at..].trim_end().to_owned();
            if key.is_some() && (value.starts_with('|') || value.starts_with('>')) {
                block = Some(column);
            }
            rows.push(Row {
                text: line.to_owned(),
                column,
                dashes,
                key,
                value,
                value_at,
                what: What::Code,
                path: open.iter().map(|(_, name)| name.clone()).collect(),
            });
        }
        for row in rows.iter().filter(|row| row.what == What::Code) {
            let (opened, closed) = brackets(&row.value);
            assert_eq!(opened, closed, "brackets over several lines: {}", row.text);
        }
        Text { rows }
    }

    /// The file with one line replaced by others.
    pub(crate) fn with(&self, row: usize, lines: &[&str]) -> String {
        let before = self.rows[..row].iter().map(|row| row.text.as_str());
        let after = self.rows[row + 1..].iter().map(|row| row.text.as_str());
        before.chain(lines.iter().copied()).chain(after).map(|line| line.to_owned() + "\n").collect()
    }

    /// The file with a part of one line replaced.
    pub(crate) fn cut(&self, row: usize, start: usize, end: usize, by: &str) -> String {
        let line = &self.rows[row].text;
        self.with(row, &[&format!("{}{by}{}", &line[..start], &line[end..])])
    }

    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &Row)> {
        self.rows.iter().enumerate().filter(|(_, row)| row.what == What::Code)
    }

    /// The line of code before one.
    pub(crate) fn before(&self, row: usize) -> Option<usize> {
        (0..row).rev().find(|row| self.rows[*row].what == What::Code)
    }

    /// The lines of the keys of the map that a key is in, itself among them.
    pub(crate) fn siblings(&self, row: usize) -> Vec<usize> {
        let column = self.rows[row].column;
        let inside = |at: usize| -> Option<bool> {
            let other = &self.rows[at];
            match other.what {
                What::Blank | What::Block => Some(false),
                What::Code if other.column < column => None,
                What::Code => Some(other.column == column && other.key.is_some()),
            }
        };
        // an entry of a list, with its first key or with an anchor
        let begins = |at: usize| self.rows[at].column == column && !self.rows[at].dashes.is_empty();
        let mut found = Vec::new();
        if self.rows[row].dashes.is_empty() {
            for at in (0..row).rev() {
                let Some(is) = inside(at) else { break };
                found.extend(is.then_some(at));
                if begins(at) {
                    break;
                }
            }
            found.reverse();
        }
        found.push(row);
        for at in row + 1..self.rows.len() {
            let Some(is) = inside(at) else { break };
            if begins(at) {
                break;
            }
            found.extend(is.then_some(at));
        }
        found
    }

    /// The line of the key, or of the entry of a list, that a key's map belongs to; the first line for the outermost.
    pub(crate) fn owner(&self, row: usize) -> usize {
        let column = self.rows[row].column;
        let first = self.siblings(row)[0];
        if !self.rows[first].dashes.is_empty() && first != row {
            return first;
        }
        let above = (0..first).rev().find(|at| {
            let other = &self.rows[*at];
            other.what == What::Code && other.column < column
        });
        above.unwrap_or_else(|| self.code().next().map_or(0, |(first, _)| first))
    }

    /// Names of the keys directly below `path`.
    pub(crate) fn below(&self, path: &[&str]) -> Vec<&str> {
        let is =
            |row: &&Row| row.path.len() == path.len() + 1 && row.path.iter().zip(path).all(|(a, b)| a == b);
        self.code().map(|(_, row)| row).filter(is).filter_map(|row| row.key.as_deref()).collect()
    }

    /// Every expression, in scripts as well.
    pub(crate) fn expressions(&self) -> Vec<Inner> {
        let mut found: Vec<Inner> = Vec::new();
        let mut key = String::new();
        for (at, row) in self.rows.iter().enumerate() {
            match row.what {
                What::Blank => continue,
                What::Block => {}
                What::Code => key = row.key.clone().unwrap_or_default(),
            }
            let text = &row.text;
            let before = found.len();
            let mut from = 0;
            while let Some(open) = text[from..].find("${{").map(|found| from + found) {
                let Some(close) = text[open..].find("}}").map(|found| open + found) else { break };
                let whole = row.what == What::Code
                    && text[..open].trim_end().ends_with(':')
                    && text.trim_end().len() == close + 2;
                let flow = within_flow(row, open);
                let key =
                    if row.what == What::Code { flow.unwrap_or_else(|| key.clone()) } else { key.clone() };
                found.push(Inner {
                    row: at,
                    start: open + 3,
                    end: close,
                    braces: true,
                    key,
                    whole,
                    more: false,
                });
                from = close + 2;
            }
            if row.what == What::Code && key == "if" && !row.value.contains("${{") && !row.value.is_empty() {
                let (start, end) = (row.value_at, row.value_at + row.value.len());
                found.push(Inner {
                    row: at,
                    start,
                    end,
                    braces: false,
                    key: key.clone(),
                    whole: true,
                    more: false,
                });
            }
            for index in before..found.len() {
                let rest = &text[(found[index].end + 2).min(text.len())..];
                let below = self.rows[at + 1..]
                    .iter()
                    .take_while(|next| row.what == What::Block && next.what == What::Block);
                found[index].more =
                    rest.contains("}}") || below.into_iter().any(|next| next.text.contains("}}"));
            }
        }
        found
    }
}

impl Row {
    fn bare(line: &str, what: What, open: &[(usize, String)]) -> Row {
        Row {
            text: line.to_owned(),
            column: line.len() - line.trim_start().len(),
            dashes: Vec::new(),
            key: None,
            value: String::new(),
            value_at: 0,
            what,
            path: open.iter().map(|(_, name)| name.clone()).collect(),
        }
    }
}

/// The brackets outside of quotes of a value that begins with one: how many open, how many close.
fn brackets(value: &str) -> (usize, usize) {
    if !value.starts_with(['[', '{']) {
        return (0, 0);
    }
    let plain = masked(value);
    (plain.matches(['[', '{']).count(), plain.matches([']', '}']).count())
}

/// The text with everything within quotes, and the quotes, made `_`; bytes keep their places.
pub(crate) fn masked(text: &str) -> String {
    let mut quote = None;
    let mut before = ' ';
    let mut masked = String::new();
    for c in text.chars() {
        let hide = match quote {
            Some(open) => {
                quote = Some(open).filter(|open| *open != c);
                true
            }
            None if (c == '\'' || c == '"') && !before.is_alphanumeric() => {
                quote = Some(c);
                true
            }
            None => false,
        };
        masked.extend(if hide { vec!['_'; c.len_utf8()] } else { vec![c] });
        before = c;
    }
    masked
}

/// The nearest key within brackets in front of a place, `{key: HERE`.
fn within_flow(row: &Row, place: usize) -> Option<String> {
    if !row.value.starts_with(['[', '{']) {
        return None;
    }
    let before = row.text.get(row.value_at..place)?;
    let (front, _) = before.rsplit_once(": ")?;
    let start =
        front.rfind(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_')).map_or(0, |at| at + 1);
    Some(front[start..].to_owned())
}

/// A word of an expression.
#[derive(Clone, Debug)]
pub(crate) struct Word {
    pub(crate) start: usize,
    pub(crate) end: usize,
    pub(crate) text: String,
    /// What stands directly before and behind it.
    pub(crate) before: char,
    pub(crate) behind: char,
}

/// The words of an expression outside of its quotes, their places those of the line.
pub(crate) fn words(line: &str, inner: &Inner) -> Vec<Word> {
    let plain = masked_single(&line[inner.start..inner.end]);
    let is = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let mut found = Vec::new();
    let mut at = 0;
    while at < plain.len() {
        let length = plain[at..].find(|c| !is(c)).unwrap_or(plain.len() - at);
        if length > 0 && plain[at..].starts_with(|c: char| c.is_ascii_alphabetic()) {
            found.push(Word {
                start: inner.start + at,
                end: inner.start + at + length,
                text: plain[at..at + length].to_owned(),
                before: plain[..at].chars().next_back().unwrap_or(' '),
                behind: plain[at + length..].chars().next().unwrap_or(' '),
            });
        }
        at += length.max(1);
    }
    found
}

/// An expression with its texts made `#`.
pub(crate) fn masked_single(text: &str) -> String {
    let mut quoted = false;
    let mut masked = String::new();
    for c in text.chars() {
        let quote = c == '\'';
        quoted ^= quote;
        if quote || quoted { masked.extend(vec!['#'; c.len_utf8()]) } else { masked.push(c) }
    }
    masked
}
