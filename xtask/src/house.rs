//! `cargo xtask house`: the house rules that no compiler checks.
//!
//! Purpose: the import table of ARCHITECTURE.md, the fence around `unsafe`, what may show a secret, and the size and head of files.
//! Owner: `cargo xtask test` runs it as a stage.
//!
//! Invariants: a crate that the table does not know is a failure, so that a new one comes with its reason.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    run::{cargo, root},
    secrets,
};

/// Which of our crates each of our crates may import, tests aside. `None`: any.
const IMPORTS: &[(&str, Option<&[&str]>)] = &[
    ("wire", Some(&[])),
    ("doc", Some(&[])),
    ("tree", Some(&[])),
    ("workflow", Some(&["doc"])),
    ("store", Some(&[])),
    ("vm", Some(&[])),
    ("jail", Some(&[])),
    ("net", Some(&["jail"])),
    ("backends", Some(&["vm", "jail"])),
    ("sandbox", Some(&["vm", "wire", "store", "jail", "net", "tree"])),
    // `doc` reads recipe files, as it reads every file that a person writes.
    ("image", Some(&["store", "doc"])),
    // `vm` and `doc`: their plain data (sizes, policies, diagnostics) is part of what `sandbox` and `workflow` say.
    ("job", Some(&["workflow", "sandbox", "vm", "doc"])),
    ("forgejo", Some(&[])),
    // `workflow` and `sandbox`: what a job is made of and runs on is part of what `job` says.
    ("runner", Some(&["job", "forgejo", "doc", "workflow", "sandbox"])),
    // `vm`: sizes, policies and names of slots are part of what `sandbox` says. Images it knows as closures only.
    ("controller", Some(&["sandbox", "vm"])),
    ("agent", Some(&["wire", "tree"])),
    ("ampoule", None),
    ("testkit", None),
    // `jail` tells whether anything of a slot still runs.
    ("backend-contract", Some(&["vm", "wire", "jail"])),
    ("vm-tests", None),
    ("xtask", Some(&[])),
];

/// The only crates that may name `backends`: the others get a `dyn Backend`.
const WIRING: &[&str] = &["ampoule", "testkit", "vm-tests"];

/// The only crates that may hold `unsafe`.
const UNSAFE: &[&str] = &["jail", "agent"];

/// A file is split before it is longer.
const MAX_LINES: usize = 600;

/// Runs the task.
pub(crate) fn task() -> Result<()> {
    let mut wrong = imports()?;
    wrong.extend(lints()?);
    for dir in ["crates", "testing", "xtask", "fuzz"] {
        sources(&root().join(dir), &mut |path, text| wrong.extend(source(path, text)))?;
    }
    if wrong.is_empty() {
        println!("imports, unsafe, secrets, heads and lengths: ok");
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

fn imports() -> Result<Vec<String>> {
    let output = cargo(&["metadata", "--no-deps", "--format-version", "1"]).output()?;
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).context("cargo's metadata")?;
    let mut graph = BTreeMap::new();
    for package in metadata["packages"].as_array().into_iter().flatten() {
        let name = package["name"].as_str().unwrap_or_default().to_owned();
        let uses: Vec<String> = package["dependencies"]
            .as_array()
            .into_iter()
            .flatten()
            .filter(|dependency| dependency["kind"].is_null() && dependency["path"].is_string())
            .filter_map(|dependency| dependency["name"].as_str().map(str::to_owned))
            .collect();
        graph.insert(name, uses);
    }
    Ok(check_imports(&graph))
}

fn check_imports(graph: &BTreeMap<String, Vec<String>>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (name, uses) in graph {
        let Some((_, allowed)) = IMPORTS.iter().find(|(known, _)| known == name) else {
            wrong.push(format!("{name}: a new crate needs a line in xtask/src/house.rs and ARCHITECTURE.md"));
            continue;
        };
        for used in uses {
            if allowed.is_some_and(|allowed| !allowed.contains(&used.as_str()))
                || (used == "backends" && !WIRING.contains(&name.as_str()))
            {
                wrong.push(format!("{name}: must not import {used}"));
            }
        }
    }
    wrong
}

/// Every crate takes the workspace's lints, `forbid(unsafe_code)` among them, but the two fenced ones.
fn lints() -> Result<Vec<String>> {
    let mut wrong = Vec::new();
    for manifest in manifests()? {
        let text = fs::read_to_string(&manifest)?;
        let name = manifest.parent().and_then(Path::file_name).unwrap_or_default().display().to_string();
        if !text.contains("[lints]\nworkspace = true") && !UNSAFE.contains(&name.as_str()) {
            wrong.push(format!("{}: does not take the workspace's lints", short(&manifest)));
        }
    }
    Ok(wrong)
}

fn manifests() -> Result<Vec<PathBuf>> {
    let mut found = vec![root().join("xtask/Cargo.toml")];
    for dir in ["crates", "testing"] {
        for entry in fs::read_dir(root().join(dir))? {
            let manifest = entry?.path().join("Cargo.toml");
            if manifest.is_file() {
                found.push(manifest);
            }
        }
    }
    Ok(found)
}

fn sources(dir: &Path, each: &mut dyn FnMut(&Path, &str)) -> Result<()> {
    for entry in fs::read_dir(dir).with_context(|| format!("reading {}", dir.display()))? {
        let path = entry?.path();
        if path.is_dir() {
            if !path.ends_with("target") {
                sources(&path, each)?;
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            each(&path, &fs::read_to_string(&path)?);
        }
    }
    Ok(())
}

fn source(path: &Path, text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let lines = text.lines().count();
    if lines > MAX_LINES {
        wrong.push(format!("{}: {lines} lines, split it before {MAX_LINES}", short(path)));
    }
    if !text.starts_with("//!") {
        wrong.push(format!("{}: does not begin with its purpose (//!)", short(path)));
    }
    wrong.extend(secrets::shown(text).into_iter().map(|what| format!("{}: {what}", short(path))));
    wrong
}

fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(name: &str, uses: &[&str]) -> BTreeMap<String, Vec<String>> {
        BTreeMap::from([(name.to_owned(), uses.iter().map(|&word| word.to_owned()).collect())])
    }

    #[test]
    fn an_import_outside_the_table_is_found() {
        assert!(check_imports(&graph("sandbox", &["vm", "wire"])).is_empty());
        assert_eq!(check_imports(&graph("wire", &["vm"])), ["wire: must not import vm"]);
        assert_eq!(check_imports(&graph("sandbox", &["backends"])), ["sandbox: must not import backends"]);
        assert_eq!(check_imports(&graph("newcomer", &[])).len(), 1);
    }

    #[test]
    fn a_long_file_and_one_without_a_head_are_found() {
        assert!(source(Path::new("a.rs"), "//! A.\n").is_empty());
        assert_eq!(source(Path::new("a.rs"), "fn a() {}\n").len(), 1);
        assert_eq!(source(Path::new("a.rs"), &format!("//! A.\n{}", "\n".repeat(600))).len(), 1);
    }
}
