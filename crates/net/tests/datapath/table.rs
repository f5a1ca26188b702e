//! Who reaches whom, and for how long.

use std::time::{Duration, Instant};

use net::{Base, Policy, Ports, Router};
use testkit::bed::{
    address::{INTERNET, INTERNET_TOO, METADATA, PORTS},
    table::{self, ALL, BY, Reach, Row},
};

use super::{Host, block_on, config, guest, policy};

const PORT: u16 = PORTS[0];
const OTHER_PORT: u16 = PORTS[1];

/// The same table is tried from VMs, by names as well (`vm-tests`).
pub(super) fn who_reaches_whom(host: &Host) {
    let rows = table::rows();
    block_on(async {
        let router = Router::start(config()).await.unwrap();
        let mut wrong = Vec::new();
        let (mut cells, start) = (0, Instant::now());
        for Row { name, policy, reached, .. } in &rows {
            let namespace = router.namespace().await.unwrap();
            let mut guest = guest(&namespace);
            if *name == "none" {
                // before any policy
                assert!(!guest.reaches("udp", INTERNET[0], PORT));
                assert_eq!(namespace.refused().await.unwrap().all, []);
            }
            namespace.apply(&policy.parse::<Policy>().unwrap()).await.unwrap();
            for (destination, addresses) in ALL {
                let reach = reached.iter().find(|(known, _)| *known == destination).map(|(_, reach)| *reach);
                for address in addresses {
                    for (by, port) in BY {
                        let expected = reach.is_some_and(|reach| reach.of(by, port));
                        // as a plain user the host's own addresses are reached by connecting, and answer no ping
                        if by == "ping" && expected && destination.starts_with("host") {
                            continue;
                        }
                        cells += 1;
                        // of one that is lost or late nobody is told
                        let silent =
                            |answer: &str| answer.contains("timed out") || answer.contains("os error 11)");
                        let mut answer = guest.ask(&format!("{by} {address} {port}"));
                        if (expected && answer != "reached") || silent(&answer) {
                            // what is lost once on a busy host is sent again
                            answer = guest.ask(&format!("{by} {address} {port}"));
                        }
                        if (answer == "reached") != expected {
                            wrong.push(format!("{name}: {destination} {by} {address} {port}: {answer}"));
                        }
                        if !expected && silent(&answer) {
                            wrong.push(format!(
                                "{name}: {destination} {by} {address} {port}: a silent refusal"
                            ));
                        }
                    }
                }
            }
            let refused = namespace.refused().await.unwrap().all;
            let counted = |address: &str, protocol: &str, port: Option<u16>| {
                let address: std::net::IpAddr = address.parse().unwrap();
                refused.iter().any(|one| {
                    one.address == address && one.protocol == protocol && one.port == port && one.packets > 0
                })
            };
            for (address, icmp) in [(METADATA[0], "icmp"), (METADATA[1], "ipv6-icmp")] {
                let reach = reached.iter().find(|(known, _)| *known == "metadata").map(|(_, reach)| *reach);
                let seen = [counted(address, "tcp", Some(PORT)), counted(address, "udp", Some(PORT))];
                let seen_too = [counted(address, "tcp", Some(OTHER_PORT)), counted(address, icmp, None)];
                if seen != [reach.is_none(); 2] || seen_too != [reach != Some(Reach::All); 2] {
                    wrong.push(format!("{name}: what was refused of {address} is {refused:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let user = if host.root { "root" } else { "plain user" };
        println!("{user}: {cells} cells of {} policies in {:?}", rows.len(), start.elapsed());
        router.close().await;
    });
}

/// As the resolver opens them; a connection goes on after its time.
pub(super) fn names_are_open_for_a_time(_: &Host) {
    block_on(async {
        let router = Router::start(config()).await.unwrap();
        let namespace = router.namespace().await.unwrap();
        let mut guest = guest(&namespace);
        let name = policy(Base::Nothing, &[("forge.example.org", Ports::One(PORT))]);
        namespace.apply(&name).await.unwrap();
        for address in INTERNET {
            assert!(!guest.reaches("tcp", address, PORT), "before it is opened");
            let open = [(address.parse().unwrap(), Ports::One(PORT), Duration::from_secs(1))];
            namespace.allow(&open).await.unwrap();
            namespace.allow(&open).await.unwrap();
            assert!(guest.reaches("tcp", address, PORT) && guest.reaches("udp", address, PORT));
            assert!(!guest.reaches("tcp", address, OTHER_PORT) && !guest.reaches("ping", address, 0));
            let all = [(address.parse().unwrap(), Ports::All, Duration::from_secs(600))];
            namespace.allow(&all).await.unwrap();
            assert!(guest.reaches("tcp", address, OTHER_PORT) && guest.reaches("ping", address, 0));
        }
        // and one that is open for longer later
        namespace.apply(&name).await.unwrap();
        let start = Instant::now();
        let of = |address: &str, seconds| {
            [(address.parse().unwrap(), Ports::One(PORT), Duration::from_secs(seconds))]
        };
        namespace.allow(&of(INTERNET[0], 1)).await.unwrap();
        namespace.allow(&of(INTERNET_TOO[0], 1)).await.unwrap();
        namespace.allow(&of(INTERNET_TOO[0], 60)).await.unwrap();
        assert_eq!(guest.ask(&format!("hold {} {PORT}", INTERNET[0])), "reached");
        while guest.reaches("tcp", INTERNET[0], PORT) {
            assert!(start.elapsed() < Duration::from_secs(25), "still open");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let waited = start.elapsed();
        assert!(waited > Duration::from_secs(1), "closed after {waited:?}");
        assert_eq!(guest.ask("held"), "reached", "a connection was cut");
        assert!(guest.reaches("tcp", INTERNET_TOO[0], PORT));
        router.close().await;
    });
}

pub(super) fn connections_end_with_their_policy(_: &Host) {
    block_on(async {
        let router = Router::start(config()).await.unwrap();
        let namespace = router.namespace().await.unwrap();
        let mut guest = guest(&namespace);
        for address in INTERNET {
            namespace.apply(&policy(Base::Internet, &[])).await.unwrap();
            assert_eq!(guest.ask(&format!("hold {address} {PORT}")), "reached");
            assert_eq!(guest.ask("held"), "reached");
            // one that allows it as well: it goes on
            namespace.apply(&policy(Base::Internet, &[("10.0.0.0/8", Ports::All)])).await.unwrap();
            assert_eq!(guest.ask("held"), "reached");
            namespace.apply(&policy(Base::Nothing, &[])).await.unwrap();
            assert_ne!(guest.ask("held"), "reached", "a connection outlived its policy");
            assert!(!guest.reaches("tcp", address, PORT));
        }
        router.close().await;
    });
}

pub(super) fn addresses_of_the_host_are_followed(host: &Host) {
    block_on(async {
        let router = Router::start(config()).await.unwrap();
        let before = router.namespace().await.unwrap();
        before.apply(&policy(Base::Internet, &[])).await.unwrap();
        let mut first = guest(&before);
        let new = ["9.9.7.8", "2620:79::8"];
        // somebody else's so far: no answer, but no refusal
        for address in new {
            assert!(!first.reaches("tcp", address, PORT));
        }
        assert_eq!(before.refused().await.unwrap().all, []);
        host.ip("addr add 9.9.7.8/32 dev lo");
        host.ip("addr add 2620:79::8/128 dev lo");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = router.namespace().await.unwrap();
        after.apply(&policy(Base::Internet, &[])).await.unwrap();
        let mut second = guest(&after);
        for address in new {
            assert!(!first.reaches("tcp", address, PORT));
            assert!(!second.reaches("tcp", address, PORT));
        }
        for namespace in [&before, &after] {
            let refused = namespace.refused().await.unwrap().all;
            let addresses: Vec<String> = refused.iter().map(|one| one.address.to_string()).collect();
            assert_eq!(addresses, new);
        }
        host.ip("addr del 9.9.7.8/32 dev lo");
        host.ip("addr del 2620:79::8/128 dev lo");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let refused = before.refused().await.unwrap().all;
        assert!(!first.reaches("tcp", new[0], PORT));
        assert_eq!(before.refused().await.unwrap().all, refused, "it is the host's no more");
        router.close().await;
    });
}
