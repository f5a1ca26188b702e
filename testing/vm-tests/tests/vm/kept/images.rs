//! The images of sandboxes that live, and looks where there are neither.

use std::fs;

use vm_tests::program::{On, Run};

use super::Home;

pub(super) fn looks(on: On) {
    let home = Home::new(on);
    let nowhere = home.place.path().join("none");
    let nowhere = ["--state-dir", nowhere.to_str().expect("a path")];
    let empty = tempfile::tempdir().expect("a directory");
    let empty = ["--state-dir", empty.path().to_str().expect("a path")];
    for (dir, warned) in [(nowhere, true), (empty, false)] {
        let call = |words: &[&str]| {
            let rest = if words[0] == "exec" { &["--", "true"][..] } else { &[] };
            let ended = Run::spawn(home.command(&[words, &dir].concat(), rest)).end();
            let said = ended.stderr.contains("there is no state directory");
            assert_eq!(said, warned, "{words:?}: {}", ended.stderr);
            ended
        };
        let table = call(&["ls"]);
        assert!(table.expect(0).stdout[0].starts_with("there are no sandboxes"), "{:#?}", table.stdout);
        assert_eq!(call(&["ls", "--json"]).expect(0).stdout, ["[]"]);
        assert!(call(&["ls", "-q"]).expect(0).stdout.is_empty());
        assert!(call(&["rm", "--all"]).expect(0).stdout.is_empty());
        for words in [["inspect", "sb-1"], ["rm", "sb-1"], ["exec", "sb-1"], ["branch", "sb-1"]] {
            let ended = call(&words);
            let text = "there is no sandbox `sb-1`, and no other";
            assert!(ended.expect(2).stderr.contains(text), "{words:?}: {}", ended.stderr);
        }
        for (words, code) in [(&["ls"][..], 0), (&["inspect"], 2), (&["rm", "standard"], 2)] {
            let mut image = home.place.plain(&["image"]);
            image.args(words).args(dir);
            let ended = Run::spawn(image).end();
            let told = ended.expect(code).stdout.concat() + &ended.stderr;
            assert!(told.contains("there are no images") || told.contains("there are none yet"), "{told}");
        }
    }
    assert!(!fs::exists(nowhere[1]).expect("a look"));
    assert_eq!(fs::read_dir(empty[1]).expect("a directory").count(), 0);
    home.end();
}

pub(super) fn image_stays(on: On) {
    let home = Home::with_its_own_images(on);
    let id = home.one();
    let prune = || {
        let ended = Run::spawn(home.place.plain(&["prune", "--all"])).end();
        ended.expect(0).stdout.join("\n")
    };
    let refused = || {
        let ended = Run::spawn(home.place.plain(&["image", "rm", "standard"])).end();
        let text = format!("the image `standard` is in use by the sandbox {id}");
        assert!(ended.expect(2).stderr.contains(&text), "{}", ended.stderr);
    };
    // with its engine
    let told = prune();
    assert!(told.contains("images: none removed, a process that runs uses them"), "{told}");
    refused();
    // without one
    home.kill_engine();
    let told = prune();
    assert!(told.contains(&format!("stays, in use by the sandbox {id}")), "{told}");
    refused();
    home.exec(&id, &[], "echo mine > file").expect(0);
    let branch = home.call(&["branch", &id]).expect(0).stdout.concat();
    assert_eq!(home.exec(&branch, &[], "cat file").expect(0).stdout, ["mine"]);
    // and where its image is gone all the same
    home.kill_engine();
    fs::remove_file(home.place.path().join("store/pins/image-standard")).expect("a pin");
    assert!(prune().contains("snapshots of no use: 0 removed"), "what it boots from is there");
    let branch = home.call(&["branch", &id]).expect(0).stdout.concat();
    assert_eq!(home.exec(&branch, &[], "cat file").expect(0).stdout, ["mine"]);
    home.call(&["rm", "--all"]).expect(0);
    home.kill_engine();
    let told = prune();
    assert!(told.contains(" 0 MiB remain"), "{told}");
    home.end();
}
