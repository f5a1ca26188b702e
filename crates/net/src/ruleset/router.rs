//! The rules of the router's namespace: VMs reach the uplink and not each other.

use crate::addresses::{LINKS_V4, LINKS_V6};

/// All of it.
pub(crate) fn base() -> String {
    format!(
        r#"table inet ampoule {{
  chain forward {{
    type filter hook forward priority filter; policy drop;
    ct state invalid drop
    iifname "uplink" oifname "vm*" ct state established,related accept
    iifname "vm*" oifname "uplink" ip saddr {LINKS_V4} accept
    iifname "vm*" oifname "uplink" ip6 saddr {LINKS_V6} accept
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
    oifname "uplink" masquerade
  }}
}}
"#
    )
}
