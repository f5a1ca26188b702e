//! The form of the command line, which scripts rely on.

use clap::{CommandFactory, Parser};

use super::args::{Cli, Command, ExecArgs};

fn help(words: &[&str]) -> String {
    let mut command = Cli::command().term_width(100);
    command.build();
    let mut at = &mut command;
    for word in words {
        at = at.find_subcommand_mut(word).unwrap();
    }
    at.render_help().to_string()
}

#[test]
fn the_help_is_what_it_was() {
    for words in [
        &[][..],
        &["exec"],
        &["eval"],
        &["expand"],
        &["validate"],
        &["controller"],
        &["sandbox"],
        &["sandbox", "run"],
        &["sandbox", "create"],
        &["sandbox", "exec"],
        &["sandbox", "cp"],
        &["sandbox", "branch"],
        &["setup"],
        &["doctor"],
        &["prune"],
        &["image"],
        &["image", "build"],
        &["snapshot"],
        &["snapshot", "build"],
        &["snapshot", "gc"],
    ] {
        insta::assert_snapshot!(format!("help_{}", words.join("_")), help(words));
    }
}

#[test]
fn the_definition_is_sound() {
    Cli::command().debug_assert();
}

fn exec(line: &str) -> Result<ExecArgs, clap::Error> {
    let cli = Cli::try_parse_from(["ampoule", "exec"].into_iter().chain(line.split_whitespace()))?;
    match cli.command {
        Command::Exec(args) => Ok(*args),
        other => panic!("{other:?}"),
    }
}

#[test]
fn forwards_are_taken_and_what_is_none_is_told() {
    let args = exec("--forward Forge:443=forge.example:443 --forward cache:80=[::1]:8080").unwrap();
    let shown: Vec<String> = args.forwards.iter().map(ToString::to_string).collect();
    assert_eq!(shown, ["forge:443=forge.example:443", "cache:80=[::1]:8080"]);
    for (text, why) in [
        ("forge:443", "expected NAME:PORT=HOST:PORT"),
        ("forge:https=a:443", "\"https\" is no port: 1 to 65535"),
        ("localhost:80=a:80", "\"localhost\" is the VM itself"),
        ("forge:80=::1:80", "\"::1\" is no host: a name, an IPv4 address, or an IPv6 address in brackets"),
    ] {
        let error = exec(&format!("--forward {text}")).unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }
}

#[test]
fn every_option_of_the_reference_is_taken() {
    let args = exec(
        "-W ci.yml -j test -E push --eventpath e.json --input a=b --input c=d -s K -s L=v --secret-file f \
         --var A=b --env C=d --env-file g --matrix os:linux -C dir -n --json --backend qemu --accel tcg --state-dir s",
    )
    .unwrap();
    assert_eq!((args.inputs.len(), args.secrets.len(), args.matrix.len()), (2, 2, 1));
    assert!(args.dryrun && args.json && !args.list);
    assert!(exec("--event push --job a --secret K=v -l").unwrap().list);
    assert!(exec("--dryrun --list").is_ok());
    assert_eq!(exec("-i small").unwrap().image.as_deref(), Some("small"));
}

#[test]
fn what_means_nothing_is_told_and_what_is_wrong_is_refused() {
    let args = exec("-p -6 --privileged --container-opts x --use-gitignore -d --gitea-instance x").unwrap();
    let told: Vec<_> = args.inapplicable.notices().iter().map(|notice| notice.option).collect();
    assert_eq!(
        told,
        [
            "--pull",
            "--privileged",
            "--enable-ipv6",
            "--container-opts",
            "--use-gitignore",
            "--gitea-instance",
            "--debug"
        ]
    );
    assert!(exec("").unwrap().inapplicable.notices().is_empty());
    assert!(exec("--shell-on-failure -j a").unwrap().shell_on_failure);
    for bad in [
        "--no-such",
        "--input a",
        "--matrix a",
        "--accel fast",
        "--list --json",
        "extra",
        "--shell-on-failure --json",
        "--shell-on-failure --list",
        "-n --shell-on-failure",
    ] {
        assert_eq!(exec(bad).unwrap_err().exit_code(), 2, "{bad}");
    }
}

#[test]
fn a_value_that_is_wrong_is_not_repeated_if_it_may_be_secret() {
    let error = exec("-s 1=hunter2").unwrap_err();
    assert!(!super::usage(&error).contains("hunter2"), "{}", super::usage(&error));
}
