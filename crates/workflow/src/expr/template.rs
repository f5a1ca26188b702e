//! Text with expressions in it, and conditions.
//!
//! Purpose: what stands in the model wherever `${{ … }}` may. Owner: the model.
//! Invariants: parsed once, when the workflow is read; a template that is one expression keeps the
//! expression's kind, any other gives text.

use std::ops::Range;

use doc::{Diagnostic, Locator, Node, Scalar, Source, Span, Style, Typed};

use super::{
    Contexts, Eval, EvalError, Expr, Site,
    ast::AstKind,
    ends::Ends,
    eval::{Budget, MAX_RESULT},
    function::{Fault, Function},
    one, parser, spaces,
};
use crate::rules::Rule;

/// Text that may hold expressions.
#[derive(Clone, Debug)]
pub struct Template {
    text: String,
    source: Source,
    span: Span,
    style: Style,
    /// None of a text without expressions, which most are.
    parts: Vec<Part>,
}

#[derive(Clone, Debug)]
enum Part {
    /// These bytes of the text.
    Text(Range<usize>),
    Expr(Expr),
    /// An expression that is none.
    Faulty,
}

/// A scalar of the document that templates are made from.
#[derive(Clone, Copy)]
pub(crate) struct Host<'a> {
    pub(crate) source: &'a Source,
    pub(crate) span: Span,
    pub(crate) scalar: &'a Scalar,
}

impl<'a> Host<'a> {
    /// The scalar of a node, if it is one.
    pub(crate) fn of(source: &'a Source, node: &'a Node) -> Option<Host<'a>> {
        node.scalar().map(|scalar| Host { source, span: node.span, scalar })
    }

    fn locator(&self) -> Locator {
        Locator::new(self.source, self.span, self.scalar)
    }
}

impl Template {
    /// Parses a scalar; faults go to `faults` and leave the faulty expression out.
    pub(crate) fn parse(host: Host<'_>, site: Site, faults: &mut Vec<Diagnostic>) -> Template {
        let text = host.scalar.text.clone();
        let mut parts = Vec::with_capacity(usize::from(text.starts_with("${{")));
        let mut rest = 0;
        let (mut locator, mut ends) = (None, Ends::of(&text));
        while let Some(open) = text[rest..].find("${{").map(|at| rest + at) {
            if open > rest {
                parts.push(Part::Text(rest..open));
            }
            let locator = locator.get_or_insert_with(|| host.locator());
            let inner = open + 3;
            let Some(length) = ends.after(inner).map(|end| end - inner) else {
                faults.push(unclosed(host.source, locator.locate(open, inner)));
                parts.push(Part::Faulty);
                rest = text.len();
                break;
            };
            match parser::parse(&text[inner..inner + length], inner, locator, host.source, site) {
                Ok(expr) => {
                    faults.extend(spaces::odd(&text[inner..inner + length], inner, locator, host.source));
                    parts.push(Part::Expr(expr));
                }
                Err(found) => {
                    parts.push(Part::Faulty);
                    if let Some(next) = begins_another(&text[inner..], length) {
                        faults.push(unclosed(host.source, locator.locate(open, inner)));
                        rest = inner + next;
                        continue;
                    }
                    faults.extend(found);
                }
            }
            rest = inner + length + 2;
        }
        if rest < text.len() && !parts.is_empty() {
            parts.push(Part::Text(rest..text.len()));
        }
        Template { text, source: host.source.clone(), span: host.span, style: host.scalar.style, parts }
    }

    /// The text as written, expressions unevaluated.
    pub fn raw(&self) -> &str {
        &self.text
    }

    /// The text, if there is no expression in it.
    pub fn literal(&self) -> Option<&str> {
        self.parts.is_empty().then_some(self.text.as_str())
    }

    /// The document that it stands in.
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Where it stands.
    pub fn span(&self) -> Span {
        self.span
    }

    /// From places in its text to those in the document.
    pub(crate) fn locator(&self) -> Locator {
        let scalar = Scalar { text: self.text.clone(), style: self.style, typed: Typed::Text };
        Locator::new(&self.source, self.span, &scalar)
    }

