//! The messages: handshake payloads and what the control stream carries.
//!
//! Purpose: typed JSON. [`Hello`] and [`Start`] are payloads of their frames; [`ToGuest`] and [`ToHost`]
//! travel on stream 0, each behind its length (`u32`, little endian, at most
//! [`MAX_MESSAGE`](crate::message::MAX_MESSAGE)).
//! Owner: the host asks with [`Request`]s, the guest answers each with one [`Reply`] of the same id.
//!
//! Invariants
//! - A field is never renamed or given another meaning within a version: exported snapshots hold agents
//!   that outlive upgrades. New fields are optional; unknown fields are ignored.
//! - No `Debug` of a message shows the value of an environment variable or entropy.

mod network;
mod ok_or_error;
mod prepare;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use network::{Card, Forward, Names, Network, Others};
pub use prepare::{Bind, Directory, Entropy, Hooks, Inherited, Prepare, Root, RootFs, Warm};

/// Largest message of the control stream in bytes of JSON.
pub const MAX_MESSAGE: usize = 4 << 20;

/// Names a stream of a link. 0 is the control stream, odd ones are opened by the host, even ones by the
/// guest. An id is not used twice within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct StreamId(pub u32);

impl StreamId {
    /// The stream that carries messages; open from the start, never closed.
    pub const CONTROL: Self = Self(0);

    /// Whether the host may open it.
    #[must_use]
    pub const fn is_hosts(self) -> bool {
        self.0 % 2 == 1
    }

    /// Whether the guest may open it.
    #[must_use]
    pub const fn is_guests(self) -> bool {
        self.0 != 0 && self.0.is_multiple_of(2)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Names one execution; chosen by the host, not used twice within an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ExecId(pub u64);

impl fmt::Display for ExecId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// First frame of the guest on every opening of the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// Highest version that the agent speaks.
    pub version: u32,
    /// Epoch that the agent is in; 0 before the first [`Start`].
    pub epoch: u32,
    /// Version of the agent program.
    pub agent: String,
    /// Streams that are open in that epoch, the control stream among them once there was a [`Start`].
    pub streams: Vec<HelloStream>,
}

/// Where one stream stands, as the guest sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HelloStream {
    /// Which.
    pub id: StreamId,
    /// Bytes that the guest has sent at least once.
    pub sent: u64,
    /// Bytes that the guest has received in order: the host sends again from here.
    pub received: u64,
}

/// The host's answer to [`Hello`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Version that both speak from here on.
    pub version: u32,
    /// Epoch of all later frames. Another one than the guest's: everything before is reset.
    pub epoch: u32,
    /// Streams that go on; every other one is reset without further notice.
    pub resume: Vec<ResumeStream>,
}

/// Where one resumed stream stands, as the host sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResumeStream {
    /// Which.
    pub id: StreamId,
    /// Bytes that the host has received in order: the guest sends again from here.
    pub received: u64,
}

/// What the host says on the control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToGuest {
    /// Asks for something; answered by exactly one [`Reply`].
    Request(Request),
}

/// What the guest says on the control stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToHost {
    /// Answers a [`Request`].
    Reply(Reply),
    /// The main process of an execution ended.
    Exited(Exited),
    /// Asks for a stream to a service of the host.
    Open(Open),
    /// Something that the log should show.
    Note(Note),
}

/// A question of the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Chosen by the host; the reply has it too.
    pub id: u64,
    /// The epoch in which it was asked; a guest in another one answers nothing.
    pub epoch: u32,
    /// What is asked.
    pub body: Body,
}

