//! Commands and trees: order, completeness, credit, ends.

use std::{
    io::{self, Cursor},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use sandbox::{
    Account, Engine, Error, FailureKind, Gone, Lease, OutputMode, Sandbox, Stdin, Stream, TerminalSize,
};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf};
use tokio_util::sync::CancellationToken;
use wire::StreamId;

use crate::guest::{Manner, Memory, engine, hosted, pattern, run, until};

struct Up {
    _dir: tempfile::TempDir,
    engine: Engine,
    lease: Lease,
    sandbox: Sandbox,
    backend: Arc<Memory>,
}

async fn up() -> Up {
    let dir = tempfile::tempdir().unwrap();
    let backend = Memory::new(&[Manner::Good]);
    let engine = engine(dir.path(), &backend).await;
    let lease = engine.lease(hosted(), &CancellationToken::new()).await.unwrap();
    let sandbox = lease.sandbox();
    Up { _dir: dir, engine, lease, sandbox, backend }
}

#[tokio::test]
async fn ten_megabytes_come_complete_and_in_order() {
    let up = up().await;
    let count = 10 << 20;
    for mode in [OutputMode::Merged, OutputMode::Separate] {
        let mut request = run(&["print", &count.to_string()]);
        request.output = mode;
        let mut running = up.sandbox.exec(request).await.unwrap();
        // Where each stream is in the whole, which goes from one to the other every 1000 bytes.
        let (mut at, mut time) = ([0, 0], jiff::Timestamp::MIN);
        while let Some(chunk) = running.output.next().await.unwrap() {
            assert!(chunk.time >= time && !chunk.bytes.is_empty());
            time = chunk.time;
            let which = usize::from(chunk.stream == Stream::Stderr);
            for byte in chunk.bytes {
                let n = match mode {
                    OutputMode::Merged | OutputMode::Terminal(_) => at[0],
                    OutputMode::Separate => (at[which] / 1000 * 2 + which) * 1000 + at[which] % 1000,
                };
                assert!(byte == pattern(n), "byte {n} of {mode:?}");
                at[which] += 1;
            }
        }
        assert_eq!(at[0] + at[1], count, "{mode:?}");
        assert_eq!(at[1] > 0, mode == OutputMode::Separate);
        assert!(running.exit().await.unwrap().success());
    }
}

#[tokio::test]
async fn a_stalled_consumer_holds_one_window_and_stops_nobody_else() {
    let up = up().await;
    let stalled = up.sandbox.exec(run(&["print", "10000000"])).await.unwrap();
    let other = up.sandbox.exec(run(&["print", "3000000"])).await.unwrap();
    let collected = other.collect(3_000_000).await.unwrap();
    assert_eq!(collected.stdout.len(), 3_000_000);
    up.sandbox.ping().await.unwrap();
    let sent = up.backend.seen.sent.lock().unwrap()[&StreamId(1)];
    assert!(sent <= 256 << 10, "the guest could send {sent} bytes that nobody took");
    // And once it is taken it goes on.
    assert_eq!(stalled.collect(10_000_000).await.unwrap().stdout.len(), 10_000_000);
}

#[tokio::test]
async fn output_that_nobody_wants_does_not_hold_the_command_up() {
    let up = up().await;
    let mut running = up.sandbox.exec(run(&["print", "3000000"])).await.unwrap();
    // The second half of it, unread.
    assert!(running.output.next().await.unwrap().is_some());
    let sandbox::Running { output, .. } = &mut running;
    let unread = std::mem::replace(output, up.sandbox.exec(run(&["print", "0"])).await.unwrap().output);
    drop(unread);
    assert!(running.exit().await.unwrap().success());
}

#[tokio::test]
async fn too_much_output_is_an_error_and_ends_the_command() {
    let up = up().await;
    let running = up.sandbox.exec(run(&["print", "1000000"])).await.unwrap();
    assert!(matches!(running.collect(1000).await, Err(Error::TooMuchOutput { limit: 1000 })));
    until(|| !up.backend.seen.killed.lock().unwrap().is_empty()).await;
}

