//! Messages of DNS, as far as a stub needs them: one question is read, and answers are written.
//!
//! Purpose: what a process of the guest asks, which may be anything, becomes a [`Question`] or a refusal.
//! Owner: [`Stub`](super::Stub). Pure.
//!
//! ```text
//!   | id | flags | questions | answers | authorities | additional |  12 bytes, u16 each, big endian
//!   | name: length, label, …, 0 | type | class |                     the question
//!   | 0 | 41 | size | 4 bytes | length | data |                      perhaps: EDNS
//! ```
//!
//! Invariant: an answer has the question that was asked, byte for byte, and is no longer than its asker takes.

use std::net::Ipv4Addr;

/// Bytes of the header.
pub(crate) const HEADER: usize = 12;
/// Longest message that is read: no question needs as many.
pub(crate) const MOST: usize = 4096;
/// What an asker over UDP takes that does not say.
pub(crate) const UDP: usize = 512;
/// What is said that is taken over UDP, and the most that is sent: no network on the way cuts it.
const EDNS: u16 = 1232;
/// Seconds for which an answer holds: another table may come at any time.
const TTL: u32 = 5;

const QUERY: u16 = 0x8000;
const OPCODE: u16 = 0x7800;
const AUTHORITATIVE: u16 = 0x0400;
const TRUNCATED: u16 = 0x0200;
const DESIRED: u16 = 0x0100;
const AVAILABLE: u16 = 0x0080;

const A: u16 = 1;
const OPT: u16 = 41;
const ANY: u16 = 255;
const IN: u16 = 1;

/// How an answer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Ok = 0,
    Malformed = 1,
    Failed = 2,
    NoSuchName = 3,
    NotImplemented = 4,
}

/// One question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    id: u16,
    flags: u16,
    /// As it was asked, behind the header.
    raw: Vec<u8>,
    /// In lower case, labels between dots; empty where a label has other bytes than a host name's.
    pub(crate) name: String,
    kind: u16,
    class: u16,
    /// What its asker takes over UDP, where it says.
    edns: Option<u16>,
}

/// What is no question that can be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unreadable {
    /// Nothing is answered: it is no question.
    Silence,
    /// The asker is told.
    Refused { id: u16, flags: u16, code: Code },
}

/// Takes the front of what is left.
fn take<'a>(rest: &mut &'a [u8], count: usize) -> Option<&'a [u8]> {
    let (front, after) = rest.split_at_checked(count)?;
    *rest = after;
    Some(front)
}

fn number(rest: &mut &[u8]) -> Option<u16> {
    let (front, after) = rest.split_first_chunk::<2>()?;
    *rest = after;
    Some(u16::from_be_bytes(*front))
}

/// A name without pointers: nothing is before it that one could mean.
fn name(rest: &mut &[u8]) -> Option<String> {
    let (mut text, mut length, mut plain) = (String::new(), 1, true);
    loop {
        let [size] = *take(rest, 1)? else { return None };
        if size == 0 {
            return Some(if plain { text } else { String::new() });
        }
        length += usize::from(size) + 1;
        if size > 63 || length > 255 {
            return None;
        }
        if !text.is_empty() {
            text.push('.');
        }
        for byte in take(rest, size.into())? {
            plain &= byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            text.push(char::from(byte.to_ascii_lowercase()));
        }
    }
}

