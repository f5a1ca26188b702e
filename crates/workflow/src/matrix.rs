//! The cells of a matrix.
//!
//! Purpose: GitHub's rules. The product of the axes in their order, the last one fastest; then
//! `exclude` (an entry removes the cells that agree with all of its values); then `include`: an entry
//! is added to every cell of the product whose own axes it does not change, and where there is none it
//! becomes a cell of its own. An expression that stands in a list and gives a list is part of that list,
//! and `${{ insert }}` takes in the entries of a map. Owner: `expand`.
//! Invariants: an entry may overwrite what an earlier entry added, never an axis; at most [`MAX_CELLS`].
//!
//! Forgejo's server goes another way where an entry of `include` names no axis: it makes a job of its own of it
//! (`support` warns). GitHub's documented rule is kept, because there the entry is of use.

use std::collections::HashSet;

use doc::{Diagnostic, Source, Span, Spanned, did_you_mean};

use crate::{
    Contexts, Data, DataKind, Matrix, MatrixFilter, Object, Value, rules::Rule, settings::settled,
    value::parse_number,
};

/// Most jobs of one matrix; GitHub allows 256 a run, Forgejo has no limit of its own.
pub(crate) const MAX_CELLS: usize = 1024;

/// Most variables of one job of a matrix.
const MAX_NAMES: usize = 100;

/// Most looks at a value that making a matrix may take.
const MAX_WORK: usize = 1 << 30;

/// One job's values, in order; how many of them come from the axes.
#[derive(Clone, Default)]
pub(crate) struct Cell {
    values: Vec<(String, Value)>,
    axes: usize,
}

impl Cell {
    fn get(&self, name: &str) -> Option<&Value> {
        self.values.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn set(&mut self, name: &str, value: Value) {
        match self.values.iter_mut().find(|(known, _)| known.eq_ignore_ascii_case(name)) {
            Some((_, old)) => *old = value,
            None => self.values.push((name.to_owned(), value)),
        }
    }

    /// The `matrix` context; null without a matrix.
    pub(crate) fn to_value(&self) -> Value {
        if self.values.is_empty() {
            return Value::Null;
        }
        self.values.iter().map(|(name, value)| (name.as_str(), value.clone())).collect::<Object>().into()
    }
}

type Faults = Vec<Diagnostic>;
type Entry = Vec<(String, Value)>;

/// All cells, at least one.
pub(crate) fn cells(matrix: &Matrix, source: &Source, contexts: &Contexts) -> Result<Vec<Cell>, Faults> {
    let (parts, span) = match matrix {
        Matrix::Expr(template) => {
            return of_value(&settled(template.eval(contexts))?, source, template.span());
        }
        Matrix::Written { axes, include, exclude, span } => {
            let mut parts = Parts::default();
            for (name, data) in axes {
                if is_insert(&name.value) {
                    parts.insert(&value(data, contexts)?).map_err(|message| {
                        vec![Diagnostic::error(message).at(source, data.span).label("the value of this")]
                    })?;
                } else {
                    parts.axes.push((name.value.clone(), axis(name, data, source, contexts)?));
                }
            }
            if let Some(data) = include {
                parts.include = entries(data, "include", source, contexts)?;
            }
            if let Some(data) = exclude {
                parts.exclude = entries(data, "exclude", source, contexts)?;
            }
            (parts, *span)
        }
    };
    let exclusions = match matrix {
        Matrix::Written { exclude: Some(data), .. } => data.span,
        _ => span,
    };
    made(&parts, source, span, exclusions)
}

/// The cells of a matrix that an expression at `span` gave, at least one.
pub(crate) fn of_value(value: &Value, source: &Source, span: Span) -> Result<Vec<Cell>, Faults> {
    let mut parts = Parts::default();
    parts.insert(value).map_err(|message| {
        vec![Diagnostic::error(message).at(source, span).label("the value of this expression")]
    })?;
    made(&parts, source, span, span)
}

fn made(parts: &Parts, source: &Source, span: Span, exclusions: Span) -> Result<Vec<Cell>, Faults> {
    if parts.axes.len() <= MAX_NAMES
        && let Some(fault) = parts.stray_exclusion()
    {
        return Err(vec![fault.at(source, exclusions).label("no job of this matrix can have it")]);
    }
    let cells = combine(parts).map_err(|message| {
        vec![
            Diagnostic::error(message)
                .at(source, span)
                .label("this matrix")
                .help("split it over several jobs"),
        ]
    })?;
    if cells.is_empty() {
        return Err(vec![
            Diagnostic::error("the matrix has no jobs").at(source, span).label("nothing is left of it"),
        ]);
    }
    Ok(cells)
}

/// What is said of one of [`loose_inclusions`].
pub(crate) fn loose(source: &Source, span: Span) -> Diagnostic {
    Rule::LooseInclude
        .warning("Forgejo makes a job of its own of this entry")
        .at(source, span)
        .label("it names no variable of the matrix")
        .note("here it is added to every job, as GitHub documents it")
        .help("name a variable of the matrix in it")
}

/// The written entries of `include` that name no axis, of which Forgejo's server makes jobs of their own.
pub(crate) fn loose_inclusions(matrix: &Matrix) -> impl Iterator<Item = Span> {
    let (axes, include) = match matrix {
        Matrix::Written { axes, include: Some(Data { kind: DataKind::List(items), .. }), .. }
            if !axes.iter().any(|(name, _)| is_insert(&name.value)) =>
        {
            (axes.as_slice(), items.as_slice())
        }
        _ => (&[][..], &[][..]),
    };
    let names: HashSet<String> = axes.iter().map(|(axis, _)| axis.value.to_ascii_lowercase()).collect();
    let loose = move |item: &&Data| match &item.kind {
        DataKind::Map(entries) => {
            !entries.iter().any(|(name, _)| names.contains(&name.value.to_ascii_lowercase()))
        }
        DataKind::Value(_) | DataKind::Template(_) | DataKind::List(_) => false,
    };
    include.iter().filter(move |item| !axes.is_empty() && loose(item)).map(|item| item.span)
}

/// A matrix whose expressions are evaluated.
#[derive(Default)]
struct Parts {
    axes: Vec<(String, Vec<Value>)>,
    include: Vec<Entry>,
    exclude: Vec<Entry>,
}

impl Parts {
    /// Takes in a matrix, or a part of one, that an expression gave.
    fn insert(&mut self, value: &Value) -> Result<(), String> {
        let Value::Object(object) = value else {
            return Err(format!("a matrix is a map of lists, this is {}", value.kind()));
        };
        for (name, value) in object.iter() {
            if self.axes.len() > MAX_NAMES {
                return Err(too_wide());
            }
            let Value::Array(items) = value else {
                return Err(format!("`{name}` of a matrix is a list, this is {}", value.kind()));
            };
            match name {
                "include" => self.include = objects(name, items)?,
                "exclude" => self.exclude = objects(name, items)?,
                _ if items.is_empty() => return Err(format!("`{name}` of the matrix is empty")),
                _ => {
                    self.axes.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
                    self.axes.push((name.to_owned(), items.as_ref().clone()));
                }
            }
        }
        Ok(())
    }

