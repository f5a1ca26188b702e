//! The system call filter of a program: what it may ask of the kernel.
//!
//! Purpose: a backend says as data what its program needs ([`Rules`]); it is compiled once, in the owner
//! ([`Filter::new`]), and travels with each [`crate::Launch`] as ready instructions. The program's own process
//! installs it as the last step before its exec. Nothing else of ours knows the crate that compiles it.
//!
//! ```text
//!   allow, arguments as checked ─▶ done     absent ─▶ ENOSYS     deadly ─▶ SIGSYS, the whole process
//!   everything else, and arguments that do not fit ─▶ EPERM
//! ```
//!
//! Invariants
//! - It is in force before the first instruction of the program, and nobody can take it away again.
//! - One exec gets through: that of the shim, which passes a key in arguments that the kernel does not read.
//!   The key is not in the program's memory, so the program can start no other.
//! - Only the calls of x86_64 itself: one by the way of i386 ends the process, one of x32 is no number here.

use std::{collections::BTreeMap, fmt, io};

use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    TargetArch, sock_filter,
};
use serde::{Deserialize, Serialize};

use crate::{Error, Result};

/// What a program may ask of the kernel. The numbers are those of `libc::SYS_*`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rules {
    /// What it may call. One number may be there more than once: any of its entries is enough.
    pub allow: Vec<Call>,
    /// What is answered as by a kernel that does not have it: what a C library or a program has another way
    /// for.
    pub absent: Vec<i64>,
    /// What only someone calls who has taken the program over: it is the program's end.
    pub deadly: Vec<i64>,
}

/// One system call, with what its arguments have to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    number: i64,
    checks: Vec<Check>,
}

impl Call {
    /// With whatever arguments.
    #[must_use]
    pub fn any(number: i64) -> Self {
        Self { number, checks: Vec::new() }
    }

    /// Where every check holds.
    #[must_use]
    pub fn when(number: i64, checks: impl Into<Vec<Check>>) -> Self {
        Self { number, checks: checks.into() }
    }
}

/// What an argument has to be, of its lower 32 bits: right for those that the kernel takes as an `int`, and
/// for flags, where it leaves out the upper ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Check {
    argument: u8,
    mask: u32,
    value: u32,
}

impl Check {
    /// The argument, counted from 0, is this.
    #[must_use]
    pub fn is(argument: u8, value: u32) -> Self {
        Self::bits(argument, u32::MAX, value)
    }

    /// Those of its bits that are in `mask` are as in `value`.
    #[must_use]
    pub fn bits(argument: u8, mask: u32, value: u32) -> Self {
        Self { argument, mask, value: value & mask }
    }
}

/// A compiled filter.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Filter {
    /// Each instruction as one number.
    program: Vec<u64>,
    key: [u64; 3],
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filter").field("instructions", &self.program.len()).finish_non_exhaustive()
    }
}

/// The answer to all that no rule names.
const REFUSED: SeccompAction = SeccompAction::Errno(libc::EPERM.cast_unsigned());
const MISSING: SeccompAction = SeccompAction::Errno(libc::ENOSYS.cast_unsigned());

type Table = BTreeMap<i64, Vec<SeccompRule>>;

impl Filter {
    /// Compiles it. Beside what `rules` say, the shim's own exec is allowed, and what it takes to tell that
    /// this failed.
    ///
    /// # Errors
    /// The rules contradict themselves, check an argument that no call has, or are too many.
    pub fn new(rules: &Rules) -> Result<Self> {
        let key = key()?;
        let mut allow = table(&rules.allow)?;
        for number in [libc::SYS_write, libc::SYS_exit_group] {
            allow.entry(number).or_default();
        }
        if allow.insert(libc::SYS_execve, vec![unlocked(key)?]).is_some() {
            return Err(Error::Invalid("a system call filter allows what is the shim's alone"));
        }
        let (absent, deadly) = (plain(&rules.absent), plain(&rules.deadly));
        let overlaps = |one: &Table, other: &Table| one.keys().any(|number| other.contains_key(number));
        if overlaps(&allow, &absent) || overlaps(&allow, &deadly) || overlaps(&absent, &deadly) {
            return Err(Error::Invalid("a system call filter has two answers to one call"));
        }
        let parts = [(allow, SeccompAction::Allow), (absent, MISSING), (deadly, SeccompAction::KillProcess)];
        let mut program = BpfProgram::new();
        for (table, answer) in parts {
            append(&mut program, table, answer)?;
        }
        let program = program.iter().map(pack).collect();
        Ok(Self { program, key })
    }

    /// What the exec that is to get through has as its fourth to sixth argument.
    pub(crate) fn key(&self) -> [u64; 3] {
        self.key
    }

