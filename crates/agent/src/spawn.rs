//! Starting a command.
//!
//! Purpose: a process with its own session, control group, user and working directory.
//! Owner: one call. Waiting is up to the loop.
//!
//! Invariants
//! - The child has this process's memory until it executes its program, and this process waits for that: nothing
//!   is copied, and no page is written twice. It makes only system calls, on what was allocated before.
//! - Nothing is left of a child that could not become the program.

mod child;

use std::{
    collections::BTreeMap,
    ffi::{CString, c_char},
    io,
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::ffi::OsStrExt,
    },
    path::Path,
};

use rustix::{
    fs::{Gid, Uid},
    io::Errno,
    process::{Pid, WaitOptions, waitpid},
};
use wire::message::{Failure, FailureKind};

use self::child::{Plan, Stage};
use crate::{
    cgroup::Cgroup,
    ends::Kind,
    failure::{errno_text, failure, io_failure},
    system,
    users::Identity,
};

/// Where programs are without a PATH, as C libraries have it.
const USUAL_PATH: &str = "/usr/local/bin:/bin:/usr/bin";

/// What to start.
pub(crate) struct Spawn<'a> {
    pub(crate) argv: &'a [String],
    pub(crate) env: &'a [(String, String)],
    pub(crate) cwd: &'a Path,
    /// None: as this process.
    pub(crate) identity: Option<Identity>,
    /// What standard input is an end of: a terminal becomes the controlling one.
    pub(crate) kind: Kind,
    /// None: `/dev/null`.
    pub(crate) stdin: Option<OwnedFd>,
    pub(crate) stdout: OwnedFd,
    /// None: the same as `stdout`.
    pub(crate) stderr: Option<OwnedFd>,
    /// Its control group.
    pub(crate) cgroup: Option<&'a Cgroup>,
}

/// Starts it. Its process id is also that of its process group and session.
pub(crate) fn spawn(request: Spawn<'_>) -> Result<Pid, Failure> {
    spawn_by(request, child::start)
}

fn spawn_by(request: Spawn<'_>, start: fn(&mut Plan<'_>) -> Result<Pid, Errno>) -> Result<Pid, Failure> {
    let invalid = |what: &str| failure(FailureKind::Invalid, what);
    let Some(program) = request.argv.first() else {
        return Err(invalid("the command has no program"));
    };
    let words = |text: &String| CString::new(text.as_bytes()).ok();
    let argv: Option<Vec<CString>> = request.argv.iter().map(words).collect();
    let (Some(argv), false) = (argv, program.is_empty()) else {
        return Err(invalid("the command has an empty program or a zero byte"));
    };
    let variable = |(name, value): (&str, &str)| {
        let plain = !name.is_empty() && !name.contains('=');
        plain.then(|| CString::new(format!("{name}={value}")).ok()).flatten()
    };
    // of two with one name the last
    let env: BTreeMap<&str, &str> =
        request.env.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let env: Option<Vec<CString>> = env.into_iter().map(variable).collect();
    let Some(env) = env else {
        return Err(invalid("a variable's name is empty or has `=`, or it has a zero byte"));
    };
    let cwd = CString::new(request.cwd.as_os_str().as_bytes())
        .map_err(|_| failure(FailureKind::Cwd, "the working directory has a zero byte"))?;
    let programs = candidates(program, request.env);
    let stdin = match request.stdin {
        Some(stdin) => stdin,
        None => std::fs::File::open("/dev/null").map_err(|error| io_failure("/dev/null", error))?.into(),
    };
    let high = |end: OwnedFd| above_standard(end).map_err(|error| io_failure("an end of a command", error));
    let (stdin, stdout) = (high(stdin)?, high(request.stdout)?);
    let stderr = request.stderr.map(high).transpose()?;
    let identity = request.identity.map(|Identity { uid, gid, groups }| {
        let groups: Vec<Gid> = groups.into_iter().map(Gid::from_raw).collect();
        (Uid::from_raw(uid), Gid::from_raw(gid), groups)
    });
    let (argv, env) = (Pointers::to(&argv), Pointers::to(&env));
    let mut plan = Plan {
        programs: &programs,
        argv: argv.as_ptr(),
        env: env.as_ptr(),
        cwd: &cwd,
        identity: identity.as_ref(),
        kind: request.kind,
        ends: [stdin.as_fd(), stdout.as_fd(), stderr.as_ref().map_or(stdout.as_fd(), AsFd::as_fd)],
        cgroup: request.cgroup,
        door: None,
        ignored: system::ignored_signals(),
        failed: None,
    };
    let started = start(&mut plan);
    let failed = plan.failed.take();
    match (started, failed) {
        (Ok(pid), None) => Ok(pid),
        (Ok(pid), Some((stage, errno))) => {
            // it has ended, for its memory is ours again
            let _ = waitpid(Some(pid), WaitOptions::empty());
            Err(explain(stage, errno, program, request.cwd))
        }
        (Err(errno), _) => Err(io_failure("a process", errno)),
    }
}

