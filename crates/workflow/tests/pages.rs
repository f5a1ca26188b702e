//! The pages of the docs that are made of the code: `UPDATE_DOCS=1 cargo test -p workflow` writes them.

mod files;

use std::{env, fs, path::Path};

use doc::{Diagnostic, Rendering, Source};
use files::files;
use workflow::{
    Resolved, WorkflowRef,
    rules::{FileKind, Levels, check, page, tally},
};

/// Where the files of the mistakes are.
const DIRECTORY: &str = "docs/mistakes/.forgejo/workflows";

/// The mistake that calls another file, and that one.
const CALLER: &str = "call_that_does_not_fit";
const CALLED: &str = "deploy";

/// Each mistake: its file, its title, and what a person meant. The page has this order.
const MISTAKES: [(&str, &str, &str); 40] = [
    ("misspelt_keys", "A misspelt key", "The token should only read, and the step end after ten minutes."),
    (
        "key_at_the_wrong_level",
        "A key at the wrong level",
        "All jobs should run on Debian, the test wait for the build, and the cache have a path.",
    ),
    ("indentation", "Wrong indentation", "`env` should be of the step."),
    ("tab", "A tab as indentation", "The steps of the job should begin here."),
    ("quote_not_closed", "A quote that is not closed", "The step should have a name."),
    ("colon_in_a_value", "A colon in a value", "The script should print a word, a colon and the result."),
    ("key_twice", "The same key twice", "Both variables should be there."),
    ("hash_in_a_value", "A `#` in a value", "The step should be named by its ticket."),
    ("colon_without_a_space", "A colon without a space", "The step should be named."),
    ("unknown_shell", "A shell that is none", "The steps should run in bash and in fish."),
    ("steps_missing", "A part that is missing", "A push should run both jobs."),
    ("wrong_types", "A value of the wrong kind", "Ten minutes at most, whatever becomes of it, all at once."),
    ("version_as_number", "A version that is a number", "The tests should run with Python 3.10 and Go 1.20."),
    ("octal_number", "A number that begins with a zero", "The modes should be those of `chmod`."),
    ("misspelt_event", "A misspelt event", "Pull requests should start the workflow when they are opened."),
    (
        "both_filters",
        "Two filters that exclude each other",
        "All branches of releases should start it, but for one.",
    ),
    ("pattern", "A pattern that is none", "Tags of versions, and changes below `src`, should start it."),
    (
        "cron",
        "A time that never comes",
        "The workflow should start at midnight, at five, and at the month's end.",
    ),
    (
        "input_types",
        "An input of a type that is none",
        "Whoever starts the workflow should be asked for four values.",
    ),
    ("need_not_there", "A need that is not there", "The test should wait for the build and for the linter."),
    ("needs_in_a_circle", "Needs in a circle", "The linter should come first, the deployment last."),
    (
        "output_of_no_need",
        "An output of a job that is not needed",
        "Test and deployment should get the image that the build has pushed.",
    ),
    ("step_id_twice", "The same id twice", "Both steps should have an id."),
    (
        "action_without_version",
        "An action without a version",
        "The steps should run two actions and a workflow.",
    ),
    ("uses_and_run", "`uses` and `run` in one step", "The step should check out and then test."),
    (
        "matrix_shapes",
        "A matrix of the wrong shape",
        "One job should have one more system, the other one less.",
    ),
    ("call_that_does_not_fit", "A call that does not fit", "The job should call the other workflow."),
    ("secrets_without_a_call", "`secrets` without a call", "Both jobs should see the secrets."),
    ("expression_not_closed", "An expression that is not closed", "The script should get the ref."),
    (
        "half_an_expression",
        "An expression without its beginning",
        "Both should be built with the commit as version.",
    ),
    ("quotes_in_an_expression", "Double quotes in an expression", "Only the main branch should be deployed."),
    (
        "unknown_context_and_function",
        "A context or a function that is not there",
        "The step should run on branches of releases, and print the commit.",
    ),
    ("context_not_there", "A context that is not there yet", "The label should stand in one place."),
    (
        "unknown_property",
        "A property that nothing has",
        "The build should get the output of the step above, and the script the name of the branch.",
    ),
    ("if_always_true", "An `if` that is always true", "Only the main branch should be deployed."),
    (
        "if_with_a_bang",
        "An `if` that begins with `!`",
        "The report should also be made of tests that failed.",
    ),
    ("boolean_as_text", "A boolean taken for a text", "Where the box is ticked it should be published."),
    ("untrusted_input", "Text of strangers in a script", "The issue should get a label by its title."),
    ("retired_commands", "Commands that are retired", "The version should be an output, and `CI` be set."),
    (
        "cache_that_never_changes",
        "A cache that never changes",
        "What was downloaded should be kept until the lock file changes.",
    ),
];

