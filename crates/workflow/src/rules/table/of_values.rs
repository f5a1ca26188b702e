//! The rules about values: what a number, a date, a word or a comparison is.
//!
//! Purpose: a part of the table. Owner: [`super`].

use super::{About, Frame, Rule, Warn, job, of, steps};

/// A file whose job has this `if`, and that has a boolean input.
macro_rules! with_flag {
    ($condition:literal) => {
        concat!(
            "on:
  workflow_dispatch:
    inputs:
      fast: {type: boolean}
jobs:
  build:
    if: ",
            $condition,
            "
    runs-on: debian
    steps:
      - run: make
"
        )
    };
}

pub(super) const NEVER_EQUAL: About = About {
    rule: Rule::NeverEqual,
    name: "never-equal",
    level: Warn,
    finds: "a comparison with the same result in every run: of a boolean with the text `true`, of a number with a word, \
            of an object",
    costs: "`inputs` has booleans as booleans, and none is equal to a text: `inputs.fast == 'true'` is false also \
            where the box is ticked. Only `github.event.inputs` has texts. So it is with booleans and numbers that a matrix \
            has without quotes. An object or a list is equal only to itself.",
    wrong: of(Frame::File, with_flag!("inputs.fast == 'true'")),
    right: of(Frame::File, with_flag!("inputs.fast")),
};

pub(super) const PASSWORD_IN_CLEAR: About = About {
    rule: Rule::PasswordInClear,
    name: "password-in-clear",
    level: Warn,
    finds: "a password of a registry that stands in the file",
    costs: "Everybody who can read the repository has it, and so has everybody who reads its history after it was \
            taken out: it has to be changed. A secret is masked in logs, and can be changed without a commit.",
    wrong: job("container:
  image: registry.example.org/tools
  credentials:
    username: ci
    password: hunter2
"),
    right: job("container:
  image: registry.example.org/tools
  credentials:
    username: ci
    password: ${{ secrets.REGISTRY_PASSWORD }}
"),
};

pub(super) const IDLE_EXCLUDE: About = About {
    rule: Rule::IdleExclude,
    name: "idle-exclude",
    level: Warn,
    finds: "an entry of `exclude` with a value that the matrix does not have",
    costs: "It takes out no job: the one that was meant runs. So it is after a version was changed in the list alone, \
            and with the values of `include`, which are added when `exclude` is done.",
    wrong: job("strategy:
  matrix:
    os: [debian-13, alpine]
    exclude:
      - os: debian-12
"),
    right: job("strategy:
  matrix:
    os: [debian-13, alpine]
    exclude:
      - os: debian-13
"),
};

pub(super) const REPEATED_VALUE: About = About {
    rule: Rule::RepeatedValue,
    name: "repeated-value",
    level: Warn,
    finds: "a value that stands twice in a list of the matrix",
    costs: "The same job runs twice, under the same name, and costs twice the time.",
    wrong: job("strategy:
  matrix:
    go: ['1.24', '1.25', '1.24']
"),
    right: job("strategy:
  matrix:
    go: ['1.24', '1.25']
"),
};

pub(super) const OBJECT_AS_TEXT: About = About {
    rule: Rule::ObjectAsText,
    name: "object-as-text",
    level: Warn,
    finds: "an object or a list where a text is needed",
    costs: "An object that is put into a text becomes the word `Object` there, and a list the word `Array`. Where an \
            expression is all of a text, GitHub refuses it. `startsWith` and `endsWith` of an object are always false, \
            and so is `contains`.",
    wrong: steps(
        "- id: build
  run: make
- run: ./publish '${{ steps.build.outputs }}'
",
    ),
    right: steps(
        "- id: build
  run: make
- run: ./publish '${{ steps.build.outputs.version }}'
",
    ),
};

pub(super) const ACTION_INPUTS: About = About {
    rule: Rule::ActionInputs,
    name: "action-inputs",
    level: Warn,
    finds: "an input that the action of the repository does not have, or that it needs and does not get",
    costs: "A runner reads over what an action does not have, and gives it an empty text for what it needs: it does \
            something else than its author thinks, or fails with an error of its own. It looks at actions of the same \
            repository, by their `action.yml`, and at misspelt inputs of `actions/checkout`.",
    wrong: steps(
        "- uses: actions/checkout@v4
  with:
    fetch_depth: 0
",
    ),
    right: steps(
        "- uses: actions/checkout@v4
  with:
    fetch-depth: 0
",
    ),
};

pub(super) const MISSING_ACTION: About = About {
    rule: Rule::MissingAction,
    name: "missing-action",
    level: Warn,
    finds: "an action of the repository that is not there when its step begins",
    costs: "`./x` is looked for in the workspace, which is empty until a step has checked the repository out, and at the \
            root of the repository, not beside the workflow. The job fails at that step.",
    wrong: steps(
        "- uses: actions/checkout@v4
- uses: ./.forgejo/actions/stup
",
    ),
    right: steps(
        "- uses: actions/checkout@v4
- uses: ./.forgejo/actions/setup
",
    ),
};

pub(super) const NUMBER_AS_VERSION: About = About {
    rule: Rule::NumberAsVersion,
    name: "number-as-version",
    level: Warn,
    finds: "a number that is not printed as it is written, such as `3.10`",
    costs: "Without quotes `3.10` is the number 3.1, and `1e3` is 1000: the wrong version is tested, or one \
                that is not there.",
    wrong: job("strategy:
  matrix:
    python: [3.9, 3.10]
"),
    right: job("strategy:
  matrix:
    python: ['3.9', '3.10']
"),
};

pub(super) const OCTAL_NUMBER: About = About {
    rule: Rule::OctalNumber,
    name: "octal-number",
    level: Warn,
    finds: "a number that begins with a zero",
    costs: "`0755` is the number 755 by YAML 1.2, and 493 for Forgejo's server, which reads it as octal.",
    wrong: job("strategy:
  matrix:
    mode: [0755]
"),
    right: job("strategy:
  matrix:
    mode: ['0755']
"),
};

pub(super) const NUMBER_WITH_UNDERSCORES: About = About {
    rule: Rule::NumberWithUnderscores,
    name: "number-with-underscores",
    level: Warn,
    finds: "digits with underscores between them",
    costs: "`1_000` is text by YAML 1.2, and the number 1000 for Forgejo's server.",
    wrong: job("strategy:
  matrix:
    size: [1_000]
"),
    right: job("strategy:
  matrix:
    size: [1000]
"),
};

pub(super) const DATE_AS_TEXT: About = About {
    rule: Rule::DateAsText,
    name: "date-as-text",
    level: Warn,
    finds: "a date without quotes",
    costs: "`2026-01-31` is text by YAML 1.2, and a time for Forgejo's server, which prints it as \
                `2026-01-31 00:00:00 +0000 UTC`.",
    wrong: job("strategy:
  matrix:
    day: [2026-01-31]
"),
    right: job("strategy:
  matrix:
    day: ['2026-01-31']
"),
};

pub(super) const YES_OR_NO: About = About {
    rule: Rule::YesOrNo,
    name: "yes-or-no",
    level: Warn,
    finds: "`yes`, `no`, `on` or `off` without quotes in a matrix",
    costs: "They are text by YAML 1.2, and text is true, also `no` and `off`.",
    wrong: job("strategy:
  matrix:
    debug: [yes, no]
"),
    right: job("strategy:
  matrix:
    debug: [true, false]
"),
};
