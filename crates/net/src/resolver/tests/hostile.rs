//! Guests and name servers that do not keep the rules: bounded in time and memory, and clean failures.

use std::time::Instant;

use super::*;

fn failed(heard: &Heard) {
    assert_eq!((heard.code, heard.records.len()), (SERVFAIL, 0));
}

#[tokio::test]
async fn questions_that_are_none_get_clean_errors() {
    let bed = bed("internet", |_| Vec::new()).await;
    let good = ask("a.example", A);
    let with = |at: usize, bytes: &[u8]| {
        let mut question = good.clone();
        question[at..at + bytes.len()].copy_from_slice(bytes);
        question
    };
    let looped = [&good[..12], b"\x01a\xc0\x0c\x00\x01\x00\x01"].concat();
    let forward = [&good[..12], b"\xc0\x20\x00\x01\x00\x01"].concat();
    for (question, code) in [
        (with(2, &[0x09]), Some(4)),    // opcode 1
        (with(2, &[0x29]), Some(4)),    // update
        (with(2, &[0x81]), None),       // an answer
        (with(5, &[0]), Some(1)),       // no question
        (with(5, &[2]), Some(1)),       // two
        (good[..11].to_vec(), None),    // less than a header
        (good[..20].to_vec(), Some(1)), // cut
        (vec![], None),
        (looped, Some(1)),
        (forward, Some(1)),
        (with(25, &[0, 3]), Some(4)),                // class CH
        ([&good[..], &[0; 5000]].concat(), Some(1)), // too long
        (ask("a.example", 255), Some(5)),            // ANY
        (ask("a.example", 252), Some(5)),            // AXFR
        (ask("a.example", 251), Some(5)),            // IXFR
        (ask("a.example", 0), Some(5)),
    ] {
        let answer = bed.resolver.answer(&question).await;
        let heard = answer.as_ref().map(|bytes| {
            assert_eq!(bytes[..2], question[..2]);
            assert!(bytes[2] & 0x80 != 0);
            bytes[3] & 15
        });
        assert_eq!(heard, code, "{question:?}");
    }
    assert_eq!(bed.server.count(), 0);
    assert_eq!(bed.refused().len(), 4);
}

#[tokio::test]
async fn answers_to_something_else_are_not_heard() {
    let bed = bed("internet", |query| {
        let answer = |name: &str, text| reply(query, 0, &[address(name, 60, text)], &[]);
        let mut other_id = answer(&query.name, "9.9.9.1");
        other_id[0] ^= 1;
        let other_question = {
            let mut other = query.clone();
            let at = other.section.len() - 3;
            other.section[at] = 28;
            reply(&other, 0, &[address(&query.name, 60, "9.9.9.2")], &[])
        };
        let mut question = answer(&query.name, "9.9.9.3");
        question[2] &= 0x7f;
        vec![
            Act::Send(other_id),
            Act::Send(other_question),
            Act::Send(question),
            Act::Send(b"garbage".to_vec()),
            Act::Send(answer(&query.name, "9.9.9.9")),
        ]
    })
    .await;
    assert_eq!(bed.ask("a.example", A).await.data(), ["9.9.9.9"]);
}

#[tokio::test]
async fn a_flood_of_strays_ends_in_a_failure() {
    let bed = bed("internet", |query| {
        let mut stray = reply(query, 0, &[address(&query.name, 60, "9.9.9.1")], &[]);
        stray[0] ^= 1;
        (0..200).map(|_| Act::Send(stray.clone())).collect()
    })
    .await;
    let start = Instant::now();
    failed(&bed.ask("a.example", A).await);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
    assert_eq!(bed.refused(), ["a.example 1 no name server answered x1"]);
}

