//! What is told of kinds, and where nothing is.

use doc::Diagnostic;

use crate::rules::{
    FileKind, Level, Levels,
    tests::{all_on, checked},
};

const HEAD: &str = "on:
  workflow_dispatch: {inputs: {text: {}, flag: {type: boolean}, count: {type: number}, both: {type: boolean}}}
  workflow_call: {inputs: {level: {type: number}, both: {type: string}}}
jobs:
  n: {runs-on: d, steps: [{run: x}], outputs: {o: x}}
  a:
    runs-on: d
    needs: n
    strategy:
      matrix:
        flag: [true, false]
        mixed: [true, 'false', {a: 1}]
        number: [1, 2.5]
        word: [a, 'b-${{ github.sha }}', '${{ github.ref }}']
        object: [{name: x, port: 80, deep: {list: [a], more: {b: c}}}, {name: y}]
        list: [[1, 2], []]
        spread: ['${{ fromJSON(vars.X) }}', 1]
        const: ['${{ fromJSON(''[{\"a\": 1}]'') }}']
    steps:
      - id: s
        run: x
";

fn said(found: &[Diagnostic]) -> Vec<String> {
    let say = |fault: &Diagnostic| format!("{}: {}", fault.rule.unwrap_or("error"), fault.message);
    found.iter().map(say).filter(|text| !text.starts_with("untrusted-input")).collect()
}

fn levels() -> Levels {
    let mut levels = all_on();
    levels.set(crate::rules::Rule::LooseInclude, Level::Off);
    levels
}

/// What is said of an expression in a script.
fn of(expr: &str) -> Vec<String> {
    let text = format!("{HEAD}      - run: |\n          echo ${{{{ {expr} }}}}\n");
    said(&checked(&text, FileKind::Workflow, &levels()))
}

/// What is said of an `if`, of an `env` and so on of a step.
fn step(rest: &str) -> Vec<String> {
    said(&checked(&format!("{HEAD}      - run: x\n{rest}"), FileKind::Workflow, &levels()))
}

#[test]
fn what_is_no_text() {
    for (expr, message) in [
        ("github", "`github` becomes the word `Object`"),
        ("env", "`env` becomes the word `Object`"),
        ("secrets", "`secrets` becomes the word `Object`"),
        ("inputs", "`inputs` becomes the word `Object`"),
        ("github.event", "`github.event` becomes the word `Object`"),
        ("github.event.inputs", "`github.event.inputs` becomes the word `Object`"),
        ("steps.s", "`steps.s` becomes the word `Object`"),
        ("steps.s.outputs", "`steps.s.outputs` becomes the word `Object`"),
        ("steps['s']['outputs']", "`steps['s']['outputs']` becomes the word `Object`"),
        ("needs.n.outputs", "`needs.n.outputs` becomes the word `Object`"),
        ("job.services", "`job.services` becomes the word `Object`"),
        ("matrix", "`matrix` becomes the word `Object`"),
        ("matrix.object", "`matrix.object` becomes the word `Object`"),
        ("matrix.object.deep", "`matrix.object.deep` becomes the word `Object`"),
        ("matrix.object.deep.list", "`matrix.object.deep.list` becomes the word `Array`"),
        ("matrix.list", "`matrix.list` becomes the word `Array`"),
        ("github.event.commits.*", "`github.event.commits.*` becomes the word `Array`"),
        ("github.event.commits.*.message", "`github.event.commits.*.message` becomes the word `Array`"),
        ("steps.s.outputs.x && github.event", ""),
        ("github.event && steps.s.outputs", "`github.event && steps.s.outputs` becomes the word `Object`"),
        ("github.event || 'x'", "`github.event || 'x'` becomes the word `Object`"),
        ("fromJSON('[1]')", "`fromJSON('[1]')` becomes the word `Array`"),
        ("fromJSON('{\"a\": {}}').a", "`fromJSON('{\"a\": {}}').a` becomes the word `Object`"),
        ("case(true, github, matrix)", "`case(true, github, matrix)` becomes the word `Object`"),
        ("format('{0}', github)", "`github` becomes the word `Object`"),
        ("startsWith(github.event, 'x')", "`startsWith` is always false: `github.event` is an object"),
        ("endsWith('x', matrix.list)", "`endsWith` is always false: `matrix.list` is a list"),
        ("contains(github.event, 'x')", "`contains` is always false: `github.event` is an object"),
        ("contains(github.ref, matrix.list)", "`contains` is always false: `matrix.list` is a list"),
        ("join(github.event)", "`join` is always empty: `github.event` is an object"),
        ("fromJSON(steps.s.outputs)", "`fromJSON` always fails: `steps.s.outputs` is an object"),
        // what may be a text, or is wanted so
        ("github.event.anything", ""),
        ("github.event.inputs.text", ""),
        ("steps[env.X].outputs", ""),
        ("steps.s.outputs.x", ""),
        ("matrix.mixed", ""),
        ("matrix.spread", ""),
        ("matrix.object.name", ""),
        ("matrix.list[0]", ""),
        ("toJSON(github.event)", ""),
        ("join(matrix.list, ' ')", ""),
        ("contains(matrix.list, 1)", ""),
        ("contains(matrix.list, matrix.object)", ""),
        ("contains(github.event.labels.*.name, 'x')", ""),
        ("startsWith(github.event.x, 'x')", ""),
        ("github.event && 'x'", ""),
        ("github.event && github.event.x || ''", ""),
        ("null", ""),
        ("fromJSON(env.X)", ""),
        ("fromJSON(toJSON(matrix)).a", ""),
        ("job.anything", ""),
        ("case(true, 'x', matrix)", ""),
    ] {
        let expected: Vec<_> = Some(message)
            .filter(|it| !it.is_empty())
            .map(|it| format!("object-as-text: {it}"))
            .into_iter()
            .collect();
        assert_eq!(of(expr), expected, "{expr}");
    }
}

