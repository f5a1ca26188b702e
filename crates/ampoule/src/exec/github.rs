//! The `github` context of a local run, and the event's payload.
//!
//! Invariant: what the server would know and a local run cannot is there with a value of its type, so that
//! a workflow reads the same names in both places; a job adds what only it knows (`job`, `workspace`, …).

use std::{io, path::Path};

use serde_json::{Map, Value as Json, json};

use crate::{input, worktree::WorkTree};

/// Largest payload that is read, in bytes.
const PAYLOAD_MAX: u64 = 16 << 20;
/// What a commit is that is not there.
const NO_COMMIT: &str = "0000000000000000000000000000000000000000";

/// Why the payload cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PayloadError {
    /// The file cannot be read.
    #[error("the event's payload {path} cannot be read")]
    Read {
        /// The file.
        path: String,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file is too large.
    #[error("the event's payload {path} is larger than {PAYLOAD_MAX} bytes")]
    TooLarge {
        /// The file.
        path: String,
    },
    /// It is no JSON.
    #[error("the event's payload {path} is not JSON")]
    Syntax {
        /// The file.
        path: String,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// It is JSON and no object.
    #[error("the event's payload {path} is not a JSON object")]
    NoObject {
        /// The file.
        path: String,
    },
}

/// Reads `--eventpath`.
pub fn read_payload(path: &Path) -> Result<Map<String, Json>, PayloadError> {
    let name = path.display().to_string();
    let failed = |source| PayloadError::Read { path: name.clone(), source };
    let text = input::read(path, PAYLOAD_MAX).map_err(failed)?;
    if text.len() as u64 > PAYLOAD_MAX {
        return Err(PayloadError::TooLarge { path: name });
    }
    match serde_json::from_slice(&text) {
        Ok(Json::Object(payload)) => Ok(payload),
        Ok(_) => Err(PayloadError::NoObject { path: name }),
        Err(source) => Err(PayloadError::Syntax { path: name, source }),
    }
}

/// What is known of the repository, asked once.
#[derive(Clone, Debug)]
pub struct Facts {
    /// `owner/repo`.
    pub repository: String,
    /// The server's address.
    pub server_url: String,
    /// The commit that is checked out.
    pub sha: String,
    /// Full name of what is checked out.
    pub head: String,
    /// Who runs it.
    pub actor: String,
}

impl Facts {
    /// Asks git and the system.
    #[must_use]
    pub fn of(tree: &WorkTree) -> Self {
        let sha = tree.head_sha().unwrap_or_else(|| NO_COMMIT.to_owned());
        Self {
            repository: tree.repository(),
            // no server: a name that is nobody's
            server_url: tree.server_url().unwrap_or_else(|| "https://forgejo.invalid".to_owned()),
            head: tree.head_ref().unwrap_or_else(|| "refs/heads/main".to_owned()),
            sha,
            actor: actor(),
        }
    }
}

fn actor() -> String {
    ["USER", "LOGNAME"]
        .into_iter()
        .filter_map(|name| std::env::var(name).ok())
        .find(|name| !name.is_empty())
        .unwrap_or_else(|| if rustix::process::geteuid().is_root() { "root" } else { "local" }.to_owned())
}

/// What one workflow's run adds.
#[derive(Clone, Copy, Debug)]
pub struct Run<'a> {
    /// The workflow's name.
    pub workflow: &'a str,
    /// Its file, relative to the repository.
    pub file: &'a str,
    /// The event.
    pub event: &'a str,
}

/// The payload of an event that nobody sent: what workflows most often read of one.
#[must_use]
pub fn payload(facts: &Facts, event: &str) -> Map<String, Json> {
    let (owner, name) = facts.repository.split_once('/').unwrap_or(("local", &facts.repository));
    let branch = facts.head.strip_prefix("refs/heads/").unwrap_or(&facts.head);
    let user = json!({"login": facts.actor, "username": facts.actor});
    let mut payload = Map::new();
    payload.insert(
        "repository".to_owned(),
        json!({
            "name": name,
            "full_name": facts.repository,
            "owner": {"login": owner, "username": owner},
            "html_url": format!("{}/{}", facts.server_url, facts.repository),
            "clone_url": format!("{}/{}.git", facts.server_url, facts.repository),
            "default_branch": "main",
        }),
    );
    payload.insert("sender".to_owned(), user.clone());
    match event {
        "push" => {
            payload.insert("ref".to_owned(), json!(facts.head));
            payload.insert("before".to_owned(), json!(NO_COMMIT));
            payload.insert("after".to_owned(), json!(facts.sha));
            payload.insert("commits".to_owned(), json!([]));
            payload.insert("head_commit".to_owned(), json!({"id": facts.sha}));
            payload.insert("pusher".to_owned(), user);
        }
        "pull_request" | "pull_request_target" => {
            payload.insert("action".to_owned(), json!("synchronized"));
            payload.insert("number".to_owned(), json!(1));
            payload.insert(
                "pull_request".to_owned(),
                json!({
                    "number": 1,
                    "head": {"ref": branch, "sha": facts.sha},
                    "base": {"ref": "main", "sha": NO_COMMIT},
                    "user": user,
                }),
            );
        }
        _ => {
            payload.insert("ref".to_owned(), json!(facts.head));
        }
    }
    payload
}

