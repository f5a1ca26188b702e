//! What the link of a machine does.

use vm::Boundary;
use wire::message::Body;

use crate::{
    client::Client,
    stage::{Stage, Test, exit_of, until_gone},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("the_agent_says_hello_and_answers", |stage| Box::pin(hello(stage))),
        ("a_command_runs", |stage| Box::pin(command(stage))),
        ("a_second_link_closes_the_first", |stage| Box::pin(second_link(stage))),
        ("a_link_can_be_dropped_and_opened_again", |stage| Box::pin(reopened(stage))),
        ("nonsense_costs_the_link_and_not_the_machine", |stage| Box::pin(nonsense(stage))),
        ("a_guest_that_shuts_down_is_seen", |stage| Box::pin(shutdown(stage))),
    ]
}

async fn hello(stage: Stage) {
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    let (mut client, hello) = Client::greet(&mut *machine, 1).await;
    assert_eq!(hello.version, wire::VERSION);
    assert_eq!(hello.epoch, 0, "a fresh guest was in an epoch");
    client.ping().await;
    client.ping().await;
    assert!(machine.exited().borrow().is_none());
    drop(machine);
    until_gone(&slot).await;
}

async fn command(stage: Stage) {
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    let mut client = Client::connect(&mut *machine, 1).await;
    client.prepare(&stage.subject).await;
    let ran = client.run(&stage.subject, "seq 100000; echo end; exit 7").await;
    let expected: String =
        (1..=100_000).map(|number| format!("{number}\n")).chain(["end\n".to_owned()]).collect();
    assert!(ran.output == expected.as_bytes(), "{} bytes of {}", ran.output.len(), expected.len());
    assert_eq!((ran.exited.code, ran.exited.signal), (Some(7), None));
    if stage.subject.backend.capabilities().boundary != Boundary::None {
        let ran = client.run(&stage.subject, "nproc").await;
        assert_eq!(String::from_utf8_lossy(&ran.output).trim(), stage.spec().cpus.to_string());
    }
    let ran = client.run(&stage.subject, "kill -KILL $$").await;
    assert_eq!((ran.exited.code, ran.exited.signal), (None, Some(9)));
    drop(machine);
    until_gone(&slot).await;
}

async fn second_link(stage: Stage) {
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    let mut first = Client::connect(&mut *machine, 1).await;
    first.ping().await;
    // Same epoch: the agent is where it was, and says so.
    let (_, hello) = Client::greet(&mut *machine, 2).await;
    assert_eq!(hello.epoch, 1);
    while first.event().await.is_some() {}
    drop(machine);
    until_gone(&slot).await;
}

async fn reopened(stage: Stage) {
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    for epoch in 1..=5 {
        let (mut client, hello) = Client::greet(&mut *machine, epoch).await;
        assert_eq!(hello.epoch, epoch - 1);
        client.ping().await;
        drop(client);
    }
    // Opened and left without a word.
    for _ in 0..3 {
        drop(machine.link().await.expect("a link"));
    }
    Client::connect(&mut *machine, 6).await.ping().await;
    drop(machine);
    until_gone(&slot).await;
}

async fn nonsense(stage: Stage) {
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    let mut client = Client::connect(&mut *machine, 1).await;
    client.ping().await;
    client.send_garbage().await;
    let (mut client, _) = Client::greet(&mut *machine, 2).await;
    client.ping().await;
    assert!(machine.exited().borrow().is_none());
    drop(machine);
    until_gone(&slot).await;
}

async fn shutdown(stage: Stage) {
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    let mut client = Client::connect(&mut *machine, 1).await;
    client.prepare(&stage.subject).await;
    client.start(&stage.subject, "sleep 100000").await;
    // The answer may be overtaken by the end.
    let _ = tokio::select! {
        answer = client.request(Body::Shutdown) => Some(answer),
        _ = exit_of(&*machine) => None,
    };
    let exit = exit_of(&*machine).await;
    assert_eq!((exit.code, exit.signal), (Some(0), None), "{}", exit.stderr);
    assert!(machine.link().await.is_err(), "a machine that ended has a link");
    until_gone(&slot).await;
}
