//! Leases, and what becomes of VMs that are kept.

use std::time::{Duration, Instant, SystemTime};

use sandbox::{Error, Gone, Holder, Origin};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use vm::OwnerLoss;

use crate::harness::{
    LIMIT, Process, collected, connect, kept_for, lease, left, nothing_left, sh, soon, spec, state,
};

const HOUR: Duration = Duration::from_secs(3600);

pub(crate) async fn leased() {
    let state = state();
    let _process = Process::pooling(state.path(), 2);
    let engine = connect(state.path()).await;
    let first = lease(&engine).await;
    assert_eq!(first.sandbox().info().origin, Origin::Forked);
    assert!(!first.sandbox().info().agent.is_empty());
    engine.keep_ready(&spec(), 2).await.unwrap();
    let until = Instant::now() + LIMIT;
    while engine.ready() < 2 {
        assert!(Instant::now() < until, "nothing stands by");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let second = lease(&engine).await;
    assert_eq!(second.sandbox().info().origin, Origin::Pooled);
    assert_ne!(first.sandbox().id(), second.sandbox().id());
    // another client shares the pool
    let other = connect(state.path()).await;
    let third = lease(&other).await;
    assert_eq!(third.sandbox().info().origin, Origin::Pooled);
    let gone = second.sandbox().gone();
    second.destroy().await.unwrap();
    assert_eq!(*gone.borrow(), Some(Gone::Destroyed));
    // the end of the one client's leases is not that of the other's
    engine.close().await;
    assert_eq!(*first.sandbox().gone().borrow(), Some(Gone::Destroyed));
    assert!(matches!(engine.lease(spec(), &CancellationToken::new()).await, Err(Error::Closed)));
    collected(&third.sandbox(), "true").await;
    other.close().await;
}

pub(crate) async fn many() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = std::sync::Arc::new(connect(state.path()).await);
    let mut all = JoinSet::new();
    for n in 0..100 {
        let engine = std::sync::Arc::clone(&engine);
        all.spawn(async move {
            let lease = lease(&engine).await;
            let out = collected(&lease.sandbox(), &format!("echo {n}")).await;
            assert_eq!(out.stdout, format!("{n}\n").as_bytes());
            lease.destroy().await.unwrap();
        });
    }
    while let Some(one) = all.join_next().await {
        one.unwrap();
    }
    engine.close().await;
    assert_eq!(left(state.path()), Vec::<String>::new());
}

pub(crate) async fn cancelled() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    // so that the next are only forks
    lease(&engine).await.destroy().await.unwrap();
    for round in 0..40_u64 {
        let cancel = CancellationToken::new();
        let canceller = cancel.clone();
        let late = tokio::spawn(async move {
            tokio::time::sleep(Duration::from_millis(round)).await;
            canceller.cancel();
        });
        match engine.lease(spec(), &cancel).await {
            Ok(lease) => lease.destroy().await.unwrap(),
            Err(Error::Cancelled) => {}
            Err(error) => panic!("{error}"),
        }
        assert_eq!(left(state.path()), Vec::<String>::new(), "round {round}");
        late.await.unwrap();
        // and one whose future is dropped, which a close waits for: the engine may hear of it after that
        let other = connect(state.path()).await;
        let never = CancellationToken::new();
        let dropped = tokio::time::timeout(Duration::from_millis(round), other.lease(spec(), &never));
        drop(dropped.await);
        other.close().await;
        assert_eq!(left(state.path()), Vec::<String>::new(), "round {round}, dropped");
    }
    engine.close().await;
    nothing_left(state.path()).await;
}

pub(crate) async fn snapshots() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let key = engine.template(&spec()).await.unwrap().unwrap();
    let all = engine.snapshots().await.unwrap();
    assert_eq!(all.iter().map(|one| one.key.as_str()).collect::<Vec<_>>(), [key.as_str()]);
    assert_eq!(
        engine.collect_snapshots(sandbox::SnapshotGc::default()).await.unwrap().removed,
        Vec::<String>::new()
    );
    engine.remove_snapshot(key).await.unwrap();
    assert_eq!(engine.snapshots().await.unwrap(), []);
    assert_eq!(*engine.waiting().borrow(), None);
}

