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
        let program = program(allow, &rules.absent, &rules.deadly)?;
        Ok(Self { program: program.iter().map(pack).collect(), key })
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

/// All of it as one program: several would each be run at every call.
///
/// What depends on arguments comes first, as the compiler makes it; what that does not name falls through to
/// its last instruction, which a search by number replaces. The compiler would ask for one number after the
/// other with five instructions each, and the price of a start is that of the program's length.
fn program(allow: Table, absent: &[i64], deadly: &[i64]) -> Result<BpfProgram> {
    let (checked, free): (Table, Table) = allow.into_iter().partition(|(_, rules)| !rules.is_empty());
    let mut answers = BTreeMap::new();
    let listed = free.keys().map(|number| (*number, SeccompAction::Allow));
    let listed = listed.chain(absent.iter().map(|number| (*number, MISSING)));
    for (number, answer) in listed.chain(deadly.iter().map(|number| (*number, SeccompAction::KillProcess))) {
        let number = u32::try_from(number).ok().filter(|number| *number < u32::MAX);
        let number = number.ok_or(Error::Invalid("a system call filter has a number that no call has"))?;
        let twice = answers.insert(number, answer).is_some();
        if twice || checked.contains_key(&number.into()) {
            return Err(Error::Invalid("a system call filter has two answers to one call"));
        }
    }
    let allowed = SeccompFilter::new(checked, REFUSED, SeccompAction::Allow, TargetArch::x86_64);
    let mut program = BpfProgram::try_from(allowed.map_err(invalid)?).map_err(invalid)?;
    if program.pop() != Some(returning(REFUSED)) {
        return Err(Error::Invalid("a system call filter was compiled in a form that is not known"));
    }
    search(&mut program, &ranges(&answers));
    if program.len() > MOST_INSTRUCTIONS {
        return Err(Error::Invalid("a system call filter is too long"));
    }
    Ok(program)
}

/// As many as the kernel takes.
const MOST_INSTRUCTIONS: usize = 4096;

/// Where another answer begins, from 0 on.
fn ranges(answers: &BTreeMap<u32, SeccompAction>) -> Vec<(u32, SeccompAction)> {
    let mut ranges = vec![(0, REFUSED)];
    for (number, answer) in answers {
        // The one that the number before it left open.
        if ranges.last().is_some_and(|(start, _)| start == number) {
            ranges.pop();
        }
        if ranges.last().is_none_or(|(_, last)| last != answer) {
            ranges.push((*number, answer.clone()));
        }
        ranges.push((number + 1, REFUSED));
    }
    ranges
}

/// Instructions that find the range of the number that was loaded, by halves, and give its answer.
fn search(program: &mut BpfProgram, ranges: &[(u32, SeccompAction)]) {
    if let [(_, answer)] = ranges {
        return program.push(returning(answer.clone()));
    }
    let (lower, upper) = ranges.split_at(ranges.len() / 2);
    let mut below = BpfProgram::new();
    search(&mut below, lower);
    let start = upper.first().map_or(u32::MAX, |(start, _)| *start);
    match u8::try_from(below.len()) {
        Ok(jt) => program.push(sock_filter { code: JUMP_FROM, jt, jf: 0, k: start }),
        Err(_) => {
            program.push(sock_filter { code: JUMP_FROM, jt: 0, jf: 1, k: start });
            let k = u32::try_from(below.len()).unwrap_or(u32::MAX);
            program.push(sock_filter { code: JUMP, jt: 0, jf: 0, k });
        }
    }
    program.append(&mut below);
    search(program, upper);
}

/// `BPF_JMP | BPF_JGE | BPF_K`: where the number is `k` or more.
const JUMP_FROM: u16 = 0x35;
/// `BPF_JMP | BPF_JA`.
const JUMP: u16 = 0x05;
/// `BPF_RET | BPF_K`.
const RETURN: u16 = 0x06;

fn returning(answer: SeccompAction) -> sock_filter {
    sock_filter { code: RETURN, jt: 0, jf: 0, k: answer.into() }
}

fn pack(instruction: &sock_filter) -> u64 {
    let sock_filter { code, jt, jf, k } = instruction;
    u64::from(*code) << 48 | u64::from(*jt) << 40 | u64::from(*jf) << 32 | u64::from(*k)
}

