//! What is wrong with a text that is not YAML, in words of the person who wrote it.
//!
//! Purpose: the parser says where it stopped; people want to know what they did: a quote that is open, a
//! colon that is missing, a tab, an indentation that fits nothing. Owner: the YAML parser's caller.
//! Invariant: whatever the text is, one diagnostic comes out, quickly; a guess is never worse than the
//! parser's own words, which stand where nothing better is known.

pub(crate) mod bang;
mod flow;
mod lines;
mod odd;
mod quotes;
mod slips;

use granit_parser::{ErrorKind, ScanError};
pub(crate) use lines::quote;
use lines::{Line, in_quotes, indent_to, quoted, spaces};

use crate::{Diagnostic, Limits, Source, Span, did_you_mean};

/// The place where the parser stopped.
struct At<'a> {
    source: &'a Source,
    at: usize,
}

impl<'a> At<'a> {
    fn text(&self) -> &'a str {
        self.source.text()
    }

    fn line(&self) -> Line<'a> {
        Line::at(self.text(), self.at)
    }

    /// So many bytes from here.
    fn here(&self, length: usize) -> Span {
        self.source.fit(Span::new(self.at, self.at + length))
    }

    /// From here to the end of the line.
    fn rest(&self) -> &'a str {
        let line = self.line();
        line.text.get(self.at - line.start..).unwrap_or_default().trim_end()
    }

    fn error(&self, message: impl Into<String>, span: Span) -> Diagnostic {
        Diagnostic::error(message).at(self.source, span)
    }

    /// The error of something at the rest of the line.
    fn rest_is(&self, message: impl Into<String>) -> Diagnostic {
        self.error(message, self.here(self.rest().len().max(1)))
    }
}