/// Pointers to texts, and a null at the end, as the kernel takes them.
struct Pointers<'a>(Vec<*const c_char>, std::marker::PhantomData<&'a [CString]>);

impl<'a> Pointers<'a> {
    fn to(texts: &'a [CString]) -> Self {
        let pointers = texts.iter().map(|text| text.as_ptr());
        Self(pointers.chain([std::ptr::null()]).collect(), std::marker::PhantomData)
    }

    fn as_ptr(&self) -> *const *const c_char {
        self.0.as_ptr()
    }
}

/// What a program's name can stand for: a path stands for itself, a name is looked for along the command's own PATH.
fn candidates(program: &str, env: &[(String, String)]) -> Vec<CString> {
    if program.contains('/') {
        return CString::new(program).into_iter().collect();
    }
    let path = env.iter().rev().find(|(name, _)| name == "PATH").map_or(USUAL_PATH, |(_, path)| path);
    let dirs = path.split(':').map(|dir| if dir.is_empty() { "." } else { dir });
    dirs.filter_map(|dir| CString::new(format!("{dir}/{program}")).ok()).collect()
}

/// The same file under a number that is none of standard input, output and error.
fn above_standard(end: OwnedFd) -> io::Result<OwnedFd> {
    if end.as_raw_fd() > 2 { Ok(end) } else { Ok(rustix::io::fcntl_dupfd_cloexec(end, 3)?) }
}

fn explain(stage: Stage, errno: Errno, program: &str, cwd: &Path) -> Failure {
    let why = errno_text(errno);
    match (stage, errno) {
        (Stage::Cwd, _) => {
            failure(FailureKind::Cwd, format!("the working directory {}: {why}", cwd.display()))
        }
        (Stage::User, _) => failure(FailureKind::User, format!("cannot become the user: {why}")),
        (Stage::Group, _) => failure(FailureKind::Io, format!("cannot join the control group: {why}")),
        (Stage::Terminal, _) => failure(FailureKind::Io, format!("cannot take the terminal: {why}")),
        (Stage::Ends | Stage::Session, _) => {
            failure(FailureKind::Io, format!("{program:?} could not be started: {why}"))
        }
        (Stage::Exec, Errno::NOENT | Errno::NOTDIR) => failure(
            FailureKind::NotFound,
            format!("{program:?}: no such program, or the interpreter that its first line names is missing"),
        ),
        (Stage::Exec, Errno::ACCESS | Errno::PERM) => {
            failure(FailureKind::Permission, format!("{program:?}: {why}"))
        }
        (Stage::Exec, _) => failure(FailureKind::Io, format!("{program:?}: {why}")),
    }
}

#[cfg(test)]
mod tests {
    use std::{fs::File, io::Read, os::unix::fs::PermissionsExt};

    use rustix::process::WaitStatus;

    use super::*;

