//! Matrices: product, `exclude`, `include`, expressions in them, names. One row is one matrix.

use std::sync::Arc;

use doc::Source;
use proptest::prelude::*;
use workflow::{ContextName, Contexts, Plan, Results, RunState, Surroundings, Value, parse};

fn contexts() -> Contexts {
    let mut contexts = Contexts::new();
    let github = serde_json::json!({"ref": "main", "n": 2, "on": true, "nothing": null});
    let vars = serde_json::json!({
        "LIST": "[\"p\", \"q\"]",
        "MAPS": "[{\"a\": 3, \"b\": \"z\"}, {\"c\": 1}]",
        "MATRIX": "{\"a\": [1, 2], \"include\": [{\"a\": 2, \"x\": \"y\"}], \"exclude\": [{\"a\": 1}]}",
        "MAP": "{\"k\": 1, \"l\": [2]}",
    });
    contexts.set(ContextName::Github, Value::from_json(&github));
    contexts.set(ContextName::Vars, Value::from_json(&vars));
    contexts
}

/// Names of the jobs and their matrix, or the first fault.
fn expanded(matrix: &str) -> Result<Vec<(String, Value)>, String> {
    let text = format!(
        "on: push\njobs:\n  j:\n    runs-on: x\n    steps: [{{run: a}}]\n    strategy:\n      matrix:\n        {}\n",
        matrix.replace('\n', "\n        ")
    );
    let first = |faults: Vec<doc::Diagnostic>| faults[0].to_string();
    let (workflow, _) = parse(&Source::new("t.yml", text)).into_result().map_err(first)?;
    let plan = Plan::new(Arc::new(workflow)).map_err(first)?;
    let (results, contexts) = (Results::new(), contexts());
    let around =
        Surroundings { results: &results, contexts: &contexts, run: RunState::Running, filters: &[] };
    let expansion = plan.expand("j", around).map_err(first)?;
    Ok(expansion.jobs.into_iter().map(|job| (job.name, job.matrix)).collect())
}

/// The cells in short: `a=1 b=x | a=2 b=y`.
fn cells(matrix: &str) -> String {
    match expanded(matrix) {
        Ok(jobs) => jobs.iter().map(|(_, cell)| short(cell)).collect::<Vec<_>>().join(" | "),
        Err(fault) => fault.split_once("error: ").map_or(fault.clone(), |(_, text)| text.to_owned()),
    }
}

fn short(cell: &Value) -> String {
    let Value::Object(cell) = cell else { return cell.to_json().to_string() };
    let text = |value: &Value| match value {
        Value::String(text) if text.is_empty() || text.parse::<f64>().is_ok() => format!("'{text}'"),
        Value::String(text) => text.to_string(),
        other => other.to_json().to_string(),
    };
    cell.iter().map(|(name, value)| format!("{name}={}", text(value))).collect::<Vec<_>>().join(" ")
}

#[track_caller]
fn table(rows: &[(&str, &str)]) {
    for (matrix, expected) in rows {
        assert_eq!(cells(matrix), *expected, "{matrix}");
    }
}

/// Whatever is written, a matrix takes bounded time and memory.
#[test]
fn how_wide_a_matrix_may_be() {
    let names = |name: &str, count: usize, value: &str| {
        (0..count).map(|at| format!("{name}{at}: {value}")).collect::<Vec<_>>()
    };
    let too_wide = "a job of the matrix has more than 100 variables";
    assert_eq!(expanded(&names("a", 100, "[1]").join("\n")).map(|jobs| jobs.len()), Ok(1));
    assert_eq!(cells(&names("a", 101, "[1]").join("\n")), too_wide);
    let include = |count: usize, parts: usize| {
        let entries = (0..parts)
            .map(|part| format!("  - {{{}}}\n", names(&format!("k{part}_"), count, "1").join(", ")));
        format!("a: [1, 2]\ninclude:\n{}", entries.collect::<String>())
    };
    assert_eq!(expanded(&include(33, 3)).map(|jobs| jobs.len()), Ok(2));
    assert_eq!(cells(&include(33, 4)), too_wide, "what is added one after the other");
    assert_eq!(cells(&include(101, 1)), too_wide);
    let values = (0..128).map(|at| at.to_string()).collect::<Vec<_>>().join(", ");
    let axes = format!("x: [{values}]\ny: [{values}]\n{}", names("a", 98, "[1]").join("\n"));
    let exclude = format!("\n  - {{{}, x: 0}}", names("a", 98, "1").join(", ")).repeat(10);
    assert_eq!(
        cells(&format!("{axes}\nexclude:{exclude}")),
        "`include` and `exclude` name too much for a matrix of this size"
    );
}

