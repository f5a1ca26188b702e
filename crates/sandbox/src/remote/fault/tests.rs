//! Errors that were carried, beside those that were sent.

use std::fmt::Write;

use super::*;

/// An error and its causes, as a person reads them.
fn texts(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        write!(text, ": {cause}").unwrap();
        source = cause.source();
    }
    text
}

/// The error as a client has it.
fn carried(error: Error) -> Error {
    let json = serde_json::to_vec(&Fault::from(error)).unwrap();
    serde_json::from_slice::<Fault>(&json).unwrap().into()
}

fn io() -> io::Error {
    io::Error::other("the disk broke")
}

#[test]
fn an_error_stays_what_it_is() {
    let id = SlotId::new();
    let limit = Duration::from_secs(3);
    let console = || "panic".to_owned();
    let all: Vec<fn(SlotId, Duration, String) -> Error> = vec![
        |_, _, _| Error::DiskFull { path: "/x".into() },
        |_, _, _| Error::NoIdentity { first: 1, tried: 2, dir: "/x".into() },
        |_, _, _| Error::Backend(vm::Error::Unsupported("forks".into())),
        |_, _, _| Error::Save(vm::Error::NotFrozen("it runs".into())),
        |_, limit, _| Error::NotFrozen { limit },
        |_, _, _| Error::Teardown { dir: "/x".into(), detail: "busy".into() },
        |_, limit, console| Error::NoHello { limit, tries: 2, console },
        |_, _, _| Error::NoNetwork { why: "no nft".into() },
        |_, _, _| Error::NoRoom { lack: "memory".into() },
        |_, limit, console| Error::Boot { why: Gone::Silent(limit), console },
        |_, _, console| Error::Prepare { message: "no".into(), console },
        |_, _, _| Error::Gone(Gone::Exited(vm::Exit { code: Some(0), signal: None, stderr: "bye".into() })),
        |_, _, _| Error::Gone(Gone::Expired),
        |_, _, _| Error::Guest { kind: FailureKind::Cwd, message: "no such directory".into() },
        |_, _, _| Error::TooMuchOutput { limit: 3 },
        |_, _, _| Error::Version { theirs: 2, ours: 1 },
        |id, _, _| Error::NotKept { id },
        |id, _, _| Error::Owned { id },
        |id, _, _| Error::Foreign { id, backend: "other".into() },
        |_, _, _| Error::NotToKeep,
        |_, _, _| Error::Cancelled,
        |_, _, _| Error::Lost,
        |_, _, _| Error::Template(Arc::new(Error::NoRoom { lack: "memory".into() })),
    ];
    for make in all {
        let (before, after) = (make(id, limit, console()), carried(make(id, limit, console())));
        assert_eq!(std::mem::discriminant(&before), std::mem::discriminant(&after), "{before:?}");
        assert_eq!(texts(&before), texts(&after));
    }
}

#[test]
fn what_has_no_words_of_its_own_keeps_its_text_and_whose_fault_it_is() {
    let state = || Error::State { what: "read", path: "/x".into(), source: io() };
    let cases: Vec<(Error, Error, Whose)> = vec![
        (state(), state(), Whose::Host),
        (Error::Request("too large"), Error::Request("too large"), Whose::User),
        (
            Error::Image { path: "/x".into(), what: "no image" },
            Error::Image { path: "/x".into(), what: "no image" },
            Whose::User,
        ),
    ];
    for (before, sent, expected) in cases {
        let after = carried(sent);
        assert_eq!(texts(&before), texts(&after));
        let Error::Engine(EngineError::Said { whose, .. }) = after else { panic!("{after:?}") };
        assert_eq!(whose, expected);
    }
    // a backend's keeps its class, for those that a client tells apart, and its causes
    let backend = || Error::Backend(vm::Error::Io { what: "start the shim".into(), source: io() });
    let after = carried(backend());
    assert!(matches!(after, Error::Backend(vm::Error::Io { .. })), "{after:?}");
    assert_eq!(texts(&backend()), texts(&after));
    // a template that others wait for as well
    let shared = Arc::new(state());
    let _other = Arc::clone(&shared);
    let after = carried(Error::Template(shared));
    assert_eq!(texts(&after), "the VM's template could not be made: read /x: the disk broke");
}

#[test]
fn a_closed_engine_is_one_that_ends() {
    assert!(matches!(carried(Error::Closed), Error::Engine(EngineError::Ending)));
}
