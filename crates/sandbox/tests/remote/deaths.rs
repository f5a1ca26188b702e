//! Clients and engines that die.

use std::{collections::HashSet, io::Cursor, time::Duration};

use sandbox::{Account, EngineError, Error, Gone, Stdin};
use tokio_util::sync::CancellationToken;

use crate::harness::{Process, collected, connect, kept_for, lease, nothing_left, sh, soon, spec, state};

pub(crate) async fn client() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let ours = lease(&engine).await;
    for _ in 0..5 {
        let mut victim = Process::victim(state.path(), false);
        assert_eq!(victim.line().len(), 32);
        victim.kill();
    }
    // what was leased to be kept waits for the next who asks
    let mut victim = Process::victim(state.path(), true);
    let id: vm::SlotId = victim.line().parse().unwrap();
    victim.kill();
    let kept = soon(async {
        loop {
            let kept = engine.kept().await.unwrap();
            if !kept.is_empty() {
                return kept;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    });
    assert_eq!(kept.await.iter().map(|kept| kept.id).collect::<Vec<_>>(), [id]);
    let adopted = engine.adopt(id).await.unwrap();
    collected(&adopted.sandbox(), "true").await;
    adopted.destroy().await.unwrap();
    collected(&ours.sandbox(), "true").await;
    ours.destroy().await.unwrap();
    nothing_left(state.path()).await;
}

pub(crate) async fn engine() {
    let state = state();
    let mut process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let mut running = sandbox.exec(sh("echo first; sleep 1000")).await.unwrap();
    assert_eq!(running.output.next().await.unwrap().unwrap().bytes, b"first\n");
    let mut typing = sh("cat >/dev/null");
    typing.stdin = Stdin::Pipe;
    let typing = sandbox.exec(typing).await.unwrap();
    let copier = sandbox.clone();
    let copy = tokio::spawn(async move {
        // a header that is none, and then more than is ever read
        copier.copy_in("/work/x", Account::ROOT, tokio::io::repeat(b'x')).await
    });
    process.kill();
    assert_eq!(soon(running.output.next()).await, Err(Gone::EngineLost));
    assert!(matches!(soon(running.exit()).await, Err(Error::Gone(Gone::EngineLost))));
    assert!(matches!(soon(typing.collect(10)).await, Err(Error::Gone(Gone::EngineLost))));
    let copied = soon(copy).await.unwrap();
    assert!(matches!(copied, Err(Error::Gone(Gone::EngineLost) | Error::Guest { .. })), "{copied:?}");
    let why = soon(sandbox.gone().wait_for(Option::is_some)).await.unwrap().clone();
    assert_eq!(why, Some(Gone::EngineLost));
    assert!(matches!(soon(sandbox.exec(sh("true"))).await, Err(Error::Gone(Gone::EngineLost))));
    let again = soon(sandbox.copy_in("/work/x", Account::ROOT, Cursor::new(vec![]))).await;
    assert!(matches!(again, Err(Error::Gone(Gone::EngineLost))), "{again:?}");
    assert!(matches!(soon(lease.destroy()).await, Err(Error::Engine(EngineError::Lost))));
    let refused = soon(engine.lease(spec(), &CancellationToken::new())).await;
    assert!(matches!(refused, Err(Error::Engine(EngineError::Absent { .. }))), "{refused:?}");

    // the next one takes the dead one's place, and this client goes on with it
    let _next = Process::pooling(state.path(), 1);
    nothing_left(state.path()).await;
    // and hears what it says of itself
    engine.keep_ready(&spec(), 1).await.unwrap();
    soon(async {
        while engine.ready() == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let lease = crate::harness::lease(&engine).await;
    collected(&lease.sandbox(), "true").await;
    lease.destroy().await.unwrap();
    soon(engine.close()).await;
}

pub(crate) async fn stopped() {
    let state = state();
    let mut process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let running = sandbox.exec(sh("sleep 1000")).await.unwrap();
    let keep = engine.lease(kept_for(Duration::from_secs(3600)), &CancellationToken::new()).await.unwrap();
    let kept = keep.sandbox();
    collected(&kept, "echo kept >kept").await;
    keep.leave().await.unwrap();
    // and one whose lease is still held, as a controller holds it
    let held = engine.lease(kept_for(Duration::from_secs(3600)), &CancellationToken::new()).await.unwrap();
    collected(&held.sandbox(), "echo held >held").await;
    process.terminate();
    assert_eq!(process.line(), "stopped");
    let ended = soon(running.collect(10)).await;
    assert!(matches!(ended, Err(Error::Gone(Gone::Destroyed))), "{ended:?}");
    let why = soon(kept.gone().wait_for(Option::is_some)).await.unwrap().clone();
    assert_eq!(why, Some(Gone::Left));
    let why = soon(held.sandbox().gone().wait_for(Option::is_some)).await.unwrap().clone();
    assert_eq!(why, Some(Gone::Left));
    let held_id = held.sandbox().id();
    soon(held.destroy()).await.unwrap();
    soon(lease.destroy()).await.unwrap();

    let mut next = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let ids: HashSet<_> = engine.kept().await.unwrap().iter().map(|kept| kept.id).collect();
    assert_eq!(ids, HashSet::from([kept.id(), held_id]));
    let lease = engine.adopt(held_id).await.unwrap();
    assert_eq!(collected(&lease.sandbox(), "cat held").await.stdout, b"held\n");
    lease.destroy().await.unwrap();
    let again = engine.attach(kept.id()).await.unwrap();
    assert_eq!(collected(&again, "cat kept").await.stdout, b"kept\n");
    engine.end(kept.id()).await.unwrap();
    nothing_left(state.path()).await;
    next.terminate();
}
