//! What is read as which policy, and what is said of the rest.

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use proptest::prelude::*;

use crate::{Base, Policy, Ports, Rule, Target};

fn printed(text: &str) -> String {
    match text.parse::<Policy>() {
        Ok(policy) => policy.to_string(),
        Err(error) => format!("! {error}"),
    }
}

#[test]
fn policies_have_one_form() {
    for (text, expected) in [
        ("none", "none"),
        (" internet ", "internet"),
        (
            "allow=registry.npmjs.org:443,10.0.0.0/8:5432,*.debian.org,[2001:db8::1]:443",
            "allow=registry.npmjs.org:443,10.0.0.0/8:5432,*.debian.org,[2001:db8::1]:443",
        ),
        ("none,allow=a", "allow=a"),
        ("internet , allow= 10.1.2.3 ", "internet,allow=10.1.2.3"),
        ("allow=EXAMPLE.org.:00080", "allow=example.org:80"),
        ("allow=10.1.2.3/32", "allow=10.1.2.3"),
        // half of the internet is somebody's will: `/0` is refused against slips only
        ("allow=0.0.0.0/1,128.0.0.0/1", "allow=0.0.0.0/1,128.0.0.0/1"),
        ("allow=[2001:DB8::/32]", "allow=[2001:db8::/32]"),
        ("allow=bücher.example:443", "allow=xn--bcher-kva.example:443"),
        ("allow=*.Bücher.example", "allow=*.xn--bcher-kva.example"),
    ] {
        assert_eq!(printed(text), expected, "{text}");
    }
}

#[test]
fn faults_say_where_they_are_and_what_to_write() {
    for (text, at, says) in [
        ("", 0, "write none, internet, allow="),
        ("Internet", 0, "\"Internet\" begins no policy"),
        ("internet,", 9, "begins no policy"),
        ("internet,10.0.0.0/8", 9, "allow="),
        ("example.org:443", 0, "\"example.org:443\" begins no policy"),
        ("allow=", 6, "a host is missing"),
        ("allow=a,,b", 8, "a host is missing"),
        ("allow=a,b:0", 10, "\"0\" is no port"),
        ("allow=a:65536", 8, "1 to 65535"),
        ("allow=a:+80", 8, "\"+80\""),
        ("allow=a:80-90", 8, "\"80-90\""),
        ("allow=a:", 8, "\"\" is no port"),
        ("allow=2001:db8::1:443", 6, "write [2001:db8::1]:443"),
        ("allow=[2001:db8::1", 6, "brackets hold"),
        ("allow=[2001:db8::1]443", 19, "brackets hold"),
        ("allow=[a]", 7, "\"a\" is no address"),
        ("allow=10.0.0.1/8", 6, "write 10.0.0.0/8, or 10.0.0.1 for this address alone"),
        ("allow=[2001:db8::1/32]", 7, "write [2001:db8::/32], or [2001:db8::1]"),
        ("allow=10.0.0.0/33", 15, "1 to 32 bits"),
        ("allow=[::1/129]", 11, "1 to 128 bits"),
        ("allow=a,0.0.0.0/0", 16, "write internet"),
        ("allow=[::ffff:10.0.0.1]", 7, "write the IPv4 address"),
        ("allow=10.0.0.256:80", 6, "\"10.0.0.256\" is no address"),
        ("allow=1.2.3", 6, "is no address"),
        ("allow=*", 6, "write *.example.org"),
        ("allow=a.*.b", 8, "write *.example.org"),
        ("allow=a..b", 8, "part of the name is missing"),
        ("allow=a,_dmarc.b", 8, "'_' is not part of a host's name"),
        ("allow=https://a", 6, "no URL"),
        ("allow=a,https://b.example:443/c", 8, "write NAME:PORT"),
        ("allow=a,allow=b", 8, "allow= begins the list of rules, once"),
        ("allow=10.1.2.3, allow=10.1.2.4:80", 16, "write this rule without it"),
        ("allow=allow=a", 6, "without it"),
        ("allow=a:443:80", 8, "\"443:80\" is no port"),
        ("allow=10.1.2.3:443:80", 15, "\"443:80\" is no port"),
        ("allow=2001:db8::/32", 6, "IPv6 stands in brackets"),
        ("allow=2001:db8::/32:443", 6, "write [2001:db8::1]:443 or [2001:db8::/32]"),
        ("allow=::/8", 6, "IPv6 stands in brackets"),
        ("allow=::1", 6, "IPv6 stands in brackets"),
        ("allow=0x7f.0x1", 6, "is no address"),
        ("allow=a.0x", 6, "is no address"),
        ("allow=256.1.1.1", 6, "is no address"),
        ("allow=a b", 7, "' ' is not part"),
        ("allow=-a.b", 6, "hyphen"),
        ("allow=１.２.３.４", 6, "internationalised"),
        ("internet,allow=a.example:80", 15, "write addresses here"),
    ] {
        let error = text.parse::<Policy>().expect_err(text);
        assert_eq!(error.at, at, "{text}: {error}");
        assert!(error.to_string().contains(says), "{text}: {error}");
    }
    let long = format!("allow={}.org", "a".repeat(64));
    assert!(printed(&long).contains("63 bytes"));
    assert!(printed(&format!("allow={}org", "a.".repeat(126))).contains("253 in all"));
    assert!(printed(&format!("allow=a{}", ",a".repeat(256))).contains("256 rules"));
}

