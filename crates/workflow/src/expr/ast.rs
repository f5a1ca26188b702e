//! The tree of an expression.
//!
//! Purpose: what the parser makes and `eval` walks. Owner: a template or condition of the model.
//! Invariants: depth is at most [`MAX_DEPTH`] (chains of `&&`, `||` and of properties are flat), so that
//! recursion over a tree, also to drop it, is safe; every node has its place in the source.

use std::fmt;

use doc::{Source, Span};

use super::{ContextName, function::Function};
use crate::value::number_text;

/// Deepest nesting of an expression; GitHub allows 50, and counts no brackets.
pub(crate) const MAX_DEPTH: usize = 100;

/// Longest text of one expression, in bytes; GitHub allows 21,000 characters.
pub(crate) const MAX_LENGTH: usize = 64 << 10;

/// A checked expression.
#[derive(Clone, Debug)]
pub struct Expr {
    pub(crate) source: Source,
    pub(crate) root: Ast,
}

#[derive(Clone, Debug)]
pub(crate) struct Ast {
    pub(crate) span: Span,
    pub(crate) kind: AstKind,
}

#[derive(Clone, Debug)]
pub(crate) enum AstKind {
    Null,
    Bool(bool),
    Number(f64),
    Text(String),
    Context(ContextName),
    Access { base: Box<Ast>, path: Vec<Accessor> },
    Call { function: Function, args: Vec<Ast> },
    Not(Box<Ast>),
    And(Vec<Ast>),
    Or(Vec<Ast>),
    Compare { op: Comparison, left: Box<Ast>, right: Box<Ast> },
}

#[derive(Clone, Debug)]
pub(crate) enum Accessor {
    Name(String),
    Index(Ast),
    All,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
}

impl Comparison {
    fn symbol(self) -> &'static str {
        match self {
            Comparison::Equal => "==",
            Comparison::NotEqual => "!=",
            Comparison::Less => "<",
            Comparison::LessEqual => "<=",
            Comparison::Greater => ">",
            Comparison::GreaterEqual => ">=",
        }
    }

    /// How tightly it binds; the parser and the printer share it.
    pub(crate) fn power(self) -> u8 {
        match self {
            Comparison::Equal | Comparison::NotEqual => 3,
            _ => 4,
        }
    }
}

impl Expr {
    /// Whether a status function occurs anywhere, so that `if` is not wrapped in `success()`.
    pub fn has_status_function(&self) -> bool {
        self.any(&mut |kind| matches!(kind, AstKind::Call { function, .. } if function.is_status()))
    }

    /// Whether it looks at this context.
    pub fn mentions(&self, context: ContextName) -> bool {
        self.any(&mut |kind| matches!(kind, AstKind::Context(found) if *found == context))
    }

    /// Whether all that it looks at of a context are these properties: not at the context as a whole, nor
    /// at a property whose name is made.
    pub(crate) fn looks_only_at(&self, context: ContextName, known: &dyn Fn(&str) -> bool) -> bool {
        let (mut all, mut good) = (0usize, 0usize);
        self.any(&mut |kind| {
            match kind {
                AstKind::Context(found) if *found == context => all += 1,
                AstKind::Access { base, path }
                    if matches!(&base.kind, AstKind::Context(found) if *found == context) =>
                {
                    let name = match path.first() {
                        Some(Accessor::Name(name)) => Some(name),
                        Some(Accessor::Index(Ast { kind: AstKind::Text(name), .. })) => Some(name),
                        _ => None,
                    };
                    good += usize::from(name.is_some_and(|name| known(name)));
                }
                _ => {}
            }
            false
        });
        all == good
    }

    /// The place of the whole expression.
    pub fn span(&self) -> Span {
        self.root.span
    }

    /// Its whole tree.
    pub(crate) fn root(&self) -> &Ast {
        &self.root
    }

    fn any(&self, test: &mut dyn FnMut(&AstKind) -> bool) -> bool {
        self.root.any(test)
    }
}

