//! The way from the router to the host: what holds it ends, the host's ways come and go, its firewall lets nothing
//! through.

use std::{
    fs,
    time::{Duration, Instant},
};

use net::{Base, Error, Note, Router};
use rustix::process::{Pid, Signal, kill_process};
use testkit::bed::{
    self, Guest,
    address::{GATEWAY, INTERNET, METADATA, PORTS},
};

use super::{Host, block_on, config, ends, guest, policy, said};

const PORT: u16 = PORTS[0];

fn signal(pid: &str, signal: Signal) {
    kill_process(Pid::from_raw(pid.parse().unwrap()).unwrap(), signal).unwrap();
}

/// The process of this one's helper that holds the uplink: of the helper's children, the one called so.
fn holder(init: &str, host: &Host) -> String {
    let name = if host.root { "nft" } else { "pasta" };
    let called = |pid: &String| {
        let line = fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.split('\0').next().unwrap_or_default().rsplit('/').next().unwrap_or_default().starts_with(name)
    };
    ends::children(init).into_iter().find(called).unwrap()
}

/// Nothing goes by half of it, and the next VM has a network again.
pub(super) fn an_uplink_that_was_killed_is_replaced(host: &Host) {
    block_on(async {
        let mut pooled = config();
        pooled.pool = 1;
        said::listen();
        let router = Router::start(pooled).await.unwrap();
        let internet = policy(Base::Internet, &[]);
        let old = router.namespace_for(&internet).await.unwrap();
        old.apply(&internet).await.unwrap();
        let mut before = guest(&old);
        for address in INTERNET {
            // what is lost once on a busy host is sent again
            assert!((0..3).any(|_| before.reaches("udp", address, PORT)), "{address}");
        }
        let held = before.ask(&format!("hold {} {PORT}", INTERNET[0]));
        assert_eq!(held, "reached");
        // whatever else the end of the holder is the end of comes late
        let [waiter, init] = ends::helpers();
        let holder = holder(&init, host);
        for pid in [&waiter, &init] {
            signal(pid, Signal::STOP);
        }
        signal(&holder, Signal::KILL);
        let killed = Instant::now();
        while !old.is_gone() {
            assert!(killed.elapsed() < Duration::from_secs(2), "nobody noticed");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        println!("noticed after {:?}", killed.elapsed());
        // that none of these comes out as the router's is the bed's to see
        for address in INTERNET {
            assert!(!before.reaches("udp", address, PORT));
            assert!(!before.reaches("ping", address, 0));
        }
        assert_ne!(before.ask("held"), "reached");
        for pid in [&waiter, &init] {
            signal(pid, Signal::CONT);
        }
        let said = said::lines();
        let ended = format!("WARN {} ended", if host.root { "nft" } else { "pasta" });
        assert!(said.len() == 1 && said[0].starts_with(&ended), "{said:?}");
        let new = router.namespace_for(&internet).await.unwrap();
        new.apply(&internet).await.unwrap();
        assert_eq!(said::lines(), Vec::<String>::new());
        let mut after = guest(&new);
        for address in INTERNET {
            assert!(after.reaches("tcp", address, PORT));
        }
        assert!(!before.reaches("tcp", INTERNET[0], PORT));
        assert!(matches!(old.refused().await, Err(Error::Gone)));
        // the old helper has gone
        ends::helpers();
        router.close().await;
    });
    ends::gone(host).unwrap();
}

/// A pasta that is there and does nothing any more, as one that loops.
pub(super) fn a_pasta_that_does_not_answer_is_replaced(host: &Host) {
    if host.root {
        return;
    }
    block_on(async {
        said::listen();
        let router = Router::start(config()).await.unwrap();
        let internet = policy(Base::Internet, &[]);
        let old = router.namespace_for(&internet).await.unwrap();
        old.apply(&internet).await.unwrap();
        let mut before = guest(&old);
        assert!((0..3).any(|_| before.reaches("udp", INTERNET[0], PORT)));
        let [_, init] = ends::helpers();
        signal(&holder(&init, host), Signal::STOP);
        let stopped = Instant::now();
        while !old.is_gone() {
            // the kernel asks for an address only while somebody sends to it
            before.reaches("udp", INTERNET[0], PORT);
            assert!(stopped.elapsed() < Duration::from_secs(60), "nobody noticed");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        println!("noticed after {:?}", stopped.elapsed());
        let said = said::lines();
        assert!(said.len() == 1 && said[0].contains("does not answer any more"), "{said:?}");
        let new = router.namespace_for(&internet).await.unwrap();
        new.apply(&internet).await.unwrap();
        let mut after = guest(&new);
        for address in INTERNET {
            assert!(after.reaches("tcp", address, PORT));
        }
        ends::helpers();
        router.close().await;
    });
    ends::gone(host).unwrap();
}

/// Whatever is done to the host's end of it, and nothing else that is done to the host's network.
pub(super) fn an_interface_that_was_changed_is_replaced(host: &Host) {
    if !host.root {
        // of pasta the host has none
        return;
    }
    said::listen();
    let named = || {
        let text = bed::run("ip", &["-o", "link", "show", "type", "veth"]);
        let names = text.split_whitespace().filter(|word| word.starts_with("amp-"));
        let names: Vec<&str> = names.map(|word| word.split(['@', ':']).next().unwrap()).collect();
        <[&str; 1]>::try_from(names).unwrap()[0].to_owned()
    };
    block_on(async {
        let mut pooled = config();
        pooled.pool = 1;
        let router = Router::start(pooled).await.unwrap();
        let internet = policy(Base::Internet, &[]);
        for (change, expected) in [
            ("link set NAME down", "was set down"),
            ("-4 addr flush dev NAME", "lost its address 198.18."),
            ("-6 addr flush dev NAME", "lost its address fd61:"),
            ("link del NAME", "was deleted"),
        ] {
            let old = router.namespace_for(&internet).await.unwrap();
            old.apply(&internet).await.unwrap();
            let mut before = guest(&old);
            for args in [
                "addr add 192.0.2.77/32 dev e0",
                "link add other type veth peer name another",
                "link set other up",
                "link set other down",
                "link del other",
                "addr del 192.0.2.77/32 dev e0",
            ] {
                host.ip(args);
                tokio::time::sleep(Duration::from_millis(60)).await;
            }
            assert!(!old.is_gone());
            assert_eq!(said::lines(), Vec::<String>::new());
            for address in INTERNET {
                reached_in_time(&mut before, address).await;
            }
            let name = named();
            host.ip(&change.replace("NAME", &name));
            let changed = Instant::now();
            while !old.is_gone() {
                assert!(changed.elapsed() < Duration::from_secs(2), "{change}: nobody noticed");
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            println!("{change}: noticed after {:?}", changed.elapsed());
            let new = router.namespace_for(&internet).await.unwrap();
            new.apply(&internet).await.unwrap();
            let mut after = guest(&new);
            for address in INTERNET {
                reached_in_time(&mut after, address).await;
                assert!(!before.reaches("tcp", address, PORT));
            }
            let said = said::lines();
            assert_eq!(said.len(), 1, "{said:?}");
            let start = format!("WARN {name}, which VMs' network needs, {expected}");
            assert!(said[0].starts_with(&start), "{said:?}");
        }
        router.close().await;
        assert_eq!(said::lines(), Vec::<String>::new());
    });
    ends::gone(host).unwrap();
}

async fn reached_in_time(guest: &mut Guest, address: &str) {
    for _ in 0..20 {
        if guest.reaches("tcp", address, PORT) {
            return;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("{address} is not reached");
}

/// This line and no other, soon.
async fn heard(line: &str) {
    let start = Instant::now();
    loop {
        let lines = said::lines();
        if !lines.is_empty() {
            assert_eq!(lines, [line]);
            return;
        }
        assert!(start.elapsed() < Duration::from_secs(2), "not said: {line}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// One family after the other; VMs that are there have it, too.
pub(super) fn ways_that_come_later_are_ways_of_vms(host: &Host) {
    let family = ["-4", "-6"];
    let remove = |at: usize| host.ip(&format!("{} route del default", family[at]));
    let add = |at: usize| host.ip(&format!("{} route add default via {} dev e0", family[at], GATEWAY[at]));
    let internet = policy(Base::Internet, &[]);
    said::listen();
    for first in [0, 1] {
        block_on(async {
            remove(0);
            remove(1);
            let router = Router::start(config()).await.unwrap();
            for family in [4, 6] {
                assert!(router.notes().contains(&Note::NoRoute { family }));
            }
            let early = router.namespace().await.unwrap();
            early.apply(&internet).await.unwrap();
            let mut early = guest(&early);
            for address in INTERNET {
                assert!(!early.reaches("tcp", address, PORT));
            }
            let second = 1 - first;
            add(first);
            reached_in_time(&mut early, INTERNET[first]).await;
            assert!(!early.reaches("tcp", INTERNET[second], PORT));
            assert_eq!(early.ask(&format!("hold {} {PORT}", INTERNET[first])), "reached");
            add(second);
            reached_in_time(&mut early, INTERNET[second]).await;
            assert_eq!(early.ask("held"), "reached", "a connection was cut by another family");
            // and those that go and come back
            for (at, family) in [(0, 4), (1, 6)] {
                said::lines();
                remove(at);
                assert!(!early.reaches("tcp", INTERNET[at], PORT));
                heard(&format!("WARN {}", Note::NoRoute { family })).await;
                add(at);
                reached_in_time(&mut early, INTERNET[at]).await;
                heard(&format!("INFO {}", Note::Route { family })).await;
            }
            let late = router.namespace().await.unwrap();
            late.apply(&internet).await.unwrap();
            let mut late = guest(&late);
            for address in INTERNET {
                reached_in_time(&mut late, address).await;
                assert!((0..3).any(|_| late.reaches("udp", address, PORT)));
            }
            router.close().await;
        });
        ends::gone(host).unwrap();
    }
}

/// As Docker leaves it, and as our advice has it.
pub(super) fn a_firewall_that_forwards_nothing_is_found(host: &Host) {
    let check = || block_on(net::check(config().helper)).unwrap();
    let refused = |notes: &[Note]| [4, 6].map(|family| notes.contains(&Note::NotForwarded { family }));
    if !host.root {
        // what pasta sends is nothing that the host forwards
        assert_eq!(refused(&check().notes), [false, false]);
        return;
    }
    fs::write("/proc/sys/net/ipv4/ip_forward", "0").unwrap();
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "1").unwrap();
    let firewall = |rules: &str| {
        let _ = bed::run("nft", &[&format!("table inet fw {{ chain forward {{ {rules} }}; }}")]);
    };
    const DROPS: &str = "type filter hook forward priority 10; policy drop;";
    for (rules, expected) in [
        ("", [false, false]),
        (DROPS, [true, true]),
        ("type filter hook forward priority -10; ip version 4 reject;", [true, false]),
        ("type filter hook forward priority 10; policy drop; iifname \"amp-*\" accept;", [false, false]),
    ] {
        if !rules.is_empty() {
            firewall(rules);
        }
        let checked = check();
        assert_eq!(refused(&checked.notes), expected, "{rules}: {:?}", checked.notes);
        if !rules.is_empty() {
            let _ = bed::run("nft", &["delete", "table", "inet", "fw"]);
        }
        ends::gone(host).unwrap();
    }
    let forwards = fs::read_to_string("/proc/sys/net/ipv4/ip_forward").unwrap();
    assert_eq!(forwards.trim(), "0", "a check changed the host");
    // what is not forwarded for another reason is none of the firewall's
    fs::write("/proc/sys/net/ipv6/conf/all/forwarding", "0").unwrap();
    let checked = check();
    assert!(checked.notes.contains(&Note::ForwardsV6), "{:?}", checked.notes);
    assert_eq!(refused(&checked.notes), [false, false]);
}

/// Where pasta cannot pass them on, that is said.
pub(super) fn pings_that_cannot_pass_are_noted(host: &Host) {
    if host.root {
        return;
    }
    block_on(async {
        let internet = policy(Base::Internet, &[]);
        for (range, passes) in [("1 0", false), ("0 2147483647", true)] {
            host.pings(range);
            let router = Router::start(config()).await.unwrap();
            assert_eq!(!router.notes().contains(&Note::NoPings), passes);
            let namespace = router.namespace().await.unwrap();
            namespace.apply(&internet).await.unwrap();
            let mut guest = guest(&namespace);
            assert!(guest.reaches("udp", INTERNET[0], PORT));
            for address in INTERNET {
                assert_eq!(guest.reaches("ping", address, 0), passes, "{range}: {address}");
            }
            router.close().await;
        }
        let checked = net::check(config().helper).await.unwrap();
        assert!(!checked.notes.contains(&Note::NoPings));
    });
}

/// A socket hears of its refusal, in whatever state it is.
pub(super) fn a_refused_connection_is_reset_at_once(_: &Host) {
    block_on(async {
        let router = Router::start(config()).await.unwrap();
        let namespace = router.namespace().await.unwrap();
        namespace.apply(&policy(Base::Internet, &[])).await.unwrap();
        let mut guest = guest(&namespace);
        for address in METADATA {
            let mut slowest = Duration::ZERO;
            for _ in 0..40 {
                let start = Instant::now();
                let answer = guest.ask(&format!("tcp {address} {PORT}"));
                assert!(answer.contains("Connection refused"), "{address}: {answer}");
                slowest = slowest.max(start.elapsed());
            }
            println!("{address}: refused within {slowest:?}");
        }
        // one that is open when its policy ends
        for address in INTERNET {
            namespace.apply(&policy(Base::Internet, &[])).await.unwrap();
            assert_eq!(guest.ask(&format!("hold {address} {PORT}")), "reached");
            namespace.apply(&policy(Base::Nothing, &[])).await.unwrap();
            let answer = guest.ask("held");
            assert!(answer.contains("reset"), "{address}: {answer}");
        }
        router.close().await;
    });
}
