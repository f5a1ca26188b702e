//! What is not an engine's client, and what is not a client's engine.

use std::{
    io::{Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixListener, UnixStream},
    },
    time::Duration,
};

use sandbox::{Engine, EngineError, Error, Listening, Sighting, look_at_engine};
use tokio_util::sync::CancellationToken;

use crate::harness::{
    LIMIT, Process, STRANGER, collected, connect, kept_for, lease, nothing_left, socket, soon, state,
};

pub(crate) async fn two() {
    let state = state();
    let mut first = Process::engine(state.path(), None);
    let mut second = Process::engine_at_once(state.path(), None, 0);
    let said = second.line();
    assert!(said.starts_with("error: an engine runs at ") && said.ends_with("engine.sock already"), "{said}");
    connect(state.path()).await;
    first.kill();
    assert!(socket(state.path()).exists(), "a dead engine's socket stays");
    assert!(matches!(
        Engine::connect(&socket(state.path())).await,
        Err(Error::Engine(EngineError::Absent { .. }))
    ));
    let _third = Process::engine(state.path(), None);
    connect(state.path()).await;
}

pub(crate) async fn nonsense() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let lease = lease(&engine).await;
    let hello = hello(state.path());
    let framed = |json: &[u8]| [&[1][..], &u32::try_from(json.len()).unwrap().to_le_bytes(), json].concat();
    let cases: Vec<Vec<u8>> = vec![
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0xff; 64],
        vec![1, 0xff, 0xff, 0xff, 0xff],
        framed(b"{}"),
        framed(b"not json"),
        [hello.clone(), framed(b"\"nothing_that_is_known\"")].concat(),
        [hello.clone(), framed(b"{\"attach\":{\"id\":\"x\"}}")].concat(),
        [hello.clone(), vec![5, 0, 0, 0, 0]].concat(),
        [hello.clone(), vec![4, 1, 0, 0, 0, 9]].concat(),
        hello.clone(),
        Vec::new(),
    ];
    for (case, bytes) in cases.into_iter().enumerate() {
        let mut stream = UnixStream::connect(socket(state.path())).unwrap();
        stream.write_all(&bytes).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut answer = Vec::new();
        // it says who it is, perhaps what it did not like, and hangs up
        let end = stream.read_to_end(&mut answer);
        assert!(end.is_ok() || answer.len() > 5, "case {case}: {end:?}");
        assert!(!answer.windows(5).any(|word| word == b"ready"), "case {case}");
    }
    // noise, of whatever kind
    let mut seed = 0x9e37_79b9_u32;
    for _ in 0..200 {
        let mut stream = UnixStream::connect(socket(state.path())).unwrap();
        let mut noise = hello.clone();
        for _ in 0..64 {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            noise.push((seed >> 24) as u8 % 6);
        }
        stream.write_all(&noise).unwrap();
    }
    collected(&lease.sandbox(), "true").await;
    lease.destroy().await.unwrap();
    engine.close().await;
    nothing_left(state.path()).await;
}

/// What a client of this build says first: the engine says the same.
fn hello(state: &std::path::Path) -> Vec<u8> {
    let mut stream = UnixStream::connect(socket(state)).unwrap();
    let mut header = [0; 5];
    stream.read_exact(&mut header).unwrap();
    let length = usize::try_from(u32::from_le_bytes(header[1..].try_into().unwrap())).unwrap();
    let mut json = vec![0; length];
    stream.read_exact(&mut json).unwrap();
    [header.to_vec(), json].concat()
}

/// The kernel's word on who connected counts, and not the modes of the socket.
pub(crate) async fn another_user() {
    assert!(rustix::process::geteuid().is_root(), "only root can be somebody else: run this trial as root");
    let state = state();
    let _process = Process::engine(state.path(), None);
    open_to_all(state.path());
    std::fs::set_permissions(socket(state.path()), std::fs::Permissions::from_mode(0o666)).unwrap();
    // who is served, so that what follows proves something
    let mut ours = Process::asker(state.path(), None);
    assert_eq!([ours.line(), ours.line()], ["1 bytes", "served"]);
    let mut theirs = Process::asker(state.path(), Some(STRANGER));
    assert_eq!([theirs.line(), theirs.line()], ["0 bytes", "the engine process is gone"]);
    let engine = connect(state.path()).await;
    collected(&lease(&engine).await.sandbox(), "true").await;

    // and no secret is told to whoever else listens there
    let state = crate::harness::state();
    open_to_all(state.path());
    std::os::unix::fs::chown(state.path(), Some(STRANGER), Some(STRANGER)).unwrap();
    let mut listener = Process::listener(state.path(), STRANGER);
    let refused = soon(Engine::connect(&socket(state.path()))).await;
    let Err(Error::Engine(EngineError::Stranger { theirs, ours, .. })) = refused else {
        panic!("{refused:?}")
    };
    assert_eq!((theirs, ours), (STRANGER, 0));
    assert_eq!(listener.line(), "0 bytes");
}

