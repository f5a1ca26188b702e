//! The state of a saved VM as others keep it: what QEMU wrote, behind what only we know of it.

use vm::{Error, Result};

/// The first bytes; another version of this has others.
const MAGIC: &[u8] = b"ampoule qemu 1 ";

/// Whether somebody was at the other end of its link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Linked {
    /// The first thing that a fork's guest hears is that its link has ended.
    Yes,
    No,
}

/// `devices` as others keep it.
pub(super) fn pack(linked: Linked, devices: &[u8]) -> Vec<u8> {
    let linked: &[u8] = match linked {
        Linked::Yes => b"L",
        Linked::No => b"-",
    };
    [MAGIC, linked, devices].concat()
}

/// What was packed.
pub(super) fn unpack(state: &[u8]) -> Result<(Linked, &[u8])> {
    match state.strip_prefix(MAGIC).and_then(<[u8]>::split_first) {
        Some((b'L', devices)) => Ok((Linked::Yes, devices)),
        Some((b'-', devices)) => Ok((Linked::No, devices)),
        _ => Err(Error::Control("did not write this state of a VM".to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_packed_is_unpacked_and_nothing_else() {
        for linked in [Linked::Yes, Linked::No] {
            for devices in [&b""[..], b"devices"] {
                assert_eq!(unpack(&pack(linked, devices)).unwrap(), (linked, devices));
            }
        }
        for bad in [&b""[..], b"QEVM", MAGIC, b"ampoule qemu 1 ?devices"] {
            assert!(unpack(bad).is_err(), "{bad:?}");
        }
    }
}
