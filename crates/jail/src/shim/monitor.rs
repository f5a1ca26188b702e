//! The half of the shim outside the jail: makes the other half, waits for it, leaves the records.
//!
//! It reads nothing that comes from the VMM, and keeps the privileges it was started with for the one file
//! that it writes at the end.

use std::{
    fs::{self, File},
    io::{Read, Write},
    os::{
        fd::{AsFd, OwnedFd},
        unix::{
            fs::PermissionsExt,
            net::{UnixListener, UnixStream},
        },
    },
    path::Path,
    process::ExitCode,
};

use rustix::{
    fs::{Mode, OFlags},
    io::Errno,
    pipe::{PipeFlags, pipe_with},
    process::{
        DumpableBehavior, Pid, Signal, WaitOptions, WaitStatus, getpid, kill_process, set_child_subreaper,
        set_dumpable_behavior, wait,
    },
};

use super::{
    Config, Failure,
    init::{self, Init},
    logs::Drain,
    privileges,
    program::out_of_the_way,
    signals,
    spaces::{self, Missing},
};
use crate::{
    Ending, ExitRecord, Level, Part,
    launch::short_path,
    record::{self, EXIT, IDENTITY, Identity, OWNER_SOCKET, Process},
};

/// Builds what has to be built outside, and becomes both halves.
pub(super) fn run(channel: UnixStream, config: Config, mut fds: Vec<OwnedFd>) -> Result<ExitCode, Failure> {
    signals::block()?;
    let listener = listen(&config)?;
    let mut logs = Vec::new();
    for log in &config.logs {
        let (drain, writer) = Drain::new(&config.dir, log)?;
        logs.push((drain, writer, log.target));
    }

    let mut missing = Missing::default();
    if !privileges::are_roots() {
        if config.ids.is_some() {
            return Err(Failure::NotRoot);
        }
        spaces::enter_user(&mut missing)?;
    }
    // After the user namespace, whose maps a process that is not dumpable cannot write.
    set_dumpable_behavior(DumpableBehavior::NotDumpable).map_err(Failure::io("protect the shim"))?;
    spaces::enter(Part::PidNamespace, &mut missing);
    if missing.has(Part::PidNamespace) {
        // What init leaves behind then comes to this process, which ends it.
        set_child_subreaper(Some(getpid())).map_err(Failure::io("become a subreaper"))?;
    }
    if config.level == Level::Strict && !missing.parts().is_empty() {
        return Err(Failure::Missing(missing.parts().to_vec()));
    }

    let (go_reader, go_writer) = pipe()?;
    let (record_reader, record_writer) = pipe()?;
    let lock = fds.remove(0);
    let dir = config.dir.clone();
    let Some(child) = spaces::fork()? else {
        drop((go_writer, record_reader));
        let init =
            Init { channel, config, listener, logs, inherit: fds, missing, record: record_writer.into() };
        return init::run(init, go_reader.into(), &lock);
    };
    // Held by init alone, or by nobody when it is gone. The owner's socket stays: its end of file tells the
    // owner that everything is gone.
    drop((listener, logs, fds, go_reader, record_writer));
    let _channel = channel;

    let written = identify(&dir, child);
    if written.is_ok() {
        // An error means that init is gone already.
        let _ = File::from(go_writer).write_all(b"g");
    } else {
        drop(go_writer);
    }
    let status = wait_for(child);
    end_the_rest();
    written?;
    leave_record(&dir, record_reader.into(), status)?;
    Ok(ExitCode::SUCCESS)
}

fn pipe() -> Result<(OwnedFd, OwnedFd), Failure> {
    let (reader, writer) = pipe_with(PipeFlags::CLOEXEC).map_err(Failure::io("make a pipe"))?;
    Ok((out_of_the_way(reader)?, out_of_the_way(writer)?))
}

/// Where a later owner comes to: there may be one when the first says so, later.
fn listen(config: &Config) -> Result<UnixListener, Failure> {
    let what = || format!("listen at {}", config.dir.join(OWNER_SOCKET).display());
    let dir = rustix::fs::open(&config.dir, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(Failure::io(what()))?;
    let path = short_path(dir.as_fd(), OWNER_SOCKET);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(Failure::io(what())(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&path).map_err(Failure::io(what()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(Failure::io(what()))?;
    let listener = UnixListener::from(out_of_the_way(listener.into())?);
    listener.set_nonblocking(true).map_err(Failure::io(what()))?;
    Ok(listener)
}

fn identify(dir: &Path, init: Pid) -> Result<(), Failure> {
    let processes = [getpid(), init].into_iter().map(|pid| Process::look(pid.as_raw_nonzero().get()));
    let identity =
        Identity { processes: processes.collect::<Result<_, _>>().map_err(Failure::io("read /proc"))? };
    record::write(dir, IDENTITY, &identity)
        .map_err(Failure::io(format!("write {}", dir.join(IDENTITY).display())))
}

/// Waits for init and reaps others that come here. `None`: it is not known how it ended.
fn wait_for(init: Pid) -> Option<WaitStatus> {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == init => return Some(status),
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return None,
        }
    }
}

/// Where there was no pid namespace: kills what init left until there is nothing left.
fn end_the_rest() {
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some(_)) | Err(Errno::INTR) => continue,
            // No child is left.
            Err(_) => return,
            Ok(None) => {}
        }
        for child in children_of(getpid()) {
            let _ = kill_process(child, Signal::KILL);
        }
        // At least one is dying: its end, or one that it left to this process, comes next.
        let _ = wait(WaitOptions::empty());
    }
}

fn children_of(parent: Pid) -> Vec<Pid> {
    let parent = parent.as_raw_nonzero().get().to_string();
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .filter(|pid: &i32| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            stat.rsplit_once(')').and_then(|(_, rest)| rest.split_ascii_whitespace().nth(1)) == Some(&parent)
        })
        .filter_map(Pid::from_raw)
        .collect()
}

fn leave_record(dir: &Path, mut reader: File, status: Option<WaitStatus>) -> Result<(), Failure> {
    let mut text = Vec::new();
    reader.read_to_end(&mut text).map_err(Failure::io("read from the jail"))?;
    let record = match serde_json::from_slice::<ExitRecord>(&text) {
        Ok(record) => record,
        Err(_) if status.is_some_and(WaitStatus::signaled) => {
            ExitRecord { ending: Ending::ShimKilled, code: None, signal: Some(libc::SIGKILL) }
        }
        // The VMM was never started, and the owner was told why.
        Err(_) => return Ok(()),
    };
    record::write(dir, EXIT, &record).map_err(Failure::io(format!("write {}", dir.join(EXIT).display())))
}