    /// A key of `exclude` that is no axis: GitHub and Forgejo refuse it, since such an entry does nothing.
    fn stray_exclusion(&self) -> Option<Diagnostic> {
        let axes = || self.axes.iter().map(|(name, _)| name.as_str());
        let known = |name: &str| axes().any(|axis| axis.eq_ignore_ascii_case(name));
        let (name, _) = self.exclude.iter().flatten().find(|(name, _)| !known(name))?;
        Some(not_there(name, axes()))
    }
}

/// What is said of a name in `exclude` that is none of the axes, so far without a place.
pub(crate) fn not_there<'a>(name: &str, axes: impl Iterator<Item = &'a str> + Clone) -> Diagnostic {
    let fault = Diagnostic::error(format!("`exclude` names `{name}`, which the matrix does not have"));
    let known: Vec<_> = axes.clone().map(str::to_owned).collect();
    match did_you_mean(name, axes) {
        Some(near) => fault.help(format!("did you mean `{near}`?")),
        None if known.is_empty() => fault
            .note("it has no variables, only `include`, and from that nothing is taken out")
            .help("leave the entry out of `include`"),
        None => fault.note(format!("it has {}", some(&known))),
    }
}

/// `${{ insert }}`: the key of a map whose value is a map that is taken in.
fn is_insert(name: &str) -> bool {
    let inner = name.trim().strip_prefix("${{").and_then(|rest| rest.strip_suffix("}}"));
    inner.is_some_and(|inner| inner.trim() == "insert")
}

fn objects(name: &str, items: &[Value]) -> Result<Vec<Entry>, String> {
    let entry = |item: &Value| match item {
        Value::Object(object) => {
            Ok(object.iter().map(|(name, value)| (name.to_owned(), value.clone())).collect())
        }
        other => Err(format!("`{name}` is a list of maps, this holds {}", other.kind())),
    };
    items.iter().map(entry).collect()
}

