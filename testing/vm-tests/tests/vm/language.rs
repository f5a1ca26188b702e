//! What a workflow may do, seen from outside: events, files of steps, outputs, masking.

use libtest_mimic::Trial;
use vm_tests::{
    program::{On, Place},
    workflow::{project, script, steps},
};

pub(crate) fn trials(on: On) -> Vec<Trial> {
    let mut trials = vec![
        crate::on(on, "events_come_in_the_order_of_the_reference", events),
        crate::on(on, "files_of_a_step_reach_the_next_and_the_jobs_that_need_it", files),
        crate::on(on, "no_secret_is_ever_printed", secrets),
    ];
    if on == On::Qemu {
        trials.push(crate::on(on, "a_job_is_root_of_a_machine_of_its_own", machine));
        trials.push(crate::on(on, "a_full_disk_in_the_guest_fails_the_step_alone", full_disk));
    }
    trials
}

fn events(on: On) {
    let place = Place::new(on);
    let dir = project(&steps(
        "
- name: one
  run: echo first
- name: two
  if: false
  run: echo never
- name: three
  continue-on-error: true
  run: exit 3
",
    ));
    let ended = place.exec::<&str>(dir.path(), &[]);
    ended.expect(0);
    let events = ended.events();
    let kinds: Vec<_> = events
        .iter()
        .filter(|event| event["type"] != "log")
        .map(|event| event["type"].as_str().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        kinds,
        [
            "run_start",
            "job_start",
            "step_start",
            "step_end",
            "step_end",
            "step_start",
            "step_end",
            "job_end",
            "run_end"
        ]
    );
    let ends: Vec<_> = events.iter().filter(|event| event["type"] == "step_end").collect();
    assert_eq!((&ends[0]["outcome"], &ends[0]["conclusion"]), (&"success".into(), &"success".into()));
    assert_eq!((&ends[1]["outcome"], &ends[1]["conclusion"]), (&"skipped".into(), &"skipped".into()));
    assert_eq!((&ends[2]["outcome"], &ends[2]["conclusion"]), (&"failure".into(), &"success".into()));
    assert_eq!(ended.event("run_end").expect("an end")["result"], "success");
    let times: Vec<_> = events.iter().map(|event| event["time"].as_str().unwrap_or_default()).collect();
    assert!(times.iter().all(|time| !time.is_empty()), "{times:?}");
    assert!(ended.rows().contains(&"first".to_owned()) && !ended.rows().contains(&"never".to_owned()));
    place.assert_clean();
}

fn files(on: On) {
    let place = Place::new(on);
    let dir = project(
        "on: push
jobs:
  a:
    runs-on: debian
    outputs:
      word: ${{ steps.s.outputs.word }}
      lines: ${{ steps.s.outputs.lines }}
    steps:
      - id: s
        run: |
          echo word=fish >> \"$GITHUB_OUTPUT\"
          printf 'lines<<EOF\\none\\ntwo\\nEOF\\n' >> \"$GITHUB_OUTPUT\"
          echo COLOUR=blue >> \"$GITHUB_ENV\"
          mkdir -p tools && printf '#!/bin/sh\\necho a tool\\n' > tools/my-tool && chmod +x tools/my-tool
          echo \"$PWD/tools\" >> \"$GITHUB_PATH\"
      - run: |
          echo \"colour $COLOUR\"
          my-tool
  b:
    needs: a
    runs-on: debian
    steps:
      - run: echo \"got ${{ needs.a.outputs.word }} of ${{ needs.a.result }}\"
      - env:
          LINES_OF_A: ${{ needs.a.outputs.lines }}
        run: echo \"$LINES_OF_A\" | wc -l
",
    );
    let ended = place.exec::<&str>(dir.path(), &[]);
    ended.expect(0);
    let rows = ended.rows();
    for row in ["colour blue", "a tool", "got fish of success", "2"] {
        assert!(rows.iter().any(|line| line == row), "{row:?} is missing: {rows:#?}");
    }
    place.assert_clean();
}

fn secrets(on: On) {
    let place = Place::new(on);
    let dir = project(
        "on: push
jobs:
  j:
    runs-on: debian
    outputs:
      leak: ${{ steps.s.outputs.leak }}
      fine: ${{ steps.s.outputs.fine }}
    steps:
      - id: s
        env:
          TOKEN: ${{ secrets.TOKEN }}
          KEY: ${{ secrets.KEY }}
        run: |
          echo \"the token is $TOKEN.\"
          for i in 1 2 3 4 5 6; do printf '%s' \"${TOKEN:$((i-1)):1}\"; sleep 0.01; done; echo
          printf '%s' \"$TOKEN\" | cut -c4- > rest; printf '%s' \"${TOKEN:0:3}\"; sleep 0.3; cat rest
          echo \"$KEY\"
          echo \"::add-mask::later\"
          echo \"now and later\"
          echo \"leak=$TOKEN\" >> \"$GITHUB_OUTPUT\"
          echo \"fine=yes\" >> \"$GITHUB_OUTPUT\"
",
    );
    let words = ["-s", "token=swordfish-4711", "-s", "KEY=-----BEGIN\nabcdefgh\nijklmnop\n-----END"];
    let ended = place.exec(dir.path(), &words);
    ended.expect(0);
    let everything = format!("{}\n{}", ended.stdout.join("\n"), ended.stderr);
    for secret in ["swordfish", "4711", "abcdefgh", "ijklmnop"] {
        assert!(!everything.contains(secret), "{secret} was printed:\n{everything}");
    }
    assert!(ended.rows().iter().any(|row| row == "the token is ***."), "{:#?}", ended.rows());
    assert!(ended.rows().iter().any(|row| row == "now and ***"), "{:#?}", ended.rows());
    let outputs = &ended.event("job_end").expect("an end")["outputs"];
    assert_eq!(outputs["fine"], "yes");
    assert!(outputs.get("leak").is_none_or(|value| value == ""), "{outputs}");
    place.assert_clean();
}

fn machine(on: On) {
    let place = Place::new(on);
    let dir = project(&script(
        "id -u
cat /proc/1/comm
ls /sys/class/net
touch /usr/bin/mine && echo 'the root is writable'
grep -c ^processor /proc/cpuinfo
node -e 'console.log(\"node\", process.version.split(\".\")[0])'
python3 -c 'import sys; print(\"python\", sys.version_info.major)'
date +%Y",
    ));
    let ended = place.exec::<&str>(dir.path(), &[]);
    ended.expect(0);
    let rows = ended.rows();
    let year = jail_year();
    for row in ["0", "lo", "the root is writable", "2", "node v24", "python 3", &year] {
        assert!(rows.iter().any(|line| line == row), "{row:?} is missing: {rows:#?}");
    }
    place.assert_clean();
}

/// The host's year: a guest's clock is set from the host's.
fn jail_year() -> String {
    let out = std::process::Command::new("date").arg("-u").arg("+%Y").output().expect("date runs");
    String::from_utf8_lossy(&out.stdout).trim().to_owned()
}

fn full_disk(on: On) {
    let place = Place::new(on);
    let dir = project(&steps(
        r#"
- run: fallocate -l 1000G big || { rm big; exit 1; }
- if: always()
  run: echo "and goes on"
"#,
    ));
    let ended = place.exec::<&str>(dir.path(), &[]);
    ended.expect(1);
    let rows = ended.rows();
    assert!(
        rows.iter().any(|row| row.contains("No space left") || row.contains("File too large")),
        "{rows:#?}"
    );
    assert!(rows.iter().any(|row| row == "and goes on"), "{rows:#?}");
    place.assert_clean();
}
