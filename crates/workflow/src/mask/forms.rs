//! The forms in which a value is looked for.
//!
//! Purpose: programs print a secret not only as it is: `base64` and HTTP headers, URLs, JSON, quoted words
//! of a shell. Each such text is a form, and the automaton looks for all of them at once.
//! Owner: [`super::Masker`]. Pure.
//!
//! Invariants
//! - The value itself, without blank ends, and its lines are always forms, whatever its length is, but lines
//!   as short as a brace. All others are *encoded* forms: at least [`MIN_FORM`] bytes long, so that the
//!   secret `/` does not mask every `%2F`.
//! - Every form of base64 holds only characters that the value alone decides: what stands before and behind
//!   it in the encoded bytes does not matter, so three alignments are enough.
//! - The number of forms of a value is bounded by a constant, beside its lines and the rows of its base64.

use std::{borrow::Cow, fmt::Write as _};

/// Lines of a value of several lines that are shorter than this (a brace, a bracket) are masked only as a
/// part of the whole value.
const MIN_LINE: usize = 4;

/// Encoded forms that are shorter are none.
const MIN_FORM: usize = 4;

/// Longer values have no encoded forms: each takes fifteen times the value's memory, and a key of this size
/// is a file.
pub(super) const MAX_ENCODED: usize = 16 << 10;

/// Widths at which programs break lines of base64: `base64`, and PEM.
const WRAPS: [usize; 2] = [76, 64];

/// A form and what it adds to the automaton: one that only goes on behind another adds little.
pub(super) struct Form {
    pub(super) text: String,
    pub(super) adds: usize,
}

impl Form {
    fn new(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { adds: text.len(), text }
    }
}

/// The value as it is, and its lines.
pub(super) fn plain(value: &str) -> Vec<Form> {
    let value = normalised(value);
    let value = value.trim_matches(['\n', '\r']);
    if value.is_empty() {
        return Vec::new();
    }
    let mut forms = vec![Form::new(value)];
    if value.contains(['\n', '\r']) {
        let lines = value.split(['\n', '\r']).map(str::trim);
        forms.extend(lines.filter(|line| line.len() >= MIN_LINE && !super::is_blank(line)).map(Form::new));
    } else {
        // a shell that prints `$X` without quotes prints no blanks at the ends
        let bare = value.trim();
        if bare.len() >= MIN_LINE && bare.len() < value.len() {
            forms.push(Form::new(bare));
        }
    }
    forms
}

/// The value as programs encode it.
pub(super) fn encoded(value: &str) -> Vec<Form> {
    let value = value.trim_matches(['\n', '\r']);
    if value.is_empty() || value.len() > MAX_ENCODED {
        return Vec::new();
    }
    let mut forms = Vec::new();
    // what is encoded may have kept its CRs or lost them
    let normalised = normalised(value);
    let both = (normalised != value).then_some(&*normalised);
    for value in both.into_iter().chain([value]) {
        base64(value.as_bytes(), &mut forms);
        let plain = value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte));
        if !plain {
            urls(value, &mut forms);
            json(value, &mut forms);
            quoted(value, &mut forms);
        }
    }
    forms.retain(|form| form.text.len() >= MIN_FORM && form.text != value);
    forms
}

/// Rows of a log know only `\n`: so must the values.
pub(super) fn normalised(text: &str) -> Cow<'_, str> {
    if text.contains("\r\n") { text.replace("\r\n", "\n").into() } else { text.into() }
}

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL_SAFE: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";

fn base64(value: &[u8], forms: &mut Vec<Form>) {
    for offset in 0..3 {
        for alphabet in [STANDARD, URL_SAFE] {
            let whole = encode(value, offset, alphabet);
            let first = (8 * offset).div_ceil(6);
            let full = 8 * (offset + value.len()) / 6;
            let Some(core) = whole.get(first..full) else { continue };
            forms.push(Form::new(core));
            // at the end of what was encoded the last character is the value's too, with padding or without
            let padding = "=".repeat((3 - (offset + value.len()) % 3) % 3);
            if !padding.is_empty() {
                forms.push(Form { text: whole[first..].to_owned(), adds: 1 });
                forms.push(Form { text: format!("{}{padding}", &whole[first..]), adds: padding.len() });
            }
            if offset == 0 && alphabet == STANDARD {
                rows(&(whole + &padding), forms);
            }
        }
    }
}

/// The rows of base64 that is broken into lines, from its beginning on.
fn rows(whole: &str, forms: &mut Vec<Form>) {
    for width in WRAPS.into_iter().filter(|width| whole.len() > *width) {
        let mut rest = whole;
        while !rest.is_empty() {
            // base64 is ASCII
            let (row, behind) = rest.split_at(width.min(rest.len()));
            forms.push(Form::new(row));
            rest = behind;
        }
    }
}