/// Says what is wrong.
pub(crate) fn diagnose(source: &Source, error: &ScanError, limits: Limits) -> Diagnostic {
    let text = source.text();
    let place = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
    let at = At { source, at: source.fit(Span::new(place, place)).start };
    let known =
        conflict(&at).or_else(|| page(&at)).or_else(|| odd::near(&at, limits)).or_else(|| bang::begins(&at));
    if let Some(fault) = known {
        return fault;
    }
    match error.kind() {
        ErrorKind::TabNotAllowed
        | ErrorKind::TabInBlockIndentation
        | ErrorKind::TabInIndentation
        | ErrorKind::TabInPlainScalar
        | ErrorKind::TabAtBlockScalarStart => tab(source, at.at),
        ErrorKind::UnexpectedCharacter { character } => character_at(&at, *character),
        ErrorKind::UnknownAnchor => unknown_anchor(&at),
        ErrorKind::MissingAnchorOrAliasName => begins_with(&at),
        ErrorKind::UnclosedQuotedScalar | ErrorKind::DocumentIndicatorInQuotedScalar => {
            quotes::unclosed_quote(&at)
        }
        ErrorKind::InvalidTrailingSingleQuotedScalar | ErrorKind::InvalidTrailingDoubleQuotedScalar => {
            quotes::after_quote(&at)
        }
        ErrorKind::UnknownQuotedScalarEscape
        | ErrorKind::InvalidQuotedScalarHexEscape
        | ErrorKind::InvalidLowSurrogateHexEscape
        | ErrorKind::InvalidLowSurrogate
        | ErrorKind::MissingLowSurrogate => quotes::escape(&at),
        ErrorKind::MappingValueNotAllowed => second_colon(&at),
        ErrorKind::InvalidColonPlacement => flow::illegal_key(&at),
        ErrorKind::SimpleKeyExpected | ErrorKind::InvalidSimpleKey => no_colon(&at),
        ErrorKind::ExpectedBlockMappingKey | ErrorKind::InvalidIndentation => {
            odd::indentation(&at, limits).unwrap_or_else(|| indentation(&at))
        }
        ErrorKind::ExpectedBlockSequenceEntry => among_items(&at),
        ErrorKind::ExpectedFlowMappingSeparator | ErrorKind::ExpectedFlowSequenceSeparator => {
            flow::separator(&at)
        }
        ErrorKind::MismatchedFlowCollectionEnd { open, close } => flow::mismatch(&at, *open, *close),
        ErrorKind::MisplacedFlowCollectionEnd => flow::misplaced(&at),
        ErrorKind::UnclosedFlowCollection { .. } => flow::unclosed(&at, at.at, None),
        ErrorKind::BlockEntryInFlowCollection => flow::open_above(&at).unwrap_or_else(|| {
            at.error("`- ` stands in brackets", at.here(1))
                .label("entries in brackets have a comma between them")
                .help("write `[a, b]`, or close the brackets before")
        }),
        ErrorKind::BlockSequenceEntryNotAllowed => at
            .rest_is("a list cannot begin on the line of its key")
            .label("this begins a list")
            .help("begin it on the next line, or put text that begins with `- ` in quotes"),
        ErrorKind::CommentNotSeparated => at
            .rest_is("a space is missing before `#`")
            .label("a comment begins after a space")
            .help("write a space before it, or put the `#` inside of the quotes"),
        ErrorKind::InvalidBlockScalarHeader | ErrorKind::ZeroBlockScalarIndent => at
            .rest_is("only `+`, `-` and a digit from 1 on can stand after `|` or `>`")
            .label("a block of text begins on the next line")
            .help(format!("begin the text on the next line, or {}", in_quotes(at.rest()))),
        ErrorKind::InvalidBlockScalarIndent => at
            .rest_is("this line is indented less than a blank line above it")
            .label("the first line of a block")
            .help("remove the spaces of the blank lines above"),
        ErrorKind::BomInsideDocument => at
            .error("a byte order mark stands inside of the file", at.here(3))
            .label("here, though nothing is to be seen")
            .help("remove it: two files were probably put together"),
        ErrorKind::RecursionLimitExceeded => at
            .error(
                format!("the document has more than {} levels, aliases written out", limits.depth),
                at.here(1),
            )
            .label("here")
            .help("make it smaller"),
        ErrorKind::DirectiveDisallowed
        | ErrorKind::ExpectedDocumentStart
        | ErrorKind::MissingDirectiveName
        | ErrorKind::InvalidDirectiveName => directive(&at),
        ErrorKind::UnexpectedEofBlockMapping if text[at.at..].starts_with(',') => begins_with(&at),
        ErrorKind::CommentInterceptedScalar => slips::comment(&at),
        ErrorKind::MappingKeyNotAllowed => begins_with(&at),
        ErrorKind::UnexpectedEofImplicitFlowMapping if text[at.at..].starts_with(',') => at
            .error("a `,` stands where a value has to be", at.here(1))
            .label("one too many")
            .help("remove it, or put text with a `,` in quotes"),
        ErrorKind::ExpectedNodeContent if at.rest().starts_with([',', ']', '}']) => begins_with(&at),
        _ => at
            .error(format!("this is not YAML: {}", error.info()), at.here(1))
            .label("the parser stopped here"),
    }
}

fn conflict(at: &At<'_>) -> Option<Diagnostic> {
    let line = at.line();
    let markers = ["<<<<<<< ", ">>>>>>> ", "======="];
    let is_marker = |line: &Line<'_>| markers.iter().any(|marker| line.text.starts_with(marker));
    let first = std::iter::once(line).chain(line.before(at.text()).take(200)).find(is_marker)?;
    Some(
        at.error("a merge conflict is not resolved", first.span())
            .label("git wrote this line")
            .help("keep one of the two sides, and remove the lines with `<<<<<<<`, `=======` and `>>>>>>>`"),
    )
}

