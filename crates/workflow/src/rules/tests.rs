//! Each rule: where it fires, where it does not, and where a comment silences it.

use doc::{Diagnostic, Rendering, Source};

use super::{Example, FileKind, Frame, Level, Levels, Rule, check, small::Small};
use crate::{Resolved, WorkflowRef};

pub(super) fn all_on() -> Levels {
    let mut levels = Levels::default();
    Rule::all().for_each(|rule| levels.set(rule, Level::Warn));
    levels
}

pub(super) fn checked(text: &str, kind: FileKind, levels: &Levels) -> Vec<Diagnostic> {
    check(&Source::new("x.yml", text), kind, ".github/workflows/x.yml", levels, &mut Small)
}

fn of(example: &Example) -> FileKind {
    if example.frame == Frame::Action { FileKind::Action } else { FileKind::Workflow }
}

pub(super) fn names(found: &[Diagnostic]) -> Vec<&'static str> {
    found.iter().map(|fault| fault.rule.unwrap_or("error")).collect()
}

/// What is said of steps, with every rule on.
pub(super) fn steps(text: &str) -> Vec<Diagnostic> {
    const HEAD: &str = "on: {push: {}, workflow_dispatch: {inputs: {title: {}}}}
jobs:
  a:
    runs-on: debian
    strategy: {matrix: {os: [x], version: [y], node: [z]}}
    steps:
";
    let file = HEAD.to_owned() + text;
    checked(&file, FileKind::Workflow, &all_on())
}

