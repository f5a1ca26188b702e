//! The names of a VM: its questions, answered by the host's name servers as far as its policy goes.
//!
//! Purpose: no answer leads where the policy does not, and what an answer leads to is open before the guest has it.
//! Owner: whoever leases a VM has one [`Resolver`] for it, with one [`Upstreams`] for all, and serves it over the stream
//! of the guest's service `dns` ([`serve_names`]).
//!
//! ```text
//!  question ─▶ read ─▶ rate ─▶ policy ─▶ cache ─────────────────────────────────────────▶ answer
//!               │       │        │         └ flight (one per name and type)                 ▲
//!             FORMERR SERVFAIL NXDOMAIN       └ upstream ─▶ chain, filter ─▶ allow ─▶ cache ┘
//! ```
//!
//! Invariants
//! - **Opened before answered.** The hook has opened a name's addresses before the guest is told them, for longer than
//!   it may keep them: time to live and [`GRACE`]. An answer out of the cache tells the rest of that time only.
//! - **Denied ranges are not answered**, by A, AAAA, and hints of HTTPS and SVCB, but for addresses that the policy has as
//!   addresses; what is left of an answer is answered. A name all of whose addresses were taken out has none, and its
//!   aliases are not told.
//! - Names outside of a policy that names its names do not exist (NXDOMAIN): programs then say at once that there is no
//!   such host, where they try again for half a minute after REFUSED. A name above one that is allowed exists, without
//!   records.
//! - Reverse names of denied ranges do not exist: they would tell the names of the host's network.
//! - A guest's questions and what they cost are bounded: [`NameLimits`], and the sizes in `cache` and `record`.
//! - Nothing is validated: DNSSEC's records can be asked for, but an answer that was filtered would fail, so none says
//!   that it is authentic. `/etc/hosts` of the host is not read.

mod cache;
pub(crate) mod fuzz;
mod message;
mod rate;
mod record;
mod resolv_conf;
mod serve;
mod upstream;

#[cfg(test)]
mod tests;

use std::{
    collections::HashMap,
    fmt,
    future::Future,
    io,
    net::IpAddr,
    pin::Pin,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::{
    sync::{Semaphore, watch},
    time::{Instant, sleep, timeout},
};

use crate::{Policy, Ports, denied};
use cache::{Cache, Key, Outcome};
use message::{Asked, Bad, Code, Note, Question, Said, chain, read_question, write_answer};
use rate::Bucket;
use record::Log;
pub use record::{NameRefused, Why};
pub use resolv_conf::Servers;
pub use serve::serve_names;
pub use upstream::Upstreams;

/// Shortest time to live that a guest is told, in seconds: it asks again no more often.
const TTL_LEAST: u32 = 5;
/// Longest, in seconds.
const TTL_MOST: u32 = 3600;
/// Longest of a negative answer, in seconds.
const TTL_NEGATIVE: u32 = 300;
/// Of a failure, in seconds: less than the time after which programs ask again.
const TTL_FAILED: u32 = 1;
/// For how long an address stays open after the guest should have forgotten it: programs keep them longer than they say.
const GRACE: Duration = Duration::from_secs(120);
/// Longest wait for the hook.
const ALLOW: Duration = Duration::from_secs(5);
/// Most names of a VM that are being asked for: an eighth of what all of them may have with name servers.
const MAX_FLIGHTS: usize = 64;
/// Longest that a question waits for its turn before it fails.
const TURN: Duration = Duration::from_secs(1);

/// What is to be opened for a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Opened {
    /// The name that the guest asked for.
    pub name: String,
    /// Addresses, ports, and for how long from now; one that is open already must not be open for less than before.
    pub addresses: Vec<(IpAddr, Ports, Duration)>,
}

/// Opens addresses, and returns when they are open.
pub type Allow = Box<dyn Fn(Opened) -> Pin<Box<dyn Future<Output = io::Result<()>> + Send>> + Send + Sync>;

