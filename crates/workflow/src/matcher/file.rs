//! The file of matchers.
//!
//! Purpose: `{"problemMatcher": [...]}` to [`Matcher`]s, with everything that is wrong in its place.
//! Owner: the job, which reads the file in the guest: foreign input, capped.
//!
//! Invariant: JSON is YAML but for comments and tabs, which become blanks first; so places stay what they are.
//! Keys that are not known are those of editors and mean nothing.

use doc::{Diagnostic, Limits, Locator, Map, Node, Source, did_you_mean, parse_yaml_with};

use super::{MAX_MATCHERS, MAX_PATTERNS, Matcher, Part, Pattern, regexp};
use crate::command::Level;

/// Most bytes of a file of matchers.
pub const MAX_FILE: usize = 256 << 10;

/// Most faults that are said of one file.
const MAX_FAULTS: usize = 20;

/// The matchers of a file.
///
/// # Errors
/// Everything that is wrong with it; none of its matchers counts then.
pub fn parse(name: &str, bytes: &[u8]) -> Result<Vec<Matcher>, Vec<Diagnostic>> {
    if bytes.len() > MAX_FILE {
        return Err(vec![Diagnostic::error(format!("`{name}` is larger than {} KiB", MAX_FILE >> 10))]);
    }
    let bytes = bytes.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(bytes);
    let text = Source::from_bytes(name, bytes).map_err(|fault| vec![*fault])?;
    let source = Source::new(name, bare(text.text()));
    let limits = Limits { bytes: MAX_FILE, depth: 16, nodes: 10_000, expanded: MAX_FILE };
    let root = parse_yaml_with(&source, limits).map_err(|error| error.diagnostics)?;
    let mut lowering = Lowering { source: &source, faults: Vec::new() };
    let matchers = lowering.file(&root);
    lowering.faults.truncate(MAX_FAULTS);
    if lowering.faults.is_empty() { Ok(matchers) } else { Err(lowering.faults) }
}

/// The text without comments and tabs, byte for byte as long.
fn bare(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '"' => string(rest),
            '/' if rest.starts_with("//") => {
                blank(&mut out, &mut rest, |rest| rest.find('\n').unwrap_or(rest.len()));
                continue;
            }
            '/' if rest.starts_with("/*") => {
                blank(&mut out, &mut rest, |rest| rest[2..].find("*/").map_or(rest.len(), |end| end + 4));
                continue;
            }
            '\t' => {
                blank(&mut out, &mut rest, |_| 1);
                continue;
            }
            c => c.len_utf8(),
        };
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

/// Replaces what is no line feed by blanks.
fn blank(out: &mut String, rest: &mut &str, length: impl Fn(&str) -> usize) {
    let (gone, behind) = rest.split_at(length(rest));
    out.extend(gone.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }));
    *rest = behind;
}

/// How long the string is that begins here.
fn string(text: &str) -> usize {
    let mut escaped = false;
    for (at, byte) in text.bytes().enumerate().skip(1) {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => return at + 1,
            _ => {}
        }
    }
    text.len()
}

struct Lowering<'a> {
    source: &'a Source,
    faults: Vec<Diagnostic>,
}

