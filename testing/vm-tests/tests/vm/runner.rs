//! The runner on a real Gitea: what its users see of a push, in a run's states, steps and logs.
//!
//! Each test has a repository and a runner of its own there. What a user does with it is done in VMs; the rest runs
//! on the fake backend, which is the same runner with the same agent.

use std::{collections::BTreeMap, time::Duration};

use libtest_mimic::Trial;
use rustix::process::Signal;
use secrecy::SecretString;
use testkit::gitea::{self, Api, File, Gitea, Job, PATIENCE, Repo, Run, RunId, Scope, State, Visibility};
use vm_tests::{
    program::{On, Place},
    runner::{Daemon, Runner},
};

use crate::gitea::{steps, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("runner_runs_a_push_to_a_private_repository_in_vms", push),
        trial("runner_gives_a_dispatch_its_inputs_in_vms", dispatch),
        trial("runner_tells_how_each_step_ended_in_vms", failing),
        trial("runner_ends_a_job_in_a_vm_that_its_page_cancels", cancel),
        trial("runner_loses_no_row_of_a_long_log_of_a_vm", long_log),
        trial("runner_checks_out_the_commit_of_branch_and_pull_request", checkout),
        trial("runner_drains_at_sigterm", drain),
        trial("runner_that_was_deleted_ends", deleted),
        trial("runner_takes_one_job_and_no_more", one_job),
        trial("runner_registers_once_and_with_a_good_token", register),
    ]
}

/// A repository and the label of its runner, both of one test's name.
pub(crate) async fn repository(api: &Api, name: &str) -> gitea::Result<Repo> {
    api.create_repo(&format!("runner-{name}"), Visibility::Private).await
}

/// A runner of a repository: its label is the repository's name.
pub(crate) async fn registered(on: On, api: &Api, repo: &Repo) -> gitea::Result<Runner> {
    let token = api.registration_token(Scope::Repo(repo)).await?;
    Ok(Runner::registered(on, 1, api.url(), &token, &repo.name))
}

/// Pushes a workflow, `LABEL` in it being the repository's; the run of it.
pub(crate) async fn push_workflow(api: &Api, repo: &Repo, text: &str) -> gitea::Result<Run> {
    push_with(api, repo, "main", text, &[]).await
}