#[test]
fn the_table_has_the_order_of_the_rules() {
    for (at, rule) in Rule::all().enumerate() {
        assert_eq!(rule as usize, at, "{}", rule.name());
        assert_eq!(Rule::parse(rule.name()), Ok(rule));
        assert!(rule.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'));
    }
    assert_eq!(Rule::all().count(), Rule::AllowComment as usize + 1);
    let error = Rule::parse("untrusted-inptu").unwrap_err();
    assert_eq!(error.to_string(), "there is no rule `untrusted-inptu`; did you mean `untrusted-input`?");
}

#[test]
fn every_rule_finds_its_wrong_example_and_not_its_right_one() {
    for rule in Rule::all() {
        let about = rule.about();
        let mut levels = Levels::default();
        levels.set(rule, Level::Warn);
        let found = checked(&about.wrong.file(), of(&about.wrong), &levels);
        // the comment that the last one is about leaves the warning that it is for
        assert!(names(&found).contains(&rule.name()), "{}: {found:?}", rule.name());
        assert!(!found.iter().any(Diagnostic::is_error), "{}: {found:?}", rule.name());
        let found = checked(&about.right.file(), of(&about.right), &levels);
        assert_eq!(names(&found), [""; 0], "{}", rule.name());
    }
}

#[test]
fn a_rule_that_is_off_finds_nothing_and_one_that_is_an_error_errors() {
    for rule in Rule::all() {
        let about = rule.about();
        let mut levels = Levels::default();
        levels.set(rule, Level::Off);
        let found = checked(&about.wrong.file(), of(&about.wrong), &levels);
        assert!(!names(&found).contains(&rule.name()), "{}", rule.name());
        levels.set(rule, Level::Error);
        let found = checked(&about.wrong.file(), of(&about.wrong), &levels);
        let errors: Vec<_> = found.iter().filter(|fault| fault.is_error()).cloned().collect();
        assert!(names(&errors).contains(&rule.name()), "{}", rule.name());
    }
}

#[test]
fn a_comment_with_a_reason_silences_every_rule() {
    for rule in Rule::all().filter(|rule| *rule != Rule::AllowComment) {
        let about = rule.about();
        let mut levels = Levels::default();
        levels.set(rule, Level::Warn);
        let text = about.wrong.file();
        let found = checked(&text, of(&about.wrong), &levels);
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let mut at: Vec<usize> = found
            .iter()
            .filter(|fault| fault.rule == Some(rule.name()))
            .map(|fault| {
                let label = fault.primary.as_ref().unwrap();
                label.source.line_column(label.span.start).0
            })
            .collect();
        at.sort_unstable();
        at.dedup();
        for line in at.into_iter().rev() {
            lines.insert(line - 1, format!("# ampoule: allow {}: tried here", rule.name()));
        }
        let found = checked(&(lines.join("\n") + "\n"), of(&about.wrong), &levels);
        assert_eq!(names(&found), [""; 0], "{}: {}", rule.name(), lines.join("\n"));
    }
}

/// What lacks its `$` or a brace is told where it is surely one of ours.
#[test]
fn half_expressions() {
    for (text, said) in [
        ("echo ${ github.sha }}", "`${ github.sha }}` is text: a brace is missing"),
        ("echo ${github.sha}}", "`${github.sha}}` is text: a brace is missing"),
        ("echo {{ github.sha }}", "`{{ github.sha }}` is text: the `$` is missing"),
        ("echo {{steps.a.outputs.b}}", "`{{steps.a.outputs.b}}` is text: the `$` is missing"),
        ("echo ${{ github.sha }}", ""),
        ("echo ${{github.sha}} ${{ github.ref }}", ""),
        ("docker inspect -f '{{ .Id }} {{ range.x }} {{ env.A }}'", ""),
        ("echo ${A.b} ${ github }} {{{ github.sha }}}", ""),
        ("console.log(`{${job.id}}`)", ""),
        ("# as in {{ github.sha }}", ""),
    ] {
        let found = steps(&format!("      - run: |\n          {text}\n"));
        let halves: Vec<_> = found
            .iter()
            .filter(|fault| fault.rule == Some("half-expression"))
            .map(|fault| &fault.message)
            .collect();
        let expected: Vec<_> = Some(said).filter(|said| !said.is_empty()).into_iter().collect();
        assert_eq!(halves, expected, "{text}");
    }
}

#[test]
fn comments() {
    let reason = "[allow-comment, hash-begins-comment]";
    let rows = [
        ("- name: a #1 # ampoule: allow hash-begins-comment: it is one", "[]"),
        ("- name: a #1 # ampoule: allow hash-begins-comment it is one", "[]"),
        ("- name: a #1 # ampoule: allow hash-begins-comment", reason),
        ("- name: a #1 # ampoule: allow hash-begins-comment:", reason),
        ("- name: a #1 # ampoule: allow", reason),
        ("- name: a #1 # ampoule: allow hash-begin-comment: typed wrong", reason),
        ("- name: a #1 # ampoule: allowed hash-begins-comment: no mark", reason),
        ("- name: a #1 # ampoule: alow hash-begins-comment: no mark", reason),
        ("- name: a #1 #ampoule:allow hash-begins-comment: no blank", reason),
        ("- name: a #1 # ampoule: see the docs", "[hash-begins-comment]"),
        ("- name: a # ampoule: allow hash-begins-comment: nothing to silence", "[allow-comment]"),
        ("# ampoule: allow hash-begins-comment: next line\n      - name: a #1", "[]"),
        (
            "# ampoule: allow hash-begins-comment: next line\n      # ampoule: allow yes-or-no: idle\n      - name: a #1",
            "[allow-comment]",
        ),
        (
            "# ampoule: allow hash-begins-comment: too far\n\n      - name: a #1",
            "[allow-comment, hash-begins-comment]",
        ),
        (
            "# ampoule: allow hash-begins-comment: next line\n      - name: a #1 # ampoule: allow yes-or-no: idle",
            "[allow-comment]",
        ),
    ];
    for (text, expected) in rows {
        let found = steps(&format!("      {text}\n        run: make\n"));
        let mut found = names(&found);
        found.sort_unstable();
        assert_eq!(format!("[{}]", found.join(", ")), expected, "{text}");
    }
    // an error may be why nothing was found, and an error is never silenced
    let found = steps("      # ampoule: allow yes-or-no: x\n      - runs: make\n");
    assert!(found.iter().all(|fault| fault.rule.is_none()) && !found.is_empty(), "{found:?}");
    // what is off at this run may be on at another
    let text =
        "on: push\njobs: {a: {runs-on: d, steps: [{uses: a/b@1}]}} # ampoule: allow unpinned-action: ours\n";
    assert_eq!(names(&checked(text, FileKind::Workflow, &Levels::default())), [""; 0]);
    assert_eq!(names(&checked(text, FileKind::Workflow, &all_on())), [""; 0]);
}

#[test]
fn a_comment_in_a_script_silences_the_line_below() {
    let script = "      - run: |\n          echo a\n          # ampoule: allow untrusted-input: only numbers pass the check\n          \
                  echo ${{ github.head_ref }}\n";
    assert_eq!(names(&steps(script)), [""; 0]);
}

#[test]
fn untrusted() {
    let fires = [
        ("github.event.issue.title", "ISSUE_TITLE"),
        ("github.event.issue['title']", "ISSUE_TITLE"),
        ("github['event'].issue.title", "ISSUE_TITLE"),
        ("GITHUB.EVENT.ISSUE.TITLE", "ISSUE_TITLE"),
        ("forgejo.event.comment.body", "COMMENT_BODY"),
        ("gitea.head_ref", "HEAD_REF"),
        ("github.head_ref || github.ref_name", "HEAD_REF"),
        ("github.event.commits[0].message", "COMMITS_MESSAGE"),
        ("join(github.event.commits.*.author.name)", "AUTHOR_NAME"),
        ("github.event.commits.*.message[0]", "COMMITS_MESSAGE"),
        ("(github.event.commits.*.message)[0]", "COMMITS_MESSAGE"),
        ("join(format('{0}', github.head_ref))", "HEAD_REF"),
        ("toJSON(github.event.commits.*.message)", "COMMITS_MESSAGE"),
        ("join(github.event.commits.*.message, ' ')", "COMMITS_MESSAGE"),
        ("format('x {0}', github.event.pull_request.body)", "PULL_REQUEST_BODY"),
        ("toJSON(github.event.issue.title)", "ISSUE_TITLE"),
        ("toJSON(github.event.issue)", "ISSUE"),
        ("toJSON(github.event)", "EVENT"),
        ("toJson(github)", "GITHUB"),
        ("github.event_name == 'push' && github.event.head_commit.message || 'x'", "HEAD_COMMIT_MESSAGE"),
        ("case(true, github.event.review.body, 'x')", "REVIEW_BODY"),
        ("github.event.workflow_run.head_branch", "WORKFLOW_RUN_HEAD_BRANCH"),
        ("join(github.event.*.title)", "TITLE"),
        ("fromJSON(toJSON(github.event.issue)).title", "ISSUE"),
    ];
    for (expr, name) in fires {
        let found = steps(&format!("      - run: echo \"${{{{ {expr} }}}}\"\n"));
        assert_eq!(names(&found), ["untrusted-input"], "{expr}");
        assert!(
            found[0].help[0].starts_with(&format!("write `{name}: ${{{{ ")),
            "{expr}: {:?}",
            found[0].help
        );
        assert!(
            found[0].help[0].ends_with(&format!("and here `\"${name}\"`")),
            "{expr}: {:?}",
            found[0].help
        );
    }
    let silent = [
        "github.event.issue.number",
        "github.sha",
        "github.ref_name",
        "github.actor",
        "github.event.pull_request.head.sha",
        "github.event.pull_request.base.ref",
        "github.event.pull_request.head.repo.full_name",
        "contains(github.event.issue.title, 'x')",
        "startsWith(github.head_ref, 'x')",
        "github.head_ref == 'main'",
        "github.head_ref && 'x'",
        "case(github.head_ref == 'a', 'x', 'y')",
        "!github.head_ref",
        "github.event.issue",
        // the text `Array`
        "github.event.commits.*.message",
        "github.event.commits[*].author.name",
        "format('{0}', github.event.commits.*.message)",
        "join(github.event.commits)",
        "inputs.title",
        "steps[env.STEP].outputs.title",
        "toJSON(github.event.issue.number)",
        "env.TITLE",
    ];
    for expr in silent {
        let found = names(&steps(&format!("      - run: echo \"${{{{ {expr} }}}}\"\n")));
        assert!(!found.contains(&"untrusted-input"), "{expr}: {found:?}");
    }
    // where nothing reads it as code
    let env = "      - env: {TITLE: '${{ github.event.issue.title }}'}\n        run: echo \"$TITLE\"\n";
    assert_eq!(names(&steps(env)), [""; 0]);
}

#[test]
fn json_in_a_quoted_here_document_stays_in_there() {
    let rows = [
        ("cat <<'EOF'", "toJSON(github)", "EOF", 0),
        ("cat > x <<-\"END\"", "toJSON(github.event.issue)", "END", 0),
        ("cat <<EOF", "toJSON(github)", "EOF", 1),
        ("cat <<'EOF'", "github.event.issue.body", "EOF", 1),
        ("cat <<'EOF'", "toJSON(github)", "END", 1),
        ("cat <<'EOF'", "format('{0}{1}', toJSON(github), github.head_ref)", "EOF", 1),
    ];
    for (open, expr, close, number) in rows {
        let text =
            format!("      - run: |\n          {open}\n          ${{{{ {expr} }}}}\n          {close}\n");
        assert_eq!(names(&steps(&text)).len(), number, "{open} {expr} {close}");
    }
    let behind = "      - run: |\n          cat <<'E'\n          x\n          E\n          echo ${{ toJSON(github) }}\n";
    assert_eq!(names(&steps(behind)), ["untrusted-input"]);
}

#[test]
fn what_forgejo_reads_over_is_said_once_for_each_key() {
    let text = "on: push
permissions: {}
jobs:
  a: {permissions: {}, environment: e, runs-on: d, steps: [{run: x}]}
  b: {permissions: {}, runs-on: d, steps: [{run: x}]}
";
    let found = checked(text, FileKind::Workflow, &all_on());
    assert_eq!(names(&found), ["ignored-by-forgejo"; 2]);
    assert!(found[0].notes.contains(&"so it is at 2 more places of this file".to_owned()), "{found:?}");
    // where it is allowed once it is still told of the others
    let allowed =
        text.replace("permissions: {}\njobs", "permissions: {} # ampoule: allow ignored-by-forgejo: x\njobs");
    assert_eq!(names(&checked(&allowed, FileKind::Workflow, &all_on())).len(), 2);
    let none = "on: {push: {branches: ['**'], tags: ['!**']}}\njobs: {a: {runs-on: d, steps: [{run: x}]}}\n";
    assert_eq!(names(&checked(none, FileKind::Workflow, &all_on())), [""; 0]);
}

#[test]
fn untrusted_in_other_languages() {
    let rows = [
        ("pwsh", "$env:HEAD_REF"),
        ("powershell", "$env:HEAD_REF"),
        ("cmd", "%HEAD_REF%"),
        ("python", "os.environ[\"HEAD_REF\"]"),
        ("node", "process.env.HEAD_REF"),
        ("bash -x {0}", "\"$HEAD_REF\""),
        ("/usr/bin/sh {0}", "\"$HEAD_REF\""),
        ("perl {0}", "the variable HEAD_REF"),
    ];
    for (shell, form) in rows {
        let found = steps(&format!("      - shell: '{shell}'\n        run: x ${{{{ github.head_ref }}}}\n"));
        assert!(found[0].help[0].ends_with(&format!("and here `{form}`")), "{shell}: {:?}", found[0].help);
    }
    let script = "      - uses: actions/github-script@60a0d83039c74a4aee543508d2ffcb1c3799cdea\n        with:\n          \
                  script: console.log(`${{ github.head_ref }}`)\n";
    let found = steps(script);
    assert!(found[0].help[0].ends_with("and here `process.env.HEAD_REF`"), "{found:?}");
    let other = script.replace("script:", "result-encoding:");
    assert_eq!(names(&steps(&other)), [""; 0]);
}

#[test]
fn places_in_scripts_are_exact() {
    let script = "      - run: |\n          echo a\n\n          echo '::set-output name=x::y' ${{ github.head_ref }}\n";
    let shown: Vec<_> = steps(script).iter().map(ToString::to_string).collect();
    assert_eq!(
        shown,
        [
            "x.yml:10:17: warning: the command `set-output` is retired",
            "x.yml:10:45: warning: `github.head_ref` can be set by strangers and becomes part of the script",
        ]
    );
}

#[test]
fn retired_commands() {
    let rows = [
        ("echo ::set-output name=a::b", Some("write `echo \"a=b\" >> \"$GITHUB_OUTPUT\"`")),
        ("echo \"::set-output name=a::$(x)\"", Some("write `echo \"a=$(x)\" >> \"$GITHUB_OUTPUT\"`")),
        (
            "echo \"::set-output name=a::${{ inputs.b }}\"",
            Some("write `echo \"a=${{ inputs.b }}\" >> \"$GITHUB_OUTPUT\"`"),
        ),
        (
            "printf '::set-output name=%s::%s\\n' a b",
            Some("write `echo \"NAME=VALUE\" >> \"$GITHUB_OUTPUT\"`"),
        ),
        ("echo '::save-state name=a::b'", Some("write `echo \"a=b\" >> \"$GITHUB_STATE\"`")),
        ("echo '::set-env name=a::b'", Some("write `echo \"a=b\" >> \"$GITHUB_ENV\"`")),
        ("echo '::add-path::/opt/bin'", Some("write `echo \"/opt/bin\" >> \"$GITHUB_PATH\"`")),
        ("echo '##[set-output name=a]b'", Some("write `echo \"a=b\" >> \"$GITHUB_OUTPUT\"`")),
        ("echo '##[add-path]/opt/bin'", Some("write `echo \"/opt/bin\" >> \"$GITHUB_PATH\"`")),
        ("echo '::notice::set-output is gone'", None),
        ("echo ::set-outputs name=a::b", None),
        ("# echo ::set-output name=a::b", None),
        ("echo a=b >> $GITHUB_OUTPUT", None),
        ("git::set-environment", None),
    ];
    for (line, expected) in rows {
        let found = steps(&format!("      - run: |\n          {line}\n"));
        let help = found.first().map(|fault| fault.help[0].as_str());
        assert_eq!(help, expected, "{line}");
    }
}

#[test]
fn pipes() {
    let fires = [
        "make | tee log",
        "make|tee log",
        "echo a && make | tee log",
        "make \"a | b\" | tee log",
        "A=1 make | cat",
    ];
    for line in fires {
        assert_eq!(
            names(&steps(&format!("      - run: |\n          {line}\n"))),
            ["lost-pipe-failure"],
            "{line}"
        );
    }
    let silent = [
        "echo a | tee log",
        "make || true",
        "make 'a | b'",
        "make # | tee",
        "# make | tee",
        "if make | grep x; then",
        "x=$(make | tail -1)",
        "make >| log",
        "cat <<E | sh",
        "set -o pipefail; make | tee log",
        "case a|b) x",
        "src/*|tests/*) ;;",
        "src/*|tests/*)",
    ];
    for line in silent {
        assert_eq!(names(&steps(&format!("      - run: |\n          {line}\n"))), [""; 0], "{line}");
    }
    for shell in ["bash", "sh", "python"] {
        let text = format!("      - run: make | tee log\n        shell: {shell}\n");
        assert_eq!(names(&steps(&text)), [""; 0], "{shell}");
    }
    let windows = "on: push\njobs: {a: {runs-on: windows-latest, steps: [{run: make | tee log}]}}\n";
    assert_eq!(names(&checked(windows, FileKind::Workflow, &all_on())), [""; 0]);
    let defaults =
        "on: push\ndefaults: {run: {shell: bash}}\njobs: {a: {runs-on: d, steps: [{run: make | tee log}]}}\n";
    assert_eq!(names(&checked(defaults, FileKind::Workflow, &all_on())), [""; 0]);
}

#[test]
fn keys_of_caches() {
    let cases = [
        ("deps", true),
        ("${{ runner.os }}-deps", true),
        ("${{ runner.os }}-${{ matrix.os }}-deps", true),
        ("${{ format('{0}-deps', runner.os) }}", false),
        ("${{ github.job }}-deps", true),
        ("deps-v2", false),
        ("deps-${{ github.sha }}", false),
        ("deps-${{ matrix.version }}", false),
        ("deps-${{ hashFiles('x') }}", false),
        ("deps-${{ env.VERSION }}", false),
        ("deps-${{ steps.date.outputs.day }}", false),
    ];
    for (key, fires) in cases {
        for (uses, saves) in
            [("actions/cache", true), ("actions/cache/save", true), ("actions/cache/restore", false)]
        {
            let text = format!(
                "      - {{id: date, run: x}}\n      - uses: {uses}@5a3ec84eff668545956fd18022155c47e93e2684\n        with: {{path: x, key: '{}'}}\n",
                key.replace('\'', "''")
            );
            let expected: &[&str] = if fires && saves { &["constant-cache-key"] } else { &[] };
            assert_eq!(names(&steps(&text)), expected, "{key} {uses}");
        }
    }
}

#[test]
fn pins() {
    let rows = [
        ("a/b@v1", true),
        ("a/b/c@main", true),
        ("https://code.forgejo.org/a/b@v1", true),
        ("a/b@5a3ec84eff668545956fd18022155c47e93e2684", false),
        ("a/b@5a3ec84", true),
        ("./local", false),
        ("docker://alpine:3", true),
        ("docker://alpine@sha256:5a3ec84eff668545956fd18022155c47e93e26845a3ec84eff668545956fd180", false),
    ];
    for (uses, fires) in rows {
        let expected: &[&str] = if fires { &["unpinned-action"] } else { &[] };
        assert_eq!(names(&steps(&format!("      - uses: {uses}\n"))), expected, "{uses}");
    }
    let call = "on: push\njobs: {a: {uses: o/r/.forgejo/workflows/x.yml@v1}}\n";
    let source = Source::new("x.yml", call);
    let found =
        check(&source, FileKind::Workflow, "x.yml", &all_on(), &mut |_: &WorkflowRef| Resolved::Elsewhere);
    assert_eq!(names(&found), ["unpinned-action"]);
}

#[test]
fn secrets_in_conditions() {
    let job = "on: push\njobs: {a: {if: \"secrets.K != '' && true\", runs-on: d, steps: [{run: x, if: '!secrets.K'}]}}\n";
    assert_eq!(names(&checked(job, FileKind::Workflow, &all_on())), ["secret-in-if", "secret-in-if"]);
    // GitHub reads nothing of these
    for (path, level, count) in [
        (".forgejo/workflows/x.yml", Level::Warn, 0),
        (".gitea/workflows/x.yml", Level::Warn, 0),
        (".forgejo/workflows/x.yml", Level::Error, 2),
        ("x.yml", Level::Warn, 2),
    ] {
        let mut levels = Levels::default();
        levels.set(Rule::SecretInIf, level);
        let found =
            check(&Source::new("x.yml", job), FileKind::Workflow, path, &levels, &mut |_: &WorkflowRef| {
                Resolved::Elsewhere
            });
        assert_eq!(found.len(), count, "{path} {level:?}: {found:?}");
    }
    let fine = "      - if: env.K != ''\n        run: echo ${{ secrets.K }}\n";
    assert_eq!(names(&steps(fine)), [""; 0]);
}

#[test]
fn conditions_that_are_always_true() {
    let rows = [
        ("${{ github.ref }} == 'b'", true),
        ("\"${{ github.ref == 'b' }} \"", true),
        ("|\n          ${{ github.ref == 'b' }}", true),
        (">-\n          ${{ github.ref == 'a' }} && ${{ github.ref == 'b' }}", true),
        ("|-\n          ${{ github.ref == 'b' }}", false),
        ("|\n          github.ref == 'b'", false),
        ("${{ github.ref == 'b' }}", false),
    ];
    for (text, fires) in rows {
        let found = steps(&format!("      - run: x\n        if: {text}\n"));
        let expected: &[&str] = if fires { &["if-always-true"] } else { &[] };
        assert_eq!(names(&found), expected, "{text}");
        assert!(
            !fires || found[0].help[0].starts_with("write it as one expression: `github.ref"),
            "{found:?}"
        );
    }
}

#[test]
fn needs_cycles_and_calls_are_looked_at_also_beside_other_errors() {
    let text = "on: push
jobs:
  a: {needs: gone, runs-on: d, steps: [{run: x}]}
  b: {needs: c, runs-on: d, steps: [{run: x}]}
  c: {needs: b, runs-on: d, steps: [{run: x, nmae: y}]}
";
    let shown: Vec<_> =
        checked(text, FileKind::Workflow, &Levels::default()).iter().map(ToString::to_string).collect();
    assert_eq!(shown.len(), 2, "{shown:?}");
    let cycle = text.replace("needs: gone, ", "");
    let found = checked(&cycle, FileKind::Workflow, &Levels::default());
    assert!(found.iter().any(|fault| fault.message.contains("each other")), "{found:?}");
    // a job that could not be read is not missing
    let unread = "on: push\njobs:\n  a: 5\n  b: {needs: a, runs-on: d, steps: [{run: x}]}\n";
    let found = checked(unread, FileKind::Workflow, &Levels::default());
    assert_eq!(found.len(), 1, "{found:?}");
}

#[test]
fn a_circle_is_seen_from_each_of_its_files() {
    let text = "on: workflow_call\njobs: {a: {uses: ./.forgejo/workflows/y.yml}}\n";
    let other = Source::new("y.yml", "on: workflow_call\njobs: {b: {uses: ./.forgejo/workflows/x.yml}}\n");
    let source = Source::new("x.yml", text);
    let found = check(
        &source,
        FileKind::Workflow,
        ".forgejo/workflows/x.yml",
        &Levels::default(),
        &mut |_: &WorkflowRef| Resolved::Text(other.clone()),
    );
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].message.starts_with("the workflows call each other"), "{found:?}");
}

