//! The keys of an action.yml.
//!
//! Purpose: rows of the table. Owner: [`super`]. Invariant: what servers and runners read over in other
//! people's actions is no error here.

use super::{Key, Others, Shape, Takes, VARIABLES};

pub(crate) static ACTION: Shape = Shape {
    what: "an action",
    id: "action",
    keys: &[
        Key::new("name", Takes::Text, "The action's name."),
        Key::new("description", Takes::Text, "What it does."),
        Key::new("author", Takes::Text, "Who wrote it."),
        Key::new("inputs", NAMED_INPUTS, "What a step gives by `with`."),
        Key::new("outputs", NAMED_OUTPUTS, "What later steps can read."),
        Key::required(
            "runs",
            Takes::Any(&[Takes::Map(&COMPOSITE), Takes::Map(&SCRIPT), Takes::Map(&DOCKER)]),
            "How it runs.",
        ),
        Key::new("branding", Takes::Map(&BRANDING), "Its badge in the marketplace."),
    ],
    others: Others::Ignored,
};

const NAMED_INPUTS: Takes =
    Takes::Any(&[Takes::Names(&Takes::Any(&[Takes::Map(&ACTION_INPUT), Takes::Nothing])), Takes::Nothing]);

const NAMED_OUTPUTS: Takes =
    Takes::Any(&[Takes::Names(&Takes::Any(&[Takes::Map(&ACTION_OUTPUT), Takes::Nothing])), Takes::Nothing]);

pub(crate) static ACTION_INPUT: Shape = Shape {
    what: "an input of an action",
    id: "action-input",
    keys: &[
        Key::new("description", Takes::Text, "What it is."),
        Key::new("required", Takes::Flag, "Whether it has to be given; no runner checks it."),
        Key::new("default", Takes::Text, "Its value when none is given."),
        Key::new("deprecationMessage", Takes::Text, "What is said to those who still use it."),
        Key::new("type", Takes::Text, "Its kind, for people: an action's inputs are text."),
    ],
    others: Others::Ignored,
};

pub(crate) static ACTION_OUTPUT: Shape = Shape {
    what: "an output of an action",
    id: "action-output",
    keys: &[
        Key::new("description", Takes::Text, "What it is."),
        Key::new("value", Takes::Text, "Its value; composite actions have it."),
    ],
    others: Others::Ignored,
};

/// All keys of `runs`, for a `using` that is not known.
pub(crate) static RUNS: Shape = Shape { what: "`runs`", id: "runs", keys: &[USING], others: Others::Refused };

const USING: Key = Key::required("using", Takes::OneOf(&USINGS), "What runs it.");

pub(crate) const USINGS: [&str; 8] =
    ["composite", "docker", "node12", "node16", "node20", "node24", "go", "sh"];

/// Those of `USINGS` that run a script of the action.
pub(crate) const SCRIPTS: [&str; 6] = ["node12", "node16", "node20", "node24", "go", "sh"];

pub(crate) static COMPOSITE: Shape = Shape {
    what: "`runs` of a composite action",
    id: "composite",
    keys: &[
        Key::required("using", Takes::OneOf(&["composite"]), "What runs it."),
        Key::required(
            "steps",
            Takes::List(&Takes::Map(&COMPOSITE_STEP)),
            "What it does, one after the other.",
        ),
    ],
    others: Others::Refused,
};

pub(crate) static SCRIPT: Shape = Shape {
    what: "`runs` of an action with a script",
    id: "script",
    keys: &[
        Key::required("using", Takes::OneOf(&SCRIPTS), "What runs it."),
        Key::required("main", Takes::Word, "The file that is run."),
        Key::new("pre", Takes::Word, "The file that is run before the job's first step."),
        Key::new("pre-if", Takes::If, "Whether `pre` runs; always without."),
        Key::new("post", Takes::Word, "The file that is run after the job's last step."),
        Key::new("post-if", Takes::If, "Whether `post` runs; always without."),
    ],
    others: Others::Refused,
};

pub(crate) static DOCKER: Shape = Shape {
    what: "`runs` of a docker action",
    id: "docker",
    keys: &[
        Key::required("using", Takes::OneOf(&["docker"]), "What runs it."),
        Key::required("image", Takes::Word, "`Dockerfile`, a path to one, or `docker://image`."),
        Key::new("env", VARIABLES, "Environment variables of the container."),
        Key::new("entrypoint", Takes::Word, "What runs in it, in place of the image's entry point."),
        Key::new("args", Takes::List(&Takes::Text), "What its entry point is given."),
        Key::new("pre-entrypoint", Takes::Word, "What runs in it before the job's first step."),
        Key::new("pre-if", Takes::If, "Whether `pre-entrypoint` runs; always without."),
        Key::new("post-entrypoint", Takes::Word, "What runs in it after the job's last step."),
        Key::new("post-if", Takes::If, "Whether `post-entrypoint` runs; always without."),
    ],
    others: Others::Refused,
};

pub(crate) static COMPOSITE_STEP: Shape = Shape {
    what: "a step of a composite action",
    id: "composite-step",
    keys: &[
        Key::new("id", Takes::Word, "By which `steps` knows it."),
        Key::new("name", Takes::Text, "Its name."),
        Key::new("if", Takes::If, "Whether it runs."),
        Key::new("run", Takes::Word, "A script."),
        Key::new("shell", Takes::Text, "What runs the script; a step with `run` needs it."),
        Key::new("working-directory", Takes::Text, "Where the script runs."),
        Key::new("uses", Takes::Word, "An action."),
        Key::new("with", VARIABLES, "The inputs of the action."),
        Key::new("env", VARIABLES, "Its environment variables."),
        Key::new(
            "continue-on-error",
            Takes::Bool,
            "Whether the job goes on as if nothing was when it fails.",
        ),
    ],
    others: Others::Refused,
};

pub(crate) const COLOURS: [&str; 8] =
    ["white", "yellow", "blue", "green", "orange", "red", "purple", "gray-dark"];

pub(crate) static BRANDING: Shape = Shape {
    what: "`branding`",
    id: "branding",
    keys: &[
        Key::new("icon", Takes::Text, "The name of a Feather icon."),
        Key::new("color", Takes::OneOf(&COLOURS), "Its colour."),
    ],
    others: Others::Ignored,
};
