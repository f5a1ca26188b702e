//! The Gitea of the tests, for people: `cargo xtask gitea`.
//!
//! Purpose: `build` makes its binary before the tests want it; `run` starts one and tells how to log in, until
//! its input ends.
#![expect(clippy::print_stdout, reason = "a program for the person who typed its name")]

use std::{io::Read as _, process::ExitCode};

use secrecy::ExposeSecret as _;
use testkit::gitea::{Error, Gitea, Program, chain};

fn main() -> ExitCode {
    let done = match std::env::args().nth(1).as_deref() {
        Some("build") => Program::ensure().map(|program| println!("{}", program.binary.display())),
        Some("run") => run(),
        _ => {
            println!("usage: test-gitea build | run");
            return ExitCode::from(2);
        }
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), Error> {
    let gitea = Gitea::start()?;
    let admin = gitea.admin();
    println!("url: {}", gitea.url());
    println!("pid: {}", gitea.pid());
    println!("name: {}", admin.name);
    println!("password: {}", admin.password.expose_secret());
    println!("token: {}", admin.token.expose_secret());
    println!("it ends with this input: press Control-D");
    let mut input = std::io::stdin().lock();
    let mut some = [0; 512];
    // an input that cannot be read is at its end as well
    while input.read(&mut some).is_ok_and(|read| read > 0) {}
    Ok(())
}
