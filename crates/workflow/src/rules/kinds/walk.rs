//! One expression: the kinds of all its parts, the inner before the outer.
//!
//! Purpose: tells an object that is taken for a text, and a property of what has none. Owner: [`super::Contexts`] for the
//! values of a matrix, [`crate::rules::property`] for all else.
//! Invariants: each part is looked at once; what is told of a part makes it null, so that nothing more is told of it.

use std::{collections::HashSet, sync::Arc};

use doc::{Diagnostic, Source, Span, did_you_mean};

use super::{
    Contexts, Kinds,
    shape::{Found, Shape},
};
use crate::{
    ContextName,
    expr::tree::{Accessor, Ast, AstKind, Function, from_json},
    rules::{MAX_DIAGNOSTICS, Rule},
    value::parse_number,
};

/// Whether a text is one that people give, and not one of the server's.
fn can_be_json(base: &Ast, path: &[Accessor]) -> bool {
    use ContextName::{Env, Inputs, Jobs, Matrix, Needs, Secrets, Steps, Vars};
    let has = |wanted: &str| path.iter().filter_map(name).any(|name| name.eq_ignore_ascii_case(wanted));
    match base.kind {
        AstKind::Context(Env | Inputs | Matrix | Secrets | Vars) => true,
        AstKind::Context(Jobs | Needs | Steps) => has("outputs"),
        AstKind::Context(ContextName::Github) => has("inputs"),
        _ => false,
    }
}

/// What is known of a part.
#[derive(Clone, Debug)]
pub(in crate::rules) struct Known {
    pub(super) kinds: Kinds,
    /// What is in it, if that is known.
    pub(super) shape: Option<Arc<Shape>>,
    /// Whether it is the list of a `.*`, over which the next property is mapped.
    filtered: bool,
}

impl From<Kinds> for Known {
    fn from(kinds: Kinds) -> Known {
        Known { kinds, shape: None, filtered: false }
    }
}

impl From<Arc<Shape>> for Known {
    fn from(shape: Arc<Shape>) -> Known {
        Known { kinds: shape.kinds, shape: Some(shape), filtered: false }
    }
}

/// A walk over an expression.
pub(in crate::rules) struct Walk<'a> {
    pub(super) source: &'a Source,
    contexts: &'a Contexts,
    /// Parts that are known to be always empty, which was told.
    pub(in crate::rules) empty: HashSet<Span>,
    pub(in crate::rules) found: Vec<Diagnostic>,
}

