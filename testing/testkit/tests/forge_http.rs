//! The test forge as HTTP shows it: what no client of ours would send or look at.

use forgejo::messages::ping::PingRequest;
use prost::Message as _;
use testkit::forge::{Forge, Settings, TaskSpec};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

/// One request; gives the head and the body of the answer.
async fn talk(
    forge: &Forge,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (String, Vec<u8>) {
    let mut stream = TcpStream::connect(forge.address()).await.expect("connect");
    let mut head = format!("{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", body.len()));
    stream.write_all(head.as_bytes()).await.expect("head");
    stream.write_all(body).await.expect("body");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.expect("answer");
    let end = answer.windows(4).position(|end| end == b"\r\n\r\n").expect("a head") + 4;
    (String::from_utf8_lossy(&answer[..end]).to_lowercase(), answer[end..].to_vec())
}

const PING: &str = "/api/actions/ping.v1.PingService/Ping";
const PROTO: (&str, &str) = ("content-type", "application/proto");

#[tokio::test]
async fn only_posts_of_protobuf_to_known_calls_below_the_prefix() {
    let forge = Forge::start_with(Settings { prefix: "/git".to_owned(), ..Settings::default() }).await;
    let path = format!("/git{PING}");
    for (method, path, kind, status) in [
        ("POST", path.as_str(), PROTO.1, 200),
        ("GET", path.as_str(), PROTO.1, 404),
        ("POST", PING, PROTO.1, 404),
        ("POST", "/git/api/actions/ping.v1.PingService/Pong", PROTO.1, 404),
        ("POST", path.as_str(), "application/json", 415),
    ] {
        let (head, _) = talk(&forge, method, path, &[("content-type", kind)], b"\x0a\x01x").await;
        assert!(head.starts_with(&format!("http/1.1 {status} ")), "{method} {path} {kind}: {head}");
    }
    assert_eq!(forge.calls().len(), 1);
    let (head, body) = talk(&forge, "POST", &path, &[PROTO], b"\xff").await;
    assert!(head.starts_with("http/1.1 400 ") && head.contains("content-type: application/json"), "{head}");
    assert!(body.starts_with(br#"{"code":"invalid_argument""#), "{body:?}");
}

#[tokio::test]
async fn answers_from_1024_bytes_are_compressed_for_whom_wants_it() {
    let forge = Forge::start().await;
    for (length, accept, compressed) in
        [(900, "gzip", false), (1100, "gzip", true), (1100, "identity", false)]
    {
        let body = PingRequest { data: "x".repeat(length) }.encode_to_vec();
        let (head, answer) = talk(&forge, "POST", PING, &[PROTO, ("accept-encoding", accept)], &body).await;
        assert_eq!(head.contains("content-encoding: gzip"), compressed, "{length} {accept}: {head}");
        assert_eq!(answer.starts_with(&[0x1f, 0x8b]), compressed);
    }
}

#[tokio::test]
async fn the_server_ends_with_its_forge() {
    let forge = Forge::start().await;
    forge.add(TaskSpec::new(""));
    let address = forge.address();
    let mut open = TcpStream::connect(address).await.expect("connect");
    drop(forge);
    assert_eq!(open.read(&mut [0]).await.unwrap_or(0), 0, "the connection ends");
    assert!(TcpStream::connect(address).await.is_err(), "and nobody listens");
}
