//! The bed's name server: as much of DNS as a resolver asks for.

use std::{
    collections::HashMap,
    net::{IpAddr, UdpSocket},
};

use super::{
    address::{DOMAIN, ZONE},
    ip,
};

const A: u16 = 1;
const AAAA: u16 = 28;
const HEADER: usize = 12;

/// Answers for [`ZONE`] until the process ends. What is asked for twice has another answer then, if its name says so.
pub(super) fn serve(address: IpAddr) {
    let socket = UdpSocket::bind((address, 53)).expect("answer for names");
    let mut asked: HashMap<(String, u16), u32> = HashMap::new();
    let mut buffer = [0; 1500];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let Some(answer) = answer(&buffer[..length], &mut asked) else { continue };
        let _ = socket.send_to(&answer, from);
    }
}

fn answer(question: &[u8], asked: &mut HashMap<(String, u16), u32>) -> Option<Vec<u8>> {
    let (name, end) = name(question)?;
    let kind = u16::from_be_bytes(question.get(end..end + 2)?.try_into().ok()?);
    let found = find(&name);
    let times = asked.entry((name, kind)).or_default();
    *times += 1;
    let addresses: Vec<IpAddr> = match found {
        Some((first, _)) if *times == 1 => first,
        Some((_, later)) => later,
        None => &[],
    }
    .iter()
    .map(|text| ip(text))
    .filter(|address| kind == if address.is_ipv4() { A } else { AAAA })
    .collect();
    let mut answer = question.get(..2)?.to_vec();
    // an answer of an authority, for who wishes recursion; no error, or no such name
    answer.extend([0x85, if found.is_some() { 0x80 } else { 0x83 }, 0, 1]);
    answer.extend(u16::try_from(addresses.len()).ok()?.to_be_bytes());
    answer.extend([0; 4]);
    answer.extend(question.get(HEADER..end + 4)?);
    for address in addresses {
        // the name of the question, of the internet, for a second
        answer.extend([0xc0, 12]);
        answer.extend(kind.to_be_bytes());
        answer.extend([0, 1, 0, 0, 0, 1]);
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        answer.extend(u16::try_from(bytes.len()).ok()?.to_be_bytes());
        answer.extend(bytes);
    }
    Some(answer)
}

/// The first question's name in lower case, and what is behind it.
fn name(question: &[u8]) -> Option<(String, usize)> {
    let (mut labels, mut at) = (Vec::new(), HEADER);
    loop {
        let length = usize::from(*question.get(at)?);
        at += 1;
        if length == 0 {
            return Some((labels.join("."), at));
        }
        labels.push(String::from_utf8_lossy(question.get(at..at + length)?).to_lowercase());
        at += length;
    }
}

type Addresses = &'static [&'static str];

fn find(name: &str) -> Option<(Addresses, Addresses)> {
    let host = name.strip_suffix(DOMAIN)?.strip_suffix('.')?;
    let fits = |known: &str| match known.strip_suffix('*') {
        Some(start) => host.starts_with(start),
        None => host == known,
    };
    ZONE.iter().find(|(known, ..)| fits(known)).map(|(_, first, later)| (*first, *later))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(asked: &mut HashMap<(String, u16), u32>, name: &str, kind: u16) -> (u8, Vec<u8>) {
        let mut question = vec![0, 7, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in name.split('.') {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend(label.bytes());
        }
        question.push(0);
        question.extend([kind.to_be_bytes(), [0, 1]].concat());
        let answer = answer(&question, asked).unwrap();
        (answer[3] & 15, answer[question.len()..].to_vec())
    }

    #[test]
    fn a_name_that_turns_leads_elsewhere_the_second_time() {
        let asked = &mut HashMap::new();
        let (code, first) = ask(asked, "turns-1.bed.example", A);
        assert_eq!((code, &first[12..]), (0, &[9, 9, 9, 14][..]));
        let (_, first) = ask(asked, "turns-1.bed.example", AAAA);
        assert_eq!(first.len(), 28);
        let (_, second) = ask(asked, "TURNS-1.bed.example", A);
        assert_eq!(&second[12..], [192, 168, 77, 10]);
        assert_eq!(ask(asked, "mixed.bed.example", A).1.len(), 3 * 16);
        assert_eq!(ask(asked, "nobody.bed.example", A), (3, vec![]));
    }
}
