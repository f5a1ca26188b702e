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
//!                                                                                     │ a job with `uses`
//!  Resolver ◀──Plan::with_calls── Workflow                       Plan, Contexts ◀──ExpandedCall
//! ```

mod call;
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
pub mod matcher;
mod matrix;
mod model;
mod outcome;
mod payload;
mod plan;
mod reuse;
pub mod rules;
pub mod schema;
mod settings;
mod shape;
mod shell;
pub mod support;
mod uses;
mod value;

pub use call::ExpandedCall;
pub use expand::{ExpandedJob, Expansion, FailFast, MatrixFilter, OnError, Surroundings, Verdict};
pub use expr::{
    Condition, ContextName, Contexts, Eval, EvalError, Expr, Fault, Query, Site, Status, Template,
    parse_expr, parse_template,
};
pub use files::{FileUse, commands_here};
pub use filter::{
    Admission, Cron, FilterKey, Filters, Matched, Pattern, PatternList, RefFacts, Schedule, Words,
};
pub use foresee::Prospect;
pub use lower::{Parsed, ParsedAction, parse, parse_action, parse_only, parse_payload};
pub use model::{
    Access, Action, ActionInput, ActionOutput, Branding, Call, CallOutput, CallSecret, CallSecrets,
    Concurrency, Container, Credentials, Data, DataKind, Defaults, Environment, Hook, Image, Input,
    InputKind, Job, MachineImage, Matrix, OrExpr, Permission, Permissions, Queue, Runs, RunsOn, Service,
    Step, StepAction, Strategy, Trigger, Using, Variable, Variables, Workflow,
};
pub use outcome::{Conclusion, JobResult, Results};
pub use payload::{expand_payload, payload_inputs};
pub use plan::{Machines, Plan, RunState, UnknownJob};
pub use reuse::{Resolved, Resolver};
pub use settings::{MINUTES, minutes, minutes_of};
pub use shell::{Shell, UnknownShell};
pub use uses::{BadUses, Uses, WorkflowRef};
pub use value::{Object, Value, number_text};
