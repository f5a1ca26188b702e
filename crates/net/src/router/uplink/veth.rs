//! The uplink as root: a veth pair, and rules of the host at its end of it.

use std::{
    hash::{BuildHasher, RandomState},
    net::IpAddr,
    os::fd::OwnedFd,
    time::Duration,
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::unix::pipe,
    sync::mpsc,
    task::AbortHandle,
};

use super::{Change, Families, Note, near_end, near_ways, routes, watch};
use crate::{
    Error, Result,
    addresses::{MTU, Pair, UPLINK_MACS, UPLINKS, mac},
    helper::protocol::{FIRST_NAMESPACE, Id, Place, Tool},
    router::{client::Client, hosts::Interface},
    ruleset,
};

const WHAT: &str = "make the uplink to the host";
const RULES: &str = "set the host's rules for VMs' network";
/// The router's end.
const NEAR: &str = "uplink";
/// How many pairs are tried, of which others have some.
const TRIES: u32 = 64;
/// How long nft may take to set the rules.
const PATIENCE: Duration = Duration::from_secs(10);

/// Where rules of the host are written: an nft that stays, since the table is its own and goes with it.
#[derive(Debug)]
pub(in crate::router) struct HostRules {
    table: String,
    lines: mpsc::UnboundedSender<Vec<String>>,
    tasks: [AbortHandle; 2],
}

impl Drop for HostRules {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl HostRules {
    /// What the table is called.
    pub(in crate::router) fn table(&self) -> &str {
        &self.table
    }

