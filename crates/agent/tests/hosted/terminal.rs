//! Commands with a terminal of their own.

use std::time::Duration;

use wire::{
    Code,
    message::{Answer, Body, Exited, FailureKind, Resize, TerminalSize},
};

use crate::support::{Host, Running, lives};

const SIZE: TerminalSize = TerminalSize { rows: 24, columns: 80 };

/// Starts a shell command with a terminal.
fn start(host: &mut Host, script: &str) -> Running {
    let (mut running, mut exec) = host.exec_request(&["sh", "-c", script]);
    host.mux.reset(running.stderr, Code::CANCELLED);
    running.stderr = running.stdout;
    exec.stderr = exec.stdout;
    exec.terminal = Some(SIZE);
    exec.env.push(("TERM".into(), "dumb".into()));
    match host.ask(Body::Exec(exec)) {
        Ok(Answer::Started(started)) => assert!(started.terminal, "it says nothing of the terminal"),
        other => panic!("not started: {other:?}"),
    }
    running
}

fn finish(host: &mut Host, running: Running) -> (Exited, String) {
    let (exited, out, _) = host.finish(running);
    (exited, out)
}

/// Starts one that says when it is ready, and waits for that.
fn ready(host: &mut Host, script: &str) -> Running {
    let running = start(host, script);
    host.until("readiness", |host| host.text(running.stdout).contains("ready").then_some(()));
    running
}

/// Process id that a command prints before it is ready.
fn pid_of(host: &Host, running: Running) -> String {
    host.text(running.stdout).split_whitespace().next().expect("a process id").to_owned()
}

#[test]
fn all_three_are_a_controlling_terminal_of_the_size_that_was_asked_for() {
    let mut host = Host::prepared();
    let running = start(
        &mut host,
        "test -t 0 && test -t 1 && test -t 2 && stty size && echo out && echo err >&2 && echo own > /dev/tty; exit 7",
    );
    let (exited, out) = finish(&mut host, running);
    assert_eq!((exited.code, out.as_str()), (Some(7), "24 80\r\nout\r\nerr\r\nown\r\n"));
    assert!(host.streams[&running.stdout].fin);
    let (_, out, _) = host.run("test -t 0 || test -t 1 || echo none");
    assert_eq!(out, "none\n", "another command has a terminal too");
}

#[test]
fn a_new_size_is_seen_at_once() {
    let mut host = Host::prepared();
    let script = "trap 'stty size; exit 0' WINCH; echo ready; while :; do sleep 0.02; done";
    let running = ready(&mut host, script);
    let resize = |rows, columns| Body::Resize(Resize { exec: running.exec, rows, columns });
    assert_eq!(host.ask(resize(50, 132)), Ok(Answer::Done));
    let (exited, out) = finish(&mut host, running);
    assert_eq!((exited.code, out.as_str()), (Some(0), "ready\r\n50 132\r\n"));
    assert_eq!(host.ask(resize(1, 1)), Ok(Answer::Done), "what has ended is no error");
}

#[test]
fn what_is_typed_is_read_and_echoed_and_control_c_interrupts() {
    let mut host = Host::prepared();
    let running = ready(&mut host, "echo ready; sed -u 's/^/got /'; echo never");
    host.feed(running.stdin, b"hello\r");
    host.until("an answer", |host| host.text(running.stdout).contains("got hello").then_some(()));
    // The program is there by now: a shell that is about to start one may miss it.
    host.feed(running.stdin, b"\x03");
    let (exited, out) = finish(&mut host, running);
    assert_eq!((exited.code, exited.signal), (None, Some(2)));
    assert_eq!(out, "ready\r\nhello\r\ngot hello\r\n^C");
}

/// A terminal has no end of input: that is a character.
#[test]
fn the_end_of_the_stream_of_input_ends_nothing() {
    let mut host = Host::prepared();
    let running = ready(&mut host, "stty -echo; echo ready; cat; echo over");
    host.feed(running.stdin, b"text\r");
    host.until("its text", |host| host.text(running.stdout).contains("text\r\n").then_some(()));
    host.feed(running.stdin, b"\x04");
    assert_eq!(finish(&mut host, running).1, "ready\r\ntext\r\nover\r\n");
    let running = ready(&mut host, "echo ready; read line; echo \"got $line\"");
    host.mux.finish(running.stdin);
    for _ in 0..20 {
        host.step(1);
    }
    assert!(!host.exited.contains_key(&running.exec), "the end of the stream was read as something");
    host.mux.reset(running.stdout, Code::CANCELLED);
    assert_eq!(host.until("an exit", |host| host.exited.remove(&running.exec)).signal, Some(1));
}

/// Output of a large file: a reader that stops stops the command, and nothing is lost or doubled.
#[test]
fn a_slow_reader_stops_the_command_and_loses_nothing() {
    let mut host = Host::prepared();
    let running = start(&mut host, "stty -opost; seq 1 300000");
    host.stalled.push(running.stdout);
    host.until("a full window", |host| {
        (host.streams.get(&running.stdout)?.held as u64 == wire::CREDIT).then_some(())
    });
    let (_, out, _) = host.run("echo meanwhile");
    assert_eq!(out, "meanwhile\n");
    assert_eq!(host.streams[&running.stdout].held as u64, wire::CREDIT, "more came than was granted");
    host.unstall(running.stdout);
    let (exited, out) = finish(&mut host, running);
    assert_eq!(exited.code, Some(0));
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).collect();
    assert!(out == expected, "{} bytes instead of {}", out.len(), expected.len());
}

