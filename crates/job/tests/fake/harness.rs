//! What the tests share: an engine, jobs out of text, events as rows.

use std::{
    collections::BTreeMap,
    future::Future,
    io::Cursor,
    num::NonZeroU8,
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use futures_util::{FutureExt as _, future::BoxFuture};
use job::{
    Archive, Cancel, Canceller, Error, Event, EventKind, JobContext, JobImage, JobOutcome, JobSpec,
    Machinery, Outcome, Repository, RunnerFacts, Size, TreeError, Wanted, WorkingTree, Workspace,
};
use libtest_mimic::Trial;
use sandbox::{Engine, EngineConfig, Patience, Root};
use tokio::{runtime::Runtime, sync::mpsc};
use workflow::{Contexts, Object, Plan, Results, RunState, Surroundings, Value};

/// A test: leases what it needs from the one engine.
pub(crate) fn trial<F, Fut>(name: &'static str, test: F) -> Trial
where
    F: Fn() -> Fut + Send + 'static,
    Fut: Future<Output = ()> + 'static,
{
    Trial::test(name, move || {
        world().runtime.block_on(test());
        Ok(())
    })
}

/// What all tests share.
pub(crate) struct World {
    runtime: Runtime,
    pub(crate) engine: Engine,
    state: PathBuf,
    _dir: tempfile::TempDir,
}

pub(crate) fn world() -> &'static World {
    static WORLD: OnceLock<World> = OnceLock::new();
    WORLD.get_or_init(|| {
        let dir = tempfile::tempdir().unwrap();
        let state = dir.path().join("state");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let config = EngineConfig {
            state_dir: state.clone(),
            backend: testkit::fake::backend(),
            patience: Patience {
                ping_every: Duration::from_millis(200),
                silence: Duration::from_secs(20),
                ..Patience::default()
            },
            pool: sandbox::PoolLimits::NONE,
            reserve: sandbox::Reserve::default(),
            network: sandbox::Networking::Lacking("it is a test".to_owned()),
        };
        let (engine, _) = runtime.block_on(Engine::open(config)).unwrap();
        World { runtime, engine, state, _dir: dir }
    })
}

/// Ends the engine; the slots that are left after that.
pub(crate) fn close() -> Vec<PathBuf> {
    let world = world();
    world.runtime.block_on(world.engine.close());
    let slots = std::fs::read_dir(world.state.join("slots")).unwrap();
    slots.map(|slot| slot.unwrap().path()).collect()
}

/// A tree of two files.
#[derive(Default)]
pub(crate) struct Tree {
    /// What it leaves out.
    pub(crate) left_out: Vec<String>,
}

impl WorkingTree for Tree {
    fn describe(&self) -> String {
        "the working tree of the test".to_owned()
    }

    fn archive<'a>(&'a self, wanted: &'a Wanted) -> BoxFuture<'a, Result<Archive, TreeError>> {
        let result = match &wanted.reference {
            Some(reference) => Err(TreeError::NotThere(format!("there is no `{reference}`"))),
            None => {
                let mut builder = tar::Builder::new(Vec::new());
                for (name, text) in [("README", "read me\n"), ("src/main.c", "int main;\n")] {
                    let mut header = tar::Header::new_gnu();
                    header.set_size(text.len() as u64);
                    header.set_mode(0o644);
                    builder.append_data(&mut header, name, text.as_bytes()).unwrap();
                }
                Ok(Box::new(Cursor::new(builder.into_inner().unwrap())) as Archive)
            }
        };
        async { result }.boxed()
    }

    fn left_out(&self) -> Vec<String> {
        self.left_out.clone()
    }
}

/// What surrounds the job of a test.
pub(crate) fn context() -> JobContext {
    JobContext {
        github: [("sha", "abc123"), ("repository", "me/it"), ("token", "t0ken-of-the-job")]
            .into_iter()
            .collect::<Object>()
            .into(),
        vars: [("GREETING", "hi")].into_iter().collect::<Object>().into(),
        inputs: Object::new().into(),
        secrets: [("PASSWORD", "hunter2-secret"), ("KEY", "first line\nsecond line\n")]
            .into_iter()
            .map(|(name, value)| (name.to_owned(), value.to_owned().into()))
            .collect(),
        masks: Vec::new(),
        env: vec![("FROM_CALLER".to_owned(), "caller".to_owned())],
        repository: Repository::parse("me/it").unwrap(),
        tree: Arc::new(Tree::default()),
        workspace: Workspace::Tree,
        runner: RunnerFacts { name: "tester".to_owned(), version: "0".to_owned() },
        failures: None,
        forwards: Vec::new(),
        services: sandbox::Services::default(),
        authorities: None,
    }
}

/// The only job of a workflow.
pub(crate) fn spec(text: &str) -> JobSpec {
    let source = doc::Source::new("test.yml", text);
    let (workflow, _) = workflow::parse(&source).into_result().unwrap_or_else(|faults| {
        let texts: Vec<_> = faults.iter().map(|fault| fault.render(doc::Rendering::Plain)).collect();
        panic!("{}", texts.join("\n"));
    });
    let plan = Plan::new(Arc::new(workflow)).unwrap();
    let id = plan.jobs().next().unwrap().id.value.clone();
    let mut contexts = Contexts::new();
    contexts.set(workflow::ContextName::Vars, Value::from(Object::new()));
    let around =
        Surroundings { results: &Results::new(), contexts: &contexts, run: RunState::Running, filters: &[] };
    JobSpec { job: plan.expand(&id, around).unwrap().jobs.remove(0) }
}

/// A job of these steps.
pub(crate) fn steps(steps: &str) -> JobSpec {
    let mut text = "on: push\njobs:\n  it:\n    runs-on: any\n    steps:\n".to_owned();
    for line in steps.trim_matches('\n').lines() {
        text.push_str("      ");
        text.push_str(line);
        text.push('\n');
    }
    spec(&text)
}

/// What a job said and became.
pub(crate) struct Said {
    pub(crate) events: Vec<Event>,
    pub(crate) outcome: Result<JobOutcome, Error>,
}

impl Said {
    /// Rows of a step; `None` for those of no step.
    pub(crate) fn rows(&self, wanted: Option<usize>) -> Vec<&str> {
        self.events
            .iter()
            .filter_map(|event| match &event.kind {
                EventKind::Log { step, line } if *step == wanted => Some(line.as_str()),
                _ => None,
            })
            .collect()
    }

    /// Outcome and conclusion of each step that ended.
    pub(crate) fn ends(&self) -> Vec<(Outcome, Outcome)> {
        self.events
            .iter()
            .filter_map(|event| match event.kind {
                EventKind::StepEnd { outcome, conclusion, .. } => Some((outcome, conclusion)),
                _ => None,
            })
            .collect()
    }

    pub(crate) fn result(&self) -> Outcome {
        match self.outcome.as_ref() {
            Ok(outcome) => outcome.result,
            Err(error) => panic!("{error:?}\n{}", self.all()),
        }
    }

    pub(crate) fn outputs(&self) -> BTreeMap<&str, &str> {
        let outcome = self.outcome.as_ref().unwrap();
        outcome.outputs.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// Everything, for the message of a failed assertion.
    pub(crate) fn all(&self) -> String {
        self.events.iter().map(|event| format!("{:?}\n", event.kind)).collect()
    }

    /// What every job promises.
    #[track_caller]
    fn check(&self) {
        let kinds: Vec<&EventKind> = self.events.iter().map(|event| &event.kind).collect();
        assert!(matches!(kinds.first(), Some(EventKind::JobStart)), "{}", self.all());
        assert!(matches!(kinds.last(), Some(EventKind::JobEnd { .. })), "{}", self.all());
        assert!(self.events.windows(2).all(|pair| pair[0].time <= pair[1].time), "{}", self.all());
        let mut open = None;
        let mut ended = Vec::new();
        for kind in kinds {
            match kind {
                EventKind::StepStart { step, .. } => {
                    assert_eq!(open, None, "{}", self.all());
                    open = Some(*step);
                }
                EventKind::StepEnd { step, .. } => {
                    assert!(open.is_none_or(|open| open == *step), "{}", self.all());
                    open = None;
                    ended.push(*step);
                }
                EventKind::Log { step, line } => {
                    assert_eq!(*step, open, "{line}\n{}", self.all());
                    assert!(!line.contains('\n') && line.len() <= 65_536);
                    for secret in ["hunter2-secret", "second line", "t0ken-of-the-job"] {
                        assert!(!line.contains(secret), "{line}");
                    }
                }
                EventKind::Annotation { step, annotation } => {
                    assert_eq!(Some(*step), open, "{}", self.all());
                    let text = annotation.text();
                    for secret in ["hunter2-secret", "second line", "t0ken-of-the-job"] {
                        assert!(!text.contains(secret), "{text}");
                    }
                }
                EventKind::JobStart | EventKind::JobEnd { .. } => assert_eq!(open, None, "{}", self.all()),
            }
        }
        assert!(ended.iter().copied().eq(0..ended.len()), "{ended:?}\n{}", self.all());
    }
}

/// Runs a job to its end.
pub(crate) async fn run(spec: JobSpec) -> Said {
    run_with(spec, context(), Canceller::new().1, |_| {}).await
}

/// What boots: nothing, for the fake needs nothing.
pub(crate) fn image() -> JobImage {
    JobImage {
        description: "none".to_owned(),
        os: "test".to_owned(),
        kernel: PathBuf::new(),
        initramfs: PathBuf::new(),
        root: Root::Hosted,
    }
}

/// Runs a job and shows each event as it comes.
pub(crate) async fn run_with(
    spec: JobSpec,
    context: JobContext,
    cancel: Cancel,
    see: impl FnMut(&Event),
) -> Said {
    let said = run_on(&image(), spec, context, cancel, see).await;
    said.check();
    said
}

/// Runs a job with an image; checks nothing.
pub(crate) async fn run_on(
    image: &JobImage,
    spec: JobSpec,
    context: JobContext,
    cancel: Cancel,
    mut see: impl FnMut(&Event),
) -> Said {
    let size = Size { cpus: NonZeroU8::MIN, memory: vm::Mebibytes(64), scratch_bytes: 0 };
    let machine = Machinery {
        engine: &world().engine,
        image,
        size,
        missing: &[],
        network: &sandbox::Policy::none(),
        limits: sandbox::NetLimits::default(),
    };
    let (sender, mut receiver) = mpsc::channel(16);
    let mut events = Vec::new();
    let read = async {
        while let Some(event) = receiver.recv().await {
            see(&event);
            events.push(event);
        }
    };
    let (outcome, ()) = tokio::join!(job::run(spec, context, machine, sender, cancel), read);
    Said { events, outcome }
}
