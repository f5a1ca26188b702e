//! Expressions: conversions, operators, functions, filters, errors.

#[path = "expressions/rows.rs"]
mod rows;

use proptest::prelude::*;
use workflow::{ContextName, Contexts, Eval, Query, Site, Status, Value, number_text, parse_expr};

fn contexts() -> Contexts {
    let github = serde_json::json!({
        "ref": "refs/heads/main",
        "Event": {"number": 7, "labels": [{"name": "bug", "id": 1}, {"name": "UI"}, {"id": 3}], "draft": false},
        "nothing": null,
        "list": [1, "two", [3, 4]],
        "nested": {"a": {"x": [1, 2]}, "b": {"x": [3]}},
    });
    let mut contexts = Contexts::new();
    contexts.set(ContextName::Github, Value::from_json(&github));
    contexts.set(ContextName::Env, Value::from_json(&serde_json::json!({"NAME": "ampoule", "EMPTY": ""})));
    contexts
}

/// The value as JSON, or the error's message.
fn eval_in(text: &str, contexts: &Contexts) -> String {
    match parse_expr(text, Site::StepIf) {
        Err(faults) => faults[0].to_string(),
        Ok(expr) => match expr.eval(contexts) {
            Ok(Eval::Value(value)) => match &value {
                Value::Number(number) => number_text(*number),
                value => value.to_json().to_string(),
            },
            Ok(Eval::Need(query)) => format!("{query:?}"),
            Err(error) => error.to_string(),
        },
    }
}

