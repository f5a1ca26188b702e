//! `ampoule eval`: the value of one expression, as JSON.
//!
//! Owner: `cli` calls [`run`] once. Invariant: nothing is read but the file that is named, and nothing is
//! printed on standard output but the value.

use std::{
    io::{self, Write},
    path::{Path, PathBuf},
};

use doc::did_you_mean;
use serde_json::Value as Json;
use workflow::{ContextName, Contexts, Eval, Site, Status, Value};

use crate::{
    class::{Class, Classed, End},
    cli::args::EvalArgs,
    exec::show,
    input, pretty,
    sink::Look,
};

/// Largest file of contexts that is read, in bytes.
const FILE_MAX: u64 = 16 << 20;

/// Why there is no value.
#[derive(Debug, thiserror::Error)]
pub enum EvalCmdError {
    /// The file cannot be read.
    #[error("the contexts {} cannot be read", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// The file is too large.
    #[error("the contexts {} are larger than {FILE_MAX} bytes", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
    },
    /// It is no JSON.
    #[error("the contexts {} are not JSON", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
    /// It is JSON and no object.
    #[error(
        "the contexts {} are not a JSON object: write one such as {{\"github\": {{\"ref\": \"refs/heads/main\"}}}}",
        path.display()
    )]
    NoObject {
        /// The file.
        path: PathBuf,
    },
    /// It has a key that is no context.
    #[error("there is no context `{name}`; {hint}")]
    Unknown {
        /// The key.
        name: String,
        /// What there is.
        hint: String,
    },
    /// The expression asks for files.
    #[error("`hashFiles` looks at the files of a running job, and there is none here")]
    Files,
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

impl Classed for EvalCmdError {
    fn class(&self) -> Class {
        match self {
            Self::Read { .. }
            | Self::TooLarge { .. }
            | Self::Syntax { .. }
            | Self::NoObject { .. }
            | Self::Unknown { .. }
            | Self::Files => Class::User,
            Self::Output(_) => Class::Infrastructure,
        }
    }
}

/// Prints the value, or shows what is wrong with the expression.
pub fn run(args: &EvalArgs) -> Result<End, EvalCmdError> {
    let contexts = match &args.context {
        Some(path) => read(path)?,
        None => Contexts::new(),
    };
    let value = match value(&args.expr, &contexts) {
        Ok(Eval::Value(value)) => value,
        Ok(Eval::Need(_)) => return Err(EvalCmdError::Files),
        Err(found) => {
            show(Look::of(&io::stderr()), &found);
            return Ok(Class::User.into());
        }
    };
    let text = pretty::json(&value.to_json());
    io::stdout().lock().write_all(text.as_bytes()).map_err(EvalCmdError::Output)?;
    Ok(End::Success)
}

/// The value of an expression, or of text with expressions in `${{ }}`.
fn value(text: &str, contexts: &Contexts) -> Result<Eval, Vec<doc::Diagnostic>> {
    let value = if text.contains("${{") {
        workflow::parse_template(text.trim(), Site::Anywhere)?.eval(contexts)
    } else {
        workflow::parse_expr(text, Site::Anywhere)?.eval(contexts)
    };
    value.map_err(|error| vec![error.to_diagnostic()])
}

/// The contexts of a file. The status functions say what `job.status` in it says.
fn read(path: &Path) -> Result<Contexts, EvalCmdError> {
    let failed = |source| EvalCmdError::Read { path: path.to_owned(), source };
    let text = input::read(path, FILE_MAX).map_err(failed)?;
    if text.len() as u64 > FILE_MAX {
        return Err(EvalCmdError::TooLarge { path: path.to_owned() });
    }
    match serde_json::from_slice(&text) {
        Ok(Json::Object(entries)) => contexts(&entries),
        Ok(_) => Err(EvalCmdError::NoObject { path: path.to_owned() }),
        Err(source) => Err(EvalCmdError::Syntax { path: path.to_owned(), source }),
    }
}

fn contexts(entries: &serde_json::Map<String, Json>) -> Result<Contexts, EvalCmdError> {
    let mut contexts = Contexts::new();
    for (name, value) in entries {
        let Some(context) = ContextName::parse(name) else {
            let names = || ContextName::NAMES.iter().map(|(name, _)| *name);
            let hint = match did_you_mean(name, names()) {
                Some(near) => format!("did you mean `{near}`?"),
                None => format!("there are {}", names().collect::<Vec<_>>().join(", ")),
            };
            return Err(EvalCmdError::Unknown { name: name.clone(), hint });
        };
        contexts.set(context, Value::from_json(value));
    }
    match &*contexts.get(ContextName::Job).get("status").to_text() {
        "failure" => contexts.set_status(Status::FAILURE),
        "cancelled" => contexts.set_status(Status::CANCELLED),
        _ => contexts.set_status(Status::SUCCESS),
    };
    Ok(contexts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str, file: &str) -> String {
        let Json::Object(entries) = serde_json::from_str(file).unwrap() else { panic!("an object") };
        let contexts = match contexts(&entries) {
            Ok(contexts) => contexts,
            Err(error) => return error.to_string(),
        };
        match value(text, &contexts) {
            Ok(Eval::Value(value)) => value.to_json().to_string(),
            Ok(Eval::Need(query)) => format!("{query:?}"),
            Err(found) => found.iter().map(|fault| fault.render(doc::Rendering::Plain)).collect(),
        }
    }

    #[test]
    fn values_with_and_without_braces() {
        let file = r#"{"github": {"ref": "main"}, "env": {"A": "b"}, "jobs": {"x": {"result": "success"}}}"#;
        for (text, value) in [
            ("github.ref", "\"main\""),
            (" ${{ github.ref }} ", "\"main\""),
            ("${{ 1 == 1 }}", "true"),
            ("on ${{ forgejo.ref }}, ${{ env.A }}", "\"on main, b\""),
            ("-1", "-1"),
            ("jobs.x.result", "\"success\""),
            ("success()", "true"),
            ("secrets.NONE", "null"),
            ("hashFiles('x')", r#"HashFiles(["x"])"#),
        ] {
            assert_eq!(said(text, file), value, "{text}");
        }
        assert_eq!(said("failure() && !success()", r#"{"job": {"status": "failure"}}"#), "true");
        assert_eq!(said("cancelled()", r#"{"job": {"status": "cancelled"}}"#), "true");
    }

    #[test]
    fn faults_point_into_the_expression() {
        insta::assert_snapshot!(
            [
                said("githb.ref", "{}"),
                said("a ${{ github.ref = 'x' }}", "{}"),
                said("format('{0} {2}', 1, fromJSON('{'))", "{}"),
                said("x", r#"{"gitub": {}}"#),
                said("x", r#"{"banana": {}}"#),
            ]
            .join("\n\n")
        );
    }
}