/// A page of a server in place of a file.
fn page(at: &At<'_>) -> Option<Diagnostic> {
    let text = at.text().trim_start_matches('\u{feff}').trim_start();
    if !text.starts_with('<') || text.starts_with("<<") {
        return None;
    }
    let start = at.text().len() - text.len();
    let fault = at
        .error("this is HTML or XML, not YAML", Span::new(start, start + 1))
        .label("a `<` begins it")
        .help("it is perhaps the page about a file, and not the file");
    Some(fault)
}

/// A tab in the indentation of the line of a place, on a character boundary.
pub(crate) fn tab(source: &Source, at: usize) -> Diagnostic {
    let at = At { source, at };
    // a value that seems to go on is told where it began: the tab is in front of a line below
    let line = at.line().onward(at.text()).find(|line| line.blank().contains('\t')).unwrap_or(at.line());
    let span = match line.blank().find('\t') {
        Some(first) => {
            let count = line.text[first..].chars().take_while(|c| *c == '\t').count();
            Span::new(line.start + first, line.start + first + count)
        }
        None => at.here(1),
    };
    at.error("a tab stands in the indentation", span)
        .label("YAML takes only spaces here")
        .help("write spaces for it, two for each level")
}

fn character_at(at: &At<'_>, character: char) -> Diagnostic {
    if character.is_control() {
        let start = at.text()[at.at..].find(character).map_or(at.at, |found| at.at + found);
        return at
            .error(
                format!("the file holds the control character U+{:04X}", u32::from(character)),
                Span::new(start, start + character.len_utf8()),
            )
            .label("here, though nothing is to be seen")
            .help("remove it, or write it as an escape in double quotes");
    }
    begins_with(at)
}

/// A value that begins with what it cannot begin with.
fn begins_with(at: &At<'_>) -> Diagnostic {
    let rest = at.rest();
    let first = rest.chars().next().unwrap_or(' ');
    let value = match at.line().text.contains(['[', '{']) {
        true => rest.split([',', ']', '}']).next().unwrap_or_default().trim_end(),
        false => rest,
    };
    let value = if value.is_empty() { &rest[..first.len_utf8().min(rest.len())] } else { value };
    let what = if first == '`' { "a backtick".to_owned() } else { format!("`{first}`") };
    at.error(format!("a value cannot begin with {what}"), at.here(value.len().max(1)))
        .label(match first {
            '*' => "`*` begins the name of a value elsewhere",
            '&' => "`&` begins a name for the value",
            _ => "this has a meaning of its own in YAML",
        })
        .help(in_quotes(value))
}

fn unknown_anchor(at: &At<'_>) -> Diagnostic {
    let text = at.text();
    let rest = at.rest();
    let end = rest.find(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}')).unwrap_or(rest.len());
    let written = &rest[..end];
    let name = written.strip_prefix('*').unwrap_or(written);
    let fault = at
        .error(format!("`{written}` names no value"), at.here(end))
        .label("no anchor of this name stands before");
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'));
    if !plain {
        return fault.help(in_quotes(written));
    }
    let anchors: Vec<&str> = text[..at.at]
        .match_indices('&')
        .map(|(found, _)| &text[found + 1..])
        .map(|rest| {
            &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(rest.len())]
        })
        .filter(|name| !name.is_empty())
        .take(1000)
        .collect();
    match did_you_mean(name, anchors) {
        Some(near) => fault.help(format!("did you mean `*{near}`?")),
        None => fault
            .help("text that begins with `*` must be quoted")
            .help(format!("a value gets a name by `&{name}` in front of it, above")),
    }
}

/// A word on a line of its own where a key has to be.
fn no_colon(at: &At<'_>) -> Diagnostic {
    const LONGEST_KEY: usize = 1024; // YAML's own limit
    let line = at.line();
    let (_, entry) = line.entry();
    if entry.len() > LONGEST_KEY {
        return at
            .error(format!("a key has at most {LONGEST_KEY} characters"), at.here(20))
            .label("it begins here")
            .help("a `: ` is probably missing");
    }
    missing_colon(at, line)
}

