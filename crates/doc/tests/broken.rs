//! Texts that are no YAML, as people break them: what is said of each, one snapshot.

use std::path::Path;

use doc::{Rendering, Source, parse_yaml};

#[test]
fn what_is_said_of_broken_texts() {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/broken");
    let mut names: Vec<_> = std::fs::read_dir(dir).expect("dir").map(|e| e.expect("entry").path()).collect();
    names.sort();
    assert!(names.len() > 60);
    let mut said = Vec::new();
    for path in names {
        let name = path.file_stem().expect("name").to_string_lossy().into_owned();
        let source = Source::new(name.clone(), std::fs::read_to_string(&path).expect("file"));
        let error = parse_yaml(&source).expect_err(&name);
        said.extend(error.diagnostics.iter().map(|fault| fault.render(Rendering::Plain)));
    }
    insta::assert_snapshot!(said.join("\n\n"));
}
