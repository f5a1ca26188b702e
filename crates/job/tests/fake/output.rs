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
