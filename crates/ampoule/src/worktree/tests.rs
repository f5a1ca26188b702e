//! Real repositories in temporary directories.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    os::unix::fs::{PermissionsExt, symlink},
    path::Path,
    process::Command,
};

use super::*;

fn git(dir: &Path, args: &[&str]) {
    let output = Command::new("git")
        .args(["-c", "user.name=t", "-c", "user.email=t@t", "-c", "protocol.file.allow=always"])
        .args(["-c", "init.defaultBranch=main"])
        .args(args)
        .current_dir(dir)
        .env_remove("GIT_DIR")
        .env_remove("GIT_INDEX_FILE")
        .output()
        .unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn write(dir: &Path, name: &str, text: &str) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// A repository with one commit, below `dir`.
fn repository(dir: &Path, name: &str) -> PathBuf {
    let root = dir.join(name);
    fs::create_dir_all(&root).unwrap();
    git(&root, &["init", "-q"]);
    write(&root, "tracked", "one");
    write(&root, "sub/deep", "deep");
    write(&root, ".gitignore", "*.ignored\nbuild/\n");
    git(&root, &["add", "."]);
    git(&root, &["commit", "-q", "-m", "first"]);
    root
}

/// The tree unpacked: text of files, targets of links after `->`, directories as `/`.
fn taken(root: &Path) -> BTreeMap<String, String> {
    let mut bytes = Vec::new();
    WorkTree::find(root).unwrap().write_tar(&mut bytes).unwrap();
    read(&bytes)
}

fn read(bytes: &[u8]) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in tar::Archive::new(bytes).entries().unwrap() {
        let mut entry = entry.unwrap();
        let name = entry.path().unwrap().to_string_lossy().trim_end_matches('/').to_owned();
        let text = match entry.header().entry_type() {
            tar::EntryType::Directory => "/".to_owned(),
            tar::EntryType::Symlink => format!("->{}", entry.link_name().unwrap().unwrap().display()),
            _ => {
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                String::from_utf8_lossy(&content).into_owned()
            }
        };
        assert!(found.insert(name.clone(), text).is_none(), "{name} twice");
    }
    found
}

/// Unpacks the tree and asks git there.
fn unpacked(root: &Path, into: &Path) {
    let mut bytes = Vec::new();
    WorkTree::find(root).unwrap().write_tar(&mut bytes).unwrap();
    tar::Archive::new(bytes.as_slice()).unpack(into).unwrap();
}

