//! `cargo xtask book`: the book's pages and every relative link in the repository's documents.
//!
//! Purpose: a page that moved or was never listed is found without mdbook, which takes minutes to compile;
//! where mdbook is installed the book is built as well.
//! Owner: `cargo xtask test` runs the check as a stage.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};

use crate::{
    host,
    run::{command, root, run},
};

/// Runs the task.
pub(crate) fn task() -> Result<()> {
    check()?;
    if host::output("mdbook", &["--version"]).is_err() {
        println!("mdbook is not installed, so the book was checked but not built: cargo install mdbook");
        return Ok(());
    }
    run(&mut command("mdbook", &["build", "docs"]))
}

/// Checks that each page is listed, and each relative link leads to a file.
pub(crate) fn check() -> Result<()> {
    let src = root().join("docs/src");
    let summary = fs::read_to_string(src.join("SUMMARY.md")).context("docs/src/SUMMARY.md")?;
    let listed: Vec<PathBuf> = links(&summary).map(|link| src.join(link)).collect();
    let mut wrong = Vec::new();
    let mut documents: Vec<PathBuf> =
        ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"].iter().map(|name| root().join(name)).collect();
    for entry in fs::read_dir(&src)? {
        let page = entry?.path();
        if page.extension().is_some_and(|extension| extension == "md") {
            if !page.ends_with("SUMMARY.md") && !listed.contains(&page) {
                wrong.push(format!("{}: not listed in SUMMARY.md", short(&page)));
            }
            documents.push(page);
        }
    }
    for document in &documents {
        let text = fs::read_to_string(document).with_context(|| short(document))?;
        let dir = document.parent().unwrap_or(Path::new(""));
        for link in links(&text) {
            let file = link.split('#').next().unwrap_or_default();
            if !file.is_empty() && !dir.join(file).exists() {
                wrong.push(format!("{}: {link} leads nowhere", short(document)));
            }
        }
    }
    if wrong.is_empty() {
        println!("{} documents, their links and SUMMARY.md: ok", documents.len());
        return Ok(());
    }
    bail!("{}", wrong.join("\n"))
}

/// The targets of the inline links of a Markdown text that stay within the repository.
fn links(text: &str) -> impl Iterator<Item = &str> {
    text.match_indices("](")
        .filter_map(|(at, open)| text.get(at + open.len()..)?.split([')', '\n']).next())
        .filter(|target| !target.contains("://"))
}

fn short(path: &Path) -> String {
    path.strip_prefix(root()).unwrap_or(path).display().to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_within_the_repository_are_found() {
        let text = "See [a](a.md), [b](b.md#part) and [c](https://example.com/c.md).";
        assert_eq!(links(text).collect::<Vec<_>>(), ["a.md", "b.md#part"]);
    }
}
