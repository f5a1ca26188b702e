//! A running Gitea.
//!
//! Purpose: configuration, first account, start, and the wait until it answers.
//! Owner: whoever holds the [`Gitea`]; dropping it ends the server and removes its directory.

use std::{
    fmt::Write as _,
    fs,
    io::{Read, Seek, SeekFrom},
    net::{Ipv4Addr, TcpListener},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use rustix::rand::GetRandomFlags;
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Account, Api, Error, Result, api,
    files::{self, Home},
    ini::{CERTIFICATE, KEY, Serving, app_ini, with_port},
    keeper::Keeper,
    program::{self, Program},
    user::User,
};
use crate::authority::Authority;

/// How long it may take from its start to its first answer, on a machine that does much else.
const START: Duration = Duration::from_secs(120);
/// How much of its log a failure shows.
const TAIL: u64 = 16 << 10;
/// How often another port is tried where somebody took the free one first.
const PORTS: usize = 3;
/// Name of the first account, an administrator.
const ADMIN: &str = "root-of-tests";

/// A running Gitea with one administrator.
#[derive(Debug)]
pub struct Gitea {
    url: String,
    authority: Option<String>,
    admin: Account,
    // the order is that of the end: the server first, then its directory
    keeper: Keeper,
    home: Home,
}

impl Gitea {
    /// Starts one, building it first where that was not done yet.
    ///
    /// # Errors
    /// When it cannot be built or started, or does not answer in time.
    pub fn start() -> Result<Self> {
        Self::serving(Serving::Plain)
    }

    /// Starts one that serves TLS, with a certificate of an authority that nobody knows but by
    /// [`Gitea::authority`], and that calls itself by another address than [`Gitea::url`]: `https://NAME:PORT`.
    ///
    /// # Errors
    /// As [`Gitea::start`].
    pub fn start_tls(name: &str, port: u16) -> Result<Self> {
        let authority = Authority::new();
        let certified = authority.certify(&[name, "127.0.0.1"]);
        let calls_itself = format!("https://{name}:{port}");
        Self::serving(Serving::Tls { calls_itself, certified, authority: authority.pem().to_owned() })
    }

    fn serving(serving: Serving) -> Result<Self> {
        let program = Program::ensure()?;
        let begun = Instant::now();
        let home = Home::new()?;
        let user = User::find();
        let place = Place { program: home.install(&program)?, work: home.work(user)?, user, serving };
        place.certify()?;
        let config = place.configure(free_port()?)?;
        place.run(&config, &["migrate"])?;
        let admin = place.create_admin(&config)?;
        let mut attempt = 1;
        let (url, keeper) = loop {
            let port = free_port()?;
            let config = place.configure(port)?;
            match place.serve(&config, port, &home.log()) {
                Ok(keeper) => break (place.serving.url(port), keeper),
                Err(error) if attempt == PORTS || !error.to_string().contains("address already in use") => {
                    return Err(error);
                }
                Err(_) => attempt += 1,
            }
        };
        program::say(&format!("gitea: {url} answers after {:.1} s", begun.elapsed().as_secs_f64()));
        let authority = place.serving.authority().map(str::to_owned);
        Ok(Self { url, authority, admin, keeper, home })
    }

    /// Its address, without a slash at the end.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Who vouches for it, as PEM, where it serves TLS.
    #[must_use]
    pub fn authority(&self) -> Option<&str> {
        self.authority.as_deref()
    }

    /// The administrator.
    #[must_use]
    pub fn admin(&self) -> &Account {
        &self.admin
    }

    /// A client of the administrator. Each belongs to the runtime that it is first used in, so every test makes
    /// its own.
    #[must_use]
    pub fn api(&self) -> Api {
        self.api_of(&self.admin)
    }

    /// A client of another account.
    #[must_use]
    pub fn api_of(&self, account: &Account) -> Api {
        Api::new(&self.url, account, &self.home.log(), self.authority())
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.keeper.pid()
    }

    /// The end of its log.
    #[must_use]
    pub fn log_tail(&self) -> String {
        tail(&self.home.log())
    }

    /// Copies its log to where it outlives the server; where that is.
    ///
    /// # Errors
    /// When there is no room for it.
    pub fn keep_log(&self) -> Result<PathBuf> {
        let kept = program::kept()?.join(format!("failure-{}.log", self.pid()));
        fs::copy(self.home.log(), &kept).map_err(Error::io(format!("write {}", kept.display())))?;
        Ok(kept)
    }
}

/// Where a server lives, and as whom.
struct Place {
    program: Program,
    work: PathBuf,
    user: User,
    serving: Serving,
}

impl Place {
    /// Writes its app.ini for a port. A second one keeps the secrets that it wrote into the first.
    fn configure(&self, port: u16) -> Result<PathBuf> {
        let path = self.work.join("app.ini");
        let text = match fs::read_to_string(&path) {
            Ok(old) => with_port(&old, &self.serving, port),
            Err(_) => app_ini(&self.work, &self.program.files, &self.serving, port),
        };
        fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
        files::give(&path, self.user)?;
        Ok(path)
    }

