//! What the page of a run shows of a job: its steps, and in each the rows that belong there, as the page's own
//! script gets them. How a browser draws them was looked at by hand.

use libtest_mimic::Trial;
use secrecy::SecretString;
use testkit::gitea::{self, Cursor, Gitea, Scope, State};
use vm_tests::program::On;

use crate::{
    gitea::trial,
    runner::{end, job, push_workflow, registered, repository, wait_for_failure},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("page_of_a_run_has_each_row_in_its_step", rows)]
}

const WORKFLOW: &str = r#"
on: push
jobs:
  look:
    runs-on: LABEL
    env:
      PASSWORD: ${{ secrets.PASSWORD }}
    steps:
      - name: folds and colours
        run: |
          echo before
          echo "::group::Compile"
          echo cc -c a.c
          echo "::endgroup::"
          printf '\033[31mred\033[0m and \033[1;38;5;208mbold orange\033[0m\n'
          echo "the password is $PASSWORD"
          printf '<b>no html</b>\n'
      - name: commands
        run: |
          echo "::notice::a notice"
          echo "::warning file=src/a.c,line=3,col=5::a warning"
          echo "::error file=src/b.c,line=7,title=Broken::an error"
          echo "::debug::not shown"
          echo "::add-mask::hush-hush"
          echo "this is hush-hush"
      - {name: skipped, if: false, run: echo never}
      - {name: silent, run: 'true'}
      - name: fails
        run: |
          echo about to fail
          echo "on standard error" >&2
          exit 4
      - {name: unreached, run: echo never}
      - {name: after, if: always(), run: 'echo the job is a ${{ job.status }}'}
"#;

async fn rows(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "page").await?;
    api.set_secret(Scope::Repo(&repo), "PASSWORD", &SecretString::from("open-sesame")).await?;
    let runner = registered(On::Fake, &api, &repo).await?;
    let daemon = runner.daemon();
    let run = push_workflow(&api, &repo, WORKFLOW).await?;
    wait_for_failure(&api, &repo, run.id).await;
    let look = job(&api, &repo, run.id, "look").await?;

    let session = gitea.log_in(gitea.admin()).await?;
    let cursors: Vec<_> = (0..9).map(|step| Cursor { step, row: 0 }).collect();
    let page = session.page(&repo, run.id, Some(look.id), &cursors).await?;
    let steps: Vec<_> = page.steps.iter().map(|step| (step.name.as_str(), step.state)).collect();
    let (success, failure, skipped) = (State::Success, State::Failure, State::Skipped);
    assert_eq!(
        steps,
        [
            ("Set up job", success),
            ("folds and colours", success),
            ("commands", success),
            ("skipped", skipped),
            ("silent", success),
            ("fails", failure),
            ("unreached", skipped),
            ("after", success),
            // the server has it end as the job does
            ("Complete job", failure),
        ]
    );
    let of = |step: usize| -> Vec<&str> {
        let logs = page.logs.iter().filter(|log| log.step == step);
        logs.flat_map(|log| &log.lines).map(|line| line.text.as_str()).collect()
    };
    let set_up = of(0);
    for start in ["image: ", "backend: fake ", "boundary: ", "size: ", "the VM is ready after "] {
        assert!(set_up.iter().any(|row| row.starts_with(start)), "no {start:?} in {set_up:#?}");
    }
    assert_eq!(
        of(1),
        [
            "before",
            "##[group]Compile",
            "cc -c a.c",
            "##[endgroup]",
            "\u{1b}[31mred\u{1b}[0m and \u{1b}[1;38;5;208mbold orange\u{1b}[0m",
            "the password is ***",
            "<b>no html</b>",
        ]
    );
    assert_eq!(
        of(2),
        [
            "##[notice]a notice",
            "##[warning]src/a.c:3:5: a warning",
            "##[error]src/b.c:7: Broken: an error",
            "this is ***",
        ]
    );
    assert_eq!(of(5), ["about to fail", "on standard error", "##[error]the script ended with exit code 4"]);
    assert_eq!(of(7), ["the job is a failure"]);
    for silent in [3, 4, 6] {
        assert!(of(silent).is_empty(), "{silent}: {:#?}", of(silent));
    }
    // nothing of a step stands elsewhere
    assert!(of(8).iter().all(|row| row.starts_with("the job ")), "{:#?}", of(8));
    end(daemon, &runner);
    Ok(())
}
