//! One task from its receipt to its last report; what all tasks of a runner share.
//!
//! Owner: [`crate::daemon`] and [`crate::one_job`]. Invariant: whatever becomes of the job, the server is told
//! its end.

use std::sync::{Arc, OnceLock};

use forgejo::{Code, Lifetime, Task};
use jiff::Timestamp;
use job::{
    Authorities, Cancel, Canceller, How, JobImage, JobSpec, Machinery, Outcome, Reason, RunnerFacts, Size,
};
use sandbox::{Forward, NetLimits, Policy, Services};
use tokio::sync::{mpsc, watch};

use crate::{
    Config, Error, Label, Registration, ReportError,
    repo::Repositories,
    report::{Pace, Reporter},
    task::{self, Own, Ready},
};

/// Events of one job under way.
const EVENTS: usize = 256;

/// What jobs run on.
pub struct Machines {
    /// Makes the VMs, and perhaps others.
    pub engine: Arc<sandbox::Engine>,
    /// What boots in them.
    pub image: JobImage,
    /// How large they are.
    pub size: Size,
    /// Parts of the jail that this host cannot give.
    pub missing: Vec<String>,
    /// What they may reach.
    pub network: Policy,
    /// What each may use of that.
    pub limits: NetLimits,
    /// What answers at the forwards that lead to no address: [`crate::config::Controller::SERVICE`].
    pub services: Services,
}

impl Machines {
    fn machinery(&self) -> Machinery<'_> {
        let Self { engine, image, size, missing, network, limits, services: _ } = self;
        Machinery { engine, image, size: *size, missing, network, limits: *limits }
    }
}

/// What the user wants of a runner that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stop {
    /// It goes on.
    No,
    /// It takes no more work and ends with its jobs.
    Drain,
    /// It cancels its jobs, which may clean up.
    Cancel,
    /// It destroys their VMs.
    Now,
}

/// A runner: who it is to its server, and what its jobs run on.
pub struct Runner {
    pub(crate) config: Config,
    pub(crate) labels: Vec<Label>,
    pub(crate) client: forgejo::Runner,
    pub(crate) instance: String,
    pub(crate) version: String,
    name: String,
    /// What the server said of it, once it was told the labels.
    lifetime: OnceLock<Lifetime>,
    env: Vec<(String, String)>,
    /// Ways of each job's VM beside those to its forge.
    forwards: Vec<Forward>,
    /// Whom each job's VM trusts.
    authorities: Option<Authorities>,
    machines: Machines,
    repositories: Repositories,
}

impl Runner {
    /// Has a VM ready for each job that it may run at once, as far as the pool's limits go.
    pub(crate) async fn keep_ready(&self) {
        let spec = self.machines.machinery().any_job();
        let count = usize::from(self.config.runner.capacity);
        if let Err(error) = self.machines.engine.keep_ready(&spec, count).await {
            // the job that needs it says so in its own log
            tracing::warn!(error = &error as &dyn std::error::Error, "no VM can be kept ready");
        }
    }

    /// Puts it together. `env` has what the configuration's `env_file` holds; `repositories` is where commits
    /// are kept between jobs.
    ///
    /// # Errors
    /// The address is none, the certificates cannot be read, there are no labels.
    pub fn new(
        config: Config,
        registration: Registration,
        machines: Machines,
        env: Vec<(String, String)>,
        repositories: std::path::PathBuf,
        version: &str,
    ) -> Result<Self, Error> {
        let labels = match config.runner.labels.as_slice() {
            [] => registration.labels,
            labels => labels.to_vec(),
        };
        if labels.is_empty() {
            return Err(Error::NoLabels);
        }
        let instance = registration.address.trim_end_matches('/').to_owned();
        let failed = |source| Error::Server { instance: instance.clone(), source };
        let client = client(&instance, &config.connection, version).map_err(failed)?;
        let credential = forgejo::Credential { uuid: registration.uuid, token: registration.token };
        let mut all = config.runner.envs.clone();
        all.extend(env);
        let mut forwards = config.vm.forwards.clone();
        forwards.extend(config.controller.token_file.is_some().then(|| config.controller.address.clone()));
        Ok(Self {
            client: client.runner(credential),
            labels,
            version: version.to_owned(),
            name: registration.name,
            lifetime: OnceLock::new(),
            env: all,
            forwards,
            authorities: authorities(client.instance(), &config.connection)?,
            machines,
            repositories: Repositories::new(repositories, &config.connection),
            instance,
            config,
        })
    }

    /// Labels whose jobs get something else than they say.
    #[must_use]
    pub fn unlike(&self) -> Vec<String> {
        self.labels.iter().filter_map(Label::unlike).collect()
    }

    /// Tells the server which labels this runner has.
    pub(crate) async fn declare(&self) -> Result<(), forgejo::Error> {
        let names: Vec<String> = self.labels.iter().map(|label| label.name.clone()).collect();
        let declared = self.client.declare(&self.version, &names).await?;
        // a later answer would be the same: the lifetime of a runner does not change
        let _ = self.lifetime.set(declared.lifetime);
        Ok(())
    }

    /// Whether the server deletes this runner when its one task ends, by itself or by a cancel.
    pub(crate) fn is_ephemeral(&self) -> bool {
        self.lifetime.get() == Some(&Lifetime::Ephemeral)
    }

    /// Closes the engine: nothing of a VM is left afterwards.
    pub async fn close(&self) {
        self.machines.engine.close().await;
    }