/// Reads a question.
pub(crate) fn parse(message: &[u8]) -> Result<Question, Unreadable> {
    let mut rest = message;
    let mut header = [0; 6];
    for place in &mut header {
        *place = number(&mut rest).ok_or(Unreadable::Silence)?;
    }
    let [id, flags, questions, answers, authorities, additional] = header;
    if flags & QUERY != 0 {
        return Err(Unreadable::Silence);
    }
    let refused = |code| Unreadable::Refused { id, flags, code };
    if flags & OPCODE != 0 {
        return Err(refused(Code::NotImplemented));
    }
    let malformed = refused(Code::Malformed);
    if message.len() > MOST || (questions, answers, authorities) != (1, 0, 0) || additional > 1 {
        return Err(malformed);
    }
    let body = rest;
    let name = name(&mut rest).ok_or(malformed)?;
    let kind = number(&mut rest).ok_or(malformed)?;
    let class = number(&mut rest).ok_or(malformed)?;
    let raw = body.get(..body.len() - rest.len()).ok_or(malformed)?.to_vec();
    let mut edns = None;
    if additional == 1 {
        let root = take(&mut rest, 1).ok_or(malformed)?;
        let option = number(&mut rest).ok_or(malformed)?;
        let size = number(&mut rest).ok_or(malformed)?;
        take(&mut rest, 4).ok_or(malformed)?;
        let length = number(&mut rest).ok_or(malformed)?;
        take(&mut rest, length.into()).ok_or(malformed)?;
        if root != [0] || option != OPT {
            return Err(malformed);
        }
        edns = Some(size);
    }
    if !rest.is_empty() {
        return Err(malformed);
    }
    Ok(Question { id, flags, raw, name, kind, class, edns })
}

fn header(id: u16, asked: u16, flags: u16, code: Code, counts: [u16; 4]) -> Vec<u8> {
    let flags = QUERY | (asked & (OPCODE | DESIRED)) | AVAILABLE | flags | code as u16;
    [id, flags].into_iter().chain(counts).flat_map(u16::to_be_bytes).collect()
}

impl Unreadable {
    /// What is answered, if anything is.
    pub(crate) fn answer(self) -> Option<Vec<u8>> {
        match self {
            Self::Silence => None,
            Self::Refused { id, flags, code } => Some(header(id, flags, 0, code, [0; 4])),
        }
    }
}

impl Question {
    /// What its asker takes over UDP.
    pub(crate) fn limit(&self) -> usize {
        self.edns.map_or(UDP, |size| usize::from(size.clamp(512, EDNS)))
    }

    pub(crate) fn id(&self) -> u16 {
        self.id
    }

    /// An answer without records.
    pub(crate) fn empty(&self, code: Code) -> Vec<u8> {
        self.answered(AUTHORITATIVE, code, None)
    }

    /// That it did not work out.
    pub(crate) fn failed(&self) -> Vec<u8> {
        self.answered(0, Code::Failed, None)
    }

    /// That the answer is to be had over TCP.
    pub(crate) fn truncated(&self) -> Vec<u8> {
        self.answered(TRUNCATED, Code::Ok, None)
    }

    /// The address of a name that has this one and no other.
    pub(crate) fn address(&self, address: Ipv4Addr) -> Vec<u8> {
        let fits = matches!(self.kind, A | ANY) && matches!(self.class, IN | ANY);
        self.answered(AUTHORITATIVE, Code::Ok, fits.then_some(address))
    }

    fn answered(&self, flags: u16, code: Code, address: Option<Ipv4Addr>) -> Vec<u8> {
        let counts = [1, u16::from(address.is_some()), 0, u16::from(self.edns.is_some())];
        let mut answer = header(self.id, self.flags, flags, code, counts);
        answer.extend_from_slice(&self.raw);
        if let Some(address) = address {
            // the name that the question has, behind the header
            answer.extend([0xc000 | 12_u16, A, IN].into_iter().flat_map(u16::to_be_bytes));
            answer.extend_from_slice(&TTL.to_be_bytes());
            answer.extend_from_slice(&4_u16.to_be_bytes());
            answer.extend_from_slice(&address.octets());
        }
        if self.edns.is_some() {
            answer.push(0);
            answer.extend([OPT, EDNS, 0, 0, 0].into_iter().flat_map(u16::to_be_bytes));
        }
        answer
    }
}

/// The message with another id; `None`: it is none.
pub(crate) fn renamed(mut message: Vec<u8>, id: u16) -> Option<Vec<u8>> {
    *message.first_chunk_mut::<2>()? = id.to_be_bytes();
    (message.len() >= HEADER).then_some(message)
}

