//! Calls to what does not answer as it should.

use std::{
    io::Write as _,
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, Instant},
};

use flate2::{Compression, write::GzEncoder};
use forgejo::{Client, Code, Credential, Error, Fetch, Instance, Lifetime, Options, Registration, Runner};
use testkit::forge::{Answer, Fault, Forge, Method, Settings, Summaries, TaskSpec};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

fn options(url: &str) -> Options {
    Options::new(Instance::parse(url).expect("url"), "ampoule-test/1")
}

fn client(url: &str) -> Client {
    Client::new(&options(url)).expect("client")
}

fn runner(forge: &Forge) -> Runner {
    client(&forge.url()).runner(forge.add_runner("one", &[], Lifetime::Persistent))
}

fn answer(status: u16, headers: &[(&str, &str)], body: &[u8]) -> Fault {
    let headers = headers.iter().map(|&(name, value)| (name.to_owned(), value.to_owned())).collect();
    Fault::Answer(Answer { status, headers, body: body.to_vec() })
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).expect("gzip");
    encoder.finish().expect("gzip")
}

/// Takes one request and answers with these bytes; gives the request's head.
async fn raw(reply: &'static [u8]) -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind");
    let address = listener.local_addr().expect("address");
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accept");
        let mut head = Vec::new();
        while !head.windows(4).any(|end| end == b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("a head"));
        }
        stream.write_all(reply).await.expect("answer");
        let _ = stream.shutdown().await;
        // reads what is left, so that the end is no reset
        let _ = stream.read_to_end(&mut Vec::new()).await;
        String::from_utf8(head).expect("text")
    });
    (address, server)
}

#[tokio::test]
async fn the_head_of_a_request_is_as_the_protocol_says() {
    const PONG: &[u8] =
        b"HTTP/1.1 200 OK\r\ncontent-type: application/proto\r\ncontent-length: 4\r\n\r\n\x0a\x02hi";
    let (address, server) = raw(PONG).await;
    let pong = client(&format!("http://{address}/git/")).ping("x").await.expect("pong");
    assert_eq!(pong, "hi");
    let head = server.await.expect("head");
    let lower = head.to_lowercase();
    assert!(head.starts_with("POST /git/api/actions/ping.v1.PingService/Ping HTTP/1.1\r\n"), "{head}");
    for line in [
        "content-type: application/proto",
        "connect-protocol-version: 1",
        "accept-encoding: gzip",
        "user-agent: ampoule-test/1",
        "content-length: 3",
    ] {
        assert!(lower.contains(&format!("\r\n{line}\r\n")), "{line} is not in {head}");
    }
    assert!(!lower.contains("x-runner-"), "{head}");
}

#[tokio::test]
async fn a_refusal_has_its_code() {
    let forge = Forge::start().await;
    let runner = runner(&forge);
    for (code, transient) in [
        (Code::Unauthenticated, false),
        (Code::AlreadyExists, false),
        (Code::InvalidArgument, false),
        (Code::ResourceExhausted, true),
        (Code::Internal, true),
        (Code::Unavailable, true),
        (Code::DeadlineExceeded, true),
    ] {
        forge.plan_next(Method::FetchTask, Fault::Refuse(code));
        let refused = runner.fetch_task(&Fetch::default()).await.expect_err("planned");
        assert_eq!((refused.code(), refused.is_transient()), (Some(code), transient), "{refused}");
    }
    let stranger =
        Credential { uuid: "00000000-0000-4000-8000-0000000000ff".to_owned(), token: "t0ken".into() };
    let refused = client(&forge.url()).runner(stranger).declare("1", &[]).await.expect_err("unknown");
    assert_eq!(refused.to_string(), "the forge says unauthenticated (HTTP 401): unregistered runner");
    let registration = Registration {
        name: "one".to_owned(),
        token: "wr0ng".into(),
        labels: vec![],
        version: "1".to_owned(),
        lifetime: Lifetime::Persistent,
    };
    assert!(!format!("{registration:?}").contains("wr0ng"));
    let refused = client(&forge.url()).register(registration).await.expect_err("a wrong token");
    assert_eq!(refused.code(), Some(Code::InvalidArgument));
    assert!(!refused.is_transient() && !format!("{refused:?}").contains("wr0ng"), "{refused:?}");
}

