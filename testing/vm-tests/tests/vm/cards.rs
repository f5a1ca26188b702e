//! Many cards, one after the other and many at once, and engines that are killed meanwhile: nothing is left.
//!
//! `AMPOULE_TEST_CARDS` says how many in place of 24 and 6 at once: with 1000 it is a thousand and fifty.

use std::time::{Duration, Instant};

use libtest_mimic::Trial;
use rustix::process::Signal;
use vm_tests::{
    host,
    program::{On, Run},
    random::Random,
};

use crate::network::{Home, SMALL, TCG, on_a_bed, tries};

/// VMs between two ends of an engine.
const CHUNK: usize = 20;
/// Namespaces that an engine may have beside those of its VMs: the router's, those made ahead, and those in the making.
const AHEAD: usize = 1 + 8 + 8;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        on_a_bed("nothing_is_left_of_many_cards_and_of_killed_engines", |_: On| cards())
            .with_ignored_flag(true),
    ]
}

fn cards() {
    let told = std::env::var("AMPOULE_TEST_CARDS").ok().and_then(|count| count.parse().ok());
    let count: usize = told.unwrap_or(24);
    let at_once = (count / 4).min(50);
    let chunk = CHUNK.max(count / 10);
    let home = Home::new();
    let mut random = Random::seeded("cards");
    let script = tries(&[("web", "93.184.216.34")]);
    let before = host::network_namespaces();
    let begun = Instant::now();
    for number in 0..count {
        let id = home.create(&["--network", "internet"]);
        if number % 10 == 0 {
            assert_eq!(home.inside(&id, &script), ["web yes"], "{number}");
        }
        // the last of a chunk is there when its engine ends
        if number % chunk < chunk - 1 {
            home.call(&["rm", &id], &[]).expect(0);
            continue;
        }
        nothing_grows(&home, chunk);
        // in the middle of another, or of the filling of the pool
        let next =
            Run::spawn(home.command(&[&["create", "--network", "internet"][..], &SMALL, &TCG].concat(), &[]));
        std::thread::sleep(Duration::from_millis(random.below(1500)));
        kill(&home);
        let _ = next.end();
        home.call(&["rm", "--all"], &[]).expect(0);
        vm_tests::say(&format!("{} cards, {:?}", number + 1, begun.elapsed()));
    }
    let many = at_once.to_string();
    let words = [&["create", "--count", &many, "--network", "internet"][..], &SMALL, &TCG].concat();
    let ids = home.call(&words, &[]).expect(0).stdout.clone();
    assert_eq!(ids.len(), at_once, "{ids:#?}");
    for id in &ids {
        assert_eq!(home.inside(id, &script), ["web yes"], "{id}");
    }
    kill(&home);
    home.end();
    // others of this host come and go
    let most = before.unwrap_or_default() + (count / 2).max(50);
    let after = settled(before.unwrap_or_default() + 4);
    vm_tests::say(&format!("network namespaces of the host: {before:?} before, {after:?} after"));
    assert!(after.is_none_or(|after| after <= most), "namespaces are left");
}

/// With one VM there, and maybe others that stand by.
fn nothing_grows(home: &Home, chunk: usize) {
    let [engine] = home.engines()[..] else { panic!("one engine") };
    let [waiter] = host::children(engine, "net-helper")[..] else { panic!("one helper") };
    let [helper] = host::children(waiter, "net-helper")[..] else { panic!("one helper") };
    let most = host::vmms(home.place.path()).len() + AHEAD;
    let begun = Instant::now();
    loop {
        let namespaces = host::descriptors(helper).iter().filter(|name| name.starts_with("net:[")).count();
        let taps = host::descriptors(engine).iter().filter(|name| name.contains("tun")).count();
        if namespaces <= most && taps <= most {
            assert!(namespaces > 0 && taps > 0, "they are not seen: {:#?}", host::descriptors(helper));
            let all = (host::descriptors(engine).len(), host::descriptors(helper).len());
            // a helper has few descriptors for each namespace, and an engine few for each VM
            assert!(all.0 < 60 + 10 * most && all.1 < 20 + 3 * most, "descriptors: {all:?}");
            vm_tests::say(&format!(
                "after {chunk}: {namespaces} namespaces, {taps} taps; descriptors of engine and helper {all:?}"
            ));
            return;
        }
        assert!(begun.elapsed() < Duration::from_secs(10), "{namespaces} namespaces, {taps} taps of {most}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn kill(home: &Home) {
    home.signal_engines(Signal::KILL);
    let begun = Instant::now();
    while !home.engines().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(10), "it is still there");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// The kernel removes namespaces one after the other, later.
fn settled(most: usize) -> Option<usize> {
    let begun = Instant::now();
    loop {
        let now = host::network_namespaces();
        if now.is_none_or(|now| now <= most) || begun.elapsed() > Duration::from_secs(60) {
            return now;
        }
        std::thread::sleep(Duration::from_millis(200));
    }
}