#[tokio::test]
async fn malformed_answers_end_in_a_failure() {
    for kind in 0..9_u8 {
        let bed = bed("internet", move |query| {
            let mut bytes = reply(query, 0, &[address(&query.name, 60, "9.9.9.9")], &[]);
            let answer_at = 12 + query.section.len();
            match kind {
                // cut in the middle of the record
                0 => bytes.truncate(answer_at + 5),
                // a name that points at itself
                1 => bytes
                    .splice(answer_at..answer_at + 1, [0xc0, u8::try_from(answer_at).unwrap()])
                    .for_each(drop),
                // more records than there are
                2 => bytes[7] = 200,
                // longer data than there are
                3 => {
                    let at = bytes.len() - 5;
                    bytes[at] = 255;
                }
                // shorter data than an address
                4 => {
                    let at = bytes.len() - 5;
                    bytes[at] = 3;
                    bytes.pop();
                }
                // a label of a type that does not exist
                5 => bytes[answer_at] = 0x80,
                // aliases in a circle
                6 => {
                    bytes = reply(
                        query,
                        0,
                        &[alias(&query.name, 60, "b.example"), alias("b.example", 60, &query.name)],
                        &[],
                    );
                }
                // more records than anybody needs, which no datagram holds
                7 if !query.tcp => bytes = cut(query),
                7 => {
                    let many: Vec<_> = (0..1000).map(|_| address("a.b", 60, "9.9.9.9")).collect();
                    bytes = reply(query, 0, &many, &[]);
                }
                _ => bytes = reply(query, 5, &[], &[]),
            }
            vec![Act::Send(bytes)]
        })
        .await;
        let start = Instant::now();
        failed(&bed.ask("a.b", A).await);
        assert!(start.elapsed() < Duration::from_secs(2), "kind {kind}: {:?}", start.elapsed());
        let why = match kind {
            6 => "the answer makes no sense",
            7 => "the answer has more than 256 records",
            _ => "no name server answered",
        };
        assert_eq!(bed.refused(), [format!("a.b 1 {why} x1")], "kind {kind}");
    }
}

#[tokio::test]
async fn sixty_four_kilobytes_of_pointers_cost_no_time() {
    let bed = bed("internet", |query| {
        if !query.tcp {
            return vec![Act::Send(cut(query))];
        }
        let mut bytes = reply(query, 0, &[], &[]);
        let mut records = 0_u16;
        while bytes.len() < 65_000 {
            // each name is a label in front of the one before
            let before = u16::try_from(bytes.len()).unwrap();
            let pointer = if records == 0 { 12 } else { (before - 16).min(0x3fff) };
            bytes.extend([1, b'x']);
            bytes.extend((0xc000 | pointer).to_be_bytes());
            bytes.extend([0, 16, 0, 1, 0, 0, 0, 60, 0, 2, 1, b'x']);
            records += 1;
        }
        bytes[6..8].copy_from_slice(&records.to_be_bytes());
        vec![Act::Send(bytes)]
    })
    .await;
    let start = Instant::now();
    failed(&bed.ask("a.example", A).await);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[tokio::test]
async fn slow_servers_are_given_up() {
    for drip in [false, true] {
        let bed = bed("internet", move |query| {
            if !query.tcp {
                return vec![Act::Send(cut(query))];
            }
            let mut acts = vec![Act::Raw(vec![0xff, 0xff])];
            for _ in 0..if drip { 100 } else { 0 } {
                acts.extend([Act::Raw(vec![0]), Act::Wait(Duration::from_millis(50))]);
            }
            acts.push(Act::Wait(Duration::from_secs(60)));
            acts
        })
        .await;
        let start = Instant::now();
        failed(&bed.ask("a.example", A).await);
        let took = start.elapsed();
        assert!((Duration::from_millis(500)..Duration::from_secs(2)).contains(&took), "{took:?}");
    }
}

#[tokio::test]
async fn nobody_listens() {
    let server = Server::start(|_| Vec::new()).await;
    let address = server.address;
    drop(server);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let resolver = Resolver::new(
        "internet".parse().unwrap(),
        quick(vec![address]),
        NameLimits::default(),
        recording(&Arc::default()),
    );
    failed(&heard(&resolver.answer(&ask("a.example", A)).await.unwrap()));
}

#[tokio::test]
async fn a_guest_that_asks_too_much_fails_alone() {
    let server = Server::start(|query| {
        vec![
            Act::Wait(Duration::from_millis(20)),
            Act::Send(reply(query, 0, &[address(&query.name, 60, "9.9.9.9")], &[])),
        ]
    })
    .await;
    let upstreams = quick(vec![server.address]);
    let vm = |limits| {
        Resolver::new("internet".parse().unwrap(), upstreams.clone(), limits, recording(&Arc::default()))
    };
    let (loud, quiet) =
        (vm(NameLimits { questions: 50, upstream: 10, at_once: 30 }), vm(NameLimits::default()));
    let questions: Vec<_> = (0..500).map(|number| ask(&format!("{number}.example"), A)).collect();
    let noise = futures_util::future::join_all(questions.iter().map(|question| loud.answer(question)));
    let voice = ask("quiet.example", A);
    let (noise, voice) = tokio::join!(noise, quiet.answer(&voice));
    assert_eq!(heard(&voice.unwrap()).data(), ["9.9.9.9"]);
    let answered = noise.iter().flatten().filter(|answer| heard(answer).code == 0).count();
    assert!((1..=50).contains(&answered), "{answered}");
    assert_eq!(noise.len(), 500);
    let refused: u64 = loud.refused_names().iter().map(|refused| refused.count).sum();
    assert_eq!(refused, 500 - u64::try_from(answered).unwrap());
}
