//! What is not an engine's client, and what is not a client's engine.

use std::{
    io::{Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    time::Duration,
};

use sandbox::{Engine, EngineError, Error, Listening};

use crate::harness::{Process, collected, connect, lease, nothing_left, socket, soon, state};

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

pub(crate) async fn build() {
    let state = state();
    let listener = UnixListener::bind(socket(state.path())).unwrap();
    let old = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let json = br#"{"protocol":1,"build":"0.0.1 another"}"#;
        let header = [&[1][..], &u32::try_from(json.len()).unwrap().to_le_bytes()].concat();
        stream.write_all(&[&header[..], json].concat()).unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
    });
    let refused = soon(Engine::connect(&socket(state.path()))).await;
    let Err(Error::Engine(EngineError::Build { theirs, .. })) = refused else { panic!("{refused:?}") };
    assert_eq!(theirs, "0.0.1 another");
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
        use std::os::unix::fs::PermissionsExt;
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