/// The kernel passes what is written to a terminal on by a worker of its own: the last words of a command
/// may still be under way when it has ended.
#[test]
fn the_last_words_of_a_command_arrive() {
    let mut host = Host::prepared();
    let expected: String = (1..=3000).map(|n| format!("{n}\n")).collect();
    for _ in 0..30 {
        let running = start(&mut host, "stty -opost; seq 1 3000");
        assert!(finish(&mut host, running).1 == expected);
    }
}

#[test]
fn a_reset_of_the_output_hangs_up() {
    let mut host = Host::prepared();
    let script = "sh -c 'echo $$; echo ready; exec sleep 1000' & cat";
    let running = ready(&mut host, script);
    let background = pid_of(&host, running);
    host.mux.reset(running.stdout, Code::CANCELLED);
    let exited = host.until("an exit", |host| host.exited.remove(&running.exec));
    assert_eq!((exited.code, exited.signal), (None, Some(1)));
    // Its group was that of the shell, as in a script.
    host.until("its end", |_| (!lives(&background)).then_some(()));
    host.until("a reset", |host| host.streams.get(&running.stdin)?.reset);
}

#[test]
fn a_new_epoch_hangs_up() {
    let mut host = Host::prepared();
    let running = ready(&mut host, "echo $$; echo ready; cat");
    let pid = pid_of(&host, running);
    host.reconnect(2);
    host.until_in(2, "its end", |_| (!lives(&pid)).then_some(()));
}

#[test]
fn a_background_process_delays_no_end() {
    let mut host = Host::prepared();
    let script = "trap '' HUP; (sleep 2; echo late; echo alive > later; sleep 1) & echo now; exit 3";
    let running = start(&mut host, script);
    let (exited, out) = finish(&mut host, running);
    assert_eq!((exited.code, out.as_str()), (Some(3), "now\r\n"));
    let later = host.root().join("workspace/later");
    assert!(!later.exists(), "the end was late");
    host.until("the background process", |_| later.exists().then_some(()));
}

#[test]
fn a_command_that_closes_its_terminal_for_a_while_has_not_ended_its_output() {
    let mut host = Host::prepared();
    let script = "exec <&- >&- 2>&-; sleep 0.3; exec < /dev/tty > /dev/tty; echo back";
    let running = start(&mut host, script);
    assert_eq!(finish(&mut host, running).1, "back\r\n");
}

/// Both ends of a terminal are one file to epoll: one that is closed and not taken from it would be reported
/// for ever.
#[test]
fn input_that_nobody_reads_costs_no_processor_time_when_it_is_given_up() {
    let mut host = Host::prepared();
    let script = "stty raw -echo; echo ready; while ! test -e go; do sleep 0.02; done; exec cat > /dev/null";
    let running = ready(&mut host, script);
    host.mux.send(running.stdin, &vec![b'x'; 200_000], 0);
    for _ in 0..20 {
        host.step(1);
    }
    host.mux.reset(running.stdin, Code::CANCELLED);
    for _ in 0..5 {
        host.step(1);
    }
    // From here on there is room again.
    std::fs::write(host.root().join("workspace/go"), "").unwrap();
    std::thread::sleep(Duration::from_millis(200));
    let before = host.processor_time();
    std::thread::sleep(Duration::from_secs(1));
    let spent = host.processor_time() - before;
    assert!(spent < Duration::from_millis(200), "the agent was busy for {spent:?}");
    host.ask(Body::Kill(wire::message::Kill { exec: running.exec })).unwrap();
    assert_eq!(finish(&mut host, running).0.signal, Some(9));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let mut host = Host::prepared();
    for (rows, columns) in [(0, 80), (24, 0)] {
        let (running, mut exec) = host.exec_request(&["true"]);
        exec.stderr = exec.stdout;
        exec.terminal = Some(TerminalSize { rows, columns });
        assert_eq!(host.ask(Body::Exec(exec)).unwrap_err().kind, FailureKind::Invalid);
        host.until("a reset", |host| host.streams.get(&running.stdout)?.reset);
    }
    let (_, mut exec) = host.exec_request(&["true"]);
    exec.terminal = Some(SIZE);
    assert_eq!(host.ask(Body::Exec(exec)).unwrap_err().kind, FailureKind::Invalid, "two outputs");
    let running = host.start("sleep 1000");
    let resize = |rows| Body::Resize(Resize { exec: running.exec, rows, columns: 80 });
    assert_eq!(host.ask(resize(24)).unwrap_err().kind, FailureKind::Invalid, "it has no terminal");
    let running = ready(&mut host, "echo ready; sleep 1000");
    let resize = |rows| Body::Resize(Resize { exec: running.exec, rows, columns: 80 });
    assert_eq!(host.ask(resize(0)).unwrap_err().kind, FailureKind::Invalid);
    assert_eq!(host.ask(resize(25)), Ok(Answer::Done));
}
