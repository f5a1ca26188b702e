//! The repository that the tests of rules look at.

use doc::Source;

use super::{Repository, ResolvedAction};
use crate::{Resolved, WorkflowRef};

const BARE_ACTION: &str = "name: x
description: x
runs: {using: composite, steps: []}
";
const ACTION: &str = "name: x
description: x
inputs:
  level: {required: true, description: x}
  colour: {description: x}
  size: {required: true, default: '1', description: x}
runs: {using: composite, steps: []}
";
const CALLED: &str = "on:
  workflow_call:
    inputs: {target: {type: string}}
    secrets: {key: {}}
jobs: {deploy: {runs-on: debian, steps: [{run: make}]}}
";

/// A repository with one workflow, by whatever name it is called, and two actions.
pub(super) struct Small;

impl Repository for Small {
    fn workflow(&mut self, _: &WorkflowRef) -> Resolved {
        Resolved::Text(Source::new("deploy.yml", CALLED))
    }

    fn action(&mut self, directory: &str) -> ResolvedAction {
        let text = |text| ResolvedAction::Text(Source::new("action.yml", text));
        match directory {
            ".forgejo/actions/setup" => text(BARE_ACTION),
            ".forgejo/actions/build" => text(ACTION),
            ".forgejo/actions/stup" => ResolvedAction::Nothing,
            _ => ResolvedAction::Unknown,
        }
    }
}