fn axis(
    name: &Spanned<String>,
    data: &Data,
    source: &Source,
    contexts: &Contexts,
) -> Result<Vec<Value>, Faults> {
    match value(data, contexts)? {
        Value::Array(items) if !items.is_empty() => Ok(items.as_ref().clone()),
        other => {
            let message = match other {
                Value::Array(_) => format!("`{}` of the matrix is empty", name.value),
                other => format!("`{}` of a matrix is a list, this is {}", name.value, other.kind()),
            };
            Err(vec![Diagnostic::error(message).at(source, data.span).label("expected a list of values")])
        }
    }
}

fn entries(data: &Data, name: &str, source: &Source, contexts: &Contexts) -> Result<Vec<Entry>, Faults> {
    let value = value(data, contexts)?;
    let result = match &value {
        Value::Null => Ok(Vec::new()),
        Value::Array(items) => objects(name, items),
        other => Err(format!("`{name}` is a list of maps, this is {}", other.kind())),
    };
    result.map_err(|message| {
        vec![Diagnostic::error(message).at(source, data.span).label("expected a list of maps")]
    })
}

/// A value of the document, its expressions evaluated.
pub(crate) fn value(data: &Data, contexts: &Contexts) -> Result<Value, Faults> {
    Ok(match &data.kind {
        DataKind::Value(value) => value.clone(),
        DataKind::Template(template) => settled(template.eval(contexts))?,
        DataKind::List(items) => {
            let mut list = Vec::with_capacity(items.len());
            for item in items {
                match (&item.kind, value(item, contexts)?) {
                    (DataKind::Template(_), Value::Array(more)) => list.extend(more.iter().cloned()),
                    (_, one) => list.push(one),
                }
            }
            list.into()
        }
        DataKind::Map(entries) => {
            let mut object = Object::new();
            for (name, data) in entries {
                match value(data, contexts)? {
                    Value::Object(more) if is_insert(&name.value) => {
                        more.iter().for_each(|(name, value)| object.insert(name, value.clone()));
                    }
                    one => object.insert(name.value.as_str(), one),
                }
            }
            object.into()
        }
    })
}

fn combine(parts: &Parts) -> Result<Vec<Cell>, String> {
    let Parts { axes, include, exclude } = parts;
    let too_many = || format!("the matrix has more than {MAX_CELLS} jobs");
    if include.len() > MAX_CELLS || exclude.len() > MAX_CELLS {
        return Err(format!("`include` and `exclude` of a matrix have at most {MAX_CELLS} entries"));
    }
    let size = axes.iter().try_fold(1usize, |size, (_, values)| size.checked_mul(values.len()));
    // Exclusions may bring a larger product below the limit, but the product has to be made first.
    let size = size.filter(|size| *size <= MAX_CELLS * 16).ok_or_else(too_many)?;
    if axes.len() > MAX_NAMES || include.iter().any(|entry| entry.len() > MAX_NAMES) {
        return Err(too_wide());
    }
    let named: usize = include.iter().chain(exclude).map(Vec::len).sum();
    if size.saturating_mul(named).saturating_mul(axes.len()) > MAX_WORK {
        return Err("`include` and `exclude` name too much for a matrix of this size".to_owned());
    }
    let mut cells: Vec<Cell> = Vec::with_capacity(size);
    if !axes.is_empty() {
        cells.push(Cell::default());
    }
    for (name, values) in axes {
        let mut longer = Vec::with_capacity(cells.len() * values.len());
        for cell in &cells {
            for value in values {
                let mut cell = cell.clone();
                cell.set(name, value.clone());
                cell.axes = cell.values.len();
                longer.push(cell);
            }
        }
        cells = longer;
    }
    cells.retain(|cell| {
        let excluded = |entry: &Entry| {
            entry.iter().all(|(name, value)| cell.get(name).is_some_and(|own| matches(own, value)))
        };
        !exclude.iter().any(|entry| !entry.is_empty() && excluded(entry))
    });
    let product = cells.len();
    for entry in include {
        let mut added = false;
        for cell in &mut cells[..product] {
            let own = &cell.values[..cell.axes];
            let keeps = |(name, value): &(String, Value)| {
                let axis = own.iter().find(|(known, _)| known.eq_ignore_ascii_case(name));
                axis.is_none_or(|(_, own)| matches(own, value))
            };
            if entry.iter().all(keeps) {
                for (name, value) in entry {
                    let own = &cell.values[..cell.axes];
                    if !own.iter().any(|(known, _)| known.eq_ignore_ascii_case(name)) {
                        cell.set(name, value.clone());
                    }
                }
                if cell.values.len() > MAX_NAMES {
                    return Err(too_wide());
                }
                added = true;
            }
        }
        if !added {
            let mut cell = Cell::default();
            entry.iter().for_each(|(name, value)| cell.set(name, value.clone()));
            cells.push(cell);
        }
        if cells.len() > MAX_CELLS {
            return Err(too_many());
        }
    }
    if cells.len() > MAX_CELLS { Err(too_many()) } else { Ok(cells) }
}

