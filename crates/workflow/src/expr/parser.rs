//! Tokens into a tree, names checked.
//!
//! Purpose: precedence (`!` before `< <= > >=` before `== !=` before `&&` before `||`), contexts and
//! functions by the table of the site. Owner: templates and conditions. Invariants: the tree is never
//! deeper than [`MAX_DEPTH`]; the first fault of the grammar ends it, faults of names are all reported.

mod meant;

use std::ops::Range;

use doc::{Diagnostic, Locator, Source, Span, did_you_mean};

use super::{
    ContextName, Expr, Site,
    ast::{Accessor, Ast, AstKind, Comparison, MAX_DEPTH, MAX_LENGTH},
    function::Function,
    lexer::{self, Token},
};

/// Parses `text`, which stands at `offset` of the scalar that `locator` maps.
///
/// # Errors
/// Everything that is wrong with it, at least one diagnostic.
pub(crate) fn parse(
    text: &str,
    offset: usize,
    locator: &Locator,
    source: &Source,
    site: Site,
) -> Result<Expr, Vec<Diagnostic>> {
    let place = |range: Range<usize>| locator.locate(offset + range.start, offset + range.end);
    if text.len() > MAX_LENGTH {
        return Err(vec![
            Diagnostic::error(format!("an expression of {} bytes, at most {MAX_LENGTH}", text.len()))
                .at(source, place(0..1))
                .label("it begins here"),
        ]);
    }
    let tokens = lexer::tokens(text).map_err(|error| {
        let mut diagnostic = Diagnostic::error(error.message).at(source, place(error.at)).label(error.label);
        diagnostic.help.extend(error.help);
        vec![diagnostic]
    })?;
    let end = text.trim_end().len();
    let mut parser = Parser {
        text,
        offset,
        tokens,
        at: 0,
        place: &place,
        end,
        source,
        site,
        depth: 0,
        comparisons: 0,
        faults: Vec::new(),
    };
    if parser.tokens.is_empty() {
        return Err(vec![
            Diagnostic::error("an expression is missing")
                .at(source, place(0..text.len().max(1)))
                .label("nothing stands here"),
        ]);
    }
    match parser.binary(0) {
        Ok(root) => {
            if let Some((token, range)) = parser.next() {
                let fault = parser.unexpected(token, range, "an operator or the end");
                parser.faults.push(fault);
            }
            if parser.faults.is_empty() {
                Ok(Expr { source: source.clone(), root })
            } else {
                Err(parser.faults)
            }
        }
        Err(fault) => {
            parser.faults.push(*fault);
            Err(parser.faults)
        }
    }
}

/// Most comparisons in one expression; a chain of them is as deep as it is long.
const MAX_COMPARISONS: usize = 500;

type Parsed<T> = Result<T, Box<Diagnostic>>;

struct Parser<'a> {
    text: &'a str,
    /// Where the text begins in its scalar.
    offset: usize,
    tokens: Vec<(Token<'a>, Range<usize>)>,
    at: usize,
    place: &'a dyn Fn(Range<usize>) -> Span,
    end: usize,
    source: &'a Source,
    site: Site,
    depth: usize,
    comparisons: usize,
    faults: Vec<Diagnostic>,
}

