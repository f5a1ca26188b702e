//! Giving up privileges: identity, capabilities, and the way to new ones.

use rustix::{
    process::{Gid, Resource, Rlimit, Uid, setrlimit},
    thread::{
        CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
        clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
        set_no_new_privs, set_thread_groups, set_thread_res_gid, set_thread_res_uid,
    },
};

use super::Failure;
use crate::launch::Ids;

/// Whether this process may make namespaces and change its identity without a user namespace.
pub(crate) fn are_roots() -> bool {
    let needed =
        CapabilitySet::SYS_ADMIN | CapabilitySet::SETUID | CapabilitySet::SETGID | CapabilitySet::SETPCAP;
    capabilities(None).is_ok_and(|sets| sets.effective.contains(needed))
}

/// For the program: identity, no core dumps, and nothing that gives it back a privilege.
pub(super) fn drop_for_program(ids: Option<Ids>, groups: &[u32]) -> Result<(), Failure> {
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none).map_err(Failure::io("forbid core dumps"))?;
    // While the capability to do it is still there; without any there is nothing to remove.
    empty_bounding_set()?;
    if let Some(ids) = ids {
        let what = || Failure::io(format!("become user {} and group {}", ids.uid, ids.gid));
        let groups: Vec<Gid> = groups.iter().copied().map(Gid::from_raw).collect();
        let (uid, gid) = (Uid::from_raw(ids.uid), Gid::from_raw(ids.gid));
        set_thread_groups(&groups).map_err(what())?;
        set_thread_res_gid(gid, gid, gid).map_err(what())?;
        set_thread_res_uid(uid, uid, uid).map_err(what())?;
    }
    drop_capabilities()
}

/// No capability, and no way to one. The identity stays.
pub(crate) fn drop_capabilities() -> Result<(), Failure> {
    set_no_new_privs(true).map_err(Failure::io("forbid new privileges"))?;
    clear_ambient_capability_set().map_err(Failure::io("clear the ambient capabilities"))?;
    let none = CapabilitySet::empty();
    set_capabilities(None, CapabilitySets { effective: none, permitted: none, inheritable: none })
        .map_err(Failure::io("drop the capabilities"))
}

fn empty_bounding_set() -> Result<(), Failure> {
    let may = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::SETPCAP));
    for number in 0..u64::BITS {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match capability_is_in_bounding_set(one) {
            Ok(true) if may => {
                remove_capability_from_bounding_set(one).map_err(Failure::io("empty the bounding set"))?;
            }
            Ok(_) => {}
            // The first number that this kernel does not know.
            Err(_) => break,
        }
    }
    Ok(())
}