/// A line that should be a key and its value.
fn missing_colon(at: &At<'_>, line: Line<'_>) -> Diagnostic {
    let block = slips::block_at_key(at, line).or_else(|| slips::here_document(at, line));
    if let Some(fault) = block.or_else(|| slips::dash(at, line)) {
        return fault;
    }
    let (start, entry) = line.entry();
    let span = Span::new(start, start + entry.len());
    let colon = entry.split_once(':').filter(|(key, value)| {
        !key.is_empty() && !key.contains(' ') && !value.is_empty() && !value.starts_with(['/', ' '])
    });
    if let Some((key, value)) = colon {
        return at
            .error(format!("a space is missing after `{key}:`"), Span::new(start, start + key.len() + 1))
            .label("without it this is text")
            .help(format!("write `{key}: {value}`"));
    }
    let (word, value) = entry.split_once(' ').unwrap_or((entry, ""));
    if word.ends_with(':') {
        // this one is a key: the line above is none, and its value seemed to go on
        let before = line.before(at.text()).next().filter(|before| before.key().is_none());
        return match before {
            Some(before) => missing_colon(at, before),
            None => at.error("a key cannot stand here", span).label("here").help("look at the line above"),
        };
    }
    let span = if value.is_empty() { span } else { Span::new(start, start + word.len()) };
    let fault = at.error(format!("a `:` is missing after `{word}`"), span).label("this should be a key");
    match value {
        "" => fault.help(format!("write `{word}:`")),
        value => fault.help(format!("write `{word}: {value}`")),
    }
}

/// `: ` where a value has begun.
fn second_colon(at: &At<'_>) -> Diagnostic {
    let line = at.line();
    let (start, entry) = line.entry();
    let here = at.at.saturating_sub(start);
    // `key: a value: b`
    if let Some((key, value)) = entry.split_once(": ").filter(|(key, _)| key.len() < here) {
        if let Some(lines) = slips::keys_of_one_line(key, value) {
            return at
                .error("a map begins on the line of its key", at.here(1))
                .label("this is a second key on one line")
                .help(lines);
        }
        return at
            .error("`: ` stands in a value without quotes", at.here(1))
            .label("YAML takes this as a second key")
            .help(match quoted(value) {
                Some(quoted) => format!("put the value in quotes: `{key}: {quoted}`"),
                None => "write the value below `|` on lines of its own".to_owned(),
            });
    }
    let Some(before) = line.before(at.text()).next() else {
        return at.error("a `:` cannot stand here", at.here(1)).label("here").help("put the text in quotes");
    };
    if before.blank().contains('\t') {
        return tab(at.source, before.start);
    }
    // a line without a `:`, whose value over several lines seemed to go on up to here
    let begins = line.before(at.text()).find(|above| above.indent() <= line.indent());
    if let Some(begins) = begins.filter(|begins| begins.key().is_none() && !begins.is_item()) {
        return missing_colon(at, begins);
    }
    match before.key() {
        // `key: value` and, further in, another key
        Some((_, value)) if !value.is_empty() && line.indent() > before.indent() => {
            slips::too_far(at, before, line)
        }
        None if !before.is_item() || before.entry().1.contains(' ') || before.entry().1.contains(':') => {
            missing_colon(at, before)
        }
        _ => at.error("a key cannot stand here", line.span()).label("here").help("look at the line above"),
    }
}

/// How far in the key of a line is, `- ` included.
fn column(line: &Line<'_>) -> usize {
    line.entry().0 - line.start
}

