//! Recipes: what an image is made of, read from TOML with every fault at its place.

use std::{fs, path::Path};

use doc::{Diagnostic, Kind, Map, Node, Source, Spanned, Typed, did_you_mean, parse_toml};
use store::Digest;

use crate::{Error, Result};

const STANDARD: &str = include_str!("../recipes/standard.toml");

/// What an image is made of. Every name in it is safe as an argument and as a file name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recipe {
    /// Name of the image, also of its pin.
    pub name: String,
    /// Debian release, as `trixie`.
    pub suite: String,
    /// Where packages come from; `None` for mmdebstrap's own mirrors.
    pub mirror: Option<String>,
    /// Where security updates come from, with a `mirror`.
    pub security_mirror: Option<String>,
    /// Packages, sorted and once each.
    pub packages: Vec<String>,
    /// The package of the kernel, or one that depends on it.
    pub kernel: String,
    /// Node, if the image has it.
    pub node: Option<NodeRelease>,
    /// The user that steps run as.
    pub user: String,
}

/// A release of node, as the Python package index carries it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodeRelease {
    /// As `24.19.0`.
    pub version: String,
    /// Checksum of the file for x86_64 and glibc 2.28 or newer.
    pub sha256: Digest,
}

const KEYS: [&str; 8] = ["name", "suite", "mirror", "security-mirror", "kernel", "user", "packages", "node"];
const NODE_KEYS: [&str; 2] = ["version", "sha256"];
/// A recipe with more packages than this is a mistake.
const MOST_PACKAGES: usize = 2000;

impl Recipe {
    /// The recipe of the image that every job gets.
    ///
    /// # Errors
    /// None in a build whose tests pass: the recipe is part of the program.
    pub fn standard() -> Result<Recipe> {
        Recipe::parse("standard.toml", STANDARD)
    }

    /// Reads a recipe's file.
    ///
    /// # Errors
    /// When it cannot be read or is not a recipe; then every fault has its place.
    pub fn load(path: &Path) -> Result<Recipe> {
        let bytes = fs::read(path).map_err(|source| Error::RecipeFile { path: path.to_owned(), source })?;
        let source = Source::from_bytes(path.display().to_string(), &bytes)
            .map_err(|fault| Error::Recipe((*fault).into()))?;
        lower(&source)
    }

    /// Reads a recipe from text; `file` is what diagnostics call it.
    ///
    /// # Errors
    /// When it is not a recipe; then every fault has its place.
    pub fn parse(file: &str, text: &str) -> Result<Recipe> {
        lower(&Source::new(file, text))
    }

    /// The recipe in one form that does not depend on how its file was written.
    #[must_use]
    pub fn canonical(&self) -> String {
        let mut lines = vec![
            "ampoule recipe 1".to_owned(),
            format!("name {}", self.name),
            format!("suite {}", self.suite),
            format!("kernel {}", self.kernel),
            format!("user {}", self.user),
        ];
        lines.extend(self.mirror.iter().map(|mirror| format!("mirror {mirror}")));
        lines.extend(self.security_mirror.iter().map(|mirror| format!("security-mirror {mirror}")));
        lines.extend(self.node.iter().map(|node| format!("node {} {}", node.version, node.sha256)));
        lines.extend(self.packages.iter().map(|package| format!("package {package}")));
        lines.join("\n") + "\n"
    }

    /// The digest of [`Recipe::canonical`].
    #[must_use]
    pub fn digest(&self) -> Digest {
        Digest::of(self.canonical())
    }

    /// Lines for apt, or none for mmdebstrap's own mirrors.
    pub(crate) fn sources(&self) -> Vec<String> {
        let Some(mirror) = &self.mirror else { return Vec::new() };
        let suite = &self.suite;
        let mut lines = vec![format!("deb {mirror} {suite} main")];
        // The rolling releases have neither.
        if !["sid", "unstable", "testing", "experimental"].contains(&suite.as_str()) {
            lines.push(format!("deb {mirror} {suite}-updates main"));
            lines.extend(
                self.security_mirror.iter().map(|security| format!("deb {security} {suite}-security main")),
            );
        }
        lines
    }
}

