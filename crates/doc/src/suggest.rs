//! Did you mean.
//!
//! Purpose: the probable word behind a misspelled one. Owner: none, a pure function.

/// The candidate nearest to `word`, if one is near: at most a third of the word's letters wrong or
/// swapped, letter case aside; else the only one that begins with it, as `timeout` does for `timeout-minutes`.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64; // the distance is quadratic and nobody misspells more
    const SHORTEST: usize = 3; // of the beginning of a word
    if word.len() > LONGEST {
        return None;
    }
    let lowered = word.to_lowercase();
    let fold = |text: &str| text.to_lowercase().replace('_', "-");
    let folded = fold(word);
    let letters = lowered.chars().count();
    let (mut longer, mut begins) = (None, 0usize);
    let near = candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .inspect(|candidate| {
            if fold(candidate).starts_with(&folded) {
                begins += 1;
                longer = Some(*candidate);
            }
        })
        .filter_map(|candidate| {
            let others = candidate.chars().count();
            let longer = letters.max(others);
            let most = (longer / 3).max(1);
            // a file may hold tens of thousands of words: most candidates are told by their length
            if letters.abs_diff(others) > most {
                return None;
            }
            let distance = if fold(candidate) == folded {
                0
            } else {
                strsim::damerau_levenshtein(&lowered, &candidate.to_lowercase())
            };
            (distance <= most && distance < longer).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate);
    near.or(longer.filter(|_| begins == 1 && word.len() >= SHORTEST))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_words() {
        let keys = ["runs-on", "needs", "steps", "if", "env", "timeout-minutes"];
        let table = [
            ("run-on", Some("runs-on")),
            ("runs_on", Some("runs-on")),
            ("step", Some("steps")),
            ("RUNS-ON", Some("runs-on")),
            ("nedes", Some("needs")),
            ("evn", Some("env")),
            ("banana", None),
            ("x", None),
            ("timeout", Some("timeout-minutes")),
            ("time_out", None),
            ("ti", None),
        ];
        for (word, expected) in table {
            assert_eq!(did_you_mean(word, keys), expected, "{word}");
        }
        assert_eq!(did_you_mean(&"x".repeat(100), keys), None);
        assert_eq!(did_you_mean("con", ["container", "concurrency"]), None, "which of the two?");
        assert_eq!(did_you_mean("working-dir", ["working-directory"]), Some("working-directory"));
    }
}