pub(crate) async fn kept() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let first = connect(state.path()).await;
    let lease = first.lease(kept_for(HOUR), &CancellationToken::new()).await.unwrap();
    let id = lease.sandbox().id();
    let running = lease.sandbox().exec(sh("echo begun; sleep 1; echo 1 >done; sleep 1000")).await.unwrap();
    let lease_sandbox = lease.sandbox();
    lease.leave().await.unwrap();
    // what is under way goes on, for whoever holds it
    collected(&lease_sandbox, "true").await;
    drop(running);
    first.close().await;

    let second = connect(state.path()).await;
    let kept = second.kept().await.unwrap();
    assert_eq!(kept.iter().map(|one| (one.id, one.holder)).collect::<Vec<_>>(), [(id, Holder::ThisEngine)]);
    let (one, two) = (second.attach(id).await.unwrap(), second.attach(id).await.unwrap());
    collected(&one, "echo 2 >two").await;
    drop(one);
    assert_eq!(collected(&two, "cat two").await.stdout, b"2\n");
    let later = SystemTime::now() + 2 * HOUR;
    second.keep_until(id, later).await.unwrap();
    assert!(second.kept().await.unwrap()[0].until > SystemTime::now() + HOUR);
    let lease = second.adopt(id).await.unwrap();
    assert!(second.kept().await.unwrap().is_empty());
    assert!(matches!(second.adopt(id).await, Err(Error::Owned { .. })));
    lease.leave().await.unwrap();
    second.end(id).await.unwrap();
    let mut gone = two.gone();
    let why = soon(gone.wait_for(Option::is_some)).await.unwrap().clone();
    assert_eq!(why, Some(Gone::Destroyed));
    assert!(matches!(soon(two.exec(sh("true"))).await, Err(Error::Gone(_))));
    assert!(matches!(second.attach(id).await, Err(Error::NotKept { .. })));
    second.close().await;
    nothing_left(state.path()).await;

    // a time that is up
    let third = connect(state.path()).await;
    let lease = third.lease(kept_for(Duration::from_secs(1)), &CancellationToken::new()).await.unwrap();
    let sandbox = lease.sandbox();
    lease.leave().await.unwrap();
    let why = soon(sandbox.gone().wait_for(Option::is_some)).await.unwrap().clone();
    assert_eq!(why, Some(Gone::Expired));
    let kill = third.lease(spec(), &CancellationToken::new()).await.unwrap();
    assert_eq!(spec().on_owner_loss, OwnerLoss::Kill);
    kill.destroy().await.unwrap();
}

pub(crate) async fn idle() {
    let state = state();
    let idle = Duration::from_millis(700);
    let mut process = Process::engine(state.path(), Some(idle));
    let engine = connect(state.path()).await;
    let held = engine.lease(kept_for(HOUR), &CancellationToken::new()).await.unwrap();
    tokio::time::sleep(2 * idle).await;
    collected(&held.sandbox(), "true").await;
    let id = held.sandbox().id();
    held.leave().await.unwrap();
    engine.close().await;
    drop(engine);
    // one that is kept needs it, with nobody there
    tokio::time::sleep(2 * idle).await;
    let engine = connect(state.path()).await;
    engine.end(id).await.unwrap();
    engine.close().await;
    drop(engine);
    let end = tokio::task::spawn_blocking(move || (process.line(), process.child.wait().unwrap()));
    let (line, status) = soon(end).await.unwrap();
    assert!(line == "idle" && status.success(), "{line} {status}");
    nothing_left(state.path()).await;
    assert!(!crate::harness::socket(state.path()).exists());
}
