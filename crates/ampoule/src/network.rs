//! What VMs may reach: as it was asked for, and as this host can give it.
//!
//! Owner: whoever opens an engine or leases of one. Invariant: what was asked for and cannot be had is an error; only where
//! nothing was asked for is nothing enough, and that is said.

use std::sync::Arc;

use clap::Args;
use sandbox::{Engine, Forward, NetLimits, Networking, Policy};
use vm::{Boundary, Capabilities};

use crate::{
    causes,
    cli::units,
    exec::{
        machine::{Machine, MachineError},
        warn,
    },
    sink::Look,
};

/// What VMs may reach.
#[derive(Clone, Debug, Default, Args)]
pub struct NetworkArgs {
    /// What the VMs may reach: `none`, `internet`, `allow=HOST:PORT,…`, or `internet,allow=ADDRESS:PORT,…` [default:
    /// internet where this host can give it, else none]
    #[arg(long, value_name = "POLICY")]
    pub network: Option<Policy>,
    /// How much of it each VM has, in each direction: `10Mbit`, `1Gbit` (per second) [default: what there is]
    #[arg(long, value_name = "RATE", value_parser = units::rate)]
    pub bandwidth: Option<u64>,
}

impl NetworkArgs {
    /// What the VMs of this engine have of it.
    pub(crate) fn settle(&self, machine: &mut Machine, look: Look) -> Result<(), MachineError> {
        machine.limits =
            NetLimits { upload: self.bandwidth, download: self.bandwidth, ..NetLimits::default() };
        machine.network = settled(self.network.as_ref(), machine.limits, &machine.engine, look)?;
        Ok(())
    }
}

/// One name and port in two forwards.
#[derive(Debug, thiserror::Error)]
#[error("--forward: {name}:{port} is given twice, and can lead to one place only")]
pub struct TwoPlaces {
    /// The name.
    pub name: String,
    /// The port.
    pub port: u16,
}

/// A name and a port lead to one place. It is looked at before anything is made.
pub(crate) fn check_forwards(forwards: &[Forward]) -> Result<(), TwoPlaces> {
    for (nth, forward) in forwards.iter().enumerate() {
        let same = |other: &&Forward| (&other.name, other.port) == (&forward.name, forward.port);
        if let Some(twice) = forwards.iter().skip(nth + 1).find(same) {
            return Err(TwoPlaces { name: twice.name.clone(), port: twice.port });
        }
    }
    Ok(())
}

/// How this program is called as the helper of networks: by a name that an upgrade under way does not change.
pub const HELPER: &str = "net-helper";
/// Networks at most that are made ahead.
const MOST_AHEAD: usize = 8;

/// Whether an engine of this process makes networks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Router {
    /// Its VMs reach nothing.
    Needless,
    /// They may have to.
    Wanted,
}

impl Router {
    /// Where VMs are to reach what was asked for.
    pub(crate) fn of(asked: Option<&Policy>) -> Self {
        if asked == Some(&Policy::none()) { Self::Needless } else { Self::Wanted }
    }
}

/// What makes the networks of an engine of this process.
pub(crate) async fn networking(router: Router, standbys: usize, backend: &Capabilities) -> Networking {
    match (router, &backend.no_card) {
        (Router::Needless, _) => Networking::Lacking("this engine was started without networks".to_owned()),
        // the engine says the same, with more words
        (Router::Wanted, Some(why)) => Networking::Lacking(why.clone()),
        (Router::Wanted, None) => match net::Router::start(config(standbys.clamp(1, MOST_AHEAD))).await {
            Ok(router) => {
                // those that everybody is told are said by whoever has the engine
                for note in router.notes() {
                    tracing::debug!(%note, "networks of VMs");
                }
                Networking::By(Arc::new(router))
            }
            Err(error) => Networking::Lacking(causes::line(&error)),
        },
    }
}

/// Says what was found or changed when an engine's networks were made.
pub(crate) fn tell(engine: &Engine, look: Look) {
    for note in engine.network_notes() {
        warn(look, &note);
    }
}

fn config(ahead: usize) -> net::Config {
    net::Config {
        helper: vec!["/proc/self/exe".into(), HELPER.into()],
        uplink: net::Uplink::Host,
        limits: net::Limits::default(),
        pool: ahead,
    }
}

/// What VMs of this engine may reach: what was asked for, else the internet, else nothing, which is told. Who asks for
/// limits asks for a network, too.
pub(crate) fn settled(
    asked: Option<&Policy>,
    limits: NetLimits,
    engine: &Engine,
    look: Look,
) -> Result<Policy, MachineError> {
    match (asked, engine.no_network()) {
        (Some(asked), _) if *asked == Policy::none() && !limits.is_default() => {
            Err(MachineError::NothingToLimit)
        }
        (Some(asked), None) => Ok(asked.clone()),
        (Some(asked), Some(_)) if *asked == Policy::none() => Ok(asked.clone()),
        (Some(_), Some(why)) => Err(MachineError::NoNetwork { why: why.to_owned() }),
        (None, Some(why)) if !limits.is_default() => Err(MachineError::NoNetwork { why: why.to_owned() }),
        (None, None) => Ok(Policy::internet()),
        (None, Some(why)) => {
            // what is no VM has whatever its surroundings have
            if engine.capabilities().boundary != Boundary::None {
                warn(look, &format!("the VMs reach no network: {why}"));
            }
            Ok(Policy::none())
        }
    }
}
