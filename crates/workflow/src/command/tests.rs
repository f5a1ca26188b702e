//! Rows and what they are.

use proptest::prelude::*;

use super::*;

/// What a row is, in one line.
fn seen(reader: &mut Reader, row: &str) -> String {
    let show = |text: &str| text.replace('\r', "<CR>").replace('\n', "<LF>");
    match reader.read(row) {
        Row::Text(text) => {
            assert_eq!(text, row);
            "text".to_owned()
        }
        Row::Bad(text, reason) => {
            assert_eq!(text, row);
            reason.to_string()
        }
        Row::Command { command, echo } => {
            let echo = echo.map(|text| format!(" echo {text}")).unwrap_or_default();
            let said = match &command {
                Command::SetOutput { name, value }
                | Command::SaveState { name, value }
                | Command::SetEnv { name, value } => format!("{command:?} {}={}", show(name), show(value)),
                Command::AddPath(text)
                | Command::AddMask(text)
                | Command::Debug(text)
                | Command::Group(text)
                | Command::AddMatcher(text)
                | Command::RemoveMatchersOf(text) => format!("{command:?} {}", show(text)),
                Command::RemoveMatcher(owner) => format!("remove-matcher of {owner}"),
                Command::EndGroup | Command::Nothing => format!("{command:?}"),
                Command::Annotation(annotation) => {
                    let Annotation { level, lines, .. } = annotation;
                    let range = match (lines.end_line, lines.end_column) {
                        (None, None) => String::new(),
                        (line, column) => format!(" to {line:?} {column:?}"),
                    };
                    format!("{} {}{range}", level.name(), show(&annotation.text()))
                }
            };
            said + &echo
        }
    }
}

