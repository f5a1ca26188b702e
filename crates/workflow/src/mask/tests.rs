//! Masking: every split, nested and overlapping values.

use proptest::prelude::*;

use super::*;

fn masker(values: &[&str]) -> Masker {
    Masker::new(values.iter().copied()).unwrap()
}

fn in_pieces<'a>(masker: &Masker, pieces: impl IntoIterator<Item = &'a str>) -> String {
    let mut out = String::new();
    let mut stream = Stream::new();
    for piece in pieces {
        stream.push(masker, piece, &mut out);
    }
    stream.finish(masker, &mut out);
    out
}

/// What masking means, written as plainly as possible.
fn model(masker: &Masker, text: &str) -> String {
    let mut covered = vec![false; text.len()];
    for value in &masker.values {
        for start in 0..text.len() {
            if text.as_bytes()[start..].starts_with(value.as_bytes()) {
                covered[start..start + value.len()].fill(true);
            }
        }
    }
    let mut out = String::new();
    let mut masking = false;
    for (at, c) in text.char_indices() {
        if c == '\n' {
            out.push('\n');
            masking = false;
        } else if !covered[at] {
            out.push(c);
            masking = false;
        } else if !masking {
            out.push_str(MASK);
            masking = true;
        }
    }
    out
}

#[test]
fn values_become_stars() {
    let m = masker(&["hunter2", "hunter", ""]);
    assert_eq!(m.mask("the hunter2 and the hunter."), "the *** and the ***.");
    assert_eq!(m.mask("nothing here"), "nothing here");
    assert!(m.finds("xhunterx") && !m.finds("hunte"));
    assert_eq!(Masker::default().mask("as it is\n"), "as it is\n");
}

#[test]
fn the_end_of_an_overlapping_secret_is_not_shown() {
    assert_eq!(masker(&["abcd", "cdef"]).mask("-abcdef-"), "-***-");
    assert_eq!(masker(&["abc"]).mask("abcabc abc"), "*** ***");
}

#[test]
fn a_value_of_several_lines_is_masked_across_rows() {
    let key = "-----BEGIN KEY-----\r\nline of the key\r\n}\r\n-----END KEY-----\r\n";
    let m = masker(&[key]);
    assert_eq!(
        m.mask("x -----BEGIN KEY-----\nline of the key\n}\n-----END KEY-----\ny\n"),
        "x ***\n***\n***\n***\ny\n"
    );
    assert_eq!(m.mask("}\n"), "}\n", "a brace alone is no secret");
    assert_eq!(m.mask("> line of the key <"), "> *** <", "a part of it is");
    assert!(m.finds("-----BEGIN KEY-----\r\n"));
}

#[test]
fn only_the_beginning_of_a_secret_is_held_back() {
    let m = masker(&["first\nsecond", "password"]);
    let mut stream = Stream::new();
    let mut out = String::new();
    stream.push(&m, "a row of the log\n", &mut out);
    assert_eq!(out, "a row of the log\n");
    stream.push(&m, "pass", &mut out);
    assert!(stream.holds());
    stream.push(&m, "age\n", &mut out);
    assert_eq!(out, "a row of the log\npassage\n");
    stream.push(&m, "first\n", &mut out);
    assert_eq!(out, "a row of the log\npassage\n", "the next row decides");
    stream.push(&m, "third\n", &mut out);
    assert_eq!(out, "a row of the log\npassage\n***\nthird\n");
    stream.push(&m, "password", &mut out);
    assert!(!stream.holds(), "a whole value need not wait");
}

#[test]
fn a_value_added_later_is_masked_in_what_is_held() {
    let mut m = masker(&["abcdef"]);
    let mut stream = Stream::new();
    let mut out = String::new();
    stream.push(&m, "abc", &mut out);
    m.add("bc").unwrap();
    stream.push(&m, "x", &mut out);
    stream.finish(&m, &mut out);
    assert_eq!(out, "a***x");
}

#[test]
fn values_added_one_by_one_are_all_masked_and_the_automata_stay_few() {
    let mut m = masker(&["a secret of the job"]);
    let (mut plain, mut built) = (String::new(), 0);
    for i in 0..2000 {
        m.add(&format!("<{i}>")).unwrap();
        plain.push_str(&format!("<{i}>-"));
        built += m.tiers.last().map_or(0, |tier| tier.bytes);
    }
    assert!(m.tiers.len() <= 14, "{} automata", m.tiers.len());
    let total: usize = m.values.iter().map(String::len).sum();
    assert!(built < 40 * total, "{built} bytes of values were built into automata for {total}");
    assert_eq!(m.mask(&plain), "***-".repeat(2000));
    assert_eq!(m.mask("a secret of the job"), MASK);
}

