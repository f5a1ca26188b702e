//! The controller, by clients that are not ours: the package `forkd` of PyPI, and the fork action under node.

use std::{path::Path, process::Command, time::Instant};

use libtest_mimic::Trial;
use rustix::process::Signal;
use serde_json::Value;
use vm_tests::{
    controller::{Controller, TOKEN},
    forkd, host,
    program::{On, Place, Run},
};

const CLIENT: &str = include_str!("forkd_client.py");

pub(crate) fn trials(on: On) -> Vec<Trial> {
    let action = crate::on(on, "the_fork_action_runs_a_script_in_three_sandboxes", action);
    let mut trials = vec![
        crate::on(on, "the_python_client_of_forkd_works_unchanged", client),
        crate::on(on, "a_sandbox_outlives_its_controller", survives),
        action.with_ignored_flag(!has_node()),
    ];
    if on == On::Qemu {
        trials.push(crate::on(on, "a_controller_reaches_its_sandboxes_without_an_image", without_image));
    }
    if on == On::Fake {
        trials.push(crate::on(on, "a_controller_that_ends_for_good_leaves_nothing", ends));
        trials.push(crate::on(on, "a_sandbox_of_an_engine_process_outlives_its_controller", of_an_engine));
        trials.push(crate::on(on, "what_cannot_be_served_is_said_at_once", unservable));
    }
    trials
}

fn has_node() -> bool {
    let there = forkd::has_node();
    if !there {
        vm_tests::say("node is not installed: the test of the fork action is not run");
    }
    there
}

fn client(on: On) {
    let place = Place::new(on);
    let controller = Controller::start(&place);
    assert_eq!(python(&controller, CLIENT), "all is well\n");
    let (code, errors) = controller.end(Signal::INT);
    assert_eq!(code, Some(0), "{errors}");
    place.assert_clean();
}