impl<'a> Parser<'a> {
    fn peek(&self) -> Option<Token<'a>> {
        self.tokens.get(self.at).map(|(token, _)| *token)
    }

    fn next(&self) -> Option<(Token<'a>, Range<usize>)> {
        self.tokens.get(self.at).cloned()
    }

    fn eat(&mut self, token: Token<'_>) -> bool {
        let found = self.peek() == Some(token);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, token: Token<'_>) -> Parsed<Range<usize>> {
        match self.next() {
            Some((found, range)) if found == token => {
                self.at += 1;
                Ok(range)
            }
            Some((found, range)) => Err(Box::new(self.unexpected(found, range, &token.describe()))),
            None => Err(self.ended(&token.describe())),
        }
    }

    fn span(&self, range: Range<usize>) -> Span {
        (self.place)(range)
    }

    fn error(&self, message: impl Into<String>, span: Span) -> Diagnostic {
        Diagnostic::error(message).at(self.source, span)
    }

    fn unexpected(&self, token: Token<'_>, range: Range<usize>, wanted: &str) -> Diagnostic {
        let help = self.instead_of(token, range.start);
        let mut fault = self
            .error(format!("{} is unexpected in this expression", token.describe()), self.span(range))
            .label(format!("expected {wanted}"));
        fault.help.extend(help);
        fault
    }

    fn ended(&self, wanted: &str) -> Box<Diagnostic> {
        let at = self.end.saturating_sub(1)..self.end;
        Box::new(
            self.error("the expression ends too early", self.span(at))
                .label(format!("expected {wanted} after this")),
        )
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth <= MAX_DEPTH {
            return Ok(());
        }
        let at = self.tokens.get(self.at).map_or(self.end..self.end, |(_, range)| range.clone());
        Err(Box::new(
            self.error(format!("the expression is nested deeper than {MAX_DEPTH} levels"), self.span(at))
                .label("here")
                .help("split it over several steps or variables"),
        ))
    }

    /// A chain of comparisons grows to the left, without brackets: it has a budget of its own.
    fn chain(&mut self) -> Parsed<()> {
        self.comparisons += 1;
        if self.comparisons <= MAX_COMPARISONS {
            return Ok(());
        }
        let span = self.span(0..self.end);
        Err(Box::new(
            self.error(format!("more than {MAX_COMPARISONS} comparisons in one expression"), span)
                .label("here")
                .help("use `contains(fromJSON('[…]'), value)`"),
        ))
    }

    /// Operators that bind tighter than `power`, on a first operand.
    fn binary(&mut self, power: u8) -> Parsed<Ast> {
        self.deeper()?;
        let mut left = self.unary()?;
        while let Some((operator, binds)) = self.peek().and_then(operator) {
            if binds <= power {
                break;
            }
            self.at += 1;
            let right = self.binary(binds)?;
            let span = left.span.to(right.span);
            let kind = match operator {
                Operator::And => AstKind::And(join(left, right, |kind| match kind {
                    AstKind::And(items) => Ok(items),
                    other => Err(other),
                })),
                Operator::Or => AstKind::Or(join(left, right, |kind| match kind {
                    AstKind::Or(items) => Ok(items),
                    other => Err(other),
                })),
                Operator::Compare(op) => {
                    self.chain()?;
                    AstKind::Compare { op, left: Box::new(left), right: Box::new(right) }
                }
            };
            left = Ast { span, kind };
        }
        self.depth -= 1;
        Ok(left)
    }

    fn unary(&mut self) -> Parsed<Ast> {
        let Some((Token::Not, range)) = self.next() else { return self.postfix() };
        self.at += 1;
        self.deeper()?;
        let inner = self.unary()?;
        self.depth -= 1;
        Ok(Ast { span: self.span(range).to(inner.span), kind: AstKind::Not(Box::new(inner)) })
    }

    fn postfix(&mut self) -> Parsed<Ast> {
        let base = self.primary()?;
        // `.name` as often as it follows: a large file has many such paths, most of them short
        let pairs = self.tokens.get(self.at..).unwrap_or_default().chunks_exact(2);
        let names = pairs.take_while(|pair| matches!(pair, [(Token::Dot, _), (Token::Name(_), _)])).count();
        let mut path = Vec::with_capacity(names);
        let mut span = base.span;
        loop {
            if self.eat(Token::Dot) {
                let Some((token, range)) = self.next() else {
                    return Err(self.ended("a property"));
                };
                span = span.to(self.span(range.clone()));
                path.push(match token {
                    Token::Name(name) => Accessor::Name(name.to_owned()),
                    Token::Star => Accessor::All,
                    token => return Err(Box::new(self.unexpected(token, range, "a property"))),
                });
                self.at += 1;
            } else if self.eat(Token::OpenIndex) {
                if self.eat(Token::Star) {
                    path.push(Accessor::All);
                } else {
                    path.push(Accessor::Index(self.binary(0)?));
                }
                span = span.to(self.expect(Token::CloseIndex).map(|range| self.span(range))?);
            } else {
                break;
            }
        }
        Ok(if path.is_empty() {
            base
        } else {
            Ast { span, kind: AstKind::Access { base: Box::new(base), path } }
        })
    }

    fn primary(&mut self) -> Parsed<Ast> {
        const WANTED: &str = "a value, a context or a function";
        let Some((token, range)) = self.next() else { return Err(self.ended(WANTED)) };
        let span = self.span(range.clone());
        self.at += 1;
        let kind = match token {
            Token::Null => AstKind::Null,
            Token::Bool(value) => AstKind::Bool(value),
            Token::Number(number) => AstKind::Number(number),
            Token::Text(text) => AstKind::Text(lexer::text(text)),
            Token::Name(name) if self.eat(Token::Open) => return self.call(name, span),
            Token::Name(name) => self.context(name, span),
            Token::Open => {
                let inner = self.binary(0)?;
                let end = self.expect(Token::Close)?;
                return Ok(Ast { span: span.to(self.span(end)), kind: inner.kind });
            }
            token => return Err(Box::new(self.unexpected(token, range, WANTED))),
        };
        Ok(Ast { span, kind })
    }

    fn call(&mut self, name: &str, span: Span) -> Parsed<Ast> {
        let mut args = Vec::new();
        let close = if self.peek() == Some(Token::Close) {
            self.expect(Token::Close)?
        } else {
            loop {
                args.push(self.binary(0)?);
                if !self.eat(Token::Comma) {
                    break self.expect(Token::Close)?;
                }
            }
        };
        let whole = span.to(self.span(close));
        let Some((function, fewest, most)) = Function::parse(name) else {
            let fault = self.unknown_function(name, span);
            self.faults.push(fault);
            return Ok(Ast { span: whole, kind: AstKind::Null });
        };
        let count = args.len();
        // `failure('build')` is GitHub's: the condition warns
        let of_needs = self.site == Site::JobIf && matches!(function, Function::Success | Function::Failure);
        if count < fewest || count > most && !of_needs || (function == Function::Case && count % 2 == 0) {
            let wanted = match (function, fewest, most) {
                (Function::Case, ..) => "pairs of condition and value, and a last value".to_owned(),
                (_, 0, 0) => "no arguments".to_owned(),
                (_, 1, 1) => "1 argument".to_owned(),
                (_, few, many) if few == many => format!("{few} arguments"),
                (_, few, 255) => format!("{few} or more arguments"),
                (_, few, many) => format!("{few} to {many} arguments"),
            };
            self.faults.push(
                self.error(format!("`{}` takes {wanted}", function.name()), whole)
                    .label(format!("{count} here")),
            );
        }
        if !self.site.allows(function) {
            let place = if function.is_status() { "`if`" } else { "a step" };
            self.faults.push(
                self.error(format!("`{}` is not available in {}", function.name(), self.site.name()), whole)
                    .label(format!("only in {place}")),
            );
        }
        Ok(Ast { span: whole, kind: AstKind::Call { function, args } })
    }

    fn unknown_function(&self, name: &str, span: Span) -> Diagnostic {
        let fault = self.error(format!("there is no function `{name}`"), span).label("unknown function");
        if let Some(help) = self.instead_of_call(name) {
            return fault.help(help);
        }
        match did_you_mean(name, Function::TABLE.iter().map(|row| row.0)) {
            Some(near) => fault.help(format!("did you mean `{near}`?")),
            None => {
                let names: Vec<_> = Function::TABLE.iter().map(|row| row.0).collect();
                fault.note(format!("there are {}", names.join(", ")))
            }
        }
    }

    fn context(&mut self, name: &str, span: Span) -> AstKind {
        let allowed = self.site.contexts();
        let names = || {
            ContextName::NAMES.iter().filter(|(_, context)| allowed.contains(context)).map(|(name, _)| *name)
        };
        match ContextName::parse(name) {
            Some(context) if allowed.contains(&context) => return AstKind::Context(context),
            Some(context) => {
                let here: Vec<_> = allowed.iter().map(|context| context.name()).collect();
                let fault = self
                    .error(format!("`{}` is not available in {}", context.name(), self.site.name()), span)
                    .label("not available here")
                    .note(format!("here are {}", here.join(", ")));
                self.faults.push(match context {
                    ContextName::Env if allowed.contains(&ContextName::Vars) => {
                        fault.help("a variable of the repository is there: `vars.NAME`")
                    }
                    _ => fault,
                });
            }
            None => {
                let fault =
                    self.error(format!("there is no context `{name}`"), span).label("unknown context");
                let fault = if let Some((function, fewest, _)) = Function::parse(name) {
                    fault.help(self.instead_of_function(name, function, fewest))
                } else if let Some(help) = meant::word(name) {
                    fault.help(help)
                } else {
                    let variable = |c: char| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_';
                    match did_you_mean(name, names()) {
                        Some(near) => fault.help(format!("did you mean `{near}`?")),
                        None if name.len() > 1 && name.chars().all(variable) => {
                            let contexts = ["env", "vars", "secrets"].into_iter();
                            let there = contexts.filter(|context| names().any(|name| name == *context));
                            let written: Vec<_> =
                                there.map(|context| format!("`{context}.{name}`")).collect();
                            fault.help(match written.is_empty() {
                                true => format!("if it is text, put it in single quotes: `'{name}'`"),
                                false => {
                                    format!("if it is a variable or a secret, write {}", written.join(" or "))
                                }
                            })
                        }
                        None => fault.help(format!("if it is text, put it in single quotes: `'{name}'`")),
                    }
                };
                self.faults.push(fault);
            }
        }
        AstKind::Null
    }
}

enum Operator {
    And,
    Or,
    Compare(Comparison),
}

fn operator(token: Token<'_>) -> Option<(Operator, u8)> {
    let comparison = match token {
        Token::Or => return Some((Operator::Or, 1)),
        Token::And => return Some((Operator::And, 2)),
        Token::Equal => Comparison::Equal,
        Token::NotEqual => Comparison::NotEqual,
        Token::Less => Comparison::Less,
        Token::LessEqual => Comparison::LessEqual,
        Token::Greater => Comparison::Greater,
        Token::GreaterEqual => Comparison::GreaterEqual,
        _ => return None,
    };
    Some((Operator::Compare(comparison), comparison.power()))
}

/// One flat list for `a && b && c`, so that a long chain is not a deep tree.
fn join(left: Ast, right: Ast, items: fn(AstKind) -> Result<Vec<Ast>, AstKind>) -> Vec<Ast> {
    let mut all = match items(left.kind) {
        Ok(items) => items,
        Err(kind) => {
            let mut items = Vec::with_capacity(2);
            items.push(Ast { span: left.span, kind });
            items
        }
    };
    all.push(right);
    all
}
