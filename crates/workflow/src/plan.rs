//! Which jobs, and in what order.
//!
//! Purpose: the graph of `needs`, checked: nothing missing, no cycle. Owner: whoever runs the workflow.
//! Invariants: the order is topological, and the file's order where that leaves a choice; a job's needs
//! are in the plan whenever the job is.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use doc::{Diagnostic, Spanned, did_you_mean};

use crate::{Conclusion, Job, Object, Results, Status, Value, Workflow};

/// The jobs of a run.
#[derive(Clone, Debug)]
pub struct Plan {
    workflow: Arc<Workflow>,
    /// Indices into the workflow's jobs, needs before what needs them.
    order: Vec<usize>,
    /// For each of the workflow's jobs those that it needs directly, as far as they are in the workflow.
    needs: Arc<[Vec<usize>]>,
    /// The plans of the workflows that jobs call, by the job; only [`Plan::with_calls`] looks for them.
    calls: BTreeMap<String, Arc<Plan>>,
    machines: Machines,
}

/// Which machines there are for the jobs of a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Machines {
    /// Ours: a label that asks for another system is a fault.
    #[default]
    Ours,
    /// Any, because nothing is to run.
    Any,
}

/// A job that was asked for by name and is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no job `{name}` in {workflow}; {}", match .suggestion {
    Some(near) => format!("did you mean `{near}`?"),
    None => format!("there are {}", .jobs.join(", ")),
})]
pub struct UnknownJob {
    /// What was asked for.
    pub name: String,
    /// The workflow's file.
    pub workflow: String,
    /// The job that was probably meant.
    pub suggestion: Option<String>,
    /// The jobs that there are.
    pub jobs: Vec<String>,
}

impl Plan {
    /// All jobs of a workflow.
    ///
    /// # Errors
    /// Every need that names no job, and every cycle.
    pub fn new(workflow: Arc<Workflow>) -> Result<Plan, Vec<Diagnostic>> {
        let mut faults = missing(&workflow);
        let needs = needs(&workflow);
        let order = order(&workflow, &needs);
        if order.len() < workflow.jobs.len() && faults.is_empty() {
            faults.push(cycle(&workflow, &order));
        }
        if faults.is_empty() {
            Ok(Plan {
                workflow,
                order,
                needs: needs.into(),
                calls: BTreeMap::new(),
                machines: Machines::Ours,
            })
        } else {
            Err(faults)
        }
    }

    /// The plan of a payload, which has one job; its needs ran elsewhere and are not in it.
    pub(crate) fn of_one(workflow: Arc<Workflow>) -> Plan {
        let needs = needs(&workflow).into();
        Plan { workflow, order: vec![0], needs, calls: BTreeMap::new(), machines: Machines::Ours }
    }

    /// The plan of one job and all that it needs.
    ///
    /// # Errors
    /// When there is no such job; ids are compared exactly.
    pub fn select(&self, id: &str) -> Result<Plan, UnknownJob> {
        if self.job(id).is_none() {
            let jobs: Vec<_> = self.jobs().map(|job| job.id.value.clone()).collect();
            return Err(UnknownJob {
                name: id.to_owned(),
                workflow: self.workflow.source.name().to_owned(),
                suggestion: did_you_mean(id, jobs.iter().map(String::as_str)).map(str::to_owned),
                jobs,
            });
        }
        let mut wanted = self.ancestors(id);
        wanted.insert(id.to_owned());
        let kept = |index: &usize| wanted.contains(&self.workflow.jobs[*index].id.value);
        Ok(Plan {
            workflow: Arc::clone(&self.workflow),
            order: self.order.iter().copied().filter(kept).collect(),
            needs: Arc::clone(&self.needs),
            calls: self.calls.clone(),
            machines: self.machines,
        })
    }

    /// The same for a look at what would run, on whichever machines.
    #[must_use]
    pub fn on(mut self, machines: Machines) -> Plan {
        self.machines = machines;
        self
    }

    pub(crate) fn machines(&self) -> Machines {
        self.machines
    }

