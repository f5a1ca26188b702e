//! The contract suite on the fake backend. This program is the shim, the agent and the owner as well.

use std::{num::NonZeroU8, path::PathBuf, process::ExitCode, sync::Arc};

use backend_contract::{Make, Subject, Tap};
use libtest_mimic::Arguments;
use vm::{BootSpec, Mebibytes, Memory};
use wire::message::Root;

const FAKE: Make = || Box::pin(async { fake() });

fn main() -> ExitCode {
    if let Some(code) = testkit::fake::dispatch().or_else(|| backend_contract::dispatch(&[("fake", FAKE)])) {
        return code;
    }
    libtest_mimic::run(&Arguments::from_args(), backend_contract::trials("fake", FAKE)).exit_code()
}

fn fake() -> Subject {
    Subject {
        backend: testkit::fake::backend(),
        spec: |_| BootSpec {
            kernel: PathBuf::new(),
            initramfs: PathBuf::new(),
            kernel_args: Vec::new(),
            cpus: NonZeroU8::MIN,
            memory: Memory::Own(Mebibytes(64)),
            drives: Vec::new(),
            tap: None,
        },
        root: Root::Hosted,
        ids: None,
        shell: "/bin/sh".into(),
        // it has no use for one
        tap: || {
            Box::pin(async {
                let fd = std::fs::File::open("/dev/null").expect("a descriptor");
                Tap { fd: Arc::new(fd.into()), needs: Box::new(()) }
            })
        },
    }
}
