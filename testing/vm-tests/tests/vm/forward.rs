//! Forwards of real VMs: names in the guest that lead to servers of this host.

use std::{fs, path::Path, process::Command, time::Duration};

use libtest_mimic::Trial;
use sandbox::{
    Bind, Destination, Engine, ForkSpec, Forward, Inherited, Lease, LeaseSpec, PoolLimits, Sandbox,
};
use tokio_util::sync::CancellationToken;
use vm::OwnerLoss;
use vm_tests::{
    program::{On, Place},
    talker::Talker,
    workflow,
};

use crate::pool::{engine, said, spec, trial};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        trial("names_lead_where_the_lease_says", names),
        trial("ends_resets_and_stalls_pass_over_a_forward_as_they_are", ends),
        trial("a_thousand_connections_and_more_than_there_can_be", many),
        trial("a_branch_resets_forwards_and_its_vm_keeps_them", branched),
        Trial::test("qemu::exec_forwards_names_to_this_host", || {
            exec();
            Ok(())
        }),
    ]
}

fn forward(name: &str, port: u16, to: u16) -> Forward {
    let to = Destination::Tcp { host: "127.0.0.1".to_owned(), port: to };
    Forward { name: name.to_owned(), port, to }
}

fn with(forwards: Vec<Forward>) -> LeaseSpec {
    let spec = spec("forwarded");
    LeaseSpec { bind: Bind { forwards, ..spec.bind }, ..spec }
}

async fn lease(engine: &Engine, forwards: Vec<Forward>) -> Lease {
    engine.lease(with(forwards), &CancellationToken::new()).await.expect("a lease")
}

/// Runs a Python program in the guest.
async fn python(sandbox: &Sandbox, program: &str) -> String {
    let head = "import socket, struct, sys, time, select\n\
                def to(ask, port=7000):\n    s = socket.create_connection(('talk.test', port), 60)\n    \
                s.sendall(ask.encode() + b'\\n')\n    return s\n";
    said(sandbox, &format!("python3 - <<'END'\n{head}{program}\nEND")).await
}

/// A port of this host on which nobody listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("its address").port()
}

/// Serves the files of a directory over HTTP.
async fn files(dir: &Path) -> (u16, tokio_util::task::AbortOnDropHandle<()>) {
    use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("its address").port();
    let dir = dir.to_owned();
    let task = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let dir = dir.clone();
            tokio::spawn(async move {
                let mut stream = BufReader::new(stream);
                let mut lines = Vec::new();
                loop {
                    let mut line = String::new();
                    stream.read_line(&mut line).await.expect("a request");
                    if line.trim().is_empty() {
                        break;
                    }
                    lines.push(line);
                }
                let path = lines[0].split(' ').nth(1).expect("a path");
                let path = path.split('?').next().unwrap_or_default().trim_start_matches('/');
                let answer = match fs::read(dir.join(path)) {
                    Ok(text) => {
                        let head = format!(
                            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
                            text.len()
                        );
                        [head.into_bytes(), text].concat()
                    }
                    Err(_) => b"HTTP/1.1 404 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
                };
                stream.write_all(&answer).await.expect("an answer");
            });
        }
    });
    (port, tokio_util::task::AbortOnDropHandle::new(task))
}

/// A bare repository that is cloned over plain HTTP.
fn repository(dir: &Path) {
    let script = "git init -q -b main work && cd work && echo forwarded > file && git add file && \
                  git -c user.name=a -c user.email=a@b commit -q -m one && cd .. && \
                  git clone -q --bare work repo.git && git -C repo.git update-server-info";
    let made = Command::new("sh").args(["-c", script]).current_dir(dir).status();
    assert!(made.is_ok_and(|made| made.success()), "a repository");
}

