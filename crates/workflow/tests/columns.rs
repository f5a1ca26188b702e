//! An expression's fault has its exact place, in a scalar of any style.

use doc::Source;
use workflow::parse;

/// What is marked, as `line:column text`, of each fault.
fn marked(text: &str) -> Vec<String> {
    let source = Source::new("t.yml", text);
    let faults = parse(&source).into_result().expect_err("a fault");
    let place = |fault: &doc::Diagnostic| {
        let label = fault.primary.as_ref().expect("a place");
        let place = fault.to_string();
        let mut parts = place.split(':');
        let (line, column) = (parts.nth(1).unwrap_or_default(), parts.next().unwrap_or_default());
        format!("{line}:{column} {}", source.slice(label.span))
    };
    faults.iter().map(place).collect()
}

/// Where a word stands that is there once.
fn place(text: &str, word: &str) -> String {
    let at = text.find(word).expect("there");
    assert!(!text[at + 1..].contains(word), "twice");
    let line = text[..at].matches('\n').count() + 1;
    let column = text[..at].rsplit('\n').next().unwrap_or_default().chars().count() + 1;
    format!("{line}:{column} {word}")
}

#[test]
fn every_style() {
    let head = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n";
    for step in [
        "      - run: a ${{ wrong }} b",
        "      - run: 'a ${{ wrong }} b'",
        "      - run: \"a ${{ wrong }} b\"",
        "      - run: 'it''s ${{ wrong }}'",
        "      - run: '${{ format(''{0}'', wrong) }}'",
        "      - run: \"\\t\\x41\\u00e4\\U0001F600 ${{ wrong }}\"",
        "      - run: \"\\ud83d\\ude00${{ wrong }}\"",
        "      - run: \"a\\\"${{ wrong }}\\\"\"",
        "      - run: \"ä😀 ${{ wrong }}\"",
        "      - run: \"a \\\n          b ${{ wrong }}\"",
        "      - run: \"a\n\n          b ${{ wrong }}\"",
        "      - run: 'a\n          b ${{ wrong }}'",
        "      - run: a\n          b ${{ wrong }}",
        "      - run: |\n          one\n          two ${{ wrong }}\n          three",
        "      - run: |-\n          ${{ wrong }}",
        "      - run: |+ # said\n\n\n          ${{ wrong }}\n\n",
        "      - run: |2\n            indented ${{ wrong }}",
        "      - run: |\n          if true; then\n            echo '${{ env.A }}' ${{ wrong }}\n          fi",
        "      - run: |\n          tab\there ${{ wrong }}",
        "      - run: |\n          ä€😀 ${{ wrong }}",
        "      - run: >\n          one\n          two ${{ wrong }}",
        "      - run: >-\n          one\n\n          two\n            kept ${{ wrong }}\n          three",
        "      - run: >\n          one ${{\n          wrong }}",
        "      - {run: a, if: wrong == 'x'}",
        "      - {run: a, if: '${{ wrong }}'}",
        "      - run: a\n        if: >-\n          env.A == 'a' &&\n          wrong",
        "      - run: a\n        env: {A: x, B: '${{ wrong }}'}",
        "      - &s\n        run: \"${{ wrong }}\"",
        "      - run: a\n        if: |\n          env.A ==\n            wrong\n",
    ] {
        let text = format!("{head}{step}\n");
        for text in [text.replace('\n', "\r\n"), text] {
            let found = marked(&text);
            assert_eq!(found, [place(&text, "wrong")], "{text:?}");
        }
    }
}

#[test]
fn several_in_one_text() {
    let text = "on: push\njobs:\n  a:\n    runs-on: x\n    steps:\n      - run: |\n          echo ${{ one }} ${{ env.GOOD }} ${{ two.x }}\n          echo ${{ github.ref = 'x' }}\n          echo ${{ format('{0}', three, fou()) }}\n";
    assert_eq!(marked(text), ["7:20 one", "7:47 two", "8:31 =", "9:34 three", "9:41 fou"]);
}