#[test]
fn products() {
    table(&[
        ("a: [1]", "a=1"),
        ("a: [1, 2, 3]", "a=1 | a=2 | a=3"),
        ("a: [1, 2]\nb: [x, y]", "a=1 b=x | a=1 b=y | a=2 b=x | a=2 b=y"),
        ("b: [x, y]\na: [1, 2]", "b=x a=1 | b=x a=2 | b=y a=1 | b=y a=2"),
        ("a: [1]\nb: [2]\nc: [3]\nd: [4, 5]", "a=1 b=2 c=3 d=4 | a=1 b=2 c=3 d=5"),
        ("a: [1, 1]", "a=1 | a=1"),
        ("a:\n  - 1\n  - 2", "a=1 | a=2"),
        ("a-b: [1]\n_c: [2]", "a-b=1 _c=2"),
        ("A: [1]\nb: [2]", "A=1 b=2"),
        ("a: []", "`a` of the matrix is empty"),
        ("a: 1", "`a` of a matrix is a list"),
        ("a: x", "`a` of a matrix is a list"),
        ("a: {b: [1]}", "`a` of a matrix is a list"),
        ("{}", "the matrix is empty"),
    ]);
}

#[test]
fn values_keep_their_kind() {
    table(&[
        ("v: [3.10]", "v=3.1"),
        ("v: ['3.10']", "v='3.10'"),
        ("v: [1.0, 1]", "v=1 | v=1"),
        ("v: [0x10, 0o17]", "v=16 | v=15"),
        ("v: [1e3]", "v=1000"),
        ("v: [-0]", "v=0"),
        ("v: [true, false]", "v=true | v=false"),
        ("v: ['true']", "v=true"),
        ("v: [yes, on, no]", "v=yes | v=on | v=no"),
        ("v: [null]", "v=null"),
        ("v: [~]", "v=null"),
        ("v: ['']", "v=''"),
        ("v: [[1, 2], [3]]", "v=[1,2] | v=[3]"),
        ("v: [{a: 1}, {a: 2, b: [x]}]", "v={\"a\":1} | v={\"a\":2,\"b\":[\"x\"]}"),
        ("v: [[], {}]", "v=[] | v={}"),
        ("v: [2024-01-02]", "v=2024-01-02"),
        ("v: [1_000]", "v=1_000"),
        ("v: [.5]", "v=0.5"),
        ("v: ['a b', \"c\\td\"]", "v=a b | v=c\td"),
    ]);
}