    /// Commands, after those before them.
    pub(in crate::router) fn write(&self, lines: Vec<String>) {
        let _ = self.lines.send(lines);
    }
}

/// Sees to it that the host forwards what its routes lead somewhere, where that does no harm.
pub(super) async fn forwarding(
    client: &Client,
    families: &mut Families,
    notes: &mut Vec<Note>,
    change: Change,
) -> Result<()> {
    const V4: &str = "ipv4/ip_forward";
    const V6: &str = "ipv6/conf/all/forwarding";
    let values = client.settings(Place::Host, Vec::new(), &[V4, V6]).await?;
    let off = |at: usize| values[at].as_deref() == Some("0");
    let on = |name: &str| vec![(name.to_owned(), "1".to_owned())];
    if families.v4 && off(0) {
        if change == Change::Make {
            client.settings(Place::Host, on(V4), &[]).await?;
        }
        notes.push(Note::ForwardsV4);
    }
    if families.v6 && off(1) {
        if let Some(interface) = advertised(client).await? {
            families.v6 = false;
            notes.push(Note::Advertised(interface));
        } else {
            if change == Change::Make {
                client.settings(Place::Host, on(V6), &[]).await?;
            }
            notes.push(Note::ForwardsV6);
        }
    }
    Ok(())
}

/// An interface that would lose its routes if the host forwarded.
async fn advertised(client: &Client) -> Result<Option<String>> {
    let routes = routes(client, &["-j", "-6", "route", "show"]).await?;
    for route in routes.into_iter().filter(|route| route.protocol.as_deref() == Some("ra")) {
        let Some(dev) = route.dev else { continue };
        let accepts =
            client.settings(Place::Host, Vec::new(), &[&format!("ipv6/conf/{dev}/accept_ra")]).await?;
        if accepts.iter().flatten().any(|value| value == "1") {
            return Ok(Some(dev));
        }
    }
    Ok(None)
}

/// The pair.
#[derive(Clone, Debug)]
pub(super) struct Link {
    /// The host's end.
    pub(super) interface: String,
    pub(super) pair: Pair,
}

impl Link {
    /// What of the host's end is not as it was made.
    pub(super) fn lacks(&self, interfaces: &[Interface], v6: bool) -> Option<String> {
        let Pair { far_v4, far_v6, .. } = self.pair;
        let Some(there) = interfaces.iter().find(|interface| interface.name == self.interface) else {
            return Some("was deleted".to_owned());
        };
        if !there.is_up() {
            return Some("was set down".to_owned());
        }
        let addresses = [(true, IpAddr::V4(far_v4)), (v6, IpAddr::V6(far_v6))];
        let lost = addresses.into_iter().find(|(needed, address)| *needed && !there.has(*address));
        lost.map(|(_, address)| format!("lost its address {address}"))
    }
}

/// Makes it.
pub(super) async fn make(
    client: &Client,
    router: Id,
    families: Families,
    v6: bool,
) -> Result<(Link, HostRules)> {
    let index = claim(client, router).await?;
    let (interface, table, pair) = (name(index), format!("ampoule-{index}"), Pair::uplink(index));
    let lines = ruleset::host::lines(&interface, &table, &pair);
    let rules = keep_rules(client, table, lines).await?;
    let link = Link { interface, pair };
    let text =
        far_ways(&link, Families { v4: true, ..families }) + &format!("link set {} up\n", link.interface);
    client.run(WHAT, Place::Host, Tool::Ip, &["-batch", "-"], text, Vec::new()).await?;
    near_end(client, router, NEAR, &link.pair, families).await?;
    let neighbours = |addresses: [IpAddr; 2], dev: &str, address: [u8; 6]| -> String {
        let known = addresses.into_iter().filter(|address| v6 || address.is_ipv4());
        known
            .map(|to| format!("neigh replace {to} lladdr {} dev {dev} nud permanent\n", mac(address)))
            .collect()
    };
    let Pair { near_v4, far_v4, near_v6, far_v6 } = link.pair;
    // shut but for the host's rules, see there
    let text = neighbours([far_v4.into(), far_v6.into()], NEAR, UPLINK_MACS[1]);
    client.run(WHAT, Place::In(router), Tool::Ip, &["-batch", "-"], text, Vec::new()).await?;
    // and the host asks for nobody: of IPv6 it does not in the first second of an interface
    let text = neighbours([near_v4.into(), near_v6.into()], &link.interface, UPLINK_MACS[0]);
    client.run(WHAT, Place::Host, Tool::Ip, &["-batch", "-"], text, Vec::new()).await?;
    Ok((link, rules))
}

/// More families over it.
pub(super) async fn add(client: &Client, router: Id, link: &Link, families: Families) -> Result<()> {
    let text = far_ways(link, families);
    client.run(WHAT, Place::Host, Tool::Ip, &["-batch", "-"], text, Vec::new()).await?;
    let text = near_ways(NEAR, &link.pair, families);
    client.run(WHAT, Place::In(router), Tool::Ip, &["-batch", "-"], text, Vec::new()).await.map(drop)
}

/// Addresses of the host's end.
fn far_ways(link: &Link, families: Families) -> String {
    let Link { interface, pair: Pair { far_v4, far_v6, .. } } = link;
    let mut text = String::new();
    if families.v4 {
        text += &format!("addr replace {far_v4}/31 dev {interface}\n");
    }
    if families.v6 {
        text += &format!("addr replace {far_v6}/127 dev {interface} nodad\n");
    }
    text
}

fn name(index: u32) -> String {
    format!("amp-{index}")
}

/// A number that no other router of this host has: the name of the interface claims it.
async fn claim(client: &Client, router: Id) -> Result<u32> {
    let start = u32::try_from(RandomState::new().hash_one(0) % u64::from(UPLINKS)).unwrap_or_default();
    let near_mac = mac(UPLINK_MACS[0]);
    let mut last = None;
    for index in (0..TRIES).map(|offset| (start + offset) % UPLINKS) {
        let text = format!(
            "link add {} mtu {MTU} type veth peer name {NEAR} address {near_mac} mtu {MTU} netns \
             /proc/self/fd/{FIRST_NAMESPACE}\n",
            name(index)
        );
        let made = client.run(WHAT, Place::Host, Tool::Ip, &["-batch", "-"], text, vec![router]);
        match made.await {
            Ok(_) => return Ok(index),
            Err(Error::Refused { answer, .. }) if answer.contains("File exists") => {
                last = Some(Error::Refused { what: WHAT, answer });
            }
            Err(error) => return Err(error),
        }
    }
    Err(last.unwrap_or(Error::Full))
}

/// An nft that holds the table. What it says is an error: it says nothing else.
async fn keep_rules(client: &Client, table: String, first: Vec<String>) -> Result<HostRules> {
    let unready = |error: std::io::Error| Error::Refused { what: RULES, answer: error.to_string() };
    let (input, output) = client.keep(RULES, Place::Host, Tool::Nft, vec!["-i".to_owned()]).await?;
    let mut input = sender(input).map_err(unready)?;
    let mut output = pipe::Receiver::from_owned_fd(output).map_err(unready)?;
    let mut text = first.join("\n");
    // what comes back when all of it was read
    text += &format!("\nlist table inet {table}\n");
    input.write_all(text.as_bytes()).await.map_err(unready)?;
    let mut said = String::new();
    let heard = async {
        let mut buffer = vec![0; 4096];
        while !said.contains("\n}\n") && !said.contains("Error") {
            let length = output.read(&mut buffer).await.map_err(unready)?;
            if length == 0 {
                break;
            }
            said += &String::from_utf8_lossy(&buffer[..length]);
        }
        Ok::<_, Error>(())
    };
    match tokio::time::timeout(PATIENCE, heard).await {
        Ok(result) => result?,
        Err(_) => return Err(Error::Refused { what: RULES, answer: "nft does not answer".to_owned() }),
    }
    if said.contains("Error") || !said.contains("\n}\n") {
        return Err(Error::Refused { what: RULES, answer: said.trim().to_owned() });
    }
    let (lines, mut queue) = mpsc::unbounded_channel::<Vec<String>>();
    let writer = tokio::spawn(async move {
        while let Some(lines) = queue.recv().await {
            let text = lines.join("\n") + "\n";
            if input.write_all(text.as_bytes()).await.is_err() {
                return;
            }
        }
    });
    let reader = watch(
        output,
        "nft",
        |said| {
            tracing::warn!("nft, of the host's rules for VMs' network: {said}");
            None
        },
        client.ender(),
    );
    Ok(HostRules { table, lines, tasks: [writer.abort_handle(), reader] })
}

fn sender(fd: OwnedFd) -> std::io::Result<pipe::Sender> {
    pipe::Sender::from_owned_fd(fd)
}