#[test]
fn where_an_object_becomes_a_text() {
    for (rest, told) in [
        ("        name: ${{ github.event }}\n", 1),
        ("        env: {A: '${{ github.event }}'}\n", 1),
        ("        working-directory: ${{ github.event }}\n", 1),
        ("        env: '${{ matrix.object }}'\n", 0),
        ("        if: contains(toJSON(github.event), 'x')\n", 0),
        ("      - {uses: './x', with: {a: '${{ github.event }}'}}\n", 1),
        ("      - {uses: './x', with: {a: '${{ toJSON(github.event) }}'}}\n", 0),
        ("    outputs: {o: '${{ steps.s.outputs }}'}\n", 1),
        ("    name: x ${{ matrix.object }}\n", 1),
        ("    container: ${{ matrix.object }}\n", 0),
        ("    container: {image: 'x:${{ matrix.object }}'}\n", 1),
        ("    environment: ${{ matrix.object }}\n", 0),
        ("    env: {A: '${{ matrix.list }}'}\n", 1),
    ] {
        let found = step(rest);
        let found = found.iter().filter(|text| text.starts_with("object-as-text")).count();
        assert_eq!(found, told, "{rest}");
    }
    // values that are what they are
    let text = "on: push
jobs:
  a:
    runs-on: ${{ fromJSON('[\"a\", \"b\"]') }}
    strategy: {matrix: {a: '${{ fromJSON(''[1]'') }}', b: ['${{ github.event }}'], c: ['x-${{ github.event }}']}}
    services: {s: '${{ fromJSON(''{}'') }}'}
    steps: [{run: x}]
  b:
    uses: ./.forgejo/workflows/deploy.yml
    with: {target: '${{ github.event }}'}
";
    let found = said(&checked(text, FileKind::Workflow, &levels()));
    let told: Vec<_> = found.iter().filter(|text| text.starts_with("object-as-text")).collect();
    assert_eq!(told, ["object-as-text: `github.event` becomes the word `Object`"], "{found:?}");
}