    type Way = fn(&mut Plan<'_>) -> Result<Pid, Errno>;

    /// Both ways of starting a child.
    const WAYS: [Way; 2] = [child::start, child::classic];

    fn started(
        argv: &[&str],
        env: &[(&str, &str)],
        cwd: &Path,
        way: Way,
    ) -> Result<(String, WaitStatus), Failure> {
        let argv: Vec<String> = argv.iter().copied().map(str::to_owned).collect();
        let env: Vec<_> = env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (read, write) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let pid = spawn_by(
            Spawn {
                argv: &argv,
                env: &env,
                cwd,
                identity: None,
                kind: Kind::Pipe,
                stdin: None,
                stdout: write,
                stderr: None,
                cgroup: None,
            },
            way,
        )?;
        let mut text = String::new();
        File::from(read).read_to_string(&mut text).unwrap();
        let (_, status) = waitpid(Some(pid), WaitOptions::empty()).unwrap().unwrap();
        Ok((text, status))
    }

    #[test]
    fn a_program_gets_what_it_was_given_and_nothing_of_ours() {
        system::ignore_broken_pipes();
        for way in WAYS {
            let script =
                "echo $A$B $(pwd) $$ $(ps -o sid= -p $$); ls -l /proc/self/fd; grep Sig /proc/self/status";
            let env = [("A", "x"), ("B", "y"), ("A", "z"), ("PATH", "/nowhere::/usr/bin:/bin")];
            let (text, status) = started(&["sh", "-c", script], &env, Path::new("/usr"), way).unwrap();
            assert_eq!(status.exit_status(), Some(0), "{text}");
            let mut first = text.lines().next().unwrap_or_default().split_ascii_whitespace();
            assert_eq!((first.next(), first.next()), (Some("zy"), Some("/usr")));
            assert_eq!(first.next(), first.next(), "it leads its session");
            let open = |text: &str| text.lines().filter(|line| line.contains(" -> ")).count();
            // what the test was started with stays open in every child
            let others = std::process::Command::new("ls").args(["-l", "/proc/self/fd"]).output().unwrap();
            assert_eq!(open(&text), open(&String::from_utf8_lossy(&others.stdout)), "{text}");
            for signals in ["SigBlk:\t", "SigIgn:\t"] {
                let mask = text.lines().find_map(|line| line.strip_prefix(signals)).unwrap();
                // 32 and 33 are the C library's, which lets nobody set them
                let mask = u64::from_str_radix(mask, 16).unwrap() & !(3 << 31);
                assert_eq!(mask, 0, "{signals}");
            }
        }
    }

    #[test]
    fn a_program_is_looked_for_as_shells_do() {
        let dir = tempfile::tempdir().unwrap();
        let path = |name: &str| dir.path().join(name).to_string_lossy().into_owned();
        std::fs::create_dir(path("no")).unwrap();
        std::fs::write(path("no/it"), "not to be run").unwrap();
        std::fs::write(path("it"), "#!/bin/sh\necho found\n").unwrap();
        std::fs::set_permissions(path("it"), std::fs::Permissions::from_mode(0o755)).unwrap();
        let here = dir.path().to_string_lossy().into_owned();
        for way in WAYS {
            let run = |argv: &[&str], search: &str| started(argv, &[("PATH", search)], dir.path(), way);
            assert_eq!(run(&["it"], &format!("{}:{here}", path("no"))).unwrap().0, "found\n");
            assert_eq!(run(&["./it"], "/bin").unwrap().0, "found\n");
            let kind = |outcome: Result<_, Failure>| outcome.unwrap_err().kind;
            assert_eq!(kind(run(&["it"], &path("no"))), FailureKind::Permission);
            assert_eq!(kind(run(&["it"], "/bin")), FailureKind::NotFound);
            assert_eq!(kind(run(&["it/it"], "/bin")), FailureKind::NotFound);
            assert_eq!(kind(started(&["true"], &[], &dir.path().join("absent"), way)), FailureKind::Cwd);
            assert_eq!(started(&["true"], &[], dir.path(), way).unwrap().1.exit_status(), Some(0));
            // nothing is left of those that could not be started
            let left = waitpid(None, WaitOptions::NOHANG);
            assert!(matches!(left, Err(Errno::CHILD) | Ok(None)), "{left:?}");
        }
    }

    #[test]
    fn what_makes_no_command_is_refused() {
        for (argv, env) in [
            (&[][..], &[][..]),
            (&[""], &[]),
            (&["a\0b"], &[]),
            (&["true"], &[("", "x")]),
            (&["true"], &[("a=b", "x")]),
            (&["true"], &[("a", "\0")]),
        ] {
            let outcome = started(argv, env, Path::new("/"), child::start);
            assert_eq!(outcome.unwrap_err().kind, FailureKind::Invalid, "{argv:?} {env:?}");
        }
    }
}
