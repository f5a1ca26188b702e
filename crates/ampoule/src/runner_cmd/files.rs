//! The files that a configuration names, as the daemon takes them.
//!
//! Owner: `config check`, which looks at all of them; the daemon, which reads them itself and says what is odd; and
//! `register`. Invariant: nothing of a token is shown.

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use controller::Token;
use runner::{Config, Registration, config::Connection};

use super::RunnerCmdError;

/// What those can do with a file that are not its owner: read it.
const READ_BY_OTHERS: u32 = 0o044;

/// Looks at what a daemon would read; what is odd and no error.
pub(super) fn check(config: &Config) -> Result<Vec<String>, RunnerCmdError> {
    if let Some(path) = &config.controller.token_file {
        Token::read(path)?;
    }
    // before it is registered nobody knows which instance it is for
    let instance = Registration::read(&config.runner.file).ok().map(|registration| registration.address);
    let idle = instance.and_then(|instance| idle_ca_file(&config.connection, &instance));
    if let (Some(path), None) = (&config.connection.ca_file, &idle) {
        runner::check_authorities(path)?;
    }
    Ok(idle.into_iter().chain(open_token(config)).collect())
}

/// That the token of the jobs' controller is no secret on this host.
pub(super) fn open_token(config: &Config) -> Option<String> {
    let path = config.controller.token_file.as_deref()?;
    is_open(path).then(|| {
        format!(
            "{} can be read by other users of this host than its owner: `chmod 600` closes it",
            path.display()
        )
    })
}

fn is_open(path: &Path) -> bool {
    // whether it can be read at all is said elsewhere
    fs::metadata(path).is_ok_and(|file| file.permissions().mode() & READ_BY_OTHERS != 0)
}

/// That a `ca_file` counts for nothing at this instance.
pub(super) fn idle_ca_file(connection: &Connection, instance: &str) -> Option<String> {
    let path = connection.ca_file.as_deref()?;
    let plain = forgejo::Instance::parse(instance).is_ok_and(|instance| !instance.is_https());
    plain.then(|| {
        let path = path.display();
        format!(
            "`ca_file` is not looked at, since {instance} is no https:// address: {path} is trusted by nobody"
        )
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use super::*;

    fn config(dir: &Path, text: &str) -> Config {
        let file = dir.join("config.toml");
        let text = text.replace("DIR", dir.to_str().unwrap());
        fs::write(&file, format!("[runner]\nfile = '{}/.runner'\n{text}", dir.display())).unwrap();
        Config::load(&file).unwrap()
    }

    #[test]
    fn a_token_is_looked_at_as_the_daemon_does() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), "[controller]\ntoken_file = 'DIR/token'\n");
        let file = dir.path().join("token");
        assert!(matches!(check(&config), Err(RunnerCmdError::Token(_))), "it is missing");
        fs::create_dir(&file).unwrap();
        assert!(matches!(check(&config), Err(RunnerCmdError::Token(_))), "it is a directory");
        fs::remove_dir(&file).unwrap();
        fs::write(&file, "short").unwrap();
        assert!(matches!(check(&config), Err(RunnerCmdError::Token(_))), "it is short");
        fs::write(&file, "0123456789abcdef").unwrap();
        for (mode, open) in [(0o600, false), (0o400, false), (0o640, true), (0o604, true)] {
            fs::set_permissions(&file, Permissions::from_mode(mode)).unwrap();
            let said = check(&config).unwrap();
            assert_eq!(said.iter().any(|text| text.contains("chmod 600")), open, "{mode:o}: {said:?}");
            assert!(!said.concat().contains("0123456789abcdef"));
        }
    }

    #[test]
    fn authorities_are_looked_at_unless_no_instance_needs_them() {
        let dir = tempfile::tempdir().unwrap();
        let config = config(dir.path(), "[connection]\nca_file = 'DIR/ca.pem'\n");
        let bad = |why| assert!(matches!(check(&config), Err(RunnerCmdError::Runner(_))), "{why}");
        bad("it is missing");
        fs::write(dir.path().join("ca.pem"), "no certificate").unwrap();
        bad("it holds none");
        let register = |address: &str| {
            let text = format!(
                r#"{{"id": 1, "uuid": "u", "name": "n", "token": "t", "address": "{address}", "labels": ["a"]}}"#
            );
            fs::write(dir.path().join(".runner"), text).unwrap();
        };
        register("https://forge.example");
        bad("the instance shows a certificate");
        register("http://forge.example");
        let said = check(&config).unwrap();
        assert!(said.concat().contains("`ca_file` is not looked at"), "{said:?}");
    }
}
