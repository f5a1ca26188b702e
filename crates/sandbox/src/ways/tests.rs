//! Forwards as text.

use super::*;

fn parsed(text: &str) -> std::result::Result<Forward, ForwardError> {
    text.parse()
}

#[test]
fn a_forward_is_a_name_and_a_place() {
    for (text, written) in [
        ("forge:80=127.0.0.1:3000", "forge:80=127.0.0.1:3000"),
        ("Forge.Example.:443=Forge.Example:443", "forge.example:443=forge.example:443"),
        ("a_b-c:1=[::1]:65535", "a_b-c:1=[::1]:65535"),
        ("a:1=[fe80::1%eth0]:2", "a:1=[fe80::1%eth0]:2"),
        ("10.1.2.3:80=a:1", "10.1.2.3:80=a:1"),
    ] {
        let forward = parsed(text).unwrap();
        assert_eq!(forward.to_string(), written);
        assert_eq!(parsed(written).unwrap(), forward);
    }
}

#[test]
fn what_is_no_forward_is_told_why() {
    let name = |text: &str| ForwardError::Name(text.into());
    let port = |text: &str| ForwardError::Port(text.into());
    let host = |text: &str| ForwardError::Host(text.into());
    let numeric = |text: &str| ForwardError::Numeric(text.into());
    for (text, why) in [
        ("", ForwardError::Form),
        ("forge:80", ForwardError::Form),
        ("forge=127.0.0.1:80", ForwardError::Form),
        ("forge:80=127.0.0.1", ForwardError::Form),
        (":80=a:1", name("")),
        ("a b:80=a:1", name("a b")),
        ("a..b:80=a:1", name("a..b")),
        ("http://a:80=a:1", name("http://a")),
        ("1.2.3:80=a:1", numeric("1.2.3")),
        ("0x7F.1.:80=a:1", numeric("0x7f.1")),
        ("010.0.0.1:80=a:1", numeric("010.0.0.1")),
        ("a.0x1f:80=a:1", numeric("a.0x1f")),
        ("a:80=256.1.1.1:1", numeric("256.1.1.1")),
        ("a:80=1.2.3:1", numeric("1.2.3")),
        ("a:80=0x7f.1:1", numeric("0x7f.1")),
        ("[::1]:80=a:1", ForwardError::V6("[::1]".into())),
        ("2001:db8::1:80=a:1", ForwardError::V6("2001:db8::1".into())),
        ("bücher.example:80=a:1", ForwardError::Idna("bücher.example".into())),
        ("a:80=bücher.example:1", ForwardError::Idna("bücher.example".into())),
        ("0.0.0.0:80=a:1", name("0.0.0.0")),
        ("224.0.0.1:80=a:1", name("224.0.0.1")),
        ("198.19.0.53:80=a:1", name("198.19.0.53")),
        ("localhost:80=a:1", ForwardError::Itself("localhost".into())),
        ("x.LocalHost:80=a:1", ForwardError::Itself("x.localhost".into())),
        ("a:=b:1", port("")),
        ("a:0=b:1", port("0")),
        ("a:+1=b:1", port("+1")),
        ("a:65536=b:1", port("65536")),
        ("a:80=b:http", port("http")),
        ("a:80=:1", host("")),
        ("a:80=::1:1", host("::1")),
        ("a:80=[::1:1", host("[::1")),
        ("a:80=[b]:1", host("[b]")),
        ("a:80=b/c:1", host("b/c")),
    ] {
        assert_eq!(parsed(text), Err(why), "{text}");
    }
}

#[test]
fn a_forward_to_a_service_is_a_name_and_a_port() {
    let forward = Forward::to_service("C.Internal.:8889", "controller").unwrap();
    assert_eq!(forward.to_string(), "c.internal:8889=service controller");
    for (text, why) in [
        ("c.internal", ForwardError::Address),
        ("c.internal:0", ForwardError::Port("0".into())),
        ("c.internal:1=a:1", ForwardError::Name("c.internal:1=a".into())),
        ("localhost:1", ForwardError::Itself("localhost".into())),
        (":1", ForwardError::Name(String::new())),
    ] {
        let refused = Forward::to_service(text, "controller");
        assert_eq!(refused, Err(why), "{text}");
    }
}
