//! Steps that use an action of their own repository, or check it out.
//!
//! Purpose: a misspelt input is read over and a missing one is empty, which nothing says when the step runs; an action
//! that is not there fails it. Owner: [`super::check`], of workflows: what an action uses lies with whom it is used by.
//! Invariants: nothing is said of an action that cannot be read, nor where a step before may have brought other files;
//! at most [`MAX_ACTIONS`] and [`MAX_BYTES`] are read for one file, and no more is found than a file may have: a
//! short file can use an action of many inputs in many steps.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use doc::{Diagnostic, Source, Span, did_you_mean};

use super::{Levels, MAX_DIAGNOSTICS, Repository, ResolvedAction, Rule};
use crate::{
    Action, Job, OrExpr, Runs, Step, StepAction, Uses, Variables, Workflow, checkout, lower, matrix::some,
    uses::straight,
};

/// Most actions that are read for one file.
const MAX_ACTIONS: usize = 100;

/// Most bytes of them.
const MAX_BYTES: usize = 4 << 20;

/// Most inputs among which one is looked for that was meant.
const MAX_NEAR: usize = 1000;

/// What is at the path of an action.
#[derive(Clone)]
enum Known {
    Action(Arc<Has>),
    Nothing,
    Unknown,
}

/// An action, and the names of its inputs without case.
struct Has {
    action: Action,
    names: HashSet<String>,
    /// Those that have to be given, by their places in the list.
    required: Vec<usize>,
}

struct Look<'a> {
    source: &'a Source,
    levels: &'a Levels,
    repository: &'a mut dyn Repository,
    known: HashMap<String, Known>,
    bytes: usize,
    left: usize,
    found: &'a mut Vec<Diagnostic>,
}

/// What the steps of a job found in their workspace so far.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Workspace {
    /// Nothing: no step ran.
    Empty,
    /// The repository, as the workflow's commit has it.
    Own,
    /// That, and whatever a step may have made.
    Any,
}

pub(super) fn find(
    workflow: &Workflow,
    levels: &Levels,
    repository: &mut dyn Repository,
    found: &mut Vec<Diagnostic>,
) {
    if !levels.is_on(Rule::ActionInputs) && !levels.is_on(Rule::MissingAction) {
        return;
    }
    // one more than are shown, so that it is said that there are more
    let left = MAX_DIAGNOSTICS + 1;
    let mut look =
        Look { source: &workflow.source, levels, repository, known: HashMap::new(), bytes: 0, left, found };
    // the workspace of a called workflow is that of the repository that calls it
    let called = workflow.callable().is_some();
    workflow.jobs.iter().for_each(|job| look.job(job, called));
}

