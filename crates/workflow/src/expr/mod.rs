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
mod ends;
mod eval;
mod function;
mod json;
mod lexer;
mod one;
mod parser;
mod site;
mod spaces;
mod template;

use doc::{Diagnostic, Locator, Scalar, Source, Span, Style, Typed};

pub use ast::Expr;
pub use contexts::{ContextName, Contexts, Query, Status};
pub use eval::{Eval, EvalError};
pub use function::Fault;
pub use site::Site;
pub use template::{Condition, Template};

pub(crate) use template::Host;

/// The parts of a tree, for those who look into expressions.
pub(crate) mod tree {
    pub(crate) use super::{
        ast::{Accessor, Ast, AstKind, Comparison},
        function::{Function, format, from_json},
    };
}

/// The `if` that a text in quotes was meant to be, if it is an expression.
pub(crate) fn unquoted(text: &str, site: Site) -> Option<String> {
    one::one(text, site)
}

/// Parses an expression that stands alone, without `${{ }}`.
///
/// # Errors
/// Everything that is wrong with it, at least one diagnostic.
pub fn parse_expr(text: &str, site: Site) -> Result<Expr, Vec<Diagnostic>> {
    let source = Source::new("expression", text);
    let scalar = Scalar { text: text.to_owned(), style: Style::Plain, typed: Typed::Text };
    let locator = Locator::new(&source, Span::new(0, text.len()), &scalar);
    parser::parse(text, 0, &locator, &source, site)
}

/// Parses text as it stands in a workflow, with expressions in `${{ }}`.
///
/// # Errors
/// Everything that is wrong with it, at least one diagnostic.
pub fn parse_template(text: &str, site: Site) -> Result<Template, Vec<Diagnostic>> {
    let source = Source::new("expression", text);
    let scalar = Scalar { text: text.to_owned(), style: Style::Plain, typed: Typed::Text };
    let host = Host { source: &source, span: Span::new(0, text.len()), scalar: &scalar };
    let mut faults = Vec::new();
    let template = Template::parse(host, site, &mut faults);
    if faults.is_empty() { Ok(template) } else { Err(faults) }
}
