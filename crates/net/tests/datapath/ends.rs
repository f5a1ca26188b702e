//! What is left of it: nothing.

use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use net::{Base, Error, Ports, Router, Uplink};
use rustix::process::Signal;
use testkit::bed::{
    Guest,
    address::{INTERNET, PORTS},
};

use super::{Host, block_on, config, guest, policy, said};

const PORT: u16 = PORTS[0];

/// The owner's part: it says when it is ready, and never ends.
pub(super) fn owner() -> ExitCode {
    let mut config = config();
    config.pool = 8;
    block_on(async {
        println!("starts");
        let router = Router::start(config).await.unwrap();
        println!("started");
        let namespace = router.namespace().await.unwrap();
        namespace.apply(&policy(Base::Internet, &[])).await.unwrap();
        println!("ready");
        let mut all = Vec::new();
        loop {
            all.push(router.namespace().await.unwrap());
            if all.len() > 6 {
                all.clear();
            }
        }
    })
}

/// At whatever moment, and also if only its helper is.
pub(super) fn a_killed_owner_leaves_nothing(host: &Host) {
    let mut left = Vec::new();
    for round in 0..12_u64 {
        let me = std::env::current_exe().unwrap();
        let mut child = Command::new(me).arg("owner").stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let word = ["starts", "started", "ready"][usize::try_from(round % 3).unwrap()];
        while lines.next().unwrap().unwrap() != word {}
        std::thread::sleep(Duration::from_millis(round * 17 % 60));
        kill(&mut child);
        if let Err(what) = gone(host) {
            left.push(format!("{word}, round {round}: {what}"));
        }
    }
    assert!(left.is_empty(), "{}", left.join("\n"));
}

