//! What the program in a VM is told to try.

use serde_json::{Value, json};
use testkit::bed::{
    address::{DOMAIN, FORGED, HAND_MADE, HOST, INTERNET_TOO, LOOPBACK},
    table::{ALL, BY, NAMES, Row},
};

/// The program.
pub(super) const PROBE: &str = include_str!("probe.py");

/// Where other VMs and the router would be: the links of the first VMs, of the first routers.
pub(super) const LINKS: [&str; 12] = [
    "198.18.128.0",
    "198.18.128.1",
    "198.18.128.2",
    "198.18.128.3",
    "198.18.64.0",
    "198.18.64.1",
    "fd61:6d70:6f75:6c65:1::",
    "fd61:6d70:6f75:6c65:1::1",
    "fd61:6d70:6f75:6c65:1::2",
    "fd61:6d70:6f75:6c65:1::3",
    "fd61:6d70:6f75:6c65:2::",
    "fd61:6d70:6f75:6c65:2::1",
];

/// How long an answer is waited for that has to come, in seconds.
const PATIENCE: f64 = 10.0;
/// The same where nothing comes.
const NOTHING: f64 = 1.5;
/// When what a resolver keeps of a name is over, at the least.
const LATER: f64 = 5.4;

/// Whether names are asked for again by a row: that takes its time, and it is the same where names are none of the policy.
pub(super) fn turns(row: &Row) -> bool {
    ["internet", "internet and LAN's port", "names' port"].contains(&row.name)
}

/// Everything, by a policy; `number` makes names that nobody asked for before.
pub(super) fn of(row: &Row, number: usize) -> String {
    let raw: Vec<&str> = ALL.iter().flat_map(|(_, addresses)| addresses).copied().collect();
    let turning = ["turns", "moves"].map(|label| json!([label, format!("{label}-{number}.{DOMAIN}")]));
    let names: Vec<Value> = NAMES
        .iter()
        .filter(|label| !label.starts_with("turns") && !label.starts_with("moves"))
        .map(|label| json!([label, format!("{label}.{DOMAIN}")]))
        .collect();
    let mut plan = plan(&raw, if row.policy == "none" { NOTHING } else { PATIENCE });
    plan["turning"] = json!(turning);
    plan["names"] = json!(names);
    plan["links"] = json!(LINKS);
    plan["later"] = json!(if turns(row) { LATER } else { 0.0 });
    plan["frames"] = json!(frames());
    plan.to_string()
}

/// Addresses alone.
pub(super) fn only(raw: &[&str]) -> String {
    plan(raw, PATIENCE).to_string()
}

fn plan(raw: &[&str], patience: f64) -> Value {
    let macs = [net::GUEST_MAC, net::GATEWAY_MAC].map(mac);
    json!({
        "raw": raw,
        "by": BY,
        "patience": patience,
        "gateways": [net::V4_GATEWAY.to_string(), net::V6_GATEWAY.to_string()],
        "macs": macs,
        "turning": [], "names": [], "links": [], "frames": [], "later": 0.0,
    })
}

/// For each family: the guest; whom it writes to as itself, as somebody else, and by an address that is nowhere on the
/// wire; and as whom.
fn frames() -> Value {
    let sources4 = [
        "198.18.0.1",
        "198.18.128.1",
        "198.18.128.0",
        INTERNET_TOO[0],
        HOST[0],
        "127.0.0.1",
        "0.0.0.0",
        "255.255.255.255",
    ];
    let sources6 = [
        "fd61:6d70:6f75:6c65::1",
        "fd61:6d70:6f75:6c65:1::1",
        INTERNET_TOO[1],
        HOST[1],
        "fe80::1",
        // its own, which leads nowhere
        "fe80::61:6dff:fe70:1",
        "::1",
        "::",
    ];
    json!([
        [net::GUEST_V4.to_string(), HAND_MADE[0], FORGED[0], LOOPBACK[0], sources4],
        [net::GUEST_V6.to_string(), HAND_MADE[1], FORGED[1], LOOPBACK[1], sources6],
    ])
}

fn mac(bytes: [u8; 6]) -> String {
    bytes.map(|byte| format!("{byte:02x}")).join(":")
}
