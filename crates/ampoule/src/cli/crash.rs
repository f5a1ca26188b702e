//! A panic is a bug of ours: what it says, and the exit code.

use std::{
    backtrace::{Backtrace, BacktraceStatus},
    io::{self, Write},
    panic::{self, AssertUnwindSafe, PanicHookInfo},
    process::ExitCode,
    sync::atomic::{AtomicBool, Ordering},
};

use crate::{
    class::End,
    sanitise::{self, Colours},
    sink::Look,
    terminal::raw,
};

static PANICKED: AtomicBool = AtomicBool::new(false);

/// Panics of all threads say what to report.
pub(super) fn install() {
    panic::set_hook(Box::new(|info| {
        PANICKED.store(true, Ordering::Relaxed);
        // a guest's command may have it
        raw::restore();
        let mut err = io::stderr().lock();
        let text = text(info);
        let _ = write!(err, "{}", text.replacen("error:", &Look::of(&io::stderr()).error().to_string(), 1));
    }));
}

fn text(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let what = payload
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| payload.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned());
    let place = info.location().map(ToString::to_string).unwrap_or_default();
    let backtrace = Backtrace::capture();
    let more = match backtrace.status() {
        BacktraceStatus::Captured => format!("\n{backtrace}"),
        _ => "set RUST_BACKTRACE=1 to see where it comes from\n".to_owned(),
    };
    format!(
        "error: this is a bug in ampoule; please report it with the lines below and the command\n  \
         version: {}\n  panic: {}\n  at: {place}\n{more}",
        env!("CARGO_PKG_VERSION"),
        sanitise::line(&what.replace('\n', " "), Colours::Drop),
    )
}

/// The end of `work`; a panic on the way, in whichever thread, is a bug.
pub(super) fn guard(work: impl FnOnce() -> ExitCode) -> ExitCode {
    let end = panic::catch_unwind(AssertUnwindSafe(work));
    match end {
        Ok(code) if !PANICKED.load(Ordering::Relaxed) => code,
        _ => End::Bug.into(),
    }
}
