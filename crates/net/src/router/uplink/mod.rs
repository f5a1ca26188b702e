//! The router's way to the host's network.
//!
//! As root a veth pair, the host's end of which is masqueraded and shut against the host itself ([`veth`]); as a plain
//! user `pasta`, which makes the packets' connections its own ([`pasta`]).
//! Invariants
//! - Whatever it is goes with the helper, and the helper goes with it.
//! - No packet leaves it with an address of ours: where what masquerades them is gone, they are lost.

mod pasta;
mod probe;
mod veth;

use std::{fmt, time::Duration};

use serde::Deserialize;
use tokio::{io::AsyncReadExt, net::unix::pipe, task::AbortHandle};

pub(super) use probe::would;
pub(super) use veth::HostRules;

use super::{
    client::{Client, Ender},
    hosts::Interface,
};
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
    /// The host has one now.
    Route {
        /// 4 or 6.
        family: u8,
    },
    /// The host's firewall drops or refuses what it forwards for VMs.
    NotForwarded {
        /// 4 or 6.
        family: u8,
    },
    /// No group of this user may send pings (`net.ipv4.ping_group_range`): `pasta` cannot pass those of VMs on.
    NoPings,
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
            Self::Route { family } => {
                write!(f, "VMs reach what the host reaches by IPv{family}: it has a default route now")
            }
            Self::NotForwarded { family } => write!(
                f,
                "VMs reach nothing by IPv{family}: a firewall of the host does not let through what it forwards for \
                 them, from and to interfaces amp-*"
            ),
            Self::NoPings => {
                f.write_str("VMs' pings get no answer: net.ipv4.ping_group_range has no group of this user")
            }
        }
    }
}

/// An uplink as it was made.
#[derive(Debug)]
pub(super) struct Made {
    /// Where rules of the host are written, as root.
    pub(super) host_rules: Option<HostRules>,
    pub(super) ways: Ways,
    pub(super) notes: Vec<Note>,
}

/// Makes it.
pub(super) async fn make(client: &Client, router: Id, v6: bool) -> Result<Made> {
    let (seen, mut notes) = families(client, v6).await?;
    let mut families = seen;
    let mut ways = Ways { v6, link: None, now: tokio::sync::Mutex::default() };
    let mut host_rules = None;
    if client.root {
        veth::forwarding(client, &mut families, &mut notes, Change::Make).await?;
        let (link, rules) = veth::make(client, router, families, v6).await?;
        (ways.link, host_rules) = (Some(link), Some(rules));
    } else {
        pasta::make(client, router, families, pasta::FIRST).await?;
        notes.extend(pasta::pings());
    }
    *ways.now.get_mut() = Now { families, there: seen, said: notes.clone() };
    Ok(Made { host_rules, ways, notes })
}

/// The families of an uplink, followed: one that the host has no way for yet is there when the host has one.
///
/// One that the host lost stays: what is sent then is refused by the host itself, until it has a way again.
#[derive(Debug)]
pub(super) struct Ways {
    /// Whether the kernel has IPv6.
    v6: bool,
    /// As root.
    link: Option<veth::Link>,
    now: tokio::sync::Mutex<Now>,
}

#[derive(Debug, Default)]
struct Now {
    families: Families,
    /// Those that the host had a way for when it was last looked at.
    there: Families,
    /// What was noted already.
    said: Vec<Note>,
}

impl Ways {
    /// What the host's end of it lacks, of which an interface is looked up by its name; nothing where all is there.
    pub(super) async fn broken(&self, interfaces: &[Interface]) -> Option<String> {
        let link = self.link.as_ref()?;
        let families = self.now.lock().await.families;
        // IPv4 is always there, see [`veth::make`]
        link.lacks(interfaces, families.v6)
            .map(|what| format!("{}, which VMs' network needs, {what}", link.interface))
    }

