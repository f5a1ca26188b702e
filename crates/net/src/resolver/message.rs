//! DNS messages: the only module that knows `hickory-proto`.
//!
//! Purpose: questions of a guest and answers of upstreams are read, checked and written here; what goes to a guest is
//! made anew of what was understood, never copied.
//!
//! Invariants
//! - Of an upstream's answer only the records that belong to the question are taken: the chain of CNAMEs from its name
//!   on, at its end the records of its type, and for a negative one the SOA. No additional records.
//! - Every address in them, hints of HTTPS and SVCB included, was asked of `may` before.
//! - Sizes are checked before a message is read.

use std::net::IpAddr;

pub(super) use hickory_proto::{op::Message, rr::Record};
use hickory_proto::{
    op::{Edns, MessageType, OpCode, Query, ResponseCode},
    rr::{
        DNSClass, Name, RData, RecordType,
        rdata::{
            A, AAAA, HTTPS, SVCB,
            opt::EdnsOption,
            svcb::{IpHint, SvcParamKey, SvcParamValue},
        },
    },
};
use ipnet::IpNet;

/// What fits into a datagram on every way (RFC 9715).
const PAYLOAD: u16 = 1232;
/// Longest message.
pub(super) const MAX_MESSAGE: usize = 65_535;
/// Longest question; a name has 255 bytes.
const MAX_QUESTION: usize = 4096;
/// Most aliases on the way to a name's records.
const MAX_ALIASES: usize = 12;
/// Most records of an answer.
pub(super) const MAX_RECORDS: usize = 256;
/// Bytes of the header.
const HEADER: usize = 12;

/// How an answer ends; a part of what DNS knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Code {
    NoError,
    FormErr,
    ServFail,
    NxDomain,
    NotImp,
    Refused,
}

impl Code {
    const fn wire(self) -> ResponseCode {
        match self {
            Self::NoError => ResponseCode::NoError,
            Self::FormErr => ResponseCode::FormErr,
            Self::ServFail => ResponseCode::ServFail,
            Self::NxDomain => ResponseCode::NXDomain,
            Self::NotImp => ResponseCode::NotImp,
            Self::Refused => ResponseCode::Refused,
        }
    }
}

/// What a guest asks.
#[derive(Clone, Debug)]
pub(super) struct Question {
    id: u16,
    recursion_desired: bool,
    edns: bool,
    query: Query,
    /// The name in lower case, without its final dot, odd bytes escaped.
    pub(super) name: String,
    /// The type's number.
    pub(super) kind: u16,
}

/// What bytes from a guest are.
#[derive(Debug)]
pub(super) enum Asked {
    /// A question that may be answered.
    Question(Box<Question>),
    /// To be refused with this.
    Reply(Vec<u8>),
    /// To be dropped.
    Nothing,
}

/// Reads what a guest asks.
pub(super) fn read_question(bytes: &[u8]) -> Asked {
    let [id_high, id_low, flags, _, count_high, count_low, ..] = *bytes else { return Asked::Nothing };
    if bytes.len() < HEADER || flags & 0x80 != 0 {
        return Asked::Nothing;
    }
    // the opcode and whether recursion is desired go back as they came
    let reply = |code: Code| {
        let low = u16::from(code.wire()).to_be_bytes()[1];
        Asked::Reply(vec![id_high, id_low, 0x80 | (flags & 0x79), 0x80 | low, 0, 0, 0, 0, 0, 0, 0, 0])
    };
    if flags & 0x78 != 0 {
        return reply(Code::NotImp);
    }
    if bytes.len() > MAX_QUESTION || [count_high, count_low] != [0, 1] {
        return reply(Code::FormErr);
    }
    let Ok(mut message) = Message::from_vec(bytes) else { return reply(Code::FormErr) };
    let Some(query) = message.queries.pop() else { return reply(Code::FormErr) };
    if query.query_class != DNSClass::IN {
        return reply(Code::NotImp);
    }
    Asked::Question(Box::new(Question {
        id: message.metadata.id,
        recursion_desired: message.metadata.recursion_desired,
        edns: message.edns.is_some(),
        name: text(&query.name),
        kind: query.query_type.into(),
        query,
    }))
}

fn text(name: &Name) -> String {
    let mut text = name.to_ascii();
    text.make_ascii_lowercase();
    if text.ends_with('.') {
        text.pop();
    }
    text
}

impl Question {
    /// The addresses that a reverse lookup asks the names of.
    pub(super) fn reverse(&self) -> Option<IpNet> {
        self.name.ends_with(".arpa").then(|| self.query.name.parse_arpa_name().ok()).flatten()
    }

    /// Whether no upstream is asked for this type: all of a name, all of a zone, and what is no record's.
    pub(super) const fn is_no_record(&self) -> bool {
        matches!(self.kind, 0 | 41 | 128..=255)
    }

