//! What comes out of a step, row by row.

use super::*;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn plain() -> Output {
    Output::new(DebugRows::Hidden, Unsecure::Refused)
}

fn run(output: &mut Output, masker: &mut Masker, chunks: &[&str]) -> Vec<String> {
    let mut rows = Vec::new();
    for (second, chunk) in (0..).zip(chunks) {
        output.chunk(masker, Stream::Stdout, at(second), chunk.as_bytes(), &mut rows).unwrap();
    }
    output.finish(masker, at(99), &mut rows).unwrap();
    rows.into_iter().map(|row| row.text).collect()
}

fn shown(text: &str) -> Vec<String> {
    run(&mut plain(), &mut Masker::default(), &[text])
}

#[test]
fn rows_are_masked_however_the_chunks_are_cut() {
    let text = "a s3cret\nkey: first\nsecond!\nend";
    for cut in 0..=text.len() {
        let mut masker = Masker::new(["s3cret", "first\nsecond"]).unwrap();
        let rows = run(&mut plain(), &mut masker, &[&text[..cut], &text[cut..]]);
        assert_eq!(rows, ["a ***", "key: ***", "***!", "end"], "cut at {cut}");
    }
}

#[test]
fn rows_have_the_time_of_their_end_also_when_they_were_held_back() {
    let mut masker = Masker::new(["first\nsecond"]).unwrap();
    let mut output = plain();
    let mut rows = Vec::new();
    output.chunk(&mut masker, Stream::Stdout, at(1), b"row", &mut rows).unwrap();
    output.chunk(&mut masker, Stream::Stdout, at(2), b"\nfirst\n", &mut rows).unwrap();
    assert_eq!(rows, [Row::new(at(2), "row".to_owned())], "`first` waits");
    output.chunk(&mut masker, Stream::Stdout, at(3), b"third\n", &mut rows).unwrap();
    assert_eq!(rows[1], Row::new(at(2), "***".to_owned()));
    assert_eq!(rows[2], Row::new(at(3), "third".to_owned()));
}

#[test]
fn the_two_streams_do_not_mix_within_a_row() {
    let mut masker = Masker::default();
    let mut output = plain();
    let mut rows = Vec::new();
    for (stream, bytes) in
        [(Stream::Stdout, "out "), (Stream::Stderr, "err\nlast"), (Stream::Stdout, "put\n")]
    {
        output.chunk(&mut masker, stream, at(1), bytes.as_bytes(), &mut rows).unwrap();
    }
    output.finish(&mut masker, at(2), &mut rows).unwrap();
    let texts: Vec<_> = rows.iter().map(|row| row.text.as_str()).collect();
    assert_eq!(texts, ["err", "out put", "last"]);
}

#[test]
fn a_long_row_is_cut_at_a_character() {
    let long = "\u{20ac}".repeat(50_000);
    let rows = shown(&format!("{long}\nnext\n"));
    assert_eq!(rows.len(), 4);
    assert!(rows.iter().all(|row| row.len() <= MAX_ROW));
    assert_eq!(rows[..3].concat(), long);
    assert_eq!(shown(&"x".repeat(MAX_ROW)), ["x".repeat(MAX_ROW)]);
}

#[test]
fn a_secret_is_masked_where_a_row_is_cut() {
    for before in MAX_ROW - 8..MAX_ROW + 2 {
        let text = format!("{}s3cret!{}\n", "x".repeat(before), "y".repeat(10));
        let mut masker = Masker::new(["s3cret"]).unwrap();
        let joined = run(&mut plain(), &mut masker, &[&text]).concat();
        assert_eq!(joined, format!("{}***!yyyyyyyyyy", "x".repeat(before)));
    }
    let text = format!("{}s3cret", "x".repeat(crate::rows::MAX_WHOLE - 3));
    let mut masker = Masker::new(["s3cret"]).unwrap();
    let joined = run(&mut plain(), &mut masker, &[&text[..text.len() - 2], &text[text.len() - 2..]]).concat();
    assert!(joined.ends_with("x***"), "{}", &joined[joined.len() - 12..]);
}

#[test]
fn masks_count_from_their_row_on() {
    assert_eq!(shown("pw\n::add-mask::pw\npw and pw\n"), ["pw", "*** and ***"]);
    assert_eq!(shown("::stop-commands::t\n::add-mask::pw\n::t::\npw\n"), ["::add-mask::pw", "pw"]);
}

