//! Rows of tools and what matchers make of them.

use proptest::prelude::*;

use super::*;

fn matchers(names: &[&str]) -> Matchers {
    let mut matchers = Matchers::new();
    for name in names {
        let path = format!("{}/tests/matchers/{name}.json", env!("CARGO_MANIFEST_DIR"));
        let parsed = parse(name, &std::fs::read(path).unwrap());
        matchers.add(parsed.unwrap_or_else(|faults| panic!("{name}: {}", faults[0]))).unwrap();
    }
    matchers
}

fn text(annotation: &Annotation) -> String {
    let code = annotation.code.as_ref().map(|code| format!(" ({code})")).unwrap_or_default();
    format!("{} {}{code}", annotation.level.name(), annotation.text())
}

fn read(matchers: &mut Matchers, rows: &str) -> Vec<String> {
    rows.lines().filter_map(|row| matchers.read(row)).map(|annotation| text(&annotation)).collect()
}

fn inline(json: &str) -> Result<Vec<Matcher>, Vec<String>> {
    parse("m.json", json.as_bytes()).map_err(|faults| faults.iter().map(ToString::to_string).collect())
}

fn faults(json: &str) -> String {
    inline(json).expect_err(json).join("\n")
}

#[test]
fn what_tools_print_is_found() {
    for (name, rows, expected) in [
        (
            "gcc",
            "gcc -c src/a.c\nsrc/a.c: In function 'main':\nsrc/a.c:3:5: warning: unused variable 'x' [-Wunused-variable]\n    3 |   int x;\nsrc/a.c:9:1: error: expected ';'\nb.c:1: error: no column\nc.c:1:10: fatal error: x.h: No such file\nsrc/a.c:9:1: note: here",
            vec![
                "warning src/a.c:3:5: unused variable 'x' (-Wunused-variable)",
                "error src/a.c:9:1: expected ';'",
                "error b.c:1: no column",
                "error c.c:1:10: x.h: No such file",
            ],
        ),
        (
            "tsc",
            "src/a.ts(3,7): error TS2322: Type 'string' is not.\nsrc/b.ts:4:1 - warning TS6133: 'x' is declared\nsrc/c.ts:4:1 - info TS1: not for us",
            vec![
                "error src/a.ts:3:7: Type 'string' is not. (2322)",
                "warning src/b.ts:4:1: 'x' is declared (6133)",
            ],
        ),
        (
            "eslint-compact",
            "/w/bad.js: line 50, col 11, Error - 'x' is defined but never used. (no-unused-vars)\n/w/bad.js: line 1, col 1, Info - nothing (x)",
            vec!["error /w/bad.js:50:11: 'x' is defined but never used. (no-unused-vars)"],
        ),
        (
            "eslint-stylish",
            "\ntest.js\n  1:0   error  Missing \"use strict\" statement                 strict\n  5:10  warning  'addOne' is defined but never used             no-unused-vars\nother.js\n  7:1  error  x  y\n\n\u{2716} 3 problems\n  8:1  error  behind another row  z",
            vec![
                "error test.js:1: Missing \"use strict\" statement                (strict)",
                "warning test.js:5:10: 'addOne' is defined but never used            (no-unused-vars)",
                "error other.js:7:1: x (y)",
                "error \u{2716} 3 problems:8:1: behind another row (z)",
            ],
        ),
        (
            "go",
            "# example.com/x\n./main.go:7:2: undefined: y\n    main_test.go:12: broken\nok  example.com/x",
            vec!["error ./main.go:7:2: undefined: y"],
        ),
        (
            "python",
            "Traceback (most recent call last):\n  File \"/w/a.py\", line 3, in <module>\n    raise ValueError('no way')\n  File \"/w/b.py\", line 4, in f\n    g()\n    raise ValueError('too late')",
            vec!["error /w/a.py:3: no way"],
        ),
        (
            "cargo",
            "   Compiling x\nwarning: unused variable: `a`\n --> src/main.rs:2:9\n  |\nerror[E0425]: cannot find value `b` in this scope\n  --> src/main.rs:3:5\nerror: could not compile `x`\nthread 'main' panicked at src/lib.rs:4:5:\nit broke\nnote: run",
            vec![
                "warning src/main.rs:2:9: unused variable: `a`",
                "error src/main.rs:3:5: cannot find value `b` in this scope (E0425)",
                "error src/lib.rs:4:5: it broke",
            ],
        ),
        (
            "msbuild",
            "src/P.cs(1,2): warning CS0168: unused [/w/app/app.csproj]\n/abs/P.cs(1,2): error CS1: x [/w/app/app.csproj]\nC:\\a.cs(1,2): error CS1: x [/w/app/app.csproj]",
            vec![
                "warning /w/app/src/P.cs:1:2: unused (CS0168)",
                "error /abs/P.cs:1:2: x (CS1)",
                "error C:\\a.cs:1:2: x (CS1)",
            ],
        ),
    ] {
        let weight: usize = matchers(&[name]).running.iter().map(|running| running.matcher.weight).sum();
        assert!(weight * 10 < MAX_WEIGHT, "{name} weighs {weight}, and a job may have many such");
        let found = read(&mut matchers(&[name]), rows);
        let found: Vec<String> = found.iter().map(|row| row.replace("  (", " (")).collect();
        let squeezed = |rows: Vec<String>| -> Vec<String> {
            rows.iter()
                .map(|row| row.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" "))
                .collect()
        };
        let expected = expected.into_iter().map(str::to_owned).collect();
        assert_eq!(squeezed(found), squeezed(expected), "{name}");
    }
}

