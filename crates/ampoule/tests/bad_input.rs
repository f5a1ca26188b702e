//! Bad input at the command line: for each a clear error, or what is right, in bounded time and memory.
//!
//! Every command runs with a gigabyte of addresses at most: one that takes more for a file of a megabyte ends with an
//! abort, which is no exit code of ours.

use std::{
    fs::{self, File},
    os::unix::fs::{PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

/// Far more than any of these takes in a build without optimisation, also on a busy machine.
const LONG: Duration = Duration::from_secs(30);

/// Runs the program; its exit code, and all that it says.
fn ampoule(dir: &Path, args: &[&str]) -> (i32, String) {
    let begun = Instant::now();
    let output = Command::new("/bin/sh")
        .args(["-c", "ulimit -v 1048576; exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_ampoule")])
        .args(args)
        .current_dir(dir)
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said =
        [output.stdout, output.stderr].map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).concat();
    let shown: String = said.chars().take(600).collect();
    assert!(begun.elapsed() < LONG, "{args:?}: {:?}: {shown}", begun.elapsed());
    assert!(said.len() < 1 << 20, "{args:?} says {} bytes", said.len());
    assert!(!said.contains("panicked"), "{args:?}: {shown}");
    (output.status.code().unwrap_or(-1), said)
}

const GOOD: &str =
    "on: push\njobs:\n  a:\n    runs-on: debian\n    steps:\n      - run: |\n          one\n          two\n";

/// A job whose only step runs this, or a workflow with this in front.
fn with(front: &str, script: &str) -> Vec<u8> {
    format!("{front}on: push\njobs: {{a: {{runs-on: debian, steps: [{{run: {script}}}]}}}}\n").into_bytes()
}

fn expression(text: &str) -> Vec<u8> {
    with(&format!("run-name: \"${{{{ {text} }}}}\"\n"), "a")
}

fn levels(from: &str, level: impl Fn(usize) -> String) -> String {
    (1..30).fold(from.to_owned(), |text, at| text + &level(at))
}

