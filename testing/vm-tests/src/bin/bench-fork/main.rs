//! `cargo xtask bench fork`: what a fork takes, until it answers and until it has run a command, and what it costs.
//!
//! Purpose: the engine as every door uses it, with real VMs of 1 processor and 256 MiB: one after the other, many
//! at once, from the pool; with processor time beside wall time, for the latter says little on a busy host.
//! Owner: `xtask`, which builds this program in its release profile and names the agents.
//!
//! Invariants
//! - Nothing of the product is switched by an option of it. What is measured without the jail is started by a shim
//!   of this program, which takes away the means before it becomes the real one; what is measured without the
//!   reseed has another agent in its initramfs.
//! - Every fork is asked whether it is one, and every command has to end with 0: anything else is an error, and no
//!   figure.
//! - The state directory is one of its own; the image is the machine's.
#![expect(clippy::print_stdout, reason = "a program for the person who typed its name")]

mod at_once;
mod branches;
mod figures;
mod machine;
mod one_by_one;
mod process;
mod shim;
mod subject;
mod table;

use std::{path::PathBuf, process::ExitCode, time::Duration};

use serde_json::{Value, json};

use self::{
    at_once::AtOnce,
    branches::Branches,
    one_by_one::OneByOne,
    subject::{Failure, Subject, Variant},
};

struct Args {
    runs: usize,
    at_once: Vec<usize>,
    accel: backends::qemu::Accel,
    /// An agent that does not reseed.
    unseeded: Option<PathBuf>,
    variants: Vec<Variant>,
    json: Option<PathBuf>,
}

/// What was measured of one variant.
struct Measured {
    variant: Variant,
    one_by_one: OneByOne,
    pooled_one_by_one: Option<OneByOne>,
    branches: Option<Branches>,
    at_once: Vec<AtOnce>,
    pooled: Vec<AtOnce>,
}

fn main() -> ExitCode {
    if let Some(code) = shim::dispatch() {
        return code;
    }
    let args = match args(std::env::args().skip(1)) {
        Ok(args) => args,
        Err(why) => {
            println!("error: {why}");
            return ExitCode::from(2);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        // threads that end would take their processor time with them
        .thread_keep_alive(Duration::from_secs(3600))
        .enable_all()
        .build()
        .expect("a runtime");
    match runtime.block_on(bench(&args)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {}", testkit::gitea::chain(&*error));
            ExitCode::FAILURE
        }
    }
}

fn args(mut words: impl Iterator<Item = String>) -> Result<Args, String> {
    use backends::qemu::Accel;
    let mut args = Args {
        runs: 20,
        at_once: vec![1, 10, 50, 100],
        accel: Accel::Auto,
        unseeded: None,
        variants: Variant::ALL.to_vec(),
        json: None,
    };
    while let Some(word) = words.next() {
        let value = words.next().ok_or_else(|| format!("something must follow {word:?}"))?;
        let number = |text: &str| match text.parse() {
            Ok(number) if number > 0 => Ok(number),
            _ => Err(format!("{text:?} is no number of something")),
        };
        match word.as_str() {
            "--runs" => args.runs = number(&value)?,
            "--at-once" => args.at_once = value.split(',').map(number).collect::<Result<_, _>>()?,
            "--accel" => {
                args.accel = match value.as_str() {
                    "auto" => Accel::Auto,
                    "kvm" => Accel::Kvm,
                    "tcg" => Accel::Tcg,
                    _ => return Err(format!("{value:?} is neither auto, kvm nor tcg")),
                }
            }
            "--variants" => {
                let of = |key| Variant::ALL.into_iter().find(|variant| variant.key() == key);
                args.variants =
                    value.split(',').map(of).collect::<Option<_>>().ok_or("a variant that is none")?;
            }
            "--unseeded" => args.unseeded = Some(value.into()),
            "--json" => args.json = Some(value.into()),
            _ => {
                return Err(format!(
                    "`bench fork` takes --runs N, --at-once N,N,... and --accel auto|kvm|tcg, got {word:?}"
                ));
            }
        }
    }
    Ok(args)
}

async fn bench(args: &Args) -> Result<(), Failure> {
    let mut all = Vec::new();
    let mut backend = String::new();
    for variant in Variant::ALL {
        if !args.variants.contains(&variant) {
            continue;
        }
        let agent = match (variant, &args.unseeded) {
            (Variant::Unseeded, None) => continue,
            (Variant::Unseeded, Some(agent)) => Some(agent.as_path()),
            (Variant::Product | Variant::Unjailed | Variant::Networked | Variant::NetworkedNow, _) => None,
        };
        let subject = Subject::open(variant, agent, args.accel).await?;
        backend = subject.describe();
        println!("{}: {}", variant.name(), subject.describe());
        let one_by_one = one_by_one::cold(&subject, args.runs).await?;
        let (mut pooled_one_by_one, mut branches) = (None, None);
        if matches!(variant, Variant::Product | Variant::Networked) {
            println!("{}: of the pool", variant.name());
            pooled_one_by_one = Some(one_by_one::pooled(&subject, args.runs).await?);
        }
        if variant == Variant::Product {
            println!("{}: branches", variant.name());
            branches = Some(branches::measure(&subject, args.runs).await?);
        }
        let (mut at_once, mut pooled) = (Vec::new(), Vec::new());
        for &count in &args.at_once {
            println!("{}: {count} at once", variant.name());
            at_once.push(at_once::cold(&subject, count).await?);
        }
        if variant == Variant::Product {
            for &count in &args.at_once {
                println!("{}: {count} of the pool at once", variant.name());
                pooled.push(at_once::pooled(&subject, count).await?);
            }
        }
        all.push(Measured { variant, one_by_one, pooled_one_by_one, branches, at_once, pooled });
    }
    println!("\n{backend}; {}", process::host());
    println!("{}", table::of(&all));
    if let Some(path) = &args.json {
        let written = std::fs::write(path, format!("{:#}\n", json_of(&all, &backend)));
        written.map_err(|error| format!("{} cannot be written: {error}", path.display()))?;
        println!("also in {}", path.display());
    }
    Ok(())
}

fn json_of(all: &[Measured], backend: &str) -> Value {
    let variants: serde_json::Map<_, _> = all
        .iter()
        .map(|measured| {
            let value = json!({
                "one_by_one": measured.one_by_one.json(),
                "pooled_one_by_one": measured.pooled_one_by_one.as_ref().map(OneByOne::json),
                "branches": measured.branches.as_ref().map(Branches::json),
                "at_once": measured.at_once.iter().map(AtOnce::json).collect::<Vec<_>>(),
                "pooled": measured.pooled.iter().map(AtOnce::json).collect::<Vec<_>>(),
            });
            (measured.variant.key().to_owned(), value)
        })
        .collect();
    json!({ "host": process::host(), "backend": backend, "variants": variants })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_read_and_others_are_refused() {
        let of = |words: &[&str]| args(words.iter().map(|&word| word.to_owned()));
        let read = of(&["--runs", "3", "--at-once", "1,7", "--accel", "tcg"]).expect("good");
        assert_eq!((read.runs, read.at_once), (3, vec![1, 7]));
        for bad in
            [&["--runs"][..], &["--runs", "0"], &["--at-once", "1,"], &["--accel", "x"], &["--lines", "3"]]
        {
            assert!(of(bad).is_err(), "{bad:?}");
        }
    }
}