/// One mistake as the page has it: what `ampoule validate` prints, which `cargo xtask console` looks at as well.
fn section(files: &[(String, String)], (name, title, meant): (&str, &str, &str)) -> String {
    let path = |name: &str| format!("{DIRECTORY}/{name}.yml");
    let text = |name: &str| &files.iter().find(|(file, _)| file == name).expect(name).1;
    let source = Source::new(path(name), text(name).as_str());
    let callee = Source::new(path(CALLED), text(CALLED).as_str());
    let mut resolve = |uses: &WorkflowRef| match uses {
        WorkflowRef::Local(_) => Resolved::Text(callee.clone()),
        WorkflowRef::Repository { .. } => Resolved::Elsewhere,
    };
    let inside = format!(".forgejo/workflows/{name}.yml");
    let found = check(&source, FileKind::Workflow, &inside, &Levels::default(), &mut resolve);
    assert!(!found.is_empty(), "{name} is found good");
    let said: String = found.iter().map(|fault| fault.render(Rendering::Plain) + "\n\n").collect();
    let end = if found.iter().any(Diagnostic::is_error) { "? 1\n" } else { "" };
    let called = match name == CALLER {
        true => format!("```yaml\n# {CALLED}.yml\n{}```\n\n", text(CALLED)),
        false => String::new(),
    };
    format!(
        "\n## {title}\n\n{meant}\n\n```yaml\n{}```\n\n{called}```console\n$ ampoule validate {}\n{said}{}\n{end}```\n",
        text(name),
        path(name),
        tally(&found, 1),
    )
}

/// The sections behind a mark of a page that are not what is made; `UPDATE_DOCS=1` writes them.
fn keep(page: &str, mark: &str, made: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/src").join(page);
    let before = fs::read_to_string(&path).expect("page");
    let (head, old) = before.split_once(mark).expect("mark");
    if env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{head}{mark}{made}")).expect("page");
        return Vec::new();
    }
    let changed: Vec<_> = parts(made).filter(|part| !parts(old).any(|old| old == *part)).collect();
    match changed.is_empty() && old != made {
        true => vec!["there is more on the page, or in another order".to_owned()],
        false => changed,
    }
}

/// A page by its headings.
fn parts(text: &str) -> impl Iterator<Item = String> {
    text.split("\n## ").flat_map(|part| part.split("\n### ")).map(str::to_owned)
}

#[test]
fn the_rules() {
    const MARK: &str = "<!-- made of the table of rules, by UPDATE_DOCS=1 cargo test -p workflow -->\n";
    let changed = keep("rules.md", MARK, &page());
    assert!(changed.is_empty(), "docs/src/rules.md is not up to date:\n{}", changed.join("\n"));
}

#[test]
fn the_mistakes() {
    const MARK: &str =
        "<!-- made of the files in docs/mistakes, by UPDATE_DOCS=1 cargo test -p workflow -->\n";
    let files = files(&format!("../../../{DIRECTORY}"));
    assert_eq!(files.len(), MISTAKES.len() + 1, "all but the called one are on the page");
    let made: String = MISTAKES.into_iter().map(|mistake| section(&files, mistake)).collect();
    let changed = keep("mistakes.md", MARK, &made);
    assert!(changed.is_empty(), "what is said of these has changed:\n{}", changed.join("\n"));
}
