//! The keys at the top of a workflow, and what workflow and job have in common.
//!
//! Purpose: rows of the table. Owner: [`super`].

use super::{Key, Need, Others, Reader, Shape, Takes, VARIABLES, job::JOB};

/// Why `permissions` do not matter.
const NO_PERMISSIONS: &str = "the token of a Forgejo job can do what its event allows, whatever stands here";

pub(crate) static WORKFLOW: Shape = Shape {
    what: "a workflow",
    id: "workflow",
    keys: &[
        Key::new("name", Takes::Text, "The workflow's name; without it the file's."),
        Key::new("run-name", Takes::Text, "The title of a run."),
        Key::new("description", Takes::Text, "What the workflow is for."),
        Key::required("on", Takes::Events, "What starts the workflow."),
        Key::new("env", VARIABLES, "Environment variables of all jobs."),
        Key::new("defaults", Takes::Map(&DEFAULTS), "What steps have that do not say otherwise."),
        Key::new("concurrency", CONCURRENCY, "Which runs wait for, or cancel, each other."),
        Key::ignored("permissions", PERMISSIONS, NO_PERMISSIONS, "What the job's token may do."),
        Key::new("enable-email-notifications", Takes::Flag, "Whether a failure sends an email."),
        Key::new("enable-openid-connect", Takes::Flag, "Whether jobs can ask for an OpenID Connect token."),
        Key::required("jobs", Takes::Names(&Takes::Map(&JOB)), "The jobs, by their ids."),
        Key {
            name: "__metadata",
            takes: Takes::Data,
            need: Need::Optional,
            reader: Reader::Server,
            about: "What a server notes about an expanded workflow.",
        },
    ],
    others: Others::Refused,
};

pub(crate) static DEFAULTS: Shape = Shape {
    what: "`defaults`",
    id: "defaults",
    keys: &[Key::new("run", Takes::Map(&RUN_DEFAULTS), "Of steps with `run`.")],
    others: Others::Refused,
};

pub(crate) static RUN_DEFAULTS: Shape = Shape {
    what: "`defaults.run`",
    id: "run-defaults",
    keys: &[
        Key::new("shell", Takes::Text, "The shell of steps that name none."),
        Key::new("working-directory", Takes::Text, "The directory of steps that name none."),
    ],
    others: Others::Refused,
};

pub(crate) const CONCURRENCY: Takes = Takes::Any(&[Takes::Text, Takes::Map(&CONCURRENCY_MAP)]);

pub(crate) static CONCURRENCY_MAP: Shape = Shape {
    what: "`concurrency`",
    id: "concurrency",
    keys: &[
        Key::new("group", Takes::Text, "Runs of one group wait for, or cancel, each other."),
        Key::new("cancel-in-progress", Takes::Bool, "Whether a new run cancels the one before."),
        Key {
            name: "queue",
            takes: Takes::OneOf(&QUEUES),
            need: Need::Optional,
            reader: Reader::GitHub,
            about: "How many runs may wait.",
        },
    ],
    others: Others::Refused,
};

pub(crate) const QUEUES: [&str; 2] = ["single", "max"];

pub(crate) const ALL_PERMISSIONS: [&str; 2] = ["read-all", "write-all"];

pub(crate) const PERMISSIONS: Takes =
    Takes::Any(&[Takes::OneOf(&ALL_PERMISSIONS), Takes::Map(&PERMISSIONS_MAP), Takes::Nothing]);

const ANY: Takes = Takes::OneOf(&["read", "write", "none"]);
const READ: Takes = Takes::OneOf(&["read", "none"]);
const WRITE: Takes = Takes::OneOf(&["write", "none"]);

pub(crate) static PERMISSIONS_MAP: Shape = Shape {
    what: "`permissions`",
    id: "permissions",
    keys: &[
        Key::new("actions", ANY, "Workflows and their runs."),
        Key::new("artifact-metadata", ANY, "Metadata of artifacts."),
        Key::new("attestations", ANY, "Attestations."),
        Key::new("checks", ANY, "Checks."),
        Key::new("code-quality", ANY, "Reports on code quality."),
        Key::new("contents", ANY, "Files, commits, branches, releases."),
        Key::new("copilot-requests", WRITE, "Requests to Copilot."),
        Key::new("deployments", ANY, "Deployments."),
        Key::new("discussions", ANY, "Discussions."),
        Key::new("drives", ANY, "Drives."),
        Key::new("id-token", WRITE, "OpenID Connect tokens; in Forgejo `enable-openid-connect`."),
        Key::new("issues", ANY, "Issues."),
        Key::new("models", READ, "Models."),
        Key::new("packages", ANY, "Packages."),
        Key::new("pages", ANY, "Pages."),
        Key::new("pull-requests", ANY, "Pull requests."),
        Key::new("repository-projects", ANY, "Projects of the repository."),
        Key::new("security-events", ANY, "Alerts of code scanning."),
        Key::new("statuses", ANY, "Statuses of commits."),
        Key::new("vulnerability-alerts", READ, "Alerts about vulnerable dependencies."),
    ],
    others: Others::Refused,
};
