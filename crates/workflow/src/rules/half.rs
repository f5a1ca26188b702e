//! Expressions that lack their `$` or a brace.
//!
//! Purpose: `${ github.sha }}` and `{{ github.sha }}` are text, and nobody meant that. Owner: [`super::steps`].
//! Invariant: only what has the name of a context in it is told: braces are also of shells and of other templates.

use doc::{Diagnostic, Source, Span};

use super::Rule;
use crate::ContextName;

/// Contexts that nothing else than an expression of ours has in two braces.
const OURS: [&str; 7] = ["github", "forgejo", "gitea", "steps", "needs", "matrix", "secrets"];

/// Looks at a file as it is written, its comments aside.
pub(super) fn find(source: &Source, found: &mut Vec<Diagnostic>) {
    const LONGEST: usize = 200;
    let text = source.text();
    for (close, _) in text.match_indices("}}") {
        let mut from = close.saturating_sub(LONGEST);
        while !text.is_char_boundary(from) {
            from -= 1;
        }
        let line = text[from..close].rsplit('\n').next().unwrap_or_default();
        let Some(open) = line.rfind('{') else { continue };
        let (before, inner) = (&line[..open], line[open + 1..].trim());
        let is = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*');
        let Some((context, _)) = inner.split_once('.').filter(|_| inner.chars().all(is)) else { continue };
        // a whole one, braces of another language, `{${name}}` of a template literal
        if before.ends_with("${") || before.ends_with("{{") || before.ends_with("{$") {
            continue;
        }
        if before.trim_start().starts_with('#') || before.contains(" #") {
            continue;
        }
        let lacks = if before.ends_with('$') && ContextName::parse(context).is_some() {
            "a brace"
        } else if before.ends_with('{') && OURS.contains(&context) {
            "the `$`"
        } else {
            continue;
        };
        let start = close - (line.len() - open) - 1;
        found.push(
            Rule::HalfExpression
                .warning(format!("`{}` is text: {lacks} is missing", &text[start..close + 2]))
                .at(source, Span::new(start, close + 2))
                .label("it is taken as it stands here")
                .help(format!("write `${{{{ {inner} }}}}`")),
        );
    }
}
