//! The config of a git directory, written anew: what a VM needs of it and nothing else.

use std::{ffi::OsStr, path::Path};

use super::{Error, Git, url};

/// Keys without a subsection, in lower case as git lists them.
const PLAIN: [&str; 12] = [
    "core.repositoryformatversion",
    "core.filemode",
    "core.symlinks",
    "core.ignorecase",
    "core.precomposeunicode",
    "core.autocrlf",
    "core.eol",
    "core.safecrlf",
    "core.sparsecheckout",
    "core.sparsecheckoutcone",
    "extensions.objectformat",
    "extensions.refstorage",
];

/// Longest value that is taken over, in bytes.
const VALUE_MAX: usize = 4096;

/// The text of a config for the copy of a git directory, from the files `config` and `config.worktree` of it.
pub(super) fn sanitised(git: &Git, files: &[&Path]) -> Result<String, Error> {
    let mut text = String::from("[core]\n\tbare = false\n\tlogallrefupdates = true\n");
    for file in files {
        let options = ["config", "--no-includes", "--list", "-z", "--file"].map(OsStr::new);
        let args: Vec<&OsStr> = options.into_iter().chain([file.as_os_str()]).collect();
        let listed = git.run(&args)?;
        for entry in listed.split(|b| *b == 0) {
            let Ok(entry) = std::str::from_utf8(entry) else { continue };
            let (key, value) = entry.split_once('\n').unwrap_or((entry, "true"));
            if let Some(lines) = kept(key, value) {
                text.push_str(&lines);
            }
        }
    }
    Ok(text)
}

/// A setting as lines of a config file, if it may travel.
fn kept(key: &str, value: &str) -> Option<String> {
    if value.len() > VALUE_MAX || value.contains('\0') {
        return None;
    }
    let (section, rest) = key.split_once('.')?;
    let Some((subsection, name)) = rest.rsplit_once('.') else {
        return PLAIN.contains(&key).then(|| format!("[{section}]\n\t{rest} = {}\n", quoted(value)));
    };
    if subsection.contains(['\n', '\0']) {
        return None;
    }
    let value = match (section, name) {
        ("remote" | "submodule", "url") => url::sanitised(value)?,
        ("remote", "fetch" | "tagopt")
        | ("branch", "remote" | "merge" | "rebase")
        | ("submodule", "active") => {
            // a branch may name its remote by a URL
            if name == "remote" && (value.contains("://") || value.contains('@')) {
                url::sanitised(value)?
            } else {
                value.to_owned()
            }
        }
        _ => return None,
    };
    Some(format!("[{section} {}]\n\t{name} = {}\n", quoted(subsection), quoted(&value)))
}

/// A quoted string of git's config syntax.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => {
                out.push('\\');
                out.push(c);
            }
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            c if c.is_control() => {}
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_that_hold_or_run_something_do_not_travel() {
        for key in [
            "http.https://h/.extraheader",
            "credential.helper",
            "core.hookspath",
            "core.fsmonitor",
            "core.sshcommand",
            "core.worktree",
            "include.path",
            "url.https://token@h/.insteadof",
            "filter.x.clean",
            "alias.x",
            "remote.origin.pushurl",
            "remote.origin.uploadpack",
            "remote.origin.proxy",
            "user.signingkey",
        ] {
            assert_eq!(kept(key, "x"), None, "{key}");
        }
        assert_eq!(kept("remote.origin.url", "ext::sh -c id"), None);
        assert_eq!(
            kept("remote.a\"b.url", "https://t@h/p").unwrap(),
            "[remote \"a\\\"b\"]\n\turl = \"https://h/p\"\n"
        );
        assert_eq!(kept("core.autocrlf", "a\nb").unwrap(), "[core]\n\tautocrlf = \"a\\nb\"\n");
    }
}
