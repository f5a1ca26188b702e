//! `ampoule validate`: everything that is wrong with workflows and actions, in three forms.
//!
//! ```text
//!  PATH… ─▶ files ─▶ read, rules::check (a thread per core) ─▶ Report ─┬─▶ text
//!                         ▲── the files that jobs call                 ├─▶ JSON
//!                                                                      └─▶ SARIF
//! ```
//! Owner: `cli` calls [`run`] once. Invariants: nothing runs; a path that cannot be read keeps no other from being
//! looked at; the same files give the same report, whatever the number of threads.

mod files;
mod json;
mod sarif;

use std::{
    collections::{HashMap, HashSet},
    io::{self, Write},
    num::NonZero,
    path::{Component, Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

use doc::{Diagnostic, Rendering, Source, Span};
use workflow::{
    Resolved, WorkflowRef,
    rules::{Level, Levels, Repository, ResolvedAction, Rule, check, tally},
};

use self::files::File;
use crate::{
    class::{Class, Classed, End},
    cli::args::{ReportFormat, ValidateArgs},
    exec::prepare::{self, PrepareError},
    pretty,
    sanitise::{self, Colours},
    sink::Look,
    table,
};

/// Why nothing can be told.
#[derive(Debug, thiserror::Error)]
pub enum ValidateCmdError {
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

impl Classed for ValidateCmdError {
    fn class(&self) -> Class {
        match self {
            Self::Output(_) => Class::Infrastructure,
        }
    }
}

/// A path that cannot be looked at.
#[derive(Debug)]
struct Unreadable {
    path: String,
    why: String,
}

/// What was found.
#[derive(Debug, Default)]
struct Report {
    /// How many files were looked at.
    files: usize,
    /// In the order of the files, and of each file.
    found: Vec<Diagnostic>,
    unreadable: Vec<Unreadable>,
}

impl Report {
    fn errors(&self) -> usize {
        self.found.iter().filter(|fault| fault.is_error()).count()
    }

    fn warnings(&self) -> usize {
        self.found.len() - self.errors()
    }

    fn end(&self) -> End {
        match (self.unreadable.as_slice(), self.errors()) {
            ([], 0) => End::Success,
            ([], _) => End::Failed,
            _ => End::User,
        }
    }

    /// All for people.
    fn text(&self, rendering: Rendering) -> String {
        let mut text: String = self.found.iter().map(|fault| fault.render(rendering) + "\n\n").collect();
        text.push_str(&tally(&self.found, self.files));
        text.push('\n');
        text
    }
}

/// Looks at the paths, and tells what is wrong.
pub fn run(args: &ValidateArgs) -> Result<End, ValidateCmdError> {
    let mut levels = Levels::default();
    for given in &args.levels {
        levels.set(given.rule, given.level);
    }
    if args.rules {
        return print(&list(&levels)).map(|()| End::Success);
    }
    let report = report(args, &levels);
    let rendering = match Look::of(&io::stdout()).colours() {
        Colours::Keep => Rendering::Coloured,
        Colours::Drop => Rendering::Plain,
    };
    let text = match args.format {
        ReportFormat::Text => report.text(rendering),
        ReportFormat::Json => pretty::json(&json::json(&report)),
        ReportFormat::Sarif => pretty::json(&sarif::sarif(&report, &levels, env!("CARGO_PKG_HOMEPAGE"))),
    };
    print(&text)?;
    let look = Look::of(&io::stderr());
    for Unreadable { path, why } in &report.unreadable {
        let text = sanitise::line(&format!("{path}: {why}"), Colours::Drop);
        // nobody is left to tell if standard error is gone
        let _ = writeln!(io::stderr().lock(), "{} {text}", look.error());
    }
    Ok(report.end())
}

fn print(text: &str) -> Result<(), ValidateCmdError> {
    io::stdout().lock().write_all(text.as_bytes()).map_err(ValidateCmdError::Output)
}

/// The rules as a table.
fn list(levels: &Levels) -> String {
    let row = |rule: Rule| {
        [rule.name().to_owned(), levels.of(rule).name().to_owned(), rule.about().finds.to_owned()]
    };
    table::text(["RULE", "LEVEL", "FINDS"], &Rule::all().map(row).collect::<Vec<_>>())
}

fn report(args: &ValidateArgs, levels: &Levels) -> Report {
    let (files, mut unreadable) = files::find(&args.paths);
    let githubs = for_github(args, levels);
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            let Some(file) = files.get(at) else { break done };
            done.push((at, look(file, if file.is_only_githubs() { &githubs } else { levels })));
        }
    };
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(files.len().div_ceil(4));
    let mut looked: Vec<_> = thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut looked = work();
        for other in others {
            match other.join() {
                Ok(more) => looked.extend(more),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        looked
    });
    looked.sort_by_key(|(at, _)| *at);
    let mut report = Report::default();
    let (mut seen, mut repeated) = (HashSet::new(), Repeated::default());
    for (at, result) in looked {
        match result {
            Ok(found) => {
                report.files += 1;
                for fault in found {
                    // an error of a file that is called is found by all who call it
                    let new = seen.insert(key(&fault));
                    if new
                        && !files.get(at).is_some_and(|file| repeated.knows(file, &fault, report.found.len()))
                    {
                        report.found.push(fault);
                    }
                }
            }
            Err(error) => unreadable.push(error),
        }
    }
    repeated.note(&mut report.found);
    report.unreadable = unreadable;
    report
}

/// The levels for a file that Forgejo never reads: what is about Forgejo is off, unless the command line names it.
fn for_github(args: &ValidateArgs, levels: &Levels) -> Levels {
    let mut levels = levels.clone();
    let named = |rule: &Rule| args.levels.iter().any(|given| given.rule == *rule);
    Rule::all()
        .filter(|rule| rule.is_about_forgejo() && !named(rule))
        .for_each(|rule| levels.set(rule, Level::Off));
    levels
}

/// What is about Forgejo and said of a `.github` once for all of its files: it is the same in each, and most such
/// files are for GitHub alone.
#[derive(Default)]
struct Repeated(HashMap<(PathBuf, String), Said>);

/// A warning that was said.
struct Said {
    /// Its number in the report.
    at: usize,
    /// The file that had it last.
    last: PathBuf,
    /// Further files.
    more: usize,
}

impl Repeated {
    /// Whether it was said before, of another file; else it becomes the one at `at` of the report.
    fn knows(&mut self, file: &File, fault: &Diagnostic, at: usize) -> bool {
        let about_forgejo =
            fault.rule.and_then(|name| Rule::parse(name).ok()).is_some_and(Rule::is_about_forgejo);
        if !about_forgejo || fault.is_error() || !file.is_githubs() {
            return false;
        }
        let new = || Said { at, last: file.path.clone(), more: 0 };
        let said = self.0.entry((file.root.clone(), fault.message.clone())).or_insert_with(new);
        if said.last == file.path {
            return said.more > 0;
        }
        said.last.clone_from(&file.path);
        said.more += 1;
        true
    }

    fn note(self, found: &mut [Diagnostic]) {
        for Said { at, more, .. } in self.0.into_values().filter(|said| said.more > 0) {
            if let Some(fault) = found.get_mut(at) {
                let files = if more == 1 { "file" } else { "files" };
                fault.notes.push(format!("so it is in {more} more {files} of `.github`"));
            }
        }
    }
}

fn key(fault: &Diagnostic) -> (String, usize, usize, String) {
    let (name, start, end) = fault
        .primary
        .as_ref()
        .map_or(("", 0, 0), |label| (label.source.name(), label.span.start, label.span.end));
    (name.to_owned(), start, end, fault.message.clone())
}

fn look(file: &File, levels: &Levels) -> Result<Vec<Diagnostic>, Unreadable> {
    let source = match read(&file.path, &file.shown) {
        Ok(Ok(source)) => source,
        Ok(Err(found)) => return Ok(found.into_iter().map(|fault| placed(fault, &file.shown)).collect()),
        Err(error) => return Err(Unreadable { path: file.shown.clone(), why: error.to_string() }),
    };
    Ok(check(&source, file.kind, &file.inside, levels, &mut Beside(file)))
}

/// What is wrong with a file as a whole stands at its beginning: who shows reports wants a place for each.
fn placed(fault: Diagnostic, shown: &str) -> Diagnostic {
    if fault.primary.is_some() { fault } else { fault.at(&Source::new(shown, ""), Span::default()) }
}

/// A file, or what is wrong with its bytes.
fn read(path: &Path, shown: &str) -> Result<Result<Source, Vec<Diagnostic>>, io::Error> {
    match prepare::read_as(path, shown) {
        Ok(source) => Ok(Ok(source)),
        Err(PrepareError::Read { source, .. }) => Err(source),
        Err(PrepareError::Diagnostics(found)) => Ok(Err(found)),
        Err(other) => Err(io::Error::other(other)),
    }
}

/// The repository of a file.
struct Beside<'a>(&'a File);