#[test]
fn properties_of_what_has_none() {
    for (expr, message) in [
        ("github.repository.owner", "`github.repository` is a text and has no `owner`"),
        ("github['repository']['owner']", "`github['repository']` is a text and has no `owner`"),
        ("github.run_id.x", "`github.run_id` is a single value and has no `x`"),
        ("github.sha[0]", "`github.sha` is a text and has no items"),
        ("steps.s.outcome.x", "`steps.s.outcome` is a text and has no `x`"),
        ("steps.s.outputs.a.b.c.d", "`steps.s.outputs.a` is a text and has no `b`"),
        ("needs.n.result.x", "`needs.n.result` is a text and has no `x`"),
        ("vars.X.y", "`vars.X` is a text and has no `y`"),
        ("inputs.text.foo", "`inputs.text` is a text and has no `foo`"),
        ("inputs.flag.foo", "`inputs.flag` is a boolean and has no `foo`"),
        ("inputs.both.foo", "`inputs.both` is a single value and has no `foo`"),
        ("github.event.inputs.flag.x", "`github.event.inputs.flag` is a text and has no `x`"),
        ("matrix.number.x", "`matrix.number` is a number and has no `x`"),
        ("matrix.word.x", "`matrix.word` is a text and has no `x`"),
        ("matrix.object.name.x", "`matrix.object.name` is a text and has no `x`"),
        ("matrix.list.x", "`matrix.list` is a list and has no `x`"),
        ("toJSON(github).sha", "`toJSON(github)` is a text and has no `sha`"),
        ("fromJSON('{\"a\": 1}').b", "`fromJSON('{\"a\": 1}')` has no `b`"),
        ("fromJSON('{\"a\": 1}')['b']", "`fromJSON('{\"a\": 1}')` has no `b`"),
        // what is told once
        ("steps.none.outputs", "no step has the id `none`"),
        ("steps.none.outputs == 'x'", "no step has the id `none`"),
        ("github.repository.owner == 'x'", "`github.repository` is a text and has no `owner`"),
        ("github.event.x.y", ""),
        ("github.something.y", ""),
        ("matrix.mixed.a", ""),
        ("matrix.object.port", ""),
        ("matrix.object.deep.more.b", ""),
        ("matrix.object['port']", ""),
        ("matrix.list[1]", ""),
        ("matrix.list['0']", ""),
        ("matrix.spread.x", ""),
        ("matrix.const.a", ""),
        ("fromJSON(vars.X).y", ""),
        ("fromJSON('{\"a\": 1}').A", ""),
        ("fromJSON('{\"a\": 1}')[matrix.word]", ""),
        ("fromJSON('[{\"a\": 1}]')[0].a", ""),
        ("fromJSON('[{\"a\": 1}, {\"b\": 1}]')[0].b", ""),
        ("fromJSON('[{\"a\": 1}, \"x\"]')[0].a", ""),
        ("join(fromJSON('[{\"a\": 1}]').*.b)", ""),
        ("job.container.id", ""),
        ("steps.s.conclusion", ""),
    ] {
        let expected: Vec<_> = Some(message)
            .filter(|it| !it.is_empty())
            .map(|it| format!("unknown-property: {it}"))
            .into_iter()
            .collect();
        assert_eq!(of(expr), expected, "{expr}");
    }
}

