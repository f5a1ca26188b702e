//! The configuration of a Gitea, and what it speaks.
//!
//! Owner: [`super::server`], which writes it at each start. Pure.

use std::path::Path;

use crate::authority::Certified;

/// What a server of TLS shows, and its key, in its directory.
pub(super) const CERTIFICATE: &str = "tls.crt";
pub(super) const KEY: &str = "tls.key";

/// What it speaks.
pub(super) enum Serving {
    Plain,
    Tls { calls_itself: String, certified: Certified, authority: String },
}

impl Serving {
    /// Where it is.
    pub(super) fn url(&self, port: u16) -> String {
        let scheme = match self {
            Self::Plain => "http",
            Self::Tls { .. } => "https",
        };
        format!("{scheme}://127.0.0.1:{port}")
    }

    /// What it tells others of where it is.
    pub(super) fn calls_itself(&self, port: u16) -> String {
        match self {
            Self::Plain => self.url(port),
            Self::Tls { calls_itself, .. } => calls_itself.clone(),
        }
    }

    pub(super) fn authority(&self) -> Option<&str> {
        match self {
            Self::Plain => None,
            Self::Tls { authority, .. } => Some(authority),
        }
    }
}

/// No mail, no SSH, nothing outside, no caches on disk; workflows where Forgejo has them, and actions of this
/// very server.
pub(super) fn app_ini(work: &Path, files: &Path, serving: &Serving, port: u16) -> String {
    let (work, files) = (work.display(), files.display());
    let (url, calls_itself) = (serving.url(port), serving.calls_itself(port));
    let protocol = match serving {
        Serving::Plain => "PROTOCOL = http".to_owned(),
        Serving::Tls { .. } => {
            format!("PROTOCOL = https\nCERT_FILE = {work}/{CERTIFICATE}\nKEY_FILE = {work}/{KEY}")
        }
    };
    format!(
        "APP_NAME = Gitea of the tests\n\
         RUN_MODE = prod\n\
         WORK_PATH = {work}\n\
         [server]\n\
         {protocol}\n\
         HTTP_ADDR = 127.0.0.1\n\
         HTTP_PORT = {port}\n\
         DOMAIN = 127.0.0.1\n\
         ROOT_URL = {calls_itself}/\n\
         LOCAL_ROOT_URL = {url}/\n\
         STATIC_ROOT_PATH = {files}\n\
         OFFLINE_MODE = true\n\
         DISABLE_SSH = true\n\
         LFS_START_SERVER = false\n\
         [database]\n\
         DB_TYPE = sqlite3\n\
         PATH = {work}/gitea.db\n\
         SQLITE_JOURNAL_MODE = WAL\n\
         [security]\n\
         INSTALL_LOCK = true\n\
         PASSWORD_HASH_ALGO = pbkdf2$1000$32\n\
         [service]\n\
         DISABLE_REGISTRATION = true\n\
         [session]\n\
         PROVIDER = memory\n\
         [indexer]\n\
         ISSUE_INDEXER_TYPE = db\n\
         [queue]\n\
         TYPE = channel\n\
         [repository]\n\
         DEFAULT_BRANCH = main\n\
         [actions]\n\
         ENABLED = true\n\
         DEFAULT_ACTIONS_URL = self\n\
         WORKFLOW_DIRS = .forgejo/workflows,.gitea/workflows\n\
         [packages]\n\
         ENABLED = false\n\
         [cron.update_checker]\n\
         ENABLED = false\n\
         [i18n]\n\
         LANGS = en-US\n\
         NAMES = English\n\
         [log]\n\
         MODE = console\n\
         LEVEL = info\n"
    )
}

/// The same configuration on another port.
pub(super) fn with_port(ini: &str, serving: &Serving, port: u16) -> String {
    let (url, calls_itself) = (serving.url(port), serving.calls_itself(port));
    let line = |line: &str| match line.split('=').next().map(str::trim) {
        Some("HTTP_PORT") => format!("HTTP_PORT = {port}\n"),
        Some("ROOT_URL") => format!("ROOT_URL = {calls_itself}/\n"),
        Some("LOCAL_ROOT_URL") => format!("LOCAL_ROOT_URL = {url}/\n"),
        _ => format!("{line}\n"),
    };
    ini.lines().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_port_keeps_the_rest() {
        let tls = Serving::Tls {
            calls_itself: "https://forge:3333".to_owned(),
            certified: Certified { certificate: String::new(), key: String::new() },
            authority: String::new(),
        };
        for (serving, urls, own) in
            [(Serving::Plain, 2, "http://127.0.0.1:2222"), (tls, 1, "https://forge:3333")]
        {
            let mut first = app_ini(Path::new("/w"), Path::new("/f"), &serving, 1111);
            first.push_str("[oauth2]\nJWT_SECRET = keep=me\n");
            let second = with_port(&first, &serving, 2222);
            assert!(!second.contains("1111"), "{second}");
            assert_eq!(second.matches(&serving.url(2222)).count(), urls, "{second}");
            assert!(second.contains("HTTP_PORT = 2222\n") && second.contains("JWT_SECRET = keep=me\n"));
            assert!(second.contains(&format!("\nROOT_URL = {own}/\n")), "{second}");
        }
    }
}
