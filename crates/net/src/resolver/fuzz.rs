//! What must hold of any bytes, from a guest and from a name server.

use std::net::IpAddr;

use super::{
    message::{
        Answer, Asked, Code, Message, Note, Question, Said, chain, read_answer, read_question, write_answer,
    },
    resolv_conf::Servers,
};
use crate::denied;

/// Bytes of a guest: whatever is said to them can be read, is an answer, and has their id.
pub(crate) fn question(data: &[u8]) {
    let said = match read_question(data) {
        Asked::Nothing => return,
        Asked::Reply(said) => said,
        Asked::Question(question) => {
            assert!(question.name.len() <= 4 * 255, "a name that is too long");
            let asked = question.upstream(7, true).expect("what was read can be asked");
            assert!(matches!(read_question(&asked), Asked::Question(again) if again.name == question.name));
            let _ = (question.reverse(), question.is_no_record());
            write_answer(&question, Said::bare(Code::NxDomain, Some(Note::Blocked)))
        }
    };
    assert!(said[..2] == data[..2] && said[2] & 0x80 != 0, "no answer to this");
    assert!(Message::from_vec(&said).is_ok(), "an answer that cannot be read");
}

/// Bytes of a name server: nothing denied comes through, and what does can be read.
pub(crate) fn answer(data: &[u8]) {
    // the same bytes as a question say which one they answer
    let mut asked = data.to_vec();
    if let Some(flags) = asked.get_mut(2) {
        *flags &= 0x01;
    }
    let Asked::Question(question) = read_question(&asked) else {
        let Asked::Question(other) = read_question(&EXAMPLE) else { unreachable!("a plain question") };
        let _ = pass(data, &other);
        return;
    };
    let _ = pass(data, &question);
}

/// `example.org A`.
const EXAMPLE: [u8; 29] =
    *b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x07example\x03org\x00\x00\x01\x00\x01";

fn pass(data: &[u8], question: &Question) -> Option<()> {
    let id = u16::from_be_bytes([*data.first()?, *data.get(1)?]);
    let Answer::Whole(message) = read_answer(data, id, question).ok()? else { return None };
    let found = chain(message, question, &|address: IpAddr| denied(address).is_none()).ok()?;
    assert!(found.addresses.iter().all(|address| denied(*address).is_none()));
    let said = Said {
        code: Code::NoError,
        records: &found.records,
        soa: found.soa.as_ref(),
        note: Some(Note::Filtered),
        ttl: 60,
    };
    let said = write_answer(question, said);
    let Ok(again) = Message::from_vec(&said) else { panic!("an answer that cannot be read: {said:?}") };
    assert!(again.additionals.is_empty(), "more than the question's");
    let again = chain(again, question, &|_| true).ok()?;
    assert!(
        again.addresses.iter().all(|address| denied(*address).is_none()),
        "a denied address came through"
    );
    Some(())
}

/// The text of a resolv.conf.
pub(crate) fn resolv_conf(data: &[u8]) {
    let servers = Servers::parse(&String::from_utf8_lossy(data));
    assert!((1..=3).contains(&servers.addresses.len()) && (1..=5).contains(&servers.attempts));
    assert!((1..=5).contains(&servers.timeout.as_secs()));
}
