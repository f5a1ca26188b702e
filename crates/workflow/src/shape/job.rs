//! The keys of a job and of a step.
//!
//! Purpose: rows of the table. Owner: [`super`].

use super::{
    Key, Need, Others, Reader, Shape, Takes, VARIABLES, WORDS,
    workflow::{CONCURRENCY, DEFAULTS, PERMISSIONS},
};

pub(crate) static JOB: Shape = Shape {
    what: "a job",
    id: "job",
    keys: &[
        Key::new("name", Takes::Text, "The job's name; without it its id."),
        Key::new("needs", WORDS, "The jobs that come before."),
        Key::new("if", Takes::If, "Whether the job runs."),
        Key::new("runs-on", RUNS_ON, "The labels of the machine."),
        Key::new(
            "strategy",
            Takes::Any(&[Takes::Map(&STRATEGY), Takes::Expr]),
            "How one job becomes several.",
        ),
        Key::new("env", VARIABLES, "Environment variables of all steps."),
        Key::new("defaults", Takes::Map(&DEFAULTS), "What steps have that do not say otherwise."),
        Key::new("outputs", Takes::Names(&Takes::Text), "What the jobs that need this one can read."),
        Key::new("steps", Takes::List(&Takes::Map(&STEP)), "What the job does, one after the other."),
        Key::new("timeout-minutes", Takes::Number, "When the job is ended, in minutes."),
        Key::new("continue-on-error", Takes::Bool, "Whether the run goes on when the job fails."),
        Key::new("container", CONTAINER, "The image in which the steps run."),
        Key::new("services", SERVICES, "Containers that run beside the job."),
        Key::new("uses", Takes::Word, "The reusable workflow that the job calls."),
        Key::new("with", Takes::Names(&Takes::Text), "The inputs of the called workflow."),
        Key::new("secrets", SECRETS, "The secrets of the called workflow."),
        Key::ignored(
            "environment",
            Takes::Any(&[Takes::Text, Takes::Map(&ENVIRONMENT)]),
            "Forgejo has no environments: nobody has to approve, and there are no secrets of its own",
            "The environment that the job deploys to.",
        ),
        Key::new("concurrency", CONCURRENCY, "Which jobs wait for, or cancel, each other."),
        Key::ignored(
            "permissions",
            PERMISSIONS,
            "the token of a Forgejo job can do what its event allows, whatever stands here",
            "What the job's token may do.",
        ),
        Key::new(
            "enable-openid-connect",
            Takes::Flag,
            "Whether the job can ask for an OpenID Connect token.",
        ),
        Key::ignored(
            "cancel-timeout-minutes",
            Takes::Number,
            "the runner decides how long a cancelled job may go on",
            "How long a cancelled job may go on.",
        ),
        Key::github(
            "snapshot",
            Takes::Any(&[Takes::Word, Takes::Map(&SNAPSHOT)]),
            "The image that is made of the machine.",
        ),
    ],
    others: Others::Refused,
};

pub(crate) const RUNS_ON: Takes =
    Takes::Any(&[Takes::Word, Takes::List(&Takes::Word), Takes::Map(&RUNS_ON_MAP)]);

pub(crate) static RUNS_ON_MAP: Shape = Shape {
    what: "`runs-on`",
    id: "runs-on",
    keys: &[
        Key::new("group", Takes::Word, "A group of runners; in Forgejo one more label."),
        Key::new("labels", WORDS, "The labels."),
    ],
    others: Others::Refused,
};

pub(crate) static STRATEGY: Shape = Shape {
    what: "`strategy`",
    id: "strategy",
    keys: &[
        Key::new("matrix", MATRIX, "The values of which every combination is a job."),
        Key::new("fail-fast", Takes::Bool, "Whether the first failure cancels the others; true without."),
        Key::new("max-parallel", Takes::Number, "How many may run at once."),
    ],
    others: Others::Refused,
};

const CELLS: Takes =
    Takes::Any(&[Takes::List(&Takes::Any(&[Takes::Names(&Takes::Data), Takes::Expr])), Takes::Expr]);

const MATRIX: Takes = Takes::Any(&[Takes::Map(&MATRIX_MAP), Takes::Expr]);

pub(crate) static MATRIX_MAP: Shape = Shape {
    what: "`matrix`",
    id: "matrix",
    keys: &[
        Key::new("include", CELLS, "Combinations, or values for them, that are added."),
        Key::new("exclude", CELLS, "Combinations that are taken out."),
    ],
    others: Others::Names(&Takes::Any(&[Takes::List(&Takes::Data), Takes::Expr])),
};

