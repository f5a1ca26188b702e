//! Text of guests and of users' files, made fit for a terminal.
//!
//! Owner: the job, which cleans what a step prints *before* it masks it, because a sequence inside a secret
//! would hide the secret from the mask and vanish on the screen; and every sink, which trusts no text.
//!
//! Invariants, whatever the input is:
//! - the output holds no control character but tab and, where colours are kept, whole SGR sequences
//!   (`ESC [ digits ; : m`) of bounded length;
//! - text that is no control sequence survives, in its order;
//! - no SGR sequence conceals text, whichever way a terminal reads its parameters;
//! - a row with a colour ends with a reset, so that no colour reaches what we print after it.
//!
//! ```text
//!          ESC            [            0x40-0x7e: keep if `m` and clean, else drop
//!  Text ────────▶ Escape ─────▶ Csi ──────────────────────────────────────────────▶ Text
//!    ▲              │ ] P X ^ _        BEL, ST
//!    │              └─────────▶ String ────────▶ Text
//!    └── other: drop the sequence
//! ```

/// Whether colours survive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colours {
    /// SGR sequences are kept.
    Keep,
    /// Plain text.
    Drop,
}

/// Longest SGR sequence that is kept, in bytes between `[` and `m`.
const SGR_MAX: usize = 64;
/// The SGR parameter that hides what follows.
const CONCEAL: u8 = 8;
/// A string sequence (OSC, DCS) that is not closed ends here, so that it cannot swallow a whole log.
const STRING_MAX: usize = 4096;

enum State {
    Text,
    Escape,
    Csi {
        parameters: String,
        clean: bool,
    },
    /// Inside OSC, DCS, SOS, PM or APC.
    Str {
        taken: usize,
    },
    StrEscape {
        taken: usize,
    },
}

/// Makes one row fit for a terminal; a `\r` or `\n` inside becomes a row's end, so there may be several.
#[must_use]
pub fn rows(text: &str, colours: Colours) -> Vec<String> {
    text.trim_end_matches(['\r', '\n']).split(['\r', '\n']).map(|row| line(row, colours)).collect()
}

/// Makes text fit for one row of a terminal.
#[must_use]
pub fn line(text: &str, colours: Colours) -> String {
    let mut out = String::with_capacity(text.len());
    let mut coloured = false;
    let mut state = State::Text;
    for c in text.chars() {
        state = match state {
            State::Text => plain(c, &mut out),
            State::Escape => match c {
                '[' => State::Csi { parameters: String::new(), clean: true },
                ']' | 'P' | 'X' | '^' | '_' => State::Str { taken: 0 },
                // intermediate bytes: the sequence goes on
                ' '..='/' => State::Escape,
                '\u{1b}' => State::Escape,
                '0'..='~' => State::Text,
                _ => plain(c, &mut out),
            },
            State::Csi { mut parameters, clean } => match c {
                'm' if clean && colours == Colours::Keep => {
                    let kept = visible(&parameters);
                    if !kept.is_empty() {
                        out.push_str("\u{1b}[");
                        out.push_str(&kept.join(";"));
                        out.push('m');
                        coloured = true;
                    }
                    State::Text
                }
                '@'..='~' => State::Text,
                '0'..='9' | ';' | ':' if parameters.len() < SGR_MAX => {
                    parameters.push(c);
                    State::Csi { parameters, clean }
                }
                ' '..='?' => State::Csi { parameters, clean: false },
                // what no sequence holds ends it, as terminals do it
                _ => plain(c, &mut out),
            },
            State::Str { taken } => match c {
                '\u{7}' | '\u{9c}' => State::Text,
                '\u{1b}' => State::StrEscape { taken },
                _ if taken >= STRING_MAX => plain(c, &mut out),
                _ => State::Str { taken: taken + 1 },
            },
            State::StrEscape { taken } => match c {
                '\\' => State::Text,
                '[' => State::Csi { parameters: String::new(), clean: true },
                _ => State::Str { taken: taken + 1 },
            },
        };
    }
    if coloured && !out.ends_with("\u{1b}[0m") && !out.ends_with("\u{1b}[m") {
        out.push_str("\u{1b}[0m");
    }
    out
}