impl Repository for Beside<'_> {
    fn workflow(&mut self, uses: &WorkflowRef) -> Resolved {
        called(self.0, uses)
    }

    fn action(&mut self, directory: &str) -> ResolvedAction {
        let File { root, shown_root, .. } = self.0;
        let path = root.join(directory);
        if !is_inside(directory) || files::leads_out(root, &path) {
            return ResolvedAction::Unknown;
        }
        for name in files::ACTIONS {
            let file = path.join(name);
            if !file.is_file() {
                continue;
            }
            if files::leads_out(root, &file) {
                return ResolvedAction::Unknown;
            }
            let shown = shown_root.join(directory).join(name).display().to_string();
            return match read(&file, &shown) {
                Ok(Ok(source)) => ResolvedAction::Text(source),
                _ => ResolvedAction::Unknown,
            };
        }
        match path.symlink_metadata() {
            // where no repository begins, nothing tells what else is in it
            Err(error) if error.kind() == io::ErrorKind::NotFound && self.0.is_of_repository() => {
                ResolvedAction::Nothing
            }
            _ => ResolvedAction::Unknown,
        }
    }
}

/// Whether a path of a repository stays in it.
fn is_inside(path: &str) -> bool {
    Path::new(path).components().all(|part| matches!(part, Component::Normal(_)))
}

/// A workflow that a file calls, of the same repository.
fn called(file: &File, uses: &WorkflowRef) -> Resolved {
    let WorkflowRef::Local(path) = uses else { return Resolved::Elsewhere };
    if !is_inside(path) {
        return Resolved::Missing("it lies outside of the repository".to_owned());
    }
    if files::leads_out(&file.root, &file.root.join(path)) {
        return Resolved::Missing(files::LEADS_OUT.to_owned());
    }
    match read(&file.root.join(path), &file.shown_root.join(path).display().to_string()) {
        Ok(Ok(source)) => Resolved::Text(source),
        Ok(Err(found)) => Resolved::Missing(found.first().map(ToString::to_string).unwrap_or_default()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Resolved::Missing("the repository has no such file".to_owned())
        }
        Err(error) => Resolved::Missing(format!("it cannot be read: {error}")),
    }
}

#[cfg(test)]
mod tests;