fn too_wide() -> String {
    format!("a job of the matrix has more than {MAX_NAMES} variables")
}

/// Whether two values of a matrix are the same, nested ones part by part; a map of the pattern may
/// leave out what it does not care for.
pub(crate) fn matches(own: &Value, pattern: &Value) -> bool {
    match (own, pattern) {
        (Value::Object(own), Value::Object(pattern)) => {
            pattern.iter().all(|(name, value)| own.get(name).is_some_and(|own| matches(own, value)))
        }
        (Value::Array(own), Value::Array(pattern)) => {
            own.len() == pattern.len()
                && own.iter().zip(pattern.iter()).all(|(own, value)| matches(own, value))
        }
        (own, pattern) if own.is_primitive() && pattern.is_primitive() => own.loosely_equals(pattern),
        _ => false,
    }
}

/// Whether a cell has every value that is asked for; keys without case, several of one key are "or".
pub(crate) fn passes(cell: &Cell, filters: &[MatrixFilter]) -> bool {
    filters.iter().all(|filter| {
        let same_key = |other: &&MatrixFilter| other.key.eq_ignore_ascii_case(&filter.key);
        let Some(own) = cell.get(&filter.key) else { return false };
        filters.iter().filter(same_key).any(|filter| *own.to_text() == *filter.value)
    })
}

/// Why filters leave none of some cells: what there is instead of what was asked for.
pub(crate) fn misses(cells: &[Cell], filters: &[MatrixFilter]) -> Vec<String> {
    let mut told = Vec::new();
    for filter in filters {
        let values = known(cells.iter().filter_map(|cell| cell.get(&filter.key)).map(Value::to_text));
        let MatrixFilter { key, value } = filter;
        let number = Some(parse_number(value)).filter(|_| !value.trim().is_empty());
        let same = values.iter().find(|text| Some(parse_number(text)) == number);
        let text = if values.is_empty() {
            let keys = known(cells.iter().flat_map(|cell| &cell.values).map(|(key, _)| key.as_str()));
            match did_you_mean(key, keys.iter().map(String::as_str)) {
                Some(near) => format!("the matrix has no `{key}`: did you mean `{near}`?"),
                None if keys.is_empty() => format!("the matrix has no `{key}`, for it is empty"),
                None => format!("the matrix has no `{key}`: it has {}", some(&keys)),
            }
        } else if values.contains(value) {
            // with this one there are jobs, but with none of the others
            continue;
        } else if let Some(same) = same {
            format!("`{key}` is `{same}` here: a number that is not in quotes is taken by its value")
        } else {
            format!("`{key}` is one of {}", some(&values))
        };
        if !told.contains(&text) {
            told.push(text);
        }
    }
    if told.is_empty() {
        told.push("each of these values is there, but no job has all of them".to_owned());
    }
    told
}

/// Each text once, in order.
fn known<T: AsRef<str>>(texts: impl Iterator<Item = T>) -> Vec<String> {
    let mut seen = HashSet::new();
    texts.filter(|text| seen.insert(text.as_ref().to_owned())).map(|text| text.as_ref().to_owned()).collect()
}

/// The first of some texts, for a message.
pub(crate) fn some(texts: &[String]) -> String {
    const SHOWN: usize = 10;
    let mut all: Vec<_> = texts.iter().take(SHOWN).map(|text| format!("`{text}`")).collect();
    if let Some(more) = texts.len().checked_sub(SHOWN).filter(|more| *more > 0) {
        all.push(format!("{more} more"));
    }
    all.join(", ")
}

/// `job (a, b)`: the values of all primitives, nested ones flattened.
pub(crate) fn name(id: &str, cell: &Cell) -> String {
    let mut texts = Vec::new();
    for (_, value) in &cell.values {
        flatten(value, &mut texts);
    }
    if texts.is_empty() { id.to_owned() } else { format!("{id} ({})", texts.join(", ")) }
}

fn flatten(value: &Value, texts: &mut Vec<String>) {
    match value {
        Value::Array(items) => items.iter().for_each(|item| flatten(item, texts)),
        Value::Object(object) => object.iter().for_each(|(_, value)| flatten(value, texts)),
        Value::Null => {}
        primitive => {
            let text = primitive.to_text();
            if !text.is_empty() {
                texts.push(text.to_string());
            }
        }
    }
}
