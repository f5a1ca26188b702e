//! An `if` that is text around expressions, as the one expression that was meant.
//!
//! Purpose: the help of `if-always-true`. Owner: the condition. Invariant: what comes out is an expression, and as it
//! is or in quotes a value of YAML; there is nothing where it is not plain what was meant.

use doc::{Locator, Scalar, Source, Span, Style, Typed};

use super::{Site, parser, template::expression};

/// A piece of the text.
enum Piece {
    /// Text outside of quotes and expressions.
    Text(String),
    /// What stands in `${{ }}`.
    Expr(String),
    /// Text in single quotes, or the call of `format` that it is.
    Literal(String),
}

/// What to write for the text of an `if`.
pub(super) fn help(text: &str, site: Site) -> String {
    match one(text, site) {
        Some(written) => format!("write it as one expression: `{written}`"),
        None => "write it as one expression, without `${{` and `}}`".to_owned(),
    }
}

/// The one expression that a text is, as it can stand in an `if`.
pub(super) fn one(text: &str, site: Site) -> Option<String> {
    let pieces = pieces(text)?;
    let around: String =
        pieces.iter().map(|piece| if let Piece::Text(text) = piece { text.as_str() } else { "x" }).collect();
    let around = tightest(&around);
    let written: String = pieces
        .iter()
        .map(|piece| match piece {
            Piece::Expr(inner)
                if loosest(inner).is_some_and(|own| own < around || own == 3 && around == 3) =>
            {
                format!("({inner})")
            }
            Piece::Text(written) | Piece::Expr(written) | Piece::Literal(written) => written.clone(),
        })
        .collect();
    let written = written.trim();
    let scalar = Scalar { text: written.to_owned(), style: Style::Plain, typed: Typed::Text };
    let source = Source::new("", written);
    let locator = Locator::new(&source, Span::new(0, written.len()), &scalar);
    parser::parse(written, 0, &locator, &source, site).ok()?;
    let plain = written.starts_with(|c: char| c.is_alphabetic() || c == '(')
        && !written.contains(": ")
        && !written.contains(" #");
    Some(if plain { written.to_owned() } else { format!("${{{{ {written} }}}}") })
}

/// Unlike the pieces of a template these know the quotes around and of the text, which is itself an expression.
fn pieces(text: &str) -> Option<Vec<Piece>> {
    let mut pieces = Vec::new();
    let mut outside = String::new();
    let mut rest = text.trim();
    while let Some(c) = rest.chars().next() {
        let quote = if matches!(c, '"' | '\'') { &rest[..1] } else { "" };
        if let Some((inner, after)) = expression(&rest[quote.len()..])
            && let Some(after) = after.strip_prefix(quote)
        {
            pieces.push(Piece::Text(std::mem::take(&mut outside)));
            pieces.push(Piece::Expr(inner.trim().to_owned()));
            rest = after;
        } else if c == '\'' {
            pieces.push(Piece::Text(std::mem::take(&mut outside)));
            let (literal, after) = literal(&rest[1..])?;
            pieces.push(Piece::Literal(literal));
            rest = after;
        } else {
            outside.push(if c == '\n' { ' ' } else { c });
            rest = &rest[c.len_utf8()..];
        }
    }
    pieces.push(Piece::Text(outside));
    Some(pieces)
}

/// The literal whose opening quote stands in front of a text, as it has to be, and what follows it.
fn literal(text: &str) -> Option<(String, &str)> {
    let (mut plain, mut format) = (String::new(), String::new());
    let mut values: Vec<&str> = Vec::new();
    let mut rest = text;
    loop {
        if let Some((inner, after)) = expression(rest) {
            format += &format!("{{{}}}", values.len());
            values.push(inner.trim());
            rest = after;
            continue;
        }
        let c = rest.chars().next()?;
        let twice = rest.starts_with("''");
        if c == '\'' && !twice {
            break;
        }
        let length = if twice { 2 } else { c.len_utf8() };
        plain += &rest[..length];
        match c {
            '{' | '}' => format.extend([c, c]),
            _ => format += &rest[..length],
        }
        rest = &rest[length..];
    }
    let written = match values.is_empty() {
        true => format!("'{plain}'"),
        false => format!("format('{format}', {})", values.join(", ")),
    };
    Some((written, &rest[1..]))
}

/// How tightly the operators outside of quotes bind, from 1 for `||`.
fn operators(text: &str) -> impl Iterator<Item = u8> {
    let outside: String = text.split('\'').step_by(2).collect::<Vec<_>>().join("x");
    [("||", 1), ("&&", 2), ("==", 3), ("!=", 3), ("<", 3), (">", 3), ("!", 4)]
        .into_iter()
        .filter(move |(operator, _)| match *operator {
            "!" => outside.replace("!=", "").contains('!'),
            operator => outside.contains(operator),
        })
        .map(|(_, binds)| binds)
}

fn loosest(text: &str) -> Option<u8> {
    operators(text).min()
}

fn tightest(text: &str) -> u8 {
    operators(text).max().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_meant() {
        let rows = [
            ("\"${{ github.ref }}\" == 'x'", Some("github.ref == 'x'")),
            ("${{ github.ref }} == 'x'", Some("github.ref == 'x'")),
            ("'${{ github.ref }}' == 'x'", Some("github.ref == 'x'")),
            ("  ${{ github.ref == 'x' }}\n", Some("github.ref == 'x'")),
            (
                "github.ref == 'refs/heads/${{ github.base_ref }}'",
                Some("github.ref == format('refs/heads/{0}', github.base_ref)"),
            ),
            (
                "github.ref == 'it''s {${{ github.actor }}}-${{ github.ref }}'",
                Some("github.ref == format('it''s {{{0}}}-{1}', github.actor, github.ref)"),
            ),
            ("${{ true }}${{ false }}", None),
            ("${{ github.ref }} is", None),
            ("x ${{ github.ref }}", None),
            (
                "${{ github.ref == 'a' }} && ${{ github.ref == 'b' }}",
                Some("github.ref == 'a' && github.ref == 'b'"),
            ),
            (
                "${{ github.ref == 'a' || failure() }} && ${{ always() }}",
                Some("(github.ref == 'a' || failure()) && always()"),
            ),
            ("!${{ github.ref == 'a' }}", Some("${{ !(github.ref == 'a') }}")),
            ("!cancelled() && ${{ failure() }}", Some("${{ !cancelled() && failure() }}")),
            ("'a: b' == ${{ github.ref }}", Some("${{ 'a: b' == github.ref }}")),
            ("github.ref == 'open ${{ github.ref }}", None),
        ];
        for (text, expected) in rows {
            assert_eq!(one(text, Site::StepIf).as_deref(), expected, "{text}");
        }
    }
}
