//! Expressions: `${{ … }}`.
//!
//! Purpose: text to tree to value, with a place for every fault. Owner: the model holds what was parsed;
//! whoever runs a job evaluates. Invariants
//! - Nothing here does I/O: where an answer lies in the guest (`hashFiles`), evaluation returns
//!   [`Eval::Need`], the caller asks, adds the answer to the [`Contexts`] and evaluates again.
//! - Names are checked when a workflow is parsed: what is evaluated knows its contexts and functions.
//! - Depth, size and result size are capped; no text panics.
//!
//! ```text
//! text ──lexer──▶ tokens ──parser (Site)──▶ Ast ──eval(Contexts)──▶ Value | Need(Query) | EvalError
//! ```

mod ast;
mod contexts;
mod eval;
mod function;
mod lexer;
mod parser;
mod site;
mod template;

#[cfg(test)]
mod tests;

pub use ast::Expr;
pub use contexts::{ContextName, Contexts, Query, Status};
pub use eval::{Eval, EvalError};
pub use site::Site;
pub use template::{Condition, Template};

pub(crate) use template::Host;
