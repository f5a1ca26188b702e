//! The runner with an engine process: whose VMs its jobs have, and what they say when that is killed.
//!
//! On the fake backend whose forks stand by, and a real Gitea.

use std::{path::Path, time::Instant};

use libtest_mimic::Trial;
use rustix::process::Signal;
use testkit::gitea::{self, Api, Gitea, PATIENCE, Repo, Scope, State};
use vm_tests::{
    program::{On, Place},
    runner::Runner,
};

use crate::{
    engine::{engine_of, told},
    gitea::trial,
    runner::{FINE, has, job, push_workflow, repository, rows, wait_for_failure, wait_for_row},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("runner_takes_its_vms_of_the_engine_that_runs", of_the_engine),
        trial("runner_says_that_its_engine_was_killed_and_goes_on_with_the_next", killed),
    ]
}

/// A runner on the backend whose forks stand by, without an engine of its own as long as another runs.
async fn on_forks(api: &Api, repo: &Repo) -> gitea::Result<Runner> {
    let config = "[runner]\ncapacity = 1\nfetch_interval = \"1s\"\nreport_interval = \"1s\"\n\
                  [vm]\nbackend = \"fake-forks\"\n";
    let runner = Runner::with(Place::new(On::Fake), config);
    let token = api.registration_token(Scope::Repo(repo)).await?;
    runner.registers(api.url(), &token, &repo.name);
    Ok(runner)
}

/// Waits until the engine says that of its VMs.
fn wait_for_engine(runner: &Runner, wanted: &str) {
    let until = Instant::now() + PATIENCE;
    loop {
        let told = told(runner.place());
        if told.contains(wanted) {
            return;
        }
        assert!(Instant::now() < until, "no {wanted:?}: {told}");
        std::thread::sleep(std::time::Duration::from_millis(200));
    }
}

/// A workflow whose one job goes on when there is the file.
fn waits(go: &Path) -> String {
    let script = format!(
        "echo begun\n          echo the row before this is sent while the job runs\n          \
         while [ ! -e {} ]; do sleep 0.1; done\n          echo went on",
        go.display()
    );
    format!("on: push\njobs:\n  a:\n    runs-on: LABEL\n    steps:\n      - run: |\n          {script}\n")
}

fn is_pooled(log: &[String]) -> bool {
    log.iter().any(|row| row.starts_with("the VM is ready after") && row.contains(", from the pool"))
}

async fn of_the_engine(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "engine").await?;
    let runner = on_forks(&api, &repo).await?;
    // it keeps none ready by itself: that is what the daemon asks for
    let engine = engine_of("fake-forks", runner.place(), &["--idle", "0s"]);
    let daemon = runner.daemon();
    wait_for_engine(&runner, "VMs: 0 in use, 0 kept, 1 ready");
    let go = runner.place().path().join("go");
    let run = push_workflow(&api, &repo, &waits(&go)).await?;
    wait_for_row(&api, &repo, run.id, "begun").await;
    wait_for_engine(&runner, "VMs: 1 in use, 0 kept, ");
    std::fs::write(&go, "").expect("a file");
    api.wait_for_state(&repo, run.id, State::Success, PATIENCE).await;
    let log = rows(&api, &repo, &job(&api, &repo, run.id, "a").await?).await?;
    has(&log, "went on");
    assert!(is_pooled(&log), "{log:#?}");
    daemon.stop();

    // what one job alone takes from a pool cannot be of an engine of its own
    wait_for_engine(&runner, "VMs: 0 in use, 0 kept, 1 ready");
    let run = push_workflow(&api, &repo, FINE).await?;
    let (code, said) = runner.one_job();
    assert_eq!(code, Some(0), "{said}");
    let log = rows(&api, &repo, &job(&api, &repo, run.id, "a").await?).await?;
    has(&log, "fine");
    assert!(is_pooled(&log), "{log:#?}");
    engine.signal(Signal::TERM);
    engine.end().expect(0);
    runner.place().assert_clean();
    Ok(())
}

async fn killed(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "engine-killed").await?;
    let runner = on_forks(&api, &repo).await?;
    let engine = engine_of("fake-forks", runner.place(), &["--idle", "0s"]);
    let daemon = runner.daemon();
    let run = push_workflow(&api, &repo, &waits(&runner.place().path().join("never"))).await?;
    wait_for_row(&api, &repo, run.id, "begun").await;
    engine.signal(Signal::KILL);
    wait_for_failure(&api, &repo, run.id).await;
    engine.end();
    let log = rows(&api, &repo, &job(&api, &repo, run.id, "a").await?).await?;
    assert!(
        log.iter().any(|row| row.starts_with("##[error]")
            && row.contains("the engine process that owned the VM is gone")),
        "{log:#?}"
    );
    assert!(daemon.said().contains("could not be run to its end"), "{}", daemon.said());
    let next = engine_of("fake-forks", runner.place(), &["--idle", "0s"]);
    let run = push_workflow(&api, &repo, FINE).await?;
    api.wait_for_state(&repo, run.id, State::Success, PATIENCE).await;
    daemon.stop();
    next.signal(Signal::TERM);
    next.end().expect(0);
    runner.place().assert_clean();
    Ok(())
}
