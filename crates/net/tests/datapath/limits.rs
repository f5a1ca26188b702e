//! Limits that one VM has beside those of all.

use std::time::Instant;

use net::{Base, Limits, Namespace, Router};
use testkit::bed::{
    Guest,
    address::{INTERNET, PORTS},
};

use super::{Host, block_on, config, guest, policy};

const PORT: u16 = PORTS[0];
const BYTES: u32 = 3_000_000;

/// Seconds of the fastest of some, on a busy host.
fn fastest(guest: &mut Guest, send: &str) -> f64 {
    let times = (0..3).map(|_| {
        let start = Instant::now();
        assert_eq!(guest.ask(send), "reached");
        start.elapsed().as_secs_f64()
    });
    times.fold(f64::INFINITY, f64::min)
}

/// One that was made ahead, too; those of others stay as they are.
pub(super) fn one_vm_has_limits_of_its_own(_: &Host) {
    block_on(async {
        let mut pooled = config();
        pooled.pool = 1;
        let router = Router::start(pooled).await.unwrap();
        let internet = policy(Base::Internet, &[]);
        let leased = async |limits: &Limits| -> Namespace {
            let namespace = router.namespace_for(&internet).await.unwrap();
            namespace.limit(limits).await.unwrap();
            namespace.apply(&internet).await.unwrap();
            namespace
        };
        let many = format!("many {} {PORT} 80", INTERNET[0]);
        let few = leased(&Limits { connections: 50, ..Limits::default() }).await;
        let made: u32 = guest(&few).ask(&many).parse().unwrap();
        assert!((40..=50).contains(&made), "{made} connections");
        let over = few.refused().await.unwrap();
        // the guest stops at the first that it cannot have, which is sent again meanwhile
        assert!((1..=5).contains(&over.over_limit) && over.all.is_empty(), "{over:?}");
        let within = leased(&Limits::default()).await;
        let mut usual = guest(&within);
        assert_eq!(usual.ask(&many), "80");
        assert_eq!(within.refused().await.unwrap().over_limit, 0);
        // what comes back is as much as what is sent: the slower way counts
        let rate = Some(8_000_000);
        let send = format!("send {} {PORT} {BYTES}", INTERNET[0]);
        for limits in [
            Limits { upload: rate, ..Limits::default() },
            Limits { download: rate, ..Limits::default() },
            Limits { upload: rate, download: rate, ..Limits::default() },
        ] {
            let slow = leased(&limits).await;
            let mut slow = guest(&slow);
            let start = Instant::now();
            assert_eq!(slow.ask(&send), "reached");
            let took = start.elapsed().as_secs_f64();
            // a burst is free; pasta repeats what did not fit into a queue, and takes its time
            assert!(took > 2.0 && took < 40.0, "3 MB at 1 MB a second took {took:.1} s: {limits:?}");
        }
        assert!(fastest(&mut usual, &send) < 2.0, "another VM is slow, too");
        // set again
        let again = leased(&Limits { upload: Some(1_000_000), ..Limits::default() }).await;
        again.limit(&Limits { connections: 60, upload: Some(80_000_000), download: None }).await.unwrap();
        let mut again = guest(&again);
        assert!(fastest(&mut again, &send) < 5.0);
        router.close().await;
    });
}