#[test]
fn the_newest_matcher_is_asked_first_and_others_forget() {
    let any = |owner: &str, said: &str| {
        let json = format!(
            r#"{{"problemMatcher": [{{"owner": "{owner}", "severity": "{said}", "pattern": [{{"regexp": "^x (.*)", "message": 1}}]}}]}}"#
        );
        inline(&json).unwrap()
    };
    let mut all = matchers(&["cargo"]);
    all.add(any("one", "error")).unwrap();
    all.add(any("two", "Notice")).unwrap();
    assert_eq!(read(&mut all, "x a"), ["notice a"]);
    all.add(any("ONE", "warning")).unwrap();
    assert_eq!(read(&mut all, "x a"), ["warning a"], "replaced, and the newest now");
    all.remove("One");
    assert_eq!(read(&mut all, "x a"), ["notice a"]);
    all.remove("nobody");
    assert_eq!(
        read(&mut all, "error: begun\nx a\n --> a.rs:1:2"),
        ["notice a"],
        "what was begun is forgotten"
    );
    assert_eq!(read(&mut all, "error: begun"), [""; 0]);
    all.reset();
    assert_eq!(read(&mut all, " --> a.rs:1:2"), [""; 0], "another step");
    all.remove("two");
    all.remove("cargo");
    all.remove("cargo-panic");
    assert!(all.is_empty());
}

#[test]
fn faults_stand_where_they_are() {
    let one =
        |pattern: &str| format!("{{\"problemMatcher\": [{{\"owner\": \"o\", \"pattern\": [{pattern}]}}]}}");
    for (json, said) in [
        ("[]", "m.json:1:1: error: expected `{\"problemMatcher\": [...]}`"),
        ("", "expected `{\"problemMatcher\""),
        ("{\"problemMatcher\": 1}", "expected `{\"problemMatcher\""),
        ("{\"problemMatcher\": [1]}", "m.json:1:21: error: a matcher is a map, not a number"),
        (
            "{\"problemMatcher\": [{\"owner\": \"\", \"pattern\": [{\"regexp\": \"a\", \"message\": 0}]}]}",
            "a matcher needs an `owner`",
        ),
        ("{\"problemMatcher\": [{\"owner\": \"o\"}]}", "a matcher needs a `pattern`"),
        (
            "{\"problemMatcher\": [{\"owner\": \"o\", \"severity\": \"bad\", \"pattern\": [{\"regexp\": \"a\", \"message\": 0}]}]}",
            "1:48: error: `severity` is",
        ),
        (
            "{\"problemMatcher\": [{\"owner\": [1], \"pattern\": [{\"regexp\": \"a\", \"message\": 0}]}]}",
            "`owner` is a text, not a list",
        ),
        (
            &one("{\"regex\": \"a\", \"message\": 0}"),
            "a pattern needs a `regexp`; did you mean it by `regex`?",
        ),
        (&one("{\"regexp\": \"(?=a)\", \"message\": 0}"), "1:60: error: look-around is not possible"),
        (
            &one("{\"regexp\": \"\\\\s(a)\\\\1\", \"message\": 0}"),
            "1:66: error: a back-reference is not possible",
        ),
        (
            &one("{\"regexp\": \"(a)\", \"message\": 2}"),
            "`message` is the number of a group of the `regexp`: 0 to 1",
        ),
        (&one("{\"regexp\": \"(a)\", \"message\": -1}"), "`message` is the number"),
        (&one("{\"regexp\": \"(a)\", \"line\": 1}"), "one of the patterns needs a `message`"),
        (
            &one("{\"regexp\": \"(a)\", \"message\": 1, \"loop\": true}"),
            "only the last of several patterns can have `loop`",
        ),
        (
            &one("{\"regexp\": \"(a)\", \"message\": 1}, {\"regexp\": \"(b)\", \"message\": 1}"),
            "`message` is set twice",
        ),
        (
            &one("{\"regexp\": \"(a)\", \"message\": 1}, {\"regexp\": \"(b)\", \"line\": 1, \"loop\": true}"),
            "a pattern with `loop` needs a `message`",
        ),
        (&one("{\"regexp\": \"(a)\", \"message\": 1, \"loop\": \"x\"}"), "`loop` is `true` or `false`"),
        (&one("1"), "a pattern is a map, not a number"),
        ("{\"problemMatcher\": [{\"owner\": \"o\", \"pattern\": [", "m.json:1:"),
        ("{\"a\": 1, \"a\": 2}", "m.json:1:"),
    ] {
        let found = faults(json);
        assert!(found.contains(said), "{json}: {found}");
    }
    let twice = "{\"owner\": \"o\", \"pattern\": [{\"regexp\": \"a\", \"message\": 0}]}";
    let json = format!("{{\"problemMatcher\": [{twice}, {}]}}", twice.replace("\"o\"", "\"O\""));
    assert!(faults(&json).contains("there is already a matcher of the owner `O`"));
    assert!(parse("m", b"\xff").is_err() && parse("m", b"{\0}").is_err());
    assert!(parse("m", &vec![b' '; MAX_FILE + 1]).unwrap_err()[0].to_string().contains("256 KiB"));
}

