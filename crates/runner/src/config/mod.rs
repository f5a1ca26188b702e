//! The configuration of the runner: `config.toml`, read with every fault at its place.
//!
//! Purpose: typed settings with defaults, which `config.toml.example` shows. Owner: the commands `daemon`,
//! `one-job` and `config check`. Invariants: an unknown key is an error; what is not in the file has the
//! example's value.

mod read;

use std::{
    fs, io,
    num::NonZeroU8,
    path::{Path, PathBuf},
    time::Duration,
};

use doc::{Diagnostic, Source};
use sandbox::{Destination, Forward, NetLimits, Policy};

use crate::label::Label;

/// The file where none is named.
pub const FILE: &str = "config.toml";

/// Every key with its default and a sentence.
pub const EXAMPLE: &str = include_str!("../../config.toml.example");

/// All settings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Directory of state, if it is named.
    pub state_dir: Option<PathBuf>,
    /// How much is said.
    pub log: Level,
    /// Polling and reporting.
    pub runner: Runner,
    /// The way to the server.
    pub connection: Connection,
    /// The VMs.
    pub vm: Vm,
    /// Sandboxes for the jobs.
    pub controller: Controller,
}

/// How much the daemon says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    /// What went wrong.
    Error,
    /// And what may.
    Warn,
    /// And what it does.
    Info,
    /// And how.
    Debug,
    /// And every detail.
    Trace,
}

impl Level {
    pub(crate) const ALL: [(&'static str, Self); 5] = [
        ("error", Self::Error),
        ("warn", Self::Warn),
        ("info", Self::Info),
        ("debug", Self::Debug),
        ("trace", Self::Trace),
    ];

    /// As the file has it.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, level)| *level == self).map_or("info", |(name, _)| name)
    }
}

/// Polling and reporting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Runner {
    /// The registration.
    pub file: PathBuf,
    /// Jobs at once, from 1 to 1000.
    pub capacity: u16,
    /// Instead of the registration's, unless it is empty.
    pub labels: Vec<Label>,
    /// The longest that a job may take.
    pub timeout: Duration,
    /// How long jobs may go on after the daemon was asked to end.
    pub shutdown_timeout: Duration,
    /// Between two questions for work.
    pub fetch_interval: Duration,
    /// How long an answer may take.
    pub fetch_timeout: Duration,
    /// Between two reports.
    pub report_interval: Duration,
    /// Variables of all steps.
    pub envs: Vec<(String, String)>,
    /// A file with further ones.
    pub env_file: Option<PathBuf>,
}

/// The way to the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Connection {
    /// Certificates of an own authority.
    pub ca_file: Option<PathBuf>,
    /// Which certificates are taken.
    pub certificates: forgejo::Certificates,
}

/// The VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vm {
    /// What runs them.
    pub backend: String,
    /// How they run code.
    pub accel: Accel,
    /// The root image.
    pub image: String,
    /// Virtual processors.
    pub cpus: NonZeroU8,
    /// Memory in MiB.
    pub memory_mib: u32,
    /// Scratch disk in GiB.
    pub scratch_gib: u32,
    /// What they may reach; none: the internet, where this host can give it.
    pub network: Option<Policy>,
    /// What each may use of that.
    pub limits: NetLimits,
    /// Names in them that lead to somewhere that this host reaches.
    pub forwards: Vec<Forward>,
}

/// Sandboxes for the jobs: a controller whose clients they are, by a name in their VMs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Controller {
    /// A file with the token that jobs show; none: there is no controller.
    pub token_file: Option<PathBuf>,
    /// What jobs call it: a forward to the service [`Controller::SERVICE`].
    pub address: Forward,
}

impl Controller {
    /// The service that it is in the VMs' forwards.
    pub const SERVICE: &str = "controller";
    /// What jobs call it where nothing is said: of the domain that is nobody's on the internet.
    const NAME: &str = "controller.ampoule.internal";
    const PORT: u16 = 8889;
}