#[tokio::test]
async fn a_command_reads_what_it_is_given() {
    let up = up().await;
    let mut request = run(&["cat"]);
    request.stdin = Stdin::Bytes(b"all of it".to_vec());
    let collected = up.sandbox.exec(request).await.unwrap().collect(100).await.unwrap();
    assert_eq!(collected.stdout, b"all of it");

    let mut request = run(&["cat"]);
    request.stdin = Stdin::Pipe;
    let mut running = up.sandbox.exec(request).await.unwrap();
    let mut stdin = running.stdin.take().unwrap();
    stdin.write_all(b"first").await.unwrap();
    assert_eq!(running.output.next().await.unwrap().unwrap().bytes, b"first");
    stdin.write_all(b"second").await.unwrap();
    stdin.shutdown().await.unwrap();
    let collected = running.collect(100).await.unwrap();
    assert_eq!((collected.stdout.as_slice(), collected.exited.code), (&b"second"[..], Some(0)));
}

#[tokio::test]
async fn a_guests_clock_moves_no_row_out_of_order() {
    let up = up().await;
    let before = jiff::Timestamp::now();
    let mut running = up.sandbox.exec(run(&["future", "100"])).await.unwrap();
    let chunk = running.output.next().await.unwrap().unwrap();
    let after = jiff::Timestamp::now();
    assert!(chunk.time >= before && chunk.time <= after, "{} is not its arrival", chunk.time);
    assert!(running.exit().await.unwrap().time <= jiff::Timestamp::now());
    // This guest's other rows are dated 1970.
    let mut running = up.sandbox.exec(run(&["print", "100"])).await.unwrap();
    assert!(running.output.next().await.unwrap().unwrap().time >= chunk.time);
    assert!(up.sandbox.now() >= chunk.time);
}

#[tokio::test]
async fn what_cannot_be_started_is_told_with_its_kind() {
    let up = up().await;
    let error = up.sandbox.exec(run(&["no such"])).await.unwrap_err();
    assert!(matches!(error, Error::Guest { kind: FailureKind::NotFound, .. }), "{error}");
    let mut huge = run(&["print", "1"]);
    huge.env.push(("BIG".into(), "x".repeat(5 << 20)));
    assert!(matches!(up.sandbox.exec(huge).await, Err(Error::Request(_))));
    up.sandbox.ping().await.unwrap();
}

/// This guest is of a time before terminals: it starts the command without one.
#[tokio::test]
async fn a_command_that_did_not_get_its_terminal_is_an_error_and_is_killed() {
    let up = up().await;
    let mut request = run(&["sleep"]);
    request.output = OutputMode::Terminal(TerminalSize::USUAL);
    request.stdin = Stdin::Pipe;
    let error = up.sandbox.exec(request).await.unwrap_err();
    assert!(matches!(error, Error::Guest { kind: FailureKind::Invalid, .. }), "{error}");
    assert_eq!(up.backend.seen.killed.lock().unwrap().len(), 1);
    up.sandbox.ping().await.unwrap();
}

#[tokio::test]
async fn signals_and_drops_end_a_command() {
    let up = up().await;
    let mut running = up.sandbox.exec(run(&["sleep"])).await.unwrap();
    running.signal(2).await.unwrap();
    assert_eq!(running.exit().await.unwrap().signal, Some(2));
    assert_eq!(running.output.next().await.unwrap(), None);
    assert_eq!(running.exit().await.unwrap().signal, Some(2), "also when it is asked again");
    assert!(up.backend.seen.killed.lock().unwrap().is_empty());

    let mut running = up.sandbox.exec(run(&["sleep"])).await.unwrap();
    running.control().kill().await.unwrap();
    assert_eq!(running.exit().await.unwrap().signal, Some(9));

    let running = up.sandbox.exec(run(&["sleep"])).await.unwrap();
    drop(running);
    until(|| up.backend.seen.killed.lock().unwrap().len() == 2).await;
    // One that nobody waited for until it ran.
    let mut exec = Box::pin(up.sandbox.exec(run(&["sleep"])));
    assert!(futures_poll(exec.as_mut()).is_pending());
    drop(exec);
    until(|| up.backend.seen.killed.lock().unwrap().len() == 3).await;
}

