//! Breaks of the YAML: quotes, indentation, colons, dashes, brackets, tabs, keys that are there twice.
//!
//! Owner: `main`. Invariant: each kind says why what it makes is wrong whatever reads it.

use super::{
    File, Made,
    text::{Row, What, masked},
};

/// A tab in place of an indentation. YAML has no tabs in the indentation of a key: "a: x" with a tab and "b: y" below
/// it is no text over two lines either, since a `: ` cannot be within that.
pub(crate) fn tab(file: &File, made: &mut Made) {
    for (at, row) in file.text.code().filter(|(_, row)| row.key.is_some()) {
        let indent = row.dashes.first().copied().unwrap_or(row.column);
        if indent == 0 {
            continue;
        }
        let rest = &row.text[indent..];
        made.add(at, file.text.with(at, &[&format!("\t{rest}")]));
        // for one space: what counts characters finds the key where it was
        made.add(at, file.text.with(at, &[&format!("{}\t{rest}", " ".repeat(indent - 1))]));
        if indent > 2 {
            made.add(at, file.text.with(at, &[&format!("{}\t{rest}", " ".repeat(indent - 2))]));
        }
    }
}

/// A key with its value once more on the next line. Keys of a map are unique.
pub(crate) fn duplicate(file: &File, made: &mut Made) {
    for (at, row) in file.text.code().filter(|(_, row)| row.key.is_some() && !row.value.is_empty()) {
        if row.value.starts_with(['|', '>', '&']) {
            continue;
        }
        let again = format!("{}{}", " ".repeat(row.column), &row.text[row.column..]);
        made.add(at + 1, file.text.with(at, &[&row.text, &again]));
    }
}

/// `key:value` or `key value`, where the map has other keys: then the line is neither a key of it, nor, standing as
/// far in as they do, a part of the value above.
pub(crate) fn colon(file: &File, made: &mut Made) {
    for (at, row) in file.text.code() {
        let Some(key) = &row.key else { continue };
        // a line that begins a block or holds the key of a map goes on below, and is told apart there
        if row.value.is_empty() || row.value.starts_with(['|', '>']) || file.text.siblings(at).len() < 2 {
            continue;
        }
        let colon = row.column + key.len();
        made.add(at, file.text.cut(at, colon + 1, colon + 2, ""));
        made.add(at, file.text.cut(at, colon, colon + 1, ""));
    }
}

/// `-run: x`, an entry that is not the first: a key with a strange name among the entries of a list.
pub(crate) fn dash(file: &File, made: &mut Made) {
    for (at, row) in file.text.code().filter(|(_, row)| !row.dashes.is_empty()) {
        let dash = row.dashes[0];
        let entry = |other: &usize| {
            let other = &file.text.rows[*other];
            other.what == What::Code && (other.dashes.first() == Some(&dash) || other.column <= dash)
        };
        let above = (0..at).rev().find(entry).map(|above| &file.text.rows[above]);
        if above.is_some_and(|above| above.dashes.first() == Some(&dash)) && row.key.is_some() {
            made.add(at, file.text.cut(at, dash + 1, dash + 2, ""));
        }
    }
}

/// A bracket of a list or a map on one line. Without its end it is open over the next key, which then has to be within
/// it, with a comma in front that is not there; and at the end of the file it is open still.
pub(crate) fn bracket(file: &File, made: &mut Made) {
    for (at, row) in file.text.code().filter(|(_, row)| row.value.starts_with(['[', '{'])) {
        let plain = masked(&row.value);
        for (place, _) in plain.match_indices([']', '}']) {
            // one that an expression needs is another kind of break
            if plain[..place].ends_with('}') || plain[place + 1..].starts_with('}') && plain.contains("${{") {
                continue;
            }
            let place = row.value_at + place;
            made.add(at, file.text.cut(at, place, place + 1, ""));
        }
        // `a, b]` is one name, and no job and no event has it
        if row.value.starts_with('[') && row.key.as_deref().is_some_and(|key| key == "needs" || key == "on") {
            made.add(at, file.text.cut(at, row.value_at, row.value_at + 1, ""));
        }
    }
}

