//! The agent in hosted mode, driven through `wire` as a host does it.

mod forwards;
mod support;
mod terminal;

use std::{
    fs,
    io::{Read, Write},
    os::fd::AsFd,
};

use support::{Host, lives};
use wire::{
    Code, Direction, ExecId,
    message::{
        Account, Answer, Body, CopyIn, CopyOut, FailureKind, Freeze, Inherited, Kill, Root, Signal, WriteBack,
    },
};

#[test]
fn nothing_but_ping_before_prepare_and_prepare_only_once() {
    let mut host = Host::fresh();
    assert!(matches!(host.ask(Body::Ping), Ok(Answer::Pong(_))));
    let (running, exec) = host.exec_request(&["true"]);
    assert_eq!(host.ask(Body::Exec(exec)).unwrap_err().kind, FailureKind::State);
    host.until("a reset", |host| host.streams.get(&running.stdout)?.reset);
    let mut disks = host.prepare_request();
    if let Body::Prepare(prepare) = &mut disks {
        prepare.root =
            Root::Disks { root: "root".into(), fs: wire::message::RootFs::Erofs, scratch: "scratch".into() };
    }
    assert_eq!(host.ask(disks).unwrap_err().kind, FailureKind::Invalid);
    let prepare = host.prepare_request();
    assert!(matches!(host.ask(prepare.clone()), Ok(Answer::Prepared(_))));
    assert_eq!(host.ask(prepare).unwrap_err().kind, FailureKind::State);
}

#[test]
fn output_error_output_and_exit_code_come_back() {
    let mut host = Host::prepared();
    let (exited, out, err) = host.run("echo out; echo err >&2; pwd; exit 7");
    assert_eq!((exited.code, exited.signal, exited.timed_out), (Some(7), None, false));
    assert_eq!(out, format!("out\n{}/workspace\n", host.prefix));
    assert_eq!(err, "err\n");
    let (exited, ..) = host.run("kill -9 $$");
    assert_eq!((exited.code, exited.signal), (None, Some(9)));
}

#[test]
fn one_stream_for_both_keeps_their_order() {
    let mut host = Host::prepared();
    let (running, mut exec) =
        host.exec_request(&["sh", "-c", "for i in 1 2 3; do echo o$i; echo e$i >&2; done"]);
    exec.stderr = exec.stdout;
    host.ask(Body::Exec(exec)).unwrap();
    let (exited, out, _) = host.finish(running);
    assert_eq!((exited.code, out.as_str()), (Some(0), "o1\ne1\no2\ne2\no3\ne3\n"));
}

#[test]
fn the_environment_is_exactly_what_was_asked_for() {
    let mut host = Host::prepared();
    let (running, mut exec) = host.exec_request(&["env"]);
    exec.env.push(("A".into(), "first".into()));
    exec.env.push(("A".into(), "last\nline".into()));
    host.ask(Body::Exec(exec)).unwrap();
    let (_, out, _) = host.finish(running);
    let mut lines: Vec<_> = out.lines().collect();
    lines.sort_unstable();
    assert_eq!(lines, ["A=last", "PATH=/usr/local/bin:/usr/bin:/bin", "line"]);
}

#[test]
fn what_cannot_be_started_says_why() {
    let mut host = Host::prepared();
    fs::write(host.root().join("workspace/plain"), "#!/bin/sh\n").unwrap();
    let plain = format!("{}/workspace/plain", host.prefix);
    for (argv, cwd, wanted) in [
        (&["no-such-program"][..], "/workspace", FailureKind::NotFound),
        (&[plain.as_str()], "/workspace", FailureKind::Permission),
        (&["true"], "/missing", FailureKind::Cwd),
        (&["true"], "relative", FailureKind::Invalid),
        (&[], "/workspace", FailureKind::Invalid),
        (&["a\0b"], "/workspace", FailureKind::Invalid),
    ] {
        let (running, mut exec) = host.exec_request(argv);
        exec.cwd = cwd.into();
        let error = host.ask(Body::Exec(exec)).unwrap_err();
        assert_eq!(error.kind, wanted, "{argv:?}: {error}");
        host.until("a reset", |host| host.streams.get(&running.stderr)?.reset);
    }
    let (exited, ..) = host.run("true");
    assert_eq!(exited.code, Some(0));
}

#[test]
fn input_reaches_the_command_and_its_end_too() {
    let mut host = Host::prepared();
    let running = host.start("wc -c");
    host.feed(running.stdin, &vec![b'x'; 3_000_000]);
    host.mux.finish(running.stdin);
    let (exited, out, _) = host.finish(running);
    assert_eq!((exited.code, out.trim()), (Some(0), "3000000"));
}

