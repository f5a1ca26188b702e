//! How many questions a second one VM's resolver answers; run by hand, in release.

use std::time::Instant;

use super::*;

const ROUNDS: usize = 100;
const AT_ONCE: usize = 50;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "figures: cargo test -p net --release -- --ignored --nocapture figures"]
async fn figures() {
    let server =
        Server::start(|query| vec![Act::Send(reply(query, 0, &[address(&query.name, 600, "9.9.9.9")], &[]))])
            .await;
    let upstreams = quick(vec![server.address]);
    let limits = NameLimits { questions: 10_000_000, upstream: 10_000_000, at_once: 1000 };
    let policy = "allow=*.example.org:443".parse().unwrap();
    let resolver = Resolver::new(policy, upstreams, limits, recording(&Arc::default()));
    let questions: Vec<_> =
        (0..ROUNDS * AT_ONCE).map(|number| ask(&format!("{number}.example.org"), A)).collect();
    for (what, times) in [("over an upstream on the same host", 1), ("out of the cache", 20)] {
        let start = Instant::now();
        let mut count = 0_u32;
        for _ in 0..times {
            // the last ones are in the cache
            let asked = if times == 1 { &questions[..] } else { &questions[questions.len() - 1000..] };
            for some in asked.chunks(AT_ONCE) {
                let answers = some.iter().map(|question| resolver.answer(question));
                for answer in futures_util::future::join_all(answers).await {
                    assert_eq!(heard(&answer.unwrap()).code, 0);
                    count += 1;
                }
            }
        }
        let rate = f64::from(count) / start.elapsed().as_secs_f64();
        eprintln!("{what}: {rate:.0} questions a second");
    }
    assert_eq!(server.count(), ROUNDS * AT_ONCE);
}
