//! Did you mean.
//!
//! Purpose: the probable word behind a misspelled one. Owner: none, a pure function.

/// The candidate nearest to `word`, if one is near: at most a third of the word's letters wrong or
/// swapped, letter case aside.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    const LONGEST: usize = 64; // the distance is quadratic and nobody misspells more
    if word.len() > LONGEST {
        return None;
    }
    let lowered = word.to_lowercase();
    let fold = |text: &str| text.to_lowercase().replace('_', "-");
    candidates
        .into_iter()
        .filter(|candidate| candidate.len() <= LONGEST)
        .filter_map(|candidate| {
            let distance = if fold(candidate) == fold(word) {
                0
            } else {
                strsim::damerau_levenshtein(&lowered, &candidate.to_lowercase())
            };
            let longer = lowered.chars().count().max(candidate.chars().count());
            (distance <= (longer / 3).max(1) && distance < longer).then_some((distance, candidate))
        })
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
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
            ("timeout", None),
        ];
        for (word, expected) in table {
            assert_eq!(did_you_mean(word, keys), expected, "{word}");
        }
        assert_eq!(did_you_mean(&"x".repeat(100), keys), None);
    }
}
