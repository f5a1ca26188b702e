//! More of the rules: what the advice says, what is the same in every run, and comments beside long texts.

use doc::Source;

use super::{
    FileKind, Levels, check,
    tests::{all_on, checked, names, steps},
};
use crate::{Resolved, WorkflowRef};

fn workflow(text: &str) -> Vec<doc::Diagnostic> {
    checked(text, FileKind::Workflow, &all_on())
}

#[test]
fn advice_has_expressions_as_they_are_written() {
    for (expr, name) in [
        ("github.event.commits[0].author.name", "AUTHOR_NAME"),
        ("forgejo.event.issue.title", "ISSUE_TITLE"),
        ("format('a  b {0}',github.head_ref)", "HEAD_REF"),
        ("github.event.commits[10000].message", "COMMITS_MESSAGE"),
    ] {
        let found = steps(&format!("      - run: echo \"${{{{ {expr} }}}}\"\n"));
        let expected =
            format!("write `{name}: ${{{{ {expr} }}}}` below the step's `env`, and here `\"${name}\"`");
        assert_eq!(found[0].help, [expected]);
    }
    for (run, help) in [
        (r#""echo ${{ github.head_ref }}""#, r#"`\"$HEAD_REF\"`"#),
        (r#"'echo "${{ github.head_ref }}"'"#, r#"`"$HEAD_REF"`"#),
    ] {
        let found = steps(&format!("      - run: {run}\n"));
        assert!(found[0].help[0].ends_with(&format!("and here {help}")), "{:?}", found[0].help);
    }
    let found = steps("      - run: echo ${{ forgejo.event.commits[0].message }}\n");
    let message = "`forgejo.event.commits[0].message` can be set by strangers and becomes part of the script";
    assert_eq!(found[0].message, message);
}

#[test]
fn an_if_with_text_around_expressions_becomes_one_that_can_be_read() {
    let one = |text: &str| format!("write it as one expression: `{text}`");
    let none = "write it as one expression, without `${{` and `}}`".to_owned();
    for (text, help) in [
        ("${{ github.ref }} == 'b'", one("github.ref == 'b'")),
        (
            "github.ref == 'refs/heads/${{ github.base_ref }}'",
            one("github.ref == format('refs/heads/{0}', github.base_ref)"),
        ),
        (
            "github.ref == 'a${{ github.base_ref }}b${{ github.sha }}' && ${{ always() }}",
            one("github.ref == format('a{0}b{1}', github.base_ref, github.sha) && always()"),
        ),
        ("${{ true }}${{ false }}", none.clone()),
        ("github.ref == '{${{ github.base_ref }}'", one("github.ref == format('{{{0}', github.base_ref)")),
        ("yes, ${{ github.ref == 'b' }}", none),
    ] {
        let found = steps(&format!("      - run: x\n        if: {text}\n"));
        assert_eq!(names(&found), ["if-always-true"], "{text}");
        assert_eq!(found[0].help, [help], "{text}");
    }
}

#[test]
fn a_variable_of_env_that_is_put_into_a_script_is_what_it_holds() {
    let step = |env: &str, run: &str| {
        steps(&format!("      - env: {{T: '{env}', U: x}}\n        run: echo {run}\n"))
    };
    let found = step("${{ github.head_ref }}", "${{ env.T }}");
    assert_eq!(names(&found), ["untrusted-input"]);
    let message =
        "`github.head_ref`, which `env.T` is, can be set by strangers and becomes part of the script";
    assert_eq!((found[0].message.as_str(), found[0].help[0].as_str()), (message, "write `\"$T\"`"));
    assert_eq!(names(&step("v-${{ github.head_ref }}", "${{ env['t'] }}")), ["untrusted-input"]);
    for (env, run) in [
        ("${{ github.head_ref }}", "$T"),
        ("${{ github.head_ref }}", "${{ env.U }}"),
        ("${{ github.head_ref }}", "${{ env.T == '1' }}"),
        ("${{ github.sha }}", "${{ env.T }}"),
    ] {
        assert_eq!(names(&step(env, run)), [""; 0], "{env} {run}");
    }
    // the nearest counts, and all are looked at
    let file = |job: &str| {
        format!(
            "on: push\nenv: {{T: '${{{{ github.head_ref }}}}'}}\njobs: {{a: {{runs-on: d, env: {{{job}}}, \
             steps: [{{run: 'echo ${{{{ env.T }}}}'}}]}}}}\n"
        )
    };
    assert_eq!(names(&workflow(&file(""))), ["untrusted-input"]);
    assert_eq!(names(&workflow(&file("T: mine"))), [""; 0]);
    let script = "      - uses: actions/github-script@60a0d83039c74a4aee543508d2ffcb1c3799cdea\n        env: {T: '${{ \
                  github.head_ref }}'}\n        with:\n          script: console.log(`${{ env.T }}`)\n";
    assert_eq!(steps(script)[0].help, ["write `process.env.T`"]);
    let shell = "      - run: x\n        shell: bash -c '${{ github.head_ref }}' {0}\n";
    assert_eq!(names(&steps(shell)), ["untrusted-input"]);
}

/// What only GitHub reads, and what only Forgejo reads.
#[test]
fn what_only_one_server_takes() {
    let job = |condition: &str| {
        format!(
            "on: push\nenv: {{A: b}}\njobs: {{b: {{runs-on: d, steps: [{{run: x}}]}}, a: {{needs: b, if: \"{condition}\", \
                 runs-on: d, steps: [{{run: x}}]}}}}\n"
        )
    };
    let rows = [
        ("failure('b')", "ignored-by-forgejo", "write `always() && needs.b.result == 'failure'`"),
        (
            "success('b', 'b')",
            "ignored-by-forgejo",
            "write `always() && (needs.b.result == 'success' && needs.b.result == 'success')`",
        ),
        (
            "failure('b', 'b')",
            "ignored-by-forgejo",
            "write `always() && (needs.b.result == 'failure' || needs.b.result == 'failure')`",
        ),
        (
            "true || !failure('b')",
            "ignored-by-forgejo",
            "write `(needs.b.result == 'failure')` in its place, and the whole as `always() && (…)`",
        ),
        (
            "true && failure(github.ref)",
            "ignored-by-forgejo",
            "look at `needs.NAME.result`, with `always() &&` in front",
        ),
        (
            "env.A == 'b'",
            "env-in-job-if",
            "a variable of the repository is there: `vars.NAME`; or move it to the `if` of the steps",
        ),
    ];
    for (condition, rule, help) in rows {
        let found = workflow(&job(condition));
        assert_eq!(names(&found), [rule], "{condition}: {found:?}");
        assert_eq!(found[0].help, [help], "{condition}");
    }
    // GitHub reads nothing of that
    let source = Source::new("x.yml", job("env.A == 'b'"));
    let found = check(
        &source,
        FileKind::Workflow,
        ".forgejo/workflows/x.yml",
        &Levels::default(),
        &mut |_: &WorkflowRef| Resolved::Elsewhere,
    );
    assert_eq!(names(&found), [""; 0]);
    // of a step every server refuses it, or does not look
    assert_eq!(names(&steps("      - {run: x, if: failure('b')}\n")), ["error"]);
    let shell = steps("      - {run: x, shell: PowerShell}\n");
    assert_eq!(names(&shell), ["github-only"]);
    assert_eq!(shell[0].help, ["write `powershell`"]);
}

#[test]
fn comparisons_that_are_the_same_in_every_run() {
    const HEAD: &str =
        "on: {workflow_dispatch: {inputs: {b: {type: boolean}, t: {}}}}\njobs: {a: {runs-on: d, if: ";
    let rows = [
        ("inputs.b == 'true'", Some("write `inputs.b`")),
        ("'true' == inputs.B && true", Some("write `inputs.B`")),
        ("inputs.b != 'true'", Some("write `inputs.b == false`")),
        ("inputs.b == 'false'", Some("write `inputs.b == false`")),
        ("${{ inputs.b != 'FALSE' }}", Some("write `inputs.b`")),
        ("inputs.b == true", None),
        ("inputs.b == ''", None),
        ("inputs.t == 'true'", None),
        ("github.event.inputs.b == 'true'", None),
        ("github.ref == 'a' || 'b'", Some("write `|| github.ref == 'b'`")),
        ("true && (github.ref == 'a' || 'b')", Some("write `|| github.ref == 'b'`")),
        ("format('{0}', 1) == 'a' || 'b'", Some("repeat the comparison for it")),
        ("github.ref == 'a' || github.ref == 'b'", None),
        ("(github.ref == 'a' && 'x' || 'y') == 'x'", None),
        ("github.ref == 'a' || ''", None),
        ("'!cancelled()'", Some("write it without its quotes: `${{ !cancelled() }}`")),
        ("'github.ref == ''a'''", Some("write it without its quotes: `github.ref == 'a'`")),
        ("${{ 'failure' }}", Some("write it without its quotes: `failure()`")),
        ("${{ 'main' }}", Some("compare it with something, as in `github.ref_name == 'main'`")),
        ("''", None),
        ("format('{0}', 'a')", None),
    ];
    for (text, help) in rows {
        let found = workflow(&format!("{HEAD}\"{text}\", steps: [{{run: x}}]}}}}\n"));
        assert_eq!(found.first().map(|fault| fault.help[0].as_str()), help, "{text}: {found:?}");
        assert!(found.len() <= 1, "{found:?}");
    }
    // called it is a text
    let both = HEAD.replacen("{workflow", "{workflow_call: {inputs: {b: {type: string}}}, workflow", 1);
    let found = workflow(&format!("{both}inputs.b == 'true', steps: [{{run: x}}]}}}}\n"));
    assert_eq!(names(&found), [""; 0]);
}

#[test]
fn matrices_of_constants_that_give_no_jobs_or_too_many() {
    let list = |count: usize| (0..count).map(|n| n.to_string()).collect::<Vec<_>>().join(", ");
    let entries = |count: usize| vec!["{a: 5}"; count].join(", ");
    let rows = [
        ("a: [1], exclude: [{a: 1}]".to_owned(), "the matrix has no jobs"),
        (format!("a: [{}]", list(1025)), "the matrix has more than 1024 jobs"),
        (format!("a: [{0}], b: [{0}], c: [{0}]", list(100)), "the matrix has more than 1024 jobs"),
        (
            format!("a: [1], exclude: [{}]", entries(1025)),
            "`include` and `exclude` of a matrix have at most 1024 entries",
        ),
        ("a: [1], exclude: [{b: 1}]".to_owned(), "`exclude` names `b`, which the matrix does not have"),
        (
            "include: [{a: 1}], exclude: [{a: 1}]".to_owned(),
            "`exclude` names `a`, which the matrix does not have",
        ),
        ("a: [1, 2], exclude: [{a: 2}]".to_owned(), ""),
        ("a: [1], exclude: []".to_owned(), ""),
        ("include: [{a: 1}]".to_owned(), ""),
        ("a: [1, '${{ github.sha }}'], exclude: [{a: 1}]".to_owned(), ""),
        (format!("a: [{}]", list(1024)), ""),
    ];
    for (matrix, said) in rows {
        let text = format!(
            "on: push\njobs: {{a: {{runs-on: d, strategy: {{matrix: {{{matrix}}}}}, steps: [{{run: x}}]}}}}\n"
        );
        let found = workflow(&text);
        let messages: Vec<_> = found.iter().map(|fault| fault.message.as_str()).collect();
        let expected: Vec<_> = Some(said).filter(|said| !said.is_empty()).into_iter().collect();
        assert_eq!(messages, expected, "{}", &text[..text.len().min(200)]);
    }
}

#[test]
fn a_comment_at_a_key_counts_for_all_lines_of_its_text() {
    let allow = "# ampoule: allow secret-in-if: it is for Forgejo alone";
    for (text, expected) in [
        (format!("      - {allow}\n        if: >-\n          true &&\n          secrets.K != ''\n"), ""),
        (format!("      - if: >- {allow}\n          true &&\n\n          secrets.K != ''\n"), ""),
        (format!("      - if: | {allow}\n          secrets.K != ''\n"), ""),
        (format!("      - {allow}\n        if: true &&\n          secrets.K != ''\n"), ""),
        (format!("      - {allow}\n        if:\n          secrets.K != ''\n"), ""),
        (
            format!("      - {allow}\n        name: x\n        if: >-\n          secrets.K != ''\n"),
            "secret-in-if allow-comment",
        ),
    ] {
        let mut found = names(&steps(&(text.clone() + "        run: x\n")));
        found.sort_unstable_by_key(|name| std::cmp::Reverse(*name));
        assert_eq!(found.join(" "), expected, "{text}");
    }
}

#[test]
fn a_comment_at_run_counts_for_the_whole_script() {
    let allow = "# ampoule: allow untrusted-input: the name was looked at";
    let script = "          curl \\\n            -d '${{ github.head_ref }}' \\\n            x\n          \
                  cat << END\n          note: ${{ github.head_ref }}\n          END\n";
    let silenced = [
        format!("      {allow}\n      - run: |\n{script}"),
        format!("      - {allow}\n        run: |\n{script}"),
        format!("      - run: | {allow}\n{script}"),
        format!("      - name: x\n        {allow}\n        run: >-\n{script}"),
        format!(
            "      - {allow}\n        run:\n          echo a;\n          echo ${{{{ github.head_ref }}}}\n"
        ),
        format!("      - {allow}\n        run: echo a;\n          echo ${{{{ github.head_ref }}}}\n"),
    ];
    for text in silenced {
        assert_eq!(names(&steps(&text)), [""; 0], "{text}");
    }
    let told = [
        // at another key, and in the script, where it counts for one line
        (format!("      - {allow}\n        name: x\n        run: |\n{script}"), 3),
        (format!("      - name: x {allow}\n        run: |\n{script}"), 3),
        (format!("      - run: |\n          {allow}\n{script}"), 3),
        (format!("      - {allow}\n        run: |\n{script}      - run: |\n{script}"), 2),
    ];
    for (text, count) in told {
        let found = names(&steps(&text));
        assert_eq!(found.len(), count, "{text}: {found:?}");
    }
}

#[test]
fn a_text_is_no_comment() {
    let text = "echo # ampoule: allow untrusted-input: x ${{ github.head_ref }}";
    for line in [
        format!("      - run: \"{text}\"\n"),
        format!("      - {{run: '{text}'}}\n"),
        format!("      - run: |\n          \"{text}\"\n"),
        format!("      - run: |\n          {}\n", text.replace(" # ", "# ")),
    ] {
        assert_eq!(names(&steps(&line)), ["untrusted-input"], "{line}");
    }
    for line in [
        "      - run: echo don't ${{ github.head_ref }} # ampoule: allow untrusted-input: x\n",
        "      - run: \"echo ${{ github.head_ref }}\" # ampoule: allow untrusted-input: x\n",
    ] {
        assert_eq!(names(&steps(line)), [""; 0], "{line}");
    }
}

/// A file with one job that has a matrix or more beside it.
fn job(keys: &str) -> Vec<doc::Diagnostic> {
    workflow(&format!("on: push\njobs:\n  a:\n    runs-on: x\n    steps: [{{run: a}}]\n{keys}"))
}

#[test]
fn of_a_matrix_only_what_is_written_is_compared() {
    let matrix = |text: &str| job(&format!("    strategy: {{matrix: {{{text}}}}}\n"));
    for (text, expected) in [
        ("a: [1, 2, 1]", "repeated-value"),
        ("a: [x, '${{ github.ref }}', x]", "repeated-value"),
        ("a: [x, y], exclude: [{a: z}]", "idle-exclude"),
        ("a: [x, y], b: [x, z], exclude: [{a: x, b: y}]", "idle-exclude"),
        ("a: [{n: x, m: y}], exclude: [{a: {n: y}}]", "idle-exclude"),
        ("a: [{n: x, m: y}], exclude: [{a: x}]", "idle-exclude"),
    ] {
        assert_eq!(names(&matrix(text)), [expected], "{text}");
    }
    for text in [
        "a: [1, '1']",
        "a: [x, X]",
        "a: ['${{ github.ref }}', '${{ github.ref }}']",
        "a: [{n: x}, {n: x}]",
        "a: [1, 2], exclude: [{a: '1'}]",
        "a: [x, y], exclude: [{a: X}]",
        "a: ['${{ github.ref }}', y], exclude: [{a: z}]",
        "a: [x, y], exclude: [{a: '${{ github.ref }}'}]",
        "a: \"${{ fromJSON(vars.A) }}\", exclude: [{a: z}]",
        "a: [x], exclude: \"${{ fromJSON(vars.A) }}\", include: [{a: y}]",
        "a: [{n: x, m: y}, z], exclude: [{a: {n: x}}]",
    ] {
        assert_eq!(names(&matrix(text)), [""; 0], "{text}");
    }
    // one value of a thousand entries is looked for in at most a quarter of a million others
    let many: Vec<String> = (0..1000).map(|n| format!("v{n}")).collect();
    let entries = vec!["{a: z}"; 1000].join(", ");
    assert_eq!(matrix(&format!("a: [{}], exclude: [{entries}]", many.join(", "))).len(), 262);
}

#[test]
fn a_password_in_the_file_is_told_wherever_a_container_is() {
    let container = |password: &str| {
        format!(
            "{{image: 'x@sha256:{}', credentials: {{username: a, password: {password}}}}}",
            "0".repeat(64)
        )
    };
    for (password, count) in [
        ("hunter2", 1),
        ("'${{ secrets.P }}'", 0),
        ("'a${{ vars.P }}'", 0),
        ("''", 0),
        ("'${{ github.token }}'", 0),
    ] {
        let told = vec!["password-in-clear"; count];
        let written = container(password);
        assert_eq!(names(&job(&format!("    container: {written}\n"))), told, "{password}");
        assert_eq!(names(&job(&format!("    services: {{db: {written}}}\n"))), told, "{password}");
    }
}

#[test]
fn a_label_of_forgejo_has_no_comma() {
    let one = |labels: &str| {
        workflow(&format!("on: push\njobs:\n  a: {{runs-on: {labels}, steps: [{{run: a}}]}}\n"))
    };
    for (labels, help) in [
        ("'self-hosted, arm'", "write `[self-hosted, arm]` for a runner that has them all"),
        ("['x,', y]", "take the comma out"),
        ("{labels: 'x,y'}", "write `[x, y]` for a runner that has them all"),
    ] {
        let found = one(labels);
        assert_eq!(names(&found), ["github-only"], "{labels}");
        assert_eq!(found[0].help, [help], "{labels}");
    }
    for labels in ["[x, y]", "\"${{ fromJSON('[1, 2]') }}\"", "\"${{ format('{0},{1}', vars.A, vars.B) }}\""]
    {
        assert_eq!(names(&one(labels)), [""; 0], "{labels}");
    }
}

#[test]
fn a_path_begins_in_the_repository() {
    let one = |path: &str| {
        workflow(&format!(
            "on: {{push: {{paths: ['{path}', src]}}}}\njobs:\n  a: {{runs-on: x, steps: [{{run: a}}]}}\n"
        ))
    };
    let without = "write the path without them";
    for (path, help) in [
        ("/src/**", "write `src/**`"),
        ("./src", "write `src`"),
        ("!/src", "write `!src`"),
        ("a/./b", without),
        ("../b", without),
        ("a/..", without),
        ("./", "write `**` for all files"),
        (".", "write `**` for all files"),
    ] {
        let found = one(path);
        assert_eq!(
            (names(&found), found[0].help.as_slice()),
            (vec!["admits-nothing"], &[help.to_owned()][..]),
            "{path}"
        );
    }
    for path in ["**", ".forgejo/**", "a/.b/..c", "*.md", "a../b"] {
        assert_eq!(names(&one(path)), [""; 0], "{path}");
    }
}

#[test]
fn a_key_that_is_there_twice_hides_names_only_where_it_can_have_had_one() {
    let file = |of_a: &str, of_b: &str| {
        workflow(&format!(
            "on: push\njobs:\n  a:\n    needs: [nope]\n    runs-on: x\n    {of_a}\n    steps:\n      - run: \
             ${{{{ steps.q.outputs.x }}}}\n  b:\n    runs-on: x\n    steps:\n      - {{run: x, {of_b}}}\n"
        ))
    };
    let all = ["error", "error", "unknown-property"];
    for (of_a, of_b) in [
        ("env: {A: 1, A: 2}", "env: {}"),
        ("runs-on: y", "env: {}"),
        ("permissions: {}", "env: {A: 1, A: 2}"),
        ("permissions: {}", "shell: sh, shell: bash"),
    ] {
        let mut found = names(&file(of_a, of_b));
        found.retain(|name| *name != "ignored-by-forgejo");
        found.sort_unstable();
        assert_eq!(found, all, "{of_a} {of_b}");
    }
    for (of_a, of_b) in
        [("needs: [x]", "env: {}"), ("permissions: {}", "id: q, id: r"), ("permissions: {}", "run: y")]
    {
        let mut found = names(&file(of_a, of_b));
        found.retain(|name| *name != "ignored-by-forgejo");
        assert_eq!(found, ["error"], "{of_a} {of_b}");
    }
}
