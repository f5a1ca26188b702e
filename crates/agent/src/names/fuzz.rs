//! The body of the resolver's fuzz target.

use std::net::Ipv4Addr;

use super::message::{Code, parse};

/// Whatever a process of the guest sends: what is answered is a whole answer to what was asked.
pub fn question(data: &[u8]) {
    let question = match parse(data) {
        Ok(question) => question,
        Err(unreadable) => {
            if let Some(answer) = unreadable.answer() {
                assert_eq!(answer.get(..2), data.get(..2), "an answer with another id");
            }
            return;
        }
    };
    let answers = [
        question.address(Ipv4Addr::LOCALHOST),
        question.empty(Code::NoSuchName),
        question.failed(),
        question.truncated(),
    ];
    for answer in answers {
        assert!(answer.len() <= question.limit(), "an answer that its asker does not take");
        assert_eq!(answer.get(..2), data.get(..2), "an answer with another id");
        assert!(answer.get(2).is_some_and(|flags| flags & 0x80 != 0), "an answer that is a question");
    }
}
