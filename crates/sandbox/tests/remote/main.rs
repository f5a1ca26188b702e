//! An engine in another process, on the fake backend with the real shim and the real agent: what its clients get, and
//! what is left when somebody dies.
//!
//! This program is its own shim, agent, engine process and victim.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail by panicking, as tests do")]
#![expect(clippy::print_stdout, reason = "children tell their parent how far they are")]

mod commands;
mod deaths;
mod harness;
mod leases;
mod strangers;
#[path = "../support/mod.rs"]
mod support;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    if let Some(code) = testkit::fake::dispatch() {
        return code;
    }
    if let Some(code) = harness::dispatch() {
        return code;
    }
    let trials = vec![
        trial("commands_run_with_what_they_are_given", commands::run()),
        trial("signals_input_and_terminals_reach_a_command", commands::control()),
        trial("a_reader_that_does_not_read_stops_its_command_and_nobody_else", commands::slow_reader()),
        trial("input_that_is_not_read_holds_up_its_writer_alone", commands::slow_command()),
        trial("a_dropped_command_is_killed", commands::dropped()),
        trial("large_trees_go_in_and_out", commands::trees()),
        trial("errors_arrive_as_what_they_are", commands::errors()),
        trial("leases_are_ready_pooled_and_gone", leases::leased()),
        trial("many_leases_at_once", leases::many()),
        trial("a_lease_under_way_is_cancelled", leases::cancelled()),
        trial("snapshots_are_listed_and_removed", leases::snapshots()),
        trial("what_is_left_is_attached_adopted_and_ended", leases::kept()),
        trial("an_engine_that_nobody_needs_ends", leases::idle()),
        trial("a_client_that_is_killed_takes_its_vms_along", deaths::client()),
        trial("an_engine_that_is_killed_is_a_clear_error", deaths::engine()),
        trial("an_engine_that_stops_ends_leases_and_leaves_the_rest", deaths::stopped()),
        trial("of_two_engines_the_second_ends", strangers::two()),
        trial("nonsense_ends_its_connection_and_nothing_else", strangers::nonsense()),
        trial("another_build_is_refused", strangers::build()),
        // as a plain user it is told as one that was not run
        trial("another_user_is_turned_away_and_told_nothing", strangers::another_user())
            .with_kind("needs root")
            .with_ignored_flag(!rustix::process::geteuid().is_root()),
        trial("whoever_looks_is_told_what_is_there_and_starts_nothing", strangers::sightings()),
        trial("what_does_not_listen_is_not_served", strangers::inherited()),
        trial("an_engine_that_does_not_answer_is_given_up", strangers::silent()),
        trial("a_path_may_be_longer_than_an_address", strangers::long_path()),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn trial(name: &str, test: impl Future<Output = ()> + Send + 'static) -> Trial {
    Trial::test(name, move || -> Result<(), Failed> {
        harness::block_on(test);
        Ok(())
    })
}
