//! `ampoule` with the fake backend registered as well: what the tests run. `fake-forks` is the same with snapshots,
//! and of `fake-third` the third VM cannot be made.

use std::{
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use ampoule::registry::{Made, Needs, Registry};
use async_trait::async_trait;
use vm::{Backend, BootSpec, Capabilities, Machine, Slot};

fn main() -> ExitCode {
    if let Some(code) = testkit::fake::dispatch() {
        return code;
    }
    let registry = Registry::standard().with("fake", Needs::Nothing, |_| {
        Box::pin(async { Ok(Made { backend: testkit::fake::backend(), note: None }) })
    });
    let registry = registry.with("fake-forks", Needs::Nothing, |_| {
        Box::pin(async { Ok(Made { backend: testkit::fake::forking(), note: None }) })
    });
    let registry = registry.with("fake-third", Needs::Nothing, |_| {
        let backend = Third { fake: testkit::fake::backend(), boots: AtomicU32::new(0) };
        Box::pin(async { Ok(Made { backend: Arc::new(backend), note: None }) })
    });
    ampoule::cli::main(registry)
}

/// The fake backend, whose third VM cannot be made.
struct Third {
    fake: Arc<dyn Backend>,
    boots: AtomicU32,
}

#[async_trait]
impl Backend for Third {
    fn name(&self) -> &'static str {
        "fake-third"
    }

    fn capabilities(&self) -> &Capabilities {
        self.fake.capabilities()
    }

    async fn boot(&self, spec: &BootSpec, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        if self.boots.fetch_add(1, Ordering::Relaxed) == 2 {
            return Err(vm::Error::Control("does not want a third".to_owned()));
        }
        self.fake.boot(spec, slot).await
    }

    async fn adopt(&self, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        self.fake.adopt(slot).await
    }
}
