//! Replays the corpus of the fuzz target: whatever an archive says, nothing appears beside the tree.

use std::{fs, os::fd::AsFd, path::Path};

#[test]
fn untar() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/untar");
    let mut count = 0;
    for entry in fs::read_dir(&dir).expect("a directory of inputs") {
        let path = entry.expect("an entry").path();
        let outside = tempfile::tempdir().expect("a directory");
        let tree = outside.path().join("tree");
        fs::create_dir(&tree).expect("a tree");
        let open = fs::File::open(&tree).expect("the tree");
        tree::fuzz_targets::untar(open.as_fd(), &fs::read(&path).expect("an input"));
        let beside = fs::read_dir(outside.path()).expect("the directory").count();
        assert_eq!(beside, 1, "{} made something outside of its tree", path.display());
        count += 1;
    }
    assert!(count > 0, "no input in {}", dir.display());
}