/// What a client wrote to its standard output.
fn python(controller: &Controller, code: &str) -> String {
    let output = Command::new("python3")
        .args(["-c", code])
        .env("PYTHONPATH", forkd::package())
        .env("FORKD_URL", controller.url())
        .env("FORKD_TOKEN", TOKEN)
        .output()
        .expect("python3 starts");
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What a step of the action ended with.
struct Step {
    code: Option<i32>,
    log: String,
    results: Vec<Value>,
    any_failed: String,
}

fn step(controller: &Controller, inputs: &[(&str, &str)]) -> Step {
    let dir = tempfile::tempdir().expect("a directory");
    let file = dir.path().join("output");
    let entry = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../actions/fork/index.js");
    let mut command = Command::new("node");
    command.arg(entry).env("GITHUB_OUTPUT", &file);
    let own = [("url", controller.url()), ("token", TOKEN), ("snapshot_tag", "standard")];
    for (name, value) in own.iter().chain(inputs) {
        command.env(format!("INPUT_{}", name.to_uppercase()), value);
    }
    let output = command.output().expect("node starts");
    let log =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let outputs = std::fs::read_to_string(&file).unwrap_or_else(|error| panic!("{error}: {log}"));
    // one line each, between a delimiter that is different each time
    let value = |name: &str| {
        let mut lines = outputs.lines().skip_while(|line| !line.starts_with(&format!("{name}<<")));
        lines.nth(1).unwrap_or_else(|| panic!("no {name}: {outputs}")).to_owned()
    };
    let results: Value = serde_json::from_str(&value("results")).expect("JSON");
    Step {
        code: output.status.code(),
        log,
        results: results.as_array().expect("an array").clone(),
        any_failed: value("any_failed"),
    }
}

fn action(on: On) {
    let place = Place::new(on);
    let controller = Controller::start(&place);
    let script = "echo \"member $SANDBOX_INDEX\"\necho '::error::forged'\nif [ \"$SANDBOX_INDEX\" = 1 ]; then\n  \
                  exit 7\nfi";
    let inputs = [("script", script), ("n", "3")];
    let failing = step(&controller, &inputs);
    assert_eq!(failing.code, Some(1), "{}", failing.log);
    assert_eq!(failing.any_failed, "true");
    let codes: Vec<_> = failing.results.iter().map(|one| one["exit_code"].as_i64()).collect();
    assert_eq!(codes, [Some(0), Some(7), Some(0)], "{}", failing.log);
    for (at, one) in failing.results.iter().enumerate() {
        assert_eq!(one["stdout"], format!("member {at}\n::error::forged\n"));
    }
    assert!(!failing.log.contains("\n::error::forged"), "{}", failing.log);
    assert!(failing.log.contains("::error::the command failed in 1 of 3 sandboxes: 1 (exit code 7)"));
    if on == On::Fake {
        let fine = step(&controller, &[&inputs[..], &[("fail_on_nonzero", "false")]].concat());
        assert_eq!(fine.code, Some(0), "{}", fine.log);
        assert_eq!(fine.any_failed, "true");
    }
    // it has deleted its sandboxes; what stands by for the next ones goes with the controller
    let left = python(&controller, "from forkd import Controller; print(Controller().list_sandboxes())");
    assert_eq!(left, "[]\n");
    let (code, errors) = controller.end(Signal::INT);
    assert_eq!(code, Some(0), "{errors}");
    place.assert_clean();
}

/// A person at a terminal leaves nothing behind; what a restart or a crash left ends with the next one that is ended
/// so.
fn ends(on: On) {
    for signal in [Signal::INT, Signal::HUP, Signal::TERM, Signal::KILL] {
        let place = Place::new(on);
        let controller = Controller::start(&place);
        let spawn = "from forkd import Controller\nprint(len(Controller().spawn_sandboxes('standard', n=3)))";
        assert_eq!(python(&controller, spawn), "3\n");
        assert!(!host::running(place.path()).is_empty());
        controller.end(signal);
        if matches!(signal, Signal::TERM | Signal::KILL) {
            assert!(!host::running(place.path()).is_empty(), "they are kept");
            let next = Controller::start(&place);
            let count = "from forkd import Controller\nprint(len(Controller().list_sandboxes()))";
            assert_eq!(python(&next, count), "3\n");
            next.end(Signal::INT);
        }
        let left = host::settled(|| host::running(place.path()));
        assert!(left.is_empty(), "{signal:?}: {left:#?}");
        place.assert_clean();
    }
}

fn without_image(on: On) {
    let place = Place::new(on).with_its_own_images();
    let controller = Controller::start(&place);
    let begin = "from forkd import Controller\nc = Controller()\nid = c.spawn_sandboxes('standard', n=1)[0]['id']\n\
                 c.exec_command(id, ['sh', '-c', 'echo mine > file'])\nprint(id)";
    let id = python(&controller, begin).trim().to_owned();
    let refused = Run::spawn(place.plain(&["image", "rm", "standard"])).end();
    let text = format!("in use by the sandbox {id} of the controller 0;");
    assert!(refused.expect(2).stderr.contains(&text), "{}", refused.stderr);
    // a client may take its name away
    let force = "import os, urllib.request as u\nr = u.Request(os.environ['FORKD_URL'] + '/v1/snapshots/standard?force', \
                 method='DELETE', headers={'Authorization': 'Bearer ' + os.environ['FORKD_TOKEN']})\n\
                 print(u.urlopen(r).status)";
    assert_eq!(python(&controller, force), "204\n");
    let images = Run::spawn(place.plain(&["image", "ls"])).end();
    assert!(images.expect(0).stdout.concat().contains("there are no images"), "{:#?}", images.stdout);
    controller.end(Signal::TERM);
    let controller = Controller::start(&place);
    let look = format!(
        "from forkd import Controller\nprint(Controller().exec_command('{id}', ['cat', 'file'])['stdout'])"
    );
    assert_eq!(python(&controller, &look), "mine\n\n");
    controller.end(Signal::INT);
    place.assert_clean();
}

fn survives(on: On) {
    let place = Place::new(on);
    survives_in(&place);
    let left = host::settled(|| host::running(place.path()));
    assert!(left.is_empty(), "{left:#?}");
    place.assert_clean();
}

/// The engine process has it while no controller is there.
fn of_an_engine(on: On) {
    let place = Place::new(on);
    let engine = crate::engine::engine(&place, &["--idle", "0s"]);
    survives_in(&place);
    engine.signal(Signal::TERM);
    let ended = engine.end();
    let kept = ended.expect(0).stderr.matches("a client went; its VM is kept").count();
    assert_eq!(kept, 1, "it was the engine's when the controller was killed: {}", ended.stderr);
    place.assert_clean();
}

/// Its files and its processes are there, under the same name.
fn survives_in(place: &Place) {
    let begin = "from forkd import Controller\nc = Controller()\nid = c.spawn_sandboxes('standard', n=1)[0]['id']\n\
                 c.exec_command(id, ['sh', '-c', 'echo mine > file; (while :; do echo x >> ticks; sleep 0.1; done) \
                 >/dev/null 2>&1 &'])\nprint(id)";
    let mut controller = Controller::start(place);
    let id = python(&controller, begin).trim().to_owned();
    for signal in [Signal::TERM, Signal::KILL] {
        controller.end(signal);
        let began = Instant::now();
        controller = Controller::start(place);
        let look = format!(
            "from forkd import Controller\nc = Controller()\nassert [s['id'] for s in c.list_sandboxes()] == ['{id}']\n\
             r = c.exec_command('{id}', ['sh', '-c', 'cat file; a=$(wc -l < ticks); sleep 1; \
             test $(wc -l < ticks) -gt $a && echo goes on'])\nprint(r['stdout'], end='')"
        );
        assert_eq!(python(&controller, &look), "mine\ngoes on\n", "{signal:?}");
        vm_tests::say(&format!("{signal:?}: there again after {:?}, python included", began.elapsed()));
    }
    python(&controller, &format!("from forkd import Controller\nController().kill_sandbox('{id}')"));
    controller.end(Signal::TERM);
}

fn unservable(on: On) {
    let place = Place::new(on);
    let short = place.path().join("short");
    std::fs::write(&short, "too short\n").expect("a file");
    let short = short.display().to_string();
    for (words, code, said) in [
        (&["--listen", "0.0.0.0:0"][..], 2, "without a token only a loopback address is served"),
        (&["--token-file", "/nowhere/token"], 2, "cannot be read"),
        (&["--token-file", &short], 2, "at least 16 characters"),
        (&["--listen", "203.0.113.1:1", "--token-file", "/dev/null"], 2, "at least 16 characters"),
    ] {
        let output = place.command(&["controller"]).args(words).output().expect("it starts");
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{words:?}: {errors}");
        assert!(errors.contains(said), "{words:?}: {errors}");
    }
}
