//! Connections that a guest begins and gives up before anybody answers: they are in nobody's way.

use std::time::{Duration, Instant};

use net::{Base, GUEST_V4, GUEST_V6, Router};
use testkit::bed::address::{INTERNET, PORTS};

use super::{Host, block_on, config, guest, policy};

const PORT: u16 = PORTS[0];
/// All guests have one address: what tells their connections apart is this, which a program may choose.
const OWN: u16 = 4242;

/// What one guest left is kept by what sends for it. Another guest's connection by the same ports must not be taken for it.
pub(super) fn who_gives_up_is_in_nobodys_way(host: &Host) {
    block_on(async {
        let router = Router::start(config()).await.unwrap();
        let internet = policy(Base::Internet, &[]);
        let mut guests = Vec::new();
        for _ in 0..2 {
            let namespace = router.namespace().await.unwrap();
            namespace.apply(&internet).await.unwrap();
            guests.push((guest(&namespace), namespace));
        }
        // the second port, as a connection of the first may still be there that has ended
        for (own, source, address) in
            [(OWN, GUEST_V4.to_string(), INTERNET[0]), (OWN + 1, GUEST_V6.to_string(), INTERNET[1])]
        {
            // so that it is given up before there is an answer
            hush(host, "");
            // the last makes the router forget the first
            let made = guests[0].0.ask(&format!("made {source} {own} {address} {PORT} SRS"));
            assert_eq!(made, "sent");
            hushed(host).await;
            let answer = guests[1].0.ask(&format!("from {own} {address} {PORT}"));
            assert_eq!(answer, "reached", "{address}");
        }
        router.close().await;
    });
}

/// The host does not know what the router let through: it saw no beginning of it. That nothing of it comes out is seen by
/// the bed at the end.
pub(super) fn what_is_of_no_connection_does_not_leave(host: &Host) {
    block_on(async {
        let router = Router::start(config()).await.unwrap();
        let namespace = router.namespace().await.unwrap();
        namespace.apply(&policy(Base::Internet, &[])).await.unwrap();
        let mut guest = guest(&namespace);
        for (source, address) in [GUEST_V4.to_string(), GUEST_V6.to_string()].iter().zip(INTERNET) {
            hush(host, "tcp flags & syn == syn");
            assert_eq!(guest.ask(&format!("made {source} {OWN} {address} {PORT} SR")), "sent");
            hushed(host).await;
            // what is behind it came out
            assert!((0..3).any(|_| guest.reaches("udp", address, PORT)), "{address}");
        }
        router.close().await;
    });
}

/// What begins a connection comes out of the host no more, nor what belongs to one, unless `only` says so.
fn hush(host: &Host, only: &str) {
    let chain = format!("type filter hook postrouting priority 300; tcp dport {PORT} {only} counter drop;");
    host.nft(&format!("table inet hush {{ chain leave {{ {chain} }}; }}"));
}

/// And then does again, when there was something.
async fn hushed(host: &Host) {
    let begun = Instant::now();
    while host.nft("list table inet hush").contains("packets 0 ") {
        assert!(begun.elapsed() < Duration::from_secs(5), "it did not come to the host");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    host.nft("delete table inet hush");
}
