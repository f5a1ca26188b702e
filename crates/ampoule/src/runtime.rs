//! What the commands that make VMs run on.

use std::io;

use tokio::runtime::{Builder, Runtime};

/// Two threads: one serves the links while the other masks and writes rows. The VMs need the other processors.
pub(crate) fn new() -> io::Result<Runtime> {
    Builder::new_multi_thread().worker_threads(2).enable_all().build()
}