/// The same with further files, on a branch.
pub(crate) async fn push_with(
    api: &Api,
    repo: &Repo,
    branch: &str,
    text: &str,
    more: &[File<'_>],
) -> gitea::Result<Run> {
    let text = text.replace("LABEL", &repo.name);
    let mut files = vec![File::text(".forgejo/workflows/ci.yml", &text)];
    files.extend_from_slice(more);
    let commit = api.commit_on(repo, branch, "a workflow", &files).await?;
    Ok(api.wait_for_run_of(repo, &commit.sha, "ci.yml").await)
}

/// The rows of a job without their times.
pub(crate) async fn rows(api: &Api, repo: &Repo, job: &Job) -> gitea::Result<Vec<String>> {
    let log = String::from_utf8(api.job_log(repo, job.id).await?).expect("text");
    let text = |row: &str| row.split_once(' ').map_or_else(|| panic!("{row:?}"), |(_, text)| text.to_owned());
    Ok(log.strip_suffix('\n').unwrap_or(&log).split('\n').map(text).collect())
}

/// The job of that name.
pub(crate) async fn job(api: &Api, repo: &Repo, run: RunId, name: &str) -> gitea::Result<Job> {
    let jobs = api.jobs(repo, run).await?;
    let names: Vec<_> = jobs.iter().map(|job| job.name.clone()).collect();
    Ok(jobs.into_iter().find(|job| job.name == name).unwrap_or_else(|| panic!("no {name:?}: {names:?}")))
}

/// Waits until the only job of a run has printed a row.
pub(crate) async fn wait_for_row(api: &Api, repo: &Repo, run: RunId, wanted: &str) {
    let what = format!("the row {wanted:?} in {repo}");
    api.wait(&what, Duration::from_secs(60), async || {
        let jobs = api.jobs(repo, run).await?;
        for job in jobs.iter().filter(|job| job.state != State::Waiting) {
            match rows(api, repo, job).await {
                Ok(rows) if rows.iter().any(|row| row == wanted) => return Ok(Some(())),
                // nobody has written anything yet
                Err(error) if error.status() != Some(404) => return Err(error),
                _ => {}
            }
        }
        Ok(None)
    })
    .await;
}

/// Waits until every job of a run has ended, and the run has failed: the server says that of a run while others of
/// its jobs still wait.
pub(crate) async fn wait_for_failure(api: &Api, repo: &Repo, run: RunId) {
    let what = format!("all jobs of run {run} of {repo} to end");
    api.wait(&what, PATIENCE, async || {
        Ok(api.jobs(repo, run).await?.iter().all(|job| job.state.is_done()).then_some(()))
    })
    .await;
    api.wait_for_state(repo, run, State::Failure, PATIENCE).await;
}

#[track_caller]
pub(crate) fn has(rows: &[String], wanted: &str) {
    assert!(rows.iter().any(|row| row == wanted), "no row {wanted:?} in {rows:#?}");
}

/// Ends a daemon that has nothing to do; nothing of its jobs is left.
#[track_caller]
pub(crate) fn end(daemon: Daemon, runner: &Runner) {
    daemon.stop();
    runner.place().assert_clean();
}

const PUSH: &str = r#"
on: push
jobs:
  first:
    runs-on: LABEL
    outputs:
      word: ${{ steps.s.outputs.word }}
    steps:
      - uses: actions/checkout@v4
      - id: s
        run: |
          cat greeting
          echo "kernel $(uname -r), user $(id -un)"
          echo "HEAD is $(git rev-parse HEAD)"
          echo word=fish >> "$GITHUB_OUTPUT"
  second:
    needs: first
    runs-on: LABEL
    strategy:
      matrix:
        cell: [north, south]
    env:
      WORD: ${{ needs.first.outputs.word }}
      PASSWORD: ${{ secrets.PASSWORD }}
    steps:
      - run: |
          echo "a $WORD in the ${{ matrix.cell }} of ${{ vars.COUNTRY }}"
          echo "it says $PASSWORD, $(printf %s "$PASSWORD" | wc -c) letters"
"#;

async fn push(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "vms").await?;
    let here = Scope::Repo(&repo);
    api.set_secret(here, "PASSWORD", &SecretString::from("open-sesame")).await?;
    api.create_variable(here, "COUNTRY", "Ruritania").await?;
    // of the whole instance, as an administrator registers one; the others are of their repositories
    let token = api.registration_token(Scope::Instance).await?;
    let runner = Runner::registered(On::Qemu, 2, api.url(), &token, &repo.name);
    let daemon = runner.daemon();
    let run = push_with(&api, &repo, "main", PUSH, &[File::text("greeting", "hello from a file\n")]).await?;
    api.wait_for_state(&repo, run.id, State::Success, PATIENCE).await;

    let first = job(&api, &repo, run.id, "first").await?;
    assert_eq!(first.runner_name, repo.name);
    let log = rows(&api, &repo, &first).await?;
    for row in ["hello from a file", &format!("HEAD is {}", run.head_sha), "boundary: emulated + jail"] {
        has(&log, row);
    }
    // the step's kernel is the one that was booted for it
    let ready = log.iter().find(|row| row.starts_with("the VM is ready")).expect("a row of the boot");
    let kernel = log.iter().find_map(|row| row.strip_prefix("kernel ")?.strip_suffix(", user root"));
    assert!(kernel.is_some_and(|kernel| ready.contains(kernel)), "{log:#?}");
    for cell in ["north", "south"] {
        let second = job(&api, &repo, run.id, &format!("second ({cell})")).await?;
        assert_eq!(second.state, State::Success);
        let log = rows(&api, &repo, &second).await?;
        has(&log, &format!("a fish in the {cell} of Ruritania"));
        has(&log, "it says ***, 11 letters");
        assert!(!log.iter().any(|row| row.contains("open-sesame")), "{log:#?}");
    }
    end(daemon, &runner);
    Ok(())
}

const DISPATCH: &str = "
on:
  workflow_dispatch:
    inputs:
      colour: {type: string, required: true}
      size: {type: choice, options: [small, large], default: large}
      loud: {type: boolean, default: false}
jobs:
  a:
    runs-on: LABEL
    steps:
      - run: |
          echo '${{ inputs.colour }}, ${{ github.event.inputs.colour }}, ${{ inputs.size }}'
          echo '${{ github.event_name }} of ${{ github.ref_name }}'
      - if: inputs.loud
        run: echo LOUD
      - if: ${{ !inputs.loud }}
        run: echo quiet