/// What the host can ask.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Body {
    /// Does ahead what every fork of this guest would do alike: mounts the root, switches processors on, reads
    /// what commands need first. Before `Prepare`, which then has less to do. Answer: [`Answer::Done`].
    Warm(Warm),
    /// Makes the guest ready: once per boot (or fork), before anything else but `Ping` and `Shutdown`.
    /// Answer: [`Answer::Prepared`].
    Prepare(Prepare),
    /// Gives a prepared guest another identity: after a `Prepare` with [`Hooks::Later`], and in a fork of a
    /// guest that was prepared. Allowed while frozen. Answer: [`Answer::Done`].
    Bind(Bind),
    /// Starts a command. Answer: [`Answer::Started`] when it runs, an error when it could not be started;
    /// [`Exited`] follows a `Started`.
    Exec(Exec),
    /// Sends a signal to the process group of an execution. Answer: [`Answer::Done`], also when it has
    /// ended.
    Signal(Signal),
    /// Kills every process of an execution, those included that left its group or session.
    /// Answer: [`Answer::Done`], also when it has ended.
    Kill(Kill),
    /// Gives the terminal of an execution another size. Answer: [`Answer::Done`], also when it has ended.
    /// Only for one whose [`Started`] said that it has a terminal.
    Resize(Resize),
    /// Unpacks a tar stream. Answer: [`Answer::Copied`] when all is written.
    CopyIn(CopyIn),
    /// Packs a tree into a tar stream. Answer: [`Answer::Copied`] after the end of the stream was sent.
    CopyOut(CopyOut),
    /// Answer: [`Answer::Pong`].
    Ping,
    /// Stops every process of the job, answers [`Answer::Frozen`] behind everything else that there is to say,
    /// then sends nothing on any stream until `Thaw` or a new [`Start`].
    Freeze(Freeze),
    /// Lets them run on. Answer: [`Answer::Done`].
    Thaw,
    /// Kills everything, writes all to disk, unmounts and powers off. Answer: [`Answer::Done`] before that.
    Shutdown,
    /// Agrees to an [`Open`] of the guest. Answer: [`Answer::Done`].
    Accept(Accept),
}

/// Stops the job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Freeze {
    /// What becomes of what is not on the disks yet.
    #[serde(default, skip_serializing_if = "WriteBack::is_all")]
    pub disks: WriteBack,
}

/// What becomes, before a guest says Frozen, of what is not on its disks yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WriteBack {
    /// It is written: the disks are whole without the memory.
    #[default]
    All,
    /// It stays in memory, which is saved at the same moment as the disks.
    None,
}

impl WriteBack {
    fn is_all(&self) -> bool {
        *self == Self::All
    }
}

/// A user of the guest.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Account {
    /// By name, looked up in the guest's `/etc/passwd`, with all its groups.
    Name(String),
    /// By numbers, with no further groups.
    Ids {
        /// User id.
        uid: u32,
        /// Group id.
        gid: u32,
    },
}

impl Account {
    /// User 0, group 0.
    pub const ROOT: Self = Self::Ids { uid: 0, gid: 0 };
}

/// Starts a command.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exec {
    /// Its name from here on.
    pub exec: ExecId,
    /// The program and its arguments. A program without `/` is looked up in the `PATH` of `env`.
    pub argv: Vec<String>,
    /// The whole environment, in order; of two equal names the last counts.
    pub env: Vec<(String, String)>,
    /// Absolute path of the working directory.
    pub cwd: String,
    /// Whom it runs as.
    pub user: Account,
    /// Stream of the host that feeds standard input; none: `/dev/null`.
    pub stdin: Option<StreamId>,
    /// Stream of the host that standard output goes to.
    pub stdout: StreamId,
    /// Stream of the host that standard error goes to. The same as `stdout`: one pipe for both, which keeps
    /// their order exactly.
    pub stderr: StreamId,
    /// After this many milliseconds everything of it is killed.
    pub timeout_ms: Option<u64>,
    /// A new terminal, which is its controlling one, its standard input and both outputs; `stderr` is then
    /// the same as `stdout`. The two streams are the terminal's two directions: the end of `stdin` says only
    /// that nothing more is typed, a reset of `stdout` hangs up. An agent that does not know it starts the
    /// command without one: see [`Started::terminal`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub terminal: Option<TerminalSize>,
}

/// Size of a terminal in characters; neither is 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TerminalSize {
    /// Rows.
    pub rows: u16,
    /// Columns.
    pub columns: u16,
}

impl fmt::Debug for Exec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exec")
            .field("exec", &self.exec)
            .field("argv", &self.argv)
            .field("env", &self.env.iter().map(|(name, _)| name).collect::<Vec<_>>())
            .field("cwd", &self.cwd)
            .field("user", &self.user)
            .field("stdin", &self.stdin)
            .field("stdout", &self.stdout)
            .field("stderr", &self.stderr)
            .field("timeout_ms", &self.timeout_ms)
            .field("terminal", &self.terminal)
            .finish()
    }
}

/// Sends a signal to the process group of an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signal {
    /// Which execution.
    pub exec: ExecId,
    /// Number of the signal, 1 to 64, as Linux numbers them on x86-64.
    pub signal: i32,
}

/// Kills every process of an execution.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kill {
    /// Which execution.
    pub exec: ExecId,
}