/// How much a VM may ask.
#[derive(Clone, Copy, Debug)]
pub struct NameLimits {
    /// Questions a second.
    pub questions: u32,
    /// Questions a second that no cache answers.
    pub upstream: u32,
    /// Questions at once.
    pub at_once: usize,
}

impl Default for NameLimits {
    /// An install of a large tree of packages asks some hundred names within seconds.
    fn default() -> Self {
        Self { questions: 2000, upstream: 100, at_once: 256 }
    }
}

/// The resolver of one VM; clones are the same one.
#[derive(Clone)]
pub struct Resolver(Arc<Inner>);

struct Inner {
    policy: Policy,
    upstreams: Arc<Upstreams>,
    allow: Allow,
    at_once: Semaphore,
    state: Mutex<State>,
}

struct State {
    questions: Bucket,
    upstream: Bucket,
    cache: Cache,
    flights: HashMap<Key, watch::Receiver<Option<Arc<Outcome>>>>,
    log: Log,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Resolver").field("policy", &self.0.policy).finish_non_exhaustive()
    }
}

impl Resolver {
    /// For a VM with this policy. `allow` is called for the addresses that the policy's names open.
    pub fn new(policy: Policy, upstreams: Arc<Upstreams>, limits: NameLimits, allow: Allow) -> Self {
        let state = State {
            questions: Bucket::new(limits.questions, limits.questions),
            upstream: Bucket::new(limits.upstream, limits.upstream.saturating_mul(4)),
            cache: Cache::default(),
            flights: HashMap::new(),
            log: Log::default(),
        };
        let at_once = Semaphore::new(limits.at_once);
        Self(Arc::new(Inner { policy, upstreams, allow, at_once, state: Mutex::new(state) }))
    }

    /// Answers a question; none: it is none, and dropped. An answer may be longer than fits into a datagram.
    pub async fn answer(&self, question: &[u8]) -> Option<Vec<u8>> {
        let question = match read_question(question) {
            Asked::Question(question) => *question,
            Asked::Reply(bytes) => return Some(bytes),
            Asked::Nothing => return None,
        };
        let now = Instant::now();
        let Ok(_room) = self.0.at_once.try_acquire() else { return Some(self.busy(&question)) };
        let turn = self.0.state().questions.take(TURN);
        match turn {
            Some(wait) if wait.is_zero() => {}
            Some(wait) => sleep(wait).await,
            None => return Some(self.busy(&question)),
        }
        if let Some(said) = self.0.by_policy(&question) {
            return Some(write_answer(&question, said));
        }
        let key = (question.name.clone(), question.kind);
        let known = self.0.state().cache.get(&key, now);
        if let Some(outcome) = known {
            return Some(write_answer(&question, outcome.said(Instant::now())));
        }
        let outcome = self.flight(key, &question).await;
        Some(match outcome {
            Some(outcome) => write_answer(&question, outcome.said(Instant::now())),
            None => self.busy(&question),
        })
    }

    /// Joins whoever asks the same already, or asks. The work goes on if its first asker is gone.
    async fn flight(&self, key: Key, question: &Question) -> Option<Arc<Outcome>> {
        let mut landed = {
            let mut state = self.0.state();
            match state.flights.get(&key) {
                Some(flight) => flight.clone(),
                None if state.flights.len() >= MAX_FLIGHTS => return None,
                None => {
                    let wait = state.upstream.take(TURN)?;
                    let (land, landed) = watch::channel(None);
                    state.flights.insert(key.clone(), landed.clone());
                    let (inner, question) = (self.0.clone(), question.clone());
                    tokio::spawn(async move {
                        sleep(wait).await;
                        let _landing = Landing(&inner, &key);
                        let outcome = Arc::new(inner.resolve(&question).await);
                        inner.state().cache.put(key.clone(), outcome.clone());
                        land.send_replace(Some(outcome));
                    });
                    landed
                }
            }
        };
        landed.wait_for(Option::is_some).await.ok()?.clone()
    }

    fn busy(&self, question: &Question) -> Vec<u8> {
        self.0.state().log.refuse(&question.name, question.kind, Why::Rate);
        write_answer(question, Said::bare(Code::ServFail, Some(Note::Busy)))
    }