/// Base64 of `offset` bytes and the value, without padding.
fn encode(value: &[u8], offset: usize, alphabet: &[u8; 64]) -> String {
    let mut out = String::with_capacity((offset + value.len()) * 4 / 3 + 2);
    let mut bits = 0_u32;
    let mut count = 0;
    for byte in std::iter::repeat_n(&0_u8, offset).chain(value) {
        bits = (bits << 8 | u32::from(*byte)) & 0x3fff;
        count += 8;
        while count >= 6 {
            count -= 6;
            out.push(char::from(alphabet[(bits >> count & 63) as usize]));
        }
    }
    if count > 0 {
        out.push(char::from(alphabet[(bits << (6 - count) & 63) as usize]));
    }
    out
}

/// What stays as it is in a URL, beside letters and digits, and what becomes of a blank: of the standard's
/// unreserved characters, and as JavaScript, Python, HTML's forms and Go do it.
const URLS: [(&str, &str); 7] = [
    ("-._~", ""),
    ("-._~", "+"),
    ("-._~/", ""),
    ("-._~!*'()", ""),
    ("-._~!*'();/?:@&=+$,#", ""),
    ("-._*", "+"),
    ("-._~$&+,;=", ""),
];

fn urls(value: &str, forms: &mut Vec<Form>) {
    for (kept, blank) in URLS {
        if !blank.is_empty() && !value.contains(' ') && kept == "-._~" {
            continue;
        }
        let mut upper = String::with_capacity(value.len() * 2);
        let mut lower = String::with_capacity(value.len() * 2);
        for byte in value.bytes() {
            if byte.is_ascii_alphanumeric() || kept.as_bytes().contains(&byte) {
                upper.push(char::from(byte));
                lower.push(char::from(byte));
            } else if byte == b' ' && !blank.is_empty() {
                upper.push_str(blank);
                lower.push_str(blank);
            } else {
                // writing to a string does not fail
                let _ = write!(upper, "%{byte:02X}");
                let _ = write!(lower, "%{byte:02x}");
            }
        }
        forms.push(Form::new(upper));
        forms.push(Form::new(lower));
    }
}

/// What writers of JSON escape beyond what they must.
#[derive(Clone, Copy)]
enum Json {
    /// Nothing: JavaScript, Rust.
    Least,
    /// All that is not ASCII, digits in lower case: Python.
    Ascii,
    /// The same with upper case.
    AsciiUpper,
    /// What means something in HTML: Go.
    Html,
    /// The slash, and what is not ASCII: PHP.
    Slash,
}

fn json(value: &str, forms: &mut Vec<Form>) {
    for style in [Json::Least, Json::Ascii, Json::AsciiUpper, Json::Html, Json::Slash] {
        let mut out = String::with_capacity(value.len() * 2);
        for c in value.chars() {
            let ascii = matches!(style, Json::Ascii | Json::AsciiUpper | Json::Slash);
            let html = matches!(style, Json::Html) && matches!(c, '<' | '>' | '&' | '\u{2028}' | '\u{2029}');
            match c {
                '"' => out.push_str("\\\""),
                '\\' => out.push_str("\\\\"),
                '\n' => out.push_str("\\n"),
                '\r' => out.push_str("\\r"),
                '\t' => out.push_str("\\t"),
                '\u{8}' => out.push_str("\\b"),
                '\u{c}' => out.push_str("\\f"),
                '/' if matches!(style, Json::Slash) => out.push_str("\\/"),
                c if html || c < ' ' || (ascii && !(' '..='~').contains(&c)) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        let _ = match style {
                            Json::AsciiUpper => write!(out, "\\u{unit:04X}"),
                            _ => write!(out, "\\u{unit:04x}"),
                        };
                    }
                }
                c => out.push(c),
            }
        }
        forms.push(Form::new(out));
    }
}