    /// Looks whether the host has a way that it had not.
    pub(super) async fn follow(&self, client: &Client, router: Id) -> Result<()> {
        let mut now = self.now.lock().await;
        let (there, _) = families(client, self.v6).await?;
        for change in there.since(now.there, now.families) {
            match change {
                Note::NoRoute { .. } => tracing::warn!("{change}"),
                _ => tracing::info!("{change}"),
            }
        }
        now.there = there;
        if now.families.v4 && (now.families.v6 || !self.v6) {
            return Ok(());
        }
        let mut new = Families { v4: there.v4 && !now.families.v4, v6: there.v6 && !now.families.v6 };
        let mut notes = Vec::new();
        if let Some(link) = &self.link {
            veth::forwarding(client, &mut new, &mut notes, Change::Make).await?;
            veth::add(client, router, link, new).await?;
        } else {
            let first = !now.families.v4 && !now.families.v6;
            pasta::make(client, router, new, if first { pasta::FIRST } else { pasta::SECOND }).await?;
        }
        now.families = Families { v4: now.families.v4 || new.v4, v6: now.families.v6 || new.v6 };
        notes.extend(new.each().map(|family| Note::Route { family }));
        for note in notes {
            if !now.said.contains(&note) {
                tracing::info!("{note}");
                now.said.push(note);
            }
        }
        Ok(())
    }
}

/// How long the helper's own end is waited for, which is the end of all its programs, too.
const OWN_END: Duration = Duration::from_millis(500);

/// Reads what a program says that has to stay as long as the network. Its end is the end of the helper, and so of all that
/// VMs have of the network: none of them may go on with half of it. So it is when `said` finds a reason in what it says.
fn watch(
    mut output: pipe::Receiver,
    program: &'static str,
    said: impl Fn(&str) -> Option<&'static str> + Send + 'static,
    ender: Ender,
) -> AbortHandle {
    let read = async move {
        // what it says must not fill the pipe
        let mut buffer = vec![0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer).await {
            if let Some(why) = said(String::from_utf8_lossy(&buffer[..length]).trim()) {
                return ender.end_for(why);
            }
        }
        let start = tokio::time::Instant::now();
        while !ender.is_gone() && start.elapsed() < OWN_END {
            tokio::time::sleep(OWN_END / 20).await;
        }
        ender.end_for(&format!("{program} ended, which VMs' network needs (was it killed?)"));
    };
    tokio::spawn(read).abort_handle()
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
#[derive(Clone, Copy, Debug, Default)]
struct Families {
    v4: bool,
    v6: bool,
}

impl Families {
    /// Those that do: 4, 6.
    fn each(self) -> impl Iterator<Item = u8> {
        [(4, self.v4), (6, self.v6)].into_iter().filter(|(_, there)| *there).map(|(family, _)| family)
    }

    /// What the host lost or has again, as against `before`; one that VMs have no way for yet is not back.
    fn since(self, before: Self, known: Self) -> Vec<Note> {
        let change = |family, is: bool, was: bool, known: bool| match (is, was) {
            (false, true) => Some(Note::NoRoute { family }),
            (true, false) if known => Some(Note::Route { family }),
            _ => None,
        };
        let v4 = change(4, self.v4, before.v4, known.v4);
        [v4, change(6, self.v6, before.v6, known.v6)].into_iter().flatten().collect()
    }
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

/// The router's end; `device` is `uplink`, or begins so.
async fn near_end(client: &Client, router: Id, device: &str, pair: &Pair, families: Families) -> Result<()> {
    let text =
        format!("link set {device} mtu {MTU}\nlink set {device} up\n") + &near_ways(device, pair, families);
    let run =
        client.run("set up the uplink", Place::In(router), Tool::Ip, &["-batch", "-"], text, Vec::new());
    run.await.map(drop)
}

/// Its addresses and routes of these families.
fn near_ways(device: &str, pair: &Pair, families: Families) -> String {
    let Pair { near_v4, far_v4, near_v6, far_v6 } = pair;
    let mut text = String::new();
    if families.v4 {
        text += &format!(
            "addr replace {near_v4}/31 dev {device}\nroute replace default via {far_v4} dev {device}\n"
        );
    }
    if families.v6 {
        text += &format!(
            "addr replace {near_v6}/127 dev {device} nodad\nroute replace default via {far_v6} dev {device}\n"
        );
    }
    text
}