impl Look<'_> {
    fn job(&mut self, job: &Job, called: bool) {
        let elsewhere = |step: &Step| match &step.action {
            StepAction::Uses { uses, with } if uses.value.is_checkout() => {
                with.expr().is_some() || given(with, "path") || given(with, "repository")
            }
            _ => false,
        };
        let moved = job.steps.iter().any(|step| match &step.action {
            StepAction::Parallel(inner) => inner.iter().any(elsewhere),
            _ => elsewhere(step),
        });
        let mut workspace = Workspace::Empty;
        for step in &job.steps {
            match &step.action {
                StepAction::Parallel(inner) => {
                    workspace = Workspace::Any;
                    inner.iter().for_each(|step| self.step(step, workspace, moved, called));
                }
                _ => self.step(step, workspace, moved, called),
            }
            workspace = after(step, workspace);
        }
    }

    fn step(&mut self, step: &Step, workspace: Workspace, moved: bool, called: bool) {
        let StepAction::Uses { uses, with } = &step.action else { return };
        match &uses.value {
            checkout if checkout.is_checkout() => self.checkout(with),
            Uses::Local(path) if !moved => self.local(path, uses.span, with, workspace, called),
            _ => {}
        }
    }

    /// What is near an input of a checkout and is none: the next version may have others.
    fn checkout(&mut self, with: &Variables) {
        if !self.levels.is_on(Rule::ActionInputs) {
            return;
        }
        for input in with.list() {
            let (name, known) = (input.name.value.as_str(), checkout::inputs());
            let is_known = known.iter().any(|known| known.eq_ignore_ascii_case(name));
            if !is_known && did_you_mean(name, known.iter().copied()).is_some() {
                self.unknown("actions/checkout", name, input.name.span, known);
            }
        }
    }

    fn local(&mut self, path: &str, span: Span, with: &Variables, workspace: Workspace, called: bool) {
        let Some(inside) = path.strip_prefix("./").map(straight) else { return };
        let inside = inside.trim_end_matches('/');
        if inside.starts_with("..") {
            return;
        }
        match self.action(inside) {
            Known::Action(action) => {
                if workspace == Workspace::Empty {
                    self.missing(path, span, "no step has checked the repository out", |fault| {
                        fault.help("add `- uses: actions/checkout@v4` in front of it")
                    });
                }
                if self.levels.is_on(Rule::ActionInputs) {
                    self.inputs(path, span, with, &action);
                }
            }
            Known::Nothing if workspace != Workspace::Any && !called => {
                self.missing(path, span, "the repository has nothing there", |fault| {
                    fault.note("the path begins at the root of the repository")
                });
            }
            Known::Nothing | Known::Unknown => {}
        }
    }

    fn missing(&mut self, path: &str, span: Span, label: &str, more: impl Fn(Diagnostic) -> Diagnostic) {
        if self.levels.is_on(Rule::MissingAction) {
            let warning = Rule::MissingAction
                .warning(format!("there is no action `{path}` when this step begins"))
                .at(self.source, span)
                .label(label);
            self.push(more(warning));
        }
    }

    fn push(&mut self, warning: Diagnostic) {
        if self.left > 0 {
            self.left -= 1;
            self.found.push(warning);
        }
    }

    fn action(&mut self, path: &str) -> Known {
        if let Some(known) = self.known.get(path) {
            return known.clone();
        }
        if self.known.len() >= MAX_ACTIONS || self.bytes >= MAX_BYTES {
            return Known::Unknown;
        }
        let known = match self.repository.action(path) {
            ResolvedAction::Text(text) => {
                self.bytes += text.text().len();
                // what is wrong with it is said when it is looked at itself
                lower::parse_action(&text).action.map_or(Known::Unknown, |action| {
                    let names = action.inputs.iter().map(|input| input.name.value.to_ascii_lowercase());
                    let inputs = action.inputs.iter().enumerate();
                    let required = inputs
                        .filter(|(_, input)| input.required && input.default.is_none())
                        .map(|(at, _)| at);
                    Known::Action(Arc::new(Has {
                        names: names.collect(),
                        required: required.collect(),
                        action,
                    }))
                })
            }
            ResolvedAction::Nothing => Known::Nothing,
            ResolvedAction::Unknown => Known::Unknown,
        };
        self.known.insert(path.to_owned(), known.clone());
        known
    }

    fn inputs(&mut self, path: &str, span: Span, with: &Variables, has: &Has) {
        let OrExpr::Written(list) = with else { return };
        let Has { action, names, required } = has;
        let container = matches!(action.runs, Runs::Docker { .. });
        let given: HashSet<String> = list.iter().map(|input| input.name.value.to_ascii_lowercase()).collect();
        let mut shown: Option<Vec<&str>> = None;
        for input in list {
            if self.left == 0 {
                return;
            }
            let name = input.name.value.as_str();
            let of_container =
                container && ["args", "entrypoint"].iter().any(|known| known.eq_ignore_ascii_case(name));
            if !of_container && !names.contains(&name.to_ascii_lowercase()) {
                let known = shown.get_or_insert_with(|| {
                    action.inputs.iter().map(|input| input.name.value.as_str()).collect()
                });
                self.unknown(path, name, input.name.span, known);
            }
        }
        for input in required.iter().filter_map(|at| action.inputs.get(*at)) {
            if self.left == 0 {
                return;
            }
            let name = input.name.value.as_str();
            if !given.contains(&name.to_ascii_lowercase()) {
                self.push(
                    Rule::ActionInputs
                        .warning(format!("the action `{path}` needs the input `{name}`"))
                        .at(self.source, span)
                        .label("it is not given")
                        .also(&action.source, input.name.span, "required here")
                        .note("runners do not look at `required`: the input is empty")
                        .help(format!("add `{name}` to its `with`")),
                );
            }
        }
    }

    fn unknown(&mut self, action: &str, name: &str, span: Span, known: &[&str]) {
        let warning = Rule::ActionInputs
            .warning(format!("the action `{action}` has no input `{name}`"))
            .at(self.source, span)
            .label("read over");
        self.push(match did_you_mean(name, known.iter().copied().take(MAX_NEAR)) {
            Some(near) => warning.help(format!("did you mean `{near}`?")),
            None if known.is_empty() => warning.note("it has no inputs"),
            None => {
                let known: Vec<_> = known.iter().map(|known| (*known).to_owned()).collect();
                warning.note(format!("its inputs are {}", some(&known)))
            }
        });
    }
}

/// Whether an input is given, and not as an empty text.
fn given(with: &Variables, name: &str) -> bool {
    let mut found = with.list().iter().filter(|input| input.name.value.eq_ignore_ascii_case(name));
    found.any(|input| !input.value.raw().trim().is_empty())
}

fn after(step: &Step, before: Workspace) -> Workspace {
    match &step.action {
        // of another commit, or with submodules, it has other files
        StepAction::Uses { uses, with } if uses.value.is_checkout() => {
            match before != Workspace::Any
                && with.expr().is_none()
                && !given(with, "ref")
                && !given(with, "submodules")
            {
                true => Workspace::Own,
                false => Workspace::Any,
            }
        }
        StepAction::WaitAll | StepAction::Wait(_) | StepAction::Cancel(_) => before,
        _ => Workspace::Any,
    }
}

#[cfg(test)]
mod tests {
    use crate::rules::tests::{names, steps};

    const CHECKOUT: &str = "      - uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683\n";

