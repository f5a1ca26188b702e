//! Streams that a guest asks for: what leads somewhere, what is refused, and what a hostile one can do with that.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use sandbox::{Bind, Destination, Engine, Error, Forward, Lease, LeaseSpec, Services};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt, duplex},
    net::TcpListener,
};
use tokio_util::sync::CancellationToken;
use vm::Link;
use wire::message::Others;

use crate::guest::{Manner, Memory, engine, hosted, run, until};

/// Connections that a VM can have.
const MOST: usize = 2048;

/// A server that sends back what it gets, in capitals, and ends when its client has.
async fn shouter() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut text = Vec::new();
                stream.read_to_end(&mut text).await.unwrap();
                stream.write_all(&text.to_ascii_uppercase()).await.unwrap();
            });
        }
    });
    port
}

fn forward(name: &str, port: u16, to: Destination) -> Forward {
    Forward { name: name.into(), port, to }
}

fn tcp(port: u16) -> Destination {
    Destination::Tcp { host: "127.0.0.1".into(), port }
}

fn with(forwards: Vec<Forward>, services: Services) -> LeaseSpec {
    let spec = hosted();
    LeaseSpec { bind: Bind { forwards, services, ..spec.bind }, ..spec }
}

/// A service that greets, and one that never connects; how often that was asked.
fn services() -> (Services, Arc<AtomicUsize>) {
    let greeter = || async {
        let (ours, mut theirs) = duplex(1024);
        tokio::spawn(async move {
            let mut text = Vec::new();
            theirs.read_to_end(&mut text).await.unwrap();
            theirs.write_all(&[b"greeted: ", &text[..]].concat()).await.unwrap();
        });
        Ok(Box::new(ours) as Link)
    };
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let stuck = move || {
        count.fetch_add(1, Ordering::SeqCst);
        std::future::pending::<io::Result<Link>>()
    };
    (Services::default().with("greeter", Arc::new(greeter)).with("stuck", Arc::new(stuck)), asked)
}

async fn open(lease: &Lease, service: &str, count: usize) {
    let asked = lease.sandbox().exec(run(&["open", service, &count.to_string()])).await.unwrap();
    asked.collect(0).await.unwrap();
}

#[tokio::test]
async fn a_stream_leads_where_the_lease_says_and_nowhere_else() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    leads(&engine, &backend).await;
    engine.close().await;
}

#[tokio::test]
async fn so_it_does_where_the_engine_is_another_process() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let listening = sandbox::Listening::at(&dir.path().join("engine.sock")).unwrap();
    let path = listening.path().to_owned();
    let stop = CancellationToken::new();
    let stopped = stop.clone();
    let served = tokio::spawn(async move { sandbox::serve(engine, &listening, None, stopped).await });
    let client = Engine::connect(&path).await.unwrap();
    leads(&client, &backend).await;
    client.close().await;
    stop.cancel();
    assert_eq!(served.await.unwrap().unwrap(), sandbox::Served::Stopped);
}

async fn leads(engine: &Engine, backend: &Memory) {
    let (services, _) = services();
    let forwards = vec![
        forward("b.test", 80, tcp(shouter().await)),
        forward("a.test", 81, Destination::Service("greeter".into())),
        forward("a.test", 82, Destination::Service("no such".into())),
        forward("a.test", 83, tcp(1)),
    ];
    let lease = engine.lease(with(forwards, services), &CancellationToken::new()).await.unwrap();
    // what the guest is told
    let network = backend.seen.prepared.lock().unwrap()[0].network.clone().unwrap();
    let told: Vec<(String, String, Vec<u16>)> =
        network.forwards.into_iter().map(|f| (f.name, f.address.to_string(), f.ports)).collect();
    let expected = [("a.test", "198.19.1.1", vec![81, 82, 83]), ("b.test", "198.19.1.2", vec![80])];
    assert_eq!(told, expected.map(|(name, address, ports)| (name.into(), address.into(), ports)));
    assert_eq!(network.names.unwrap().others, Others::Nobody);

    open(&lease, "forward:b.test:80", 1).await;
    until(|| *backend.seen.received.lock().unwrap() == b"HELLO").await;
    open(&lease, "forward:a.test:81", 1).await;
    until(|| backend.seen.received.lock().unwrap().ends_with(b"greeted: hello")).await;
    assert!(backend.seen.reset.lock().unwrap().is_empty());
    let refused = [
        "forward:b.test:81",
        "forward:a.test:80",
        "forward:a.test:82",
        "forward:a.test:83",
        "forward:127.0.0.1:22",
        "dns",
        "greeter",
        "",
    ];
    for (nth, service) in refused.into_iter().enumerate() {
        open(&lease, service, 1).await;
        until(|| backend.seen.reset.lock().unwrap().len() == nth + 1).await;
    }
    lease.destroy().await.unwrap();
}

