//! The tap of a program.

use std::fs::{self, OpenOptions};

use jail::{Level, TAP_DEVICE, launch, log_tail};
use libtest_mimic::Failed;

use super::{Place, block_on, output, spec};

/// Where this process may not open the device there is none, and that is told.
pub(super) fn a_tap_is_its_own_and_down() -> Result<(), Failed> {
    let place = Place::new();
    // the flags of an interface are in nothing that a shell reads; one that is down has no address of its own
    let script = "readlink /proc/self/fd/7; cat /proc/net/dev; echo addresses; cat /proc/net/if_inet6";
    let mut spec = spec(place.path(), script);
    spec.level = Level::Strict;
    spec.tap = Some(7);
    if OpenOptions::new().read(true).write(true).open(TAP_DEVICE).is_err() {
        let error = block_on(launch(spec)).map(drop).unwrap_err().to_string();
        assert!(error.contains("network card"), "{error}");
        return Ok(());
    }
    let host = || fs::read_to_string("/proc/net/dev").unwrap_or_default().lines().count();
    let before = host();
    let (text, record, missing) = output(spec);
    assert_eq!((record.code, missing), (Some(0), Vec::new()), "{text}");
    assert!(text.starts_with("/dev/net/tun\n"), "{text}");
    let (interfaces, addresses) = text.split_once("addresses\n").ok_or("no addresses")?;
    let names: Vec<&str> =
        interfaces.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name.trim()).collect();
    assert_eq!(names, ["lo", "tap0"], "{text}");
    assert!(!addresses.contains("tap0"), "{text}");
    assert!(log_tail(place.path(), "err", 1000).is_empty());
    assert_eq!(host(), before, "it is the host's");
    Ok(())
}
