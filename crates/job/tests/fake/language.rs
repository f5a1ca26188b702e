//! Steps, files, contexts, results.

use std::sync::Arc;

use job::{Canceller, Error, JobImage, Outcome, Workspace};
use libtest_mimic::Trial;
use sandbox::Root;

use crate::harness::{Tree, context, image, run, run_on, run_with, spec, steps, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("hello", hello),
        trial("a_skipped_job_has_only_its_end", skipped_job),
        trial("a_vm_that_cannot_be_made_is_told", no_vm),
        trial("secrets_that_cannot_be_masked_end_the_job", unmaskable),
        trial("files_of_a_step_reach_the_next", files),
        trial("a_file_that_cannot_be_read_fails_the_step", bad_file),
        trial("a_file_that_is_no_file_any_more_fails_the_step", replaced_files),
        trial("the_inner_environment_wins", environment),
        trial("conditions_see_how_it_went", conditions),
        trial("continue_on_error_keeps_the_outcome", continue_on_error),
        trial("shells_and_directories", shells),
        trial("a_path_without_a_shell_is_told", no_shell),
        trial("outputs_without_secrets", outputs),
        trial("checkout_is_satisfied_from_the_tree", checkout),
        trial("an_empty_workspace_is_filled_by_checkout", empty_workspace),
        trial("what_the_tree_leaves_out_is_told", left_out),
        trial("only_a_job_that_reads_the_tree_is_told_of_the_missing_checkout", no_checkout),
        trial("files_are_hashed", hash),
        trial("faults_of_expressions_fail_their_step", faults),
    ]
}

async fn hello() {
    let said =
        run(steps("- run: echo hello\n- name: Second\n  run: echo \"${{ vars.GREETING }} $CI\"")).await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    assert_eq!(said.rows(Some(0)), ["hello"]);
    assert_eq!(said.rows(Some(1)), ["hi true"]);
    let rows = said.rows(None).join("\n");
    for row in
        ["image: none", "backend: fake", "boundary: none", "size: 1 CPUs, 64 MiB", "network: this host's"]
    {
        assert!(rows.contains(row), "{rows}");
    }
}

async fn skipped_job() {
    let text = "on: push\njobs:\n  it:\n    runs-on: any\n    if: false\n    steps: [{run: exit 1}]\n";
    let nothing = JobImage { root: Root::Image("/none".into()), ..image() };
    let said = run_on(&nothing, spec(text), context(), Canceller::new().1, |_| {}).await;
    assert_eq!(said.result(), Outcome::Skipped, "no VM is made for it");
    assert_eq!(said.events.len(), 1, "{}", said.all());
}

async fn no_vm() {
    let nothing = JobImage { root: Root::Image("/none".into()), ..image() };
    let said = run_on(&nothing, steps("- run: echo never"), context(), Canceller::new().1, |_| {}).await;
    assert!(matches!(said.outcome, Err(Error::Lease(_))), "{:?}", said.outcome);
    let rows = said.rows(None).join("\n");
    assert!(rows.contains("##[error]no VM could be made for the job: ") && rows.contains("/none"), "{rows}");
    assert_eq!(said.ends(), [(Outcome::Skipped, Outcome::Skipped)]);
}

async fn unmaskable() {
    let mut context = context();
    let many: Vec<String> = (0..10_000).map(|number| format!("value-{number}")).collect();
    context.masks = vec![many.join("\n").into()];
    let said = run_on(&image(), steps("- run: echo never"), context, Canceller::new().1, |_| {}).await;
    assert!(matches!(said.outcome, Err(Error::Secrets(_))), "{:?}", said.outcome);
    assert_eq!(said.events.len(), 2, "{}", said.all());
}