async fn names() {
    let (dir, www) = (tempfile::tempdir().expect("a directory"), tempfile::tempdir().expect("a directory"));
    repository(www.path());
    let (port, _files) = files(www.path()).await;
    let engine = engine(dir.path(), PoolLimits::NONE).await;
    let forwards = vec![
        forward("forge.test", 80, port),
        forward("forge.test", 81, closed_port()),
        forward("other", 80, port),
    ];
    let lease = lease(&engine, forwards).await;
    let guest = lease.sandbox();
    assert_eq!(said(&guest, "cat /etc/resolv.conf | head -1").await, "nameserver 198.19.0.53");
    // a name is one, however it is written; another is none, at once
    assert_eq!(said(&guest, "getent ahosts FORGE.test | cut -d' ' -f1 | uniq").await, "198.19.1.1");
    let none = "date +%s; getent hosts nobody.test || getent hosts www.example.com || echo none; date +%s";
    let none = said(&guest, none).await;
    let lines: Vec<&str> = none.lines().collect();
    assert_eq!(lines[1], "none");
    let seconds = |line: &str| line.parse::<u64>().expect("a time");
    assert!(seconds(lines[2]) - seconds(lines[0]) < 4, "{none}");
    // over TCP, and what is no question
    let asked = python(
        &guest,
        "q = b'\\x12\\x34\\x01\\0\\0\\1\\0\\0\\0\\0\\0\\0\\5other\\0\\0\\1\\0\\1'\n\
         s = socket.create_connection(('198.19.0.53', 53), 20)\n\
         s.sendall(struct.pack('>H', len(q)) + q)\nprint(s.recv(512)[-4:].hex())\n\
         u = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)\nu.settimeout(20)\nu.connect(('198.19.0.53', 53))\n\
         u.send(b'nonsense'); u.send(q[:-1]); print(u.recv(512).hex())\nu.send(q); print(u.recv(512)[-4:].hex())",
    )
    .await;
    assert_eq!(asked, "c6130102\n123481810000000000000000\nc6130102");
    // git over http, by name
    let cloned = "cd /root && git clone -q http://forge.test/repo.git && cat repo/file";
    assert_eq!(said(&guest, cloned).await, "forwarded");
    assert_eq!(said(&guest, "curl -sS http://other/work/file").await, "forwarded");
    // nobody listens there: it ends, soon
    let refused = "curl -sS -m 20 http://forge.test:81/ 2>&1 | cut -c1-9; curl -sS -m 20 http://forge.test:82/ 2>&1 | cut -c1-9";
    assert_eq!(said(&guest, refused).await, "curl: (56\ncurl: (7)");
    // from another network namespace, as a container has one: by address, over a link to the machine
    let container = "ip netns add box && ip link add in type veth peer name out netns box && \
         ip addr add 10.9.9.1/24 dev in && ip link set in up && \
         ip -n box addr add 10.9.9.2/24 dev out && ip -n box link set out up && \
         ip -n box route add default via 10.9.9.1 && \
         ip netns exec box curl -sS http://forge.test/work/file";
    let made = said(&guest, &format!("({container}) 2>&1 || echo no: $?")).await;
    assert_eq!(made, "forwarded");
    lease.destroy().await.expect("nothing is left");
    engine.close().await;
}

async fn ends() {
    let dir = tempfile::tempdir().expect("a directory");
    let talker = Talker::start().await;
    let engine = engine(dir.path(), PoolLimits::NONE).await;
    let lease = lease(&engine, vec![forward("talk.test", 7000, talker.address.port())]).await;
    let guest = lease.sandbox();
    // the guest ends its direction first, and still hears
    let counted = "s = to('count'); s.sendall(b'x' * 300000); s.shutdown(socket.SHUT_WR)\nprint(s.recv(64).decode(), s.recv(64))";
    assert_eq!(python(&guest, counted).await, "300000\n b''");
    talker.hears("count: ended after 300000").await;
    // the host ends its direction first, and still hears
    let ended = "s = to('end'); print(s.recv(64)); s.sendall(b'y' * 70000); s.close()";
    assert_eq!(python(&guest, ended).await, "b''");
    talker.hears("end: ended after 70000").await;
    // a reset by the host is one in the guest
    let reset = "s = to('reset')\ntry:\n    print(s.recv(64))\nexcept ConnectionResetError: print('reset')";
    assert_eq!(python(&guest, reset).await, "reset");
    // and the other way round: read and unread
    let reset = "s = to('echo'); s.sendall(b'1'); s.recv(1)\n\
         s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); s.close()";
    python(&guest, reset).await;
    talker.hears("echo: connection reset").await;
    // one that nobody reads stops neither the next nor the guest
    let stalled = "a = to('stall'); a.setblocking(False); n = 0\n\
         while select.select([], [a], [], 2)[1]: n += a.send(b'z' * 65536)\n\
         s = to('blob 20000000'); m = 0\n\
         while (d := s.recv(1 << 20)): m += len(d)\n\
         print(n > 256 << 10, m)\n\
         a.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0)); a.close()";
    assert_eq!(python(&guest, stalled).await, "True 20000000");
    talker.hears("stall: connection reset").await;
    // and the guest does not read: a hundred times more than the credit, then the next
    let unread = "a = to('blob 30000000'); time.sleep(1)\n\
         s = to('echo'); s.sendall(b'hello'); print(s.recv(5))\nm = 0\n\
         while (d := a.recv(1 << 20)): m += len(d)\nprint(m)";
    assert_eq!(python(&guest, unread).await, "b'hello'\n30000000");
    assert_eq!(said(&guest, "echo well").await, "well");
    lease.destroy().await.expect("nothing is left");
    engine.close().await;
}