#[test]
fn comparisons_with_one_result() {
    for (expr, message) in [
        ("github.event == 'push'", "this is always false: `github.event` is an object"),
        ("'push' == github.event", "this is always false: `github.event` is an object"),
        ("github.event != 1", "this is always true: `github.event` is an object"),
        ("github.event > 1", "this is always false: `github.event` is an object"),
        ("steps.s.outputs == 'true'", "this is always false: `steps.s.outputs` is an object"),
        ("steps.s.outputs != ''", "this is always true: `steps.s.outputs` is an object"),
        ("matrix.list == 1", "this is always false: `matrix.list` is a list"),
        ("matrix.list == matrix.object", "this is always false: `matrix.list` is a list"),
        ("github.event.labels.*.name == 'x'", "this is always false: `github.event.labels.*.name` is a list"),
        ("matrix.list < github.event.x", "this is always false: `matrix.list` is a list"),
        ("matrix.flag == 'true'", "this is always false: `matrix.flag` is a boolean"),
        ("matrix.flag != 'no'", "this is always true: `matrix.flag` is a boolean"),
        ("inputs.flag == 'true'", "this is always false: `inputs.flag` is a boolean"),
        ("contains('a', 'b') == 'true'", "this is always false: `contains('a', 'b')` is a boolean"),
        ("matrix.number == 'x'", "this is always false: `matrix.number` is a number"),
        // of what is no object it is null, which is equal to no word either
        ("matrix.mixed.a == 'true'", "this is always false: `matrix.mixed.a` is a number"),
        ("matrix.list == matrix.list", ""),
        ("matrix.list <= matrix.list", ""),
        ("matrix.number == '1'", ""),
        ("matrix.number == 3", ""),
        ("matrix.mixed == 'true'", ""),
        ("inputs.flag == true", ""),
        ("inputs.flag == '1'", ""),
        ("inputs.both == 'true'", ""),
        ("inputs.count == 'x'", ""),
        ("inputs.text == 'true'", ""),
        ("github.event.inputs.flag == 'true'", ""),
        ("steps.s.outputs.x == 'true'", ""),
        ("steps.s.outputs.x > 3", ""),
        ("github.event.x == 'true'", ""),
        ("fromJSON(steps.s.outputs.x) == 'true'", ""),
        ("github.event.inputs == ''", ""),
        ("true && env.X || 'true' == 'true'", ""),
    ] {
        let expected: Vec<_> = Some(message)
            .filter(|it| !it.is_empty())
            .map(|it| format!("never-equal: {it}"))
            .into_iter()
            .collect();
        assert_eq!(of(expr), expected, "{expr}");
        let condition = step(&format!("        if: {expr}\n"));
        let quoted = expr.starts_with('\'');
        assert!(quoted || condition == expected, "{expr}: {condition:?}");
    }
    for (expr, help) in [
        ("matrix.flag == 'true'", "write `matrix.flag`"),
        ("matrix.flag != 'true'", "write `matrix.flag == false`"),
        ("contains('a', 'b') == 'false'", "write `contains('a', 'b') == false`"),
        ("(env.X == 'b') == 'true'", "compare it with `true` or `false`, without quotes"),
        ("matrix.list == 1", "for an item of the list write `contains(matrix.list, …)`"),
    ] {
        let text = format!("{HEAD}      - run: |\n          echo ${{{{ {expr} }}}}\n");
        assert_eq!(checked(&text, FileKind::Workflow, &levels())[0].help, [help], "{expr}");
    }
}

#[test]
fn an_if_that_is_an_object() {
    for (expr, told) in [
        ("steps.s.outputs", true),
        ("github.event && matrix.list", true),
        ("steps.s.outputs.x", false),
        ("github.event.inputs", false),
        ("github.event && steps.s.outputs.x", false),
        ("matrix.mixed", false),
    ] {
        let found = step(&format!("        if: {expr}\n"));
        assert_eq!(found.iter().any(|text| text.starts_with("if-always-true")), told, "{expr}: {found:?}");
        assert_eq!(found.len(), usize::from(told), "{expr}: {found:?}");
    }
}

#[test]
fn arguments_that_format_does_not_name() {
    for (expr, message) in [
        ("format('{0}', 1, 2)", "`format` does nothing with its argument 1: the text has no `{1}`"),
        ("format('{1}', 1, 2)", "`format` does nothing with its argument 0: the text has no `{0}`"),
        ("format('{{0}}', 1)", "`format` does nothing with its argument 0: the text has no `{0}`"),
        ("format('{0} {1}', 1, 2)", ""),
        ("format('{{{0}}}{00001}', 1, 2)", ""),
        ("format('{0}{0}', 1)", ""),
        ("format(env.X, 1)", ""),
        ("format('x')", ""),
    ] {
        let expected: Vec<_> = Some(message)
            .filter(|it| !it.is_empty())
            .map(|it| format!("idle-key: {it}"))
            .into_iter()
            .collect();
        assert_eq!(of(expr), expected, "{expr}");
    }
}

/// The inputs of an action are texts, and its matrix is its caller's.
#[test]
fn of_actions() {
    let action = |expr: &str| {
        let text = format!(
            "name: x\ninputs: {{a: {{}}}}\nruns:\n  using: composite\n  steps:\n    - run: echo ${{{{ {expr} }}}}\n      shell: bash\n"
        );
        said(&checked(&text, FileKind::Action, &levels()))
    };
    assert_eq!(action("inputs.a.b"), ["unknown-property: `inputs.a` is a text and has no `b`"]);
    assert_eq!(action("inputs"), ["object-as-text: `inputs` becomes the word `Object`"]);
    for expr in ["inputs.a", "matrix.x", "matrix.x.y", "inputs.a == 'true'", "matrix.x == 'true'"] {
        assert_eq!(action(expr), [""; 0], "{expr}");
    }
}