#[test]
fn a_list_of_rules_says_which_is_wrong() {
    let policy = Policy::new(Base::Nothing, ["host:443", "10.1.0.0/16", "*.example.org:443"]).unwrap();
    assert_eq!(policy.to_string(), "allow=host:443,10.1.0.0/16,*.example.org:443");
    let error = Policy::new(Base::Nothing, ["host:443", "10.1.0.1/16"]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "bits are set behind the prefix: write 10.1.0.0/16, or 10.1.0.1 for this address alone (rule 2, at offset 0)"
    );
    assert_eq!(Policy::new(Base::Internet, []).unwrap(), Policy::internet());
}

fn ports() -> impl Strategy<Value = Ports> {
    prop_oneof![Just(Ports::All), (1..=u16::MAX).prop_map(Ports::One)]
}

fn networks() -> impl Strategy<Value = IpNet> {
    prop_oneof![
        (any::<u32>(), 1..=32_u8)
            .prop_map(|(bits, prefix)| IpNet::V4(Ipv4Net::new_assert(bits.into(), prefix).trunc())),
        (any::<u128>(), 1..=128_u8)
            .prop_map(|(bits, prefix)| IpNet::V6(Ipv6Net::new_assert(bits.into(), prefix).trunc()))
            .prop_filter(
                "mapped",
                |net| !matches!(net, IpNet::V6(net) if net.addr().to_ipv4_mapped().is_some())
            ),
    ]
}

fn policies() -> impl Strategy<Value = Policy> {
    let names = "(\\*\\.)?([a-z0-9]([a-z0-9-]{0,8}[a-z0-9])?\\.){0,4}[a-z]([a-z0-9-]{0,8}[a-z0-9])?";
    let any_rule = |named: bool| {
        let target = if named {
            prop_oneof![names.prop_map(Target::Name), networks().prop_map(Target::Net)].boxed()
        } else {
            networks().prop_map(Target::Net).boxed()
        };
        (target, ports()).prop_map(|(target, ports)| Rule { target, ports })
    };
    prop_oneof![
        prop::collection::vec(any_rule(true), 0..8).prop_map(|allow| Policy { base: Base::Nothing, allow }),
        prop::collection::vec(any_rule(false), 0..8).prop_map(|allow| Policy { base: Base::Internet, allow }),
    ]
}

proptest! {
    #[test]
    fn what_is_printed_is_read_as_the_same(policy in policies()) {
        prop_assert_eq!(policy.to_string().parse::<Policy>(), Ok(policy));
    }

    #[test]
    fn any_text_is_read_or_refused(text in "(allow=|internet,)?[a-z0-9.:,/*\\[\\] =_üＡ１-]{0,60}") {
        crate::fuzz_targets::policy(text.as_bytes());
    }
}