impl Lowering<'_> {
    fn fault(&mut self, node: &Node, text: impl Into<String>) {
        self.faults.push(Diagnostic::error(text).at(self.source, node.span));
    }

    fn file(&mut self, root: &Node) -> Vec<Matcher> {
        let list = root.map().and_then(|map| map.get("problemMatcher"));
        let Some(list) = list.and_then(Node::seq) else {
            self.fault(root, "expected `{\"problemMatcher\": [...]}`");
            return Vec::new();
        };
        let mut matchers: Vec<Matcher> = Vec::new();
        for node in list {
            if matchers.len() == MAX_MATCHERS || self.faults.len() >= MAX_FAULTS {
                self.fault(node, format!("a file has at most {MAX_MATCHERS} matchers"));
                break;
            }
            let Some(matcher) = self.matcher(node) else { continue };
            if matchers.iter().any(|known| known.owner.to_lowercase() == matcher.owner.to_lowercase()) {
                self.fault(node, format!("there is already a matcher of the owner `{}`", matcher.owner));
            }
            matchers.push(matcher);
        }
        matchers
    }

    fn matcher(&mut self, node: &Node) -> Option<Matcher> {
        let Some(map) = node.map() else {
            self.fault(node, format!("a matcher is a map, not {}", node.describe()));
            return None;
        };
        let owner = self.text(node, map, "owner").filter(|owner| !owner.trim().is_empty());
        if owner.is_none() {
            self.fault(node, "a matcher needs an `owner`, the name by which it is removed");
        }
        let severity = match self.text(node, map, "severity").filter(|text| !text.is_empty()) {
            Some(text) => {
                let level = Level::of(&text);
                if let (None, Some(value)) = (level, map.get("severity")) {
                    self.fault(value, "`severity` is `error`, `warning` or `notice`");
                }
                level
            }
            None => None,
        };
        let from_path = self.text(node, map, "fromPath").filter(|path| !path.trim().is_empty());
        let list = map.get("pattern").and_then(Node::seq).filter(|list| !list.is_empty());
        let Some(list) = list else {
            self.fault(node, "a matcher needs a `pattern`, a list of maps");
            return None;
        };
        if list.len() > MAX_PATTERNS {
            self.fault(node, format!("a matcher has at most {MAX_PATTERNS} patterns"));
            return None;
        }
        let mut set: [bool; 7] = [false; 7];
        let mut patterns = Vec::new();
        let mut weight = 0;
        for (index, item) in list.iter().enumerate() {
            let Some((pattern, weighs)) = self.pattern(item, &mut set) else { continue };
            weight += weighs;
            if pattern.repeats && (index == 0 || index + 1 < list.len()) {
                self.fault(item, "only the last of several patterns can have `loop`");
            } else if pattern.repeats && pattern.groups[Part::Message as usize].is_none() {
                self.fault(item, "a pattern with `loop` needs a `message`");
            }
            patterns.push(pattern);
        }
        if !set[Part::Message as usize] && patterns.len() == list.len() {
            self.fault(node, "one of the patterns needs a `message`");
        }
        if patterns.len() < list.len() {
            return None;
        }
        Some(Matcher { owner: owner?, severity, from_path, patterns, weight })
    }

    fn pattern(&mut self, node: &Node, set: &mut [bool; 7]) -> Option<(Pattern, usize)> {
        let Some(map) = node.map() else {
            self.fault(node, format!("a pattern is a map, not {}", node.describe()));
            return None;
        };
        let Some(text) = self.text(node, map, "regexp").filter(|text| !text.is_empty()) else {
            let near = map.entries.iter().find(|entry| did_you_mean(&entry.key.value, ["regexp"]).is_some());
            let known = near.filter(|entry| entry.key.value != "regexp");
            let help = known.map(|entry| format!("; did you mean it by `{}`?", entry.key.value));
            self.fault(node, format!("a pattern needs a `regexp`{}", help.unwrap_or_default()));
            return None;
        };
        let (regex, weight) = match regexp::compile(&text) {
            Ok(compiled) => compiled,
            Err(fault) => {
                let value = map.get("regexp")?;
                let span = value.scalar().map_or(value.span, |scalar| {
                    Locator::new(self.source, value.span, scalar).locate(fault.at.start, fault.at.end)
                });
                self.faults.push(Diagnostic::error(fault.what).at(self.source, span));
                return None;
            }
        };
        let repeats = match map.get("loop") {
            None => false,
            Some(value) => match value.scalar().map(|scalar| scalar.typed) {
                Some(doc::Typed::Bool(repeats)) => repeats,
                Some(doc::Typed::Null) => false,
                _ => {
                    self.fault(value, "`loop` is `true` or `false`");
                    false
                }
            },
        };
        let mut groups = [None; 7];
        for part in Part::ALL {
            let Some(value) = map.get(part.key()).filter(|value| !value.is_null()) else { continue };
            let group = value.scalar().and_then(|scalar| scalar.text.parse::<usize>().ok());
            let last = regex.captures_len() - 1;
            match group {
                Some(group) if group <= last => {
                    if std::mem::replace(&mut set[part as usize], true) {
                        self.fault(value, format!("`{}` is set twice", part.key()));
                    }
                    groups[part as usize] = Some(group);
                }
                _ => self.fault(
                    value,
                    format!("`{}` is the number of a group of the `regexp`: 0 to {last}", part.key()),
                ),
            }
        }
        Some((Pattern { regex, groups, repeats }, weight))
    }

    /// The text of a key; a fault where it is something else.
    fn text(&mut self, node: &Node, map: &Map, key: &str) -> Option<String> {
        let value = map.get(key).filter(|value| !value.is_null())?;
        let text = value.scalar().map(|scalar| scalar.text.clone());
        if text.is_none() {
            self.fault(node, format!("`{key}` is a text, not {}", value.describe()));
        }
        text
    }
}
