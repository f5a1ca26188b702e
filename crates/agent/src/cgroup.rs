//! Control groups (version 2) of the job and of each execution.
//!
//! Purpose: an execution's processes are found again whatever they do: they can leave their session and
//! process group, but not their control group. Freezing works on the job as a whole.
//! Owner: the loop; one [`Cgroup`] per execution.

use std::{
    fs::{self, File},
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{Mode, OFlags},
    io::Errno,
};

/// Where every execution's group lies.
pub(crate) const JOB: &str = "/sys/fs/cgroup/job";

/// One control group.
#[derive(Debug)]
pub(crate) struct Cgroup {
    dir: PathBuf,
    /// Of the directory.
    fd: OwnedFd,
}

/// The groups of executions: one is made ahead, for a command need not wait for it.
#[derive(Debug, Default)]
pub(crate) struct Cgroups {
    made: u64,
    spare: Option<Cgroup>,
}

impl Cgroups {
    /// A new group.
    pub(crate) fn take(&mut self) -> io::Result<Cgroup> {
        match self.spare.take() {
            Some(spare) => Ok(spare),
            None => self.create(),
        }
    }

    /// Makes the next one ahead.
    pub(crate) fn refill(&mut self) {
        if self.spare.is_none() {
            // whoever needs it hears why there is none
            self.spare = self.create().ok();
        }
    }

    fn create(&mut self) -> io::Result<Cgroup> {
        self.made += 1;
        Cgroup::create(&self.made.to_string())
    }
}

impl Cgroup {
    /// Makes the group of one execution.
    fn create(name: &str) -> io::Result<Self> {
        let dir = Path::new(JOB).join(name);
        fs::create_dir(&dir)?;
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let fd = rustix::fs::open(&dir, flags, Mode::empty())?;
        Ok(Self { dir, fd })
    }

    /// In which a process can be born.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }

    /// The file that moves the process that writes `0` to it into the group.
    pub(crate) fn door(&self) -> Result<OwnedFd, Errno> {
        rustix::fs::openat(&self.fd, "cgroup.procs", OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())
    }

    /// Kills all of its processes.
    pub(crate) fn kill(&self) -> io::Result<()> {
        fs::write(self.dir.join("cgroup.kill"), "1")
    }

    /// Removes it; fails while it has processes.
    pub(crate) fn remove(&self) -> io::Result<()> {
        fs::remove_dir(&self.dir)
    }
}

/// Kills every process of the job.
pub(crate) fn kill_job() -> io::Result<()> {
    fs::write(Path::new(JOB).join("cgroup.kill"), "1")
}

/// Stops every process of the job and waits until they have stopped, for at most `limit`.
pub(crate) fn freeze_job(limit: Duration) -> io::Result<()> {
    let end = Instant::now() + limit;
    let events = File::open(Path::new(JOB).join("cgroup.events"))?;
    fs::write(Path::new(JOB).join("cgroup.freeze"), "1")?;
    loop {
        let now = fs::read_to_string(Path::new(JOB).join("cgroup.events"))?;
        if now.lines().any(|line| line == "frozen 1") {
            return Ok(());
        }
        let left = end.saturating_duration_since(Instant::now()).min(Duration::from_millis(20));
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(left.subsec_nanos()) };
        // Woken by a change, or to look again.
        poll(&mut [PollFd::new(&events, PollFlags::PRI)], Some(&timeout))?;
    }
}

/// Lets them run on.
pub(crate) fn thaw_job() -> io::Result<()> {
    fs::write(Path::new(JOB).join("cgroup.freeze"), "0")
}
