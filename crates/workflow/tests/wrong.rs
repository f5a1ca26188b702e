//! Wrong workflows, and what a person is told: one snapshot for each file of `tests/wrong`.

mod files;

use std::{path::Path, sync::Arc};

use doc::{Diagnostic, Rendering, Source};
use files::files;
use proptest::test_runner::Config as ProptestConfig;
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
    found.extend(support::check_for(&plan, "me/it"));
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
    // `whole` has what cannot run yet; `model.rs` looks at it
    for (name, text) in files("good").into_iter().filter(|(name, _)| name != "whole") {
        let found = complaints(&Source::new(format!("{name}.yml"), text));
        let shown: Vec<_> = found.iter().map(|fault| fault.render(Rendering::Plain)).collect();
        assert!(found.is_empty(), "{name}:\n{}", shown.join("\n\n"));
    }
}

/// What only GitHub refuses is nothing where GitHub does not read.
#[test]
fn by_directory() {
    let job = "    runs-on: x\n    strategy: {matrix: {a: [1], include: [{}], exclude: [{}]}}\n";
    let steps = "    steps: [{run: x, id: __a}]\n";
    let text = format!("on: push\nenv: {{no_proxy: a, NO_PROXY: a}}\njobs:\n  __x:\n{job}{steps}");
    let said = |dir: &str| {
        let found = parse(&Source::new(format!("{dir}/workflows/a.yml"), text.clone())).diagnostics;
        found.into_iter().map(|fault| fault.message).collect::<Vec<_>>()
    };
    let id = "GitHub takes no id that begins with `__`";
    let empty = ["include", "exclude"].map(|key| format!("GitHub takes no empty entry of `{key}`"));
    let [include, exclude] = &empty;
    assert_eq!(said("/r/.github"), ["two names differ only by case", id, include, exclude, id]);
    assert_eq!(said(".forgejo"), [""; 0]);
    assert_eq!(said("/r/.gitea"), [""; 0]);
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

proptest::proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A good workflow with pieces cut out, doubled or moved is read or refused, never a panic.
    #[test]
    fn damaged_workflows(
        which in 0usize..64,
        cuts in proptest::collection::vec((0.0..1.0f64, 1usize..12, 0.0..1.0f64), 1..4),
    ) {
        let files: Vec<_> = files("good").into_iter().chain(files("wrong")).collect();
        let mut text: Vec<char> = files[which % files.len()].1.chars().collect();
        for (from, length, to) in cuts {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss, reason = "a part of a small length")]
            let place = |part: f64, text: &[char]| (part * text.len() as f64) as usize;
            let start = place(from, &text);
            let end = (start + length).min(text.len());
            let piece: Vec<char> = text.drain(start..end).collect();
            let at = place(to, &text);
            if length % 3 != 0 {
                text.splice(at..at, piece);
            }
        }
        let text: String = text.into_iter().collect();
        workflow::fuzz_targets::workflow(text.as_bytes());
        workflow::fuzz_targets::template(text.as_bytes());
    }
}