/// The id of a message.
pub(crate) fn id(message: &[u8]) -> Option<u16> {
    message.first_chunk::<2>().map(|id| u16::from_be_bytes(*id))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `id` 0x1234, recursion desired, a name, a type, class IN.
    fn query(name: &str, kind: u16) -> Vec<u8> {
        let mut message = b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00".to_vec();
        for label in name.split('.').filter(|label| !label.is_empty()) {
            message.push(u8::try_from(label.len()).unwrap());
            message.extend_from_slice(label.as_bytes());
        }
        message.push(0);
        message.extend_from_slice(&kind.to_be_bytes());
        message.extend_from_slice(&1_u16.to_be_bytes());
        message
    }

    fn with_edns(mut message: Vec<u8>, size: u16) -> Vec<u8> {
        message[11] = 1;
        message.extend_from_slice(b"\x00\x00\x29");
        message.extend_from_slice(&size.to_be_bytes());
        message.extend_from_slice(&[0; 6]);
        message
    }

    #[test]
    fn a_question_is_read_and_answered_byte_for_byte() {
        let question = parse(&query("Forge.Example", A)).unwrap();
        assert_eq!((question.name.as_str(), question.limit()), ("forge.example", 512));
        assert_eq!(
            question.address(Ipv4Addr::new(198, 19, 1, 1)),
            b"\x12\x34\x85\x80\x00\x01\x00\x01\x00\x00\x00\x00\x05Forge\x07Example\x00\x00\x01\x00\x01\
              \xc0\x0c\x00\x01\x00\x01\x00\x00\x00\x05\x00\x04\xc6\x13\x01\x01"
        );
        assert_eq!(
            question.empty(Code::NoSuchName),
            b"\x12\x34\x85\x83\x00\x01\x00\x00\x00\x00\x00\x00\x05Forge\x07Example\x00\x00\x01\x00\x01"
        );
        let other = parse(&query("forge.example", 28)).unwrap();
        assert_eq!(other.address(Ipv4Addr::LOCALHOST)[6..8], [0, 0], "it has no IPv6 address, and is there");
    }

    #[test]
    fn an_asker_says_what_it_takes() {
        for (said, taken) in [(0, 512), (512, 512), (600, 600), (65_535, 1232)] {
            let question = parse(&with_edns(query("a", A), said)).unwrap();
            assert_eq!(question.limit(), taken, "{said}");
            assert!(question.truncated().ends_with(b"\x00\x00\x29\x04\xd0\x00\x00\x00\x00\x00\x00"));
            assert_eq!(question.truncated()[2] & 2, 2);
        }
    }

    #[test]
    fn what_is_no_question_is_refused_or_not_answered() {
        let good = query("a.b", A);
        let spoilt = |spoil: fn(&mut Vec<u8>)| {
            let mut message = good.clone();
            spoil(&mut message);
            parse(&message).unwrap_err()
        };
        assert_eq!(parse(&good[..11]), Err(Unreadable::Silence));
        assert_eq!(spoilt(|message| message[2] |= 0x80), Unreadable::Silence, "an answer");
        let code = |unreadable| match unreadable {
            Unreadable::Refused { id: 0x1234, code, .. } => code,
            other => panic!("{other:?}"),
        };
        assert_eq!(code(spoilt(|message| message[2] |= 0x28)), Code::NotImplemented);
        let malformed: [fn(&mut Vec<u8>); 9] = [
            |message| message[5] = 0,
            |message| message[5] = 2,
            |message| message[7] = 1,
            |message| message[9] = 1,
            |message| message[11] = 1,
            |message| message[12] = 0xc0,
            |message| message[12] = 64,
            |message| message.push(0),
            |message| message.truncate(16),
        ];
        for spoil in malformed {
            assert_eq!(code(spoilt(spoil)), Code::Malformed);
        }
        let long = vec!["a".repeat(63); 4].join(".");
        assert_eq!(code(parse(&query(&long, A)).unwrap_err()), Code::Malformed);
    }

    #[test]
    fn a_name_that_only_looks_like_another_is_another() {
        // one label with a dot in it
        let mut message = query("aXb", A);
        message[14] = b'.';
        assert_eq!(parse(&message).unwrap().name, "");
    }
}