/// The parameters of an SGR sequence without those that conceal text, empty ones included.
///
/// What follows 38, 48 or 58 (colours of text, ground and line) is data: an 8 in it is a colour. Where it is
/// not complete, terminals differ in where they go on, so nothing behind it is kept; nor is a number that no
/// terminal knows and that some may cut.
fn visible(parameters: &str) -> Vec<&str> {
    let fields: Vec<&str> = parameters.split(';').collect();
    let mut kept: Vec<&str> = Vec::new();
    let mut rest = fields.as_slice();
    while let Some((field, behind)) = rest.split_first() {
        rest = behind;
        let mut subs = field.split(':').map(number);
        let colour = matches!(subs.next(), Some(Some(38 | 48 | 58)));
        if colour && !field.contains(':') {
            let length = match behind.first().and_then(|kind| number(kind)) {
                Some(5) => 2,
                Some(2) => 4,
                _ => break,
            };
            let Some((data, after)) = behind.split_at_checked(length) else { break };
            if data.iter().any(|field| number(field).is_none()) {
                break;
            }
            kept.push(*field);
            kept.extend(data);
            rest = after;
        } else if colour || field.split(':').all(|sub| number(sub).is_some_and(|sub| sub != CONCEAL)) {
            kept.push(*field);
        }
    }
    kept
}

/// A parameter; an empty one is 0.
fn number(digits: &str) -> Option<u8> {
    if digits.is_empty() { Some(0) } else { digits.parse().ok() }
}

/// A character outside of any sequence.
fn plain(c: char, out: &mut String) -> State {
    match c {
        '\u{1b}' => State::Escape,
        '\u{9b}' => State::Csi { parameters: String::new(), clean: true },
        '\u{90}' | '\u{98}' | '\u{9d}' | '\u{9e}' | '\u{9f}' => State::Str { taken: 0 },
        '\t' => {
            out.push(c);
            State::Text
        }
        c if c.is_control() || reorders(c) => State::Text,
        c => {
            out.push(c);
            State::Text
        }
    }
}