#[test]
fn json_of_all_kinds_is_read() {
    for json in [
        "\u{feff}{\r\n\t\"problemMatcher\":\t[\r\n\t{\"owner\":\"o\",\"pattern\":[{\"regexp\":\"(\\/\\u0041\\t)\",\"message\":1,},],},\r\n]}",
        "// a comment\n{\"problemMatcher\": [{\"owner\": \"o // no comment\", /* é */ \"applyTo\": \"all\", \"pattern\": [{\"regexp\": \"a\", \"message\": 0, \"loop\": null}]}]}",
        "{\"problemMatcher\": [{\"owner\": \"o\", \"pattern\": [{\"regexp\": \"a\", \"message\": \"0\", \"kind\": \"x\"}]}]} // the end",
        "{\"problemMatcher\": []}",
    ] {
        inline(json).unwrap_or_else(|faults| panic!("{json}: {faults:?}"));
    }
}

#[test]
fn a_matcher_is_no_bomb() {
    let one = |owner: usize, regexp: &str| {
        let regexp = serde_json::to_string(regexp).unwrap();
        format!(r#"{{"owner": "o{owner}", "pattern": [{{"regexp": {regexp}, "message": 0}}]}}"#)
    };
    let file = |list: Vec<String>| format!("{{\"problemMatcher\": [{}]}}", list.join(", "));
    assert!(faults(&file(vec![one(0, "(x{1000}){1000}")])).contains("too large"));
    assert!(
        faults(&file((0..MAX_MATCHERS + 1).map(|i| one(i, "a")).collect())).contains("at most 64 matchers")
    );
    // as many heavy ones as there may be
    let heavy = inline(&file((0..MAX_MATCHERS).map(|i| one(i, "(x|y)*x(x|y){150}[^xy]")).collect())).unwrap();
    let weight: usize = heavy.iter().map(|matcher| matcher.weight).sum();
    let mut all = Matchers::new();
    assert_eq!(all.add(heavy).is_err(), weight > MAX_WEIGHT, "{weight}");
    let mut all = Matchers::new();
    while all.add(inline(&file(vec![one(all.running.len(), "(x|y)*x(x|y){150}[^xy]")])).unwrap()).is_ok() {}
    assert!(!all.is_empty());
    for regexp in ["(x+x+)+y", "(.*)*(.*)*(.*)*=", "^(([a-z])+.)+[A-Z]([a-z])+$"] {
        let mut one_of = Matchers::new();
        one_of.add(inline(&file(vec![one(0, regexp)])).unwrap()).unwrap();
        let started = std::time::Instant::now();
        assert_eq!(one_of.read(&"x".repeat(MAX_ROW)), None);
        assert!(started.elapsed().as_secs() < 20, "{regexp}: {:?}", started.elapsed());
    }
    let started = std::time::Instant::now();
    let row: String =
        (0_u32..2048).map(|i| if i.wrapping_mul(2_654_435_761) >> 31 == 0 { 'x' } else { 'y' }).collect();
    assert_eq!(all.read(&row), None);
    assert!(started.elapsed().as_secs() < 60, "{} heavy ones: {:?}", all.running.len(), started.elapsed());
    assert_eq!(all.read(&"x".repeat(MAX_ROW + 1)), None);
    let mut catchy = matchers(&["go"]);
    assert_eq!(catchy.read(&format!("a.go: {}", "x".repeat(MAX_ROW))), None, "no row of a tool");
    // nesting, aliases
    assert!(inline(&format!("{{\"problemMatcher\": {}", "[".repeat(100_000))).is_err());
    assert!(inline("{\"problemMatcher\": &a [{\"x\": &b [*b, *b]}]}").is_err());
}

proptest! {
    #[test]
    fn no_rows_make_it_panic(rows in "[a-c.:0-9 ()'\"\\n>-]{0,60}") {
        let mut all = matchers(&["gcc", "tsc", "eslint-stylish", "go", "python", "cargo"]);
        for row in rows.lines() {
            let _ = all.read(row);
        }
    }
}