#[test]
fn groups_and_annotations_have_one_form() {
    assert_eq!(
        shown(
            "::group::Build\nx\n::endgroup::\n##[group]B\n::error file=a.c,line=2::bad%0Aworse\n::notice::hi"
        ),
        [
            "##[group]Build",
            "x",
            "##[endgroup]",
            "##[group]B",
            "##[error]a.c:2: bad",
            "##[error]worse",
            "##[notice]hi"
        ]
    );
    assert_eq!(shown("::debug::x\n"), [""; 0]);
    let mut output = Output::new(DebugRows::Shown, Unsecure::Refused);
    assert_eq!(run(&mut output, &mut Masker::default(), &["::debug::x\n"]), ["##[debug]x"]);
}

#[test]
fn outputs_by_command_are_taken_with_one_warning() {
    let mut output = plain();
    let rows =
        run(&mut output, &mut Masker::default(), &["::set-output name=a::1\n::set-output name=b::2%0A3\n"]);
    assert_eq!(output.effects.outputs, [("a".into(), "1".into()), ("b".into(), "2\n3".into())]);
    assert_eq!(rows.len(), 1);
    assert!(rows[0].starts_with("##[warning]`set-output` is deprecated"));
}

#[test]
fn what_anyone_who_prints_could_use_is_refused() {
    let mut output = plain();
    let rows = run(&mut output, &mut Masker::default(), &["::set-env name=A::1\n::add-path::/x\n"]);
    assert!(output.effects.refused && output.effects.env.is_empty() && output.effects.paths.is_empty());
    assert!(rows.iter().all(|row| row.starts_with("##[error]")), "{rows:?}");
    let mut output = Output::new(DebugRows::Hidden, Unsecure::Allowed);
    let rows = run(&mut output, &mut Masker::default(), &["::set-env name=A::1\n::add-path::/x\n"]);
    assert!(rows.is_empty() && !output.effects.refused);
    assert_eq!(output.effects.env, [("A".into(), "1".into())]);
    assert_eq!(output.effects.paths, ["/x"]);
}

#[test]
fn a_commands_name_stops_commands_only_where_that_is_allowed() {
    let text = "::stop-commands::warning\n::add-mask::word\n::warning::\nword\n";
    let refused = run(&mut plain(), &mut Masker::default(), &[text]);
    assert_eq!(
        refused[1],
        "##[warning]`stop-commands` needs a token that is not empty and not the name of a command"
    );
    assert_eq!(refused.last().unwrap(), "***");
    let mut any = plain().stopped_by(Tokens::Any);
    assert_eq!(run(&mut any, &mut Masker::default(), &[text]), ["::add-mask::word", "word"]);
    let mut any = plain().stopped_by(Tokens::Any);
    let empty = run(&mut any, &mut Masker::default(), &["::stop-commands::\n"]);
    assert_eq!(empty.len(), 2, "{empty:?}");
}

#[test]
fn it_is_said_once_that_masks_are_too_large_for_their_encoded_forms() {
    let text: String =
        (0..60).map(|i| format!("::add-mask::{}\n", format!("{i:04}=").repeat(3000))).collect();
    let rows = run(&mut plain(), &mut Masker::default(), &[&text]);
    assert_eq!(rows.len(), 1, "{rows:?}");
    assert!(
        rows[0].starts_with("##[warning]from here on `add-mask` masks values only as written"),
        "{rows:?}"
    );
}

#[test]
fn too_many_masks_end_the_output() {
    let mut output = plain();
    let mut masker = Masker::default();
    let mut rows = Vec::new();
    let flood: String =
        (0..=mask::MAX_VALUES / 3).map(|i| format!("::add-mask::long{i}%0Along{i}b\n")).collect();
    let result = output.chunk(&mut masker, Stream::Stdout, at(0), flood.as_bytes(), &mut rows);
    assert_eq!(result, Err(TooManyMasks));
}