#[tokio::test]
async fn names_are_asked_where_somebody_answers() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let names = || async {
        let (ours, mut theirs) = duplex(64);
        tokio::spawn(async move { theirs.write_all(b"\0\x03abc").await });
        Ok(Box::new(ours) as Link)
    };
    let services = Services::default().with(Services::NAMES, Arc::new(names));
    let lease = engine.lease(with(Vec::new(), services), &CancellationToken::new()).await.unwrap();
    let network = backend.seen.prepared.lock().unwrap()[0].network.clone().unwrap();
    assert_eq!(network.names.unwrap().others, Others::Host);
    open(&lease, "dns", 1).await;
    until(|| *backend.seen.received.lock().unwrap() == b"\0\x03abc").await;
    engine.close().await;
}

#[tokio::test]
async fn a_destination_that_never_connects_hinders_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let (services, asked) = services();
    let names = || async {
        let (ours, mut theirs) = duplex(64);
        tokio::spawn(async move { theirs.write_all(b"\0\x03abc").await });
        Ok(Box::new(ours) as Link)
    };
    let services = services.with(Services::NAMES, Arc::new(names));
    let forwards = vec![
        forward("stuck", 80, Destination::Service("stuck".into())),
        forward("greeter", 80, Destination::Service("greeter".into())),
    ];
    let lease = engine.lease(with(forwards, services), &CancellationToken::new()).await.unwrap();
    open(&lease, "forward:stuck:80", 500).await;
    open(&lease, "forward:greeter:80", 1).await;
    until(|| *backend.seen.received.lock().unwrap() == b"greeted: hello").await;
    assert_eq!(asked.load(Ordering::SeqCst), 128, "so many are being made at a time");
    // with all places taken every other one is refused, and the VM and its commands go on
    open(&lease, "forward:stuck:80", MOST).await;
    until(|| backend.seen.reset.lock().unwrap().len() == 500).await;
    open(&lease, "forward:greeter:80", 1).await;
    until(|| backend.seen.reset.lock().unwrap().len() == 501).await;
    // but the resolver has a place of its own, and no second
    open(&lease, "dns", 1).await;
    until(|| backend.seen.received.lock().unwrap().ends_with(b"\0\x03abc")).await;
    lease.sandbox().ping().await.unwrap();
    assert_eq!(asked.load(Ordering::SeqCst), 128);
    tokio::time::timeout(Duration::from_secs(10), lease.destroy()).await.unwrap().unwrap();
    engine.close().await;
}

/// What a guest may have sent beyond what its destinations took: an agent of ours sends less on each of many connections.
#[tokio::test]
async fn a_guest_that_fills_every_connection_loses_those_that_are_too_much() {
    const COUNT: usize = 1400;
    const MOST_WAITING: usize = 192 << 20;
    /// What is on its way into a destination waits no more; a piece at a time.
    const PIECE: usize = 64 << 10;
    let credit = usize::try_from(wire::CREDIT).unwrap();
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let ends: Arc<std::sync::Mutex<Vec<_>>> = Arc::default();
    let kept = ends.clone();
    let deaf = move || {
        let (ours, theirs) = duplex(1024);
        kept.lock().unwrap().push(theirs);
        async move { Ok(Box::new(ours) as Link) }
    };
    let (others, _) = services();
    let services = others.with("deaf", Arc::new(deaf));
    let to = |name: &str| Destination::Service(name.into());
    let lease = with(vec![forward("deaf", 1, to("deaf")), forward("hi", 1, to("greeter"))], services);
    let lease = engine.lease(lease, &CancellationToken::new()).await.unwrap();
    let filled = lease.sandbox().exec(run(&["fill", "forward:deaf:1", &COUNT.to_string()])).await.unwrap();
    filled.collect(0).await.unwrap();
    // its answer came behind all of it: what is too much is cut by now, or in a moment
    let cut = || backend.seen.reset.lock().unwrap().len();
    let bounded = until(|| COUNT - cut() <= MOST_WAITING / (credit - PIECE));
    let in_time = tokio::time::timeout(Duration::from_secs(60), bounded).await;
    assert!(in_time.is_ok(), "{} are left", COUNT - cut());
    // those that are left have all that they may, and are not cut for others
    assert!(COUNT - cut() > MOST_WAITING / credit / 2, "{} are left", COUNT - cut());
    // and the VM goes on: by another connection, and by another command
    open(&lease, "forward:hi:1", 1).await;
    until(|| backend.seen.received.lock().unwrap().ends_with(b"greeted: hello")).await;
    tokio::time::timeout(Duration::from_secs(10), lease.destroy()).await.unwrap().unwrap();
    engine.close().await;
}

