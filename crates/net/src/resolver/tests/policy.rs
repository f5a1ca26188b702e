//! Who hears of which names and addresses, and what is open by then.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::Ports;
use fake::{labels, record};

#[tokio::test]
async fn rebinding_is_taken_out_of_the_second_answer() {
    let asked = AtomicUsize::new(0);
    let bed = bed("internet", move |query| {
        let address_now = ["9.9.9.9", "169.254.169.254"][asked.fetch_add(1, Ordering::SeqCst).min(1)];
        vec![Act::Send(reply(query, 0, &[address(&query.name, 0, address_now)], &[]))]
    })
    .await;
    assert_eq!(bed.ask("evil.example", A).await.data(), ["9.9.9.9"]);
    tokio::time::sleep(Duration::from_millis(5100)).await;
    let second = bed.ask("evil.example", A).await;
    assert_eq!((second.code, second.records.len()), (0, 0));
    assert_eq!(bed.refused(), ["evil.example 1 169.254.169.254 is denied (metadata) x1"]);
    assert_eq!(bed.resolver.names_of(ip("169.254.169.254")), ["evil.example"]);
}

#[tokio::test]
async fn only_the_denied_addresses_of_an_answer_go() {
    let bed = bed("internet", |query| {
        let answers = match query.kind {
            A => vec![address(&query.name, 60, "10.0.0.1"), address(&query.name, 60, "9.9.9.9")],
            _ => [
                "::ffff:192.168.0.1",
                "64:ff9b::a00:1",
                "2002:7f00:1::",
                "::1",
                "fd00::1",
                "fe80::1",
                "2606:4700::1111",
                "64:ff9b::909:909",
            ]
            .map(|text| address(&query.name, 60, text))
            .to_vec(),
        };
        vec![Act::Send(reply(query, 0, &answers, &[]))]
    })
    .await;
    assert_eq!(bed.ask("mixed.example", A).await.data(), ["9.9.9.9"]);
    assert_eq!(bed.ask("mixed.example", AAAA).await.data(), ["2606:4700::1111", "64:ff9b::909:909"]);
    assert_eq!(bed.refused().len(), 7);
}

#[tokio::test]
async fn aliases_to_private_addresses_are_not_told() {
    let bed = bed("internet", |query| {
        let answers = [
            alias(&query.name, 60, "secret-name.corp.example"),
            address("secret-name.corp.example", 60, "10.0.0.7"),
        ];
        vec![Act::Send(reply(query, 0, &answers, &[]))]
    })
    .await;
    assert_eq!(bed.ask("public.example", A).await.records, []);
    assert_eq!(bed.refused(), ["public.example 1 10.0.0.7 is denied (private) x1"]);
}

