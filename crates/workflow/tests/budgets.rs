//! Large and hostile expressions: each ends in bounded time, with an error that says why.

use std::time::{Duration, Instant};

use workflow::{ContextName, Contexts, Eval, Site, Value, number_text, parse_expr, parse_template};

/// Far more than any of these takes, also on a busy machine; a quadratic one would take minutes.
const LONG: Duration = Duration::from_secs(20);

#[track_caller]
fn said(text: &str, contexts: &Contexts) -> String {
    let begun = Instant::now();
    let said = match parse_expr(text, Site::Step) {
        Err(faults) => faults[0].to_string(),
        Ok(expr) => match expr.eval(contexts) {
            Ok(Eval::Value(Value::Number(number))) => number_text(number),
            Ok(Eval::Value(value)) => value.to_text().chars().take(80).collect(),
            Ok(Eval::Need(query)) => format!("{query:?}"),
            Err(error) => error.to_string(),
        },
    };
    assert!(begun.elapsed() < LONG, "{:?} for {} bytes", begun.elapsed(), text.len());
    said
}

const TEN_MB: usize = 10 << 20;

#[test]
fn ten_megabytes_of_anything() {
    let contexts = Contexts::new();
    for part in
        ["a.", "(", "[", "!", "'", "''", "a.a[", "1 == ", "format(", "&&", "9", "x", " ", "\n", "ä", "\0"]
    {
        let text = part.repeat(TEN_MB / part.len());
        let found = said(&text, &contexts);
        assert!(
            found.contains("an expression of") && found.ends_with("bytes, at most 65536"),
            "{part:?}: {found}"
        );
        if !["a.", "'", "''"].contains(&part) {
            continue;
        }
        // within a workflow's text, where `${{` and quotes are looked for first
        let begun = Instant::now();
        let open = parse_template(&format!("${{{{ {text}"), Site::Step);
        assert!(open.is_err(), "{part:?}");
        assert!(parse_template(&format!("${{{{ {text} }}}}"), Site::Step).is_err(), "{part:?}");
        assert!(begun.elapsed() < LONG, "{part:?}: {:?}", begun.elapsed());
    }
}

#[test]
fn as_long_as_it_may_be() {
    let contexts = Contexts::new();
    let most = 65_536;
    let row = |part: &str| part.repeat(most / part.len());
    for (text, expected) in [
        (row("("), "expression:1:101: error: the expression is nested deeper than 100 levels"),
        (row("!"), "expression:1:101: error: the expression is nested deeper than 100 levels"),
        (row("["), "expression:1:1: error: `[` is unexpected in this expression"),
        (row("github["), "expression:1:701: error: the expression is nested deeper than 100 levels"),
        (row("toJSON("), "expression:1:701: error: the expression is nested deeper than 100 levels"),
        (row("1=="), "expression:1:1: error: more than 500 comparisons in one expression"),
        (row("'"), &"'".repeat(80)),
        (row("."), "expression:1:1: error: `.` is unexpected in this expression"),
        (row("x,"), "expression:1:1: error: there is no context `x`"),
        (format!("github{}", ".a".repeat(30_000)), ""),
        (format!("github{}", ".*".repeat(30_000)), "Array"),
        (format!("github{}", "['a']".repeat(10_000)), ""),
        (format!("{}1", "0 || ".repeat(13_000)), "1"),
        (format!("{}1", "1 && ".repeat(13_000)), "1"),
        (row("9"), "Infinity"),
        (format!("0x{}", "f".repeat(60_000)), "Infinity"),
        (format!("1e{}", "9".repeat(60_000)), "Infinity"),
        (
            format!("format('{{{}}}', 1)", "9".repeat(60_000)),
            "`format` has no argument 99999999999999999999: there are 1, counted from 0",
        ),
        (format!("format('{}')", "{{".repeat(30_000)), &"{".repeat(80)),
        (format!("join(fromJSON('[{}1]'), '')", "1,".repeat(30_000)), &"1".repeat(80)),
        (
            format!("fromJSON('{}')", "[".repeat(60_000)),
            "`fromJSON` was given JSON that is nested deeper than 100 levels",
        ),
        (
            format!("fromJSON('{}')", "{\"a\":".repeat(10_000)),
            "`fromJSON` was given JSON that is nested deeper than 100 levels",
        ),
    ] {
        let found = said(&text, &contexts);
        assert_eq!(found, expected, "{}…", text.chars().take(30).collect::<String>());
    }
    // the printed form of the deepest that is good parses again
    let deep = format!("{}1{}", "toJSON(".repeat(90), ")".repeat(90));
    let expr = parse_expr(&deep, Site::Step).expect("good");
    assert_eq!(expr.to_string(), format!("{}1{}", "toJSON(".repeat(90), ")".repeat(90)));
}

#[test]
fn values_that_grow() {
    let mut contexts = Contexts::new();
    let list = |count: usize| -> Value { (0..count).map(|_| Value::from("x")).collect::<Vec<_>>().into() };
    let text: Value = "x".repeat(9 << 20).into();
    let json = format!("[{}1]", "1,".repeat(1_000_000));
    let ones: Value = (0..900_000).map(|_| Value::Number(1.0)).collect::<Vec<_>>().into();
    let parts: Value = (0..900_000).map(|at| Value::Number(f64::from(at) + 0.1)).collect::<Vec<_>>().into();
    let object: workflow::Object =
        [("text", text), ("list", list(500_000)), ("json", json.into()), ("ones", ones), ("parts", parts)]
            .into_iter()
            .collect();
    contexts.set(ContextName::Github, object);
    let too_large = "the result is larger than 10485760 bytes";
    let too_much = "the evaluation makes or looks at more than 268435456 bytes";
    let many = |part: &str| vec![part; 1000].join(" || ");
    for (text, expected) in [
        ("format('{0}{0}', github.text)".to_owned(), too_large),
        ("join(github.list, github.text)".to_owned(), too_large),
        ("join(github.list, 'xxxxxxxxxxxxxxxxxxxxxxxxxxxx')".to_owned(), too_large),
        ("toJSON(github)".to_owned(), too_large),
        ("toJSON(github.ones)".to_owned(), &format!("[{}", "\n  1,".repeat(16))[..80]),
        ("join(github.ones, '')".to_owned(), &"1".repeat(80)),
        ("toJSON(github.parts)".to_owned(), too_large),
        (
            "join(github.parts)".to_owned(),
            &"0.1,1.1,2.1,3.1,4.1,5.1,6.1,7.1,8.1,9.1,10.1,11.1,12.1,13.1,14.1,15.1,16.1,17.1,"[..80],
        ),
        (many("!toJSON(github.ones)"), too_much),
        ("fromJSON(github.json)".to_owned(), "`fromJSON` was given JSON with more than 1000000 values"),
        (many("contains(github.text, 'y')"), too_much),
        (many("startsWith(github.text, 'y')"), too_much),
        (many("contains(github.list, 'y')"), too_much),
        (many("!format('{0}', github.text)"), too_much),
        (vec!["!github.list.*.x"; 1000].join(" || "), too_much),
        (vec!["github.text == format('{0}y', github.text)"; 400].join(" || "), too_much),
    ] {
        assert_eq!(said(&text, &contexts), expected, "{}…", text.chars().take(60).collect::<String>());
    }
    // all expressions of one text share what they may look at
    let template =
        parse_template(&"${{ endsWith(github.text, 'y') }}".repeat(1000), Site::Step).expect("good");
    assert_eq!(template.eval(&contexts).expect_err("too much").to_string(), too_much);
}
