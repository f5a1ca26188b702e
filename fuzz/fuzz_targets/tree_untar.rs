//! Archives of hostile entries: whatever they say, nothing appears beside the tree.
#![no_main]

use std::{fs, os::fd::AsFd};

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    let outside = tempfile::tempdir().expect("a directory");
    let tree = outside.path().join("tree");
    fs::create_dir(&tree).expect("a tree");
    tree::fuzz_targets::untar(fs::File::open(&tree).expect("the tree").as_fd(), data);
    assert_eq!(
        fs::read_dir(outside.path()).expect("the directory").count(),
        1,
        "something outside of the tree"
    );
});