#[tokio::test]
async fn an_older_forge_and_no_forge_know_no_such_call() {
    let forge =
        Forge::start_with(Settings { summaries: Summaries::Unimplemented, ..Settings::default() }).await;
    let task = forge.add(TaskSpec::new(""));
    let runner = runner(&forge);
    runner.fetch_task(&Fetch::default()).await.expect("fetch");
    let refused = runner.update_step_summary(task, &[]).await.expect_err("older");
    assert_eq!((refused.code(), refused.is_transient()), (Some(Code::Unimplemented), false));
    let elsewhere = client(&format!("{}/elsewhere", forge.url())).ping("x").await.expect_err("404");
    assert_eq!((elsewhere.code(), elsewhere.is_transient()), (Some(Code::Unimplemented), false));
}

#[tokio::test]
async fn what_is_no_answer_of_a_forge() {
    let forge = Forge::start().await;
    let runner = runner(&forge);
    let proto = ("content-type", "application/proto");
    let html = ("content-type", "text/html; charset=utf-8");
    let plan = async |fault| {
        forge.plan_next(Method::FetchTask, fault);
        runner.fetch_task(&Fetch::default()).await
    };

    let page = plan(answer(200, &[html], b"<html>log in")).await.expect_err("a page");
    assert!(matches!(&page, Error::ContentType { found } if found == "text/html; charset=utf-8"), "{page:?}");
    let nothing = plan(answer(200, &[], b"")).await.expect_err("no type");
    assert!(matches!(&nothing, Error::ContentType { found } if found.is_empty()), "{nothing:?}");
    let typed =
        plan(answer(200, &[("content-type", "Application/Proto; x=y")], b"")).await.expect("an empty answer");
    assert!(typed.tasks.is_empty());
    let garbage = plan(answer(200, &[proto], b"\xff\xff\xff")).await.expect_err("garbage");
    assert!(matches!(garbage, Error::Malformed { .. }), "{garbage:?}");
    assert!(!garbage.is_transient());
    let text = plan(answer(200, &[proto], b"\x0a\x05\x22\x03\x0a\x01\xff")).await.expect_err("no UTF-8");
    assert!(matches!(text, Error::Decode(_)), "{text:?}");
    let proxy = plan(answer(502, &[html], b"<html>bad gateway")).await.expect_err("a proxy");
    assert_eq!((proxy.code(), proxy.is_transient()), (Some(Code::Unavailable), true));
    let large = plan(answer(413, &[html], b"<html>")).await.expect_err("413");
    assert!(large.is_too_large() && !large.is_transient());
}

#[tokio::test]
async fn a_credential_does_not_follow_a_redirect() {
    let target = Forge::start().await;
    let forge = Forge::start().await;
    let runner = runner(&forge);
    for status in [301, 302, 303, 307, 308] {
        let location = format!("{}/api/actions/runner.v1.RunnerService/FetchTask", target.url());
        forge.plan_next(Method::FetchTask, answer(status, &[("location", &location)], b""));
        let refused = runner.fetch_task(&Fetch::default()).await.expect_err("a redirect");
        assert!(matches!(refused, Error::Refused { status: s, .. } if s == status), "{refused:?}");
        assert!(!refused.is_transient());
    }
    assert_eq!(target.calls().len(), 0);
}