#[test]
fn input_that_nobody_reads_is_refused_and_not_waited_for() {
    let mut host = Host::prepared();
    let running = host.start("exec <&-; sleep 1; echo done");
    host.mux.send(running.stdin, &vec![b'x'; 200_000], 0);
    host.until("a reset", |host| host.streams.get(&running.stdin)?.reset);
    assert_eq!(host.finish(running).1, "done\n");
}

/// One that prints without end stops when nobody takes it, others do not notice, and nothing is lost.
#[test]
fn a_stalled_stream_stops_its_command_and_no_other() {
    let mut host = Host::prepared();
    let endless = host.start("seq 1 2000000");
    host.stalled.push(endless.stdout);
    host.until("a full window", |host| {
        (host.streams.get(&endless.stdout)?.held as u64 == wire::CREDIT).then_some(())
    });
    let (_, out, _) = host.run("echo meanwhile");
    assert_eq!(out, "meanwhile\n");
    assert_eq!(host.streams[&endless.stdout].held as u64, wire::CREDIT, "more came than was granted");
    host.unstall(endless.stdout);
    let (exited, out, _) = host.finish(endless);
    assert_eq!(exited.code, Some(0));
    let expected: String = (1..=2_000_000).map(|n| format!("{n}\n")).collect();
    assert!(out == expected, "{} bytes instead of {}", out.len(), expected.len());
}

#[test]
fn a_background_process_delays_nothing_and_is_not_killed_by_its_output() {
    let mut host = Host::prepared();
    let script = "(sleep 0.3; echo late; echo late >&2; echo alive > later) & echo $!; exit 3";
    let (exited, out, err) = host.run(script);
    assert_eq!((exited.code, out.lines().count(), err.as_str()), (Some(3), 1, ""));
    let later = host.root().join("workspace/later");
    host.until("the background process", |_| later.exists().then_some(()));
}

#[test]
fn a_time_out_kills_all_of_it() {
    let mut host = Host::prepared();
    let (running, mut exec) = host.exec_request(&[
        "sh",
        "-c",
        "sleep 1000 & setsid sleep 1001 & echo $$ $!; trap '' TERM INT; wait",
    ]);
    exec.timeout_ms = Some(500);
    host.ask(Body::Exec(exec)).unwrap();
    let (exited, out, _) = host.finish(running);
    assert_eq!((exited.signal, exited.timed_out), (Some(9), true));
    for pid in out.split_whitespace() {
        host.until("an end", |_| (!lives(pid)).then_some(()));
    }
}

#[test]
fn signals_reach_the_group_and_kill_reaches_those_that_left_it() {
    let mut host = Host::prepared();
    let other = host.start("echo $$; sleep 1000");
    let script = "trap 'echo got' INT; setsid sh -c 'echo $$; exec sleep 1000' & sleep 1000 & wait; wait";
    let running = host.start(script);
    let escaped = host.until("its id", |host| Some(host.text(running.stdout).lines().next()?.to_owned()));
    host.ask(Body::Signal(Signal { exec: running.exec, signal: 2 })).unwrap();
    host.until("the trap", |host| host.text(running.stdout).contains("got").then_some(()));
    assert!(lives(&escaped));
    assert_eq!(
        host.ask(Body::Signal(Signal { exec: running.exec, signal: 65 })).unwrap_err().kind,
        FailureKind::Invalid
    );
    host.ask(Body::Kill(Kill { exec: running.exec })).unwrap();
    assert_eq!(host.finish(running).0.signal, Some(9));
    host.until("its end", |_| (!lives(&escaped)).then_some(()));
    let other_pid = host.until("its id", |host| Some(host.text(other.stdout).lines().next()?.to_owned()));
    assert!(lives(&other_pid), "another execution was killed too");
    // What has ended is no error.
    host.ask(Body::Kill(Kill { exec: running.exec })).unwrap();
    host.ask(Body::Signal(Signal { exec: running.exec, signal: 9 })).unwrap();
}

#[test]
fn many_short_commands_at_once_all_report_once() {
    let mut host = Host::prepared();
    let all: Vec<_> = (0..100)
        .map(|number| {
            let (running, exec) = host.exec_request(&["sh", "-c", &format!("echo {number}; exit {number}")]);
            host.send(Body::Exec(exec));
            running
        })
        .collect();
    for (number, running) in (0..).zip(all) {
        let (exited, out, _) = host.finish(running);
        assert_eq!((exited.code, out), (Some(number), format!("{number}\n")));
    }
}

