//! Commands and copies.

use std::{io::Cursor, time::Duration};

use sandbox::{Account, Error, FailureKind, FetchLimits, OutputMode, Stdin, Stream, TerminalSize};
use tokio::{io::AsyncWriteExt, time::timeout};
use tokio_util::sync::CancellationToken;

use crate::harness::{Process, collected, connect, lease, left, nothing_left, sh, soon, state};

pub(crate) async fn run() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    assert_eq!((engine.backend_name(), engine.capabilities().accelerator.as_str()), ("fake-forks", "none"));
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let out = collected(&sandbox, "echo $GREETING; echo oops >&2; pwd; exit 3").await;
    let prefix = &sandbox.info().root_prefix;
    assert_eq!(String::from_utf8(out.stdout).unwrap(), format!("hello\n{prefix}/work\n"));
    assert_eq!(out.stderr, b"oops\n");
    assert_eq!((out.exited.code, out.exited.signal, out.exited.timed_out), (Some(3), None, false));

    let mut request = sh("cat; kill -TERM $$");
    request.stdin = Stdin::Bytes(vec![b'x'; 300_000]);
    let out = sandbox.exec(request).await.unwrap().collect(1 << 20).await.unwrap();
    assert_eq!((out.stdout.len(), out.exited.signal), (300_000, Some(15)));

    let mut request = sh("sleep 1000");
    request.timeout = Some(Duration::from_millis(10));
    assert!(soon(sandbox.exec(request).await.unwrap().exit()).await.unwrap().timed_out);

    let mut request = sh("echo a; echo b >&2; echo c");
    request.output = OutputMode::Merged;
    let out = sandbox.exec(request).await.unwrap().collect(100).await.unwrap();
    assert_eq!((out.stdout.as_slice(), out.stderr.as_slice()), (&b"a\nb\nc\n"[..], &b""[..]));
    sandbox.ping().await.unwrap();
    lease.destroy().await.unwrap();
    assert!(matches!(sandbox.exec(sh("true")).await, Err(Error::Gone(sandbox::Gone::Destroyed))));
    engine.close().await;
}

pub(crate) async fn control() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let mut running =
        sandbox.exec(sh("trap 'echo caught; exit 4' INT; echo ready; sleep 1000 & wait")).await.unwrap();
    let first = running.output.next().await.unwrap().unwrap();
    assert_eq!((first.stream, first.bytes.as_slice()), (Stream::Stdout, &b"ready\n"[..]));
    running.signal(2).await.unwrap();
    assert_eq!(soon(running.output.next()).await.unwrap().unwrap().bytes, b"caught\n");
    assert!(running.output.next().await.unwrap().is_none());
    assert_eq!(running.exit().await.unwrap().code, Some(4));

    let mut request = sh("while read line; do echo \"[$line]\"; done; echo end");
    request.stdin = Stdin::Pipe;
    let mut running = sandbox.exec(request).await.unwrap();
    let mut stdin = running.stdin.take().unwrap();
    for word in ["one", "two"] {
        stdin.write_all(format!("{word}\n").as_bytes()).await.unwrap();
        let answer = soon(running.output.next()).await.unwrap().unwrap();
        assert_eq!(answer.bytes, format!("[{word}]\n").as_bytes());
    }
    drop(stdin);
    assert_eq!(soon(running.output.next()).await.unwrap().unwrap().bytes, b"end\n");
    assert!(running.exit().await.unwrap().success());

    let mut request = sh("stty size; read x; stty size");
    request.stdin = Stdin::Pipe;
    request.output = OutputMode::Terminal(TerminalSize::new(10, 20).unwrap());
    let mut running = sandbox.exec(request).await.unwrap();
    assert_eq!(soon(running.output.next()).await.unwrap().unwrap().bytes, b"10 20\r\n");
    running.control().resize(TerminalSize::new(11, 21).unwrap()).await.unwrap();
    running.stdin.as_mut().unwrap().write_all(b"\n").await.unwrap();
    let mut rest = Vec::new();
    while let Some(chunk) = soon(running.output.next()).await.unwrap() {
        rest.extend(chunk.bytes);
    }
    assert!(rest.ends_with(b"11 21\r\n"), "{:?}", String::from_utf8_lossy(&rest));

    // a kill reaches what left the group
    let mut running = sandbox.exec(sh("setsid sleep 1000 & wait")).await.unwrap();
    running.kill().await.unwrap();
    assert_eq!(soon(running.exit()).await.unwrap().signal, Some(9));
    lease.destroy().await.unwrap();
}

