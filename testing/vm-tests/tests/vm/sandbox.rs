//! `ampoule sandbox run`: one command in several VMs.

use std::{
    process::Child,
    time::{Duration, Instant},
};

use libtest_mimic::Trial;
use rustix::process::Signal;
use serde_json::Value;
use vm_tests::program::{Ended, On, Place, Run};

/// What keeps a VM small, where there is one.
const SMALL: [&str; 6] = ["--cpus", "1", "--memory", "256MiB", "--disk", "256MiB"];

pub(crate) fn trials(on: On) -> Vec<Trial> {
    let mut trials = vec![
        crate::on(on, "each_sandbox_knows_its_index_and_the_worst_exit_code_is_that_of_all", rows),
        crate::on(on, "the_ends_of_sandboxes_are_an_array", json),
        crate::on(on, "interrupted_sandboxes_are_gone", interrupted),
        crate::on(on, "a_sandbox_that_switches_itself_off_has_failed", switched_off),
    ];
    if on == On::Qemu {
        trials.push(crate::on(on, "a_command_that_takes_all_memory_is_killed", greedy));
    }
    if on == On::Fake {
        trials.push(crate::on(on, "a_sandbox_that_is_killed_from_outside_is_an_error", lost));
        trials.push(crate::on(on, "when_one_sandbox_cannot_be_made_none_is_left", one_fails));
        trials.push(crate::on(on, "a_reader_that_goes_away_ends_all_sandboxes", reader_gone));
        trials.push(crate::on(on, "an_output_that_is_full_ends_all_sandboxes_and_is_told", output_full));
        trials.push(crate::on(on, "a_lot_of_output_is_kept_up_to_a_limit", truncated));
    }
    trials
}

fn start(place: &Place, options: &[&str], command: &[&str]) -> Run {
    let mut call = place.command(&["sandbox", "run"]);
    call.args(SMALL).args(options).arg("--").args(command);
    Run::spawn(call)
}

fn run(place: &Place, options: &[&str], command: &[&str]) -> Ended {
    start(place, options, command).end()
}

/// The rows of each member, with its label.
fn rows_of<'a>(all: impl Iterator<Item = &'a str>, index: usize) -> Vec<&'a str> {
    let label = format!("[{index}] ");
    all.filter_map(|row| row.strip_prefix(label.as_str())).collect()
}

fn rows(on: On) {
    let place = Place::new(on);
    let script = "echo \"$SANDBOX_INDEX of $SANDBOX_COUNT\"; pwd >&2; cat; printf 'no end of line'; \
                  exit $((SANDBOX_INDEX * 3))";
    let ended = run(&place, &["-n", "3"], &["sh", "-c", script]);
    ended.expect(6);
    for index in 0..3 {
        let out = rows_of(ended.stdout.iter().map(String::as_str), index);
        assert_eq!(out, [format!("{index} of 3").as_str(), "no end of line"], "{:#?}", ended.stdout);
        let err = rows_of(ended.stderr.lines(), index);
        assert!(err[0].ends_with("/workspace"), "{}", ended.stderr);
        let told = format!("exit code {}", index * 3);
        assert_eq!(err[1..], if index == 0 { vec![] } else { vec![told.as_str()] }, "{}", ended.stderr);
    }
    assert_eq!(ended.stdout.len(), 6, "{:#?}", ended.stdout);
    // one alone is not labelled
    let alone = run(&place, &[], &["sh", "-c", "echo alone"]);
    assert_eq!(alone.expect(0).stdout, ["alone"]);
    place.assert_clean();
}

fn array(ended: &Ended) -> Vec<Value> {
    let text = ended.stdout.join("\n");
    let value: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
    value.as_array().unwrap_or_else(|| panic!("no array: {text}")).clone()
}

fn json(on: On) {
    let place = Place::new(on);
    let script = "echo \"out $SANDBOX_INDEX\"; echo err >&2\n\
                  case $SANDBOX_INDEX in 1) kill -TERM $$;; 2) sleep 1000;; esac";
    let options = ["-n", "3", "--json", "--timeout", "3s"];
    let ended = run(&place, &options, &["sh", "-c", script]);
    // 128 + 15 is more than the 124 of a time-out
    ended.expect(143);
    let all = array(&ended);
    assert_eq!(all.len(), 3);
    for (index, one) in all.iter().enumerate() {
        assert_eq!(one["index"], index);
        assert!(one["id"].as_str().is_some_and(|id| id.starts_with("sb-")), "{one}");
        assert_eq!((&one["stdout"], &one["stderr"]), (&format!("out {index}\n").into(), &"err\n".into()));
        assert_eq!(one["truncated"], false);
        assert!(one["duration_ms"].is_u64(), "{one}");
    }
    let ends: Vec<_> = all.iter().map(|one| (&one["exit_code"], &one["signal"], &one["timed_out"])).collect();
    let (no, yes) = (Value::from(false), Value::from(true));
    assert_eq!(ends[0], (&0.into(), &Value::Null, &no));
    assert_eq!(ends[1], (&143.into(), &15.into(), &no));
    assert_eq!(ends[2], (&124.into(), &Value::Null, &yes));
    assert!(all[2]["duration_ms"].as_u64().is_some_and(|took| took >= 3000), "{all:?}");
    assert!(
        run(&place, &["--json"], &["no-such-program"]).expect(127).stdout[0].contains("\"exit_code\":127")
    );
    place.assert_clean();
}

