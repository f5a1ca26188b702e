//! The filters below an event of `on`.
//!
//! Purpose: each key typed and each value checked, as far as the server would refuse it or would never
//! start the workflow. Owner: the lowering. Invariant: what could not be read is left out, with a fault.

use doc::{Entry, Kind, Locator, Map, Node, Span, Spanned};

use super::Lower;
use crate::{
    filter::{Cron, FilterKey, Filters, Pattern, PatternList, Schedule, Words, events, is_glob},
    rules::Rule,
};

/// The event that needs times.
pub(super) const SCHEDULE: &str = "schedule";

impl Lower<'_> {
    /// What stands below an event that has no inputs.
    pub(super) fn filters(&mut self, event: &Spanned<String>, node: &Node) -> Filters {
        if event.value == SCHEDULE {
            return Filters { schedules: self.schedules(node), ..Filters::default() };
        }
        let what = format!("`{}`", event.value);
        let Some(map) = self.map(node, &what) else { return Filters::default() };
        let known = events::known(&event.value);
        let keys = known.as_ref().map_or(&FilterKey::ALL[..], |known| known.keys);
        if keys.is_empty() {
            self.no_filters(&what, map);
            return Filters::default();
        }
        self.filter_keys(map, &what, keys);
        self.contradictions(map);
        let mut filters = Filters::default();
        for entry in &map.entries {
            let Some(key) = FilterKey::of(&entry.key.value).filter(|key| keys.contains(key)) else {
                continue;
            };
            let key = Spanned::new(key, entry.key.span);
            let Some(items) = self.items(key.value, &entry.value) else { continue };
            match key.value {
                FilterKey::Types => {
                    let types = known.as_ref().map_or(&[][..], |known| known.types);
                    filters.types = Some(self.activities(&event.value, types, key, items));
                }
                FilterKey::Branches | FilterKey::BranchesIgnore => {
                    filters.branches = Some(self.patterns(key, items));
                }
                FilterKey::Tags | FilterKey::TagsIgnore => filters.tags = Some(self.patterns(key, items)),
                FilterKey::Paths | FilterKey::PathsIgnore => filters.paths = Some(self.patterns(key, items)),
                FilterKey::Workflows | FilterKey::Names | FilterKey::Versions => {
                    let words = items.into_iter().map(|item| self.given(item)).collect();
                    filters.others.push(Words { key, words });
                }
            }
        }
        filters
    }

    fn filter_keys(&mut self, map: &Map, what: &str, keys: &[FilterKey]) {
        let names = keys.iter().map(|key| key.as_str());
        for entry in &map.entries {
            let key = entry.key.value.as_str();
            if names.clone().any(|name| name == key) {
                continue;
            }
            if let Some(other) = FilterKey::of(key) {
                self.faults.push(
                    Rule::AdmitsNothing
                        .warning(format!("{what} has no filter `{other}`"))
                        .at(self.source, entry.key.span)
                        .label("Forgejo starts nothing for an event with it")
                        .note("GitHub reads over it")
                        .help("leave it out"),
                );
                continue;
            }
            let fault = self.error(format!("{what} has no key `{key}`"), entry.key.span).label("unknown key");
            self.faults.push(match self.near(key, names.clone()) {
                Some(near) => fault.help(format!("did you mean `{near}`?")),
                None => fault.note(format!("the keys are {}", names.clone().collect::<Vec<_>>().join(", "))),
            });
        }
    }

    /// An event that the server starts the workflow for whatever stands below it.
    fn no_filters(&mut self, what: &str, map: &Map) {
        for entry in &map.entries {
            self.faults.push(
                Rule::IdleKey
                    .warning(format!("`{}` is ignored: {what} has no filters", entry.key.value))
                    .at(self.source, entry.key.span)
                    .label("does nothing"),
            );
        }
    }

    /// Keys that say the opposite of each other.
    fn contradictions(&mut self, map: &Map) {
        for (at, entry) in map.entries.iter().enumerate() {
            let Some(other) = FilterKey::of(&entry.key.value).and_then(FilterKey::opposite) else { continue };
            let first = map.entries[..at].iter().find(|first| first.key.value == other.as_str());
            let Some(Entry { key: first, .. }) = first else { continue };
            let (admits, ignores) = if other.ignores() {
                (&entry.key.value, &first.value)
            } else {
                (&first.value, &entry.key.value)
            };
            let fault = self
                .error(format!("`{admits}` and `{ignores}` exclude each other"), entry.key.span)
                .label("one of the two")
                .also(self.source, first.span, "the other")
                .help(format!(
                    "keep `{admits}`, and put a `!` in front of a pattern that it is not to admit"
                ));
            self.faults.push(fault);
        }
    }

    /// One text or a list of them.
    fn items<'n>(&mut self, key: FilterKey, node: &'n Node) -> Option<Vec<&'n Node>> {
        let nodes: Vec<&Node> = match &node.kind {
            Kind::Seq(items) => items.iter().collect(),
            Kind::Scalar(_) => vec![node],
            Kind::Map(_) => {
                self.fault(format!("`{key}` is a list of texts"), node.span, "this is a map");
                return None;
            }
        };
        let before = self.faults.len();
        for item in &nodes {
            if item.scalar().is_none() || item.is_null() {
                let this = if item.is_null() { "nothing stands here" } else { "this is no text" };
                self.fault(format!("`{key}` is a list of texts"), item.span, this);
            }
        }
        (self.faults.len() == before).then_some(nodes)
    }

    fn given(&mut self, node: &Node) -> Spanned<String> {
        let text = node.scalar().map_or("", |scalar| scalar.text.as_str());
        if text.contains("${{") {
            self.faults.push(
                Rule::NotEvaluated
                    .warning("nothing is evaluated in `on`")
                    .at(self.source, node.span)
                    .label("the server takes this as it is written"),
            );
        }
        Spanned::new(text.to_owned(), node.span)
    }

    fn patterns(&mut self, key: Spanned<FilterKey>, items: Vec<&Node>) -> PatternList {
        let (mut patterns, mut all_good) = (Vec::new(), true);
        // that is how one says that none is wanted
        let none = items.iter().all(|item| item.scalar().is_some_and(|scalar| scalar.text == "!**"));
        for item in items {
            let text = self.given(item);
            match Pattern::parse(&text.value) {
                Ok(pattern) => {
                    self.fits_nothing(key.value, &text);
                    patterns.push(Spanned::new(pattern, item.span));
                }
                Err(bad) => {
                    all_good = false;
                    let span = self.within(item, bad.start, bad.end);
                    let (message, help) = match text.value.as_str() {
                        "" | "!" => {
                            ("a pattern is empty".to_owned(), "leave it out, or write `**` for every name")
                        }
                        text => (
                            format!("`{text}` is no pattern"),
                            "put a `\\` before a character that is to stand for itself",
                        ),
                    };
                    let fault = self.error(message, span).label(bad.why).help(help);
                    self.faults.push(fault);
                }
            }
        }
        let only_out = !patterns.is_empty() && patterns.iter().all(|pattern| pattern.value.is_negative());
        if only_out && all_good && !none && !key.value.ignores() {
            let instead = key.value.opposite().unwrap_or(key.value);
            let warning = Rule::AdmitsNothing
                .warning(format!("`{}` admits nothing: every pattern takes something out", key.value))
                .at(self.source, key.span)
                .label("a pattern without `!` is missing")
                .help(format!("begin the list with `**`, or write `{instead}` without the `!`"));
            self.faults.push(warning);
        }
        PatternList { key, patterns }
    }

    /// A pattern that no name can be like: one of another kind, or a path that does not begin in the repository.
    fn fits_nothing(&mut self, key: FilterKey, text: &Spanned<String>) {
        let (sign, pattern) = match text.value.strip_prefix('!') {
            Some(pattern) => ("!", pattern),
            None => ("", text.value.as_str()),
        };
        use FilterKey::{Branches, BranchesIgnore, Paths, PathsIgnore, Tags, TagsIgnore};
        let (why, help) = if matches!(key, Paths | PathsIgnore) {
            if matches!(pattern, "." | "./" | "/") {
                (
                    "paths begin at the root of the repository, without a `/`",
                    "write `**` for all files".to_owned(),
                )
            } else if let Some(rest) = pattern.strip_prefix("./").or_else(|| pattern.strip_prefix('/')) {
                ("paths begin at the root of the repository, without a `/`", format!("write `{sign}{rest}`"))
            } else if pattern.split('/').any(|part| matches!(part, "." | "..")) {
                ("no path of a repository has a `.` or `..` in it", "write the path without them".to_owned())
            } else {
                return;
            }
        } else if !matches!(key, Branches | BranchesIgnore | Tags | TagsIgnore) {
            return;
        } else {
            let full =
                ["refs/heads/", "refs/tags/"].into_iter().find_map(|start| pattern.strip_prefix(start));
            if let Some(rest) = full {
                let what = if matches!(key, Branches | BranchesIgnore) { "branches" } else { "tags" };
                let warning = Rule::AdmitsNothing
                    .warning(format!("nothing is like `{}`", text.value))
                    .at(self.source, text.span)
                    .label(format!("{what} are looked at without the `refs/` in front"))
                    .help(format!("write `{sign}{rest}`"));
                self.faults.push(warning);
                return;
            }
            // what Git lets in no name of a branch or tag, or a class of a regular expression
            let class = ["\\d", "\\w", "\\s", "\\b"].iter().any(|class| pattern.contains(class));
            // that is said already
            let evaluated = pattern.contains("${{");
            if evaluated || !class && !pattern.contains(['^', '~', ':', ' ']) {
                return;
            }
            let regular = class || pattern.starts_with('^') || pattern.ends_with('$');
            match regular {
                true => (
                    "a pattern is no regular expression",
                    "write `[0-9]+` for digits, `*` for any text".to_owned(),
                ),
                false => {
                    ("no branch and no tag has such a name", "take out the `^`, `~`, `:` or space".to_owned())
                }
            }
        };
        let warning = Rule::AdmitsNothing
            .warning(format!("nothing is like `{}`", text.value))
            .at(self.source, text.span)
            .label(why)
            .help(help);
        self.faults.push(warning);
    }

    /// `types`. What is not known is a warning: servers have more every year.
    fn activities(
        &mut self,
        event: &str,
        known: &[&'static str],
        key: Spanned<FilterKey>,
        items: Vec<&Node>,
    ) -> Words {
        let words: Vec<_> = items.into_iter().map(|item| self.given(item)).collect();
        for word in &words {
            let text = word.value.as_str();
            if known.is_empty() || known.contains(&text) || is_glob(text) {
                continue;
            }
            let warning = Rule::UnknownActivity
                .warning(format!("`{event}` has no activity `{text}`"))
                .at(self.source, word.span)
                .label("this may never start the workflow");
            self.faults.push(match self.near(text, known.iter().copied()) {
                Some(near) => warning.help(format!("did you mean `{near}`?")),
                None => warning.note(format!("there are {}", known.join(", "))),
            });
        }
        Words { key, words }
    }

    fn schedules(&mut self, node: &Node) -> Vec<Schedule> {
        let Some(items) = node.seq() else {
            let fault = self
                .error("`schedule` is a list of times", node.span)
                .label(format!("this is {}", node.describe()))
                .help("write `- cron: '30 5 * * 1'` below it");
            self.faults.push(fault);
            return Vec::new();
        };
        if items.is_empty() {
            self.no_times(node.span);
        }
        items.iter().filter_map(|item| self.schedule(item)).collect()
    }

    /// A schedule that would never come.
    pub(super) fn no_times(&mut self, span: Span) {
        let fault = self
            .error("`schedule` has no times", span)
            .label("expected a list of times below it")
            .help("write `- cron: '30 5 * * 1'` below it");
        self.faults.push(fault);
    }

    fn schedule(&mut self, node: &Node) -> Option<Schedule> {
        let map = self.map(node, "an entry of `schedule`")?;
        self.keys(map, &crate::shape::on::SCHEDULE);
        let timezone = map.get("timezone").and_then(|node| self.text(node, "`timezone`"));
        let Some(cron) = map.get("cron").filter(|cron| !cron.is_null()) else {
            self.fault("an entry of `schedule` needs `cron`", node.span, "it is missing here");
            return None;
        };
        let text = self.text(cron, "`cron`")?;
        match Cron::parse(&text.value) {
            Ok(parsed) => {
                if parsed.never() {
                    self.faults.push(
                        Rule::CronNever
                            .warning(format!("`{parsed}` never comes"))
                            .at(self.source, cron.span)
                            .label("no year has such a time")
                            .help("the fields are minute, hour, day, month and day of the week"),
                    );
                }
                Some(Schedule { cron: Spanned::new(parsed, cron.span), timezone })
            }
            Err(bad) => {
                let span = self.within(cron, bad.start, bad.end);
                let fault = self.error(bad.message, span).label("this cron expression").help(bad.help);
                self.faults.push(fault);
                None
            }
        }
    }

    /// The place of a part of a scalar's text; the whole scalar for an empty one.
    fn within(&self, node: &Node, start: usize, end: usize) -> Span {
        match node.scalar() {
            Some(scalar) if start < end => Locator::new(self.source, node.span, scalar).locate(start, end),
            _ => node.span,
        }
    }
}