    pub(crate) fn set_calls(&mut self, calls: BTreeMap<String, Arc<Plan>>) {
        self.calls = calls;
    }

    /// The plan of the workflow that a job calls, if it was found.
    pub fn called(&self, id: &str) -> Option<&Arc<Plan>> {
        self.calls.get(id)
    }

    /// All jobs, with those of called workflows once for each call.
    pub(crate) fn size(&self) -> usize {
        self.calls.values().fold(self.order.len(), |sum, called| sum.saturating_add(called.size()))
    }

    /// The workflow.
    pub fn workflow(&self) -> &Arc<Workflow> {
        &self.workflow
    }

    /// The jobs, needs before what needs them.
    pub fn jobs(&self) -> impl Iterator<Item = &Job> {
        self.order.iter().map(|index| &self.workflow.jobs[*index])
    }

    /// A job of the plan.
    pub fn job(&self, id: &str) -> Option<&Job> {
        self.jobs().find(|job| job.id.value == id)
    }

    /// Jobs that are not in `results` and whose needs all are: these can begin.
    pub fn ready(&self, results: &Results) -> impl Iterator<Item = &Job> {
        self.jobs().filter(|job| {
            !results.contains_key(&job.id.value)
                && job.needs.iter().all(|need| results.contains_key(&need.value))
        })
    }

    /// All that a job needs, directly or not.
    pub fn ancestors(&self, id: &str) -> BTreeSet<String> {
        let jobs = &self.workflow.jobs;
        let Some(first) = jobs.iter().position(|job| job.id.value == id) else { return BTreeSet::new() };
        // needs of a payload ran elsewhere: they are not in the workflow
        let mut found: BTreeSet<String> = jobs[first].needs.iter().map(|need| need.value.clone()).collect();
        let mut seen = vec![false; jobs.len()];
        let mut open = vec![first];
        while let Some(index) = open.pop() {
            for need in &self.needs[index] {
                if !std::mem::replace(&mut seen[*need], true) {
                    found.insert(jobs[*need].id.value.clone());
                    open.push(*need);
                }
            }
        }
        found
    }

    /// The `needs` context of a job: what it needs directly.
    pub fn needs_context(&self, id: &str, results: &Results) -> Value {
        let Some(job) = self.workflow.job(id) else { return Object::new().into() };
        let needs =
            job.needs.iter().filter_map(|need| Some((need.value.as_str(), results.get(&need.value)?)));
        needs.map(|(id, result)| (id, result.to_value())).collect::<Object>().into()
    }

    /// What the status functions say in a job's `if`: they look at all that it needs, directly or not.
    pub fn status(&self, id: &str, results: &Results, run_cancelled: RunState) -> Status {
        let ended: Vec<_> = self
            .ancestors(id)
            .iter()
            .map(|need| results.get(need).map_or(Conclusion::Skipped, |result| result.conclusion))
            .collect();
        let cancelled = run_cancelled == RunState::Cancelled;
        Status {
            success: !cancelled && ended.iter().all(|conclusion| *conclusion == Conclusion::Success),
            failure: ended.contains(&Conclusion::Failure),
            cancelled,
        }
    }
}

/// Whether the run goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// It does.
    Running,
    /// It was cancelled: only jobs whose `if` says so begin.
    Cancelled,
}

/// Most needs without a job that are told of one workflow.
const MAX_MISSING: usize = 100;

fn missing(workflow: &Workflow) -> Vec<Diagnostic> {
    let ids = || workflow.jobs.iter().map(|job| job.id.value.as_str());
    let known: HashSet<&str> = ids().collect();
    let needs = workflow.jobs.iter().flat_map(|job| job.needs.iter().map(move |need| (job, need)));
    let unknown = needs.filter(|(_, need)| !known.contains(need.value.as_str()));
    let fault = |(job, need): (&Job, &Spanned<String>)| {
        let fault = Diagnostic::error(format!("there is no job `{}`", need.value))
            .at(&workflow.source, need.span)
            .label(format!("job `{}` needs it", job.id.value));
        if let Some(same) = ids().find(|id| id.eq_ignore_ascii_case(&need.value)) {
            return fault.help(format!("write `{same}`: Forgejo compares ids with their case"));
        }
        match did_you_mean(&need.value, ids()) {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            None => fault.note(format!("the jobs are {}", ids().collect::<Vec<_>>().join(", "))),
        }
    };
    unknown.take(MAX_MISSING).map(fault).collect()
}