async fn files() {
    let said = run(steps(
        r#"
- id: one
  run: |
    echo "a=1" >> "$GITHUB_OUTPUT"
    printf 'b<<END\nx\ny\nEND\n' >> "$FORGEJO_OUTPUT"
    echo "FROM_FILE=file" >> "$GITHUB_ENV"
    mkdir bin; printf '#!/bin/sh\necho mine\n' > bin/tool; chmod +x bin/tool
    echo "$PWD/bin" >> "$GITHUB_PATH"
    echo "::set-output name=c::old"
    echo '# Summary of hunter2-secret' >> "$GITHUB_STEP_SUMMARY"
- run: |
    echo "${{ steps.one.outputs.a }}-${{ steps.one.outputs.b }}-${{ steps.one.outputs.c }}"
    echo "$FROM_FILE ${{ env.FROM_FILE }}"
    tool
    rm -rf /tmp/_ampoule "$(dirname "$GITHUB_ENV")"
- run: echo "still $FROM_FILE ${{ steps.one.outcome }}"
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    assert_eq!(said.rows(Some(1)), ["1-x", "y-old", "file file", "mine"]);
    assert_eq!(said.rows(Some(2)), ["still file success"]);
    let outcome = said.outcome.as_ref().unwrap();
    assert_eq!(outcome.summaries[&0], "# Summary of ***\n");
}

async fn bad_file() {
    let said = run(steps(
        r#"
- run: |
    echo "GOOD=1" >> "$GITHUB_ENV"
    printf 'ok=1\nb<<END\nx\n' >> "$GITHUB_OUTPUT"
- if: failure()
  run: echo "$GOOD"
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Failure);
    assert_eq!(
        said.rows(Some(0)),
        ["##[error]GITHUB_OUTPUT: line 2: the value of `b` has no end: no later line is exactly `END`"]
    );
    assert_eq!(said.rows(Some(1)), ["1"], "the other files count");
}

async fn replaced_files() {
    let mut text = String::new();
    let kinds = [
        ("OUTPUT", "mkdir"),
        ("ENV", "mkfifo"),
        ("PATH", "ln -s /dev/null"),
        ("STATE", "python3 -c 'import socket, sys; socket.socket(socket.AF_UNIX).bind(sys.argv[1])'"),
        ("STEP_SUMMARY", "mkfifo"),
    ];
    for (file, make) in kinds {
        let step = format!(
            "- if: always()\n  run: |\n    cd \"$(dirname \"$GITHUB_{file}\")\"; it=$(basename \"$GITHUB_{file}\")\n    rm $it; {make} $it\n"
        );
        text.push_str(&step);
    }
    text.push_str("- if: always()\n  run: rm $GITHUB_STATE $GITHUB_ENV; echo a=1 > $GITHUB_OUTPUT\n");
    let said = run(steps(&text)).await;
    for (index, (file, _)) in kinds.iter().enumerate() {
        let row = format!("##[error]GITHUB_{file} is no longer a regular file");
        assert_eq!(said.rows(Some(index)), [row], "{}", said.all());
        assert_eq!(said.ends()[index].0, Outcome::Failure);
    }
    assert_eq!(said.ends()[5].0, Outcome::Success, "removed is as good as empty\n{}", said.all());
}

async fn environment() {
    let said = run(spec(
        r#"
on: push
env: {A: workflow, B: workflow, C: workflow, D: workflow}
jobs:
  it:
    runs-on: any
    env: {B: job, C: job, D: job}
    steps:
      - run: |
          echo "C=file" >> "$GITHUB_ENV"
          echo "D=file" >> "$GITHUB_ENV"
      - env: {D: step}
        run: |
          echo "$FROM_CALLER $A $B $C $D ${{ env.D }}"
          echo "$GITHUB_SHA $FORGEJO_SHA $GITHUB_REPOSITORY $GITHUB_JOB $RUNNER_NAME"
          test "$GITHUB_WORKSPACE" = "$PWD" && test -f "$GITHUB_EVENT_PATH" && echo fine
          echo "${{ github.event_path && runner.os }}"
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    assert_eq!(
        said.rows(Some(1)),
        ["caller workflow job file step step", "abc123 abc123 me/it it tester", "fine", "Linux"]
    );
}

async fn conditions() {
    let said = run(steps(
        r#"
- id: bad
  run: exit 3
- run: echo never
- if: failure()
  run: echo "${{ job.status }} ${{ steps.bad.outcome }} ${{ steps.bad.conclusion }}"
- if: always()
  run: echo always
- if: cancelled()
  run: echo never
- if: ${{ !cancelled() && steps.bad.outcome == 'failure' }}
  run: echo both
"#,
    ))
    .await;
    use Outcome::{Failure, Skipped, Success};
    assert_eq!(said.result(), Failure);
    let outcomes: Vec<_> = said.ends().into_iter().map(|(outcome, _)| outcome).collect();
    assert_eq!(outcomes, [Failure, Skipped, Success, Success, Skipped, Success]);
    assert_eq!(said.rows(Some(0)), ["##[error]the script ended with exit code 3"]);
    assert_eq!(said.rows(Some(2)), ["failure failure failure"]);
    assert!(said.outcome.as_ref().unwrap().stopped.is_none());
}

async fn continue_on_error() {
    let said = run(steps(
        r#"
- id: bad
  continue-on-error: true
  run: exit 1
- run: echo "${{ steps.bad.outcome }} ${{ steps.bad.conclusion }} ${{ job.status }}"
- continue-on-error: ${{ 1 == 1 }}
  timeout-minutes: 0.005
  run: sleep 60
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    assert_eq!(said.rows(Some(1)), ["failure success success"]);
    assert_eq!(
        said.ends(),
        [
            (Outcome::Failure, Outcome::Success),
            (Outcome::Success, Outcome::Success),
            (Outcome::Failure, Outcome::Success)
        ]
    );
}

async fn shells() {
    let said = run(steps(
        r#"
- shell: sh
  run: echo "sh $0" | sed 's/ .*script/ script/'
- shell: python
  run: |
    import os
    print("py", os.path.basename(os.getcwd()))
  working-directory: src
- shell: bash
  run: "false | true"
- if: always()
  run: |
    false | true
    echo "the default has no pipefail"
- if: always()
  working-directory: not/there
  run: echo never
- if: always()
  working-directory: ${{ github.workspace }}/src
  run: cat main.c
"#,
    ))
    .await;
    assert_eq!(said.rows(Some(0)), ["sh script.sh"]);
    assert_eq!(said.rows(Some(1)), ["py src"]);
    assert_eq!(said.ends()[2].0, Outcome::Failure, "{}", said.all());
    assert_eq!(said.rows(Some(3)), ["the default has no pipefail"]);
    assert!(said.rows(Some(4))[0].starts_with("##[error]the working directory"), "{}", said.all());
    assert_eq!(said.rows(Some(5)), ["int main;"]);
}

async fn no_shell() {
    let said = run(steps(
        r#"
- run: echo never
  env: {PATH: /nope}
- if: always()
  run: echo PATH=/nope/hunter2-secret >> "$GITHUB_ENV"
- if: always()
  run: echo never
- if: always()
  env: {PATH: /usr/bin:/bin}
  run: echo found
"#,
    ))
    .await;
    let add = "to add a directory, write it to the file `$GITHUB_PATH` instead";
    let missing = "the shell was not found: `bash` and `sh` not found in PATH, which is";
    assert_eq!(
        said.rows(Some(0)),
        [format!("##[error]{missing} `/nope`, set by the step's own `env`; {add}")],
        "{}",
        said.all()
    );
    assert_eq!(
        said.rows(Some(2)),
        [format!("##[error]{missing} `/nope/***`, set by an earlier step through GITHUB_ENV; {add}")]
    );
    assert_eq!(said.rows(Some(3)), ["found"]);
}

async fn outputs() {
    let said = run(spec(
        r#"
on: push
jobs:
  it:
    runs-on: any
    outputs:
      plain: ${{ steps.s.outputs.plain }}
      secret: ${{ steps.s.outputs.secret }}
      rows: ${{ steps.s.outputs.rows }}
      missing: ${{ steps.none.outputs.x }}
    steps:
      - id: s
        env: {PW: "${{ secrets.PASSWORD }}", KEY: "${{ secrets.KEY }}"}
        run: |
          echo "plain=value" >> "$GITHUB_OUTPUT"
          echo "secret=a $PW" >> "$GITHUB_OUTPUT"
          { echo "rows<<E"; echo "$KEY"; echo E; } >> "$GITHUB_OUTPUT"
      - run: test "${{ steps.s.outputs.secret }}" = "a ${{ secrets.PASSWORD }}"
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    assert_eq!(said.outputs().into_iter().collect::<Vec<_>>(), [("missing", ""), ("plain", "value")]);
    let warnings: Vec<_> = said.rows(None).into_iter().filter(|row| row.contains("is left out")).collect();
    assert_eq!(
        warnings,
        [
            "##[warning]the output `secret` is left out, for it may hold a secret",
            "##[warning]the output `rows` is left out, for it may hold a secret"
        ]
    );
}

async fn checkout() {
    let said = run(steps(
        r#"
- uses: actions/checkout@v4
- run: |
    cat README
    echo changed > README; touch extra
- uses: https://code.forgejo.org/actions/checkout@v5
- run: cat README; ls extra || echo gone
- uses: actions/checkout@v4
  with: {path: sub/dir}
- run: cat sub/dir/src/main.c
- uses: actions/checkout@v4
  with: {ref: other}
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Failure, "the last one");
    assert_eq!(said.rows(Some(0))[0], "actions/checkout@v4 is satisfied by the host");
    assert!(said.rows(Some(0))[1].contains("is already in"), "{}", said.all());
    assert_eq!(said.rows(Some(1)), ["read me"]);
    assert_eq!(said.rows(Some(3))[0], "read me");
    assert_eq!(said.rows(Some(3)).last(), Some(&"gone"));
    assert_eq!(said.rows(Some(5)), ["int main;"]);
    assert_eq!(said.rows(Some(6))[1], "##[error]there is no `other`");
    assert!(!said.rows(None).join("\n").contains("no checkout step"));
}

async fn empty_workspace() {
    let mut context = context();
    context.workspace = Workspace::Empty;
    let spec = steps("- run: ls | wc -l\n- uses: actions/checkout@v4\n- run: cat README");
    let said = run_with(spec, context, Canceller::new().1, |_| {}).await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    assert_eq!(said.rows(Some(0)), ["0"]);
    assert_eq!(said.rows(Some(2)), ["read me"]);
}

async fn left_out() {
    let mut context = context();
    let pipes = (0..12).map(|number| format!("`a\nb{number}` is a fifo")).collect();
    context.tree = Arc::new(Tree { left_out: pipes });
    let said = run_with(steps("- run: echo fine"), context, Canceller::new().1, |_| {}).await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    let rows: Vec<_> = said.rows(None).into_iter().filter(|row| row.contains("left out: ")).collect();
    assert_eq!(rows.len(), 11, "{rows:#?}");
    assert_eq!(rows[0], "##[warning]left out: `a?b0` is a fifo");
    assert_eq!(rows[10], "##[warning]left out: 2 more that are no files");
}

async fn no_checkout() {
    for (text, told) in [
        ("- run: echo README", false),
        ("- run: test ! -d /src", false),
        ("- run: grep -c root /etc/passwd", false),
        ("- run: head -n1 README", true),
        ("- run: wc -c \"$GITHUB_WORKSPACE/src/main.c\"", true),
        ("- run: pwd\n  working-directory: src", true),
        ("- run: echo \"${{ hashFiles('*') }}\"", true),
        ("- run: 'true'\n  if: hashFiles('*') != ''", true),
        ("- run: ls", true),
        ("- run: cat * > /dev/null || true", true),
        ("- run: ls -la \"$GITHUB_ENV\"", false),
        ("- run: cd /tmp && ls", false),
        ("- run: test ! -e README\n  working-directory: /tmp", false),
        ("- run: cp /etc/hosts README", false),
        ("- uses: actions/checkout@v4\n- run: head -n1 README", false),
    ] {
        let said = run(steps(text)).await;
        assert_eq!(said.result(), Outcome::Success, "{}", said.all());
        assert_eq!(said.rows(None).join("\n").contains("no checkout step"), told, "{text}\n{}", said.all());
    }
}

async fn hash() {
    let said = run(steps(
        r#"
- run: |
    echo "${{ hashFiles('README', 'src/*.c') }}"
    for file in README src/main.c; do sha256sum "$file" | cut -c-64 | xxd -r -p; done | sha256sum | cut -c-64
    echo "<${{ hashFiles('*.none') }}>"
- if: hashFiles('src/**') != '' && hashFiles('*') == hashFiles('**') && hashFiles('nothing') == ''
  run: echo ran
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Success, "{}", said.all());
    let rows = said.rows(Some(0));
    assert_eq!(rows[0].len(), 64, "{rows:?}");
    assert_eq!(rows.last(), Some(&"<>"));
    assert_eq!(said.rows(Some(1)), ["ran"]);
}

async fn faults() {
    let said = run(steps(
        r#"
- env: {X: "${{ fromJSON('no json') }}"}
  run: echo never
- if: always()
  timeout-minutes: ${{ vars.GREETING }}
  run: echo never
- if: always()
  run: echo done
"#,
    ))
    .await;
    assert_eq!(said.result(), Outcome::Failure);
    let row = said.rows(Some(0))[0];
    assert!(row.starts_with("##[error]") && !row.contains("error: "), "one mark is enough: {row}");
    assert!(said.rows(Some(1))[0].contains("`timeout-minutes`"), "{}", said.all());
    assert_eq!(said.rows(Some(2)), ["done"]);
}