#[test]
fn a_flood_of_values_is_refused() {
    let mut m = Masker::default();
    assert_eq!(m.add(&"x".repeat(MAX_TOTAL + 1)), Err(TooManyMasks));
    let many: Vec<String> = (0..=MAX_VALUES).map(|i| format!("value{i}")).collect();
    assert_eq!(m.add(&many.join("\n")), Err(TooManyMasks));
    m.add("fine").unwrap();
    assert_eq!(m.mask("fine"), MASK);
    assert!(!format!("{m:?}").contains("fine"));
}

#[test]
fn every_form_of_a_value_is_masked() {
    let m = masker(&["p@ss \"w\u{f6}rd\"/7", "-----BEGIN-----\r\nMIIEvQ+/IBADAN\r\n-----END-----\r\n"]);
    for (text, masked) in [
        ("basic dTpwQHNzICJ3w7ZyZCIvNw==", "basic dTp***"),
        ("https://u:p%40ss%20%22w%C3%B6rd%22%2F7@host", "https://u:***@host"),
        ("q=p%40ss+%22w%c3%b6rd%22%2f7&x", "q=***&x"),
        ("{\"k\": \"p@ss \\\"w\\u00f6rd\\\"/7\"}", "{\"k\": \"***\"}"),
        ("{\"k\": \"-----BEGIN-----\\nMIIEvQ+/IBADAN\\n-----END-----\\n\"}", "{\"k\": \"***\\n\"}"),
        ("{\"k\": \"-----BEGIN-----\\r\\nMIIEvQ+/IBADAN\\r\\n-----END-----\"}", "{\"k\": \"***\"}"),
        ("-----BEGIN-----\nMIIEvQ+/IBADAN\n-----END-----\n", "***\n***\n***\n"),
        ("a MIIEvQ+/IBADAN b", "a *** b"),
    ] {
        assert_eq!(m.mask(text), masked);
    }
}

/// Of a secret in any base64, what is left says nothing but a part of its first and its last byte.
#[test]
fn base64_is_masked_at_every_alignment_and_in_rows() {
    let secret =
        "correct horse battery staple, and a long one: it has more rows than one of them, this?> one";
    let m = masker(&[secret]);
    for before in 0..6 {
        for after in 0..6 {
            let text = format!("{}{secret}{}", &"<user>"[..before], &"?tail?"[..after]);
            for safe in [false, true] {
                let whole = base64_of(text.as_bytes(), safe);
                let masked = m.mask(&whole);
                assert!(masked.contains(MASK) && masked.len() <= 8 + 3 + 12, "{masked} of {whole}");
            }
        }
    }
    let whole = base64_of(secret.as_bytes(), false);
    for width in [64, 76] {
        let rows: Vec<_> = whole.as_bytes().chunks(width).map(|row| str::from_utf8(row).unwrap()).collect();
        let masked = m.mask(&rows.join("\n"));
        assert!(masked.lines().all(|row| row == MASK) && rows.len() == 2, "{masked}");
    }
}

fn base64_of(bytes: &[u8], safe: bool) -> String {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut out: String = bits
        .as_bytes()
        .chunks(6)
        .map(|six| {
            let six = format!("{:0<6}", str::from_utf8(six).unwrap());
            match u8::from_str_radix(&six, 2).unwrap() {
                n @ 0..26 => char::from(b'A' + n),
                n @ 26..52 => char::from(b'a' + n - 26),
                n @ 52..62 => char::from(b'0' + n - 52),
                62 => {
                    if safe {
                        '-'
                    } else {
                        '+'
                    }
                }
                _ => {
                    if safe {
                        '_'
                    } else {
                        '/'
                    }
                }
            }
        })
        .collect();
    while !out.len().is_multiple_of(4) {
        out.push('=');
    }
    out
}