    /// What stands outside of its expressions.
    pub(crate) fn texts(&self) -> impl Iterator<Item = &str> {
        let between = self.parts.iter().filter_map(|part| match part {
            Part::Text(range) => self.text.get(range.clone()),
            Part::Expr(_) | Part::Faulty => None,
        });
        self.literal().filter(|text| !text.is_empty()).into_iter().chain(between)
    }

    /// Its expressions, in order.
    pub fn exprs(&self) -> impl Iterator<Item = &Expr> {
        self.parts.iter().filter_map(|part| match part {
            Part::Expr(expr) => Some(expr),
            Part::Text(_) | Part::Faulty => None,
        })
    }

    /// The expression that all of it is: what else there is makes it a text.
    pub(crate) fn sole(&self) -> Option<&Expr> {
        match self.parts.as_slice() {
            [Part::Expr(expr)] => Some(expr),
            _ => None,
        }
    }

    /// Its expressions as they are written, in the order of [`Template::exprs`].
    pub(crate) fn written(&self) -> Vec<String> {
        let pieces = pieces(&self.text);
        // one that is faulty is missing
        let all = pieces.len() / 2 == self.exprs().count();
        let written = |(at, expr): (usize, &Expr)| match pieces.get(2 * at + 1).filter(|_| all) {
            None => expr.to_string(),
            Some(piece) if piece.contains('\n') => piece.split_whitespace().collect::<Vec<_>>().join(" "),
            Some(piece) => piece.trim().to_owned(),
        };
        self.exprs().enumerate().map(written).collect()
    }

    /// Whether one of its expressions looks at this context.
    pub fn mentions(&self, context: super::ContextName) -> bool {
        self.exprs().any(|expr| expr.mentions(context))
    }

    /// The value: that of the expression if there is nothing else, text otherwise.
    ///
    /// # Errors
    /// As [`Expr::eval`].
    pub fn eval(&self, contexts: &Contexts) -> Result<Eval, EvalError> {
        if let Some(expr) = self.sole() {
            return expr.eval(contexts);
        }
        let mut out = String::new();
        let budget = Budget::default();
        let literal = self.literal().map(|text| Part::Text(0..text.len()));
        for part in literal.iter().chain(&self.parts) {
            match part {
                Part::Text(range) => out.push_str(self.text.get(range.clone()).unwrap_or_default()),
                Part::Expr(expr) => match expr.eval_within(contexts, &budget)? {
                    Eval::Value(value) => out.push_str(&value.to_text()),
                    Eval::Need(query) => return Ok(Eval::Need(query)),
                },
                // nothing that runs holds one
                Part::Faulty => {}
            }
            if out.len() > MAX_RESULT {
                return Err(EvalError {
                    kind: Fault::TooLarge { limit: MAX_RESULT },
                    source_text: self.source.clone(),
                    span: self.span,
                });
            }
        }
        Ok(Eval::Value(out.into()))
    }

    /// The value as text.
    ///
    /// # Errors
    /// As [`Expr::eval`].
    pub fn eval_text(&self, contexts: &Contexts) -> Result<Eval<String>, EvalError> {
        Ok(self.eval(contexts)?.map(|value| value.to_text().as_ref().to_owned()))
    }
}

fn unclosed(source: &Source, span: Span) -> Diagnostic {
    Diagnostic::error("`${{` is not closed")
        .at(source, span)
        .label("it begins here")
        .help("close it with `}}`")
}

/// Where the next expression begins, if it is the end of that one that a faulty expression was taken to end with. Of
/// one that was put into another there is one more end behind it. What is longer was not meant so, and is not looked
/// through once for each of its expressions.
fn begins_another(text: &str, length: usize) -> Option<usize> {
    const LONGEST: usize = 4096;
    let next = text[..length].find("${{").filter(|_| length <= LONGEST)?;
    let behind = &text.as_bytes()[length + 2..];
    let mark = behind.windows(3).take(LONGEST).find(|bytes| bytes.starts_with(b"}}") || bytes == b"${{");
    let one_more = match mark {
        Some(mark) => mark.starts_with(b"}}"),
        // two bytes at the end are no window
        None => behind.len() <= LONGEST && behind.ends_with(b"}}"),
    };
    (!one_more).then_some(next)
}