";

async fn dispatch(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "dispatch").await?;
    let runner = registered(On::Qemu, &api, &repo).await?;
    let daemon = runner.daemon();
    let text = DISPATCH.replace("LABEL", &repo.name);
    api.commit(&repo, "by hand", &[File::text(".forgejo/workflows/hand.yml", &text)]).await?;
    for (loud, said, unsaid) in [("true", "LOUD", "quiet"), ("false", "quiet", "LOUD")] {
        let inputs = BTreeMap::from([("colour", "a green one"), ("loud", loud)]);
        let run = api.dispatch(&repo, "hand.yml", "main", &inputs).await?;
        api.wait_for_state(&repo, run, State::Success, PATIENCE).await;
        let log = rows(&api, &repo, &job(&api, &repo, run, "a").await?).await?;
        for row in ["a green one, a green one, large", "workflow_dispatch of main", said] {
            has(&log, row);
        }
        assert!(!log.iter().any(|row| row == unsaid), "{log:#?}");
    }
    end(daemon, &runner);
    Ok(())
}

const FAILING: &str = "
on: push
jobs:
  a:
    runs-on: LABEL
    steps:
      - {name: fine, run: 'true'}
      - {name: tolerated, run: exit 3, continue-on-error: true}
      - {name: broken, run: exit 4}
      - {name: unreached, run: echo never}
      - {name: after, if: failure(), run: 'echo the end of a ${{ job.status }}'}
  b:
    needs: a
    runs-on: LABEL
    steps:
      - run: echo never
  c:
    needs: a
    if: always()
    runs-on: LABEL
    steps:
      - run: echo 'a was a ${{ needs.a.result }}'
";

async fn failing(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "failing").await?;
    let runner = registered(On::Qemu, &api, &repo).await?;
    let daemon = runner.daemon();
    let run = push_workflow(&api, &repo, FAILING).await?;
    wait_for_failure(&api, &repo, run.id).await;
    let a = job(&api, &repo, run.id, "a").await?;
    assert_eq!(
        steps(&a),
        [
            ("fine", State::Success),
            ("tolerated", State::Success),
            ("broken", State::Failure),
            ("unreached", State::Skipped),
            ("after", State::Success),
        ]
    );
    let log = rows(&api, &repo, &a).await?;
    has(&log, "the end of a failure");
    for code in ["exit code 3", "exit code 4"] {
        assert!(log.iter().any(|row| row.contains(code)), "no {code:?} in {log:#?}");
    }
    assert!(!log.iter().any(|row| row == "never"), "{log:#?}");
    assert_eq!(job(&api, &repo, run.id, "b").await?.state, State::Skipped);
    let c = job(&api, &repo, run.id, "c").await?;
    assert_eq!(c.state, State::Success);
    has(&rows(&api, &repo, &c).await?, "a was a failure");
    end(daemon, &runner);
    Ok(())
}

const CANCEL: &str = "
on: push
jobs:
  a:
    runs-on: LABEL
    steps:
      - name: sleeps
        run: |
          echo begun
          echo the row before this is sent while the job runs
          sleep 600
      - {name: unreached, run: echo never}
      - {name: cleans, if: always(), run: 'echo cleaned'}
";
pub(crate) const FINE: &str = "
on: push
jobs:
  a:
    runs-on: LABEL
    steps:
      - run: echo fine
";

async fn cancel(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "cancel").await?;
    let runner = registered(On::Qemu, &api, &repo).await?;
    let daemon = runner.daemon();
    let run = push_workflow(&api, &repo, CANCEL).await?;
    wait_for_row(&api, &repo, run.id, "begun").await;
    gitea.log_in(gitea.admin()).await?.cancel(&repo, run.id).await?;
    api.wait_for_state(&repo, run.id, State::Cancelled, PATIENCE).await;
    // the server has let go of it at once; the job still cleans up, and says so
    wait_for_row(&api, &repo, run.id, "cleaned").await;
    let a = job(&api, &repo, run.id, "a").await?;
    assert_eq!(a.state, State::Cancelled);
    assert_eq!(steps(&a)[0], ("sleeps", State::Cancelled));

    // its place is free again
    let next = push_workflow(&api, &repo, FINE).await?;
    api.wait_for_state(&repo, next.id, State::Success, PATIENCE).await;
    let log = rows(&api, &repo, &job(&api, &repo, run.id, "a").await?).await?;
    assert!(!log.iter().any(|row| row == "never"), "{log:#?}");
    end(daemon, &runner);
    Ok(())
}