#[test]
fn exclusions() {
    table(&[
        ("a: [1, 2]\nexclude: [{a: 1}]", "a=2"),
        ("a: [1, 2]\nexclude: [{a: '1'}]", "a=2"),
        ("a: ['1', 2]\nexclude: [{a: 1}]", "a=2"),
        ("a: [X, y]\nexclude: [{a: x}]", "a=y"),
        ("a: [1, 2]\nexclude: [{A: 1}]", "a=2"),
        ("a: [1, 2]\nexclude: [{a: 3}]", "a=1 | a=2"),
        ("a: [1, 2]\nexclude: []", "a=1 | a=2"),
        ("a: [1, 2]\nexclude:", "`exclude` of a matrix is a list"),
        ("a: [1, 2]\nexclude: [{}]", "a=1 | a=2"),
        ("a: [1, 2]\nb: [x, y]\nexclude: [{a: 1}]", "a=2 b=x | a=2 b=y"),
        ("a: [1, 2]\nb: [x, y]\nexclude: [{a: 1, b: x}]", "a=1 b=y | a=2 b=x | a=2 b=y"),
        ("a: [1, 2]\nb: [x, y]\nexclude: [{a: 1}, {b: x}]", "a=2 b=y"),
        ("a: [1, 2]\nb: [x, y]\nexclude: [{a: 1, b: x}, {a: 1, b: x}]", "a=1 b=y | a=2 b=x | a=2 b=y"),
        ("a: [1]\nexclude: [{a: 1}]", "the matrix has no jobs"),
        ("a: [1, 2]\nexclude: [{a: 1}, {a: 2}]", "the matrix has no jobs"),
        ("a: [1, 2]\nexclude: [{c: 1}]", "`exclude` names `c`, which the matrix does not have"),
        ("os: [u, v]\nexclude: [{os: u, sp: 1}]", "`exclude` names `sp`, which the matrix does not have"),
        ("include: [{a: 1}]\nexclude: [{a: 1}]", "`exclude` names `a`, which the matrix does not have"),
        (
            "a: [1]\ninclude: [{b: 2}]\nexclude: [{b: 2}]",
            "`exclude` names `b`, which the matrix does not have",
        ),
        ("o: [{a: 1, b: 2}, {a: 2}]\nexclude: [{o: {a: 1}}]", "o={\"a\":2}"),
        ("o: [{a: 1, b: 2}, {a: 1, b: 3}]\nexclude: [{o: {a: 1, b: 3}}]", "o={\"a\":1,\"b\":2}"),
        ("o: [{a: {b: 1, c: 2}}, {a: 2}]\nexclude: [{o: {a: {b: 1}}}]", "o={\"a\":2}"),
        ("o: [{a: 1}, x]\nexclude: [{o: x}]", "o={\"a\":1}"),
        ("l: [[1, 2], [1]]\nexclude: [{l: [1]}]", "l=[1,2]"),
        ("l: [[1, 2], [1]]\nexclude: [{l: 1}]", "l=[1,2] | l=[1]"),
        ("a: [true, false]\nexclude: [{a: true}]", "a=false"),
        ("a: [null, 1]\nexclude: [{a: null}]", "a=1"),
        ("a: [1.0, 2]\nexclude: [{a: 1}]", "a=2"),
        ("a: [1, 2]\nexclude: {a: 1}", "`exclude` of a matrix is a list"),
        ("a: [1, 2]\nexclude: [1]", "`exclude` is a list of maps"),
        ("a: [1, 2]\nexclude: [{a: '${{ github.n }}'}]", "a=1"),
        ("a: [1, 2, 3]\nexclude: ${{ fromJSON('[{\"a\":1},{\"a\":3}]') }}", "a=2"),
        (
            "a: [1, 2]\nexclude: ${{ fromJSON('[{\"z\":1}]') }}",
            "`exclude` names `z`, which the matrix does not have",
        ),
        ("a: [1, 2]\nexclude: ${{ fromJSON('{}') }}", "`exclude` is a list of maps, this is an object"),
        ("a: [1, 2]\nexclude: ${{ fromJSON('[1]') }}", "`exclude` is a list of maps, this holds a number"),
        ("a: [1, 2]\nexclude: ${{ github.nothing }}", "a=1 | a=2"),
        // exclusions come before inclusions: what is excluded can be added again
        ("a: [1, 2]\nexclude: [{a: 1}]\ninclude: [{a: 1}]", "a=2 | a=1"),
        ("a: [1]\nexclude: [{a: 1}]\ninclude: [{b: 1}]", "b=1"),
    ]);
}