/// For each job of a workflow the jobs that it needs directly.
fn needs(workflow: &Workflow) -> Vec<Vec<usize>> {
    let index_of: HashMap<&str, usize> =
        workflow.jobs.iter().enumerate().map(|(index, job)| (job.id.value.as_str(), index)).collect();
    let of =
        |job: &Job| job.needs.iter().filter_map(|need| index_of.get(need.value.as_str()).copied()).collect();
    workflow.jobs.iter().map(of).collect()
}

/// Topological order, the file's where there is a choice; what lies on or behind a cycle is left out.
fn order(workflow: &Workflow, needs: &[Vec<usize>]) -> Vec<usize> {
    let mut waiting: Vec<usize> = workflow.jobs.iter().map(|job| job.needs.len()).collect();
    let mut dependants = vec![Vec::new(); workflow.jobs.len()];
    for (index, needs) in needs.iter().enumerate() {
        for need in needs {
            dependants[*need].push(index);
        }
    }
    let mut ready: BTreeSet<usize> = (0..waiting.len()).filter(|index| waiting[*index] == 0).collect();
    let mut order = Vec::with_capacity(waiting.len());
    while let Some(index) = ready.pop_first() {
        order.push(index);
        for dependant in &dependants[index] {
            waiting[*dependant] -= 1;
            if waiting[*dependant] == 0 {
                ready.insert(*dependant);
            }
        }
    }
    order
}

/// One cycle among the jobs that `order` left out, with every need on it.
fn cycle(workflow: &Workflow, order: &[usize]) -> Diagnostic {
    let ordered: BTreeSet<usize> = order.iter().copied().collect();
    let left = |id: &str| {
        let found = workflow.jobs.iter().position(|job| job.id.value == id);
        found.filter(|index| !ordered.contains(index))
    };
    let mut path: Vec<usize> = Vec::new();
    let mut current = (0..workflow.jobs.len()).find(|index| !ordered.contains(index));
    // Every job that was left out needs another one that was: walking on must come back.
    while let Some(index) = current {
        if let Some(start) = path.iter().position(|seen| *seen == index) {
            path.drain(..start);
            break;
        }
        path.push(index);
        current = workflow.jobs[index].needs.iter().find_map(|need| left(&need.value));
    }
    // Begin with the job that comes first in the file.
    let first = path.iter().enumerate().min_by_key(|(_, index)| **index).map_or(0, |(at, _)| at);
    path.rotate_left(first);
    let ids: Vec<_> = path.iter().map(|index| workflow.jobs[*index].id.value.as_str()).collect();
    let mut fault = match ids.as_slice() {
        [only] => Diagnostic::error(format!("job `{only}` needs itself")),
        _ => Diagnostic::error(format!("the jobs need each other: {}", walk(&ids))),
    };
    for (at, index) in path.iter().enumerate() {
        let job = &workflow.jobs[*index];
        let next = ids[(at + 1) % ids.len()];
        let Some(need) = job.needs.iter().find(|need| need.value == next) else { continue };
        fault = if at == 0 {
            fault.at(&workflow.source, need.span).label(format!("`{}` needs `{next}`", job.id.value))
        } else {
            fault.also(&workflow.source, need.span, format!("`{}` needs `{next}`", job.id.value))
        };
    }
    fault.help("remove one of these needs: none of the jobs could ever begin")
}

fn walk(ids: &[&str]) -> String {
    let mut all: Vec<_> = ids.iter().map(|id| format!("`{id}`")).collect();
    all.extend(all.first().cloned());
    all.join(" → ")
}