impl<'a> Walk<'a> {
    pub(in crate::rules) fn new(source: &'a Source, contexts: &'a Contexts) -> Walk<'a> {
        Walk { source, contexts, empty: HashSet::new(), found: Vec::new() }
    }

    /// Looks at a part and at all that is in it.
    pub(in crate::rules) fn see(&mut self, ast: &Ast) -> Known {
        match &ast.kind {
            AstKind::Null => Kinds::NULL.into(),
            AstKind::Bool(_) => Kinds::BOOL.into(),
            AstKind::Number(_) => Kinds::NUMBER.into(),
            AstKind::Text(_) => Kinds::TEXT.into(),
            AstKind::Context(context) => self.contexts.shape(*context).into(),
            AstKind::Access { base, path } => self.access(ast, base, path),
            AstKind::Call { function, args } => self.call(*function, args),
            AstKind::Not(inner) => {
                self.see(inner);
                Kinds::BOOL.into()
            }
            // an object is true and null is not, so that the one never ends `&&` and the other never `||`
            AstKind::And(items) => self.first(items, Kinds::SCALAR, Kinds::NULL),
            AstKind::Or(items) => self.first(items, Kinds::ALL.without(Kinds::NULL), Kinds::CONTAINER),
            AstKind::Compare { op, left, right } => {
                let (of_left, of_right) = (self.see(left), self.see(right));
                if self.found.len() <= MAX_DIAGNOSTICS {
                    self.found.extend(super::compare::constant(
                        ast,
                        *op,
                        (left, &of_left),
                        (right, &of_right),
                        self.source,
                    ));
                }
                Kinds::BOOL.into()
            }
        }
    }

    /// Of `&&` and `||`: an operand in front of another is the result only as one of `kept`, and always as one of `ends`.
    fn first(&mut self, items: &[Ast], kept: Kinds, ends: Kinds) -> Known {
        let (mut kinds, mut reached) = (Kinds::NONE, true);
        for (at, item) in items.iter().enumerate() {
            let known = self.see(item);
            if !reached {
                continue;
            }
            if at + 1 < items.len() {
                kinds = kinds.or(known.kinds.and(kept));
                reached = !known.kinds.within(ends);
            } else if kinds == Kinds::NONE {
                return known;
            } else {
                kinds = kinds.or(known.kinds);
            }
        }
        kinds.into()
    }

    fn access(&mut self, ast: &Ast, base: &Ast, path: &[Accessor]) -> Known {
        let mut known = self.see(base);
        let mut told = self.empty.contains(&ast.span);
        for (at, accessor) in path.iter().enumerate() {
            if let Accessor::Index(index) = accessor {
                self.see(index);
            }
            match step(&known, accessor) {
                Ok(next) => known = next,
                Err(why) => {
                    if !told {
                        told = true;
                        self.missing(ast, base, path, at, &known, why);
                    }
                    known = Kinds::NULL.into();
                }
            }
        }
        if told { Kinds::NULL.into() } else { known }
    }

    /// Tells of a property that nothing has.
    fn missing(&mut self, ast: &Ast, base: &Ast, path: &[Accessor], at: usize, known: &Known, why: Missing) {
        if self.found.len() > MAX_DIAGNOSTICS {
            return;
        }
        let place = place(self.source, ast, base, &path[..=at]);
        let name = path.get(at).and_then(name);
        let owner = place.map(|place| self.source.slice(Span::new(ast.span.start, place.start)));
        let owner =
            owner.map(|owner| owner.trim_end_matches(['.', '[', ' '])).filter(|owner| is_short(owner));
        let said = owner.map_or("this".to_owned(), |owner| format!("`{owner}`"));
        let kind = known.kinds.phrase();
        let message = match (why, name) {
            (Missing::NotThere, Some(name)) => format!("{said} has no `{name}`"),
            (Missing::NotThere, None) => format!("{said} has no such property"),
            (Missing::NoProperties, Some(name)) => format!("{said} is {kind} and has no `{name}`"),
            (Missing::NoProperties, None) => format!("{said} is {kind} and has no items"),
        };
        let fault = Rule::UnknownProperty.warning(message).at(self.source, place.unwrap_or(ast.span));
        let fault = fault.label("this is always empty");
        let help = match (why, name) {
            (Missing::NotThere, _) => {
                self.found.push(near(fault, name, known));
                return;
            }
            (Missing::NoProperties, Some(name)) if known.kinds.has(Kinds::LIST) => {
                format!("write `.*.{name}` for that of all items, or `[0].{name}`")
            }
            // what people put JSON into
            (Missing::NoProperties, _) if known.kinds.has(Kinds::TEXT) && can_be_json(base, path) => {
                format!("write {said} alone, or `fromJSON({})` if it holds JSON", owner.unwrap_or("…"))
            }
            (Missing::NoProperties, _) => format!("write {said} alone"),
        };
        self.found.push(fault.help(help));
    }

    fn call(&mut self, function: Function, args: &[Ast]) -> Known {
        let known: Vec<Known> = args.iter().map(|arg| self.see(arg)).collect();
        let kinds = |at: usize| known.get(at).map_or(Kinds::NONE, |known| known.kinds);
        match function {
            Function::Contains => {
                // an item of a list can be an object
                let of_item = !kinds(0).has(Kinds::LIST) && kinds(1).is_container();
                let wrong = if kinds(0) == Kinds::OBJECT { Some(0) } else { of_item.then_some(1) };
                self.always(function, args, &known, wrong, "false");
                Kinds::BOOL.into()
            }
            Function::StartsWith | Function::EndsWith => {
                let wrong = known.iter().position(|known| known.kinds.is_container());
                self.always(function, args, &known, wrong, "false");
                Kinds::BOOL.into()
            }
            Function::Success | Function::Failure | Function::Always | Function::Cancelled => {
                Kinds::BOOL.into()
            }
            Function::Join => {
                let wrong = (kinds(0) == Kinds::OBJECT).then_some(0);
                self.always(function, args, &known, wrong, "empty");
                Kinds::TEXT.into()
            }
            Function::Format | Function::HashFiles => {
                for (arg, known) in args.iter().zip(&known) {
                    self.as_text(arg, known);
                }
                Kinds::TEXT.into()
            }
            Function::ToJson => Kinds::TEXT.into(),
            Function::FromJson => match args {
                [Ast { kind: AstKind::Text(text), .. }] => match from_json(&text.as_str().into()) {
                    Ok(value) => Arc::new(Shape::of_value(&value)).into(),
                    Err(_) => Kinds::ALL.into(),
                },
                [arg] => {
                    if kinds(0).is_container() && self.found.len() <= MAX_DIAGNOSTICS {
                        let what = named(arg, self.source);
                        self.found.push(
                            Rule::ObjectAsText
                                .warning(format!("`fromJSON` always fails: {what} is {}", kinds(0).phrase()))
                                .at(self.source, arg.span)
                                .label("this is no JSON")
                                .help(format!("write {what} alone: `fromJSON` is for texts")),
                        );
                    }
                    Kinds::ALL.into()
                }
                _ => Kinds::ALL.into(),
            },
            Function::Case => {
                let values = known.iter().enumerate().filter(|(at, _)| at % 2 == 1 || at + 1 == known.len());
                let kinds = values.fold(Kinds::NONE, |all, (_, known)| all.or(known.kinds));
                // without a value for all else
                if known.len() % 2 == 1 { kinds.into() } else { kinds.or(Kinds::NULL).into() }
            }
        }
    }

    /// Tells of a function that has the same result whatever runs.
    fn always(
        &mut self,
        function: Function,
        args: &[Ast],
        known: &[Known],
        wrong: Option<usize>,
        what: &str,
    ) {
        let Some((arg, known)) = wrong.and_then(|at| args.get(at).zip(known.get(at))) else { return };
        if self.found.len() > MAX_DIAGNOSTICS {
            return;
        }
        let (name, kind) = (named(arg, self.source), known.kinds.phrase());
        self.found.push(
            Rule::ObjectAsText
                .warning(format!("`{}` is always {what}: {name} is {kind}", function.name()))
                .at(self.source, arg.span)
                .label("a text is needed here")
                .help(instead(arg, known.kinds, self.source)),
        );
    }

    /// Tells of an `if` that is an object or a list.
    pub(in crate::rules) fn as_condition(&mut self, ast: &Ast, known: &Known) {
        if !known.kinds.is_container() {
            return;
        }
        let kind = known.kinds.phrase();
        self.found.push(
            Rule::IfAlwaysTrue
                .warning(format!("this `if` is always true: it is {kind}"))
                .at(self.source, ast.span)
                .label(format!("{kind} is true, also an empty one"))
                .help("compare one of its properties with something"),
        );
    }

    /// Tells of an object or a list that becomes a text.
    pub(in crate::rules) fn as_text(&mut self, ast: &Ast, known: &Known) {
        if !known.kinds.is_container_if_there() || self.found.len() > MAX_DIAGNOSTICS {
            return;
        }
        let (name, kind) = (named(ast, self.source), known.kinds.phrase());
        let word = match known.kinds.without(Kinds::NULL) {
            Kinds::LIST => "`Array`",
            Kinds::OBJECT => "`Object`",
            _ => "`Object` or `Array`",
        };
        self.found.push(
            Rule::ObjectAsText
                .warning(format!("{name} becomes the word {word}"))
                .at(self.source, ast.span)
                .label(format!("this is {kind}"))
                .help(instead(ast, known.kinds, self.source)),
        );
    }
}

