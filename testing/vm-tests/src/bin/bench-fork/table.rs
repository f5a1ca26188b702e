//! The figures for people, as tables of the book's form.

use crate::{
    Measured,
    at_once::AtOnce,
    branches::Branches,
    figures::Figure,
    one_by_one::{OneByOne, Part},
};

pub(crate) fn of(all: &[Measured]) -> String {
    let mut lines = Vec::new();
    for measured in all {
        let name = measured.variant.name();
        one_by_one(&mut lines, "Forked", &measured.one_by_one, name);
        if let Some(pooled) = &measured.pooled_one_by_one {
            one_by_one(&mut lines, "Of the pool", pooled, name);
        }
        if let Some(branches) = &measured.branches {
            branched(&mut lines, branches, name);
        }
        at_once(&mut lines, "Forked", &measured.at_once, name);
        at_once(&mut lines, "Of the pool", &measured.pooled, name);
    }
    lines.join("\n")
}

/// The head of a table of moments.
const MOMENTS: &str =
    "| since it was asked for | p50 | p95 | p99 | processor p50, p95, p99 |\n|---|---|---|---|---|";

fn one_by_one(lines: &mut Vec<String>, how: &str, one: &OneByOne, variant: &str) {
    lines.push(format!("\n{how}, one after the other, {variant}\n"));
    lines.push(MOMENTS.to_owned());
    lines.extend(one.parts().into_iter().filter_map(|(_, what, part)| moment(what, part)));
    lines.push(format!("| (its end alone) | {} | |", times(&one.destroy)));
    let private = &one.private;
    lines.push(format!(
        "\nPrivate memory of its QEMU: {:.1} MiB at p50, {:.1} at p99.",
        private.percentile(50),
        private.percentile(99)
    ));
}

fn moment(what: &str, part: &Part) -> Option<String> {
    let cpu = times(&part.cpu).replace(" | ", ", ");
    (!part.wall.is_empty()).then(|| format!("| {what} | {} | {cpu} |", times(&part.wall)))
}

fn branched(lines: &mut Vec<String>, branches: &Branches, variant: &str) {
    lines.push(format!("\nBranches of a running VM, {variant}\n"));
    lines.push("| what | p50 | p95 | p99 | processor p50, p95, p99 |\n|---|---|---|---|---|".to_owned());
    for (what, figure) in [
        ("the VM stands still", &branches.pause),
        ("what runs in it stands still", &branches.frozen),
        ("the whole of a branch", &branches.total),
    ] {
        lines.push(format!("| {what} | {} | |", times(figure)));
    }
    lines.extend(moment("a fork of it answers a ping", &branches.ping));
    lines.extend(moment("its first command ended", &branches.exec));
}

fn at_once(lines: &mut Vec<String>, how: &str, all: &[AtOnce], variant: &str) {
    if all.is_empty() {
        return;
    }
    lines.push(format!("\n{how} at once, {variant}\n"));
    lines.push(
        "| VMs | ping p50, p95, p99 | command p50, p95, p99 | all | processor, all | private each | idle each | end, all |\n\
         |---|---|---|---|---|---|---|---|"
            .to_owned(),
    );
    for one in all {
        let idle = one.idle.as_ref().map(|idle| format!("{:.2} %", idle.percentile(50))).unwrap_or_default();
        lines.push(format!(
            "| {} | {} | {} | {:.2} s | {:.2} s | {:.1} MiB | {idle} | {:.2} s |",
            one.count,
            times(&one.ping).replace(" | ", ", "),
            times(&one.exec).replace(" | ", ", "),
            one.all,
            one.cpu,
            one.private.percentile(50),
            one.destroy,
        ));
    }
}

fn times(figure: &Figure) -> String {
    [50, 95, 99].map(|percent| format!("{} ms", ms(figure.percentile(percent)))).join(" | ")
}

fn ms(number: f64) -> String {
    if number < 10.0 { format!("{number:.1}") } else { format!("{number:.0}") }
}
