//! The released backend, made from what the command line says.

use std::{path::PathBuf, sync::Arc, time::Duration};

use backends::qemu::{Accel, Config, Kvm, PROGRAM, Qemu};

use crate::{
    cli::args::AccelArg,
    host,
    registry::{BackendRequest, Made},
};

/// How long the probe boot may take; under KVM it takes half a second.
const PROBE: Duration = Duration::from_secs(10);

/// Makes it: QEMU is found and asked, and KVM tried where that is wanted.
pub(crate) async fn make(request: BackendRequest) -> Result<Made, vm::Error> {
    let accel = match request.accel {
        AccelArg::Auto => Accel::Auto,
        AccelArg::Kvm => Accel::Kvm,
        AccelArg::Tcg => Accel::Tcg,
    };
    let qemu = Qemu::open(Config {
        // as `doctor` and `setup` look for it
        program: host::program(PROGRAM).unwrap_or_else(|| PathBuf::from(PROGRAM)),
        shim: request.shim,
        level: jail::Level::Available,
        accel,
        probe: request.boots.map(|boots| Kvm {
            kernel: boots.kernel,
            initramfs: boots.initramfs,
            limit: PROBE,
        }),
    })
    .await?;
    let note = qemu.note().map(str::to_owned);
    Ok(Made { backend: Arc::new(qemu), note })
}
