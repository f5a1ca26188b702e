//! What becomes of executions.
//!
//! Purpose: their bytes are moved, their ends are noticed, told, and forgotten.
//! Owner: the loop; a part of it.

use std::time::Instant;

use rustix::process::{WaitOptions, wait};
use wire::{
    Code, StreamId,
    message::{Exited, ToHost},
};

use crate::{
    agent::{Agent, Pipe, User, copied},
    exec::{Ended, Exec, Flow, Output},
    system,
};

impl Agent {
    /// Takes up an execution; its pipes are known by the returned number.
    pub(crate) fn adopt(&mut self, exec: Exec) -> u64 {
        self.next_exec += 1;
        let number = self.next_exec;
        if let Some(input) = &exec.stdin {
            self.pipes.insert(input.token, Pipe::Input(number));
            self.streams.insert(input.stream, User::Input(number));
        }
        for (index, output) in exec.outputs.iter().enumerate() {
            self.pipes.insert(output.token, Pipe::Output(number, index));
            self.streams.insert(output.stream, User::Output(number, index));
        }
        self.by_id.insert(exec.id, number);
        self.by_pid.insert(exec.pid, number);
        let exec = self.execs.entry(number).or_insert(exec);
        for output in &mut exec.outputs {
            output.poll(&self.mux, &self.poller);
        }
        number
    }

    /// Nothing more is written to the input of an execution.
    pub(crate) fn close_input(&mut self, number: u64) {
        let input = self.execs.get_mut(&number).and_then(|exec| exec.stdin.take());
        if let Some(mut input) = input {
            input.forget(&self.poller);
            self.pipes.remove(&input.token);
            if self.streams.remove(&input.stream).is_some() {
                self.mux.reset(input.stream, Code::CANCELLED);
            }
        }
    }

    /// The host wants no more of an output. A terminal has one, and hangs up without it.
    pub(crate) fn abandon_output(&mut self, number: u64, index: usize) {
        let Some(exec) = self.execs.get_mut(&number) else { return };
        let hangs_up = exec.terminal.take().is_some();
        if let Some(output) = exec.outputs.get_mut(index) {
            output.abandon(&mut self.mux, &self.poller);
        }
        if hangs_up {
            self.close_input(number);
        }
    }

    pub(crate) fn pump_input(&mut self, number: u64) {
        let Some(exec) = self.execs.get_mut(&number) else { return };
        let Some(input) = &mut exec.stdin else { return };
        if input.pump(&mut self.mux, &self.poller) == Flow::Over {
            self.pipes.remove(&input.token);
            self.streams.remove(&input.stream);
            exec.stdin = None;
        }
    }

    pub(crate) fn pump_output(&mut self, number: u64, index: usize) {
        if let Some(output) = self.execs.get_mut(&number).and_then(|exec| exec.outputs.get_mut(index)) {
            output.pump(&mut self.mux, &self.poller, &mut self.buffer);
        }
    }

    /// Credit alone says nothing of the pipe: it is polled again, or emptied if its process has ended.
    pub(crate) fn credit_output(&mut self, number: u64, index: usize) {
        let Some(exec) = self.execs.get_mut(&number) else { return };
        let ended = exec.ended.is_some();
        let Some(output) = exec.outputs.get_mut(index) else { return };
        if ended {
            output.pump(&mut self.mux, &self.poller, &mut self.buffer);
        } else {
            output.poll(&self.mux, &self.poller);
        }
    }

    /// Collects every process that ended; the only place that does.
    pub(crate) fn reap(&mut self) {
        while let Ok(Some((pid, status))) = wait(WaitOptions::NOHANG) {
            let Some(number) = self.by_pid.remove(&pid) else { continue };
            self.close_input(number);
            let Some(exec) = self.execs.get_mut(&number) else { continue };
            exec.deadline = None;
            exec.ended = Some(Ended {
                code: status.exit_status(),
                signal: status.terminating_signal(),
                time_ns: system::now_ns(),
            });
            // Held only for its sake: its end is the end of the output, unless others have it open.
            exec.terminal = None;
            for output in &mut exec.outputs {
                output.last(&mut self.mux, &self.poller, &mut self.buffer);
            }
        }
    }

    /// Tells what has become true.
    pub(crate) fn settle(&mut self) {
        let mut told = Vec::new();
        for exec in self.execs.values_mut().filter(|exec| !exec.reported) {
            if let Some(ended) = exec.ended
                && exec.is_settled(&self.mux)
            {
                exec.reported = true;
                told.push(ToHost::Exited(Exited {
                    exec: exec.id,
                    code: ended.code,
                    signal: ended.signal,
                    timed_out: exec.timed_out,
                    time_ns: ended.time_ns,
                }));
            }
        }
        self.execs.retain(|number, exec| {
            let over = exec.reported
                && exec.ended.is_some()
                && exec.outputs.iter().all(Output::is_closed)
                && exec.cgroup.as_ref().is_none_or(|group| group.remove().is_ok());
            if over {
                for output in &exec.outputs {
                    self.pipes.remove(&output.token);
                }
                if self.by_id.get(&exec.id) == Some(number) {
                    self.by_id.remove(&exec.id);
                }
            }
            !over
        });
        let sent: Vec<StreamId> = self
            .outgoing
            .iter()
            .filter(|(stream, copy)| copy.outcome.is_some() && !self.mux.is_open(**stream))
            .map(|(stream, _)| *stream)
            .collect();
        for stream in sent {
            if let Some(copy) = self.outgoing.remove(&stream)
                && let Some(outcome) = copy.outcome
            {
                self.streams.remove(&stream);
                self.reply(copy.request, outcome.map(copied));
            }
        }
        self.refill |= !told.is_empty();
        for message in told {
            self.say(&message);
        }
    }

    pub(crate) fn deadlines(&mut self) {
        let now = Instant::now();
        self.with_ways(|ways, io| {
            ways.names.deadlines(now, io);
            ways.forwards.resume(io);
        });
        let late: Vec<u64> = self
            .execs
            .iter()
            .filter(|(_, exec)| exec.deadline.is_some_and(|deadline| deadline <= now))
            .map(|(number, _)| *number)
            .collect();
        for number in late {
            if let Some(exec) = self.execs.get_mut(&number) {
                exec.deadline = None;
                exec.timed_out = true;
            }
            self.kill(number);
        }
    }
}
