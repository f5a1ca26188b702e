//! The helper of networks is killed, and its engine goes on; and a pool that learns late that its VMs are to have a
//! network.

use std::{
    path::Path,
    process::ExitCode,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::{Signal, getpid, kill_process};
use sandbox::{Bind, Engine, Error, Lease, LeaseSpec, Origin, Policy, PoolLimits};
use tokio_util::sync::CancellationToken;
use vm::Mebibytes;
use vm_tests::{host, program::On};

use crate::{
    flood,
    network::{self, tries},
    pool::{run, said, spec},
};

/// First argument of the process that has the engine.
const HELPLESS: &str = "helpless-engine";
/// More than any of it takes, on a busy host.
const LIMIT: Duration = Duration::from_secs(180);

pub(crate) fn trials() -> Vec<Trial> {
    vec![network::on_a_bed("a_vm_whose_network_is_gone_says_so_and_the_next_has_one", |_: On| {
        flood::in_a_bed(HELPLESS);
    })]
}

/// Becomes the engine, where this process was started as that.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    if args.next()? != HELPLESS {
        return None;
    }
    let dir = args.next()?;
    run(async move { helpless(Path::new(&dir)).await });
    Some(ExitCode::SUCCESS)
}

async fn lease(engine: &Engine, network: Policy) -> Lease {
    let spec = spec("one");
    let spec = LeaseSpec { bind: Bind { network, ..spec.bind }, ..spec };
    engine.lease(spec, &CancellationToken::new()).await.expect("a lease")
}

/// One that stood by.
async fn pooled(engine: &Engine, network: Policy) -> Lease {
    let begun = Instant::now();
    loop {
        let lease = lease(engine, network.clone()).await;
        if lease.sandbox().info().origin == Origin::Pooled {
            return lease;
        }
        lease.destroy().await.expect("nothing is left");
        assert!(begun.elapsed() < LIMIT, "no VM stands by");
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
}

async fn stands_by(engine: &Engine) {
    let begun = Instant::now();
    while engine.ready() == 0 {
        assert!(begun.elapsed() < LIMIT, "no VM stands by");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

async fn helpless(dir: &Path) {
    let engine = flood::engine(dir, PoolLimits { most: 1, memory: Mebibytes(4096) }).await;
    engine.keep_ready(&spec("any"), 1).await.expect("a template");
    let script = tries(&[("web", "93.184.216.34")]);
    let web = async |lease: &Lease| said(&lease.sandbox(), &format!("bash <<'END'\n{script}\nEND")).await;
    let without = pooled(&engine, Policy::none()).await;
    assert_eq!(web(&without).await, "web no");
    // one stands by without a network: it is not spent on a lease that needs one
    stands_by(&engine).await;
    let forked = lease(&engine, Policy::internet()).await;
    assert_eq!(forked.sandbox().info().origin, Origin::Forked);
    assert_eq!(web(&forked).await, "web yes");
    // and makes room for one that has it
    let old = pooled(&engine, Policy::internet()).await;
    assert_eq!(web(&old).await, "web yes");
    stands_by(&engine).await;

    let [helper] = host::children(getpid(), ampoule::network::HELPER)[..] else { panic!("one helper") };
    kill_process(helper, Signal::KILL).expect("it runs");
    let begun = Instant::now();
    while !matches!(old.sandbox().refused().await, Err(Error::Network(net::Error::Gone))) {
        assert!(begun.elapsed() < LIMIT, "its network is not gone");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // what stood by has no network either
    let new = lease(&engine, Policy::internet()).await;
    assert_eq!(web(&new).await, "web yes");
    assert_eq!(web(&old).await, "web no");
    assert!(new.sandbox().refused().await.expect("its network").destinations.is_empty());
    let again = pooled(&engine, Policy::internet()).await;
    assert_eq!(web(&again).await, "web yes");
    for lease in [without, forked, old, new, again] {
        lease.destroy().await.expect("nothing is left");
    }
    engine.close().await;
}
