//! The resolver against name servers that answer, lie, are slow or silent, over real sockets.

mod fake;
mod figures;
mod hostile;
mod policy;
mod serving;

use std::{
    net::IpAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use super::{Allow, NameLimits, Opened, Resolver, Servers, Upstreams, message::Message};
use fake::{Act, Query, Server, address, alias, ask, cut, reply, soa};

const A: u16 = 1;
const AAAA: u16 = 28;
const HTTPS: u16 = 65;

/// A resolver, its name server, and what it opened.
struct Bed {
    server: Server,
    resolver: Resolver,
    opened: Arc<Mutex<Vec<Opened>>>,
}

fn recording(opened: &Arc<Mutex<Vec<Opened>>>) -> Allow {
    let opened = opened.clone();
    Box::new(move |what| {
        opened.lock().unwrap().push(what);
        Box::pin(async { Ok(()) })
    })
}

fn quick(addresses: Vec<std::net::SocketAddr>) -> Arc<Upstreams> {
    Upstreams::fixed(Servers { addresses, timeout: Duration::from_millis(300), attempts: 2 })
}

async fn bed(policy: &str, acts: impl Fn(&Query) -> Vec<Act> + Send + Sync + 'static) -> Bed {
    let server = Server::start(acts).await;
    let opened = Arc::default();
    let upstreams = quick(vec![server.address]);
    let resolver =
        Resolver::new(policy.parse().unwrap(), upstreams, NameLimits::default(), recording(&opened));
    Bed { server, resolver, opened }
}

/// An answer as a guest reads it.
#[derive(Debug, PartialEq)]
struct Heard {
    code: u16,
    /// Name, type and the last word of the data.
    records: Vec<(String, String, String)>,
    ttl: Option<u32>,
    authorities: usize,
}

impl Heard {
    fn data(&self) -> Vec<&str> {
        self.records.iter().map(|(_, _, data)| data.as_str()).collect()
    }
}

fn heard(bytes: &[u8]) -> Heard {
    let message = Message::from_vec(bytes).unwrap();
    assert_eq!((message.metadata.id, &bytes[2..3]), (0x1234, &b"\x81"[..]), "not an answer to ours");
    assert!(message.additionals.is_empty() && message.metadata.recursion_available);
    let record = |record: &super::message::Record| {
        (record.name.to_string(), record.record_type().to_string(), record.data.to_string())
    };
    Heard {
        code: message.metadata.response_code.into(),
        records: message.answers.iter().map(record).collect(),
        ttl: message.answers.first().or(message.authorities.first()).map(|record| record.ttl),
        authorities: message.authorities.len(),
    }
}

impl Bed {
    async fn ask(&self, name: &str, kind: u16) -> Heard {
        heard(&self.resolver.answer(&ask(name, kind)).await.unwrap())
    }

    fn opened(&self) -> Vec<Opened> {
        self.opened.lock().unwrap().clone()
    }

    fn refused(&self) -> Vec<String> {
        let refused = self.resolver.refused_names();
        refused.iter().map(|one| format!("{} {} {} x{}", one.name, one.kind, one.why, one.count)).collect()
    }
}

const SERVFAIL: u16 = 2;
const NXDOMAIN: u16 = 3;

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[tokio::test]
async fn an_answer_is_passed_on_and_kept() {
    let bed = bed("internet", |query| {
        assert!(query.edns && !query.tcp);
        let answers = [
            alias(&query.name, 300, "cdn.example.net"),
            address("cdn.example.net", 60, "93.184.216.34"),
            address("cdn.example.net", 90, "93.184.216.35"),
            address("unasked.example.net", 60, "93.184.216.36"),
        ];
        vec![Act::Send(reply(query, 0, &answers, &[soa("example.net", 60, 60)]))]
    })
    .await;
    let first = bed.ask("WWW.example.org", A).await;
    assert_eq!(first.data(), ["cdn.example.net.", "93.184.216.34", "93.184.216.35"]);
    assert_eq!((first.ttl, first.authorities, first.code), (Some(60), 0, 0));
    assert_eq!(bed.ask("www.EXAMPLE.org", A).await.data(), first.data());
    assert_eq!(bed.server.count(), 1, "asked again");
    assert!(bed.opened().is_empty(), "nothing is closed under internet");
    assert_eq!(bed.resolver.names_of(ip("93.184.216.34")), ["www.example.org"]);
    assert!(bed.refused().is_empty());
}

#[tokio::test]
async fn negative_answers_are_kept_for_the_zones_time() {
    let bed = bed("internet", |query| {
        let code = if query.name.starts_with("no") { 3 } else { 0 };
        vec![Act::Send(reply(query, code, &[], &[soa("example.org", 900, 77)]))]
    })
    .await;
    for (name, code) in [("no.example.org", NXDOMAIN), ("empty.example.org", 0)] {
        for _ in 0..3 {
            let heard = bed.ask(name, A).await;
            assert_eq!((heard.code, heard.ttl, heard.authorities), (code, Some(77), 1), "{name}");
        }
    }
    assert_eq!(bed.server.count(), 2);
}

#[tokio::test]
async fn times_to_live_have_a_floor_and_a_cap() {
    let bed = bed("allow=*.example.org:443", |query| {
        let ttl = if query.name.starts_with("short") { 0 } else { 1_000_000 };
        vec![Act::Send(reply(query, 0, &[address(&query.name, ttl, "9.9.9.9")], &[]))]
    })
    .await;
    assert_eq!(bed.ask("short.example.org", A).await.ttl, Some(5));
    assert_eq!(bed.ask("long.example.org", A).await.ttl, Some(3600));
    let times: Vec<u64> = bed.opened().iter().map(|opened| opened.addresses[0].2.as_secs()).collect();
    assert_eq!(times, [125, 3720], "open for as long as the guest may keep it, and the grace");
}

#[tokio::test]
async fn a_cut_answer_is_asked_for_over_tcp() {
    let bed = bed("internet", |query| {
        let many: Vec<_> = (0..200).map(|last| address(&query.name, 60, &format!("9.9.9.{last}"))).collect();
        vec![Act::Send(if query.tcp { reply(query, 0, &many, &[]) } else { cut(query) })]
    })
    .await;
    assert_eq!(bed.ask("many.example.org", A).await.records.len(), 200);
    assert_eq!(bed.server.count(), 2);
}

#[tokio::test]
async fn a_server_that_knows_no_edns_is_asked_without() {
    let bed = bed("internet", |query| {
        let code = if query.edns { 1 } else { 0 };
        vec![Act::Send(reply(query, code, &[address(&query.name, 60, "9.9.9.9")], &[]))]
    })
    .await;
    assert_eq!(bed.ask("old.example.org", A).await.data(), ["9.9.9.9"]);
}

#[tokio::test]
async fn losses_are_made_up_for_and_the_server_that_answers_is_asked_first() {
    let silent = Server::start(|_| Vec::new()).await;
    let failing = Server::start(|query| vec![Act::Send(reply(query, 2, &[], &[]))]).await;
    let good =
        Server::start(|query| vec![Act::Send(reply(query, 0, &[address(&query.name, 60, "9.9.9.9")], &[]))])
            .await;
    let upstreams = quick(vec![silent.address, failing.address, good.address]);
    let resolver = Resolver::new(
        "internet".parse().unwrap(),
        upstreams,
        NameLimits::default(),
        recording(&Arc::default()),
    );
    for name in ["a.example.org", "b.example.org"] {
        assert_eq!(heard(&resolver.answer(&ask(name, A)).await.unwrap()).data(), ["9.9.9.9"]);
    }
    assert_eq!((silent.count(), failing.count(), good.count()), (1, 1, 2));
}

#[tokio::test]
async fn a_lost_datagram_is_sent_again() {
    let lost = Mutex::new(false);
    let bed = bed("internet", move |query| {
        if !std::mem::replace(&mut *lost.lock().unwrap(), true) {
            return Vec::new();
        }
        vec![Act::Send(reply(query, 0, &[address(&query.name, 60, "9.9.9.9")], &[]))]
    })
    .await;
    assert_eq!(bed.ask("a.example.org", A).await.data(), ["9.9.9.9"]);
    assert_eq!(bed.server.count(), 2);
}

#[tokio::test]
async fn equal_questions_share_one_flight_that_outlives_its_first_asker() {
    let bed = bed("allow=slow.example.org", |query| {
        let answer = reply(query, 0, &[address(&query.name, 60, "9.9.9.9")], &[]);
        vec![Act::Wait(Duration::from_millis(150)), Act::Send(answer)]
    })
    .await;
    let question = ask("slow.example.org", A);
    let first = tokio::time::timeout(Duration::from_millis(50), bed.resolver.answer(&question)).await;
    assert!(first.is_err(), "answered at once");
    let others = (0..20).map(|_| bed.ask("slow.example.org", A));
    for heard in futures_util::future::join_all(others).await {
        assert_eq!(heard.data(), ["9.9.9.9"]);
    }
    assert_eq!((bed.server.count(), bed.opened().len()), (1, 1));
}

#[tokio::test]
async fn the_hosts_list_is_followed() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("resolv.conf");
    let upstreams = Upstreams::follow(&file);
    assert_eq!(upstreams.servers().0.addresses[0].to_string(), "127.0.0.1:53");
    for (text, expected) in
        [("nameserver 192.0.2.1\n", "192.0.2.1:53"), ("nameserver 192.0.2.77\n", "192.0.2.77:53")]
    {
        std::fs::write(&file, text).unwrap();
        tokio::time::sleep(Duration::from_millis(1100)).await;
        assert_eq!(upstreams.servers().0.addresses[0].to_string(), expected);
    }
    std::fs::remove_file(&file).unwrap();
    tokio::time::sleep(Duration::from_millis(1100)).await;
    assert_eq!(upstreams.servers().0.addresses[0].to_string(), "192.0.2.77:53", "forgotten");
}
