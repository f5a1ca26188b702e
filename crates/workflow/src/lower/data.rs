//! Values of any shape: a matrix and what is in it.
//!
//! Purpose: constants keep their kind, text may hold expressions. Owner: the lowering.
//! Invariant: what is not what it seems gets a warning of `traps`.

use doc::{Diagnostic, Kind, Node, Typed};

use super::Lower;
use crate::{
    Data, DataKind, Matrix, Site, Strategy, Template, Value, expr::Host, rules::Rule, shape::job::STRATEGY,
};

impl Lower<'_> {
    pub(super) fn strategy(&mut self, node: &Node) -> Option<Strategy> {
        if node.is_null() {
            return None;
        }
        if let Some(template) = self.whole(node, Site::Strategy) {
            return Some(Strategy { whole: Some(template), ..Strategy::default() });
        }
        let map = self.map(node, "`strategy`")?;
        self.keys(map, &STRATEGY);
        let max_parallel = map
            .get("max-parallel")
            .and_then(|node| Some((node, self.template(node, Site::Strategy, "`max-parallel`")?)));
        if let Some((node, template)) = &max_parallel
            && let Some(text) = template.literal()
        {
            match text.trim().parse::<i128>() {
                Ok(1..) => {}
                Ok(_) => self.faults.push(
                    Rule::IdleKey
                        .warning(format!("`max-parallel: {}` is no limit", text.trim()))
                        .at(self.source, node.span)
                        .label("GitHub runs all jobs at once")
                        .note("Forgejo's own runner takes it as 1")
                        .help("leave it out, or write how many may run at once"),
                ),
                Err(_) => self.fault(
                    "`max-parallel` is a whole number from 1 on",
                    node.span,
                    "expected a number such as `2`",
                ),
            }
        }
        Some(Strategy {
            whole: None,
            matrix: map.get("matrix").and_then(|node| self.matrix(node)),
            fail_fast: map
                .get("fail-fast")
                .and_then(|node| self.boolean(node, Site::Strategy, "`fail-fast`")),
            max_parallel: max_parallel.map(|(_, template)| template),
        })
    }

    fn matrix(&mut self, node: &Node) -> Option<Matrix> {
        if let Some(host) = Host::of(self.source, node) {
            let template = Template::parse(host, Site::Strategy, &mut self.faults);
            if template.single().is_none() && !self.faults.iter().any(Diagnostic::is_error) {
                self.fault(
                    "a matrix is a map of lists, or one expression",
                    node.span,
                    "expected variables and their values",
                );
            }
            return Some(Matrix::Expr(template));
        }
        let map = self.map(node, "`matrix`")?;
        self.by_case(map);
        let mut axes = Vec::new();
        for entry in &map.entries {
            let name = entry.key.value.as_str();
            let data = self.data(&entry.value);
            if let DataKind::Value(_) | DataKind::Map(_) = data.kind {
                let fault = self
                    .error(format!("`{name}` of a matrix is a list"), entry.value.span)
                    .label(format!("this is {}", entry.value.describe()));
                let written = self.source.slice(entry.value.span);
                let one_line = entry.value.map().is_none() && !written.contains('\n');
                let help = if one_line {
                    format!("write `{name}: [{written}]`")
                } else {
                    "begin each value with `- `".to_owned()
                };
                self.faults.push(fault.help(help));
            }
            if matches!(&data.kind, DataKind::List(items) if items.is_empty()) && !is_list_of_maps(name) {
                self.fault(
                    format!("`{name}` of the matrix is empty"),
                    entry.value.span,
                    "expected at least one value",
                );
            }
            if is_list_of_maps(name)
                && let DataKind::List(items) = &data.kind
            {
                for item in items {
                    if matches!(&item.kind, DataKind::Map(values) if values.is_empty()) && self.is_githubs() {
                        self.fault(
                            format!("GitHub takes no empty entry of `{name}`"),
                            item.span,
                            "expected keys and values",
                        );
                    }
                    if let DataKind::Value(_) | DataKind::List(_) = item.kind {
                        self.fault(
                            format!("`{name}` is a list of maps"),
                            item.span,
                            "expected keys and values",
                        );
                    }
                }
            }
            axes.push((entry.key.clone(), data));
        }
        let mut take = |name: &str| {
            let at = axes.iter().position(|(key, _)| key.value == name)?;
            Some(axes.remove(at).1)
        };
        let (include, exclude) = (take("include"), take("exclude"));
        if axes.is_empty() && include.is_none() {
            self.fault("the matrix is empty", node.span, "expected variables and their values");
        }
        Some(Matrix::Written { axes, include, exclude, span: node.span })
    }

    fn data(&mut self, node: &Node) -> Data {
        let kind = match &node.kind {
            Kind::Seq(items) => DataKind::List(items.iter().map(|item| self.data(item)).collect()),
            Kind::Map(map) => {
                self.by_case(map);
                let values = map.entries.iter().map(|entry| (entry.key.clone(), self.data(&entry.value)));
                DataKind::Map(values.collect())
            }
            Kind::Scalar(scalar) => match scalar.typed {
                Typed::Null => DataKind::Value(Value::Null),
                Typed::Bool(value) => DataKind::Value(value.into()),
                Typed::Number(number) => {
                    self.trap(node);
                    DataKind::Value(number.into())
                }
                Typed::Text => {
                    self.trap(node);
                    let host = Host { source: self.source, span: node.span, scalar };
                    let template = Template::parse(host, Site::Strategy, &mut self.faults);
                    match template.literal() {
                        Some(text) => DataKind::Value(text.into()),
                        None => DataKind::Template(template),
                    }
                }
            },
        };
        Data { span: node.span, kind }
    }
}

fn is_list_of_maps(name: &str) -> bool {
    matches!(name, "include" | "exclude")
}
