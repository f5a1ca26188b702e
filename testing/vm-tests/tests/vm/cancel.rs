//! Ctrl-C, SIGTERM, a closed terminal, time-outs, a guest that dies.

use std::{
    fs::File,
    process::{Child, Stdio},
    time::Duration,
};

use libtest_mimic::Trial;
use rustix::process::{Signal, kill_process};
use vm_tests::{
    host,
    program::{On, Place},
    workflow::{project, script, steps},
};

pub(crate) fn trials(on: On) -> Vec<Trial> {
    let mut trials = vec![
        crate::on(on, "an_interrupted_step_may_clean_up_and_always_steps_run", interrupt),
        crate::on(on, "sigterm_cancels", |on| signalled(on, Signal::TERM)),
        crate::on(on, "a_closed_terminal_cancels", |on| signalled(on, Signal::HUP)),
        crate::on(on, "a_second_interrupt_ends_it_at_once", twice),
        crate::on(on, "a_time_out_of_a_step_fails_it_and_clean_up_runs", time_out),
        crate::on(on, "a_job_that_switches_its_vm_off_fails", switched_off),
        crate::on(
            on,
            "a_vm_that_is_killed_from_outside_is_an_error_of_the_infrastructure",
            killed_from_outside,
        ),
    ];
    if on == On::Fake {
        trials.push(crate::on(on, "an_output_that_is_full_ends_the_run_and_is_told", output_full));
    }
    if on == On::Qemu {
        trials.push(crate::on(on, "a_kernel_that_panics_is_told", kernel_panics));
    }
    trials
}

fn output_full(on: On) {
    let place = Place::new(on);
    let dir = project(&script("echo row; sleep 1000"));
    let mut call = place.command(&["exec"]);
    call.arg("-C").arg(dir.path()).stdout(File::create("/dev/full").expect("it opens"));
    let output = call.stderr(Stdio::piped()).spawn().and_then(Child::wait_with_output).expect("its end");
    let told = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(3), "{told}");
    assert!(told.contains("No space left on device") && !told.contains("nobody reads"), "{told}");
    place.assert_clean();
}

fn interrupt(on: On) {
    let place = Place::new(on);
    let dir = project(&steps(
        r#"
- run: |
    trap 'echo cleaning up; exit 3' INT
    echo ready
    while :; do sleep 0.1; done
- run: echo never
- if: always()
  run: echo "always, ${{ job.status }}"
"#,
    ));
    let mut run = place.start::<&str>(dir.path(), &[]);
    run.wait_for("\"ready\"");
    run.signal(Signal::INT);
    let ended = run.end();
    ended.expect(130);
    let rows = ended.rows();
    assert!(rows.contains(&"cleaning up".to_owned()), "{rows:#?}");
    assert!(rows.contains(&"always, cancelled".to_owned()), "{rows:#?}");
    assert!(!rows.contains(&"never".to_owned()), "{rows:#?}");
    assert_eq!(ended.event("job_end").expect("an end")["result"], "cancelled");
    place.assert_clean();
}

fn signalled(on: On, signal: Signal) {
    let place = Place::new(on);
    let dir = project(&script("echo ready\nsleep 1000"));
    let mut run = place.start::<&str>(dir.path(), &[]);
    run.wait_for("\"ready\"");
    run.signal(signal);
    run.end().expect(130);
    place.assert_clean();
}

fn twice(on: On) {
    let place = Place::new(on);
    let dir = project(&steps(
        r#"
- run: |
    trap '' INT TERM
    echo ready
    while :; do sleep 0.1; done
- if: always()
  run: |
    echo 'waiting for ever'
    sleep 10000
"#,
    ));
    let mut run = place.start::<&str>(dir.path(), &[]);
    run.wait_for("\"ready\"");
    run.signal(Signal::INT);
    // two signals of one kind that are both pending are one
    std::thread::sleep(Duration::from_secs(1));
    run.signal(Signal::INT);
    // `end` has the patience for one step's cancellation, not for the five minutes of `always()` steps
    let ended = run.end();
    ended.expect(130);
    // all rows of the end are there: a reader can tell this from a crash
    assert_eq!(ended.event("job_end").expect("a job_end")["result"], "cancelled");
    assert_eq!(ended.event("run_end").expect("a run_end")["result"], "cancelled");
    place.assert_clean();
}

fn time_out(on: On) {
    let place = Place::new(on);
    let dir = project(&steps(
        r#"
- timeout-minutes: 0.02
  run: sleep 1000
- if: failure()
  run: echo afterwards
"#,
    ));
    let ended = place.exec::<&str>(dir.path(), &[]);
    ended.expect(1);
    let step = ended.event("step_end").expect("an end");
    assert_eq!(step["outcome"], "failure");
    assert_eq!(ended.event("job_end").expect("an end")["result"], "failure");
    assert!(ended.rows().contains(&"afterwards".to_owned()));
    place.assert_clean();
}

/// A job that ends its VM, whichever way, has failed.
fn switched_off(on: On) {
    // In a VM this ends the machine; on the fake backend the agent is the parent of the step's shell, and ends
    // in order at this signal.
    let off = match on {
        On::Qemu => "echo o > /proc/sysrq-trigger",
        On::Fake => "kill -TERM $PPID",
    };
    vm_ended_by_its_job(on, off, "the job switched it off or crashed it");
}

fn kernel_panics(on: On) {
    vm_ended_by_its_job(on, "echo c > /proc/sysrq-trigger", "kernel panicked");
}

fn vm_ended_by_its_job(on: On, how: &str, told: &str) {
    let place = Place::new(on);
    let dir = project(&script(&format!("echo ready\nsleep 1\n{how}\nsleep 1000")));
    let ended = place.exec::<&str>(dir.path(), &[]);
    ended.expect(1);
    let rows = ended.rows();
    assert!(rows.contains(&"ready".to_owned()), "{rows:#?}");
    assert!(rows.iter().any(|row| row.contains(told)), "{rows:#?}");
    assert_eq!(ended.event("job_end").expect("an end")["result"], "failure");
    place.assert_clean();
}

/// A VM that something on the host ended is nothing that its job did.
fn killed_from_outside(on: On) {
    let place = Place::new(on);
    let kill = match on {
        On::Qemu => "",
        On::Fake => "kill -9 $PPID",
    };
    let dir = project(&script(&format!("echo ready\nsleep 1\n{kill}\nsleep 1000")));
    let mut run = place.start::<&str>(dir.path(), &[]);
    run.wait_for("\"ready\"");
    if on == On::Qemu {
        let vmms = host::vmms(place.path());
        assert!(!vmms.is_empty(), "no VMM was found");
        // QEMU obeys this one and ends with 0, as it does when the guest is switched off.
        for vmm in vmms {
            kill_process(vmm, Signal::TERM).expect("it runs");
        }
    }
    let ended = run.end();
    ended.expect(3);
    assert!(!ended.stderr.is_empty());
    place.assert_clean();
}
