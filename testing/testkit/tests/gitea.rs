//! A Gitea ends with whoever started it.
//!
//! Its other tests are `vm-tests`, which share one server.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

/// A started server's owner, and what it said of it.
struct Owner {
    child: Child,
    pid: String,
    url: String,
}

impl Owner {
    fn start() -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_test-gitea"));
        let mut child =
            command.arg("run").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        let (mut pid, mut url) = (String::new(), String::new());
        let mut said = Vec::new();
        for line in lines {
            match line.split_once(": ") {
                Some(("pid", value)) => value.clone_into(&mut pid),
                Some(("url", value)) => value.clone_into(&mut url),
                _ => {}
            }
            said.push(line);
            if said.last().is_some_and(|line| line.starts_with("it ends with this input")) {
                break;
            }
        }
        assert!(!pid.is_empty() && url.starts_with("http://127.0.0.1:"), "{said:?}");
        Self { child, pid, url }
    }

    fn address(&self) -> &str {
        self.url.trim_start_matches("http://")
    }

    /// Whose process the server is, and where it works.
    fn server(&self) -> Option<(String, std::path::PathBuf)> {
        let proc = format!("/proc/{}", self.pid);
        let status = fs::read_to_string(format!("{proc}/status")).ok()?;
        let uid = status.lines().find_map(|line| line.strip_prefix("Uid:"))?.split_whitespace().next()?;
        // a process that is only waited for has no directory any more
        Some((uid.to_owned(), fs::read_link(format!("{proc}/cwd")).ok()?))
    }
}

fn eventually(what: &str, mut seen: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !seen() {
        assert!(begun.elapsed() < Duration::from_secs(30), "never: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn it_ends_with_its_owner() {
    let mut owner = Owner::start();
    let (uid, work) = owner.server().expect("it runs");
    assert_ne!(uid, "0", "it must not be root's");
    std::net::TcpStream::connect(owner.address()).expect("it listens");
    let home = work.parent().expect("its directory").to_owned();

    drop(owner.child.stdin.take());
    assert!(owner.child.wait().expect("its end").success());
    assert!(owner.server().is_none(), "the server ended before its owner");
    assert!(!home.exists(), "{} is gone", home.display());

    let mut owner = Owner::start();
    let (_, work) = owner.server().expect("it runs");
    owner.child.kill().expect("killed");
    owner.child.wait().expect("its end");
    eventually("the server of a killed owner is gone", || owner.server().is_none());
    // its directory nobody could remove; the next one does
    let home = work.parent().expect("its directory").to_owned();
    assert!(home.exists());
    let mut next = Owner::start();
    assert!(!home.exists(), "{} is gone", home.display());
    drop(next.child.stdin.take());
    assert!(next.child.wait().expect("its end").success());
}
