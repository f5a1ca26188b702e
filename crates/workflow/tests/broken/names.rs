//! Words of the language, written down here once more: what a break makes must be none of them.

/// The keys of the map below a path of keys, `-` for an entry of a list and `*` for a name of the author. Only of
/// maps in which any other key is an error.
const KEYS: &[(&[&str], &str)] = &[
    (
        &[],
        "name run-name on env defaults jobs concurrency permissions description enable-email-notifications enable-openid-connect",
    ),
    (&["defaults"], "run"),
    (&["defaults", "run"], "shell working-directory"),
    (&["concurrency"], "group cancel-in-progress queue"),
    (
        &["on"],
        "push pull_request pull_request_sync schedule workflow_dispatch workflow_call create registry_package",
    ),
    (&["on", "push"], "branches branches-ignore tags tags-ignore paths paths-ignore"),
    (&["on", "pull_request"], "branches branches-ignore paths paths-ignore types"),
    (&["on", "schedule", "-"], "cron timezone"),
    (&["on", "workflow_dispatch"], "inputs"),
    (
        &["on", "workflow_dispatch", "inputs", "*"],
        "description type required default options deprecationMessage",
    ),
    (&["on", "workflow_call"], "inputs outputs secrets"),
    (&["jobs", "*"], JOB),
    (&["jobs", "*", "strategy"], "matrix fail-fast max-parallel"),
    (&["jobs", "*", "container"], "image credentials env ports volumes options cmd"),
    (&["jobs", "*", "services", "*"], "image credentials env ports volumes options cmd"),
    (&["jobs", "*", "steps", "-"], STEP),
];

const JOB: &str = "name runs-on needs if env defaults outputs steps strategy timeout-minutes continue-on-error \
                   container services concurrency environment permissions uses with secrets \
                   enable-openid-connect snapshot cancel-timeout-minutes";

const STEP: &str = "id name if run uses with env shell working-directory timeout-minutes continue-on-error \
                    background wait wait-all cancel parallel";

/// As [`KEYS`], of an action.yml: others than these are only warned about, but without them it is no action.
const ACTION_KEYS: &[(&[&str], &str)] =
    &[(&[], "runs"), (&["runs"], "using main image steps"), (&["runs", "steps", "-"], STEP)];

/// Keys that are of the language within `{ }` wherever they stand in our files.
pub(crate) const FLOW: [&str; 6] = ["runs-on", "steps", "run", "uses", "cron", "credentials"];

pub(crate) const FUNCTIONS: &[&str] = &[
    "always",
    "cancelled",
    "case",
    "contains",
    "endsWith",
    "failure",
    "format",
    "fromJSON",
    "hashFiles",
    "join",
    "startsWith",
    "success",
    "toJSON",
];

pub(crate) const CONTEXTS: &[&str] = &[
    "env", "forge", "forgejo", "gitea", "github", "inputs", "job", "jobs", "matrix", "needs", "runner",
    "secrets", "steps", "strategy", "vars",
];

/// The keys that stand beside a key, if it is one of the language at its path.
pub(crate) fn keys(path: &[String], action: bool) -> Option<Vec<&'static str>> {
    let (own, above) = path.split_last()?;
    let table = if action { ACTION_KEYS } else { KEYS };
    let same = |pattern: &[&str]| {
        pattern.len() == above.len()
            && pattern.iter().zip(above).all(|(a, b)| *a == "*" && b != "-" || a == b)
    };
    let (_, words) = table.iter().find(|(pattern, _)| same(pattern))?;
    let words: Vec<_> = words.split_whitespace().collect();
    words.contains(&own.as_str()).then_some(words)
}

/// Ways to write a word wrongly, none of which is one of `taken`: two letters swapped, one left out, one doubled.
pub(crate) fn misspelled(word: &str, taken: &[&str]) -> Vec<String> {
    let letters: Vec<char> = word.chars().collect();
    let middle = letters.len() / 2;
    let mut swapped = letters.clone();
    if let Some(at) = (0..letters.len() - 1).find(|at| *at + 1 >= middle && letters[*at] != letters[at + 1]) {
        swapped.swap(at, at + 1);
    }
    let mut without = letters.clone();
    without.remove(middle);
    let mut doubled = letters.clone();
    doubled.insert(middle, letters[middle]);
    let mut all: Vec<String> = Vec::new();
    for made in [swapped, without, doubled] {
        let made: String = made.into_iter().collect();
        let is_word = taken.iter().any(|taken| taken.eq_ignore_ascii_case(&made));
        // `-x` begins an entry of a list, and of one letter nobody could tell what was meant
        if made.len() >= 2
            && !is_word
            && !made.eq_ignore_ascii_case(word)
            && !made.starts_with('-')
            && !all.contains(&made)
        {
            all.push(made);
        }
    }
    all
}
