//! This program as the shim of its VMs: the real one, and one that can build no jail; and as the helper of their
//! networks.
//!
//! Invariant: the second is the first after a filter that makes every `unshare` fail, so that the difference between
//! them is the jail: namespaces, and a file system of the VMM's own. User id, capabilities and limits stay.

use std::{collections::BTreeMap, ffi::OsString, process::ExitCode};

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch};

/// The helper of networks.
pub(crate) const HELPER: &str = "net-helper";
const REAL: &str = "vm-shim";
const WITHOUT_JAIL: &str = "vm-shim-without-jail";

/// How the shim of a VM is called.
pub(crate) fn words(jail: bool) -> Vec<OsString> {
    vec!["/proc/self/exe".into(), if jail { REAL } else { WITHOUT_JAIL }.into()]
}

/// Becomes the shim where this process was started as one.
pub(crate) fn dispatch() -> Option<ExitCode> {
    let mut args = std::env::args_os().skip(1);
    let first = args.next()?;
    if first == HELPER {
        return Some(net::helper(args));
    }
    if first == WITHOUT_JAIL {
        refuse_namespaces();
    } else if first != REAL {
        return None;
    }
    Some(jail::shim::main(args))
}

fn refuse_namespaces() {
    let refused = BTreeMap::from([(libc::SYS_unshare, Vec::new())]);
    let eperm = SeccompAction::Errno(libc::EPERM.unsigned_abs());
    let filter = SeccompFilter::new(refused, SeccompAction::Allow, eperm, TargetArch::x86_64);
    let program: BpfProgram = filter.and_then(TryInto::try_into).expect("a filter of one call");
    seccompiler::apply_filter(&program).expect("the kernel takes filters");
}
