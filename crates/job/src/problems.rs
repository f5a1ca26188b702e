//! What a job's output says about places in the sources.
//!
//! Purpose: the problem matchers of a job, the files that they come from, and how many annotations a step may
//! make. Owner: the job between its steps, a step's [`crate::output::Output`] while it runs. Pure.
//!
//! Invariants: matchers see masked rows, so that nothing of theirs needs a mask; a file below the workspace
//! is named from there; what is wrong with a file of matchers is a warning, for other runners ignore them.

use doc::Rendering;
use workflow::{
    command::Annotation,
    matcher::{self, Matchers},
};

use crate::{
    output::Row,
    sanitise::{self, Colours},
};

/// Most annotations of a step. Rows behind them say what they say.
const MAX_ANNOTATIONS: usize = 1000;

/// Most faults of a file that the log shows.
const MAX_FAULTS: usize = 3;

/// A file of matchers that a command named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Its matchers look at the rows that follow.
    Add(String),
    /// They do so no longer.
    Remove(String),
}

impl Wanted {
    /// As the command wrote it.
    pub(crate) fn path(&self) -> &str {
        match self {
            Self::Add(path) | Self::Remove(path) => path,
        }
    }

    const fn command(&self) -> &'static str {
        match self {
            Self::Add(_) => "add-matcher",
            Self::Remove(_) => "remove-matcher",
        }
    }
}

/// What looks at a step's rows.
#[derive(Debug, Default)]
pub(crate) struct Problems {
    pub(crate) matchers: Matchers,
    /// As commands see it.
    workspace: String,
    made: usize,
}

impl Problems {
    /// For a new step; matchers forget what they have begun.
    pub(crate) fn new(mut matchers: Matchers, workspace: String) -> Self {
        matchers.reset();
        Self { matchers, workspace, made: 0 }
    }

    /// Looks at a row of a step; one that says something is marked.
    pub(crate) fn look(&mut self, row: &mut Row) {
        if self.matchers.is_empty() {
            return;
        }
        let plain = sanitise::line(&row.text, Colours::Drop);
        if let Some(annotation) = self.matchers.read(&plain) {
            row.text = format!("##[{}]{plain}", annotation.level.name());
            row.annotation = self.take(annotation);
        }
    }

    /// An annotation, if the step may make one more.
    pub(crate) fn take(&mut self, mut annotation: Annotation) -> Option<Box<Annotation>> {
        if self.made == MAX_ANNOTATIONS {
            return None;
        }
        self.made += 1;
        let below = |file: &String| {
            let path = file.strip_prefix(&self.workspace)?.strip_prefix('/')?;
            (!self.workspace.is_empty() && !path.is_empty()).then(|| path.to_owned())
        };
        if let Some(path) = annotation.file.as_ref().and_then(below) {
            annotation.file = Some(path);
        }
        Some(Box::new(annotation))
    }

    /// Does what was wanted with the content of the file, or the reason why there is none. What the log should
    /// say about it.
    pub(crate) fn answer(&mut self, wanted: &Wanted, content: Result<Vec<u8>, String>) -> Option<String> {
        let path = sanitise::line(&wanted.path().replace(['\r', '\n'], " "), Colours::Drop);
        let said = |text: &str| Some(format!("##[warning]`{}` does nothing: {text}", wanted.command()));
        let content = match content {
            Ok(content) => content,
            Err(reason) => return said(&format!("`{path}`: {reason}")),
        };
        let matchers = match matcher::parse(&path, &content) {
            Ok(matchers) => matchers,
            Err(faults) => {
                let faults: Vec<String> =
                    faults.iter().take(MAX_FAULTS).map(|fault| fault.render(Rendering::Plain)).collect();
                return said(&format!("`{path}` is wrong\n{}", faults.join("\n").trim_end()));
            }
        };
        match wanted {
            Wanted::Add(_) => match self.matchers.add(matchers) {
                Ok(()) => None,
                Err(error) => said(&error.to_string()),
            },
            Wanted::Remove(_) => {
                matchers.iter().for_each(|matcher| self.matchers.remove(matcher.owner()));
                None
            }
        }
    }
}