/// An `if`: whether a job or step runs.
#[derive(Clone, Debug)]
pub struct Condition {
    test: Test,
    /// Whether `success()` has to hold as well, because no status function is in it.
    implied: bool,
}

#[derive(Clone, Debug)]
enum Test {
    /// There is no `if`, or an empty one.
    Absent,
    Expr(Expr),
    /// Text around an expression: text is true.
    Text(Template),
}

impl Default for Condition {
    fn default() -> Condition {
        Condition { test: Test::Absent, implied: true }
    }
}

impl Condition {
    /// Parses an `if`, with or without `${{ }}`.
    pub(crate) fn parse(host: Host<'_>, site: Site, faults: &mut Vec<Diagnostic>) -> Condition {
        let text = host.scalar.text.as_str();
        let trimmed = text.trim();
        if trimmed.is_empty() {
            return Condition::default();
        }
        if !trimmed.contains("${{") {
            let locator = host.locator();
            return match parser::parse(text, 0, &locator, host.source, site) {
                Ok(expr) => {
                    faults.extend(spaces::odd(text, 0, &locator, host.source));
                    warn(&expr, site, faults);
                    Condition { implied: !expr.has_status_function(), test: Test::Expr(expr) }
                }
                Err(found) => {
                    faults.extend(found);
                    Condition::default()
                }
            };
        }
        let before = faults.len();
        let template = Template::parse(host, site, faults);
        // white space is text as well, also the line feed at the end of a block: so do both servers
        if let [Part::Expr(expr)] = template.parts.as_slice() {
            let expr = expr.clone();
            warn(&expr, site, faults);
            return Condition { implied: !expr.has_status_function(), test: Test::Expr(expr) };
        }
        if faults.len() == before {
            let blank = template.texts().all(|text| text.trim().is_empty());
            let what = if blank && template.exprs().count() == 1 { "white space" } else { "text" };
            faults.push(
                Rule::IfAlwaysTrue
                    .warning(format!("this `if` is always true: {what} stands around the expression"))
                    .at(host.source, host.span)
                    .label("text that is not empty is true")
                    .help(one::help(trimmed, site)),
            );
        }
        let implied = !template.exprs().any(Expr::has_status_function);
        Condition { test: Test::Text(template), implied }
    }

    /// Whether it holds.
    ///
    /// # Errors
    /// As [`Expr::eval`].
    pub fn eval(&self, contexts: &Contexts) -> Result<Eval<bool>, EvalError> {
        if self.implied && !contexts.status().success {
            return Ok(Eval::Value(false));
        }
        Ok(match &self.test {
            Test::Absent => Eval::Value(true),
            Test::Expr(expr) => expr.eval(contexts)?.map(|value| value.truthy()),
            Test::Text(template) => template.eval(contexts)?.map(|value| value.truthy()),
        })
    }

    /// Whether it looks at this context.
    pub fn mentions(&self, context: super::ContextName) -> bool {
        self.exprs().any(|expr| expr.mentions(context))
    }

    /// See [`Expr::looks_only_at`].
    pub(crate) fn looks_only_at(&self, context: super::ContextName, known: &dyn Fn(&str) -> bool) -> bool {
        self.exprs().all(|expr| expr.looks_only_at(context, known))
    }

    /// The expression that all of it is.
    pub(crate) fn whole(&self) -> Option<&Expr> {
        match &self.test {
            Test::Expr(expr) => Some(expr),
            Test::Absent | Test::Text(_) => None,
        }
    }

    pub(crate) fn exprs(&self) -> impl Iterator<Item = &Expr> {
        let (expr, template) = match &self.test {
            Test::Absent => (None, None),
            Test::Expr(expr) => (Some(expr), None),
            Test::Text(template) => (None, Some(template)),
        };
        expr.into_iter().chain(template.into_iter().flat_map(Template::exprs))
    }

