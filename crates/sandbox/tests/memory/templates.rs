//! Templates: what is done once, and what each fork is asked.

use std::{os::unix::fs::FileExt, path::Path, sync::atomic::Ordering, time::Duration};

use sandbox::{Error, LeaseSpec, Origin, Start};
use wire::message::{Body, Hooks};

use crate::{
    branches::{branching, disk, token, with_disk},
    guest::{Manner, engine_of, patience, slots},
};

/// One that is a fork, of files that are there.
fn forked(dir: &Path) -> LeaseSpec {
    let [kernel, initramfs] = ["kernel", "initramfs"].map(|name| {
        let path = dir.join(name);
        std::fs::write(&path, name).unwrap();
        path
    });
    LeaseSpec { kernel, initramfs, start: Start::Fork, ..with_disk(dir) }
}

#[tokio::test]
async fn a_template_is_made_ready_once_and_each_fork_gets_its_disk_and_a_name() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, backend) = branching(&[Manner::Good], Duration::ZERO);
    let engine = engine_of(dir.path(), backend, patience()).await;
    let spec = forked(dir.path());
    *memory.seen.written.lock().unwrap() = Some("of the template");
    for number in 1..3 {
        let lease = engine.lease(spec.clone(), &token()).await.unwrap();
        let info = lease.sandbox().info().clone();
        assert_eq!((info.origin, info.kernel.as_str()), (Origin::Forked, "6.12"));
        let asked = std::mem::take(&mut *memory.seen.asked.lock().unwrap());
        let [Body::Bind(bind)] = asked.as_slice() else { panic!("{asked:?}") };
        assert_eq!((bind.hostname.as_str(), bind.hooks), ("guest", Hooks::Now));
        let of_fork = disk(memory.seen.specs.lock().unwrap().last().unwrap());
        assert_eq!(std::fs::metadata(&of_fork).unwrap().len(), 16 << 20);
        let mut text = [0; 15];
        let disk = std::fs::File::options().read(true).write(true).open(of_fork).unwrap();
        disk.read_exact_at(&mut text, 0).unwrap();
        assert_eq!(&text, b"of the template");
        // and another fork has none of it
        disk.write_all_at(b"of one fork", 0).unwrap();
        lease.destroy().await.unwrap();
        assert_eq!(memory.seen.boots.load(Ordering::SeqCst), 1 + number);
    }
    {
        let prepared = memory.seen.prepared.lock().unwrap();
        let [prepare] = prepared.as_slice() else { panic!("{prepared:?}") };
        assert_eq!((prepare.hostname.as_str(), prepare.hooks), ("vm", Hooks::Later));
    }
    let larger = LeaseSpec { scratch_bytes: 32 << 20, ..spec };
    engine.lease(larger, &token()).await.unwrap().destroy().await.unwrap();
    assert_eq!(memory.seen.prepared.lock().unwrap().len(), 2, "another disk is another template");
    assert_eq!(engine.snapshots().await.unwrap().len(), 2);
    engine.close().await;
    assert!(slots(dir.path()).is_empty());
}

#[tokio::test]
async fn a_fork_that_answers_why_it_cannot_be_is_an_error_and_its_template_stays() {
    let dir = tempfile::tempdir().unwrap();
    let (memory, backend) = branching(&[Manner::Good, Manner::Unwilling, Manner::Good], Duration::ZERO);
    let engine = engine_of(dir.path(), backend, patience()).await;
    let spec = forked(dir.path());
    let error = engine.lease(spec.clone(), &token()).await.unwrap_err();
    assert!(matches!(&error, Error::Prepare { message, .. } if message.contains("the hook /h")), "{error}");
    assert_eq!(memory.seen.boots.load(Ordering::SeqCst), 2, "the template and the fork");
    let lease = engine.lease(spec, &token()).await.unwrap();
    assert_eq!(lease.sandbox().info().origin, Origin::Forked);
    lease.destroy().await.unwrap();
    assert_eq!(memory.seen.prepared.lock().unwrap().len(), 1);
    engine.close().await;
    assert!(slots(dir.path()).is_empty());
}
