//! Leases: what they are made of, and that nothing is left of them, however they end.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use sandbox::{Engine, EngineConfig, Error, Root};
use tokio_util::sync::CancellationToken;
use vm::{Backend, DriveId, DriveMode};

use crate::guest::{Manner, Memory, engine, hosted, patience, slots, until};

fn token() -> CancellationToken {
    CancellationToken::new()
}

#[tokio::test]
async fn a_guest_gets_a_name_a_clock_randomness_and_directories() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let one = engine.lease(hosted(), &token()).await.unwrap();
    let two = engine.lease(hosted(), &token()).await.unwrap();
    assert_ne!(one.sandbox().id(), two.sandbox().id());
    assert_eq!(one.sandbox().info().kernel, "6.12");
    let prepared = backend.seen.prepared.lock().unwrap().clone();
    let [first, second] = prepared.as_slice() else { panic!("{prepared:?}") };
    assert_eq!(first.hostname, "guest");
    assert_eq!(first.directories, hosted().bind.directories);
    assert_eq!(first.root, wire::message::Root::Hosted);
    assert!(first.machine_id.len() == 32 && first.machine_id.bytes().all(|b| b.is_ascii_hexdigit()));
    assert_ne!(first.machine_id, second.machine_id);
    assert_eq!(first.entropy.0.len(), 256);
    assert_ne!(first.entropy, second.entropy);
    let now = u64::try_from(jiff::Timestamp::now().as_nanosecond()).unwrap();
    assert!(first.clock_ns <= now && now - first.clock_ns < 3_600_000_000_000);
    one.destroy().await.unwrap();
    two.destroy().await.unwrap();
}

#[tokio::test]
async fn a_vm_gets_its_root_read_only_and_a_scratch_disk_that_goes_with_it() {
    let dir = tempfile::tempdir().unwrap();
    let image = dir.path().join("root.img");
    let mut bytes = vec![0; 4096];
    bytes[..4].copy_from_slice(b"hsqs");
    std::fs::write(&image, bytes).unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let mut spec = hosted();
    spec.root = Root::Image(image.clone());
    spec.scratch_bytes = 64 << 20;
    let lease = engine.lease(spec.clone(), &token()).await.unwrap();
    let boot = backend.seen.specs.lock().unwrap()[0].clone();
    let [root, scratch] = boot.drives.as_slice() else { panic!("{:?}", boot.drives) };
    assert_eq!((root.id, root.mode, &root.image), (DriveId::Root, DriveMode::ReadOnly, &image));
    assert_eq!((scratch.id, scratch.mode), (DriveId::Scratch, DriveMode::ReadWrite));
    assert_eq!(std::fs::metadata(&scratch.image).unwrap().len(), 64 << 20);
    let prepared = backend.seen.prepared.lock().unwrap()[0].root.clone();
    let wire::message::Root::Disks { fs: wire::message::RootFs::Squashfs, .. } = prepared else {
        panic!("{prepared:?}")
    };
    lease.destroy().await.unwrap();
    assert!(!scratch.image.exists());

    spec.root = Root::Image(dir.path().join("slots"));
    assert!(matches!(engine.lease(spec, &token()).await, Err(Error::State { .. })));
    assert!(slots(dir.path()).is_empty());
}

#[tokio::test]
async fn a_lease_whose_future_is_dropped_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Mute]);
    let engine = engine(dir.path(), &backend).await;
    {
        let token = token();
        let lease = engine.lease(hosted(), &token);
        tokio::select! {
            _ = lease => unreachable!("the guest never says Hello"),
            () = until(|| backend.seen.running.load(Ordering::SeqCst) == 1) => {}
        }
    }
    engine.close().await;
    assert_eq!(backend.seen.running.load(Ordering::SeqCst), 0);
    assert!(slots(dir.path()).is_empty());
    assert!(matches!(engine.lease(hosted(), &token()).await, Err(Error::Closed)));
}

#[tokio::test]
async fn a_lease_that_is_cancelled_answers_after_nothing_is_left() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Mute]);
    let engine = engine(dir.path(), &backend).await;
    let cancel = token();
    let (lease, ()) = tokio::join!(engine.lease(hosted(), &cancel), async {
        until(|| backend.seen.running.load(Ordering::SeqCst) == 1).await;
        cancel.cancel();
    });
    assert!(matches!(lease, Err(Error::Cancelled)));
    assert_eq!(backend.seen.running.load(Ordering::SeqCst), 0);
    assert!(slots(dir.path()).is_empty());
    assert!(matches!(engine.lease(hosted(), &cancel).await, Err(Error::Cancelled)));
    assert!(slots(dir.path()).is_empty());
}

#[tokio::test]
async fn dropped_and_held_leases_end_with_the_engine() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let held = engine.lease(hosted(), &token()).await.unwrap();
    drop(engine.lease(hosted(), &token()).await.unwrap());
    engine.close().await;
    assert_eq!(backend.seen.running.load(Ordering::SeqCst), 0);
    assert!(slots(dir.path()).is_empty());
    held.destroy().await.unwrap();
}

#[tokio::test]
async fn two_engines_share_a_directory_and_leave_each_other_alone() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let one = engine(dir.path(), &backend).await;
    let lease = one.lease(hosted(), &token()).await.unwrap();
    let (two, swept) = open(dir.path(), &backend).await;
    assert!(swept.removed.is_empty() && swept.failed.is_empty(), "{swept:?}");
    let other = two.lease(hosted(), &token()).await.unwrap();
    assert_eq!(slots(dir.path()).len(), 2);
    two.close().await;
    drop(other);
    lease.sandbox().ping().await.unwrap();
    lease.destroy().await.unwrap();
    assert!(slots(dir.path()).is_empty());
}

async fn open(dir: &Path, backend: &Arc<Memory>) -> (Engine, sandbox::Swept) {
    let backend: Arc<dyn Backend> = Arc::<Memory>::clone(backend);
    Engine::open(EngineConfig {
        state_dir: dir.to_owned(),
        backend,
        patience: patience(),
        pool: sandbox::PoolLimits::NONE,
        reserve: sandbox::Reserve::default(),
        network: sandbox::Networking::Lacking("it is a test".to_owned()),
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn opening_and_leasing_at_once_loses_no_slot() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    for _ in 0..10 {
        let token = token();
        let (leases, others) = tokio::join!(
            async {
                let (a, b, c) = tokio::join!(
                    engine.lease(hosted(), &token),
                    engine.lease(hosted(), &token),
                    engine.lease(hosted(), &token)
                );
                [a.unwrap(), b.unwrap(), c.unwrap()]
            },
            async { tokio::join!(open(dir.path(), &backend), open(dir.path(), &backend)) }
        );
        for (_, swept) in [others.0, others.1] {
            // one whose lock file was made and not locked yet may go: its maker begins anew
            let begun = |name: &String| name.starts_with(".new-");
            assert!(swept.removed.iter().all(begun) && swept.failed.is_empty(), "{swept:?}");
        }
        for lease in leases {
            lease.sandbox().ping().await.unwrap();
            lease.destroy().await.unwrap();
        }
    }
    assert!(slots(dir.path()).is_empty());
}
