//! The document's tree to the settings.
//!
//! Purpose: every key is looked at once, and everything that is wrong is said. Owner: [`super::Config::parse`].

use std::{num::NonZeroU8, path::PathBuf, time::Duration};

use doc::{Diagnostic, Entry, Map, Node, Source, Typed, did_you_mean};
use forgejo::Certificates;
use sandbox::{Forward, NetLimits, Policy};

use super::{Accel, Config, Controller, Level};
use crate::label::{Label, parse_all};

/// Longer than any job or shutdown may take.
const LONGEST: Duration = Duration::from_secs(30 * 24 * 3600);
/// Nothing is asked of a server more often.
const OFTENEST: Duration = Duration::from_millis(100);
/// Names and ports of a VM, besides those of its forge.
const MOST_FORWARDS: usize = 200;

pub(super) fn config(source: &Source) -> Result<Config, Vec<Diagnostic>> {
    let root = doc::parse_toml(source).map_err(|error| error.diagnostics)?;
    let mut read = Read { source, faults: Vec::new(), taken: Vec::new() };
    let mut config = Config::default();
    if let Some(map) = read.map(&root) {
        read.root(&map, &mut config);
    }
    if read.faults.is_empty() { Ok(config) } else { Err(read.faults) }
}

struct Read<'a> {
    source: &'a Source,
    faults: Vec<Diagnostic>,
    /// Names and ports of VMs that lead somewhere.
    taken: Vec<(String, u16)>,
}

