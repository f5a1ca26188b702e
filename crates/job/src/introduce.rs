//! What a job's log begins with.
//!
//! Purpose: whoever reads it sees what runs the job, and what stands between it and the host.
//! Owner: the job, before its VM.

use sandbox::{NetLimits, Policy};
use vm::Boundary;

use crate::{Machinery, steps::Steps};

/// Says the rows of every job's beginning.
pub(crate) async fn introduce(steps: &mut Steps<'_>, machine: &Machinery<'_>) {
    let (backend, can) = (machine.engine.backend_name(), machine.engine.capabilities());
    let mut rows = vec![
        format!("image: {}", machine.image.description),
        format!("backend: {} {} ({})", backend, can.version, can.accelerator),
        format!("boundary: {}", can.boundary.label()),
        format!("size: {} CPUs, {} of memory", machine.size.cpus, machine.size.memory),
        // what is no VM has whatever its surroundings have
        match can.boundary {
            Boundary::None => "network: this host's".to_owned(),
            Boundary::Hardware | Boundary::Emulated => format!("network: {}", machine.network),
        },
    ];
    if can.boundary != Boundary::None && *machine.network != Policy::none() {
        rows.extend(limits_of(&machine.limits));
    }
    // where they lead is the affair of whoever set them up
    let forwards: Vec<_> =
        steps.context.forwards.iter().map(|one| format!("{}:{}", one.name, one.port)).collect();
    if !forwards.is_empty() {
        rows.push(format!("forwards: {}", forwards.join(", ")));
    }
    rows.extend(
        machine.missing.iter().map(|part| format!("##[warning]this host cannot give the jail: {part}")),
    );
    for row in rows {
        steps.log.say(None, &row).await;
    }
}

/// What a job may use of its network, where that was said.
fn limits_of(limits: &NetLimits) -> Option<String> {
    if limits.is_default() {
        return None;
    }
    let way = |rate: Option<u64>, to: &str| rate.map(|bits| format!(", {} {to}", rate_of(bits)));
    let ways = match (limits.upload, limits.download) {
        (Some(up), Some(down)) if up == down => format!(", {} each way", rate_of(up)),
        (up, down) => [way(up, "up"), way(down, "down")].into_iter().flatten().collect(),
    };
    Some(format!("network limits: {} connections at once{ways}", limits.connections))
}

/// Bits per second, as they are written.
fn rate_of(bits: u64) -> String {
    const MEGA: u64 = 1_000_000;
    if bits.is_multiple_of(MEGA) { format!("{} Mbit/s", bits / MEGA) } else { format!("{bits} bit/s") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_said_where_they_are_not_those_of_all() {
        let usual = NetLimits::default();
        let mega = Some(10_000_000);
        for (limits, said) in [
            (usual, None),
            (NetLimits { connections: 64, ..usual }, Some("network limits: 64 connections at once")),
            (
                NetLimits { connections: 64, upload: mega, download: mega },
                Some("network limits: 64 connections at once, 10 Mbit/s each way"),
            ),
            (
                NetLimits { upload: mega, download: Some(1500), ..usual },
                Some("network limits: 4096 connections at once, 10 Mbit/s up, 1500 bit/s down"),
            ),
        ] {
            assert_eq!(limits_of(&limits).as_deref(), said);
        }
    }
}