fn futures_poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(std::task::Waker::noop()))
}

#[tokio::test]
async fn destroy_ends_what_is_under_way_at_once() {
    let up = up().await;
    let mut sleeping = up.sandbox.exec(run(&["sleep"])).await.unwrap();
    let mut printing = up.sandbox.exec(run(&["print", "10000000"])).await.unwrap();
    let sandbox = up.sandbox.clone();
    let copying = tokio::spawn(async move { sandbox.copy_in("/x", Account::ROOT, Endless).await });
    up.lease.destroy().await.unwrap();
    assert!(matches!(sleeping.exit().await, Err(Error::Gone(Gone::Destroyed))));
    let end = loop {
        match printing.output.next().await {
            Ok(Some(_)) => {}
            end => break end,
        }
    };
    assert_eq!(end, Err(Gone::Destroyed));
    assert!(matches!(copying.await.unwrap(), Err(Error::Gone(Gone::Destroyed))));
    assert!(matches!(up.sandbox.ping().await, Err(Error::Gone(Gone::Destroyed))));
    assert_eq!(*up.sandbox.gone().borrow(), Some(Gone::Destroyed));
    up.engine.close().await;
}

/// A tree without an end.
struct Endless;

impl AsyncRead for Endless {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        buf.initialize_unfilled();
        let all = buf.remaining();
        buf.advance(all);
        Poll::Ready(Ok(()))
    }
}

/// A tree that cannot be read.
struct Broken;

impl AsyncRead for Broken {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Err(io::Error::other("the disk is on fire")))
    }
}

#[tokio::test]
async fn trees_go_in_whole_or_with_an_error() {
    let up = up().await;
    let tree: Vec<u8> = (0..2_000_000).map(pattern).collect();
    up.sandbox.copy_in("/x", Account::ROOT, Cursor::new(tree.clone())).await.unwrap();
    assert!(*up.backend.seen.received.lock().unwrap() == tree);

    let error = up.sandbox.copy_in("/x", Account::ROOT, Broken).await.unwrap_err();
    assert!(matches!(error, Error::CopySource(_)), "{error}");
    until(|| up.backend.seen.reset.lock().unwrap().len() == 1).await;

    let error = up.sandbox.copy_in("/full", Account::ROOT, Endless).await.unwrap_err();
    assert!(matches!(error, Error::Guest { kind: FailureKind::NoSpace, .. }), "{error}");
    // One that its caller gives up, once it is under way.
    let before = up.backend.seen.received.lock().unwrap().len();
    tokio::select! {
        _ = up.sandbox.copy_in("/x", Account::ROOT, Endless) => unreachable!("it has no end"),
        () = until(|| up.backend.seen.received.lock().unwrap().len() > before) => {}
    }
    until(|| up.backend.seen.reset.lock().unwrap().len() >= 2).await;
    up.sandbox.ping().await.unwrap();
}

#[tokio::test]
async fn trees_come_out_whole_or_with_an_error() {
    let up = up().await;
    let mut tree = Vec::new();
    up.sandbox.copy_out("/x").await.unwrap().read_to_end(&mut tree).await.unwrap();
    assert_eq!(tree, b"a tree");
    let mut none = up.sandbox.copy_out("/none").await.unwrap();
    let error = none.read_to_end(&mut tree).await.unwrap_err();
    assert!(error.to_string().contains("no such path"), "{error}");
    let error = up.sandbox.copy_out("/cut").await.unwrap().read_to_end(&mut tree).await.unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    drop(up.sandbox.copy_out("/endless").await.unwrap());
    until(|| !up.backend.seen.reset.lock().unwrap().is_empty()).await;
}

#[test]
fn what_is_asked_shows_no_value_of_its_environment() {
    let text = format!("{:?}", run(&["print"]));
    assert!(text.contains("TOKEN") && !text.contains("hunter2"), "{text}");
}
