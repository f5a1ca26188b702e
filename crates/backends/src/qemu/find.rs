//! Finding QEMU, and asking what it is from inside the jail that it will run in.

use std::{
    ffi::OsString,
    fmt,
    fs::OpenOptions,
    path::{Path, PathBuf},
    time::Duration,
};

use jail::{Filter, Launch, Level, Log, OwnerLoss, Part, Program};
use vm::{Error, Result};

use super::places;
use crate::of_jail;

/// Version of QEMU.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Version {
    /// First number.
    pub major: u32,
    /// Second number.
    pub minor: u32,
    /// Third number.
    pub micro: u32,
}

impl fmt::Display for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.micro)
    }
}

/// The oldest QEMU that works.
pub const OLDEST: Version = Version { major: 7, minor: 2, micro: 0 };

/// What there is to know before a VM is booted.
pub(super) struct Survey {
    pub(super) version: Version,
    pub(super) missing: Vec<Part>,
    /// Why VMs have no network card, where they have none.
    pub(super) no_card: Option<String>,
}

const OUTPUT: &str = "version.log";
const LIMIT: Duration = Duration::from_secs(30);

/// The absolute path of the program.
pub(super) fn program(name: &Path) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates: Vec<PathBuf> = if name.components().count() > 1 {
        vec![name.to_owned()]
    } else {
        std::env::split_paths(&path).filter(|dir| dir.is_absolute()).map(|dir| dir.join(name)).collect()
    };
    let found = candidates.into_iter().find(|path| is_executable(path));
    found.and_then(|path| std::path::absolute(path).ok()).ok_or_else(|| Error::Missing {
        program: name.to_owned(),
        reason: format!(
            "it is not installed; QEMU {OLDEST} or newer is needed (`ampoule setup` installs it)"
        ),
    })
}

fn is_executable(path: &Path) -> bool {
    path.is_file() && rustix::fs::access(path, rustix::fs::Access::EXEC_OK).is_ok()
}

/// Runs `--version` in the jail: it shows the version, that program and jail get along, and whether the jail can have
/// a tap.
pub(super) async fn survey(
    program: &Path,
    shim: &[OsString],
    level: Level,
    filter: &Filter,
) -> Result<Survey> {
    let no_card = match OpenOptions::new().read(true).write(true).open(jail::TAP_DEVICE) {
        Ok(_) => match survey_with(program, shim, level, filter, Some(TAP)).await {
            Ok((version, missing)) => return Ok(Survey { version, missing, no_card: None }),
            // if the tap is not the reason, it fails again without
            Err(error) => error.to_string(),
        },
        Err(error) => format!("{} cannot be opened: {error}", jail::TAP_DEVICE),
    };
    let (version, missing) = survey_with(program, shim, level, filter, None).await?;
    Ok(Survey { version, missing, no_card: Some(no_card) })
}

/// The number of the tap of a survey.
const TAP: i32 = 3;

async fn survey_with(
    program: &Path,
    shim: &[OsString],
    level: Level,
    filter: &Filter,
    tap: Option<i32>,
) -> Result<(Version, Vec<Part>)> {
    let dir = places::Scratch::new("survey")?;
    let launch = Launch {
        shim: shim.to_vec(),
        dir: dir.path().to_owned(),
        ids: None,
        groups: Vec::new(),
        level,
        on_owner_loss: OwnerLoss::Kill,
        program: Program { path: program.to_owned(), args: vec!["--version".into()], env: Vec::new() },
        view: Some(places::view(program, &[])),
        filter: Some(filter.clone()),
        tap,
        inherit: Vec::new(),
        logs: vec![
            Log { name: OUTPUT.to_owned(), target: 1, cap: 4096 },
            Log { name: super::ERRORS.to_owned(), target: 2, cap: 4096 },
        ],
    };
    let mut shim = jail::launch(launch).await.map_err(of_jail)?;
    let missing = shim.missing().to_vec();
    let late = || Error::TimedOut { what: "qemu --version", limit: LIMIT };
    let record = tokio::time::timeout(LIMIT, shim.exited()).await.map_err(|_| late())?.map_err(of_jail)?;
    let said = jail::log_tail(dir.path(), OUTPUT, 4096);
    let unusable = |reason| Error::Missing { program: program.to_owned(), reason };
    if record.code != Some(0) {
        let errors = jail::log_tail(dir.path(), super::ERRORS, 500);
        return Err(unusable(format!("`--version` failed: {}", errors.trim())));
    }
    let version = parse(&said).ok_or_else(|| unusable("it does not say its version".to_owned()))?;
    if version < OLDEST {
        return Err(unusable(format!("it is version {version}; {OLDEST} or newer is needed")));
    }
    Ok((version, missing))
}

fn parse(said: &str) -> Option<Version> {
    let word = said.strip_prefix("QEMU emulator version ")?.split([' ', '\n']).next()?;
    let mut numbers = word.split(['.', '-', '+']).map(str::parse::<u32>);
    let mut next = || numbers.next()?.ok();
    Some(Version { major: next()?, minor: next()?, micro: next().unwrap_or(0) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_read() {
        for (said, expected) in [
            ("QEMU emulator version 7.2.22 (Debian 1:7.2+dfsg-7+deb12u18)\nCopyright", Some((7, 2, 22))),
            ("QEMU emulator version 10.0.2 (Debian 1:10.0.2+ds-2)\n", Some((10, 0, 2))),
            ("QEMU emulator version 9.1.50-dirty\n", Some((9, 1, 50))),
            ("QEMU emulator version 8.0\n", Some((8, 0, 0))),
            ("QEMU emulator version next\n", None),
            ("something else", None),
            ("", None),
        ] {
            let expected = expected.map(|(major, minor, micro)| Version { major, minor, micro });
            assert_eq!(parse(said), expected, "{said}");
        }
        assert!(parse("QEMU emulator version 6.2.0\n").unwrap() < OLDEST);
        assert!(parse("QEMU emulator version 10.0.0\n").unwrap() > OLDEST);
    }

    #[test]
    fn a_program_that_is_not_there_is_named() {
        let error = program(Path::new("qemu-that-nobody-has")).unwrap_err().to_string();
        assert!(error.contains("qemu-that-nobody-has") && error.contains("not installed"), "{error}");
        assert_eq!(program(Path::new("/bin/sh")).unwrap(), Path::new("/bin/sh"));
        assert!(program(Path::new("sh")).unwrap().is_absolute());
        assert!(program(Path::new("/etc")).is_err());
    }
}
