//! Rows: masked, whole, in order.

use job::Outcome;
use libtest_mimic::Trial;

use crate::harness::{run, steps, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("secrets_are_masked_across_chunks_and_rows", masked),
        trial("a_mask_counts_from_its_row_on", add_mask),
        trial("commands_are_obeyed", commands),
        trial("long_rows_are_cut_and_complete", long_rows),
        trial("many_rows_are_complete_and_in_order", many_rows),
        trial("what_is_not_utf8_is_replaced", not_utf8),
        trial("names_are_masked", names),
        trial("matchers_of_the_workspace_make_annotations", matchers),
        trial("variables_of_the_runner_are_not_set", reserved),
    ]
}

async fn masked() {
    let said = run(steps(
        r#"
- env: {PW: "${{ secrets.PASSWORD }}"}
  run: |
    for part in hun ter2 -sec ret; do printf '%s' "$part"; sleep 0.05; done; echo .
    echo "<$PW>" >&2
    printf '%s\n' "first line" "second line" "third line"
    printf 'first line\r\nsecond line\r\n'
    echo "token: ${{ github.token }}"
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    assert_eq!(said.rows(Some(0)), ["***.", "<***>", "***", "***", "third line", "***", "***", "token: ***"]);
}

async fn add_mask() {
    let said = run(steps("- run: |\n    echo new-secret\n    echo '::add-mask::new-secret'\n    echo new-secret\n- run: echo new-secret")).await;
    assert_eq!(said.rows(Some(0)), ["new-secret", "***"]);
    assert_eq!(said.rows(Some(1)), ["***"]);
}

async fn commands() {
    let said = run(steps(
        r#"
- run: |
    echo '::group::A title'
    echo '::endgroup::'
    echo '::debug::hidden'
    echo '::warning file=a.c,line=3::careful'
    echo '::stop-commands::token'
    echo '::warning::as it is'
    echo '::token::'
    echo '::add-path::/x'
- if: failure()
  env: {ACTIONS_ALLOW_UNSECURE_COMMANDS: true}
  run: |
    echo '::set-env name=OLD::way'
- if: failure()
  run: echo "$OLD"
"#,
    ))
    .await;
    let rows = said.rows(Some(0));
    assert_eq!(
        rows[..4],
        ["##[group]A title", "##[endgroup]", "##[warning]a.c:3: careful", "::warning::as it is"]
    );
    assert!(rows[4].starts_with("##[error]the command `add-path` is refused"), "{rows:?}");
    assert_eq!(said.ends()[0].0, Outcome::Failure);
    assert_eq!(said.rows(Some(2)), ["way"]);
}

async fn long_rows() {
    let said =
        run(steps("- run: |\n    head -c 3000000 /dev/zero | tr '\\0' x\n    echo\n    echo end")).await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.rows(None).join("\n"));
    let rows = said.rows(Some(0));
    assert_eq!(rows.last(), Some(&"end"));
    assert_eq!(rows[..rows.len() - 1].iter().map(|row| row.len()).sum::<usize>(), 3_000_000);
    assert!(rows.iter().all(|row| row.len() <= 65_536));
}

async fn many_rows() {
    let said = run(steps("- run: |\n    seq 1 50000\n    seq 50001 60000 >&2\n    seq 60001 70000")).await;
    let rows = said.rows(Some(0));
    assert_eq!(rows.len(), 70_000);
    assert!(rows.iter().zip(1..).all(|(row, number)| *row == format!("{number}")));
}

async fn not_utf8() {
    let said = run(steps(r"- run: printf 'a\377b\n\303\251\nend'")).await;
    assert_eq!(said.rows(Some(0)), ["a\u{fffd}b", "\u{e9}", "end"]);
}

async fn names() {
    let said = run(steps("- name: with ${{ secrets.PASSWORD }}\n  run: echo x")).await;
    assert!(said.events.iter().any(|event| matches!(
        &event.kind,
        job::EventKind::StepStart { name, .. } if name == "with ***"
    )));
}

async fn matchers() {
    let said = run(steps(
        r#"
- run: |
    echo 'a.c:1: warning: before'
    printf '%s' '{"problemMatcher": [{"owner": "cc", "pattern": [{"regexp": "^(.*):([0-9]+): (warning|error): (.*)$", "file": 1, "line": 2, "severity": 3, "message": 4}]}]}' > cc.json
    echo '::add-matcher::cc.json'
    echo "$PWD/a.c:2: warning: odd"
- run: |
    echo 'a.c:3: error: in the next step'
    echo '::remove-matcher owner=cc::'
    echo 'a.c:4: error: behind'
    mkdir dir
    echo '::add-matcher::dir'
    echo '::add-matcher::none.json'
    echo '::notice file=x,line=5,title=T::hi'
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    let annotations: Vec<String> = said
        .events
        .iter()
        .filter_map(|event| match &event.kind {
            job::EventKind::Annotation { step, annotation } => {
                Some(format!("{step} {} {}", annotation.level.name(), annotation.text()))
            }
            _ => None,
        })
        .collect();
    assert_eq!(
        annotations,
        ["0 warning a.c:2: odd", "1 error a.c:3: in the next step", "1 notice x:5: T: hi"],
        "{}",
        said.all()
    );
    let rows = said.rows(Some(1));
    assert_eq!(rows[..2], ["##[error]a.c:3: error: in the next step", "a.c:4: error: behind"]);
    assert_eq!(rows[2], "##[warning]`add-matcher` does nothing: `dir`: it is no regular file");
    assert_eq!(rows[3], "##[warning]`add-matcher` does nothing: `none.json`: there is no such file");
}

async fn reserved() {
    let said = run(steps(
        r#"
- run: |
    printf 'NODE_OPTIONS=-r x\nGITHUB_REF=mine\nFREE=yes\n' > "$GITHUB_ENV"
- run: echo "<$NODE_OPTIONS> <$FREE> $([ "$GITHUB_REF" = mine ] && echo mine)"
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    let rows = said.rows(Some(0));
    assert!(rows[0].starts_with("##[error]`NODE_OPTIONS` is not set"), "{rows:?}");
    assert!(rows[1].starts_with("##[warning]`GITHUB_REF` is not set"), "{rows:?}");
    assert_eq!(said.rows(Some(1)), ["<> <yes> "]);
}