impl Ast {
    fn any(&self, test: &mut dyn FnMut(&AstKind) -> bool) -> bool {
        test(&self.kind)
            || match &self.kind {
                AstKind::Access { base, path } => {
                    base.any(test)
                        || path.iter().any(|accessor| match accessor {
                            Accessor::Index(index) => index.any(test),
                            Accessor::Name(_) | Accessor::All => false,
                        })
                }
                AstKind::Call { args: items, .. } | AstKind::And(items) | AstKind::Or(items) => {
                    items.iter().any(|item| item.any(test))
                }
                AstKind::Not(inner) => inner.any(test),
                AstKind::Compare { left, right, .. } => left.any(test) || right.any(test),
                AstKind::Null
                | AstKind::Bool(_)
                | AstKind::Number(_)
                | AstKind::Text(_)
                | AstKind::Context(_) => false,
            }
    }

    /// Each part, the outer before the inner.
    pub(crate) fn walk<'a>(&'a self, see: &mut dyn FnMut(&'a Ast)) {
        see(self);
        match &self.kind {
            AstKind::Access { base, path } => {
                base.walk(see);
                for accessor in path {
                    if let Accessor::Index(index) = accessor {
                        index.walk(see);
                    }
                }
            }
            AstKind::Call { args: items, .. } | AstKind::And(items) | AstKind::Or(items) => {
                items.iter().for_each(|item| item.walk(see));
            }
            AstKind::Not(inner) => inner.walk(see),
            AstKind::Compare { left, right, .. } => {
                left.walk(see);
                right.walk(see);
            }
            AstKind::Null
            | AstKind::Bool(_)
            | AstKind::Number(_)
            | AstKind::Text(_)
            | AstKind::Context(_) => {}
        }
    }

    fn power(&self) -> u8 {
        match &self.kind {
            AstKind::Or(_) => 1,
            AstKind::And(_) => 2,
            AstKind::Compare { op, .. } => op.power(),
            AstKind::Not(_) => 5,
            _ => 6,
        }
    }

    /// Prints `self` in brackets when it binds less tightly than `power`.
    fn print(&self, f: &mut fmt::Formatter<'_>, power: u8) -> fmt::Result {
        if self.power() < power {
            f.write_str("(")?;
            self.print(f, 0)?;
            return f.write_str(")");
        }
        match &self.kind {
            AstKind::Null => f.write_str("null"),
            AstKind::Bool(value) => write!(f, "{value}"),
            // All digits, unlike `number_text`: the printed form has the same value.
            AstKind::Number(number) if number.fract() == 0.0 && number.abs() < 1e15 => write!(f, "{number}"),
            AstKind::Number(number) if number.is_finite() => write!(f, "{number:?}"),
            AstKind::Number(number) => f.write_str(&number_text(*number)),
            AstKind::Text(text) => write!(f, "'{}'", text.replace('\'', "''")),
            AstKind::Context(name) => f.write_str(name.name()),
            AstKind::Access { base, path } => {
                // `1.x` would be read as a number, and brackets around a filter mean something.
                let power =
                    if matches!(base.kind, AstKind::Number(_) | AstKind::Access { .. }) { 7 } else { 6 };
                base.print(f, power)?;
                path.iter().try_for_each(|accessor| match accessor {
                    Accessor::Name(name) => write!(f, ".{name}"),
                    Accessor::All => f.write_str(".*"),
                    Accessor::Index(index) => {
                        f.write_str("[")?;
                        index.print(f, 0)?;
                        f.write_str("]")
                    }
                })
            }
            AstKind::Call { function, args } => {
                write!(f, "{}(", function.name())?;
                separated(f, args, ", ", 0)?;
                f.write_str(")")
            }
            AstKind::Not(inner) => {
                f.write_str("!")?;
                inner.print(f, 5)
            }
            AstKind::And(items) => separated(f, items, " && ", 3),
            AstKind::Or(items) => separated(f, items, " || ", 2),
            AstKind::Compare { op, left, right } => {
                left.print(f, op.power())?;
                write!(f, " {} ", op.symbol())?;
                right.print(f, op.power() + 1)
            }
        }
    }
}

fn separated(f: &mut fmt::Formatter<'_>, items: &[Ast], between: &str, power: u8) -> fmt::Result {
    for (index, item) in items.iter().enumerate() {
        if index > 0 {
            f.write_str(between)?;
        }
        item.print(f, power)?;
    }
    Ok(())
}

/// The expression in a canonical form that parses to the same tree.
impl fmt::Display for Expr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.root.print(f, 0)
    }
}
