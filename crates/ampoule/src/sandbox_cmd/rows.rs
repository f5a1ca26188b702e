//! Rows for people: what the members print, each with its index where several can mix.
//!
//! Invariants: text of guests goes through the sanitiser; what a member wrote to standard error goes there, and
//! so does what is said of its end; the order of one member's rows is that of its output.

use std::io::{self, BufWriter, Stderr, Stdout, Write};

use anstyle::AnsiColor;
use sandbox::Stream;

use crate::{
    sanitise::{self, Colours},
    sink::{Look, Sink, Timed},
};

/// One row.
#[derive(Debug)]
pub(super) enum Row {
    /// A member printed it.
    Printed { index: u16, stream: Stream, text: String },
    /// How a member ended, if not well.
    Ended { index: u16, text: String },
}

impl Timed for Row {}

/// Writes rows to the two outputs.
pub(super) struct Shown<O: Write = Stdout, E: Write = Stderr> {
    out: Side<BufWriter<O>>,
    err: Side<BufWriter<E>>,
    /// Digits of an index; none where there is one member only.
    digits: Option<usize>,
}

struct Side<W> {
    to: W,
    look: Look,
}

impl Shown {
    /// Those of this process.
    pub(super) fn new(count: u16) -> Self {
        let (out, err) = (io::stdout(), io::stderr());
        let looks = (Look::of(&out), Look::of(&err));
        Self::to(out, err, looks, count)
    }
}

impl<O: Write, E: Write> Shown<O, E> {
    fn to(out: O, err: E, looks: (Look, Look), count: u16) -> Self {
        let digits = (count > 1).then(|| (count - 1).to_string().len());
        Self {
            out: Side { to: BufWriter::with_capacity(32 << 10, out), look: looks.0 },
            err: Side { to: BufWriter::new(err), look: looks.1 },
            digits,
        }
    }
}

impl<W: Write> Side<W> {
    fn rows(&mut self, index: Option<String>, text: &str) -> io::Result<()> {
        for row in sanitise::rows(text, self.look.colours()) {
            match &index {
                Some(index) => writeln!(self.to, "{} {row}", self.look.dim(index))?,
                None => writeln!(self.to, "{row}")?,
            }
        }
        Ok(())
    }
}

impl<O: Write + Send, E: Write + Send> Sink<Row> for Shown<O, E> {
    fn say(&mut self, row: &Row) -> io::Result<()> {
        let label = |index: u16| self.digits.map(|digits| format!("[{index:>digits$}]"));
        match row {
            Row::Printed { index, stream: Stream::Stdout, text } => {
                let label = label(*index);
                self.err.to.flush()?;
                self.out.rows(label, text)
            }
            Row::Printed { index, stream: Stream::Stderr, text } => {
                let label = label(*index);
                self.out.to.flush()?;
                self.err.rows(label, text)
            }
            Row::Ended { index, text } => {
                let label = label(*index);
                self.out.to.flush()?;
                let text = sanitise::line(text, Colours::Drop);
                let text = self.err.look.paint(AnsiColor::Red.on_default(), text).to_string();
                self.err.rows(label, &text)
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.to.flush()?;
        self.err.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(count: u16, colours: Colours) -> (String, String) {
        let (mut out, mut err) = (Vec::new(), Vec::new());
        {
            let look = Look::new(colours);
            let mut sink = Shown::to(&mut out, &mut err, (look, look), count);
            let printed = |index, stream, text: &str| Row::Printed { index, stream, text: text.to_owned() };
            for row in [
                printed(0, Stream::Stdout, "one\u{1b}[2J"),
                printed(9, Stream::Stderr, "\u{1b}[31mtwo"),
                printed(0, Stream::Stdout, "10%\r20%"),
                printed(9, Stream::Stdout, ""),
                Row::Ended { index: 9, text: "exit code 3\u{7}".to_owned() },
            ] {
                sink.say(&row).unwrap();
            }
            sink.flush().unwrap();
        }
        (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap())
    }

    #[test]
    fn rows_of_several_begin_with_the_index() {
        let (out, err) = shown(12, Colours::Drop);
        assert_eq!(out, "[ 0] one\n[ 0] 10%\n[ 0] 20%\n[ 9] \n");
        assert_eq!(err, "[ 9] two\n[ 9] exit code 3\n");
    }

    #[test]
    fn rows_of_one_are_its_own() {
        let (out, err) = shown(1, Colours::Drop);
        assert_eq!(out, "one\n10%\n20%\n\n");
        assert_eq!(err, "two\nexit code 3\n");
    }

    #[test]
    fn colours_of_the_guest_are_kept_and_nothing_else() {
        let (out, err) = shown(12, Colours::Keep);
        assert!(!out.contains("\u{1b}[2J"), "{out:?}");
        assert!(err.contains("\u{1b}[31mtwo\u{1b}[0m"), "{err:?}");
        assert!(!err.contains('\u{7}'), "{err:?}");
    }
}
