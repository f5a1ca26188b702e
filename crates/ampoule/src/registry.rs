//! The backends by name, and what each needs to be made.
//!
//! Purpose: the binary is the only importer of `backends`; a test harness is the same program with one
//! backend more. Owner: `main` makes one registry and the commands look up in it.

use std::{collections::BTreeMap, ffi::OsString, future::Future, path::PathBuf, pin::Pin, sync::Arc};

use vm::Backend;

use crate::{cli::args::AccelArg, exec::machine::shim};

/// What a backend may need to be made.
#[derive(Clone, Debug)]
pub struct BackendRequest {
    /// How VMs should run code.
    pub accel: AccelArg,
    /// How the shim is called: a program and its leading arguments.
    pub shim: Vec<OsString>,
    /// What will boot, if an image is there.
    pub boots: Option<Boots>,
}

/// What will boot.
#[derive(Clone, Debug)]
pub struct Boots {
    /// The kernel.
    pub kernel: PathBuf,
    /// The initramfs with the agent.
    pub initramfs: PathBuf,
}

/// A backend, and what the user should be told about it.
pub struct Made {
    /// It.
    pub backend: Arc<dyn Backend>,
    /// Why it is not as good as it could be.
    pub note: Option<String>,
}

/// A backend on its way.
pub type Making<'a> = Pin<Box<dyn Future<Output = Result<Made, vm::Error>> + Send + 'a>>;

/// Makes a backend, or says what the host lacks.
pub type MakeBackend = Box<dyn Fn(BackendRequest) -> Making<'static> + Send + Sync>;

/// Whether a backend boots a root image.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Needs {
    /// Kernel, initramfs and root of an image.
    Image,
    /// Nothing: commands run where the agent runs (tests).
    Nothing,
}

struct Entry {
    needs: Needs,
    make: MakeBackend,
}

/// The backends by name.
#[derive(Default)]
pub struct Registry {
    entries: BTreeMap<&'static str, Entry>,
}

impl Registry {
    /// An empty registry.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What the released program has.
    #[must_use]
    pub fn standard() -> Self {
        Self::new().with("qemu", Needs::Image, |request| Box::pin(crate::qemu::make(request)))
    }

    /// One backend more; a later one of the same name replaces it.
    #[must_use]
    pub fn with(
        mut self,
        name: &'static str,
        needs: Needs,
        make: impl Fn(BackendRequest) -> Making<'static> + Send + Sync + 'static,
    ) -> Self {
        self.entries.insert(name, Entry { needs, make: Box::new(make) });
        self
    }

    /// The names, sorted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.entries.keys().copied()
    }

    /// Whether the backend of this name boots an image.
    pub fn needs(&self, name: &str) -> Result<Needs, RegistryError> {
        self.entry(name).map(|e| e.needs)
    }

    /// Makes the backend of this name.
    pub async fn make(&self, name: &str, request: BackendRequest) -> Result<Made, RegistryError> {
        let entry = self.entry(name)?;
        (entry.make)(request).await.map_err(RegistryError::Make)
    }

    /// Every backend that can be made here, for those who only ask what fits it: no KVM is tried for that.
    pub async fn all(&self) -> Vec<Arc<dyn Backend>> {
        let mut made = Vec::new();
        for name in self.names() {
            let request = BackendRequest { accel: AccelArg::Tcg, shim: shim(), boots: None };
            match self.make(name, request).await {
                Ok(one) => made.push(one.backend),
                Err(error) => tracing::debug!(name, error = &error as &dyn std::error::Error, "is not asked"),
            }
        }
        made
    }

    fn entry(&self, name: &str) -> Result<&Entry, RegistryError> {
        self.entries.get(name).ok_or_else(|| RegistryError::Unknown {
            name: name.to_owned(),
            known: self.names().collect::<Vec<_>>().join(", "),
        })
    }
}

/// Why there is no such backend.
#[derive(Debug, thiserror::Error)]
pub enum RegistryError {
    /// No backend has that name.
    #[error("there is no backend `{name}`; there is: {known}")]
    Unknown {
        /// The name as given.
        name: String,
        /// All names.
        known: String,
    },
    /// It could not be made on this host.
    #[error("the VMs' backend cannot be used")]
    Make(#[source] vm::Error),
}
