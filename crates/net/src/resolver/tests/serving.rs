//! The service over a stream.

use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

use super::*;
use crate::serve_names;

async fn send(stream: &mut DuplexStream, message: &[u8]) {
    stream.write_u16(u16::try_from(message.len()).unwrap()).await.unwrap();
    stream.write_all(message).await.unwrap();
}

async fn receive(stream: &mut DuplexStream) -> Option<Vec<u8>> {
    let length = stream.read_u16().await.ok()?;
    let mut message = vec![0; usize::from(length)];
    stream.read_exact(&mut message).await.unwrap();
    Some(message)
}

async fn slow_and_quick() -> Bed {
    bed("internet", |query| {
        let wait = if query.name.starts_with("slow") { 200 } else { 0 };
        let answer = reply(query, 0, &[address(&query.name, 60, "9.9.9.9")], &[]);
        vec![Act::Wait(Duration::from_millis(wait)), Act::Send(answer)]
    })
    .await
}

#[tokio::test]
async fn answers_come_in_any_order_and_the_end_waits_for_the_last() {
    let bed = slow_and_quick().await;
    let (mut guest, host) = duplex(1024);
    let serving = tokio::spawn(serve_names(bed.resolver.clone(), host));
    send(&mut guest, &ask("slow.example", A)).await;
    send(&mut guest, b"").await;
    send(&mut guest, &ask("quick.example", A)).await;
    let first = heard(&receive(&mut guest).await.unwrap());
    assert_eq!(first.records[0].0, "quick.example.");
    guest.shutdown().await.unwrap();
    let second = heard(&receive(&mut guest).await.unwrap());
    assert_eq!(second.records[0].0, "slow.example.");
    assert_eq!(receive(&mut guest).await, None);
    serving.await.unwrap().unwrap();
}

#[tokio::test]
async fn who_takes_no_answers_is_not_read_on() {
    let bed = slow_and_quick().await;
    let (mut guest, host) = duplex(1024);
    let serving = tokio::spawn(serve_names(bed.resolver.clone(), host));
    let question = ask("quick.example", A);
    let mut sent = 0;
    while tokio::time::timeout(Duration::from_millis(500), send(&mut guest, &question)).await.is_ok() {
        sent += 1;
        assert!(sent < 1000, "no end");
    }
    assert!(sent > 64, "{sent}");
    assert!(!serving.is_finished());
    drop(guest);
    assert!(serving.await.unwrap().is_err(), "the guest was gone in the middle of a message");
}