fn kill(child: &mut Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

/// Nothing is left, or will be in a moment, which the kernel takes.
pub(super) fn gone(host: &Host) -> Result<(), String> {
    let mut what = String::new();
    for _ in 0..300 {
        what = host.left();
        if what.is_empty() {
            return Ok(());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Err(what)
}

/// Helpers, their children and owners in this bed; seen by root.
pub(super) fn processes() -> Vec<String> {
    let namespace = fs::read_link("/proc/self/ns/net").unwrap();
    let mut all = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let path = entry.path();
        let same = fs::read_link(path.join("ns/net")).is_ok_and(|other| other == namespace);
        let Ok(command) = fs::read_to_string(path.join("cmdline")) else { continue };
        let words: Vec<&str> = command.split('\0').collect();
        let first = words.first().copied().unwrap_or_default().rsplit('/').next().unwrap_or_default();
        let second = words.get(1).copied().unwrap_or_default();
        let tool = ["pasta", "pasta.avx2", "passt", "nft", "ip", "tc"].contains(&first);
        if same && (tool || ["net-helper", "owner"].contains(&second)) {
            all.push(words.join(" "));
        }
    }
    all
}

/// That what is looked for would be seen: while a router lives there is a helper, and more.
fn seen(host: &Host) {
    let left = host.left();
    let expected: &[&str] =
        if host.root { &["net-helper", "nft -i", "amp-", "inet ampoule-"] } else { &["net-helper", "pasta"] };
    for word in [expected, &["ip -o monitor address"]].concat() {
        assert!(left.contains(word), "{word} is not in {left}");
    }
}

/// Whatever policy is there already.
pub(super) fn what_is_prepared_forwards_nothing(host: &Host) {
    block_on(async {
        let mut pooled = config();
        pooled.pool = 2;
        let router = Router::start(pooled).await.unwrap();
        let web = |guest: &mut Guest| INTERNET.map(|address| guest.reaches("tcp", address, PORT));
        let (internet, nothing) = (policy(Base::Internet, &[]), policy(Base::Nothing, &[]));
        let one = policy(Base::Nothing, &[("9.9.9.10/32", Ports::All)]);
        // one of the pool, then one that is made for it
        for likely in [&internet, &one] {
            while router.ready() < 2 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            let namespace = router.namespace_for(likely).await.unwrap();
            let mut guest = guest(&namespace);
            assert_eq!(web(&mut guest), [false, false]);
            assert!(namespace.refused().await.unwrap().all.is_empty());
            namespace.apply(likely).await.unwrap();
            assert_eq!(web(&mut guest), [true, likely == &internet]);
            // the same once more, and others
            namespace.apply(likely).await.unwrap();
            assert_eq!(web(&mut guest), [true, likely == &internet]);
            namespace.apply(&nothing).await.unwrap();
            assert_eq!(web(&mut guest), [false, false]);
        }
        // another policy than the one that it was prepared for
        let namespace = router.namespace_for(&internet).await.unwrap();
        let mut guest = guest(&namespace);
        namespace.apply(&one).await.unwrap();
        assert_eq!(web(&mut guest), [true, false]);
        drop((namespace, guest));
        router.close().await;
    });
    gone(host).unwrap();
}

/// Those of this process that ended and were not waited for.
fn zombies() -> Vec<String> {
    let dead = |pid: &String| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit_once(')').is_some_and(|(_, after)| after.trim_start().starts_with('Z'))
    };
    children("self").into_iter().filter(dead).collect()
}

/// Children of a process, whichever thread started them.
pub(super) fn children(pid: &str) -> Vec<String> {
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
    let all = tasks.filter_map(|task| fs::read_to_string(task.path().join("children")).ok());
    all.flat_map(|text| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>()).collect()
}

/// The processes of this one's helper: the first waits for the other.
pub(super) fn helpers() -> [String; 2] {
    let of = |pid: &str| {
        let all = children(pid).into_iter().filter(|child| {
            fs::read_to_string(format!("/proc/{child}/cmdline")).is_ok_and(|line| line.contains("net-helper"))
        });
        all.collect::<Vec<_>>()
    };
    let [waiter] = <[String; 1]>::try_from(of("self")).unwrap();
    let [init] = <[String; 1]>::try_from(of(&waiter)).unwrap();
    [waiter, init]
}

pub(super) fn a_helper_that_was_killed_is_replaced(host: &Host) {
    block_on(async {
        let mut pooled = config();
        pooled.pool = 2;
        let router = Router::start(pooled).await.unwrap();
        let internet = policy(Base::Internet, &[]);
        said::listen();
        // VMs that outlive their helper
        let mut kept = Vec::new();
        for which in 0..2 {
            said::lines();
            let old = router.namespace_for(&internet).await.unwrap();
            old.apply(&internet).await.unwrap();
            let mut before = guest(&old);
            assert!(before.reaches("tcp", INTERNET[0], PORT));
            let pid: i32 = helpers()[which].parse().unwrap();
            rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), Signal::KILL)
                .unwrap();
            while !old.is_gone() {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
            // at once, and nothing of what went with it
            tokio::time::sleep(Duration::from_millis(300)).await;
            let said = said::lines();
            assert!(said.len() == 1 && said[0].starts_with("WARN the network's helper ended"), "{said:?}");
            // two ask at once: both have one, of one helper
            let (one, two) = tokio::join!(router.namespace_for(&internet), router.namespace_for(&internet));
            let (one, two) = (one.unwrap(), two.unwrap());
            helpers();
            for new in [&one, &two] {
                new.apply(&internet).await.unwrap();
                assert!(guest(new).reaches("tcp", INTERNET[0], PORT));
                assert!(!new.is_gone());
            }
            // what the old one had leads nowhere, and says so
            assert!(old.is_gone());
            assert!(matches!(old.refused().await, Err(Error::Gone)));
            assert!(matches!(old.apply(&internet).await, Err(Error::Gone)));
            assert!(!before.reaches("tcp", INTERNET[0], PORT));
            let end = Instant::now() + Duration::from_secs(2);
            while !zombies().is_empty() {
                assert!(Instant::now() < end, "a helper stays below its engine: {:?}", zombies());
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            assert_eq!(said::lines(), Vec::<String>::new());
            kept.push(old);
        }
        router.close().await;
        drop(kept);
        assert!(matches!(router.namespace().await, Err(Error::Gone)));
    });
    gone(host).unwrap();
}

pub(super) fn what_is_dropped_is_gone(host: &Host) {
    block_on(async {
        let mut pooled = config();
        pooled.pool = 3;
        let router = Router::start(pooled).await.unwrap();
        while router.ready() < 3 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        seen(host);
        let namespace = router.namespace().await.unwrap();
        namespace.apply(&policy(Base::Internet, &[])).await.unwrap();
        let tap = namespace.tap().clone();
        let mut first = guest(&namespace);
        assert!(first.reaches("tcp", INTERNET[0], PORT));
        drop(namespace);
        // whoever still has the tap reaches nothing through it
        let mut reached = true;
        for _ in 0..100 {
            reached = first.reaches("udp", INTERNET[0], PORT);
            if !reached {
                break;
            }
        }
        assert!(!reached);
        drop((first, tap));
        // another has the link's addresses or not, and works
        for _ in 0..5 {
            let namespace = router.namespace().await.unwrap();
            namespace.apply(&policy(Base::Internet, &[])).await.unwrap();
            assert!(guest(&namespace).reaches("tcp", INTERNET[0], PORT));
        }
        // what is left of a router that is gone says so
        let late = router.namespace().await.unwrap();
        router.close().await;
        assert!(matches!(late.apply(&policy(Base::Internet, &[])).await, Err(Error::Gone)));
        assert!(matches!(router.namespace().await, Err(Error::Gone)));
        drop((late, router));
        gone(host).unwrap();

        let mut nowhere = config();
        nowhere.uplink = Uplink::None;
        let router = Router::start(nowhere).await.unwrap();
        let namespace = router.namespace().await.unwrap();
        namespace.apply(&policy(Base::Internet, &[])).await.unwrap();
        assert!(!guest(&namespace).reaches("tcp", INTERNET[0], PORT));
        // a drop without a close is as good
        drop((namespace, router));
    });
    gone(host).unwrap();
}
