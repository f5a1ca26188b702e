//! Who may reach whom in the bed, by which policy: what is expected, for whoever tries it from wherever.

use super::address::{
    BEFORE, DOMAIN, GATEWAY, HOST, HOST_PUBLIC, INTERNET, INTERNET_TOO, LAN, METADATA, PORTS, SHARED,
};

/// Each destination that is tried by its addresses.
pub const ALL: [(&str, [&str; 2]); 8] = [
    ("internet", INTERNET),
    ("internet too", INTERNET_TOO),
    ("LAN", LAN),
    ("gateway", GATEWAY),
    ("shared", SHARED),
    ("metadata", METADATA),
    ("host", HOST),
    ("host, public", HOST_PUBLIC),
];

/// How much of a destination is reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// Every port, and by ping.
    All,
    /// The first port, by TCP and UDP.
    Port,
}

impl Reach {
    /// Whether this is reached: `tcp`, `udp` or `ping`, which has no port.
    #[must_use]
    pub fn of(self, by: &str, port: u16) -> bool {
        self == Self::All || (by != "ping" && port == PORTS[0])
    }
}

/// How each destination is tried, with a port where there is one.
pub const BY: [(&str, u16); 5] =
    [("tcp", PORTS[0]), ("udp", PORTS[0]), ("tcp", PORTS[1]), ("udp", PORTS[1]), ("ping", 0)];

/// A policy, and whom it opens.
#[derive(Clone, Debug)]
pub struct Row {
    /// For people.
    pub name: &'static str,
    /// As it is written.
    pub policy: String,
    /// Whom of [`ALL`] it opens by their addresses.
    pub reached: Vec<(&'static str, Reach)>,
    /// What of packets arrives that a guest made itself for [`HAND_MADE`](super::address::HAND_MADE).
    pub hand_made: Option<Reach>,
    /// Which names of the bed lead where: an address that is not here is not reached by that name.
    pub names: Vec<(&'static str, Vec<(&'static str, Reach)>)>,
}

/// The names of a bed that are tried; `later`, where names have been bound to something else.
pub const NAMES: [&str; 9] =
    ["web", "lan", "metadata", "host", "mixed", "turns", "moves", "turns later", "moves later"];

/// Of a destination that [`ALL`] has, or names lead to.
///
/// # Panics
/// There is no such.
#[must_use]
pub fn addresses(destination: &str) -> [&'static str; 2] {
    let before = [("before", BEFORE)];
    ALL.iter().chain(&before).find(|(known, _)| *known == destination).expect("a destination of the table").1
}

/// The whole table.
#[must_use]
pub fn rows() -> Vec<Row> {
    use Reach::{All, Port};
    let port = PORTS[0];
    let on_port = |[v4, v6]: [&str; 2]| format!("{v4}:{port},[{v6}]:{port}");
    let whole = |[v4, v6]: [&str; 2]| format!("{v4},[{v6}]");
    let internet = vec![("internet", All), ("internet too", All)];
    let and = |more: &[(&'static str, Reach)]| [&internet[..], more].concat();
    // names of the internet, as far as they lead there
    let public = |reach| {
        [
            ("web", vec![("internet", reach)]),
            ("mixed", vec![("internet too", reach)]),
            ("turns", vec![("before", reach)]),
            ("moves", vec![("before", reach)]),
        ]
    };
    let [web, _, turns, moves] = public(All);
    let everyone = |reach| ALL.iter().map(|(name, _)| (*name, reach)).collect::<Vec<_>>();
    let row = |name, policy: String, reached: Vec<_>, hand_made, names: Vec<_>| Row {
        name,
        policy,
        reached,
        hand_made,
        names,
    };
    vec![
        row("none", "none".to_owned(), vec![], None, vec![]),
        row("internet", "internet".to_owned(), internet.clone(), Some(All), public(All).to_vec()),
        row("one", format!("allow={}", whole(INTERNET)), vec![("internet", All)], None, vec![]),
        row("LAN's port", format!("allow={}", on_port(LAN)), vec![("LAN", Port)], None, vec![]),
        row(
            "internet and LAN's port",
            format!("internet,allow={}", on_port(LAN)),
            and(&[("LAN", Port)]),
            Some(All),
            vec![
                web,
                ("lan", vec![("LAN", Port)]),
                ("mixed", vec![("internet too", All), ("LAN", Port)]),
                turns,
                moves,
                ("turns later", vec![("LAN", Port)]),
            ],
        ),
        row("the host's port", format!("allow={}", on_port(HOST)), vec![("host", Port)], None, vec![]),
        row(
            "the host, public",
            format!("internet,allow={}", whole(HOST_PUBLIC)),
            and(&[("host, public", All)]),
            Some(All),
            [
                &public(All)[..],
                &[("host", vec![("host, public", All)]), ("moves later", vec![("host, public", All)])],
            ]
            .concat(),
        ),
        // the host is in the LAN, too, and was named with it
        row(
            "LANs",
            "allow=192.168.0.0/16,[fd77::/16]".to_owned(),
            vec![("LAN", All), ("gateway", All), ("host", All)],
            None,
            vec![],
        ),
        row(
            "everything's port",
            format!("allow=0.0.0.0/1:{port},128.0.0.0/1:{port},[::/1]:{port},[8000::/1]:{port}"),
            everyone(Port),
            Some(Port),
            vec![],
        ),
        row(
            "everything",
            "allow=0.0.0.0/1,128.0.0.0/1,[::/1],[8000::/1]".to_owned(),
            everyone(All),
            Some(All),
            vec![],
        ),
        // an address is open when its name was asked for, and then by itself, too
        row("names' port", format!("allow=*.{DOMAIN}:{port}"), vec![], None, public(Port).to_vec()),
        row(
            "a name and its address",
            format!("allow=lan.{DOMAIN},{}", on_port(LAN)),
            vec![("LAN", Port)],
            None,
            vec![("lan", vec![("LAN", Port)])],
        ),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_table_names_is_there() {
        for row in rows() {
            for (destination, _) in row.reached.iter().chain(row.names.iter().flat_map(|(_, all)| all)) {
                let _ = addresses(destination);
            }
            assert!(row.names.iter().all(|(name, _)| NAMES.contains(name)), "{}", row.name);
        }
    }
}
