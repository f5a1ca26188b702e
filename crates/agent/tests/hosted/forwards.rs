//! Forwards of a hosted agent: they are on this host's loopback network.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, TcpListener, TcpStream},
    time::Duration,
};

use rustix::net::sockopt::set_socket_linger;
use wire::{
    CREDIT, Code, Direction, StreamId,
    message::{Accept, Answer, Bind, Body, FailureKind, Forward, Inherited, Network},
};

use crate::support::Host;

/// A free port where a forward will listen.
fn free() -> u16 {
    let listener = TcpListener::bind("127.19.7.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

fn bind(host: &mut Host, forwards: Vec<Forward>) -> Result<Answer, wire::message::Failure> {
    let Body::Bind(bind) = host.bind_request(Inherited::GoOn) else { panic!("no bind") };
    let network = Some(Network { card: None, names: None, forwards });
    host.ask(Body::Bind(Bind { network, ..bind }))
}

fn forward(name: &str, port: u16) -> Forward {
    Forward { name: name.into(), address: Ipv4Addr::new(198, 19, 7, 1), ports: vec![port] }
}

/// An agent with one forward.
fn forwarded() -> (Host, u16) {
    let (mut host, port) = (Host::prepared(), free());
    bind(&mut host, vec![forward("a.test", port)]).expect("it listens");
    (host, port)
}

/// Connects as a process of the guest.
fn connect(port: u16) -> TcpStream {
    let stream = TcpStream::connect(("127.19.7.1", port)).expect("it listens");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("a time-out");
    stream
}

/// The stream that the agent asks for next, without an answer.
fn opened(host: &mut Host) -> (StreamId, String) {
    host.until("a stream", |host| host.opened.pop())
}

fn accept(host: &mut Host, stream: StreamId) {
    host.mux.accept(stream, Direction::Both).expect("a stream");
    assert_eq!(host.ask(Body::Accept(Accept { stream })), Ok(Answer::Done));
}

fn accepted(host: &mut Host) -> StreamId {
    let (stream, _) = opened(host);
    accept(host, stream);
    stream
}

#[test]
fn bytes_and_ends_pass_in_both_directions() {
    let (mut host, port) = forwarded();
    let mut one = connect(port);
    let (stream, service) = opened(&mut host);
    assert_eq!(service, format!("forward:a.test:{port}"));
    one.write_all(b"before it was accepted").unwrap();
    accept(&mut host, stream);
    host.until("bytes", |host| (host.text(stream) == "before it was accepted").then_some(()));
    one.shutdown(Shutdown::Write).unwrap();
    host.until("an end", |host| host.streams.get(&stream)?.fin.then_some(()));
    host.feed(stream, b"an answer behind the end");
    host.mux.finish(stream);
    host.until("a close", |host| (!host.mux.is_open(stream)).then_some(()));
    let mut text = String::new();
    one.read_to_string(&mut text).unwrap();
    assert_eq!(text, "an answer behind the end");
}

#[test]
fn resets_pass_in_both_directions() {
    let (mut host, port) = forwarded();
    // refused, before and after it was accepted
    for late in [false, true] {
        let mut one = connect(port);
        let (stream, _) = opened(&mut host);
        if late {
            accept(&mut host, stream);
        }
        host.mux.reset(stream, Code::REFUSED);
        host.step(1);
        assert_eq!(one.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    }
    // by the process: before it was accepted, which the agent then refuses, and afterwards, while nothing is read
    let one = connect(port);
    let (stream, _) = opened(&mut host);
    set_socket_linger(&one, Some(Duration::ZERO)).unwrap();
    drop(one);
    host.mux.accept(stream, Direction::Both).expect("a stream");
    let answer = host.ask(Body::Accept(Accept { stream }));
    let told = host.streams.get(&stream).and_then(|stream| stream.reset);
    assert!(answer.is_err_and(|error| error.kind == FailureKind::State) || told.is_some());
    let mut one = connect(port);
    let stream = accepted(&mut host);
    host.stalled.push(stream);
    one.set_nonblocking(true).unwrap();
    let full = vec![0; 1 << 20];
    while host.streams.get(&stream).is_none_or(|stream| (stream.held as u64) < CREDIT) {
        let _ = one.write(&full);
        host.step(1);
    }
    set_socket_linger(&one, Some(Duration::ZERO)).unwrap();
    drop(one);
    host.until("a reset", |host| host.streams.get(&stream)?.reset);
}

#[test]
fn what_is_not_in_the_next_table_is_reset_and_what_is_goes_on() {
    let (mut host, port) = forwarded();
    let other = free();
    let two = Forward { ports: vec![port, other], ..forward("a.test", port) };
    bind(&mut host, vec![two]).expect("it listens");
    let mut stays = connect(port);
    let stream = accepted(&mut host);
    let mut gone = connect(other);
    let second = accepted(&mut host);
    bind(&mut host, vec![forward("a.test", port)]).expect("it listens");
    assert_eq!(gone.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    host.until("a reset", |host| host.streams.get(&second)?.reset);
    assert!(TcpStream::connect(("127.19.7.1", other)).is_err(), "nobody listens there any more");
    host.feed(stream, b"still");
    host.step(1);
    let mut text = [0; 5];
    stays.read_exact(&mut text).unwrap();
    assert_eq!(&text, b"still");
    // another epoch: another host, which knows nothing of it
    host.reconnect(2);
    assert_eq!(stays.read(&mut text).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let _fresh = connect(port);
    host.until_in(2, "a stream", |host| host.opened.pop().map(drop));
}

#[test]
fn one_more_than_there_can_be_is_reset_and_the_agent_goes_on() {
    let (mut host, port) = forwarded();
    let mut all = Vec::new();
    for _ in 0..2048 {
        all.push(connect(port));
        if all.len() % 256 == 0 {
            host.step(1);
        }
    }
    host.until("all streams", |host| (host.opened.len() == 2048).then_some(()));
    let mut more = connect(port);
    host.step(1);
    assert_eq!(more.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::ConnectionReset);
    let (exited, out, _) = host.run("echo fine");
    assert_eq!((exited.code, out.as_str()), (Some(0), "fine\n"));
}

#[test]
fn a_table_that_makes_no_sense_is_refused() {
    let mut host = Host::prepared();
    let refused = bind(&mut host, vec![forward("A", 80)]).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Invalid);
    let taken = TcpListener::bind("127.19.7.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let refused = bind(&mut host, vec![forward("a", port)]).unwrap_err();
    assert_eq!(refused.kind, FailureKind::Io);
    assert_eq!(host.ask(Body::Accept(Accept { stream: StreamId(2) })).unwrap_err().kind, FailureKind::State);
}