async fn many() {
    let dir = tempfile::tempdir().expect("a directory");
    let talker = Talker::start().await;
    let engine = engine(dir.path(), PoolLimits::NONE).await;
    let lease = lease(&engine, vec![forward("talk.test", 7000, talker.address.port())]).await;
    let guest = lease.sandbox();
    let thousand = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))\nbegun = time.time()\n\
         all = [to('echo') for _ in range(1000)]\n\
         for n, s in enumerate(all): s.sendall(b'%06d' % n)\n\
         good = sum(s.recv(6) == b'%06d' % n for n, s in enumerate(all))\n\
         print(good, file=sys.stderr); took = time.time() - begun\nprint(good); print('%.2f' % took)";
    let told = python(&guest, thousand).await;
    let lines: Vec<&str> = told.lines().collect();
    assert_eq!(lines[lines.len() - 2], "1000", "{told}");
    vm_tests::say(&format!("1,000 connections, each there and back: {} s", lines[lines.len() - 1]));
    for _ in 0..500 {
        if talker.open() == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(talker.open(), 0, "connections are left");
    // more than there can be: some are reset, the others work, and so does the VM afterwards
    let beyond = "import resource; resource.setrlimit(resource.RLIMIT_NOFILE, (8192, 8192))\nall = []; reset = 0\n\
         for _ in range(3000):\n    try:\n        s = to('echo'); all.append(s)\n    except OSError: reset += 1\n\
         good = 0\n\
         for s in all:\n    try:\n        s.sendall(b'1'); good += s.recv(1) == b'1'\n    except OSError: pass\n\
         print(good, good + reset <= 3000)";
    assert_eq!(python(&guest, beyond).await, "2048 True");
    let after = "s = to('echo'); s.sendall(b'again'); print(s.recv(5))";
    assert_eq!(python(&guest, after).await, "b'again'");
    lease.destroy().await.expect("nothing is left");
    engine.close().await;
}

async fn branched() {
    let dir = tempfile::tempdir().expect("a directory");
    let talker = Talker::start().await;
    let engine = engine(dir.path(), PoolLimits::NONE).await;
    let lease = lease(&engine, vec![forward("talk.test", 7000, talker.address.port())]).await;
    let guest = lease.sandbox();
    // one connection that says something now and then, and writes down how that goes
    let talks = "cat > /root/talks.py <<'END'\nimport socket, time\n\
         s = socket.create_connection(('talk.test', 7000), 60); s.sendall(b'echo\\n')\n\
         def note(t): open('/root/notes', 'a').write(t + '\\n')\n\
         try:\n    while True:\n        s.sendall(b'x'); note('heard' if s.recv(1) == b'x' else 'end'); time.sleep(0.1)\n\
         except OSError as e: note(type(e).__name__)\nEND\n\
         setsid python3 /root/talks.py > /dev/null 2>&1 &\n\
         until grep -q heard /root/notes; do sleep 0.1; done";
    said(&guest, talks).await;
    let branch = guest.branch().await.expect("a branch");
    let fork = ForkSpec {
        bind: Bind {
            hostname: "copy".to_owned(),
            forwards: vec![forward("elsewhere.test", 7000, talker.address.port())],
            ..Bind::default()
        },
        on_owner_loss: OwnerLoss::Kill,
        inherited: Inherited::GoOn,
    };
    let copy = engine.lease_branch(&branch, fork, &CancellationToken::new()).await.expect("a fork");
    let wait = "until tail -n 1 /root/notes | grep -qv heard; do sleep 0.1; done; tail -n 1 /root/notes";
    assert_eq!(said(&copy.sandbox(), wait).await, "ConnectionResetError");
    // its parent's name is none in it, and its own is
    let own = "getent hosts talk.test || getent hosts elsewhere.test | cut -d' ' -f1";
    assert_eq!(said(&copy.sandbox(), own).await, "198.19.1.1");
    let goes_on = "a=$(grep -c heard /root/notes); sleep 2; test $(grep -c heard /root/notes) -gt $a && tail -n 1 /root/notes";
    assert_eq!(said(&guest, goes_on).await, "heard");
    for lease in [copy, lease] {
        lease.destroy().await.expect("nothing is left");
    }
    drop(branch);
    engine.close().await;
}

fn exec() {
    let www = tempfile::tempdir().expect("a directory");
    repository(www.path());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    let (port, _files) = runtime.block_on(files(www.path()));
    let place = Place::new(On::Qemu);
    let project = workflow::project(&workflow::script("curl -sS http://forge.test:8080/work/file"));
    let to = format!("Forge.test:8080=127.0.0.1:{port}");
    let ended = place.exec(project.path(), &["--forward", &to]);
    ended.expect(0);
    assert_eq!(ended.rows(), ["forwarded"]);
    place.assert_clean();
}
