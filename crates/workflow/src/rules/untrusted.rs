//! Text that strangers write, where a program reads it as code.
//!
//! Purpose: `${{ github.event.issue.title }}` in a script is whatever someone wrote into an issue, put into the
//! script before a shell reads it. Owner: [`super::steps`].
//! Invariant: only what reaches the text counts: `contains(…)`, comparisons and tests give no text on.

use doc::{Diagnostic, Source, Span};

use super::Rule;
use crate::{
    ContextName, Template, Variables,
    expr::tree::{Accessor, Ast, AstKind, Function},
};

/// What strangers write, below `github`; `*` is each item of a list. What only those can set who can push anyway
/// (tags, releases, inputs of a manual run) is not in here, nor what can only hold harmless characters (numbers,
/// SHAs, names of users and repositories).
const UNTRUSTED: [&str; 48] = [
    "head_ref",
    "event.issue.title",
    "event.issue.body",
    "event.pull_request.title",
    "event.pull_request.body",
    "event.pull_request.head.ref",
    "event.pull_request.head.label",
    "event.pull_request.head.repo.default_branch",
    "event.pull_request.head.repo.description",
    "event.pull_request.head.repo.homepage",
    "event.comment.body",
    "event.review.body",
    "event.review.content",
    "event.review_comment.body",
    "event.discussion.title",
    "event.discussion.body",
    "event.pages.*.page_name",
    "event.pages.*.title",
    "event.changes.title.from",
    "event.changes.body.from",
    "event.commits.*.message",
    "event.commits.*.author.email",
    "event.commits.*.author.name",
    "event.commits.*.committer.email",
    "event.commits.*.committer.name",
    "event.head_commit.message",
    "event.head_commit.author.email",
    "event.head_commit.author.name",
    "event.head_commit.committer.email",
    "event.head_commit.committer.name",
    "event.merge_group.head_commit.message",
    "event.merge_group.head_commit.author.email",
    "event.merge_group.head_commit.author.name",
    "event.workflow_run.display_title",
    "event.workflow_run.head_branch",
    "event.workflow_run.head_commit.message",
    "event.workflow_run.head_commit.author.email",
    "event.workflow_run.head_commit.author.name",
    "event.workflow_run.head_commit.committer.email",
    "event.workflow_run.head_commit.committer.name",
    "event.workflow_run.head_repository.description",
    "event.workflow_run.pull_requests.*.head.ref",
    "event.check_run.check_suite.head_branch",
    "event.check_run.check_suite.pull_requests.*.head.ref",
    "event.check_run.pull_requests.*.head.ref",
    "event.check_suite.head_branch",
    "event.check_suite.pull_requests.*.head.ref",
    "event.forkee.description",
];

/// What reads a text as code, and so how it reads a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reader {
    /// bash, sh and their kin.
    Shell,
    /// PowerShell.
    PowerShell,
    /// `cmd` of Windows.
    Cmd,
    /// Python.
    Python,
    /// Node, also actions/github-script.
    Node,
    /// A program that is not known.
    Other,
}

impl Reader {
    /// By the text of `shell`; without it bash.
    pub(super) fn of(shell: Option<&str>) -> Reader {
        let Some(shell) = shell else { return Reader::Shell };
        let program = shell.split_whitespace().next().unwrap_or_default();
        match program.rsplit('/').next().unwrap_or_default().to_ascii_lowercase().as_str() {
            "bash" | "sh" | "dash" | "zsh" | "" => Reader::Shell,
            "pwsh" | "powershell" => Reader::PowerShell,
            "cmd" => Reader::Cmd,
            "python" | "python3" => Reader::Python,
            "node" => Reader::Node,
            _ => Reader::Other,
        }
    }

    /// How it reads the variable `name`.
    fn variable(self, name: &str) -> String {
        match self {
            Reader::Shell => format!("\"${name}\""),
            Reader::PowerShell => format!("$env:{name}"),
            Reader::Cmd => format!("%{name}%"),
            Reader::Python => format!("os.environ[\"{name}\"]"),
            Reader::Node => format!("process.env.{name}"),
            Reader::Other => format!("the variable {name}"),
        }
    }
}