/// The last of the accessors in the text, if each of them is found.
fn place(source: &Source, ast: &Ast, base: &Ast, path: &[Accessor]) -> Option<Span> {
    let mut last = Span::new(base.span.end, base.span.end);
    for accessor in path {
        let text = source.slice(Span::new(last.end, ast.span.end));
        let written = match accessor {
            Accessor::Index(index) if index.span.start >= last.end => {
                last = index.span;
                continue;
            }
            Accessor::Index(_) => return None,
            Accessor::Name(name) => name.as_str(),
            Accessor::All => "*",
        };
        let start = last.end + text.find(written)?;
        last = Span::new(start, start + written.len());
    }
    Some(last)
}

/// What is there instead.
fn near(fault: Diagnostic, name: Option<&str>, known: &Known) -> Diagnostic {
    const SHOWN: usize = 20;
    let names = || known.shape.iter().flat_map(|shape| shape.names());
    match name.and_then(|name| did_you_mean(name, names())) {
        Some(near) => fault.help(format!("did you mean `{near}`?")),
        None => match names().take(SHOWN + 1).collect::<Vec<_>>() {
            none if none.is_empty() => fault.note("there are none here"),
            some if some.len() > SHOWN => fault,
            some => fault.note(format!("it has {}", some.join(", "))),
        },
    }
}

