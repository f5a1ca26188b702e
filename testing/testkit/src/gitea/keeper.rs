//! The thread that a running Gitea belongs to.
//!
//! Purpose: the kernel kills the server when the *thread* that started it ends, so that thread must live exactly
//! as long as the server should. A test's own thread ends with the test.
//! Owner: the [`super::Gitea`] whose server it is; dropping the keeper ends the server and waits for that.

use std::{
    io,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus},
    sync::mpsc::{self, RecvTimeoutError, Sender},
    thread::JoinHandle,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};

/// How often it looks whether the server ended by itself.
const LOOK: Duration = Duration::from_millis(100);

/// A kept process.
#[derive(Debug)]
pub(super) struct Keeper {
    pid: u32,
    /// Hung up to end it.
    stop: Option<Sender<()>>,
    thread: Option<JoinHandle<Option<ExitStatus>>>,
}

impl Keeper {
    /// Starts the command from a thread of its own.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let (started, start) = mpsc::channel();
        let (stop, stopped) = mpsc::channel::<()>();
        let thread = std::thread::Builder::new().name("gitea".to_owned()).spawn(move || {
            let mut child = match command.process_group(0).spawn() {
                Ok(child) => child,
                Err(error) => {
                    // whoever asked has it from here
                    let _ = started.send(Err(error));
                    return None;
                }
            };
            let _ = started.send(Ok(child.id()));
            loop {
                match stopped.recv_timeout(LOOK) {
                    Ok(()) | Err(RecvTimeoutError::Disconnected) => return end(&mut child),
                    Err(RecvTimeoutError::Timeout) => {
                        if let Ok(Some(status)) = child.try_wait() {
                            return Some(status);
                        }
                    }
                }
            }
        })?;
        let pid = start.recv().map_err(|_| io::Error::other("the thread that starts it is gone"))??;
        Ok(Self { pid, stop: Some(stop), thread: Some(thread) })
    }

    /// Its process id.
    pub(super) fn pid(&self) -> u32 {
        self.pid
    }

    /// Did it end by itself?
    pub(super) fn ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            // a panic in there was printed
            let _ = thread.join();
        }
    }
}

/// Kills it with the git processes that it started, and reaps it.
fn end(child: &mut Child) -> Option<ExitStatus> {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // it may have ended at this very moment
        let _ = kill_process_group(group, Signal::KILL);
    }
    child.wait().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dropping_it_ends_the_process() {
        let mut command = Command::new("sleep");
        command.arg("1000");
        let keeper = Keeper::start(command).expect("sleep starts");
        let proc = format!("/proc/{}", keeper.pid());
        assert!(std::fs::exists(&proc).expect("/proc") && !keeper.ended());
        drop(keeper);
        assert!(!std::fs::exists(&proc).expect("/proc"));
    }

    #[test]
    fn a_program_that_is_not_there_is_an_error() {
        assert!(Keeper::start(Command::new("/no/such/program")).is_err());
    }
}