fn unpack(number: u64) -> sock_filter {
    let [c0, c1, jt, jf, k @ ..] = number.to_be_bytes();
    sock_filter { code: u16::from_be_bytes([c0, c1]), jt, jf, k: u32::from_be_bytes(k) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const X86_64: u32 = 0xc000_003e;
    const I386: u32 = 0x4000_0003;

    /// Runs a filter as the kernel does: what it answers to a call.
    fn answer(filter: &Filter, arch: u32, number: u32, args: [u64; 6]) -> u32 {
        let mut data = vec![number, arch, 0, 0];
        data.extend(args.iter().flat_map(|arg| {
            let [high, low] = [arg >> 32, arg & 0xffff_ffff].map(|half| u32::try_from(half).unwrap());
            [low, high]
        }));
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let sock_filter { code, jt, jf, k } = unpack(filter.program[at]);
            let jump = |taken: bool| usize::from(if taken { jt } else { jf });
            at += 1;
            match code {
                0x20 => accumulator = data[k as usize / 4],
                0x54 => accumulator &= k,
                JUMP => at += k as usize,
                0x15 => at += jump(accumulator == k),
                JUMP_FROM => at += jump(accumulator >= k),
                RETURN => return k,
                other => panic!("instruction {other:#x}"),
            }
        }
    }

    fn plainly(filter: &Filter, number: i64) -> u32 {
        answer(filter, X86_64, number.try_into().unwrap(), [0; 6])
    }

    fn code(answer: SeccompAction) -> u32 {
        answer.into()
    }

    #[test]
    fn each_number_has_the_answer_that_was_given_for_it() {
        for (step, most) in [(1, 1), (2, 400), (3, 400), (7, 511)] {
            let numbers = (0..=most).filter(|n| ![1, 59, 231].contains(n));
            let mut rules = Rules::default();
            for number in numbers.step_by(step) {
                match number % 4 {
                    0 => rules.allow.push(Call::any(number)),
                    1 => rules.absent.push(number),
                    2 => rules.deadly.push(number),
                    _ => rules.allow.push(Call::when(number, [Check::is(2, 7)])),
                }
            }
            let filter = Filter::new(&rules).unwrap();
            let listed: BTreeMap<i64, _> =
                rules.allow.iter().map(|call| (call.number, &call.checks)).collect();
            for number in 0..600 {
                let expected = match listed.get(&number) {
                    Some(checks) if checks.is_empty() => SeccompAction::Allow,
                    _ if [1, 231].contains(&number) => SeccompAction::Allow,
                    _ if rules.absent.contains(&number) => MISSING,
                    _ if rules.deadly.contains(&number) => SeccompAction::KillProcess,
                    _ => REFUSED,
                };
                assert_eq!(plainly(&filter, number), code(expected), "{number} of {step}");
                let args = answer(&filter, X86_64, number.try_into().unwrap(), [0, 0, 7, 0, 0, 0]);
                let fits = listed.get(&number).is_some_and(|checks| !checks.is_empty());
                assert_eq!(args == plainly(&filter, number), !fits, "{number} of {step}");
            }
        }
    }

    #[test]
    fn calls_by_another_abi_are_refused() {
        let rules =
            Rules { allow: (2..500).filter(|n| *n != 59).map(Call::any).collect(), ..Rules::default() };
        let filter = Filter::new(&rules).unwrap();
        assert_eq!(plainly(&filter, 39), code(SeccompAction::Allow));
        assert_eq!(answer(&filter, I386, 39, [0; 6]), code(SeccompAction::KillProcess));
        const X32: i64 = 0x4000_0000;
        assert_eq!(plainly(&filter, 39 | X32), code(REFUSED));
        assert_eq!(answer(&filter, X86_64, u32::MAX, [0; 6]), code(REFUSED));
    }

    #[test]
    fn arguments_are_looked_at_by_their_lower_half_and_any_entry_is_enough() {
        let rules = Rules {
            allow: vec![
                Call::when(16, [Check::is(1, 5)]),
                Call::when(16, [Check::bits(1, 0xff00, 0xae12), Check::bits(0, 3, 1)]),
            ],
            ..Rules::default()
        };
        let filter = Filter::new(&rules).unwrap();
        let allowed =
            |one, other| answer(&filter, X86_64, 16, [one, other, 0, 0, 0, 0]) == code(SeccompAction::Allow);
        assert!(allowed(0, 5) && allowed(0, 5 | 1 << 32) && !allowed(0, 6));
        assert!(allowed(5, 0xaeff) && !allowed(6, 0xaeff) && !allowed(5, 0xaf00));
    }

    #[test]
    fn the_one_exec_carries_the_key() {
        let filter = Filter::new(&Rules::default()).unwrap();
        let [a, b, c] = filter.key();
        let exec = |args| answer(&filter, X86_64, 59, args) == code(SeccompAction::Allow);
        assert!(exec([0, 0, 0, a, b, c]) && exec([9, 9, 9, a, b, c]));
        for wrong in [[a ^ 1, b, c], [a, b ^ 1 << 63, c], [a, b, c ^ 1], [0; 3]] {
            assert!(!exec([0, 0, 0, wrong[0], wrong[1], wrong[2]]));
        }
        assert_ne!(filter.key(), Filter::new(&Rules::default()).unwrap().key());
        assert!(!format!("{filter:?}").contains(&a.to_string()));
    }

    #[test]
    fn rules_that_contradict_themselves_are_refused() {
        let fork = libc::SYS_fork;
        let two = |one: Call, other: Call| Rules { allow: vec![one, other], ..Rules::default() };
        for rules in [
            Rules { allow: vec![Call::any(fork)], absent: vec![fork], deadly: Vec::new() },
            Rules {
                allow: vec![Call::when(fork, [Check::is(0, 1)])],
                absent: Vec::new(),
                deadly: vec![fork],
            },
            Rules { allow: Vec::new(), absent: vec![fork], deadly: vec![fork] },
            Rules { deadly: vec![libc::SYS_write], ..Rules::default() },
            Rules { allow: vec![Call::any(libc::SYS_execve)], ..Rules::default() },
            Rules { absent: vec![-1], ..Rules::default() },
            Rules { allow: vec![Call::when(fork, [Check::is(6, 1)])], ..Rules::default() },
            Rules {
                allow: (0..2000).map(|number| Call::when(3, [Check::is(0, number)])).collect(),
                ..Rules::default()
            },
            two(Call::any(fork), Call::when(fork, [Check::is(0, 1)])),
            two(Call::when(fork, [Check::is(0, 1)]), Call::any(fork)),
        ] {
            assert!(matches!(Filter::new(&rules), Err(Error::Invalid(_))), "{rules:?}");
        }
        Filter::new(&two(Call::any(fork), Call::any(fork))).unwrap();
    }

    #[test]
    fn instructions_are_kept_as_numbers() {
        let instruction = sock_filter { code: 0x1234, jt: 0x56, jf: 0x78, k: 0x9abc_def0 };
        assert_eq!(pack(&instruction), 0x1234_5678_9abc_def0);
        assert_eq!(unpack(pack(&instruction)), instruction);
    }
}
