//! The fork action in a job of our own runner: its VM has no network, and reaches the controller of its daemon over its
//! link.

use std::{
    fs,
    path::{Path, PathBuf},
};

use libtest_mimic::Trial;
use testkit::gitea::{self, Api, File, Gitea, PATIENCE, Repo, Scope, State};
use vm_tests::{
    controller::TOKEN,
    program::{On, Place},
    runner::Runner,
};

use crate::{
    gitea::trial,
    runner::{has, job, push_with, repository, rows},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("runner_s_job_forks_sandboxes_over_its_link", forks)]
}

/// The steps do what a runner of the action does: its inputs are variables of node's.
const FORKS: &str = r#"
on: push
jobs:
  a:
    runs-on: LABEL
    steps:
      - uses: actions/checkout@v4
      - id: shards
        env:
          INPUT_URL: http://controller.ampoule.internal:8889
          INPUT_TOKEN: ${{ secrets.CONTROLLER_TOKEN }}
          INPUT_SNAPSHOT_TAG: standard
          INPUT_N: 2
          INPUT_MEMORY_LIMIT_MIB: 256
          INPUT_SCRIPT: |
            echo "shard $SANDBOX_INDEX on $(hostname): $((6 * 7))"
        run: node actions/fork/index.js
      - env:
          RESULTS: ${{ steps.shards.outputs.results }}
        run: |
          echo "failed: ${{ steps.shards.outputs.any_failed }}"
          echo "$RESULTS" | jq -r '.[] | "\(.exit_code) \(.stdout)"'
      - env:
          TOKEN: ${{ secrets.CONTROLLER_TOKEN }}
        run: |
          to=http://controller.ampoule.internal:8889
          echo "without a token: $(curl -sS -o answer -w '%{http_code}' $to/v1/sandboxes)"
          echo "left: $(curl -sSf -H "Authorization: Bearer $TOKEN" $to/v1/sandboxes)"
          if curl -sS -m 10 http://192.0.2.1/; then exit 1; fi
          echo nothing else is reached
"#;

/// The action as it is in this repository.
fn action() -> Vec<(String, Vec<u8>)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut left = vec![PathBuf::from("actions/fork")];
    let mut files = Vec::new();
    while let Some(path) = left.pop() {
        for entry in fs::read_dir(root.join(&path)).expect("the action") {
            let entry = entry.expect("its entry");
            let path = path.join(entry.file_name());
            if entry.file_type().expect("its kind").is_dir() {
                left.push(path);
            } else {
                let name = path.to_str().expect("a name").to_owned();
                files.push((name, fs::read(entry.path()).expect("a file")));
            }
        }
    }
    files
}

async fn pushed(api: &Api, repo: &Repo) -> gitea::Result<gitea::Run> {
    let action = action();
    let files: Vec<_> = action.iter().map(|(path, content)| File { path, content }).collect();
    push_with(api, repo, "main", FORKS, &files).await
}

async fn forks(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "fork-action").await?;
    api.set_secret(Scope::Repo(&repo), "CONTROLLER_TOKEN", &TOKEN.into()).await?;
    let place = Place::new(On::Qemu);
    fs::write(place.path().join("token"), TOKEN).expect("a token");
    let config = "[runner]\nfetch_interval = \"1s\"\nreport_interval = \"1s\"\n\
                  [vm]\nbackend = \"qemu\"\naccel = \"tcg\"\nnetwork = \"none\"\n\
                  [controller]\ntoken_file = \"token\"\n";
    let runner = Runner::with(place, config);
    let token = api.registration_token(Scope::Repo(&repo)).await?;
    runner.registers(api.url(), &token, &repo.name);
    let daemon = runner.daemon();
    let run = pushed(&api, &repo).await?;
    api.wait_for_state(&repo, run.id, State::Success, PATIENCE).await;
    let log = rows(&api, &repo, &job(&api, &repo, run.id, "a").await?).await?;
    for index in 0..2 {
        // as it was printed in its group, and as an output
        has(&log, &format!("shard {index} on sandbox: 42"));
        has(&log, &format!("0 shard {index} on sandbox: 42"));
    }
    has(&log, "failed: false");
    has(&log, "without a token: 401");
    has(&log, "left: []");
    has(&log, "nothing else is reached");
    assert!(!log.iter().any(|row| row.contains(TOKEN)), "the token is masked: {log:#?}");
    assert!(daemon.said().contains("sandboxes were made"), "by the daemon: {}", daemon.said());
    crate::runner::end(daemon, &runner);
    Ok(())
}