impl Default for Controller {
    fn default() -> Self {
        let to = Destination::Service(Self::SERVICE.to_owned());
        Self { token_file: None, address: Forward { name: Self::NAME.to_owned(), port: Self::PORT, to } }
    }
}

/// How VMs run code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Accel {
    /// KVM where a probe boot proves that it works, else emulation.
    Auto,
    /// KVM or nothing.
    Kvm,
    /// Emulation.
    Tcg,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            state_dir: None,
            log: Level::Info,
            runner: Runner {
                file: crate::registration::FILE.into(),
                capacity: 1,
                labels: Vec::new(),
                timeout: Duration::from_secs(3 * 3600),
                shutdown_timeout: Duration::from_secs(3 * 3600),
                fetch_interval: Duration::from_secs(2),
                fetch_timeout: Duration::from_secs(5),
                report_interval: Duration::from_secs(1),
                envs: Vec::new(),
                env_file: None,
            },
            connection: Connection { ca_file: None, certificates: forgejo::Certificates::Verify },
            vm: Vm {
                backend: "qemu".to_owned(),
                accel: Accel::Auto,
                image: "standard".to_owned(),
                cpus: const { NonZeroU8::new(2).unwrap() },
                memory_mib: 2048,
                scratch_gib: 16,
                network: None,
                forwards: Vec::new(),
                limits: NetLimits::default(),
            },
            controller: Controller::default(),
        }
    }
}

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("the configuration {} cannot be read", path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// The system's answer.
        #[source]
        source: io::Error,
    },
    /// It is no configuration; at least one error, each with its place.
    #[error("{}", .0.iter().find(|found| found.is_error()).map(ToString::to_string).unwrap_or_default())]
    Diagnostics(Vec<Diagnostic>),
}

