//! Who reaches whom, and for how long.

use std::time::{Duration, Instant};

use net::{Base, Ports, Router};
use testkit::bed::address::{
    GATEWAY, HOST, HOST_PUBLIC, INTERNET, INTERNET_TOO, LAN, METADATA, PORTS, SHARED,
};

use super::{Host, block_on, config, guest, policy};

const PORT: u16 = PORTS[0];
const OTHER_PORT: u16 = PORTS[1];

/// Each destination of the bed.
const ALL: [(&str, [&str; 2]); 8] = [
    ("internet", INTERNET),
    ("internet too", INTERNET_TOO),
    ("LAN", LAN),
    ("gateway", GATEWAY),
    ("shared", SHARED),
    ("metadata", METADATA),
    ("host", HOST),
    ("host, public", HOST_PUBLIC),
];

/// What is reachable on the port, on the other port, and by ping.
#[derive(Clone, Copy)]
enum Reach {
    All,
    Port,
}

/// A policy: its name here, its base, what it allows besides, and what is reached.
type Row = (&'static str, Base, Vec<(String, Ports)>, Vec<(&'static str, Reach)>);

pub(super) fn who_reaches_whom(host: &Host) {
    use Reach::{All, Port};
    let lan = [(LAN[0], Ports::One(PORT)), (LAN[1], Ports::One(PORT))];
    let host_open = [(HOST[0], Ports::One(PORT)), (HOST[1], Ports::One(PORT))];
    let public_open = [(HOST_PUBLIC[0], Ports::All), (HOST_PUBLIC[1], Ports::All)];
    let one = [(INTERNET[0], Ports::All), (INTERNET[1], Ports::All)];
    let lans = [("192.168.0.0/16", Ports::All), ("fd77::/16", Ports::All)];
    let everything = [("0.0.0.0/0", Ports::One(PORT)), ("::/0", Ports::One(PORT))];
    let net = |all: &[(&'static str, Ports)]| {
        all.iter()
            .map(|(net, ports)| {
                let bits = if net.contains('/') {
                    ""
                } else if net.contains(':') {
                    "/128"
                } else {
                    "/32"
                };
                (format!("{net}{bits}"), *ports)
            })
            .collect::<Vec<_>>()
    };
    let internet = [("internet", All), ("internet too", All)];
    let policies: Vec<Row> = vec![
        ("none", Base::Nothing, net(&[]), vec![]),
        ("internet", Base::Internet, net(&[]), internet.to_vec()),
        ("one", Base::Nothing, net(&one), vec![("internet", All)]),
        ("LAN's port", Base::Nothing, net(&lan), vec![("LAN", Port)]),
        ("internet and LAN's port", Base::Internet, net(&lan), [&internet[..], &[("LAN", Port)]].concat()),
        ("the host's port", Base::Nothing, net(&host_open), vec![("host", Port)]),
        (
            "the host, public",
            Base::Internet,
            net(&public_open),
            [&internet[..], &[("host, public", All)]].concat(),
        ),
        // the host is in the LAN, too, and was named with it
        ("LANs", Base::Nothing, net(&lans), vec![("LAN", All), ("gateway", All), ("host", All)]),
        (
            "everything's port",
            Base::Nothing,
            net(&everything),
            ALL.iter().map(|(name, _)| (*name, Port)).collect(),
        ),
    ];
    block_on(async {
        let router = Router::start(config()).await.unwrap();
        let mut wrong = Vec::new();
        let (mut cells, start) = (0, Instant::now());
        for (name, base, allow, reached) in &policies {
            let namespace = router.namespace().await.unwrap();
            let allow: Vec<(&str, Ports)> = allow.iter().map(|(net, ports)| (net.as_str(), *ports)).collect();
            let mut guest = guest(&namespace);
            if *name == "none" {
                // before any policy
                assert!(!guest.reaches("udp", INTERNET[0], PORT));
                assert_eq!(namespace.refused().await.unwrap(), []);
            }
            namespace.apply(&policy(*base, &allow)).await.unwrap();
            for (destination, addresses) in ALL {
                let reach = reached.iter().find(|(known, _)| *known == destination).map(|(_, reach)| *reach);
                for address in addresses {
                    for (by, port) in
                        [("tcp", PORT), ("udp", PORT), ("tcp", OTHER_PORT), ("udp", OTHER_PORT), ("ping", 0)]
                    {
                        let expected = match reach {
                            None => false,
                            Some(All) => true,
                            Some(Port) => port == PORT,
                        };
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
            let refused = namespace.refused().await.unwrap();
            let counted = |address: &str, protocol: &str, port: Option<u16>| {
                let address: std::net::IpAddr = address.parse().unwrap();
                refused.iter().any(|one| {
                    one.address == address && one.protocol == protocol && one.port == port && one.packets > 0
                })
            };
            for (address, icmp) in [(METADATA[0], "icmp"), (METADATA[1], "ipv6-icmp")] {
                let open = reached.iter().any(|(known, _)| *known == "metadata");
                let seen = [counted(address, "tcp", Some(PORT)), counted(address, "udp", Some(PORT))];
                if seen != [!open; 2]
                    || !counted(address, "tcp", Some(OTHER_PORT))
                    || !counted(address, icmp, None)
                {
                    wrong.push(format!("{name}: what was refused of {address} is {refused:?}"));
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
        let user = if host.root { "root" } else { "plain user" };
        println!("{user}: {cells} cells of {} policies in {:?}", policies.len(), start.elapsed());
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
        let new = ["9.9.7.7", "2620:79::7"];
        // somebody else's so far: no answer, but no refusal
        for address in new {
            assert!(!first.reaches("tcp", address, PORT));
        }
        assert_eq!(before.refused().await.unwrap(), []);
        host.ip("addr add 9.9.7.7/32 dev lo");
        host.ip("addr add 2620:79::7/128 dev lo");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let after = router.namespace().await.unwrap();
        after.apply(&policy(Base::Internet, &[])).await.unwrap();
        let mut second = guest(&after);
        for address in new {
            assert!(!first.reaches("tcp", address, PORT));
            assert!(!second.reaches("tcp", address, PORT));
        }
        for namespace in [&before, &after] {
            let refused = namespace.refused().await.unwrap();
            let addresses: Vec<String> = refused.iter().map(|one| one.address.to_string()).collect();
            assert_eq!(addresses, new);
        }
        host.ip("addr del 9.9.7.7/32 dev lo");
        host.ip("addr del 2620:79::7/128 dev lo");
        tokio::time::sleep(Duration::from_millis(500)).await;
        let refused = before.refused().await.unwrap();
        assert!(!first.reaches("tcp", new[0], PORT));
        assert_eq!(before.refused().await.unwrap(), refused, "it is the host's no more");
        router.close().await;
    });
}