/// Replacements that make text of a workflow command, a word of a shell, a string of an expression, or text
/// of XML.
const QUOTES: [&[(char, &str)]; 9] = [
    &[('%', "%25"), ('\r', "%0D"), ('\n', "%0A")],
    &[('\'', "'\\''")],
    &[('\'', "'\"'\"'")],
    &[('\'', "\\'"), ('\\', "\\\\"), ('\n', "\\n"), ('\r', "\\r"), ('\t', "\\t")],
    &[('"', "\\\"")],
    &[('"', "\\\""), ('\\', "\\\\"), ('$', "\\$"), ('`', "\\`")],
    &[('\'', "''")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;"), ('\'', "&apos;")],
    &[('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&#34;"), ('\'', "&#39;")],
];

fn quoted(value: &str, forms: &mut Vec<Form>) {
    for table in QUOTES {
        if !value.contains(|c| table.iter().any(|(plain, _)| *plain == c)) {
            continue;
        }
        let mut out = String::with_capacity(value.len() * 2);
        for c in value.chars() {
            match table.iter().find(|(plain, _)| *plain == c) {
                Some((_, quoted)) => out.push_str(quoted),
                None => out.push(c),
            }
        }
        forms.push(Form::new(out));
    }
    // a quoted value whose quotes a shell took away
    if value.len() > 8
        && let Some(inner) = value.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'))
    {
        forms.push(Form::new(inner));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(value: &str) -> Vec<String> {
        plain(value).into_iter().chain(encoded(value)).map(|form| form.text).collect()
    }

    #[test]
    fn forms_of_values() {
        for (value, form) in [
            ("hunter2", "aHVudGVyMg=="),
            ("hunter2", "aHVudGVyMg"),
            ("hunter2", "h1bnRlcjI"),
            ("hunter2", "odW50ZXIy"),
            ("a+b/c", "a%2Bb%2Fc"),
            ("a+b/c", "a%2bb%2fc"),
            ("a+b/c", "a%2Bb/c"),
            ("p w d", "p%20w%20d"),
            ("p w d", "p+w+d"),
            ("p@ss;w", "p%40ss;w"),
            ("p'w(1)", "p'w(1)"),
            ("p w(1)!", "p%20w(1)!"),
            ("gr\u{fc}n", "gr%C3%BCn"),
            ("gr\u{fc}n", "gr\\u00fcn"),
            ("gr\u{fc}n", "gr\\u00FCn"),
            ("k\u{1f511}y", "k\\ud83d\\udd11y"),
            ("a\"b\\c", "a\\\"b\\\\c"),
            ("a\"b\\c", "a\\\"b\\c"),
            ("a\tb\rc", "a\\tb\\rc"),
            ("a\r\nb", "a\\r\\nb"),
            ("a\r\nb", "a\\nb"),
            ("a\r\nb", "a\nb"),
            ("a\u{1}bc", "a\\u0001bc"),
            ("a<b&c", "a\\u003cb\\u0026c"),
            ("a<b&c", "a&lt;b&amp;c"),
            ("a/bc", "a\\/bc"),
            ("a%\nb", "a%25%0Ab"),
            ("it's", "it'\\''s"),
            ("it's", "it''s"),
            ("it's", "it\\'s"),
            ("pa$$word", "pa\\$\\$word"),
            ("\"quoted one\"", "quoted one"),
            ("  padded ", "padded"),
            ("first line\rsecond\r\nthird", "second"),
            ("value\r", "value"),
        ] {
            let found = all(value);
            assert!(found.iter().any(|known| known == form), "{form:?} of {value:?}: {found:?}");
        }
    }

    #[test]
    fn short_values_have_no_forms_that_tear_logs() {
        for (value, forms) in
            [("/", vec!["/"]), ("a", vec!["a"]), ("ab", vec!["ab"]), ("%", vec!["%"]), ("\"", vec!["\""])]
        {
            let found: Vec<_> = all(value).into_iter().filter(|form| form.len() < MIN_FORM).collect();
            assert_eq!(found, forms, "{value:?}");
        }
        assert!(all("").is_empty() && all("\r\n").is_empty());
        assert_eq!(all("word").iter().filter(|form| form.len() < 4).count(), 0);
    }

    #[test]
    fn large_values_are_looked_for_as_they_are() {
        let large = "x y\n".repeat(MAX_ENCODED);
        assert!(encoded(&large).is_empty());
        assert_eq!(plain(&large)[0].text, large.trim_end());
        let most = "x ".repeat(MAX_ENCODED / 2 - 1) + "y";
        let adds: usize = encoded(&most).iter().map(|form| form.adds).sum();
        assert!(adds < 50 * most.len(), "{adds}");
    }

    #[test]
    fn base64_is_right() {
        for (value, offset, whole) in [
            ("", 0, ""),
            ("f", 0, "Zg"),
            ("fo", 0, "Zm8"),
            ("foobar", 0, "Zm9vYmFy"),
            ("fo", 1, "AGZv"),
            ("\u{ff}\u{fe}\u{fb}", 0, "w7_DvsO7"),
        ] {
            assert_eq!(encode(value.as_bytes(), offset, URL_SAFE), whole);
        }
        assert_eq!(encode(b"\xff\xff", 0, STANDARD), "//8");
        assert_eq!(encode(b"\xff\xff", 0, URL_SAFE), "__8");
    }
}
