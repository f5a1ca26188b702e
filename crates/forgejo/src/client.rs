//! A forge, before and after registration.
//!
//! Purpose: what can be asked without a credential: whether it is there, and for a credential.
//! Owner: the caller; a [`Client`] is cheap to clone and shares its connections with the [`Runner`]s made from it.
//!
//! Invariants: what holds a token has a Debug by hand and no Serialize.

use std::{fmt, path::PathBuf, time::Duration};

use secrecy::{ExposeSecret, SecretString};

use crate::{
    Credential, Error, Instance, Result, Runner,
    connect::{Connect, Headers, Limit},
    messages::{ping, runner},
};

const PING: &str = "ping.v1.PingService";
pub(crate) const RUNNER: &str = "runner.v1.RunnerService";

/// How to reach a forge.
#[derive(Debug, Clone)]
pub struct Options {
    /// Where it is.
    pub instance: Instance,
    /// Certificates (PEM) that are trusted beside those of the system.
    pub ca_file: Option<PathBuf>,
    /// Whether they are checked.
    pub certificates: Certificates,
    /// How long one call may take; the forge's own limit is 60 s.
    pub timeout: Duration,
    /// The name that this program goes by.
    pub user_agent: String,
}

impl Options {
    /// The usual: certificates are checked, and a call may take 60 s.
    #[must_use]
    pub fn new(instance: Instance, user_agent: impl Into<String>) -> Self {
        Self {
            instance,
            ca_file: None,
            certificates: Certificates::Verify,
            timeout: Duration::from_secs(60),
            user_agent: user_agent.into(),
        }
    }
}

/// Whether the forge's certificate is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Certificates {
    /// It is.
    #[default]
    Verify,
    /// It is not, so whoever stands between reads the credential and every secret.
    AcceptAny,
}

/// For how many tasks a runner is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Lifetime {
    /// Any number.
    #[default]
    Persistent,
    /// One; the forge forgets the runner with it.
    Ephemeral,
}

/// What a runner registers with.
#[derive(Clone)]
pub struct Registration {
    /// Its name.
    pub name: String,
    /// The registration token.
    pub token: SecretString,
    /// Its labels, without their schemes.
    pub labels: Vec<String>,
    /// Its version.
    pub version: String,
    /// For how many tasks it is.
    pub lifetime: Lifetime,
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registration")
            .field("name", &self.name)
            .field("labels", &self.labels)
            .field("version", &self.version)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// A runner that was registered.
#[derive(Clone)]
pub struct Registered {
    /// Its number.
    pub id: i64,
    /// The first half of its credential.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// The second half.
    pub token: SecretString,
    /// The labels that the forge took.
    pub labels: Vec<String>,
    /// What the forge made of it: one that does not know ephemeral runners makes a persistent one.
    pub lifetime: Lifetime,
}

impl fmt::Debug for Registered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registered")
            .field("id", &self.id)
            .field("uuid", &self.uuid)
            .field("name", &self.name)
            .field("labels", &self.labels)
            .field("lifetime", &self.lifetime)
            .finish_non_exhaustive()
    }
}

/// A forge.
#[derive(Clone)]
pub struct Client {
    connect: Connect,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("instance", self.connect.instance()).finish()
    }
}

impl Client {
    /// Reads the CA file and sets up the HTTP client; nothing is sent.
    pub fn new(options: &Options) -> Result<Self> {
        Ok(Self { connect: Connect::new(options)? })
    }

    /// Where it is.
    #[must_use]
    pub fn instance(&self) -> &Instance {
        self.connect.instance()
    }

    /// Asks whether the forge is there and has Actions on; gives its answer to the word.
    pub async fn ping(&self, data: &str) -> Result<String> {
        let request = ping::PingRequest { data: data.to_owned() };
        let answer: ping::PingResponse =
            self.connect.call(PING, "Ping", &Headers::none(), &request, Limit::SMALL).await?;
        Ok(answer.data)
    }

    /// Registers a runner by a registration token.
    pub async fn register(&self, registration: Registration) -> Result<Registered> {
        let request = runner::RegisterRequest {
            name: registration.name,
            token: registration.token.expose_secret().to_owned(),
            version: registration.version,
            labels: registration.labels,
            ephemeral: registration.lifetime == Lifetime::Ephemeral,
            ..runner::RegisterRequest::default()
        };
        let answer: runner::RegisterResponse =
            self.connect.call(RUNNER, "Register", &Headers::none(), &request, Limit::SMALL).await?;
        registered(answer)
    }

    /// The forge as this runner sees it.
    #[must_use]
    pub fn runner(&self, credential: Credential) -> Runner {
        Runner::new(self.connect.clone(), credential)
    }
}

pub(crate) fn registered(answer: runner::RegisterResponse) -> Result<Registered> {
    let runner = answer.runner.ok_or(Error::Malformed { part: "runner" })?;
    if runner.uuid.is_empty() {
        return Err(Error::Malformed { part: "uuid of the runner" });
    }
    if runner.token.is_empty() {
        return Err(Error::Malformed { part: "token of the runner" });
    }
    Ok(Registered {
        id: runner.id,
        uuid: runner.uuid,
        name: runner.name,
        token: SecretString::from(runner.token),
        labels: runner.labels,
        lifetime: if runner.ephemeral { Lifetime::Ephemeral } else { Lifetime::Persistent },
    })
}