pub(crate) static ENVIRONMENT: Shape = Shape {
    what: "`environment`",
    id: "environment",
    keys: &[
        Key::required("name", Takes::Text, "Its name."),
        Key::new("url", Takes::Text, "Where it can be looked at."),
        Key::new("deployment", Takes::Bool, "Whether the job is listed as a deployment."),
    ],
    others: Others::Refused,
};

pub(crate) static SNAPSHOT: Shape = Shape {
    what: "`snapshot`",
    id: "snapshot",
    keys: &[
        Key::required("image-name", Takes::Word, "The image's name."),
        Key::new("if", Takes::If, "Whether it is made."),
        Key::new("version", Takes::Word, "The image's version."),
    ],
    others: Others::Refused,
};

pub(crate) const CONTAINER: Takes = Takes::Any(&[Takes::Text, Takes::Map(&CONTAINER_MAP)]);

pub(crate) const SERVICES: Takes =
    Takes::Any(&[Takes::Names(&Takes::Any(&[Takes::Text, Takes::Map(&SERVICE)])), Takes::Expr]);

/// The keys that containers and services have in common.
macro_rules! container_keys {
    ($($more:expr),*) => {
        &[
            Key::new("image", Takes::Text, "The image."),
            Key::new(
                "credentials",
                Takes::Any(&[Takes::Map(&CREDENTIALS), Takes::Expr]),
                "Who asks the registry for it.",
            ),
            Key::new("env", VARIABLES, "Its environment variables."),
            Key::new("ports", Takes::List(&Takes::Text), "Its ports, as `docker run --publish` takes them."),
            Key::new("volumes", Takes::List(&Takes::Text), "Its volumes, as `docker run --volume` takes them."),
            Key::new("options", Takes::Text, "Further options of `docker run`."),
            Key::new("cmd", Takes::List(&Takes::Text), "What runs in it; only Forgejo and Gitea have it."),
            $($more),*
        ]
    };
}

pub(crate) static CONTAINER_MAP: Shape =
    Shape { what: "`container`", id: "container", keys: container_keys!(), others: Others::Refused };

pub(crate) static SERVICE: Shape = Shape {
    what: "a service",
    id: "service",
    keys: container_keys!(
        Key {
            name: "entrypoint",
            takes: Takes::Text,
            need: Need::Optional,
            reader: Reader::GitHub,
            about: "What runs in it, in place of the image's entry point.",
        },
        Key {
            name: "command",
            takes: Takes::Text,
            need: Need::Optional,
            reader: Reader::GitHub,
            about: "What its entry point is given; in Forgejo `cmd`.",
        }
    ),
    others: Others::Refused,
};

pub(crate) static CREDENTIALS: Shape = Shape {
    what: "`credentials`",
    id: "credentials",
    keys: &[
        Key::required("username", Takes::Text, "The user."),
        Key::required("password", Takes::Text, "The password, by a secret."),
    ],
    others: Others::Refused,
};

pub(crate) const INHERIT: [&str; 1] = ["inherit"];

const SECRETS: Takes = Takes::Any(&[Takes::OneOf(&INHERIT), Takes::Names(&Takes::Text)]);

pub(crate) static STEP: Shape = Shape {
    what: "a step",
    id: "step",
    keys: &[
        Key::new("id", Takes::Word, "By which `steps` knows it."),
        Key::new("name", Takes::Text, "Its name."),
        Key::new("if", Takes::If, "Whether it runs."),
        Key::new("run", Takes::Word, "A script."),
        Key::new("uses", Takes::Word, "An action."),
        Key::new("with", VARIABLES, "The inputs of the action."),
        Key::new("env", VARIABLES, "Its environment variables."),
        Key::new("shell", Takes::Text, "What runs the script: a name, or a command line with `{0}`."),
        Key::new("working-directory", Takes::Text, "Where the script runs."),
        Key::new("timeout-minutes", Takes::Number, "When it is ended, in minutes."),
        Key::new(
            "continue-on-error",
            Takes::Bool,
            "Whether the job goes on as if nothing was when it fails.",
        ),
        Key::github("background", Takes::Flag, "Whether the next step begins at once."),
        Key::github("wait", WORDS, "The steps in the background that this one waits for."),
        Key::github(
            "wait-all",
            Takes::Any(&[Takes::Flag, Takes::Nothing]),
            "Waits for all in the background.",
        ),
        Key::github("cancel", Takes::Word, "The step in the background that this one ends."),
        Key::github("parallel", Takes::List(&Takes::Map(&STEP)), "Steps that run at once."),
    ],
    others: Others::Refused,
};
