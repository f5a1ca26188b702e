//! Replays the corpus of the fuzz target: whatever an archive says, nothing appears beside the tree.

#[path = "../../../testing/replay.rs"]
mod replay;

use std::{fs, os::fd::AsFd};

use replay::replay;

#[test]
fn untar() {
    replay("untar", |input| {
        let outside = tempfile::tempdir().expect("a directory");
        let tree = outside.path().join("tree");
        fs::create_dir(&tree).expect("a tree");
        let open = fs::File::open(&tree).expect("the tree");
        tree::fuzz_targets::untar(open.as_fd(), input);
        let beside = fs::read_dir(outside.path()).expect("the directory").count();
        assert_eq!(beside, 1, "something was made outside of the tree");
    });
}
