//! The rules of the router's namespace: VMs reach the uplink and not each other.

use crate::addresses::{LINKS_V4, LINKS_V6};

/// In front of `pasta`, where that is the uplink. Until 2023-09 (Debian 12 has it so) it never ends with a batch that has
/// two packets of a connection which it does not know yet; one guest could cut off all. So nobody goes on before the
/// first packet is answered. It is not lost on the way, and the host's kernel repeats it for `pasta`. What a guest resets
/// itself is forgotten, and the next would be a first one again: so a second first packet goes on after some seconds only.
///
/// `pasta` does not hear of what is dropped here: that a guest resets what nobody answered yet. It has such a connection
/// until its server is out of patience, and ten seconds longer; the kernel has forgotten it, and would give its port to the
/// next one that a guest begins from there, also of another VM. `pasta` takes that one's first packet for the old connection
/// and throws both away, and what its guest repeats is dropped here for some seconds. So ports are chosen by chance: then
/// one of some ten thousands is such a one, and nobody's choice.
pub(crate) const PASTA: &str = r#"add set inet ampoule begun4 { type ipv4_addr . inet_service . ipv4_addr . inet_service; flags dynamic,timeout; timeout 5s; size 65536; }
add set inet ampoule begun6 { type ipv6_addr . inet_service . ipv6_addr . inet_service; flags dynamic,timeout; timeout 5s; size 65536; }
insert rule inet ampoule forward iifname "vm*" tcp flags & (syn | ack) == syn add @begun6 { ip6 saddr . tcp sport . ip6 daddr . tcp dport }
insert rule inet ampoule forward iifname "vm*" tcp flags & (syn | ack) == syn add @begun4 { ip saddr . tcp sport . ip daddr . tcp dport }
insert rule inet ampoule forward iifname "vm*" tcp flags & (syn | ack) == syn ip6 saddr . tcp sport . ip6 daddr . tcp dport @begun6 drop
insert rule inet ampoule forward iifname "vm*" tcp flags & (syn | ack) == syn ip saddr . tcp sport . ip daddr . tcp dport @begun4 drop
insert rule inet ampoule forward iifname "vm*" meta l4proto tcp ct state new ct status confirmed drop
insert rule inet ampoule leave oifname "uplink*" meta l4proto tcp masquerade fully-random
"#;

/// All of it.
pub(crate) fn base() -> String {
    format!(
        r#"table inet ampoule {{
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state invalid drop
    iifname "uplink*" oifname "vm*" ct state established,related accept
    iifname "vm*" oifname "uplink*" ip saddr {LINKS_V4} accept
    iifname "vm*" oifname "uplink*" ip6 saddr {LINKS_V6} accept
    # ICMPv6 errors of a VM's namespace have its link's address, too; whatever else there is goes nowhere
    counter
    iifname "vm*" reject with icmpx type admin-prohibited
  }}
  chain input {{
    type filter hook input priority filter; policy drop;
    ct state established,related accept
    icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert }} ip6 hoplimit 255 accept
    counter
    iifname "vm*" reject with icmpx type admin-prohibited
  }}
  chain leave {{
    type nat hook postrouting priority srcnat;
    oifname "uplink*" masquerade
  }}
}}
"#
    )
}