#[test]
fn a_secret_is_masked_also_where_only_control_sequences_break_it() {
    let mut masker = Masker::new(["s3cretvalue", "with\u{7}bell"]).unwrap();
    for broken in [
        "s3c\u{1b}[01;31mret\u{1b}[mvalue",
        "s3cret\u{1b}]0;title\u{7}value",
        "s3cret\u{8}value",
        "s3cret\u{202e}value",
        "with\u{7}bell",
    ] {
        let rows = run(&mut plain(), &mut masker, &[&format!("tok={broken}!\n")]);
        assert_eq!(rows, ["tok=***!"], "{broken:?}");
    }
    let rows = run(&mut plain(), &mut masker, &["\u{1b}[32mok\u{1b}[0m \u{1b}[2Jdone\n"]);
    assert_eq!(rows.len(), 1);
    assert!(rows[0].starts_with("\u{1b}[32mok\u{1b}[0m done"), "colours stay, the rest goes: {rows:?}");
}

#[test]
fn blanks_are_no_mask() {
    for blank in [
        "",
        " ",
        "  ",
        "\t",
        "%0A ",
        " %0D%0A ",
        "%20%0A",
        "%09",
        "\u{1b}[0m",
        "\u{1b}[0m%0A",
        "\u{1b}[1;31m \u{7}",
    ] {
        let mut masker = Masker::default();
        let text = format!("::add-mask::{blank}\na  b \t c\n");
        assert_eq!(
            run(&mut plain(), &mut masker, &[&text]),
            ["##[warning]`add-mask` is ignored: its value is empty or blank", "a  b \t c"],
            "{blank:?}"
        );
    }
    assert_eq!(shown("::add-mask:: x\n- x y\n"), ["-*** y"]);
}

#[test]
fn a_mask_of_a_sequence_leaves_the_ends_of_rows() {
    for value in ["\u{1b}[0m", "[0m", "0m", "\u{1b}[0m\nlast line", "first line\n\u{1b}[0m"] {
        let mut masker = Masker::new([value]).unwrap();
        let rows = run(&mut plain(), &mut masker, &["\u{1b}[31mred\n\u{1b}[32mgreen\nplain\n"]);
        let shown: Vec<_> = rows.iter().map(|row| sanitise::line(row, Colours::Drop)).collect();
        assert_eq!(shown, ["red", "green", "plain"], "{value:?}: {rows:?}");
        assert!(!rows.concat().contains('*'), "{value:?}: {rows:?}");
    }
}

#[test]
fn every_row_of_a_message_has_its_mark_and_no_secret() {
    let mut masker = Masker::new(["ab\ncd"]).unwrap();
    let rows = run(&mut plain(), &mut masker, &["::warning::x ab%0Acd y%0A%0Az%0A\n::error::one%0D%0A\n"]);
    assert_eq!(rows, ["##[warning]x ***", "##[warning]*** y", "##[warning]", "##[warning]z", "##[error]one"]);
    let mut output = Output::new(DebugRows::Shown, Unsecure::Refused);
    let rows = run(&mut output, &mut Masker::default(), &["::debug::x%0Ay\n"]);
    assert_eq!(rows, ["##[debug]x", "##[debug]y"]);
}

const GCC: &str = r#"{"problemMatcher": [{"owner": "gcc", "pattern": [
    {"regexp": "^(.+):(\\d+): (warning|error): (.*)$", "file": 1, "line": 2, "severity": 3, "message": 4}]}]}"#;

fn told(rows: &[Row]) -> Vec<String> {
    let said = |row: &Row| {
        let annotation = row.annotation.as_ref();
        let text =
            annotation.map(|annotation| format!(" -> {} {}", annotation.level.name(), annotation.text()));
        format!("{}{}", row.text, text.unwrap_or_default())
    };
    rows.iter().map(said).collect()
}

/// Gives every file that is wanted this content.
fn run_with(masker: &mut Masker, text: &str, content: Result<&str, &str>) -> Vec<String> {
    let problems = Problems::new(workflow::matcher::Matchers::new(), "/workspace/o/r".to_owned());
    let mut output = plain().with(problems);
    let mut rows = Vec::new();
    let mut wanted = output.chunk(masker, Stream::Stdout, at(1), text.as_bytes(), &mut rows).unwrap();
    while let Some(file) = wanted {
        let content = content.map(|text| text.as_bytes().to_vec()).map_err(str::to_owned);
        if let Some(text) = output.problems.answer(&file, content) {
            output.say(masker, at(1), &text, &mut rows);
        }
        wanted = output.resume(masker, &mut rows).unwrap();
    }
    output.finish(masker, at(2), &mut rows).unwrap();
    told(&rows)
}

