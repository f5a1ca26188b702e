//! The environment of a step's commands.
//!
//! Purpose: who sets what, and who wins. Pure.
//! Owner: the job's task keeps one [`Environ`] and asks it once per step.
//!
//! Order, the later wins: the runner's own and the caller's, the workflow's, the job's, `GITHUB_ENV` of the
//! steps so far, the step's. `PATH` then gets what `GITHUB_PATH` named in front, the newest first. Only the
//! paths of the files by which a step speaks cannot be changed by anyone.

use workflow::Value;

use crate::files::File;

/// `PATH` where nobody sets one.
pub(crate) const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Variables of the `github` context that are set with both prefixes, `GITHUB_` and `FORGEJO_`, also when
/// they are empty.
const CONTEXT: [&str; 24] = [
    "WORKFLOW",
    "WORKFLOW_REF",
    "RUN_ID",
    "RUN_NUMBER",
    "RUN_ATTEMPT",
    "ACTION",
    "ACTION_PATH",
    "ACTION_REPOSITORY",
    "ACTION_REF",
    "ACTOR",
    "REPOSITORY",
    "REPOSITORY_OWNER",
    "EVENT_NAME",
    "EVENT_PATH",
    "WORKSPACE",
    "SHA",
    "REF",
    "REF_NAME",
    "REF_TYPE",
    "JOB",
    "RETENTION_DAYS",
    "BASE_REF",
    "HEAD_REF",
    "SERVER_URL",
];

/// Variables of the `github` context that are set only when the caller knows them: empty they would mean
/// something to programs.
const CONTEXT_IF_KNOWN: [&str; 7] = [
    "API_URL",
    "TOKEN",
    "TRIGGERING_ACTOR",
    "REF_PROTECTED",
    "REPOSITORY_ID",
    "REPOSITORY_OWNER_ID",
    "ACTOR_ID",
];

/// Variables in the order in which they were first set.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Vars(Vec<(String, String)>);

impl std::fmt::Debug for Vars {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_list().entries(self.0.iter().map(|(name, _)| name)).finish()
    }
}

impl Vars {
    pub(crate) fn set(&mut self, name: impl Into<String>, value: impl Into<String>) {
        let (name, value) = (name.into(), value.into());
        match self.0.iter_mut().find(|(known, _)| *known == name) {
            Some((_, old)) => *old = value,
            None => self.0.push((name, value)),
        }
    }

    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn extend<'a>(&mut self, vars: impl IntoIterator<Item = (&'a str, &'a str)>) {
        vars.into_iter().for_each(|(name, value)| self.set(name, value));
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    pub(crate) fn into_inner(self) -> Vec<(String, String)> {
        self.0
    }
}

/// What is the same for all steps of a job.
#[derive(Clone, Debug)]
pub(crate) struct Facts {
    /// Runner's name and version.
    pub(crate) runner_name: String,
    pub(crate) version: String,
    /// `ImageOS`
    pub(crate) image_os: String,
    /// Directories, as commands see them.
    pub(crate) home: String,
    pub(crate) temp: String,
    pub(crate) tool_cache: String,
    pub(crate) runner_workspace: String,
    /// Whether debug rows are wanted.
    pub(crate) debug: bool,
}

/// One step's part.
pub(crate) struct StepPart<'a> {
    /// The `github` context of this step.
    pub(crate) github: &'a Value,
    /// Its own variables.
    pub(crate) own: &'a Vars,
    /// Its files, as commands see them.
    pub(crate) file: &'a dyn Fn(File) -> String,
}

/// The environment so far.
#[derive(Clone, Debug)]
pub(crate) struct Environ {
    facts: Facts,
    /// The caller's.
    outer: Vars,
    /// Of workflow, job and `GITHUB_ENV`: the `env` context without the step's own.
    pub(crate) vars: Vars,
    /// Of `GITHUB_PATH`, the newest first.
    paths: Vec<String>,
    /// Whether `PATH` among `vars` is of `GITHUB_ENV`.
    exported_path: bool,
}

