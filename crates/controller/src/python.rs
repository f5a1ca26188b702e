//! `eval`: Python code in a sandbox, its value as text.
//!
//! The interpreter is a fresh one for each call: names do not last from one to the next. The value of a program
//! is that of its last statement, where that is an expression.

use std::time::Duration;

use sandbox::{Sandbox, Stdin};
use serde::{Deserialize, Serialize};

use crate::{
    command::{self, Command, Outcome},
    failure::Failure,
};

/// The program that reads the code, evaluates it and answers.
const PROGRAM: &str = include_str!("eval.py");

/// The answer.
#[derive(Debug, Serialize)]
pub(crate) struct Answer {
    /// `repr()` of the value; none where the code has none, or failed.
    pub(crate) result: Option<String>,
    /// Why it failed: mostly a traceback.
    pub(crate) error: Option<String>,
    pub(crate) exit_code: i32,
    /// Ours: what the code printed, to either output.
    pub(crate) output: String,
    pub(crate) timed_out: bool,
    pub(crate) truncated: bool,
}

/// What the program answers. It comes from the guest: the code that it ran may have written it.
#[derive(Deserialize)]
struct Value {
    result: Option<String>,
    error: Option<String>,
    exit_code: i32,
}

/// Evaluates code.
pub(crate) async fn eval(sandbox: &Sandbox, code: String, timeout: Duration) -> Result<Answer, Failure> {
    let command = Command {
        args: ["python3", "-c", PROGRAM].map(str::to_owned).to_vec(),
        stdin: Stdin::Bytes(code.into_bytes()),
        timeout,
    };
    Ok(answer(command::run(sandbox, command).await?))
}

fn answer(ended: command::Answer) -> Answer {
    let command::Answer { stdout, stderr, exit_code, outcome, timed_out, truncated, .. } = ended;
    let (result, error, exit_code) = match serde_json::from_str::<Value>(&stdout) {
        Ok(Value { result, error, exit_code }) => (result, error, exit_code),
        // 0 would say that there is a value
        Err(_) => (None, Some(why(outcome, &stderr, exit_code)), if exit_code == 0 { 1 } else { exit_code }),
    };
    Answer { result, error, exit_code, output: stderr, timed_out, truncated }
}

fn why(outcome: Outcome, stderr: &str, exit_code: i32) -> String {
    match outcome {
        Outcome::NotFound | Outcome::NotExecutable => stderr.trim_end().to_owned(),
        Outcome::TimedOut => "the time was over".to_owned(),
        Outcome::Signalled => format!("a signal ended the interpreter: {}", exit_code - 128),
        Outcome::Exited => {
            format!("the interpreter ended with {exit_code} and gave no value that can be read")
        }
    }
}
