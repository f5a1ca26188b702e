//! A forge with exactly Forgejo's rules, on a real socket.
//!
//! Purpose: what a real Gitea cannot show: Forgejo's acknowledgements, archive, request keys, capacity, handles and
//! ephemeral runners; and faults at a chosen call. It speaks protobuf bodies, as both forges and our client do.
//! Owner: the test that holds the [`Forge`]; the server ends with it.
//!
//! Invariants
//! - The rules are Forgejo's as it answers on the wire; what a test does beside them (adding a task, a cancel)
//!   is what its web page or its clean-up does.
//! - A fault never changes a rule: a call is applied or it is not, and then its answer travels or it does not.
//! - Every call is written down, in the order in which it was applied, also one whose answer was lost.
//!
//! ```text
//!            FetchTask, FetchSingleTask       UpdateTask with a result
//!  waiting ─────────────────────────▶ running ─────────────────────────▶ final (sticky)
//!     │ cancel                           │ cancel, give_up                 ▲
//!     └──────────────────────────────────┴─────────────────────────────────┘
//! ```

mod context;
mod faults;
mod http;
mod log;
mod rules;
mod task;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    ops::RangeInclusive,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use forgejo::{Credential, Lifetime, TaskId, TaskResult, messages::runner};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle, time::timeout};

pub use faults::{Answer, Call, Fault, Method, Request};
pub use log::Row;
pub use task::{Step, TaskSpec};

use rules::State;

/// The registration token that is good.
pub const REGISTRATION_TOKEN: &str = "registration-token-of-the-tests";

/// What differs between forges.
#[derive(Debug, Clone, Default)]
pub struct Settings {
    /// A path below which the instance is, such as `/git`.
    pub prefix: String,
    /// Whether it knows step summaries.
    pub summaries: Summaries,
    /// Where the first task of an answer stands.
    pub first_task: FirstTask,
}

/// Whether a forge knows step summaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Summaries {
    /// It keeps them.
    #[default]
    Kept,
    /// It says `unimplemented`, as all but the newest do.
    Unimplemented,
}

/// Where the first task of an answer to FetchTask stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum FirstTask {
    /// In `task`.
    #[default]
    InTask,
    /// In `additional_tasks`, which a runner has to take as well.
    InAdditional,
}

/// A forge of a test.
pub struct Forge {
    shared: Arc<Shared>,
    address: SocketAddr,
    server: JoinHandle<()>,
}

/// What the server and the test share. No lock is held across an await.
struct Shared {
    state: Mutex<State>,
    changed: watch::Sender<()>,
    settings: Settings,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something and tells whoever waits for a change.
    fn change<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        let result = with(&mut self.state());
        self.changed.send_replace(());
        result
    }
}

impl Drop for Forge {
    fn drop(&mut self) {
        self.server.abort();
    }
}

impl Forge {
    /// Starts one as it is.
    pub async fn start() -> Self {
        Self::start_with(Settings::default()).await
    }

