//! YAML into the tree.
//!
//! Purpose: events of the YAML parser, with anchors, aliases and merge keys resolved under a budget.
//! Owner: [`parse_yaml`]'s call. Invariants: one document; unique keys; no tag but the core schema's;
//! the tree is never deeper or larger than [`Limits`], aliases counted as copies, so that every walk
//! over it may recurse.

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, Tag};

use crate::{
    Diagnostic, Entry, Error, Kind, Limits, Map, Node, Scalar, Source, Span, Spanned, Style, alike, blank,
    diagnose::{bang, diagnose, quote, tab},
    keys::Keys,
};

/// Parses one YAML document under the default limits. An empty one is a null scalar.
///
/// # Errors
/// The first fault of the syntax, or a limit that was passed.
pub fn parse_yaml(source: &Source) -> Result<Node, Error> {
    parse_yaml_with(source, Limits::default())
}

/// Parses one YAML document under these limits.
///
/// # Errors
/// As [`parse_yaml`].
pub fn parse_yaml_with(source: &Source, limits: Limits) -> Result<Node, Error> {
    limits.check_bytes(source.name(), source.text().len())?;
    if let Some(at) = source.text().find('\0') {
        return Err(Diagnostic::error("the file holds a NUL byte")
            .at(source, Span::new(at, at + 1))
            .label("here")
            .help("save the file as plain text, in UTF-8")
            .into());
    }
    let mut builder = Builder::new(source, limits);
    for item in Parser::new_from_str_with_options(source.text(), options(limits)) {
        let (event, span) = item.map_err(|error| builder.stop(diagnose(source, &error, limits)))?;
        let at = span.byte_range().map_or_else(Span::default, |range| Span::new(range.start, range.end));
        builder.event(event, at)?;
    }
    let root = builder.finish()?;
    match blank::all(source, &root) {
        odd if odd.is_empty() => Ok(root),
        odd => Err(Error { diagnostics: odd, first_of_each: None }),
    }
}

fn options(limits: Limits) -> Options {
    let mut options = Options::default();
    options.emit_comments = false;
    // One more than ours, so that the message is ours.
    options.flow_nesting_limit = limits.depth + 1;
    options.block_nesting_limit = limits.depth + 1;
    options
}

/// Where the parser stops in a text that is not YAML.
pub(crate) fn stops(text: &str, limits: Limits) -> Option<usize> {
    let error = Parser::new_from_str_with_options(text, options(limits)).find_map(Result::err)?;
    Some(error.marker().byte_offset().unwrap_or(text.len()))
}

/// What a tree costs.
#[derive(Clone, Copy, Default)]
struct Weight {
    nodes: usize,
    bytes: usize,
    depth: usize,
}

/// A collection whose end has not come.
struct Open {
    anchor: usize,
    start: Span,
    weight: Weight,
    kind: OpenKind,
}

enum OpenKind {
    Seq(Vec<Node>),
    Map { entries: Vec<Entry>, keys: Keys, key: Option<Key>, merges: Vec<Node> },
}

/// A key whose value has not come.
enum Key {
    Named(Spanned<String>),
    /// `<<`
    Merge,
    /// One with a fault: its value is read and left out.
    Faulty,
}

struct Builder<'a> {
    source: &'a Source,
    limits: Limits,
    stack: Vec<Open>,
    anchors: HashMap<usize, (Node, Weight)>,
    /// Everything built so far, copies kept for anchors included.
    spent: Weight,
    root: Option<Node>,
    documents: usize,
    /// What is wrong though it can be read on.
    faults: Vec<Diagnostic>,
    /// How many of them are keys that are there twice.
    twice: usize,
}

/// Most faults of one document that are told.
const MAX_FAULTS: usize = 100;