    /// Installs it in this process, which has one thread, for good.
    pub(crate) fn install(&self) -> io::Result<()> {
        let program: BpfProgram = self.program.iter().copied().map(unpack).collect();
        seccompiler::apply_filter(&program).map_err(|error| match error {
            seccompiler::Error::Prctl(source) | seccompiler::Error::Seccomp(source) => source,
            _ => io::ErrorKind::InvalidInput.into(),
        })
    }
}

/// Whether this host has filters, with the answers that ours give.
pub(crate) fn can_be_had() -> bool {
    [libc::SECCOMP_RET_KILL_PROCESS, libc::SECCOMP_RET_ERRNO, libc::SECCOMP_RET_ALLOW].iter().all(|answer| {
        // SAFETY: this operation reads one number behind the pointer and changes nothing.
        unsafe {
            libc::syscall(libc::SYS_seccomp, libc::SECCOMP_GET_ACTION_AVAIL, 0, std::ptr::from_ref(answer))
                == 0
        }
    })
}

fn key() -> Result<[u64; 3]> {
    let mut bytes = [0; 24];
    let length = rustix::rand::getrandom(&mut bytes, rustix::rand::GetRandomFlags::empty())
        .map_err(Error::io("make a key"))?;
    if length != bytes.len() {
        return Err(Error::Invalid("there was no key to be had"));
    }
    let mut key = [0; 3];
    for (word, bytes) in key.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.iter().fold(0, |word, byte| word << 8 | u64::from(*byte));
    }
    Ok(key)
}

fn table(calls: &[Call]) -> Result<Table> {
    let mut table = Table::new();
    for call in calls {
        let rules = table.entry(call.number).or_default();
        if call.checks.is_empty() {
            continue;
        }
        let conditions = call.checks.iter().map(condition).collect::<Result<_>>()?;
        rules.push(SeccompRule::new(conditions).map_err(invalid)?);
    }
    // An entry without checks beside one with some would be read as the stricter of the two.
    let mixed = calls.iter().any(|call| call.checks.is_empty() && !table[&call.number].is_empty());
    if mixed { Err(Error::Invalid("a system call filter checks what it allows anyway")) } else { Ok(table) }
}

fn plain(numbers: &[i64]) -> Table {
    numbers.iter().map(|number| (*number, Vec::new())).collect()
}

fn condition(check: &Check) -> Result<SeccompCondition> {
    let Check { argument, mask, value } = *check;
    let how = SeccompCmpOp::MaskedEq(mask.into());
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, how, value.into()).map_err(invalid)
}

fn unlocked(key: [u64; 3]) -> Result<SeccompRule> {
    let conditions = (3..).zip(key).map(|(argument, word)| {
        SeccompCondition::new(argument, SeccompCmpArgLen::Qword, SeccompCmpOp::Eq, word).map_err(invalid)
    });
    SeccompRule::new(conditions.collect::<Result<_>>()?).map_err(invalid)
}

fn invalid(_: seccompiler::BackendError) -> Error {
    Error::Invalid("a system call filter is too long, or checks an argument that there is not")
}

/// Lets what `program` has no answer to go on into a further part of it.
///
/// The compiler knows two answers per program, and several programs would all be run at each call: so they
/// are made one. What falls through a program comes to its last instruction, and to nothing before that.
fn append(program: &mut BpfProgram, table: Table, answer: SeccompAction) -> Result<()> {
    if program.last().is_some_and(|last| *last != refusal()) {
        return Err(Error::Invalid("a system call filter was compiled in a form that is not known"));
    }
    program.pop();
    let arch = TargetArch::x86_64;
    let part = SeccompFilter::new(table, REFUSED, answer, arch).map_err(invalid)?;
    program.extend(BpfProgram::try_from(part).map_err(invalid)?);
    if program.len() > MOST_INSTRUCTIONS {
        Err(invalid(seccompiler::BackendError::FilterTooLarge(0)))
    } else {
        Ok(())
    }
}

/// As many as the kernel takes.
const MOST_INSTRUCTIONS: usize = 4096;

/// The instruction that gives [`REFUSED`].
fn refusal() -> sock_filter {
    const RETURN: u16 = 0x06;
    sock_filter { code: RETURN, jt: 0, jf: 0, k: REFUSED.into() }
}

fn pack(instruction: &sock_filter) -> u64 {
    let sock_filter { code, jt, jf, k } = instruction;
    u64::from(*code) << 48 | u64::from(*jt) << 40 | u64::from(*jf) << 32 | u64::from(*k)
}

fn unpack(number: u64) -> sock_filter {
    let [c0, c1, jt, jf, k @ ..] = number.to_be_bytes();
    sock_filter { code: u16::from_be_bytes([c0, c1]), jt, jf, k: u32::from_be_bytes(k) }
}
