//! The host's own addresses, followed: no VM reaches them, however new they are. And its ways out, which VMs have too, as
//! soon as it has them; and the uplink's interface, without which the helper is of no use.

use std::{collections::BTreeSet, net::IpAddr, os::fd::OwnedFd, sync::Arc, time::Duration};

use serde::Deserialize;
use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{client::Client, lock, running::Shared};
use crate::{
    Error, Result,
    helper::protocol::{Place, Tool},
    ruleset,
};

/// Addresses come in groups: how long the last of one is waited for.
const SETTLE: Duration = Duration::from_millis(20);
/// Before following is tried again that ended.
const AGAIN: Duration = Duration::from_secs(1);
const WHAT: &str = "follow the host's addresses";

/// The kernel's announcements: something to read for each change. (Its input is kept open as long.)
#[derive(Debug)]
pub(super) struct Changes {
    output: pipe::Receiver,
    _input: OwnedFd,
}

/// One of the host.
#[derive(Debug, Deserialize)]
pub(super) struct Interface {
    #[serde(default, rename = "ifname")]
    pub(super) name: String,
    #[serde(default)]
    flags: Vec<String>,
    #[serde(default)]
    addr_info: Vec<Address>,
}

impl Interface {
    pub(super) fn is_up(&self) -> bool {
        self.flags.iter().any(|flag| flag == "UP")
    }

    pub(super) fn has(&self, address: IpAddr) -> bool {
        self.addr_info.iter().any(|there| there.local == Some(address))
    }
}

#[derive(Debug, Deserialize)]
struct Address {
    local: Option<IpAddr>,
    /// The other end's, where there is one.
    broadcast: Option<IpAddr>,
}

/// Starts to follow, then looks what there is, so that no change is missed.
pub(super) async fn follow(client: &Client) -> Result<(BTreeSet<IpAddr>, Changes)> {
    let args = ["-o", "monitor", "address", "route", "link"].map(str::to_owned).to_vec();
    let (input, output) = client.keep(WHAT, Place::Host, Tool::Ip, args).await?;
    let output = pipe::Receiver::from_owned_fd(output).map_err(|error| Error::start(&error))?;
    let seen = addresses(&look(client).await?);
    Ok((seen, Changes { output, _input: input }))
}

async fn look(client: &Client) -> Result<Vec<Interface>> {
    let args = ["-j", "address", "show"];
    let text = client.run(WHAT, Place::Host, Tool::Ip, &args, String::new(), Vec::new()).await?;
    serde_json::from_str(&text).map_err(|_| Error::Unreadable("ip"))
}

fn addresses(interfaces: &[Interface]) -> BTreeSet<IpAddr> {
    let addresses = interfaces.iter().flat_map(|interface| &interface.addr_info);
    addresses.flat_map(|address| [address.local, address.broadcast]).flatten().collect()
}

/// Tells every namespace, until the helper is gone.
pub(super) async fn keep(shared: Arc<Shared>, mut changes: Changes) {
    let mut buffer = vec![0; 4096];
    loop {
        // first of all, too: what came before it was followed
        if let Some(ways) = &shared.ways {
            match ways.follow(&shared.client, shared.router).await {
                Ok(()) => {}
                Err(Error::Gone) => return,
                Err(error) => tracing::warn!("VMs do not have the host's new way out: {error}"),
            }
        }
        match changes.output.read(&mut buffer).await {
            Ok(length) if length > 0 => tokio::time::sleep(SETTLE).await,
            _ => {
                tokio::time::sleep(AGAIN).await;
                match follow(&shared.client).await {
                    Ok((_, again)) => changes = again,
                    Err(Error::Gone) => return,
                    Err(error) => {
                        tracing::warn!("{error}");
                        continue;
                    }
                }
            }
        }
        match look(&shared.client).await {
            Ok(seen) => {
                tell(&shared, addresses(&seen)).await;
                if let Some(ways) = &shared.ways
                    && let Some(why) = ways.broken(&seen).await
                {
                    shared.client.ender().end_for(&why);
                    return;
                }
            }
            Err(Error::Gone) => return,
            Err(error) => tracing::warn!("{error}"),
        }
    }
}

async fn tell(shared: &Shared, seen: BTreeSet<IpAddr>) {
    let mut sent = Vec::new();
    {
        // Under the lock, as the making of a namespace does it: each namespace hears of them in the order they changed.
        let mut hosts = lock(&shared.hosts);
        if **hosts == seen {
            return;
        }
        let script = ruleset::guest::hosts_are(&seen);
        *hosts = Arc::new(seen);
        for id in lock(&shared.living).iter() {
            sent.push(shared.client.nft(WHAT, Place::In(*id), script.clone()));
        }
    }
    for sent in sent {
        match sent.await {
            Ok(_) | Err(Error::Gone) => {}
            // it may just have been dropped
            Err(error) => tracing::debug!("{error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_all_interfaces_are_read() {
        let text = r#"[{"ifindex":1,"ifname":"lo","addr_info":[{"family":"inet","local":"127.0.0.1","prefixlen":8},
            {"family":"inet6","local":"::1","prefixlen":128}]},{"ifname":"eth0","addr_info":[
            {"family":"inet","local":"192.0.2.2","broadcast":"192.0.2.255"}]},{"ifname":"ifb0"}]"#;
        let interfaces: Vec<Interface> = serde_json::from_str(text).unwrap();
        let seen: Vec<String> = addresses(&interfaces).iter().map(IpAddr::to_string).collect();
        assert_eq!(seen, ["127.0.0.1", "192.0.2.2", "192.0.2.255", "::1"]);
    }
}