/// Rows of a long log.
const LONG: usize = 50_000;
/// Rows of many lengths, with blanks at both ends, and letters of more than one byte.
const LONG_LOG: &str = r#"
on: push
jobs:
  a:
    runs-on: LABEL
    steps:
      - run: |
          awk 'BEGIN {
            pad = "                                                                                            -"
            for (i = 0; i < 50000; i++) printf "%s%d ü %s \n", substr(pad, 1, i % 7), i, substr(pad, 1, i % 93)
          }'
"#;

async fn long_log(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "long-log").await?;
    let runner = registered(On::Qemu, &api, &repo).await?;
    let daemon = runner.daemon();
    let run = push_workflow(&api, &repo, LONG_LOG).await?;
    api.wait_for_state(&repo, run.id, State::Success, PATIENCE).await;
    let log = rows(&api, &repo, &job(&api, &repo, run.id, "a").await?).await?;
    let wanted = |i: usize| format!("{}{i} ü {} ", " ".repeat(i % 7), " ".repeat(i % 93));
    let first = log.iter().position(|row| *row == wanted(0)).expect("the first row");
    assert!(log.len() >= first + LONG, "{} rows, the first is {first}", log.len());
    for (i, row) in log[first..first + LONG].iter().enumerate() {
        assert_eq!(*row, wanted(i), "row {i}");
    }
    let after: Vec<_> = log[first + LONG..].iter().filter(|row| row.contains('ü')).collect();
    assert!(after.is_empty(), "rows that nobody printed: {after:#?}");
    end(daemon, &runner);
    Ok(())
}

const CHECKOUT: &str = "
on: [push, pull_request]
jobs:
  own:
    runs-on: LABEL
    steps:
      - uses: actions/checkout@v4
      - run: |
          echo \"place: $(cat place), HEAD: $(git rev-parse HEAD), branch: $(git branch --show-current)\"
          test \"$(git rev-parse HEAD)\" = '${{ github.sha }}'
          git status --porcelain
  other:
    runs-on: LABEL
    steps:
      - uses: actions/checkout@v4
        with: {ref: old}
      - run: 'echo \"place: $(cat place), branch: $(git branch --show-current)\"'
  nowhere:
    runs-on: LABEL
    steps:
      - uses: actions/checkout@v4
        with: {ref: not-there}
      - {name: unreached, run: echo never}
";

async fn checkout(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "checkout").await?;
    let runner = registered(On::Fake, &api, &repo).await?;
    api.commit(&repo, "old", &[File::text("place", "the old one")]).await?;
    api.create_branch(&repo, "old", "main").await?;
    api.create_branch(&repo, "side/way", "main").await?;
    let daemon = runner.daemon();
    let place = [File::text("place", "the side")];
    let run = push_with(&api, &repo, "side/way", CHECKOUT, &place).await?;
    wait_for_failure(&api, &repo, run.id).await;
    let own = job(&api, &repo, run.id, "own").await?;
    assert_eq!(own.state, State::Success);
    let log = rows(&api, &repo, &own).await?;
    has(&log, &format!("place: the side, HEAD: {}, branch: side/way", run.head_sha));
    let other = job(&api, &repo, run.id, "other").await?;
    assert_eq!(other.state, State::Success);
    has(&rows(&api, &repo, &other).await?, "place: the old one, branch: old");
    let nowhere = job(&api, &repo, run.id, "nowhere").await?;
    assert_eq!(steps(&nowhere), [("Run actions/checkout@v4", State::Failure), ("unreached", State::Skipped)]);
    let log = rows(&api, &repo, &nowhere).await?;
    let said = |row: &String| row.starts_with("##[error]") && row.contains("has no `not-there`");
    assert!(log.iter().any(said), "{log:#?}");

    // a pull request is no branch of the repository
    api.create_pull(&repo, "side/way", "main").await?;
    let run = api.wait("the pull request's run", PATIENCE, async || {
        Ok(api.runs(&repo).await?.into_iter().find(|run| run.event == "pull_request"))
    });
    let run = run.await;
    wait_for_failure(&api, &repo, run.id).await;
    let own = job(&api, &repo, run.id, "own").await?;
    assert_eq!(own.state, State::Success);
    has(&rows(&api, &repo, &own).await?, &format!("place: the side, HEAD: {}, branch: ", run.head_sha));
    end(daemon, &runner);
    Ok(())
}

