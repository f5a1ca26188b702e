//! YAML into the tree.
//!
//! Purpose: events of the YAML parser, with anchors, aliases and merge keys resolved under a budget.
//! Owner: [`parse_yaml`]'s call. Invariants: one document; unique keys; no tag but the core schema's;
//! the tree is never deeper or larger than [`Limits`], aliases counted as copies, so that every walk
//! over it may recurse.

use std::collections::HashMap;

use granit_parser::{Event, Options, Parser, ScalarStyle, ScanError, Tag};

use crate::{Diagnostic, Entry, Error, Kind, Limits, Map, Node, Scalar, Source, Span, Spanned, Style};

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
    let mut options = Options::default();
    options.emit_comments = false;
    // One more than ours, so that the message is ours.
    options.flow_nesting_limit = limits.depth + 1;
    options.block_nesting_limit = limits.depth + 1;
    for item in Parser::new_from_str_with_options(source.text(), options) {
        let (event, span) = item.map_err(|error| builder.syntax(&error))?;
        let at = span.byte_range().map_or_else(Span::default, |range| Span::new(range.start, range.end));
        builder.event(event, at)?;
    }
    builder.finish()
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
    Map { entries: Vec<Entry>, keys: HashMap<String, Span>, key: Option<Spanned<String>>, merges: Vec<Node> },
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
}

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
        }
    }

    fn event(&mut self, event: Event<'_>, at: Span) -> Result<(), Error> {
        match event {
            Event::DocumentStart(..) => {
                self.documents += 1;
                if self.documents > 1 {
                    return Err(self.fail(
                        at,
                        "a second document in one file",
                        "remove `---` and what follows",
                    ));
                }
            }
            Event::Scalar(text, style, anchor, tag) => {
                self.check_tag(tag.as_deref(), at)?;
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
                let weight = Weight { nodes: 1, bytes: scalar.text.len(), depth: 1 };
                self.charge(weight, at)?;
                self.complete(Node { span: at, kind: Kind::Scalar(scalar) }, weight, anchor)?;
            }
            Event::SequenceStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), at)?;
                self.open(anchor, at, OpenKind::Seq(Vec::new()))?;
            }
            Event::MappingStart(_, anchor, tag) => {
                self.check_tag(tag.as_deref(), at)?;
                let kind = OpenKind::Map {
                    entries: Vec::new(),
                    keys: HashMap::new(),
                    key: None,
                    merges: Vec::new(),
                };
                self.open(anchor, at, kind)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close(at)?,
            Event::Alias(id) => {
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
                let mut seen = keys;
                for merged in merges {
                    let Kind::Map(map) = merged.kind else { continue };
                    for entry in map.entries {
                        if !seen.contains_key(&entry.key.value) {
                            seen.insert(entry.key.value.clone(), entry.key.span);
                            entries.push(entry);
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
                None => *key = Some(as_key(source, node, keys)?),
                Some(name) if name.value == "<<" && source.slice(name.span) == "<<" => {
                    merges.extend(as_merge(source, node)?);
                }
                Some(name) => {
                    keys.insert(name.value.clone(), name.span);
                    entries.push(Entry { key: name, value: node });
                }
            },
        }
        Ok(())
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

    fn check_tag(&self, tag: Option<&Tag>, at: Span) -> Result<(), Error> {
        let Some(tag) =
            tag.filter(|tag| tag.is_custom() && !(tag.handle().is_empty() && tag.suffix() == "!"))
        else {
            return Ok(());
        };
        let before = self.source.text().get(..at.start).unwrap_or("");
        let start = before.rfind('!').filter(|start| !before[*start..].contains('\n')).unwrap_or(at.start);
        let written = self.source.slice(Span::new(start, at.end)).trim();
        Err(Diagnostic::error(format!("`!{}` is a YAML tag here", tag.suffix()))
            .at(self.source, Span::new(start, at.end.max(start + 1)))
            .label("a value that begins with `!` must be quoted")
            .help(format!("write `${{{{ {written} }}}}` or put the value in quotes"))
            .into())
    }

    fn fail(&self, at: Span, message: &str, help: &str) -> Error {
        Diagnostic::error(message).at(self.source, at).label("here").help(help).into()
    }

    /// The YAML parser's own complaint, with what people usually did.
    fn syntax(&self, error: &ScanError) -> Error {
        let text = self.source.text();
        let at = error.marker().byte_offset().unwrap_or(text.len()).min(text.len());
        let span = self.source.fit(Span::new(at, at + 1));
        let start = text[..span.start].rfind('\n').map_or(0, |at| at + 1);
        let line = text[start..].lines().next().unwrap_or("");
        let info = error.info();
        if info.contains("unknown anchor") {
            let end = text[at..]
                .find(|c: char| c.is_whitespace() || matches!(c, ',' | ']' | '}'))
                .map_or(text.len(), |end| at + end);
            return Diagnostic::error(format!("`{}` names no value", &text[at..end]))
                .at(self.source, Span::new(at, end))
                .label("no anchor of this name stands before")
                .help("text that begins with `*` must be quoted")
                .into();
        }
        let mut diagnostic = Diagnostic::error(format!("this is not YAML: {info}"))
            .at(self.source, span)
            .label("the parser stopped here");
        let indent = &line[..line.len() - line.trim_start().len()];
        if indent.contains('\t') {
            diagnostic = diagnostic.help("indent with spaces: YAML allows no tabs there");
        } else if let Some((_, value)) = line.split_once(": ")
            && value.contains(": ")
            && !value.trim_start().starts_with(['"', '\'', '{', '['])
        {
            diagnostic = diagnostic.help("put a value that contains `: ` in quotes");
        } else if info.contains("illegal placement") {
            diagnostic = diagnostic.help("look for a `[` or `{` above that is not closed");
        } else if text[..span.start].matches('"').count() % 2 == 1 {
            diagnostic = diagnostic.help("look for a quote that is not closed");
        }
        diagnostic.into()
    }

    fn finish(self) -> Result<Node, Error> {
        Ok(self.root.unwrap_or_else(|| Node {
            span: Span::default(),
            kind: Kind::Scalar(Scalar::yaml(String::new(), Style::Plain)),
        }))
    }
}

fn as_key(source: &Source, node: Node, keys: &HashMap<String, Span>) -> Result<Spanned<String>, Error> {
    let Kind::Scalar(scalar) = node.kind else {
        return Err(Diagnostic::error("a key must be one word or text")
            .at(source, node.span)
            .label("this is a list or a map")
            .help("put text that begins with `{` or `[` in quotes")
            .into());
    };
    if let Some(first) = keys.get(&scalar.text) {
        return Err(Diagnostic::error(format!("the key `{}` is there twice", scalar.text))
            .at(source, node.span)
            .label("again here")
            .also(source, *first, "first here")
            .help("join the two or remove one")
            .into());
    }
    Ok(Spanned::new(scalar.text, node.span))
}

/// What `<<:` may hold: a map or a list of maps.
fn as_merge(source: &Source, node: Node) -> Result<Vec<Node>, Error> {
    let span = node.span;
    let maps = match node.kind {
        Kind::Map(_) => vec![node],
        Kind::Seq(items) => items,
        Kind::Scalar(_) => Vec::new(),
    };
    if maps.is_empty() || maps.iter().any(|node| node.map().is_none()) {
        return Err(Diagnostic::error("`<<` merges maps")
            .at(source, span)
            .label("this is neither a map nor a list of maps")
            .help("write `<<: *name`, where `&name` stands before a map")
            .into());
    }
    Ok(maps)
}