    /// The question as an upstream is asked it.
    pub(super) fn upstream(&self, id: u16, edns: bool) -> Option<Vec<u8>> {
        let mut message = Message::new(id, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.queries.push(self.query.clone());
        if edns {
            message.edns = Some(payload());
        }
        message.to_vec().ok()
    }
}

fn payload() -> Edns {
    let mut edns = Edns::new();
    edns.set_max_payload(PAYLOAD).set_version(0);
    edns
}

/// Why an upstream's answer is not one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Bad {
    /// To another question, or none: whoever sent it, the answer may still come.
    Other,
    /// To this question, and not to be read.
    Garbage,
    /// To this question: the server does not know what we ask by.
    NotUnderstood,
    /// To this question: the server does not answer it.
    Failed,
    /// To this question, with more records than are taken.
    TooLong,
}

/// What an upstream answers.
#[derive(Debug)]
pub(super) enum Answer {
    /// More than fits into a datagram.
    Truncated,
    /// This.
    Whole(Message),
}

/// Reads an upstream's answer to a question that was asked by this id.
pub(super) fn read_answer(bytes: &[u8], id: u16, question: &Question) -> Result<Answer, Bad> {
    if bytes.len() < HEADER || bytes[..2] != id.to_be_bytes() || bytes[2] & 0x80 == 0 {
        return Err(Bad::Other);
    }
    let code = bytes[3] & 0x0f;
    // servers of old send errors of these two kinds without the question
    if matches!(code, 1 | 4) {
        return Err(Bad::NotUnderstood);
    }
    let truncated = bytes[2] & 0x02 != 0;
    let message = match Message::from_vec(bytes) {
        Ok(message) => message,
        Err(_) if truncated => return Ok(Answer::Truncated),
        Err(_) => return Err(Bad::Garbage),
    };
    if message.metadata.op_code != OpCode::Query {
        return Err(Bad::Garbage);
    }
    match &message.queries[..] {
        [query] if *query == question.query => {}
        _ => return Err(Bad::Other),
    }
    match message.metadata.response_code {
        ResponseCode::NoError | ResponseCode::NXDomain if truncated => Ok(Answer::Truncated),
        ResponseCode::NoError | ResponseCode::NXDomain => Ok(Answer::Whole(message)),
        _ => Err(Bad::Failed),
    }
}

/// What of an answer belongs to its question, and may be said.
#[derive(Debug, Default)]
pub(super) struct Chain {
    /// The records.
    pub(super) records: Vec<Record>,
    /// For a negative answer.
    pub(super) soa: Option<Record>,
    /// Whether there is no such name.
    pub(super) no_name: bool,
    /// The addresses in the records, hints included.
    pub(super) addresses: Vec<IpAddr>,
    /// Those that were taken out.
    pub(super) removed: Vec<IpAddr>,
    /// How long it holds, in seconds; none: it does not say.
    pub(super) ttl: Option<u32>,
}

/// Takes an answer apart.
pub(super) fn chain(
    message: Message,
    question: &Question,
    may: &dyn Fn(IpAddr) -> bool,
) -> Result<Chain, Bad> {
    let mut chain =
        Chain { no_name: message.metadata.response_code == ResponseCode::NXDomain, ..Chain::default() };
    let wanted = question.query.query_type;
    let of = |name: &Name, kind: RecordType| {
        let name = name.clone();
        message.answers.iter().filter(move |record| {
            record.dns_class == DNSClass::IN && record.record_type() == kind && record.name == name
        })
    };
    let mut name = question.query.name.clone();
    if wanted != RecordType::CNAME {
        while let Some(alias) = of(&name, RecordType::CNAME).next() {
            let RData::CNAME(target) = &alias.data else { return Err(Bad::Garbage) };
            if chain.records.len() >= MAX_ALIASES {
                return Err(Bad::Garbage);
            }
            name = target.0.clone();
            chain.records.push(alias.clone());
        }
    }
    for record in of(&name, wanted) {
        if chain.records.len() >= MAX_RECORDS {
            return Err(Bad::TooLong);
        }
        if let Some(kept) = kept(record, may, &mut chain) {
            chain.records.push(kept);
        }
    }
    chain.ttl = chain.records.iter().map(|record| record.ttl).min();
    if !chain.records.iter().any(|record| record.record_type() == wanted) {
        // aliases that lead to nothing that may be said would only tell names of the host's network
        if !chain.removed.is_empty() {
            chain.records.clear();
        }
        for record in message.authorities {
            if let RData::SOA(soa) = &record.data
                && record.dns_class == DNSClass::IN
                && record.name.zone_of(&name)
            {
                let ttl = record.ttl.min(soa.minimum);
                chain.ttl = Some(chain.ttl.map_or(ttl, |other| other.min(ttl)));
                chain.soa = Some(record);
                break;
            }
        }
    }
    Ok(chain)
}

/// A record without the addresses that may not be said; none if nothing is left of it.
fn kept(record: &Record, may: &dyn Fn(IpAddr) -> bool, chain: &mut Chain) -> Option<Record> {
    let mut allowed = |address: IpAddr| {
        let may = may(address);
        if may { &mut chain.addresses } else { &mut chain.removed }.push(address);
        may
    };
    let data = match &record.data {
        RData::A(A(address)) => allowed(IpAddr::V4(*address)).then(|| record.data.clone())?,
        RData::AAAA(AAAA(address)) => allowed(IpAddr::V6(*address)).then(|| record.data.clone())?,
        RData::SVCB(service) => RData::SVCB(hinted(service, &mut allowed)?),
        RData::HTTPS(HTTPS(service)) => RData::HTTPS(HTTPS(hinted(service, &mut allowed)?)),
        other => other.clone(),
    };
    Some(Record::from_rdata(record.name.clone(), record.ttl, data))
}