async fn drain(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "drain").await?;
    let runner = registered(On::Fake, &api, &repo).await?;
    // two jobs wait before the daemon starts: it has one place, and a file lets the first go on
    let go = runner.place().path().join("go");
    let steps = format!(
        "
    runs-on: LABEL
    steps:
      - run: |
          echo begun
          echo the row before this is sent while the job runs
          while [ ! -e {} ]; do sleep 0.1; done
          echo went on
",
        go.display()
    );
    let run = push_workflow(&api, &repo, &format!("on: push\njobs:\n  a:{steps}  b:{steps}")).await?;
    let mut daemon = runner.daemon();
    wait_for_row(&api, &repo, run.id, "begun").await;
    daemon.signal(Signal::TERM);
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert!(!daemon.has_ended(), "its job still runs: {}", daemon.said());
    std::fs::write(&go, "").expect("a file");
    let (code, said) = daemon.end();
    assert_eq!(code, Some(0), "{said}");
    let jobs = api.jobs(&repo, run.id).await?;
    assert_eq!(jobs.iter().map(|job| job.state).collect::<Vec<_>>(), [State::Success, State::Waiting]);
    has(&rows(&api, &repo, &jobs[0]).await?, "went on");
    runner.place().assert_clean();
    Ok(())
}

async fn deleted(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "deleted").await?;
    let runner = registered(On::Fake, &api, &repo).await?;
    let here = Scope::Repo(&repo);
    let daemon = runner.daemon();
    let known = api.wait("the runner to be online", PATIENCE, async || {
        Ok(api.runners(here).await?.into_iter().find(|runner| runner.status == "online"))
    });
    let known = known.await;
    assert_eq!((&known.name, &known.labels[..]), (&repo.name, &[repo.name.clone()][..]));
    api.delete_runner(here, known.id).await?;
    let (code, said) = daemon.end();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("does not know this runner"), "{said}");
    runner.place().assert_clean();
    Ok(())
}

async fn one_job(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "one-job").await?;
    let runner = registered(On::Fake, &api, &repo).await?;
    let (code, said) = runner.one_job();
    assert_eq!(code, Some(2), "{said}");
    assert!(said.contains("there is no job for this runner"), "{said}");
    let text = format!("{FINE}  b:\n    runs-on: LABEL\n    steps:\n      - run: echo second\n");
    let run = push_workflow(&api, &repo, &text).await?;
    for states in [[State::Success, State::Waiting], [State::Success, State::Success]] {
        let (code, said) = runner.one_job();
        assert_eq!(code, Some(0), "{said}");
        let jobs = api.jobs(&repo, run.id).await?;
        assert_eq!(jobs.iter().map(|job| job.state).collect::<Vec<_>>(), states);
    }
    has(&rows(&api, &repo, &job(&api, &repo, run.id, "b").await?).await?, "second");
    runner.place().assert_clean();
    Ok(())
}

async fn register(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "register").await?;
    let runner = Runner::new(On::Fake, 1);
    let bad = SecretString::from("no-such-token-at-all");
    let output = runner.register(api.url(), &bad, &repo.name);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("registration token"), "{errors}");
    assert!(!errors.contains("no-such-token-at-all"), "{errors}");
    assert!(!runner.file().exists());

    let here = Scope::Repo(&repo);
    let token = api.registration_token(here).await?;
    let nowhere = "[runner]\nfile = \"not/there/.runner\"\n[vm]\nbackend = \"fake\"\n";
    let output = Runner::with(Place::new(On::Fake), nowhere).register(api.url(), &token, &repo.name);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("cannot be written"), "{errors}");
    assert_eq!(api.runners(here).await?.len(), 0, "a runner that nobody knows");
    let output = runner.register(api.url(), &token, &repo.name);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(0), "{errors}");
    let written = std::fs::read(runner.file()).expect("a registration");
    let output = runner.register(api.url(), &token, &repo.name);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("is a registration already"), "{errors}");
    assert_eq!(std::fs::read(runner.file()).expect("a registration"), written);
    assert_eq!(api.runners(here).await?.len(), 1, "the second was not told to the server");
    Ok(())
}
