//! A job reaches its forge, and nothing else, without a network: a real Gitea, and git in the VM.

use libtest_mimic::Trial;
use testkit::gitea::{self, Gitea, PATIENCE, Scope, State};
use vm_tests::{
    program::{On, Place},
    runner::Runner,
};

use crate::{
    gitea::trial,
    runner::{has, job, push_workflow, repository, rows},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![trial("runner_s_job_clones_and_pushes_over_its_forward_alone", git)]
}

const GIT: &str = r#"
on: push
jobs:
  a:
    runs-on: LABEL
    steps:
      - env:
          TOKEN: ${{ secrets.GITHUB_TOKEN }}
        run: |
          server=${{ github.server_url }}
          git clone -q "${server%%://*}://x:$TOKEN@${server#*://}/${{ github.repository }}" there
          cd there
          echo "cloned $(git rev-parse HEAD)"
          echo "of $(hostname)" > by-the-job
          git add by-the-job
          git -c user.name=job -c user.email=job@vm.example commit -q -m 'by the job'
          git push -q origin HEAD:main
      # another port of the same address is the VM's own, and nobody is there
      - run: |
          host=${{ github.server_url }}; host=${host#*://}; host=${host%%:*}
          if curl -sS -m 10 "http://$host:1/"; then exit 1; fi
          if curl -sS -m 10 http://192.0.2.1/; then exit 1; fi
          echo nothing else is reached
"#;

async fn git(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "forge").await?;
    let config = "[runner]\nfetch_interval = \"1s\"\nreport_interval = \"1s\"\n\
                  [vm]\nbackend = \"qemu\"\naccel = \"tcg\"\nnetwork = \"none\"\n";
    let runner = Runner::with(Place::new(On::Qemu), config);
    let token = api.registration_token(Scope::Repo(&repo)).await?;
    runner.registers(api.url(), &token, &repo.name);
    let daemon = runner.daemon();
    let run = push_workflow(&api, &repo, GIT).await?;
    api.wait_for_state(&repo, run.id, State::Success, PATIENCE).await;
    let log = rows(&api, &repo, &job(&api, &repo, run.id, "a").await?).await?;
    has(&log, &format!("cloned {}", run.head_sha));
    has(&log, "nothing else is reached");
    assert_eq!(api.read_file(&repo, "by-the-job").await?, b"of ampoule\n", "what was pushed is there");
    crate::runner::end(daemon, &runner);
    Ok(())
}
