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
        trial("ends_resets_and_stalls_pass_over_a_forward_as_they_are", || ends(Where::Here)),
        trial("ends_resets_and_stalls_pass_over_a_forward_of_another_process", || ends(Where::There)),
        trial("pooled_and_adopted_vms_have_their_forwards", pooled),
        trial("other_names_are_asked_of_the_host", asked),
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

/// `openssl s_server` with a certificate of its own.
struct Tls {
    port: u16,
    server: std::process::Child,
}

impl Tls {
    fn start(dir: &Path) -> Self {
        let made = Command::new("openssl")
            .args("req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=forge.test -keyout key.pem -out cert.pem".split(' '))
            .args(["-addext", "subjectAltName=DNS:forge.test"])
            .current_dir(dir)
            .stderr(std::process::Stdio::null())
            .status();
        assert!(made.is_ok_and(|made| made.success()), "a certificate");
        let port = closed_port();
        let server = Command::new("openssl")
            .args("s_server -quiet -WWW -cert cert.pem -key key.pem -accept".split(' '))
            .arg(format!("127.0.0.1:{port}"))
            .current_dir(dir)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .expect("openssl");
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { port, server }
    }
}

impl Drop for Tls {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
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
    let refused = said(&guest, refused).await;
    let lines: Vec<&str> = refused.lines().collect();
    // reset before or after it was seen to be open
    assert!(matches!(lines[..], ["curl: (56" | "curl: (7)" | "curl: (52", "curl: (7)"]), "{refused}");
    // TLS is between the two ends: the guest sees the server's own certificate
    let tls = Tls::start(www.path());
    let lease_of = engine
        .lease(with(vec![forward("forge.test", 443, tls.port)]), &CancellationToken::new())
        .await
        .expect("a lease");
    let secure = lease_of.sandbox();
    let authority = fs::read_to_string(www.path().join("cert.pem")).expect("a certificate");
    let curl = format!(
        "cat > /root/ca.pem <<'END'\n{authority}END\ncurl -sS --cacert /root/ca.pem https://forge.test/work/file"
    );
    assert_eq!(said(&secure, &curl).await, "forwarded");
    assert_eq!(said(&secure, "curl -sS https://forge.test/ 2>&1 | head -1 | cut -c1-9").await, "curl: (60");
    lease_of.destroy().await.expect("nothing is left");
    drop(tls);
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

/// Whose engine it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Where {
    Here,
    There,
}

/// An engine that is served over its socket, and a client of it.
async fn client(dir: &Path) -> Engine {
    let engine = engine(dir, PoolLimits::NONE).await;
    let listening = sandbox::Listening::at(&dir.join("engine.sock")).expect("a socket");
    let path = listening.path().to_owned();
    // it ends with the runtime, after its client has closed
    tokio::spawn(async move { sandbox::serve(engine, &listening, None, CancellationToken::new()).await });
    Engine::connect(&path).await.expect("it is served")
}

