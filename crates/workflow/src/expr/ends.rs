//! Where the expressions of a text end.
//!
//! Purpose: the next `}}` outside of quotes, for each `${{` of a text. Owner: templates. Invariant: all of them together
//! take time as the text is long, also where no quote is ever closed.

/// So far it is looked ahead without the table: most expressions are shorter.
const NEAR: usize = 256;

/// The ends of the expressions of one text.
pub(super) struct Ends<'t> {
    text: &'t str,
    table: Option<Table>,
}

/// Places in the text, in order.
struct Table {
    quotes: Vec<usize>,
    /// Of `}}`, behind an even number of quotes and behind an odd one.
    ends: [Vec<usize>; 2],
}

impl<'t> Ends<'t> {
    pub(super) fn of(text: &'t str) -> Ends<'t> {
        Ends { text, table: None }
    }

    /// Where the expression ends whose text begins at `start`: the place of its `}}`.
    pub(super) fn after(&mut self, start: usize) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut quoted = false;
        for at in start..bytes.len().min(start + NEAR) {
            match bytes[at] {
                b'\'' => quoted = !quoted,
                b'}' if !quoted && bytes.get(at + 1) == Some(&b'}') => return Some(at),
                _ => {}
            }
        }
        let table = self.table.get_or_insert_with(|| Table::of(bytes));
        let before = table.quotes.partition_point(|at| *at < start);
        let outside = table.next(before % 2, start);
        // a quote that is never closed is a fault of the expression, better shown there
        let unclosed = (table.quotes.len() - before) % 2 == 1;
        outside.or_else(|| table.next((before + 1) % 2, start).filter(|_| unclosed))
    }
}

impl Table {
    fn of(bytes: &[u8]) -> Table {
        let mut table = Table { quotes: Vec::new(), ends: [Vec::new(), Vec::new()] };
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'\'' => table.quotes.push(at),
                b'}' if bytes.get(at + 1) == Some(&b'}') => table.ends[table.quotes.len() % 2].push(at),
                _ => {}
            }
        }
        table
    }

    fn next(&self, parity: usize, start: usize) -> Option<usize> {
        let ends = &self.ends[parity];
        ends.get(ends.partition_point(|at| *at < start)).copied()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The same, one byte after the other.
    fn simply(text: &str) -> Option<usize> {
        let mut quoted = false;
        let bytes = text.as_bytes();
        for (at, byte) in bytes.iter().enumerate() {
            match byte {
                b'\'' => quoted = !quoted,
                b'}' if !quoted && bytes.get(at + 1) == Some(&b'}') => return Some(at),
                _ => {}
            }
        }
        if quoted { text.find("}}") } else { None }
    }

    proptest! {
        #[test]
        fn ends_are_those_of_a_simple_look(text in "[}' x]{0,12}(x{300}[}' x]{0,12}){0,3}") {
            let mut ends = Ends::of(&text);
            for start in 0..=text.len() {
                prop_assert_eq!(ends.after(start), simply(&text[start..]).map(|at| start + at), "{:?} from {}", text, start);
            }
        }
    }
}