impl Config {
    /// Reads a file.
    ///
    /// # Errors
    /// It cannot be read, or is no configuration.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let bytes = fs::read(path).map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let source = Source::from_bytes(path.display().to_string(), &bytes)
            .map_err(|fault| ConfigError::Diagnostics(vec![*fault]))?;
        Self::parse(&source)
    }

    /// The file that was named, else [`FILE`] of the working directory, else the defaults.
    ///
    /// # Errors
    /// As [`Config::load`].
    pub fn find(named: Option<&Path>) -> Result<Self, ConfigError> {
        match named {
            Some(path) => Self::load(path),
            None if Path::new(FILE).exists() => Self::load(Path::new(FILE)),
            None => Ok(Self::default()),
        }
    }

    /// Reads a text.
    ///
    /// # Errors
    /// It is no configuration.
    pub fn parse(source: &Source) -> Result<Self, ConfigError> {
        read::config(source).map_err(ConfigError::Diagnostics)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Config, String> {
        Config::parse(&Source::new("config.toml", text)).map_err(|error| match error {
            ConfigError::Diagnostics(found) => {
                found.iter().map(|fault| fault.render(doc::Rendering::Plain)).collect::<Vec<_>>().join("\n")
            }
            other => other.to_string(),
        })
    }

    #[test]
    fn the_example_is_the_defaults_and_so_is_nothing() {
        assert_eq!(parse(EXAMPLE).unwrap(), Config::default());
        assert_eq!(parse("").unwrap(), Config::default());
        // what is commented out has its key's form as well
        let all: String = EXAMPLE
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(rest) if rest.contains(" = \"") && !rest.contains(": ") => format!("{rest}\n"),
                _ => format!("{line}\n"),
            })
            .collect();
        let config = parse(&all).unwrap();
        assert!(config.state_dir.is_some() && config.runner.env_file.is_some());
        assert!(config.connection.ca_file.is_some() && config.vm.network.is_some());
        assert!(config.controller.token_file.is_some());
        assert_eq!(config.controller.address, Controller::default().address);
    }

    #[test]
    fn every_value_is_read() {
        let config = parse(
            "state_dir = '/s'\n[log]\nlevel = 'debug'\n[runner]\nfile = 'r'\ncapacity = 4\n\
             labels = ['debian', 'x:host']\ntimeout = '90m'\nshutdown_timeout = '0s'\nfetch_interval = '500ms'\n\
             fetch_timeout = '9s'\nreport_interval = '3s'\nenvs = { A = 'b', N = 3, T = true }\nenv_file = 'e'\n\
             [connection]\nca_file = 'c'\ninsecure = true\n\
             [vm]\nbackend = 'fake'\naccel = 'tcg'\nimage = 'small'\ncpus = 4\nmemory_mib = 512\nscratch_gib = 2\n\
             network = 'allow=a'\nbandwidth_mbit = 100\nconnections = 64\nforwards = ['Cache:80=127.0.0.1:9000', 'git.example:443=[::1]:443']\n\
             [controller]\ntoken_file = 't'\naddress = 'sandboxes.internal:80'\n",
        )
        .unwrap();
        assert_eq!(config.runner.timeout, Duration::from_secs(5400));
        assert_eq!(config.runner.shutdown_timeout, Duration::ZERO);
        assert_eq!(config.runner.fetch_interval, Duration::from_millis(500));
        assert_eq!((config.runner.capacity, config.runner.labels.len()), (4, 2));
        let envs: Vec<_> = config.runner.envs.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(envs, ["A=b", "N=3", "T=true"]);
        assert_eq!(config.connection.certificates, forgejo::Certificates::AcceptAny);
        assert_eq!(config.vm.network, Some("allow=a".parse().unwrap()));
        let forwards: Vec<_> = config.vm.forwards.iter().map(ToString::to_string).collect();
        assert_eq!(forwards, ["cache:80=127.0.0.1:9000", "git.example:443=[::1]:443"]);
        assert_eq!(config.controller.token_file.as_deref(), Some(Path::new("t")));
        assert_eq!(config.controller.address.to_string(), "sandboxes.internal:80=service controller");
        let rate = Some(100_000_000);
        assert_eq!(config.vm.limits, NetLimits { connections: 64, upload: rate, download: rate });
        assert_eq!((config.vm.accel, config.vm.memory_mib, config.vm.cpus.get()), (Accel::Tcg, 512, 4));
    }

    #[test]
    fn faults_have_their_place_and_say_what_was_probably_meant() {
        let said = parse(
            "[runner]\ncapacty = 2\ntimeout = 'soon'\ncapacity = 0\nlabels = ['a b']\n\
             [vm]\naccel = 'fast'\nnetwork = '-'\n[runer]\n",
        )
        .unwrap_err();
        for part in [
            "config.toml:2:1",
            "did you mean `capacity`?",
            "config.toml:3:11",
            "config.toml:4:12",
            "config.toml:5:11",
            "config.toml:7:9",
            "config.toml:8:11",
            "did you mean `runner`?",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
    }

    #[test]
    fn forwards_have_their_places_and_lead_to_one_each() {
        let said = parse(
            "[vm]\nforwards = [\n  'a:80=b:80',\n  'a:80',\n  'a:0=b:1',\n  7,\n  'A:80=c:1',\n  'a:81=b:80',\n  \
             'localhost:1=b:1',\n]\n[controller]\ntoken_file = 't'\naddress = 'a:81'\n",
        )
        .unwrap_err();
        for part in [
            "config.toml:4:3",
            "expected NAME:PORT=HOST:PORT",
            "config.toml:5:3",
            "is no port",
            "config.toml:6:3",
            "config.toml:7:3",
            "a:80 leads somewhere already",
            "config.toml:9:3",
            "is the VM itself",
            "config.toml:13:11",
            "a:81 leads somewhere already",
        ] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
        assert!(!said.contains("config.toml:3:") && !said.contains("config.toml:8:"), "{said}");
        let many: Vec<_> = (1..=201).map(|port| format!("'a:{port}=b:1'")).collect();
        let said = parse(&format!("[vm]\nforwards = [{}]\n", many.join(","))).unwrap_err();
        assert!(said.contains("at most 200"), "{said}");
    }

    #[test]
    fn a_controller_keeps_its_usual_name_for_itself() {
        let forwards = "[vm]\nforwards = ['controller.ampoule.internal:8889=b:80']\n";
        let controller = "[controller]\ntoken_file = 't'\n";
        let said = parse(&format!("{forwards}{controller}")).unwrap_err();
        for part in
            ["controller.ampoule.internal:8889 leads somewhere already", "config.toml:4:14", "`address`"]
        {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
        let said = parse(&format!("{controller}{forwards}")).unwrap_err();
        for part in ["controller.ampoule.internal:8889 leads somewhere already", "config.toml:4:13"] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
        // without a controller the name is free, and so it is where that has another
        parse(forwards).unwrap();
        for address in ["other.internal:8889", "controller.ampoule.internal:8890"] {
            parse(&format!("{forwards}{controller}address = '{address}'\n")).unwrap();
            parse(&format!("{controller}address = '{address}'\n{forwards}")).unwrap();
        }
    }

    #[test]
    fn limits_of_no_network_limit_nothing() {
        for (limit, key) in [("bandwidth_mbit = 100", "bandwidth_mbit"), ("connections = 64", "connections")]
        {
            let said = parse(&format!("[vm]\n{limit}\nnetwork = 'none'\n")).unwrap_err();
            assert!(
                said.contains("config.toml:2:") && said.contains(&format!("`{key}` limits nothing")),
                "{said}"
            );
            parse(&format!("[vm]\n{limit}\nnetwork = 'internet'\n")).unwrap();
            parse(&format!("[vm]\n{limit}\n")).unwrap();
        }
        // the example, of which only the network was changed
        let closed = EXAMPLE.replace("# network = \"internet\"", "network = \"none\"");
        assert_eq!(parse(&closed).unwrap().vm.network, Some(Policy::none()));
    }

    #[test]
    fn what_is_empty_is_said_to_be() {
        for text in
            ["[vm]\nforwards = ['']\n", "[controller]\ntoken_file = 't'\naddress = ''\n", "state_dir = ''"]
        {
            let said = parse(text).unwrap_err();
            assert!(said.contains("this is empty") && !said.contains("this is text"), "{said}");
        }
    }

    #[test]
    fn a_controller_needs_a_token() {
        let said = parse("[controller]\naddress = 'a.internal:80'\n").unwrap_err();
        assert!(said.contains("config.toml:2:11") && said.contains("token_file"), "{said}");
        let said = parse("[controller]\ntoken_file = ''\naddress = 'a.internal'\n").unwrap_err();
        for part in ["config.toml:2:14", "config.toml:3:11", "expected NAME:PORT"] {
            assert!(said.contains(part), "{part} is not in\n{said}");
        }
        assert_eq!(parse("[controller]\n").unwrap(), Config::default());
    }

    #[test]
    fn a_network_that_is_none_is_told_what_to_write() {
        for text in ["''", "'web'"] {
            let said = parse(&format!("[vm]\nnetwork = {text}\n")).unwrap_err();
            assert!(said.contains("begins no policy: write none, internet"), "{said}");
            assert!(said.contains("config.toml:2:11"), "{said}");
        }
        assert!(parse("[vm]\nnetwork = 1\n").unwrap_err().contains("as text"));
    }

    #[test]
    fn a_server_is_left_other_things_to_do() {
        for key in ["fetch_interval", "report_interval"] {
            let said = parse(&format!("[runner]\n{key} = '99ms'\n")).unwrap_err();
            assert!(said.contains("at least \"100ms\"") && said.contains("config.toml:2:"), "{said}");
            assert!(parse(&format!("[runner]\n{key} = '1ns'\n")).is_err());
            assert!(parse(&format!("[runner]\n{key} = '100ms'\n")).is_ok());
        }
    }
}