#[test]
fn rows_of_a_step() {
    for (row, expected) in [
        // both forms, all names
        ("::set-output name=a::1", "set-output a=1"),
        ("##[set-output name=a;x=y]1", "set-output a=1"),
        ("::save-state name=a::1", "save-state a=1"),
        ("##[save-state name=a]1", "save-state a=1"),
        ("::set-env name=A::1", "set-env A=1"),
        ("##[set-env name=A]1", "set-env A=1"),
        ("::add-path::/a b", "add-path /a b"),
        ("##[add-path]/a", "add-path /a"),
        ("::add-mask::p w", "add-mask p w"),
        ("##[add-mask]p w", "add-mask p w"),
        ("::debug::x", "debug x"),
        ("##[debug]x", "debug x"),
        ("::group::Build", "group Build"),
        ("##[group]Build", "group Build"),
        ("::endgroup::", "endgroup"),
        ("##[endgroup]", "endgroup"),
        ("::notice::hi", "notice hi"),
        ("##[warning]hi", "warning hi"),
        ("::error::hi", "error hi"),
        ("::add-matcher::.github/gcc.json", "add-matcher .github/gcc.json"),
        ("##[add-matcher] a.json ", "add-matcher a.json"),
        ("::remove-matcher owner=gcc::", "remove-matcher of gcc"),
        ("##[remove-matcher owner=gcc]", "remove-matcher of gcc"),
        ("::remove-matcher::a.json", "remove-matcher a.json"),
        ("::echo::on", "nothing"),
        ("::echo::OFF ", "nothing"),
        // case, blanks, empty parts
        ("::Add-Mask::x", "add-mask x"),
        ("::GROUP::", "group "),
        (" \t ::group::x", "group x"),
        ("\u{a0}::group::x", "group x"),
        ("::set-output NAME=a::1", "set-output a=1"),
        ("::set-output name=a::", "set-output a="),
        ("::set-output x=y, name = a b ::1", "set-output a b=1"),
        ("::set-output ,,name=a,,::1", "set-output a=1"),
        ("::set-output name=a,name=b::1", "set-output b=1"),
        ("::set-output name=b,name=::1", "set-output b=1"),
        ("::set-output name=a=b::1", "set-output a=b=1"),
        ("::group ::x", "group x"),
        ("::group::  x ", "group   x "),
        // text goes on behind the second mark
        ("::set-output name=a::b::c", "set-output a=b::c"),
        ("##[set-output name=a]b]c", "set-output a=b]c"),
        ("::set-output name=a:::", "set-output a=:"),
        // escapes, once, in their case
        ("::set-output name=a%3A%2Cb::x%0Ay%250A%", "set-output a:,b=x<LF>y%0A%"),
        ("::set-output name=a%25%0D%0A::%0D%25", "set-output a%<CR><LF>=<CR>%"),
        ("::set-output name=a::%3A%2C", "set-output a=%3A%2C"),
        ("::set-output name=a%3B%5D::x", "set-output a%3B%5D=x"),
        ("##[set-output name=a%3Bb%5D%3A%2C]%3B%5D%0D%0A%3A", "set-output a;b]:,=;]<CR><LF>%3A"),
        ("::add-mask::%0a%0d", "add-mask %0a%0d"),
        ("::add-mask::%é%0%2", "add-mask %é%0%2"),
        ("::add-mask::%25250A", "add-mask %250A"),
        // annotations
        ("::error file=a.c,line=3,col=5,title=Oops::no %0A way", "error a.c:3:5: Oops: no <LF> way"),
        ("##[error file=a.c;line=3]x", "error a.c:3: x"),
        ("::notice title=T::x", "notice T: x"),
        ("::warning file=a.c::x", "warning a.c: x"),
        ("::warning col=5::x", "warning x"),
        ("::warning file=a,col=5::x", "warning a: x"),
        ("::warning file=a,line=1,endLine=3::x", "warning a:1: x to Some(3) None"),
        ("::warning file=a,endLine=3::x", "warning a:3: x to Some(3) None"),
        ("::warning file=a,line=3,endLine=1::x", "warning a: x"),
        ("::warning file=a,line=1,endLine=3,col=1,endColumn=2::x", "warning a:1: x to Some(3) None"),
        ("::warning file=a,line=1,endLine=1,col=1,endColumn=2::x", "warning a:1:1: x to Some(1) Some(2)"),
        ("::warning file=a,line=1,endColumn=2::x", "warning a:1:2: x to None Some(2)"),
        ("::warning file=a,line=1,col=3,endColumn=2::x", "warning a:1: x"),
        ("::warning file=a,line=0,col=0::x", "warning a: x"),
        ("::warning file=a,line=x,col=3::x", "warning a: x"),
        ("::warning file=a,line=99999999999::x", "warning a: x"),
        ("::error file=C%3A\\a,line=1::x", "error C:\\a:1: x"),
        ("::error::", "error "),
        // what cannot be
        ("::set-output::x", "`set-output` needs a name: `::set-output name=NAME::VALUE`"),
        ("::save-state name=::x", "`save-state` needs a name: `::save-state name=NAME::VALUE`"),
        ("::set-env name= ,x=y::x", "`set-env` needs a name: `::set-env name=NAME::VALUE`"),
        ("::add-path::", "`add-path` needs a path: `::add-path::PATH`"),
        ("::add-matcher:: ", "`add-matcher` needs a path: `::add-matcher::PATH`"),
        ("::echo::maybe", "`echo` is `on` or `off`: `::echo::on`"),
        (
            "::stop-commands::",
            "`stop-commands` needs a token that is not empty and not the name of a command",
        ),
        (
            "::stop-commands::Add-Mask",
            "`stop-commands` needs a token that is not empty and not the name of a command",
        ),
        (
            "::stop-commands::pause-logging",
            "`stop-commands` needs a token that is not empty and not the name of a command",
        ),
        // other rows
        ("", "text"),
        ("::", "text"),
        ("::::", "text"),
        (":: ::", "text"),
        ("x ::group::y", "text"),
        ("x ##[group]y", "text"),
        ("::unknown::y", "text"),
        ("::unknown name=x::y", "text"),
        ("::group", "text"),
        ("::group:x", "text"),
        (":group::x", "text"),
        (": :group::x", "text"),
        ("##[group", "text"),
        ("# [group]x", "text"),
        ("##[]x", "text"),
        ("##vso[task.setvariable]x", "text"),
        ("##[command]gcc", "text"),
        ("##[section]x", "text"),
        ("::internal-set-repo-path repoFullName=a/b,workspaceRepo=true::/x", "text"),
        ("\u{feff}::group::x", "text"),
        ("\u{1b}[0m::group::x", "text"),
    ] {
        assert_eq!(seen(&mut Reader::default(), row), expected, "{row:?}");
    }
    let remove = Reason::Remove.to_string();
    assert_eq!(seen(&mut Reader::default(), "::remove-matcher owner=a::b"), remove);
    assert_eq!(seen(&mut Reader::default(), "::remove-matcher::"), remove);
}

