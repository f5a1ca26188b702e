//! What a guest that was broken into tries: other senders, other guests, and more than its share.

use std::time::{Duration, Instant};

use net::{Base, GUEST_V4, GUEST_V6, Limits, Ports, Router, V4_GATEWAY, V6_GATEWAY};
use testkit::bed::address::{HOST, INTERNET, PORTS};

use super::{Host, block_on, config, guest, policy};

const PORT: u16 = PORTS[0];

/// That nothing came out is seen by the bed at the end; that it was counted as spoofed is not needed for that.
pub(super) fn nothing_is_sent_as_somebody_else(_: &Host) {
    block_on(async {
        let router = Router::start(config()).await.unwrap();
        let namespace = router.namespace().await.unwrap();
        let open = [("0.0.0.0/0", Ports::All), ("::/0", Ports::All)];
        namespace.apply(&policy(Base::Internet, &open)).await.unwrap();
        let mut guest = guest(&namespace);
        for source in [
            "198.18.0.1",
            "198.18.128.1",
            "198.18.128.0",
            "9.9.9.11",
            HOST[0],
            "127.0.0.1",
            "0.0.0.0",
            "255.255.255.255",
        ] {
            assert_eq!(guest.ask(&format!("spoof {source} {} {PORT}", INTERNET[0])), "sent");
        }
        for source in [
            "fd61:6d70:6f75:6c65::1",
            "fd61:6d70:6f75:6c65:1::1",
            "2620:fe::11",
            HOST[1],
            "fe80::1",
            "fe80::2",
            "::1",
            "::",
        ] {
            assert_eq!(guest.ask(&format!("spoof {source} {} {PORT}", INTERNET[1])), "sent");
        }
        // what is neither IPv4 nor IPv6 nor ARP: tagged for a VLAN, and what is no frame at all
        let tagged = "026d61700002026d617000018100000a0800450000";
        let other_mac = "02616d700002aaaaaaaaaaaa0800";
        for frame in [tagged, other_mac, "02616d700002", "ffffffffffff02616d70000188cc0207"] {
            assert_eq!(
                guest
                    .ask(&format!("frame {frame}"))
                    .split(' ')
                    .next()
                    .map(|word| word == "sent" || word == "error"),
                Some(true)
            );
        }
        // and as itself it does
        assert!(guest.reaches("udp", INTERNET[0], PORT) && guest.reaches("udp", INTERNET[1], PORT));
        assert_eq!(namespace.refused().await.unwrap().all, []);
        router.close().await;
    });
}

pub(super) fn vms_do_not_reach_each_other(_: &Host) {
    block_on(async {
        let router = Router::start(config()).await.unwrap();
        let everything = [("0.0.0.0/0", Ports::All), ("::/0", Ports::All)];
        let mut guests = Vec::new();
        for _ in 0..2 {
            let namespace = router.namespace().await.unwrap();
            namespace.apply(&policy(Base::Internet, &everything)).await.unwrap();
            guests.push((guest(&namespace), namespace));
        }
        let (one, _) = &mut guests[0];
        assert!(one.reaches("tcp", INTERNET[0], PORT) && one.reaches("tcp", INTERNET[1], PORT));
        // both ends of both links, the uplink's, the gateways by other services than echo, and the guest itself
        let mut answers = Vec::new();
        for address in [
            "198.18.128.0",
            "198.18.128.2",
            "198.18.128.3",
            "198.18.64.0",
            "198.18.64.1",
            "fd61:6d70:6f75:6c65:1::",
            "fd61:6d70:6f75:6c65:1::2",
            "fd61:6d70:6f75:6c65:1::3",
        ] {
            for by in ["tcp", "udp", "ping"] {
                if one.reaches(by, address, PORT) {
                    answers.push(format!("{by} {address}"));
                }
            }
        }
        for by in ["tcp", "udp"] {
            for address in [V4_GATEWAY.to_string(), V6_GATEWAY.to_string()] {
                if one.reaches(by, &address, PORT) {
                    answers.push(format!("{by} {address}"));
                }
            }
        }
        assert_eq!(answers, Vec::<String>::new());
        assert!(
            one.reaches("ping", &V4_GATEWAY.to_string(), 0)
                && one.reaches("ping", &V6_GATEWAY.to_string(), 0)
        );
        let _ = (GUEST_V4, GUEST_V6);
        router.close().await;
    });
}

pub(super) fn limits_hold(_: &Host) {
    block_on(async {
        let mut config = config();
        config.limits = Limits { connections: 50, upload: Some(8_000_000), download: None };
        let router = Router::start(config).await.unwrap();
        let namespace = router.namespace().await.unwrap();
        namespace.apply(&policy(Base::Internet, &[])).await.unwrap();
        let mut greedy = guest(&namespace);
        let other = router.namespace().await.unwrap();
        other.apply(&policy(Base::Internet, &[])).await.unwrap();
        let mut other = guest(&other);
        let made: u32 = greedy.ask(&format!("many {} {PORT} 80", INTERNET[0])).parse().unwrap();
        assert!((40..=50).contains(&made), "{made} connections");
        assert!(!greedy.reaches("tcp", INTERNET[1], PORT), "the limit is one for both families");
        assert!(other.reaches("tcp", INTERNET[0], PORT), "a neighbour suffers");
        // 3 MB at 1 MB a second, of which a burst is free
        let start = Instant::now();
        let sent = other.ask(&format!("send {} {PORT} 3000000", INTERNET[0]));
        let took = start.elapsed();
        assert_eq!(sent, "reached");
        assert!(took > Duration::from_secs(2) && took < Duration::from_secs(10), "3 MB took {took:?}");
        router.close().await;
    });
}