fn texts() -> Vec<(&'static str, Vec<u8>, Result<(), &'static str>)> {
    let bomb = levels("a0: &a0 [x, x, x, x, x, x, x, x, x]\n", |at| {
        format!("a{at}: &a{at} [{}]\n", vec![format!("*a{}", at - 1); 9].join(", "))
    });
    let maps = levels("a0: &a0 {k: v}\n", |at| format!("a{at}: &a{at} {{x: *a{0}, y: *a{0}}}\n", at - 1));
    let merged = levels("a0: &a0 {k: [x, x, x, x]}\n", |at| {
        format!("a{at}: &a{at}\n  <<: [*a{0}, {{l{at}: *a{0}, m{at}: *a{0}}}]\n", at - 1)
    });
    let names = |count: usize| (0..count).map(|at| format!("k{at}:\n")).collect::<String>().into_bytes();
    let utf16 = |bytes: fn(u16) -> [u8; 2]| GOOD.encode_utf16().flat_map(bytes).collect::<Vec<u8>>();
    let deep = "more than 64 levels";
    let bombed = "more than 100000 values, aliases written out";
    let too_large = "is larger than 1 MiB";
    let nested = "the expression is nested deeper than 100 levels";
    vec![
        ("a bomb of lists", bomb.into_bytes(), Err(bombed)),
        ("a bomb of maps", maps.into_bytes(), Err(bombed)),
        ("a bomb of merged maps", merged.into_bytes(), Err(bombed)),
        ("an expression of 10 MB", expression(&"a.".repeat(5 << 20)), Err(too_large)),
        ("an expression of 900 KB", expression(&"a.".repeat(450_000)), Err("bytes, at most 65536")),
        ("brackets in an expression", expression(&"(".repeat(60_000)), Err(nested)),
        ("indices in an expression", expression(&"github[".repeat(9_000)), Err(nested)),
        ("many `!`", expression(&"!".repeat(60_000)), Err(nested)),
        ("depth in brackets", "[".repeat(100_000).into_bytes(), Err(deep)),
        ("depth in braces", "{a: ".repeat(100_000).into_bytes(), Err(deep)),
        ("depth in lists", "- ".repeat(100_000).into_bytes(), Err(deep)),
        ("depth in keys", "? ".repeat(100_000).into_bytes(), Err(deep)),
        (
            "depth by indentation",
            (0..1000).map(|at| " ".repeat(at) + "a:\n").collect::<String>().into_bytes(),
            Err(deep),
        ),
        ("no UTF-8", b"on: push\nname: \xff\n".to_vec(), Err("the file is not UTF-8")),
        ("a NUL byte", b"on: push\nname: a\0b\n".to_vec(), Err("the file holds a NUL byte")),
        ("CRLF", GOOD.replace('\n', "\r\n").into_bytes(), Ok(())),
        (
            "tabs",
            GOOD.replace("    runs-on", "\truns-on").into_bytes(),
            Err("a tab stands in the indentation"),
        ),
        ("a byte order mark", format!("\u{feff}{GOOD}").into_bytes(), Ok(())),
        ("UTF-16, little", [b"\xff\xfe".to_vec(), utf16(u16::to_le_bytes)].concat(), Err("is UTF-16 text")),
        ("UTF-16, big", [b"\xfe\xff".to_vec(), utf16(u16::to_be_bytes)].concat(), Err("is UTF-16 text")),
        ("UTF-16 without a mark", utf16(u16::to_le_bytes), Err("the file holds a NUL byte")),
        ("a scalar of 8 MB", with("", &"x".repeat(8 << 20)), Err(too_large)),
        ("a scalar of 900 KB", with("", &"x".repeat(900_000)), Ok(())),
        ("a million keys", names(1_000_000), Err(too_large)),
        ("as many keys as there is room for", names(120_000), Err(bombed)),
        (
            "as many unknown keys as are read",
            [GOOD.as_bytes(), &names(49_000)].concat(),
            Err("has no key `k0`"),
        ),
        (
            "a key again and again",
            [GOOD.as_bytes(), &b"b: 1\n".repeat(90_000)].concat(),
            Err("the key `b` is there twice"),
        ),
        (
            "a name again and again",
            with("", &format!("\"{}\"", "${{ x }}".repeat(100_000))),
            Err("there is no context `x`"),
        ),
        ("nothing", Vec::new(), Err("the workflow is empty")),
    ]
}

#[test]
fn texts_of_workflows() {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes, expected) in texts() {
        fs::write(dir.path().join("w.yml"), bytes).unwrap();
        for command in ["validate", "expand"] {
            let (code, said) = ampoule(dir.path(), &[command, "w.yml"]);
            let shown: String = said.chars().take(600).collect();
            match expected {
                Ok(()) => assert_eq!(code, 0, "{command}, {name}: {shown}"),
                Err(why) => {
                    assert!(said.contains(why), "{command}, {name}: {shown}");
                    assert_eq!(code, if command == "validate" { 1 } else { 2 }, "{command}, {name}: {shown}");
                }
            }
        }
    }
}

/// What is no file, or not one to read to its end; none where this user can read everything.
fn odd(dir: &Path) -> Vec<(PathBuf, &'static str)> {
    let at = |name: &str| dir.join(name);
    File::create(at("sparse.yml")).expect("made").set_len(5 << 30).expect("made");
    fs::create_dir_all(at("dir.yml")).expect("made");
    symlink(at("loop.yml"), at("loop.yml")).expect("made");
    rustix::fs::mkfifoat(rustix::fs::CWD, at("pipe.yml"), rustix::fs::Mode::from_raw_mode(0o600))
        .expect("made");
    let mut odd = vec![
        (at("sparse.yml"), "larger than"),
        (PathBuf::from("/dev/zero"), "larger than"),
        (at("pipe.yml"), "it is a named pipe"),
        (at("loop.yml"), "Too many levels of symbolic links"),
        (at("none.yml"), "No such file or directory"),
    ];
    fs::write(at("secret.yml"), GOOD).expect("made");
    fs::set_permissions(at("secret.yml"), fs::Permissions::from_mode(0o000)).expect("made");
    if File::open(at("secret.yml")).is_err() {
        odd.push((at("secret.yml"), "Permission denied"));
    }
    odd
}