#[test]
fn matchers_look_at_the_rows_behind_their_command() {
    let row = "\u{1b}[1m/workspace/o/r/src/a.c:3: warning: odd\u{1b}[0m\n";
    let text = format!(
        "a.c:1: error: before\n::add-matcher::gcc.json\n{row}::warning::a.c:2: error: no row of the step\nfine\n\
         ::remove-matcher owner=GCC::\na.c:4: error: behind\n##[add-matcher]gcc.json\na.c:5: error: again\n\
         ::remove-matcher::gcc.json\na.c:6: error: over"
    );
    assert_eq!(
        run_with(&mut Masker::default(), &text, Ok(GCC)),
        [
            "a.c:1: error: before",
            "##[warning]/workspace/o/r/src/a.c:3: warning: odd -> warning src/a.c:3: odd",
            "##[warning]a.c:2: error: no row of the step -> warning a.c:2: error: no row of the step",
            "fine",
            "a.c:4: error: behind",
            "##[error]a.c:5: error: again -> error a.c:5: again",
            "a.c:6: error: over",
        ]
    );
}

#[test]
fn annotations_hold_no_secret() {
    let mut masker = Masker::new(["hush-hush", "ab\ncd"]).unwrap();
    let text = "::add-matcher::m\nhush-hush.c:1: error: it is hush-hush\nx:1: error: ab\ncd:1: error: x\n\
                ::error file=hush-hush,title=a hush-hush::ab%0Acd\n";
    assert_eq!(
        run_with(&mut masker, text, Ok(GCC)),
        [
            "##[error]***.c:1: error: it is *** -> error ***.c:1: it is ***",
            "##[error]x:1: error: *** -> error x:1: ***",
            "##[error]***:1: error: x -> error ***:1: x",
            "##[error]***: a ***: *** -> error ***: a ***: ***\n***",
            "##[error]***",
        ]
    );
}

#[test]
fn a_file_of_matchers_that_cannot_be_used_is_a_warning() {
    let mut masker = Masker::default();
    assert_eq!(
        run_with(&mut masker, "::add-matcher::x.json\na.c:1: error: x\n", Err("there is no such file")),
        ["##[warning]`add-matcher` does nothing: `x.json`: there is no such file", "a.c:1: error: x"]
    );
    let rows = run_with(&mut masker, "::add-matcher::x.json\n", Ok(&GCC.replace("(.*)$", "(?=x)")));
    assert_eq!(rows[0], "##[warning]`add-matcher` does nothing: `x.json` is wrong");
    assert!(rows[1].contains("look-around is not possible"), "{rows:?}");
    assert_eq!(run_with(&mut masker, "::add-matcher::x.json", Ok(GCC)), [""; 0], "at the end of the output");
    let bad = run_with(&mut masker, "::add-matcher::\n", Ok(GCC));
    assert_eq!(bad, ["::add-matcher::", "##[warning]`add-matcher` needs a path: `::add-matcher::PATH`"]);
}

#[test]
fn annotations_of_a_step_are_counted() {
    let text = format!("::add-matcher::m\n{}", "a.c:1: error: x\n".repeat(1001));
    let rows = run_with(&mut Masker::default(), &text, Ok(GCC));
    assert_eq!(rows[999], "##[error]a.c:1: error: x -> error a.c:1: x");
    assert_eq!(rows[1000], "##[error]a.c:1: error: x");
}

#[test]
fn commands_are_echoed_when_somebody_debugs() {
    let mut output = Output::new(DebugRows::Shown, Unsecure::Allowed);
    let rows = run(
        &mut output,
        &mut Masker::default(),
        &["::add-mask::hush\n::save-state name=a::hush\n::echo::off\n::save-state name=a::x\n"],
    );
    assert_eq!(rows, ["::add-mask::***", "::save-state name=a::***", "::echo::off"]);
}

#[test]
fn some_variables_are_not_set() {
    let mut output = Output::new(DebugRows::Hidden, Unsecure::Allowed);
    let text = "::set-env name=NODE_OPTIONS::x\n::set-env name=GITHUB_SHA::x\n::set-env name=A::x\n";
    let rows = run(&mut output, &mut Masker::default(), &[text]);
    assert_eq!(output.effects.env, [("A".into(), "x".into())]);
    assert!(rows[0].starts_with("##[error]`NODE_OPTIONS`") && rows[1].starts_with("##[warning]`GITHUB_SHA`"));
    assert!(!output.effects.refused, "{rows:?}");
}
