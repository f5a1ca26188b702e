//! The router's way to the host's network.
//!
//! As root a veth pair, the host's end of which is masqueraded and shut against the host itself ([`veth`]); as a plain
//! user `pasta`, which makes the packets' connections its own ([`pasta`]).
//! Invariant: whatever it is goes with the helper.

mod pasta;
mod veth;

use std::fmt;

use serde::Deserialize;

pub(super) use veth::{HostRules, try_rules};

use super::client::Client;
use crate::{
    Error, Result,
    addresses::{MTU, Pair},
    helper::protocol::{Id, Place, Tool},
};

/// What was found or done on the way to an uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Note {
    /// The host did not forward IPv4 and does now (`net.ipv4.ip_forward`).
    ForwardsV4,
    /// The host did not forward IPv6 and does now (`net.ipv6.conf.all.forwarding`).
    ForwardsV6,
    /// IPv6 stays off for VMs: this interface of the host has its addresses and routes from router advertisements
    /// (`accept_ra` is 1), which a host that forwards does not listen to.
    Advertised(String),
    /// The host has no way to the internet of this family.
    NoRoute {
        /// 4 or 6.
        family: u8,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ForwardsV4 => f.write_str("net.ipv4.ip_forward was 0 and is 1 now, for VMs' network"),
            Self::ForwardsV6 => {
                f.write_str("net.ipv6.conf.all.forwarding was 0 and is 1 now, for VMs' network")
            }
            Self::Advertised(interface) => write!(
                f,
                "VMs have no IPv6: {interface} listens to router advertisements (net.ipv6.conf.{interface}.accept_ra \
                 is 1), which a host that forwards does not; set it to 2 to have both"
            ),
            Self::NoRoute { family } => {
                write!(f, "VMs reach nothing by IPv{family}: the host has no default route of it")
            }
        }
    }
}

/// Makes it.
pub(super) async fn make(client: &Client, router: Id, v6: bool) -> Result<(Option<HostRules>, Vec<Note>)> {
    let (mut families, mut notes) = families(client, v6).await?;
    if client.root {
        veth::forwarding(client, &mut families, &mut notes, Change::Make).await?;
        let rules = veth::make(client, router, families).await?;
        return Ok((Some(rules), notes));
    }
    if families.v4 || families.v6 {
        pasta::make(client, router, families).await?;
    }
    Ok((None, notes))
}

/// What [`make`] would do and note as root.
pub(super) async fn would(client: &Client, v6: bool) -> Result<Vec<Note>> {
    let (mut families, mut notes) = families(client, v6).await?;
    veth::forwarding(client, &mut families, &mut notes, Change::Look).await?;
    Ok(notes)
}

/// Whether settings of the host are changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Change {
    Make,
    Look,
}

async fn families(client: &Client, v6: bool) -> Result<(Families, Vec<Note>)> {
    let v4 = has_default(client, "-4").await?;
    let v6 = v6 && has_default(client, "-6").await?;
    let lacking = [(4, v4), (6, v6)].into_iter().filter(|(_, there)| !there);
    let notes = lacking.map(|(family, _)| Note::NoRoute { family }).collect();
    Ok((Families { v4, v6 }, notes))
}

/// Which of the two families lead anywhere.
#[derive(Clone, Copy, Debug)]
struct Families {
    v4: bool,
    v6: bool,
}

#[derive(Deserialize)]
struct Route {
    dev: Option<String>,
    protocol: Option<String>,
}

async fn routes(client: &Client, args: &[&str]) -> Result<Vec<Route>> {
    let text =
        client.run("read the host's routes", Place::Host, Tool::Ip, args, String::new(), Vec::new()).await?;
    if text.trim().is_empty() {
        return Ok(Vec::new());
    }
    serde_json::from_str(&text).map_err(|_| Error::Unreadable("ip"))
}

async fn has_default(client: &Client, family: &str) -> Result<bool> {
    let routes = routes(client, &["-j", family, "route", "show", "default"]).await?;
    Ok(routes.iter().any(|route| route.dev.as_deref().is_some_and(|dev| !dev.starts_with("amp-"))))
}

/// The router's end, which is called `uplink`.
async fn near_end(client: &Client, router: Id, pair: &Pair, families: Families) -> Result<()> {
    let Pair { near_v4, far_v4, near_v6, far_v6 } = pair;
    let mut text =
        format!("link set uplink mtu {MTU}\naddr add {near_v4}/31 dev uplink\nlink set uplink up\n");
    if families.v4 {
        text += &format!("route add default via {far_v4}\n");
    }
    if families.v6 {
        text +=
            &format!("addr add {near_v6}/127 dev uplink nodad\nroute add default via {far_v6} dev uplink\n");
    }
    let run =
        client.run("set up the uplink", Place::In(router), Tool::Ip, &["-batch", "-"], text, Vec::new());
    run.await.map(drop)
}
