//! The generated messages are those of the `.proto` files.
//!
//! `cargo xtask proto` runs this with `AMPOULE_WRITE_GENERATED` set, and then it writes them.

use std::{fs, path::Path};

/// What holds secrets gets a Debug by hand, in `messages.rs`.
const HOLDS_SECRETS: [&str; 3] = [".runner.v1.RegisterRequest", ".runner.v1.Runner", ".runner.v1.Task"];

fn generate(proto: &Path, out: &Path, package: &str, file: &str) -> String {
    let mut compiler = protox::Compiler::new([proto]).expect("compiler");
    compiler.include_imports(true).include_source_info(true);
    compiler.open_file(file).unwrap_or_else(|error| panic!("{file}: {error}"));
    let mut config = prost_build::Config::new();
    config.out_dir(out).btree_map(["."]).skip_debug(HOLDS_SECRETS);
    config.compile_fds(compiler.file_descriptor_set()).expect("code");
    let code = fs::read_to_string(out.join(format!("{package}.rs"))).expect("generated");
    format!("//! The messages of `{file}`. Generated: `cargo xtask proto` writes it.\n\n{code}")
}

#[test]
fn the_generated_code_is_that_of_the_proto_files() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for (package, file, kept) in
        [("ping.v1", "ping.proto", "ping.rs"), ("runner.v1", "runner.proto", "runner.rs")]
    {
        let scratch = tempfile::tempdir().expect("scratch");
        let code = generate(&root.join("proto"), scratch.path(), package, file);
        let kept = root.join("src/generated").join(kept);
        if std::env::var_os("AMPOULE_WRITE_GENERATED").is_some() {
            fs::write(&kept, code).expect("writing");
        } else {
            let now = fs::read_to_string(&kept).expect("the kept code");
            assert!(now == code, "{} is stale: run `cargo xtask proto`", kept.display());
        }
    }
}