#[tokio::test]
async fn gzip_is_understood_and_counted_unpacked() {
    let forge = Forge::start().await;
    let runner = runner(&forge);
    let headers = [("content-type", "application/proto"), ("content-encoding", "gzip")];
    // tasks_version = 5
    forge.plan_next(Method::FetchTask, answer(200, &headers, &gzip(b"\x10\x05")));
    assert_eq!(runner.fetch_task(&Fetch::default()).await.expect("gzip").tasks_version, 5);

    let bomb = gzip(&vec![0; 33 << 20]);
    assert!(bomb.len() < 1 << 20);
    forge.plan_next(Method::FetchTask, answer(200, &headers, &bomb));
    let refused = runner.fetch_task(&Fetch::default()).await.expect_err("a bomb");
    assert!(matches!(refused, Error::TooLarge { limit } if limit == 32 << 20), "{refused:?}");
    forge.plan_next(Method::Declare, answer(200, &headers, &gzip(&vec![0; (1 << 20) + 1])));
    let refused = runner.declare("1", &[]).await.expect_err("too much for a name");
    assert!(matches!(refused, Error::TooLarge { limit } if limit == 1 << 20), "{refused:?}");
    // an endless refusal is a refusal
    forge.plan_next(Method::Declare, answer(500, &headers, &bomb));
    assert_eq!(runner.declare("1", &[]).await.expect_err("500").code(), Some(Code::Unknown));

    let cut = &gzip(b"\x10\x05")[..12];
    forge.plan_next(Method::FetchTask, answer(200, &headers, cut));
    let refused = runner.fetch_task(&Fetch::default()).await.expect_err("half a stream");
    assert!(matches!(refused, Error::Broken(_)), "{refused:?}");
}

#[tokio::test]
async fn broken_connections_are_worth_another_try() {
    let forge = Forge::start().await;
    let runner = runner(&forge);
    for fault in [Fault::LoseAnswer, Fault::LoseRequest, Fault::CutAnswer] {
        forge.plan_next(Method::FetchTask, fault);
        let before = forge.count(Method::FetchTask);
        let broken = runner.fetch_task(&Fetch::default()).await.expect_err("planned");
        assert!(matches!(broken, Error::Broken(_)) && broken.is_transient(), "{broken:?}");
        assert_eq!((broken.code(), forge.count(Method::FetchTask)), (None, before + 1), "no second request");
    }
    runner.fetch_task(&Fetch::default()).await.expect("the next one is well");

    let nobody = TcpListener::bind(("127.0.0.1", 0)).await.expect("bind").local_addr().expect("address");
    let refused = client(&format!("http://{nobody}")).ping("x").await.expect_err("nobody");
    assert!(matches!(refused, Error::Connect(_)) && refused.is_transient(), "{refused:?}");
}

#[tokio::test]
async fn an_answer_that_does_not_come_ends_the_call() {
    let forge = Forge::start().await;
    forge.plan_next(Method::Ping, Fault::Delay(Duration::from_secs(60)));
    let client = Client::new(&Options { timeout: Duration::from_millis(200), ..options(&forge.url()) })
        .expect("client");
    let begin = Instant::now();
    let late = client.ping("x").await.expect_err("late");
    assert!(matches!(late, Error::Timeout(_)) && late.is_transient(), "{late:?}");
    assert!(begin.elapsed() < Duration::from_secs(30));
}

#[tokio::test]
async fn a_credential_with_a_line_break_is_not_sent() {
    let forge = Forge::start().await;
    let bad = Credential { uuid: "u".to_owned(), token: "a\r\nx-admin: hunter2".into() };
    let refused = client(&forge.url()).runner(bad).declare("1", &[]).await.expect_err("a line break");
    assert!(matches!(refused, Error::Credential { part: "token" }), "{refused:?}");
    assert!(!format!("{refused} {refused:?}").contains("hunter2"));
    assert!(forge.calls().is_empty());
}

#[test]
fn a_ca_file_is_read_at_once() {
    let dir = tempfile::tempdir().expect("dir");
    let ca =
        |ca_file: PathBuf| Client::new(&Options { ca_file: Some(ca_file), ..options("https://c.example") });
    let absent = ca(dir.path().join("absent.pem")).expect_err("absent");
    assert!(matches!(absent, Error::CaFile { .. }), "{absent:?}");
    let empty = dir.path().join("empty.pem");
    std::fs::write(&empty, "no certificate\n").expect("write");
    let refused = ca(empty).expect_err("empty");
    assert!(matches!(refused, Error::CaFormat { .. }), "{refused:?}");
}