fn service(query: &Query, mandatory: bool) -> Vec<u8> {
    let mut data = vec![0, 1];
    data.extend(labels(""));
    if mandatory {
        data.extend([0, 0, 0, 2, 0, 4]);
    }
    data.extend([0, 1, 0, 3, 2, b'h', b'2']);
    data.extend([0, 4, 0, 8, 10, 0, 0, 1, 9, 9, 9, 9]);
    data.extend([0, 6, 0, 16, 0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    reply(query, 0, &[record(&query.name, HTTPS, 60, &data)], &[])
}

#[tokio::test]
async fn hints_are_addresses_too() {
    let bed = bed("allow=hints.example:443", |query| vec![Act::Send(service(query, false))]).await;
    let heard = bed.ask("hints.example", HTTPS).await;
    let [said] = &heard.data()[..] else { panic!("{heard:?}") };
    assert!(said.contains("9.9.9.9") && said.contains("h2"), "{said}");
    assert!(!said.contains("10.0.0.1") && !said.contains("fd00"), "{said}");
    let opened: Vec<_> = bed.opened().iter().flat_map(|opened| opened.addresses.clone()).collect();
    assert_eq!(opened, [(ip("9.9.9.9"), Ports::One(443), Duration::from_secs(180))]);
    assert_eq!(bed.refused().len(), 2);
}

#[tokio::test]
async fn a_service_that_needs_its_denied_hints_goes_whole() {
    let bed = bed("internet", |query| {
        let mut bytes = service(query, true);
        // the public hint becomes a private one
        let at = bytes.windows(4).position(|four| four == [9, 9, 9, 9]).unwrap();
        bytes[at..at + 4].copy_from_slice(&[10, 9, 9, 9]);
        vec![Act::Send(bytes)]
    })
    .await;
    assert_eq!(bed.ask("hints.example", HTTPS).await.records, []);
}

#[tokio::test]
async fn names_outside_of_the_policy_do_not_exist() {
    let bed = bed("allow=api.example.org:443,10.0.0.0/8", |query| {
        vec![Act::Send(reply(query, 0, &[address(&query.name, 60, "9.9.9.9")], &[]))]
    })
    .await;
    assert_eq!(bed.ask("other.example.org", A).await.code, NXDOMAIN);
    assert_eq!(bed.ask("x.api.example.org", A).await.code, NXDOMAIN);
    assert_eq!(bed.ask("api.example.org.evil.example", A).await.code, NXDOMAIN);
    // there is something below
    assert_eq!(bed.ask("example.org", A).await.code, 0);
    assert_eq!(bed.server.count(), 0, "asked for a name that is not allowed");
    assert_eq!(bed.ask("API.example.org", A).await.data(), ["9.9.9.9"]);
    assert_eq!(
        bed.refused(),
        [
            "api.example.org.evil.example 1 not in the policy x1",
            "example.org 1 not in the policy x1",
            "other.example.org 1 not in the policy x1",
            "x.api.example.org 1 not in the policy x1",
        ]
    );
}

#[tokio::test]
async fn a_label_with_a_dot_in_it_is_no_way_in() {
    let bed = bed("allow=*.example.org", |_| Vec::new()).await;
    let mut question = ask("x.y", A);
    // one label `a.example` below `org` is not a name below example.org
    question.splice(12..17, [&[9][..], b"a.example", &[3], b"org", &[0]].concat());
    assert_eq!(heard(&bed.resolver.answer(&question).await.unwrap()).code, NXDOMAIN);
    assert_eq!(bed.server.count(), 0);
}

#[tokio::test]
async fn a_name_is_open_before_it_is_answered_and_not_answered_if_it_is_not() {
    let server =
        Server::start(|query| vec![Act::Send(reply(query, 0, &[address(&query.name, 60, "9.9.9.9")], &[]))])
            .await;
    let (go, wait) = tokio::sync::watch::channel(false);
    let allow: Allow = Box::new(move |opened| {
        let mut wait = wait.clone();
        Box::pin(async move {
            if opened.name.starts_with("bad") {
                return Err(std::io::Error::other("no such set"));
            }
            drop(wait.wait_for(|go| *go).await);
            Ok(())
        })
    });
    let policy = "allow=a.example:443,a.example:80,bad.example".parse().unwrap();
    let resolver = Resolver::new(policy, quick(vec![server.address]), NameLimits::default(), allow);
    assert_eq!(heard(&resolver.answer(&ask("bad.example", A)).await.unwrap()).code, SERVFAIL);
    let question = ask("a.example", A);
    let early = tokio::time::timeout(Duration::from_millis(200), resolver.answer(&question)).await;
    assert!(early.is_err(), "answered before it was open");
    go.send(true).unwrap();
    assert_eq!(heard(&resolver.answer(&question).await.unwrap()).data(), ["9.9.9.9"]);
}

#[tokio::test]
async fn a_name_opens_its_public_addresses_and_no_private_one() {
    let bed = bed("allow=a.example:443,a.example:80,10.1.0.0/16:5432", |query| {
        let answers = ["10.1.0.1", "10.2.0.1", "9.9.9.9"].map(|text| address(&query.name, 60, text));
        vec![Act::Send(reply(query, 0, &answers, &[]))]
    })
    .await;
    // the first is reachable by the network's rule, at its port only
    assert_eq!(bed.ask("a.example", A).await.data(), ["10.1.0.1", "9.9.9.9"]);
    let time = Duration::from_secs(180);
    let addresses = vec![(ip("9.9.9.9"), Ports::One(443), time), (ip("9.9.9.9"), Ports::One(80), time)];
    assert_eq!(bed.opened(), [Opened { name: "a.example".into(), addresses }]);
}

#[tokio::test]
async fn reverse_names_of_the_hosts_network_are_not_told() {
    let bed = bed("internet,allow=10.9.9.9:80", |query| {
        vec![Act::Send(reply(query, 0, &[record(&query.name, 12, 60, &labels("host.example"))], &[]))]
    })
    .await;
    const PTR: u16 = 12;
    assert_eq!(bed.ask("1.0.0.10.in-addr.arpa", PTR).await.code, NXDOMAIN);
    assert_eq!(bed.ask("1.0.8.e.f.ip6.arpa", PTR).await.code, NXDOMAIN);
    assert_eq!(bed.ask("10.in-addr.arpa", PTR).await.code, NXDOMAIN);
    assert_eq!(bed.ask("9.9.9.9.in-addr.arpa", PTR).await.data(), ["host.example."]);
    assert_eq!(bed.ask("9.9.9.10.in-addr.arpa", PTR).await.data(), ["host.example."]);
}
