//! The uplink as a plain user: `pasta`, in the foreground, as a child of the helper.
//!
//! By itself it opens ways to the host's loopback: each option here shuts one. It is started in the host's network
//! namespace and reaches the router's by a path in /proc.

use std::time::Duration;

use tokio::{io::AsyncReadExt, net::unix::pipe};

use super::{Families, near_end};
use crate::{
    Error, Result,
    addresses::Pair,
    helper::protocol::{Answer, Ask, Id, Place, Tool},
    router::{
        client::{Client, refused},
        installed,
    },
    ruleset::router::PASTA,
};

const WHAT: &str = "start pasta";
/// How long it may take to make its interface.
const PATIENCE: Duration = Duration::from_secs(10);
const STEP: Duration = Duration::from_millis(10);

/// Makes it.
pub(super) async fn make(client: &Client, router: Id, families: Families) -> Result<()> {
    installed(client, &[(Tool::Pasta, "passt")]).await?;
    let anchor = match client.ask(Ask::Anchor(router)).await?.0 {
        Ok(Answer::Anchored(anchor)) => anchor,
        answer => return Err(refused(WHAT, answer)),
    };
    // the host sees none of these addresses: pasta sends from sockets of its own
    let pair = Pair::uplink(0);
    let args = arguments(&pair, families, anchor);
    let (input, output) = client.keep(WHAT, Place::Host, Tool::Pasta, args).await?;
    drop(input);
    let unready = |error: std::io::Error| Error::Refused { what: WHAT, answer: error.to_string() };
    let mut output = pipe::Receiver::from_owned_fd(output).map_err(unready)?;
    let mut said = Vec::new();
    let there = async {
        loop {
            let ask = client.run(
                WHAT,
                Place::In(router),
                Tool::Ip,
                &["link", "show", "uplink"],
                String::new(),
                Vec::new(),
            );
            if ask.await.is_ok() {
                return true;
            }
            tokio::select! {
                read = output.read_buf(&mut said) => if !matches!(read, Ok(1..)) { return false },
                () = tokio::time::sleep(STEP) => {}
            }
        }
    };
    match tokio::time::timeout(PATIENCE, there).await {
        Ok(true) => {}
        Ok(false) => {
            return Err(Error::Refused {
                what: WHAT,
                answer: String::from_utf8_lossy(&said).trim().to_owned(),
            });
        }
        Err(_) => return Err(Error::Refused { what: WHAT, answer: "it makes no interface".to_owned() }),
    }
    // whatever it says from now on must not fill the pipe
    tokio::spawn(async move {
        let mut buffer = vec![0; 4096];
        while let Ok(length @ 1..) = output.read(&mut buffer).await {
            tracing::debug!("pasta: {}", String::from_utf8_lossy(&buffer[..length]).trim());
        }
        tracing::debug!("pasta ended");
    });
    client.nft("set the rules in front of pasta", Place::In(router), PASTA.to_owned()).await?;
    near_end(client, router, &pair, families).await
}

fn arguments(pair: &Pair, families: Families, anchor: u32) -> Vec<String> {
    let Pair { near_v4, far_v4, near_v6, far_v6 } = pair;
    let mut words: Vec<String> = [
        "--foreground",
        "--quiet",
        // the gateway's address is not the host's loopback, and no port is forwarded in either direction
        "--no-map-gw",
        "-T",
        "none",
        "-U",
        "none",
        "-t",
        "none",
        "-u",
        "none",
        // addresses are set by us
        "--no-dhcp",
        "--no-dhcpv6",
        "--no-ra",
        "--ns-ifname",
        "uplink",
    ]
    .map(str::to_owned)
    .to_vec();
    let mut add = |more: &[&str]| words.extend(more.iter().map(|word| (*word).to_owned()));
    if families.v4 {
        add(&["--address", &near_v4.to_string(), "--netmask", "31", "--gateway", &far_v4.to_string()]);
    } else {
        add(&["--ipv6-only"]);
    }
    if families.v6 {
        add(&["--address", &near_v6.to_string(), "--gateway", &far_v6.to_string()]);
    } else {
        add(&["--ipv4-only"]);
    }
    add(&["--netns", &format!("/proc/{anchor}/ns/net")]);
    words
}