impl Read<'_> {
    fn root(&mut self, map: &Map, config: &mut Config) {
        for Entry { key, value } in &map.entries {
            match key.value.as_str() {
                "state_dir" => self.path(value).into_iter().for_each(|dir| config.state_dir = Some(dir)),
                "log" => self.each(value, |read, key, value| match key {
                    "level" => {
                        read.set(value, &mut config.log, Read::level);
                        &[]
                    }
                    _ => &["level"],
                }),
                "runner" => self.each(value, |read, key, value| read.runner(key, value, config)),
                "connection" => self.each(value, |read, key, value| read.connection(key, value, config)),
                "vm" => self.vms(value, config),
                "controller" => self.controller(value, config),
                _ => self.unknown(key, &["state_dir", "log", "runner", "connection", "vm", "controller"]),
            }
        }
    }

    /// Sets one key of `[runner]`; gives all keys if there is no such one.
    fn runner(&mut self, key: &str, value: &Node, config: &mut Config) -> &'static [&'static str] {
        let runner = &mut config.runner;
        match key {
            "file" => self.set(value, &mut runner.file, Read::path),
            "capacity" => self.set(value, &mut runner.capacity, |read, node| read.number(node, 1, 1000)),
            "labels" => self.set(value, &mut runner.labels, Read::labels),
            "timeout" => self.set(value, &mut runner.timeout, Read::positive),
            "shutdown_timeout" => self.set(value, &mut runner.shutdown_timeout, Read::time),
            "fetch_interval" => self.set(value, &mut runner.fetch_interval, Read::interval),
            "fetch_timeout" => self.set(value, &mut runner.fetch_timeout, Read::positive),
            "report_interval" => self.set(value, &mut runner.report_interval, Read::interval),
            "envs" => self.set(value, &mut runner.envs, Read::envs),
            "env_file" => self.path(value).into_iter().for_each(|file| runner.env_file = Some(file)),
            _ => {
                return &[
                    "file",
                    "capacity",
                    "labels",
                    "timeout",
                    "shutdown_timeout",
                    "fetch_interval",
                    "fetch_timeout",
                    "report_interval",
                    "envs",
                    "env_file",
                ];
            }
        }
        &[]
    }

    fn connection(&mut self, key: &str, value: &Node, config: &mut Config) -> &'static [&'static str] {
        let connection = &mut config.connection;
        match key {
            "ca_file" => self.path(value).into_iter().for_each(|file| connection.ca_file = Some(file)),
            "insecure" => self.set(value, &mut connection.certificates, Read::certificates),
            _ => return &["ca_file", "insecure"],
        }
        &[]
    }

    /// The table of VMs, whose keys are to fit together.
    fn vms(&mut self, table: &Node, config: &mut Config) {
        let mut limits = Vec::new();
        self.each(table, |read, key, value| {
            if matches!(key, "bandwidth_mbit" | "connections") {
                limits.push((key.to_owned(), value.span));
            }
            read.vm(key, value, config)
        });
        if config.vm.network != Some(Policy::none()) {
            return;
        }
        let (usual, asked) = (NetLimits::default(), config.vm.limits);
        for (key, span) in limits {
            // the example's number stays where somebody only closes the network
            if key == "connections" && asked.connections == usual.connections {
                continue;
            }
            let fault = Diagnostic::error(format!("`network` is \"none\", and `{key}` limits nothing"));
            self.faults.push(fault.at(self.source, span));
        }
    }

    fn vm(&mut self, key: &str, value: &Node, config: &mut Config) -> &'static [&'static str] {
        let vm = &mut config.vm;
        match key {
            "backend" => self.set(value, &mut vm.backend, Read::name),
            "accel" => self.set(value, &mut vm.accel, Read::accel),
            "image" => self.set(value, &mut vm.image, Read::name),
            "cpus" => self.set(value, &mut vm.cpus, Read::cpus),
            "memory_mib" => self.set(value, &mut vm.memory_mib, |read, node| read.number(node, 128, 1 << 20)),
            "scratch_gib" => self.set(value, &mut vm.scratch_gib, |read, node| read.number(node, 1, 4096)),
            "network" => {
                self.network(value).into_iter().for_each(|network| vm.network = Some(network));
            }
            "forwards" => self.set(value, &mut vm.forwards, Read::forwards),
            "bandwidth_mbit" => {
                let rate = self.number::<u64>(value, 1, 100_000).map(|mbit| mbit * 1_000_000);
                (vm.limits.upload, vm.limits.download) = (rate, rate);
            }
            "connections" => {
                self.set(value, &mut vm.limits.connections, |read, node| read.number(node, 1, 65_536));
            }
            _ => {
                return &[
                    "backend",
                    "accel",
                    "image",
                    "cpus",
                    "memory_mib",
                    "scratch_gib",
                    "network",
                    "forwards",
                    "bandwidth_mbit",
                    "connections",
                ];
            }
        }
        &[]
    }

    fn controller(&mut self, table: &Node, config: &mut Config) {
        let controller = &mut config.controller;
        let (mut address, mut token) = (None, None);
        self.each(table, |read, key, value| {
            match key {
                "token_file" => {
                    token = Some(value.clone());
                    read.path(value).into_iter().for_each(|file| controller.token_file = Some(file));
                }
                "address" => {
                    address = Some(value.clone());
                    read.set(value, &mut controller.address, Read::address);
                }
                _ => return &["token_file", "address"],
            }
            &[]
        });
        match (address, token) {
            (Some(address), None) => {
                let fault = Diagnostic::error("there is no `token_file` beside it, and so no controller");
                self.faults.push(fault.at(self.source, address.span));
            }
            // its usual name is taken as one that is written
            (None, Some(token)) => {
                if let Err(why) = self.take(&controller.address) {
                    let fault = Diagnostic::error(why).at(self.source, token.span);
                    self.faults.push(fault.help("`address` gives the controller another name or port"));
                }
            }
            _ => {}
        }
    }

    fn set<T>(&mut self, node: &Node, to: &mut T, read: impl FnOnce(&mut Self, &Node) -> Option<T>) {
        if let Some(value) = read(self, node) {
            *to = value;
        }
    }

    /// Calls `take` for each entry of a table; it gives the keys that there are if this is none of them.
    fn each(&mut self, node: &Node, mut take: impl FnMut(&mut Self, &str, &Node) -> &'static [&'static str]) {
        let Some(map) = self.map(node) else { return };
        for Entry { key, value } in &map.entries {
            let known = take(self, &key.value, value);
            if !known.is_empty() {
                self.unknown(key, known);
            }
        }
    }

    fn unknown(&mut self, key: &doc::Spanned<String>, known: &[&'static str]) {
        let fault = Diagnostic::error(format!("there is no setting `{}`", key.value))
            .at(self.source, key.span)
            .label("unknown key");
        self.faults.push(match did_you_mean(&key.value, known.iter().copied()) {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            None => fault.help(format!("the keys here are {}", known.join(", "))),
        });
    }

    fn fault(&mut self, node: &Node, expected: &str) {
        let empty = node.scalar().is_some_and(|scalar| scalar.typed == Typed::Text && scalar.text.is_empty());
        let what = if empty { "empty".to_owned() } else { node.describe().to_string() };
        let fault = Diagnostic::error(format!("expected {expected}"))
            .at(self.source, node.span)
            .label(format!("this is {what}"));
        self.faults.push(fault);
    }

    /// A value that is read from a scalar, or a fault.
    fn scalar<T>(
        &mut self,
        node: &Node,
        expected: &str,
        read: impl FnOnce(&doc::Scalar) -> Option<T>,
    ) -> Option<T> {
        let value = node.scalar().and_then(read);
        if value.is_none() {
            self.fault(node, expected);
        }
        value
    }

    fn map(&mut self, node: &Node) -> Option<Map> {
        let map = node.map().cloned();
        if map.is_none() {
            self.fault(node, "a table of keys");
        }
        map
    }

    fn path(&mut self, node: &Node) -> Option<PathBuf> {
        self.scalar(node, "a path, as text", |scalar| Some(text(scalar)?.into()))
    }

    fn name(&mut self, node: &Node) -> Option<String> {
        self.scalar(node, "a name, as text", |scalar| text(scalar).map(str::to_owned))
    }

    fn number<T: TryFrom<i64>>(&mut self, node: &Node, least: i64, most: i64) -> Option<T> {
        self.scalar(node, &format!("a whole number from {least} to {most}"), |scalar| {
            let Typed::Number(_) = scalar.typed else { return None };
            let number: i64 = scalar.text.replace('_', "").parse().ok()?;
            T::try_from(number).ok().filter(|_| (least..=most).contains(&number))
        })
    }

    fn cpus(&mut self, node: &Node) -> Option<NonZeroU8> {
        self.number::<u8>(node, 1, 64).and_then(NonZeroU8::new)
    }

    fn time(&mut self, node: &Node) -> Option<Duration> {
        self.scalar(node, "a time like \"90s\", \"5m\" or \"3h\", at most 30 days", |scalar| {
            let time: jiff::SignedDuration = text(scalar)?.parse().ok()?;
            Duration::try_from(time).ok().filter(|time| *time <= LONGEST)
        })
    }

    fn positive(&mut self, node: &Node) -> Option<Duration> {
        let time = self.time(node)?;
        if time.is_zero() {
            self.fault(node, "a time greater than 0");
            return None;
        }
        Some(time)
    }

    /// How often a server is asked or told something.
    fn interval(&mut self, node: &Node) -> Option<Duration> {
        let time = self.time(node)?;
        if time < OFTENEST {
            self.fault(node, "a time of at least \"100ms\", so that the server has other things to do");
            return None;
        }
        Some(time)
    }

    fn level(&mut self, node: &Node) -> Option<Level> {
        self.one_of(node, &Level::ALL)
    }

    fn accel(&mut self, node: &Node) -> Option<Accel> {
        self.one_of(node, &[("auto", Accel::Auto), ("kvm", Accel::Kvm), ("tcg", Accel::Tcg)])
    }

    fn certificates(&mut self, node: &Node) -> Option<Certificates> {
        self.scalar(node, "`true` or `false`", |scalar| match scalar.typed {
            Typed::Bool(true) => Some(Certificates::AcceptAny),
            Typed::Bool(false) => Some(Certificates::Verify),
            _ => None,
        })
    }

    fn network(&mut self, node: &Node) -> Option<Policy> {
        let said =
            self.scalar(node, "what VMs may reach, as text: \"none\", \"internet\", …", |scalar| {
                // the empty text is none of a policy's, which says what to write
                (scalar.typed == Typed::Text).then(|| scalar.text.clone())
            })?;
        match said.parse() {
            Ok(policy) => Some(policy),
            Err(error) => {
                self.faults.push(Diagnostic::error(format!("{error}")).at(self.source, node.span));
                None
            }
        }
    }

    fn forwards(&mut self, node: &Node) -> Option<Vec<Forward>> {
        let Some(items) = node.seq() else {
            self.fault(node, "a list of forwards: \"NAME:PORT=HOST:PORT\"");
            return None;
        };
        if items.len() > MOST_FORWARDS {
            self.fault(node, &format!("at most {MOST_FORWARDS} forwards"));
            return None;
        }
        let mut forwards = Vec::new();
        for item in items {
            forwards.extend(self.forward(item, "a forward, as text: \"NAME:PORT=HOST:PORT\"", str::parse));
        }
        Some(forwards)
    }

    /// What jobs call their controller.
    fn address(&mut self, node: &Node) -> Option<Forward> {
        let read = |text: &str| Forward::to_service(text, Controller::SERVICE);
        self.forward(node, "a name and a port, as text: \"NAME:PORT\"", read)
    }

    /// A forward, of a name and port that lead nowhere yet.
    fn forward(
        &mut self,
        node: &Node,
        expected: &str,
        read: impl FnOnce(&str) -> Result<Forward, sandbox::ForwardError>,
    ) -> Option<Forward> {
        let said = self.scalar(node, expected, |scalar| text(scalar).map(str::to_owned))?;
        let why = match read(&said) {
            Ok(forward) => match self.take(&forward) {
                Ok(()) => return Some(forward),
                Err(why) => why,
            },
            Err(error) => error.to_string(),
        };
        self.faults.push(Diagnostic::error(why).at(self.source, node.span));
        None
    }

    /// Takes a name and port for one destination; why not, if it has one.
    fn take(&mut self, forward: &Forward) -> Result<(), String> {
        let place = (forward.name.clone(), forward.port);
        if self.taken.contains(&place) {
            return Err(format!("{}:{} leads somewhere already", place.0, place.1));
        }
        self.taken.push(place);
        Ok(())
    }

    fn one_of<T: Copy>(&mut self, node: &Node, all: &[(&str, T)]) -> Option<T> {
        let names: Vec<_> = all.iter().map(|(name, _)| format!("\"{name}\"")).collect();
        self.scalar(node, &format!("one of {}", names.join(", ")), |scalar| {
            let text = text(scalar)?;
            all.iter().find(|(name, _)| *name == text).map(|(_, value)| *value)
        })
    }

    fn labels(&mut self, node: &Node) -> Option<Vec<Label>> {
        let Some(items) = node.seq() else {
            self.fault(node, "a list of labels");
            return None;
        };
        let mut labels = Vec::new();
        for item in items {
            let Some(label) = self.name(item) else { continue };
            match parse_all([label.as_str()]) {
                Ok(parsed) => labels.extend(parsed),
                Err(error) => {
                    self.faults.push(Diagnostic::error(error.to_string()).at(self.source, item.span));
                }
            }
        }
        Some(labels)
    }

    fn envs(&mut self, node: &Node) -> Option<Vec<(String, String)>> {
        let map = self.map(node)?;
        let mut envs = Vec::new();
        for Entry { key, value } in &map.entries {
            if key.value.is_empty() || key.value.contains(['=', '\0']) {
                let fault = Diagnostic::error("this is no name of a variable").at(self.source, key.span);
                self.faults.push(fault);
            }
            let text = self.scalar(value, "text, a number or a boolean", |scalar| Some(scalar.text.clone()));
            envs.extend(text.map(|text| (key.value.clone(), text)));
        }
        Some(envs)
    }
}

/// Text that is not empty.
fn text(scalar: &doc::Scalar) -> Option<&str> {
    (scalar.typed == Typed::Text && !scalar.text.is_empty()).then_some(scalar.text.as_str())
}
