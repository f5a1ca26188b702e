//! Servers of the bed: on each address and port, by TCP and UDP.

use std::{
    ffi::OsString,
    io::{self, BufRead, Read, Write},
    net::{IpAddr, SocketAddr, TcpListener, UdpSocket},
    process::ExitCode,
    sync::atomic::{AtomicU64, Ordering},
    thread,
};

use super::{
    address::{FORGED as FORGED_TO, GATEWAY, HOST, HOST_PUBLIC, PORTS},
    batch, ip, names, run,
};

/// What a guest sends as somebody else; whatever its source is when it arrives.
pub(super) const FORGED: [u8; 1] = *b"!";
/// The bed's own rules, as they are listed.
pub(super) const TABLE: &str = "table inet bed";
/// Who was tried to be reached, with and without a port.
const ARRIVED: [&str; 4] = ["arrived4", "arrived6", "arrived_other4", "arrived_other6"];
/// How often it arrived.
static FORGERIES: AtomicU64 = AtomicU64::new(0);

/// Answers lines until its input ends.
pub(super) fn main(_args: &[OsString]) -> ExitCode {
    let mut output = io::stdout().lock();
    for line in io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let mut words = line.split(' ');
        let answer = match words.next() {
            Some("hello") => "hello".to_owned(),
            Some("setup") => {
                let addresses: Vec<&str> = words.collect();
                outside(&addresses);
                serve(&addresses);
                "done".to_owned()
            }
            Some("serve") => {
                serve(&words.collect::<Vec<_>>());
                "done".to_owned()
            }
            Some("names") => {
                let address = words.next().map(ip).expect("an address");
                thread::spawn(move || names::serve(address));
                "done".to_owned()
            }
            Some("count") => {
                count(words.next().expect("a hook"));
                "done".to_owned()
            }
            Some("arrived") => arrived(),
            Some("strangers") => (strangers() + FORGERIES.load(Ordering::Relaxed)).to_string(),
            _ => "what?".to_owned(),
        };
        if writeln!(output, "{answer}").and_then(|()| output.flush()).is_err() {
            break;
        }
    }
    ExitCode::SUCCESS
}

/// All of the outside is one namespace; the host's gateway is in it.
fn outside(addresses: &[&str]) {
    let mut text = format!(
        "link set lo up\nlink set e1 up\naddr add {}/24 dev e1\naddr add {}/64 dev e1 nodad\n\
         route add {} via {} dev e1\nroute add {} via {} dev e1\n",
        GATEWAY[0], GATEWAY[1], HOST_PUBLIC[0], HOST[0], HOST_PUBLIC[1], HOST[1]
    );
    for address in addresses.iter().filter(|address| !GATEWAY.contains(address)) {
        // nobody answers for an IPv6 address of another interface, which one of the same link is asked for
        let rest = match ip(address) {
            IpAddr::V4(_) => "/32 dev lo",
            IpAddr::V6(_) if address.starts_with("fd77:") => "/64 dev e1 nodad",
            IpAddr::V6(_) => "/128 dev lo nodad",
        };
        text += &format!("addr add {address}{rest}\n");
    }
    // to whoever comes with an address of somebody else an answer finds its way, too
    text += &format!("route add default via {} dev e1\nroute add default via {} dev e1\n", HOST[0], HOST[1]);
    batch(&text);
    let rules = format!(
        "add table inet bed\n\
         add chain inet bed arrive {{ type filter hook prerouting priority -350; }}\n\
         add rule inet bed arrive iifname != \"e1\" accept\n\
         add rule inet bed arrive ip saddr {{ {}, {} }} accept\n\
         add rule inet bed arrive ip6 saddr {{ {}, {}, fe80::/10, :: }} accept\n\
         add rule inet bed arrive counter\n",
        HOST[0], HOST_PUBLIC[0], HOST[1], HOST_PUBLIC[1]
    );
    for rule in rules.lines() {
        let _ = run("nft", &[rule]);
    }
}

