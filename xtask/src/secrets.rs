//! Types that hold a secret must not derive what could show it.
//!
//! Purpose: `Debug` and `Serialize` of such a type are written by hand, or not there: a derived one shows a new
//! field as soon as somebody adds it. Owner: the house rules. A scan of the text: it needs no build and no
//! parser, and looks at fields that name the secret's type, not at what holds such a type in turn.

/// The one type of secrets.
const SECRET: &str = "SecretString";
/// What must not be derived beside it.
const SHOWING: [&str; 2] = ["Debug", "Serialize"];

/// Each type in a source that holds a secret and derives what shows it.
pub(crate) fn shown(text: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut derives: Vec<String> = Vec::new();
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let code = line.trim_start();
        if let Some(rest) = code.strip_prefix("#[derive(") {
            let mut list = rest.to_owned();
            while !list.contains(")]") {
                let Some(more) = lines.next() else { break };
                list.push_str(more);
            }
            let list = list.split(")]").next().unwrap_or_default();
            derives.extend(
                list.split(',').map(|word| word.trim().rsplit("::").next().unwrap_or_default().to_owned()),
            );
            continue;
        }
        if code.starts_with("#[") || code.starts_with("//") || code.is_empty() {
            continue;
        }
        if let Some(name) = item(code) {
            let mut body = code.to_owned();
            let mut depth = depth(code);
            // to the closing bracket of its fields, or to the `;` of one without
            while depth > 0 || !(body.contains('}') || body.contains(';')) {
                let Some(more) = lines.next() else { break };
                depth += self::depth(more);
                body.push('\n');
                body.push_str(more.split("//").next().unwrap_or_default());
            }
            if body.contains(SECRET)
                && let Some(how) = SHOWING.iter().find(|how| derives.iter().any(|derived| derived == *how))
            {
                wrong.push(format!("`{name}` holds a {SECRET} and derives {how}: write it by hand"));
            }
        }
        derives.clear();
    }
    wrong
}

/// The name of the struct or enum that begins here.
fn item(code: &str) -> Option<&str> {
    let mut words = code.split([' ', '(', '<', '{', ';']).filter(|word| !word.is_empty());
    let mut word = words.next()?;
    if word == "pub" {
        word = words.next()?;
        // `pub(crate)` was split at its bracket
        if word.ends_with(')') {
            word = words.next()?;
        }
    }
    if word == "struct" || word == "enum" { words.next() } else { None }
}

fn depth(line: &str) -> i32 {
    let count = |wanted: char| i32::try_from(line.matches(wanted).count()).unwrap_or_default();
    count('{') - count('}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_that_is_shown_is_found() {
        let bad = "/// A.\n#[derive(Clone, Debug)]\n#[serde(x)]\npub(crate) struct A {\n    /// K.\n    key: Option<SecretString>,\n}\n";
        assert_eq!(shown(bad), ["`A` holds a SecretString and derives Debug: write it by hand"]);
        let lines = "#[derive(\n    Clone,\n    serde::Serialize,\n)]\nenum B<T> {\n    One(SecretString),\n    Two { a: T },\n}\n";
        assert_eq!(shown(lines).len(), 1, "{:?}", shown(lines));
        let tuple = "#[derive(Debug)]\npub struct C(SecretString);\n";
        assert_eq!(shown(tuple).len(), 1);
    }

    #[test]
    fn what_shows_nothing_is_fine() {
        let good = "#[derive(Clone)]\nstruct A {\n    key: SecretString,\n}\n#[derive(Debug)]\nstruct B {\n    // a SecretString was here\n    a: u8,\n}\nstruct C;\n#[derive(Debug)]\nenum D {}\nfn f(_: SecretString) {}\n";
        assert_eq!(shown(good), Vec::<String>::new());
    }
}