    /// Whether a status function is in it, so that it can hold after a failure or a cancel.
    pub fn has_status_function(&self) -> bool {
        !self.implied
    }
}

/// What of a condition means something else elsewhere.
fn warn(expr: &Expr, site: Site, faults: &mut Vec<Diagnostic>) {
    if site == Site::JobIf {
        faults.extend(too_early(expr, site));
        faults.extend(of_needs(expr));
    }
}

/// `failure('build')` in a job's `if`: GitHub's grammar has it there, Forgejo looks at all needs.
fn of_needs(expr: &Expr) -> Option<Diagnostic> {
    let mut found = None;
    expr.root().walk(&mut |part| {
        if let AstKind::Call { function: function @ (Function::Success | Function::Failure), args } =
            &part.kind
            && !args.is_empty()
        {
            found.get_or_insert((part.span, *function, args));
        }
    });
    let (span, function, args) = found?;
    let name = function.name();
    let asked: Option<Vec<_>> = args
        .iter()
        .map(|arg| match &arg.kind {
            AstKind::Text(need) => Some(format!("needs.{need}.result == '{name}'")),
            _ => None,
        })
        .collect();
    let warning = Rule::IgnoredByForgejo
        .warning(format!("Forgejo reads over what `{name}` is given"))
        .at(&expr.source, span)
        .label("here it looks at all jobs that this one needs");
    let alone = span == expr.span();
    Some(match asked {
        Some(asked) if asked.len() == 1 && alone => {
            warning.help(format!("write `always() && {}`", asked.join("")))
        }
        Some(asked) => {
            let operator = if function == Function::Success { " && " } else { " || " };
            let asked = asked.join(operator);
            warning.help(match alone {
                true => format!("write `always() && ({asked})`"),
                // brackets around the rest: an `||` in it binds less than the `&&` in front
                false => format!("write `({asked})` in its place, and the whole as `always() && (…)`"),
            })
        }
        None => warning.help("look at `needs.NAME.result`, with `always() &&` in front"),
    })
}

/// A job's `if` that looks at the matrix: neither Forgejo nor GitHub has that there.
fn too_early(expr: &Expr, site: Site) -> Option<Diagnostic> {
    let early = [super::ContextName::Matrix, super::ContextName::Strategy];
    let context = early.into_iter().find(|context| site == Site::JobIf && expr.mentions(*context))?;
    let fault = Rule::MatrixInJobIf
        .warning(format!("a server refuses `{}` in a job's `if`", context.name()))
        .at(&expr.source, expr.span())
        .label("there it is looked at before there is a matrix")
        .help("use `exclude`, or the `if` of the steps");
    Some(fault)
}

/// The expression that a text begins with, as it is written, and what follows it.
pub(super) fn expression(text: &str) -> Option<(&str, &str)> {
    let inner = text.strip_prefix("${{")?;
    let length = Ends::of(inner).after(0)?;
    Some((&inner[..length], &inner[length + 2..]))
}

/// Text, an expression, text, an expression and so on.
fn pieces(text: &str) -> Vec<&str> {
    let (mut pieces, mut ends, mut rest) = (Vec::new(), Ends::of(text), 0);
    while let Some(open) = text[rest..].find("${{").map(|at| rest + at) {
        let Some(end) = ends.after(open + 3) else { break };
        pieces.extend([&text[rest..open], &text[open + 3..end]]);
        rest = end + 2;
    }
    pieces.push(&text[rest..]);
    pieces
}

impl Template {
    /// A template of plain text, for values that come from elsewhere than a document.
    pub fn of_text(text: impl Into<String>) -> Template {
        Template {
            text: text.into(),
            source: Source::new("", ""),
            span: Span::default(),
            style: Style::Plain,
            parts: Vec::new(),
        }
    }

    /// The expression, if the template is nothing else.
    pub fn single(&self) -> Option<&Expr> {
        match self.parts.as_slice() {
            [Part::Expr(expr)] => Some(expr),
            _ => None,
        }
    }
}