pub(crate) async fn slow_reader() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let lines: u32 = 1_000_000;
    let counting = sandbox.exec(sh(&format!("seq {lines}; echo done >done"))).await.unwrap();
    tokio::time::sleep(Duration::from_secs(1)).await;
    // nobody is held up while nobody reads, but for the command itself
    let other = collected(&sandbox, "seq 100000; cat done").await;
    assert!(other.stdout.ends_with(b"\n100000\n"));
    assert_eq!(other.exited.code, Some(1), "7 MB went nowhere");
    let mut counting = counting;
    let (mut rest, mut next) = (Vec::new(), 1);
    while let Some(chunk) = counting.output.next().await.unwrap() {
        rest.extend_from_slice(&chunk.bytes);
        let mut from = 0;
        while let Some(end) = rest[from..].iter().position(|byte| *byte == b'\n') {
            let line: u32 = std::str::from_utf8(&rest[from..from + end]).unwrap().parse().unwrap();
            assert_eq!(line, next);
            next += 1;
            from += end + 1;
        }
        rest.drain(..from);
    }
    assert_eq!((next, rest.len()), (lines + 1, 0));
    assert!(counting.exit().await.unwrap().success());
    lease.destroy().await.unwrap();
}

pub(crate) async fn slow_command() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let mut request = sh("read x; wc -c");
    request.stdin = Stdin::Pipe;
    let mut running = sandbox.exec(request).await.unwrap();
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(b"x\n").await.unwrap();
    let block = vec![b'y'; 1 << 20];
    for _ in 0..16 {
        soon(stdin.write_all(&block)).await.unwrap();
    }
    drop(stdin);
    let out = soon(running.collect(100)).await.unwrap();
    assert_eq!(String::from_utf8(out.stdout).unwrap().trim(), (16 << 20).to_string());

    let mut request = sh("sleep 1000");
    request.stdin = Stdin::Pipe;
    let mut running = sandbox.exec(request).await.unwrap();
    let mut stdin = running.stdin.take().unwrap();
    let flood = timeout(Duration::from_millis(500), async {
        loop {
            stdin.write_all(&block).await.unwrap();
        }
    });
    assert!(flood.await.is_err(), "it holds up");
    collected(&sandbox, "true").await;
    // the engine sees that the client is gone, also while nobody reads what it sent
    drop((stdin, running));
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while left(state.path()).iter().any(|left| left.contains("sleep 1000")) {
        assert!(tokio::time::Instant::now() < until, "it runs on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }

    // one that reads no more says so
    let mut request = sh("exec <&-; sleep 2");
    request.stdin = Stdin::Pipe;
    let mut running = sandbox.exec(request).await.unwrap();
    let mut stdin = running.stdin.take().unwrap();
    let refused = timeout(Duration::from_secs(10), async { while stdin.write_all(&block).await.is_ok() {} });
    assert!(refused.await.is_ok());
    soon(running.exit()).await.unwrap();
    lease.destroy().await.unwrap();
}

pub(crate) async fn dropped() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let running = sandbox.exec(sh("echo $$; sleep 1234")).await.unwrap();
    drop(running);
    // as one whose start nobody waits for
    drop(timeout(Duration::ZERO, sandbox.exec(sh("sleep 1234"))).await);
    collected(&sandbox, "true").await;
    let until = tokio::time::Instant::now() + Duration::from_secs(10);
    while left(state.path()).iter().any(|left| left.contains("sleep 1234")) {
        assert!(tokio::time::Instant::now() < until, "it runs on");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    drop(lease);
    engine.close().await;
    nothing_left(state.path()).await;
}

pub(crate) async fn trees() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let from = tempfile::tempdir().unwrap();
    std::fs::create_dir(from.path().join("sub")).unwrap();
    for n in 0..200 {
        std::fs::write(from.path().join(format!("sub/{n}")), vec![u8::try_from(n).unwrap(); 10_000 + n])
            .unwrap();
    }
    std::fs::write(from.path().join("large"), vec![7; 24 << 20]).unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    archive.append_dir_all(".", from.path()).unwrap();
    let archive = archive.into_inner().unwrap();
    let copied = soon(sandbox.copy_in("/work/tree", Account::ROOT, Cursor::new(archive))).await.unwrap();
    assert!(copied.entries >= 202, "{copied:?}");
    let to = tempfile::tempdir().unwrap();
    let limits = FetchLimits { entries: 1000, bytes: 100 << 20 };
    soon(sandbox.fetch("/work/tree", to.path(), limits)).await.unwrap();
    for n in [0_usize, 199] {
        let (here, there) = (from.path().join(format!("sub/{n}")), to.path().join(format!("sub/{n}")));
        assert_eq!(std::fs::read(here).unwrap(), std::fs::read(there).unwrap());
    }
    assert_eq!(std::fs::metadata(to.path().join("large")).unwrap().len(), 24 << 20);

    // a limit ends it, and a stream that nobody reads is no burden
    let few = FetchLimits { entries: 1000, bytes: 1 << 20 };
    let refused = soon(sandbox.fetch("/work/tree", to.path(), few)).await;
    assert!(matches!(refused, Err(Error::Tree(sandbox::TreeError::Limit { .. }))), "{refused:?}");
    let unread = sandbox.copy_out("/work/tree").await.unwrap();
    collected(&sandbox, "true").await;
    drop(unread);
    let nowhere = soon(sandbox.fetch("/no/such", to.path(), limits)).await;
    assert!(matches!(nowhere, Err(Error::Guest { kind: FailureKind::NotFound, .. })), "{nowhere:?}");

    // a source that fails is the caller's, and the VM goes on
    let failed = soon(sandbox.copy_in("/work/other", Account::ROOT, FailingSource)).await;
    assert!(matches!(failed, Err(Error::CopySource(_))), "{failed:?}");
    let nonsense = soon(sandbox.copy_in("/work/other", Account::ROOT, Cursor::new(vec![1; 4 << 20]))).await;
    assert!(matches!(nonsense, Err(Error::Guest { .. })), "{nonsense:?}");
    collected(&sandbox, "true").await;
    lease.destroy().await.unwrap();
}