#[test]
fn stopped_commands_are_text_until_the_token() {
    for (stop, between, go) in [
        ("::stop-commands::tok", "::add-mask::x", "::tok::"),
        ("##[stop-commands]tok", "##[add-mask]x", "##[tok]"),
        ("::stop-commands::tok", "::Tok::", "##[tok]x"),
        ("::stop-commands::tok", "::stop-commands::other", " ::tok x=y::x"),
        ("::stop-commands::a b", "::a::", "::a b::"),
        ("::stop-commands::a%0Ab", "::a::", "::a\nb::"),
        ("::stop-commands::x y", "tok", "##[x y]"),
    ] {
        let mut reader = Reader::default();
        assert_eq!(seen(&mut reader, stop), "nothing", "{stop}");
        assert_eq!(seen(&mut reader, between), "text", "{between}");
        assert_eq!(seen(&mut reader, go), "nothing", "{go}");
        assert_eq!(seen(&mut reader, "::add-mask::x"), "add-mask x", "behind {go}");
    }
}

#[test]
fn commands_are_echoed_where_it_is_wanted() {
    let mut reader = Reader::new(Echo::On);
    for (row, expected) in [
        ("::set-output name=a::1", "set-output a=1 echo ::set-output name=a::1"),
        ("::add-mask::hush", "add-mask hush echo ::add-mask::***"),
        ("::group::x", "group x"),
        ("::error::x", "error x"),
        ("::debug::x", "debug x"),
        ("::add-matcher::x", "add-matcher x echo ::add-matcher::x"),
        ("::echo::off", "nothing echo ::echo::off"),
        ("::set-output name=a::1", "set-output a=1"),
        ("::echo::on", "nothing"),
        ("::add-path::/x", "add-path /x echo ::add-path::/x"),
    ] {
        assert_eq!(seen(&mut reader, row), expected, "{row}");
    }
}

#[test]
fn values_do_not_show_in_debug() {
    for row in ["::add-mask::hush", "::error title=hush::hush"] {
        let read = format!("{:?}", Reader::default().read(row));
        assert!(!read.contains("hush"), "{read}");
    }
}

#[test]
fn long_rows_take_no_longer_than_they_are() {
    let started = std::time::Instant::now();
    let properties = "a=b,".repeat(100_000);
    let long = "x%".repeat(5 << 20);
    for row in [
        format!("::set-output {properties}name=n::v"),
        format!("::error {properties}file=f,line=1::v"),
        format!("::set-output name=n::{long}"),
        format!("::{long}"),
        format!("##[{long}"),
        ":".repeat(10 << 20),
        " ".repeat(10 << 20),
        "%0A".repeat(3 << 20),
    ] {
        let _ = Reader::default().read(&row);
    }
    assert!(started.elapsed().as_secs() < 20, "{:?}", started.elapsed());
}

proptest! {
    #[test]
    fn what_is_printed_is_read_back(
        name in "[a-z:,;=%\\]\r\n é]{1,12}",
        value in "[a-z:,;=%\\]\r\n é]{0,20}",
    ) {
        prop_assume!(!name.trim().is_empty() && name.trim() == name);
        for form in [Form::Colons, Form::Brackets] {
            let row = row(form, "set-output", &[("x", "y"), ("name", &name)], &value);
            prop_assert!(!row.contains(['\r', '\n']));
            let command = Command::SetOutput { name: name.clone(), value: value.clone() };
            prop_assert_eq!(Reader::default().read(&row), Row::Command { command, echo: None });
        }
    }

    #[test]
    fn no_row_makes_it_panic(row in "[:#\\[\\] ,;=%0AaDset\\-oupname\u{e9}]{0,40}") {
        let mut reader = Reader::new(Echo::On);
        for _ in 0..2 {
            let _ = reader.read(&row);
        }
    }
}
