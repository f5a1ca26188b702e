//! Messages in bytes, and what none of them shows.

use std::num::NonZeroU8;

use vm::{Boundary, Mebibytes};
use wire::{StreamId, message::Directory};

use super::*;
use crate::{Origin, Root, Start, WhenFull, remote::link::parse};

const ID: &str = "0193f1a2b3c47d5e8f90a1b2c3d4e5f6";

/// The id as JSON has it.
const QUOTED: &str = "0193f1a2-b3c4-7d5e-8f90-a1b2c3d4e5f6";

fn id() -> SlotId {
    ID.parse().unwrap()
}

fn golden<T: Serialize + for<'a> Deserialize<'a>>(message: &T, json: &str) {
    assert_eq!(serde_json::to_string(message).unwrap(), json);
    let read: T = parse(json.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&read).unwrap(), json);
}

#[test]
fn questions() {
    golden(&Hello { protocol: 1, build: "0.1.0 x".into() }, r#"{"protocol":1,"build":"0.1.0 x"}"#);
    golden(&Ask::Session, r#""session""#);
    golden(&Ask::Status, r#""status""#);
    let spec = LeaseSpec {
        kernel: "/k".into(),
        initramfs: "/i".into(),
        root: Root::Image("/r".into()),
        cpus: NonZeroU8::MIN,
        memory: Mebibytes(256),
        scratch_bytes: 16,
        bind: Bind {
            hostname: "h".into(),
            directories: vec![Directory { path: "/w".into(), owner: Account::ROOT, mode: 0o755 }],
            ..Bind::default()
        },
        on_owner_loss: OwnerLoss::Kill,
        mark: None,
        start: Start::Fork,
        when_full: WhenFull::Refuse,
    };
    golden(
        &Ask::Lease(Box::new(spec)),
        r#"{"lease":{"kernel":"/k","initramfs":"/i","root":{"image":"/r"},"cpus":1,"memory":256,"scratch_bytes":16,"bind":{"hostname":"h","directories":[{"path":"/w","owner":{"ids":{"uid":0,"gid":0}},"mode":493}],"network":{"base":"nothing","allow":[]}},"on_owner_loss":{"policy":"kill"},"mark":null,"start":"fork","when_full":"refuse"}}"#,
    );
    golden(&Ask::Attach { id: id() }, &format!(r#"{{"attach":{{"id":"{QUOTED}"}}}}"#));
    golden(
        &Ask::Signal { id: id(), exec: ExecId(3), signal: 15 },
        &format!(r#"{{"signal":{{"id":"{QUOTED}","exec":3,"signal":15}}}}"#),
    );
    golden(&Order::Leave, r#""leave""#);
}

#[test]
fn answers() {
    let capabilities = Capabilities {
        version: "7.2".into(),
        accelerator: "tcg".into(),
        boundary: Boundary::Emulated,
        lacking: vec!["x".into()],
        adopt: true,
        no_card: None,
    };
    golden(
        &Say::Session {
            backend: "qemu".into(),
            capabilities,
            no_network: Some("no nft".into()),
            network_notes: vec!["a note".into()],
        },
        r#"{"session":{"backend":"qemu","capabilities":{"version":"7.2","accelerator":"tcg","boundary":"emulated","lacking":["x"],"no_card":null,"adopt":true},"no_network":"no nft","network_notes":["a note"]}}"#,
    );
    let info = GuestInfo {
        root_prefix: String::new(),
        kernel: "6.12".into(),
        agent: "0.1.0".into(),
        origin: Origin::Pooled,
        boot: Duration::from_millis(2),
        tries: 1,
    };
    golden(
        &Say::Ready { id: id(), info },
        &format!(
            r#"{{"ready":{{"id":"{QUOTED}","info":{{"root_prefix":"","kernel":"6.12","agent":"0.1.0","origin":"pooled","boot":{{"secs":0,"nanos":2000000}},"tries":1}}}}}}"#
        ),
    );
    golden(&Say::Gone(Gone::Silent(Duration::from_secs(1))), r#"{"gone":{"silent":{"secs":1,"nanos":0}}}"#);
    golden(
        &Say::Exited { code: Some(3), signal: None, timed_out: false, time: 5 },
        r#"{"exited":{"code":3,"signal":null,"timed_out":false,"time":5}}"#,
    );
    golden(
        &Say::Connect { number: 7, to: Destination::Tcp { host: "h".into(), port: 80 } },
        r#"{"connect":{"number":7,"to":{"tcp":{"host":"h","port":80}}}}"#,
    );
    golden(&Ask::Connected { number: 7, connected: true }, r#"{"connected":{"number":7,"connected":true}}"#);
    golden(&Say::Failed(Fault::NoRoom { lack: "m".into() }), r#"{"failed":{"no_room":{"lack":"m"}}}"#);
}

#[test]
fn no_debug_shows_an_environment() {
    let exec = Exec {
        exec: ExecId(0),
        argv: vec!["sh".into()],
        env: vec![("TOKEN".into(), "hunter2".into())],
        cwd: "/".into(),
        user: Account::ROOT,
        stdin: None,
        stdout: StreamId(3),
        stderr: StreamId(5),
        timeout_ms: None,
        terminal: None,
    };
    let ask = Ask::Exec { id: id(), exec: Box::new(exec) };
    let shown = format!("{ask:?}");
    assert!(shown.contains("TOKEN") && !shown.contains("hunter2"), "{shown}");
    let wrong = parse::<Say>(&serde_json::to_vec(&ask).unwrap()).unwrap_err();
    let text = format!("{wrong:?} {wrong}");
    assert!(!text.contains("hunter2") && !text.contains("TOKEN"), "{text}");
}
