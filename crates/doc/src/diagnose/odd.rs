//! Odd spaces, and what looks like syntax, as the reason why a text is not YAML.
//!
//! Purpose: to name them where they are why. Owner: the diagnosis. Invariant: one is blamed only where the parser comes
//! further without it, since scripts and values may have them, and the fault be another.

use super::{At, lines::Line};
use crate::{Diagnostic, Limits, Source, Span, alike, blank, yaml};

/// One of them, and the lines to try in place of the one that it is in.
struct Odd<'a> {
    fault: Diagnostic,
    line: Line<'a>,
    mended: Vec<String>,
}

/// One in the line where the parser stopped, or in those that it read before as one text with it.
pub(super) fn near(at: &At<'_>, limits: Limits) -> Option<Diagnostic> {
    const ABOVE: usize = 4;
    let line = at.line();
    let says = |line: &Line<'_>| {
        let text = line.text.trim_ascii();
        !text.is_empty() && !text.starts_with('#')
    };
    let lines = std::iter::once(line).chain(line.above(at.text()).filter(says).take(ABOVE));
    let all: Vec<_> = lines.filter_map(|line| find(at.source, line)).collect();
    if let Some(odd) = all.iter().find(|odd| alone(at, odd, limits)) {
        return Some(odd.fault.clone());
    }
    // each line of a block may have one
    let together = |without: usize| {
        let rest = all.iter().enumerate().filter(|(place, _)| *place != without);
        further(
            at,
            &rest.filter_map(|(_, odd)| Some((odd.line, odd.mended.first()?))).collect::<Vec<_>>(),
            limits,
        )
    };
    let all_help = all.len() > 1 && together(all.len());
    let needed = (0..all.len()).find(|place| all_help && !together(*place))?;
    all.get(needed).map(|odd| odd.fault.clone())
}

/// A line far above whose indentation has one, so that this one fits nothing.
pub(super) fn indentation(at: &At<'_>, limits: Limits) -> Option<Diagnostic> {
    let line = at.line().before(at.text()).find(|line| !line.blank().is_ascii())?;
    find(at.source, line).filter(|odd| alone(at, odd, limits)).map(|odd| odd.fault)
}

fn find<'a>(source: &Source, line: Line<'a>) -> Option<Odd<'a>> {
    if let Some((fault, mended)) = blank::in_line(source, line.start, line.text) {
        return Some(Odd { fault, line, mended });
    }
    let alike = alike::in_line(source, line.start, line.text)?;
    let before = line.text.get(..alike.from - line.start)?;
    Some(Odd { fault: alike.fault, line, mended: vec![format!("{before}{}", alike.write)] })
}

fn alone(at: &At<'_>, odd: &Odd<'_>, limits: Limits) -> bool {
    odd.mended.iter().any(|mended| further(at, &[(odd.line, mended)], limits))
}

/// Whether the parser gets to a line below the one where it stopped, with these lines in place of others, the lowest
/// first.
fn further(at: &At<'_>, lines: &[(Line<'_>, &String)], limits: Limits) -> bool {
    let mut text = at.text().to_owned();
    for (line, mended) in lines {
        let Span { start, end } = Span::new(line.start, line.start + line.text.len());
        text.replace_range(start..end, mended);
    }
    let below = |text: &str, from: usize| text.get(from..).unwrap_or_default().matches('\n').count();
    yaml::stops(&text, limits).is_none_or(|stop| below(&text, stop) < below(at.text(), at.at))
}