    /// Runs a task and reports it.
    pub(crate) async fn run(
        &self,
        task: Task,
        canceller: Canceller,
        cancel: Cancel,
    ) -> Result<(), ReportError> {
        let id = task.id;
        tracing::debug!(task = %id, "received");
        let pace = Pace { interval: self.config.runner.report_interval };
        let own = Own {
            instance: &self.instance,
            env: &self.env,
            forwards: &self.forwards,
            timeout: self.config.runner.timeout,
        };
        let Ready { job, around, warnings } = match task::ready(&task, own) {
            Ok(ready) => ready,
            Err(rows) => {
                tracing::warn!(task = %id, "the task is no job that can run here");
                let mut report = Reporter::new(self.client.clone(), id, 0, canceller, pace);
                report.say(&rows.join("\n"));
                report.fail(Timestamp::now(), Outcome::Failure);
                return report.close(&Default::default()).await;
            }
        };
        let steps = job.job().steps.len();
        tracing::info!(task = %id, repository = %around.origin.repository, job = %job.name, "runs");
        let mut report = Reporter::new(self.client.clone(), id, steps, canceller, pace);
        let unlike =
            self.labels.iter().filter(|label| job.runs_on.contains(&label.name)).find_map(Label::unlike);
        for row in warnings.into_iter().chain(unlike.map(|text| format!("##[warning]{text}"))) {
            report.say(&row);
        }
        let tree = Arc::new(self.repositories.of(&around.origin, &self.instance));
        let facts = RunnerFacts { name: self.name.clone(), version: self.version.clone() };
        let services = self.machines.services.clone();
        let context = around.with(tree, facts, services, self.authorities.clone());
        let machinery = self.machines.machinery();
        let (events, mut said) = mpsc::channel(EVENTS);
        let running = job::run(JobSpec { job }, context, machinery, events, cancel);
        let (outcome, ()) = tokio::join!(running, report.follow(&mut said));
        let summaries = match outcome {
            Ok(outcome) => {
                tracing::info!(task = %id, result = ?outcome.result, "ended");
                outcome.summaries
            }
            Err(error) => {
                tracing::error!(task = %id, error = &error as &dyn std::error::Error, "could not be run to its end");
                Default::default()
            }
        };
        report.close(&summaries).await
    }
}

/// A client of an instance.
pub(crate) fn client(
    instance: &str,
    connection: &crate::config::Connection,
    version: &str,
) -> Result<forgejo::Client, forgejo::Error> {
    let instance = forgejo::Instance::parse(instance)?;
    let mut options = forgejo::Options::new(instance, format!("ampoule/{version}"));
    options.ca_file.clone_from(&connection.ca_file);
    options.certificates = connection.certificates;
    forgejo::Client::new(&options)
}

/// Whom the VMs of jobs trust: whom this runner trusts, where that is said of its own instance.
fn authorities(
    instance: &forgejo::Instance,
    connection: &crate::config::Connection,
) -> Result<Option<Authorities>, Error> {
    let Some(path) = connection.ca_file.as_ref().filter(|_| instance.is_https()) else { return Ok(None) };
    read_authorities(path).map(Some)
}

/// Looks whether a configuration's `ca_file` can be what a runner needs it for.
///
/// # Errors
/// It cannot be read, or holds no certificates.
pub fn check_authorities(path: &std::path::Path) -> Result<(), Error> {
    read_authorities(path).map(drop)
}

fn read_authorities(path: &std::path::Path) -> Result<Authorities, Error> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| Error::Authorities { path: path.to_owned(), source: Some(source) })?;
    Authorities::of(&text).ok_or_else(|| Error::Authorities { path: path.to_owned(), source: None })
}

/// Registers a runner.
///
/// # Errors
/// The server cannot be reached, or does not want it.
pub async fn register(
    instance: &str,
    connection: &crate::config::Connection,
    registration: forgejo::Registration,
    labels: Vec<Label>,
) -> Result<Registration, Error> {
    let failed = |source| Error::Server { instance: instance.to_owned(), source };
    let client = client(instance, connection, &registration.version).map_err(failed)?;
    let registered = client.register(registration).await.map_err(|source| match source.code() {
        // a server that is overloaded or away has other words
        Some(Code::Unknown | Code::InvalidArgument | Code::NotFound | Code::PermissionDenied) => {
            Error::Unregistered { instance: instance.to_owned(), source }
        }
        _ => failed(source),
    })?;
    Ok(Registration {
        id: registered.id,
        uuid: registered.uuid,
        name: registered.name,
        token: registered.token,
        address: instance.to_owned(),
        labels,
        other: serde_json::Map::new(),
    })
}

/// Asks all jobs of `canceller` to end, as far as `stop` wants it.
pub(crate) fn obey(stop: Stop, cancellers: impl Iterator<Item = Canceller>) {
    let how = match stop {
        Stop::No | Stop::Drain => return,
        Stop::Cancel => How::Graceful { deadline: tokio::time::Instant::now() + crate::report::GRACE },
        Stop::Now => How::Now,
    };
    cancellers.for_each(|canceller| canceller.cancel(Reason::Shutdown, how));
}

/// Waits until the user wants more than `than`.
pub(crate) async fn more(stop: &mut watch::Receiver<Stop>, than: Stop) -> Stop {
    let harder = stop.wait_for(|stop| *stop > than).await.map(|stop| *stop).ok();
    match harder {
        Some(stop) => stop,
        // nobody can ask any more
        None => std::future::pending().await,
    }
}