#[test]
fn whoever_runs_a_workflow_sees_the_names_and_the_comments_count() {
    let text = "on: push\njobs: {a: {runs-on: d, steps: [{run: x}], environment: e}}\n";
    let parsed = crate::parse(&Source::new("x.yml", text));
    let shown = parsed.diagnostics[0].render(Rendering::Plain);
    assert!(shown.starts_with("warning[ignored-by-forgejo]: `environment` is ignored\n"), "{shown}");
    let silenced = text.replacen('\n', "\n# ampoule: allow ignored-by-forgejo: for GitHub\n", 1);
    assert!(crate::parse(&Source::new("x.yml", silenced)).diagnostics.is_empty());
}

#[test]
fn a_file_of_the_largest_size_takes_no_time() {
    let head = "on: push\njobs:\n  a:\n    runs-on: d\n    steps:\n";
    let fill = |line: &str| line.repeat((1 << 20) / line.len() - 1);
    let texts = [
        head.to_owned() + "      - run: x\n" + &fill("# ampoule: allow yes-or-no: x\n")[..1_000_000],
        head.to_owned()
            + "      - run: |\n"
            + &fill("          cat <<'E'\n          ${{ github.head_ref }}\n          E\n")[..1_000_000],
        head.to_owned() + "      - run: |\n" + &fill("          echo ::set-output name=a::b\n")[..1_000_000],
        head.to_owned() + "      - run: |\n" + &fill("          echo ${{ github.head_ref }}\n")[..1_000_000],
        head.to_owned() + "      - run: |\n" + &fill("          echo 'a' || x=1 echo\n")[..1_000_000],
    ];
    for text in texts {
        let begin = std::time::Instant::now();
        let found = checked(&text, FileKind::Workflow, &all_on());
        // without optimisation, and beside other tests: what is quadratic takes minutes
        assert!(begin.elapsed().as_secs() < 20, "{:?} {}", begin.elapsed(), &text[..120]);
        assert!(found.len() <= 2002, "{}", found.len());
    }
}