/// Each expression of a script that puts text of strangers into it; `env` is what the script sees, the nearest last.
pub(super) fn find(
    script: &Template,
    reader: Reader,
    env: &[&Variables],
    source: &Source,
    found: &mut Vec<Diagnostic>,
) {
    let (mut quoted, mut written) = (None, None);
    for (at, expr) in script.exprs().enumerate() {
        let mut parts = Vec::new();
        flows(expr.root(), Whole::No, &mut parts);
        // the variable takes the place of the whole expression
        let Some(part) = parts.into_iter().next() else {
            let write = |name: &str| within(script, source, &reader.variable(name));
            found.extend(variable_of_env(expr.root(), write, env, source));
            continue;
        };
        // JSON has no line feed with which it could leave a here-document, and there the shell reads nothing else
        let json = matches!(&expr.root().kind, AstKind::Call { function: Function::ToJson, .. });
        if json && reader == Reader::Shell {
            let quoted: &Vec<Span> = quoted.get_or_insert_with(|| here_documents(script));
            let at = part.ast.span;
            let begun = quoted.partition_point(|within| within.start <= at.start);
            if quoted[..begun].last().is_some_and(|within| at.end <= within.end) {
                continue;
            }
        }
        let name = variable(&part.path);
        let written: &Vec<String> = written.get_or_insert_with(|| script.written());
        let written = written.get(at).map_or("", String::as_str);
        found.push(told(format!("`{}`", part.shown(source)), source, part.ast.span).help(format!(
            "write `{name}: ${{{{ {written} }}}}` below the step's `env`, and here `{}`",
            within(script, source, &reader.variable(&name))
        )));
    }
}

/// Text as it is written in a script that stands in quotes of YAML, or in none.
fn within(script: &Template, source: &Source, text: &str) -> String {
    match source.slice(script.span()).as_bytes().first() {
        Some(b'"') => text.replace('"', "\\\""),
        _ => text.to_owned(),
    }
}

fn told(what: String, source: &Source, span: Span) -> Diagnostic {
    Rule::UntrustedInput
        .warning(format!("{what} can be set by strangers and becomes part of the script"))
        .at(source, span)
        .label("put into the script before it is read")
        .note("whoever writes this text runs commands with the job's token and secrets")
}

/// `env.TITLE` whose value is text of strangers: as a variable it would do no harm.
fn variable_of_env(
    ast: &Ast,
    write: impl Fn(&str) -> String,
    env: &[&Variables],
    source: &Source,
) -> Option<Diagnostic> {
    let AstKind::Access { base, path } = &ast.kind else { return None };
    let (AstKind::Context(ContextName::Env), [name]) = (&base.kind, path.as_slice()) else { return None };
    let name = segment(name);
    let mut known = env.iter().rev().flat_map(|variables| variables.list());
    let given = known.find(|given| given.name.value.eq_ignore_ascii_case(name))?;
    let mut parts = Vec::new();
    given.value.exprs().for_each(|expr| flows(expr.root(), Whole::No, &mut parts));
    let part = parts.first()?;
    Some(
        told(format!("`{}`, which `env.{name}` is,", part.shown(source)), source, ast.span)
            .also(source, part.ast.span, "its value")
            .help(format!("write `{}`", write(&given.name.value))),
    )
}

/// The here-documents of a script whose delimiter is quoted, so that the shell leaves them as they are; in order.
fn here_documents(script: &Template) -> Vec<Span> {
    let mut found = Vec::new();
    let locator = script.locator();
    let mut start = 0;
    let mut open: Option<(&str, usize)> = None;
    for line in script.raw().split_inclusive('\n') {
        let end = start + line.len();
        match open {
            Some((delimiter, begin)) if line.trim() == delimiter => {
                found.push(locator.locate(begin, start));
                open = None;
            }
            Some(_) => {}
            None => open = quoted_delimiter(line).map(|delimiter| (delimiter, end)),
        }
        start = end;
    }
    found
}

/// `END` of `<<'END'`.
fn quoted_delimiter(line: &str) -> Option<&str> {
    let (_, rest) = line.split_once("<<")?;
    let rest = rest.trim_start_matches('-').trim_start();
    let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    rest[1..].split_once(quote).map(|(delimiter, _)| delimiter).filter(|delimiter| !delimiter.is_empty())
}

/// Of what that is no text the parts become text.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whole {
    /// Objects and lists.
    Yes,
    /// Lists.
    Items,
    /// Nothing: a list becomes the text `Array`.
    No,
}

struct Part<'a> {
    ast: &'a Ast,
    text: String,
    path: Vec<String>,
}