fn ask(dir: &Path, args: &[&str]) -> String {
    let output = Command::new("git").args(args).current_dir(dir).output().unwrap();
    assert!(output.status.success(), "git {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

#[test]
fn the_tree_is_as_on_disk_without_ignored_files() {
    let dir = tempfile::tempdir().unwrap();
    let root = repository(dir.path(), "r");
    write(&root, "tracked", "changed");
    write(&root, "new file", "new");
    write(&root, "x.ignored", "no");
    write(&root, "build/out", "no");
    fs::remove_file(root.join("sub/deep")).unwrap();
    fs::set_permissions(root.join("new file"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("/etc/passwd", root.join("link")).unwrap();
    write(&root, "staged", "staged");
    git(&root, &["add", "staged"]);
    write(&root, "staged", "and changed");

    let found = taken(&root.join("sub"));
    assert_eq!(found["tracked"], "changed");
    assert_eq!(found["new file"], "new");
    assert_eq!(found["staged"], "and changed");
    assert_eq!(found["link"], "->/etc/passwd");
    assert!(
        !found.contains_key("x.ignored")
            && !found.contains_key("build/out")
            && !found.contains_key("sub/deep")
    );

    let copy = tempfile::tempdir().unwrap();
    unpacked(&root, copy.path());
    assert_eq!(ask(copy.path(), &["status", "--porcelain"]), ask(&root, &["status", "--porcelain"]));
    assert_eq!(ask(copy.path(), &["rev-parse", "HEAD"]), WorkTree::find(&root).unwrap().head_sha().unwrap());
    assert_eq!(WorkTree::find(&root).unwrap().head_ref().as_deref(), Some("refs/heads/main"));
    assert_eq!(fs::metadata(copy.path().join("new file")).unwrap().permissions().mode() & 0o777, 0o755);
}

#[test]
fn the_git_directory_holds_no_credential_and_no_hook() {
    let dir = tempfile::tempdir().unwrap();
    let root = repository(dir.path(), "r");
    for (key, value) in [
        ("remote.origin.url", "https://me:hunter2@codeberg.org/own/repo.git"),
        ("remote.origin.pushurl", "https://me:hunter2@codeberg.org/own/repo.git"),
        ("http.https://codeberg.org/.extraheader", "AUTHORIZATION: basic hunter2"),
        ("url.https://hunter2@codeberg.org/.insteadOf", "https://codeberg.org/"),
        ("credential.helper", "!echo hunter2"),
        ("branch.main.remote", "https://hunter2@codeberg.org/own/repo"),
    ] {
        git(&root, &["config", key, value]);
    }
    write(&root, ".git/hooks/post-checkout", "hunter2");
    write(&root, ".git/FETCH_HEAD", "x branch 'main' of https://hunter2@codeberg.org/own/repo");
    write(&root, ".git/logs/HEAD", "clone: from https://hunter2@codeberg.org/own/repo");
    write(&root, ".git/credentials", "hunter2");
    write(&root, ".git/objects/ab/secret", "hunter2");

    let found = taken(&root);
    for (name, text) in &found {
        assert!(!text.contains("hunter2"), "{name}: {text}");
    }
    assert!(!found.keys().any(|name| name.contains("hooks")));
    assert!(found[".git/config"].contains("https://codeberg.org/own/repo.git"));
    let tree = WorkTree::find(&root).unwrap();
    assert_eq!(tree.repository(), "own/repo");
    assert_eq!(tree.server_url().as_deref(), Some("https://codeberg.org"));
}

#[test]
fn a_hostile_repository_runs_nothing_and_reads_nothing_outside() {
    let dir = tempfile::tempdir().unwrap();
    let root = repository(dir.path(), "r");
    let outside = dir.path().join("outside");
    write(&outside, "deep", "private");
    let proof = dir.path().join("proof");
    let run = format!("touch {}", proof.display());
    for key in
        ["core.fsmonitor", "core.sshCommand", "core.pager", "core.askPass", "gpg.program", "alias.ls-files"]
    {
        git(&root, &["config", key, &run]);
    }
    git(&root, &["config", "filter.evil.clean", &run]);
    git(&root, &["config", "filter.evil.process", &run]);
    write(&root, ".gitattributes", "* filter=evil\n");
    write(&root, ".git/hooks/post-index-change", &format!("#!/bin/sh\n{run}\n"));
    fs::set_permissions(root.join(".git/hooks/post-index-change"), fs::Permissions::from_mode(0o755))
        .unwrap();
    // git config itself refuses nothing here: the tree is moved by it
    git(&root, &["config", "core.worktree", outside.to_str().unwrap()]);
    // a directory that is tracked becomes a link out of the tree
    fs::remove_dir_all(root.join("sub")).unwrap();
    symlink(&outside, root.join("sub")).unwrap();
    symlink(&outside, root.join(".git/info/exclude-link")).unwrap();
    fs::remove_file(root.join(".git/info/exclude")).ok();
    symlink(outside.join("deep"), root.join(".git/info/exclude")).unwrap();

    let tree = WorkTree::find(&root).unwrap();
    assert_eq!(tree.root(), fs::canonicalize(&root).unwrap());
    let found = taken(&root);
    assert_eq!(tree.repository(), "local/r");
    assert!(tree.head_sha().is_some());
    assert!(!proof.exists(), "the repository had something executed");
    assert!(found["sub"].starts_with("->"));
    assert!(!found.contains_key("sub/deep"));
    assert!(found.values().all(|text| !text.contains("private")), "{found:?}");
}

#[test]
fn a_pointer_to_another_repository_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let private = repository(dir.path(), "private");
    let hostile = dir.path().join("hostile");
    write(&hostile, ".git", &format!("gitdir: {}/.git\n", private.display()));
    let error = WorkTree::find(&hostile).unwrap_err();
    assert!(
        matches!(&error, Error::GitDir { reason, .. } if reason.contains("not a git directory of this tree")),
        "{error}"
    );

    fs::remove_file(hostile.join(".git")).unwrap();
    symlink(private.join(".git"), hostile.join(".git")).unwrap();
    assert!(matches!(WorkTree::find(&hostile), Err(Error::GitDir { .. })));
}

#[test]
fn worktrees_and_submodules_get_a_git_directory_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    let root = repository(dir.path(), "r");
    let lib = repository(dir.path(), "lib");
    git(&root, &["submodule", "--quiet", "add", lib.to_str().unwrap(), "vendor/lib"]);
    git(&root, &["commit", "-q", "-m", "submodule"]);
    let other = dir.path().join("other");
    git(&root, &["worktree", "add", "-q", "-b", "side", other.to_str().unwrap()]);
    write(&other, "only here", "x");

    let copy = tempfile::tempdir().unwrap();
    unpacked(&root, copy.path());
    assert_eq!(ask(copy.path(), &["status", "--porcelain"]), "");
    assert_eq!(
        ask(&copy.path().join("vendor/lib"), &["rev-parse", "HEAD"]),
        ask(&lib, &["rev-parse", "HEAD"])
    );
    assert_eq!(fs::read_to_string(copy.path().join("vendor/lib/sub/deep")).unwrap(), "deep");

    let copy = tempfile::tempdir().unwrap();
    unpacked(&other, copy.path());
    assert_eq!(ask(copy.path(), &["symbolic-ref", "HEAD"]), "refs/heads/side");
    assert_eq!(ask(copy.path(), &["status", "--porcelain"]), "?? \"only here\"");
}

#[test]
fn a_clone_that_borrows_objects_brings_them() {
    let dir = tempfile::tempdir().unwrap();
    let root = repository(dir.path(), "r");
    git(dir.path(), &["clone", "-q", "--shared", root.to_str().unwrap(), "borrower"]);
    let copy = tempfile::tempdir().unwrap();
    unpacked(&dir.path().join("borrower"), copy.path());
    assert_eq!(ask(copy.path(), &["fsck", "--strict"]), "");
    assert_eq!(ask(copy.path(), &["log", "--format=%s"]), "first");
}

#[test]
fn an_unborn_branch_and_a_directory_without_git_work() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("My Project");
    write(&root, "a/b", "x");
    fs::create_dir_all(root.join("empty")).unwrap();
    let tree = WorkTree::find(&root).unwrap();
    assert!(!tree.has_git());
    assert_eq!(tree.repository(), "local/My-Project");
    assert_eq!((tree.head_sha(), tree.head_ref()), (None, None));
    let found = taken(&root);
    assert_eq!(found.keys().collect::<Vec<_>>(), ["a", "a/b", "empty"]);

    git(&root, &["init", "-q"]);
    let tree = WorkTree::find(&root).unwrap();
    assert_eq!((tree.head_sha(), tree.head_ref().as_deref()), (None, Some("refs/heads/main")));
    assert!(taken(&root).contains_key(".git/HEAD"));
}

#[test]
fn a_directory_with_workflows_of_its_own_is_the_tree_also_within_a_repository() {
    let dir = tempfile::tempdir().unwrap();
    let root = repository(dir.path(), "repo");
    write(&root, "example/.forgejo/workflows/a.yml", "on: push\n");
    write(&root, "example/src/b", "b\n");
    let tree = WorkTree::find(&root.join("example")).unwrap();
    assert_eq!(tree.root(), root.join("example").canonicalize().unwrap());
    assert_eq!(tree.repository(), "local/example");
    assert!(!tree.has_git());
    assert_eq!(WorkTree::find(&root.join("example/src")).unwrap().root(), root.canonicalize().unwrap());

    write(&root, "example/x.ignored", "");
    let found = taken(&root.join("example"));
    assert!(
        found.contains_key("src/b")
            && !found.keys().any(|name| name.contains("ignored") || name.contains(".git"))
    );
    // a project in a place that the repository ignores is a project all the same
    write(&root, "build/project/.forgejo/workflows/a.yml", "on: push\n");
    assert!(taken(&root.join("build/project")).contains_key(".forgejo/workflows/a.yml"));
}

#[test]
fn a_directory_that_is_not_there_is_an_error() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(WorkTree::find(&dir.path().join("no")), Err(Error::Directory { .. })));
    write(dir.path(), "file", "");
    assert!(matches!(WorkTree::find(&dir.path().join("file")), Err(Error::Directory { .. })));
}

#[test]
fn what_no_archive_can_hold_is_named() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path(), "plain", "text");
    let _socket = std::os::unix::net::UnixListener::bind(dir.path().join("socket")).unwrap();
    let made = Command::new("mkfifo").arg(dir.path().join("pipe")).status().unwrap();
    assert!(made.success());
    let mut bytes = Vec::new();
    let packed = WorkTree::find(dir.path()).unwrap().write_tar(&mut bytes).unwrap();
    assert_eq!(packed.left_out, ["`pipe` is a named pipe", "`socket` is a socket"]);
    assert_eq!(read(&bytes).keys().collect::<Vec<_>>(), ["plain"]);
}