/// It gives some bytes and then an error.
struct FailingSource;

impl tokio::io::AsyncRead for FailingSource {
    fn poll_read(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
        _: &mut tokio::io::ReadBuf<'_>,
    ) -> std::task::Poll<std::io::Result<()>> {
        std::task::Poll::Ready(Err(std::io::Error::other("it broke")))
    }
}

pub(crate) async fn errors() {
    let state = state();
    let _process = Process::engine(state.path(), None);
    let engine = connect(state.path()).await;
    let lease = lease(&engine).await;
    let sandbox = lease.sandbox();
    let mut request = sh("");
    request.argv = vec!["no-such-program".into()];
    let failed = sandbox.exec(request).await;
    assert!(matches!(failed, Err(Error::Guest { kind: FailureKind::NotFound, .. })), "{failed:?}");
    let many = sandbox.exec(sh("seq 100000")).await.unwrap().collect(10).await;
    assert!(matches!(many, Err(Error::TooMuchOutput { limit: 10 })));
    let id = sandbox.id();
    assert!(matches!(engine.adopt(id).await, Err(Error::Owned { .. })));
    assert!(matches!(engine.adopt(vm::SlotId::new()).await, Err(Error::NotKept { .. })));
    assert!(matches!(lease.leave().await, Err(Error::NotToKeep)));
    nothing_left(state.path()).await;
    let mut big = crate::harness::spec();
    big.memory = vm::Mebibytes(u32::MAX);
    let refused = engine.lease(big, &CancellationToken::new()).await;
    assert!(matches!(refused, Err(Error::NoRoom { .. })), "{refused:?}");
    let mut odd = crate::harness::spec();
    odd.kernel = "/no/such/image".into();
    odd.root = sandbox::Root::Image(odd.kernel.clone());
    let error = engine.lease(odd, &CancellationToken::new()).await.unwrap_err();
    let mut texts = vec![error.to_string()];
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        texts.push(cause.to_string());
        source = cause.source();
    }
    assert!(texts.iter().any(|text| text.contains("/no/such/image")), "{texts:?}");
    assert!(texts.iter().any(|text| text.contains("No such file")), "{texts:?}");
    engine.close().await;
}