/// Characters that make a terminal show text in another order or on another row than it stands.
fn reorders(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}')
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn colours_are_kept_and_closed() {
        assert_eq!(line("\u{1b}[1;31mred\u{1b}[0m", Colours::Keep), "\u{1b}[1;31mred\u{1b}[0m");
        assert_eq!(line("\u{1b}[38;2;1;2;3mx", Colours::Keep), "\u{1b}[38;2;1;2;3mx\u{1b}[0m");
        assert_eq!(line("\u{9b}31mx", Colours::Keep), "\u{1b}[31mx\u{1b}[0m");
        assert_eq!(line("\u{1b}[1;31mred\u{1b}[0m", Colours::Drop), "red");
    }

    #[test]
    fn every_other_sequence_is_gone() {
        for (input, expected) in [
            ("a\u{1b}[2Jb", "ab"),
            ("a\u{1b}[1;1Hb", "ab"),
            ("a\u{1b}[?25lb", "ab"),
            ("a\u{1b}[>4;1mb", "ab"),
            ("a\u{1b}[?1mb", "ab"),
            ("a\u{1b}]0;title\u{7}b", "ab"),
            ("a\u{1b}]8;;http://x\u{1b}\\link\u{1b}]8;;\u{1b}\\b", "alinkb"),
            ("a\u{1b}Pq1;2\u{1b}\\b", "ab"),
            ("a\u{1b}cb", "ab"),
            ("a\u{1b}(0b", "ab"),
            ("a\u{8}\u{7}\u{0}b\u{7f}", "ab"),
            ("a\u{9d}52;c;x\u{9c}b", "ab"),
            ("a\u{202e}b", "ab"),
            ("a\tb", "a\tb"),
            ("a\u{1b}", "a"),
            ("a\u{1b}[31", "a"),
            ("grüße 日本", "grüße 日本"),
        ] {
            assert_eq!(line(input, Colours::Keep), expected, "{input:?}");
        }
        let long = format!("a\u{1b}[{}mb", "1;".repeat(100));
        assert_eq!(line(&long, Colours::Keep), "ab");
    }

    #[test]
    fn nothing_is_concealed_and_colours_keep_their_eights() {
        let kept = |parameters: &str| line(&format!("\u{1b}[{parameters}mx\u{1b}[0m"), Colours::Keep);
        for parameters in [
            "31",
            "",
            "28",
            "1;4:3;31",
            "38;5;8",
            "48;5;8;1",
            "38;2;8;8;8",
            "58;2;8;8;8",
            "38;2;;;8",
            "38:5:8",
            "48:2::8:8:8",
            "38;5;8;48;5;8",
        ] {
            assert_eq!(kept(parameters), format!("\u{1b}[{parameters}mx\u{1b}[0m"), "{parameters}");
        }
        assert_eq!(kept("8;"), "\u{1b}[mx\u{1b}[0m", "what is left is a reset");
        for (parameters, left) in [
            ("8", ""),
            ("08", ""),
            ("8;8", ""),
            ("264", ""),
            ("8:1", ""),
            ("4:8", ""),
            ("38;8", ""),
            ("38;2;8", ""),
            ("1;8", "1"),
            ("8;31", "31"),
            ("1;8;31", "1;31"),
            ("38;5;8;8", "38;5;8"),
            ("38;2;1;2;3;8;1", "38;2;1;2;3;1"),
            ("38:5;8", "38:5"),
            ("1;38;5", "1"),
            ("1;38;5;8:8", "1"),
        ] {
            let expected = if left.is_empty() { String::new() } else { format!("\u{1b}[{left}m") };
            assert_eq!(kept(parameters), format!("{expected}x\u{1b}[0m"), "{parameters}");
        }
    }

    #[test]
    fn an_open_string_does_not_swallow_the_log() {
        let text = format!("\u{1b}]0;{}", "x".repeat(STRING_MAX * 2));
        assert!(line(&text, Colours::Drop).len() >= STRING_MAX - 4);
    }

    #[test]
    fn progress_that_overwrites_itself_becomes_rows() {
        assert_eq!(rows("10%\r20%\r\n", Colours::Drop), ["10%", "20%"]);
        assert_eq!(rows("", Colours::Drop), [""]);
    }

    /// Removes SGR sequences, as strictly as the invariant names them.
    fn without_sgr(text: &str) -> String {
        let mut out = String::new();
        let mut rest = text;
        while let Some(at) = rest.find("\u{1b}[") {
            out.push_str(&rest[..at]);
            let body = &rest[at + 2..];
            let end =
                body.find(|c: char| !(c.is_ascii_digit() || c == ';' || c == ':')).unwrap_or(body.len());
            if body[end..].starts_with('m') && end <= SGR_MAX {
                rest = &body[end + 1..];
            } else {
                out.push('\u{1b}');
                rest = body;
            }
        }
        out + rest
    }

    proptest! {
        #[test]
        fn nothing_but_text_tabs_and_colours_comes_out(
            parts in proptest::collection::vec(prop_oneof![
                Just("\u{1b}".to_owned()), Just("[".to_owned()), Just("]".to_owned()), Just("31m".to_owned()),
                Just("\u{9b}".to_owned()), Just("\\".to_owned()), Just(";".to_owned()), Just("?".to_owned()),
                Just("\u{7}".to_owned()), Just("P".to_owned()), any::<char>().prop_map(String::from), ".{0,8}",
            ], 0..40)
        ) {
            let text = parts.concat();
            for row in rows(&text, Colours::Keep) {
                let rest = without_sgr(&row);
                prop_assert!(rest.chars().all(|c| c == '\t' || !c.is_control()), "{row:?}");
                prop_assert!(rest.len() == row.len() || row.ends_with("0m") || row.ends_with("[m"), "{row:?}");
            }
            for row in rows(&text, Colours::Drop) {
                prop_assert!(row.chars().all(|c| c == '\t' || !c.is_control()), "{row:?}");
            }
        }

        #[test]
        fn text_without_control_characters_is_untouched(text in "[a-zA-Z0-9 äöü日本\\[\\];m]{0,80}") {
            prop_assert_eq!(line(&text, Colours::Keep), text);
        }
    }
}