fn name(accessor: &Accessor) -> Option<&str> {
    match accessor {
        Accessor::Name(name) => Some(name),
        Accessor::Index(Ast { kind: AstKind::Text(name), .. }) => Some(name),
        Accessor::Index(_) | Accessor::All => None,
    }
}

/// Why there is no property.
#[derive(Clone, Copy)]
enum Missing {
    /// It is a text or the like.
    NoProperties,
    /// All its properties are known.
    NotThere,
}

/// A property or an item.
fn step(known: &Known, accessor: &Accessor) -> Result<Known, Missing> {
    let name = name(accessor);
    let kinds = known.kinds;
    let mapped = Known { kinds: Kinds::LIST, shape: None, filtered: true };
    if let Accessor::All = accessor {
        return Ok(mapped);
    }
    if known.filtered {
        // servers do not agree about numbers behind a `.*`
        return Ok(if name.is_some() { mapped } else { Kinds::ALL.into() });
    }
    if kinds.within(Kinds::NULL) {
        return Ok(Kinds::NULL.into());
    }
    if kinds.within(Kinds::SCALAR) {
        return Err(Missing::NoProperties);
    }
    let found = match (kinds.has(Kinds::OBJECT), kinds.has(Kinds::LIST), name, &known.shape) {
        (false, true, Some(name), _) if parse_number(name).is_nan() => {
            return if kinds.within(Kinds::LIST.or(Kinds::NULL)) {
                Err(Missing::NoProperties)
            } else {
                Ok(Kinds::ALL.into())
            };
        }
        (false, true, _, Some(shape)) => shape.item(),
        (true, false, Some(name), Some(shape)) => shape.get(name),
        _ => Found::Unknown,
    };
    match found {
        Found::Shape(shape) => {
            let mut next = Known::from(shape);
            // it may be absent, and there may be fewer items
            if kinds.has(Kinds::SCALAR.or(Kinds::LIST)) {
                next.kinds = next.kinds.or(Kinds::NULL);
            }
            Ok(next)
        }
        Found::Unknown => Ok(Kinds::ALL.into()),
        Found::Absent if kinds.within(Kinds::OBJECT.or(Kinds::NULL)) => Err(Missing::NotThere),
        Found::Absent => Ok(Kinds::ALL.into()),
    }
}

/// What a part is called: as it is written, if that is short.
pub(super) fn named(ast: &Ast, source: &Source) -> String {
    let text = source.slice(ast.span);
    if is_short(text) { format!("`{text}`") } else { "this".to_owned() }
}

pub(super) fn is_short(text: &str) -> bool {
    const LONGEST: usize = 60;
    text.len() <= LONGEST && !text.is_empty() && !text.contains(['\n', '`'])
}

/// What to write where a text is needed.
fn instead(ast: &Ast, kinds: Kinds, source: &Source) -> String {
    let text = source.slice(ast.span);
    let text = if is_short(text) { text } else { "…" };
    let property = matches!(ast.kind, AstKind::Access { .. } | AstKind::Context(_)) && text != "…";
    match (kinds.without(Kinds::NULL), property) {
        (Kinds::LIST, _) => format!("write `join({text}, ', ')`, or `toJSON({text})`"),
        (Kinds::OBJECT, true) => format!("write one of its properties, `{text}.NAME`, or `toJSON({text})`"),
        _ => format!("write `toJSON({text})`"),
    }
}