    /// What was refused by name.
    pub fn refused_names(&self) -> Vec<NameRefused> {
        self.0.state().log.refused()
    }

    /// The names for which the guest was, or would have been, told this address; the last ones.
    pub fn names_of(&self, address: IpAddr) -> Vec<String> {
        self.0.state().log.names_of(address)
    }
}

/// Takes a flight off the list, however it ends.
struct Landing<'a>(&'a Inner, &'a Key);

impl Drop for Landing<'_> {
    fn drop(&mut self) {
        self.0.state().flights.remove(self.1);
    }
}

impl Inner {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The answer where no upstream is needed to know it.
    fn by_policy(&self, question: &Question) -> Option<Said<'static>> {
        let refuse = |why| self.state().log.refuse(&question.name, question.kind, why);
        if question.is_no_record() {
            refuse(Why::Type);
            return Some(Said::bare(Code::Refused, Some(Note::Blocked)));
        }
        if !self.policy.resolves(&question.name) {
            refuse(Why::NotInPolicy);
            let code =
                if self.policy.resolves_below(&question.name) { Code::NoError } else { Code::NxDomain };
            return Some(Said::bare(code, Some(Note::Blocked)));
        }
        let network = question.reverse()?;
        let range = denied(network.addr()).filter(|_| !self.policy.opens(network.addr()))?;
        refuse(Why::Denied { address: network.addr(), range: range.name.to_owned() });
        Some(Said::bare(Code::NxDomain, Some(Note::Blocked)))
    }

    async fn resolve(&self, question: &Question) -> Outcome {
        let refuse = |why| self.state().log.refuse(&question.name, question.kind, why);
        let may = |address| self.policy.may_answer(address);
        let answer = self.upstreams.ask(question).await;
        let Some(answer) = answer else {
            refuse(Why::NoAnswer);
            return Outcome::bare(Code::ServFail, Note::Unreachable, TTL_FAILED);
        };
        let found = match chain(answer, question, &may) {
            Ok(found) => found,
            Err(bad) => {
                refuse(if bad == Bad::TooLong { Why::TooLong } else { Why::Senseless });
                return Outcome::bare(Code::ServFail, Note::Unusable, TTL_FAILED);
            }
        };
        {
            let mut state = self.state();
            for address in found.addresses.iter().chain(&found.removed) {
                state.log.saw(*address, &question.name);
            }
            for &address in &found.removed {
                let range = denied(address).map_or("", |range| range.name).to_owned();
                state.log.refuse(&question.name, question.kind, Why::Denied { address, range });
            }
        }
        let most = if found.records.is_empty() { TTL_NEGATIVE } else { TTL_MOST };
        let ttl = found.ttl.unwrap_or(0).clamp(TTL_LEAST, most);
        // from before the hook on, so that the guest's time ends before that of what is open
        let since = Instant::now();
        if !self.open(question, &found.addresses, ttl).await {
            refuse(Why::NotOpened);
            return Outcome::bare(Code::ServFail, Note::Unreachable, TTL_FAILED);
        }
        Outcome {
            code: if found.no_name { Code::NxDomain } else { Code::NoError },
            records: found.records,
            soa: found.soa,
            note: (!found.removed.is_empty()).then_some(Note::Filtered),
            ttl,
            since,
        }
    }

    /// Opens the addresses that the name may be reached at; those of denied ranges are open by their own rules, or not.
    async fn open(&self, question: &Question, found: &[IpAddr], ttl: u32) -> bool {
        let ports = self.policy.ports_of(&question.name);
        let time = Duration::from_secs(ttl.into()) + GRACE;
        let mut addresses = Vec::new();
        for address in found.iter().filter(|address| denied(**address).is_none()) {
            addresses.extend(ports.iter().map(|ports| (address.to_canonical(), *ports, time)));
        }
        if addresses.is_empty() {
            return true;
        }
        let opened = (self.allow)(Opened { name: question.name.clone(), addresses });
        matches!(timeout(ALLOW, opened).await, Ok(Ok(())))
    }
}
