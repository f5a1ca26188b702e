//! Values of one kind: text, templates, booleans, numbers, words, ids.
//!
//! Purpose: what is asked of a node at many keys, said once. Owner: the lowering.
//! Invariant: a fault says what was expected and what is there.

use std::collections::{HashMap, hash_map};

use doc::{Diagnostic, Entry, Map, Node, Span, Spanned, Style, Typed, did_you_mean};

use super::{
    Dots, Lower, MAX_DIAGNOSTICS, Origin, beside,
    meant::{fallen_out, home, is_axis, meant, misspelled, one_concurrency, part, run_together},
};
use crate::{
    Condition, Site, Template,
    expr::Host,
    rules::Rule,
    shape::{Key, Others, Reader, Shape, workflow::WORKFLOW},
};

impl Lower<'_> {
    pub(super) fn error(&self, message: impl Into<String>, span: Span) -> Diagnostic {
        Diagnostic::error(message).at(self.source, span)
    }

    pub(super) fn fault(&mut self, message: impl Into<String>, span: Span, label: impl Into<String>) {
        let fault = self.error(message, span).label(label);
        self.faults.push(fault);
    }

    pub(super) fn warn(
        &mut self,
        rule: Rule,
        message: impl Into<String>,
        span: Span,
        label: impl Into<String>,
    ) {
        self.faults.push(rule.warning(message).at(self.source, span).label(label));
    }

    /// The map of a node that must be one.
    pub(super) fn map<'n>(&mut self, node: &'n Node, what: &str) -> Option<&'n Map> {
        let map = node.map();
        if let (None, Some(odd)) = (map, doc::odd_space_in(self.source, node)) {
            self.faults.push(odd);
        } else if map.is_none() {
            let fault = self
                .error(format!("{what} is a map of keys"), node.span)
                .label(format!("this is {}", node.describe()));
            let text = node.scalar().map_or("", |scalar| scalar.text.as_str());
            let colon = text.split_once(':').filter(|(key, value)| {
                !key.is_empty() && !key.contains(' ') && !value.is_empty() && !value.starts_with(['/', ' '])
            });
            let equals = node.seq().and_then(|items| items.first()?.scalar()?.text.split_once('='));
            let quoted = node.scalar().is_some_and(|scalar| scalar.style != Style::Plain);
            let line = text.split_once(": ").filter(|(key, _)| quoted && !key.contains([' ', '\n']));
            self.faults.push(match (colon, equals) {
                _ if line.is_some() => {
                    fault.help(format!("write it on the line below, further in, without quotes: `{text}`"))
                }
                (Some((key, value)), _) => {
                    fault.help(format!("put a space after the colon: `{key}: {value}`"))
                }
                (None, Some((key, value))) => {
                    fault.help(format!("write `{key}: {value}`, each on a line of its own"))
                }
                (None, None) => fault,
            });
        }
        map
    }

    /// The list of a node that must be one.
    pub(super) fn list<'n>(&mut self, node: &'n Node, what: &str, example: &str) -> &'n [Node] {
        match node.seq() {
            Some(items) => items,
            None if node.is_null() => &[],
            None => {
                if let Some(odd) = doc::odd_space_in(self.source, node) {
                    self.faults.push(odd);
                    return &[];
                }
                let fault = self
                    .error(format!("{what} is a list"), node.span)
                    .label(format!("this is {}", node.describe()));
                self.faults.push(match example {
                    "" => fault,
                    example => fault.help(example),
                });
                &[]
            }
        }
    }

    /// Warns of names of a map that are one where names compare without case: one of the values is lost.
    pub(super) fn by_case(&mut self, map: &Map) {
        if self.is_payload() || map.entries.len() < 2 {
            return;
        }
        for (name, first) in twice(map.entries.iter().map(|entry| &entry.key)) {
            let warning = Rule::NamesByCase
                .warning("two names differ only by case")
                .at(self.source, name.span)
                .label("names compare without case")
                .also(self.source, first.span, "the first")
                .note("GitHub refuses a file with both");
            self.faults.push(warning);
        }
    }

    /// Complains about every key that is not in the table, and about those that Forgejo does not read.
    pub(super) fn keys(&mut self, map: &Map, shape: &Shape) {
        self.keys_but(map, shape, |_| false);
    }

    /// The same without some entries.
    pub(super) fn keys_but(&mut self, map: &Map, shape: &Shape, but: impl Fn(&Entry) -> bool) {
        for (at, entry) in map.entries.iter().enumerate().filter(|(_, entry)| !but(entry)) {
            match shape.key(&entry.key.value) {
                Some(key) => self.reader(key, entry.key.span),
                None => self.unknown(at, &entry.key, shape, map),
            }
        }
    }

    /// As [`Lower::keys`], and every key that has to be there is.
    pub(super) fn all_keys(&mut self, map: &Map, shape: &Shape, place: Span) {
        self.keys(map, shape);
        for key in shape.keys.iter().filter(|key| key.need == crate::shape::Need::Required) {
            if !map.get(key.name).is_none_or(Node::is_null) {
                continue;
            }
            if !misspelled(map, shape, key.name) {
                let fault = self
                    .error(format!("{} needs `{}`", shape.what, key.name), place)
                    .label("it is missing here");
                self.faults.push(fault);
            } else if matches!(shape.others, Others::Ignored) {
                self.needed(map, shape, key.name);
            }
        }
    }

    /// Of a map in which other keys are only warned about: this one is needed, and another stands in its place.
    pub(super) fn needed(&mut self, map: &Map, shape: &Shape, name: &str) {
        // whatever `misspelled` takes for this key is told here
        let near = |entry: &&Entry| {
            let key = &entry.key.value;
            run_together(key, shape) == Some(name)
                || shape.key(key).is_none() && meant(key, shape) == Some(name)
        };
        let Some(entry) = map.entries.iter().find(near) else { return };
        let fault = self
            .error(format!("{} needs `{name}`", shape.what), entry.key.span)
            .label(format!("`{}` is another key", entry.key.value))
            .help(format!("did you mean `{name}`?"));
        self.faults.retain(|fault| fault.primary.as_ref().is_none_or(|label| label.span != entry.key.span));
        self.faults.push(fault);
    }

    fn reader(&mut self, key: &Key, span: Span) {
        let name = key.name;
        match key.reader {
            Reader::Forgejo | Reader::Server => {}
            Reader::Ignored(why) => self.faults.push(
                Rule::IgnoredByForgejo
                    .warning(format!("`{name}` is ignored"))
                    .at(self.source, span)
                    .label("does nothing in Forgejo")
                    .note(why),
            ),
            Reader::GitHub => self.warn(
                Rule::GithubOnly,
                format!("only GitHub knows `{name}`"),
                span,
                "Forgejo's runner refuses a workflow that has it",
            ),
        }
    }

    fn unknown(&mut self, at: usize, key: &Spanned<String>, shape: &Shape, map: &Map) {
        let name = key.value.as_str();
        if let Some((block, first)) = fallen_out(map, at, shape) {
            self.lose_key(shape, None);
            if first {
                let (_, column) = self.source.line_column(block.key.span.start);
                let fault = self
                    .error("the text of a block is indented further than its key", key.span)
                    .label("this is not part of the block")
                    .also(self.source, block.key.span, "the block begins here")
                    .help(format!("indent it by {} spaces or more", column + 1));
                self.faults.push(fault);
            }
            return;
        }
        let above = if self.has_many() { None } else { beside::empty_above(self.source, map, at, shape) };
        if let Some(above) = above {
            self.lose_key(shape, None);
            if above.first {
                self.beside(&key.clone(), above.key, &format!("`{}`", above.key.value), above.more);
            }
            return;
        }
        if let Some(fault) = doc::look_alike(self.source, key.span) {
            self.lose_key(shape, None);
            self.faults.push(fault);
            return;
        }
        if let Some(known) = run_together(name, shape) {
            self.lose_key(shape, Some(known));
            let colon = name[known.len()..].starts_with(':');
            let end = key.span.start + known.len() + usize::from(colon);
            let what = if colon { "a space is missing after" } else { "a `:` is missing after" };
            let written = if colon { format!("{known}:") } else { known.to_owned() };
            let fault = self.error(format!("{what} `{written}`"), Span::new(key.span.start, end));
            let line = self.source.slice(Span::new(end, self.source.text().len())).lines().next();
            let rest = line.unwrap_or_default().trim();
            self.faults.push(fault.label("this should be a key").help(format!("write `{known}: {rest}`")));
            return;
        }
        let message = format!("{} has no key `{name}`", shape.what);
        let fault = match shape.others {
            Others::Refused | Others::Names(_) => Diagnostic::error(message),
            Others::Ignored => Rule::ActionMetadata.warning(message),
        };
        let fault = fault.at(self.source, key.span).label("unknown key");
        let near = if self.has_many() { None } else { meant(name, shape) };
        self.lose_key(shape, near);
        let part = part(&map.entries[at]).filter(|_| shape.id == WORKFLOW.id);
        let pair = if self.has_many() { None } else { one_concurrency(name, shape, map) };
        let home = pair.or_else(|| home(name, shape));
        self.faults.push(match (home, near) {
            (Some(help), _) => fault.help(help),
            (None, Some(near)) => fault.help(format!("did you mean `{near}`?")),
            (None, None) if let Some((of, what)) = part => {
                fault.help(format!("if `{name}` is {what}, put it below `{of}`"))
            }
            (None, None) if is_axis(&map.entries[at], shape) => fault.help(match map.get("matrix") {
                Some(_) => format!("if `{name}` is a variable of the matrix, put it below `matrix`"),
                None => format!("did you mean `matrix: {{{name}: …}}`?"),
            }),
            (None, None) if !self.has_many() && shape.key("uses").is_some() && map.get("uses").is_some() => {
                fault.help(format!("if `{name}` is an input of what it uses, put it below `with`"))
            }
            (None, None) => {
                fault.note(format!("the keys are {}", shape.common().collect::<Vec<_>>().join(", ")))
            }
        });
    }

    /// Text of a scalar, as written; expressions are not looked at. Nothing at all counts as absent.
    pub(super) fn text(&mut self, node: &Node, what: &str) -> Option<Spanned<String>> {
        match node.scalar() {
            Some(scalar) if scalar.is_null() => None,
            Some(scalar) => Some(Spanned::new(scalar.text.clone(), node.span)),
            None => {
                self.fault(format!("{what} is text"), node.span, format!("this is {}", node.describe()));
                None
            }
        }
    }

    /// Text that is not empty, of an entry that is there.
    pub(super) fn word(&mut self, node: &Node, what: &str, key: Span) -> Option<Spanned<String>> {
        let text = self.text(node, what);
        let empty = node.is_null() || text.as_ref().is_some_and(|text| text.value.trim().is_empty());
        if empty {
            self.fault(
                format!("{what} is empty"),
                if node.is_null() { key } else { node.span },
                "expected text",
            );
            return None;
        }
        text
    }

    /// The description of something, empty without.
    pub(super) fn description(&mut self, map: &Map) -> String {
        let found = map.get("description").and_then(|node| self.text(node, "`description`"));
        found.map(|text| text.value).unwrap_or_default()
    }

    /// Text of a scalar with expressions. Nothing at all counts as absent.
    pub(super) fn template(&mut self, node: &Node, site: Site, what: &str) -> Option<Template> {
        let Some(host) = Host::of(self.source, node) else {
            self.fault(format!("{what} is text"), node.span, format!("this is {}", node.describe()));
            return None;
        };
        (!node.is_null()).then(|| Template::parse(host, site, &mut self.faults))
    }

    /// One text with expressions, or a list of them.
    pub(super) fn templates(&mut self, node: &Node, site: Site, what: &str) -> Vec<Template> {
        let what_of_one = format!("an entry of {what}");
        let example = "begin each entry with `- `";
        let items = self.list(node, what, example);
        items.iter().filter_map(|item| self.template(item, site, &what_of_one)).collect()
    }

    /// The expression that stands where a map or a list could, if one does.
    pub(super) fn whole(&mut self, node: &Node, site: Site) -> Option<Template> {
        let scalar = node.scalar()?;
        let text = scalar.text.trim();
        if !(text.starts_with("${{") && text.ends_with("}}")) {
            return None;
        }
        let host = Host::of(self.source, node)?;
        Some(Template::parse(host, site, &mut self.faults))
    }

    pub(super) fn condition(&mut self, node: &Node, site: Site) -> Condition {
        match Host::of(self.source, node) {
            Some(host) => Condition::parse(host, site, &mut self.faults),
            None => {
                self.fault("`if` is an expression", node.span, format!("this is {}", node.describe()));
                Condition::default()
            }
        }
    }

    /// `timeout-minutes`: a literal is checked here, an expression when it is evaluated.
    pub(super) fn minutes(&mut self, node: &Node, site: Site, what: &str) -> Option<Template> {
        let template = self.template(node, site, what)?;
        if let Some(text) = template.literal()
            && crate::minutes_of(&text.into()).is_none()
        {
            self.fault(
                format!("{what} is a number, {}", crate::MINUTES),
                node.span,
                "expected minutes, such as `30`",
            );
        }
        Some(template)
    }

    /// A boolean: a literal is checked here, an expression when it is evaluated.
    pub(super) fn boolean(&mut self, node: &Node, site: Site, what: &str) -> Option<Template> {
        let template = self.template(node, site, what)?;
        if let Some(text) = template.literal()
            && !["true", "false"].iter().any(|word| text.eq_ignore_ascii_case(word))
        {
            self.no_boolean(node, what);
        }
        Some(template)
    }

    /// A boolean that takes no expression; nothing is false.
    pub(super) fn flag(&mut self, node: &Node, what: &str) -> bool {
        match node.scalar().map(|scalar| (scalar.typed, scalar.text.as_str())) {
            Some((Typed::Bool(value), _)) => value,
            Some((Typed::Null, _) | (Typed::Text, "false")) => false,
            Some((Typed::Text, "true")) => true,
            _ => {
                self.no_boolean(node, what);
                false
            }
        }
    }

    /// The flag of a key, with its place.
    pub(super) fn switch(&mut self, map: &Map, key: &str) -> Option<Spanned<bool>> {
        let node = map.get(key).filter(|node| !node.is_null())?;
        Some(Spanned::new(self.flag(node, &format!("`{key}`")), node.span))
    }

    fn no_boolean(&mut self, node: &Node, what: &str) {
        let label = match node.scalar() {
            Some(_) => "expected `true` or `false`".to_owned(),
            None => format!("this is {}", node.describe()),
        };
        let fault = self.error(format!("{what} is `true` or `false`"), node.span).label(label);
        let written = node.scalar().map(|scalar| scalar.text.to_ascii_lowercase());
        let fault = match written.as_deref() {
            Some("yes" | "on") => fault.help("write `true`: `yes` and `on` are text in YAML 1.2"),
            Some("no" | "off") => fault.help("write `false`: `no` and `off` are text in YAML 1.2"),
            Some(text) if text.contains("${{") => fault.help("nothing is evaluated here"),
            _ => fault,
        };
        self.faults.push(fault);
    }

    /// One of some words; what is given is the table's.
    pub(super) fn one_of(
        &mut self,
        node: &Node,
        what: &str,
        words: &[&'static str],
    ) -> Option<Spanned<&'static str>> {
        let text = self.text(node, what)?;
        if let Some(word) = words.iter().find(|word| **word == text.value) {
            return Some(Spanned::new(word, text.span));
        }
        let all: Vec<_> = words.iter().map(|word| format!("`{word}`")).collect();
        let all = match all.as_slice() {
            [only] => only.clone(),
            [most @ .., last] => format!("{} or {last}", most.join(", ")),
            [] => String::new(),
        };
        let fault = self
            .error(format!("{what} cannot be `{}`", text.value), text.span)
            .label(format!("expected {all}"));
        self.faults.push(match self.near(&text.value, words.iter().copied()) {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            None => fault,
        });
        None
    }

    /// The word that was probably meant; none behind more faults than anybody is shown.
    pub(super) fn near<'c>(&self, word: &str, words: impl IntoIterator<Item = &'c str>) -> Option<&'c str> {
        if self.has_many() { None } else { did_you_mean(word, words) }
    }

    fn has_many(&self) -> bool {
        self.faults.len() > 10 * MAX_DIAGNOSTICS
    }

    /// An id of a job or of a step: GitHub keeps those with two underscores in front for itself.
    pub(super) fn own_id(&mut self, id: &Spanned<String>, dots: Dots) {
        self.id(id, dots);
        if id.value.starts_with("__") && self.is_githubs() {
            let fault = self
                .error("GitHub takes no id that begins with `__`", id.span)
                .label("such ids are its own")
                .help("begin it with a letter or one `_`");
            self.faults.push(fault);
        }
    }

    /// An id of a job, a step or an input.
    pub(super) fn id(&mut self, id: &Spanned<String>, dots: Dots) {
        let good = |c: char| {
            c.is_ascii_alphanumeric() || matches!(c, '_' | '-') || (dots == Dots::Allowed && c == '.')
        };
        let starts = id.value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
        if starts && id.value.chars().all(good) && id.value.len() <= 100 {
            return;
        }
        self.fault(
            "this is no id",
            id.span,
            "an id begins with a letter or `_` and has letters, digits, `-` and `_`, at most 100",
        );
    }

    /// Whether the file is one that GitHub does not read.
    pub(super) fn is_forgejos(&self) -> bool {
        [".forgejo/", ".gitea/"].iter().any(|dir| self.source.name().contains(dir))
    }

    /// Whether the file is one that is written for GitHub.
    pub(super) fn is_githubs(&self) -> bool {
        self.source.name().contains(".github/") && !self.is_payload()
    }

    /// Whether a server wrote the text.
    pub(super) fn is_payload(&self) -> bool {
        self.origin == Origin::Payload
    }
}

/// Names that stand twice when they are compared without case: each that comes again, and the first of it.
pub(super) fn twice<'n>(
    names: impl IntoIterator<Item = &'n Spanned<String>>,
) -> Vec<(&'n Spanned<String>, &'n Spanned<String>)> {
    let mut firsts: HashMap<String, &Spanned<String>> = HashMap::new();
    let mut found = Vec::new();
    for name in names {
        match firsts.entry(name.value.to_ascii_lowercase()) {
            hash_map::Entry::Occupied(first) => found.push((name, *first.get())),
            hash_map::Entry::Vacant(free) => {
                free.insert(name);
            }
        }
    }
    found
}
