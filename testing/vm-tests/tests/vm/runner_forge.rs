//! A job reaches its forge, and nothing else, without a network: a real Gitea, and git in the VM.

use libtest_mimic::Trial;
use secrecy::ExposeSecret as _;
use testkit::gitea::{self, Api, File, Gitea, PATIENCE, Scope, State, Visibility};
use vm_tests::{
    program::{On, Place, Run},
    runner::Runner,
};

use crate::{
    gitea::trial,
    runner::{has, job, push_workflow, repository, rows},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("a_sandbox_clones_and_pushes_over_its_forward_alone", sandbox),
        trial("runner_s_job_clones_and_pushes_over_its_forward_alone", git),
    ]
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
      # what the configuration lists is there too
      - run: echo "listed $(curl -sSf http://cache.ampoule.internal/api/v1/version | jq -r 'keys[]')"
"#;

async fn sandbox(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = api.create_repo("http-sandbox", Visibility::Private).await?;
    let commit = api.commit(&repo, "a file", &[File::text("place", "over HTTP")]).await?;
    let place = Place::new(On::Qemu);
    let forward = format!("forge.ampoule.test:80={}", address(&api));
    let (user, token) = (api.user(), gitea.admin().token.expose_secret());
    let script = format!(
        "set -e; git clone -q http://{user}:{token}@forge.ampoule.test/{repo}.git there; cd there; \
         git rev-parse HEAD; cat place; echo; echo \"of $(hostname)\" > by-the-vm; git add by-the-vm; \
         git -c user.name=vm -c user.email=vm@vm.example commit -q -m 'by the VM'; git push -q origin HEAD:main; \
         ! curl -sS -m 10 http://192.0.2.1/ 2> /dev/null"
    );
    let mut call = place.command(&["sandbox", "run"]);
    call.args(["--cpus", "1", "--memory", "256MiB", "--disk", "256MiB"]);
    call.args(["--network", "none", "--forward", &forward, "--", "sh", "-c", &script]);
    let ended = Run::spawn(call).end();
    assert_eq!(ended.expect(0).stdout, [commit.sha.as_str(), "over HTTP"]);
    assert_eq!(api.read_file(&repo, "by-the-vm").await?, b"of sandbox\n", "what was pushed is there");
    place.assert_clean();
    Ok(())
}

/// Where a server is, as a forward's destination.
fn address(api: &Api) -> &str {
    api.url().split_once("://").expect("a URL").1
}

async fn git(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "forge").await?;
    let config = format!(
        "[runner]\nfetch_interval = \"1s\"\nreport_interval = \"1s\"\n\
         [vm]\nbackend = \"qemu\"\naccel = \"tcg\"\nnetwork = \"none\"\n\
         forwards = [\"cache.ampoule.internal:80={}\"]\n",
        address(&api)
    );
    let runner = Runner::with(Place::new(On::Qemu), &config);
    let token = api.registration_token(Scope::Repo(&repo)).await?;
    runner.registers(api.url(), &token, &repo.name);
    let daemon = runner.daemon();
    let run = push_workflow(&api, &repo, GIT).await?;
    api.wait_for_state(&repo, run.id, State::Success, PATIENCE).await;
    let log = rows(&api, &repo, &job(&api, &repo, run.id, "a").await?).await?;
    has(&log, &format!("cloned {}", run.head_sha));
    has(&log, "nothing else is reached");
    has(&log, "listed version");
    assert_eq!(api.read_file(&repo, "by-the-job").await?, b"of ampoule\n", "what was pushed is there");
    crate::runner::end(daemon, &runner);
    Ok(())
}
