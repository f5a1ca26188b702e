//! A forge whose certificate is of an own authority: what a user does for it in a sandbox, and what a runner does for
//! its jobs. None of them has a network.

use std::fs;

use libtest_mimic::Trial;
use secrecy::ExposeSecret as _;
use testkit::gitea::{self, Api, File, Gitea, PATIENCE, Scope, State, TLS_NAME, TLS_PORT, Visibility};
use vm_tests::{
    program::{On, Place},
    runner::Runner,
};

use crate::{
    gitea::tls_trial,
    kept::Home,
    runner::{has, job, push_workflow, repository, rows},
};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        tls_trial("a_sandbox_clones_and_pushes_over_tls_of_an_authority_that_it_was_given", sandbox),
        tls_trial("runner_s_job_clones_and_pushes_over_tls_of_its_configuration_s_authority", runner),
    ]
}

/// Where the server is, as a forward's destination.
fn place_of(api: &Api) -> &str {
    api.url().split_once("://").expect("a URL").1
}

/// A commit of its own, pushed to `main` from `there`.
const PUSHES: &str = "echo \"of $(hostname)\" > there/by-the-vm && git -C there add by-the-vm && \
                      git -C there -c user.name=vm -c user.email=vm@vm.example commit -q -m 'by the VM' && \
                      git -C there push -q origin HEAD:main";

async fn sandbox(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = api.create_repo("tls-sandbox", Visibility::Private).await?;
    let commit = api.commit(&repo, "a file", &[File::text("place", "over TLS")]).await?;
    let home = Home::new(On::Qemu);
    let forward = format!("{TLS_NAME}:{TLS_PORT}={}", place_of(&api));
    let made = home.create(&["--network", "none", "--forward", &forward]);
    let id = made.first().expect("a sandbox").clone();
    let token = gitea.admin().token.expose_secret();
    let user = api.user();
    let clone = format!("git clone -q https://{user}:{token}@{TLS_NAME}:{TLS_PORT}/{repo}.git there 2>&1");
    // it is that server, of which nobody here knows who vouches for it
    let stranger = home.exec(&id, &[], &clone);
    assert_ne!(stranger.code, Some(0), "{:#?}", stranger.stdout);
    assert!(stranger.stdout.concat().contains("certificate"), "{:#?}", stranger.stdout);

    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("forge.crt");
    fs::write(&file, gitea.authority().expect("it serves TLS")).expect("a file");
    let file = file.to_str().expect("a path");
    let there = format!("{id}:/usr/local/share/ca-certificates/forge.crt");
    home.call(&["cp", file, &there]).expect(0);
    home.exec(&id, &[], "update-ca-certificates 2>&1").expect(0);
    let cloned = home.exec(&id, &[], &format!("{clone} && git -C there rev-parse HEAD && cat there/place"));
    assert_eq!(cloned.expect(0).stdout, [commit.sha.as_str(), "over TLS"]);
    home.exec(&id, &[], PUSHES).expect(0);
    assert_eq!(api.read_file(&repo, "by-the-vm").await?, b"of sandbox\n", "what was pushed is there");
    home.end();
    Ok(())
}

/// Tools that ask the system, and those that bring authorities of their own along.
const TRUSTS: &str = r#"
on: push
jobs:
  a:
    runs-on: LABEL
    steps:
      - uses: actions/checkout@v4
      - env:
          TOKEN: ${{ secrets.GITHUB_TOKEN }}
        run: |
          server=${{ github.server_url }}
          echo "called $server"
          test "$(git rev-parse HEAD)" = '${{ github.sha }}'
          git clone -q "https://x:$TOKEN@${server#*://}/${{ github.repository }}.git" there
          echo "cloned $(git -C there rev-parse HEAD)"
          PUSHES
      - run: |
          to='${{ github.server_url }}/api/v1/version'
          curl -sSf "$to" > /dev/null && echo 'curl trusts it'
          wget -qO /dev/null "$to" && echo 'wget trusts it'
          python3 -c "import urllib.request as r; r.urlopen('$to').read(); print('python trusts it')"
          node -e "fetch('$to').then((a) => a.json()).then(() => console.log('node trusts it'))"
          grep -qF "$(sed -n 2p "$NODE_EXTRA_CA_CERTS")" "$REQUESTS_CA_BUNDLE" && echo 'python has it for requests'
          cd /etc/ssl/certs && openssl verify -no-CAfile -CApath . ampoule-0.pem
      - run: |
          if curl -sS -m 10 http://192.0.2.1/; then exit 1; fi
          echo nothing else is reached
"#;

async fn runner(gitea: &Gitea) -> gitea::Result<()> {
    let api = gitea.api();
    let repo = repository(&api, "tls").await?;
    let rest = "[runner]\nfetch_interval = \"1s\"\nreport_interval = \"1s\"\n\
                [vm]\nbackend = \"qemu\"\naccel = \"tcg\"\nnetwork = \"none\"\n";
    let token = api.registration_token(Scope::Repo(&repo)).await?;
    let stranger = Runner::with(Place::new(On::Qemu), rest).register(api.url(), &token, &repo.name);
    let said = String::from_utf8_lossy(&stranger.stderr).into_owned();
    assert_ne!(stranger.status.code(), Some(0), "it trusts anybody: {said}");

    let place = Place::new(On::Qemu);
    let file = place.path().join("forge.pem");
    fs::write(&file, gitea.authority().expect("it serves TLS")).expect("a file");
    let config = format!("{rest}[connection]\nca_file = \"{}\"\n", file.display());
    let runner = Runner::with(place, &config);
    runner.registers(api.url(), &token, &repo.name);
    let daemon = runner.daemon();
    let pushes = PUSHES.replace(" && ", "\n          ");
    let run = push_workflow(&api, &repo, &TRUSTS.replace("PUSHES", &pushes)).await?;
    api.wait_for_state(&repo, run.id, State::Success, PATIENCE).await;
    let log = rows(&api, &repo, &job(&api, &repo, run.id, "a").await?).await?;
    // by the name that the server gives itself, which is another one than the runner has
    has(&log, &format!("called https://{TLS_NAME}:{TLS_PORT}"));
    has(&log, &format!("cloned {}", run.head_sha));
    for tool in ["curl trusts it", "wget trusts it", "python trusts it", "node trusts it"] {
        has(&log, tool);
    }
    has(&log, "python has it for requests");
    // by its hash too, and from where the system's own tool takes it when it is called
    has(&log, "ampoule-0.pem: OK");
    has(&log, "nothing else is reached");
    assert!(!log.iter().any(|row| row.starts_with("##[warning]")), "{log:#?}");
    assert_eq!(api.read_file(&repo, "by-the-vm").await?, b"of ampoule\n", "what was pushed is there");
    crate::runner::end(daemon, &runner);
    Ok(())
}