/// Writes down who is tried to be reached. Who answers is no destination: the host's resolver asks from the host.
fn count(hook: &str) {
    let [any4, any6] = FORGED_TO;
    let first = if hook == "input" { "ct direction original " } else { "" };
    let mut rules = vec!["add table inet bed".to_owned()];
    for (set, kind) in ARRIVED.iter().zip([
        "ipv4_addr . inet_proto . inet_service",
        "ipv6_addr . inet_proto . inet_service",
        "ipv4_addr . inet_proto",
        "ipv6_addr . inet_proto",
    ]) {
        rules.push(format!("add set inet bed {set} {{ type {kind}; flags dynamic; size 65535; }}"));
    }
    rules.push(format!("add chain inet bed count {{ type filter hook {hook} priority -340; }}"));
    for (set, address, rest) in [
        ("arrived4", "ip", " . th dport"),
        ("arrived6", "ip6", " . th dport"),
        ("arrived_other4", "ip", ""),
        ("arrived_other6", "ip6", ""),
    ] {
        let add = format!("add @{set} {{ {address} daddr . meta l4proto{rest} }}");
        let family = if address == "ip" { "ipv4" } else { "ipv6" };
        let any = if address == "ip" { any4 } else { any6 };
        let matches: Vec<String> = if rest.is_empty() {
            let echo = if address == "ip" { "icmp" } else { "icmpv6" };
            vec![format!("{echo} type echo-request"), format!("{address} daddr {any}")]
        } else {
            ["tcp flags & (syn | ack) == syn", "meta l4proto udp"]
                .map(|rest| format!("meta nfproto {family} {rest}"))
                .to_vec()
        };
        rules.extend(matches.iter().map(|matches| format!("add rule inet bed count {first}{matches} {add}")));
    }
    for rule in rules {
        let _ = run("nft", &[&rule]);
    }
}

/// What was written down, and from now on anew.
fn arrived() -> String {
    let mut all = Vec::new();
    for set in ARRIVED {
        let text = run("nft", &["-n", "list", "set", "inet", "bed", set]);
        let elements = text.split_once("elements = {").and_then(|(_, rest)| rest.split_once('}'));
        let elements = elements.map(|(elements, _)| elements).unwrap_or_default();
        for element in elements.split(',') {
            let words: Vec<&str> = element.split_whitespace().filter(|word| *word != ".").collect();
            match words[..] {
                [address, protocol, port] => {
                    all.push(format!("{address} {} {port}", protocol_name(protocol)))
                }
                [address, protocol] => all.push(format!("{address} {} 0", protocol_name(protocol))),
                _ => {}
            }
        }
        let _ = run("nft", &["flush", "set", "inet", "bed", set]);
    }
    all.join(", ")
}

/// Numbers have names where they are of a protocol that guests are asked to try.
fn protocol_name(listed: &str) -> &str {
    match listed {
        "6" => "tcp",
        "17" => "udp",
        "1" | "icmp" | "58" | "ipv6-icmp" => "ping",
        other => other,
    }
}

/// What the counter of the bed's rules says.
fn strangers() -> u64 {
    let rules = run("nft", &["list", "chain", "inet", "bed", "arrive"]);
    let count = rules.split("packets ").nth(1).and_then(|rest| rest.split(' ').next());
    count.and_then(|count| count.parse().ok()).expect("a counter")
}

/// Sends back what comes, for as long as it comes.
fn serve(addresses: &[&str]) {
    for address in addresses.iter().map(|address| ip(address)) {
        for port in PORTS {
            let at = SocketAddr::new(address, port);
            let listener = TcpListener::bind(at).expect("listen");
            thread::spawn(move || {
                for stream in listener.incoming() {
                    let Ok(mut stream) = stream else { continue };
                    thread::spawn(move || {
                        let mut bytes = vec![0; 64 << 10];
                        while let Ok(length @ 1..) = stream.read(&mut bytes) {
                            if stream.write_all(&bytes[..length]).is_err() {
                                break;
                            }
                        }
                    });
                }
            });
            let socket = UdpSocket::bind(at).expect("receive");
            thread::spawn(move || {
                let mut buffer = [0; 2048];
                loop {
                    let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
                    if buffer[..length] == FORGED {
                        FORGERIES.fetch_add(1, Ordering::Relaxed);
                    }
                    let _ = socket.send_to(&buffer[..length], from);
                }
            });
        }
    }
}