/// A service without hints that may not be said; none if it is no use without.
fn hinted(service: &SVCB, allowed: &mut dyn FnMut(IpAddr) -> bool) -> Option<SVCB> {
    let mut kept = Vec::new();
    let mut gone = Vec::new();
    for (key, value) in &service.svc_params {
        let value = match value {
            SvcParamValue::Ipv4Hint(IpHint(hints)) => {
                let hints: Vec<A> =
                    hints.iter().filter(|hint| allowed(IpAddr::V4(hint.0))).copied().collect();
                (!hints.is_empty()).then_some(SvcParamValue::Ipv4Hint(IpHint(hints)))
            }
            SvcParamValue::Ipv6Hint(IpHint(hints)) => {
                let hints: Vec<AAAA> =
                    hints.iter().filter(|hint| allowed(IpAddr::V6(hint.0))).copied().collect();
                (!hints.is_empty()).then_some(SvcParamValue::Ipv6Hint(IpHint(hints)))
            }
            // under a number that says hint and was not read as one
            _ if matches!(key, SvcParamKey::Ipv4Hint | SvcParamKey::Ipv6Hint) => None,
            other => Some(other.clone()),
        };
        match value {
            Some(value) => kept.push((*key, value)),
            None => gone.push(*key),
        }
    }
    let mandatory = service.svc_params.iter().any(|(_, value)| {
        matches!(value, SvcParamValue::Mandatory(keys) if keys.0.iter().any(|key| gone.contains(key)))
    });
    (!mandatory).then(|| SVCB::new(service.svc_priority, service.target_name.clone(), kept))
}

/// Why a guest is told less than there is, as an extended error (RFC 8914), which `dig` and others show.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The name is not in the policy.
    Blocked,
    /// Addresses were taken out.
    Filtered,
    /// Too many questions.
    Busy,
    /// No upstream answered.
    Unreachable,
    /// What an upstream answered is not passed on.
    Unusable,
}

impl Note {
    fn option(self) -> EdnsOption {
        let (code, text): (u16, &str) = match self {
            Self::Blocked => (15, "not in this VM's network policy"),
            Self::Filtered => (17, "an address of a range that this VM's network policy denies"),
            Self::Busy => (14, "more questions than a VM may ask"),
            Self::Unreachable => (22, "no name server of the host answered"),
            Self::Unusable => (0, "what the name server answered is too long, or makes no sense"),
        };
        EdnsOption::Unknown(15, [&code.to_be_bytes()[..], text.as_bytes()].concat())
    }
}

/// What is said to a guest.
#[derive(Clone, Copy, Debug)]
pub(super) struct Said<'a> {
    pub(super) code: Code,
    pub(super) records: &'a [Record],
    pub(super) soa: Option<&'a Record>,
    pub(super) note: Option<Note>,
    /// Of every record.
    pub(super) ttl: u32,
}

impl Said<'_> {
    /// Nothing but a code.
    pub(super) const fn bare(code: Code, note: Option<Note>) -> Self {
        Self { code, records: &[], soa: None, note, ttl: 0 }
    }
}

/// The answer to a question. One that cannot be written becomes a failure.
pub(super) fn write_answer(question: &Question, said: Said<'_>) -> Vec<u8> {
    let mut message = Message::new(question.id, MessageType::Response, OpCode::Query);
    message.metadata.recursion_desired = question.recursion_desired;
    message.metadata.recursion_available = true;
    message.metadata.response_code = said.code.wire();
    message.queries.push(question.query.clone());
    let aged = |record: &Record| Record::from_rdata(record.name.clone(), said.ttl, record.data.clone());
    message.answers.extend(said.records.iter().map(aged));
    message.authorities.extend(said.soa.map(aged));
    if question.edns {
        let mut edns = payload();
        if let Some(note) = said.note {
            edns.options_mut().insert(note.option());
        }
        message.edns = Some(edns);
    }
    match message.to_vec() {
        Ok(bytes) if bytes.len() <= MAX_MESSAGE => bytes,
        _ => {
            message.answers.clear();
            message.authorities.clear();
            message.metadata.response_code = ResponseCode::ServFail;
            message.to_vec().unwrap_or_default()
        }
    }
}

/// Bytes that records take, about.
pub(super) fn weight(records: &[Record]) -> usize {
    records
        .iter()
        .map(|record| {
            let data = match &record.data {
                RData::A(_) | RData::AAAA(_) | RData::CNAME(_) => 256,
                RData::TXT(text) => text.txt_data.iter().map(|part| part.len() + 32).sum(),
                RData::Unknown { rdata, .. } => rdata.anything.len(),
                _ => 2048,
            };
            size_of::<Record>() + record.name.len() + data
        })
        .sum()
}