impl<'a> Builder<'a> {
    fn new(source: &'a Source, limits: Limits) -> Builder<'a> {
        Builder {
            source,
            limits,
            stack: Vec::new(),
            anchors: HashMap::new(),
            spent: Weight::default(),
            root: None,
            documents: 0,
            faults: Vec::new(),
            twice: 0,
        }
    }

    fn event(&mut self, event: Event<'_>, at: Span) -> Result<(), Error> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    let fault = Diagnostic::error("a second document in one file")
                        .at(self.source, at)
                        .label("it begins here")
                        .help("remove `---` or `...` and what follows, or make two files of it");
                    return Err(self.stop(fault));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), at);
                let style = match style {
                    ScalarStyle::Plain => Style::Plain,
                    ScalarStyle::SingleQuoted => Style::SingleQuoted,
                    ScalarStyle::DoubleQuoted => Style::DoubleQuoted,
                    ScalarStyle::Literal => Style::Literal,
                    ScalarStyle::Folded => Style::Folded,
                };
                // The parser says `~` where nothing is written.
                let absent = style == Style::Plain && at.start == at.end;
                let text = if absent { String::new() } else { text.into_owned() };
                let mut scalar = Scalar::yaml(text, style);
                if tag.is_some_and(|tag| tag.is_yaml_core_schema_tag("str")) {
                    scalar.typed = crate::Typed::Text;
                }
                self.check_entry(at);
                let weight = Weight { nodes: 1, bytes: scalar.text.len(), depth: 1 };
                self.charge(weight, at)?;
                self.complete(Node { span: at, kind: Kind::Scalar(scalar) }, weight, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), at);
                self.open(anchor, at, OpenKind::Seq(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), at);
                let kind = OpenKind::Map {
                    entries: Vec::new(),
                    keys: Keys::default(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open(anchor, at, kind)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at)?,
            Event::Alias(id) => {
                self.check_entry(at);
                let Some((node, weight)) = self.anchors.get(&id).cloned() else {
                    return Err(self.fail(
                        at,
                        "an alias inside of what it names",
                        "a value cannot contain itself: write it out",
                    ));
                };
                self.charge(weight, at)?;
                self.complete(node, weight, 0)?;
            }
            _ => {}
        }
        Ok(())
    }

    fn open(&mut self, anchor: usize, start: Span, kind: OpenKind) -> Result<(), Error> {
        self.check_indentation(start);
        self.check_entry(start);
        let weight = Weight { nodes: 1, bytes: 0, depth: 1 };
        self.stack.push(Open { anchor, start, weight, kind });
        self.charge(weight, start)
    }

    fn close(&mut self, end: Span) -> Result<(), Error> {
        let Some(open) = self.stack.pop() else { return Ok(()) };
        let (kind, inner) = match open.kind {
            OpenKind::Seq(items) => {
                let inner = items.first().zip(items.last()).map(|(a, b)| a.span.to(b.span));
                (Kind::Seq(items), inner)
            }
            OpenKind::Map { mut entries, keys, merges, .. } => {
                let inner = entries.first().zip(entries.last()).map(|(a, b)| a.key.span.to(b.value.span));
                // A key of the map itself wins over a merged one, an earlier merged map over a later.
                let mut keys = keys;
                for merged in merges {
                    let Kind::Map(map) = merged.kind else { continue };
                    for entry in map.entries {
                        if keys.find(&entries, &entry.key.value).is_none() {
                            entries.push(entry);
                            keys.note(&entries);
                        }
                    }
                }
                (Kind::Map(Map { entries }), inner)
            }
        };
        // In flow style the brackets are part of it; in block style the end event stands further down.
        let flow = matches!(self.source.slice(open.start).as_bytes().first(), Some(b'[' | b'{'));
        let span = match inner {
            _ if flow => open.start.to(end),
            Some(inner) => inner,
            None => open.start,
        };
        self.complete(Node { span, kind }, open.weight, open.anchor)
    }

    /// Puts a finished node where it belongs.
    fn complete(&mut self, node: Node, weight: Weight, anchor: usize) -> Result<(), Error> {
        if anchor != 0 {
            self.charge(weight, node.span)?;
            self.anchors.insert(anchor, (node.clone(), weight));
        }
        let source = self.source;
        let Some(open) = self.stack.last_mut() else {
            self.root = Some(node);
            return Ok(());
        };
        open.weight.nodes += weight.nodes;
        open.weight.bytes += weight.bytes;
        open.weight.depth = open.weight.depth.max(weight.depth + 1);
        match &mut open.kind {
            OpenKind::Seq(items) => items.push(node),
            OpenKind::Map { entries, keys, key, merges } => match key.take() {
                None => match as_key(source, node, keys, entries) {
                    Ok(name) => *key = Some(name),
                    Err(NoKey { fault, twice }) => {
                        *key = Some(Key::Faulty);
                        self.fault(*fault);
                        self.twice += usize::from(twice);
                    }
                },
                Some(Key::Merge) => match as_merge(source, node) {
                    Ok(maps) => merges.extend(maps),
                    Err(fault) => self.fault(*fault),
                },
                Some(Key::Faulty) => {}
                Some(Key::Named(name)) => {
                    entries.push(Entry { key: name, value: node });
                    keys.note(entries);
                }
            },
        }
        Ok(())
    }

    /// Notes what is wrong and does not end the reading.
    fn fault(&mut self, fault: Diagnostic) {
        if self.faults.len() < MAX_FAULTS {
            self.faults.push(fault);
        }
    }

    /// The error of what ends the reading, behind what was wrong before.
    fn stop(&mut self, fault: Diagnostic) -> Error {
        let mut diagnostics = std::mem::take(&mut self.faults);
        // where the reading stops behind a tag that should have been text, the tag is why
        let same = diagnostics.last().is_some_and(|last| {
            let starts = |fault: &Diagnostic| fault.primary.as_ref().map(|label| label.span.start);
            let (Some(from), Some(to)) = (starts(last), starts(&fault)) else { return false };
            last.message.ends_with(bang::IS_A_TAG)
                && self.source.slice(Span::new(from, to)).lines().count() == 1
        });
        if !same {
            diagnostics.push(fault);
        }
        Error { diagnostics, first_of_each: None }
    }

    fn charge(&mut self, weight: Weight, at: Span) -> Result<(), Error> {
        self.spent.nodes += weight.nodes;
        self.spent.bytes += weight.bytes;
        let below = self.stack.len() + weight.depth.saturating_sub(1);
        let what = if self.spent.nodes > self.limits.nodes {
            format!("more than {} values", self.limits.nodes)
        } else if self.spent.bytes > self.limits.expanded {
            format!("more than {} bytes of text", self.limits.expanded)
        } else if below > self.limits.depth {
            format!("more than {} levels", self.limits.depth)
        } else {
            return Ok(());
        };
        Err(self.fail(at, &format!("the document has {what}, aliases written out"), "make it smaller"))
    }

    /// The parser counts a tab in front of the first key or entry as a space, which YAML and servers do not.
    fn check_indentation(&mut self, start: Span) {
        let text = self.source.text();
        let blank = text[..start.start].trim_end_matches([' ', '\t']);
        let begins_line = blank.is_empty() || blank.ends_with('\n');
        let block = !text[start.start..].starts_with(['[', '{']);
        if block && begins_line && text[blank.len()..start.start].contains('\t') {
            self.fault(tab(self.source, start.start));
        }
    }

    fn check_tag(&mut self, tag: Option<&Tag>, at: Span) {
        if tag.is_some_and(Tag::is_custom) {
            self.fault(bang::tag(self.source, at));
        }
    }

    /// The parser takes a tab behind the `- ` of an entry, which other parsers do not, those of servers among them.
    fn check_entry(&mut self, start: Span) {
        const BLANK: [char; 4] = [' ', '\t', '\n', '\r'];
        if !matches!(self.stack.last(), Some(Open { kind: OpenKind::Seq(_), .. })) {
            return;
        }
        let text = self.source.text();
        let mut before = &text[..start.start];
        loop {
            let blank = before.trim_end_matches(BLANK).len();
            let line = before[blank..].find('\n').map_or(before.len(), |at| blank + at);
            if before[..blank].ends_with('-') && before[blank..line].contains('\t') {
                let tab = blank + before[blank..line].find('\t').unwrap_or_default();
                let fault = Diagnostic::error("a tab stands behind the `-` of an entry")
                    .at(self.source, Span::new(tab, tab + 1))
                    .label("servers take only spaces here")
                    .help("write a space for it");
                self.fault(fault);
                return;
            }
            // in brackets nothing else can stand there, and a word would be looked for from the start of the line
            if before[..blank].ends_with([',', '[']) {
                return;
            }
            // what names the entry or says its kind stands in front of it
            let word = before[..blank].rfind(BLANK).map_or(0, |at| at + 1);
            if blank == word || !before[word..blank].starts_with(['&', '!']) {
                return;
            }
            before = &before[..word];
        }
    }

    fn fail(&mut self, at: Span, message: &str, help: &str) -> Error {
        let fault = Diagnostic::error(message).at(self.source, at).label("here").help(help);
        self.stop(fault)
    }

    fn finish(self) -> Result<Node, Error> {
        if !self.faults.is_empty() {
            // where there were too many to keep, others may have been among them
            let only_twice = self.faults.len() == self.twice && self.twice < MAX_FAULTS;
            let first_of_each = self.root.filter(|_| only_twice).map(Box::new);
            return Err(Error { diagnostics: self.faults, first_of_each });
        }
        Ok(self.root.unwrap_or_else(|| Node {
            span: Span::default(),
            kind: Kind::Scalar(Scalar::yaml(String::new(), Style::Plain)),
        }))
    }
}

