//! What there is to know of a rule, and the page of the docs that is made of it.
//!
//! Purpose: text, defaults and examples stand beside the code; a test writes the page (`UPDATE_DOCS=1`) and another
//! lets the rules loose on the examples. Owner: the table.

use std::fmt::Write;

use super::{Level, Rule};

/// What there is to know of a rule.
#[derive(Debug)]
pub struct About {
    /// Which.
    pub rule: Rule,
    /// Its name.
    pub name: &'static str,
    /// What becomes of what it finds, unless an option says otherwise.
    pub level: Level,
    /// What it finds, in a line.
    pub finds: &'static str,
    /// Why that costs.
    pub costs: &'static str,
    /// Where it finds something.
    pub wrong: Example,
    /// Where it does not.
    pub right: Example,
}

/// A part of a file.
#[derive(Clone, Copy, Debug)]
pub struct Example {
    /// Of what it is a part.
    pub frame: Frame,
    /// The text, with a line feed at its end.
    pub text: &'static str,
}

/// What a part is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Frame {
    /// Entries of `steps`.
    Steps,
    /// Keys of a job.
    Job,
    /// `on`.
    On,
    /// All of a workflow.
    File,
    /// All of an action.yml.
    Action,
}

impl Example {
    /// The file that it is a part of.
    pub fn file(&self) -> String {
        let within =
            |indent: &str| self.text.lines().fold(String::new(), |text, line| text + indent + line + "\n");
        const JOB: &str = "jobs:\n  build:\n";
        const ON: &str = "    runs-on: debian\n";
        const STEPS: &str = "    steps:\n";
        match self.frame {
            Frame::Action | Frame::File => self.text.to_owned(),
            Frame::On => format!("{}{JOB}{ON}{STEPS}      - run: make\n", self.text),
            Frame::Steps => format!("on: push\n{JOB}{ON}{STEPS}{}", within("      ")),
            Frame::Job if self.text.contains("uses:") => format!("on: push\n{JOB}{}", within("    ")),
            Frame::Job => format!("on: push\n{JOB}{ON}{}{STEPS}      - run: make\n", within("    ")),
        }
    }
}

/// In lines as the rest of the docs has them.
fn wrapped(text: &str) -> String {
    const WIDTH: usize = 120;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= WIDTH => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

/// The part of the page that is made of the table: a list of the rules and a section of each.
pub fn page() -> String {
    let mut page = String::from("| rule | default | finds |\n|---|---|---|\n");
    for rule in Rule::all() {
        let About { name, level, finds, .. } = rule.about();
        // a String takes everything
        let _ = writeln!(page, "| [`{name}`](#{name}) | {} | {finds} |", level.name());
    }
    for rule in Rule::all() {
        let About { name, level, costs, wrong, right, .. } = rule.about();
        let off = if *level == Level::Off { " Off without `--rule`." } else { "" };
        let _ = write!(
            page,
            "\n### `{name}`\n\n{}\n\n```yaml\n# wrong\n{}```\n\n```yaml\n# right\n{}```\n",
            wrapped(&format!("{costs}{off}")),
            wrong.text,
            right.text
        );
    }
    page
}
