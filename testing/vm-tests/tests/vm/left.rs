//! What is left after a run that could not end in order, and runs side by side.

use libtest_mimic::Trial;
use rustix::process::Signal;
use vm_tests::{
    host,
    program::{On, Place},
    workflow::{project, script},
};

pub(crate) fn trials(on: On) -> Vec<Trial> {
    vec![
        crate::on(on, "after_a_kill_the_vm_ends_and_the_next_start_removes_the_rest", killed),
        crate::on(on, "two_runs_on_one_state_directory_do_not_disturb_each_other", two),
    ]
}

fn killed(on: On) {
    let place = Place::new(on);
    let dir = project(&script("echo ready\nsleep 1000"));
    let mut run = place.start::<&str>(dir.path(), &[]);
    run.wait_for("\"ready\"");
    run.signal(Signal::KILL);
    assert_eq!(run.end().code, None);
    let left = host::settled(|| host::running(place.path()));
    assert!(left.is_empty(), "still running: {left:#?}");
    // the slot's directory is there until somebody sweeps it, or this test would prove nothing
    assert!(!host::remnants(place.path()).is_empty());
    let hello = project(&script("echo hello"));
    place.exec::<&str>(hello.path(), &[]).expect(0);
    place.assert_clean();
}

fn two(on: On) {
    let place = Place::new(on);
    let dir = project(&script("echo ready\nsleep 1\necho done"));
    let mut first = place.start::<&str>(dir.path(), &[]);
    first.wait_for("\"ready\"");
    let second = place.start::<&str>(dir.path(), &[]);
    first.end().expect(0);
    second.end().expect(0);
    place.assert_clean();
}
