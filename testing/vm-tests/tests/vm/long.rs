//! The long tests: a million lines, and ends at random points.

use std::time::Duration;

use libtest_mimic::Trial;
use rustix::process::Signal;
use vm_tests::{
    host,
    program::{On, Place},
    random::Random,
    workflow::{project, script},
};

pub(crate) fn trials(on: On) -> Vec<Trial> {
    let mut trials = vec![
        crate::on(on, "cancellations_at_random_points_leave_nothing", cancellations),
        crate::on(on, "kills_at_random_points_leave_nothing", kills),
    ];
    if on == On::Qemu {
        trials.push(crate::on(on, "a_million_lines_arrive_complete_and_in_order", million));
    }
    trials.into_iter().map(|trial| trial.with_ignored_flag(true)).collect()
}

/// How often, and over which time a run of one job spreads.
fn plan(on: On, vm: u32, fake: u32) -> (u32, u64) {
    match on {
        On::Qemu => (vm, 9_000),
        On::Fake => (fake, 400),
    }
}

/// A job that does a little of everything, for as long as it is let.
fn busy() -> String {
    script("for i in $(seq 100000); do echo \"row $i\"; echo \"$i\" > \"f$((i % 7))\"; done; sleep 1000")
}

fn cancellations(on: On) {
    let place = Place::new(on);
    let dir = project(&busy());
    let mut random = Random::seeded("cancellations");
    let (rounds, spread) = plan(on, 50, 500);
    for round in 0..rounds {
        let run = place.start::<&str>(dir.path(), &[]);
        let after = Duration::from_millis(random.below(spread));
        std::thread::sleep(after);
        run.signal(Signal::INT);
        let ended = run.end();
        // before the handler is there a signal ends the program, which has nothing yet then
        assert!(matches!(ended.code, Some(130) | None), "round {round}, {after:?}: {ended:#?}");
        let left = host::settled(|| host::remnants(place.path()));
        assert!(left.is_empty(), "round {round}, cancelled after {after:?}: {left:#?}");
    }
}

fn kills(on: On) {
    let place = Place::new(on);
    let dir = project(&busy());
    let mut random = Random::seeded("kills");
    let (rounds, spread) = plan(on, 20, 500);
    for round in 0..rounds {
        let run = place.start::<&str>(dir.path(), &[]);
        let after = Duration::from_millis(random.below(spread));
        std::thread::sleep(after);
        run.signal(Signal::KILL);
        run.end();
        let left = host::settled(|| host::running(place.path()));
        assert!(left.is_empty(), "round {round}, killed after {after:?}: {left:#?}");
    }
    let hello = project(&script("echo hello"));
    place.exec::<&str>(hello.path(), &[]).expect(0);
    place.assert_clean();
}

fn million(on: On) {
    const LINES: u64 = 1_000_000;
    /// What the issue allows the host.
    const MEMORY: u64 = 200 << 20;
    let place = Place::new(on);
    let dir = project(&script(&format!("seq -f 'line %.0f of many' {LINES}")));
    let mut run = place.start::<&str>(dir.path(), &[]);
    let (mut next, mut peak) = (1, 0);
    while let Some(line) = run.next_line() {
        if !line.contains("\"log\"") || !line.contains(" of many\"") {
            continue;
        }
        assert!(line.contains(&format!("\"line {next} of many\"")), "line {next} is missing: {line}");
        next += 1;
        if next % 4096 == 0 {
            peak = peak.max(host::peak_memory(run.pid()).unwrap_or_default());
        }
    }
    run.end().expect(0);
    assert_eq!(next, LINES + 1);
    assert!(peak > 0 && peak < MEMORY, "peak memory {peak} bytes");
    vm_tests::say(&format!("{LINES} lines, host memory at most {} MiB", peak >> 20));
    place.assert_clean();
}
