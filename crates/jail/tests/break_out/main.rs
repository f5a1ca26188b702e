//! A VMM that its guest has taken over: what it can reach from the jail that QEMU runs in.
//!
//! This program is the shim, the owner and the tests, and, under another name, the VMM: QEMU's own backend
//! starts it in QEMU's place, so that view, identity, descriptors and filter are exactly QEMU's. Each attempt is a
//! VM of its own. It is judged by what the kernel said to it, and after each of them everything that is not its
//! own is looked at: the template, the shared image, another VM.
//!
//! All of it runs once more where the host has no system call filters, for what the rest of the jail holds by
//! itself, and, started by root, both as a plain user.

#![expect(clippy::unwrap_used, clippy::print_stdout, reason = "a test program")]

mod attempts;
mod calls;
mod host;
mod vmm;

use std::{
    env,
    ffi::OsString,
    fs,
    io::{BufRead, BufReader},
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitCode, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use jail::{Ending, exit_record, is_running, log_tail};
use libtest_mimic::{Arguments, Failed, Trial};
use rustix::process::getuid;

use crate::{
    attempts::{ATTEMPTS, Attempt, Expect},
    host::{Host, Place, block_on},
    vmm::{Account, Known},
};

/// Name of the program in QEMU's place.
const VMM: &str = "qemu-system-x86_64";
/// Name of a program beside it that has root's set-user-id bit.
const RAISED: &str = "raised";
/// A file of the directory that the program brings along; everyone may write it by its mode.
const SHARED: &str = "share/shared";
/// Another VM's disk, below its slot.
const DISK: &str = "scratch.img";

const NOBODY: u32 = 65534;
/// Only to end a test that hangs; nothing is asserted about it.
const PATIENCE: Duration = Duration::from_secs(60);
/// Set where this process was told that the host has no filters.
const WITHOUT_FILTERS: &str = "BREAK_OUT_WITHOUT_FILTERS";
/// The attempt of a VMM that tries to be there longer than its owner.
const OUTLIVE: &str = "outlive";
/// The attempt of one that only waits.
const WAIT: &str = "wait";

fn main() -> ExitCode {
    let mut args = env::args_os();
    let name = PathBuf::from(args.next().unwrap_or_default());
    match name.file_name().and_then(|name| name.to_str()) {
        Some(VMM) => return vmm::main(name, args.collect()),
        Some(RAISED) => {
            calls::privileges::raised();
            return ExitCode::SUCCESS;
        }
        _ => {}
    }
    match args.next() {
        Some(arg) if arg == "vm-shim" => return jail::shim::main(args),
        Some(arg) if arg == "owner" => return owner(args),
        _ => {}
    }
    let bare = env::var_os(WITHOUT_FILTERS).is_some();
    if bare {
        deny_filters();
    }
    let host = Arc::new(Host::new(bare));
    let conclusion = libtest_mimic::run(&Arguments::from_args(), trials(&host));
    Arc::into_inner(host).unwrap().end();
    conclusion.exit_code()
}

fn trials(host: &Arc<Host>) -> Vec<Trial> {
    let trial = |name: &str, test: fn(&Host) -> Result<(), Failed>| {
        let host = Arc::clone(host);
        Trial::test(name, move || test(&host))
    };
    let column = usize::from(!getuid().is_root());
    let mut trials: Vec<Trial> = ATTEMPTS
        .iter()
        .map(|attempt| (attempt, if host.bare { attempt.bare[column] } else { attempt.filtered }))
        .filter(|(_, expect)| !matches!(expect, Expect::Untried))
        .map(|(attempt, expect)| {
            let host = Arc::clone(host);
            Trial::test(attempt.name, move || judge(&host, attempt, expect))
        })
        .collect();
    trials.push(trial("outlive_the_owner", outlive));
    if !host.bare {
        trials.push(trial("on_a_host_without_filters", |_| {
            again(Command::new("/proc/self/exe").env(WITHOUT_FILTERS, "1"))
        }));
        if getuid().is_root() {
            trials.push(trial("as_a_plain_user", |_| {
                again(Command::new("/proc/self/exe").uid(NOBODY).gid(NOBODY))
            }));
        }
    }
    trials
}

/// All of it once more, in another situation.
fn again(command: &mut Command) -> Result<(), Failed> {
    let output = command.current_dir("/").output()?;
    if output.status.success() {
        return Ok(());
    }
    let said = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    Err(said.concat().into())
}

/// Makes this process one on a host whose kernel was built without filters.
fn deny_filters() {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
    let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let numbers = [(libc::SYS_seccomp, Vec::new())].into();
    let filter = SeccompFilter::new(numbers, SeccompAction::Allow, absent, TargetArch::x86_64).unwrap();
    let mut filter = BpfProgram::try_from(filter).unwrap();
    if !getuid().is_root() {
        return apply_filter(&filter).unwrap();
    }
    // This way it does not forbid new privileges, too: that is the jail's to do.
    let program =
        libc::sock_fprog { len: filter.len().try_into().unwrap(), filter: filter.as_mut_ptr().cast() };
    let how = libc::SECCOMP_SET_MODE_FILTER;
    // SAFETY: a program of so many instructions, which the kernel copies.
    let result = unsafe { libc::syscall(libc::SYS_seccomp, how, 0, &raw const program) };
    assert_eq!(result, 0);
}

fn judge(host: &Host, attempt: &Attempt, expect: Expect) -> Result<(), Failed> {
    let exit = block_on(async {
        let machine = host.boot(attempt.name).await;
        let mut exited = machine.exited();
        let exit = tokio::time::timeout(PATIENCE, exited.wait_for(Option::is_some)).await;
        exit.expect("it does not end").unwrap().clone().unwrap()
    });
    let account = Account::read(&exit.stderr);
    let fits = match expect {
        Expect::Killed => {
            exit.signal == Some(libc::SIGSYS) && account.is_none() && exit.stderr.contains("forbidden")
        }
        Expect::Errno(errnos) => matches!(account, Some(Account::Errno(errno)) if errnos.contains(&errno)),
        Expect::Nothing => account.is_some() && exit.code == Some(0),
        Expect::Untried => false,
    };
    if !fits {
        return Err(format!("{expect:?} was to come of it, and {account:?} did: {exit:?}").into());
    }
    host.look_around()
}

/// A process that owns a VM until it is killed: `owner PROGRAM STATE`.
fn owner(mut args: impl Iterator<Item = OsString>) -> ExitCode {
    let mut next = || PathBuf::from(args.next().unwrap());
    let (program, state) = (next(), next());
    let place = Place::new(&program, &state, jail::Level::Available);
    let nothing = Known { slots: "-".into(), slot: "-".into(), host: "-".to_owned(), victim: 0, port: 0 };
    block_on(async {
        let _machine = place.boot(OUTLIVE, host::ATTACKER, &nothing).await;
        println!("ready");
        std::future::pending::<()>().await;
    });
    ExitCode::SUCCESS
}

/// Killed when the test is over, or fails.
struct Owner(Child);

impl Drop for Owner {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn outlive(host: &Host) -> Result<(), Failed> {
    let slot = host.place.slot(OUTLIVE);
    let state = slot.parent().and_then(Path::parent).unwrap();
    let mut command = Command::new("/proc/self/exe");
    command.arg("owner").arg(&host.place.program).arg(state).stdout(Stdio::piped());
    let mut owner = Owner(command.spawn()?);
    let mut line = String::new();
    BufReader::new(owner.0.stdout.take().unwrap()).read_line(&mut line)?;
    assert_eq!(line, "ready\n");
    until("the attempt", || Account::read(&log_tail(&slot, "qemu.log", 1000)).is_some());
    let account = Account::read(&log_tail(&slot, "qemu.log", 1000));
    let mine = || processes_of(&host.place.program, OUTLIVE);
    if host.bare {
        assert_eq!(account, Some(Account::Done));
        until("three processes", || mine().len() == 3);
    } else {
        assert_eq!((account, mine().len()), (Some(Account::Errno(libc::EPERM)), 1));
    }
    drop(owner);
    until("the end", || !is_running(&slot).unwrap());
    assert_eq!(mine(), [0; 0]);
    assert_eq!(exit_record(&slot)?.unwrap().ending, Ending::OwnerLost);
    host.look_around()
}

/// Ids of the processes that run `program` for an attempt.
fn processes_of(program: &Path, attempt: &str) -> Vec<i32> {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse::<i32>().ok());
    pids.filter(|pid| {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}")).unwrap_or_default();
        read("comm").trim_end() == attempt && read("cmdline").starts_with(program.to_str().unwrap())
    })
    .collect()
}

fn until(what: &str, mut done: impl FnMut() -> bool) {
    let began = Instant::now();
    while !done() {
        assert!(began.elapsed() < PATIENCE, "still waiting for: {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}
