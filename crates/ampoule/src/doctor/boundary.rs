//! What would stand between a job and this host, asked of the backend itself.

use jail::Part;
use vm::Boundary;

use super::{Finding, Patient};
use crate::{causes, exec::machine};

/// The name of a finding.
pub(super) const CARD: &str = "network card";

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
            return vec![Finding::bad(NAME, causes::line(&error)).mend("ampoule setup")];
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
    findings.push(jail(&capabilities.lacking));
    findings.push(card(capabilities.no_card.as_deref()));
    findings
}

/// The device in the VM; what it leads to is another finding.
fn card(missing: Option<&str>) -> Finding {
    match missing {
        None => Finding::ok(CARD, "every VM has one"),
        Some(why) => Finding::note(CARD, format!("VMs have none: {why}")),
    }
}

fn jail(lacking: &[String]) -> Finding {
    const NAME: &str = "jail";
    if lacking.is_empty() {
        return Finding::ok(NAME, "every part of it can be had");
    }
    let mut finding = Finding::note(NAME, format!("this host cannot give: {}", lacking.join(", ")));
    let filter = Part::Filter.to_string();
    if lacking.contains(&filter) {
        finding = finding
            .mend("boot a kernel with CONFIG_SECCOMP_FILTER, or leave the sandbox that forbids seccomp");
    }
    if lacking.iter().any(|part| *part != filter) {
        finding = finding.mend("run ampoule as root, or allow user namespaces");
    }
    finding
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_mends_a_jail_is_what_fits_its_missing_parts() {
        let mends =
            |parts: &[Part]| jail(&parts.iter().map(Part::to_string).collect::<Vec<_>>()).mend.join("\n");
        assert_eq!(mends(&[]), "");
        let filter = mends(&[Part::Filter]);
        assert!(filter.contains("CONFIG_SECCOMP_FILTER") && !filter.contains("root"));
        let root = mends(&[Part::Root]);
        assert!(root.contains("root") && !root.contains("SECCOMP"));
        assert_eq!(mends(&[Part::Root, Part::Filter]), format!("{filter}\n{root}"));
    }
}