async fn ends(place: Where) {
    let dir = tempfile::tempdir().expect("a directory");
    let talker = Talker::start().await;
    let engine = match place {
        Where::Here => engine(dir.path(), PoolLimits::NONE).await,
        Where::There => client(dir.path()).await,
    };
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

/// A VM that stood by gets its own; one that was kept has what it had, with the next engine.
async fn pooled() {
    let dir = tempfile::tempdir().expect("a directory");
    let talker = Talker::start().await;
    let first = engine(dir.path(), PoolLimits { most: 1, memory: vm::Mebibytes(2048) }).await;
    first.keep_ready(&spec("any"), 1).await.expect("a template");
    while first.ready() < 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let until = std::time::SystemTime::now() + Duration::from_secs(600);
    let kept = LeaseSpec {
        on_owner_loss: OwnerLoss::Keep { until },
        ..with(vec![forward("talk.test", 7000, talker.address.port())])
    };
    let lease = first.lease(kept, &CancellationToken::new()).await.expect("a lease");
    let guest = lease.sandbox();
    assert_eq!(guest.info().origin, sandbox::Origin::Pooled);
    let echo = "s = to('echo'); s.sendall(b'hello'); print(s.recv(5))";
    assert_eq!(python(&guest, echo).await, "b'hello'");
    let waits = "cat > /root/waits.py <<'END'\nimport socket\n\
         s = socket.create_connection(('talk.test', 7000), 60); s.sendall(b'echo\\n.'); s.settimeout(300)\n\
         try:\n    s.recv(1); open('/root/open', 'w'); r = s.recv(1)\n\
         except OSError as e: r = type(e).__name__\n\
         open('/root/how', 'w').write(str(r))\nEND\n\
         setsid python3 /root/waits.py > /dev/null 2>&1 & until [ -e /root/open ]; do sleep 0.1; done";
    said(&guest, waits).await;
    lease.leave().await.expect("it is kept");
    first.close().await;
    let next = engine(dir.path(), PoolLimits::NONE).await;
    let lease = next.adopt(guest.id()).await.expect("it is adopted");
    let guest = lease.sandbox();
    assert_eq!(
        said(&guest, "until [ -s /root/how ]; do sleep 0.1; done; cat /root/how").await,
        "ConnectionResetError"
    );
    assert_eq!(python(&guest, echo).await, "b'hello'");
    lease.destroy().await.expect("nothing is left");
    next.close().await;
}

/// A service that answers for names, in no order, and says nothing of some.
async fn resolver(link: tokio::io::DuplexStream) {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let (mut from, mut to) = tokio::io::split(link);
    let mut late = Vec::new();
    while let Ok(length) = from.read_u16().await {
        let mut question = vec![0; length.into()];
        from.read_exact(&mut question).await.expect("a question");
        let text = String::from_utf8_lossy(&question).into_owned();
        let end = question[12..].iter().position(|byte| *byte == 0).expect("a name") + 12 + 5;
        let mut answer = question[..end].to_vec();
        (answer[2], answer[3], answer[7], answer[11]) = (0x81, 0x80, 1, 0);
        let records = if text.contains("large") { 60 } else { 1 };
        (answer[6], answer[7]) = (0, records);
        for nth in 0..records {
            answer.extend_from_slice(&[0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 203, 0, 113, nth + 1]);
        }
        let framed = [&u16::try_from(answer.len()).expect("a short one").to_be_bytes()[..], &answer].concat();
        if text.contains("silent") {
            continue;
        }
        if text.contains("first") {
            late.push(framed);
            continue;
        }
        to.write_all(&framed).await.expect("it is taken");
        for framed in late.drain(..) {
            to.write_all(&framed).await.expect("it is taken");
        }
    }
}

async fn asked() {
    let dir = tempfile::tempdir().expect("a directory");
    let engine = engine(dir.path(), PoolLimits::NONE).await;
    let names = || async {
        let (ours, theirs) = tokio::io::duplex(64 << 10);
        tokio::spawn(resolver(theirs));
        Ok(Box::new(ours) as vm::Link)
    };
    let services = sandbox::Services::default().with(sandbox::Services::NAMES, std::sync::Arc::new(names));
    let spec = with(vec![forward("talk.test", 7000, 1)]);
    let spec = LeaseSpec { bind: Bind { services, ..spec.bind }, ..spec };
    let lease = engine.lease(spec, &CancellationToken::new()).await.expect("a lease");
    let guest = lease.sandbox();
    // two that ask by the same id get their own; one is answered last; large ones are cut, and whole over TCP; one that
    // gets no answer hears so
    let program = "def q(name, id=0x4242):\n    \
         b = b''.join(bytes([len(l)]) + l.encode() for l in name.split('.'))\n    \
         return struct.pack('>HHHHHH', id, 0x100, 1, 0, 0, 0) + b + b'\\0\\0\\1\\0\\1'\n\
         def u(name):\n    s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.settimeout(30)\n    \
         s.connect(('198.19.0.53', 53)); s.send(q(name)); return s\n\
         a, b = u('first.example'), u('b.example')\n\
         x, y = b.recv(600), a.recv(600)\n\
         print(x[:2].hex(), b'first' in x, y[:2].hex(), b'first' in y, x[-4:].hex())\n\
         r = u('large.example').recv(2000); print(len(r), r[2] & 2, r[7])\n\
         t = socket.create_connection(('198.19.0.53', 53), 30); m = q('large.example')\n\
         t.sendall(struct.pack('>H', len(m)) + m); f = t.makefile('rb')\n\
         n = struct.unpack('>H', f.read(2))[0]; r = f.read(n); print(n > 900, r[2] & 2, r[7])\n\
         print(u('talk.test').recv(600)[-4:].hex())\n\
         r = u('silent.example').recv(600); print(r[3] & 15)";
    assert_eq!(
        python(&guest, program).await,
        "4242 False 4242 True cb007101\n31 2 0\nTrue 0 60\nc6130101\n2"
    );
    assert_eq!(
        said(&guest, "getent ahostsv4 www.example.com | cut -d' ' -f1 | head -1").await,
        "203.0.113.1"
    );
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
