//! Wrong workflows, and what a person is told: one snapshot for each file of `tests/wrong`.

use std::{path::Path, sync::Arc};

use doc::{Diagnostic, Rendering, Source};
use workflow::{Contexts, Plan, Results, RunState, Surroundings, parse, support};

/// Everything that is said before a VM would start.
fn complaints(source: &Source) -> Vec<Diagnostic> {
    let (workflow, mut found) = match parse(source).into_result() {
        Ok(good) => good,
        Err(faults) => return faults,
    };
    let plan = match Plan::new(Arc::new(workflow)) {
        Ok(plan) => plan,
        Err(faults) => {
            found.extend(faults);
            return found;
        }
    };
    found.extend(support::check(&plan));
    if !found.iter().any(Diagnostic::is_error) {
        let (results, contexts) = (Results::new(), Contexts::new());
        let around =
            Surroundings { results: &results, contexts: &contexts, run: RunState::Running, filters: &[] };
        for job in plan.jobs().filter(|job| job.needs.is_empty()) {
            found.extend(plan.expand(&job.id.value, around).err().unwrap_or_default());
        }
    }
    found
}

fn files(dir: &str) -> Vec<(String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(dir);
    let mut files: Vec<_> = std::fs::read_dir(dir)
        .expect("directory")
        .map(|entry| entry.expect("entry").path())
        .map(|path| {
            let name = path.file_stem().expect("name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(path).expect("file"))
        })
        .collect();
    files.sort();
    files
}

#[test]
fn what_is_said() {
    let files = files("wrong");
    assert!(files.len() >= 20);
    for (name, text) in files {
        let found = complaints(&Source::new(format!("{name}.yml"), text));
        assert!(!found.is_empty(), "{name} is found good");
        let shown: Vec<_> = found.iter().map(|fault| fault.render(Rendering::Plain)).collect();
        insta::assert_snapshot!(name, shown.join("\n\n"));
    }
}

#[test]
fn good_ones_are_good() {
    for (name, text) in files("good") {
        let found = complaints(&Source::new(format!("{name}.yml"), text));
        let shown: Vec<_> = found.iter().map(|fault| fault.render(Rendering::Plain)).collect();
        assert!(found.is_empty(), "{name}:\n{}", shown.join("\n\n"));
    }
}

/// The repository's own examples.
#[test]
fn examples_are_good() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut open = vec![root];
    let mut seen = 0;
    while let Some(dir) = open.pop() {
        for entry in std::fs::read_dir(dir).expect("directory") {
            let path = entry.expect("entry").path();
            if path.is_dir() {
                open.push(path);
            } else if path.extension().is_some_and(|end| end == "yml" || end == "yaml") {
                let source =
                    Source::new(path.display().to_string(), std::fs::read_to_string(&path).expect("file"));
                let errors: Vec<_> = complaints(&source)
                    .into_iter()
                    .filter(Diagnostic::is_error)
                    .map(|e| e.to_string())
                    .collect();
                assert!(errors.is_empty(), "{errors:?}");
                seen += 1;
            }
        }
    }
    assert!(seen > 0, "no examples");
}
