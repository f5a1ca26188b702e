//! `ampoule snapshot`: made ahead, looked at, removed.

use std::{collections::BTreeMap, fs, process::Command};

use libtest_mimic::Trial;
use serde_json::Value;
use store::Digest;
use vm_tests::program::{Ended, On, Place, Run};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        crate::on(On::Fake, "snapshots_are_made_found_by_their_beginnings_and_removed", found),
        crate::on(On::Fake, "snapshots_are_collected_by_age_quota_and_damage", collected),
        crate::on(On::Fake, "a_snapshot_of_another_version_is_orphaned_and_goes", unfit),
        crate::on(On::Fake, "a_look_for_snapshots_makes_nothing", looks),
        crate::on(On::Fake, "a_backend_that_cannot_fork_makes_no_snapshot", booted),
        crate::on(On::Qemu, "a_snapshot_is_of_no_use_without_its_image", orphaned),
        crate::on(On::Qemu, "a_usable_snapshot_outlives_a_prune_unless_images_go_too", pruned),
        crate::on(On::Qemu, "setup_makes_the_snapshot_of_jobs_and_is_no_failure_without", setup),
    ]
}

/// On the fake backend that forks.
fn build(place: &Place, memory: &str) -> String {
    let mut call = place.plain(&["snapshot", "build", "--backend", "fake-forks", "--cpus", "1"]);
    call.args(["--memory", memory]);
    let ended = Run::spawn(call).end();
    ended.expect(0);
    key(&ended)
}

