//! Our own files, broken by machine: every break is found, and on the line that was broken.
//!
//! A break is wrong by construction. Each kind sees a file as lines (`text`) and the language as words of its own
//! (`names`), and says why what it makes is wrong; neither the parser nor the rules are asked about that, only about
//! what they find afterwards. What could be right by chance, with another meaning, is not made: a line moved within a
//! block of text, a quote dropped of what needs none, the last key of a map moved into the one above.
//!
//! The right line is the one that was broken, also where a parser can only notice later (a quote or a bracket that is
//! open); of a key that was taken out, the one of the map that lacks it. Only the first error counts.

mod expressions;
#[path = "../files/mod.rs"]
mod files;
mod language;
mod names;
mod text;
mod yaml;

use std::{collections::BTreeSet, fmt::Write, path::Path};

use doc::{Diagnostic, Rendering, Source};
use text::Text;
use workflow::{
    Resolved, WorkflowRef,
    rules::{FileKind, Levels, Rule, check},
};

/// One of our files.
struct File {
    name: String,
    whole: String,
    text: Text,
    action: bool,
}

/// What one kind makes of one file.
#[derive(Default)]
struct Made(Vec<(usize, String)>);

impl Made {
    /// A broken text, and which of its lines is wrong, counted from 0.
    fn add(&mut self, row: usize, text: String) {
        self.0.push((row, text));
    }
}

struct Kind {
    name: &'static str,
    make: fn(&File, &mut Made),
    /// By which it is found: an error without.
    rule: Option<&'static str>,
}

const fn kind(name: &'static str, make: fn(&File, &mut Made)) -> Kind {
    Kind { name, make, rule: None }
}

const KINDS: &[Kind] = &[
    kind("a key misspelled", language::key),
    kind("a need renamed", language::need),
    kind("a value of another kind", language::value),
    kind("an event misspelled", language::event),
    kind("a required key removed", language::required),
    kind("a quote dropped", yaml::quote),
    kind("a bracket dropped", yaml::bracket),
    kind("a space more in front", yaml::indent_more),
    kind("a space less in front", yaml::indent_less),
    kind("a tab in front", yaml::tab),
    kind("a key twice", yaml::duplicate),
    kind("a colon, or its space, dropped", yaml::colon),
    kind("the space of a dash dropped", yaml::dash),
    kind("`}}` cut", expressions::end_brace),
    kind("`${{` cut where no text may be", expressions::start_brace),
    kind("`$` dropped", expressions::dollar),
    kind("a function misspelled", expressions::function),
    kind("a context misspelled", expressions::context),
    kind("an operator, bracket or dot wrong", expressions::grammar),
    kind("a quote of an expression dropped", expressions::quote),
    Kind {
        name: "`${{` cut in a text",
        make: expressions::start_brace_in_text,
        rule: Some("half-expression"),
    },
    Kind { name: "a name in an expression changed", make: expressions::name, rule: Some("unknown-property") },
];

fn examples(dir: &Path, found: &mut Vec<(String, String)>) {
    let mut entries: Vec<_> =
        std::fs::read_dir(dir).expect("directory").map(|entry| entry.expect("entry").path()).collect();
    entries.sort();
    for path in entries {
        if path.is_dir() {
            examples(&path, found);
        } else if path.extension().is_some_and(|end| end == "yml") {
            found.push((path.display().to_string(), std::fs::read_to_string(&path).expect("file")));
        }
    }
}

fn our_files() -> Vec<File> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut workflows = Vec::new();
    examples(&root.join("examples"), &mut workflows);
    workflows.extend(files::files("good"));
    let fork = std::fs::read_to_string(root.join("actions/fork/action.yml")).expect("file");
    let actions = files::files("good_actions").into_iter().chain([("fork".to_owned(), fork)]);
    let file =
        |(name, whole): (String, String), action| File { text: Text::new(&whole), name, whole, action };
    let actions: Vec<_> = actions.map(|found| file(found, true)).collect();
    workflows.into_iter().map(|found| file(found, false)).chain(actions).collect()
}

/// What `ampoule validate` finds.
fn found(file: &File, text: &str) -> Vec<Diagnostic> {
    let source = Source::new("x.yml", text);
    let kind = if file.action { FileKind::Action } else { FileKind::Workflow };
    check(&source, kind, ".forgejo/workflows/x.yml", &Levels::default(), &mut |_: &WorkflowRef| {
        Resolved::Elsewhere
    })
}

fn line(fault: &Diagnostic) -> usize {
    fault.primary.as_ref().map_or(0, |label| label.source.line_column(label.span.start).0)
}

#[derive(Default)]
struct Row {
    made: usize,
    found: usize,
    right: usize,
}

#[test]
fn every_break_is_found_where_it_is() {
    let files = our_files();
    for file in &files {
        let errors: Vec<_> = found(file, &file.whole).into_iter().filter(Diagnostic::is_error).collect();
        assert!(errors.is_empty(), "{}: {}", file.name, errors[0].render(Rendering::Plain));
    }
    let mut all = Row::default();
    let mut table = String::new();
    let mut misses = String::new();
    let mut texts = BTreeSet::new();
    for kind in KINDS {
        assert!(
            kind.rule.is_none_or(|rule| Rule::parse(rule).is_ok()),
            "{}: there is no such rule",
            kind.name
        );
        let mut row = Row::default();
        for file in &files {
            let known: Vec<_> = found(file, &file.whole).iter().map(ToString::to_string).collect();
            let mut made = Made::default();
            (kind.make)(file, &mut made);
            for (wrong, text) in made.0 {
                assert_ne!(text, file.whole, "{}: {}", kind.name, file.name);
                if !texts.insert((file.name.clone(), text.clone())) {
                    continue; // another kind makes the same
                }
                row.made += 1;
                let first = found(file, &text).into_iter().find(|fault| match kind.rule {
                    Some(_) => fault.rule == kind.rule && !known.contains(&fault.to_string()),
                    None => fault.is_error(),
                });
                row.found += usize::from(first.is_some());
                let right = first.as_ref().is_some_and(|fault| line(fault) == wrong + 1);
                row.right += usize::from(right);
                if !right {
                    let said = first.map_or("nothing".to_owned(), |fault| fault.render(Rendering::Plain));
                    let line = text.lines().nth(wrong).unwrap_or_default();
                    writeln!(misses, "{}: {}:{}: {line}\n{said}\n", kind.name, file.name, wrong + 1).unwrap();
                }
            }
        }
        writeln!(table, "{:<36}{:>6}{:>7}{:>12}", kind.name, row.made, row.found, row.right).unwrap();
        assert!(row.made > 0, "{} makes nothing", kind.name);
        all.made += row.made;
        all.found += row.found;
        all.right += row.right;
    }
    let head = format!("{:<36}{:>6}{:>7}{:>12}", "kind", "made", "found", "right line");
    println!("{head}\n{table}{:<36}{:>6}{:>7}{:>12}\n\n{misses}", "all", all.made, all.found, all.right);
    assert!(all.made >= 500, "{} are few", all.made);
    assert_eq!(all.found, all.made, "some are not found");
    assert!(all.right * 100 >= all.made * 95, "{} of {} on the right line", all.right, all.made);
}
