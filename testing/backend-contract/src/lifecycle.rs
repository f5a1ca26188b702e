//! How a machine begins and ends, and who decides it.

use std::{path::PathBuf, pin::pin, time::Duration};

use vm::{Drive, DriveId, DriveMode, Error, Slot};

use crate::{
    client::Client,
    stage::{PATIENCE, Stage, Test, chain, exit_of, until_gone},
};

pub(crate) fn tests() -> Vec<Test> {
    vec![
        ("it_says_what_it_is", |stage| Box::pin(description(stage))),
        ("a_dropped_machine_ends", |stage| Box::pin(dropped(stage))),
        ("a_dropped_boot_leaves_nothing_running", |stage| Box::pin(dropped_boot(stage))),
        ("a_killed_owner_takes_its_machine_along", |stage| Box::pin(owner_killed(stage))),
        ("an_end_from_outside_is_seen", |stage| Box::pin(ended_from_outside(stage))),
        ("what_cannot_boot_is_an_error_and_leaves_the_slot_usable", |stage| Box::pin(bad_spec(stage))),
        ("a_slot_holds_one_machine", |stage| Box::pin(two_in_one_slot(stage))),
        ("machines_do_not_disturb_each_other", |stage| Box::pin(side_by_side(stage))),
        ("a_kept_machine_is_adopted", |stage| Box::pin(adopted(stage))),
        ("nothing_is_adopted_where_nothing_waits", |stage| Box::pin(nothing_to_adopt(stage))),
        ("all_that_is_left_of_a_machine_is_below_its_directory", |stage| Box::pin(removable(stage))),
    ]
}

async fn description(stage: Stage) {
    let backend = &stage.subject.backend;
    assert!(!backend.name().is_empty() && backend.name().chars().all(|c| c.is_ascii_lowercase()));
    let capabilities = backend.capabilities();
    assert!(!capabilities.version.is_empty() && !capabilities.accelerator.is_empty());
}

async fn dropped(stage: Stage) {
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    Client::connect(&mut *machine, 1).await.ping().await;
    assert!(jail::is_running(&slot.dir).expect("the slot can be looked at"));
    drop(machine);
    until_gone(&slot).await;
}

async fn dropped_boot(stage: Stage) {
    // At every point that the future reaches: it is polled once more each time.
    let mut finished = false;
    for polls in 1.. {
        let slot = stage.slot();
        let spec = stage.spec();
        {
            let mut boot = pin!(stage.subject.backend.boot(&spec, &slot));
            for _ in 0..polls {
                // What it waits for happens meanwhile.
                if tokio::time::timeout(Duration::from_millis(1), &mut boot).await.is_ok() {
                    finished = true;
                    break;
                }
            }
        }
        until_gone(&slot).await;
        // A long boot needs few points only, and never all of the milliseconds.
        if finished || polls > 40 {
            break;
        }
    }
}

async fn owner_killed(stage: Stage) {
    let slot = stage.slot();
    let mut owner = stage.owner(&slot);
    assert!(jail::is_running(&slot.dir).expect("the slot can be looked at"));
    owner.kill().expect("the owner is killed");
    owner.wait().expect("the owner is gone");
    until_gone(&slot).await;
    assert!(matches!(stage.subject.backend.adopt(&slot).await, Err(Error::Gone(id)) if id == slot.id));
}

async fn ended_from_outside(stage: Stage) {
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    let mut client = Client::connect(&mut *machine, 1).await;
    let dir = slot.dir.clone();
    tokio::task::spawn_blocking(move || jail::end(&dir, PATIENCE)).await.expect("a thread").expect("it ends");
    let exit = exit_of(&*machine).await;
    assert_eq!((exit.code, exit.signal), (None, Some(9)));
    while client.event().await.is_some() {}
    assert!(machine.link().await.is_err());
    assert!(!jail::is_running(&slot.dir).expect("the slot can be looked at"));
}

async fn bad_spec(stage: Stage) {
    let slot = stage.slot();
    let mut spec = stage.spec();
    spec.drives =
        vec![Drive { id: DriveId::Root, image: PathBuf::from("/not/there"), mode: DriveMode::ReadOnly }];
    let error =
        stage.subject.backend.boot(&spec, &slot).await.err().expect("an image that is not there boots");
    let error = chain(&error);
    assert!(error.contains("/not/there") && error.contains("No such file"), "{error}");
    assert!(!jail::is_running(&slot.dir).expect("the slot can be looked at"));

    let mut machine = stage.boot(&slot).await;
    Client::connect(&mut *machine, 1).await.ping().await;
    drop(machine);
    until_gone(&slot).await;
    // And once more, after a machine that lived.
    let mut machine = stage.boot(&slot).await;
    Client::connect(&mut *machine, 1).await.ping().await;
    drop(machine);
    until_gone(&slot).await;
}

async fn two_in_one_slot(stage: Stage) {
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    assert!(stage.subject.backend.boot(&stage.spec(), &slot).await.is_err(), "two machines in one slot");
    Client::connect(&mut *machine, 1).await.ping().await;
    drop(machine);
    until_gone(&slot).await;
}

async fn side_by_side(stage: Stage) {
    let slots: Vec<Slot> = (0..2).map(|_| stage.slot()).collect();
    let mut one = stage.boot(&slots[0]).await;
    let mut other = stage.boot(&slots[1]).await;
    Client::connect(&mut *one, 1).await.ping().await;
    let mut client = Client::connect(&mut *other, 1).await;
    drop(one);
    until_gone(&slots[0]).await;
    client.ping().await;
    drop(other);
    until_gone(&slots[1]).await;
}

async fn adopted(stage: Stage) {
    if !stage.subject.backend.capabilities().adopt {
        return;
    }
    let slot = stage.kept_slot();
    let mut owner = stage.owner(&slot);
    assert!(stage.subject.backend.adopt(&slot).await.is_err(), "two owners of one machine");
    owner.kill().expect("the owner is killed");
    owner.wait().expect("the owner is gone");
    let mut machine = stage.adopt(&slot).await;
    let (mut client, hello) = Client::greet(&mut *machine, 1).await;
    assert_eq!(hello.epoch, 0);
    client.ping().await;
    // Dropped, it waits again, and is where it was.
    drop((client, machine));
    let mut machine = stage.adopt(&slot).await;
    let (_, hello) = Client::greet(&mut *machine, 2).await;
    assert_eq!(hello.epoch, 1);
    let dir = slot.dir.clone();
    tokio::task::spawn_blocking(move || jail::end(&dir, PATIENCE)).await.expect("a thread").expect("it ends");
    exit_of(&*machine).await;
}

async fn nothing_to_adopt(stage: Stage) {
    let slot = stage.kept_slot();
    assert!(matches!(stage.subject.backend.adopt(&slot).await, Err(Error::Gone(id)) if id == slot.id));
    std::fs::remove_dir(&slot.dir).expect("an attempt leaves nothing in the directory");
    assert!(matches!(stage.subject.backend.adopt(&slot).await, Err(Error::Gone(_))));
}

async fn removable(stage: Stage) {
    let slot = stage.slot();
    let mut machine = stage.boot(&slot).await;
    Client::connect(&mut *machine, 1).await.ping().await;
    drop(machine);
    until_gone(&slot).await;
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").expect("the mounts");
    assert!(!mounts.contains(&slot.id.to_string()), "{mounts}");
    std::fs::remove_dir_all(&slot.dir).expect("the directory can be removed");
}
