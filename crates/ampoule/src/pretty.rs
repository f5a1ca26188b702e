//! JSON for standard output.
//!
//! Purpose: what documents hold reaches a terminal as escapes where it is no text. Owner: commands with `--json`.
//! Invariant: the text is the same JSON value, with a line feed at its end.

use serde_json::Value as Json;

/// The value over several lines. `serde_json` escapes what JSON asks for, which ends at U+001F: DEL, the C1 controls
/// (U+009B begins a sequence as `ESC [` does) and what turns text around stay as they are.
pub(crate) fn json(value: &Json) -> String {
    let text = format!("{value:#}\n");
    let raw = |c: char| matches!(c, '\u{7f}'..='\u{9f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    if !text.contains(raw) {
        return text;
    }
    // all of them stand in strings: the rest of JSON is ASCII
    text.chars().map(|c| if raw(c) { format!("\\u{:04x}", u32::from(c)) } else { c.to_string() }).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_no_text_is_escaped() {
        let value = json!({"a\u{9b}": ["\u{7f}\u{1b}[2J\u{202e}", "ä\u{a0}€"]});
        let text = json(&value);
        assert_eq!(serde_json::from_str::<Json>(&text).unwrap(), value);
        assert_eq!(
            text,
            "{\n  \"a\\u009b\": [\n    \"\\u007f\\u001b[2J\\u202e\",\n    \"ä\u{a0}€\"\n  ]\n}\n"
        );
    }
}