impl Environ {
    pub(crate) fn new(facts: Facts, outer: Vars) -> Self {
        Self { facts, outer, vars: Vars::default(), paths: Vec::new(), exported_path: false }
    }

    /// Sets a variable for the steps that follow, as `GITHUB_ENV` does.
    pub(crate) fn export(&mut self, name: String, value: String) {
        self.exported_path |= name == "PATH";
        self.vars.set(name, value);
    }

    /// Who set `PATH` for a step; none where it is the runner's own.
    pub(crate) fn path_origin(&self, own: &Vars) -> Option<&'static str> {
        let set = |vars: &Vars| vars.get("PATH").is_some();
        if set(own) {
            Some("the step's own `env`")
        } else if self.exported_path {
            Some("an earlier step through GITHUB_ENV")
        } else if set(&self.vars) {
            Some("`env` of the workflow or the job")
        } else {
            set(&self.outer).then_some("the environment given with the run")
        }
    }

    /// Puts a directory in front of `PATH`.
    pub(crate) fn add_path(&mut self, path: String) {
        self.paths.retain(|known| *known != path);
        self.paths.insert(0, path);
    }

    /// The `env` context: the caller's, the workflow's, the job's, `GITHUB_ENV`, the step's.
    pub(crate) fn context(&self, own: &Vars) -> Vars {
        let mut vars = self.outer.clone();
        vars.extend(self.vars.iter());
        vars.extend(own.iter());
        vars
    }

    /// All variables of a step's command.
    pub(crate) fn of_step(&self, step: &StepPart<'_>) -> Vec<(String, String)> {
        let mut vars = self.own();
        for name in CONTEXT {
            both(&mut vars, name, &step.github.get(&name.to_ascii_lowercase()).to_text());
        }
        for name in CONTEXT_IF_KNOWN {
            let value = step.github.get(&name.to_ascii_lowercase()).to_text();
            if !value.is_empty() {
                both(&mut vars, name, &value);
            }
        }
        vars.extend(self.context(step.own).iter());
        for file in File::ALL {
            both(&mut vars, file.variable(), &(step.file)(file));
        }
        if !self.paths.is_empty() {
            let path = vars.get("PATH").unwrap_or_default();
            let mut parts = self.paths.clone();
            parts.extend((!path.is_empty()).then(|| path.to_owned()));
            vars.set("PATH", parts.join(":"));
        }
        vars.into_inner()
    }

    /// What the runner itself sets.
    fn own(&self) -> Vars {
        let facts = &self.facts;
        let mut vars = Vars::default();
        vars.extend([
            ("PATH", PATH),
            ("HOME", &facts.home),
            ("LANG", "C.UTF-8"),
            ("CI", "true"),
            ("ACT", "true"),
            ("GITHUB_ACTIONS", "true"),
            ("FORGEJO_ACTIONS", "true"),
            ("GITEA_ACTIONS", "true"),
            ("FORGEJO_ACTIONS_RUNNER_VERSION", &facts.version),
            ("GITEA_ACTIONS_RUNNER_VERSION", &facts.version),
            ("RUNNER_NAME", &facts.runner_name),
            ("RUNNER_OS", "Linux"),
            ("RUNNER_ARCH", "X64"),
            ("RUNNER_ENVIRONMENT", "self-hosted"),
            ("RUNNER_TEMP", &facts.temp),
            ("RUNNER_TOOL_CACHE", &facts.tool_cache),
            ("RUNNER_WORKSPACE", &facts.runner_workspace),
            ("ImageOS", &facts.image_os),
        ]);
        if facts.debug {
            vars.set("RUNNER_DEBUG", "1");
        }
        vars
    }

    /// The `runner` context.
    pub(crate) fn runner_context(&self) -> Value {
        let facts = &self.facts;
        let mut object: workflow::Object = [
            ("name", facts.runner_name.as_str()),
            ("os", "Linux"),
            ("arch", "X64"),
            ("environment", "self-hosted"),
            ("temp", &facts.temp),
            ("tool_cache", &facts.tool_cache),
            ("workspace", &facts.runner_workspace),
        ]
        .into_iter()
        .collect();
        if facts.debug {
            object.insert("debug", "1");
        }
        object.into()
    }
}