#[track_caller]
fn table(rows: &[(&str, &str)]) {
    let contexts = contexts();
    let wrong = rows.iter().filter_map(|(text, expected)| {
        let found = eval_in(text, &contexts);
        (found != *expected).then(|| format!("{text}\n  wanted {expected}\n  found  {found}"))
    });
    let wrong: Vec<_> = wrong.collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn literals() {
    table(&[
        ("null", "null"),
        ("true", "true"),
        ("false", "false"),
        ("42", "42"),
        ("-3.50", "-3.5"),
        (".5", "0.5"),
        ("1e3", "1000"),
        ("0x1F", "31"),
        ("0o17", "15"),
        ("NaN", "NaN"),
        ("Infinity", "Infinity"),
        ("-Infinity", "-Infinity"),
        ("'it''s'", "\"it's\""),
        ("''", "\"\""),
        ("'a }} b'", "\"a }} b\""),
    ]);
}

#[test]
fn numbers_print_with_15_digits() {
    for (number, text) in [
        (0.0, "0"),
        (-0.0, "0"),
        (0.1 + 0.2, "0.3"),
        (1.0 / 3.0, "0.333333333333333"),
        (123_456_789_012_345.0, "123456789012345"),
        (1_234_567_890_123_456.0, "1.23456789012346E+15"),
        (1e15, "1E+15"),
        (1e21, "1E+21"),
        (1e-4, "0.0001"),
        (1e-5, "1E-05"),
        (-1.5e300, "-1.5E+300"),
        (100.0, "100"),
        (3.10, "3.1"),
        (999_999_999_999_999.9, "1E+15"),
    ] {
        assert_eq!(number_text(number), text);
    }
}

#[test]
fn operators() {
    table(&[
        // precedence
        ("true || false && false", "true"),
        ("(true || false) && false", "false"),
        ("!true || true", "true"),
        ("!(true || true)", "false"),
        ("1 < 2 == true", "true"),
        ("1 == 1 == true", "true"),
        ("!!'x'", "true"),
        // operands come back
        ("'' || 'b'", "\"b\""),
        ("'a' && 'b'", "\"b\""),
        ("0 && 'b'", "0"),
        ("null || 0 || ''", "\"\""),
        ("github.ref == 'refs/heads/main' && 'yes' || 'no'", "\"yes\""),
        // text without case
        ("'ABC' == 'abc'", "true"),
        ("'ä' == 'Ä'", "true"),
        ("'ABC' != 'abd'", "true"),
        ("'a' < 'B'", "true"),
        ("'B' > 'a'", "true"),
        ("'10' < '9'", "true"),
        ("'a' <= 'A'", "true"),
        // mixed kinds become numbers
        ("'' == 0", "true"),
        ("null == 0", "true"),
        ("null == ''", "true"),
        ("null == false", "true"),
        ("true == 1", "true"),
        ("true == '1'", "true"),
        ("true == 'true'", "false"),
        ("'0x10' == 16", "true"),
        ("'0o10' == 8", "true"),
        ("' 5 ' == 5", "true"),
        ("'1e2' == 100", "true"),
        ("'abc' == 0", "false"),
        ("'abc' != 0", "true"),
        ("NaN == NaN", "false"),
        ("'inf' == Infinity", "false"),
        ("'Infinity' == Infinity", "true"),
        ("null < 1", "true"),
        ("null <= null", "true"),
        ("null < null", "false"),
        ("false < true", "true"),
        ("'a' < 1", "false"),
        ("'a' >= 1", "false"),
        ("'2' > 1", "true"),
        // lists and objects
        ("github.list == github.list", "true"),
        ("fromJSON('[1]') == fromJSON('[1]')", "false"),
        ("github.list == 1", "false"),
        ("!github.list", "false"),
        ("github.list > 1", "false"),
    ]);
}

#[test]
fn properties_and_filters() {
    table(&[
        ("github.ref", "\"refs/heads/main\""),
        ("GITHUB.REF", "\"refs/heads/main\""),
        ("forgejo.ref", "\"refs/heads/main\""),
        ("gitea['ref']", "\"refs/heads/main\""),
        ("github.event.number", "7"),
        ("github['EVENT']['Number']", "7"),
        ("github.nowhere", "null"),
        ("github.nowhere.at.all", "null"),
        ("github.ref.x", "null"),
        ("github.list[1]", "\"two\""),
        ("github.list['1']", "\"two\""),
        ("github.list[1.9]", "\"two\""),
        ("github.list[-1]", "null"),
        ("github.list[9]", "null"),
        ("github.list['x']", "null"),
        ("github.list[2][0]", "3"),
        ("github[github.nothing]", "null"),
        ("env.NAME", "\"ampoule\""),
        ("env[format('{0}', 'NAME')]", "\"ampoule\""),
        ("github.event.labels.*.name", "[\"bug\",\"UI\"]"),
        ("github.event.labels[*].name", "[\"bug\",\"UI\"]"),
        ("github.event.labels.*.nowhere", "[]"),
        ("github.nested.*.x", "[[1,2],[3]]"),
        ("github.nested.*.x.*", "[1,2,3]"),
        ("github.nested.*.x[0]", "[1,3]"),
        ("github.nested.*.x[1]", "[2]"),
        ("github.ref.*", "[]"),
        ("contains(github.event.labels.*.name, 'ui')", "true"),
        ("steps.x.outputs.true", "null"),
    ]);
}

#[test]
fn functions() {
    table(&[
        ("contains('Hello', 'ELL')", "true"),
        ("contains('Hello', '')", "true"),
        ("contains(123, 2)", "true"),
        ("contains(fromJSON('[\"a\", 1]'), '1')", "true"),
        ("contains(fromJSON('[\"Push\"]'), 'push')", "true"),
        ("contains(github.event, 'x')", "false"),
        ("contains('x', github.event)", "false"),
        ("startsWith('Hello', 'he')", "true"),
        ("startsWith(null, '')", "true"),
        ("startsWith(123, 1)", "true"),
        ("endsWith('Hello', 'LO')", "true"),
        ("endsWith(github.list, '')", "false"),
        ("format('a{0}b{1}', 1, 'x')", "\"a1bx\""),
        ("format('{{{0}}}', true)", "\"{true}\""),
        ("format('{1}{0}{1}', 'a', null)", "\"a\""),
        ("format('{{0}}', 1)", "\"{0}\""),
        ("format('{0}', github.list)", "\"Array\""),
        ("format('{2}', 1)", "`format` has no argument 2: there are 1, counted from 0"),
        ("format('{0', 1)", "`format` has a single brace at character 1: write `{{` or `}}` for a brace"),
        ("format('a}', 1)", "`format` has a single brace at character 2: write `{{` or `}}` for a brace"),
        ("format('{x}', 1)", "`format` has a single brace at character 1: write `{{` or `}}` for a brace"),
        ("join(fromJSON('[1, \"b\", null, true]'))", "\"1,b,,true\""),
        ("join(github.event.labels.*.name, ' + ')", "\"bug + UI\""),
        ("join('x', '-')", "\"x\""),
        ("join(github.event, '-')", "\"\""),
        ("toJSON('a\"b')", "\"\\\"a\\\\\\\"b\\\"\""),
        (
            "toJSON(fromJSON('{\"a\": [1, 2.50, {}], \"b\": []}'))",
            r#""{\n  \"a\": [\n    1,\n    2.5,\n    {}\n  ],\n  \"b\": []\n}""#,
        ),
        ("toJSON(null)", "\"null\""),
        ("fromJSON('{\"a\": {\"B\": 1}}').A.b", "1"),
        ("fromJSON('true')", "true"),
        ("fromJSON('[1,')", "`fromJSON` was given text that is not JSON (line 1, column 3)"),
        ("fromJSON('')", "`fromJSON` was given text that is not JSON (line 1, column 0)"),
        ("case(false, 1, true, 2, 3)", "2"),
        ("case(false, 1, false, 2, 3)", "3"),
        ("case(true, 'x', fromJSON('{'))", "\"x\""),
        ("case('yes', 1, 2)", "condition 1 of `case` is text, not a boolean"),
        ("always()", "true"),
        ("success()", "true"),
        ("failure()", "false"),
        ("cancelled()", "false"),
        ("SUCCESS()", "true"),
        ("hashFiles('**/Cargo.lock', 'x')", r#"HashFiles(["**/Cargo.lock", "x"])"#),
        ("false && hashFiles('x')", "false"),
    ]);
}

#[test]
fn errors_name_places() {
    table(&[
        ("github.ref = 'x'", "expression:1:12: error: `=` does not belong in an expression"),
        ("env.A == \"x\"", "expression:1:10: error: `\"` does not belong in an expression"),
        ("'open", "expression:1:1: error: text that is not closed"),
        ("a + b", "expression:1:3: error: `+` is no operator of expressions"),
        ("1abc", "expression:1:1: error: `1abc` is not a number"),
        ("envv.A", "expression:1:1: error: there is no context `envv`"),
        ("matrx.os", "expression:1:1: error: there is no context `matrx`"),
        ("contain('a', 'b')", "expression:1:1: error: there is no function `contain`"),
        ("contains('a')", "expression:1:1: error: `contains` takes 2 arguments"),
        (
            "case(true, 1)",
            "expression:1:1: error: `case` takes pairs of condition and value, and a last value",
        ),
        ("success(1)", "expression:1:1: error: `success` takes no arguments"),
        ("success", "expression:1:1: error: there is no context `success`"),
        ("(1", "expression:1:2: error: the expression ends too early"),
        ("1 2", "expression:1:3: error: a number is unexpected in this expression"),
        ("github.", "expression:1:7: error: the expression ends too early"),
        ("github..x", "expression:1:8: error: `.` is unexpected in this expression"),
        ("", "expression:1:1: error: an expression is missing"),
        ("&& 1", "expression:1:1: error: `&&` is unexpected in this expression"),
        ("${{ x }}", "expression:1:1: error: `$` does not belong in an expression"),
    ]);
}

#[test]
fn budgets() {
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    for text in [deep.as_str(), &"!".repeat(60_000), &"[".repeat(1000), &"format(".repeat(100)] {
        let message = parse_expr(text, Site::Step).expect_err("too deep")[0].to_string();
        assert!(message.contains("error:"), "{message}");
    }
    assert!(
        parse_expr(&"a".repeat(100_000), Site::Step).expect_err("long")[0].to_string().contains("at most")
    );
    // Long chains are flat and fine; comparisons have a budget.
    let chain = vec!["true"; 5000].join(" && ");
    assert_eq!(eval_in(&chain, &contexts()), "true");
    let path = format!("github{}", ".x".repeat(10_000));
    assert_eq!(eval_in(&path, &contexts()), "null");
    assert!(parse_expr(&vec!["1"; 600].join(" == "), Site::Step).is_err());
    // A result that doubles with every level ends at the budget.
    let mut bomb = format!("'{}'", "x".repeat(1000));
    for _ in 0..20 {
        bomb = format!("format('{{0}}{{0}}{{0}}{{0}}', {bomb})");
    }
    assert_eq!(eval_in(&bomb, &contexts()), "the result is larger than 10485760 bytes");
}

#[test]
fn a_question_is_answered() {
    let mut contexts = contexts();
    let text = "format('linux-{0}', hashFiles('a'))";
    assert_eq!(eval_in(text, &contexts), r#"HashFiles(["a"])"#);
    contexts.answer(Query::HashFiles(vec!["a".to_owned()]), "abc".to_owned());
    assert_eq!(eval_in(text, &contexts), "\"linux-abc\"");
    contexts.forget_answers();
    assert_eq!(eval_in(text, &contexts), r#"HashFiles(["a"])"#);
}

#[test]
fn status() {
    let mut contexts = contexts();
    contexts.set_status(Status::FAILURE);
    assert_eq!(eval_in("success()", &contexts), "false");
    assert_eq!(eval_in("failure()", &contexts), "true");
    contexts.set_status(Status::CANCELLED);
    assert_eq!(eval_in("failure() || cancelled()", &contexts), "true");
}

#[test]
fn every_site_has_its_table() {
    let table: Vec<_> = Site::ALL
        .iter()
        .map(|site| {
            let names: Vec<_> = site.contexts().iter().map(|context| context.name()).collect();
            let status = if site.has_status() { ", status functions" } else { "" };
            let files = if site.has_files() { ", hashFiles" } else { "" };
            format!("{}: {}{status}{files}", site.name(), names.join(" "))
        })
        .collect();
    insta::assert_snapshot!(table.join("\n"));
}

#[test]
fn nothing_prints_a_secret() {
    let mut contexts = Contexts::new();
    contexts.set(ContextName::Secrets, Value::from_json(&serde_json::json!({"TOKEN": "hunter2"})));
    let value = contexts.get(ContextName::Secrets);
    for shown in [format!("{contexts:?}"), format!("{value:?}"), format!("{:?}", value.get("token"))] {
        assert!(!shown.contains("hunter2"), "{shown}");
    }
    let expr = parse_expr("fromJSON(secrets.TOKEN)", Site::Step).expect("good");
    let error = expr.eval(&contexts).expect_err("not JSON");
    assert!(!error.to_string().contains("hunter2") && !format!("{error:?}").contains("hunter2"), "{error:?}");
}

/// Text of random expressions, by the grammar.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        any::<f64>().prop_filter("a number", |number| number.is_finite()).prop_map(number_text),
        "'([a-z ä{}]|''){0,6}'",
        Just("github".to_owned()),
        Just("success()".to_owned()),
    ];
    leaf.prop_recursive(5, 40, 4, |inner| {
        prop_oneof![
            (inner.clone(), "\\.[a-z_][a-z0-9_-]{0,3}|\\.\\*").prop_map(|(a, b)| format!("({a}){b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a})[{b}]")),
            inner.clone().prop_map(|a| format!("!{a}")),
            inner.clone().prop_map(|a| format!("({a})")),
            (inner.clone(), "&&|\\|\\||==|!=|<|<=|>|>=", inner.clone())
                .prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("contains({a}, {b})")),
            (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(a, b, c)| format!("case({a}, {b}, {c})")),
            proptest::collection::vec(inner, 1..4).prop_map(|args| format!("format({})", args.join(", "))),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    /// What is printed parses to what prints the same and has the same value.
    #[test]
    fn print_then_parse(text in expression()) {
        let Ok(expr) = parse_expr(&text, Site::StepIf) else { return Err(TestCaseError::fail(text)) };
        let printed = expr.to_string();
        let again = parse_expr(&printed, Site::StepIf)
            .map_err(|faults| TestCaseError::fail(format!("{text} → {printed}: {}", faults[0])))?;
        prop_assert_eq!(&again.to_string(), &printed);
        let contexts = contexts();
        prop_assert_eq!(eval_in(&text, &contexts), eval_in(&printed, &contexts));
    }

    #[test]
    fn random_text_never_panics(text in "([a-z0-9.'()\\[\\]!=<>&|,* -]|github|format\\(|'\\{0\\}'|ä|\\$\\{\\{|\\}\\}){0,40}") {
        workflow::fuzz_targets::expression(text.as_bytes());
        workflow::fuzz_targets::template(format!("- \"{text}\"\n- |\n  ${{{{ {text} }}}}\n").as_bytes());
    }
}
