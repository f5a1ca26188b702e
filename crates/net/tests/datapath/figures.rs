//! What it costs: printed.

use std::time::{Duration, Instant};

use net::{Base, Ports, Router};

use super::{Host, block_on, config, policy};

const ROUNDS: usize = 20;

pub(super) fn prices(host: &Host) {
    block_on(async {
        let start = Instant::now();
        let router = Router::start(config()).await.unwrap();
        let started = start.elapsed();
        let allow = [
            ("forge.example.org", Ports::One(443)),
            ("10.0.0.0/8", Ports::One(443)),
            ("fd00::/8", Ports::All),
        ];
        let asked = policy(Base::Internet, &allow);
        let (mut made, mut applied, mut allowed, mut read) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut all = Vec::new();
        for _ in 0..ROUNDS {
            let start = Instant::now();
            let namespace = router.namespace().await.unwrap();
            made.push(start.elapsed());
            let start = Instant::now();
            namespace.apply(&asked).await.unwrap();
            applied.push(start.elapsed());
            let start = Instant::now();
            let open = [("9.9.9.10".parse().unwrap(), Ports::One(443), Duration::from_secs(60))];
            namespace.allow(&open).await.unwrap();
            allowed.push(start.elapsed());
            let start = Instant::now();
            namespace.refused().await.unwrap();
            read.push(start.elapsed());
            all.push(namespace);
        }
        drop((all, router));

        let mut pooled = config();
        pooled.pool = ROUNDS;
        let start = Instant::now();
        let router = Router::start(pooled).await.unwrap();
        while router.ready() < ROUNDS {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let filled = start.elapsed() / u32::try_from(ROUNDS).unwrap();
        // after the first, that is what namespaces are made ready for
        let (mut taken, mut opened) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            while router.ready() < ROUNDS {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            let start = Instant::now();
            let namespace = router.namespace_for(&asked).await.unwrap();
            let at_hand = start.elapsed();
            namespace.apply(&asked).await.unwrap();
            if round > 0 {
                taken.push(at_hand);
                opened.push(start.elapsed());
            }
        }
        router.close().await;
        let user = if host.root { "root" } else { "plain user" };
        println!(
            "{user}: start {started:?}; a namespace made at once p50 {:?}, ahead {filled:?} each, taken {:?}, \
             and with its policy {:?}; another policy applied {:?}, a name opened {:?}, refusals read {:?}",
            median(&mut made),
            median(&mut taken),
            median(&mut opened),
            median(&mut applied),
            median(&mut allowed),
            median(&mut read)
        );
    });
}

fn median(all: &mut [Duration]) -> Duration {
    all.sort();
    all[all.len() / 2]
}