fn sample_tree(host: &Host) -> std::path::PathBuf {
    let tree = host.dir.path().join("tree");
    fs::create_dir_all(tree.join("a/b")).expect("directories");
    fs::write(tree.join("a/big"), vec![9; 1_000_000]).expect("a file");
    fs::write(tree.join("a/b/small"), "text").expect("a file");
    std::os::unix::fs::symlink("big", tree.join("a/link")).expect("a link");
    tree
}

#[test]
fn trees_go_in_and_come_out() {
    let mut host = Host::prepared();
    let tree = sample_tree(&host);
    let mut archive = Vec::new();
    let packed = tree::pack(&tree, &mut archive).unwrap();

    let stream = host.mux.open(Direction::Send).unwrap();
    let id =
        host.send(Body::CopyIn(CopyIn { dest: "/workspace/deep/new".into(), stream, owner: Account::ROOT }));
    host.feed(stream, &archive);
    host.mux.finish(stream);
    match host.until("a reply", |host| host.replies.remove(&id)) {
        Ok(Answer::Copied(copied)) => {
            assert_eq!((copied.entries, copied.bytes), (packed.entries, packed.bytes));
        }
        other => panic!("not copied: {other:?}"),
    }
    let inside = host.root().join("workspace/deep/new");
    assert_eq!(fs::read(inside.join("a/big")).unwrap(), vec![9; 1_000_000]);

    let stream = host.mux.open(Direction::Receive).unwrap();
    host.ask(Body::CopyOut(CopyOut { path: "/workspace/deep".into(), stream })).unwrap();
    let received = &host.streams[&stream];
    assert!(received.fin);
    let out = host.dir.path().join("out");
    fs::create_dir(&out).unwrap();
    let dir = fs::File::open(&out).unwrap();
    tree::unpack(&received.bytes[..], dir.as_fd(), &tree::Unpack::default()).unwrap();
    assert_eq!(fs::read_to_string(out.join("new/a/b/small")).unwrap(), "text");
    assert_eq!(fs::read_link(out.join("new/a/link")).unwrap(), std::path::Path::new("big"));
}

#[test]
fn a_hostile_archive_is_refused_by_name() {
    let mut host = Host::prepared();
    let mut header = tar_header("../escaped");
    header.extend([0; 1024]);
    let stream = host.mux.open(Direction::Send).unwrap();
    let id = host.send(Body::CopyIn(CopyIn { dest: "/workspace".into(), stream, owner: Account::ROOT }));
    host.feed(stream, &header);
    host.mux.finish(stream);
    let error = host.until("a reply", |host| host.replies.remove(&id)).unwrap_err();
    assert_eq!(error.kind, FailureKind::Entry);
    assert!(error.message.contains("../escaped"), "{error}");
    assert!(!host.root().join("escaped").exists());
}

