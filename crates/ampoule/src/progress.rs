//! How an image build goes on: a bar in a terminal, plain lines elsewhere.

use std::{
    io::{self, IsTerminal, Write},
    sync::Mutex,
    time::{Duration, Instant},
};

use image::{Phase, Progress};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Shows a build on standard error.
pub(crate) struct Build {
    shown: Mutex<Shown>,
}

enum Shown {
    Bar(ProgressBar),
    Lines { phase: Option<(Phase, Instant)>, told: u64 },
}

impl Build {
    /// Begins to show.
    pub(crate) fn new(name: &str) -> Self {
        let shown = if io::stderr().is_terminal() {
            let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr());
            bar.set_style(spinner());
            bar.set_prefix(name.to_owned());
            bar.enable_steady_tick(Duration::from_millis(200));
            Shown::Bar(bar)
        } else {
            Shown::Lines { phase: None, told: 0 }
        };
        Self { shown: Mutex::new(shown) }
    }

    /// The build is over, well or not.
    pub(crate) fn finish(&self) {
        if let Ok(mut shown) = self.shown.lock() {
            match &mut *shown {
                Shown::Bar(bar) => bar.finish_and_clear(),
                Shown::Lines { phase, .. } => end(phase.take()),
            }
        }
    }
}

impl Progress for Build {
    fn phase(&self, next: Phase) {
        let Ok(mut shown) = self.shown.lock() else { return };
        match &mut *shown {
            Shown::Bar(bar) => {
                bar.set_style(spinner());
                bar.unset_length();
                bar.set_position(0);
                bar.set_message(next.describe());
            }
            Shown::Lines { phase, told } => {
                end(phase.replace((next, Instant::now())));
                *told = 0;
                line(&format!("{} …", next.describe()));
            }
        }
    }

    fn steps(&self, done: u64, total: u64) {
        let Ok(mut shown) = self.shown.lock() else { return };
        match &mut *shown {
            Shown::Bar(bar) => {
                if bar.length() != Some(total) {
                    bar.set_style(steps());
                    bar.set_length(total);
                }
                bar.set_position(done);
            }
            // a line for each quarter: enough to see that it goes on
            Shown::Lines { phase: Some((phase, _)), told } if total > 0 => {
                let quarter = done.saturating_mul(4) / total;
                if quarter > *told && quarter < 4 {
                    *told = quarter;
                    line(&format!("{} … {}%", phase.describe(), quarter * 25));
                }
            }
            Shown::Lines { .. } => {}
        }
    }
}

fn end(phase: Option<(Phase, Instant)>) {
    if let Some((phase, begun)) = phase {
        line(&format!("{}: {:.1}s", phase.describe(), begun.elapsed().as_secs_f64()));
    }
}

fn line(text: &str) {
    // nobody is left to tell if standard error is gone
    let _ = writeln!(io::stderr().lock(), "image: {text}");
}

fn spinner() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix}: {msg} {elapsed:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_spinner())
}

fn steps() -> ProgressStyle {
    ProgressStyle::with_template("{spinner} {prefix}: {msg} [{bar:30}] {pos}/{len} {elapsed:.dim}")
        .unwrap_or_else(|_| ProgressStyle::default_bar())
        .progress_chars("=> ")
}
