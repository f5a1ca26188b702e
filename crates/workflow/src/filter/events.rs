//! All events, and what each can be filtered by.
//!
//! Purpose: one table of the events with activities and filters that are well known. Owner: the
//! lowering and the schema. Invariant: an event without a row in [`known`] is filtered by whatever is written.

use super::FilterKey;

/// What is known of an event.
pub(crate) struct Known {
    /// What it can be filtered by.
    pub(crate) keys: &'static [FilterKey],
    /// The activities that `types` can name; empty where that is anybody's guess.
    pub(crate) types: &'static [&'static str],
}

use FilterKey::{
    Branches, BranchesIgnore, Names, Paths, PathsIgnore, Tags, TagsIgnore, Types, Versions, Workflows,
};

/// The events of Forgejo: those of GitHub that it takes, and every name of its own happenings that it starts
/// workflows for.
pub(crate) const FORGEJO: [&str; 29] = [
    "push",
    "pull_request",
    "pull_request_target",
    "workflow_dispatch",
    "workflow_call",
    "schedule",
    "release",
    "issues",
    "issue_comment",
    "pull_request_comment",
    "pull_request_review",
    "pull_request_review_comment",
    "create",
    "delete",
    "fork",
    "gollum",
    "registry_package",
    "wiki",
    "package",
    "issue_assign",
    "issue_label",
    "issue_milestone",
    "pull_request_assign",
    "pull_request_label",
    "pull_request_milestone",
    "pull_request_review_approved",
    "pull_request_review_rejected",
    "pull_request_review_request",
    "pull_request_sync",
];

/// What has a name in Forgejo, as in its webhooks, and never starts a workflow; and the event that does.
pub(crate) const NEVER: [(&str, Option<&str>); 6] = [
    ("repository", None),
    ("pull_request_approved", Some("pull_request_review_approved")),
    ("pull_request_rejected", Some("pull_request_review_rejected")),
    ("action_run_failure", None),
    ("action_run_recover", None),
    ("action_run_success", None),
];

/// The events that only GitHub has; Gitea has a few of them.
pub(crate) const GITHUB: [&str; 20] = [
    "branch_protection_rule",
    "check_run",
    "check_suite",
    "deployment",
    "deployment_status",
    "discussion",
    "discussion_comment",
    "image_version",
    "label",
    "merge_group",
    "milestone",
    "page_build",
    "project",
    "project_card",
    "project_column",
    "public",
    "repository_dispatch",
    "status",
    "watch",
    "workflow_run",
];

const EDITS: &[&str] = &["created", "edited", "deleted"];

const PULL: &[&str] = &[
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "opened",
    "edited",
    "closed",
    "reopened",
    "synchronize",
    "converted_to_draft",
    "locked",
    "unlocked",
    "enqueued",
    "dequeued",
    "milestoned",
    "demilestoned",
    "ready_for_review",
    "review_requested",
    "review_request_removed",
    "auto_merge_enabled",
    "auto_merge_disabled",
    "stacked",
];

const ISSUES: &[&str] = &[
    "opened",
    "edited",
    "deleted",
    "transferred",
    "pinned",
    "unpinned",
    "closed",
    "reopened",
    "assigned",
    "unassigned",
    "labeled",
    "unlabeled",
    "locked",
    "unlocked",
    "milestoned",
    "demilestoned",
    "field_added",
    "field_removed",
    "typed",
    "untyped",
];

const DISCUSSION: &[&str] = &[
    "created",
    "edited",
    "deleted",
    "transferred",
    "pinned",
    "unpinned",
    "labeled",
    "unlabeled",
    "locked",
    "unlocked",
    "category_changed",
    "answered",
    "unanswered",
    "closed",
    "reopened",
];

const RELEASE: &[&str] =
    &["published", "unpublished", "created", "edited", "deleted", "prereleased", "released"];

/// What is known of an event; none of those that only some server has.
pub(crate) fn known(event: &str) -> Option<Known> {
    let (keys, types): (&[FilterKey], &[&str]) = match event {
        "push" => (&[Branches, BranchesIgnore, Tags, TagsIgnore, Paths, PathsIgnore], &[]),
        "pull_request" | "pull_request_target" => {
            (&[Types, Branches, BranchesIgnore, Paths, PathsIgnore], PULL)
        }
        "merge_group" => (&[Types, Branches, BranchesIgnore], &["checks_requested"]),
        "workflow_run" => {
            (&[Workflows, Types, Branches, BranchesIgnore], &["completed", "requested", "in_progress"])
        }
        "issues" => (&[Types], ISSUES),
        "discussion" => (&[Types], DISCUSSION),
        "release" => (&[Types], RELEASE),
        "branch_protection_rule"
        | "discussion_comment"
        | "issue_comment"
        | "label"
        | "pull_request_comment"
        | "pull_request_review_comment" => (&[Types], EDITS),
        "check_run" => (&[Types], &["created", "rerequested", "completed", "requested_action"]),
        "check_suite" => (&[Types], &["completed", "requested", "rerequested"]),
        "milestone" => (&[Types], &["created", "closed", "opened", "edited", "deleted"]),
        "project" => (&[Types], &["created", "closed", "reopened", "edited", "deleted"]),
        "project_card" => (&[Types], &["created", "moved", "converted", "edited", "deleted"]),
        "project_column" => (&[Types], &["created", "updated", "moved", "deleted"]),
        "pull_request_review" => (&[Types], &["submitted", "edited", "dismissed"]),
        "registry_package" => (&[Types], &["published", "updated"]),
        "watch" => (&[Types], &["started"]),
        "repository_dispatch" => (&[Types], &[]),
        "image_version" => (&[Types, Names, Versions], &["created", "ready", "deleted"]),
        "create" | "delete" | "deployment" | "deployment_status" | "fork" | "gollum" | "page_build"
        | "public" | "status" | "wiki" => (&[], &[]),
        _ => return None,
    };
    Some(Known { keys, types })
}