#[test]
fn inclusions() {
    table(&[
        ("include: [{a: 1}, {b: 2}]", "a=1 | b=2"),
        ("include: [{a: 1, b: 2}]", "a=1 b=2"),
        ("include: []", "the matrix has no jobs"),
        ("a: [1, 2]\ninclude: []", "a=1 | a=2"),
        ("a: [1, 2]\ninclude:", "`include` of a matrix is a list"),
        // an entry that names no axis is added to all
        ("a: [1, 2]\ninclude: [{x: y}]", "a=1 x=y | a=2 x=y"),
        ("a: [1, 2]\ninclude: [{x: y}, {x: z}]", "a=1 x=z | a=2 x=z"),
        ("a: [1, 2]\ninclude: [{x: y}, {z: 1}]", "a=1 x=y z=1 | a=2 x=y z=1"),
        // one that agrees with an axis is added there
        ("a: [1, 2]\ninclude: [{a: 1, x: y}]", "a=1 x=y | a=2"),
        ("a: [1, 2]\ninclude: [{a: '1', x: y}]", "a=1 x=y | a=2"),
        ("a: [1, 2]\ninclude: [{A: 1, x: y}]", "a=1 x=y | a=2"),
        ("a: [P, q]\ninclude: [{a: p, x: y}]", "a=P x=y | a=q"),
        ("a: [1, 2]\ninclude: [{a: 1}]", "a=1 | a=2"),
        ("a: [1, 2]\nb: [x, y]\ninclude: [{a: 1, c: 3}]", "a=1 b=x c=3 | a=1 b=y c=3 | a=2 b=x | a=2 b=y"),
        ("a: [1, 2]\nb: [x, y]\ninclude: [{a: 1, b: y, c: 3}]", "a=1 b=x | a=1 b=y c=3 | a=2 b=x | a=2 b=y"),
        // one that agrees with no job is a job of its own, to which nothing is added
        ("a: [1]\ninclude: [{a: 2}]", "a=1 | a=2"),
        ("a: [1]\ninclude: [{a: 2, x: y}]", "a=1 | a=2 x=y"),
        ("a: [1]\ninclude: [{a: 2}, {a: 2, x: y}]", "a=1 | a=2 | a=2 x=y"),
        ("a: [1]\ninclude: [{a: 2}, {x: y}]", "a=1 x=y | a=2"),
        ("a: [1]\nb: [x]\ninclude: [{a: 1, b: y}]", "a=1 b=x | a=1 b=y"),
        // what was added can be overwritten, an axis cannot
        ("a: [1, 2]\ninclude: [{x: y}, {a: 2, x: z}]", "a=1 x=y | a=2 x=z"),
        ("a: [1, 2]\ninclude: [{a: 2, x: z}, {x: y}]", "a=1 x=y | a=2 x=y"),
        ("o: [{k: 1}, {k: 2}]\ninclude: [{o: {k: 1}, x: y}]", "o={\"k\":1} x=y | o={\"k\":2}"),
        ("o: [[1], [2]]\ninclude: [{o: [2], x: y}]", "o=[1] | o=[2] x=y"),
        ("a: [1]\ninclude: [{x: [1, {y: z}]}]", "a=1 x=[1,{\"y\":\"z\"}]"),
        ("a: [1]\ninclude: [{x: null}]", "a=1 x=null"),
        ("a: [1]\ninclude: [{}]", "a=1"),
        ("include: {a: 1}", "`include` of a matrix is a list"),
        ("a: [1]\ninclude: [x]", "`include` is a list of maps"),
        ("a: [1]\ninclude: [[x]]", "`include` is a list of maps"),
        ("a: [1]\ninclude: ${{ fromJSON(vars.MAPS) }}", "a=1 c=1 | a=3 b=z"),
        ("a: [3]\ninclude: ${{ fromJSON(vars.MAPS) }}", "a=3 b=z c=1"),
        ("include: ${{ fromJSON(vars.MAPS) }}", "a=3 b=z | c=1"),
        ("a: [1]\ninclude: ['${{ fromJSON(vars.MAP) }}']", "a=1 k=1 l=[2]"),
        ("a: [1]\ninclude: ['${{ fromJSON(vars.MAPS) }}', {d: 1}]", "a=1 c=1 d=1 | a=3 b=z"),
        ("a: [1]\ninclude: ${{ github.ref }}", "`include` is a list of maps, this is text"),
    ]);
}