#[test]
fn encoded_forms_have_a_budget_and_the_values_themselves_do_not_pay_for_it() {
    let keys: Vec<String> = (0..60).map(|i| format!("{i:04}=").repeat(3000)).collect();
    let m = Masker::new(keys.iter().map(String::as_str).chain(["small one"])).unwrap();
    assert!(m.encoded <= MAX_ENCODED_TOTAL && m.encoded > MAX_ENCODED_TOTAL / 2, "{}", m.encoded);
    let without = keys.iter().filter(|key| !m.finds(&base64_of(key.as_bytes(), false)));
    assert_eq!(m.unencoded(), without.count());
    assert!(m.unencoded() > 0);
    assert_eq!(Masker::new(["small one"]).unwrap().unencoded(), 0);
    let nodes: usize = m.tiers.iter().map(|tier| tier.automaton.size()).sum();
    assert!(nodes <= m.encoded + m.plain.bytes + 1, "{nodes} nodes, {} and {}", m.encoded, m.plain.bytes);
    assert_eq!(m.mask("small%20one"), MASK);
    assert!(keys.iter().all(|key| m.mask(key) == MASK), "a value is not masked");
}

/// Cuts at char boundaries.
fn cuts(text: &str) -> Vec<usize> {
    (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect()
}

fn small_text(max: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(
        prop_oneof![4 => Just('a'), 4 => Just('b'), 1 => Just('\n'), 1 => Just('é')],
        0..max,
    )
    .prop_map(|chars| chars.into_iter().collect())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn every_split_gives_the_masked_text(
        values in proptest::collection::vec(small_text(7), 0..5),
        text in small_text(24),
    ) {
        let m = Masker::new(values.iter().map(String::as_str)).unwrap();
        let whole = m.mask(&text);
        prop_assert_eq!(&whole, &model(&m, &text));
        prop_assert_eq!(whole.matches('\n').count(), text.matches('\n').count());
        let cuts = cuts(&text);
        for (index, &first) in cuts.iter().enumerate() {
            for &second in &cuts[index..] {
                let pieces = [&text[..first], &text[first..second], &text[second..]];
                prop_assert_eq!(&in_pieces(&m, pieces), &whole, "cut at {} and {}", first, second);
            }
        }
        let chars: Vec<String> = text.chars().map(String::from).collect();
        prop_assert_eq!(&in_pieces(&m, chars.iter().map(String::as_str)), &whole);
        for value in &m.values {
            prop_assert!(!whole.contains(value.as_str()), "{value:?} in {whole:?}");
        }
        let mut tiers = Masker::default();
        for value in &values {
            tiers.add(value).unwrap();
        }
        prop_assert_eq!(&tiers.mask(&text), &whole, "values added one by one");
        prop_assert_eq!(m.finds(&text), m.values.iter().any(|value| text.contains(value.as_str())));
    }

    #[test]
    fn forms_are_masked_at_every_split(
        value in "[a\"/é\\r\n ]{3,9}",
        form in any::<proptest::sample::Index>(),
    ) {
        let m = masker(&[&value]);
        prop_assume!(!m.values.is_empty());
        let mut forms: Vec<_> = m.values.iter().collect();
        forms.sort();
        let text = format!("<{}>", form.get(&forms));
        let whole = m.mask(&text);
        prop_assert_eq!(&whole, &model(&m, &text));
        for at in cuts(&text) {
            prop_assert_eq!(&in_pieces(&m, [&text[..at], &text[at..]]), &whole, "cut at {}", at);
        }
    }

    #[test]
    fn nothing_that_is_held_back_was_needless(
        values in proptest::collection::vec(small_text(7), 1..5),
        text in small_text(24),
    ) {
        let m = Masker::new(values.iter().map(String::as_str)).unwrap();
        let mut stream = Stream::new();
        stream.push(&m, &text, &mut String::new());
        if stream.holds() {
            prop_assert!(m.values.iter().any(|v| v.len() > stream.held.len() && v.starts_with(&stream.held)));
        }
    }
}

#[test]
fn blanks_are_no_secret() {
    let masker = Masker::new(["", "  ", "\t\n", "key"]).unwrap();
    assert_eq!(masker.mask("a  b\t\nkey"), "a  b\t\n***");
}

#[test]
fn what_cannot_be_seen_is_blank() {
    for blank in [
        "",
        " \r\n\t",
        "\u{1b}[0m",
        "\u{1b}[1;31m \u{9b}m\u{7}",
        "\u{1b}",
        "\u{1b}[31",
        "\u{200b}\u{1b}[?25l\n",
    ] {
        assert!(is_blank(blank), "{blank:?}");
        assert!(!Masker::new([blank]).unwrap().finds(&format!("a{blank}b")), "{blank:?}");
    }
    for seen in ["0m", "\u{1b}[0mx", "x\u{1b}[0m", "\u{1b}]secret\u{7}", "%20", "\u{1b}[s3cret"] {
        assert!(!is_blank(seen), "{seen:?}");
    }
}