/// More than a VM can have, one behind the other: what is too much is reset, and a neighbour goes on.
#[tokio::test]
async fn a_guest_that_opens_a_hundred_thousand_has_some_of_them_and_stops_nobody() {
    const COUNT: usize = 100_000;
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good, Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let (services, asked) = services();
    let to = |name: &str| Destination::Service(name.into());
    let forwards = vec![forward("stuck", 1, to("stuck")), forward("hi", 1, to("greeter"))];
    let spec = with(forwards, services);
    let flooder = engine.lease(spec.clone(), &CancellationToken::new()).await.unwrap();
    let neighbour = engine.lease(spec, &CancellationToken::new()).await.unwrap();
    let reset = || backend.seen.reset.lock().unwrap().len();
    for round in 1..=COUNT / 2000 {
        open(&flooder, "forward:stuck:1", 2000).await;
        open(&neighbour, "forward:hi:1", 1).await;
        let seen = until(|| reset() + MOST >= round * 2000);
        let in_time = tokio::time::timeout(Duration::from_secs(60), seen).await;
        assert!(in_time.is_ok(), "{} of {} were reset", reset(), round * 2000);
    }
    assert_eq!(reset(), COUNT - MOST);
    assert!(asked.load(Ordering::SeqCst) <= 128, "they are made at once");
    let answers =
        || String::from_utf8_lossy(&backend.seen.received.lock().unwrap()).matches("greeted").count();
    until(|| answers() == COUNT / 2000).await;
    for lease in [flooder, neighbour] {
        tokio::time::timeout(Duration::from_secs(10), lease.destroy()).await.unwrap().unwrap();
    }
    engine.close().await;
}

#[tokio::test]
async fn tables_that_make_no_sense_are_refused_before_a_vm_begins() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let many = (0..300).map(|n| forward(&format!("n{n}"), 80, tcp(80))).collect();
    for forwards in [
        vec![forward("a", 80, tcp(80)), forward("a", 80, tcp(81))],
        vec![forward("A", 80, tcp(80))],
        vec![forward("a:80", 80, tcp(80))],
        vec![forward("a", 0, tcp(80))],
        many,
    ] {
        let spec = with(forwards, Services::default());
        let refused = engine.lease(spec, &CancellationToken::new()).await;
        assert!(matches!(refused, Err(Error::Request(_))), "{refused:?}");
    }
    assert_eq!(backend.seen.boots.load(Ordering::SeqCst), 0);
    engine.close().await;
}

#[tokio::test]
async fn a_guest_that_asks_without_end_and_reads_no_answer_is_held_up_by_its_credit() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let lease = engine.lease(hosted(), &CancellationToken::new()).await.unwrap();
    let asking = lease.sandbox();
    let asking = tokio::spawn(async move { asking.exec(run(&["open many"])).await.map(drop) });
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!(!asking.is_finished());
    tokio::time::timeout(Duration::from_secs(10), lease.destroy()).await.unwrap().unwrap();
    assert!(matches!(asking.await.unwrap(), Err(Error::Gone(sandbox::Gone::Destroyed))));
    engine.close().await;
}

#[tokio::test]
async fn a_lease_without_forwards_has_names_that_nobody_else_answers() {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let lease = engine.lease(hosted(), &CancellationToken::new()).await.unwrap();
    let network = backend.seen.prepared.lock().unwrap()[0].network.clone().unwrap();
    assert_eq!((network.card, &network.forwards[..]), (None, &[][..]));
    assert_eq!(network.names.unwrap().others, Others::Nobody);
    lease.destroy().await.unwrap();
    engine.close().await;
}
