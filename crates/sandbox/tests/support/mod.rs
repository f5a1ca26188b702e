//! What the test programs of this crate lease on the fake backend, and what they run in it.

use std::{num::NonZeroU8, path::PathBuf};

use sandbox::{Account, Bind, Directory, ExecRequest, LeaseSpec, OutputMode, Root, Start, Stdin, WhenFull};
use vm::{Mebibytes, OwnerLoss};

/// A small guest with a directory to work in.
pub(crate) fn spec(hostname: &str) -> LeaseSpec {
    LeaseSpec {
        kernel: PathBuf::new(),
        initramfs: PathBuf::new(),
        root: Root::Hosted,
        cpus: NonZeroU8::MIN,
        memory: Mebibytes(16),
        scratch_bytes: 0,
        bind: Bind {
            hostname: hostname.to_owned(),
            directories: vec![Directory { path: "/work".into(), owner: Account::ROOT, mode: 0o755 }],
            ..Bind::default()
        },
        on_owner_loss: OwnerLoss::Kill,
        mark: None,
        start: Start::Fork,
        when_full: WhenFull::Wait,
    }
}

/// A script in that directory.
pub(crate) fn sh(script: &str) -> ExecRequest {
    ExecRequest {
        argv: ["sh", "-c", script].map(String::from).to_vec(),
        env: vec![("PATH".into(), "/usr/bin:/bin".into()), ("GREETING".into(), "hello".into())],
        cwd: "/work".into(),
        user: Account::ROOT,
        stdin: Stdin::Null,
        output: OutputMode::Separate,
        timeout: None,
    }
}
