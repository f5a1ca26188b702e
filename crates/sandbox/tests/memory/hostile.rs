//! Guests that break the protocol, die, or say nothing: the sandbox is gone, with the reason, for everyone.

use std::{sync::atomic::Ordering, time::Duration};

use sandbox::{Error, Gone};
use tokio_util::sync::CancellationToken;

use crate::guest::{Manner, Memory, engine, engine_with, hosted, patience, run, slots};

/// Runs `argv` beside a sleeping command; what became of the VM, after everything was told so.
async fn fate_of(argv: &[&str]) -> Gone {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let lease = engine.lease(hosted(), &CancellationToken::new()).await.unwrap();
    let sandbox = lease.sandbox();
    let mut bystander = sandbox.exec(run(&["sleep"])).await.unwrap();
    let started = sandbox.exec(run(argv)).await;
    let gone = sandbox.gone().wait_for(Option::is_some).await.unwrap().clone().unwrap();
    match started {
        Err(Error::Gone(why)) => assert_eq!(why, gone),
        other => panic!("{other:?}"),
    }
    assert_eq!(bystander.output.next().await, Err(gone.clone()));
    assert!(matches!(bystander.exit().await, Err(Error::Gone(why)) if why == gone));
    assert!(matches!(bystander.exit().await, Err(Error::Gone(why)) if why == gone));
    match sandbox.exec(run(&["sleep"])).await {
        Err(Error::Gone(why)) => assert_eq!(why, gone),
        other => panic!("{other:?}"),
    }
    // Torn down without being asked, and the lease's end is still its normal one.
    lease.destroy().await.unwrap();
    assert_eq!(backend.seen.running.load(Ordering::SeqCst), 0);
    assert!(slots(dir.path()).is_empty());
    engine.close().await;
    gone
}

#[tokio::test]
async fn a_frame_of_four_gigabytes() {
    let Gone::Protocol(text) = fate_of(&["raw", "giant"]).await else { panic!() };
    assert!(text.contains("4294967295 bytes"), "{text}");
}

#[tokio::test]
async fn garbage_answers_to_nobody_and_ends_of_nothing() {
    for argv in [&["raw", "garbage"][..], &["answer nobody"], &["end nothing"]] {
        let gone = fate_of(argv).await;
        assert!(matches!(gone, Gone::Protocol(_)), "{argv:?}: {gone}");
    }
}

#[tokio::test]
async fn a_guest_that_dies_says_how() {
    let Gone::Exited(exit) = fate_of(&["die"]).await else { panic!() };
    assert_eq!((exit.code, exit.stderr.as_str()), (Some(7), "the guest died"));
}

#[tokio::test]
async fn a_link_that_closes_while_the_vm_runs() {
    assert!(matches!(fate_of(&["hang up"]).await, Gone::LinkLost(_)));
}

#[tokio::test]
async fn a_guest_that_answers_no_ping() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Hung]);
    let mut patience = patience();
    patience.silence = Duration::from_millis(20);
    let engine = engine_with(dir.path(), &backend, patience).await;
    let lease = engine.lease(hosted(), &CancellationToken::new()).await.unwrap();
    let gone = lease.sandbox().gone().wait_for(Option::is_some).await.unwrap().clone();
    assert_eq!(gone, Some(Gone::Silent(patience.silence)));
    assert!(matches!(lease.sandbox().ping().await, Err(Error::Gone(Gone::Silent(_)))));
    engine.close().await;
    assert!(slots(dir.path()).is_empty());
}

/// What a lease says of a guest that does not come up, after nothing of it is left.
async fn stillbirth(manners: &[Manner]) -> (Error, usize) {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(manners);
    let mut patience = patience();
    match manners {
        [Manner::Mute] => patience.boot = Duration::from_millis(100),
        [Manner::Stuck] => patience.prepare = Duration::from_millis(100),
        _ => {}
    }
    let engine = engine_with(dir.path(), &backend, patience).await;
    let error = engine.lease(hosted(), &CancellationToken::new()).await.unwrap_err();
    assert!(slots(dir.path()).is_empty(), "an error comes after nothing is left");
    assert_eq!(backend.seen.running.load(Ordering::SeqCst), 0);
    (error, backend.seen.boots.load(Ordering::SeqCst))
}

#[tokio::test]
async fn a_guest_that_never_says_hello_is_booted_twice_and_then_shown() {
    let (error, boots) = stillbirth(&[Manner::Mute]).await;
    assert!(matches!(error, Error::NoHello { tries: 2, .. }), "{error}");
    assert!(error.to_string().ends_with("Kernel panic - not syncing"), "{error}");
    assert_eq!(boots, 2);
}

#[tokio::test]
async fn a_guest_that_is_stuck_in_its_preparation_is_booted_twice_and_then_shown() {
    let (error, boots) = stillbirth(&[Manner::Stuck]).await;
    assert!(matches!(error, Error::Boot { why: Gone::Silent(_), .. }), "{error}");
    assert_eq!(boots, 2);
}

#[tokio::test]
async fn a_second_boot_may_succeed_and_so_may_a_second_opening_of_the_link() {
    let stuck = &[Manner::Stuck, Manner::Good];
    for (manners, tries) in [(&[Manner::Mute, Manner::Good][..], 2), (stuck, 2), (&[Manner::LateDriver], 1)] {
        let dir = tempfile::tempdir().unwrap();
        let backend = Memory::new(manners);
        // Long enough for a good guest on a busy machine, since the same time holds for both.
        let mut patience = patience();
        patience.boot = Duration::from_secs(4);
        patience.prepare = Duration::from_secs(4);
        let engine = engine_with(dir.path(), &backend, patience).await;
        let lease = engine.lease(hosted(), &CancellationToken::new()).await.unwrap();
        assert_eq!(lease.sandbox().info().tries, tries, "{manners:?}");
        assert_eq!(slots(dir.path()).len(), 1);
        assert_eq!(backend.seen.running.load(Ordering::SeqCst), 1);
        lease.destroy().await.unwrap();
        engine.close().await;
    }
}

#[tokio::test]
async fn what_goes_wrong_before_the_guest_is_ready_is_told_with_its_console() {
    let (error, boots) = stillbirth(&[Manner::Rude(b"root login on console:")]).await;
    assert!(matches!(error, Error::Boot { why: Gone::Protocol(_), .. }), "{error}");
    assert_eq!(boots, 1);
    let (error, _) = stillbirth(&[Manner::Stillborn]).await;
    assert!(matches!(error, Error::Boot { why: Gone::Exited(_), .. }), "{error}");
    assert!(error.to_string().contains("exit code 7: the guest died; its console"), "{error}");
    let (error, _) = stillbirth(&[Manner::Old]).await;
    assert!(matches!(error, Error::Version { theirs: 0, ours: 1 }), "{error}");
    let (error, _) = stillbirth(&[Manner::Unwilling]).await;
    assert!(matches!(error, Error::Prepare { .. }), "{error}");
    assert!(error.to_string().contains("no disk[2J here"), "{error}");
}
