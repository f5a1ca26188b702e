//! Forwards as they are leased, and the services behind some of them.

use std::{collections::BTreeMap, fmt, io, str::FromStr, sync::Arc};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use vm::Link;
use wire::message::{self, Open};

use super::Elsewhere;

/// A port of a name in the guest that leads to one destination. As text: `NAME:PORT=HOST:PORT`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Forward {
    /// A host name in lower case, or an IPv4 address; what the guest's processes call it.
    pub name: String,
    /// Not 0.
    pub port: u16,
    /// Where it leads.
    pub to: Destination,
}

/// Where a forward leads.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Destination {
    /// A connection that is made by whoever leased the VM.
    Tcp {
        /// An address, or a name that is resolved anew for each connection.
        host: String,
        /// Not 0.
        port: u16,
    },
    /// What whoever leased the VM has registered by this name ([`Services`]).
    Service(String),
}

impl fmt::Display for Forward {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}={}", self.name, self.port, self.to)
    }
}

impl fmt::Display for Destination {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "{host}:{port}"),
            Self::Service(name) => write!(f, "service {name}"),
        }
    }
}

/// Why a text is no forward.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ForwardError {
    /// There is no `=`, or no `:` on one of its sides.
    #[error("expected NAME:PORT=HOST:PORT")]
    Form,
    /// There is no `:` in what the guest is to call it.
    #[error("expected NAME:PORT")]
    Address,
    /// The first part.
    #[error(
        "{0:?} is no host name (letters, digits, `-` and `_`, between dots), nor the address of a machine"
    )]
    Name(String),
    /// Another form of an address, or a mistake in one: no resolver would be asked for it.
    #[error("{0:?} is no IPv4 address: write one as 10.1.2.3")]
    Numeric(String),
    /// IPv6, which the agent does not forward.
    #[error("{0:?} is no name: the VM calls a forward by a host name or an IPv4 address")]
    V6(String),
    /// Not ASCII.
    #[error("{0:?} is not ASCII: write its IDNA form, xn--…")]
    Idna(String),
    /// A loopback name, which the guest has itself.
    #[error("{0:?} is the VM itself")]
    Itself(String),
    /// A port.
    #[error("{0:?} is no port: 1 to 65535")]
    Port(String),
    /// The host.
    #[error("{0:?} is no host: a name, an IPv4 address, or an IPv6 address in brackets")]
    Host(String),
}

/// Whether a guest can have it: a name, or an address that can be a machine's.
pub(super) fn is_guests(name: &str) -> bool {
    message::Forward::is_name(name)
        && name.parse::<std::net::Ipv4Addr>().map_or(!net::looks_numeric(name), |address| {
            let ours = [net::NAMES, net::GUEST_V4, net::V4_GATEWAY].contains(&address)
                || net::FORWARDS.contains(&address);
            let nobodys = address.is_unspecified() || address.is_multicast() || address.is_broadcast();
            !ours && !nobodys
        })
}

/// What a C library makes of a host: an address of one form only, or an ASCII name.
fn as_a_c_library(host: &str) -> Result<(), ForwardError> {
    if !host.is_ascii() {
        return Err(ForwardError::Idna(host.to_owned()));
    }
    if net::looks_numeric(host) && host.parse::<std::net::Ipv4Addr>().is_err() {
        return Err(ForwardError::Numeric(host.to_owned()));
    }
    Ok(())
}

fn port(text: &str) -> Result<u16, ForwardError> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match text.parse() {
        Ok(port) if digits && port != 0 => Ok(port),
        _ => Err(ForwardError::Port(text.to_owned())),
    }
}

fn host(text: &str) -> Result<String, ForwardError> {
    let wrong = || ForwardError::Host(text.to_owned());
    if let Some(address) = text.strip_prefix('[') {
        let address = address.strip_suffix(']').ok_or_else(wrong)?;
        let (address, zone) = address.split_once('%').map_or((address, None), |(a, zone)| (a, Some(zone)));
        let address: std::net::Ipv6Addr = address.parse().map_err(|_| wrong())?;
        return Ok(zone.map_or(address.to_string(), |zone| format!("{address}%{zone}")));
    }
    let lower = text.to_ascii_lowercase();
    as_a_c_library(lower.strip_suffix('.').unwrap_or(&lower))?;
    if message::Forward::is_name(&lower) { Ok(lower) } else { Err(wrong()) }
}

