//! YAML documents: what becomes of them, and where everything stands.

use doc::{Kind, Limits, Locator, Node, Rendering, Source, parse_toml, parse_yaml, parse_yaml_with};

fn outline(text: &str) -> String {
    match parse_yaml(&Source::new("t.yml", text)) {
        Ok(node) => node.outline(),
        Err(error) => error.to_string(),
    }
}

#[test]
fn documents() {
    let table = [
        ("", "null"),
        ("a: 1\nb: [x, 'y', \"z\\n\"]\n", r#"{"a": 1<1>, "b": ["x", "y", "z\n"]}"#),
        ("on: push\nyes: no\n", r#"{"on": "push", "yes": "no"}"#),
        ("a: |\n  x\n  y\nb: >\n  x\n  y\n", r#"{"a": "x\ny\n", "b": "x y\n"}"#),
        ("a: !!str 1\n", r#"{"a": "1"}"#),
        ("a: &x {b: 1}\nc: *x\n", r#"{"a": {"b": 1<1>}, "c": {"b": 1<1>}}"#),
        (
            "a: &x {b: 1, c: 2}\nd:\n  <<: *x\n  b: 3\n",
            r#"{"a": {"b": 1<1>, "c": 2<2>}, "d": {"b": 3<3>, "c": 2<2>}}"#,
        ),
        (
            "a: &x {b: 1}\ne: &y {b: 2, f: 3}\nd:\n  <<: [*x, *y]\n",
            r#"{"a": {"b": 1<1>}, "e": {"b": 2<2>, "f": 3<3>}, "d": {"b": 1<1>, "f": 3<3>}}"#,
        ),
        ("'<<': 1\n", r#"{"<<": 1<1>}"#),
        ("a:\nb: ~\n", r#"{"a": null, "b": null}"#),
        ("?", r#"{"": null}"#),
        ("a: 1\na: 2\n", "t.yml:2:1: error: the key `a` is there twice"),
        ("a: 1\n'a': 2\n", "t.yml:2:1: error: the key `a` is there twice"),
        ("a: &x [*x]\n", "t.yml:1:8: error: an alias inside of what it names"),
        ("a: 1\n---\nb: 2\n", "t.yml:2:1: error: a second document in one file"),
        ("if: !x\n", "t.yml:1:5: error: `!x` is a YAML tag here"),
        ("[a, b]: 1\n", "t.yml:1:1: error: a key must be one word or text"),
        ("a: b\0c\n", "t.yml:1:5: error: the file holds a NUL byte"),
        ("<<: 1\n", "t.yml:1:5: error: `<<` merges maps"),
        ("a: 1\r\nb: 2\r\n", r#"{"a": 1<1>, "b": 2<2>}"#),
    ];
    for (text, expected) in table {
        assert_eq!(outline(text), expected, "{text:?}");
    }
}

/// Every scalar's place holds what the scalar says.
#[test]
fn spans_are_exact() {
    let text = "plain: abc\nsingle: 'it''s'\ndouble: \"a\\tb\"\nblock: |\n  one\n  two\nflow: [a, {b: c}]\nlast: x # note\n";
    let source = Source::new("t.yml", text);
    let node = parse_yaml(&source).expect("good");
    let map = node.map().expect("map");
    let slice = |key: &str| source.slice(map.get(key).expect(key).span);
    assert_eq!(slice("plain"), "abc");
    assert_eq!(slice("single"), "'it''s'");
    assert_eq!(slice("double"), "\"a\\tb\"");
    assert_eq!(slice("flow"), "[a, {b: c}]");
    assert_eq!(slice("last"), "x");
    assert!(slice("block").contains("one\n  two"), "{:?}", slice("block"));
    assert_eq!(source.slice(map.entry("flow").expect("flow").key.span), "flow");
}

/// Of a long text that is quoted the beginning is enough, in each part of what is said.
#[test]
fn what_is_quoted_is_cut() {
    let long = "foo:bar ".repeat(100_000);
    let source = Source::new("t.yml", long.as_str());
    let fault = doc::Diagnostic::error(format!("`{long}` is wrong"))
        .at(&source, doc::Span::new(0, 3))
        .label(format!("not `{long}`"))
        .also(&source, doc::Span::new(8, 11), format!("as `{long}`"))
        .help(format!("write `{long}`, or `é{}`", "é".repeat(300)))
        .note(long.clone());
    let beginning = long.chars().take(200).collect::<String>();
    assert_eq!(fault.message, format!("`{beginning}…` is wrong"));
    assert_eq!(fault.help, [format!("write `{beginning}…`, or `{}…`", "é".repeat(200))]);
    assert_eq!(fault.primary.as_ref().expect("a place").text, format!("not `{beginning}…`"));
    assert_eq!(fault.others[0].text, format!("as `{beginning}…`"));
    assert!(fault.notes[0].chars().count() == 4001, "{}", fault.notes[0].len());
    assert!(fault.render(Rendering::Plain).len() < 10_000);
}

/// The word `HERE` is found in the source from its place in the text, in every style.
#[test]
fn places_within_scalars() {
    let documents = [
        "a: x HERE y\n",
        "a: 'it''s HERE'\n",
        "a: \"\\tx\\u00e4\\\"HERE\"\n",
        "a: \"x \\\n   y HERE\"\n",
        "a: \"x\\ud83d\\ude00 HERE\"\n",
        "a: \"x \\\n   \\t HERE\"\n",
        "a: \"x\n   \\t HERE\"\n",
        "a: \"x  \r\n   \\  HERE\"\n",
        "a: \"x\n\n \n   \\n HERE\"\n",
        "a: \"x \\\n\n\n  \\t HERE\"\n",
        "a: |\n  one\n    two HERE\n",
        "a: |2-\n    one\n    two\n\n    HERE\n",
        "a: >-\n  one\n  two\n\n  three HERE\n  four\n",
        "a: > # why\n  one\n  HERE\n",
        "a: one\n  two\n  HERE\n",
        "a:\n  - 'one\n\n    ä HERE'\n",
        "- |\n one\n HERE\n",
        "a: |\r\n  one\r\n  HERE\r\n",
    ];
    for text in documents {
        let source = Source::new("t.yml", text);
        let node = parse_yaml(&source).expect(text);
        let mut found = 0;
        each_scalar(&node, &mut |node| {
            let scalar = node.scalar().expect("scalar");
            let Some(at) = scalar.text.find("HERE") else { return };
            let span = Locator::new(&source, node.span, scalar).locate(at, at + 4);
            assert_eq!(source.slice(span), "HERE", "{text:?} {span:?} {:?}", node.span);
            found += 1;
        });
        assert_eq!(found, 1, "{text:?}");
    }
}

fn each_scalar(node: &Node, visit: &mut dyn FnMut(&Node)) {
    match &node.kind {
        Kind::Scalar(_) => visit(node),
        Kind::Seq(items) => items.iter().for_each(|item| each_scalar(item, visit)),
        Kind::Map(map) => map.entries.iter().for_each(|entry| each_scalar(&entry.value, visit)),
    }
}

#[test]
fn bombs_are_refused() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..12 {
        let before = format!("*a{}, ", level - 1).repeat(10);
        text += &format!("a{level}: &a{level} [{}]\n", before.trim_end_matches(", "));
    }
    let message = outline(&text);
    assert!(message.contains("more than 100000 values, aliases written out"), "{message}");

    let long = format!("a: &a '{}'\nb: [{}]\n", "x".repeat(100_000), "*a, ".repeat(1000));
    assert!(outline(&long).contains("bytes of text"), "{}", outline(&long));

    let mut chain = "a0: &a0 [x]\n".to_owned();
    for level in 1..200 {
        chain += &format!("a{level}: &a{level} [*a{}]\n", level - 1);
    }
    assert!(outline(&chain).contains("more than 64 levels"), "{}", outline(&chain));
}

#[test]
fn depth_is_limited() {
    for text in ["[".repeat(100_000), "- ".repeat(100_000), "{a: ".repeat(100_000), "? ".repeat(50_000)] {
        let message = outline(&text);
        assert!(message.contains("error:"), "{}", &message[..message.len().min(200)]);
    }
    let good = format!("{}x{}", "[".repeat(60), "]".repeat(60));
    assert!(outline(&good).starts_with("[["), "{}", outline(&good));
}

#[test]
fn a_file_has_a_size() {
    let limits = Limits { bytes: 10, ..Limits::default() };
    let error = parse_yaml_with(&Source::new("t.yml", "a: 0123456789"), limits).expect_err("too large");
    assert_eq!(error.to_string(), "error: `t.yml` is larger than 10 bytes");
}

#[test]
fn toml_has_places_too() {
    let text = "name = \"x\"\nage = 1_000\n[table]\nlist = [1, 'a', {b = true}]\nday = 2026-01-02\n\n[[many]]\nx = 1.5\n[[many]]\nx = 2\n";
    let source = Source::new("t.toml", text);
    let node = parse_toml(&source).expect("good");
    assert_eq!(
        node.outline(),
        r#"{"name": "x", "age": 1000<1_000>, "table": {"list": [1<1>, "a", {"b": true}], "day": "2026-01-02"}, "many": [{"x": 1.5<1.5>}, {"x": 2<2>}]}"#
    );
    let table = node.map().and_then(|map| map.get("table")).and_then(Node::map).expect("table");
    assert_eq!(source.slice(table.entry("list").expect("list").key.span), "list");
    assert_eq!(source.slice(table.get("list").expect("list").seq().expect("seq")[1].span), "'a'");
    let error = parse_toml(&Source::new("t.toml", "a = 1\nb = \n")).expect_err("no value");
    assert!(error.to_string().starts_with("t.toml:2:"), "{error}");
    let twice = parse_toml(&Source::new("t.toml", "a = 1\na = 2\n")).expect_err("twice");
    assert!(twice.to_string().starts_with("t.toml:2:1: error: this is not TOML: duplicate key"), "{twice}");
}

#[test]
fn syntax_errors_look_like_this() {
    let texts =
        ["a: [1, 2\nb: 3\n", "a:\n\t- b\n", "name: a: b\n", "a: \"open\nb: c\n", "a: *nobody\n", "a: 'x\n"];
    let all: Vec<_> = texts
        .iter()
        .map(|text| {
            let error = parse_yaml(&Source::new("t.yml", *text)).expect_err(text);
            error.diagnostics[0].render(Rendering::Plain)
        })
        .collect();
    insta::assert_snapshot!(all.join("\n\n"));
}

#[test]
fn a_diagnostic_with_everything() {
    let source = Source::new("a.yml", "jobs:\n  build:\n    run-on: x\u{1b}[31m\n");
    let other = Source::new("b.yml", "x: 1\n");
    let diagnostic = doc::Diagnostic::error("a job has no key `run-on\u{7}`")
        .at(&source, doc::Span::new(20, 26))
        .label("unknown key")
        .also(&source, doc::Span::new(8, 13), "in this job")
        .also(&other, doc::Span::new(0, 1), "and here")
        .note("a note")
        .help("did you mean `runs-on`?");
    let plain = diagnostic.render(Rendering::Plain);
    assert!(!plain.contains(['\u{1b}', '\u{7}']), "{plain:?}");
    assert!(diagnostic.render(Rendering::Coloured).contains('\u{1b}'));
    insta::assert_snapshot!(plain);
}

/// What a document holds begins no row: editors read rows of `--> file:line:column` as places.
#[test]
fn a_document_writes_no_row_of_ours() {
    let forged = "k`\n --> /etc/passwd:1:1\nerror: pwned\u{202e}";
    let source = Source::new(format!("a.yml{forged}"), "x: 1\n");
    let diagnostic = doc::Diagnostic::error(format!("a step has no key `{forged}`"))
        .at(&source, doc::Span::new(0, 1))
        .label(forged)
        .note(forged)
        .help(forged);
    for text in [diagnostic.render(Rendering::Plain), diagnostic.to_string()] {
        let rows = text.lines().filter(|row| row.contains("-->") && !row.contains("a.yml"));
        assert!(rows.clone().all(|row| row.contains("k`\\n --> ")), "{text}");
        assert!(!text.lines().skip(1).any(|row| row.starts_with("error")), "{text}");
        assert!(!text.contains('\u{202e}'), "{text}");
    }
}

/// A line of a megabyte is shown around the place, which is named by its true column, and quickly.
#[test]
fn what_is_wrong_in_a_very_long_line() {
    let text = format!("a: 1\nb: {}\n", "word ".repeat(200_000));
    let source = Source::new("t.yml", text);
    let begun = std::time::Instant::now();
    let mut said = Vec::new();
    for at in 0..100 {
        let start = 500_008 + at * 5;
        let fault = doc::Diagnostic::error("no word")
            .at(&source, doc::Span::new(start, start + 4))
            .label("here")
            .also(&source, doc::Span::new(5, 6), "of this key")
            .help("remove it");
        said.push(fault.render(Rendering::Plain));
    }
    assert!(begun.elapsed().as_secs() < 20, "{:?}", begun.elapsed());
    assert!(said.iter().all(|said| said.len() < 2000), "{}", said[0].len());
    insta::assert_snapshot!(said[0]);
    let whole = doc::Diagnostic::error("all of it").at(&source, doc::Span::new(8, 1_000_000)).label("here");
    insta::assert_snapshot!(whole.render(Rendering::Plain).chars().take(1000).collect::<String>());
}
