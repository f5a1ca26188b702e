//! An engine that runs nothing, for those who only tidy up in a state directory.

use std::{path::Path, sync::Arc};

use async_trait::async_trait;
use sandbox::{Engine, EngineConfig, Patience, PoolLimits, Swept};
use vm::{Backend, BootSpec, Boundary, Capabilities, Machine, Slot};

/// Opens it, which removes what dead processes left.
pub(crate) async fn engine(state_dir: &Path) -> sandbox::Result<(Engine, Swept)> {
    let config = EngineConfig {
        state_dir: state_dir.to_owned(),
        backend: Arc::new(NoBackend(Capabilities {
            version: String::new(),
            accelerator: String::new(),
            boundary: Boundary::None,
            lacking: Vec::new(),
            no_card: None,
            adopt: false,
        })),
        patience: Patience::default(),
        pool: PoolLimits::NONE,
        reserve: sandbox::Reserve::default(),
        network: sandbox::Networking::Lacking("this command runs no VMs".to_owned()),
    };
    Engine::open(config).await
}

struct NoBackend(Capabilities);

#[async_trait]
impl Backend for NoBackend {
    fn name(&self) -> &'static str {
        "none"
    }

    fn capabilities(&self) -> &Capabilities {
        &self.0
    }

    async fn boot(&self, _: &BootSpec, _: &Slot) -> vm::Result<Box<dyn Machine>> {
        Err(vm::Error::Unsupported("this command runs no VMs".to_owned()))
    }

    async fn adopt(&self, slot: &Slot) -> vm::Result<Box<dyn Machine>> {
        Err(vm::Error::Gone(slot.id))
    }
}