    fn after(before: &str, path: &str, with: &str) -> Vec<doc::Diagnostic> {
        steps(&format!("{before}      - uses: {path}\n        with: {{{with}}}\n"))
    }

    #[test]
    fn inputs_are_those_that_the_action_has() {
        let one = |with: &str| after(CHECKOUT, "./.forgejo/actions/build", with);
        for with in ["level: 1", "Level: '', colour: ''", "level: '${{ github.ref }}', size: 2"] {
            assert_eq!(names(&one(with)), [""; 0], "{with}");
        }
        for (with, message, help) in [
            (
                "",
                "the action `./.forgejo/actions/build` needs the input `level`",
                "add `level` to its `with`",
            ),
            (
                "level: 1, color: x",
                "the action `./.forgejo/actions/build` has no input `color`",
                "did you mean `colour`?",
            ),
        ] {
            let found = one(with);
            assert_eq!((found.len(), found[0].rule), (1, Some("action-inputs")), "{with}: {found:?}");
            assert_eq!((found[0].message.as_str(), found[0].help[0].as_str()), (message, help));
        }
        let found = one("level: 1, entrypoint: x");
        assert_eq!(found[0].notes, ["its inputs are `level`, `colour`, `size`"], "it is no container");
        let checkout =
            CHECKOUT.trim_end().to_owned() + "\n        with: {Ref: x, fetchdepth: 0, allow-all: x}\n";
        assert_eq!(names(&steps(&checkout)), ["action-inputs"]);
    }

    #[test]
    fn an_action_is_there_after_a_checkout() {
        let other = |input: &str| CHECKOUT.trim_end().to_owned() + &format!("\n        with: {{{input}}}\n");
        let run = "      - run: make\n".to_owned();
        let missing = "missing-action";
        for (before, path, expected) in [
            (CHECKOUT.to_owned(), "./.forgejo/actions/build/", None),
            (CHECKOUT.to_owned(), "./.forgejo/x/../actions/./setup", None),
            (String::new(), "./.forgejo/actions/build", Some(missing)),
            (CHECKOUT.to_owned(), "./.forgejo/actions/stup", Some(missing)),
            (String::new(), "./.forgejo/actions/stup", Some(missing)),
            (other("fetch-depth: 0"), "./.forgejo/actions/stup", Some(missing)),
            // who knows what is there
            (CHECKOUT.to_owned() + &run, "./.forgejo/actions/stup", None),
            (run, "./.forgejo/actions/build", None),
            (other("ref: x"), "./.forgejo/actions/stup", None),
            (other("submodules: true"), "./.forgejo/actions/stup", None),
            (other("path: x"), "./.forgejo/actions/stup", None),
            (other("repository: x/y"), "./.forgejo/actions/stup", None),
            (CHECKOUT.to_owned(), "./", None),
            (CHECKOUT.to_owned(), "./../x", None),
            (CHECKOUT.to_owned(), "$/x", None),
        ] {
            let found: Vec<_> = after(&before, path, "level: 1")
                .into_iter()
                .filter(|fault| fault.rule == Some(missing))
                .collect();
            assert_eq!(names(&found), expected.into_iter().collect::<Vec<_>>(), "{before}{path}");
        }
        // inputs are not those of the action of this name where another repository is
        assert_eq!(names(&after(&other("path: x"), "./.forgejo/actions/build", "")), [""; 0]);
    }

    #[test]
    fn of_many_inputs_in_many_steps_no_more_is_found_than_is_shown() {
        use crate::{
            Resolved, WorkflowRef,
            rules::{FileKind, Levels, MAX_DIAGNOSTICS, Repository, ResolvedAction, check},
        };

        struct Wide(String);
        impl Repository for Wide {
            fn workflow(&mut self, _: &WorkflowRef) -> Resolved {
                Resolved::Elsewhere
            }

            fn action(&mut self, _: &str) -> ResolvedAction {
                ResolvedAction::Text(doc::Source::new("action.yml", self.0.as_str()))
            }
        }

        let inputs = |required: bool| {
            let of = |at: usize| format!("  input{at}: {{required: {required}, description: x}}\n");
            (0..5000).map(of).collect::<String>()
        };
        let odd = |at: usize| format!("          inpux{at}: x\n");
        let steps = "      - uses: ./x\n        with: {input1: x}\n".repeat(900);
        let step = "      - uses: ./x\n        with:\n".to_owned() + &(0..5000).map(odd).collect::<String>();
        for (required, steps) in [(true, steps), (false, step)] {
            let runs = "runs: {using: node20, main: x}\n";
            let action = format!("name: a\ndescription: x\ninputs:\n{}{runs}", inputs(required));
            let text = format!("on: push\njobs:\n  a:\n    runs-on: debian\n    steps:\n{CHECKOUT}{steps}");
            let source = doc::Source::new("x.yml", text.as_str());
            let path = ".forgejo/workflows/x.yml";
            let found = check(&source, FileKind::Workflow, path, &Levels::default(), &mut Wide(action));
            assert_eq!(found.len(), MAX_DIAGNOSTICS + 1, "and that there are more");
        }
    }
}