/// The ref of a run that a pull request starts, as Forgejo has it: that of the pull request itself, and for
/// `pull_request_target` the branch that it is for.
fn pull_ref(event: &str, payload: &Map<String, Json>) -> Option<String> {
    let pull = payload.get("pull_request")?;
    if event == "pull_request_target" {
        return Some(format!("refs/heads/{}", pull.get("base")?.get("ref")?.as_str()?));
    }
    let number = payload.get("number").or_else(|| pull.get("number"))?.as_u64()?;
    event.starts_with("pull_request").then(|| format!("refs/pull/{number}/head"))
}

/// The `github` context, without its token.
#[must_use]
pub fn context(facts: &Facts, run: Run<'_>, event: Map<String, Json>) -> Json {
    let text = |path: &[&str]| {
        let mut at = event.get(*path.first()?)?;
        for key in path.get(1..)? {
            at = at.get(*key)?;
        }
        at.as_str().map(str::to_owned)
    };
    let pull = run.event.starts_with("pull_request");
    let told = text(&["ref"]).filter(|name| name.starts_with("refs/"));
    let full = told.or_else(|| pull_ref(run.event, &event)).unwrap_or_else(|| facts.head.clone());
    // as Forgejo has them: a pull request's short name is its number, and it is of no type
    let (kind, short) = if let Some(tag) = full.strip_prefix("refs/tags/") {
        ("tag", tag)
    } else if let Some(pull) = full.strip_prefix("refs/pull/") {
        ("", pull.split('/').next().unwrap_or(pull))
    } else {
        ("branch", full.strip_prefix("refs/heads/").unwrap_or(&full))
    };
    let owner = facts.repository.split('/').next().unwrap_or_default();
    json!({
        "action": "",
        "actor": facts.actor,
        "api_url": format!("{}/api/v1", facts.server_url),
        "base_ref": if pull { text(&["pull_request", "base", "ref"]).unwrap_or_default() } else { String::new() },
        "event_name": run.event,
        "graphql_url": "",
        "head_ref": if pull { text(&["pull_request", "head", "ref"]).unwrap_or_default() } else { String::new() },
        "ref": full,
        "ref_name": short,
        "ref_protected": false,
        "ref_type": kind,
        "repository": facts.repository,
        "repository_owner": owner,
        "repositoryUrl": format!("{}/{}.git", facts.server_url, facts.repository),
        "retention_days": "0",
        "run_attempt": "1",
        "run_id": "1",
        "run_number": "1",
        "server_url": facts.server_url,
        "sha": facts.sha,
        "triggering_actor": facts.actor,
        "workflow": run.workflow,
        "workflow_ref": format!("{}/{}@{full}", facts.repository, run.file),
        "workflow_sha": facts.sha,
        "event": Json::Object(event),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            repository: "own/repo".to_owned(),
            server_url: "https://codeberg.org".to_owned(),
            sha: "a".repeat(40),
            head: "refs/heads/side/way".to_owned(),
            actor: "me".to_owned(),
        }
    }

    fn of(event: &str) -> Json {
        let run = Run { workflow: "ci", file: ".forgejo/workflows/ci.yml", event };
        context(&facts(), run, payload(&facts(), event))
    }

    #[test]
    fn a_push_and_a_pull_request_name_their_refs() {
        let push = of("push");
        assert_eq!(push["ref"], "refs/heads/side/way");
        assert_eq!(push["ref_name"], "side/way");
        assert_eq!(push["event"]["after"], "a".repeat(40));
        assert_eq!(push["repository_owner"], "own");
        assert_eq!(push["head_ref"], "");
        let pull = of("pull_request");
        assert_eq!((&pull["head_ref"], &pull["base_ref"]), (&json!("side/way"), &json!("main")));
        let refs = |of: &Json| [&of["ref"], &of["ref_name"], &of["ref_type"]].map(|name| name.clone());
        assert_eq!(refs(&pull), ["refs/pull/1/head", "1", ""]);
        assert_eq!(refs(&of("pull_request_target")), ["refs/heads/main", "main", "branch"]);
        assert_eq!(refs(&of("issues")), ["refs/heads/side/way", "side/way", "branch"]);
    }

    #[test]
    fn a_payload_of_the_user_wins() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("event.json");
        std::fs::write(&path, r#"{"ref": "refs/tags/v1"}"#).unwrap();
        let run = Run { workflow: "ci", file: "x.yml", event: "push" };
        let context = context(&facts(), run, read_payload(&path).unwrap());
        assert_eq!((&context["ref_type"], &context["ref_name"]), (&json!("tag"), &json!("v1")));
        for bad in ["[]", "{", ""] {
            std::fs::write(&path, bad).unwrap();
            assert!(read_payload(&path).is_err(), "{bad}");
        }
    }
}