fn open_to_all(dir: &std::path::Path) {
    std::fs::set_permissions(dir, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// An engine of another build, for one client.
fn old_engine(listener: UnixListener) -> std::thread::JoinHandle<()> {
    std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let json = br#"{"protocol":1,"build":"0.0.1 another"}"#;
        let header = [&[1][..], &u32::try_from(json.len()).unwrap().to_le_bytes()].concat();
        stream.write_all(&[&header[..], json].concat()).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    })
}

pub(crate) async fn sightings() {
    let state = state();
    let path = socket(state.path());
    let look = || async { soon(look_at_engine(&path)).await.unwrap() };
    assert_eq!(look().await, Sighting::Nothing);
    assert_eq!(std::fs::read_dir(state.path()).unwrap().count(), 0, "a look makes nothing");
    let idle = Duration::from_secs(3);
    let mut process = Process::engine(state.path(), Some(idle));
    let pid = rustix::process::Pid::from_child(&process.child);
    let status = || async {
        match look().await {
            Sighting::Engine(status) => status,
            other => panic!("{other:?}"),
        }
    };
    let fresh = status().await;
    assert_eq!((fresh.pid, fresh.version.as_str()), (process.child.id(), env!("CARGO_PKG_VERSION")));
    assert_eq!((fresh.backend.as_str(), fresh.idle), ("fake-forks", Some(idle)));
    assert_eq!((fresh.leased, fresh.kept, fresh.ready), (0, 0, 0));
    assert!(fresh.since.elapsed().unwrap() < Duration::from_secs(30));
    assert!(fresh.unneeded.is_some());

    let engine = connect(state.path()).await;
    let leased = lease(&engine).await;
    let kept = engine.lease(kept_for(LIMIT), &CancellationToken::new()).await.unwrap();
    let id = kept.sandbox().id();
    kept.leave().await.unwrap();
    let used = status().await;
    assert_eq!((used.leased, used.kept, used.unneeded), (1, 1, None));
    leased.destroy().await.unwrap();
    engine.end(id).await.unwrap();
    engine.close().await;
    drop(engine);

    // one that hangs is told as such, and long before a command would give it up
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let began = std::time::Instant::now();
    assert_eq!(look().await, Sighting::Silent { pid: Some(pid.as_raw_nonzero().get()) });
    assert!(began.elapsed() < Duration::from_secs(15));
    rustix::process::kill_process(pid, rustix::process::Signal::CONT).unwrap();

    // looks are no need: while somebody looks all the time it ends as if nobody did
    let until = std::time::Instant::now() + LIMIT;
    while process.child.try_wait().unwrap().is_none() {
        assert!(std::time::Instant::now() < until, "it does not end");
        drop(look_at_engine(&path).await);
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(process.line(), "idle");
    assert_eq!(look().await, Sighting::Nothing);

    // what the dead leave, and who has no engine yet
    let mut killed = Process::engine(state.path(), None);
    let removed = state.path().join("removed");
    std::fs::rename(&path, &removed).unwrap();
    assert_eq!(look().await, Sighting::Unreachable);
    std::fs::rename(&removed, &path).unwrap();
    killed.kill();
    assert_eq!(look().await, Sighting::Dead);
    std::fs::remove_file(&path).unwrap();
    std::fs::write(&path, "").unwrap();
    let in_the_way = soon(look_at_engine(&path)).await;
    assert!(matches!(in_the_way, Err(Error::Engine(EngineError::Socket { .. }))), "{in_the_way:?}");
    std::fs::remove_file(&path).unwrap();
    let manager = UnixListener::bind(&path).unwrap();
    manager.set_nonblocking(true).unwrap();
    assert_eq!(look().await, Sighting::Awaited);
    let nobody = manager.accept().unwrap_err();
    assert_eq!(nobody.kind(), std::io::ErrorKind::WouldBlock, "a look would start an engine");
}

pub(crate) async fn build() {
    let state = state();
    let old = old_engine(UnixListener::bind(socket(state.path())).unwrap());
    let refused = soon(Engine::connect(&socket(state.path()))).await;
    let Err(Error::Engine(EngineError::Build { theirs, .. })) = refused else { panic!("{refused:?}") };
    assert_eq!(theirs, "0.0.1 another");
    old.join().unwrap();

    // whoever only looks is told which
    let state = crate::harness::state();
    let path = socket(state.path());
    let _lock = jail::lock::Lock::try_take(&path.with_extension("sock.lock")).unwrap().unwrap();
    let old = old_engine(UnixListener::bind(&path).unwrap());
    let seen = soon(look_at_engine(&path)).await.unwrap();
    let pid = i32::try_from(std::process::id()).ok();
    assert_eq!(seen, Sighting::Another { pid, build: "0.0.1 another".to_owned() });
    old.join().unwrap();

    // the other way round: an engine says nothing to another build but who it is
    let state = crate::harness::state();
    let _process = Process::engine(state.path(), None);
    let mut stream = UnixStream::connect(socket(state.path())).unwrap();
    let json = br#"{"protocol":1,"build":"0.0.1 another"}"#;
    let header = [&[1][..], &u32::try_from(json.len()).unwrap().to_le_bytes()].concat();
    let ask = [&[1][..], &6_u32.to_le_bytes(), b"\"kept\""].concat();
    stream.write_all(&[&header[..], json, &ask[..]].concat()).unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert_eq!(answer, hello(state.path()));
}

pub(crate) async fn long_path() {
    let state = state();
    let mut dir = state.path().to_owned();
    while dir.as_os_str().len() < 150 {
        dir = dir.join("a-directory-with-a-long-name");
    }
    std::fs::create_dir_all(&dir).unwrap();
    let path = dir.join("engine.sock");
    {
        let listening = Listening::at(&path).unwrap();
        assert_eq!(listening.path(), path);
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let twice = Listening::at(&path);
        assert!(matches!(twice, Err(Error::Engine(EngineError::Running { .. }))), "{twice:?}");
    }
    assert!(!path.exists());
    // a file that somebody named by mistake stays
    std::fs::write(&path, "mine").unwrap();
    assert!(matches!(Listening::at(&path), Err(Error::Engine(EngineError::Socket { .. }))));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
    std::fs::remove_file(&path).unwrap();
    let _process = Process::engine(&dir, None);
    let engine = connect(&dir).await;
    lease(&engine).await.destroy().await.unwrap();
}

pub(crate) async fn inherited() {
    let (one, _other) = UnixStream::pair().unwrap();
    assert!(Listening::inherited(one.into()).is_err(), "it does not listen");
    let file = std::fs::File::open("/dev/null").unwrap();
    assert!(Listening::inherited(file.into()).is_err());
    let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    assert!(Listening::inherited(tcp.into()).is_err());
    let state = state();
    let path = socket(state.path());
    let listener = UnixListener::bind(&path).unwrap();
    let others = Listening::at(&path);
    assert!(matches!(others, Err(Error::Engine(EngineError::Running { .. }))), "{others:?}");
    let listening = Listening::inherited(listener.into()).unwrap();
    assert_eq!(listening.path(), path);
    drop(listening);
    assert!(path.exists(), "whoever made it removes it");
    // nobody listens there any more
    drop(Listening::at(&path).unwrap());
    assert!(!path.exists());
}

pub(crate) async fn silent() {
    let state = state();
    let mut process = Process::engine(state.path(), None);
    let pid = rustix::process::Pid::from_child(&process.child);
    rustix::process::kill_process(pid, rustix::process::Signal::STOP).unwrap();
    let began = std::time::Instant::now();
    let refused = tokio::time::timeout(Duration::from_secs(60), Engine::connect(&socket(state.path()))).await;
    let Ok(Err(Error::Engine(EngineError::Socket { source, .. }))) = refused else { panic!("{refused:?}") };
    assert_eq!(source.kind(), std::io::ErrorKind::TimedOut);
    assert!(began.elapsed() >= Duration::from_secs(20));
    process.kill();
}
