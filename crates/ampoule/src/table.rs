//! Lists for people: columns as wide as what stands in them.

use std::time::SystemTime;

use jiff::Timestamp;

use crate::sanitise::{self, Colours};

/// The head and the rows, a line each.
pub(crate) fn text<const N: usize>(head: [&str; N], rows: &[[String; N]]) -> String {
    let head = head.map(str::to_owned);
    let all: Vec<&[String; N]> = std::iter::once(&head).chain(rows).collect();
    let width = |at: usize| all.iter().filter_map(|row| row.get(at)).map(|cell| cell.chars().count()).max();
    let widths: Vec<usize> = (0..N).map(|at| width(at).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in all {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        text.push_str(cells.join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// Names and what stands behind them, a line each; a name that is that of the line before is not repeated.
pub(crate) fn details(lines: &[(&str, String)]) -> String {
    let width = lines.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    let mut last = "";
    let mut text = String::new();
    for (name, value) in lines {
        let shown = if *name == last { "" } else { name };
        text.push_str(&format!("{shown:<width$}  {}\n", sanitise::line(value, Colours::Drop)));
        last = name;
    }
    text
}

/// A moment for scripts.
pub(crate) fn time(at: SystemTime) -> Option<String> {
    Timestamp::try_from(at).ok().map(|at| at.to_string())
}

/// A moment for people, of UTC.
pub(crate) fn minute(at: SystemTime) -> String {
    let at = Timestamp::try_from(at);
    at.map_or_else(|_| "?".to_owned(), |at| at.strftime("%Y-%m-%d %H:%M").to_string())
}

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let rows = [["a", "long one", ""], ["bb", "é", "x"]].map(|row| row.map(str::to_owned));
        let text = super::text(["ID", "NAME", "Z"], &rows);
        assert_eq!(text, "ID  NAME      Z\na   long one\nbb  é         x\n");
    }
}