/// A line whose indentation fits nothing that is open.
fn indentation(at: &At<'_>) -> Diagnostic {
    let line = at.line();
    let text = at.text();
    let indent = line.indent();
    let before = line.before(text).next();
    if let Some(fault) = slips::after_brackets(at) {
        return fault;
    }
    if let Some(before) = before.filter(|before| before.indent() == indent)
        && let Some(fault) = slips::dash(at, before)
    {
        return fault;
    }
    // a block of text that this line falls out of
    if let Some(before) = before.filter(|before| before.indent() > indent) {
        let header = line.before(text).find(|line| line.indent() < indent);
        if let Some(header) = header.filter(Line::begins_block) {
            return at
                .error("this line is indented less than the text of the block above", line.span())
                .label(spaces(indent))
                .also(at.source, header.span(), "the block begins here")
                .help(indent_to(before.indent()));
        }
    }
    // the levels that are open here, the innermost first
    let mut levels: Vec<usize> = Vec::new();
    let mut innermost = usize::MAX;
    for line in line.before(text) {
        for level in [column(&line), line.indent()] {
            if level < innermost {
                innermost = level;
                levels.push(level);
            }
        }
        if innermost == 0 {
            break;
        }
    }
    if line.is_item() {
        if let Some(fault) = slips::lost_dash(at, line) {
            return fault;
        }
        let sibling = line.before(text).find(Line::is_item);
        let near = sibling.filter(|sibling| sibling.indent() != indent);
        if let Some(sibling) = near {
            let how = if sibling.indent() < indent { "further" } else { "less" };
            return at
                .error(format!("this `- ` is indented {how} than the one above"), line.span())
                .label(spaces(indent))
                .also(at.source, sibling.span(), spaces(sibling.indent()))
                .help(indent_to(sibling.indent()));
        }
        return at
            .error("an entry of a list stands among keys", line.span())
            .label("the lines above are keys and values")
            .help("put it below a key, or remove the `- `");
    }
    if levels.contains(&indent) || levels.is_empty() {
        return missing_colon(at, line);
    }
    if let Some(fault) = slips::first_further(at, line) {
        return fault;
    }
    levels.sort_unstable();
    let near = levels.iter().min_by_key(|level| level.abs_diff(indent)).copied().unwrap_or_default();
    let all: Vec<_> = levels.iter().map(ToString::to_string).collect();
    at.error("the indentation fits nothing above", line.span())
        .label(format!("{}; above are {}", spaces(indent), all.join(", ")))
        .help(indent_to(near))
}

/// A key among the entries of a list.
fn among_items(at: &At<'_>) -> Diagnostic {
    let line = at.line();
    if let Some(fault) = slips::dash(at, line) {
        return fault;
    }
    let sibling = line.before(at.text()).find(Line::is_item);
    let fault = at.error("a key stands among the entries of a list", line.span()).label("no `- ` in front");
    if let Some(fault) = sibling.and_then(|sibling| slips::first_entry(at, sibling, line)) {
        return fault;
    }
    let Some(sibling) = sibling else { return fault.help("begin it with `- `") };
    fault
        .also(at.source, sibling.span(), "an entry of the list")
        .help(format!("indent it by {} to make it part of the entry above", spaces(column(&sibling))))
        .help("begin it with `- ` to make an entry of it")
}

fn directive(at: &At<'_>) -> Diagnostic {
    let line = at.line();
    let percent = std::iter::once(line).chain(line.before(at.text())).find(|line| line.text.starts_with('%'));
    if let Some(percent) = percent {
        return at
            .error("a line that begins with `%` is a directive of YAML", percent.span())
            .label("this one is not known")
            .help("remove it, or put the text in quotes");
    }
    let says = |line: &Line<'_>| !line.trimmed().is_empty() && !line.trimmed().starts_with(['#', '\u{feff}']);
    let first = Line::at(at.text(), 0).onward(at.text()).find(says).unwrap_or(line);
    if first.indent() > line.indent() {
        return at
            .error("the first line is indented further than one below it", first.span())
            .label(spaces(first.indent()))
            .also(at.source, line.span(), spaces(line.indent()))
            .help(indent_to(line.indent()));
    }
    at.rest_is("what the file holds has ended before this")
        .label("nothing can stand behind it")
        .help("put text with quotes or brackets in it in quotes")
}