/// Why a node can be no key.
struct NoKey {
    fault: Box<Diagnostic>,
    /// The map has it already.
    twice: bool,
}

fn as_key(source: &Source, node: Node, keys: &Keys, entries: &[Entry]) -> Result<Key, NoKey> {
    let Kind::Scalar(scalar) = node.kind else {
        return Err(NoKey { fault: Box::new(no_key(source, &node)), twice: false });
    };
    if let Some(first) = keys.find(entries, &scalar.text) {
        if let Some(fault) = alike::look_alike(source, first.key.span) {
            return Err(NoKey { fault: Box::new(fault), twice: false });
        }
        let fault = Diagnostic::error(format!("the key `{}` is there twice", scalar.text))
            .at(source, node.span)
            .label("again here")
            .also(source, first.key.span, "first here")
            .help("join the two or remove one");
        return Err(NoKey { fault: Box::new(fault), twice: true });
    }
    if scalar.text == "<<" && scalar.style == Style::Plain {
        return Ok(Key::Merge);
    }
    Ok(Key::Named(Spanned::new(scalar.text, node.span)))
}

/// A list or a map where a key has to be.
fn no_key(source: &Source, node: &Node) -> Diagnostic {
    let text = source.text();
    let braces = text[..node.span.start].ends_with('{') && source.slice(node.span).starts_with('{');
    if braces {
        let start = node.span.start - 1;
        let end = text[node.span.end..].find('}').map_or(node.span.end, |end| node.span.end + end + 1);
        let written = source.slice(Span::new(start, end));
        return Diagnostic::error("`{{` begins a map within a map here")
            .at(source, Span::new(start, end))
            .label("braces are maps of YAML")
            .help(match written.len() > 80 {
                true => "put it in quotes, with a `$` in front for an expression".to_owned(),
                false => format!(
                    "write `{}` for an expression, `{}` for text",
                    quote(&format!("${written}")),
                    quote(written)
                ),
            });
    }
    Diagnostic::error("a key must be one word or text")
        .at(source, node.span)
        .label(format!("this is {}", node.describe()))
        .help("put text that begins with `{` or `[` in quotes")
}

/// What `<<:` may hold: a map or a list of maps.
fn as_merge(source: &Source, node: Node) -> Result<Vec<Node>, Box<Diagnostic>> {
    let span = node.span;
    let maps = match node.kind {
        Kind::Map(_) => vec![node],
        Kind::Seq(items) => items,
        Kind::Scalar(_) => Vec::new(),
    };
    if maps.is_empty() || maps.iter().any(|node| node.map().is_none()) {
        let fault = Diagnostic::error("`<<` merges maps")
            .at(source, span)
            .label("this is neither a map nor a list of maps")
            .help("write `<<: *name`, where `&name` stands before a map");
        return Err(Box::new(fault));
    }
    Ok(maps)
}