fn interrupted(on: On) {
    let place = Place::new(on);
    let mut running = start(&place, &["-n", "2"], &["sh", "-c", "echo ready; exec sleep 1000"]);
    running.wait_for("[1] ready");
    let begun = Instant::now();
    running.signal(Signal::INT);
    let ended = running.end();
    ended.expect(130);
    assert!(ended.stderr.contains("the sandboxes are destroyed"), "{}", ended.stderr);
    assert!(begun.elapsed() < Duration::from_secs(30));
    place.assert_clean();
}

/// The guest has no swap: without a word to its kernel it would drop and read pages again until its time is over.
fn greedy(on: On) {
    let place = Place::new(on);
    let command = ["python3", "-c", "x = [bytearray(10 << 20) for _ in range(40)]"];
    let ended = run(&place, &["--timeout", "60s"], &command);
    ended.expect(128 + 9);
    place.assert_clean();
}

fn switched_off(on: On) {
    let place = Place::new(on);
    // on the fake backend the agent is the parent of the shell, and ends in order at this signal
    let off = match on {
        On::Qemu => "echo o > /proc/sysrq-trigger; sleep 1000",
        On::Fake => "kill -TERM $PPID; sleep 1000",
    };
    let script = format!("[ $SANDBOX_INDEX = 0 ] || {{ {off}; }}");
    let ended = run(&place, &["-n", "2", "--json"], &["sh", "-c", &script]);
    ended.expect(1);
    let all = array(&ended);
    assert_eq!((&all[0]["exit_code"], &all[1]["exit_code"]), (&0.into(), &Value::Null), "{all:?}");
    assert!(all[1]["error"].as_str().is_some_and(|error| error.contains("switched it off")), "{all:?}");
    place.assert_clean();
}

fn lost(on: On) {
    let place = Place::new(on);
    let script = "echo before; [ $SANDBOX_INDEX = 0 ] || kill -KILL $PPID; sleep 1";
    let ended = run(&place, &["-n", "2"], &["sh", "-c", script]);
    // none of the command's codes
    ended.expect(3);
    assert!(ended.stderr.contains("error: sandbox [1] went before its command ended"), "{}", ended.stderr);
    assert_eq!(rows_of(ended.stdout.iter().map(String::as_str), 0), ["before"], "{:#?}", ended.stdout);
    place.assert_clean();
}

fn one_fails(on: On) {
    let place = Place::new(on);
    let mut call = place.plain(&["sandbox", "run", "--backend", "fake-third", "-n", "4"]);
    call.args(["--", "sleep", "1000"]);
    let ended = Run::spawn(call).end();
    ended.expect(3);
    assert!(
        ended.stderr.contains("of 4 could not be made, and all of them were destroyed"),
        "{}",
        ended.stderr
    );
    assert!(ended.stderr.contains("does not want a third"), "{}", ended.stderr);
    place.assert_clean();
}

fn reader_gone(on: On) {
    let place = Place::new(on);
    let mut call = place.command(&["sandbox", "run"]);
    call.args(["-n", "2", "--", "sh", "-c", "while echo row; do :; done"]);
    let mut child = call.stdout(std::process::Stdio::piped()).spawn().expect("it starts");
    drop(child.stdout.take());
    assert_eq!(child.wait().expect("its end").code(), Some(130));
    place.assert_clean();
}

fn output_full(on: On) {
    let place = Place::new(on);
    let mut call = place.command(&["sandbox", "run"]);
    call.args(["-n", "2", "--", "sh", "-c", "echo row; exec sleep 1000"]);
    call.stdout(std::fs::File::create("/dev/full").expect("it opens"));
    let output = call.stderr(std::process::Stdio::piped()).spawn().and_then(Child::wait_with_output);
    let output = output.expect("its end");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("No space left on device") && !told.contains("nobody reads"), "{told}");
    place.assert_clean();
}

fn truncated(on: On) {
    let place = Place::new(on);
    let ended = run(&place, &["--json"], &["sh", "-c", "head -c 20000000 /dev/zero; echo end >&2"]);
    let all = array(ended.expect(0));
    assert_eq!(all[0]["truncated"], true);
    assert_eq!(all[0]["stdout"].as_str().map(str::len), Some(8 << 20));
    assert_eq!(all[0]["stderr"], "end\n");
    place.assert_clean();
}