fn both(vars: &mut Vars, name: &str, value: &str) {
    vars.set(format!("GITHUB_{name}"), value);
    vars.set(format!("FORGEJO_{name}"), value);
}

#[cfg(test)]
mod tests {
    use workflow::Object;

    use super::*;

    fn environ() -> Environ {
        let facts = Facts {
            runner_name: "here".to_owned(),
            version: "1".to_owned(),
            image_os: "debian13".to_owned(),
            home: "/root".to_owned(),
            temp: "/tmp".to_owned(),
            tool_cache: "/opt/hostedtoolcache".to_owned(),
            runner_workspace: "/workspace/o".to_owned(),
            debug: false,
        };
        let mut outer = Vars::default();
        outer.set("A", "caller");
        outer.set("B", "caller");
        Environ::new(facts, outer)
    }

    fn of_step(environ: &Environ, own: &Vars) -> Vars {
        let github: Value =
            [("sha", "abc"), ("token", ""), ("repository", "o/r")].into_iter().collect::<Object>().into();
        let file = |file: File| format!("/f/{}", file.name());
        Vars(environ.of_step(&StepPart { github: &github, own, file: &file }))
    }

    #[test]
    fn the_inner_wins() {
        let mut environ = environ();
        environ.vars.set("B", "job");
        environ.vars.set("C", "job");
        environ.vars.set("CI", "no");
        let mut own = Vars::default();
        own.set("C", "step");
        own.set("GITHUB_OUTPUT", "/etc/passwd");
        own.set("GITHUB_SHA", "mine");
        let vars = of_step(&environ, &own);
        for (name, value) in [
            ("A", "caller"),
            ("B", "job"),
            ("C", "step"),
            ("CI", "no"),
            ("GITHUB_OUTPUT", "/f/output"),
            ("FORGEJO_OUTPUT", "/f/output"),
            ("GITHUB_SHA", "mine"),
            ("FORGEJO_SHA", "abc"),
            ("GITHUB_HEAD_REF", ""),
            ("HOME", "/root"),
        ] {
            assert_eq!(vars.get(name), Some(value), "{name}");
        }
        assert_eq!(vars.get("GITHUB_TOKEN"), None, "an empty token would be taken for one");
        assert_eq!(environ.context(&own).get("C"), Some("step"));
        assert_eq!(environ.context(&own).get("HOME"), None);
    }

    #[test]
    fn paths_go_to_the_front_the_newest_first() {
        let mut environ = environ();
        environ.add_path("/a".to_owned());
        environ.add_path("/b".to_owned());
        environ.add_path("/a".to_owned());
        assert_eq!(of_step(&environ, &Vars::default()).get("PATH"), Some(&*format!("/a:/b:{PATH}")));
        environ.vars.set("PATH", "/only");
        assert_eq!(of_step(&environ, &Vars::default()).get("PATH"), Some("/a:/b:/only"));
    }

    #[test]
    fn the_origin_of_path_is_that_of_the_one_that_wins() {
        let mut environ = environ();
        let none = Vars::default();
        assert_eq!(environ.path_origin(&none), None);
        environ.outer.set("PATH", "/caller");
        assert!(environ.path_origin(&none).unwrap().contains("given with the run"));
        environ.vars.set("PATH", "/job");
        assert!(environ.path_origin(&none).unwrap().contains("the job"));
        environ.export("PATH".to_owned(), "/file".to_owned());
        assert!(environ.path_origin(&none).unwrap().contains("GITHUB_ENV"));
        let mut own = Vars::default();
        own.set("PATH", "/own");
        assert!(environ.path_origin(&own).unwrap().contains("step's own"));
    }

    #[test]
    fn values_do_not_show_in_debug() {
        let mut vars = Vars::default();
        vars.set("NAME", "hush");
        assert!(format!("{vars:?}").contains("NAME") && !format!("{vars:?}").contains("hush"));
    }
}