    /// Starts one, on a free port of the loopback.
    pub async fn start_with(settings: Settings) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let address = listener.local_addr().expect("its address");
        let url = format!("http://{address}{}", settings.prefix);
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(settings.clone(), url)),
            changed: watch::Sender::new(()),
            settings,
        });
        let server = tokio::spawn(http::serve(listener, Arc::clone(&shared)));
        Self { shared, address, server }
    }

    /// The URL that a runner is given.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{}", self.address, self.shared.settings.prefix)
    }

    /// Its socket, for what stands in between.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Makes a runner as the web page does.
    pub fn add_runner(&self, name: &str, labels: &[&str], lifetime: Lifetime) -> Credential {
        let labels = labels.iter().map(|&label| label.to_owned()).collect();
        self.shared.change(|state| state.add_runner(name, labels, lifetime)).credential()
    }

    /// Whether it still knows this runner; it forgets an ephemeral one.
    #[must_use]
    pub fn knows_runner(&self, uuid: &str) -> bool {
        self.shared.state().knows(uuid)
    }

    /// Puts a job into the queue.
    pub fn add(&self, spec: TaskSpec) -> TaskId {
        self.shared.change(|state| state.add(spec))
    }

    /// Cancels a task as the web page does. The final state of a task that has one stays.
    pub fn cancel(&self, task: TaskId) {
        self.shared.change(|state| state.stop(task, TaskResult::Cancelled));
    }

    /// Gives a task up as one whose runner was not heard of: it failed, and its log is archived.
    pub fn give_up(&self, task: TaskId) {
        self.shared.change(|state| {
            state.stop(task, TaskResult::Failure);
            state.archive(task);
        });
    }

    /// Deletes a task with its run or its repository: no call finds it any more.
    pub fn delete(&self, task: TaskId) {
        self.shared.change(|state| state.delete(task));
    }

    /// Adds a task that was handed out already to the next answer of a fetch, with new tokens.
    pub fn redeliver(&self, task: TaskId) {
        self.shared.change(|state| state.redeliver(task));
    }

    /// Lets something happen to these calls of a method, counted from 1 since the start.
    pub fn plan(&self, method: Method, calls: RangeInclusive<usize>, fault: Fault) {
        self.shared.change(|state| state.plan(method, calls, fault));
    }

    /// Lets something happen to the next call of a method.
    pub fn plan_next(&self, method: Method, fault: Fault) {
        self.shared.change(|state| {
            let next = state.count(method) + 1;
            state.plan(method, next..=next, fault);
        });
    }

    /// Forgets what was planned.
    pub fn forget_plans(&self) {
        self.shared.change(State::forget_plans);
    }

    /// Every call, in order.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.shared.state().calls().to_vec()
    }

    /// How many calls of a method there were.
    #[must_use]
    pub fn count(&self, method: Method) -> usize {
        self.shared.state().count(method)
    }

    /// How a task ended; unspecified while it did not.
    #[must_use]
    pub fn result(&self, task: TaskId) -> TaskResult {
        self.shared.state().task(task).result
    }

    /// Whether a runner has it, or had.
    #[must_use]
    pub fn was_fetched(&self, task: TaskId) -> bool {
        self.shared.state().task(task).runner.is_some()
    }

    /// The token that a task's last delivery carried.
    #[must_use]
    pub fn token(&self, task: TaskId) -> String {
        self.shared.state().task(task).token.clone()
    }

    /// The rows of a task's log, cut and escaped as the server does.
    #[must_use]
    pub fn rows(&self, task: TaskId) -> Vec<Row> {
        self.shared.state().task(task).log.rows().to_vec()
    }

    /// Whether the log was closed.
    #[must_use]
    pub fn is_archived(&self, task: TaskId) -> bool {
        self.shared.state().task(task).log.is_archived()
    }

    /// The states of a task's steps, as many as its payload has.
    #[must_use]
    pub fn steps(&self, task: TaskId) -> Vec<Step> {
        self.shared.state().task(task).steps.clone()
    }

    /// The last state that a runner reported and the server took, as it was sent.
    #[must_use]
    pub fn reported(&self, task: TaskId) -> Option<runner::TaskState> {
        self.shared.state().task(task).reported.clone()
    }

    /// The outputs that dependent jobs see: those that came with or before the final state.
    #[must_use]
    pub fn outputs(&self, task: TaskId) -> BTreeMap<String, String> {
        self.shared.state().task(task).outputs.clone()
    }

    /// Outputs that came too late: the server acknowledges them, and nobody sees them.
    #[must_use]
    pub fn late_outputs(&self, task: TaskId) -> BTreeMap<String, String> {
        self.shared.state().task(task).late_outputs.clone()
    }

    /// The summaries of a task's steps.
    #[must_use]
    pub fn summaries(&self, task: TaskId) -> BTreeMap<i64, String> {
        self.shared.state().task(task).summaries.clone()
    }

    /// Waits until this is there, asked after every change; `None` when patience ends first.
    pub async fn until<T>(&self, patience: Duration, mut look: impl FnMut(&Self) -> Option<T>) -> Option<T> {
        let mut changed = self.shared.changed.subscribe();
        timeout(patience, async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = look(self) {
                    return found;
                }
                // the sender lives as long as self
                let _ = changed.changed().await;
            }
        })
        .await
        .ok()
    }

    /// Waits for the end of a task.
    pub async fn until_final(&self, task: TaskId, patience: Duration) -> Option<TaskResult> {
        self.until(patience, |forge| {
            Some(forge.result(task)).filter(|&result| result != TaskResult::Unspecified)
        })
        .await
    }
}