fn lower(source: &Source) -> Result<Recipe> {
    let document = parse_toml(source).map_err(Error::Recipe)?;
    let mut reader = Reader { source, faults: Vec::new() };
    let map = reader.map(&document, &KEYS);
    let recipe = reader.recipe(&map);
    match recipe {
        Some(recipe) if reader.faults.is_empty() => Ok(recipe),
        _ => Err(Error::Recipe(doc::Error { diagnostics: reader.faults, first_of_each: None })),
    }
}

struct Reader<'a> {
    source: &'a Source,
    faults: Vec<Diagnostic>,
}

impl Reader<'_> {
    fn recipe(&mut self, map: &Map) -> Option<Recipe> {
        let name = self.text(map, "name", Need::Yes, is_image_name, "lower-case letters, digits and . _ -");
        let suite = self.text(map, "suite", Need::Yes, is_suite, "a release's name, as `trixie`");
        let mirror = self.text(map, "mirror", Need::No, is_url, "an http, https or file URL");
        let security = self.text(map, "security-mirror", Need::No, is_url, "an http, https or file URL");
        let kernel =
            self.text(map, "kernel", Need::Yes, is_kernel, "a package whose name begins with `linux-image-`");
        let user = self.text(map, "user", Need::Yes, is_user, "a user's name, and not `root`");
        let packages = self.packages(map);
        let node = match map.get("node") {
            Some(node) => Some(self.node(node)?),
            None => None,
        };
        if let (Some(_), None, Some(entry)) = (&security, &mirror, map.entry("security-mirror")) {
            self.faults.push(
                Diagnostic::error("`security-mirror` needs a `mirror`")
                    .at(self.source, entry.key.span)
                    .label("nothing uses this")
                    .help("add `mirror`, or leave both out for mmdebstrap's own mirrors"),
            );
        }
        Some(Recipe {
            name: name?,
            suite: suite?,
            mirror,
            security_mirror: security,
            packages: packages?,
            kernel: kernel?,
            node,
            user: user?,
        })
    }

    /// A map with no other keys than `known`.
    fn map(&mut self, node: &Node, known: &[&'static str]) -> Map {
        let Kind::Map(map) = &node.kind else {
            self.fault(node, "a table");
            return Map::default();
        };
        for entry in &map.entries {
            let key = &entry.key;
            if !known.contains(&key.value.as_str()) {
                let fault = Diagnostic::error(format!("a recipe has no `{}`", key.value))
                    .at(self.source, key.span)
                    .label("unknown key");
                self.faults.push(match did_you_mean(&key.value, known.iter().copied()) {
                    Some(probable) => fault.help(format!("did you mean `{probable}`?")),
                    None => fault.help(format!("the keys are: {}", known.join(", "))),
                });
            }
        }
        map.clone()
    }

    fn text(
        &mut self,
        map: &Map,
        key: &str,
        need: Need,
        fine: fn(&str) -> bool,
        expected: &str,
    ) -> Option<String> {
        let Some(entry) = map.entry(key) else {
            if need == Need::Yes {
                self.faults.push(
                    Diagnostic::error(format!("`{key}` is missing"))
                        .at(self.source, Spanned::<()>::default().span)
                        .help(format!("add `{key} = …`: {expected}")),
                );
            }
            return None;
        };
        self.word(&entry.value, fine, expected)
    }

    fn word(&mut self, node: &Node, fine: fn(&str) -> bool, expected: &str) -> Option<String> {
        match node.scalar() {
            Some(scalar) if scalar.typed == Typed::Text && fine(&scalar.text) => Some(scalar.text.clone()),
            _ => {
                self.fault(node, expected);
                None
            }
        }
    }

    fn packages(&mut self, map: &Map) -> Option<Vec<String>> {
        let Some(node) = map.get("packages") else { return Some(Vec::new()) };
        let Some(items) = node.seq() else {
            self.fault(node, "a list of package names");
            return None;
        };
        if items.len() > MOST_PACKAGES {
            self.fault(node, "fewer packages");
            return None;
        }
        let mut packages = Vec::with_capacity(items.len());
        for item in items {
            packages.push(self.word(item, is_package, "a Debian package's name")?);
        }
        packages.sort();
        packages.dedup();
        Some(packages)
    }

    fn node(&mut self, node: &Node) -> Option<NodeRelease> {
        let map = self.map(node, &NODE_KEYS);
        let version = self.text(&map, "version", Need::Yes, is_version, "a full version, as `24.1.0`");
        let sha256 = self.text(
            &map,
            "sha256",
            Need::Yes,
            |text| text.parse::<Digest>().is_ok(),
            "the checksum of its x86_64 file, 64 lower-case hex digits",
        );
        Some(NodeRelease { version: version?, sha256: sha256?.parse().ok()? })
    }

    fn fault(&mut self, node: &Node, expected: &str) {
        self.faults.push(
            Diagnostic::error(format!("expected {expected}"))
                .at(self.source, node.span)
                .label(format!("this is {}", node.describe())),
        );
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Need {
    Yes,
    No,
}

fn made_of(text: &str, most: usize, first: fn(u8) -> bool, others: &[u8]) -> bool {
    let alphanumeric = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    (1..=most).contains(&text.len())
        && text.bytes().next().is_some_and(first)
        && text.bytes().all(|byte| alphanumeric(byte) || others.contains(&byte))
}

fn lower_or_digit(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

pub(crate) fn is_image_name(text: &str) -> bool {
    made_of(text, 64, lower_or_digit, b"._-")
}

fn is_suite(text: &str) -> bool {
    made_of(text, 40, |byte| byte.is_ascii_lowercase(), b"-")
}

fn is_package(text: &str) -> bool {
    text.len() > 1 && made_of(text, 120, lower_or_digit, b"+.-")
}

fn is_kernel(text: &str) -> bool {
    text.strip_prefix("linux-image-").is_some_and(is_package) && is_package(text)
}

fn is_user(text: &str) -> bool {
    text != "root" && made_of(text, 32, |byte| byte.is_ascii_lowercase() || byte == b'_', b"_-")
}

fn is_version(text: &str) -> bool {
    let parts: Vec<&str> = text.split('.').collect();
    let number =
        |part: &&str| (1..=5).contains(&part.len()) && part.bytes().all(|byte| byte.is_ascii_digit());
    parts.len() == 3 && parts.iter().all(number)
}

/// It becomes a word of a line of apt's sources, where spaces and brackets have a meaning.
fn is_url(text: &str) -> bool {
    let fine = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~:/@%+=,&?".contains(&byte);
    text.len() <= 500
        && text.bytes().all(fine)
        && ["http://", "https://", "file:///"]
            .iter()
            .any(|scheme| text.strip_prefix(scheme).is_some_and(|rest| !rest.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: &str = r#"
name = "small"
suite = "trixie"
kernel = "linux-image-cloud-amd64"
user = "runner"
packages = ["jq", "git", "jq"]
"#;

    fn faults(text: &str) -> String {
        match Recipe::parse("r.toml", text) {
            Err(Error::Recipe(error)) => {
                error.diagnostics.iter().map(|fault| fault.render(doc::Rendering::Plain) + "\n").collect()
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_standard_recipe_is_one() {
        let recipe = Recipe::standard().unwrap();
        assert_eq!(recipe.name, "standard");
        assert_eq!(recipe.user, "runner");
        assert!(recipe.node.is_some_and(|node| node.version.starts_with("24.")));
        for package in ["bash", "git", "sudo", "zstd", "build-essential", "jq", "python3"] {
            assert!(recipe.packages.iter().any(|have| have == package), "{package}");
        }
    }

    #[test]
    fn layout_and_order_do_not_change_the_digest() {
        let one = Recipe::parse("a", SMALL).unwrap();
        let lines: Vec<&str> = SMALL.lines().rev().collect();
        let other =
            Recipe::parse("b", &format!("# x\n{}", lines.join("\n").replace("\"jq\", ", ""))).unwrap();
        assert_eq!(one.packages, ["git", "jq"]);
        assert_eq!(one.digest(), other.digest());
        let third = Recipe::parse("c", &SMALL.replace("\"git\"", "\"gitk\"")).unwrap();
        assert_ne!(one.digest(), third.digest());
    }

    #[test]
    fn a_mirror_becomes_lines_for_apt() {
        let text = format!(
            "mirror = \"http://m/debian\"\nsecurity-mirror = \"http://m/security\"\n{}",
            SMALL.trim_start()
        );
        let recipe = Recipe::parse("r", &text).unwrap();
        let expected = [
            "deb http://m/debian trixie main",
            "deb http://m/debian trixie-updates main",
            "deb http://m/security trixie-security main",
        ];
        assert_eq!(recipe.sources(), expected);
        assert!(Recipe::parse("r", SMALL).unwrap().sources().is_empty());
        let sid = Recipe { suite: "sid".to_owned(), ..recipe };
        assert_eq!(sid.sources(), ["deb http://m/debian sid main"]);
    }

    #[test]
    fn an_unknown_key_names_the_probable_one() {
        let said = faults(&SMALL.replace("packages", "pakages"));
        assert!(said.contains("r.toml:6:1") && said.contains("did you mean `packages`?"), "{said}");
        let said = faults(&format!("{SMALL}\n[node]\nversion = \"24.1.0\"\nsha265 = \"x\"\n"));
        assert!(said.contains("did you mean `sha256`?") && said.contains("`sha256` is missing"), "{said}");
    }

    #[test]
    fn all_faults_are_told_at_once() {
        let said = faults("name = 3\nsuite = \"trixie\"\npackages = \"git\"\n");
        for part in
            ["lower-case letters", "a list of package names", "`kernel` is missing", "`user` is missing"]
        {
            assert!(said.contains(part), "{part} in {said}");
        }
    }

    #[test]
    fn names_that_could_do_harm_are_refused() {
        for (from, to) in [
            ("\"small\"", "\"../small\""),
            ("\"small\"", "\".small\""),
            ("\"small\"", "\"\""),
            ("\"trixie\"", "\"trixie main\""),
            ("\"git\"", "\"--hook\""),
            ("\"git\"", "\"git jq\""),
            ("\"git\"", "\"git,jq\""),
            ("\"git\"", "\"?narrow(x)\""),
            ("\"git\"", "\"git\\u0000\""),
            ("linux-image-cloud-amd64", "vim"),
            ("linux-image-cloud-amd64", "linux-image-$(id)"),
            ("\"runner\"", "\"root\""),
            ("\"runner\"", "\"a:b\""),
        ] {
            let text = SMALL.replace(from, to);
            assert_ne!(text, SMALL);
            assert!(matches!(Recipe::parse("r", &text), Err(Error::Recipe(_))), "{to}");
        }
        for mirror in ["ftp://m", "http://", "http://m main [trusted=yes]", "[trusted=yes] http://m"] {
            let text = format!("mirror = \"{mirror}\"\n{}", SMALL.trim_start());
            assert!(matches!(Recipe::parse("r", &text), Err(Error::Recipe(_))), "{mirror}");
        }
        assert!(faults(&format!("security-mirror = \"http://m\"\n{SMALL}")).contains("needs a `mirror`"));
    }
}
