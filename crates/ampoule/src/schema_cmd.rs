//! `ampoule schema`: the JSON schemas of workflows and of action.yml, for editors.
//!
//! Owner: `cli` calls [`run`] once. Invariant: what is printed is what `schemas/` of this version holds.

use std::io::{self, Write};

use crate::{
    class::{Class, Classed, End},
    cli::args::{SchemaArgs, SchemaOf},
};

/// Why it cannot be told.
#[derive(Debug, thiserror::Error)]
pub enum SchemaCmdError {
    /// Standard output cannot be written.
    #[error("standard output cannot be written")]
    Output(#[source] io::Error),
}

impl Classed for SchemaCmdError {
    fn class(&self) -> Class {
        match self {
            Self::Output(_) => Class::Infrastructure,
        }
    }
}

/// Prints a schema.
pub fn run(args: &SchemaArgs) -> Result<End, SchemaCmdError> {
    io::stdout().lock().write_all(text(args.of).as_bytes()).map_err(SchemaCmdError::Output)?;
    Ok(End::Success)
}

fn text(of: SchemaOf) -> String {
    let schema = match of {
        SchemaOf::Workflow => workflow::schema::workflow(),
        SchemaOf::Action => workflow::schema::action(),
    };
    format!("{schema:#}\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_what_the_repository_holds() {
        let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../schemas");
        for (of, name) in [(SchemaOf::Workflow, "workflow.json"), (SchemaOf::Action, "action.json")] {
            assert_eq!(text(of), std::fs::read_to_string(dir.join(name)).unwrap(), "{name}");
        }
    }
}