/// Gives the terminal of an execution another size.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resize {
    /// Which execution.
    pub exec: ExecId,
    /// Rows, not 0.
    pub rows: u16,
    /// Columns, not 0.
    pub columns: u16,
}

/// Unpacks a tar stream of the host into a directory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyIn {
    /// Absolute path of the directory; made, with those above it, where it is missing.
    pub dest: String,
    /// Stream of the host that carries the archive.
    pub stream: StreamId,
    /// Who owns everything that is made.
    pub owner: Account,
}

/// Packs a file or the content of a directory into a tar stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CopyOut {
    /// Absolute path. A directory: its content, named relative to it. Anything else: one entry with its
    /// file name.
    pub path: String,
    /// Stream of the host that carries the archive.
    pub stream: StreamId,
}

/// Agrees to an [`Open`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accept {
    /// The guest's stream.
    pub stream: StreamId,
}

/// The guest's answer to a [`Request`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reply {
    /// Id of the request.
    pub id: u64,
    /// What came of it.
    #[serde(with = "ok_or_error")]
    pub result: Result<Answer, Failure>,
}

/// Answers, by request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Answer {
    /// To [`Body::Prepare`].
    Prepared(Prepared),
    /// To [`Body::Exec`].
    Started(Started),
    /// To [`Body::CopyIn`] and [`Body::CopyOut`].
    Copied(Copied),
    /// To [`Body::Ping`].
    Pong(Pong),
    /// To [`Body::Freeze`].
    Frozen,
    /// To all others.
    Done,
}

/// Answer to [`Body::Prepare`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prepared {
    /// What stands before every absolute path of a request in the name that commands see: empty in a VM, a
    /// directory of the host in hosted mode.
    pub root_prefix: String,
    /// Release of the guest's kernel, as `uname -r` says it.
    pub kernel: String,
    /// Milliseconds from the kernel's start to this answer.
    pub boot_ms: u64,
}

/// Answer to [`Body::Exec`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Started {
    /// Process id in the guest.
    pub pid: u32,
    /// When it started: nanoseconds since 1970 (UTC) by the guest's clock.
    pub time_ns: u64,
    /// Whether it has the terminal that was asked for. An agent from before there were terminals starts the
    /// command without one, and does not say this.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub terminal: bool,
}

/// Answer to [`Body::CopyIn`] and [`Body::CopyOut`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Copied {
    /// Number of entries.
    pub entries: u64,
    /// Bytes of content.
    pub bytes: u64,
}

/// Answer to [`Body::Ping`].
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// Nanoseconds since 1970 (UTC) by the guest's clock.
    pub time_ns: u64,
}

/// Why a request failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of thing went wrong.
    pub kind: FailureKind,
    /// For people; it comes from the guest, so it may say anything.
    pub message: String,
}

/// Kinds of [`Failure`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FailureKind {
    /// The program or path does not exist.
    NotFound,
    /// The user may not do that.
    Permission,
    /// The working directory cannot be entered.
    Cwd,
    /// No such user.
    User,
    /// A disk of the guest is full.
    NoSpace,
    /// An archive has an entry that is refused; the message names it.
    Entry,
    /// The request makes no sense: an empty argv, an id that is in use, a path that is not absolute.
    Invalid,
    /// Not now: before `Prepare`, a second `Prepare`, while frozen or shutting down.
    State,
    /// Any other failure of the guest's system.
    Io,
}

/// The main process of an execution ended. What its pipes held then was sent before, the streams of its
/// output were ended, and the host has consumed (or reset) them: so this is always the last of an
/// execution, and a host that does not read the output does not learn the exit. What children that run on
/// print later is dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exited {
    /// Which execution.
    pub exec: ExecId,
    /// Exit code, unless a signal ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Whether it was killed by its time-out.
    pub timed_out: bool,
    /// When: nanoseconds since 1970 (UTC) by the guest's clock.
    pub time_ns: u64,
}

/// Asks for a stream to a service of the host, which answers with [`Accept`] or a reset of the stream.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Open {
    /// A free id of the guest.
    pub stream: StreamId,
    /// Name of the service: [`Self::DNS`], or `forward:NAME:PORT` of a [`Forward`].
    pub service: String,
}

impl Open {
    /// The service that answers for names: see [`Others::Host`].
    pub const DNS: &'static str = "dns";
}

/// Something that the log should show.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// One line; it comes from the guest, so it may say anything.
    pub text: String,
}