/// A header of an empty file, by hand.
fn tar_header(name: &str) -> Vec<u8> {
    let mut header = vec![0; 512];
    header[..name.len()].copy_from_slice(name.as_bytes());
    header[100..107].copy_from_slice(b"0000644");
    header[108..115].copy_from_slice(b"0000000");
    header[116..123].copy_from_slice(b"0000000");
    header[124..135].copy_from_slice(b"00000000000");
    header[136..147].copy_from_slice(b"00000000000");
    header[148..156].copy_from_slice(b"        ");
    header[156] = b'0';
    header[257..265].copy_from_slice(b"ustar\x0000");
    let sum: u32 = header.iter().map(|byte| u32::from(*byte)).sum();
    header[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
    header
}

#[test]
fn a_copy_that_is_cut_short_or_impossible_is_an_error() {
    let mut host = Host::prepared();
    let stream = host.mux.open(Direction::Send).unwrap();
    let id = host.send(Body::CopyIn(CopyIn { dest: "/workspace".into(), stream, owner: Account::ROOT }));
    host.feed(stream, &[0; 100]);
    host.step(1);
    host.mux.reset(stream, Code::CANCELLED);
    assert_eq!(host.until("a reply", |host| host.replies.remove(&id)).unwrap_err().kind, FailureKind::Io);

    let stream = host.mux.open(Direction::Receive).unwrap();
    let error = host.ask(Body::CopyOut(CopyOut { path: "/workspace/none".into(), stream })).unwrap_err();
    assert_eq!(error.kind, FailureKind::NotFound);
    host.until("a reset", |host| host.streams.get(&stream)?.reset);

    // One that the host gives up half way ends too, and the agent lives on.
    let tree = sample_tree(&host);
    fs::write(host.root().join("workspace/huge"), vec![1; 8_000_000]).unwrap();
    drop(tree);
    let stream = host.mux.open(Direction::Receive).unwrap();
    host.stalled.push(stream);
    let id = host.send(Body::CopyOut(CopyOut { path: "/workspace".into(), stream }));
    host.until("bytes", |host| (host.streams.get(&stream)?.held > 0).then_some(()));
    host.mux.reset(stream, Code::CANCELLED);
    assert_eq!(host.until("a reply", |host| host.replies.remove(&id)).unwrap_err().kind, FailureKind::Io);
    assert_eq!(host.run("echo on").1, "on\n");
}

#[test]
fn a_new_connection_of_the_same_epoch_loses_and_doubles_nothing() {
    let mut host = Host::prepared();
    let running = host.start("seq 1 300000; cat");
    for _ in 0..20 {
        host.step(1);
        host.step(1);
        host.reconnect(1);
    }
    assert!(host.resumed[1..].iter().all(|resumed| *resumed));
    host.feed(running.stdin, b"end\n");
    host.mux.finish(running.stdin);
    let (exited, out, _) = host.finish(running);
    let expected: String = (1..=300_000).map(|n| format!("{n}\n")).chain(["end\n".into()]).collect();
    assert!(out == expected, "{} bytes instead of {}", out.len(), expected.len());
    assert_eq!(exited.code, Some(0));
}

#[test]
fn a_new_epoch_forgets_the_old_one_and_lets_its_processes_run() {
    let mut host = Host::prepared();
    let running = host.start("echo $$; while :; do echo x; sleep 0.05; done");
    let pid = host.until("its id", |host| Some(host.text(running.stdout).lines().next()?.to_owned()));
    host.reconnect(2);
    assert_eq!(host.resumed.last(), Some(&false));
    host.streams.clear();
    assert!(matches!(host.ask(Body::Ping), Ok(Answer::Pong(_))));
    // Its name is free again.
    let (exited, out, _) = host.run("echo fresh");
    assert_eq!((exited.code, out.as_str()), (Some(0), "fresh\n"));
    assert!(lives(&pid));
}

#[test]
fn a_host_that_breaks_the_protocol_is_dropped_and_the_next_one_is_served() {
    let mut host = Host::prepared();
    let link = host.reopen();
    let mut hello = [0; 16];
    link.read_exact(&mut hello).unwrap();
    // A frame of 4 GB.
    link.write_all(b"\xff\xff\xff\xff\x02\0\0\0\x01\0\0\0\x01\0\0\0").unwrap();
    let mut rest = Vec::new();
    link.read_to_end(&mut rest).unwrap();
    host.reconnect(1);
    assert_eq!(host.run("echo back").1, "back\n");
    // What is no frame at all: by it a backend lets the guest of a fork start anew, frozen or not.
    for _ in 0..2 {
        let link = host.reopen();
        link.write_all(&[0xff; 16]).unwrap();
        let mut rest = Vec::new();
        link.read_to_end(&mut rest).unwrap();
        host.reconnect(1);
        assert!(matches!(host.ask(Body::Ping), Ok(Answer::Pong(_))));
        host.ask(Body::Freeze(Freeze::default())).ok();
    }
}

/// Half a frame of a host that went away does not become part of what the next one says.
#[test]
fn half_a_frame_is_forgotten_with_its_connection() {
    let mut host = Host::prepared();
    for cut in [1, 15, 16, 17, 40] {
        let link = host.reopen();
        let mut hello = [0; 16];
        link.read_exact(&mut hello).unwrap();
        let mut frame = b"\x40\0\0\0\x02\0\0\0\0\0\0\0\x01\0\0\0".to_vec();
        frame.resize(80, b'x');
        link.write_all(&frame[..cut]).unwrap();
        host.reconnect(1);
        assert_eq!(host.run("echo whole").1, "whole\n");
    }
}

#[test]
fn frozen_is_the_last_word_until_thaw() {
    for disks in [WriteBack::All, WriteBack::None] {
        frozen(disks, "while :; do echo x; sleep 0.01; done");
        frozen(disks, "yes");
    }
}

fn frozen(disks: WriteBack, script: &str) {
    let mut host = Host::prepared();
    let running = host.start(script);
    host.until("output", |host| (!host.text(running.stdout).is_empty()).then_some(()));
    assert_eq!(host.ask(Body::Freeze(Freeze { disks })), Ok(Answer::Frozen));
    let before = host.text(running.stdout).len();
    let (refused, exec) = host.exec_request(&["true"]);
    let id = host.send(Body::Exec(exec));
    for _ in 0..20 {
        host.step(1);
    }
    assert_eq!(host.text(running.stdout).len(), before, "it spoke while frozen");
    assert!(!host.replies.contains_key(&id));
    assert_eq!(host.ask(Body::Thaw), Ok(Answer::Done));
    assert_eq!(
        host.until("a reply", |host| host.replies.remove(&id)).expect_err("it is refused").kind,
        FailureKind::State
    );
    host.until("a reset", |host| host.streams.get(&refused.stdout)?.reset);
    host.until("output", |host| (host.text(running.stdout).len() > before).then_some(()));
}

#[test]
fn a_thaw_overtakes_a_freeze() {
    let mut host = Host::prepared();
    let freeze = host.send(Body::Freeze(Freeze::default()));
    let thaw = host.send(Body::Thaw);
    assert_eq!(host.until("a reply", |host| host.replies.remove(&thaw)), Ok(Answer::Done));
    assert_eq!(
        host.until("a reply", |host| host.replies.remove(&freeze)).unwrap_err().kind,
        FailureKind::State
    );
    assert_eq!(host.run("echo on").1, "on\n");
    assert_eq!(host.ask(Body::Freeze(Freeze::default())), Ok(Answer::Frozen));
}

#[test]
fn a_fork_of_a_frozen_guest_decides_what_goes_on() {
    let mut host = Host::prepared();
    let sleeper = |host: &mut Host| {
        let running = host.start("echo $$; exec sleep 1000");
        let pid = host.until("its id", |host| Some(host.text(running.stdout).lines().next()?.to_owned()));
        (running.exec, pid)
    };
    let (mut sleepers, bind) = (Vec::new(), |host: &mut Host, inherited| {
        let bind = host.bind_request(inherited);
        assert_eq!(host.ask(bind), Ok(Answer::Done));
        assert_eq!(host.ask(Body::Thaw), Ok(Answer::Done));
    });
    for _ in 0..2 {
        sleepers.push(sleeper(&mut host));
    }
    let lives =
        |sleepers: &[(ExecId, String)]| sleepers.iter().map(|(_, pid)| lives(pid)).collect::<Vec<_>>();
    assert_eq!(host.ask(Body::Freeze(Freeze { disks: WriteBack::None })), Ok(Answer::Frozen));
    host.reconnect(2);
    host.streams.clear();
    bind(&mut host, Inherited::GoOn);
    assert_eq!(lives(&sleepers), [true, true]);
    // a name of the epoch before that one is nobody's any more
    host.reconnect(3);
    host.streams.clear();
    bind(&mut host, Inherited::KillOnly(vec![sleepers[0].0]));
    assert_eq!(lives(&sleepers), [true, true]);
    sleepers.push(sleeper(&mut host));
    host.reconnect(4);
    host.streams.clear();
    bind(&mut host, Inherited::KillOnly(vec![sleepers[2].0]));
    host.until("an end", |_| (lives(&sleepers) == [true, true, false]).then_some(()));
    sleepers.push(sleeper(&mut host));
    bind(&mut host, Inherited::Kill);
    host.until("ends", |_| (lives(&sleepers) == [false, false, false, true]).then_some(()));
}

/// The streams of two epochs have the same names.
#[test]
fn a_copy_of_an_old_epoch_is_not_taken_for_a_new_one() {
    let mut host = Host::prepared();
    for epoch in (2..30).step_by(2) {
        let stream = host.mux.open(Direction::Send).unwrap();
        host.send(Body::CopyIn(CopyIn { dest: "/workspace/old".into(), stream, owner: Account::ROOT }));
        host.feed(stream, &[0; 100]);
        host.reconnect(epoch);
        host.streams.clear();
        let new = host.mux.open(Direction::Send).unwrap();
        assert_eq!(new, stream);
        let id =
            host.send(Body::CopyIn(CopyIn { dest: "/workspace/new".into(), stream, owner: Account::ROOT }));
        for _ in 0..3 {
            host.step(1);
        }
        assert!(!host.replies.contains_key(&id), "{:?}", host.replies);
        host.feed(stream, &[0; 1024]);
        host.mux.finish(stream);
        let copied = host.until("a reply", |host| host.replies.remove(&id));
        assert!(matches!(copied, Ok(Answer::Copied(_))), "{copied:?}");
        host.reconnect(epoch + 1);
        host.streams.clear();
    }
}

#[test]
fn shutdown_takes_everything_along() {
    let mut host = Host::prepared();
    let running = host.start("setsid sleep 1000 & echo $$ $!; sleep 1000");
    let pids = host.until("its ids", |host| {
        let text = host.text(running.stdout);
        text.ends_with('\n').then_some(text)
    });
    assert!(host.shutdown().success());
    for pid in pids.split_whitespace() {
        assert!(!lives(pid), "{pid} is left");
    }
}