fn key(ended: &Ended) -> String {
    assert_eq!(ended.stdout.len(), 1, "{:#?}", ended.stdout);
    let key = &ended.stdout[0];
    assert!(key.len() == 64 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
    key.clone()
}

fn call(place: &Place, words: &[&str]) -> Ended {
    Run::spawn(place.plain(&[&["snapshot"], words].concat())).end()
}

fn listed(place: &Place) -> Vec<Value> {
    let ended = call(place, &["ls", "--json"]);
    let text = ended.expect(0).stdout.join("\n");
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    value.as_array().unwrap_or_else(|| panic!("no array: {text}")).clone()
}

fn found(on: On) {
    let place = Place::new(on);
    let (small, large) = (build(&place, "256MiB"), build(&place, "512MiB"));
    assert_ne!(small, large);
    assert_eq!(build(&place, "256MiB"), small, "it is made once");
    let all = listed(&place);
    let of = |one: &Value| (one["key"].clone(), one["cpus"].clone(), one["memory_mib"].clone());
    assert_eq!(
        all.iter().map(of).collect::<Vec<_>>(),
        [(small.as_str().into(), 1.into(), 256.into()), (large.as_str().into(), 1.into(), 512.into())]
    );
    for one in &all {
        assert_eq!((&one["backend"], &one["standing"]), (&"fake".into(), &"usable".into()), "{one}");
        assert!(one["bytes"].as_u64().is_some_and(|bytes| bytes > 0), "{one}");
        assert_eq!(one["image"], Value::Null, "{one}");
    }
    // the shortest beginning that tells them apart
    let same = small.bytes().zip(large.bytes()).take_while(|(one, other)| one == other).count();
    let beginning = &small[..=same];
    let one = call(&place, &["inspect", beginning, "--json"]);
    let one: Value = serde_json::from_str(&one.expect(0).stdout[0]).expect("an object");
    assert_eq!((&one["key"], &one["depends_on"][0]), (&small.as_str().into(), &"fake".into()));
    let told = call(&place, &["inspect", &small.to_uppercase()[..20]]);
    assert!(told.expect(0).stdout.iter().any(|line| line.ends_with(&small)), "{:#?}", told.stdout);
    for words in [&["inspect", "x"][..], &["rm", beginning, "x"]] {
        let ended = call(&place, words);
        ended.expect(2);
        assert!(ended.stderr.contains("there is no snapshot `x`; there are: "), "{}", ended.stderr);
        assert!(ended.stderr.contains(&small[..12]), "{}", ended.stderr);
    }
    assert_eq!(listed(&place).len(), 2, "what is refused removes nothing");
    let empty = call(&place, &["rm", ""]);
    assert!(empty.expect(2).stderr.contains("there is no snapshot ``"), "{}", empty.stderr);

    // what runs on one goes on without it
    let mut running = place.plain(&["sandbox", "run", "--backend", "fake-forks", "--cpus", "1"]);
    running.args([
        "--memory",
        "256MiB",
        "--",
        "sh",
        "-c",
        "echo ready; read line </dev/stdin; sleep 2; echo on",
    ]);
    let mut running = Run::spawn(running);
    running.wait_for("ready");
    let removed = call(&place, &["rm", beginning, &small]);
    assert_eq!(removed.expect(0).stdout.len(), 1, "named twice, removed once: {:#?}", removed.stdout);
    assert!(removed.stdout[0].starts_with(&format!("removed {}, ", &small[..12])), "{:#?}", removed.stdout);
    assert_eq!(running.end().expect(0).stdout, ["ready", "on"]);
    assert_eq!(listed(&place).len(), 1);
    place.assert_clean();
}

fn collected(on: On) {
    let place = Place::new(on);
    let keys = ["256MiB", "512MiB", "768MiB"].map(|memory| build(&place, memory));
    let all = |ended: Ended| ended.expect(0).stdout.clone();
    let kept = all(call(&place, &["gc"]));
    assert!(kept.len() == 1 && kept[0].starts_with("snapshots: 0 removed, 0 MiB; 3 remain, "), "{kept:#?}");
    fs::write(place.path().join("snapshots").join(&keys[0]).join("manifest"), "no digest").expect("damage");
    let damaged = all(call(&place, &["gc", "--unused-for", "1d", "--quota", "1GiB"]));
    assert_eq!(damaged[0], format!("removed {}, damaged", &keys[0][..12]));
    assert!(damaged[1].starts_with("snapshots: 1 removed, "), "{damaged:#?}");
    // the one that was used last is over no quota that leaves room for one
    let bytes: Vec<u64> = listed(&place).iter().filter_map(|one| one["bytes"].as_u64()).collect();
    assert!(bytes.len() == 2 && bytes.iter().all(|bytes| *bytes < 1 << 20), "{bytes:?}");
    std::thread::sleep(std::time::Duration::from_millis(20));
    build(&place, "512MiB");
    let old = all(call(&place, &["gc", "--unused-for", "0s"]));
    assert_eq!(old.len(), 3, "{old:#?}");
    assert_eq!(old[2], "snapshots: 2 removed, 1 MiB; 0 remain, 0 MiB", "{old:#?}");
    assert!(listed(&place).is_empty());
    build(&place, "256MiB");
    let over = all(call(&place, &["gc", "--quota", "0MiB"]));
    assert_eq!(over[0], format!("removed {}, unused, or over the quota", &keys[0][..12]));
    build(&place, "256MiB");
    let key = &keys[0][..12];
    assert_eq!(all(call(&place, &["pin", key])), [format!("pinned {key}")]);
    assert_eq!(listed(&place)[0]["pinned"], true);
    assert_eq!(all(call(&place, &["gc", "--quota", "0MiB"])).len(), 1);
    let refused = call(&place, &["rm", key]);
    assert!(refused.expect(2).stderr.contains("is pinned: `ampoule snapshot unpin"), "{}", refused.stderr);
    assert_eq!(all(call(&place, &["unpin", key])), [format!("unpinned {key}")]);
    call(&place, &["rm", key]).expect(0);
    assert!(listed(&place).is_empty());
    place.assert_clean();
}

/// Makes one that is as `key`, but for what its backend was: its key.
fn forge(place: &Place, key: &str, from: &str, to: &str) -> String {
    let dir = place.path().join("snapshots");
    let text = fs::read_to_string(dir.join(key).join("manifest")).expect("a manifest");
    let (_, json) = text.split_once('\n').expect("a digest, and then JSON");
    let forged = json.replacen(&format!("\"backend\":\"{from}"), &format!("\"backend\":\"{to}"), 1);
    assert_ne!(forged, json);
    let kind =
        forged.strip_prefix("{\"kind\":").and_then(|rest| rest.split_once(",\"made\":")).expect("a kind").0;
    let name = Digest::of(kind).hex();
    let mut copy = Command::new("cp");
    copy.args(["-a", "--reflink=auto", "--sparse=always"]);
    let copied = copy.args([dir.join(key), dir.join(&name)]).status();
    assert!(copied.is_ok_and(|status| status.success()));
    fs::write(dir.join(&name).join("manifest"), format!("{}\n{forged}", Digest::of(&forged)))
        .expect("a manifest");
    name
}

fn standings(place: &Place) -> BTreeMap<String, String> {
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    listed(place).iter().map(|one| (text(&one["key"]), text(&one["standing"]))).collect()
}

fn unfit(on: On) {
    let place = Place::new(on);
    let good = build(&place, "256MiB");
    let old = forge(&place, &good, "fake", "fake 0.1");
    let strange = forge(&place, &good, "fake", "of-nobody 0.1");
    let expected = [(good.clone(), "usable"), (old.clone(), "orphaned"), (strange.clone(), "usable")];
    assert_eq!(standings(&place), expected.map(|(key, standing)| (key, standing.to_owned())).into());
    let told = call(&place, &["inspect", &old]);
    let words = "orphaned: it no longer fits this host or this version";
    assert!(told.expect(0).stdout.iter().any(|line| line.contains(words)), "{:#?}", told.stdout);
    let doctor = Run::spawn(place.plain(&["doctor", "--accel", "tcg"])).end();
    let line = doctor.stdout.iter().find(|line| line.contains(" snapshots  ")).expect("a line on snapshots");
    assert!(line.contains("1 of another version or host"), "{line}");
    let removed = call(&place, &["gc"]);
    let removed = &removed.expect(0).stdout;
    assert_eq!(removed[0], format!("removed {}, of another version or host", &old[..12]));
    assert!(
        removed[1].starts_with("snapshots: 1 removed, ") && removed[1].contains("; 2 remain, "),
        "{removed:#?}"
    );

    // those that make VMs find out by themselves, as does prune
    let old = forge(&place, &good, "fake", "fake 0.2");
    let large = build(&place, "512MiB");
    let left: Vec<_> = standings(&place).into_keys().collect();
    assert!(!left.contains(&old) && left.contains(&good) && left.contains(&large), "{left:?}");
    forge(&place, &good, "fake", "fake 0.3");
    let pruned = Run::spawn(place.plain(&["prune"])).end();
    let line = pruned.expect(0).stdout.iter().find(|line| line.starts_with("snapshots of no use: 1 removed"));
    assert!(line.is_some(), "{:#?}", pruned.stdout);
    place.assert_clean();
}

fn looks(on: On) {
    let place = Place::new(on);
    let nowhere = place.path().join("none");
    let nowhere = nowhere.to_str().expect("a path");
    let told = call(&place, &["ls", "--state-dir", nowhere]);
    assert!(told.expect(0).stdout[0].starts_with("there are no snapshots"), "{:#?}", told.stdout);
    assert_eq!(call(&place, &["ls", "--json", "--state-dir", nowhere]).expect(0).stdout, ["[]"]);
    call(&place, &["gc", "--state-dir", nowhere]).expect(0);
    for words in [["inspect", "a", "--state-dir", nowhere], ["rm", "a", "--state-dir", nowhere]] {
        let ended = call(&place, &words);
        assert!(
            ended.expect(2).stderr.contains("there is no snapshot `a`, and no other"),
            "{}",
            ended.stderr
        );
    }
    assert!(!fs::exists(nowhere).expect("a look"));
}

fn booted(on: On) {
    let place = Place::new(on);
    let ended = Run::spawn(place.command(&["snapshot", "build"])).end();
    assert!(ended.expect(2).stderr.contains("the backend `fake` makes no snapshots"), "{}", ended.stderr);
    assert!(listed(&place).is_empty());
    place.assert_clean();
}

fn orphaned(on: On) {
    let place = Place::new(on).with_its_own_images();
    let small = ["--cpus", "1", "--memory", "256MiB", "--disk", "256MiB"];
    let mut call_build = place.command(&["snapshot", "build"]);
    call_build.args(small);
    let built = Run::spawn(call_build).end();
    built.expect(0);
    let key = key(&built);
    assert!(built.stderr.contains("made the snapshot"), "{}", built.stderr);
    // it is the one that VMs of this size are forks of
    let mut run = place.command(&["sandbox", "run"]);
    run.args(small).args(["--", "echo", "forked"]);
    assert_eq!(Run::spawn(run).end().expect(0).stdout, ["forked"]);
    let one = &listed(&place)[..];
    assert_eq!((one.len(), &one[0]["key"], &one[0]["image"]), (1, &key.as_str().into(), &"standard".into()));
    assert!(one[0]["used"].as_str() > one[0]["made"].as_str(), "{one:?}");

    // one of a QEMU before this one is of no use, and is told from one that is
    let older = forge(&place, &key, "qemu ", "qemu 0.");
    let expected = [(key.clone(), "usable"), (older.clone(), "orphaned")];
    assert_eq!(standings(&place), expected.map(|(key, standing)| (key, standing.to_owned())).into());
    let removed = call(&place, &["gc"]);
    assert_eq!(removed.expect(0).stdout[0], format!("removed {}, of another version or host", &older[..12]));

    Run::spawn(place.plain(&["image", "rm", "standard"])).end().expect(0);
    let one = listed(&place);
    assert_eq!((&one[0]["standing"], &one[0]["image"]), (&"orphaned".into(), &Value::Null), "{one:?}");
    let doctor = Run::spawn(place.plain(&["doctor", "--accel", "tcg"])).end();
    let line = doctor.stdout.iter().find(|line| line.contains(" snapshots  ")).expect("a line on snapshots");
    assert!(line.contains("0 too old, 1 of an image, kernel or agent that is gone"), "{line}");
    let pruned = Run::spawn(place.plain(&["prune"])).end();
    let line = pruned.expect(0).stdout.iter().find(|line| line.starts_with("snapshots of no use: 1 removed"));
    assert!(line.is_some(), "{:#?}", pruned.stdout);
    assert!(listed(&place).is_empty());
    place.assert_clean();
}

fn pruned(on: On) {
    let place = Place::new(on).with_its_own_images();
    let mut call_build = place.command(&["snapshot", "build"]);
    call_build.args(["--cpus", "1", "--memory", "256MiB"]);
    let built = Run::spawn(call_build).end();
    built.expect(0);
    let key = key(&built);
    let prune = |options: &[&str]| {
        let ended = Run::spawn(place.plain(&[&["prune"], options].concat())).end();
        ended.expect(0).stdout.clone()
    };
    let said =
        |lines: &[String], text: &str| assert!(lines.iter().any(|line| line.contains(text)), "{lines:#?}");
    for _ in 0..2 {
        said(&prune(&[]), "snapshots of no use: 0 removed");
        let all = listed(&place);
        assert_eq!(
            (all.len(), &all[0]["key"], &all[0]["standing"]),
            (1, &key.as_str().into(), &"usable".into())
        );
    }
    let all = prune(&["--all"]);
    said(&all, "image standard");
    said(&all, "snapshots of no use: 1 removed");
    said(&all, " 0 MiB remain");
    assert!(listed(&place).is_empty());
    place.assert_clean();
}

fn setup(on: On) {
    let place = Place::new(on);
    let check = Run::spawn(place.plain(&["setup", "--check"])).end();
    // a test installs nothing
    check.expect(0);
    let mut without = place.plain(&["setup"]);
    without.env("AMPOULE_AGENT", place.path().join("no-agent"));
    let without = Run::spawn(without).end();
    assert!(without.expect(0).stderr.contains("warning: no snapshot was made"), "{}", without.stderr);
    assert!(listed(&place).is_empty());
    let made = Run::spawn(place.plain(&["setup"])).end();
    assert!(made.expect(0).stderr.contains("made the snapshot"), "{}", made.stderr);
    let all = listed(&place);
    assert_eq!((all.len(), &all[0]["cpus"], &all[0]["memory_mib"]), (1, &2.into(), &2048.into()), "{all:?}");
    place.assert_clean();
}