#[test]
fn what_is_no_file() {
    let dir = tempfile::tempdir().unwrap();
    for (path, why) in odd(dir.path()) {
        let path = path.to_str().unwrap();
        for args in [
            &["validate", path][..],
            &["expand", path],
            &["eval", "--context", path, "1"],
            &["expand", "--eventpath", path, "good.yml"],
        ] {
            fs::write(dir.path().join("good.yml"), GOOD).unwrap();
            let (code, said) = ampoule(dir.path(), args);
            assert!(said.contains(why), "{args:?}: {said}");
            // a file that is too large was read, and is wrong
            let wrong = args[0] == "validate" && why == "larger than";
            assert_eq!(code, if wrong { 1 } else { 2 }, "{args:?}: {said}");
        }
    }
    let empty = dir.path().join("dir.yml");
    let empty = empty.to_str().unwrap();
    for (args, why) in [
        (&["validate", empty][..], "there is no workflow and no action in it"),
        (&["expand", empty], "directory"),
        (&["eval", "--context", empty, "1"], "Is a directory"),
    ] {
        let (code, said) = ampoule(dir.path(), args);
        assert!(said.contains(why), "{args:?}: {said}");
        assert_eq!(code, 2, "{args:?}: {said}");
    }
}

#[test]
fn expressions_and_contexts() {
    let dir = tempfile::tempdir().unwrap();
    let nested = "the expression is nested deeper than 100 levels";
    for (text, why) in [
        ("(".repeat(100_000), "an expression of 100000 bytes, at most 65536"),
        ("(".repeat(60_000), nested),
        ("!".repeat(60_000), nested),
        ("github[".repeat(9_000), nested),
        ("toJSON(".repeat(9_000), nested),
        (format!("${{{{ {}", "a.".repeat(40_000)), "`${{` is not closed"),
        (format!("fromJSON('{}')", "[".repeat(60_000)), "JSON that is nested deeper than 100 levels"),
        ("\u{1}".repeat(1000), "does not belong in an expression"),
    ] {
        let (code, said) = ampoule(dir.path(), &["eval", &text]);
        let shown: String = said.chars().take(300).collect();
        assert!(said.contains(why), "{shown}");
        assert_eq!(code, 2, "{shown}");
    }
    let list = format!("{{\"github\": {{\"list\": [{}1]}}}}", "123456789,".repeat(900_000));
    let keys: String = (0..400_000).map(|at| format!("\"k{at}\": 1, ")).collect();
    for (bytes, text, why) in [
        (b"{\"github\": \"\xff\"}".to_vec(), "1", "are not JSON"),
        (vec![0; 100], "1", "are not JSON"),
        ("[".repeat(1 << 20).into_bytes(), "1", "are not JSON"),
        ("{\"env\":".repeat(1 << 20).into_bytes(), "1", "are not JSON"),
        (b"[1]".to_vec(), "1", "are not a JSON object"),
        (format!("{{{keys}\"x\": 1}}").into_bytes(), "1", "there is no context `"),
        (format!("{{\"env\": {{{keys}\"x\": 1}}}}").into_bytes(), "env.k399999", "1\n"),
        (list.clone().into_bytes(), "toJSON(github.list)", "the result is larger than 10485760 bytes"),
        (list.into_bytes(), "join(github.list, '') == ''", "false\n"),
    ] {
        fs::write(dir.path().join("c.json"), bytes).unwrap();
        let (_, said) = ampoule(dir.path(), &["eval", "--context", "c.json", text]);
        let shown: String = said.chars().take(300).collect();
        assert!(said.contains(why), "{text}: {shown}");
    }
}

/// Files of the directory in which one is are called as one would type them.
#[test]
fn names_below_the_working_directory() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join(".forgejo/workflows")).unwrap();
    fs::write(dir.path().join(".forgejo/workflows/x.yml"), "on: push\njobs: 1\n").unwrap();
    let (code, said) = ampoule(dir.path(), &["validate", "."]);
    assert!(code == 1 && said.contains(" --> .forgejo/workflows/x.yml:2:7\n"), "{said}");
    let (_, said) = ampoule(dir.path(), &["validate", "./.forgejo/workflows/x.yml"]);
    assert!(said.contains(" --> ./.forgejo/workflows/x.yml:2:7\n"), "{said}");
}
