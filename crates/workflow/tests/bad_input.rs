//! Bad input: each a clear error, in bounded time.

use std::time::{Duration, Instant};

use doc::Source;
use workflow::{parse_action, parse_only};

/// The first that is said of some bytes.
fn first(bytes: &[u8]) -> String {
    match Source::from_bytes("x.yml", bytes) {
        Ok(source) => {
            let found = parse_only(&source).diagnostics;
            assert!(found.len() <= 101, "{} diagnostics", found.len());
            assert!(parse_action(&source).action.is_none());
            found.first().map(ToString::to_string).unwrap_or_default()
        }
        Err(fault) => fault.to_string(),
    }
}

#[test]
fn bad_input_is_refused_quickly() {
    let bomb = (1..12).fold("a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned(), |text, level| {
        let before = format!("*a{}, ", level - 1).repeat(9);
        format!("{text}a{level}: &a{level} [{}]\n", before.trim_end_matches(", "))
    });
    let merged = (1..30).fold("a0: &a0 {k: v}\n".to_owned(), |text, level| {
        let below = level - 1;
        format!("{text}a{level}: &a{level} {{x: *a{below}, y: *a{below}}}\n")
    });
    let same =
        format!("on: push\njobs: {{a: {{runs-on: x, steps: [{{run: a}}]}}}}\n{}", "b: 1\n".repeat(50_000));
    let table: Vec<(&str, Vec<u8>, &str)> = vec![
        ("a bomb", bomb.into_bytes(), "more than 100000 values, aliases written out"),
        ("a bomb of maps", merged.into_bytes(), "more than 100000 values, aliases written out"),
        ("depth in brackets", "[".repeat(100_000).into_bytes(), "more than 64 levels"),
        ("depth in braces", "{a: ".repeat(100_000).into_bytes(), "more than 64 levels"),
        ("depth in lists", "- ".repeat(100_000).into_bytes(), "more than 64 levels"),
        ("depth in keys", "? ".repeat(100_000).into_bytes(), "more than 64 levels"),
        ("depth by indentation", deep(300).into_bytes(), "more than 64 levels"),
        ("a NUL byte", b"on: push\nname: a\0b\n".to_vec(), "x.yml:2:8: error: the file holds a NUL byte"),
        ("no UTF-8", b"on: push\nname: \xff\n".to_vec(), "x.yml:2:7: error: the file is not UTF-8"),
        ("UTF-16", b"\xff\xfeo\0n\0".to_vec(), "error: `x.yml` is UTF-16 text"),
        ("10 MB", vec![b'#'; 10 << 20], "error: `x.yml` is larger than 1 MiB (1048576 bytes)"),
        ("tabs", b"on: push\njobs:\n\ta:\n".to_vec(), "x.yml:3:1: error: a tab stands in the indentation"),
        ("one long expression", expression(), "x.yml:1:"),
        ("many faults", same.into_bytes(), "error: the key `b` is there twice"),
        (
            "one long line of quotes",
            "a: '".repeat(200_000).into_bytes(),
            "error: text stands after the closing quote",
        ),
    ];
    for (name, bytes, expected) in table {
        let start = Instant::now();
        let said = first(&bytes);
        let shown: String = said.chars().take(200).collect();
        assert!(said.contains(expected), "{name}: {shown}");
        assert!(said.len() < 2000, "{name}: {} bytes are said", said.len());
        // unoptimised, and beside other tests
        assert!(start.elapsed() < Duration::from_secs(20), "{name}: {:?}", start.elapsed());
    }
}

fn deep(levels: usize) -> String {
    (0..levels).map(|level| format!("{}a:\n", " ".repeat(level))).collect()
}

fn expression() -> Vec<u8> {
    format!(
        "run-name: ${{{{ {} }}}}\non: push\njobs: {{a: {{runs-on: x, steps: [{{run: a}}]}}}}\n",
        "(1+".repeat(300_000)
    )
    .into_bytes()
}

/// CRLF is as good as LF, and a byte order mark at the start is nothing.
#[test]
fn line_ends_and_marks_do_not_matter() {
    let text = "\u{feff}on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: |\n          one ${{ github.sha }}\n          two\n";
    let unix = parse_only(&Source::new("x.yml", text)).workflow.expect("good");
    let dos = parse_only(&Source::new("x.yml", text.replace('\n', "\r\n"))).workflow.expect("good");
    let script = |whole: &workflow::Workflow| whole.jobs[0].steps[0].title();
    assert_eq!(script(&unix), script(&dos));
    let wrong = text.replace("github", "githb").replace('\n', "\r\n");
    let found = parse_only(&Source::new("x.yml", wrong)).diagnostics;
    assert!(
        found[0].to_string().starts_with("x.yml:7:19: error: there is no context `githb`"),
        "{}",
        found[0]
    );
}