impl FromStr for Forward {
    type Err = ForwardError;

    fn from_str(text: &str) -> Result<Self, ForwardError> {
        let (from, to) = text.split_once('=').ok_or(ForwardError::Form)?;
        let (name, from_port) = from.rsplit_once(':').ok_or(ForwardError::Form)?;
        let (to_host, to_port) = to.rsplit_once(':').ok_or(ForwardError::Form)?;
        let (name, from_port) = (guests(name)?, port(from_port)?);
        let to = Destination::Tcp { host: host(to_host)?, port: port(to_port)? };
        Ok(Self { name, port: from_port, to })
    }
}

impl Forward {
    /// One to a service of whoever leases, at `NAME:PORT`.
    ///
    /// # Errors
    /// That is no name and port.
    pub fn to_service(at: &str, service: &str) -> Result<Self, ForwardError> {
        let (name, from_port) = at.rsplit_once(':').ok_or(ForwardError::Address)?;
        let (name, port) = (guests(name)?, port(from_port)?);
        Ok(Self { name, port, to: Destination::Service(service.to_owned()) })
    }
}

/// What a guest can call something that is not itself, in lower case.
fn guests(name: &str) -> Result<String, ForwardError> {
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    if name.trim_matches(['[', ']']).parse::<std::net::Ipv6Addr>().is_ok() {
        return Err(ForwardError::V6(name));
    }
    as_a_c_library(&name)?;
    if !is_guests(&name) {
        return Err(ForwardError::Name(name));
    }
    if name == "localhost" || name.ends_with(".localhost") {
        return Err(ForwardError::Itself(name));
    }
    Ok(name)
}

/// What answers at a service: each connection of a guest gets a link of its own. The end of one of its directions is
/// that of the guest's, and an error of it a reset; when the guest resets, it is dropped without having been shut down.
#[async_trait]
pub trait Service: Send + Sync {
    /// A new connection.
    ///
    /// # Errors
    /// There is none: the guest's is reset.
    async fn connect(&self) -> io::Result<Link>;
}

#[async_trait]
impl<F, Connected> Service for F
where
    F: Fn() -> Connected + Send + Sync,
    Connected: Future<Output = io::Result<Link>> + Send,
{
    async fn connect(&self) -> io::Result<Link> {
        self().await
    }
}

/// The services of whoever leases, by name. Cheap to clone; two are equal when they are the same.
///
/// The one that is named [`Services::NAMES`] leads nowhere by itself: it answers for all names that are no forwards,
/// with messages of DNS as they are over TCP. It is asked in the engine's process.
#[derive(Clone, Default)]
pub struct Services {
    named: Arc<BTreeMap<String, Arc<dyn Service>>>,
    elsewhere: Option<Elsewhere>,
}

impl Services {
    /// Name of the service that answers for names.
    pub const NAMES: &str = Open::DNS;

    /// With one more, or another in its place.
    #[must_use]
    pub fn with(mut self, name: impl Into<String>, service: Arc<dyn Service>) -> Self {
        let mut named = (*self.named).clone();
        named.insert(name.into(), service);
        self.named = Arc::new(named);
        self
    }

    /// The one of a name.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<dyn Service>> {
        self.named.get(name).map(Arc::clone)
    }

    /// What answers for names that are no forwards.
    pub(super) fn names(&self) -> Option<Arc<dyn Service>> {
        self.get(Self::NAMES)
    }

    /// Whether there is something that answers for them.
    pub(crate) fn answer_names(&self) -> bool {
        self.named.contains_key(Open::DNS)
    }

    /// Those of another process.
    pub(crate) fn of(elsewhere: Elsewhere) -> Self {
        Self { named: Arc::default(), elsewhere: Some(elsewhere) }
    }

    pub(super) fn elsewhere(&self) -> Option<&Elsewhere> {
        self.elsewhere.as_ref()
    }
}

impl fmt::Debug for Services {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.named.keys()).finish()
    }
}

impl PartialEq for Services {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.named, &other.named) || (self.named.is_empty() && other.named.is_empty())
    }
}

impl Eq for Services {}
