//! Namespaces are made and removed here, several at once.

use std::{
    pin::Pin,
    sync::{Arc, Weak},
};

use tokio::sync::mpsc;

use super::{
    Limits, Namespace, lock,
    running::{Dropped, Pool, Shared},
};
use crate::{
    Error, Policy, Result,
    addresses::{
        GATEWAY_MAC, GUEST_MAC, GUEST_V4, GUEST_V6, LINK_MACS, MTU, Pair, V4_GATEWAY, V4_PREFIX, V6_GATEWAY,
        V6_PREFIX, mac,
    },
    helper::protocol::{FIRST_NAMESPACE, Place, Setting, Tool},
};

/// How many are made in one go: the price of the programs is shared.
const BATCH: usize = 8;

/// Of each namespace that forwards: the router's, and every VM's.
pub(super) fn settings() -> Vec<Setting> {
    [
        ("ipv4/ip_forward", "1"),
        ("ipv4/conf/all/send_redirects", "0"),
        ("ipv4/conf/default/send_redirects", "0"),
        ("ipv4/conf/all/accept_redirects", "0"),
        ("ipv4/conf/default/accept_redirects", "0"),
        ("ipv4/conf/all/rp_filter", "0"),
        ("ipv4/conf/default/rp_filter", "0"),
        // every refused packet is answered, so that nobody waits for a time-out
        ("ipv4/icmp_ratelimit", "0"),
        ("ipv4/icmp_msgs_per_sec", "100000"),
        ("ipv4/icmp_msgs_burst", "10000"),
        ("ipv6/icmp/ratelimit", "0"),
        ("ipv6/conf/all/disable_ipv6", "0"),
        ("ipv6/conf/default/disable_ipv6", "0"),
        // no address is tried for a second before it is used, and none comes from outside
        ("ipv6/conf/default/accept_dad", "0"),
        ("ipv6/conf/default/dad_transmits", "0"),
        ("ipv6/conf/default/accept_ra", "0"),
        ("ipv6/conf/default/autoconf", "0"),
        ("ipv6/conf/default/accept_redirects", "0"),
        ("ipv6/conf/all/forwarding", "1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec()
}

/// Makes one for each of these policies; none of them forwards anything yet.
pub(super) async fn make(shared: &Arc<Shared>, policies: Vec<Policy>) -> Result<Vec<Namespace>> {
    const LINK: &str = "make a link to a VM's network namespace";
    const SET_UP: &str = "set up a VM's network namespace";
    const RULES: &str = "set the rules of a VM's network namespace";
    let mut all = Vec::new();
    for policy in policies {
        let (id, tap) = shared.client.make(settings(), Some("tap0")).await?;
        // from here on its drop removes it
        let link = lock(&shared.links).take();
        all.push(Namespace::new(shared.clone(), id, link?, tap, policy)?);
    }
    // the rules come before there is anything to forward
    let mut steps: Vec<Pin<Box<dyn Future<Output = Result<String>> + Send>>> = Vec::new();
    for namespace in &all {
        lock(&shared.living).insert(namespace.id());
        // sent in the order in which they are seen: a change of the host's addresses that comes now comes after this
        let hosts = lock(&shared.hosts);
        let text = namespace.rules(&shared.limits, &hosts);
        steps.push(Box::pin(shared.client.nft(RULES, Place::In(namespace.id()), text)));
    }
    let text: String = all
        .iter()
        .zip(FIRST_NAMESPACE..)
        .map(|(namespace, fd)| link(namespace.link(), fd, shared.v6))
        .collect();
    let ids = all.iter().map(Namespace::id).collect();
    shared.client.run(LINK, Place::In(shared.router), Tool::Ip, &["-batch", "-"], text, ids).await?;

    // each step is sent before the one before it is done: they come one after the other in a namespace, and those of
    // different ones at once
    let shaped = shape(&shared.limits);
    for namespace in &all {
        let at = Place::In(namespace.id());
        let text = inside(namespace.link(), shared.v6);
        steps.push(Box::pin(shared.client.run(SET_UP, at, Tool::Ip, &["-batch", "-"], text, Vec::new())));
        if !shaped.is_empty() {
            let text = shaped.clone();
            steps.push(Box::pin(shared.client.run(SET_UP, at, Tool::Tc, &["-batch", "-"], text, Vec::new())));
        }
    }
    for step in steps {
        step.await?;
    }
    Ok(all)
}

/// In the router's namespace: the link to one VM's, which is descriptor `fd`.
fn link(link: u32, fd: usize, v6: bool) -> String {
    let Pair { near_v4, far_v4, near_v6, far_v6 } = Pair::link(link);
    let [near_mac, far_mac] = LINK_MACS.map(mac);
    let mut text = format!(
        "link add vm{link} address {far_mac} mtu {MTU} type veth \
         peer name out address {near_mac} mtu {MTU} netns /proc/self/fd/{fd}\n\
         addr add {far_v4}/31 dev vm{link}\n\
         link set vm{link} up\n\
         neigh replace {near_v4} lladdr {near_mac} dev vm{link} nud permanent\n"
    );
    if v6 {
        text += &format!(
            "addr add {far_v6}/127 dev vm{link} nodad\n\
             neigh replace {near_v6} lladdr {near_mac} dev vm{link} nud permanent\n"
        );
    }
    text
}

/// In a VM's namespace. Every neighbour is known, so that none is asked for, and none is one of those of which the host
/// has a number in all.
fn inside(link: u32, v6: bool) -> String {
    let Pair { near_v4, far_v4, near_v6, far_v6 } = Pair::link(link);
    let [gateway_mac, guest_mac, far_mac] = [GATEWAY_MAC, GUEST_MAC, LINK_MACS[1]].map(mac);
    let mut text = format!(
        "link set lo up\n\
         link set tap0 address {gateway_mac} mtu {MTU}\n\
         addr add {V4_GATEWAY}/{V4_PREFIX} dev tap0\n\
         link set tap0 up\n\
         neigh replace {GUEST_V4} lladdr {guest_mac} dev tap0 nud permanent\n\
         addr add {near_v4}/31 dev out\n\
         link set out up\n\
         neigh replace {far_v4} lladdr {far_mac} dev out nud permanent\n\
         route add default via {far_v4}\n"
    );
    if v6 {
        text += &format!(
            "addr add {V6_GATEWAY}/{V6_PREFIX} dev tap0 nodad\n\
             neigh replace {GUEST_V6} lladdr {guest_mac} dev tap0 nud permanent\n\
             addr add {near_v6}/127 dev out nodad\n\
             neigh replace {far_v6} lladdr {far_mac} dev out nud permanent\n\
             route add default via {far_v6} dev out\n"
        );
    }
    text
}

/// For tc: what goes out at the tap is what the VM gets.
pub(super) fn shape(limits: &Limits) -> String {
    let one = |dev: &str, rate: Option<u64>| {
        // Of a burst a tenth of a second's worth, at least a packet of the largest size that offloading makes. What is
        // over it waits rather than is lost: pasta of 2023 stalled for good, now and then, where a queue was short.
        rate.map(|rate| {
            let burst = (rate / 8 / 10).clamp(128 << 10, 4 << 20);
            format!("qdisc replace dev {dev} root tbf rate {rate}bit burst {burst} latency 500ms\n")
        })
    };
    [one("tap0", limits.download), one("out", limits.upload)].into_iter().flatten().collect()
}

/// Keeps the pool full.
pub(super) async fn fill(shared: Arc<Shared>, pool: Arc<Pool>) {
    loop {
        let mut missing = pool.missing();
        if missing.is_empty() {
            pool.taken.notified().await;
            continue;
        }
        missing.truncate(BATCH);
        match make(&shared, missing).await {
            Ok(made) => pool.put(made),
            // whoever saw that end said it
            Err(Error::Gone) => return,
            Err(error) => {
                // each lease tries for itself, and tells why
                tracing::warn!("no network namespace can be made ahead: {error}");
                pool.taken.notified().await;
            }
        }
    }
}

/// Removes what nobody has any more: first the link, so that it is cut off even if something keeps it alive.
pub(super) async fn remove(shared: Weak<Shared>, mut gone: mpsc::UnboundedReceiver<Dropped>) {
    let mut batch = Vec::new();
    while gone.recv_many(&mut batch, 64).await > 0 {
        let Some(shared) = shared.upgrade() else { return };
        // a link that was never made is no error: `-force` goes on with the next line
        let text: String = batch.iter().map(|dropped| format!("link del vm{}\n", dropped.link)).collect();
        let args = ["-force", "-batch", "-"];
        let removed = shared
            .client
            .run("remove links", Place::In(shared.router), Tool::Ip, &args, text, Vec::new())
            .await;
        if let Err(error) = removed {
            tracing::debug!("not every link was there: {error}");
        }
        for Dropped { id, link } in batch.drain(..) {
            let _ = shared.client.ask(crate::helper::protocol::Ask::Forget(id)).await;
            lock(&shared.links).free.push_back(link);
        }
    }
}
