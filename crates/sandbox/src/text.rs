//! Text of a guest, made fit to be shown.

/// `text` without control characters, line ends as spaces, at most `limit` bytes.
pub(crate) fn printable(text: &str, limit: usize) -> String {
    let mut shown = String::new();
    for c in text.chars() {
        let c = match c {
            '\n' | '\r' | '\t' => ' ',
            c if c.is_control() => continue,
            c => c,
        };
        if shown.len() + c.len_utf8() > limit {
            shown.push('…');
            break;
        }
        shown.push(c);
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_that_moves_a_cursor_or_fills_a_screen() {
        assert_eq!(printable("a\x1b[2J\nb\u{9b}c\0", 100), "a[2J bc");
        assert_eq!(printable("ääää", 5), "ää…");
    }
}
