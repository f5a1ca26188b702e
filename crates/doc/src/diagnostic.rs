//! What a person is told about a document, shown as rustc shows it.
//!
//! Purpose: one message with the line, a caret, what was expected and what to write instead.
//! Owner: whoever found the fault; a command renders. Invariants: neither message nor shown source line
//! lets a control character of the document through to the terminal; a message is one row.

use std::fmt;

use annotate_snippets::{AnnotationKind, Element, Group, Level, Origin, Renderer, Snippet};

use crate::{Source, Span};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It works, though perhaps not as its author thinks.
    Warning,
    /// It does not work.
    Error,
}

/// A place and what is to be said there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// The text that it points into.
    pub source: Source,
    /// Where.
    pub span: Span,
    /// What stands beside the caret; may be empty.
    pub text: String,
}

/// What a person is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// One line, lower-case, without a full stop.
    pub message: String,
    /// The name by which it can be turned off, where it has one.
    pub rule: Option<&'static str>,
    /// The place that it is about.
    pub primary: Option<Label>,
    /// Other places that matter.
    pub others: Vec<Label>,
    /// What to write or do instead.
    pub help: Vec<String>,
    /// What is good to know.
    pub notes: Vec<String>,
}

/// The part of a source that is shown.
struct Window {
    span: Span,
    /// The number of its first line.
    line: usize,
    /// Line and column of the first label, where the line is shown from somewhere within.
    place: Option<(usize, usize)>,
}

/// What the text is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rendering {
    /// Without escape sequences.
    Plain,
    /// With colours, for a terminal.
    Coloured,
}

