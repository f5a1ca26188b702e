//! The figures for people, as tables of the book's form.

use crate::{Measured, at_once::AtOnce, figures::Figure};

pub(crate) fn of(all: &[Measured]) -> String {
    let mut lines = Vec::new();
    for measured in all {
        let one = &measured.one_by_one;
        lines.push(format!("\nOne after the other, {}\n", measured.variant.name()));
        lines.push(
            "| since it was asked for | p50 | p95 | p99 | processor, p50 |\n|---|---|---|---|---|".to_owned(),
        );
        let rows = [
            ("slot and disk are made", &one.placed, None),
            ("QEMU runs it", &one.runs, None),
            ("its agent says Hello", &one.hello, None),
            ("ready, a ping answered", &one.ping, Some(&one.ping_cpu)),
            ("first command ended", &one.exec, Some(&one.exec_cpu)),
            ("(a second command alone)", &one.again, Some(&one.again_cpu)),
            ("(its end alone)", &one.destroy, None),
        ];
        for (what, wall, cpu) in rows {
            let cpu = cpu.map(|cpu| format!("{} ms", ms(cpu.percentile(50)))).unwrap_or_default();
            lines.push(format!("| {what} | {} | {cpu} |", times(wall)));
        }
        let private = &one.private;
        lines.push(format!(
            "\nPrivate memory of its QEMU: {:.1} MiB at p50, {:.1} at p99.",
            private.percentile(50),
            private.percentile(99)
        ));
        at_once(&mut lines, "Forked", &measured.at_once, measured.variant.name());
        at_once(&mut lines, "Of the pool", &measured.pooled, measured.variant.name());
    }
    lines.join("\n")
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