/// The example of GitHub's documentation.
#[test]
fn include_by_the_book() {
    table(&[(
        "fruit: [apple, pear]
animal: [cat, dog]
include:
  - color: green
  - color: pink
    animal: cat
  - fruit: apple
    shape: circle
  - fruit: banana
  - fruit: banana
    animal: cat",
        "fruit=apple animal=cat color=pink shape=circle | fruit=apple animal=dog color=green shape=circle \
         | fruit=pear animal=cat color=pink | fruit=pear animal=dog color=green | fruit=banana \
         | fruit=banana animal=cat",
    )]);
}

/// What Forgejo's server does otherwise is said before it surprises.
#[test]
fn entries_that_name_no_variable_are_warned_about() {
    let warned = |matrix: &str| {
        let text = format!(
            "on: push\njobs:\n  j:\n    runs-on: x\n    steps: [{{run: a}}]\n    strategy: {{matrix: {{{matrix}}}}}\n"
        );
        let (workflow, _) = parse(&Source::new("t.yml", text)).into_result().expect("good");
        let plan = Plan::new(Arc::new(workflow)).expect("good");
        workflow::support::check(&plan).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let warning = "warning: Forgejo makes a job of its own of this entry";
    assert_eq!(warned("a: [1], include: [{a: 1, x: y}, {x: y}]"), [format!("t.yml:6:57: {warning}")]);
    assert_eq!(warned("a: [1], include: [{}, {A: 2}]"), [format!("t.yml:6:43: {warning}")]);
    for quiet in [
        "a: [1]",
        "include: [{x: y}]",
        "a: [1], include: '${{ fromJSON(vars.I) }}'",
        "a: [1], include: ['${{ fromJSON(vars.I) }}']",
        "a: [1], '${{ insert }}': '${{ fromJSON(vars.M) }}', include: [{x: y}]",
    ] {
        assert_eq!(warned(quiet), [""; 0], "{quiet}");
    }
}

#[test]
fn expressions() {
    table(&[
        ("v: ['${{ github.ref }}']", "v=main"),
        ("v: ['x-${{ github.ref }}']", "v=x-main"),
        ("v: ['${{ github.n }}']", "v=2"),
        ("v: ['${{ github.n }} ']", "v=2 "),
        ("v: ['${{ github.on }}']", "v=true"),
        ("v: ['${{ github.nothing }}']", "v=null"),
        ("v: ${{ fromJSON('[1, 2]') }}", "v=1 | v=2"),
        ("v: ${{ fromJSON(vars.LIST) }}", "v=p | v=q"),
        ("v: ${{ fromJSON('[]') }}", "`v` of the matrix is empty"),
        ("v: ${{ fromJSON('{}') }}", "`v` of a matrix is a list, this is an object"),
        ("v: ${{ github.ref }}", "`v` of a matrix is a list, this is text"),
        ("v: ${{ vars.nothing }}", "`v` of a matrix is a list, this is null"),
        ("v: ${{ fromJSON('[') }}", "`fromJSON` was given text that is not JSON (line 1, column 1)"),
        // a list within a list of an expression is a part of it, one that is written is not
        ("v: [a, '${{ fromJSON(vars.LIST) }}', b]", "v=a | v=p | v=q | v=b"),
        ("v: ['${{ fromJSON(vars.LIST) }}']", "v=p | v=q"),
        ("v: ['${{ fromJSON(''[[1]]'') }}']", "v=[1]"),
        ("v: [[a, b], c]", "v=[\"a\",\"b\"] | v=c"),
        ("v: [['${{ fromJSON(vars.LIST) }}', c]]", "v=[\"p\",\"q\",\"c\"]"),
        ("v: ['${{ fromJSON(''[]'') }}', a]", "v=a"),
        ("v: [{k: '${{ github.n }}'}]", "v={\"k\":2}"),
        ("v: [{'${{ insert }}': '${{ fromJSON(vars.MAP) }}', m: 1}]", "v={\"k\":1,\"l\":[2],\"m\":1}"),
        ("a: [1]\n${{ insert }}: ${{ fromJSON('{\"b\":[2,3]}') }}", "a=1 b=2 | a=1 b=3"),
        ("a: [1]\n${{ insert }}: ${{ fromJSON('{\"a\":[2]}') }}", "a=2"),
        ("a: [1]\n${{ insert }}: ${{ github.ref }}", "a matrix is a map of lists, this is text"),
        ("${{ fromJSON(vars.MATRIX) }}", "a=2 x=y"),
        ("${{ fromJSON('{\"a\":[1],\"b\":[2,3]}') }}", "a=1 b=2 | a=1 b=3"),
        ("${{ fromJSON('{\"include\":[{\"a\":1}]}') }}", "a=1"),
        ("${{ fromJSON('{\"a\":1}') }}", "`a` of a matrix is a list, this is a number"),
        ("${{ fromJSON('{\"a\":[]}') }}", "`a` of the matrix is empty"),
        ("${{ fromJSON('{}') }}", "the matrix has no jobs"),
        ("${{ fromJSON('[1]') }}", "a matrix is a map of lists, this is a list"),
        ("${{ github.ref }}", "a matrix is a map of lists, this is text"),
        ("${{ vars.nothing }}", "a matrix is a map of lists, this is null"),
        (
            "${{ fromJSON('{\"a\":[1],\"include\":[1]}') }}",
            "`include` is a list of maps, this holds a number",
        ),
        (
            "${{ fromJSON('{\"a\":[1],\"exclude\":[{\"b\":1}]}') }}",
            "`exclude` names `b`, which the matrix does not have",
        ),
    ]);
}

#[test]
fn sizes() {
    let list = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    assert_eq!(expanded(&format!("a: [{}]", list(1024))).expect("fits").len(), 1024);
    table(&[
        (&format!("a: [{}]", list(1025)), "the matrix has more than 1024 jobs"),
        (&format!("a: [{0}]\nb: [{0}]\nc: [{0}]\nd: [{0}]", list(200)), "the matrix has more than 1024 jobs"),
        (&format!("a: [{}]\ninclude: [{{a: x}}]", list(1024)), "the matrix has more than 1024 jobs"),
        (
            &format!("a: [1]\nexclude: [{}]", vec!["{a: 2}"; 1025].join(", ")),
            "`include` and `exclude` of a matrix have at most 1024 entries",
        ),
    ]);
    // the product may be larger when exclusions bring it below
    let large = format!("a: [{}]\nb: [1, 2]\nexclude: [{{b: 2}}]", list(1000));
    assert_eq!(expanded(&large).expect("fits").len(), 1000);
}

#[test]
fn names() {
    for (matrix, expected) in [
        ("a: [1, x]", "j (1) | j (x)"),
        ("a: [1]\nb: [true]\nc: [x]", "j (1, true, x)"),
        ("a: [{k: v, l: [1, 2]}]", "j (v, 1, 2)"),
        ("a: ['', null]", "j | j (2)"),
        ("a: [1, 1]", "j (1) | j (1) (2)"),
        ("a: [1]\ninclude: [{x: y}]", "j (1, y)"),
        ("a: [3.10]", "j (3.1)"),
        ("a: [[]]", "j"),
    ] {
        let names: Vec<_> = expanded(matrix).expect("good").into_iter().map(|(name, _)| name).collect();
        assert_eq!(names.join(" | "), expected, "{matrix}");
    }
}

/// Axes of small numbers, and entries over the same names.
fn parts() -> impl Strategy<Value = (Vec<Vec<u8>>, Model, Model)> {
    let axes = proptest::collection::vec(proptest::collection::vec(0u8..4, 1..4), 1..4);
    let entry = proptest::collection::vec(proptest::option::of(0u8..5), 5);
    let entries = || proptest::collection::vec(entry.clone(), 0..4);
    (axes, entries(), entries())
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "e"];

fn entries(name: &str, entries: &[Vec<Option<u8>>], width: usize) -> String {
    let entry = |entry: &Vec<Option<u8>>| {
        let pairs = NAMES.iter().zip(entry).take(width);
        let pairs: Vec<_> =
            pairs.filter_map(|(name, value)| value.map(|value| format!("{name}: {value}"))).collect();
        format!("{{{}}}", pairs.join(", "))
    };
    if entries.is_empty() {
        return String::new();
    }
    format!("\n{name}: [{}]", entries.iter().map(entry).collect::<Vec<_>>().join(", "))
}

type Model = Vec<Vec<Option<u8>>>;

/// The same by the words of GitHub's documentation, on plain numbers.
fn by_the_words(axes: &[Vec<u8>], include: &[Vec<Option<u8>>], exclude: &[Vec<Option<u8>>]) -> Model {
    let mut cells: Model = vec![vec![None; 5]];
    for (at, values) in axes.iter().enumerate() {
        cells = cells
            .iter()
            .flat_map(|cell| {
                values.iter().map(move |value| {
                    let mut cell = cell.clone();
                    cell[at] = Some(*value);
                    cell
                })
            })
            .collect();
    }
    let agrees = |cell: &[Option<u8>], entry: &[Option<u8>]| {
        (0..axes.len()).all(|at| entry[at].is_none() || entry[at] == cell[at])
    };
    let names = |entry: &[Option<u8>]| entry[..axes.len()].iter().any(Option::is_some);
    cells.retain(|cell| !exclude.iter().any(|entry| names(entry) && agrees(cell, entry)));
    let product = cells.len();
    for entry in include {
        let mut added = false;
        for cell in cells[..product].iter_mut().filter(|cell| agrees(cell, entry)) {
            (0..5).filter(|at| entry[*at].is_some()).for_each(|at| cell[at] = entry[at]);
            added = true;
        }
        if !added {
            cells.push(entry.clone());
        }
    }
    cells
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, failure_persistence: None, ..ProptestConfig::default() })]

    /// Any matrix becomes what the documentation's words make of it.
    #[test]
    fn any_matrix((axes, include, exclude) in parts()) {
        let lists = axes.iter().zip(NAMES).map(|(values, name)| format!("{name}: {values:?}"));
        let text = lists.collect::<Vec<_>>().join("\n")
            + &entries("include", &include, 5)
            + &entries("exclude", &exclude, axes.len());
        let wanted = by_the_words(&axes, &include, &exclude);
        match expanded(&text) {
            Err(fault) => prop_assert!(wanted.is_empty() && fault.contains("has no jobs"), "{text}: {fault}"),
            Ok(jobs) => {
                let found: Model = jobs
                    .iter()
                    .map(|(_, cell)| NAMES.map(|name| cell.get(name).to_text().parse().ok()).to_vec())
                    .collect();
                prop_assert_eq!(found, wanted, "{}", text);
            }
        }
    }

    /// Two matrices side by side in one map are the product of the two.
    #[test]
    fn any_two_matrices_merge(left in proptest::collection::vec(0u8..9, 1..5), right in proptest::collection::vec(0u8..9, 1..5)) {
        let both = expanded(&format!("a: {left:?}\n${{{{ insert }}}}: ${{{{ fromJSON('{{\"b\":{right:?}}}') }}}}"))
            .map_err(TestCaseError::fail)?;
        let wanted: Vec<_> = left.iter().flat_map(|a| right.iter().map(move |b| format!("a={a} b={b}"))).collect();
        prop_assert_eq!(both.iter().map(|(_, cell)| short(cell)).collect::<Vec<_>>(), wanted);
    }
}