/// A quote of a value. Without the closing one the text goes on to the next quote of its kind: there is none, or text
/// stands behind that, which is no way to end. Without the opening one the value begins with what no value begins
/// with, or has a quote that ends before it does.
pub(crate) fn quote(file: &File, made: &mut Made) {
    for (at, row) in file.text.code() {
        for (open, close) in quoted(row) {
            let line = &row.text;
            let quote = &line[open..=open];
            let below = file.text.rows[at + 1..].iter().map(|row| row.text.as_str());
            let rest = std::iter::once(&line[close + 1..]).chain(below).collect::<Vec<_>>().join("\n");
            let ends_well = rest.find(quote).is_some_and(|next| {
                let behind = rest[next + 1..].chars().next().unwrap_or('\n');
                !behind.is_ascii_alphanumeric() && !matches!(behind, '*' | '$' | '/' | '.')
            });
            if !ends_well {
                made.add(at, file.text.cut(at, close, close + 1, ""));
            }
            let inner = &line[open + 1..close];
            let in_brackets = row.value.starts_with(['[', '{']);
            let no_start = inner.starts_with(['@', '`', '%', '*']) || in_brackets && inner.starts_with("${{");
            let colon = !in_brackets && inner.contains(": ");
            if no_start || colon {
                made.add(at, file.text.cut(at, open, open + 1, ""));
            }
        }
    }
}

/// The quoted values of a line: where they begin and end.
fn quoted(row: &Row) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut open: Option<(usize, char)> = None;
    let mut before = ' ';
    for (at, c) in row.text.char_indices().skip(row.value_at) {
        match open {
            Some((start, quote)) if quote == c => {
                found.push((start, at));
                open = None;
            }
            Some(_) => {}
            // a value begins behind a blank or a bracket; others are part of a plain one
            None if matches!(c, '\'' | '"') && matches!(before, '[' | '{' | ' ') => {
                let plain = !row.value.starts_with(['[', '{', '\'', '"']);
                if plain {
                    return found;
                }
                open = Some((at, c));
            }
            None => {}
        }
        before = c;
    }
    // one with doubled quotes in it is left alone
    found.retain(|(start, end)| end - start > 1 && !row.text[end + 1..].starts_with('\''));
    found
}

/// One space more in front of a line that is not the first of its map or list. Then it stands neither where the key or
/// entry above begins nor where what is below that does (those are two further in, which is looked at), and a line
/// with a `: ` is no part of a text above; so it fits nothing.
pub(crate) fn indent_more(file: &File, made: &mut Made) {
    for (at, row) in file.text.code() {
        let Some(above) = file.text.before(at) else { continue };
        let (indent, above) = (indent(row), &file.text.rows[above]);
        // a key without a value above would get this as its value
        if row.key.is_none() || above.key.is_some() && above.value.is_empty() && indent >= above.column {
            continue;
        }
        // the first of an entry `- &name`
        if row.dashes.is_empty() && file.text.siblings(at).first() == Some(&at) {
            continue;
        }
        if indent == above.column && !row.dashes.is_empty() && above.key.is_some() {
            continue;
        }
        if opened(file, at).contains(&(indent + 1)) || self::indent(above) < indent && above.column != indent
        {
            continue;
        }
        made.add(at, file.text.with(at, &[&format!(" {}", row.text)]));
    }
}

/// One space less, to where nothing that is open begins. Not for the first of a map or a list: those below it would
/// then be a part of it, and sometimes rightly.
pub(crate) fn indent_less(file: &File, made: &mut Made) {
    for (at, row) in file.text.code() {
        let indent = indent(row);
        let Some(above) = file.text.before(at).filter(|_| indent > 0 && row.key.is_some()) else { continue };
        let first = match row.dashes.is_empty() {
            true => file.text.siblings(at).first() == Some(&at),
            false => {
                let above = &file.text.rows[above];
                self::indent(above) < indent
            }
        };
        if !first && !opened(file, at).contains(&(indent - 1)) {
            made.add(at, file.text.with(at, &[&row.text[1..]]));
        }
    }
}

/// Where a line begins.
fn indent(row: &Row) -> usize {
    row.dashes.first().copied().unwrap_or(row.column)
}

/// Where the keys and entries begin that are open in front of a line, and the text of a block.
fn opened(file: &File, at: usize) -> Vec<usize> {
    let mut found = Vec::new();
    let mut innermost = usize::MAX;
    for row in file.text.rows[..at].iter().rev() {
        let columns: Vec<usize> = match row.what {
            What::Blank => continue,
            What::Block => vec![row.column],
            What::Code => std::iter::once(row.column).chain(row.dashes.iter().rev().copied()).collect(),
        };
        for column in columns {
            if column < innermost {
                innermost = column;
                found.push(column);
            }
        }
    }
    found
}