impl Diagnostic {
    /// An error, so far without a place.
    pub fn error(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Error, message.into())
    }

    /// A warning, so far without a place.
    pub fn warning(message: impl Into<String>) -> Diagnostic {
        Diagnostic::new(Severity::Warning, message.into())
    }

    fn new(severity: Severity, message: String) -> Diagnostic {
        Diagnostic {
            severity,
            message: cut(message),
            rule: None,
            primary: None,
            others: Vec::new(),
            help: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Says by which name it can be turned off.
    #[must_use]
    pub fn rule(mut self, name: &'static str) -> Diagnostic {
        self.rule = Some(name);
        self
    }

    /// Says where.
    #[must_use]
    pub fn at(mut self, source: &Source, span: Span) -> Diagnostic {
        self.primary = Some(Label { source: source.clone(), span: source.fit(span), text: String::new() });
        self
    }

    /// Says what stands beside the caret; without a place it does nothing.
    #[must_use]
    pub fn label(mut self, text: impl Into<String>) -> Diagnostic {
        if let Some(primary) = &mut self.primary {
            primary.text = cut(text.into());
        }
        self
    }

    /// Points at another place as well.
    #[must_use]
    pub fn also(mut self, source: &Source, span: Span, text: impl Into<String>) -> Diagnostic {
        self.others.push(Label { source: source.clone(), span: source.fit(span), text: cut(text.into()) });
        self
    }

    /// Says what to write or do instead.
    #[must_use]
    pub fn help(mut self, text: impl Into<String>) -> Diagnostic {
        self.help.push(cut(text.into()));
        self
    }

    /// Adds what is good to know.
    #[must_use]
    pub fn note(mut self, text: impl Into<String>) -> Diagnostic {
        self.notes.push(cut(text.into()));
        self
    }

    /// Whether it is an error.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The whole message over several lines, without a line feed at its end.
    pub fn render(&self, rendering: Rendering) -> String {
        let level = match self.severity {
            Severity::Error => Level::ERROR,
            Severity::Warning => Level::WARNING,
        };
        let mut elements: Vec<Element<'_>> = Vec::new();
        let sources = self.sources();
        for label in &sources {
            let Window { span: window, line, place } = self.window(label);
            let mut snippet = Snippet::source(label.slice(window)).line_start(line);
            match place {
                None => snippet = snippet.path(printable(label.name())),
                Some((line, column)) => {
                    let origin = Origin::path(printable(label.name())).line(line).char_column(column);
                    elements.push(origin.into());
                }
            }
            for (kind, at) in self.labels() {
                if at.source == *label && (window.start..=window.end).contains(&at.span.start) {
                    let end = at.span.end.min(window.end);
                    snippet = snippet.annotation(
                        kind.span(at.span.start - window.start..end - window.start)
                            .label((!at.text.is_empty()).then(|| printable(&at.text))),
                    );
                }
            }
            elements.push(snippet.into());
        }
        elements.extend(self.notes.iter().map(|note| Level::NOTE.message(printable(note)).into()));
        elements.extend(self.help.iter().map(|help| Level::HELP.message(printable(help)).into()));
        let title = level.primary_title(printable(&self.message));
        let title = match self.rule {
            Some(rule) => title.id(rule),
            None => title,
        };
        let report: [Group<'_>; 1] = [title.elements(elements)];
        let renderer = match rendering {
            Rendering::Plain => Renderer::plain(),
            Rendering::Coloured => Renderer::styled().hyperlink(false),
        };
        renderer.render(&report)
    }

    fn labels(&self) -> impl Iterator<Item = (AnnotationKind, &Label)> {
        let primary = self.primary.iter().map(|label| (AnnotationKind::Primary, label));
        primary.chain(self.others.iter().map(|label| (AnnotationKind::Context, label)))
    }

    /// The lines of a source from the first label to the last: the renderer would look at every line of a large file
    /// again for each diagnostic. Of a line that is very long only what stands around.
    fn window(&self, source: &Source) -> Window {
        /// What is shown in front of a label and behind it, at most.
        const AROUND: usize = 1 << 10;
        /// Labels further apart than this are not shown together.
        const WIDEST: usize = 64 << 10;
        let mut spans =
            self.labels().filter(|(_, label)| label.source == *source).map(|(_, label)| label.span);
        let first = spans.next().unwrap_or_default();
        let all = spans.fold(first, Span::to);
        let all = match all.end - all.start > WIDEST {
            true => source.fit(Span::new(first.start, first.end.min(first.start + WIDEST))),
            false => all,
        };
        let text = source.text();
        let (line, start) = source.line(all.start);
        let end = text[all.end..].find('\n').map_or(text.len(), |at| all.end + at + 1);
        let cut = all.start - start > 2 * AROUND;
        let near = source.fit(Span::new(
            if cut { all.start - AROUND } else { start },
            end.min(all.end.saturating_add(AROUND)),
        ));
        Window { span: near, line, place: cut.then(|| source.line_column(first.start)) }
    }

    /// Each source that a label points into, once, the primary one first.
    fn sources(&self) -> Vec<Source> {
        let mut sources: Vec<Source> = Vec::new();
        for (_, label) in self.labels() {
            if !sources.contains(&label.source) {
                sources.push(label.source.clone());
            }
        }
        sources
    }
}

/// The short form: `file:line:column: error: message`.
impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(label) = &self.primary {
            let (line, column) = label.source.line_column(label.span.start);
            write!(f, "{}:{line}:{column}: ", printable(label.source.name()))?;
        }
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(f, "{severity}: {}", printable(&self.message))
    }
}

/// What is said, with what it quotes between backticks cut to a length that can be read: documents may hold anything.
fn cut(text: String) -> String {
    const QUOTED: usize = 200; // characters
    const ALL: usize = 4000; // what is said in our own words is far shorter
    if text.len() <= QUOTED {
        return text;
    }
    let mut out = String::with_capacity(text.len().min(ALL));
    for (at, part) in text.split('`').enumerate() {
        if at > 0 {
            out.push('`');
        }
        match part.char_indices().nth(QUOTED).filter(|_| at % 2 == 1) {
            Some((end, _)) => {
                out.push_str(&part[..end]);
                out.push('…');
            }
            None => out.push_str(part),
        }
    }
    if let Some((end, _)) = out.char_indices().nth(ALL) {
        out.truncate(end);
        out.push('…');
    }
    out
}

/// The text as one row, with control characters and those that turn text around replaced: messages quote documents,
/// and a row of a document's must not look like one of ours.
fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => shown.push_str("\\n"),
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{2028}' | '\u{2029}' => {
                shown.push('\u{fffd}')
            }
            c if c.is_control() => shown.push('\u{fffd}'),
            c => shown.push(c),
        }
    }
    shown
}
