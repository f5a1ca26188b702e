//! One value: its text as written and what its format says it means.
//!
//! Purpose: YAML 1.2's core schema (TOML's types arrive already decided). Owner: the node.
//! Invariant: only a plain scalar can be other than text; a quoted one never is.

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes.
    Plain,
    /// In single quotes.
    SingleQuoted,
    /// In double quotes, with escapes.
    DoubleQuoted,
    /// A block that keeps its line feeds (`|`).
    Literal,
    /// A block that folds its line feeds (`>`).
    Folded,
}

/// What a scalar means by the rules of its format.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Typed {
    /// Nothing.
    Null,
    /// A truth value.
    Bool(bool),
    /// A number; integers beyond 2^53 lose digits here, never in the text.
    Number(f64),
    /// Text: see [`Scalar::text`].
    Text,
}

/// One value.
#[derive(Clone, Debug, PartialEq)]
pub struct Scalar {
    /// The text after quotes, escapes, indentation and folding; of a number, the digits as written.
    pub text: String,
    /// How it was written.
    pub style: Style,
    /// What it means.
    pub typed: Typed,
}

impl Scalar {
    /// A YAML scalar by the core schema.
    pub(crate) fn yaml(text: String, style: Style) -> Scalar {
        let typed = if style == Style::Plain { core_schema(&text) } else { Typed::Text };
        Scalar { text, style, typed }
    }

    /// Whether it is nothing.
    pub fn is_null(&self) -> bool {
        self.typed == Typed::Null
    }

    /// What it is, in words for a message.
    pub fn describe(&self) -> &'static str {
        match self.typed {
            Typed::Null => "nothing",
            Typed::Bool(_) => "a boolean",
            Typed::Number(_) => "a number",
            Typed::Text => "text",
        }
    }

    pub(crate) fn outline(&self) -> String {
        match self.typed {
            Typed::Null => "null".to_owned(),
            Typed::Bool(value) => value.to_string(),
            Typed::Number(value) => format!("{value}<{}>", self.text),
            Typed::Text => format!("{:?}", self.text),
        }
    }
}

/// YAML 1.2.2, section 10.3.2, by hand because a regular expression would be the only one of the crate.
fn core_schema(text: &str) -> Typed {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => return Typed::Null,
        "true" | "True" | "TRUE" => return Typed::Bool(true),
        "false" | "False" | "FALSE" => return Typed::Bool(false),
        ".nan" | ".NaN" | ".NAN" => return Typed::Number(f64::NAN),
        _ => {}
    }
    if let Some(digits) = text.strip_prefix("0o") {
        return radix(digits, 8);
    }
    if let Some(digits) = text.strip_prefix("0x") {
        return radix(digits, 16);
    }
    let (sign, unsigned) = match text.as_bytes().first() {
        Some(b'-') => (-1.0, &text[1..]),
        Some(b'+') => (1.0, &text[1..]),
        _ => (1.0, text),
    };
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Typed::Number(sign * f64::INFINITY);
    }
    if !is_decimal(unsigned) {
        return Typed::Text;
    }
    unsigned.parse::<f64>().map_or(Typed::Text, |value| Typed::Number(sign * value))
}

fn radix(digits: &str, radix: u32) -> Typed {
    if digits.is_empty() {
        return Typed::Text;
    }
    let mut value = 0.0;
    for digit in digits.chars() {
        match digit.to_digit(radix) {
            Some(digit) => value = value * f64::from(radix) + f64::from(digit),
            None => return Typed::Text,
        }
    }
    Typed::Number(value)
}

/// `[0-9]+ | ( \. [0-9]+ | [0-9]+ ( \. [0-9]* )? ) ( [eE] [-+]? [0-9]+ )?`
fn is_decimal(text: &str) -> bool {
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (text, None),
    };
    let all_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = match mantissa.split_once('.') {
        Some((whole, fraction)) => (whole, fraction),
        None => (mantissa, ""),
    };
    let has_digit = !whole.is_empty() || !fraction.is_empty();
    let exponent_is_good = exponent.is_none_or(|exponent| {
        let digits = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !digits.is_empty() && all_digits(digits)
    });
    has_digit && all_digits(whole) && all_digits(fraction) && exponent_is_good
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_core_schema() {
        let table: &[(&str, &str)] = &[
            ("", "null"),
            ("~", "null"),
            ("null", "null"),
            ("true", "true"),
            ("FALSE", "false"),
            ("yes", "\"yes\""),
            ("on", "\"on\""),
            ("3.10", "3.1<3.10>"),
            ("1_000", "\"1_000\""),
            ("0o17", "15<0o17>"),
            ("017", "17<017>"),
            ("0x1F", "31<0x1F>"),
            ("0x", "\"0x\""),
            ("-0x1F", "\"-0x1F\""),
            ("-.5", "-0.5<-.5>"),
            ("1.", "1<1.>"),
            (".", "\".\""),
            ("+", "\"+\""),
            ("1e3", "1000<1e3>"),
            ("1e", "\"1e\""),
            ("1.2.3", "\"1.2.3\""),
            ("-.inf", "-inf<-.inf>"),
            ("inf", "\"inf\""),
            ("nan", "\"nan\""),
            ("--1", "\"--1\""),
        ];
        for (text, expected) in table {
            assert_eq!(Scalar::yaml((*text).to_owned(), Style::Plain).outline(), *expected, "{text}");
        }
        assert_eq!(Scalar::yaml("1".to_owned(), Style::SingleQuoted).outline(), "\"1\"");
    }
}
