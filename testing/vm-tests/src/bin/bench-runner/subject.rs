//! A runner that is measured: the daemon as a process, with its defaults, at a repository of its own.

use std::{
    env,
    path::{Path, PathBuf},
    time::Duration,
};

use testkit::gitea::{self, Api, File, JobId, Repo, RunId, Scope, State, Visibility};
use vm_tests::{
    host,
    program::{On, Place},
    runner::{Daemon, Runner},
};

use crate::told::{self, Told};

/// How often its log is looked at: the server is not asked while a job runs.
const LOOK: Duration = Duration::from_millis(50);
/// No job of these takes longer.
const PATIENCE: Duration = Duration::from_secs(900);

/// One runner.
pub(crate) struct Subject {
    /// Its name in table and JSON.
    pub(crate) name: &'static str,
    pub(crate) api: Api,
    pub(crate) repo: Repo,
    runner: Runner,
    daemon: Daemon,
}

/// A job that has ended well, and its log.
pub(crate) struct Done {
    pub(crate) told: Told,
    /// Each row with its time before it.
    pub(crate) rows: Vec<String>,
}

impl Subject {
    /// Registers it and starts its daemon; `accel` is that of the VMs.
    pub(crate) async fn start(api: Api, on: On, accel: &str) -> gitea::Result<Self> {
        let (name, program, vm) = match on {
            On::Qemu => ("vm", "ampoule", format!("backend = \"qemu\"\naccel = \"{accel}\"")),
            On::Fake => ("no_vm", "ampoule-harness", "backend = \"fake\"".to_owned()),
        };
        let repo = api.create_repo(&format!("bench-{name}").replace('_', "-"), Visibility::Private).await?;
        let runner = Runner::with(Place::of(on, beside(program)), &format!("[vm]\n{vm}\n"));
        let token = api.registration_token(Scope::Repo(&repo)).await?;
        runner.registers(api.url(), &token, &repo.name);
        let daemon = runner.daemon_with(&[("AMPOULE_LOG", told::LEVELS)]);
        Ok(Self { name, api, repo, runner, daemon })
    }

    /// Puts workflows there; `LABEL` in them is the runner's.
    pub(crate) async fn commit(&self, workflows: &[(&str, &str)]) -> gitea::Result<()> {
        let texts: Vec<_> = workflows
            .iter()
            .map(|(name, text)| {
                (format!(".forgejo/workflows/{name}"), text.replace("LABEL", &self.repo.name))
            })
            .collect();
        let files: Vec<_> = texts.iter().map(|(path, text)| File::text(path, text)).collect();
        self.api.commit(&self.repo, "what is measured", &files).await.map(drop)
    }

    /// Waits for the end of the only job of a run, the `nth` of this daemon.
    pub(crate) async fn done(&self, run: RunId, nth: usize) -> gitea::Result<Done> {
        let what = format!("job {nth} of {} to end", self.repo);
        let begun = std::time::Instant::now();
        let told = loop {
            let task = told::tasks(&self.daemon.said()).into_iter().nth(nth);
            if let Some(told) = task.filter(|task| task.ended.is_some()) {
                break told;
            }
            assert!(begun.elapsed() < PATIENCE, "waited for {what}: {}", self.daemon.said());
            tokio::time::sleep(LOOK).await;
        };
        // what the daemon says is so, the server must say too
        let state = self.api.run(&self.repo, run).await?.state;
        assert_eq!(state, State::Success, "{what}: {}", self.daemon.said());
        let jobs = self.api.jobs(&self.repo, run).await?;
        let [job] = &jobs[..] else { panic!("{} jobs in run {run}", jobs.len()) };
        Ok(Done { told, rows: self.rows(job.id).await? })
    }

    async fn rows(&self, job: JobId) -> gitea::Result<Vec<String>> {
        let log = String::from_utf8(self.api.job_log(&self.repo, job).await?).expect("text");
        Ok(log.strip_suffix('\n').unwrap_or(&log).split('\n').map(str::to_owned).collect())
    }

    /// The most memory that the daemon has had, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        host::peak_memory(self.daemon.pid()).unwrap_or_default()
    }

    /// Ends it; nothing of its jobs is left.
    pub(crate) fn end(self) {
        self.daemon.stop();
        self.runner.place().assert_clean();
    }
}

impl Done {
    /// The text of a row.
    pub(crate) fn text(&self, row: usize) -> &str {
        self.rows[row].split_once(' ').map_or("", |(_, text)| text)
    }

    /// The time of a row, as its job has it.
    pub(crate) fn time(&self, row: usize) -> jiff::Timestamp {
        let time = self.rows[row].split_once(' ').map_or("", |(time, _)| time);
        time.parse().unwrap_or_else(|error| panic!("{time:?}: {error}"))
    }

    /// The first row whose text begins so.
    pub(crate) fn find(&self, start: &str) -> usize {
        let found = (0..self.rows.len()).find(|row| self.text(*row).starts_with(start));
        found.unwrap_or_else(|| panic!("no row {start:?} in {:#?}", &self.rows[..self.rows.len().min(20)]))
    }
}

/// A program that was built together with this one.
fn beside(name: &str) -> PathBuf {
    let this = env::current_exe().expect("the path of this program");
    let program = this.parent().unwrap_or(Path::new("/")).join(name);
    assert!(program.is_file(), "{} is not built", program.display());
    program
}