    /// Writes what it shows to those who want TLS.
    fn certify(&self) -> Result<()> {
        let Serving::Tls { certified, .. } = &self.serving else { return Ok(()) };
        for (name, text) in [(CERTIFICATE, &certified.certificate), (KEY, &certified.key)] {
            let path = self.work.join(name);
            fs::write(&path, text).map_err(Error::io(format!("write {}", path.display())))?;
            files::give(&path, self.user)?;
        }
        Ok(())
    }

    fn command(&self, config: &Path, words: &[&str]) -> Command {
        let mut command = self.user.command(&self.program.binary);
        command.arg("--config").arg(config).args(words).current_dir(&self.work).stdin(Stdio::null());
        command
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("HOME", self.work.join("home"))
            .env("TMPDIR", self.work.join("tmp"))
            .env("GITEA_WORK_DIR", &self.work);
        command
    }

    /// Runs one of its commands to the end; what it printed.
    fn run(&self, config: &Path, words: &[&str]) -> Result<String> {
        let mut command = self.command(config, words);
        let output = command.output().map_err(Error::io(format!("start {}", program::shown(&command))))?;
        if output.status.success() {
            return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
        }
        let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
        text.push_str(&String::from_utf8_lossy(&output.stderr));
        // the words of the command may hold a password
        let command = words.iter().take(3).copied().collect::<Vec<_>>().join(" ");
        Err(Error::Command { command: format!("gitea {command}"), status: output.status, output: text })
    }

    fn create_admin(&self, config: &Path) -> Result<Account> {
        let password = random_secret()?;
        let mail = format!("{ADMIN}@example.invalid");
        let account = ["--username", ADMIN, "--password", password.expose_secret(), "--email", &mail];
        let mut words = vec!["admin", "user", "create", "--admin", "--must-change-password=false"];
        words.extend(account);
        self.run(config, &words)?;
        let token = ["--username", ADMIN, "--token-name", "tests", "--scopes", "all", "--raw"];
        let mut words = vec!["admin", "user", "generate-access-token"];
        words.extend(token);
        let printed = self.run(config, &words)?;
        // log lines may come before it
        let token = printed.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        Ok(Account { name: ADMIN.to_owned(), password, token: token.trim().to_owned().into() })
    }

    /// Starts the server and waits until it answers.
    fn serve(&self, config: &Path, port: u16, log: &Path) -> Result<Keeper> {
        let output = fs::File::create(log).map_err(Error::io(format!("open {}", log.display())))?;
        let errors = output.try_clone().map_err(Error::io("share the log"))?;
        let mut command = self.command(config, &["web"]);
        command.stdout(output).stderr(errors);
        let keeper = Keeper::start(command).map_err(Error::io("start gitea"))?;
        let begun = Instant::now();
        while !answers(&self.serving, port) {
            if keeper.ended() {
                return Err(Error::NotReady { what: "ended at its start", log: tail(log) });
            }
            if begun.elapsed() > START {
                return Err(Error::NotReady { what: "does not answer", log: tail(log) });
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(keeper)
    }
}

/// Does a server answer there, with its database and all?
fn answers(serving: &Serving, port: u16) -> bool {
    let url = format!("{}/api/v1/version", serving.url(port));
    let ask = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
        let request = api::http(serving.authority()).get(url).timeout(Duration::from_secs(5));
        let answer =
            runtime.block_on(api::answer("GET version".to_owned(), request)).ok()?.accepted().ok()?;
        Some(answer.shown().contains(program::version()))
    };
    // whoever starts it may be in a runtime of its own
    std::thread::scope(|scope| scope.spawn(ask).join()).is_ok_and(|said| said == Some(true))
}

fn free_port() -> Result<u16> {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|listener| listener.local_addr());
    Ok(port.map_err(Error::io("find a free port"))?.port())
}

fn random_secret() -> Result<SecretString> {
    let mut bytes = [0; 16];
    rustix::rand::getrandom(&mut bytes, GetRandomFlags::empty())
        .map_err(|error| Error::io("make a password")(error.into()))?;
    let mut text = String::new();
    for byte in bytes {
        // a String takes everything
        let _ = write!(text, "{byte:02x}");
    }
    Ok(text.into())
}

/// The end of a log.
pub(super) fn tail(log: &Path) -> String {
    let mut text = Vec::new();
    let read = fs::File::open(log).and_then(|mut file| {
        let size = file.metadata()?.len();
        file.seek(SeekFrom::Start(size.saturating_sub(TAIL)))?;
        file.take(TAIL).read_to_end(&mut text)
    });
    match read {
        Ok(_) => String::from_utf8_lossy(&text).into_owned(),
        Err(error) => format!("({} cannot be read: {error})", log.display()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tail_is_the_end() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), format!("{}last line\n", "x".repeat(100_000))).expect("written");
        let tail = tail(file.path());
        assert!(tail.ends_with("last line\n") && tail.len() as u64 == TAIL);
    }
}
