//! A machine that ended with its owner and is told to wait for another one instead ([`vm::Machine::keep`]).
//!
//! A backend that cannot hand a machine over refuses, and changes nothing.

use std::time::{Duration, SystemTime};

use vm::{Error, Machine};

use crate::{
    client::Client,
    stage::{PATIENCE, Stage, Test, chain, until_gone},
};

/// Long enough that a machine is seen to wait, and to be over soon.
const SHORT: Duration = Duration::from_secs(2);

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("a_machine_that_is_told_to_be_kept_waits_for_another_owner", |stage| Box::pin(told(stage))),
        ("of_two_times_to_be_kept_the_last_counts", |stage| Box::pin(told_twice(stage))),
        ("a_machine_that_was_told_to_be_kept_outlives_a_killed_owner", |stage| Box::pin(owner_killed(stage))),
    ]
}

/// Whether machines can be kept here; where not, that they refuse and end with their owner.
async fn can_keep(stage: &Stage) -> bool {
    if stage.subject.backend.capabilities().adopt {
        return true;
    }
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    assert!(matches!(machine.keep(SystemTime::now() + PATIENCE).await, Err(Error::Unsupported(_))));
    Client::connect(&mut *machine, 1).await.ping().await;
    drop(machine);
    until_gone(&slot).await;
    false
}

async fn keep(machine: &mut dyn Machine, time: Duration) {
    let kept = machine.keep(SystemTime::now() + time).await;
    kept.unwrap_or_else(|error| panic!("keep: {}", chain(&error)));
}

async fn told(stage: Stage) {
    if !can_keep(&stage).await {
        return;
    }
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    let mut client = Client::connect(&mut *machine, 1).await;
    keep(&mut *machine, PATIENCE).await;
    // it goes on as if nothing had been said
    client.ping().await;
    assert!(stage.subject.backend.adopt(&slot).await.is_err(), "two owners of one machine");
    drop((client, machine));
    let mut machine = stage.adopt(&slot).await;
    let (mut client, hello) = Client::greet(&mut *machine, 2).await;
    assert_eq!(hello.epoch, 1, "it is the same guest");
    client.ping().await;
    // the next owner may say it too
    keep(&mut *machine, SHORT).await;
    drop((client, machine));
    until_gone(&slot).await;
}

async fn told_twice(stage: Stage) {
    if !can_keep(&stage).await {
        return;
    }
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    for time in [PATIENCE, SHORT] {
        keep(&mut *machine, time).await;
    }
    Client::connect(&mut *machine, 1).await.ping().await;
    drop(machine);
    until_gone(&slot).await;
    assert!(matches!(stage.subject.backend.adopt(&slot).await, Err(Error::Gone(id)) if id == slot.id));

    // and the other way round
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    for time in [SHORT, PATIENCE] {
        keep(&mut *machine, time).await;
    }
    Client::connect(&mut *machine, 1).await.ping().await;
    drop(machine);
    tokio::time::sleep(2 * SHORT).await;
    let mut machine = stage.adopt(&slot).await;
    Client::connect(&mut *machine, 2).await.ping().await;
    keep(&mut *machine, Duration::ZERO).await;
    drop(machine);
    until_gone(&slot).await;
}

async fn owner_killed(stage: Stage) {
    if !can_keep(&stage).await {
        return;
    }
    let slot = stage.slot();
    let mut owner = stage.owner_that_keeps(&slot);
    owner.kill().expect("the owner is killed");
    owner.wait().expect("the owner is gone");
    let mut machine = stage.adopt(&slot).await;
    Client::connect(&mut *machine, 1).await.ping().await;
    keep(&mut *machine, Duration::ZERO).await;
    drop(machine);
    until_gone(&slot).await;
}
