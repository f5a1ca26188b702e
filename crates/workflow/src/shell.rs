//! The shells of `run` steps.
//!
//! Purpose: a shell's name to the command line that runs a script file. Owner: `job` runs it.
//! Invariant: what is no shell here is refused by name, never run by another.

use std::fmt;

use doc::did_you_mean;

/// A shell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// `bash --noprofile --norc -e -o pipefail`; also when no shell is named.
    Bash,
    /// `sh -e`
    Sh,
    /// `python3`
    Python,
    /// `node`
    Node,
}

/// A shell that does not run here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the shell `{name}` {reason}")]
pub struct UnknownShell {
    /// Its name as written.
    pub name: String,
    /// Why it does not run.
    pub reason: &'static str,
    /// The shell that was probably meant.
    pub suggestion: Option<&'static str>,
}

impl Shell {
    /// All names.
    pub const NAMES: [&'static str; 4] = ["bash", "sh", "python", "node"];

    /// By name.
    ///
    /// # Errors
    /// A shell that is unknown, is for another system, or is written as a command line with `{0}`.
    pub fn parse(name: &str) -> Result<Shell, UnknownShell> {
        let reason = match name.trim() {
            "bash" => return Ok(Shell::Bash),
            "sh" => return Ok(Shell::Sh),
            "python" => return Ok(Shell::Python),
            "node" => return Ok(Shell::Node),
            "pwsh" => "is not in the image",
            "powershell" | "cmd" => "is for Windows, and jobs run on Linux",
            custom if custom.contains("{0}") => "is a command line of its own, which does not work yet",
            _ => "is unknown",
        };
        let suggestion = did_you_mean(name, Shell::NAMES);
        Err(UnknownShell { name: name.to_owned(), reason, suggestion })
    }

    /// Program and arguments; the path of the script file comes after them.
    pub fn command(self) -> &'static [&'static str] {
        match self {
            Shell::Bash => &["bash", "--noprofile", "--norc", "-e", "-o", "pipefail"],
            Shell::Sh => &["sh", "-e"],
            Shell::Python => &["python3"],
            Shell::Node => &["node"],
        }
    }

    /// The script file's ending, with the point.
    pub fn extension(self) -> &'static str {
        match self {
            Shell::Bash | Shell::Sh => ".sh",
            Shell::Python => ".py",
            Shell::Node => ".cjs",
        }
    }
}

impl fmt::Display for Shell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Shell::Bash => "bash",
            Shell::Sh => "sh",
            Shell::Python => "python",
            Shell::Node => "node",
        })
    }
}
