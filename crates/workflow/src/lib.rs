//! The workflow language, pure.
//!
//! Purpose: text of a workflow to a checked model, to a plan of jobs, to the jobs themselves; the rows
//! and files by which steps speak; masking. No I/O: who has a machine answers what this crate asks.
//! Owner: `exec`, the runner and the linter call it.
//!
//! Invariants
//! - Everything that is wrong is collected, with its place; nothing stops at the first fault.
//! - What is understood but not yet possible is an error of [`support`], never silence.
//! - All input is foreign: sizes, depths and counts are capped, no input panics.
//!
//! ```text
//! Source ──parse──▶ Workflow ──Plan::new──▶ Plan ──support──▶ ok ──┐
//!                                             │                    │ needs are done
//!                                             └──expand(job, results, contexts)──▶ [ExpandedJob]
//! ```

pub mod checkout;
pub mod command;
pub mod envfile;
mod expand;
mod expr;
mod files;
mod filter;
mod foresee;
pub mod fuzz_targets;
mod inputs;
mod lower;
pub mod mask;
mod matrix;
mod model;
mod outcome;
mod payload;
mod plan;
mod settings;
mod shell;
pub mod support;
mod uses;
mod value;

pub use expand::{ExpandedJob, Expansion, FailFast, MatrixFilter, OnError, Surroundings, Verdict};
pub use expr::{
    Condition, ContextName, Contexts, Eval, EvalError, Expr, Fault, Query, Site, Status, Template, parse_expr,
};
pub use files::{FileUse, commands_here};
pub use filter::{
    Admission, Cron, FilterKey, Filters, Matched, Pattern, PatternList, RefFacts, Schedule, Words,
};
pub use foresee::Prospect;
pub use lower::{Parsed, parse, parse_payload};
pub use model::{
    Data, DataKind, Defaults, Input, InputKind, Job, Matrix, OtherKey, RunsOn, Step, StepAction, Strategy,
    Trigger, Variable, Workflow,
};
pub use outcome::{Conclusion, JobResult, Results};
pub use payload::{expand_payload, payload_inputs};
pub use plan::{Plan, RunState, UnknownJob};
pub use settings::{MINUTES, minutes, minutes_of};
pub use shell::{Shell, UnknownShell};
pub use uses::{BadUses, Uses};
pub use value::{Object, Value, number_text};
