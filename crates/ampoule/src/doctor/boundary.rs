//! What would stand between a job and this host, asked of the backend itself.

use vm::Boundary;

use super::{Finding, Patient};
use crate::exec::machine;

pub(super) fn look(patient: &Patient<'_>) -> Vec<Finding> {
    const NAME: &str = "boundary";
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return vec![Finding::note(NAME, format!("could not be tried: {error}"))],
    };
    let made = runtime.block_on(machine::backend(patient.machine, patient.registry, &patient.state_dir));
    let made = match made {
        Ok(made) => made,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = std::error::Error::source(&error);
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            return vec![Finding::bad(NAME, text).mend("ampoule setup")];
        }
    };
    let capabilities = made.backend.capabilities();
    let seen = format!(
        "{} ({} {}, {})",
        capabilities.boundary.label(),
        made.backend.name(),
        capabilities.version,
        capabilities.accelerator
    );
    let mut findings = vec![match (capabilities.boundary, made.note) {
        (Boundary::Hardware, None) => Finding::ok(NAME, seen),
        (_, Some(note)) => Finding::note(NAME, format!("{seen}; {note}")),
        (Boundary::Emulated | Boundary::None, None) => Finding::note(NAME, seen),
    }];
    findings.push(if capabilities.lacking.is_empty() {
        Finding::ok("jail", "every part of it can be had")
    } else {
        Finding::note("jail", format!("this host cannot give: {}", capabilities.lacking.join(", ")))
            .mend("run ampoule as root, or allow user namespaces")
    });
    findings
}
