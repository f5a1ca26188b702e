//! Version 1 in bytes. Exported snapshots hold agents that speak it: none of these may ever change.

use wire::{
    Code, Direction, Event, ExecId, Mux, StreamId,
    message::{
        Accept, Account, Answer, Bind, Body, Copied, CopyIn, CopyOut, Directory, Entropy, Exec, Exited,
        Failure, FailureKind, Freeze, Hello, HelloStream, Hooks, Inherited, Kill, Note, Open, Pong, Prepare,
        Prepared, Reply, Request, Resize, ResumeStream, Root, RootFs, Signal, Start, Started, TerminalSize,
        ToGuest, ToHost, Warm, WriteBack,
    },
};

fn golden<T>(value: &T, json: &str)
where
    T: serde::Serialize + serde::de::DeserializeOwned + PartialEq + std::fmt::Debug,
{
    assert_eq!(serde_json::to_string(value).expect("it is written"), json);
    assert_eq!(serde_json::from_str::<T>(json).expect("it is read"), *value);
}

fn asked(body: Body, json: &str) {
    let json = format!(r#"{{"type":"request","id":7,"epoch":3,"body":{json}}}"#);
    golden(&ToGuest::Request(Request { id: 7, epoch: 3, body }), &json);
}

fn answered(result: Result<Answer, Failure>, json: &str) {
    let json = format!(r#"{{"type":"reply","id":7,"result":{json}}}"#);
    golden(&ToHost::Reply(Reply { id: 7, result }), &json);
}

#[test]
fn handshakes() {
    golden(
        &Hello {
            version: 1,
            epoch: 2,
            agent: "0.1.0".into(),
            streams: vec![HelloStream { id: StreamId(0), sent: 3, received: 4 }],
        },
        r#"{"version":1,"epoch":2,"agent":"0.1.0","streams":[{"id":0,"sent":3,"received":4}]}"#,
    );
    golden(
        &Start { version: 1, epoch: 2, resume: vec![ResumeStream { id: StreamId(0), received: 5 }] },
        r#"{"version":1,"epoch":2,"resume":[{"id":0,"received":5}]}"#,
    );
}

#[test]
fn requests() {
    asked(
        Body::Prepare(Prepare {
            root: Root::Disks { root: "root".into(), fs: RootFs::Squashfs, scratch: "scratch".into() },
            hostname: "job".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            clock_ns: 1_700_000_000_000_000_000,
            entropy: Entropy(vec![0, 1, 254, 255]),
            directories: vec![Directory { path: "/tmp".into(), owner: Account::ROOT, mode: 0o1777 }],
            hooks: Hooks::Now,
            network: None,
        }),
        concat!(
            r#"{"type":"prepare","root":{"type":"disks","root":"root","fs":"squashfs","scratch":"scratch"},"#,
            r#""hostname":"job","machine_id":"0123456789abcdef0123456789abcdef","#,
            r#""clock_ns":1700000000000000000,"entropy":"AAH+/w==","#,
            r#""directories":[{"path":"/tmp","owner":{"ids":{"uid":0,"gid":0}},"mode":1023}]}"#
        ),
    );
    golden(&Root::Hosted, r#"{"type":"hosted"}"#);
    golden(&Hooks::Later, r#""later""#);
    asked(
        Body::Warm(Warm { root: "root".into(), fs: RootFs::Erofs }),
        r#"{"type":"warm","root":"root","fs":"erofs"}"#,
    );
    asked(
        Body::Bind(Bind {
            hostname: "job".into(),
            machine_id: "0123456789abcdef0123456789abcdef".into(),
            clock_ns: 1,
            entropy: Entropy(vec![0, 1, 254, 255]),
            directories: Vec::new(),
            inherited: Inherited::GoOn,
            hooks: Hooks::Now,
            network: None,
        }),
        concat!(
            r#"{"type":"bind","hostname":"job","machine_id":"0123456789abcdef0123456789abcdef","#,
            r#""clock_ns":1,"entropy":"AAH+/w==","directories":[]}"#
        ),
    );
    golden(&Inherited::Kill, r#""kill""#);
    golden(&Inherited::KillOnly(vec![ExecId(7)]), r#"{"kill_only":[7]}"#);
    golden(&RootFs::Erofs, r#""erofs""#);
    asked(
        Body::Exec(Exec {
            exec: ExecId(9),
            argv: vec!["sh".into(), "-c".into(), "true".into()],
            env: vec![("A".into(), "b".into())],
            cwd: "/".into(),
            user: Account::Name("runner".into()),
            stdin: None,
            stdout: StreamId(1),
            stderr: StreamId(3),
            timeout_ms: Some(1000),
            terminal: None,
        }),
        concat!(
            r#"{"type":"exec","exec":9,"argv":["sh","-c","true"],"env":[["A","b"]],"cwd":"/","#,
            r#""user":{"name":"runner"},"stdin":null,"stdout":1,"stderr":3,"timeout_ms":1000}"#
        ),
    );
    asked(Body::Signal(Signal { exec: ExecId(9), signal: 2 }), r#"{"type":"signal","exec":9,"signal":2}"#);
    asked(Body::Kill(Kill { exec: ExecId(9) }), r#"{"type":"kill","exec":9}"#);
    asked(
        Body::CopyIn(CopyIn { dest: "/w".into(), stream: StreamId(5), owner: Account::ROOT }),
        r#"{"type":"copy_in","dest":"/w","stream":5,"owner":{"ids":{"uid":0,"gid":0}}}"#,
    );
    asked(
        Body::CopyOut(CopyOut { path: "/w".into(), stream: StreamId(5) }),
        r#"{"type":"copy_out","path":"/w","stream":5}"#,
    );
    asked(Body::Ping, r#"{"type":"ping"}"#);
    asked(Body::Freeze(Freeze::default()), r#"{"type":"freeze"}"#);
    asked(Body::Freeze(Freeze { disks: WriteBack::None }), r#"{"type":"freeze","disks":"none"}"#);
    asked(Body::Thaw, r#"{"type":"thaw"}"#);
    asked(Body::Shutdown, r#"{"type":"shutdown"}"#);
    asked(Body::Accept(Accept { stream: StreamId(2) }), r#"{"type":"accept","stream":2}"#);
}

/// What version 1 got later: optional, so that what was before is written as it was.
#[test]
fn terminals() {
    let size = TerminalSize { rows: 24, columns: 80 };
    asked(
        Body::Exec(Exec {
            exec: ExecId(9),
            argv: vec!["sh".into()],
            env: vec![("TERM".into(), "xterm".into())],
            cwd: "/".into(),
            user: Account::ROOT,
            stdin: Some(StreamId(1)),
            stdout: StreamId(3),
            stderr: StreamId(3),
            timeout_ms: None,
            terminal: Some(size),
        }),
        concat!(
            r#"{"type":"exec","exec":9,"argv":["sh"],"env":[["TERM","xterm"]],"cwd":"/","#,
            r#""user":{"ids":{"uid":0,"gid":0}},"stdin":1,"stdout":3,"stderr":3,"timeout_ms":null,"#,
            r#""terminal":{"rows":24,"columns":80}}"#
        ),
    );
    asked(
        Body::Resize(Resize { exec: ExecId(9), rows: 50, columns: 132 }),
        r#"{"type":"resize","exec":9,"rows":50,"columns":132}"#,
    );
    answered(
        Ok(Answer::Started(Started { pid: 12, time_ns: 34, terminal: true })),
        r#"{"ok":{"type":"started","pid":12,"time_ns":34,"terminal":true}}"#,
    );
}

#[test]
fn answers() {
    answered(
        Ok(Answer::Prepared(Prepared { root_prefix: String::new(), kernel: "6.12".into(), boot_ms: 900 })),
        r#"{"ok":{"type":"prepared","root_prefix":"","kernel":"6.12","boot_ms":900}}"#,
    );
    answered(
        Ok(Answer::Started(Started { pid: 12, time_ns: 34, terminal: false })),
        r#"{"ok":{"type":"started","pid":12,"time_ns":34}}"#,
    );
    answered(
        Ok(Answer::Copied(Copied { entries: 1, bytes: 2 })),
        r#"{"ok":{"type":"copied","entries":1,"bytes":2}}"#,
    );
    answered(Ok(Answer::Pong(Pong { time_ns: 5 })), r#"{"ok":{"type":"pong","time_ns":5}}"#);
    answered(Ok(Answer::Frozen), r#"{"ok":{"type":"frozen"}}"#);
    answered(Ok(Answer::Done), r#"{"ok":{"type":"done"}}"#);
    for (kind, name) in [
        (FailureKind::NotFound, "not_found"),
        (FailureKind::Permission, "permission"),
        (FailureKind::Cwd, "cwd"),
        (FailureKind::User, "user"),
        (FailureKind::NoSpace, "no_space"),
        (FailureKind::Entry, "entry"),
        (FailureKind::Invalid, "invalid"),
        (FailureKind::State, "state"),
        (FailureKind::Io, "io"),
    ] {
        answered(
            Err(Failure { kind, message: "why".into() }),
            &format!(r#"{{"error":{{"kind":"{name}","message":"why"}}}}"#),
        );
    }
}

#[test]
fn what_the_guest_says_by_itself() {
    golden(
        &ToHost::Exited(Exited {
            exec: ExecId(9),
            code: Some(1),
            signal: None,
            timed_out: false,
            time_ns: 6,
        }),
        r#"{"type":"exited","exec":9,"code":1,"timed_out":false,"time_ns":6}"#,
    );
    golden(
        &ToHost::Exited(Exited { exec: ExecId(9), code: None, signal: Some(9), timed_out: true, time_ns: 6 }),
        r#"{"type":"exited","exec":9,"signal":9,"timed_out":true,"time_ns":6}"#,
    );
    golden(
        &ToHost::Open(Open { stream: StreamId(2), service: "cache".into() }),
        r#"{"type":"open","stream":2,"service":"cache"}"#,
    );
    golden(&ToHost::Note(Note { text: "hi".into() }), r#"{"type":"note","text":"hi"}"#);
}

#[test]
fn fields_of_a_later_version_are_ignored() {
    let json = r#"{"type":"note","text":"hi","shade":"red"}"#;
    assert_eq!(serde_json::from_str::<ToHost>(json).unwrap(), ToHost::Note(Note { text: "hi".into() }));
}

#[test]
fn no_debug_shows_a_value_or_entropy() {
    let exec = Exec {
        exec: ExecId(1),
        argv: vec![],
        env: vec![("TOKEN".into(), "hush".into())],
        cwd: "/".into(),
        user: Account::ROOT,
        stdin: None,
        stdout: StreamId(1),
        stderr: StreamId(1),
        timeout_ms: None,
        terminal: None,
    };
    let shown = format!("{:?} {:?}", Body::Exec(exec), Entropy(b"hush".to_vec()));
    assert!(shown.contains("TOKEN") && !shown.contains("hush"), "{shown}");
}

fn taken<R: wire::Role>(mux: &mut Mux<R>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while mux.transmit(&mut bytes) {}
    bytes
}

/// One conversation, every byte of it: Hello, Start, a request, Ack, Data, Fin, Reset.
#[test]
fn a_conversation() {
    let (mut host, mut guest) = (Mux::host(), Mux::guest("a"));
    host.attach();
    guest.attach();
    let bytes = taken(&mut guest);
    assert_eq!(
        bytes,
        b"\x30\0\0\0\x00\0\0\0\0\0\0\0\0\0\0\0{\"version\":1,\"epoch\":0,\"agent\":\"a\",\"streams\":[]}"
    );
    host.receive(&bytes).unwrap();
    host.start(258).unwrap();
    let bytes = taken(&mut host);
    assert_eq!(bytes, b"\x25\0\0\0\x01\0\0\0\0\0\0\0\x02\x01\0\0{\"version\":1,\"epoch\":258,\"resume\":[]}");
    guest.receive(&bytes).unwrap();

    let into = host.open(Direction::Send).unwrap();
    let out = host.open(Direction::Receive).unwrap();
    assert_eq!((into, out), (StreamId(1), StreamId(3)));
    let body = Body::CopyOut(CopyOut { path: "/".into(), stream: out });
    host.send_message(&ToGuest::Request(Request { id: 1, epoch: 258, body })).unwrap();
    let bytes = taken(&mut host);
    let json = r#"{"type":"request","id":1,"epoch":258,"body":{"type":"copy_out","path":"/","stream":3}}"#;
    let mut wanted =
        b"\x6a\0\0\0\x02\0\0\0\0\0\0\0\x02\x01\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\x56\0\0\0".to_vec();
    wanted.extend(json.bytes());
    assert_eq!(bytes, wanted);
    guest.receive(&bytes).unwrap();

    guest.accept(out, Direction::Send).unwrap();
    assert_eq!(guest.send(out, b"xyz", 0x0807_0605_0403_0201), 3);
    guest.finish(out);
    let bytes = taken(&mut guest);
    assert_eq!(
        bytes,
        [
            &b"\x13\0\0\0\x02\0\0\0\x03\0\0\0\x02\x01\0\0\0\0\0\0\0\0\0\0\x01\x02\x03\x04\x05\x06\x07\x08xyz"
                [..],
            b"\x08\0\0\0\x04\0\0\0\x03\0\0\0\x02\x01\0\0\x03\0\0\0\0\0\0\0",
        ]
        .concat()
    );
    host.receive(&bytes).unwrap();
    host.consume(out, 3);
    // The end counts as one.
    let bytes = taken(&mut host);
    assert_eq!(bytes, b"\x08\0\0\0\x03\0\0\0\x03\0\0\0\x02\x01\0\0\x04\0\0\0\0\0\0\0");
    guest.receive(&bytes).unwrap();
    assert!(std::iter::from_fn(|| guest.poll_event()).any(|event| event == Event::Closed { stream: out }));

    host.reset(into, Code::CANCELLED);
    assert_eq!(taken(&mut host), b"\x04\0\0\0\x05\0\0\0\x01\0\0\0\x02\x01\0\0\0\0\0\0");
}

/// Backends send these to the guest of a fork that is to start anew (`vm::NO_FRAME`).
#[test]
fn sixteen_bytes_of_all_ones_are_no_frame_for_a_guest_in_any_state() {
    let mut guest = Mux::guest("0.1.0");
    guest.attach();
    assert!(guest.receive(&[0xff; 16]).is_err());
    let mut host = Mux::host();
    host.attach();
    guest.attach();
    host.receive(&taken(&mut guest)).unwrap();
    host.start(1).unwrap();
    guest.receive(&taken(&mut host)).unwrap();
    assert!(guest.is_running() && guest.receive(&[0xff; 16]).is_err() && !guest.is_running());
}