impl Part<'_> {
    /// As it is written, unless YAML would write it otherwise.
    fn shown<'s>(&'s self, source: &'s Source) -> &'s str {
        let written = source.slice(self.ast.span);
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '*' | '[' | ']');
        if written.chars().all(plain) { written } else { &self.text }
    }
}

/// What of an expression reaches its text.
fn flows<'a>(ast: &'a Ast, whole: Whole, found: &mut Vec<Part<'a>>) {
    match &ast.kind {
        AstKind::Context(ContextName::Github) if whole == Whole::Yes => {
            found.push(Part { ast, text: "github".to_owned(), path: vec!["github".to_owned()] });
        }
        AstKind::Access { base, path } => match &base.kind {
            AstKind::Context(ContextName::Github) => {
                let is_list = path.iter().any(|accessor| matches!(accessor, Accessor::All));
                // an item of the list, which Forgejo takes out of the whole of it
                let (path, item) = match path.split_last() {
                    Some((Accessor::Index(index), list)) if is_list && !is_text(index) => (list, true),
                    _ => (path.as_slice(), false),
                };
                let path = || path.iter().map(segment);
                let reaches = !is_list || item || whole != Whole::No;
                if reaches && is_untrusted(path(), whole) {
                    let path: Vec<String> = path().map(str::to_owned).collect();
                    found.push(Part { ast, text: format!("github.{}", path.join(".")), path });
                }
            }
            AstKind::Call { .. } => flows(base, whole, found),
            // `(a.*.b)[0]`
            AstKind::Access { .. } if matches!(path.as_slice(), [Accessor::Index(index)] if !is_text(index)) =>
            {
                flows(base, if whole == Whole::No { Whole::Items } else { whole }, found);
            }
            _ => {}
        },
        AstKind::Call { function, args } => match function {
            Function::Format | Function::FromJson => args.iter().for_each(|arg| flows(arg, whole, found)),
            Function::Join => {
                let whole = if whole == Whole::No { Whole::Items } else { whole };
                args.iter().for_each(|arg| flows(arg, whole, found));
            }
            Function::ToJson => args.iter().for_each(|arg| flows(arg, Whole::Yes, found)),
            // conditions and values in turn, and what else there is
            Function::Case => args
                .iter()
                .enumerate()
                .filter(|(at, _)| at % 2 == 1 || at + 1 == args.len())
                .for_each(|(_, arg)| flows(arg, whole, found)),
            Function::Contains
            | Function::StartsWith
            | Function::EndsWith
            | Function::HashFiles
            | Function::Success
            | Function::Failure
            | Function::Always
            | Function::Cancelled => {}
        },
        // what stands in front of the last is given on only where it is empty
        AstKind::And(items) => items.last().into_iter().for_each(|last| flows(last, whole, found)),
        AstKind::Or(items) => items.iter().for_each(|item| flows(item, whole, found)),
        AstKind::Null
        | AstKind::Bool(_)
        | AstKind::Number(_)
        | AstKind::Text(_)
        | AstKind::Context(_)
        | AstKind::Not(_)
        | AstKind::Compare { .. } => {}
    }
}

fn is_text(index: &Ast) -> bool {
    matches!(index.kind, AstKind::Text(_))
}

fn segment(accessor: &Accessor) -> &str {
    match accessor {
        Accessor::Name(name) => name,
        Accessor::Index(Ast { kind: AstKind::Text(text), .. }) => text,
        Accessor::All | Accessor::Index(_) => "*",
    }
}

fn is_untrusted<'a>(path: impl Iterator<Item = &'a str> + Clone, whole: Whole) -> bool {
    UNTRUSTED.iter().any(|known| {
        let (mut ours, mut theirs) = (path.clone(), known.split('.'));
        loop {
            match (ours.next(), theirs.next()) {
                (Some(ours), Some(theirs)) if ours == "*" || ours.eq_ignore_ascii_case(theirs) => {}
                (None, Some(_)) => return whole == Whole::Yes,
                (ours, theirs) => return ours.is_none() && theirs.is_none(),
            }
        }
    })
}

/// A name for the variable: `ISSUE_TITLE`.
fn variable(path: &[String]) -> String {
    let words: Vec<&str> =
        path.iter().map(String::as_str).filter(|word| *word != "*" && *word != "event").collect();
    let last = words.len().saturating_sub(2);
    let name = words.get(last..).unwrap_or_default().join("_").to_ascii_uppercase();
    if name.is_empty() { "EVENT".to_owned() } else { name.replace(|c: char| !c.is_ascii_alphanumeric(), "_") }
}
