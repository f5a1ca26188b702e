//! Lists for people: columns as wide as what stands in them.

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

#[cfg(test)]
mod tests {
    #[test]
    fn columns_are_as_wide_as_what_stands_in_them() {
        let rows = [["a", "long one", ""], ["bb", "é", "x"]].map(|row| row.map(str::to_owned));
        let text = super::text(["ID", "NAME", "Z"], &rows);
        assert_eq!(text, "ID  NAME      Z\na   long one\nbb  é         x\n");
    }
}
