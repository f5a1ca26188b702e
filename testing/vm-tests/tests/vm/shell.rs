//! `exec --shell-on-failure`: a terminal in the VM of a step that failed.

use libtest_mimic::Trial;
use rustix::process::Signal;
use vm_tests::{
    program::{On, Place},
    terminal::Session,
    workflow::{project, steps},
};

pub(crate) fn trials(on: On) -> Vec<Trial> {
    let mut trials = vec![crate::on(on, "a_failed_step_has_a_shell_and_the_job_goes_on", whole)];
    if on == On::Fake {
        let ending = |name, test| crate::on(on, name, test);
        trials.extend([
            ending("sigterm_ends_a_shell", |on| signalled(on, Signal::TERM)),
            ending("a_closed_terminal_ends_a_shell", |on| signalled(on, Signal::HUP)),
            ending("sigquit_ends_a_shell_and_everything", |on| signalled(on, Signal::QUIT)),
            ending("the_end_of_the_vm_ends_its_shell", vm_dies),
            ending("a_shell_that_is_stopped_and_continued_goes_on", stopped),
            ending("each_failed_job_has_a_shell_and_no_output_is_between", several),
            ending("a_shell_needs_a_terminal_and_people", refused),
        ]);
    }
    trials
}

const FAILING: &str = r#"
- run: |
    mkdir -p inner
    echo EARLIER=yes >> "$GITHUB_ENV"
- name: The failing one
  working-directory: inner
  env: {OWN: mine}
  run: |
    touch left
    exit 3
- run: echo never
- if: always()
  run: echo "afterwards $(cat inner/typed), ${{ job.status }}"
"#;

/// Until the shell's first prompt.
fn open(place: &Place, steps_text: &str) -> (Session, tempfile::TempDir) {
    let dir = project(&steps(steps_text));
    let mut session = Session::exec(place, dir.path(), &["--shell-on-failure"]);
    session.wait_for("failed: this is a shell in its VM; `exit` leaves it");
    session.wait_for("# ");
    assert!(session.is_raw());
    (session, dir)
}

fn whole(on: On) {
    let place = Place::new(on);
    let (mut session, _dir) = open(&place, FAILING);
    assert!(session.shown().contains("✗ The failing one"), "{}", session.shown());
    // Split, so that the echo of what is typed is not taken for the answer.
    session.types("test -t 0 && test -t 1 && test -t 2 && echo a ter''minal $TERM; stty size\r");
    session.wait_for("a terminal xterm-test\r\n24 80\r\n");
    session.types("echo $OWN $EARLIER $(basename $PWD) $(ls) $(test -f $GITHUB_OUTPUT && echo fi''les)\r");
    session.wait_for("mine yes inner left files\r\n");
    if on == On::Qemu {
        session.types("id -un; stat -c '%U %a' $(tty); cat /proc/$$/comm\r");
        session.wait_for("root\r\nroot 620\r\nbash\r\n");
    }
    session.resize(50, 132);
    session.types("while test \"$(stty size)\" != '50 132'; do sleep 0.05; done; echo new si''ze\r");
    session.wait_for("new size\r\n");
    // Control-C is the guest's: neither the shell nor the run ends.
    session.types("sleep 1000 || echo interr''upted\r");
    session.wait_for("sleep 1000");
    std::thread::sleep(std::time::Duration::from_millis(500));
    session.types("\u{3}");
    session.wait_for("^C");
    session.wait_for("# ");
    session.types("seq 200000 > big; cat big; echo all of i''t\r");
    let big = session.wait_for("all of it\r\n");
    let rows = (1..=200_000).map(|n: u32| format!("{n}\r\n")).collect::<String>();
    assert!(big.contains(&rows), "{} bytes of a large output", big.len());
    session.types("echo -n word > typed; exit 7\r");
    session.wait_for(": the job goes on");
    session.wait_for("afterwards word, failure");
    let (code, shown) = session.end();
    assert_eq!(code, Some(1), "{shown}");
    assert!(!shown.contains("never"), "{shown}");
    place.assert_clean();
}

fn signalled(on: On, signal: Signal) {
    let place = Place::new(on);
    let (session, _dir) = open(&place, FAILING);
    session.signal(signal);
    let (code, shown) = session.end();
    assert_eq!(code, Some(130), "{shown}");
    assert!(!shown.contains("`j`: the job goes on"), "{shown}");
    // Steps that want to run in the end do, unless all is to end at once.
    assert_eq!(shown.contains("afterwards , cancelled"), signal != Signal::QUIT, "{shown}");
    place.assert_clean();
}

fn vm_dies(on: On) {
    let place = Place::new(on);
    let (mut session, _dir) = open(&place, FAILING);
    // The parent of the shell is the agent.
    session.types("kill -KILL $PPID\r");
    let (code, shown) = session.end();
    assert_eq!(code, Some(3), "{shown}");
    assert!(shown.contains("no shell, or no longer"), "{shown}");
    place.assert_clean();
}

/// What a shell does to a job that is stopped from outside, and goes on.
fn stopped(on: On) {
    let place = Place::new(on);
    let (mut session, _dir) = open(&place, FAILING);
    session.signal(Signal::STOP);
    session.cook();
    assert!(!session.is_raw());
    session.resize(33, 99);
    session.signal(Signal::CONT);
    session.types("while test \"$(stty size)\" != '33 99'; do sleep 0.05; done; echo new si''ze\r");
    session.wait_for("new size\r\n");
    // The new size may be passed on first.
    session.until_raw();
    session.types("exit\r");
    assert_eq!(session.end().0, Some(1));
    place.assert_clean();
}

/// Jobs of one workflow, at the same time where the machine has processors for it.
fn several(on: On) {
    let place = Place::new(on);
    let text = "on: push\njobs:\n  j:\n    runs-on: x\n    strategy: {matrix: {n: [1, 2, 3]}, fail-fast: false}\n    \
                steps:\n      - run: echo begun; exit ${{ matrix.n }}\n";
    let dir = project(text);
    let mut session = Session::exec(&place, dir.path(), &["--shell-on-failure"]);
    for n in 1..=3 {
        session.wait_for("failed: this is a shell in its VM");
        session.wait_for("# ");
        std::thread::sleep(std::time::Duration::from_millis(500));
        session.types("echo on''ly me\r");
        let between = session.wait_for("only me\r\n");
        assert!(!between.contains("j ("), "another job spoke into shell {n}: {between:?}");
        session.types("exit\r");
        session.wait_for(": the job goes on");
    }
    let (code, shown) = session.end();
    assert_eq!(code, Some(1), "{shown}");
    place.assert_clean();
}

fn refused(on: On) {
    let place = Place::new(on);
    let dir = project(&steps(FAILING));
    let mut command = place.command(&["exec", "--shell-on-failure"]);
    let ended = command.arg("-C").arg(dir.path()).output().expect("it runs");
    let errors = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(2), "{errors}");
    assert!(errors.contains("--shell-on-failure needs a terminal"), "{errors}");
    assert!(ended.stdout.is_empty(), "something began");
    let (code, shown) = Session::exec(&place, dir.path(), &["--shell-on-failure", "--json"]).end();
    assert_eq!(code, Some(2), "{shown}");
    assert!(shown.contains("cannot be used with"), "{shown}");
    assert!(!place.path().join("slots").exists(), "something began");
}
