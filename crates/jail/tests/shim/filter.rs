//! The system call filter, on a program that tries what it should not.

use std::{
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
};

use jail::{Call, Check, Ending, ExitRecord, Filter, Level, Part, Rules, is_running, launch};
use libtest_mimic::Failed;

use crate::{Place, block_on, output, spec, until};

/// Everything but a few calls that this program then tries.
fn rules() -> Rules {
    let special = [libc::SYS_execve, libc::SYS_prctl, libc::SYS_getpgrp, libc::SYS_acct, libc::SYS_kill];
    let mut allow: Vec<Call> = (0..450).filter(|number| !special.contains(number)).map(Call::any).collect();
    allow.push(Call::when(libc::SYS_prctl, [Check::is(0, libc::PR_GET_NO_NEW_PRIVS.cast_unsigned())]));
    Rules { allow, absent: vec![libc::SYS_getpgrp], deadly: vec![libc::SYS_acct] }
}

/// A program under [`rules`].
pub(crate) fn calls() -> ExitCode {
    let call = |number, argument: libc::c_int| {
        // SAFETY: none of the calls below takes a pointer that is not null.
        let result = unsafe { libc::syscall(number, argument, 0, 0, 0, 0) };
        if result < 0 { std::io::Error::last_os_error().raw_os_error().unwrap() } else { 0 }
    };
    println!("{}", call(libc::SYS_getpid, 0));
    println!("{}", call(libc::SYS_prctl, libc::PR_GET_NO_NEW_PRIVS));
    println!("{}", call(libc::SYS_prctl, libc::PR_GET_DUMPABLE));
    println!("{}", call(libc::SYS_getpgrp, 0));
    println!("{}", call(libc::SYS_kill, i32::try_from(std::process::id()).unwrap()));
    println!("{:?}", Command::new("/bin/true").exec().raw_os_error());
    println!("{}", call(libc::SYS_acct, 0));
    ExitCode::SUCCESS
}

pub(crate) fn system_calls() -> Result<(), Failed> {
    let place = Place::new();
    let mut spec = spec(place.path(), "");
    spec.level = Level::Strict;
    spec.program.path = "/proc/self/exe".into();
    spec.program.args = vec!["calls".into()];
    spec.filter = Some(Filter::new(&rules())?);
    let (text, record, missing) = output(spec);
    assert_eq!(missing, []);
    let (absent, refused) = (libc::ENOSYS, libc::EPERM);
    assert_eq!(text, format!("0\n0\n{refused}\n{absent}\n{refused}\nSome({refused})\n"));
    assert_eq!(record, ExitRecord { ending: Ending::Itself, code: None, signal: Some(libc::SIGSYS) });
    Ok(())
}

pub(crate) fn filtered_failure() -> Result<(), Failed> {
    let place = Place::new();
    block_on(async {
        // Nothing is allowed but what it takes to tell.
        for path in ["/not/there", "/etc/passwd"] {
            let mut spec = spec(place.path(), "");
            spec.program.path = path.into();
            spec.filter = Some(Filter::new(&Rules::default()).unwrap());
            let error = launch(spec).await.unwrap_err().to_string();
            assert!(error.contains(path), "{error}");
            until("the end", || !is_running(place.path()).unwrap());
        }
    });
    Ok(())
}

/// A host whose kernel was built without filters: made by a filter that says so.
pub(crate) fn a_host_without_filters() -> Result<(), Failed> {
    let output = Command::new("/proc/self/exe").arg("without-filters").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && output.stdout == b"as expected\n", "{said}");
    Ok(())
}

pub(crate) fn without_filters() -> ExitCode {
    use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, TargetArch, apply_filter};
    let absent = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());
    let numbers = [(libc::SYS_seccomp, Vec::new())].into();
    let filter = SeccompFilter::new(numbers, SeccompAction::Allow, absent, TargetArch::x86_64).unwrap();
    apply_filter(&BpfProgram::try_from(filter).unwrap()).unwrap();
    let filter = Filter::new(&rules()).unwrap();
    block_on(async {
        let place = Place::new();
        let mut strict = spec(place.path(), "sleep 1000");
        (strict.level, strict.filter) = (Level::Strict, Some(filter.clone()));
        let error = launch(strict).await.unwrap_err().to_string();
        assert!(error.contains("system call filter"), "{error}");
        until("the end", || !is_running(place.path()).unwrap());

        let mut spec = spec(place.path(), "exit 3");
        spec.filter = Some(filter);
        let mut shim = launch(spec).await.unwrap();
        assert_eq!(shim.missing(), [Part::Filter]);
        assert_eq!(shim.exited().await.unwrap().code, Some(3));
    });
    println!("as expected");
    ExitCode::SUCCESS
}
