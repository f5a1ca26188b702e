//! Actions: what becomes of good ones, and what is said of wrong ones, a snapshot for each file.

mod files;

use doc::{Rendering, Source};
use files::files;
use workflow::{Image, OrExpr, Runs, StepAction, Using, parse_action};

#[test]
fn what_is_said_of_actions() {
    for (name, text) in files("wrong_actions") {
        let parsed = parse_action(&Source::new(format!("{name}/action.yml"), text));
        assert!(!parsed.diagnostics.is_empty(), "{name} is found good");
        let shown: Vec<_> = parsed.diagnostics.iter().map(|fault| fault.render(Rendering::Plain)).collect();
        insta::assert_snapshot!(name, shown.join("\n\n"));
    }
}

#[test]
fn good_actions_are_good() {
    let files = files("good_actions");
    assert!(files.len() >= 4);
    for (name, text) in files {
        let parsed = parse_action(&Source::new(format!("{name}/action.yml"), text));
        let shown: Vec<_> = parsed.diagnostics.iter().map(|fault| fault.render(Rendering::Plain)).collect();
        assert!(shown.is_empty(), "{name}:\n{}", shown.join("\n\n"));
        let action = parsed.action.expect(&name);
        match (name.as_str(), &action.runs) {
            ("composite", Runs::Composite { steps }) => {
                assert!(matches!(&steps[0].action, StepAction::Run { shell: Some(_), .. }));
                assert_eq!(steps.len(), 3);
                assert_eq!(action.input("WHERE").map(|input| input.required), Some(false));
                assert!(action.outputs[0].value.is_some());
            }
            ("node", Runs::Script { using, main, pre, post, .. }) => {
                assert_eq!((using.value, main.value.as_str()), (Using::Node(20), "dist/index.js"));
                assert!(pre.as_ref().is_some_and(|hook| hook.condition.is_some()));
                assert_eq!(post.as_ref().map(|hook| hook.entry.value.as_str()), Some("post.js"));
            }
            ("docker", Runs::Docker { image, args, env, pre, post, entrypoint }) => {
                assert_eq!(image.value, Image::Registry("alpine:3".to_owned()));
                assert_eq!((args.len(), entrypoint.is_some()), (2, true));
                assert!(matches!(env, OrExpr::Written(list) if list.len() == 1));
                assert!(pre.as_ref().is_some_and(|hook| hook.condition.is_none()) && post.is_some());
            }
            ("go", Runs::Script { using, .. }) => assert_eq!(using.value, Using::Go),
            (name, runs) => panic!("{name}: {runs:?}"),
        }
    }
}
